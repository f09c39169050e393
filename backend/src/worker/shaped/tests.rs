//! A shaper with a clock of its own: rates, order, bounds, books.

use super::*;
use crate::shares::Allowance;
use proptest::prelude::*;
use wireonce_frame::{Offload, ecn::Ecn, sample::Sample};
use wireonce_ledger::Amount;

const MBIT: u64 = 1_000_000;

fn shaped(rate_bps: u64) -> (Shaped, Arc<VnicShare>) {
    let share = Arc::new(VnicShare::default());
    allow(&share, rate_bps);
    (Shaped::new(Arc::clone(&share), Arc::default(), 0), share)
}

fn allow(share: &VnicShare, rate_bps: u64) {
    allow_packets(share, rate_bps, None);
}

fn allow_packets(share: &VnicShare, rate_bps: u64, limit_packets_per_s: Option<u32>) {
    let (until_us, later_bps) = (u64::MAX, 0);
    share.allow(Allowance { rate_bps, until_us, later_bps, limit_packets_per_s }, 0);
}

/// Of a frame that is cut into segments of full size.
fn cost(len: usize) -> WireCost {
    let segments = u32::try_from(len.div_ceil(1_514)).unwrap();
    WireCost { segments, bytes: len as u64 + 24 }
}

fn frame(flow_hash: u32, len: usize, since_us: u64) -> Held {
    Held {
        bytes: vec![0; len],
        offload: Offload::default(),
        flow_hash,
        ecn: Ecn::NotEct,
        amount: Amount::frame(len, 1),
        cost: cost(len),
        since_us,
    }
}

/// A guest whose ring is never empty, with frames of one length.
#[derive(Default)]
struct Guest {
    /// Left the ring.
    taken: u64,
    sent: u64,
    dropped: u64,
    sent_bits: u64,
    sent_packets: u64,
}

impl Guest {
    fn turn(&mut self, shaped: &mut Shaped, len: usize, now_us: u64) {
        loop {
            let next = shaped.next(now_us, &mut |_| self.dropped += 1);
            let Some(cost) = next.map(|held| held.cost) else { break };
            shaped.done(Some(cost), now_us);
            self.sent += 1;
            self.sent_bits += cost.bits();
            self.sent_packets += u64::from(cost.segments);
        }
        for _ in 0..64 {
            match shaped.offer(len, now_us) {
                Offer::Send => {
                    shaped.sent(len, cost(len), now_us);
                    self.sent += 1;
                    self.sent_bits += cost(len).bits();
                    self.sent_packets += u64::from(cost(len).segments);
                }
                Offer::Hold => {
                    let flow = u32::try_from(self.taken % 5).unwrap();
                    shaped.hold(frame(flow, len, now_us), &mut |_| self.dropped += 1);
                }
                Offer::Wait => break,
            }
            self.taken += 1;
        }
    }
}

#[test]
fn a_broadcast_costs_a_guest_that_is_stopped_none_of_what_waits() {
    let (share, waker) = (Arc::new(VnicShare::default()), Arc::new(Waker::default()));
    let mut shaped = Shaped::new(share, waker, 0);
    loop {
        match shaped.offer(60_000, 100) {
            Offer::Send => shaped.sent(60_000, cost(60_000), 100),
            Offer::Hold => shaped.hold(frame(1, 60_000, 100), &mut |_| panic!("there is room")),
            Offer::Wait => break,
        }
    }
    // The ring is stopped. Copies of broadcasts cannot wait there: a few have room beyond.
    let (mut copies, mut dropped) = (0, Vec::new());
    for _ in 0..1_000 {
        assert_ne!(shaped.offer(60, 100), Offer::Send);
        shaped.hold(frame(2, 60, 100), &mut |frame| dropped.push(frame.bytes.len()));
        copies += 1;
    }
    assert!(dropped.len() < copies, "some have room");
    assert!(dropped.iter().all(|len| *len == 60), "only copies are dropped: {dropped:?}");
}

