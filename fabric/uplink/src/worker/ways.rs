//! The two ways of a frame through a gateway: decided in [`crate::forward`], booked
//! and handed on here. Each frame is booked exactly once at each stage: as output,
//! or as a drop with its reason.

use super::{
    downward::{Downward, Shown, Turn},
    port::UplinkPort,
};
use crate::{
    attached::Attached,
    books::{Books, Owner},
    driver::{Driver, Received},
    forward::{self, In, Tables, Target},
    probe::{Gate, frame::is_probe},
    storm::OutsideStorm,
};
use rustc_hash::FxHashMap;
use wireonce_directory::{Directory, Host};
use wireonce_frame::{SliceSource, segment::WireCost};
use wireonce_ledger::{Amount, DropReason, Stage};
use wireonce_link::{Fabric, Inbound, Outbound, PeerId};
use wireonce_queue::Held;
use wireonce_wire::{Endpoint, UplinkId, VnicId};

/// What a frame from the fabric is dealt with.
pub(super) struct Outwards<'a> {
    pub(super) directory: &'a Directory,
    pub(super) attached: &'a Attached,
    pub(super) uplinks: &'a mut [Option<UplinkPort>],
    pub(super) by_id: &'a FxHashMap<UplinkId, usize>,
    pub(super) books: &'a mut Books,
    pub(super) now_us: u64,
}

impl Outwards<'_> {
    pub(super) fn take(&mut self, inbound: &Inbound<'_>) {
        let Inbound { peer, frame, .. } = inbound;
        let (source, destination) = (inbound.source(), inbound.destination());
        let Self { directory, attached, now_us, .. } = *self;
        let tables = Tables { directory, attached, now_us };
        let verdict = forward::outward(tables, *peer, source, destination, frame);
        let owner = verdict.account.map_or(Owner::NOBODY, Owner::vnic);
        let way = verdict.decision.and_then(|out| {
            inbound.passable()?;
            let index = self.by_id.get(&out.uplink);
            let port = index.and_then(|index| self.uplinks.get_mut(*index)?.as_mut());
            port.map(|port| (out, port)).ok_or(DropReason::UnknownDestination)
        });
        match way {
            Ok((out, port)) => {
                self.books.pass(owner, Stage::FabricRx, verdict.amount);
                if let (Some(police), Some(vnic)) = (&port.police, verdict.account)
                    && let Err(reason) = police.admit(*peer, vnic, out.cost, self.now_us)
                {
                    return self.books.drop(owner, Stage::UplinkTx, reason, verdict.amount);
                }
                if out.to_group && port.gate.is_held() {
                    let reason = DropReason::OutsideLoop;
                    return self.books.drop(owner, Stage::UplinkTx, reason, verdict.amount);
                }
                port.send_for(self.books, *peer, owner, verdict.amount, &out, frame);
            }
            Err(reason) => self.books.drop(owner, Stage::FabricRx, reason, verdict.amount),
        }
    }
}

/// What a frame from an uplink is dealt with.
pub(super) struct Inwards<'a> {
    directory: &'a Directory,
    attached: &'a Attached,
    fabric: &'a mut Fabric,
    books: &'a mut Books,
    uplink: UplinkId,
    storm: &'a OutsideStorm,
    down: &'a mut Downward,
    gate: &'a Gate,
    passed: &'a mut Amount,
    now_us: u64,
}

impl<'a> Inwards<'a> {
    /// Of an uplink, with the driver that hands frames over.
    pub(super) fn at(
        port: &'a mut UplinkPort,
        directory: &'a Directory,
        attached: &'a Attached,
        fabric: &'a mut Fabric,
        books: &'a mut Books,
        now_us: u64,
    ) -> (Self, &'a mut Driver) {
        let UplinkPort { uplink, inward: passed, driver, storm, down, gate, .. } = port;
        let uplink = uplink.id;
        let inwards =
            Self { directory, attached, fabric, books, uplink, storm, down, gate, passed, now_us };
        (inwards, driver)
    }
}

