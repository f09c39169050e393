//! Frames that wait for a vNIC's share of an uplink, and the credit that they wait for. Pure: the
//! clock is an argument.
//!
//! ```text
//!   frame ─▶ queue: by flow, round robin ─▶ late? dropped (CoDel), or marked (ECN) ─▶ credit ─▶ link
//! ```
//! Servers use it towards their homes, gateways from their uplinks towards servers (decision 14).
//!
//! | module | what it is |
//! |---|---|
//! | `queue` | the frames of one vNIC, by flow |
//! | `codel` | which of them are dropped, if some must be |
//! | `mark` | congestion, written into a frame |
//! | `credit` | a token bucket, of bits or of packets, that several workers take from without a lock |
#![forbid(unsafe_code)]

mod codel;
mod credit;
mod mark;
mod queue;

pub use credit::{Credit, Ticket};
pub use mark::mark;
pub use queue::{Held, Queue};

/// A frame that waited longer is marked, in microseconds.
pub const MARK_US: u64 = 1_000;

/// What the rate earns in this time may go at once.
const BURST_US: u64 = 1_000;
/// And one frame of the largest size, cut into segments.
const BURST_BITS_MIN: u64 = 70_000 * 8;

/// And as many packets as a frame of the largest size is usually cut into, so that a limit below
/// that does not keep it waiting.
const BURST_PACKETS_MIN: u64 = 64;

/// What may go at once at a rate, in wire bits.
#[must_use]
pub fn burst_bits(rate_bps: u64) -> u64 {
    burst(rate_bps, BURST_BITS_MIN)
}

/// What may go at once at a rate, in packets. The frame that uses it up may be larger than what
/// is left.
#[must_use]
pub fn burst_packets(packets_per_s: u64) -> u64 {
    burst(packets_per_s, BURST_PACKETS_MIN)
}

fn burst(rate: u64, least: u64) -> u64 {
    let earned = u128::from(rate) * u128::from(BURST_US) / 1_000_000;
    u64::try_from(earned).unwrap_or(u64::MAX).max(least)
}
