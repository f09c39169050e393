//! What a guest can do to its own port, and not to its neighbours.

use super::{
    house::{Guest, RING, mac, worker},
    local::udp,
};
use crate::virtqueue::tests::driver::{LOW, NEXT};
use wireonce_ledger::DropReason;

#[test]
fn a_broken_ring_is_stopped_alone_and_counted_once() {
    let mut worker = worker();
    let mut guests = [1, 2, 3].map(|id| Guest::start(&mut worker, id));
    guests.iter_mut().for_each(|guest| guest.post(8));
    // More is available than the ring has room for.
    guests[0].tx.set_avail_idx(guests[0].tx.used_idx().wrapping_add(RING + 1));
    guests[0].wake(&mut worker);
    guests[2].rx.set_avail_idx(guests[2].rx.used_idx().wrapping_add(RING + 1));
    for _ in 0..5 {
        guests[1].send(&mut worker, &udp(2, mac(3)));
        guests[1].send(&mut worker, &udp(2, mac(1)));
    }
    worker.test_turn(0);
    assert_eq!(worker.test_port(1).broken_rings, 1);
    assert_eq!(worker.test_port(3).broken_rings, 1, "once, however many frames met it");
    assert!(worker.test_port(1).tx[0].is_none());
    assert!(worker.test_port(3).rx[0].is_none());
    assert_eq!(guests[0].received().len(), 5, "the other ring of the same guest goes on");
    assert_eq!(worker.test_port(3).books.guest_rx.dropped(DropReason::PortDown).frames, 5);
    guests[0].start_ring(&mut worker, 1);
    worker.assert_closed();
}

#[test]
fn hostile_headers_and_chains_are_dropped_by_name_and_returned() {
    let mut worker = worker();
    let mut guest = Guest::start(&mut worker, 1);
    let frame = udp(1, mac(2));
    // NEEDS_CSUM and a TCP segment without the features; beyond the frame; zero size.
    let headers = [
        [1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0],
        [1, 1, 54, 0, 0, 0, 34, 0, 16, 0, 0, 0],
        [1, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    ];
    for header in headers {
        guest.send_with(&mut worker, header, &frame);
    }
    guest.send(&mut worker, &frame[..13]);
    guest.send(&mut worker, &frame[..20]);
    guest.tx.offer_chain(100, &[(u64::MAX - 5, 100, 0)]);
    worker.test_turn(0);
    assert_eq!(guest.returned(), 7);
    let sent = &worker.test_port(1).books.guest_tx;
    assert_eq!(sent.dropped(DropReason::BadOffload).frames, 4);
    assert_eq!(sent.dropped(DropReason::FrameShort).frames, 1);
    assert_eq!(sent.dropped(DropReason::BadHeaders).frames, 1);
    assert_eq!(sent.dropped(DropReason::BadChain).frames, 1);
    worker.assert_closed();
}

/// A chain that loops costs a thousand descriptors, a good one costs one.
pub(super) fn offer_loops(guest: &mut Guest, count: u16) {
    for head in 0..count {
        guest.tx.descriptor(head, (LOW, 1), NEXT, head);
        guest.tx.offer(head);
    }
}

#[test]
fn bad_chains_cost_their_sender_what_they_cost_the_worker() {
    let mut worker = worker();
    let mut guests = [1, 2].map(|id| Guest::start(&mut worker, id));
    guests[1].post(8);
    offer_loops(&mut guests[0], 200);
    guests[0].wake(&mut worker);
    guests[1].send(&mut worker, &udp(2, mac(2)));
    worker.test_serve(1);
    worker.test_serve(2);
    let mut chains = guests[0].returned() + guests[1].returned();
    chains -= 1;
    // 1,024 descriptors at several nanoseconds each, in a turn of 20 us.
    assert!((1..=5).contains(&chains), "{chains} chains in one turn");
    worker.assert_closed();
}
