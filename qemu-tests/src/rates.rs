//! Rates over time, from frames and when they came.

use crate::capture::Seen;
use crate::netns::median;

/// Preamble, FCS and gap: what a frame takes of a wire beside its bytes.
const AROUND: u32 = 24;
/// The least that a frame takes without them, in bytes.
const LEAST: u32 = 60;

/// The longest frame of a wire with an MTU of 1500 bytes, with a VLAN tag.
const FRAME_MAX: u32 = 1518;
/// Ethernet, IPv4 and TCP with time stamps; and what a segment carries then.
const HEADERS: u32 = 66;
const SEGMENT: u32 = 1448;

/// When a rate is what it should be: over the ten windows from a moment on, the median is as exact
/// as `off`, and the first and seven more are as exact as `window_off`. So a stall of the machine,
/// which spoils a window or two, does not hide when a change took effect.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// How far the median may be off, as a part of what it should be.
    pub off: f64,
    /// How far single windows may be off.
    pub window_off: f64,
    /// How long a window is.
    pub window_us: u64,
}

impl Tolerance {
    /// Two in a hundred. A bucket's burst of a millisecond at the edges of 10 ms may be more than
    /// that.
    pub const STANDARD: Self = Self { off: 0.02, window_off: 0.10, window_us: 10_000 };
    /// Windows that are looked at.
    const WINDOWS: usize = 10;
    /// So many of them may be spoilt.
    const SPOILT_MAX: usize = 2;

    fn holds(self, errors: &[f64]) -> bool {
        let fine = |error: &f64| *error <= self.window_off;
        let spoilt = errors.iter().filter(|error| !fine(error)).count();
        errors.first().is_some_and(fine)
            && spoilt <= Self::SPOILT_MAX
            && median(errors).is_some_and(|middle| middle <= self.off)
    }
}

/// Frames by time: when each came, and how many wire bits came until then.
#[derive(Debug, Clone, Default)]
pub struct Bins {
    at_us: Vec<u64>,
    /// One more than the frames: the first is zero.
    sum_bits: Vec<u64>,
}

impl Bins {
    /// Those of `frames`, which are in order.
    pub fn of<'a>(frames: impl Iterator<Item = &'a Seen>) -> Self {
        let mut bins = Self { at_us: Vec::new(), sum_bits: vec![0] };
        let mut sum = 0;
        for frame in frames {
            sum += wire_bits(frame.len);
            bins.at_us.push(frame.at_us);
            bins.sum_bits.push(sum);
        }
        bins
    }

    /// Wire bits that came from `from_us` on and before `until_us`.
    fn bits(&self, from_us: u64, until_us: u64) -> u64 {
        let until = |us: u64| {
            let count = self.at_us.partition_point(|at| *at < us);
            self.sum_bits.get(count).copied().unwrap_or(0)
        };
        until(until_us).saturating_sub(until(from_us))
    }

    /// The mean rate in that time, in bits a second.
    #[must_use]
    pub fn bps(&self, from_us: u64, until_us: u64) -> f64 {
        let us = until_us.saturating_sub(from_us).max(1);
        self.bits(from_us, until_us) as f64 * 1e6 / us as f64
    }

    /// How far each window of that time is off `target_bps`, as a part of it. Windows do not
    /// overlap; what is left at the end is left out.
    #[must_use]
    pub fn errors(&self, from_us: u64, until_us: u64, window_us: u64, target_bps: f64) -> Vec<f64> {
        let count = until_us.saturating_sub(from_us) / window_us.max(1);
        let windows = (0..count).map(|number| from_us + number * window_us);
        windows.map(|begin| off(self.bps(begin, begin + window_us), target_bps)).collect()
    }

    /// How long after `change_us` the rate became what it should be and stayed: the begin of the
    /// first window from which on it holds, in microseconds. `None` if that is not so within
    /// `limit_us`.
    #[must_use]
    pub fn settled(
        &self,
        change_us: u64,
        limit_us: u64,
        target_bps: f64,
        tolerance: Tolerance,
    ) -> Option<u64> {
        let length_us = tolerance.window_us * Tolerance::WINDOWS as u64;
        let holds = |begin: u64| {
            let end = begin + length_us;
            tolerance.holds(&self.errors(begin, end, tolerance.window_us, target_bps))
        };
        (0..limit_us).step_by(500).find(|after| holds(change_us + after))
    }
}

