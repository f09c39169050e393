//! What happens to the datagrams of one direction. Pure: time is an argument, chance has a seed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Old datagrams that are kept for replaying.
const MEMORY: usize = 512;
/// A datagram that is held for others goes on alone after this time, so that the last ones of a
/// burst are late, not lost.
const HOLD_LIMIT: Duration = Duration::from_millis(20);

/// How datagrams are treated. Chances are from 0 to 1, each thrown for every datagram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Impairment {
    /// Chance to be lost.
    pub loss: f64,
    /// Chance to come twice.
    pub duplicate: f64,
    /// Chance to be held back until `reorder_by` later ones have gone.
    pub reorder: f64,
    /// How many go before one that is held back.
    pub reorder_by: u32,
    /// Chance that one byte is changed.
    pub corrupt: f64,
    /// Chance that one of the last 512 is sent again as well.
    pub replay: f64,
    /// Every datagram takes this long.
    pub delay: Duration,
    /// Longer datagrams are lost, in bytes of UDP payload.
    pub len_max: usize,
    /// Nothing passes.
    pub cut: bool,
}

impl Impairment {
    /// A perfect network.
    pub const NONE: Self = Self {
        loss: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        reorder_by: 0,
        corrupt: 0.0,
        replay: 0.0,
        delay: Duration::ZERO,
        len_max: usize::MAX,
        cut: false,
    };

    /// A cut wire.
    pub const CUT: Self = Self { cut: true, ..Self::NONE };

    /// Random loss only.
    #[must_use]
    pub fn loss(chance: f64) -> Self {
        Self { loss: chance, ..Self::NONE }
    }
}

/// What was done, in datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent on, additional copies included.
    pub passed: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because they were too long.
    pub too_long: u64,
    /// Lost because nothing passes.
    pub cut: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Held back for others.
    pub reordered: u64,
    /// Changed.
    pub corrupted: u64,
    /// Sent again, long after.
    pub replayed: u64,
    /// Passed, but nobody was at the port.
    pub refused: u64,
}

/// A datagram on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Datagram {
    /// The index of the port that it came to.
    pub(super) port: usize,
    pub(super) bytes: Vec<u8>,
}

/// One direction of one class.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) impairment: Impairment,
    pub(super) counts: Counts,
    chance: Chance,
    /// By when they are due, then in the order of coming.
    flying: BTreeMap<(Duration, u64), Datagram>,
    next_flight: u64,
    /// Held back: how many must still go before it, at the latest when, and what.
    held: VecDeque<(u32, Duration, Datagram)>,
    memory: VecDeque<Datagram>,
}

impl Lane {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            impairment: Impairment::NONE,
            counts: Counts::default(),
            chance: Chance(seed),
            flying: BTreeMap::new(),
            next_flight: 0,
            held: VecDeque::new(),
            memory: VecDeque::new(),
        }
    }

    /// A datagram came.
    pub(super) fn take(&mut self, mut datagram: Datagram, now: Duration) {
        let Impairment { loss, duplicate, reorder, corrupt, replay, .. } = self.impairment;
        // All are thrown for every datagram, so that one setting does not shift the others' luck.
        let [loss, duplicate, reorder, corrupt, replay] =
            [loss, duplicate, reorder, corrupt, replay].map(|chance| self.chance.happens(chance));
        if self.impairment.cut {
            self.counts.cut += 1;
        } else if datagram.bytes.len() > self.impairment.len_max {
            self.counts.too_long += 1;
        } else if loss {
            self.counts.lost += 1;
        } else {
            self.remember(&datagram);
            if corrupt {
                self.counts.corrupted += 1;
                self.damage(&mut datagram.bytes);
            }
            if duplicate {
                self.counts.duplicated += 1;
                self.fly(datagram.clone(), now);
            }
            if reorder {
                self.counts.reordered += 1;
                self.held.push_back((self.impairment.reorder_by, now + HOLD_LIMIT, datagram));
            } else {
                self.fly(datagram, now);
                self.pass_held(now);
            }
        }
        if replay {
            let at = self.chance.below(self.memory.len());
            if let Some(old) = self.memory.get(at).cloned() {
                self.counts.replayed += 1;
                self.fly(old, now);
            }
        }
    }

    /// The next datagram that is due.
    pub(super) fn next(&mut self, now: Duration) -> Option<Datagram> {
        while let Some(at) = self.held.iter().position(|(_, until, _)| *until <= now) {
            if let Some((_, _, datagram)) = self.held.remove(at) {
                self.fly(datagram, now);
            }
        }
        let entry = self.flying.first_entry().filter(|entry| entry.key().0 <= now)?;
        self.counts.passed += 1;
        Some(entry.remove())
    }

    /// When [`Self::next`] has something, if nothing comes.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let flying = self.flying.keys().next().map(|(due, _)| *due);
        let held = self.held.iter().map(|(_, until, _)| *until);
        held.chain(flying).min()
    }

    fn fly(&mut self, datagram: Datagram, now: Duration) {
        self.flying.insert((now + self.impairment.delay, self.next_flight), datagram);
        self.next_flight += 1;
    }

    /// One has gone: those that waited for it as the last go now.
    fn pass_held(&mut self, now: Duration) {
        let mut left = VecDeque::new();
        while let Some((before, until, datagram)) = self.held.pop_front() {
            match before.checked_sub(1) {
                Some(before) if before > 0 => left.push_back((before, until, datagram)),
                _ => self.fly(datagram, now),
            }
        }
        self.held = left;
    }

    fn remember(&mut self, datagram: &Datagram) {
        if self.impairment.replay > 0.0 {
            if self.memory.len() >= MEMORY {
                self.memory.pop_front();
            }
            self.memory.push_back(datagram.clone());
        }
    }

    fn damage(&mut self, bytes: &mut [u8]) {
        let at = self.chance.below(bytes.len());
        let bit = self.chance.below(8);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }
}

