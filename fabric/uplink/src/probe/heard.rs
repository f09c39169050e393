//! Who was heard when, where, and what may be taken for new. Pure; the clock is an argument.
//!
//! ```text
//!   (own uplink, VLAN, sender) ─▶ newest life and number, when, whom the sender hears
//! ```
//! Of one life a number is taken once and in order; another life is taken if it began later. So what
//! somebody recorded and plays again changes nothing, but for a copy of the very last probe, which
//! is what a loop makes, too: it is told apart as [`Hearing::Again`] and refreshes nothing.
//!
//! Only what is verified and stands in the configuration gets an entry, so that strangers cost no
//! memory.

use super::frame::Probe;
use rustc_hash::FxHashMap;
use wireonce_wire::UplinkId;

/// Most entries: own uplinks x VLANs x the pool's uplinks. What is beyond is not followed.
pub const ENTRIES_MAX: usize = 65_536;

/// Where a probe came in, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The uplink of this gateway that heard it.
    pub at: UplinkId,
    /// On this VLAN.
    pub vlan: Option<u16>,
    /// Who sent it.
    pub from: UplinkId,
}

/// What became of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// It is news.
    New,
    /// The newest one came a second time.
    Again,
    /// It is older than what was heard: somebody repeats it, or it was very late.
    Old,
    /// There is no room to follow more.
    Full,
}

/// What is known of one sender at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The sender's life that is followed.
    pub life: u64,
    /// Its newest number.
    pub number: u64,
    /// When that came.
    pub heard_us: u64,
    /// Since when it has been heard without a break longer than the window.
    pub since_us: u64,
    /// Whom the sender heard.
    pub hears: Vec<UplinkId>,
    /// When a probe last came twice, the one before it having come twice, too.
    pub twice_us: Option<u64>,
    /// The number that last came twice.
    doubled: Option<u64>,
    /// Other probes than the last came between: the one before the last was doubled.
    doubles_in_row: u8,
}

/// All that was heard.
#[derive(Debug, Default)]
pub struct Heard {
    entries: FxHashMap<Place, Entry>,
}

impl Heard {
    /// A verified probe came at `place`. After a silence of `window_us` it counts as heard anew.
    pub fn hear(&mut self, place: Place, probe: &Probe, window_us: u64, now_us: u64) -> Hearing {
        let Some(entry) = self.entries.get_mut(&place) else {
            if self.entries.len() >= ENTRIES_MAX {
                return Hearing::Full;
            }
            self.entries.insert(place, Entry::new(probe, now_us));
            return Hearing::New;
        };
        if (probe.life, probe.number) < (entry.life, entry.number) {
            return Hearing::Old;
        }
        if (probe.life, probe.number) == (entry.life, entry.number) {
            // A copy that comes late is a recording, not a loop.
            if now_us.saturating_sub(entry.heard_us) > COPY_US {
                return Hearing::Old;
            }
            entry.double(now_us);
            return Hearing::Again;
        }
        if entry.doubled != Some(entry.number) {
            entry.doubles_in_row = 0;
        }
        if now_us.saturating_sub(entry.heard_us) > window_us {
            entry.since_us = now_us;
        }
        entry.life = probe.life;
        entry.number = probe.number;
        entry.heard_us = now_us;
        entry.hears.clone_from(&probe.heard);
        Hearing::New
    }

    /// What is known of a sender at a place.
    #[must_use]
    pub fn get(&self, place: &Place) -> Option<&Entry> {
        self.entries.get(place)
    }

    /// When anything of `from` was last heard at `at`, on any VLAN.
    #[must_use]
    pub fn last_us(&self, at: UplinkId, from: UplinkId, vlans: &[Option<u16>]) -> Option<u64> {
        let entry = |vlan: &Option<u16>| self.get(&Place { at, vlan: *vlan, from });
        vlans.iter().filter_map(entry).map(|entry| entry.heard_us).max()
    }

    /// Keeps only what the configuration still has.
    pub fn retain(&mut self, mut known: impl FnMut(&Place) -> bool) {
        self.entries.retain(|place, _| known(place));
    }

    /// What was heard of these senders in later lives than `life` was never theirs.
    pub fn forget_later(&mut self, senders: &[UplinkId], life: u64) {
        self.entries.retain(|place, entry| entry.life <= life || !senders.contains(&place.from));
    }

    /// How much is followed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nobody was heard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Later than this a copy does not come out of a loop.
const COPY_US: u64 = 500_000;

impl Entry {
    fn new(probe: &Probe, now_us: u64) -> Self {
        Self {
            life: probe.life,
            number: probe.number,
            heard_us: now_us,
            since_us: now_us,
            hears: probe.heard.clone(),
            twice_us: None,
            doubled: None,
            doubles_in_row: 0,
        }
    }

