//! Frames between guests of one worker.

use super::house::{Guest, mac, vnic, worker};
use crate::worker::Worker;
use wireonce_frame::{MacAddr, build::rarp_announce, sample::Sample};
use wireonce_ledger::{Amount, DropReason};

/// A UDP frame from guest `from`, with its own address, to `to`.
pub(super) fn udp(from: u8, to: MacAddr) -> Vec<u8> {
    udp_of_len(from, to, 64)
}

/// The same with so many bytes of payload.
pub(super) fn udp_of_len(from: u8, to: MacAddr, len: usize) -> Vec<u8> {
    let ip = |last| format!("192.0.2.{last}").parse().unwrap();
    Sample::udp4().macs(mac(from), to).ips(ip(from), ip(9)).payload(vec![from; len]).build()
}

/// A broadcast ARP request of guest 1.
pub(super) fn arp_request(target: u8) -> Vec<u8> {
    let mut frame =
        [&MacAddr::BROADCAST.0[..], &mac(1).0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    frame.extend(mac(1).0);
    frame.extend([192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, target]);
    frame.resize(60, 0);
    frame
}

#[test]
fn a_frame_goes_to_the_neighbour_that_has_its_mac_and_to_nobody_else() {
    let mut worker = worker();
    let mut guests = [1, 2, 3].map(|id| Guest::start(&mut worker, id));
    guests.iter_mut().for_each(|guest| guest.post(4));
    let frame = udp(1, mac(2));
    guests[0].send(&mut worker, &frame);
    worker.test_turn(0);
    assert_eq!(guests[1].received(), std::slice::from_ref(&frame));
    assert!(guests[0].received().is_empty() && guests[2].received().is_empty());
    assert_eq!(guests[0].returned(), 1);
    let books = &worker.test_port(2).books;
    assert_eq!(books.guest_rx.output, Amount::frame(frame.len(), 1));
    worker.assert_closed();
}

#[test]
fn a_broadcast_reaches_every_neighbour_of_the_network_but_not_its_sender() {
    let mut worker = worker();
    let mut guests = [1, 2, 3, 4].map(|id| Guest::start(&mut worker, id));
    guests.iter_mut().for_each(|guest| guest.post(4));
    let frame = udp(1, MacAddr::BROADCAST);
    guests[0].send(&mut worker, &frame);
    worker.test_turn(0);
    assert!(guests[0].received().is_empty(), "the sender");
    assert_eq!(guests[1].received(), std::slice::from_ref(&frame));
    assert_eq!(guests[2].received(), std::slice::from_ref(&frame));
    assert!(guests[3].received().is_empty(), "another network");
    let sent = &worker.test_port(1).books.guest_tx;
    assert_eq!((sent.input.frames, sent.copies.frames, sent.output.frames), (1, 2, 2));
    assert_eq!(sent.dropped(DropReason::NoSession).frames, 1, "the peer is not connected");
    worker.assert_closed();
}

#[test]
fn a_question_for_a_known_address_is_answered_to_the_asker_alone() {
    let mut worker = worker();
    let mut guests = [1, 2].map(|id| Guest::start(&mut worker, id));
    guests.iter_mut().for_each(|guest| guest.post(4));
    guests[0].send(&mut worker, &arp_request(2));
    worker.test_turn(0);
    let answers = guests[0].received();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0][..12], [mac(1).0, mac(2).0].concat());
    assert!(guests[1].received().is_empty());
    let sent = &worker.test_port(1).books.guest_tx;
    assert_eq!(sent.dropped(DropReason::AnsweredHere).frames, 1);
    worker.assert_closed();
}

#[test]
fn an_announcement_reaches_the_network_in_the_guests_name_and_within_its_limit() {
    let mut worker = worker();
    let mut guests = [1, 2, 4].map(|id| Guest::start(&mut worker, id));
    guests.iter_mut().for_each(|guest| guest.post(100));
    for _ in 0..50 {
        worker.announce(vnic(1), 0);
    }
    worker.test_turn(0);
    let heard = guests[1].received();
    assert_eq!(heard.len(), 10, "the vNIC may send 10 a second");
    assert!(heard.iter().all(|frame| *frame == rarp_announce(mac(1))));
    assert!(guests[0].received().is_empty(), "the announced one");
    assert!(guests[2].received().is_empty(), "another network");
    let sent = &worker.test_port(1).books.guest_tx;
    assert_eq!(sent.dropped(DropReason::NoSession).frames, 10, "the peer is not connected");
    assert_eq!(sent.dropped(DropReason::Storm).frames, 40);
    worker.assert_closed();
}

#[test]
fn a_storm_is_cut_at_the_port() {
    let mut worker = worker();
    let mut guests = [1, 2].map(|id| Guest::start(&mut worker, id));
    guests[1].post(100);
    for _ in 0..50 {
        guests[0].send(&mut worker, &udp(1, MacAddr::BROADCAST));
    }
    for _ in 0..10 {
        worker.test_turn(0);
    }
    assert_eq!(guests[1].received().len(), 10, "the vNIC may send 10 a second");
    let sent = &worker.test_port(1).books.guest_tx;
    assert_eq!(sent.dropped(DropReason::Storm).frames, 40);
    worker.assert_closed();
}

