//! When to look again and when to sleep.
//!
//! After work a worker may keep looking for a little while: a sleep costs a wake-up on
//! both sides, and the next frame of a busy port is often microseconds away. But what
//! it uses for looking in vain is lost to whoever shares the processor, who may be the
//! one that it waits for. So it learns from what has just been:
//!
//! ```text
//!   work ─▶ first look in vain ──────── idle ────────▶ work
//!             └ looks on, for the window ┘ └ sleeps
//!
//!   idle for at most 50 us:  the window doubles, from 10 us to 50 us
//!   idle for longer:         no window, until work follows soon again
//! ```
//! Requests and answers that follow each other quickly keep it awake. Bulk does not: it comes in bursts,
//! with hundreds of microseconds in between. (The same rule as KVM's for a processor that
//! halts, `halt_poll_ns`.)

/// Longest that a worker looks for more.
const WINDOW_MAX_US: u64 = 50;
/// How long it does when it begins to.
const WINDOW_MIN_US: u64 = 10;

/// The state of one worker's polling.
#[derive(Debug, Default)]
pub struct Spin {
    /// When it looked for the first time in vain, after the last work.
    idle_from_us: Option<u64>,
    window_us: u64,
}

impl Spin {
    /// A look at everything, with work or in vain.
    #[inline]
    pub fn looked(&mut self, now_us: u64, worked: bool) {
        if !worked {
            self.idle_from_us.get_or_insert(now_us);
            return;
        }
        if let Some(from_us) = self.idle_from_us.take() {
            let soon = now_us.saturating_sub(from_us) <= WINDOW_MAX_US;
            let longer_us = (self.window_us * 2).clamp(WINDOW_MIN_US, WINDOW_MAX_US);
            self.window_us = if soon { longer_us } else { 0 };
        }
    }

    /// True while it is too early to sleep.
    #[inline]
    #[must_use]
    pub fn is_hot(&self, now_us: u64) -> bool {
        self.idle_from_us.is_none_or(|from_us| now_us.saturating_sub(from_us) < self.window_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Work, then nothing for `idle_us`, then work. Returns how long it kept looking.
    fn pause(spin: &mut Spin, now_us: &mut u64, idle_us: u64) -> u64 {
        spin.looked(*now_us, true);
        spin.looked(*now_us, false);
        let from_us = *now_us;
        let hot = (0..idle_us).take_while(|us| spin.is_hot(from_us + us)).count();
        *now_us += idle_us;
        spin.looked(*now_us, true);
        u64::try_from(hot).unwrap()
    }

    #[test]
    fn it_looks_once_more_after_work_and_then_sleeps() {
        let mut spin = Spin::default();
        spin.looked(1_000, true);
        assert!(spin.is_hot(1_000));
        assert!(spin.is_hot(2_000), "what the work took is not idle time");
        spin.looked(2_000, false);
        assert!(!spin.is_hot(2_000));
    }

    #[test]
    fn it_looks_longer_and_longer_while_work_follows_soon() {
        let (mut spin, mut now_us) = (Spin::default(), 1_000_000);
        let hot = [49; 6].map(|idle_us| pause(&mut spin, &mut now_us, idle_us));
        assert_eq!(hot, [0, 10, 20, 40, 49, 49]);
        assert_eq!(pause(&mut spin, &mut now_us, 60), WINDOW_MAX_US);
    }

    #[test]
    fn it_does_not_look_in_vain_a_second_time() {
        let (mut spin, mut now_us) = (Spin::default(), 1_000_000);
        for _ in 0..5 {
            pause(&mut spin, &mut now_us, WINDOW_MAX_US);
        }
        assert_eq!(pause(&mut spin, &mut now_us, 400), WINDOW_MAX_US);
        assert_eq!(pause(&mut spin, &mut now_us, 400), 0);
        assert_eq!(pause(&mut spin, &mut now_us, 30), 0);
        assert_eq!(pause(&mut spin, &mut now_us, 30), WINDOW_MIN_US);
    }

    #[test]
    fn work_without_a_pause_teaches_nothing() {
        let mut spin = Spin::default();
        for now_us in 0..100 {
            spin.looked(now_us, true);
        }
        spin.looked(100, false);
        assert!(!spin.is_hot(100));
    }
}