    /// The newest one came again. One copy may be somebody's joke; two probes in a row are a loop.
    fn double(&mut self, now_us: u64) {
        if self.doubled == Some(self.number) {
            return;
        }
        self.doubled = Some(self.number);
        self.doubles_in_row = self.doubles_in_row.saturating_add(1);
        if self.doubles_in_row >= 2 {
            self.twice_us = Some(now_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::HealthState;
    use proptest::prelude::*;

    const PLACE: Place = Place { at: UplinkId(1), vlan: Some(20), from: UplinkId(2) };
    const WINDOW_US: u64 = 3_500_000;

    fn probe(life: u64, number: u64) -> Probe {
        let (uplink, state) = (UplinkId(2), HealthState::Alive);
        Probe { uplink, state, vlan: Some(20), life, number, heard: vec![UplinkId(1)] }
    }

    fn hear(heard: &mut Heard, life: u64, number: u64, now_us: u64) -> Hearing {
        heard.hear(PLACE, &probe(life, number), WINDOW_US, now_us)
    }

    #[test]
    fn numbers_are_taken_once_and_in_order_and_lives_by_their_beginning() {
        let mut heard = Heard::default();
        assert_eq!(hear(&mut heard, 10, 5, 1), Hearing::New);
        assert_eq!(hear(&mut heard, 10, 5, 2), Hearing::Again);
        assert_eq!(hear(&mut heard, 10, 4, 3), Hearing::Old);
        assert_eq!(hear(&mut heard, 9, 100, 4), Hearing::Old, "of an earlier life");
        assert_eq!(hear(&mut heard, 10, 7, 5), Hearing::New, "one may be lost");
        assert_eq!(hear(&mut heard, 11, 1, 6), Hearing::New, "it restarted");
        assert_eq!(hear(&mut heard, 10, 8, 7), Hearing::Old);
        assert_eq!(heard.get(&PLACE).unwrap().heard_us, 6, "what is not new refreshes nothing");
    }

    #[test]
    fn the_newest_one_played_again_later_is_old() {
        let mut heard = Heard::default();
        hear(&mut heard, 1, 1, 0);
        assert_eq!(hear(&mut heard, 1, 1, COPY_US), Hearing::Again);
        assert_eq!(hear(&mut heard, 1, 1, COPY_US + 1), Hearing::Old);
    }

    #[test]
    fn two_doubles_in_a_row_are_a_loop_and_one_is_not() {
        let mut heard = Heard::default();
        let twice = |heard: &Heard| heard.get(&PLACE).unwrap().twice_us;
        hear(&mut heard, 1, 1, 0);
        for copy in 1..10 {
            hear(&mut heard, 1, 1, copy);
        }
        assert_eq!(twice(&heard), None, "ten copies of one are one double");
        hear(&mut heard, 1, 2, 1_000_000);
        hear(&mut heard, 1, 3, 2_000_000);
        hear(&mut heard, 1, 3, 2_000_001);
        assert_eq!(twice(&heard), None, "the one before came once");
        hear(&mut heard, 1, 4, 3_000_000);
        hear(&mut heard, 1, 4, 3_000_001);
        assert_eq!(twice(&heard), Some(3_000_001));
    }

    #[test]
    fn a_silence_begins_the_time_anew() {
        let mut heard = Heard::default();
        let since = |heard: &Heard| heard.get(&PLACE).unwrap().since_us;
        hear(&mut heard, 1, 1, 1_000_000);
        hear(&mut heard, 1, 2, 4_500_000);
        assert_eq!(since(&heard), 1_000_000);
        hear(&mut heard, 1, 3, 8_000_001);
        assert_eq!(since(&heard), 8_000_001);
    }

    #[test]
    fn the_table_has_a_bound() {
        let mut heard = Heard::default();
        for n in 0..u32::try_from(ENTRIES_MAX).unwrap() {
            let place = Place { from: UplinkId(n), ..PLACE };
            assert_eq!(heard.hear(place, &probe(1, 1), WINDOW_US, 0), Hearing::New);
        }
        let one_more = Place { from: UplinkId(u32::MAX), ..PLACE };
        assert_eq!(heard.hear(one_more, &probe(1, 1), WINDOW_US, 0), Hearing::Full);
        assert_eq!(hear(&mut heard, 1, 2, 0), Hearing::New, "who is known goes on");
        heard.retain(|place| place.from == PLACE.from);
        assert_eq!(heard.len(), 1);
    }

    proptest! {
        #[test]
        fn what_is_taken_only_grows_and_nothing_is_taken_twice(
            probes in proptest::collection::vec((0_u64..4, 0_u64..20), 1..200),
        ) {
            let mut heard = Heard::default();
            let mut taken = Vec::new();
            for (at, (life, number)) in probes.into_iter().enumerate() {
                if hear(&mut heard, life, number, at as u64) == Hearing::New {
                    taken.push((life, number));
                }
            }
            prop_assert!(taken.is_sorted_by(|a, b| a < b), "{taken:?}");
        }
    }
}
