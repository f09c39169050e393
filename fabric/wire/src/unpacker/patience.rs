//! How long a path waits for datagrams that may be late.
//!
//! What is behind a hole waits with it, and where datagrams are lost and never late, that is
//! time for nothing: a TCP receiver learns of its loss later, and its sender stops meanwhile.
//! So a path waits [`HOLE_AGE_US`] at first, and an eighth less after each hole that nobody
//! filled. A datagram that comes after all, late or too late, makes it wait longer again:
//!
//! ```text
//!  filled after d:  at least 2 d        in vain: 7/8, at least HOLE_AGE_MIN_US
//!  too late:        HOLE_AGE_US
//! ```
//!
//! One hole filled outweighs many in vain, because what comes too late is lost.

/// Age at which a hole is final at the latest, in microseconds.
pub const HOLE_AGE_US: u64 = 1000;

/// Age that each hole reaches before time makes it final, in microseconds.
pub const HOLE_AGE_MIN_US: u64 = 100;

/// How long a path waits for what a hole lacks.
#[derive(Debug)]
pub(super) struct Patience {
    us: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { us: HOLE_AGE_US }
    }
}

impl Patience {
    /// In microseconds.
    pub(super) fn us(&self) -> u64 {
        self.us
    }

    /// A hole was filled, `waited_us` after it was seen.
    pub(super) fn filled_after(&mut self, waited_us: u64) {
        self.us = self.us.max(waited_us.saturating_mul(2)).min(HOLE_AGE_US);
    }

    /// A hole became final.
    pub(super) fn in_vain(&mut self) {
        self.us = (self.us - self.us / 8).max(HOLE_AGE_MIN_US);
    }

    /// A datagram came that had been given up.
    pub(super) fn too_short(&mut self) {
        self.us = HOLE_AGE_US;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_make_it_shorter_and_one_late_datagram_long_again() {
        let mut patience = Patience::default();
        assert_eq!(patience.us(), HOLE_AGE_US);
        for _ in 0..100 {
            patience.in_vain();
        }
        assert_eq!(patience.us(), HOLE_AGE_MIN_US);
        patience.filled_after(HOLE_AGE_MIN_US / 4);
        assert_eq!(patience.us(), HOLE_AGE_MIN_US);
        patience.filled_after(180);
        assert_eq!(patience.us(), 360);
        patience.filled_after(u64::MAX);
        assert_eq!(patience.us(), HOLE_AGE_US);
        patience.in_vain();
        assert_eq!(patience.us(), HOLE_AGE_US / 8 * 7);
        patience.too_short();
        assert_eq!(patience.us(), HOLE_AGE_US);
    }
}
