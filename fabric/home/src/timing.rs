//! How long whom is waited for.

/// Intervals in microseconds, on the clock of whoever counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Time between two hellos, and between two sendings of a claim that is not answered.
    pub hello_us: u64,
    /// A gateway passes frames for so long after it sent the last hello that was echoed.
    pub lease_us: u64,
    /// A server leaves a gateway that was silent for so long. Longer than the lease by more
    /// than clocks drift in that time.
    pub silence_us: u64,
    /// A look at the clock that comes later than this was a stall of our own.
    pub late_us: u64,
    /// After a planned move, the old home passes what is under way to it for so long.
    pub drain_us: u64,
    /// Three moves in this time are the most that are made without need.
    pub pace_us: u64,
}

/// Five moves of an address in this time make a switch hold on to where it was (RFC 7432, section 15.1).
const PACE_US: u64 = 180_000_000;

impl Timing {
    /// Profile `fast`: a lost home is left within 35 ms.
    pub const FAST: Self = Self {
        hello_us: 5_000,
        lease_us: 20_000,
        silence_us: 25_000,
        late_us: 5_000,
        drain_us: 10_000,
        pace_us: PACE_US,
    };

    /// Profile `default`: ten times as long.
    pub const DEFAULT: Self = Self {
        hello_us: 50_000,
        lease_us: 200_000,
        silence_us: 250_000,
        late_us: 50_000,
        drain_us: 20_000,
        pace_us: PACE_US,
    };
}