#[test]
fn a_guest_that_only_sends_to_its_home_has_its_rate_and_loses_nothing() {
    for (rate_bps, len) in [(10 * MBIT, 1_514), (100 * MBIT, 60), (1_000 * MBIT, 65_000)] {
        let (mut shaped, _share) = shaped(rate_bps);
        let mut guest = Guest::default();
        for step in 0..20_000 {
            guest.turn(&mut shaped, len, step * 100);
        }
        assert_eq!(guest.dropped, 0);
        let expected = 2 * rate_bps;
        let slack = burst_bits(rate_bps) + cost(len).bits() + rate_bps / 10_000;
        assert!(guest.sent_bits.abs_diff(expected) <= slack, "{rate_bps}: {}", guest.sent_bits);
        assert!(shaped.queue.bytes() <= BYTES_MAX);
        assert!(guest.taken - guest.sent < 4_096, "the rest is in the ring");
    }
}

#[test]
fn a_guest_with_a_limit_in_packets_has_it_loses_nothing_and_wants_no_more_bandwidth() {
    for (limit, len) in [(1, 60), (1, 65_000), (20_000, 60), (20_000, 65_000), (500_000, 60)] {
        let (mut shaped, share) = shaped(10_000 * MBIT);
        allow_packets(&share, 10_000 * MBIT, Some(limit));
        let mut guest = Guest::default();
        for step in 0..20_000 {
            guest.turn(&mut shaped, len, step * 100);
            if step == 10_000 {
                share.read();
            }
        }
        assert_eq!(guest.dropped, 0);
        let limit = u64::from(limit);
        let expected = 2 * limit + burst_packets(limit);
        let slack = u64::from(cost(len).segments) + limit / 10_000;
        let packets = guest.sent_packets;
        assert!(packets.abs_diff(expected) <= slack, "{limit}: {packets}, not {expected}");
        assert!(shaped.queue.bytes() <= BYTES_MAX, "the rest is in the ring");
        let meter = share.read();
        assert!(meter.packets_held && !meter.held, "{limit} {len}");
        assert!(shaped.next_us(2_000_000).is_some());
    }
}

#[test]
fn a_guest_at_its_limit_in_packets_that_talks_to_others_is_not_stopped() {
    let (mut shaped, share) = shaped(10_000 * MBIT);
    allow_packets(&share, 10_000 * MBIT, Some(100));
    let mut guest = Guest::default();
    for step in 0..20_000 {
        shaped.passed_by(step * 100);
        assert_ne!(shaped.offer(60, step * 100), Offer::Wait);
        guest.turn(&mut shaped, 60, step * 100);
    }
    assert!(guest.dropped > 1_000_000, "what does not fit is dropped by name");
    assert!((200..=265).contains(&guest.sent_packets), "{}", guest.sent_packets);
}

/// What a frame takes of a fabric port.
fn port_bits(len: usize) -> u64 {
    crate::shares::fabric_bits(len)
}

#[test]
fn a_guest_at_its_part_of_the_port_has_it_loses_nothing_and_wants_no_larger_lease() {
    for (rate_bps, len) in [(10 * MBIT, 1_514), (100 * MBIT, 60), (1_000 * MBIT, 65_000)] {
        let (mut shaped, share) = shaped(10_000 * MBIT);
        share.port.allow(rate_bps);
        let mut guest = Guest::default();
        for step in 0..20_000 {
            guest.turn(&mut shaped, len, step * 100);
            shaped.may_go_on(step * 100);
            if step == 10_000 {
                share.read();
            }
        }
        assert_eq!((guest.dropped, guest.taken), (0, guest.sent), "the ring waits, no queue");
        let sent_bits = guest.sent * port_bits(len);
        let slack = burst_bits(rate_bps) + port_bits(len) + rate_bps / 10_000;
        assert!(sent_bits.abs_diff(2 * rate_bps) <= slack, "{rate_bps}: {sent_bits}");
        let meter = share.read();
        assert!(!meter.held && !meter.packets_held && share.in_use(0).port_held);
        assert!(shaped.next_us(2_000_000).is_some_and(|us| us <= 2_000_000 + LOOK_MAX_US));
    }
}

