//! Paths on which nobody answers, and the flows that leave them.
//!
//! ```text
//!   frames, probe after probe, no evidence ──▶ dead ──▶ its flows take the next path that lives
//!                                               │  probed each second
//!   living ◀── answers for three seconds ───────┘
//! ```
//!
//! A path is a pair of UDP ports ([`super::data_port`]), so one dead member of an ECMP group or of a
//! LAG eats one path, both ECN classes of it, and leaves the others and the hellos alone. Ports follow
//! from numbers and are not negotiated (decision 9), so a path gets no other ports: its flows go to
//! another path.
//!
//! That a path is dead is said only if the peer lives: if another path to the same worker was
//! answered meanwhile, or, where there is none, if the peer's agent has heard hellos of ours for
//! longer. A peer that is down is the manager's matter.

use super::{ECT_PATH_BIT, FabricConfig, Outcome, peers::Sending, peers::tx_slot, tx::TxPath};
use std::sync::atomic::Ordering;
use wireonce_wire::TrainPool;

/// A path is dead after so many questions, the last of them 300 ms after the first frame without
/// news, if others are answered.
const QUESTIONS_MAX: u32 = 4;
/// And after so many, 620 ms, if nobody else is asked.
const QUESTIONS_MAX_ALONE: u32 = 5;
/// Hellos of ours that the peer's agent has heard since the first question.
const ECHOES_MIN: u32 = 3;

/// Whether it is worth to look closer.
pub(super) fn is_suspect(path: &TxPath) -> bool {
    path.asked.questions >= QUESTIONS_MAX
}

/// Questions of one path that were not answered.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked {
    questions: u32,
    since_us: u64,
    /// The agent's count of echoes then.
    echoes: u32,
    /// When the last answer came.
    answered_us: Option<u64>,
    /// Since when each question was answered, and how many.
    well: Option<(u64, u32)>,
}

/// A path lives again after answers for so long, and so many.
const WELL_AFTER_US: u64 = 3_000_000;
const WELL_ANSWERS_MIN: u32 = 3;
/// Questions that may be under way before an answer is missed: the second follows after 20 ms.
const LATE_MAX: u32 = 2;
/// A dead path is asked this long after an answer.
const AGAIN_US: u64 = 1_000_000;

impl Asked {
    /// One more question goes out.
    pub(crate) fn ask(&mut self, now_us: u64, echoes: u32) {
        if self.questions == 0 {
            (self.since_us, self.echoes) = (now_us, echoes);
        }
        self.questions += 1;
        if self.questions > LATE_MAX {
            self.well = None;
        }
    }

    /// Evidence came.
    pub(crate) fn answer(&mut self, now_us: u64) {
        self.questions = 0;
        self.answered_us = Some(now_us);
        let (since_us, answers) = self.well.unwrap_or((now_us, 0));
        self.well = Some((since_us, answers.saturating_add(1)));
    }

    /// Nobody answers, and it is not that nobody is there.
    fn is_dead(&self, others: &[Self], echoes: u32) -> bool {
        let answered = |other: &Self| other.answered_us.is_some_and(|us| us >= self.since_us);
        (self.questions >= QUESTIONS_MAX && others.iter().any(answered))
            || (self.questions >= QUESTIONS_MAX_ALONE
                && echoes.wrapping_sub(self.echoes) >= ECHOES_MIN)
    }

    fn is_well(&self, now_us: u64) -> bool {
        self.well.is_some_and(|(since_us, answers)| {
            answers >= WELL_ANSWERS_MIN && now_us.saturating_sub(since_us) >= WELL_AFTER_US
        })
    }
}

impl Sending {
    /// The path that the flows of `path` take to a worker: that one, or the next that lives.
    #[inline]
    pub(super) fn living(&self, worker: u8, path: u8) -> u8 {
        match self.dead.get(usize::from(worker)) {
            None | Some(0) => path,
            Some(dead) => next_living(*dead, path, self.session.paths),
        }
    }

