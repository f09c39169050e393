//! What a vNIC's worker and the shares thread tell each other: atomics, no lock.
//!
//! ```text
//!   worker                                     shares thread
//!     ├── served bits and packets, held back ─▶  meter
//!     ◀── rate, until when, and the rate after ─┤  split of the lease
//!     ◀── limit in packets ─────────────────────┤  policy
//!     ◀─▶ the same for the server's fabric port ─┤  division of the port (`port_share`)
//! ```
//! The numbers are written one by one. Whoever reads between two of them sees a rate with the
//! expiry of the one before, for one turn at most.

use super::port_share::{PortShare, Toward};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use wireonce_frame::segment::WireCost;

/// One vNIC whose home is shaped, or whose server's fabric port is divided.
#[derive(Debug, Default)]
pub(crate) struct VnicShare {
    served_bits: AtomicU64,
    packets: AtomicU64,
    held: AtomicBool,
    held_us: AtomicU64,
    /// The same for the limit in packets, whatever the rate.
    packets_held: AtomicBool,
    packets_held_us: AtomicU64,
    /// What that is that waits now waits for: [`WaitsFor`] as a number.
    waits_for: AtomicU8,
    queued_bytes: AtomicU64,
    rate_bps: AtomicU64,
    until_us: AtomicU64,
    later_bps: AtomicU64,
    demand_bps: AtomicU64,
    /// Packets a second; 0: any number.
    limit_packets: AtomicU32,
    /// Its part of the fabric port.
    pub(crate) port: PortShare,
}

/// What a frame waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// The vNIC's rate.
    Bits,
    /// Its limit in packets: more bandwidth would be of no use.
    Packets,
    /// Its part of the server's fabric port: a larger lease would be of no use.
    Port,
}

impl WaitsFor {
    fn number(self) -> u8 {
        match self {
            Self::Bits => 0,
            Self::Packets => 1,
            Self::Port => 2,
        }
    }
}

/// What the worker has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meter {
    pub(crate) served_bits: u64,
    pub(crate) packets: u64,
    /// Something had to wait for the rate since the last look.
    pub(crate) held: bool,
    /// Something had to wait for the limit in packets.
    pub(crate) packets_held: bool,
}

