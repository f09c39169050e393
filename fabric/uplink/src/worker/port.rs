//! One uplink as a worker has it: its driver and what goes through it.

use super::{NewRights, NewTables, downward::Downward, egress::Egress, snapshot::UplinkSnapshot};
use crate::{
    announce::{self, Announcer},
    attached::Attached,
    books::{Books, Owner},
    driver::{Booking, Driver, DriverError, Sent, SentOutcome},
    forward::Out,
    probe::Gate,
    shares::Police,
    storm::OutsideStorm,
    sys::VNET_LEN,
};
use std::{collections::BTreeMap, sync::Arc};
use tracing::{debug, info, warn};
use wireonce_config::{Uplink, Vnic};
use wireonce_directory::Directory;
use wireonce_frame::{
    FrameRef, HEAD_LEN, Offload, VNET_HEADER_LEN,
    coalesce::JoinKind,
    segment::{WireCost, cut, segment},
};
use wireonce_ledger::{Amount, DropReason, Stage};
use wireonce_ring::{Ring, RingError};
use wireonce_wire::VnicId;

/// A frame that needs no offload.
const PLAIN: [u8; VNET_HEADER_LEN] = [0; VNET_HEADER_LEN];

/// One uplink.
#[derive(Debug)]
pub(super) struct UplinkPort {
    pub(super) uplink: Arc<Uplink>,
    pub(super) driver: Driver,
    pub(super) storm: Arc<OutsideStorm>,
    /// What frames from servers have to pass; `None`: it is not shaped.
    pub(super) police: Option<Arc<Police>>,
    /// What came from outside and waits for its turn.
    pub(super) down: Downward,
    /// What came from servers and waits for the port.
    pub(super) egress: Egress,
    /// Who lets broadcast in, and where probes go.
    pub(super) gate: Arc<Gate>,
    /// What went from outside to the fabric, copies included.
    pub(super) inward: Amount,
    outward: Amount,
    pub(super) carrier: bool,
    /// Nothing new comes or goes.
    pub(super) closing: bool,
    /// `None` on workers that leave announcing to another.
    announcer: Option<Announcer>,
    /// Kernel drops that are booked already.
    booked_kernel_drops: u64,
    software_segmented: u64,
    announcements: u64,
    scratch: Vec<u8>,
}

impl UplinkPort {
    pub(super) fn new(
        uplink: Arc<Uplink>,
        driver: Driver,
        storm: Arc<OutsideStorm>,
        gate: Arc<Gate>,
        announces: bool,
    ) -> Self {
        Self {
            uplink,
            driver,
            storm,
            police: None,
            down: Downward::default(),
            egress: Egress::default(),
            gate,
            inward: Amount::ZERO,
            outward: Amount::ZERO,
            // The first look at the carrier announces, if there is one.
            carrier: false,
            closing: false,
            announcer: announces.then(Announcer::default),
            booked_kernel_drops: 0,
            software_segmented: 0,
            announcements: 0,
            scratch: Vec::new(),
        }
    }

    /// The uplink has other keys, but the same port.
    pub(super) fn change(&mut self, rights: NewRights) {
        let NewRights { uplink, storm, police, down, gate } = rights;
        (self.uplink, self.storm, self.police, self.gate) = (uplink, storm, police, gate);
        self.down.change(down);
    }

    /// Tells those outside what they do not know yet of the vNICs that are here.
    pub(super) fn tell_news(&mut self, new: &NewTables, now_us: u64) {
        // Without a carrier nobody hears; when it comes, all are announced.
        let Some(announcer) = self.announcer.as_mut().filter(|_| self.carrier) else { return };
        let entries = new.news.iter().filter_map(|vnic| new.directory.vnic(*vnic));
        let here = entries.filter(|entry| new.attached.is_here(entry, self.uplink.id));
        here.for_each(|entry| announcer.start(entry.vnic.id, now_us));
    }

    /// The vNIC was attached here.
    pub(super) fn announce_now(&mut self, vnic: VnicId, now_us: u64) {
        // Without a carrier nobody hears; when it comes, all are announced.
        if let Some(announcer) = self.announcer.as_mut().filter(|_| self.carrier) {
            announcer.start(vnic, now_us);
        }
    }

    /// No table names the uplink any more: takes nothing more from outside. What is queued
    /// still goes out.
    pub(super) fn begin_closing(
        &mut self,
        ring: &mut Ring,
        books: &mut Books,
    ) -> Result<(), RingError> {
        info!(uplink = self.uplink.name, "uplink closes");
        self.refresh_driver(ring);
        self.book_kernel_drops(books);
        self.closing = true;
        self.carrier = false;
        self.announcer = None;
        // What waits goes at once.
        self.down.change(None);
        self.driver.close(ring)
    }

