//! The storm limit: how many frames a guest may send to everybody.
//!
//! A unicast frame costs what it costs; a broadcast is copied to every host of
//! the network. Broadcast and multicast have a token bucket each, in frames, so
//! that a multicast stream cannot use up the ARP requests. Integer arithmetic:
//! tokens are millionths of a frame, so that a microsecond adds exactly `frames_per_s`
//! of them. The clock is an argument.

use wireonce_frame::MacAddr;
use wireonce_ledger::DropReason;

/// Millionths of a frame in a frame.
const FRAME: u64 = 1_000_000;

/// How many frames per second, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StormLimit {
    /// Frames per second in the long run.
    pub frames_per_s: u32,
    /// Frames at once after a rest. 0 lets none pass at all.
    pub burst_frames: u32,
}

impl Default for StormLimit {
    /// Enough for a guest that starts, joins groups and asks for a few hundred
    /// neighbours; too little to load a network.
    fn default() -> Self {
        Self { frames_per_s: 1000, burst_frames: 1000 }
    }
}

/// A token bucket, full at first.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    limit: StormLimit,
    tokens: u64,
    filled_us: u64,
}

impl TokenBucket {
    /// A full bucket at `now_us`.
    #[must_use]
    pub fn new(limit: StormLimit, now_us: u64) -> Self {
        Self { limit, tokens: u64::from(limit.burst_frames) * FRAME, filled_us: now_us }
    }

    /// Takes a frame's token, if there is one. A clock that stands still or goes
    /// back adds none.
    pub fn take(&mut self, now_us: u64) -> bool {
        let elapsed_us = now_us.saturating_sub(self.filled_us);
        self.filled_us = self.filled_us.max(now_us);
        let added = elapsed_us.saturating_mul(u64::from(self.limit.frames_per_s));
        let full = u64::from(self.limit.burst_frames) * FRAME;
        self.tokens = self.tokens.saturating_add(added).min(full);
        match self.tokens.checked_sub(FRAME) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

/// One port's storm limits.
#[derive(Debug, Clone)]
pub struct StormMeter {
    broadcast: TokenBucket,
    multicast: TokenBucket,
}

impl StormMeter {
    /// Both limits, with their whole burst at `now_us`.
    #[must_use]
    pub fn new(broadcast: StormLimit, multicast: StormLimit, now_us: u64) -> Self {
        Self {
            broadcast: TokenBucket::new(broadcast, now_us),
            multicast: TokenBucket::new(multicast, now_us),
        }
    }

    /// Judges a frame by its destination; unicast always passes.
    ///
    /// # Errors
    /// [`DropReason::Storm`].
    #[inline]
    pub fn check(&mut self, destination: MacAddr, now_us: u64) -> Result<(), DropReason> {
        if !destination.is_group() {
            return Ok(());
        }
        let is_broadcast = destination == MacAddr::BROADCAST;
        let bucket = if is_broadcast { &mut self.broadcast } else { &mut self.multicast };
        if bucket.take(now_us) { Ok(()) } else { Err(DropReason::Storm) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNICAST: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const MULTICAST: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

    fn meter(frames_per_s: u32, burst_frames: u32) -> StormMeter {
        let limit = StormLimit { frames_per_s, burst_frames };
        StormMeter::new(limit, limit, 0)
    }

    #[test]
    fn storm_drops_beyond_the_burst_and_refills_with_time() {
        let mut meter = meter(1000, 3);
        for _ in 0..3 {
            assert_eq!(meter.check(MacAddr::BROADCAST, 0), Ok(()));
        }
        assert_eq!(meter.check(MacAddr::BROADCAST, 0), Err(DropReason::Storm));
        assert_eq!(meter.check(MacAddr::BROADCAST, 999), Err(DropReason::Storm));
        assert_eq!(meter.check(MacAddr::BROADCAST, 1000), Ok(()));
        assert_eq!(meter.check(MacAddr::BROADCAST, 1000), Err(DropReason::Storm));
    }

    #[test]
    fn broadcast_multicast_and_unicast_do_not_share() {
        let mut meter = meter(1, 1);
        assert_eq!(meter.check(MULTICAST, 0), Ok(()));
        assert_eq!(meter.check(MULTICAST, 0), Err(DropReason::Storm));
        assert_eq!(meter.check(MacAddr::BROADCAST, 0), Ok(()));
        for _ in 0..10 {
            assert_eq!(meter.check(UNICAST, 0), Ok(()));
        }
    }

    #[test]
    fn each_kind_has_its_own_limit() {
        let limit = |burst_frames| StormLimit { frames_per_s: 0, burst_frames };
        let mut meter = StormMeter::new(limit(0), limit(1), 0);
        assert_eq!(meter.check(MacAddr::BROADCAST, 0), Err(DropReason::Storm));
        assert_eq!(meter.check(MULTICAST, 0), Ok(()));
    }

    #[test]
    fn a_clock_that_goes_back_adds_nothing() {
        let mut bucket = TokenBucket::new(StormLimit { frames_per_s: 1, burst_frames: 1 }, 5);
        assert!(bucket.take(10));
        assert!(!bucket.take(0));
        assert!(!bucket.take(10));
        assert!(!bucket.take(1_000_009));
        assert!(bucket.take(1_000_010));
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            frames_per_s in 0u32..5_000_000,
            burst_frames in 0u32..100,
            gaps_us in prop::collection::vec(0u64..2000, 1..300),
        ) {
            let limit = StormLimit { frames_per_s, burst_frames };
            let mut bucket = TokenBucket::new(limit, 0);
            let mut now_us = 0;
            let mut passed = 0u64;
            for gap_us in gaps_us {
                now_us += gap_us;
                passed += u64::from(bucket.take(now_us));
                let most = u64::from(burst_frames) + now_us * u64::from(frames_per_s) / FRAME;
                prop_assert!(passed <= most, "{passed} of {most}");
            }
        }

        #[test]
        fn extreme_numbers_do_not_overflow(
            frames_per_s in any::<u32>(),
            burst_frames in any::<u32>(),
            times in prop::collection::vec(any::<u64>(), 1..20),
        ) {
            let mut bucket = TokenBucket::new(StormLimit { frames_per_s, burst_frames }, 0);
            for now_us in times {
                prop_assert!(bucket.take(now_us) || burst_frames == 0 || bucket.tokens < FRAME);
            }
        }
    }
}
