//! How often a vNIC moves though it would not have to.
//!
//! Switches of an EVPN fabric freeze an address that moved five times within 180 s (RFC 7432, section 15.1).
//! So a vNIC that moved three times in that time, for whatever reason, moves for a loss only, or because
//! an operator wants it: the controller keeps the same pace with what it moves.

/// Moves in [`crate::Timing::pace_us`] after which none follows that is not needed.
pub(super) const MOVES_MAX: usize = 3;

/// When a vNIC moved last, the oldest first.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    moves_us: [Option<u64>; MOVES_MAX],
}

impl Pace {
    /// It moved, for whatever reason.
    pub(super) fn moved(&mut self, now_us: u64) {
        self.moves_us.rotate_left(1);
        self.moves_us[MOVES_MAX - 1] = Some(now_us);
    }

    /// Until when it does not move without need; `None`: it may.
    pub(super) fn rests_until_us(&self, now_us: u64, pace_us: u64) -> Option<u64> {
        let [oldest, ..] = self.moves_us;
        oldest.map(|us| us.saturating_add(pace_us)).filter(|until_us| now_us < *until_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fourth_move_waits_until_the_first_is_long_ago() {
        let mut pace = Pace::default();
        for at_us in [10, 20, 30] {
            assert_eq!(pace.rests_until_us(at_us, 180), None);
            pace.moved(at_us);
        }
        assert_eq!(pace.rests_until_us(30, 180), Some(190));
        assert_eq!(pace.rests_until_us(190, 180), None);
        // A loss is not asked, and counts.
        pace.moved(40);
        assert_eq!(pace.rests_until_us(190, 180), Some(200));
    }
}