    /// Paths that are dead: the peer's worker and the number.
    pub(super) fn dead_paths(&self) -> impl Iterator<Item = (u8, u8)> + '_ {
        let workers = (0..self.session.remote_workers).zip(&self.dead);
        workers.flat_map(|(worker, dead)| {
            (0..8).filter(move |number| dead >> number & 1 == 1).map(move |number| (worker, number))
        })
    }

    /// Whether some path is dead.
    pub(super) fn has_dead(&self) -> bool {
        self.dead.iter().any(|dead| *dead != 0)
    }

    /// Finds paths that are dead, or live again.
    pub(super) fn judge_paths(
        &mut self,
        now_us: u64,
        config: &FabricConfig,
        pool: &mut TrainPool,
        outcomes: &mut Vec<Outcome>,
    ) {
        for worker in 0..self.session.remote_workers {
            for number in 0..self.session.paths {
                if self.is_dead(worker, number) {
                    self.look_if_well(now_us, worker, number);
                } else if self.nobody_answers(worker, number) {
                    self.leave(now_us, worker, number, config, pool, outcomes);
                }
            }
        }
    }

    /// Another session with the same peer: what is dead stays so until somebody answers.
    pub(super) fn inherit(&mut self, before: &Self, config: &FabricConfig) {
        if before.session.paths != self.session.paths {
            return;
        }
        let dead: Vec<_> = before.dead_paths().collect();
        for (worker, number) in dead {
            self.set_dead(worker, number, true);
            if let Some(path) = self.path(tx_slot(worker, number), config) {
                path.ask_at(0);
            }
        }
    }

    /// The peer is silent: nothing is known of its paths.
    pub(super) fn forget_dead(&mut self) {
        let dead: Vec<_> = self.dead_paths().collect();
        dead.into_iter().for_each(|(worker, number)| self.set_dead(worker, number, false));
    }

    fn is_dead(&self, worker: u8, number: u8) -> bool {
        self.dead.get(usize::from(worker)).is_some_and(|dead| dead >> number & 1 == 1)
    }

    fn asked(&self, worker: u8, number: u8) -> Option<Asked> {
        let path = self.paths.get(tx_slot(worker, number))?.as_deref()?;
        Some(path.asked)
    }

    fn nobody_answers(&self, worker: u8, number: u8) -> bool {
        let echoes = self.session.data.echoes.load(Ordering::Relaxed);
        let classes = [number, number | ECT_PATH_BIT];
        // Of both ECN classes, for they have the same ports.
        let of = |number| classes_of(number).filter_map(|path| self.asked(worker, path));
        let others: Vec<Asked> =
            (0..self.session.paths).filter(|other| *other != number).flat_map(of).collect();
        let dead = |path: &u8| {
            self.asked(worker, *path).is_some_and(|asked| {
                let twin = self.asked(worker, *path ^ ECT_PATH_BIT);
                let twin_lives =
                    twin.and_then(|it| it.answered_us).is_some_and(|us| us >= asked.since_us);
                !twin_lives && asked.is_dead(&others, echoes)
            })
        };
        classes.iter().any(dead)
    }

    /// A path is dead: its flows take another, if there is one.
    fn leave(
        &mut self,
        now_us: u64,
        worker: u8,
        number: u8,
        config: &FabricConfig,
        pool: &mut TrainPool,
        outcomes: &mut Vec<Outcome>,
    ) {
        self.set_dead(worker, number, true);
        let next = self.living(worker, number);
        let peer = &self.session.peer_name;
        tracing::warn!(
            %peer, worker = config.worker, peer_worker = worker, path = number, next,
            "nobody answers on this data path; its flows take the next"
        );
        if next != number {
            // Nobody will ever say what became of these.
            for path in classes_of(number) {
                let path = self.paths.get_mut(tx_slot(worker, path)).and_then(Option::as_mut);
                let Some(path) = path else { continue };
                path.abandon(pool, &mut |account, amount, fate| {
                    outcomes.push(Outcome { account, amount, fate });
                });
            }
        }
        // Whether the others live is to be known soon, and whether this one comes back.
        for path in 0..self.session.paths {
            if let Some(path) = self.path(tx_slot(worker, path), config) {
                path.ask_at(now_us);
            }
        }
    }

    fn look_if_well(&mut self, now_us: u64, worker: u8, number: u8) {
        if self.asked(worker, number).is_some_and(|asked| asked.is_well(now_us)) {
            self.set_dead(worker, number, false);
            let peer = &self.session.peer_name;
            tracing::info!(%peer, peer_worker = worker, path = number, "data path is answered again");
            return;
        }
        // No frames wait on it that would have it asked.
        let path = self.paths.get_mut(tx_slot(worker, number)).and_then(Option::as_mut);
        if let Some(path) = path.filter(|path| path.probe_at_us().is_none()) {
            path.ask_at(now_us.saturating_add(AGAIN_US));
        }
    }

    /// Notes it, and tells the agent.
    fn set_dead(&mut self, worker: u8, number: u8, is_dead: bool) {
        let all = u8::MAX >> (8 - self.session.paths.clamp(1, 8));
        let Some(dead) = self.dead.get_mut(usize::from(worker)) else { return };
        let before = *dead;
        *dead = if is_dead { before | 1 << number } else { before & !(1 << number) };
        let data = &self.session.data;
        let (was_cut, is_cut) = (before == all, *dead == all);
        match (before == *dead, is_dead) {
            (true, _) => return,
            (_, true) => data.dead.fetch_add(1, Ordering::Relaxed),
            (_, false) => data.dead.fetch_sub(1, Ordering::Relaxed),
        };
        match (was_cut, is_cut) {
            (false, true) => data.cut.fetch_add(1, Ordering::Relaxed),
            (true, false) => data.cut.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

/// A path's numbers in both ECN classes.
fn classes_of(number: u8) -> impl Iterator<Item = u8> {
    [number, number | ECT_PATH_BIT].into_iter()
}

/// From `path` on, the first that is not in `dead`; itself if all are.
fn next_living(dead: u8, path: u8, paths: u8) -> u8 {
    let paths = paths.max(1);
    let mut ring = (0..paths).map(|step| (path + step) % paths);
    ring.find(|path| dead >> path & 1 == 0).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    fn silent(questions: u32) -> Asked {
        let mut asked = Asked::default();
        (0..questions).for_each(|n| asked.ask(20 * MS * u64::from(n + 1), 100));
        asked
    }

    #[test]
    fn flows_of_a_dead_path_take_the_next_that_lives_and_stay_where_none_does() {
        assert_eq!(next_living(0b0010, 0, 4), 0);
        assert_eq!(next_living(0b0010, 1, 4), 2);
        assert_eq!(next_living(0b1010, 3, 4), 0);
        assert_eq!(next_living(0b1111, 2, 4), 2);
        assert_eq!(next_living(0b0001, 0, 1), 0);
    }

    #[test]
    fn a_path_is_dead_only_if_somebody_else_is_answered_meanwhile() {
        let mut other = Asked::default();
        other.answer(19 * MS);
        assert!(!silent(4).is_dead(&[other], 100), "that was before");
        other.answer(21 * MS);
        assert!(silent(4).is_dead(&[other], 100) && !silent(3).is_dead(&[other], 100));
    }

    #[test]
    fn where_nobody_else_is_asked_the_hellos_have_to_be_heard() {
        assert!(!silent(50).is_dead(&[], 102), "the peer itself may be gone");
        assert!(silent(5).is_dead(&[], 103) && !silent(4).is_dead(&[], 200));
    }

    #[test]
    fn a_path_lives_again_after_seconds_of_answers_and_not_for_one() {
        let mut asked = silent(9);
        for n in 0..3 {
            assert!(!asked.is_well(n * 1_000 * MS));
            asked.answer(n * 1_000 * MS);
            asked.ask(n * 1_000 * MS + 500 * MS, 0);
        }
        assert!(asked.is_well(3_000 * MS));
        // Questions that are not answered.
        (0..3).for_each(|n| asked.ask(4_000 * MS + n * MS, 0));
        asked.answer(4_100 * MS);
        assert!(!asked.is_well(4_200 * MS));
    }
}