/// What a vNIC may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Allowance {
    pub(crate) rate_bps: u64,
    /// Until when.
    pub(crate) until_us: u64,
    /// What it may send after that.
    pub(crate) later_bps: u64,
    /// Packets a second that it may send at any time; `None`: any number.
    pub(crate) limit_packets_per_s: Option<u32>,
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
    /// And that by its limit in packets.
    pub(crate) packets_held: bool,
    pub(crate) packets_held_us: u64,
    pub(crate) queued_bytes: u64,
    pub(crate) served_bits: u64,
    pub(crate) served_packets: u64,
    pub(crate) limit_packets_per_s: Option<u32>,
    /// What it may use of the fabric port; `None`: the port is not divided.
    pub(crate) port_rate_bps: Option<u64>,
    /// Something waits for the port, to its home or to other servers' VMs.
    pub(crate) port_held: bool,
    /// All the time that it did.
    pub(crate) port_held_us: u64,
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
    pub(crate) fn hold(&self, waits_for: WaitsFor, queued_bytes: usize) {
        match waits_for {
            WaitsFor::Bits => self.held.store(true, Relaxed),
            WaitsFor::Packets => self.packets_held.store(true, Relaxed),
            WaitsFor::Port => self.port.hold(Toward::Home),
        }
        self.waits_for.store(waits_for.number(), Relaxed);
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
    pub(crate) fn read(&self) -> Meter {
        let waits = self.queued_bytes.load(Relaxed) > 0;
        let waits_for = self.waits_for.load(Relaxed);
        let for_packets = waits_for == WaitsFor::Packets.number() && self.limit_packets() > 0;
        let for_port = waits_for == WaitsFor::Port.number() && self.port.rate_bps().is_some();
        let was = |held: &AtomicBool, still: bool| held.swap(still, Relaxed) || still;
        Meter {
            served_bits: self.served_bits.load(Relaxed),
            packets: self.packets.load(Relaxed),
            held: was(&self.held, waits && !for_packets && !for_port),
            packets_held: was(&self.packets_held, waits && for_packets),
        }
    }

    /// Wire bits that it sent to its home; it wraps.
    pub(super) fn served_bits(&self) -> u64 {
        self.served_bits.load(Relaxed)
    }

    /// The rate held it back at the last tick: it wants more than its home's lease lets through.
    pub(super) fn wants_more(&self) -> bool {
        self.demand_bps.load(Relaxed) == u64::MAX
    }

    /// It was held back for so long, for people. Only the shares thread calls it.
    pub(super) fn note_held(&self, us: u64) {
        self.held_us.store(self.held_us.load(Relaxed).saturating_add(us), Relaxed);
    }

    /// And that by its limit in packets.
    pub(super) fn note_packets_held(&self, us: u64) {
        let before_us = self.packets_held_us.load(Relaxed);
        self.packets_held_us.store(before_us.saturating_add(us), Relaxed);
    }

    /// Packets a second that it may send; 0: any number.
    #[inline]
    pub(crate) fn limit_packets(&self) -> u32 {
        self.limit_packets.load(Relaxed)
    }

    pub(crate) fn allow(&self, allowance: Allowance, demand_bps: u64) {
        self.later_bps.store(allowance.later_bps, Relaxed);
        self.rate_bps.store(allowance.rate_bps, Relaxed);
        self.until_us.store(allowance.until_us, Relaxed);
        self.demand_bps.store(demand_bps, Relaxed);
        self.limit_packets.store(allowance.limit_packets_per_s.unwrap_or(0), Relaxed);
    }

    /// True if the home is not shaped any more.
    pub(crate) fn is_open(&self) -> bool {
        self.later_bps.load(Relaxed) == u64::MAX
    }

    pub(crate) fn in_use(&self, now_us: u64) -> VnicUse {
        let limit = self.limit_packets();
        let packets_held = limit > 0 && self.packets_held.load(Relaxed);
        VnicUse {
            rate_bps: self.allowed_bps(now_us),
            demand_bps: self.demand_bps.load(Relaxed),
            held: self.held.load(Relaxed) || packets_held,
            held_us: self.held_us.load(Relaxed),
            packets_held,
            packets_held_us: self.packets_held_us.load(Relaxed),
            queued_bytes: self.queued_bytes.load(Relaxed),
            served_bits: self.served_bits.load(Relaxed),
            served_packets: self.packets.load(Relaxed),
            limit_packets_per_s: (limit > 0).then_some(limit),
            port_rate_bps: self.port.rate_bps(),
            port_held: self.port.rate_bps().is_some() && self.port.is_held(),
            port_held_us: self.port.held_us(),
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
        let allowance =
            Allowance { rate_bps: 900, until_us: 50, later_bps: 10, limit_packets_per_s: None };
        share.allow(allowance, 7);
        assert_eq!([0, 49, 50, 100].map(|us| share.allowed_bps(us)), [900, 900, 10, 10]);
    }

    #[test]
    fn who_waits_for_packets_is_not_short_of_bandwidth() {
        let share = VnicShare::default();
        let limited = |limit| Allowance { limit_packets_per_s: limit, ..Allowance::default() };
        share.allow(limited(Some(1)), 0);
        let held = || {
            let Meter { held, packets_held, .. } = share.read();
            (held, packets_held)
        };
        share.hold(WaitsFor::Packets, 100);
        assert_eq!([held(), held()], [(false, true); 2], "for as long as it waits");
        assert!(share.in_use(0).held && share.in_use(0).packets_held);
        share.hold(WaitsFor::Bits, 100);
        assert_eq!([held(), held()], [(true, true), (true, false)]);
        share.hold(WaitsFor::Packets, 100);
        share.allow(limited(None), 0);
        assert_eq!(held(), (true, true), "it was, until the limit went");
        share.relieve();
        held();
        assert_eq!(held(), (false, false));
    }

    #[test]
    fn who_waits_for_the_port_is_not_short_of_a_lease() {
        let share = VnicShare::default();
        share.port.allow(7);
        share.hold(WaitsFor::Port, 100);
        let Meter { held, packets_held, .. } = share.read();
        assert!(!held && !packets_held);
        assert!(share.in_use(0).port_held && !share.in_use(0).held);
        share.port.open();
        assert!(share.read().held, "what waits now waits for the rate");
    }

    #[test]
    fn a_vnic_is_held_back_for_as_long_as_anything_waits() {
        let share = VnicShare::default();
        let held = || share.read().held;
        assert!(!held());
        share.hold(WaitsFor::Bits, 100);
        assert!(held() && held());
        share.relieve();
        assert!(held(), "it was, since the last look");
        assert!(!held());
        share.hold(WaitsFor::Bits, 0);
        assert!(held() && !held());
    }
}