#[test]
fn frames_for_a_guest_that_is_not_there_are_dropped_by_name() {
    let mut worker = worker();
    let mut guest = Guest::start(&mut worker, 1);
    guest.send(&mut worker, &udp(1, mac(2)));
    guest.send(&mut worker, &udp(1, mac(99)));
    guest.send(&mut worker, &udp(1, mac(5)));
    guest.send(&mut worker, &udp(1, mac(1)));
    worker.test_turn(0);
    let down = worker.test_port(2).books.guest_rx.dropped(DropReason::PortDown);
    assert_eq!(down.frames, 1);
    let sent = &worker.test_port(1).books.guest_tx;
    for reason in [DropReason::NoRoute, DropReason::NoSession, DropReason::Reflected] {
        assert_eq!(sent.dropped(reason).frames, 1, "{}", reason.name());
    }
    assert_eq!(guest.returned(), 4);
    worker.assert_closed();
}

#[test]
fn a_disabled_ring_discards_and_one_that_is_enabled_again_carries() {
    let mut worker = worker();
    let mut guests = [1, 2].map(|id| Guest::start(&mut worker, id));
    guests[1].post(8);
    worker.test_port(1).common_mut(1).unwrap().enabled = false;
    guests[0].send(&mut worker, &udp(1, mac(2)));
    worker.test_turn(0);
    assert_eq!(guests[0].returned(), 1);
    worker.test_port(1).common_mut(1).unwrap().enabled = true;
    worker.test_port(2).common_mut(0).unwrap().enabled = false;
    guests[0].send(&mut worker, &udp(1, mac(2)));
    worker.test_turn(0);
    worker.test_port(2).common_mut(0).unwrap().enabled = true;
    guests[0].send(&mut worker, &udp(1, mac(2)));
    worker.test_turn(0);
    assert_eq!(guests[1].received().len(), 1);
    assert_eq!(worker.test_port(1).books.guest_tx.dropped(DropReason::PortDown).frames, 1);
    assert_eq!(worker.test_port(2).books.guest_rx.dropped(DropReason::PortDown).frames, 1);
    worker.assert_closed();
}

#[test]
fn a_guest_without_buffers_loses_frames_and_nobody_waits() {
    let mut worker = worker();
    let mut guests = [1, 2].map(|id| Guest::start(&mut worker, id));
    guests[1].post(3);
    for _ in 0..5 {
        guests[0].send(&mut worker, &udp(1, mac(2)));
    }
    worker.test_turn(0);
    assert_eq!(guests[0].returned(), 5);
    assert_eq!(guests[1].received().len(), 3);
    worker.test_turn(4_999);
    let dropped = |worker: &mut Worker| {
        worker.test_port(2).books.guest_rx.dropped(DropReason::NoRxBuffers).frames
    };
    assert_eq!(dropped(&mut worker), 0, "they wait for buffers");
    worker.test_turn(5_000);
    assert_eq!(dropped(&mut worker), 2, "but not for long");
    guests[0].send(&mut worker, &udp(1, mac(2)));
    worker.test_turn(5_001);
    assert_eq!(dropped(&mut worker), 3, "and nobody waits any more");
    worker.assert_closed();
    guests[1].post(3);
    for _ in 0..5 {
        guests[0].send(&mut worker, &udp(1, mac(2)));
    }
    worker.test_turn(5_002);
    guests[1].post(2);
    worker.test_turn(5_003);
    assert_eq!(guests[1].received().len(), 5, "until the guest posts buffers again");
    assert!(worker.waiting.is_empty());
    worker.assert_closed();
}

#[test]
fn frames_that_wait_keep_their_order_and_their_work() {
    let mut worker = worker();
    let mut guests = [1, 2].map(|id| Guest::start(&mut worker, id));
    let frames = (0..40_usize).map(|n| udp_of_len(1, mac(2), 100 + n)).collect::<Vec<_>>();
    let mut seen = Vec::new();
    for batch in frames.chunks(8) {
        for frame in batch {
            guests[0].send(&mut worker, frame);
        }
        guests[1].post(5);
        worker.test_turn(0);
        seen.extend(guests[1].received());
    }
    guests[1].post(40);
    worker.test_turn(0);
    seen.extend(guests[1].received());
    assert_eq!(seen, frames);
    worker.assert_closed();
}

#[test]
fn a_ring_that_stops_drops_what_waits_for_it() {
    let mut worker = worker();
    let mut guests = [1, 2].map(|id| Guest::start(&mut worker, id));
    for _ in 0..5 {
        guests[0].send(&mut worker, &udp(1, mac(2)));
    }
    worker.test_turn(0);
    worker.stop_ring(vnic(2), 0).unwrap();
    let books = &worker.test_port(2).books.guest_rx;
    assert_eq!(books.dropped(DropReason::PortDown).frames, 5);
    worker.test_turn(0);
    assert!(worker.waiting.is_empty());
    worker.assert_closed();
}

#[test]
fn a_stopped_ring_gives_its_index_and_a_new_one_goes_on_there() {
    let mut worker = worker();
    let mut guests = [1, 2].map(|id| Guest::start(&mut worker, id));
    guests[1].post(8);
    guests[0].send(&mut worker, &udp(1, mac(2)));
    worker.test_turn(0);
    guests[0].send(&mut worker, &udp(1, mac(2)));
    let base = worker.stop_ring(vnic(1), 1).unwrap();
    assert_eq!(base, guests[0].tx.used_idx(), "what is left in the ring stays there");
    worker.test_turn(0);
    assert_eq!(guests[1].received().len(), 1);
    guests[0].start_ring(&mut worker, 1);
    worker.test_turn(0);
    assert_eq!(guests[1].received().len(), 1);
    assert_eq!(guests[0].returned(), 2);
    worker.assert_closed();
}
