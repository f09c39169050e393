//! Other tables while guests send.

use super::{
    hostile_peer::receive,
    house::{Guest, mac, vnic, worker},
    local::{arp_request, udp},
};
use crate::worker::{Command, Worker, local::LocalFrame};
use std::sync::mpsc;
use wireonce_frame::{MacAddr, Offload};
use wireonce_ledger::DropReason;
use wireonce_wire::Endpoint;

/// vNIC three moves to the peer.
const THREE_MOVES: (&str, &str) = (
    "name = \"three\"\nhost = \"here\"\nnetwork = \"blue\"\nmac = \"52:54:00:00:00:03\"\nsocket = \"/nowhere/3.sock\"",
    "name = \"three\"\nhost = \"there\"\nnetwork = \"blue\"\nmac = \"52:54:00:00:00:03\"",
);
/// vNIC five comes from the peer.
const FIVE_COMES: (&str, &str) = (
    "name = \"five\"\nhost = \"there\"\nnetwork = \"blue\"\nmac = \"52:54:00:00:00:05\"",
    "name = \"five\"\nhost = \"here\"\nnetwork = \"blue\"\nmac = \"52:54:00:00:00:05\"\nsocket = \"/nowhere/5.sock\"",
);

fn dropped(worker: &mut Worker, id: u64, reason: DropReason) -> u64 {
    worker.test_port(id).books.guest_tx.dropped(reason).frames
}

#[test]
fn the_next_frame_takes_the_new_way_and_none_is_lost_or_doubled() {
    let mut worker = worker();
    let mut guests = [1, 3].map(|id| Guest::start(&mut worker, id));
    guests[1].post(8);
    let frame = udp(1, mac(3));
    guests[0].send(&mut worker, &frame);
    worker.test_turn(0);
    guests[0].send(&mut worker, &frame);
    worker.test_change(&[THREE_MOVES]);
    worker.test_turn(0);
    assert_eq!(dropped(&mut worker, 1, DropReason::NoSession), 1, "to the peer, who is not up");
    worker.test_change(&[]);
    guests[0].send(&mut worker, &frame);
    worker.test_turn(0);
    assert_eq!(guests[0].returned(), 3);
    let sent = worker.test_port(1).books.guest_tx.clone();
    assert_eq!((sent.input.frames, sent.output.frames), (3, 2));
    let three = &worker.test_port(3).books.guest_rx;
    // Its rings went with it: the last frame came before its guest had new ones.
    assert_eq!(three.output.frames, 1);
    assert_eq!(three.dropped(DropReason::PortDown).frames, 1);
    worker.assert_closed();
}

#[test]
fn a_change_of_rights_stops_no_ring_and_counts_from_the_next_frame() {
    let mut worker = worker();
    let mut guests = [1, 2].map(|id| Guest::start(&mut worker, id));
    guests[1].post(8);
    let frame = udp(1, mac(2));
    guests[0].send(&mut worker, &frame);
    worker.test_turn(0);
    worker.test_change(&[("192.0.2.1\"", "192.0.2.77\"")]);
    guests[0].send(&mut worker, &frame);
    worker.test_turn(0);
    assert_eq!(dropped(&mut worker, 1, DropReason::SourceIp), 1);
    worker.test_change(&[]);
    guests[0].send(&mut worker, &frame);
    worker.test_turn(0);
    assert_eq!(guests[1].received().len(), 2);
    worker.assert_closed();
}

#[test]
fn a_limit_that_stays_does_not_begin_anew() {
    let mut worker = worker();
    let mut guests = [1, 2].map(|id| Guest::start(&mut worker, id));
    guests[1].post(64);
    let mut flood = |worker: &mut Worker| {
        for _ in 0..30 {
            guests[0].send(worker, &udp(1, MacAddr::BROADCAST));
            worker.test_turn(0);
        }
        guests[1].received().len()
    };
    assert_eq!(flood(&mut worker), 10, "the vNIC may send 10 a second");
    worker.test_change(&[("192.0.2.1\"", "192.0.2.1\", \"192.0.2.3\"")]);
    assert_eq!(flood(&mut worker), 0);
    worker.test_change(&[("storm_frames_per_s = 10", "storm_frames_per_s = 20")]);
    assert_eq!(flood(&mut worker), 20);
}

#[test]
fn neighbours_are_answered_by_the_new_tables() {
    let mut worker = worker();
    let mut guest = Guest::start(&mut worker, 1);
    guest.post(4);
    guest.send(&mut worker, &arp_request(2));
    worker.test_turn(0);
    worker.test_change(&[("192.0.2.2\"", "192.0.2.9\"")]);
    guest.send(&mut worker, &arp_request(2));
    worker.test_turn(0);
    assert_eq!(guest.received().len(), 1, "nobody has the address any more");
    guest.send(&mut worker, &arp_request(9));
    worker.test_turn(0);
    assert_eq!(guest.received().len(), 1);
}