#[test]
fn frames_for_other_servers_wait_for_the_port_in_the_ring_and_copies_go_a_little_in_advance() {
    let (mut shaped, share) = shaped(10_000 * MBIT);
    share.port.allow(10 * MBIT);
    let (mut now_us, mut frames) = (0, 0);
    while now_us < 2_000_000 {
        while shaped.may_pass_by(true, now_us) {
            shaped.passed_port(1_514, now_us);
            frames += 1;
        }
        assert!(!shaped.may_go_on(now_us), "its ring waits");
        let next_us = shaped.next_us(now_us).expect("it looks again");
        assert!(next_us > now_us && next_us <= now_us + LOOK_MAX_US);
        now_us = next_us;
    }
    let sent_bits = frames * port_bits(1_514);
    assert!(sent_bits.abs_diff(20 * MBIT) <= burst_bits(10 * MBIT) + 50_000, "{sent_bits}");
    assert_eq!(shaped.offer(60, now_us - 1), Offer::Wait, "and so does what is for the home");
    // A broadcast's copies cannot wait there, and are few.
    let mut copies = 0;
    while shaped.may_pass_by(false, now_us) {
        shaped.passed_port(1_514, now_us);
        copies += 1;
    }
    assert!((1..=6).contains(&copies), "{copies}");
    share.port.open();
    assert!(shaped.may_go_on(now_us) && shaped.may_pass_by(true, now_us));
    assert_eq!((shaped.offer(60, now_us), shaped.next_us(now_us)), (Offer::Send, None));
}

#[test]
fn what_waits_for_its_lease_takes_its_part_of_the_port_when_it_goes() {
    let (mut shaped, share) = shaped(MBIT);
    share.port.allow(100 * MBIT);
    let mut guest = Guest::default();
    for step in 0..10_000 {
        guest.turn(&mut shaped, 1_514, step * 100);
        if step == 5_000 {
            // After the burst.
            share.port.read();
        }
    }
    let slack = burst_bits(MBIT) + 2 * cost(1_514).bits();
    assert!(guest.sent_bits.abs_diff(MBIT) <= slack, "the lease is what holds it back");
    assert!(share.read().held && !share.in_use(0).port_held);
    // Next the port is what is short.
    allow(&share, 100 * MBIT);
    share.port.allow(2 * MBIT);
    guest.turn(&mut shaped, 1_514, 1_000_100);
    share.port.read();
    let before = guest.sent;
    for step in 10_002..20_000 {
        guest.turn(&mut shaped, 1_514, step * 100);
        if step == 15_000 {
            // After the burst, of which the lease lets through less at a time than the port.
            share.read();
        }
    }
    let bits = (guest.sent - before) * port_bits(1_514);
    let slack = burst_bits(2 * MBIT) + 2 * port_bits(1_514);
    assert!(bits.abs_diff(2 * MBIT) <= slack, "{bits}");
    assert!(!share.read().held && share.in_use(0).port_held);
    assert_eq!(guest.dropped, 0);
}

#[test]
fn a_limit_in_packets_changes_while_frames_wait() {
    let (mut shaped, share) = shaped(10_000 * MBIT);
    let mut guest = Guest::default();
    let mut second = |from_s: u64| {
        let before = guest.sent_packets;
        for now_us in (from_s * 1_000_000..(from_s + 1) * 1_000_000).step_by(100) {
            guest.turn(&mut shaped, 60, now_us);
        }
        guest.sent_packets - before
    };
    assert!(second(0) >= 640_000, "all that the ring has");
    allow_packets(&share, 10_000 * MBIT, Some(1_000));
    let sent = second(1);
    assert!((1_000..=1_065).contains(&sent), "{sent}");
    allow_packets(&share, 10_000 * MBIT, Some(4_000));
    let sent = second(2);
    assert!((3_999..=4_001).contains(&sent), "{sent}");
    allow_packets(&share, 10_000 * MBIT, None);
    assert!(second(3) >= 640_000);
    assert_eq!(guest.dropped, 0);
}

