//! Which uplink of a pool lets broadcast in. Pure.
//!
//! The configured one while it is up, else the one with the lowest id that is up. Who is up is what
//! this gateway hears, outside or over the fabric, so two gateways that hear each other neither way
//! choose each for its own half; those that hear each other choose the same one.

use crate::health::HealthState;
use wireonce_wire::UplinkId;

/// One uplink of the pool, as this gateway hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which one.
    pub uplink: UplinkId,
    /// How it is; one that is silent is gone.
    pub state: HealthState,
}

/// The designated one. A sick one only if all are: a loop or a router that is away is better than
/// nothing, since what is broadcast may be for a neighbour. `configured` if none is up.
#[must_use]
pub fn elect(configured: UplinkId, candidates: impl IntoIterator<Item = Candidate>) -> UplinkId {
    let rank = |candidate: &Candidate| match candidate.state {
        HealthState::Alive | HealthState::Draining => Some(0),
        HealthState::Sick => Some(1),
        HealthState::Gone => None,
    };
    let best = candidates
        .into_iter()
        .filter_map(|it| Some((rank(&it)?, it.uplink != configured, it.uplink)))
        .min();
    best.map_or(configured, |(_, _, uplink)| uplink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONFIGURED: UplinkId = UplinkId(5);

    fn chosen(states: &[(u32, HealthState)]) -> u32 {
        let candidate =
            |(id, state): &(u32, HealthState)| Candidate { uplink: UplinkId(*id), state: *state };
        elect(CONFIGURED, states.iter().map(candidate)).0
    }

    #[test]
    fn the_configured_one_while_it_is_up_else_the_lowest() {
        use HealthState::{Alive, Draining, Gone, Sick};
        assert_eq!(chosen(&[(2, Alive), (5, Alive), (3, Alive)]), 5);
        assert_eq!(
            chosen(&[(2, Alive), (5, Draining), (3, Alive)]),
            5,
            "what drains still carries"
        );
        assert_eq!(chosen(&[(3, Alive), (5, Gone), (2, Alive)]), 2);
        assert_eq!(chosen(&[(2, Sick), (5, Sick), (3, Alive)]), 3);
        assert_eq!(chosen(&[(2, Sick), (5, Sick)]), 5, "all are sick");
        assert_eq!(chosen(&[(2, Gone), (5, Gone)]), 5);
        assert_eq!(chosen(&[]), 5);
    }

    proptest! {
        #[test]
        fn whoever_hears_the_same_chooses_the_same_in_any_order(
            states in proptest::collection::btree_map(1_u32..20, 0_usize..4, 0..10), rotate in 0_usize..10,
        ) {
            use HealthState::{Alive, Draining, Gone, Sick};
            let all = [Alive, Draining, Sick, Gone];
            let mut states: Vec<_> = states.into_iter().map(|(id, at)| (id, all[at])).collect();
            let before = chosen(&states);
            let by = rotate % states.len().max(1);
            states.rotate_left(by);
            prop_assert_eq!(chosen(&states), before);
            let up = states.iter().any(|(_, state)| *state != Gone);
            let winner = states.iter().find(|(id, _)| *id == before);
            prop_assert!(!up || winner.is_some_and(|(_, state)| *state != Gone));
        }
    }
}