    /// The worker ends: books what waits.
    pub(super) fn give_up_waiting(&mut self, books: &mut Books) {
        self.down.give_up(&mut |vnic, frame| {
            let account = books.at(Owner::vnic(vnic), Stage::UplinkRx);
            account.drop(DropReason::Stopped, frame.amount);
        });
        self.drop_egress(books, DropReason::Stopped);
    }

    /// Whether the kernel is done with it.
    pub(super) fn is_closed(&self) -> bool {
        self.closing && self.down.is_empty() && self.egress.is_empty() && self.driver.is_closed()
    }

    /// Books a frame of `owner` and queues it for the wire.
    pub(super) fn send(
        &mut self,
        books: &mut Books,
        owner: Owner,
        amount: Amount,
        out: &Out,
        frame: &FrameRef<'_>,
    ) {
        let account = books.at(owner, Stage::UplinkTx);
        account.input += amount;
        if !self.carrier {
            account.drop(DropReason::UplinkFailed, amount);
            return;
        }
        let booking = Booking { owner, amount };
        let transmit = self.driver.transmit();
        if let Some(sent) = transmit.send_at_once(out.vnet, out.vlan, frame, booking) {
            self.finish(books, sent);
        } else if transmit.queue(out.vnet, out.vlan, out.flow, frame, booking).is_err() {
            account.drop(DropReason::UplinkBusy, amount);
        }
    }

    /// Books what became of a frame.
    pub(super) fn finish(&mut self, books: &mut Books, sent: Sent) {
        let Booking { owner, amount } = sent.booking;
        let account = books.at(owner, Stage::UplinkTx);
        match sent.outcome {
            SentOutcome::Done => {
                account.output += amount;
                self.outward += amount;
            }
            SentOutcome::Busy => account.drop(DropReason::UplinkBusy, amount),
            SentOutcome::Failed(errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
                debug!(uplink = self.uplink.name, %error, "the port refused a frame");
                account.drop(DropReason::UplinkFailed, amount);
            }
            SentOutcome::OffloadRefused(bytes) => {
                if let Some(kind) = sent.joined {
                    let uplink = &self.uplink.name;
                    info!(uplink, ?kind, "the port refuses joined frames; none are made any more");
                }
                if self.send_finished(sent.booking, &bytes).is_none() {
                    account.drop(DropReason::UplinkFailed, amount);
                }
            }
        }
    }

    /// Does in software what the port would not do, and queues the frames that come
    /// of it. The first one carries the whole amount, so that the books close.
    fn send_finished(&mut self, booking: Booking, bytes: &[u8]) -> Option<()> {
        let (vnet, frame) = bytes.split_first_chunk::<VNET_LEN>()?;
        let parts = [frame];
        let transmit = self.driver.transmit();
        // The rest would be cut for nothing, and booked as sent.
        if booking.amount.segments > transmit.room() as u64 {
            return None;
        }
        let mut amount = Some(booking.amount);
        let mut first_is_queued = false;
        let mut queue = |piece: &[u8]| {
            let first = amount.is_some();
            let booking = Booking { amount: amount.take().unwrap_or_default(), ..booking };
            let parts = [piece];
            // The VLAN tag, if there is one, is in the frame already.
            let frame = FrameRef::new(&parts, Offload::default());
            let queued = transmit.queue(PLAIN, None, None, &frame, booking).is_ok();
            first_is_queued |= first && queued;
        };
        let pieces = if let Some((JoinKind::Udp, size)) = JoinKind::of_vnet(vnet) {
            let frame = FrameRef::new(&parts, Offload::default());
            cut(&frame, size, &mut self.scratch, &mut queue)
        } else {
            let head = frame.get(..HEAD_LEN).unwrap_or(frame);
            let offload = Offload::from_kernel(vnet, head, frame.len(), u16::MAX).ok()?;
            segment(&FrameRef::new(&parts, offload), &mut self.scratch, &mut queue)
        };
        self.software_segmented += 1;
        pieces.ok().filter(|_| first_is_queued).map(|_| ())
    }

    /// Queues the announcements that are due, of the vNICs that are still here: one that has left would
    /// be sent its frames here again by the switches outside.
    pub(super) fn announce(
        &mut self,
        books: &mut Books,
        directory: &Directory,
        attached: &Attached,
        now_us: u64,
    ) {
        let Some(announcer) = self.announcer.as_mut().filter(|_| !self.gate.is_held()) else {
            return;
        };
        let frames_of = |id| directory.vnic(id).map_or(1, |e| announce::frames(&e.vnic).len());
        let mut due: Vec<VnicId> = Vec::new();
        while let Some(id) = announcer.next(now_us, frames_of) {
            due.push(id);
        }
        for entry in due.into_iter().filter_map(|id| directory.vnic(id)) {
            if attached.is_here(entry, self.uplink.id) {
                self.announce_vnic(books, &entry.vnic);
            }
        }
    }

