//! When to look again and when to sleep.
//!
//! After work a worker keeps looking for a little while: the next frame of a busy
//! port is usually microseconds away, and a sleep costs a wake-up on both sides.
//! Then it sleeps in its ring, at no cost.

/// How long to look for more after the last work.
const SPIN_US: u64 = 50;

/// The state of one worker's polling.
#[derive(Debug, Default)]
pub struct Spin {
    last_work_us: u64,
}

impl Spin {
    /// There was work.
    #[inline]
    pub fn worked(&mut self, now_us: u64) {
        self.last_work_us = now_us;
    }

    /// True while it is too early to sleep.
    #[inline]
    #[must_use]
    pub fn is_hot(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.last_work_us) < SPIN_US
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cools_down_after_the_last_work() {
        let mut spin = Spin::default();
        assert!(!spin.is_hot(1_000_000), "an idle worker never starts to spin");
        spin.worked(1_000_000);
        assert!(spin.is_hot(1_000_000 + SPIN_US - 1));
        assert!(!spin.is_hot(1_000_000 + SPIN_US));
    }
}
