//! Numbers that only grow, over the lives of a process, too.
//!
//! ```text
//!   file: 5,000 ──start──▶ file: 5,000 + a block, written ──▶ 5,000, 5,001, ...
//! ```
//! A start takes a whole block, and writes where it ends before it uses any of it. The next life begins
//! there, or at the wall clock in microseconds if that is more: should the file be lost, the clock is
//! above whatever was used, for no life uses a million a second.

/// Epochs that one start takes.
pub const EPOCHS_RESERVED: u64 = 1 << 32;

/// The epochs that this life may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epochs {
    next: u64,
    end: u64,
}

impl Epochs {
    /// After `written`, the number that the life before wrote, and not before the wall clock.
    #[must_use]
    pub fn after(written: u64, wall_clock_us: u64) -> Self {
        let next = written.max(wall_clock_us).max(1);
        Self { next, end: next.saturating_add(EPOCHS_RESERVED) }
    }

    /// What has to be written before the first one is used.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// A number that none before had; `None` when the block is used up.
    pub fn take(&mut self) -> Option<u64> {
        let epoch = (self.next < self.end).then_some(self.next)?;
        self.next += 1;
        Some(epoch)
    }

    /// Somebody knows `epoch`: those to come are above it, as far as the block goes.
    pub fn raise(&mut self, epoch: u64) {
        if epoch < self.end {
            self.next = self.next.max(epoch + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_block_ends_and_nobody_can_raise_it_over_its_end() {
        let mut epochs = Epochs::after(7, 0);
        epochs.raise(u64::MAX);
        assert_eq!(epochs.take(), Some(7));
        epochs.raise(7 + EPOCHS_RESERVED - 2);
        assert_eq!(epochs.take(), Some(7 + EPOCHS_RESERVED - 1));
        assert_eq!(epochs.take(), None);
    }
}
