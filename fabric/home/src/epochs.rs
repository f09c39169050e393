//! Numbers that only grow, over the lives of a process, too.
//!
//! ```text
//!            a start takes a block           half of it is used, or somebody knows higher ones
//!   file:  5,000 ─▶ file: 5,000 + a block ─────────────────────▶ file: a block more
//!                          └▶ 5,000, 5,001, ...                        └▶ ..., and on
//! ```
//! What a block ends with is written before any of it is used. The next life begins there, or at the wall
//! clock in microseconds if that is more: should the file be lost, the clock is above whatever was used,
//! for no life uses a million a second.
//!
//! **Whoever answers that he knows a newer epoch is believed, within bounds**: he may lie. One answer lifts
//! the numbers by [`STEP_MAX`] at most, and another block is taken for it at most once a second. The upper
//! half of what the disk has is never given away like that: it is for our own moves, should the disk fail.

/// Epochs that are taken at a time: as many as a clock has microseconds in 71 minutes.
pub const EPOCHS_RESERVED: u64 = 1 << 32;
/// No epoch above this is believed, by us or about us.
pub const EPOCH_MAX: u64 = 1 << 62;

/// So many are left when another block is taken.
const KEPT: u64 = EPOCHS_RESERVED / 2;
/// One answer lifts the numbers by so many at most: 19 hours of a clock.
const STEP_MAX: u64 = 1 << 36;
/// Between two blocks.
const PAUSE_US: u64 = 1_000_000;
/// A disk that could not be written is tried again after this time.
const RETRY_US: u64 = 10_000_000;

/// The epochs that this life may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epochs {
    next: u64,
    /// The disk has this one.
    end: u64,
    /// Where `next` is to be as soon as the disk has a block that holds it.
    wanted: u64,
    /// The end of the block that is being written.
    writing: Option<u64>,
    /// Nothing is written before.
    rests_until_us: u64,
}

impl Epochs {
    /// After `written`, the number that the life before wrote, and not before the wall clock.
    #[must_use]
    pub fn after(written: u64, wall_clock_us: u64) -> Self {
        let next = written.max(wall_clock_us).clamp(1, EPOCH_MAX);
        let end = next.saturating_add(EPOCHS_RESERVED);
        Self { next, end, wanted: next, writing: None, rests_until_us: 0 }
    }

    /// What has to be written before the first one is used.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// A number that none before had; `None` if all are used up that the disk knows of.
    pub fn take(&mut self) -> Option<u64> {
        let epoch = (self.next < self.end).then_some(self.next)?;
        self.next += 1;
        Some(epoch)
    }

    /// Somebody says that he knows `epoch`. True if those to come are above it now. If not, they may
    /// be when another block was written, and he has said it again.
    pub fn raise(&mut self, epoch: u64) -> bool {
        let above = epoch.saturating_add(1).min(EPOCH_MAX);
        let to = above.min(self.next.saturating_add(STEP_MAX));
        if to.saturating_add(KEPT) <= self.end {
            self.next = self.next.max(to);
        } else {
            self.wanted = self.wanted.max(to);
        }
        self.next > epoch
    }

    /// What is to be written now, if anything is: the end of another block. [`Self::written`] has to be told what
    /// became of it, before anything else is asked for.
    pub fn due(&mut self, now_us: u64) -> Option<u64> {
        let from = self.next.max(self.wanted);
        let enough = from.saturating_add(KEPT) <= self.end;
        if enough || self.writing.is_some() || now_us < self.rests_until_us {
            return None;
        }
        self.writing = Some(from.saturating_add(EPOCHS_RESERVED));
        self.writing
    }

