//! A rate that several workers share without a lock.
//!
//! ```text
//!   earned ─────────────┐   grows with the time: whoever looks claims the time since the last look
//!   taken ──────┐       │   what has been sent, and what is reserved
//!   ────────────┴───────┴─────▶ bits, or packets   taken < earned: a frame may go
//!                   └ at most a burst ┘
//! ```
//! Two numbers, moved without a lock. Over any time *t* all workers together take at
//! most *rate x t + burst*, and one frame, or one ticket for each of them, more, across changes of the rate.
//!
//! **Who has to wait draws a ticket**: it takes its amount in advance, behind all that is taken
//! already, and may go when so much is earned. So workers that wait have their turns in the
//! order in which they asked, whoever of them looks more often; one that is late keeps its
//! ticket, and holds up nobody.

use crate::{BURST_BITS_MIN, BURST_PACKETS_MIN, burst};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Microseconds in a second: all is counted in millionths, so that no time is lost to rounding.
const PARTS: u64 = 1_000_000;
/// What is earned between two looks at most: far more than any burst and all that was overdrawn.
const EARNED_MAX: u64 = 1 << 60;

/// A token bucket for several workers with one clock: of wire bits, or of packets.
#[derive(Debug)]
pub struct Credit {
    /// A second.
    rate: AtomicU64,
    /// What may go at once, at any rate.
    burst_min: u64,
    at_us: AtomicU64,
    /// In millionths; it wraps, and so does the next.
    earned: AtomicU64,
    taken: AtomicU64,
}

/// A place in the line, for some bits or packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    from: u64,
    /// How many it is for.
    pub amount: u64,
}

impl Credit {
    /// A full bucket of wire bits, at bits a second.
    #[must_use]
    pub fn new(rate_bps: u64, now_us: u64) -> Self {
        Self::with_burst(rate_bps, BURST_BITS_MIN, now_us)
    }

    /// A full bucket of packets, at packets a second.
    #[must_use]
    pub fn of_packets(packets_per_s: u64, now_us: u64) -> Self {
        Self::with_burst(packets_per_s, BURST_PACKETS_MIN, now_us)
    }

    fn with_burst(rate: u64, burst_min: u64, now_us: u64) -> Self {
        Self {
            rate: AtomicU64::new(rate),
            burst_min,
            at_us: AtomicU64::new(now_us),
            earned: AtomicU64::new(scaled(burst(rate, burst_min))),
            taken: AtomicU64::new(0),
        }
    }

    /// The rate, a second.
    #[inline]
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.rate.load(Relaxed)
    }

    /// Goes on at another rate from now on.
    pub fn set_rate(&self, rate: u64, now_us: u64) {
        self.earn(now_us);
        self.rate.store(rate, Relaxed);
    }

    /// Takes `amount`, if there is any credit: one frame may overdraw it, and what comes later
    /// waits until that is earned.
    #[inline]
    pub fn take(&self, amount: u64, now_us: u64) -> bool {
        self.earn(now_us);
        let earned = self.earned.load(Relaxed);
        let go = |taken: u64| is_before(taken, earned).then(|| taken.wrapping_add(scaled(amount)));
        self.taken.fetch_update(Relaxed, Relaxed, go).is_ok()
    }

    /// Draws a ticket for `amount`.
    pub fn draw(&self, amount: u64, now_us: u64) -> Ticket {
        self.earn(now_us);
        Ticket { from: self.taken.fetch_add(scaled(amount), Relaxed), amount }
    }

    /// May the holder of the ticket go?
    pub fn is_due(&self, ticket: &Ticket, now_us: u64) -> bool {
        self.earn(now_us);
        is_before(ticket.from, self.earned.load(Relaxed))
    }

    /// When a ticket will be due, if the rate stays: `None` if never.
    #[must_use]
    pub fn due_us(&self, ticket: &Ticket) -> Option<u64> {
        let (earned, at_us) = (self.earned.load(Relaxed), self.at_us.load(Relaxed));
        if is_before(ticket.from, earned) {
            return Some(at_us);
        }
        let missing = ticket.from.wrapping_sub(earned).saturating_add(1);
        let rate = self.rate();
        (rate > 0).then(|| at_us.saturating_add(missing.div_ceil(rate)))
    }

    /// Gives back what was taken, or what a ticket is for, and is not used after all. Tickets that
    /// were drawn meanwhile stay where they are.
    pub fn give_back(&self, amount: u64) {
        self.taken.fetch_sub(scaled(amount), Relaxed);
    }

    /// Claims the time since somebody last did. What is saved beyond a burst is lost.
    #[inline]
    fn earn(&self, now_us: u64) {
        let (at_us, rate) = loop {
            let at_us = self.at_us.load(Relaxed);
            if now_us <= at_us {
                return;
            }
            let rate = self.rate();
            if self.at_us.compare_exchange_weak(at_us, now_us, Relaxed, Relaxed).is_ok() {
                break (at_us, rate);
            }
        };
        let gain = u128::from(rate) * u128::from(now_us - at_us);
        let gain = u64::try_from(gain).unwrap_or(EARNED_MAX).min(EARNED_MAX);
        let earned = self.earned.fetch_add(gain, Relaxed).wrapping_add(gain);
        let least = earned.wrapping_sub(scaled(burst(rate, self.burst_min)));
        let forget = |taken: u64| is_before(taken, least).then_some(least);
        // Nothing to forget is the usual case.
        let _ = self.taken.fetch_update(Relaxed, Relaxed, forget);
    }
}

fn scaled(amount: u64) -> u64 {
    amount.saturating_mul(PARTS).min(EARNED_MAX)
}

/// Is `a` before `b`, on a circle?
fn is_before(a: u64, b: u64) -> bool {
    b.wrapping_sub(a).cast_signed() > 0
}

#[cfg(test)]
#[path = "credit_tests.rs"]
mod tests;
