//! How often hellos go on a link, and how long its silence may last.
//!
//! ```text
//!           no frame for 3 s, here and there
//!   busy ─────────────────────────────────────> quiet
//!     ^   a hello each 100 ms                     │  a hello each second
//!     └── a frame to send, or the peer says busy ─┘
//! ```
//!
//! Every hello announces the interval that its sender needs; both ends use the shorter of
//! the two. So an end that needs to know sooner is served, whatever the other thinks, and
//! the interval belongs to the link. A shorter one counts at once. A longer one is used
//! only after the peer has echoed a hello that announced it: an end that sends seldom is
//! an end of which the other knows that it may.

use super::config::Timing;

/// No peer makes us send more often than this.
const EVERY_MIN_US: u64 = 1_000;

/// The pace of one link.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    busy_us: u64,
    quiet_us: u64,
    quiet_after_us: u64,
    down_after_us: u64,
    /// The interval that we announce.
    mine_us: u64,
    /// The interval that the peer announced last.
    theirs_us: u64,
    /// The first hello that announced a longer interval.
    longer_from: Option<u64>,
    /// The peer has heard it.
    longer_heard: bool,
    /// When the interval became shorter last.
    shorter_us: u64,
    /// When the session came into use.
    began_us: u64,
}

impl Pace {
    /// A busy link at time 0.
    pub(super) fn new(timing: &Timing) -> Self {
        Self {
            busy_us: timing.hello_every_us,
            quiet_us: timing.quiet_hello_every_us.max(timing.hello_every_us),
            quiet_after_us: timing.quiet_after_us,
            down_after_us: timing.down_after_us,
            mine_us: timing.hello_every_us,
            theirs_us: timing.hello_every_us,
            longer_from: None,
            longer_heard: false,
            shorter_us: 0,
            began_us: 0,
        }
    }

    /// Somebody has to know within a few of `every_us` that the peer is gone: hellos go that often,
    /// frames or not. `None`: as often as others.
    pub(super) fn urge(&mut self, now_us: u64, every_us: Option<u64>, timing: &Timing) {
        self.busy_us = every_us.map_or(timing.hello_every_us, |us| us.max(EVERY_MIN_US));
        self.quiet_us = match every_us {
            Some(_) => self.busy_us,
            None => timing.quiet_hello_every_us.max(timing.hello_every_us),
        };
        self.mine_us = self.busy_us;
        self.longer_from = None;
        self.longer_heard = false;
        self.shorter_us = now_us;
    }

    /// True if the peer does without frequent hellos, too.
    pub(super) fn peer_rests(&self) -> bool {
        self.theirs_us >= self.quiet_us
    }

    /// Another session is used, or the peer is silent: nothing is known of its pace.
    pub(super) fn begin(&mut self, now_us: u64) {
        self.mine_us = self.busy_us;
        self.theirs_us = self.busy_us;
        self.longer_from = None;
        self.longer_heard = false;
        self.shorter_us = now_us;
        self.began_us = now_us;
    }

    /// True if no frame went since `used_us` for so long that seldom hellos will do.
    pub(super) fn may_rest(&self, now_us: u64, used_us: u64) -> bool {
        let since_us = used_us.max(self.began_us);
        self.quiet_us > self.busy_us && now_us.saturating_sub(since_us) >= self.quiet_after_us
    }

    /// Announces the longer interval from now on.
    pub(super) fn rest(&mut self) {
        self.mine_us = self.quiet_us;
    }

    /// Frames go again. True if that makes a hello due.
    pub(super) fn wake(&mut self, now_us: u64) -> bool {
        let before_us = self.agreed_us();
        self.mine_us = self.busy_us;
        self.longer_from = None;
        self.longer_heard = false;
        self.is_shorter(now_us, before_us)
    }

    /// The peer announced `every_us`. True if that makes a hello due.
    pub(super) fn heard(&mut self, now_us: u64, every_us: u32) -> bool {
        let before_us = self.agreed_us();
        self.theirs_us = u64::from(every_us).max(EVERY_MIN_US);
        self.is_shorter(now_us, before_us)
    }

    /// The hello `number` is about to be sent: what it announces, in microseconds.
    pub(super) fn announce(&mut self, number: u64) -> u32 {
        if self.mine_us > self.busy_us {
            self.longer_from.get_or_insert(number);
        }
        u32::try_from(self.mine_us).unwrap_or(u32::MAX)
    }

