//! One level: a capacity divided among claims.
//!
//! Each claim *i* has a floor, a weight and a ceiling. There is one water level *L*, the same
//! for all, at which
//!
//! ```text
//!   given(i) = weight(i) x L, but at least floor(i) and at most ceiling(i)
//! ```
//! adds up to the capacity: weighted max-min fairness with guarantees. Nobody can be given
//! more without taking from somebody whose share, by weight, is no larger.
//!
//! The level is not searched for. All claims are given their share of the capacity; those
//! whose floor is above it want more than that, those whose ceiling is below it less. If the
//! former want more than the latter leave, the level can only fall, and they are settled at
//! their floors; else it can only rise, and the latter are settled at their ceilings. The rest
//! goes on with what is left. Each pass settles at least one claim; a few passes are usual.
//! (The argument is that of CSS flexible lengths, and of water-filling with bounds.)
//!
//! Shares are rounded down, so the sum is never over the capacity, and less than one bit a
//! second for each claim below it.

use std::cmp::Ordering;

/// One claim on a capacity, in bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// What it gets first; at most the ceiling.
    pub floor_bps: u64,
    /// Its part of the rest; 0 counts as 1.
    pub weight: u32,
    /// What it wants at most.
    pub ceiling_bps: u64,
}

/// Divides `capacity_bps` among `claims`; `given` gets one rate for each, in their order.
///
/// If the floors alone are more than there is, each gets the same part of its floor: a
/// capacity that was promised and is lost is lost to all.
pub fn fill(capacity_bps: u64, claims: &[Claim], given: &mut Vec<u64>) {
    Filler::default().fill(capacity_bps, claims, given);
}

/// [`fill`] with memory that is used again: for many small divisions.
#[derive(Debug, Clone, Default)]
pub struct Filler {
    /// The claims that are not settled yet, with their places.
    open: Vec<(usize, Claim)>,
}

impl Filler {
    /// See [`fill`](fn@fill).
    pub fn fill(&mut self, capacity_bps: u64, claims: &[Claim], given: &mut Vec<u64>) {
        given.clear();
        let (mut ceilings, mut floors, mut weights) = (0_u128, 0_u128, 0_u64);
        for claim in claims {
            ceilings += u128::from(claim.ceiling_bps);
            floors += u128::from(claim.floor());
            weights = weights.saturating_add(claim.weight().into());
        }
        if ceilings <= u128::from(capacity_bps) {
            given.extend(claims.iter().map(|claim| claim.ceiling_bps));
            return;
        }
        if floors >= u128::from(capacity_bps) {
            given.extend(claims.iter().map(|claim| part(capacity_bps, claim.floor(), floors)));
            return;
        }
        given.resize(claims.len(), 0);
        self.open.clear();
        self.open.extend(claims.iter().copied().enumerate());
        let mut left = (capacity_bps, weights);
        while !self.open.is_empty() {
            left = settle(&mut self.open, left, given);
        }
    }
}

/// Settles those whose share of what is left cannot be theirs, or all of them if there are none.
/// Returns what is left for the others, and their weights.
fn settle(
    open: &mut Vec<(usize, Claim)>,
    (mut left, mut weights): (u64, u64),
    given: &mut [u64],
) -> (u64, u64) {
    let level = Level::of(left, weights);
    let (mut missing, mut spare) = (0_u128, 0_u128);
    for (_, claim) in &*open {
        let share = level.share(claim.weight());
        missing += u128::from(claim.floor().saturating_sub(share));
        spare += u128::from(share.saturating_sub(claim.ceiling_bps));
    }
    let order = missing.cmp(&spare);
    open.retain(|(at, claim)| {
        let share = level.share(claim.weight());
        let bounded = share.clamp(claim.floor(), claim.ceiling_bps);
        let stays = match order {
            Ordering::Greater => bounded <= share,
            Ordering::Less => bounded >= share,
            Ordering::Equal => false,
        };
        if !stays {
            given[*at] = bounded;
            left = left.saturating_sub(bounded);
            weights -= u64::from(claim.weight());
        }
        stays
    });
    (left, weights)
}

/// The water level: bits a second for one weight, in parts of 2^-60 of a bit a second. It is
/// divided once for all claims, since a division of 128 bits costs more than all the rest of a
/// claim.
struct Level {
    level: u128,
    /// What the division left out, for one weight, at most: added again before shares are rounded
    /// down, it makes them exact. Shares are whole or at least 1 / weights away from it, which is more than that
    /// while the weights together are less than 2^39.
    left_out: u128,
}

impl Level {
    const FRACTION_BITS: u32 = 60;

    fn of(left: u64, weights: u64) -> Self {
        let level = (u128::from(left) << Self::FRACTION_BITS) / u128::from(weights.max(1));
        Self { level, left_out: u128::from(weights < 1 << 39) }
    }

    /// The share of a weight that is among those of [`Self::of`]: so it is at most `left`.
    fn share(&self, weight: u32) -> u64 {
        let parts = (self.level + self.left_out).wrapping_mul(u128::from(weight));
        u64::try_from(parts >> Self::FRACTION_BITS).unwrap_or(u64::MAX)
    }
}

/// `whole` times `of` divided by `all`, rounded down.
fn part(whole: u64, of: u64, all: u128) -> u64 {
    let product = u128::from(whole) * u128::from(of);
    u64::try_from(product / all.max(1)).unwrap_or(u64::MAX)
}

