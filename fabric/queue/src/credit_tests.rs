//! Workers at one credit, with a clock of their own.

use super::*;
use crate::{burst_bits, burst_packets};
use proptest::prelude::*;
use std::{sync::Arc, thread};

const MBIT: u64 = 1_000_000;
/// A full frame, in bits.
const FRAME: u64 = 12_304;

/// A worker that always has something to send, in tickets.
#[derive(Default)]
struct Waiter {
    ticket: Option<Ticket>,
    sent_bits: u64,
}

impl Waiter {
    fn look(&mut self, credit: &Credit, bits: u64, now_us: u64) {
        loop {
            let ticket = *self.ticket.get_or_insert_with(|| credit.draw(bits, now_us));
            if !credit.is_due(&ticket, now_us) {
                return;
            }
            self.sent_bits += bits;
            self.ticket = None;
        }
    }
}

#[test]
fn a_rate_is_exact_for_one_who_never_waits_and_for_one_who_always_does() {
    for rate_bps in [1_003, MBIT, 999_999_937] {
        let credit = Credit::new(rate_bps, 0);
        let mut taken = 0;
        for now_us in (0..10_000_000).step_by(10) {
            taken += if credit.take(FRAME, now_us) { FRAME } else { 0 };
        }
        let expected = 10 * rate_bps + burst_bits(rate_bps);
        let slack = FRAME + rate_bps / 100_000;
        assert!(taken.abs_diff(expected) <= slack, "{rate_bps}: {taken}");

        let (credit, mut waiter) = (Credit::new(rate_bps, 0), Waiter::default());
        (0..10_000_000).step_by(200).for_each(|now_us| waiter.look(&credit, FRAME, now_us));
        let slack = FRAME + rate_bps / 5_000;
        assert!(waiter.sent_bits.abs_diff(expected) <= slack, "{rate_bps}: {}", waiter.sent_bits);
    }
}

#[test]
fn packets_have_their_rate_and_a_super_frame_s_burst() {
    for rate in [1, 63, 20_000, 90_000] {
        let credit = Credit::of_packets(rate, 0);
        let seconds = 20;
        let taken = (0..seconds * 100_000).filter(|step| credit.take(1, step * 10)).count() as u64;
        let expected = seconds * rate + burst_packets(rate);
        assert!(taken.abs_diff(expected) <= 1 + rate / 100_000, "{rate}: {taken} of {expected}");
    }
    let (credit, mut waiter) = (Credit::of_packets(1, 0), Waiter::default());
    (0..100).for_each(|s| waiter.look(&credit, 45, s * 1_000_000));
    assert_eq!(waiter.sent_bits, 4 * 45, "64 at once, 99 later, and the last overdraws");
}

#[test]
fn a_long_pause_earns_a_burst_and_pays_what_was_overdrawn() {
    let credit = Credit::new(100_000 * MBIT, 0);
    assert!(credit.take(1 << 36, 0), "one frame may overdraw");
    assert!(!credit.take(1, 1));
    let year_us = 31_536_000_000_000;
    for year in 1..4 {
        let mut frames = 0;
        while credit.take(FRAME, year * year_us) {
            frames += 1;
        }
        assert_eq!(frames, burst_bits(100_000 * MBIT).div_ceil(FRAME), "year {year}");
    }
}

#[test]
fn who_looks_less_often_has_the_same_as_long_as_its_ticket_is_not_due() {
    let credit = Credit::new(100 * MBIT, 0);
    let (mut eager, mut lazy) = (Waiter::default(), Waiter::default());
    for now_us in 0..1_000_000 {
        eager.look(&credit, 50_000, now_us);
        if now_us % 250 == 0 {
            lazy.look(&credit, 50_000, now_us);
        }
    }
    let (eager, lazy) = (eager.sent_bits, lazy.sent_bits);
    assert!(lazy > 45 * MBIT && eager > 45 * MBIT, "{eager} {lazy}");
    assert!(eager + lazy >= 100 * MBIT, "none of it is wasted");
}

#[test]
fn who_has_a_ticket_and_stalls_holds_up_nobody_and_keeps_it() {
    let credit = Credit::new(100 * MBIT, 0);
    let (mut busy, mut stalled) = (Waiter::default(), Waiter::default());
    // The burst first.
    busy.look(&credit, FRAME, 0);
    stalled.look(&credit, FRAME, 0);
    (0..1_000).for_each(|ms| busy.look(&credit, FRAME, ms * 1_000));
    assert!(busy.sent_bits > 99 * MBIT);
    let before = stalled.sent_bits;
    stalled.look(&credit, FRAME, 999_000);
    assert_eq!(stalled.sent_bits, before + FRAME);
}

