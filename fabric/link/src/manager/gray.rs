//! Gray failures: a link that is up and not fit.
//!
//! ```text
//!   our small hellos ──▶ peer ── echo: which came ──▶ Judge: share lost, window by window
//!                                                        │ too much, twice in a row
//!   the peer's own judgement of the other direction ─────┼──▶ Trouble ──▶ log, status, homes
//!   full-size hellos (mtu), data paths (workers) ────────┘
//! ```
//!
//! **Each end judges what it sends**, because only it knows what it sent and how long that was: a
//! probe of a length that the way never carried leaves a gap in the numbers, too, and is no loss.
//! It tells the other end what it found (channel [`CHANNEL`]), so both know both directions.
//!
//! **A stall is no loss.** What is counted are numbers that the peer says it has not heard although
//! it has heard later ones. A process that slept reads what waited for it, and hears all of it. A burst
//! of loss that is over within 25 ms costs too few hellos for [`LOST_MIN`] in two windows.
//!
//! Pure: the clock is an argument.

use super::peer::Peer;
use super::{Manager, Output};
use crate::random::Random;
use crate::session::PeerId;
use std::sync::atomic::Ordering;

/// The channel on which the two ends of a link tell each other how it is.
pub(super) const CHANNEL: u8 = 0;

/// A window is over after this time, if it has seen [`HELLOS_MIN`].
const WINDOW_US: u64 = 250_000;

/// Of fewer hellos no share is reckoned: where they are seldom, windows are longer.
const HELLOS_MIN: u32 = 32;

/// Fewer than these say nothing, whatever their share.
const LOST_MIN: u32 = 5;

/// More than one in so many lost is too much: 5 %.
const LOST_ONE_IN: u32 = 20;

/// A window with at most one lost in so many is clean: 2 %.
const CLEAN_ONE_IN: u32 = 50;

/// A direction is well again after so long without a window that is not clean.
const WELL_AFTER_US: u64 = 5_000_000;

/// While something is wrong, the peer is told in this time, if there is a hello to go with it.
const TELL_EVERY_US: u64 = 100_000;

/// What the peer told holds for so long, and for some of its hellos.
const TOLD_FOR_US: u64 = 2_000_000;
const TOLD_HELLOS: u64 = 5;

/// The peer is deaf if it echoes nothing new for so long, and for some hellos, while it is heard.
const DEAF_AFTER_US: u64 = 250_000;
const DEAF_HELLOS: u64 = 8;

/// A change is said no sooner than this after the one before: peers may tell this and that a few
/// thousand times a second, and each is a line of log.
const SAY_EVERY_US: u64 = 1_000_000;

/// In the second byte of what is told: data does not arrive.
const NO_PATH: u8 = 1;

/// What is wrong with a link that is, or was, up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trouble {
    /// Percent of our hellos that the peer does not hear, if that is too much.
    pub lossy_to_peer: Option<u8>,
    /// Percent of the peer's hellos that do not come here, says the peer, if that is too much.
    pub lossy_from_peer: Option<u8>,
    /// The peer is heard, and does not hear us.
    pub one_way: bool,
    /// Datagrams of this many bytes of UDP payload were carried, and are lost now; shorter ones
    /// are not.
    pub full_size_lost: Option<u16>,
    /// Data paths of ours that nobody answers on, of all workers.
    pub paths_dead: u32,
    /// Data does not arrive, on whatever path; here, or the peer says so of its own.
    pub no_path: bool,
}

impl Trouble {
    /// Whether another way should be used, if there is one without trouble. Datagrams are made
    /// shorter, and flows leave dead paths, without that.
    #[must_use]
    pub fn is_gray(&self) -> bool {
        self.lossy_to_peer.is_some() || self.lossy_from_peer.is_some() || self.no_path
    }

    /// The names of what is wrong, as in the status.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [
            (self.one_way, "one-way"),
            (self.lossy_to_peer.is_some(), "lossy-to-peer"),
            (self.lossy_from_peer.is_some(), "lossy-from-peer"),
            (self.no_path, "no-path"),
            (self.paths_dead > 0, "path-dead"),
            (self.full_size_lost.is_some(), "full-size-lost"),
        ]
        .into_iter()
        .filter_map(|(is_so, name)| is_so.then_some(name))
    }
}

/// One direction, by the hellos that went in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Judge {
    began_us: u64,
    hellos: u32,
    lost: u32,
    /// The window before lost too many: hellos and those lost.
    before: Option<(u32, u32)>,
    /// Percent lost, while that is too much.
    verdict: Option<u8>,
    clean_from_us: Option<u64>,
}

