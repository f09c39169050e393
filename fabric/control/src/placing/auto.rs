//! Pools that the controller rebalances by itself.
//!
//! ```text
//! round (10 s)     n-2         n-1          n
//! demand seen       │           │           │
//!                   └─ pays ────┴─ pays ────┴─ planned ──> the move is made, one for each pool
//! ```
//! A move is made only if it would have paid in three rounds on end, so what comes and goes faster
//! moves nobody; what comes and goes more slowly is bound by the pace of each vNIC.

use super::{
    Numbered, Sight,
    rebalance::{planned, shown, silent},
};
use crate::change::{Change, Edit, Rehome, State};
use std::collections::VecDeque;
use wireonce_desired::{Moment, Pool, Rebalance};
use wireonce_placement::{Limits, Move, pays};

/// In so many rounds on end a move has to pay.
const ROUNDS: usize = 3;

/// What was seen in the last rounds.
#[derive(Debug, Default)]
pub(crate) struct Auto {
    seen: VecDeque<Sight>,
}

impl Auto {
    /// Looks once more, and says what to change: at most one move in each pool.
    pub(crate) fn round(&mut self, state: &State, sight: &Sight, now: Moment) -> Vec<Change> {
        let is_auto = |pool: &&Pool| pool.rebalance == Some(Rebalance::Auto);
        if !state.house.pools().any(|pool| is_auto(&pool)) {
            self.seen.clear();
            return Vec::new();
        }
        self.seen.push_back(sight.clone());
        if self.seen.len() < ROUNDS {
            return Vec::new();
        }
        while self.seen.len() > ROUNDS {
            self.seen.pop_front();
        }
        let pools = state.house.pools().filter(is_auto);
        pools.filter_map(|pool| self.move_in(state, &pool.name, sight, now)).collect()
    }

    fn move_in(&self, state: &State, pool: &str, sight: &Sight, now: Moment) -> Option<Change> {
        // Whose demand is not known may want what another would be given.
        if self.seen.iter().any(|seen| !silent(state, pool, seen).is_empty()) {
            return None;
        }
        let (moves, _, known) = planned(state, pool, sight, now);
        let earlier: Vec<Numbered<'_>> = (self.seen.iter().take(ROUNDS - 1))
            .filter(|_| !moves.is_empty())
            .map(|seen| Numbered::of(&state.house, seen))
            .collect();
        let paid = |it: &&Move| {
            let limits = Limits::default();
            earlier.iter().all(|then| pays(&then.house, it.vnic, it.to, &limits).is_some())
        };
        let it = shown(&known, moves.iter().find(paid)?);
        let reason =
            format!("rebalance: it gains {} up and {} down at {}", it.gain.up, it.gain.down, it.to);
        let rehome = Edit::Rehome(Rehome { vnic: it.vnic, to: it.to });
        let edits = vec![Edit::Since(state.house_version), rehome];
        Some(Change { edits, ..Change::default() }.because(Some(reason)))
    }
}
