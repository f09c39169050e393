//! A rate that several workers share without a lock.
//!
//! ```text
//!   earned ─────────────┐   grows with the time: whoever looks claims the time since the last look
//!   taken ──────┐       │   what has been sent, and what is reserved
//!   ────────────┴───────┴─────▶ bits        taken < earned: a frame may go
//!                   └ at most a burst ┘
//! ```
//! Two numbers, moved without a lock. Over any time *t* all workers together take at
//! most *rate x t + burst*, and one frame, or one ticket for each of them, more, across changes of the rate.
//!
//! **Who has to wait draws a ticket**: it takes its bits in advance, behind all that is taken
//! already, and may go when so much is earned. So workers that wait have their turns in the
//! order in which they asked, whoever of them looks more often; one that is late keeps its
//! ticket, and holds up nobody.

use crate::burst_bits;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Microseconds in a second: bits are counted in millionths, so that no time is lost to rounding.
const PARTS: u64 = 1_000_000;
/// What is earned between two looks at most: far more than any burst and all that was overdrawn.
const EARNED_MAX: u64 = 1 << 60;

/// A token bucket for several workers with one clock.
#[derive(Debug, Default)]
pub struct Credit {
    rate_bps: AtomicU64,
    at_us: AtomicU64,
    /// In millionths of a bit; it wraps, and so does the next.
    earned: AtomicU64,
    taken: AtomicU64,
}

/// A place in the line, for some bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    from: u64,
    /// How many bits it is for.
    pub bits: u64,
}

impl Credit {
    /// A full bucket.
    #[must_use]
    pub fn new(rate_bps: u64, now_us: u64) -> Self {
        let credit = Self::default();
        credit.rate_bps.store(rate_bps, Relaxed);
        credit.at_us.store(now_us, Relaxed);
        credit.earned.store(scaled(burst_bits(rate_bps)), Relaxed);
        credit
    }

    /// The rate, in wire bits a second.
    #[must_use]
    pub fn rate_bps(&self) -> u64 {
        self.rate_bps.load(Relaxed)
    }

    /// Goes on at another rate from now on.
    pub fn set_rate(&self, rate_bps: u64, now_us: u64) {
        self.earn(now_us);
        self.rate_bps.store(rate_bps, Relaxed);
    }

    /// Takes `bits`, if there is any credit: one frame may overdraw it, and what comes later
    /// waits until that is earned.
    #[inline]
    pub fn take(&self, bits: u64, now_us: u64) -> bool {
        self.earn(now_us);
        let earned = self.earned.load(Relaxed);
        let go = |taken: u64| is_before(taken, earned).then(|| taken.wrapping_add(scaled(bits)));
        self.taken.fetch_update(Relaxed, Relaxed, go).is_ok()
    }

    /// Draws a ticket for `bits`.
    pub fn draw(&self, bits: u64, now_us: u64) -> Ticket {
        self.earn(now_us);
        Ticket { from: self.taken.fetch_add(scaled(bits), Relaxed), bits }
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
        let rate_bps = self.rate_bps();
        (rate_bps > 0).then(|| at_us.saturating_add(missing.div_ceil(rate_bps)))
    }

    /// Gives back what was taken, or what a ticket is for, and is not used after all. Tickets that
    /// were drawn meanwhile stay where they are.
    pub fn give_back(&self, bits: u64) {
        self.taken.fetch_sub(scaled(bits), Relaxed);
    }

    /// Claims the time since somebody last did. What is saved beyond a burst is lost.
    #[inline]
    fn earn(&self, now_us: u64) {
        let (at_us, rate_bps) = loop {
            let at_us = self.at_us.load(Relaxed);
            if now_us <= at_us {
                return;
            }
            let rate_bps = self.rate_bps.load(Relaxed);
            if self.at_us.compare_exchange_weak(at_us, now_us, Relaxed, Relaxed).is_ok() {
                break (at_us, rate_bps);
            }
        };
        let gain = u128::from(rate_bps) * u128::from(now_us - at_us);
        let gain = u64::try_from(gain).unwrap_or(EARNED_MAX).min(EARNED_MAX);
        let earned = self.earned.fetch_add(gain, Relaxed).wrapping_add(gain);
        let least = earned.wrapping_sub(scaled(burst_bits(rate_bps)));
        let forget = |taken: u64| is_before(taken, least).then_some(least);
        // Nothing to forget is the usual case.
        let _ = self.taken.fetch_update(Relaxed, Relaxed, forget);
    }
}

fn scaled(bits: u64) -> u64 {
    bits.saturating_mul(PARTS).min(EARNED_MAX)
}

/// Is `a` before `b`, on a circle?
fn is_before(a: u64, b: u64) -> bool {
    b.wrapping_sub(a).cast_signed() > 0
}

#[cfg(test)]
#[path = "credit_tests.rs"]
mod tests;