#[test]
fn a_guest_that_talks_to_others_is_not_stopped_and_drops() {
    let (mut shaped, _share) = shaped(10 * MBIT);
    let mut guest = Guest::default();
    for step in 0..20_000 {
        shaped.passed_by(step * 100);
        assert_ne!(shaped.offer(1_514, step * 100), Offer::Wait);
        guest.turn(&mut shaped, 1_514, step * 100);
    }
    assert!(guest.dropped > 1_000);
    assert!(guest.sent_bits.abs_diff(20 * MBIT) <= 2 * MBIT);
    let waiting = guest.taken - guest.sent - guest.dropped;
    assert!(waiting * 1_514 <= BYTES_MAX as u64, "in = out + drops + what waits");
    // Long after the last of them, it may be stopped again.
    assert!(!shaped.may_stop(2_000_000) && shaped.may_stop(12_000_000));
}

#[test]
fn a_change_of_the_rate_holds_from_the_next_frame_on() {
    let (mut shaped, share) = shaped(MBIT);
    let mut guest = Guest::default();
    (0..1_000).for_each(|step| guest.turn(&mut shaped, 1_000, step * 1_000));
    allow(&share, 200 * MBIT);
    let before = guest.sent_bits;
    (1_000..2_000).for_each(|step| guest.turn(&mut shaped, 1_000, step * 1_000));
    let slack = 2 * burst_bits(200 * MBIT) + 200_000;
    assert!((guest.sent_bits - before).abs_diff(200 * MBIT) <= slack);
}

#[test]
fn another_share_takes_over_what_waits_and_a_home_that_is_not_shaped_ends_the_shaper() {
    let (mut shaped, before) = shaped(MBIT);
    (0..50).for_each(|_| shaped.hold(frame(1, 1_514, 0), &mut |_| panic!("there is room")));
    let (_, after) = self::shaped(MBIT);
    shaped.use_share(Arc::clone(&after));
    assert_eq!((before.in_use(0).queued_bytes, after.in_use(0).queued_bytes), (0, 50 * 1_642));
    assert!(!shaped.is_over());
    let open = u64::MAX;
    let open = Allowance { rate_bps: open, until_us: open, later_bps: open, ..Default::default() };
    after.allow(open, 0);
    assert!(!shaped.is_over(), "something waits");
    for now_us in 1..10 {
        while let Some(cost) = shaped.next(now_us, &mut |_| ()).map(|held| held.cost) {
            shaped.done(Some(cost), now_us);
        }
    }
    assert!(shaped.is_over());
}

#[test]
fn a_sparse_flow_overtakes_a_bulk_flow() {
    let (mut shaped, _share) = shaped(10 * MBIT);
    for _ in 0..100 {
        shaped.hold(frame(1, 1_514, 0), &mut |_| panic!("there is room"));
    }
    shaped.hold(frame(2, 100, 0), &mut |_| panic!("there is room"));
    let mut order = Vec::new();
    for step in 0..1_000 {
        while let Some((flow, cost)) = shaped
            .next(step * 10_000, &mut |_| panic!("nothing is late"))
            .map(|held| (held.flow_hash, held.cost))
        {
            order.push(flow);
            shaped.done(Some(cost), step * 10_000);
        }
    }
    assert_eq!(order.len(), 101);
    assert!(order.iter().position(|flow| *flow == 2).unwrap() < 4);
}

#[test]
fn the_longest_flow_makes_room() {
    let (mut shaped, _share) = shaped(10 * MBIT);
    shaped.passed_by(0);
    shaped.hold(frame(7, 1_000, 0), &mut |_| panic!("there is room"));
    let mut dropped = Vec::new();
    for _ in 0..1_000 {
        shaped.hold(frame(1, 1_514, 0), &mut |held| dropped.push(held.flow_hash));
    }
    assert!(dropped.len() > 800);
    assert!(dropped.iter().all(|flow| *flow == 1));
}

