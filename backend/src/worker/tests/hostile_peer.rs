//! What a peer that was broken into can do, and what not.

use super::{
    house::{Guest, mac, vnic, worker},
    local::udp,
};
use crate::worker::Worker;
use wireonce_frame::{FrameRef, MacAddr, Offload};
use wireonce_ledger::DropReason;
use wireonce_link::{Inbound, PeerId};
use wireonce_wire::{BlockHeader, Endpoint, Vni};

const PEER: PeerId = PeerId(0);

pub(super) fn receive(worker: &mut Worker, source: Endpoint, destination: Endpoint, bytes: &[u8]) {
    let parts = [bytes];
    let frame = FrameRef::new(&parts, Offload::default());
    let (_, _, mut inward) = worker.split();
    let header = header(source, destination);
    inward.take(&Inbound { peer: PEER, header: &header, frame, refused: None });
}

fn header(source: Endpoint, destination: Endpoint) -> BlockHeader {
    BlockHeader { destination, source, len: 1, offload: Offload::default() }
}

fn all() -> Endpoint {
    Endpoint::Network(Vni::new(100).unwrap())
}

#[test]
fn a_peer_s_vnic_reaches_ours() {
    let mut worker = worker();
    let mut guests = [1, 2].map(|id| Guest::start(&mut worker, id));
    guests.iter_mut().for_each(|guest| guest.post(4));
    let from = Endpoint::Vnic(vnic(5));
    receive(&mut worker, from, Endpoint::Vnic(vnic(1)), &udp(5, mac(1)));
    receive(&mut worker, from, all(), &udp(5, MacAddr::BROADCAST));
    worker.publish();
    assert_eq!(guests[0].received().len(), 2);
    assert_eq!(guests[1].received().len(), 1);
    let account = &worker.sources[&5];
    assert_eq!((account.input.frames, account.copies.frames), (2, 2), "one member is not running");
    worker.assert_closed();
}

#[test]
fn sources_that_a_peer_invents_cost_no_memory() {
    let mut worker = worker();
    for id in 1_000..3_000 {
        let to = Endpoint::Vnic(vnic(1));
        receive(&mut worker, Endpoint::Vnic(vnic(id)), to, &udp(5, mac(1)));
        receive(&mut worker, Endpoint::Uplink(wireonce_wire::UplinkId(7)), to, &udp(5, mac(1)));
    }
    assert_eq!(worker.sources.len(), 1);
    let dropped: u64 = worker.sources.values().map(|a| a.dropped_total().frames).sum();
    assert_eq!(dropped, 4_000);
    worker.assert_closed();
}

#[test]
fn a_peer_cannot_speak_for_our_vnics_nor_for_another_mac() {
    let mut worker = worker();
    let mut guest = Guest::start(&mut worker, 1);
    guest.post(8);
    let to = Endpoint::Vnic(vnic(1));
    receive(&mut worker, Endpoint::Vnic(vnic(2)), to, &udp(2, mac(1)));
    receive(&mut worker, Endpoint::Vnic(vnic(5)), to, &udp(2, mac(1)));
    receive(&mut worker, Endpoint::Vnic(vnic(5)), Endpoint::Vnic(vnic(4)), &udp(5, mac(4)));
    receive(&mut worker, Endpoint::Vnic(vnic(5)), to, &udp(5, mac(2)));
    worker.publish();
    assert!(guest.received().is_empty());
    let account = &worker.sources[&5];
    assert_eq!(account.dropped(DropReason::SourceMac).frames, 1);
    assert_eq!(account.dropped(DropReason::NetworkMismatch).frames, 1);
    let own = &worker.test_port(1).books.guest_rx;
    assert_eq!(own.dropped(DropReason::DestinationMac).frames, 1);
    worker.assert_closed();
}

#[test]
fn a_storm_from_a_peer_ends_with_the_credit_for_floods() {
    let mut worker = worker();
    let mut guest = Guest::start(&mut worker, 1);
    guest.post(8);
    for _ in 0..10_000 {
        receive(&mut worker, Endpoint::Vnic(vnic(5)), all(), &udp(5, MacAddr::BROADCAST));
    }
    let account = &worker.sources[&5];
    let stormed = account.dropped(DropReason::Storm).frames;
    assert!((1_000..9_900).contains(&stormed), "{stormed} of 10,000");
    worker.refill_credits();
    receive(&mut worker, Endpoint::Vnic(vnic(5)), all(), &udp(5, MacAddr::BROADCAST));
    assert_eq!(worker.sources[&5].dropped(DropReason::Storm).frames, stormed);
    worker.assert_closed();
}

#[test]
fn a_frame_that_may_go_no_further_is_booked_on_its_source() {
    let mut worker = worker();
    let mut guest = Guest::start(&mut worker, 1);
    guest.post(4);
    let bytes = udp(5, mac(1));
    let parts = [&bytes[..]];
    // The second source is ours, not the peer's.
    for source in [5, 2] {
        let (_, _, mut inward) = worker.split();
        inward.take(&Inbound {
            peer: PEER,
            header: &header(Endpoint::Vnic(vnic(source)), Endpoint::Vnic(vnic(1))),
            frame: FrameRef::new(&parts, Offload::default()),
            refused: Some(DropReason::CongestionMark),
        });
    }
    worker.publish();
    assert!(guest.received().is_empty());
    let account = &worker.sources[&5];
    assert_eq!(account.input.frames, 1);
    assert_eq!(account.dropped(DropReason::CongestionMark), account.input);
    assert!(!worker.sources.contains_key(&2));
    worker.assert_closed();
}
