//! Servers at a port that is slower than what they were promised.

use super::*;
use crate::{
    books::Owner,
    sample::{SERVER_A, SERVER_B, UP_A, vnic},
};
use wireonce_frame::segment::WireCost;
use wireonce_ledger::Amount;
use wireonce_shares::Terms;

const MBIT: u64 = 1_000_000;
const LEN: usize = 1_514;

fn police(reserved_bps: [u64; 2], promised_bps: [u64; 2]) -> Police {
    let mut police = Police::default();
    for (id, server) in [(1, SERVER_A), (2, SERVER_B)] {
        police.add(None, vnic(id), server, &Terms::default());
    }
    for ((server, reserved), promised) in
        [SERVER_A, SERVER_B].into_iter().zip(reserved_bps).zip(promised_bps)
    {
        police.reserve(server, reserved, 0);
        police.set_rate(server, promised, 0);
    }
    police
}

fn leaving(server: PeerId, len: usize) -> Leaving {
    let owner = Owner::vnic(vnic(server.0 as u64 + 1));
    let cost = WireCost { segments: 1, bytes: len as u64 + 24 };
    let out = Out { uplink: UP_A, vlan: None, vnet: [0; 12], flow: None, cost, to_group: false };
    let bytes = vec![0; len];
    let parts = [&bytes[..]];
    let frame = FrameRef::new(&parts, Offload::default());
    Leaving::new(&frame, out, Booking { owner, amount: Amount::frame(len, 1) })
}

/// Bytes of each server that a port takes, which has room for one frame each `gap_us`, while both
/// have always something to send.
fn served(police: &Police, lens: [usize; 2], gap_us: u64, frames: u64) -> [usize; 2] {
    let mut egress = Egress::default();
    let mut bytes = [0, 0];
    let refill = |egress: &mut Egress| {
        for (server, len) in [SERVER_A, SERVER_B].into_iter().zip(lens) {
            egress.push(server, leaving(server, len), Some(police), &mut |_| ());
        }
    };
    (0..100).for_each(|_| refill(&mut egress));
    for step in 1..=frames {
        refill(&mut egress);
        let frame = egress.next(Some(police), step * gap_us, |_| true).unwrap();
        let at = usize::from(frame.booking.owner == Owner::vnic(vnic(2)));
        bytes[at] += frame.len();
    }
    bytes
}

#[test]
fn a_full_port_serves_servers_by_what_they_were_promised_whatever_their_frames() {
    let police = police([0, 0], [750 * MBIT, 250 * MBIT]);
    for lens in [[LEN, LEN], [60, LEN], [LEN, 60], [60_000, 1_000]] {
        let [a, b] = served(&police, lens, 10, 20_000);
        assert!(a > b * 5 / 2 && a < b * 7 / 2, "{lens:?}: {a} {b}");
    }
}

#[test]
fn what_is_reserved_goes_first_on_a_port_that_lost_most_of_its_capacity() {
    // The port takes 100 Mbit/s of the 1,000 that were promised; 80 of them are reserved for one.
    let police = police([80 * MBIT, 0], [500 * MBIT, 500 * MBIT]);
    let gap_us = (LEN as u64 + 24) * 8 / 100;
    let [a, b] = served(&police, [LEN, LEN], gap_us, 20_000);
    let (a, all) = (a * 100, a + b);
    assert!(a > all * 86 && a < all * 94, "80 %, and half of the rest: {a} of {all}");
}

#[test]
fn a_server_alone_has_the_whole_port_and_one_with_nothing_is_not_starved() {
    let police = police([0, 0], [0, 100 * MBIT]);
    let [a, b] = served(&police, [LEN, LEN], 10, 50_000);
    assert!(a > 0 && b > a * 100, "{a} {b}");
    let mut egress = Egress::default();
    (0..10).for_each(|_| egress.push(SERVER_A, leaving(SERVER_A, LEN), Some(&police), &mut |_| ()));
    let mut count = 0;
    while egress.next(Some(&police), 0, |_| true).is_some() {
        count += 1;
    }
    assert!(count == 10 && egress.is_empty());
}

#[test]
fn nothing_goes_while_there_is_no_room_and_order_is_kept() {
    let police = police([0, 0], [MBIT, MBIT]);
    let mut egress = Egress::default();
    for len in 60..160 {
        egress.push(SERVER_A, leaving(SERVER_A, len), Some(&police), &mut |_| ());
    }
    assert!(egress.next(Some(&police), 0, |_| false).is_none());
    for len in 60..160 {
        assert_eq!(egress.next(Some(&police), 0, |_| true).unwrap().len(), len);
    }
}

#[test]
fn memory_is_bounded_and_who_has_more_waiting_than_it_was_promised_loses() {
    let police = police([0, 0], [750 * MBIT, 250 * MBIT]);
    let mut egress = Egress::default();
    let mut lost = [0, 0];
    let mut drop = |frame: Leaving| {
        lost[usize::from(frame.booking.owner == Owner::vnic(vnic(2)))] += 1;
    };
    for _ in 0..500 {
        egress.push(SERVER_A, leaving(SERVER_A, LEN), Some(&police), &mut drop);
    }
    for _ in 0..10_000 {
        egress.push(SERVER_B, leaving(SERVER_B, LEN), Some(&police), &mut drop);
    }
    assert!(egress.bytes <= BYTES_MAX);
    let [a, b] = lost;
    assert!(a == 0 && b > 7_000, "{a} {b}");
    assert_eq!(egress.drain().count(), 10_500 - b);
    assert!(egress.is_empty() && egress.bytes == 0);
}