#[test]
fn what_a_peer_may_send_follows_the_tables() {
    let mut worker = worker();
    let mut guest = Guest::start(&mut worker, 1);
    guest.post(8);
    let (from, to) = (Endpoint::Vnic(vnic(5)), Endpoint::Vnic(vnic(1)));
    receive(&mut worker, from, to, &udp(5, mac(1)));
    worker.test_change(&[FIVE_COMES]);
    receive(&mut worker, from, to, &udp(5, mac(1)));
    worker.publish();
    assert_eq!(guest.received().len(), 1);
    let nobody = &worker.sources[&0];
    assert_eq!(nobody.dropped(DropReason::SourceNotOwned).frames, 1, "it is ours now");
    worker.test_change(&[]);
    receive(&mut worker, from, to, &udp(5, mac(1)));
    worker.publish();
    assert_eq!(guest.received().len(), 1);
    worker.assert_closed();
}

#[test]
fn a_vnic_that_goes_leaves_its_books_and_goes_on_with_them() {
    let mut worker = worker();
    let mut guests = [1, 3].map(|id| Guest::start(&mut worker, id));
    guests[1].post(8);
    guests[0].send(&mut worker, &udp(1, mac(3)));
    guests[1].send(&mut worker, &udp(3, mac(1)));
    worker.test_turn(0);
    let place = worker.by_vnic[&vnic(3)];
    worker.test_change(&[THREE_MOVES]);
    assert!(!worker.by_vnic.contains_key(&vnic(3)));
    let snapshot = worker.snapshot();
    assert_eq!((snapshot.ports.len(), snapshot.retired.len()), (3, 1));
    worker.assert_closed();
    // Another vNIC has its place; what the kernel says late of the old rings is nobody's.
    worker.test_change(&[THREE_MOVES, FIVE_COMES]);
    assert_eq!(worker.by_vnic[&vnic(5)], place);
    let mut five = Guest::start(&mut worker, 5);
    five.post(4);
    let generations = worker.test_port(5).tx[0].as_ref().unwrap().common.generation;
    assert!(generations > 2, "rings of the place were counted from the first vNIC on");
    guests[0].send(&mut worker, &udp(1, mac(5)));
    worker.test_turn(0);
    assert_eq!(five.received().len(), 1);
    // It comes back, to another place.
    worker.test_change(&[]);
    let mut three = Guest::start(&mut worker, 3);
    three.post(4);
    guests[0].send(&mut worker, &udp(1, mac(3)));
    worker.test_turn(0);
    let books = &worker.test_port(3).books;
    assert_eq!((books.guest_rx.output.frames, books.guest_tx.input.frames), (2, 1));
    assert_eq!(worker.retired.len(), 1, "vNIC five is gone in its turn");
    worker.assert_closed();
}

#[test]
fn queue_pairs_that_a_vnic_no_longer_has_are_not_served() {
    let mut worker = worker();
    let mut first = Guest::start(&mut worker, 1);
    let mut last = Guest::start_pair(&mut worker, 1, 3, 0);
    first.send(&mut worker, &udp(1, mac(2)));
    last.send(&mut worker, &udp(1, mac(2)));
    worker.test_change(&[("queue_pairs = 4", "queue_pairs = 2")]);
    worker.test_turn(0);
    let port = worker.test_port(1);
    assert_eq!((port.tx.len(), port.ring_count(), port.is_running()), (2, 4, false));
    assert_eq!(first.returned() + last.returned(), 0);
    worker.assert_closed();
}

#[test]
fn a_frame_handed_over_for_a_vnic_that_is_gone_is_in_its_books() {
    let mut worker = worker();
    let _guest = Guest::start(&mut worker, 3);
    worker.test_change(&[THREE_MOVES]);
    let frame = LocalFrame { to: vnic(3), offload: Offload::default(), bytes: udp(1, mac(3)) };
    worker.colleagues[0].post(Command::Handover(Box::new(frame)));
    worker.read_mail().unwrap();
    let books = &worker.retired[&vnic(3)].books;
    assert_eq!(books.guest_rx.dropped(DropReason::UnknownDestination).frames, 1);
    worker.assert_closed();
}

#[test]
fn tables_come_by_mail_and_are_answered_when_they_are_in_use() {
    let mut worker = worker();
    let (reply, answer) = mpsc::sync_channel(1);
    worker.colleagues[0].post(Command::Tables(Box::default(), reply));
    assert_eq!(worker.by_vnic.len(), 4);
    worker.read_mail().unwrap();
    assert_eq!((worker.by_vnic.len(), worker.vacant.len()), (0, 4));
    assert_eq!(answer.try_recv(), Ok(()));
}
