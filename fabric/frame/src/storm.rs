//! The storm limit: how many frames somebody may send to everybody.
//!
//! A unicast frame costs what it costs; a broadcast is copied to every host of
//! the network. Broadcast and multicast have a token bucket each, in frames, so
//! that a multicast stream cannot use up the ARP requests. A large segment counts as
//! the frames that it is cut into. Integer arithmetic: tokens are millionths of a
//! frame, so that a microsecond adds exactly `frames_per_s` of them. The clock is an
//! argument.
//!
//! A server has a meter for each vNIC, a gateway one for each uplink and network.

use crate::MacAddr;

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
        Self::per_second(1000)
    }
}

impl StormLimit {
    /// `frames_per_s`, of which a second's worth may come at once.
    #[must_use]
    pub fn per_second(frames_per_s: u32) -> Self {
        Self { frames_per_s, burst_frames: frames_per_s }
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

    /// Takes the tokens of `frames` frames, or none if there are not as many. A clock
    /// that stands still or goes back adds none.
    pub fn take(&mut self, frames: u64, now_us: u64) -> bool {
        let elapsed_us = now_us.saturating_sub(self.filled_us);
        self.filled_us = self.filled_us.max(now_us);
        let added = elapsed_us.saturating_mul(u64::from(self.limit.frames_per_s));
        let full = u64::from(self.limit.burst_frames) * FRAME;
        self.tokens = self.tokens.saturating_add(added).min(full);
        match self.tokens.checked_sub(frames.saturating_mul(FRAME)) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

/// The storm limits of one sender.
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

    /// Whether a frame to `destination`, which is `frames` frames on a wire, may pass;
    /// unicast always does.
    #[inline]
    pub fn admits(&mut self, destination: MacAddr, frames: u64, now_us: u64) -> bool {
        if !destination.is_group() {
            return true;
        }
        let is_broadcast = destination == MacAddr::BROADCAST;
        let bucket = if is_broadcast { &mut self.broadcast } else { &mut self.multicast };
        bucket.take(frames, now_us)
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
            assert!(meter.admits(MacAddr::BROADCAST, 1, 0));
        }
        assert!(!meter.admits(MacAddr::BROADCAST, 1, 0));
        assert!(!meter.admits(MacAddr::BROADCAST, 1, 999));
        assert!(meter.admits(MacAddr::BROADCAST, 1, 1000));
        assert!(!meter.admits(MacAddr::BROADCAST, 1, 1000));
    }

    #[test]
    fn a_large_segment_costs_as_many_frames_as_it_is_cut_into() {
        let mut meter = meter(1000, 50);
        assert!(meter.admits(MULTICAST, 45, 0));
        assert!(!meter.admits(MULTICAST, 6, 0), "what does not fit takes nothing");
        assert!(meter.admits(MULTICAST, 5, 0));
        assert!(!meter.admits(MULTICAST, u64::MAX, 1_000_000));
    }

    #[test]
    fn broadcast_multicast_and_unicast_do_not_share() {
        let mut meter = meter(1, 1);
        assert!(meter.admits(MULTICAST, 1, 0));
        assert!(!meter.admits(MULTICAST, 1, 0));
        assert!(meter.admits(MacAddr::BROADCAST, 1, 0));
        for _ in 0..10 {
            assert!(meter.admits(UNICAST, 1, 0));
        }
    }

    #[test]
    fn each_kind_has_its_own_limit() {
        let limit = |burst_frames| StormLimit { frames_per_s: 0, burst_frames };
        let mut meter = StormMeter::new(limit(0), limit(1), 0);
        assert!(!meter.admits(MacAddr::BROADCAST, 1, 0));
        assert!(meter.admits(MULTICAST, 1, 0));
    }

    #[test]
    fn a_clock_that_goes_back_adds_nothing() {
        let mut bucket = TokenBucket::new(StormLimit { frames_per_s: 1, burst_frames: 1 }, 5);
        assert!(bucket.take(1, 10));
        assert!(!bucket.take(1, 0));
        assert!(!bucket.take(1, 10));
        assert!(!bucket.take(1, 1_000_009));
        assert!(bucket.take(1, 1_000_010));
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            frames_per_s in 0u32..5_000_000,
            burst_frames in 0u32..100,
            steps in prop::collection::vec((0u64..2000, 0u64..50), 1..300),
        ) {
            let limit = StormLimit { frames_per_s, burst_frames };
            let mut bucket = TokenBucket::new(limit, 0);
            let mut now_us = 0;
            let mut passed = 0u64;
            for (gap_us, frames) in steps {
                now_us += gap_us;
                passed += if bucket.take(frames, now_us) { frames } else { 0 };
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
                prop_assert!(bucket.take(1, now_us) || burst_frames == 0 || bucket.tokens < FRAME);
            }
        }
    }
}
