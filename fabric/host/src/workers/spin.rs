//! When to look again and when to sleep.
//!
//! After work a worker may keep looking for a little while: a sleep costs a wake-up on
//! both sides, and the next frame of a busy port is often microseconds away. Whether it is, it
//! learns from what has just been, for each side that work comes from: whoever has sent a request on soon
//! has an answer from the other side, but after the answer there may be nothing for long.
//!
//! ```text
//!   work from one side ─▶ first look in vain ──────── idle ────────▶ work
//!                           └ looks on, for the window ┘ └ sleeps
//!
//!   idle for at most 200 us:  the window of that side doubles, from 25 us to 200 us
//!   idle for longer:          no window, until work follows soon again
//! ```
//! What it uses for looking in vain must not be lost to others, who may be the ones that it waits for. So
//! between looks it *gives way*: whoever else is ready to run on this processor does. If that
//! takes long, the processor is wanted by somebody who does not only pass something on, and the worker does
//! not look on for a while, because one who sleeps is run sooner than one who gave way.
//! (The windows follow the same rule as KVM's for a processor that halts, `halt_poll_ns`.)

use std::thread;

/// Longest that a worker looks for more.
const WINDOW_MAX_US: u64 = 200;
/// How long it does when it begins to.
const WINDOW_MIN_US: u64 = 25;
/// Others who are given way for longer are busy with something.
const CROWDED_US: u64 = 50;
/// For so many times as long as they had it, it then does not look on.
const REST_FACTOR: u64 = 8;

/// From where work came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The ports of this host: guests or uplinks.
    Ports,
    /// Other hosts.
    Fabric,
}

/// The state of one worker's polling.
#[derive(Debug, Clone)]
pub struct Spin {
    /// When it looked for the first time in vain, after the last work.
    idle_from_us: Option<u64>,
    /// Where the last work came from.
    side: Side,
    /// How long it looks after work from the ports, and from the fabric.
    windows_us: [u64; 2],
    /// It does not look on before.
    rest_until_us: u64,
}

impl Default for Spin {
    fn default() -> Self {
        Self { idle_from_us: None, side: Side::Ports, windows_us: [0; 2], rest_until_us: 0 }
    }
}

impl Spin {
    /// A look at everything, with work from somewhere or in vain.
    #[inline]
    pub fn looked(&mut self, now_us: u64, worked: Option<Side>) {
        let Some(side) = worked else {
            self.idle_from_us.get_or_insert(now_us);
            return;
        };
        if let Some(from_us) = self.idle_from_us.take() {
            let idle_us = now_us.saturating_sub(from_us);
            let window_us = &mut self.windows_us[self.side as usize];
            let longer_us = (*window_us * 2).clamp(WINDOW_MIN_US, WINDOW_MAX_US);
            *window_us = if idle_us <= WINDOW_MAX_US { longer_us } else { 0 };
        }
        self.side = side;
    }

    /// True while it is too early to sleep.
    #[inline]
    #[must_use]
    pub fn is_hot(&self, now_us: u64) -> bool {
        self.idle_from_us.is_none_or(|from_us| {
            now_us.saturating_sub(from_us) < self.windows_us[self.side as usize]
                && now_us >= self.rest_until_us
        })
    }

    /// Between two looks in vain: lets others run who share the processor. `now_us` is the clock.
    pub fn give_way(&mut self, now_us: impl Fn() -> u64) {
        if self.idle_from_us.is_none() {
            return;
        }
        let before_us = now_us();
        thread::yield_now();
        self.gave_way(before_us, now_us());
    }