#[test]
fn who_does_not_wait_does_not_overtake_who_does() {
    let credit = Credit::new(MBIT, 0);
    while credit.take(FRAME, 0) {}
    let ticket = credit.draw(FRAME, 0);
    let due_us = credit.due_us(&ticket).unwrap();
    assert!(!credit.is_due(&ticket, due_us - 1));
    assert!(!credit.take(1, due_us), "behind the ticket");
    assert!(credit.is_due(&ticket, due_us));
    credit.give_back(ticket.amount);
    assert!(credit.take(1, due_us), "it was given back");
}

#[test]
fn a_raised_rate_brings_tickets_forward() {
    let credit = Credit::new(0, 0);
    while credit.take(FRAME, 0) {}
    let ticket = credit.draw(FRAME, 0);
    assert_eq!(credit.due_us(&ticket), None);
    credit.set_rate(100 * MBIT, 1_000_000);
    assert!(!credit.is_due(&ticket, 1_000_000), "nothing was earned before");
    assert!(credit.is_due(&ticket, 1_000_200));
}

#[test]
fn threads_take_no_more_together_than_one_alone() {
    let rate_bps = 50 * MBIT;
    let credit = Arc::new(Credit::new(rate_bps, 0));
    let take = |credit: Arc<Credit>| {
        move || (0..400_000_u64).filter(|step| credit.take(FRAME, step / 2)).count() as u64 * FRAME
    };
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(take(Arc::clone(&credit)))).collect();
    let taken: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let most = rate_bps / 5 + burst_bits(rate_bps) + FRAME;
    assert!(taken <= most && taken >= most - 3 * FRAME, "{taken} of {most}");
}

/// A worker that waits: a ticket, and what it has of earlier ones.
#[derive(Default)]
struct Purse {
    ticket: Option<Ticket>,
    bits: u64,
}

impl Purse {
    /// Returns what it sent of a frame of `bits`: all or nothing.
    fn send(&mut self, credit: &Credit, bits: u64, now_us: u64) -> u64 {
        if let Some(due) = self.ticket.take_if(|ticket| credit.is_due(ticket, now_us)) {
            self.bits += due.amount;
        }
        if self.bits >= bits {
            self.bits -= bits;
            return bits;
        }
        self.ticket.get_or_insert_with(|| credit.draw(bits - self.bits, now_us));
        0
    }

    /// Has nothing to send any more.
    fn give_up(&mut self, credit: &Credit) {
        credit.give_back(self.bits + self.ticket.take().map_or(0, |ticket| ticket.amount));
        self.bits = 0;
    }
}

/// Time that passes, a worker (the last one never waits), a frame, whether the worker gives up
/// after it, another rate.
type Step = (u64, usize, u64, bool, Option<u64>);

fn any_step() -> impl Strategy<Value = Step> {
    let rate = prop::option::weighted(0.2, 0..2_000_u64);
    (0..3_000_u64, 0..4_usize, 672..600_000_u64, prop::bool::weighted(0.1), rate)
}

proptest! {
    #[test]
    fn never_more_than_rates_times_times_and_a_burst_whatever_the_workers_do(
        start_us in 0..u64::MAX / 2,
        wrapped: u64,
        steps in prop::collection::vec(any_step(), 1..300),
    ) {
        let credit = Credit::new(100 * MBIT, start_us);
        // The counters may stand anywhere on their circle.
        credit.earned.fetch_add(wrapped, Relaxed);
        credit.taken.fetch_add(wrapped, Relaxed);
        let mut purses: [Purse; 3] = Default::default();
        let (mut now_us, mut rate_bps) = (start_us, 100 * MBIT);
        let (mut sent, mut allowed) = (0_u64, burst_bits(100 * MBIT));
        for (wait_us, worker, bits, gives_up, rate) in steps {
            now_us += wait_us;
            allowed += rate_bps * wait_us / 1_000_000 + 1;
            if let Some(mbit) = rate {
                rate_bps = mbit * MBIT;
                credit.set_rate(rate_bps, now_us);
            }
            match purses.get_mut(worker) {
                None => sent += if credit.take(bits, now_us) { bits } else { 0 },
                Some(purse) => {
                    sent += purse.send(&credit, bits, now_us);
                    if gives_up {
                        purse.give_up(&credit);
                    }
                }
            }
            prop_assert!(sent <= allowed + 4 * 600_000, "{sent} of {allowed}");
        }
    }
}
