//! What a vNIC's worker and the shares thread tell each other: atomics, no lock.
//!
//! ```text
//!   worker                                     shares thread
//!     ├── served bits and frames, held back ──▶  meter
//!     ◀── rate, until when, and the rate after ─┤  split of the lease
//! ```
//! The numbers are written one by one. Whoever reads between two of them sees a rate with the
//! expiry of the one before, for one turn at most.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use wireonce_frame::segment::WireCost;

/// One vNIC whose home is shaped.
#[derive(Debug, Default)]
pub(crate) struct VnicShare {
    served_bits: AtomicU64,
    packets: AtomicU64,
    held: AtomicBool,
    held_us: AtomicU64,
    queued_bytes: AtomicU64,
    rate_bps: AtomicU64,
    until_us: AtomicU64,
    later_bps: AtomicU64,
    demand_bps: AtomicU64,
}

/// What the worker has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meter {
    pub(crate) served_bits: u64,
    pub(crate) packets: u64,
    /// Something had to wait since the last look.
    pub(crate) held: bool,
}

/// What a vNIC may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Allowance {
    pub(crate) rate_bps: u64,
    /// Until when.
    pub(crate) until_us: u64,
    /// What it may send after that.
    pub(crate) later_bps: u64,
}

/// A vNIC's bandwidth, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct VnicUse {
    pub(crate) rate_bps: u64,
    /// `u64::MAX`: more than it may send.
    pub(crate) demand_bps: u64,
    pub(crate) held: bool,
    /// All the time that it was, as far as ticks saw it.
    pub(crate) held_us: u64,
    pub(crate) queued_bytes: u64,
    pub(crate) served_bits: u64,
}

impl VnicShare {
    /// The worker sent a frame. Only the vNIC's worker calls it.
    #[inline]
    pub(crate) fn served(&self, cost: WireCost) {
        let add = |to: &AtomicU64, n: u64| to.store(to.load(Relaxed).wrapping_add(n), Relaxed);
        add(&self.served_bits, cost.bits());
        add(&self.packets, cost.segments.into());
    }

    /// A frame waits, or could not be taken from the guest; so many bytes wait.
    pub(crate) fn hold(&self, queued_bytes: usize) {
        self.held.store(true, Relaxed);
        self.queued_bytes.store(queued_bytes as u64, Relaxed);
    }

    /// Nothing waits any more.
    pub(crate) fn relieve(&self) {
        self.queued_bytes.store(0, Relaxed);
    }

    /// What the vNIC may send at this moment, in wire bits a second.
    #[inline]
    pub(crate) fn allowed_bps(&self, now_us: u64) -> u64 {
        let in_force = now_us < self.until_us.load(Relaxed);
        if in_force { self.rate_bps.load(Relaxed) } else { self.later_bps.load(Relaxed) }
    }

    /// What was counted since the last call, of which there is one at a time.
    pub(super) fn read(&self) -> Meter {
        let waits = self.queued_bytes.load(Relaxed) > 0;
        Meter {
            served_bits: self.served_bits.load(Relaxed),
            packets: self.packets.load(Relaxed),
            held: self.held.swap(waits, Relaxed) || waits,
        }
    }

    /// It was held back for so long, for people. Only the shares thread calls it.
    pub(super) fn note_held(&self, us: u64) {
        self.held_us.store(self.held_us.load(Relaxed).saturating_add(us), Relaxed);
    }

    pub(crate) fn allow(&self, allowance: Allowance, demand_bps: u64) {
        self.later_bps.store(allowance.later_bps, Relaxed);
        self.rate_bps.store(allowance.rate_bps, Relaxed);
        self.until_us.store(allowance.until_us, Relaxed);
        self.demand_bps.store(demand_bps, Relaxed);
    }

    /// True if the home is not shaped any more.
    pub(crate) fn is_open(&self) -> bool {
        self.later_bps.load(Relaxed) == u64::MAX
    }

    pub(crate) fn in_use(&self, now_us: u64) -> VnicUse {
        VnicUse {
            rate_bps: self.allowed_bps(now_us),
            demand_bps: self.demand_bps.load(Relaxed),
            held: self.held.load(Relaxed),
            held_us: self.held_us.load(Relaxed),
            queued_bytes: self.queued_bytes.load(Relaxed),
            served_bits: self.served_bits.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_ends_with_the_lease() {
        let share = VnicShare::default();
        assert_eq!(share.allowed_bps(0), 0);
        share.allow(Allowance { rate_bps: 900, until_us: 50, later_bps: 10 }, 7);
        assert_eq!([0, 49, 50, 100].map(|us| share.allowed_bps(us)), [900, 900, 10, 10]);
    }

    #[test]
    fn a_vnic_is_held_back_for_as_long_as_anything_waits() {
        let share = VnicShare::default();
        let held = || share.read().held;
        assert!(!held());
        share.hold(100);
        assert!(held() && held());
        share.relieve();
        assert!(held(), "it was, since the last look");
        assert!(!held());
        share.hold(0);
        assert!(held() && !held());
    }
}