    /// The peer has heard our hellos up to `number`.
    pub(super) fn echoed(&mut self, number: u64) {
        self.longer_heard |= self.longer_from.is_some_and(|from| number >= from);
    }

    /// How long after a hello we send the next.
    pub(super) fn every_us(&self) -> u64 {
        let mine_us = if self.longer_heard { self.mine_us } else { self.busy_us };
        mine_us.min(self.theirs_us)
    }

    /// When a peer that was last alive at `alive_us` counts as down.
    pub(super) fn down_at_us(&self, alive_us: u64) -> u64 {
        // Whoever wants more hellos than we do does not make us less patient.
        let agreed_us = self.agreed_us().max(self.busy_us);
        let scaled_us = self.down_after_us.saturating_mul(agreed_us) / self.busy_us.max(1);
        alive_us.max(self.shorter_us).saturating_add(scaled_us)
    }

    /// The longest that the peer may wait between hellos.
    fn agreed_us(&self) -> u64 {
        self.mine_us.min(self.theirs_us)
    }

    fn is_shorter(&mut self, now_us: u64, before_us: u64) -> bool {
        let shorter = self.agreed_us() < before_us;
        if shorter {
            self.shorter_us = now_us;
        }
        shorter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    fn quiet() -> Pace {
        let mut pace = Pace::new(&Timing::default());
        pace.rest();
        pace.announce(7);
        pace.heard(0, 1_000_000);
        pace.echoed(7);
        pace
    }

    #[test]
    fn hellos_become_seldom_only_when_both_ends_know_that_they_do() {
        let mut pace = Pace::new(&Timing::default());
        assert!(!pace.may_rest(2_999 * MS, 0) && pace.may_rest(3_000 * MS, 0));
        pace.rest();
        assert_eq!(pace.announce(7), 1_000_000);
        assert_eq!(pace.announce(8), 1_000_000);
        pace.heard(0, 1_000_000);
        pace.echoed(6);
        assert_eq!(pace.every_us(), 100 * MS, "the peer has not heard that we shall be seldom");
        assert_eq!(pace.down_at_us(0), 5_000 * MS, "but may itself be seldom already");
        pace.echoed(7);
        assert_eq!(pace.every_us(), 1_000 * MS);
    }

    #[test]
    fn a_peer_that_stays_busy_keeps_us_busy() {
        let mut pace = Pace::new(&Timing::default());
        pace.rest();
        pace.announce(7);
        pace.echoed(7);
        assert_eq!((pace.every_us(), pace.down_at_us(0)), (100 * MS, 500 * MS));
    }

    #[test]
    fn waking_gives_the_peer_the_time_of_a_busy_link_from_there() {
        let mut pace = quiet();
        assert!(pace.wake(10_000 * MS), "a hello is due");
        assert_eq!((pace.every_us(), pace.announce(9)), (100 * MS, 100_000));
        assert_eq!(pace.down_at_us(9_100 * MS), 10_500 * MS);
        assert!(!pace.wake(10_001 * MS));
        assert_eq!(pace.down_at_us(9_100 * MS), 10_500 * MS);
    }

    #[test]
    fn a_link_that_somebody_depends_on_has_its_hellos_with_or_without_frames() {
        let timing = Timing::default();
        let mut pace = quiet();
        pace.urge(10_000 * MS, Some(5_000), &timing);
        assert_eq!((pace.every_us(), pace.announce(9)), (5 * MS, 5_000));
        assert!(!pace.may_rest(1_000_000 * MS, 0));
        assert_eq!(pace.down_at_us(20_000 * MS), 20_500 * MS, "sessions are no less patient");
        pace.begin(0);
        assert_eq!(pace.every_us(), 5 * MS, "another session is as urgent");
        pace.urge(0, None, &timing);
        assert_eq!(pace.announce(10), 100_000);
    }

    #[test]
    fn the_peer_wakes_us_and_may_want_more_than_we_do() {
        let mut pace = quiet();
        assert!(pace.heard(10_000 * MS, 5_000));
        assert_eq!((pace.every_us(), pace.down_at_us(0)), (5 * MS, 10_500 * MS));
        assert!(pace.heard(10_000 * MS, 1), "but not as much as it likes");
        assert_eq!(pace.every_us(), MS);
    }
}
