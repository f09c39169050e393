//! When to drop, if it must be: the controlled delay of RFC 8289, for one queue.
//!
//! A frame that waited longer than the target is nothing to worry about. If for a whole
//! interval every frame did, one is dropped, and more and more often until one waits less.

/// What a queue may take at its best moments.
const TARGET_US: u64 = 5_000;
/// How long it may take more: the longest round trip that is usual.
const INTERVAL_US: u64 = 100_000;

/// The state of one queue.
#[derive(Debug, Default)]
pub(crate) struct Codel {
    /// When it will have been above the target for an interval.
    patience_us: Option<u64>,
    dropping: bool,
    /// When the next is dropped.
    next_us: u64,
    count: u64,
}

impl Codel {
    /// The frame in front waited for `waited_us`; is it to be dropped? The last one never is.
    pub(crate) fn drops(&mut self, waited_us: u64, is_last: bool, now_us: u64) -> bool {
        if waited_us < TARGET_US || is_last {
            self.patience_us = None;
            self.dropping = false;
            return false;
        }
        let patience_us = *self.patience_us.get_or_insert(now_us + INTERVAL_US);
        if now_us < patience_us {
            return false;
        }
        if !self.dropping {
            self.dropping = true;
            // Soon after the last time: go on where that ended.
            let recent = now_us.saturating_sub(self.next_us) < 16 * INTERVAL_US;
            self.count = if recent { self.count.saturating_sub(2).max(1) } else { 1 };
            self.next_us = now_us + self.pause_us();
            return true;
        }
        let drops = now_us >= self.next_us;
        if drops {
            self.count += 1;
            self.next_us += self.pause_us();
        }
        drops
    }

    fn pause_us(&self) -> u64 {
        INTERVAL_US / self.count.isqrt().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drops of a queue whose frames, one each millisecond, all waited `waited_us`.
    fn drops(codel: &mut Codel, waited_us: u64, from_ms: u64, to_ms: u64) -> usize {
        (from_ms..to_ms).filter(|ms| codel.drops(waited_us, false, ms * 1_000)).count()
    }

    #[test]
    fn a_short_wait_or_a_short_burst_costs_nothing() {
        let mut codel = Codel::default();
        assert_eq!(drops(&mut codel, TARGET_US - 1, 0, 10_000), 0);
        assert_eq!(drops(&mut codel, 50_000, 10_000, 10_100), 0);
        assert_eq!(drops(&mut codel, 0, 10_100, 10_101), 0);
        assert_eq!(drops(&mut codel, 50_000, 10_101, 10_201), 0);
    }

    #[test]
    fn a_standing_queue_loses_more_and_more_until_it_is_short() {
        let mut codel = Codel::default();
        let seconds = [0, 1, 2, 3].map(|s| drops(&mut codel, 50_000, s * 1_000, (s + 1) * 1_000));
        assert!(
            seconds.is_sorted() && seconds[0] >= 9 && seconds[3] > 2 * seconds[0],
            "{seconds:?}"
        );
        assert!(!codel.drops(1_000, false, 4_000_000));
        assert!(!codel.drops(50_000, false, 4_001_000), "patient again");
    }

    #[test]
    fn the_last_frame_stays() {
        let mut codel = Codel::default();
        assert_eq!((0..10_000).filter(|ms| codel.drops(90_000, true, ms * 1_000)).count(), 0);
    }
}