impl Inwards<'_> {
    pub(super) fn take(&mut self, received: &Received<'_>) {
        // A probe is for the gateway alone: it is no frame of the network, and in no book.
        if is_probe(received.frame) {
            return self.gate.probe(received, self.now_us);
        }
        let Self { directory, attached, now_us, .. } = *self;
        let tables = Tables { directory, attached, now_us };
        let verdict = forward::inward(tables, self.gate, received);
        if let Err(DropReason::UnknownMac | DropReason::UnknownVlan) = verdict.decision
            && self.gate.answer(received, self.now_us)
        {
            return;
        }
        let owner = verdict.account.map_or(Owner::uplink(self.uplink), Owner::vnic);
        let amount = verdict.amount;
        self.books.at(owner, Stage::UplinkRx).input += amount;
        let inward = match verdict.decision {
            Ok(inward) => inward,
            Err(reason) => {
                self.books.at(owner, Stage::UplinkRx).drop(reason, amount);
                return;
            }
        };
        match inward.target {
            Target::Vnic(_, vnic)
                if self.down.is_used() && self.waits(vnic, amount, &inward, received.frame) => {}
            Target::Vnic(peer, vnic) => {
                self.send(owner, amount, peer, Endpoint::Vnic(vnic), &inward, received.frame);
            }
            Target::Flood(vni) => {
                if !self.storm.admits(vni, inward.destination, amount.segments, self.now_us) {
                    self.books.at(owner, Stage::UplinkRx).drop(DropReason::OutsideStorm, amount);
                    return;
                }
                let directory = self.directory;
                let network = directory.network(vni);
                let peers = network.map_or(&[][..], |network| &network.member_peers);
                for (copy, peer) in peers.iter().enumerate() {
                    if copy > 0 {
                        self.books.at(owner, Stage::UplinkRx).copies += amount;
                    }
                    let to = Endpoint::Network(vni);
                    self.send(owner, amount, *peer, to, &inward, received.frame);
                }
            }
        }
    }

    /// Queues a frame for a vNIC, if it is to wait for the vNIC's share of the uplink. What
    /// becomes of it is booked then.
    fn waits(&mut self, vnic: VnicId, amount: Amount, inward: &In, frame: &[u8]) -> bool {
        let In { offload, flow_hash, ecn, header_len, .. } = *inward;
        let segments = u32::try_from(amount.segments).unwrap_or(u32::MAX);
        let cost = WireCost::of(frame.len(), segments, &offload, header_len);
        if self.down.passes(vnic, cost, self.now_us) {
            return false;
        }
        let (bytes, since_us) = (frame.to_vec(), self.now_us);
        let held = Held { bytes, offload, flow_hash, ecn, amount, cost, since_us };
        let account = self.books.at(Owner::vnic(vnic), Stage::UplinkRx);
        self.down.hold(vnic, held, &mut |frame| account.drop(DropReason::Shaped, frame.amount));
        true
    }

    /// Sends what has waited and may go now.
    pub(super) fn release(&mut self) {
        let Self { directory, fabric, books, uplink, down, passed, now_us, .. } = self;
        down.release(*now_us, &mut |vnic, held, turn| {
            let owner = Owner::vnic(vnic);
            let amount = held.amount;
            // Asked now: it may be another than when the frame came.
            let peer = match directory.vnic(vnic).map(|entry| entry.host) {
                Some(Host::Peer(peer)) => Ok(peer),
                _ => Err(DropReason::UnknownDestination),
            };
            let peer = if turn == Turn::Drop { Err(DropReason::Shaped) } else { peer };
            let block = Outbound {
                source: Endpoint::Uplink(*uplink),
                destination: Endpoint::Vnic(vnic),
                offload: held.offload,
                flow_hash: held.flow_hash,
                ecn: held.ecn,
                account: owner.bits(),
                amount,
            };
            let mut bytes = SliceSource::new(&held.bytes);
            match peer.and_then(|peer| fabric.send(peer, &block, &mut bytes, *now_us)) {
                Ok(()) => {
                    books.at(owner, Stage::FabricTx).input += amount;
                    books.at(owner, Stage::UplinkRx).output += amount;
                    **passed += amount;
                    Shown::Sent
                }
                Err(DropReason::FabricBusy) => Shown::Stays,
                Err(reason) => {
                    books.at(owner, Stage::UplinkRx).drop(reason, amount);
                    Shown::Dropped
                }
            }
        });
    }

    fn send(
        &mut self,
        owner: Owner,
        amount: Amount,
        peer: PeerId,
        destination: Endpoint,
        inward: &In,
        frame: &[u8],
    ) {
        let block = Outbound {
            source: Endpoint::Uplink(self.uplink),
            destination,
            offload: inward.offload,
            flow_hash: inward.flow_hash,
            ecn: inward.ecn,
            account: owner.bits(),
            amount,
        };
        match self.fabric.send(peer, &block, &mut SliceSource::new(frame), self.now_us) {
            Ok(()) => {
                self.books.at(owner, Stage::FabricTx).input += amount;
                self.books.at(owner, Stage::UplinkRx).output += amount;
                *self.passed += amount;
            }
            Err(reason) => self.books.at(owner, Stage::UplinkRx).drop(reason, amount),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{SERVER_A, STRANGER, UP_A, directory, frame, from_vnic, mac, vnic};
    use wireonce_frame::{FrameRef, Offload};
    use wireonce_wire::BlockHeader;

    #[test]
    fn a_frame_that_may_go_no_further_is_booked_on_the_vnic_that_sent_it() {
        let mut books = Books::default();
        let directory = directory();
        let bytes = frame(STRANGER, mac(1), 100);
        let parts = [&bytes[..]];
        let header = |source| BlockHeader {
            source,
            destination: Endpoint::Uplink(UP_A),
            len: 100,
            offload: Offload::default(),
        };
        let inbound = |header| Inbound {
            peer: SERVER_A,
            header,
            frame: FrameRef::new(&parts, Offload::default()),
            refused: Some(DropReason::CongestionMark),
        };
        let mut outwards = Outwards {
            directory: &directory,
            attached: &Attached::default(),
            uplinks: &mut [],
            by_id: &FxHashMap::default(),
            books: &mut books,
            now_us: 0,
        };
        // The peer does not own the second: it cannot book on it.
        let headers = [header(from_vnic(1)), header(from_vnic(2))];
        headers.iter().for_each(|header| outwards.take(&inbound(header)));
        let account = books.at(Owner::vnic(vnic(1)), Stage::FabricRx);
        assert_eq!(account.input.frames, 1);
        assert_eq!(account.dropped(DropReason::CongestionMark), account.input);
        let nobody = books.at(Owner::NOBODY, Stage::FabricRx);
        assert_eq!(nobody.dropped(DropReason::SourceNotOwned).frames, 1);
        assert_eq!(books.accounts().count(), 2);
    }
}