impl Judge {
    /// One more hello of which the fate is known.
    pub(super) fn count(&mut self, now_us: u64, lost: bool) {
        if self.hellos == 0 {
            self.began_us = now_us;
        }
        self.hellos += 1;
        self.lost += u32::from(lost);
        if self.hellos >= HELLOS_MIN && now_us.saturating_sub(self.began_us) >= WINDOW_US {
            self.end_window(now_us);
        }
    }

    /// Nothing is known any more: the peer was silent.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Percent lost, while that is too much.
    pub(super) fn verdict(&self) -> Option<u8> {
        self.verdict
    }

    fn end_window(&mut self, now_us: u64) {
        let (hellos, lost) = (self.hellos, self.lost);
        (self.hellos, self.lost) = (0, 0);
        if lost >= LOST_MIN && lost.saturating_mul(LOST_ONE_IN) > hellos {
            self.clean_from_us = None;
            if let Some((hellos_before, lost_before)) = self.before {
                self.verdict = Some(percent(lost + lost_before, hellos + hellos_before));
            }
            self.before = Some((hellos, lost));
            return;
        }
        self.before = None;
        if lost.saturating_mul(CLEAN_ONE_IN) > hellos {
            self.clean_from_us = None;
            return;
        }
        let clean_us = now_us.saturating_sub(*self.clean_from_us.get_or_insert(self.began_us));
        if clean_us >= WELL_AFTER_US {
            self.verdict = None;
        }
    }
}

fn percent(part: u32, of: u32) -> u8 {
    u8::try_from(part.saturating_mul(100) / of.max(1)).unwrap_or(100).min(100)
}

/// What the manager knows of a link's fitness, beside its hellos' fates.
#[derive(Debug, Clone, Default)]
pub(super) struct Gray {
    pub(super) judge: Judge,
    /// What the peer told last: percent lost of its hellos, flags, and until when that holds.
    told: Option<(u8, u8, u64)>,
    tell_at_us: u64,
    /// Something was told that holds no more.
    tell_well: bool,
    /// What was published, and when.
    shown: Trouble,
    shown_us: Option<u64>,
}

impl Gray {
    pub(super) fn shown(&self) -> Trouble {
        self.shown
    }

    /// The peer is silent.
    pub(super) fn forget(&mut self) {
        self.judge.forget();
        self.told = None;
    }
}

impl Peer {
    /// How things stand now.
    fn trouble(&mut self, now_us: u64) -> Trouble {
        let told = self.gray.told.filter(|(.., until_us)| now_us < *until_us);
        let every_us = self.pace.every_us();
        let heard_ago_us = self.heard_us.map_or(u64::MAX, |us| now_us.saturating_sub(us));
        let deaf_after_us = DEAF_AFTER_US.max(every_us.saturating_mul(DEAF_HELLOS));
        let is_deaf = now_us.saturating_sub(self.echoed_us) > deaf_after_us
            && heard_ago_us <= every_us.saturating_mul(DEAF_HELLOS / 2);
        let full_size_lost = self.mtu.lost();
        let Some(live) = self.current() else { return Trouble::default() };
        let data = &live.session.data;
        let (dead, cut) = (data.dead.load(Ordering::Relaxed), data.cut.load(Ordering::Relaxed));
        Trouble {
            lossy_to_peer: self.gray.judge.verdict(),
            lossy_from_peer: told.and_then(|(share, ..)| (share > 0).then_some(share)),
            one_way: is_deaf,
            full_size_lost,
            paths_dead: dead,
            no_path: cut > 0 || told.is_some_and(|(_, flags, _)| flags & NO_PATH != 0),
        }
    }

    /// What is to be told to the peer, if it is time: the share that it does not hear, and whether
    /// data arrives.
    fn due_to_peer(&mut self, now_us: u64) -> Option<[u8; 2]> {
        let share = self.gray.judge.verdict().unwrap_or(0);
        let cut = self.current()?.session.data.cut.load(Ordering::Relaxed) > 0;
        let wrong = share > 0 || cut;
        let due = if wrong { now_us >= self.gray.tell_at_us } else { self.gray.tell_well };
        if !due {
            return None;
        }
        self.gray.tell_at_us = now_us.saturating_add(TELL_EVERY_US);
        self.gray.tell_well = wrong;
        Some([share, if cut { NO_PATH } else { 0 }])
    }
}

impl<R: Random> Manager<R> {
    /// Says what has changed. Called with every hello.
    pub(super) fn judge(&mut self, now_us: u64, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        let trouble = peer.trouble(now_us);
        let before = peer.gray.shown;
        let is_news = !before.names().eq(trouble.names()) || before.is_gray() != trouble.is_gray();
        let is_soon = peer.gray.shown_us.is_some_and(|us| now_us < us.saturating_add(SAY_EVERY_US));
        if !is_news {
            peer.gray.shown = trouble;
        } else if !is_soon {
            (peer.gray.shown, peer.gray.shown_us) = (trouble, Some(now_us));
            self.outputs.push_back(Output::Trouble { peer: id, trouble });
        }
        let Some(peer) = self.peers.get_mut(id.0).filter(|peer| peer.up) else { return };
        if let Some(bytes) = peer.due_to_peer(now_us) {
            self.send_message(id, CHANNEL, &bytes);
        }
    }