    fn announce_vnic(&mut self, books: &mut Books, vnic: &Vnic) {
        let Some(outside) = &vnic.network.outside else { return };
        for bytes in announce::frames(vnic) {
            self.emit(books, outside.vlan, &bytes);
            self.announcements += 1;
        }
    }

    /// Sends a frame of our own, booked on the uplink.
    pub(super) fn emit(&mut self, books: &mut Books, vlan: Option<u16>, bytes: &[u8]) {
        let out = Out {
            uplink: self.uplink.id,
            vlan,
            vnet: PLAIN,
            flow: None,
            cost: WireCost::SHORTEST,
            to_group: true,
        };
        let parts = [bytes];
        let frame = FrameRef::new(&parts, Offload::default());
        let owner = Owner::uplink(self.uplink.id);
        self.send(books, owner, Amount::frame(bytes.len(), 1), &out, &frame);
    }

    /// When [`Self::announce`] is to be called next.
    pub(super) fn next_announcement_us(&self) -> Option<u64> {
        // While broadcast is held back they wait; the next second looks again.
        self.announcer.as_ref().filter(|_| !self.gate.is_held())?.next_due_us()
    }

    /// Looks at what changes by itself: interface, carrier, the kernel's drop count.
    pub(super) fn refresh(
        &mut self,
        ring: &mut Ring,
        books: &mut Books,
        directory: &Directory,
        attached: &Attached,
        now_us: u64,
    ) {
        if self.closing {
            return;
        }
        self.refresh_driver(ring);
        self.book_kernel_drops(books);
        self.look_at_carrier(directory, attached, now_us);
    }

    /// Whether there is a carrier still, or again.
    pub(super) fn look_at_carrier(
        &mut self,
        directory: &Directory,
        attached: &Attached,
        now_us: u64,
    ) {
        if self.closing {
            return;
        }
        let carrier = self.driver.has_carrier();
        // One worker tells it, each time: whoever missed it hears it in a second.
        if self.announcer.is_some() {
            self.gate.carrier(carrier);
        }
        if carrier == self.carrier {
            return;
        }
        self.carrier = carrier;
        let name = &self.uplink.name;
        if carrier {
            info!(uplink = name, mtu = self.driver.mtu(), "uplink has a carrier");
            self.compare_mtus(directory);
            self.start_announcing(directory, attached, now_us);
        } else {
            warn!(uplink = name, "uplink has no carrier");
            self.announcer.iter_mut().for_each(Announcer::stop_all);
        }
    }

    fn refresh_driver(&mut self, ring: &mut Ring) {
        match self.driver.refresh(ring) {
            Ok(()) => {}
            Err(DriverError::Ring(error)) => warn!(%error, "cannot receive on an uplink"),
            Err(error) => debug!(%error, "will be tried again"),
        }
    }

    /// A network's large packets are lost on an interface with a smaller MTU.
    fn compare_mtus(&self, directory: &Directory) {
        let Some(mtu) = self.uplink.mtu.or_else(|| self.driver.mtu()) else { return };
        let networks: BTreeMap<_, _> =
            self.at_home(directory).map(|vnic| (vnic.network.vni, &vnic.network)).collect();
        for network in networks.values().filter(|network| network.mtu > mtu) {
            warn!(
                uplink = self.uplink.name,
                network = network.name,
                uplink_mtu = mtu,
                network_mtu = network.mtu,
                "the uplink takes smaller packets than the network allows; raise its MTU"
            );
        }
    }

    /// The vNICs that this uplink is home for.
    fn at_home<'d>(&self, directory: &'d Directory) -> impl Iterator<Item = &'d Vnic> {
        let id = self.uplink.id;
        let vnics = directory.vnics().map(|entry| &*entry.vnic);
        vnics.filter(move |vnic| vnic.home.as_ref().is_some_and(|home| home.id == id))
    }

    fn start_announcing(&mut self, directory: &Directory, attached: &Attached, now_us: u64) {
        let Some(announcer) = &mut self.announcer else { return };
        let here = directory.vnics().filter(|entry| attached.is_here(entry, self.uplink.id));
        here.for_each(|entry| announcer.start(entry.vnic.id, now_us));
    }

    fn book_kernel_drops(&mut self, books: &mut Books) {
        let drops = self.driver.counters().kernel_drops;
        let new = drops - self.booked_kernel_drops;
        self.booked_kernel_drops = drops;
        if new > 0 {
            // How long they were, nobody knows.
            let amount = Amount { frames: new, segments: new, bytes: 0 };
            let owner = Owner::uplink(self.uplink.id);
            books.drop(owner, Stage::UplinkRx, DropReason::KernelDrop, amount);
        }
    }

    pub(super) fn snapshot(&self) -> UplinkSnapshot {
        UplinkSnapshot {
            id: self.uplink.id,
            carrier: self.carrier,
            inward: self.inward,
            outward: self.outward,
            counters: self.driver.counters(),
            software_segmented: self.software_segmented,
            announcements: self.announcements,
        }
    }
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