#[test]
fn a_frame_that_waited_is_marked_if_it_can_be() {
    let sample = |ecn: Ecn| Sample::tcp4().traffic_class(ecn.bits()).build();
    for (ecn, waited_us, marked) in [
        (Ecn::Ect0, MARK_US + 1, Ecn::Ce),
        (Ecn::Ect1, MARK_US + 1, Ecn::Ce),
        (Ecn::Ect0, MARK_US, Ecn::Ect0),
        (Ecn::NotEct, 1_000_000, Ecn::NotEct),
    ] {
        let (mut shaped, _share) = shaped(10 * MBIT);
        let bytes = sample(ecn);
        let held = Held { bytes, ecn, ..frame(1, 0, 0) };
        shaped.hold(held, &mut |_| panic!("there is room"));
        let out = shaped.next(waited_us, &mut |_| panic!("nothing is late")).unwrap();
        assert_eq!(out.bytes, sample(marked), "{ecn:?} {waited_us}");
    }
}

#[test]
fn what_waits_is_looked_at_soon_but_not_for_every_frame() {
    let (mut shaped, _share) = shaped(0);
    assert_eq!(shaped.next_us(500), None);
    shaped.hold(frame(1, 1_000, 0), &mut |_| ());
    assert_eq!(shaped.next_us(500), Some(500 + LOOK_MIN_US), "the burst is not used up");
    shaped.bucket.take(1 << 40, 500);
    assert_eq!(shaped.next_us(500), Some(500 + LOOK_MAX_US), "a rate of nothing may rise");
}

proptest! {
    #[test]
    fn whatever_happens_the_bits_stay_within_rate_and_burst_and_the_books_close(
        steps in prop::collection::vec(
            (0..5_000_u64, 60..66_000_usize, any::<bool>(), 0..4_u32, prop::option::of(0..1_000_u64)),
            1..300,
        ),
        limit in prop::option::of(1..20_000_u32),
    ) {
        let (mut shaped, share) = shaped(100 * MBIT);
        allow_packets(&share, 100 * MBIT, limit);
        let (mut now_us, mut rate_bps) = (0, 100 * MBIT);
        let (mut came, mut sent, mut dropped) = (0_u64, 0_u64, 0_u64);
        let (mut sent_bits, mut allowed, mut largest) = (0_u64, burst_bits(100 * MBIT), 0);
        for (wait_us, len, elsewhere, flow, rate) in steps {
            now_us += wait_us;
            allowed += rate_bps * wait_us / 1_000_000 + 1;
            if let Some(mbit) = rate {
                rate_bps = mbit * MBIT;
                // What is there is kept up to the new burst.
                allow_packets(&share, rate_bps, limit);
                shaped.has_credit(now_us);
                allowed += burst_bits(rate_bps);
            }
            if elsewhere {
                shaped.passed_by(now_us);
            }
            loop {
                let next = shaped.next(now_us, &mut |_| dropped += 1);
                let Some(cost) = next.map(|held| held.cost) else { break };
                shaped.done(Some(cost), now_us);
                sent += 1;
                sent_bits += cost.bits();
                largest = largest.max(cost.bits());
            }
            match shaped.offer(len, now_us) {
                Offer::Send => {
                    came += 1;
                    sent += 1;
                    sent_bits += cost(len).bits();
                    largest = largest.max(cost(len).bits());
                    shaped.sent(len, cost(len), now_us);
                }
                Offer::Hold => {
                    came += 1;
                    shaped.hold(frame(flow, len, now_us), &mut |_| dropped += 1);
                }
                Offer::Wait => prop_assert!(!elsewhere),
            }
            prop_assert!(shaped.queue.bytes() <= BYTES_MAX.max(len + 256));
            if let Some(limit) = limit.map(u64::from) {
                let most = limit * now_us / 1_000_000 + 1 + burst_packets(limit) + 64;
                prop_assert!(share.read().packets <= most, "{} of {most}", share.read().packets);
            }
            prop_assert!(sent_bits <= allowed + largest, "{sent_bits} {allowed}");
        }
        let mut waiting = 0;
        while shaped.queue.evict().is_some() {
            waiting += 1;
        }
        prop_assert_eq!(came, sent + dropped + waiting);
        prop_assert_eq!(shaped.queue.bytes(), 0);
    }
}
