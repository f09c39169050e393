//! How much may be sent now, at a rate that may change at any moment.
//!
//! A token bucket of bits or of packets. It counts in their millionths, so that no rounding is ever
//! lost: over any time *t* it lets through at most *rate x t + burst*, and if there is always
//! something to send, exactly that. What was not taken while nobody wanted to send is kept up
//! to the burst and no further; so a burst is at least what the rate earns between two looks.

/// Microseconds in a second: what a rate of one a second earns in one of them is counted as one.
const US_PER_S: u128 = 1_000_000;

/// A token bucket: of bits, at bits a second, or of packets, at packets a second.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// A second.
    rate: u64,
    burst: u64,
    /// What may be taken, in millionths, below zero what was taken in advance.
    level: i128,
    at_us: u64,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: u64, burst: u64, now_us: u64) -> Self {
        let mut bucket = Self { rate, burst, level: 0, at_us: now_us };
        bucket.level = bucket.full();
        bucket
    }

    /// Goes on at another rate and with another burst from now on. What was saved at the old
    /// rate stays, up to the new burst.
    pub fn set(&mut self, rate: u64, burst: u64, now_us: u64) {
        self.pass_time(now_us);
        (self.rate, self.burst) = (rate, burst);
        self.level = self.level.min(self.full());
    }

    /// Takes `amount` if the bucket is not empty: one frame may overdraw it, and the next ones
    /// wait until that is paid. So a burst smaller than a frame does not stop it for ever.
    pub fn take(&mut self, amount: u64, now_us: u64) -> bool {
        self.pass_time(now_us);
        if self.level <= 0 {
            return false;
        }
        self.level -= scaled(amount);
        true
    }

    /// Takes `amount` whether or not the bucket is empty: what cannot wait. Others wait until it is paid.
    pub fn charge(&mut self, amount: u64, now_us: u64) {
        self.pass_time(now_us);
        self.level = self.level.saturating_sub(scaled(amount));
    }

    /// True if [`Self::take`] would succeed now.
    #[inline]
    pub fn is_ready(&mut self, now_us: u64) -> bool {
        self.pass_time(now_us);
        self.level > 0
    }

    /// When the next [`Self::take`] can succeed: `None` if never, at this rate.
    #[must_use]
    pub fn next_us(&self) -> Option<u64> {
        if self.level > 0 {
            return Some(self.at_us);
        }
        let missing = u128::try_from(1 - self.level).unwrap_or(0);
        let rate = u128::from(self.rate);
        let wait_us = (rate > 0).then(|| missing.div_ceil(rate))?;
        Some(self.at_us.saturating_add(u64::try_from(wait_us).unwrap_or(u64::MAX)))
    }

    /// The rate, a second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.rate
    }

    fn pass_time(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.at_us);
        self.at_us = self.at_us.max(now_us);
        let earned = u128::from(self.rate) * u128::from(passed_us);
        let earned = i128::try_from(earned).unwrap_or(i128::MAX);
        self.level = self.level.saturating_add(earned).min(self.full());
    }

    fn full(&self) -> i128 {
        scaled(self.burst).max(1)
    }
}

