//! Who gets how much, in chains by round and not in time: each port pays for the work
//! that it causes.

use super::{
    hostile_guest::offer_loops,
    house::{Guest, mac, vnic, worker},
    local::{udp, udp_of_len},
};
use crate::{
    virtqueue::tests::driver::{LOW, WRITE},
    worker::cost::QUANTUM_NS,
};
use virtio_bindings::virtio_net::{VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4};
use wireonce_frame::{MacAddr, sample::Sample};
use wireonce_ledger::DropReason;

const TSO: u64 = 1 << VIRTIO_NET_F_CSUM | 1 << VIRTIO_NET_F_HOST_TSO4;

/// A TCP segment of guest 1 to guest 2 that is to be cut to `gso_size`, and its header.
fn large_segment(payload_len: usize, gso_size: u8) -> ([u8; 12], Vec<u8>) {
    let ip = |last| format!("192.0.2.{last}").parse().unwrap();
    let sample = Sample::tcp4().macs(mac(1), mac(2)).ips(ip(1), ip(2));
    let (frame, _) = sample.payload(vec![7; payload_len]).build_open();
    ([1, 1, 54, 0, gso_size, 0, 34, 0, 16, 0, 0, 0], frame)
}

#[test]
fn a_flood_of_small_frames_leaves_a_neighbour_its_turn_in_every_round() {
    let mut worker = worker();
    let mut guests = [1, 2, 3].map(|id| Guest::start(&mut worker, id));
    guests[2].post(255);
    for _ in 0..250 {
        guests[0].send(&mut worker, &udp(1, mac(99)));
    }
    for _ in 0..20 {
        guests[1].send(&mut worker, &udp(2, mac(3)));
    }
    worker.test_serve(1);
    worker.test_serve(2);
    assert!(guests[0].returned() <= 64);
    assert_eq!(guests[1].returned(), 20);
    worker.test_turn(0);
    worker.assert_closed();
}

#[test]
fn guests_may_send_as_much_as_came() {
    let mut worker = worker();
    let mut guest = Guest::start_pair(&mut worker, 1, 0, TSO);
    let (header, mut frame) = large_segment(20_000, 200);
    // To nobody: only the way out of the ring is paid for.
    frame[..6].copy_from_slice(&mac(99).0);
    for owed_ns in [0, 200_000] {
        for _ in 0..60 {
            guest.send_with(&mut worker, header, &frame);
        }
        worker.owed_ns = owed_ns;
        worker.test_turn(0);
        let first = guest.returned();
        if owed_ns == 0 {
            assert!((25..45).contains(&first), "four rounds of 20 us, a frame 2.6 us: {first}");
            worker.test_turn(0);
            worker.test_turn(0);
            guest.returned();
        } else {
            assert_eq!(first, 60, "200 us are enough for all");
        }
    }
}

#[test]
fn a_flood_to_a_receiver_that_cannot_keep_up_takes_nothing_from_who_sends_it_little() {
    let mut worker = worker();
    let mut guests = [1, 2, 3].map(|id| Guest::start(&mut worker, id));
    let (mut sent, mut came, mut flooded) = (0, 0, 0);
    for turn in 0..200 {
        for _ in 0..120 {
            guests[0].send(&mut worker, &udp(1, mac(3)));
        }
        guests[1].send(&mut worker, &udp_of_len(2, mac(3), 1_000));
        sent += 1;
        guests[2].post(40);
        worker.test_turn(turn);
        for frame in guests[2].received() {
            came += u64::from(frame.len() > 1_000);
            flooded += u64::from(frame.len() < 1_000);
        }
        for guest in &mut guests {
            guest.returned();
        }
    }
    assert!(sent - came <= 2, "{came} of {sent} came, the rest waits");
    assert!(flooded > 5_000, "the flood has all the rest: {flooded}");
    let books = &worker.test_port(3).books.guest_rx;
    assert!(books.dropped(DropReason::NoRxBuffers).frames > 5_000);
    worker.assert_closed();
}

#[test]
fn bad_chains_get_no_more_of_a_round_than_good_frames() {
    let mut worker = worker();
    let mut guests = [1, 2, 3].map(|id| Guest::start(&mut worker, id));
    guests[2].post(255);
    offer_loops(&mut guests[0], 250);
    guests[0].wake(&mut worker);
    for _ in 0..240 {
        guests[1].send(&mut worker, &udp(2, mac(3)));
    }
    let (mut bad, mut good) = (0, 0);
    for _ in 0..3 {
        worker.test_serve(1);
        worker.test_serve(2);
        bad += guests[0].returned();
        good += guests[1].returned();
    }
    // 10 us against 0.3 us each.
    assert!((3..=8).contains(&bad), "{bad} bad chains");
    assert!(good >= 20 * bad, "{good} good frames, {bad} bad chains");
}