/// SplitMix64: enough for dice, and it gives the same on every machine.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn happens(&mut self, chance: f64) -> bool {
        // 32 random bits are exact as a float.
        let thrown = u32::try_from(self.next() >> 32).unwrap_or(u32::MAX);
        f64::from(thrown) < chance * 4_294_967_296.0
    }

    /// Below `bound`; 0 if that is 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(1).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    /// What comes out of `count` numbered datagrams, one after the other.
    fn pass(impairment: Impairment, seed: u64, count: u16) -> (Vec<Datagram>, Counts) {
        let mut lane = Lane { impairment, ..Lane::new(seed) };
        let mut out = Vec::new();
        for number in 0..count {
            let bytes = number.to_be_bytes().repeat(50);
            lane.take(Datagram { port: 0, bytes }, NOW);
            out.extend(std::iter::from_fn(|| lane.next(NOW)));
        }
        let end = NOW + HOLD_LIMIT + impairment.delay;
        out.extend(std::iter::from_fn(|| lane.next(end)));
        assert_eq!(lane.next_due(), None);
        (out, lane.counts)
    }

    fn numbers(datagrams: &[Datagram]) -> Vec<u8> {
        datagrams.iter().map(|datagram| datagram.bytes[1]).collect()
    }

    #[test]
    fn a_perfect_network_changes_nothing() {
        let (out, counts) = pass(Impairment::NONE, 1, 200);
        assert_eq!(numbers(&out), (0..200).collect::<Vec<u8>>());
        assert_eq!(counts, Counts { passed: 200, ..Counts::default() });
    }

    #[test]
    fn one_seed_gives_one_loss_at_about_the_rate_wanted() {
        let (out, counts) = pass(Impairment::loss(0.1), 7, 10_000);
        assert!((800..1200).contains(&counts.lost), "{counts:?}");
        assert_eq!(out.len() as u64 + counts.lost, 10_000);
        assert_eq!(pass(Impairment::loss(0.1), 7, 10_000).0, out);
        assert_ne!(pass(Impairment::loss(0.1), 8, 10_000).0, out);
    }

    #[test]
    fn a_datagram_that_is_held_back_comes_after_so_many_others() {
        let mut lane = Lane::new(1);
        let number = |n: u8| Datagram { port: 0, bytes: vec![n; 2] };
        lane.impairment = Impairment { reorder: 1.0, reorder_by: 3, ..Impairment::NONE };
        lane.take(number(0), NOW);
        lane.impairment = Impairment::NONE;
        (1..6).for_each(|n| lane.take(number(n), NOW));
        let out: Vec<_> = std::iter::from_fn(|| lane.next(NOW)).collect();
        assert_eq!(numbers(&out), [1, 2, 3, 0, 4, 5]);
    }

    #[test]
    fn the_last_one_held_back_comes_in_the_end() {
        let held = Impairment { reorder: 1.0, reorder_by: 9, ..Impairment::NONE };
        let (out, counts) = pass(held, 1, 3);
        assert_eq!((out.len(), counts.reordered), (3, 3));
    }

    #[test]
    fn doubles_and_replays_are_more_and_damage_is_one_bit() {
        let (out, counts) = pass(Impairment { duplicate: 0.5, ..Impairment::NONE }, 1, 100);
        assert_eq!(out.len() as u64, 100 + counts.duplicated);
        let (out, counts) = pass(Impairment { replay: 0.5, ..Impairment::NONE }, 1, 100);
        assert!(counts.replayed > 20 && out.len() as u64 == 100 + counts.replayed, "{counts:?}");
        let (out, counts) = pass(Impairment { corrupt: 0.5, ..Impairment::NONE }, 1, 100);
        let damaged = out.iter().filter(|d| d.bytes[..2].repeat(50) != d.bytes);
        assert_eq!(damaged.count() as u64, counts.corrupted);
    }

    #[test]
    fn long_ones_and_all_behind_a_cut_are_lost() {
        let (out, counts) = pass(Impairment { len_max: 99, ..Impairment::NONE }, 1, 5);
        assert_eq!((out.len(), counts.too_long), (0, 5));
        let (out, counts) = pass(Impairment { len_max: 100, ..Impairment::NONE }, 1, 5);
        assert_eq!((out.len(), counts.too_long), (5, 0));
        let (out, counts) = pass(Impairment::CUT, 1, 5);
        assert_eq!((out.len(), counts.cut), (0, 5));
    }
}
