//! A vNIC's part of its server's fabric port: atomics between its worker and the shares thread.
//!
//! ```text
//!   worker                                          shares thread
//!     ├── bits sent, to the home and to others ─────▶  meter
//!     ├── a frame waits: for the home, for others ──▶
//!     ◀── rate ─────────────────────────────────────┤  division of the port
//! ```
//! Bits are those of the fabric's wire, which are others than an uplink's: a frame travels with a
//! block header in datagrams that have headers of their own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use wireonce_wire::BLOCK_HEADER_LEN;

/// What datagrams add, as a fraction: of the 1,538 bytes that one of full size is on an Ethernet of
/// MTU 1,500 (preamble, FCS and gap included), 1,440 are blocks over IPv4 and 1,420 over IPv6.
const DATAGRAM: (u64, u64) = (13, 12);

/// What a frame of `len` bytes takes of a fabric port, in bits: its block, and its part of datagrams
/// that are full. A frame that travels alone takes more; then the port is not full.
#[inline]
pub(crate) fn fabric_bits(len: usize) -> u64 {
    (len as u64).saturating_add(BLOCK_HEADER_LEN as u64).saturating_mul(8) * DATAGRAM.0 / DATAGRAM.1
}

/// Whom a frame that crosses the port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toward {
    /// The outside, through the vNIC's home.
    Home,
    /// VMs of other servers.
    Others,
}

/// One vNIC's part.
#[derive(Debug, Default)]
pub(crate) struct PortShare {
    /// The port is divided.
    bounded: AtomicBool,
    rate_bps: AtomicU64,
    home_bits: AtomicU64,
    others_bits: AtomicU64,
    home_waits: AtomicBool,
    others_wait: AtomicBool,
    held_us: AtomicU64,
    /// What is reserved for it by its server's grant.
    reserved_bps: AtomicU64,
}

/// What the worker has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PortMeter {
    pub(crate) home_bits: u64,
    pub(crate) others_bits: u64,
    /// A frame for the home had to wait for the port since the last look.
    pub(crate) home_waits: bool,
    /// And one for others.
    pub(crate) others_wait: bool,
}

impl PortShare {
    /// Bits a second of the port that the vNIC may use; `None`: the port is not divided.
    #[inline]
    pub(crate) fn rate_bps(&self) -> Option<u64> {
        self.bounded.load(Relaxed).then(|| self.rate_bps.load(Relaxed))
    }

    /// A frame of `len` bytes crossed the port. Only the vNIC's worker calls it.
    #[inline]
    pub(crate) fn served(&self, toward: Toward, bits: u64) {
        let bits_of = match toward {
            Toward::Home => &self.home_bits,
            Toward::Others => &self.others_bits,
        };
        bits_of.store(bits_of.load(Relaxed).wrapping_add(bits), Relaxed);
    }

    /// A frame waits for the port.
    pub(crate) fn hold(&self, toward: Toward) {
        let waits = match toward {
            Toward::Home => &self.home_waits,
            Toward::Others => &self.others_wait,
        };
        waits.store(true, Relaxed);
    }

    /// For how long something waited for the port, as far as ticks saw it.
    pub(crate) fn held_us(&self) -> u64 {
        self.held_us.load(Relaxed)
    }

    /// Something waits for the port, or did since the last tick.
    pub(crate) fn is_held(&self) -> bool {
        self.home_waits.load(Relaxed) || self.others_wait.load(Relaxed)
    }

    /// What was counted since the last call, of which there is one at a time. Who waits says so each
    /// time that it looks, which is more often than a tick.
    pub(crate) fn read(&self) -> PortMeter {
        PortMeter {
            home_bits: self.home_bits.load(Relaxed),
            others_bits: self.others_bits.load(Relaxed),
            home_waits: self.home_waits.swap(false, Relaxed),
            others_wait: self.others_wait.swap(false, Relaxed),
        }
    }

    /// It waited for so long. Only the shares thread calls it.
    pub(super) fn note_held(&self, us: u64) {
        self.held_us.store(self.held_us.load(Relaxed).saturating_add(us), Relaxed);
    }

    pub(crate) fn allow(&self, rate_bps: u64) {
        self.rate_bps.store(rate_bps, Relaxed);
        self.bounded.store(true, Relaxed);
    }

    /// The port is not divided any more.
    pub(crate) fn open(&self) {
        self.bounded.store(false, Relaxed);
    }

    pub(super) fn reserve(&self, bps: u64) {
        self.reserved_bps.store(bps, Relaxed);
    }

    pub(super) fn reserved_bps(&self) -> u64 {
        self.reserved_bps.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_takes_its_block_and_its_part_of_datagrams() {
        assert_eq!(fabric_bits(1_416), 1_440 * 8 * 13 / 12);
        // A full datagram carries 1,440 bytes of blocks and is 1,538 on the wire.
        assert!(fabric_bits(1_440 - BLOCK_HEADER_LEN) >= 1_538 * 8);
        assert!(fabric_bits(1_420 - BLOCK_HEADER_LEN) >= 1_538 * 8, "over IPv6, too");
    }

    #[test]
    fn who_waits_is_seen_once_and_says_so_again() {
        let share = PortShare::default();
        assert_eq!(share.rate_bps(), None);
        share.hold(Toward::Others);
        assert!(share.is_held());
        let waits = || {
            let meter = share.read();
            (meter.home_waits, meter.others_wait)
        };
        assert_eq!([waits(), waits()], [(false, true), (false, false)]);
        share.hold(Toward::Home);
        assert_eq!(waits(), (true, false));
    }

    #[test]
    fn a_rate_of_nothing_is_a_rate() {
        let share = PortShare::default();
        share.allow(0);
        assert_eq!(share.rate_bps(), Some(0));
        share.open();
        assert_eq!(share.rate_bps(), None);
    }
}