    /// What was [`Self::due`] is on the disk, or could not be written.
    pub fn written(&mut self, now_us: u64, done: bool) {
        let Some(end) = self.writing.take() else { return };
        self.rests_until_us = now_us.saturating_add(if done { PAUSE_US } else { RETRY_US });
        if done {
            self.end = self.end.max(end);
            self.next = self.next.max(self.wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_life_begins_where_no_life_before_has_been() {
        let mut first = Epochs::after(0, 1_000);
        assert_eq!((first.take(), first.take()), (Some(1_000), Some(1_001)));
        // The clock went back.
        let mut second = Epochs::after(first.end(), 500);
        assert!(second.take() > first.take());
        // The file is gone, a second later.
        let mut third = Epochs::after(0, 1_001_000);
        assert!(third.take() > first.take());
    }

    #[test]
    fn another_block_is_taken_when_half_of_one_is_left() {
        let mut epochs = Epochs::after(7, 0);
        assert!(epochs.raise(7 + KEPT - 2));
        assert_eq!((epochs.due(0), epochs.take()), (None, Some(7 + KEPT - 1)));
        assert_eq!(epochs.take(), Some(7 + KEPT));
        let end = epochs.due(0).unwrap();
        assert_eq!(end, 7 + KEPT + 1 + EPOCHS_RESERVED);
        assert_eq!(epochs.due(0), None, "it is being written");
        assert_eq!(epochs.end(), 7 + EPOCHS_RESERVED, "nobody knows whether it is on the disk");
        epochs.written(0, true);
        assert_eq!((epochs.end(), epochs.due(0)), (end, None));
    }

    #[test]
    fn nobody_uses_up_what_is_kept_for_our_own_moves_though_the_disk_cannot_be_written() {
        let mut epochs = Epochs::after(7, 0);
        let mut now_us = 0;
        for lie in [7 + EPOCHS_RESERVED - 2, 7 + EPOCHS_RESERVED, u64::MAX, EPOCH_MAX] {
            assert!(!epochs.raise(lie), "{lie}");
            now_us += RETRY_US;
            assert!(epochs.due(now_us).is_some());
            epochs.written(now_us, false);
            assert_eq!(epochs.due(now_us + RETRY_US - 1), None, "not at once again");
        }
        assert_eq!(epochs.take(), Some(7));
        assert!(epochs.raise(7 + KEPT - 1));
        assert!(epochs.end() - epochs.take().unwrap() >= KEPT);
    }

    #[test]
    fn one_answer_lifts_by_a_step_and_one_block_is_taken_in_a_second() {
        let mut epochs = Epochs::after(7, 0);
        for second in 0..10 {
            assert!(!epochs.raise(EPOCH_MAX - 1));
            assert_eq!(
                epochs.due(second * PAUSE_US),
                Some(epochs.next + STEP_MAX + EPOCHS_RESERVED)
            );
            epochs.written(second * PAUSE_US, true);
            assert_eq!(epochs.take(), Some(7 + (second + 1) * STEP_MAX + second));
            assert!(!epochs.raise(EPOCH_MAX - 1));
            assert_eq!(epochs.due(second * PAUSE_US + PAUSE_US - 1), None);
        }
    }

    #[test]
    fn a_clock_that_went_back_by_a_day_without_the_file_is_made_up_for_in_two_blocks() {
        let mut epochs = Epochs::after(0, 1_000);
        let known = 1_000 + 86_400_000_000;
        let mut blocks = 0;
        while !epochs.raise(known) {
            let end = epochs.due(blocks * PAUSE_US).unwrap();
            assert!(end > epochs.end());
            epochs.written(blocks * PAUSE_US, true);
            blocks += 1;
        }
        assert_eq!((epochs.take(), blocks), (Some(known + 1), 2));
    }

    proptest! {
        #[test]
        fn each_number_is_new_and_the_disk_has_it_whatever_anybody_says(
            start in prop_oneof![any::<u64>(), Just(EPOCH_MAX), 0..1_000_u64],
            said in prop::collection::vec((any::<u64>(), 0..64_u32, any::<bool>()), 0..60),
        ) {
            let mut epochs = Epochs::after(start, 0);
            let (mut disk, mut last, mut now_us) = (epochs.end(), 0, 0);
            for (lie, shift, works) in said {
                let known = epochs.next;
                let above = epochs.raise(lie >> shift);
                prop_assert!(epochs.next <= known.saturating_add(STEP_MAX));
                now_us += RETRY_US;
                if let Some(end) = epochs.due(now_us) {
                    if works { disk = end; }
                    epochs.written(now_us, works);
                }
                let epoch = epochs.take();
                prop_assert!(epoch.is_some_and(|it| it > last && it < disk), "{epoch:?} {last} {disk}");
                prop_assert!(!above || epoch > Some(lie >> shift));
                last = epoch.unwrap_or(last);
            }
        }
    }
}