    /// Nobody needs the peer any more: nothing is wrong with it.
    pub(super) fn forget_trouble(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        peer.gray.forget();
        if std::mem::take(&mut peer.gray.shown) != Trouble::default() {
            self.outputs.push_back(Output::Trouble { peer: id, trouble: Trouble::default() });
        }
    }

    /// The peer tells how much of what it sends we do not hear.
    pub(super) fn heard_trouble(&mut self, now_us: u64, id: PeerId, payload: &[u8]) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        let Some(&[share, flags]) = payload.first_chunk() else { return };
        let for_us = TOLD_FOR_US.saturating_add(peer.pace.every_us().saturating_mul(TOLD_HELLOS));
        peer.gray.told = Some((share.min(100), flags, now_us.saturating_add(for_us)));
        self.judge(now_us, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000;

    /// Hellos each 5 ms from `from_us` on, of which `is_lost` says which are lost. Returns when the first
    /// verdict was there.
    fn run(
        judge: &mut Judge,
        from_us: u64,
        count: u64,
        is_lost: impl Fn(u64) -> bool,
    ) -> Option<u64> {
        let mut found_us = None;
        for n in 0..count {
            let now_us = from_us + n * 5 * MS;
            judge.count(now_us, is_lost(n));
            if judge.verdict().is_some() {
                found_us.get_or_insert(now_us - from_us);
            }
        }
        found_us
    }

    #[test]
    fn three_in_ten_lost_is_found_within_a_second_whenever_it_begins() {
        for clean in 0..60 {
            let mut judge = Judge::default();
            run(&mut judge, 0, clean, |_| false);
            let from_us = clean * 5 * MS;
            let found = run(&mut judge, from_us, 400, |n| n % 10 < 3);
            assert!(found.is_some_and(|us| us < 900 * MS), "{clean}: {found:?}");
            assert!((25..=35).contains(&judge.verdict().unwrap()));
        }
    }

    #[test]
    fn a_burst_of_25_ms_is_nothing_wherever_it_lies() {
        for at in 0..200 {
            let mut judge = Judge::default();
            // Twice as many hellos as usual.
            let found = run(&mut judge, 0, 600, |n| (at..at + 5).contains(&n));
            assert_eq!(found, None, "{at}");
        }
    }

    #[test]
    fn one_in_fifty_is_nothing() {
        let mut judge = Judge::default();
        assert_eq!(run(&mut judge, 0, 20_000, |n| n % 50 == 0), None);
    }

    #[test]
    fn it_is_well_again_only_after_clean_seconds() {
        let mut judge = Judge::default();
        run(&mut judge, 0, 200, |n| n % 3 == 0);
        assert!(judge.verdict().is_some());
        run(&mut judge, 1_000 * MS, 950, |_| false);
        assert!(judge.verdict().is_some(), "not yet five seconds");
        run(&mut judge, 5_750 * MS, 50, |n| n % 10 == 0);
        run(&mut judge, 6_000 * MS, 950, |_| false);
        assert!(judge.verdict().is_some(), "the time began anew");
        run(&mut judge, 10_750 * MS, 200, |_| false);
        assert_eq!(judge.verdict(), None);
    }

    #[test]
    fn where_hellos_are_seldom_windows_are_longer() {
        let mut judge = Judge::default();
        for n in 0..64 {
            judge.count(n * 100 * MS, n % 3 == 0);
            assert_eq!(judge.verdict().is_some(), n == 63, "{n}");
        }
    }

    proptest! {
        #[test]
        fn fewer_than_five_lost_in_each_window_say_nothing(
            lost in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            // 52 hellos are more than a window: no two windows have five of these.
            let mut judge = Judge::default();
            for window in 0..20 {
                let lost: Vec<_> = lost.iter().map(|it| it.index(52) as u64).collect();
                let from_us = window * 52 * 5 * MS;
                let found = run(&mut judge, from_us, 52, |n| lost.contains(&n) && window % 2 == 0);
                prop_assert_eq!(found, None);
            }
        }

        #[test]
        fn any_share_above_a_tenth_is_found_and_named_as_it_is(percent in 15u64..=100) {
            let mut judge = Judge::default();
            let found = run(&mut judge, 0, 1_000, |n| (n * percent) % 100 < percent);
            prop_assert!(found.is_some());
            let named = u64::from(judge.verdict().unwrap());
            prop_assert!(named.abs_diff(percent) <= 5, "{named} of {percent}");
        }
    }
}