fn scaled(amount: u64) -> i128 {
    i128::try_from(u128::from(amount) * US_PER_S).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sends frames of `bits` as soon as they may go, until `end_us`; returns how many bits.
    fn sent(bucket: &mut Bucket, bits: u64, from_us: u64, end_us: u64) -> u64 {
        let (mut now_us, mut sum) = (from_us, 0);
        while now_us < end_us {
            if bucket.take(bits, now_us) {
                sum += bits;
            } else {
                match bucket.next_us() {
                    Some(at_us) => now_us = at_us.max(now_us),
                    None => break,
                }
            }
        }
        sum
    }

    #[test]
    fn what_cannot_wait_is_paid_by_those_who_come_later() {
        let mut bucket = Bucket::new(1_000_000, 1_000, 0);
        assert!(bucket.take(1_000, 0) && !bucket.take(1, 0));
        bucket.charge(9_000, 0);
        assert_eq!(bucket.next_us(), Some(9_001));
        assert!(!bucket.is_ready(9_000) && bucket.is_ready(9_001));
    }

    #[test]
    fn the_rate_is_exact_over_a_second_whatever_it_is() {
        const BURST: u64 = 100_000;
        for rate_bps in [1_000_003, 333_333_333, 4_999_999_999] {
            let mut bucket = Bucket::new(rate_bps, BURST, 0);
            let sum = sent(&mut bucket, 12_000, 0, 1_000_000);
            // The last frame, and what the last microsecond earned.
            let slack = 12_000 + rate_bps / 1_000_000;
            assert!(sum.abs_diff(rate_bps + BURST) <= slack, "{rate_bps}: {sum}");
        }
    }

    #[test]
    fn a_pause_earns_no_more_than_the_burst() {
        let mut bucket = Bucket::new(1_000_000, 80_000, 0);
        assert_eq!(sent(&mut bucket, 8_000, 3_600_000_000, 3_600_000_001), 80_000);
    }

    #[test]
    fn a_rate_of_nothing_lets_nothing_more_through() {
        let mut bucket = Bucket::new(1_000_000, 8_000, 0);
        bucket.set(0, 0, 10);
        assert!(bucket.take(8_000, 10), "one frame may overdraw");
        assert!(!bucket.take(8_000, u64::MAX));
        assert_eq!(bucket.next_us(), None);
        bucket.set(1_000_000, 0, u64::MAX);
        assert!(bucket.next_us().is_some());
    }

    #[test]
    fn time_that_goes_back_earns_nothing() {
        let mut bucket = Bucket::new(1_000_000, 0, 1_000);
        assert!(bucket.take(1_000, 1_000));
        assert!(!bucket.take(1_000, 0));
        assert!(!bucket.take(1_000, 1_999));
        assert!(bucket.take(1_000, 2_001));
    }

    #[test]
    fn one_packet_a_second_goes_each_second_and_a_large_one_waits_for_its_segments_afterwards() {
        let mut bucket = Bucket::new(1, 1, 0);
        assert!(bucket.take(1, 0));
        assert!(bucket.take(1, 1), "the one that overdraws");
        assert!(!bucket.take(1, 1_000_000), "that is not paid yet");
        assert_eq!(bucket.next_us(), Some(1_000_001));
        assert!(bucket.take(45, 1_000_001), "a super-frame may overdraw");
        assert!(!bucket.take(1, 46_000_000));
        assert!(bucket.take(1, 46_000_001));
    }

    proptest! {
        #[test]
        fn over_any_window_never_more_than_rate_times_its_length_and_a_burst(
            frames in prop::collection::vec((0..2_000_000_u64, 1..64_u64), 1..100),
            rate in 1..1_000_000_u64,
            burst in 64..1_000_u64,
        ) {
            let mut bucket = Bucket::new(rate, burst, 0);
            let (mut now_us, mut passed) = (0, Vec::new());
            for (wait_us, packets) in frames {
                now_us += wait_us;
                if bucket.take(packets, now_us) {
                    passed.push((now_us, packets));
                }
            }
            for (at, (from_us, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for (to_us, packets) in &passed[at..] {
                    sum += u128::from(*packets);
                    let earned = u128::from(rate) * u128::from(to_us - from_us);
                    // The last one may overdraw.
                    let most = earned + u128::from(burst + packets) * US_PER_S;
                    prop_assert!(sum * US_PER_S <= most, "{sum} in {} us", to_us - from_us);
                }
            }
        }

        #[test]
        fn never_more_than_rate_times_time_and_the_bursts(
            steps in prop::collection::vec((0..2_000_u64, 1..600_000_u64, 0..100_000_u64), 1..200),
            rate_bps in 0..10_000_000_000_u64,
            burst_bits in 0..1_000_000_u64,
        ) {
            let mut bucket = Bucket::new(rate_bps, burst_bits, 0);
            let (mut now_us, mut sum, mut largest) = (0, 0_u128, 0);
            for (wait_us, bits, _) in steps {
                now_us += wait_us;
                if bucket.take(bits, now_us) {
                    sum += u128::from(bits);
                    largest = largest.max(bits);
                }
                let allowed = u128::from(rate_bps) * u128::from(now_us) / US_PER_S;
                prop_assert!(sum <= allowed + u128::from(burst_bits) + u128::from(largest) + 1);
            }
        }
    }
}
