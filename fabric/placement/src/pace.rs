//! How often one MAC address may move.
//!
//! Switches of an EVPN fabric freeze an address that moved five times within 180 s (RFC 7432,
//! 15.1). Moves that nobody asked for stay well below: three in that time, and a pause after each.
//! Losses of an uplink are not paced: there the address has to move.

use rustc_hash::FxHashMap;
use std::hash::Hash;

/// The time that is looked at, in microseconds.
pub const WINDOW_US: u64 = 180_000_000;
/// Voluntary moves in that time.
pub const MOVES_MAX: usize = 3;
/// The pause after each voluntary move, in microseconds.
pub const REST_US: u64 = 60_000_000;

/// The moves of the last three minutes, of each address.
#[derive(Debug, Clone)]
pub struct Pace<Address> {
    moves: FxHashMap<Address, Vec<u64>>,
}

impl<Address: Hash + Eq> Default for Pace<Address> {
    fn default() -> Self {
        Self { moves: FxHashMap::default() }
    }
}

impl<Address: Hash + Eq> Pace<Address> {
    /// Whether an operator may move it now: `None` if so, else when he may, in microseconds.
    #[must_use]
    pub fn refused_until_us(&self, address: &Address, now_us: u64) -> Option<u64> {
        let moves = self.moves.get(address)?;
        let recent: Vec<_> = moves.iter().filter(|at| is_recent(**at, now_us)).collect();
        let oldest = recent.len().checked_sub(MOVES_MAX).and_then(|at| recent.get(at))?;
        Some(oldest.saturating_add(WINDOW_US))
    }

    /// Whether a policy may move it now, without anybody asking.
    #[must_use]
    pub fn may_move(&self, address: &Address, now_us: u64) -> bool {
        let last = self.moves.get(address).and_then(|moves| moves.last());
        let rested = last.is_none_or(|last| now_us >= last.saturating_add(REST_US));
        rested && self.refused_until_us(address, now_us).is_none()
    }

    /// It moved, for whatever reason.
    pub fn moved(&mut self, address: Address, now_us: u64) {
        let moves = self.moves.entry(address).or_default();
        moves.retain(|at| is_recent(*at, now_us));
        moves.push(now_us);
    }

    /// Forgets those that have not moved for long.
    pub fn forget(&mut self, now_us: u64) {
        self.moves.retain(|_, moves| moves.iter().any(|at| is_recent(*at, now_us)));
    }
}

fn is_recent(at_us: u64, now_us: u64) -> bool {
    now_us < at_us.saturating_add(WINDOW_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    #[test]
    fn three_moves_in_three_minutes_and_no_fourth() {
        let mut pace = Pace::default();
        for at_s in [0, 70, 140] {
            assert!(pace.may_move(&"vm", at_s * S));
            pace.moved("vm", at_s * S);
        }
        assert_eq!(pace.refused_until_us(&"vm", 150 * S), Some(180 * S));
        assert_eq!(pace.refused_until_us(&"other", 150 * S), None);
        assert_eq!(pace.refused_until_us(&"vm", 180 * S), None);
        assert!(!pace.may_move(&"vm", 199 * S), "it rests after the move at 140 s");
        assert!(pace.may_move(&"vm", 200 * S));
    }

    #[test]
    fn an_operator_need_not_wait_for_the_rest() {
        let mut pace = Pace::default();
        pace.moved("vm", 0);
        assert!(!pace.may_move(&"vm", S));
        assert_eq!(pace.refused_until_us(&"vm", S), None);
    }

    #[test]
    fn a_failover_counts_and_old_moves_are_forgotten() {
        let mut pace = Pace::default();
        for at_s in [0, 1, 2, 3] {
            pace.moved("vm", at_s * S);
        }
        assert_eq!(pace.refused_until_us(&"vm", 4 * S), Some(181 * S));
        pace.forget(182 * S);
        assert_eq!(pace.moves.len(), 1);
        pace.forget(183 * S);
        assert_eq!(pace.moves.len(), 0);
    }
}