/// What a frame of `len` bytes takes of a wire. One that is larger than a wire takes is TCP that
/// nobody has cut yet: each segment will have headers of its own.
fn wire_bits(len: u32) -> u64 {
    let segments = if len > FRAME_MAX { (len - HEADERS).div_ceil(SEGMENT) } else { 1 };
    let more = (segments - 1) * HEADERS;
    u64::from(len.max(LEAST) + more + segments * AROUND) * 8
}

fn off(bps: f64, target_bps: f64) -> f64 {
    (bps / target_bps - 1.0).abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of 1,226 + 24 bytes, 10,000 bits, one each `gap_us`.
    fn frames(from_us: u64, count: u64, gap_us: u64) -> Vec<Seen> {
        let seen = |number: u64| Seen {
            at_us: from_us + number * gap_us,
            source_mac: [0; 6],
            len: 1226,
            number,
            iperf_number: 0,
        };
        (0..count).map(seen).collect()
    }

    #[test]
    fn a_rate_is_wire_bits_by_time() {
        let bins = Bins::of(frames(1_000, 1_000, 100).iter());
        assert!((bins.bps(1_000, 101_000) - 1e8).abs() < 1.0);
        assert!((bins.bps(0, 1_000)).abs() < 1.0);
        let small = Seen { at_us: 5, source_mac: [0; 6], len: 42, number: 0, iperf_number: 0 };
        assert_eq!(Bins::of([small].iter()).bits(0, 10), 84 * 8);
        let large = Seen { len: 66 + 3 * 1448, ..small };
        assert_eq!(Bins::of([large].iter()).bits(0, 10), 3 * (1514 + 24) * 8);
    }

    #[test]
    fn errors_are_those_of_whole_windows() {
        let bins = Bins::of(frames(0, 1_000, 100).iter());
        let errors = bins.errors(0, 95_000, 10_000, 2e8);
        assert_eq!(errors.len(), 9);
        assert!(errors.iter().all(|error| (error - 0.5).abs() < 1e-9));
    }

    #[test]
    fn a_change_has_settled_when_the_new_rate_stays() {
        // 100 Mbit/s for 50 ms, then 200 Mbit/s for 200 ms.
        let mut all = frames(0, 500, 100);
        all.extend(frames(50_000, 4_000, 50));
        let bins = Bins::of(all.iter());
        let settled = |from| bins.settled(from, 100_000, 2e8, Tolerance::STANDARD);
        let took = settled(10_000).unwrap();
        assert!((38_000..=40_000).contains(&took), "{took}");
        assert_eq!(settled(60_000), Some(0));
        assert_eq!(bins.settled(10_000, 100_000, 3e8, Tolerance::STANDARD), None);
        assert_eq!(bins.settled(10_000, 20_000, 2e8, Tolerance::STANDARD), None, "too late");
    }

    #[test]
    fn a_stall_does_not_hide_a_change_and_a_wrong_rate_is_not_taken_for_a_stall() {
        // 200 Mbit/s, with nothing at all for 12 ms in the middle.
        let all: Vec<_> = frames(0, 4_000, 50)
            .into_iter()
            .filter(|frame| !(40_000..52_000).contains(&frame.at_us))
            .collect();
        let bins = Bins::of(all.iter());
        assert_eq!(bins.settled(0, 10_000, 2e8, Tolerance::STANDARD), Some(0));
        assert_eq!(bins.settled(0, 10_000, 2.06e8, Tolerance::STANDARD), None);
    }
}