#[test]
fn every_queue_of_a_port_has_its_turn() {
    let mut worker = worker();
    let mut pairs = [0, 1, 2, 3].map(|pair| Guest::start_pair(&mut worker, 1, pair, 0));
    for pair in &mut pairs {
        offer_loops(pair, 100);
        pair.wake(&mut worker);
    }
    for _ in 0..8 {
        worker.test_serve(1);
    }
    let served = pairs.each_mut().map(Guest::returned);
    assert!(served.iter().all(|chains| *chains > 0), "{served:?}");
    assert!(served.iter().max().unwrap() - served.iter().min().unwrap() <= 2, "{served:?}");
}

#[test]
fn the_sender_pays_for_cutting_its_segments_at_the_last_hop() {
    let mut worker = worker();
    let mut guests = [Guest::start_pair(&mut worker, 1, 0, TSO), Guest::start(&mut worker, 2)];
    guests[1].post(255);
    let (header, frame) = large_segment(20_000, 200);
    for _ in 0..10 {
        guests[0].send_with(&mut worker, header, &frame);
    }
    worker.test_serve(1);
    assert!((1..=8).contains(&guests[0].returned()), "a turn is 20 us, a copy 2.5 us");
    assert!(worker.test_port(1).credit_ns < -QUANTUM_NS, "and paid for in the next ones");
    guests[0].send(&mut worker, &udp(1, mac(2)));
    worker.test_serve(1);
    assert_eq!(guests[0].returned(), 0);
    worker.publish();
    worker.assert_closed();
}

#[test]
fn more_pieces_than_buffers_can_be_are_not_cut_at_all() {
    let mut worker = worker();
    let mut guests = [Guest::start_pair(&mut worker, 1, 0, TSO), Guest::start(&mut worker, 2)];
    guests[1].post(255);
    let (header, frame) = large_segment(60_000, 8);
    guests[0].send_with(&mut worker, header, &frame);
    worker.test_turn(0);
    assert!(guests[1].received().is_empty());
    let books = &worker.test_port(2).books.guest_rx;
    assert_eq!(books.dropped(DropReason::NoRxBuffers).segments, 7_500);
    worker.assert_closed();
}

#[test]
fn a_receiver_with_costly_buffers_costs_a_turn_no_more_than_its_credit() {
    let mut worker = worker();
    let mut guests = [1, 2, 3].map(|id| Guest::start(&mut worker, id));
    // Chains of 250 one-byte buffers: no frame fits, and every one looks again.
    guests[1].rx.offer_chain(0, &[(LOW, 1, WRITE); 250]);
    guests[2].post(255);
    for _ in 0..60 {
        guests[0].send(&mut worker, &udp(1, mac(2)));
        guests[0].send(&mut worker, &udp(1, mac(3)));
    }
    worker.test_serve(1);
    worker.test_serve(1);
    assert!(worker.test_port(2).rx_credit_ns > -QUANTUM_NS);
    for _ in 0..20 {
        worker.refill_credits();
        worker.test_turn(0);
    }
    assert_eq!(guests[2].received().len(), 60, "others get everything");
    worker.assert_closed();
}

#[test]
fn a_broadcast_of_a_large_frame_is_kept_once() {
    let mut worker = worker();
    let mut guests = [1, 2, 3].map(|id| Guest::start(&mut worker, id));
    guests.iter_mut().for_each(|guest| guest.post(100));
    let frame = udp(1, MacAddr::BROADCAST);
    guests[0].send(&mut worker, &frame);
    let before = worker.test_port(1).credit_ns;
    worker.test_serve(1);
    let paid = before + QUANTUM_NS - worker.test_port(1).credit_ns;
    assert!(paid > 4 * 120, "for itself, two neighbours and a peer: {paid} ns");
    worker.test_turn(0);
    assert_eq!(guests[1].received(), guests[2].received());
    worker.assert_closed();
}

#[test]
fn a_ring_whose_memory_went_is_stopped_and_the_others_move() {
    let mut worker = worker();
    let mut guests = [1, 2].map(|id| Guest::start(&mut worker, id));
    guests[1].post(8);
    // The transmit ring's memory becomes the port's: the receive ring's areas have the
    // same addresses, and go on in it.
    let memory = std::sync::Arc::clone(&guests[0].tx.memory);
    worker.replace_memory(vnic(1), memory).unwrap();
    guests[0].send(&mut worker, &udp(1, mac(2)));
    worker.test_turn(0);
    assert_eq!(guests[1].received().len(), 1);
    worker.replace_memory(vnic(1), Default::default()).unwrap();
    assert!(!worker.test_port(1).is_running());
    assert_eq!(worker.stop_ring(vnic(1), 1).unwrap(), 0);
}
