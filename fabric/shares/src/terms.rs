//! What a grant or a vNIC is given: the terms of VMware NIOC.

use crate::Rate;

/// Shares of whoever has none written out.
pub const SHARES_DEFAULT: u32 = 100;

/// Most shares that one may have: with so many on either side the smaller one still gets
/// whole bits a second.
pub const SHARES_MAX: u32 = 1_000_000;

/// Most packets a second that a limit may say: more than any port has.
pub const LIMIT_PACKETS_PER_S_MAX: u32 = 1_000_000_000;

/// Reservation, shares and limits, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// What it gets in any case, if it wants it.
    pub reservation_bps: u64,
    /// Its part of what is not reserved, in relation to its neighbours' shares.
    pub shares: u32,
    /// What it never exceeds; `None`: no limit.
    pub limit_bps: Option<u64>,
    /// Packets a second that it never exceeds, whatever it has in bits; `None`: any number. It takes
    /// no part in the division: what its holder cannot use is for others.
    pub limit_packets_per_s: Option<u32>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            reservation_bps: 0,
            shares: SHARES_DEFAULT,
            limit_bps: None,
            limit_packets_per_s: None,
        }
    }
}

/// Terms that contradict themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// The limit is below the reservation.
    #[error(
        "the limit of {limit} is below the reservation of {reservation}; raise the one or lower the other",
        limit = Rate(*limit_bps),
        reservation = Rate(*reservation_bps)
    )]
    LimitBelowReservation {
        /// The limit.
        limit_bps: u64,
        /// The reservation.
        reservation_bps: u64,
    },
    /// No shares, or too many.
    #[error("{0} shares; there are 1 to {SHARES_MAX}")]
    Shares(u32),
}

impl Terms {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`TermsError`].
    pub fn check(&self) -> Result<(), TermsError> {
        if !(1..=SHARES_MAX).contains(&self.shares) {
            return Err(TermsError::Shares(self.shares));
        }
        let Self { reservation_bps, limit_bps, .. } = *self;
        match limit_bps {
            Some(limit_bps) if limit_bps < reservation_bps => {
                Err(TermsError::LimitBelowReservation { limit_bps, reservation_bps })
            }
            _ => Ok(()),
        }
    }

    /// `bps`, but no more than the limit.
    #[must_use]
    pub fn limited(&self, bps: u64) -> u64 {
        self.limit_bps.map_or(bps, |limit| limit.min(bps))
    }
}

/// What somebody would send if nothing held him back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// About so much: nothing holds him back.
    Bps(u64),
    /// More than he may: how much, only more bandwidth would show.
    Unbounded,
}

impl Demand {
    /// As a rate that a sum can hold; unbounded is more than any uplink has.
    #[must_use]
    pub fn ceiling_bps(self) -> u64 {
        match self {
            Self::Bps(bps) => bps.min(UNBOUNDED_BPS),
            Self::Unbounded => UNBOUNDED_BPS,
        }
    }
}

/// A petabit a second: a million of these still add up in 64 bits.
const UNBOUNDED_BPS: u64 = 1_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_have_their_bounds() {
        let terms =
            Terms { reservation_bps: 10, shares: 1, limit_bps: Some(10), ..Terms::default() };
        assert_eq!(terms.check(), Ok(()));
        assert_eq!(Terms::default().check(), Ok(()));
        let low = Terms { limit_bps: Some(9), ..terms };
        let expected = TermsError::LimitBelowReservation { limit_bps: 9, reservation_bps: 10 };
        assert_eq!(low.check(), Err(expected));
        for shares in [0, SHARES_MAX + 1] {
            assert_eq!(Terms { shares, ..terms }.check(), Err(TermsError::Shares(shares)));
        }
    }

    #[test]
    fn unbounded_demands_add_up() {
        let sum = Demand::Unbounded.ceiling_bps().checked_mul(10_000);
        assert!(sum.is_some());
        assert_eq!(Demand::Bps(u64::MAX).ceiling_bps(), Demand::Unbounded.ceiling_bps());
    }
}