impl Claim {
    fn floor(&self) -> u64 {
        self.floor_bps.min(self.ceiling_bps)
    }

    fn weight(&self) -> u32 {
        self.weight.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MBIT: u64 = 1_000_000;

    fn claim(floor: u64, weight: u32, ceiling: u64) -> Claim {
        Claim { floor_bps: floor, weight, ceiling_bps: ceiling }
    }

    fn filled(capacity_bps: u64, claims: &[Claim]) -> Vec<u64> {
        let mut given = vec![7; 3];
        fill(capacity_bps, claims, &mut given);
        given
    }

    #[test]
    fn enough_for_all_gives_all_what_they_want() {
        let claims = [claim(0, 1, 300), claim(100, 5, 200), claim(0, 1, 0)];
        assert_eq!(filled(500, &claims), [300, 200, 0]);
        assert_eq!(filled(0, &[]), [0; 0]);
    }

    #[test]
    fn shares_divide_what_is_not_enough() {
        let unbounded = |weight| claim(0, weight, u64::MAX);
        assert_eq!(filled(1_000 * MBIT, &[unbounded(3), unbounded(1)]), [750 * MBIT, 250 * MBIT]);
    }

    #[test]
    fn what_one_leaves_goes_to_the_others_by_shares() {
        let claims = [claim(0, 1, 100), claim(0, 1, u64::MAX), claim(0, 3, u64::MAX)];
        assert_eq!(filled(900, &claims), [100, 200, 600]);
    }

    #[test]
    fn a_reservation_is_a_floor_and_not_an_extra() {
        // By shares each would have 500; the floor of 400 changes nothing.
        let claims = [claim(400, 1, u64::MAX), claim(0, 1, u64::MAX)];
        assert_eq!(filled(1_000, &claims), [500, 500]);
        let claims = [claim(800, 1, u64::MAX), claim(0, 1, u64::MAX)];
        assert_eq!(filled(1_000, &claims), [800, 200]);
    }

    #[test]
    fn reservations_that_a_lost_capacity_cannot_hold_shrink_alike() {
        let claims = [claim(600, 9, u64::MAX), claim(300, 1, 300), claim(0, 1, u64::MAX)];
        assert_eq!(filled(450, &claims), [300, 150, 0]);
    }

    /// The level by bisection, in floating point: slow, and another way.
    fn reference(capacity: u64, claims: &[Claim]) -> Vec<f64> {
        let bounded = |claim: &Claim, level: f64| {
            let share = f64::from(claim.weight) * level;
            share.clamp(claim.floor_bps as f64, claim.ceiling_bps as f64)
        };
        let sum = |level| claims.iter().map(|claim| bounded(claim, level)).sum::<f64>();
        let (mut low, mut high) = (0.0, 1e18);
        for _ in 0..300 {
            let middle = (low + high) / 2.0;
            if sum(middle) <= capacity as f64 { low = middle } else { high = middle }
        }
        claims.iter().map(|claim| bounded(claim, low)).collect()
    }

    fn any_claim() -> impl Strategy<Value = Claim> {
        let rate = || prop_oneof![Just(0), 1..1_000_u64, 1..10_000 * MBIT];
        (rate(), 1..1_000_u32, rate()).prop_map(|(a, weight, b)| claim(a.min(b), weight, a.max(b)))
    }

    proptest! {
        #[test]
        fn never_over_never_wasteful_and_within_bounds(
            capacity in 0..50_000 * MBIT,
            claims in prop::collection::vec(any_claim(), 1..40),
        ) {
            let given = filled(capacity, &claims);
            let sum: u64 = given.iter().sum();
            prop_assert!(sum <= capacity);
            let wanted: u64 = claims.iter().map(|claim| claim.ceiling_bps).sum();
            prop_assert!(sum + claims.len() as u64 > capacity.min(wanted), "{sum} of {capacity}");
            let floors: u64 = claims.iter().map(|claim| claim.floor_bps).sum();
            for (given, claim) in given.iter().zip(&claims) {
                prop_assert!(*given <= claim.ceiling_bps);
                prop_assert!(floors > capacity || *given >= claim.floor_bps);
            }
        }

        #[test]
        fn agrees_with_the_level_found_by_bisection(
            capacity in 1_000 * MBIT..50_000 * MBIT,
            claims in prop::collection::vec(any_claim(), 1..40),
        ) {
            let floors: u64 = claims.iter().map(|claim| claim.floor_bps).sum();
            prop_assume!(floors < capacity);
            let expected = reference(capacity, &claims);
            // Each rounding may be handed on, by weight, to all others.
            let slack = 1_000.0 * claims.len() as f64;
            for ((given, expected), claim) in filled(capacity, &claims).iter().zip(expected).zip(&claims) {
                let apart = (*given as f64 - expected).abs();
                prop_assert!(apart <= slack + expected * 1e-6, "{given} {expected} {claim:?}");
            }
        }

        #[test]
        fn who_asks_for_less_is_no_worse_off_than_his_share(
            capacity in 1..10_000 * MBIT,
            weights in prop::collection::vec(1..100_u32, 2..20),
        ) {
            // The first wants half of his share; he gets it, whatever the others want.
            let all: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            let wants = capacity / all * u64::from(weights[0]) / 2;
            let mut claims: Vec<_> = weights.iter().map(|w| claim(0, *w, u64::MAX)).collect();
            claims[0].ceiling_bps = wants;
            prop_assert_eq!(filled(capacity, &claims)[0], wants);
        }
    }
}