    fn gave_way(&mut self, from_us: u64, until_us: u64) {
        let gone_us = until_us.saturating_sub(from_us);
        if gone_us > CROWDED_US {
            self.rest_until_us = until_us + gone_us.saturating_mul(REST_FACTOR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Work from `side`, then nothing for `idle_us`, then work from the other one. Returns how long it
    /// kept looking.
    fn pause(spin: &mut Spin, now_us: &mut u64, side: Side, idle_us: u64) -> u64 {
        let other = if side == Side::Ports { Side::Fabric } else { Side::Ports };
        spin.looked(*now_us, Some(side));
        spin.looked(*now_us, None);
        let from_us = *now_us;
        let hot = (0..idle_us).take_while(|us| spin.is_hot(from_us + us)).count();
        *now_us += idle_us;
        spin.looked(*now_us, Some(other));
        u64::try_from(hot).unwrap()
    }

    #[test]
    fn it_looks_once_more_after_work_and_then_sleeps() {
        let mut spin = Spin::default();
        spin.looked(1_000, Some(Side::Ports));
        assert!(spin.is_hot(1_000));
        assert!(spin.is_hot(2_000), "what the work took is not idle time");
        spin.looked(2_000, None);
        assert!(!spin.is_hot(2_000));
    }

    #[test]
    fn it_looks_longer_and_longer_while_work_follows_soon() {
        let (mut spin, mut now_us) = (Spin::default(), 1_000_000);
        let hot = [199; 6].map(|idle_us| pause(&mut spin, &mut now_us, Side::Ports, idle_us));
        assert_eq!(hot, [0, 25, 50, 100, 199, 199]);
        assert_eq!(pause(&mut spin, &mut now_us, Side::Ports, 210), WINDOW_MAX_US);
    }

    #[test]
    fn it_does_not_look_in_vain_a_second_time() {
        let (mut spin, mut now_us) = (Spin::default(), 1_000_000);
        for _ in 0..5 {
            pause(&mut spin, &mut now_us, Side::Fabric, WINDOW_MAX_US);
        }
        assert_eq!(pause(&mut spin, &mut now_us, Side::Fabric, 400), WINDOW_MAX_US);
        assert_eq!(pause(&mut spin, &mut now_us, Side::Fabric, 400), 0);
        assert_eq!(pause(&mut spin, &mut now_us, Side::Fabric, 30), 0);
        assert_eq!(pause(&mut spin, &mut now_us, Side::Fabric, 30), WINDOW_MIN_US);
    }

    #[test]
    fn it_waits_for_answers_but_not_for_the_next_question() {
        let (mut spin, mut now_us) = (Spin::default(), 1_000_000);
        for _ in 0..5 {
            pause(&mut spin, &mut now_us, Side::Ports, 60);
            pause(&mut spin, &mut now_us, Side::Fabric, 1_000);
        }
        assert_eq!(pause(&mut spin, &mut now_us, Side::Ports, 60), 60);
        assert_eq!(pause(&mut spin, &mut now_us, Side::Fabric, 1_000), 0);
    }

    #[test]
    fn work_without_a_pause_teaches_nothing() {
        let mut spin = Spin::default();
        for now_us in 0..100 {
            spin.looked(now_us, Some(Side::Ports));
        }
        spin.looked(100, None);
        assert!(!spin.is_hot(100));
    }

    /// One that looks for as long as it may, from 1,000,000 on.
    fn hot() -> (Spin, u64) {
        let (mut spin, mut now_us) = (Spin::default(), 1_000_000);
        for _ in 0..5 {
            pause(&mut spin, &mut now_us, Side::Ports, 100);
        }
        spin.looked(now_us, Some(Side::Ports));
        spin.looked(now_us, None);
        assert!(spin.is_hot(now_us));
        (spin, now_us)
    }

    #[test]
    fn it_sleeps_where_others_want_the_processor_for_long() {
        let (mut spin, now_us) = hot();
        spin.gave_way(now_us, now_us + CROWDED_US);
        assert!(spin.is_hot(now_us + CROWDED_US), "somebody only passed something on");
        spin.gave_way(now_us, now_us + CROWDED_US + 1);
        assert!(!spin.is_hot(now_us + CROWDED_US + 1));
    }

    #[test]
    fn it_rests_by_how_long_it_was_in_the_way() {
        let (mut spin, now_us) = hot();
        spin.gave_way(now_us, now_us + 3_000);
        let rested_us = now_us + 3_000 + 8 * 3_000;
        let looks_on = |at_us| {
            let idle = Spin { idle_from_us: Some(at_us), ..spin.clone() };
            idle.is_hot(at_us)
        };
        assert!(!looks_on(rested_us - 1));
        assert!(looks_on(rested_us));
    }
}
