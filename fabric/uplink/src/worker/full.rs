//! What a port does with frames of servers while it is full: [`super::egress`] says whose turn it is.

use super::{egress::Leaving, port::UplinkPort};
use crate::{
    books::{Books, Owner},
    driver::Booking,
    forward::Out,
};
use wireonce_frame::FrameRef;
use wireonce_ledger::{Amount, DropReason, Stage};
use wireonce_link::PeerId;

impl UplinkPort {
    /// Books a frame of `owner` that `server` sent, which is within what it may send, and queues
    /// it for the wire. If the port is full it waits for its server's turn.
    pub(super) fn send_for(
        &mut self,
        books: &mut Books,
        server: PeerId,
        owner: Owner,
        amount: Amount,
        out: &Out,
        frame: &FrameRef<'_>,
    ) {
        let has_room = self.egress.is_empty() && self.driver.transmit().has_room(frame.frame_len());
        let may_wait = self.police.is_some() || !self.egress.is_empty();
        if has_room || !may_wait || !self.carrier {
            return self.send(books, owner, amount, out, frame);
        }
        books.at(owner, Stage::UplinkTx).input += amount;
        let leaving = Leaving::new(frame, *out, Booking { owner, amount });
        self.egress.push(server, leaving, self.police.as_deref(), &mut |lost| {
            let Booking { owner, amount } = lost.booking;
            books.at(owner, Stage::UplinkTx).drop(DropReason::UplinkBusy, amount);
        });
    }

    /// Whether anything waits for the port.
    pub(super) fn has_egress(&self) -> bool {
        !self.egress.is_empty()
    }

    /// Queues what waits for the port, as far as it has room.
    pub(super) fn serve_egress(&mut self, books: &mut Books, now_us: u64) {
        if !self.carrier && !self.closing {
            return self.drop_egress(books, DropReason::UplinkFailed);
        }
        let transmit = self.driver.transmit();
        while let Some(leaving) =
            self.egress.next(self.police.as_deref(), now_us, |frame| transmit.has_room(frame.len()))
        {
            let (booking, Out { vnet, vlan, flow, .. }) = (leaving.booking, leaving.out);
            let queued =
                leaving.with_frame(|frame| transmit.queue(vnet, vlan, flow, frame, booking));
            if queued.is_err() {
                let account = books.at(booking.owner, Stage::UplinkTx);
                account.drop(DropReason::UplinkBusy, booking.amount);
            }
        }
    }

    /// Books what waits for the port as dropped.
    pub(super) fn drop_egress(&mut self, books: &mut Books, reason: DropReason) {
        for Booking { owner, amount } in self.egress.drain().map(|leaving| leaving.booking) {
            books.at(owner, Stage::UplinkTx).drop(reason, amount);
        }
    }
}
