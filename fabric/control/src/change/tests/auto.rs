//! Pools that the controller rebalances by itself: what pays for long is moved, what comes and goes
//! is not, and nobody moves too often.

use super::{
    placing::{three, vnic_text},
    *,
};
use crate::placing::{Auto, Sight};
use proptest::prelude::*;
use wireonce_placement::Rates;

const ROUND_S: u64 = 10;
const MBIT: u64 = 1_000_000;

/// Four vNICs at east-1, two at east-2, in a pool that rebalances itself.
fn pool(rebalance: &str) -> Controller {
    let controller = three();
    let text = format!("[[pool]]\nname = \"east\"\nrebalance = {rebalance:?}\n");
    apply(&controller, &network(), &text).unwrap();
    for (number, home) in [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2)] {
        let text = vnic_text(number, &format!("home = \"east-{home}\""));
        apply(&controller, &virtualisation(), &text).unwrap();
    }
    controller
}

/// One round in which each vNIC wants so many Mbit/s; who moved where.
fn round(auto: &mut Auto, controller: &Controller, mbit: &[u64], now: Moment) -> Vec<String> {
    let wants = (1..)
        .zip(mbit)
        .map(|(number, mbit)| (format!("vm-{number}"), Rates { up_bps: mbit * MBIT, down_bps: 0 }));
    let sight = Sight { wants: wants.collect(), ..Sight::default() };
    let changes = auto.round(&controller.state().unwrap(), &sight, now);
    assert!(changes.len() <= 1, "one move in a round");
    let mut moved = Vec::new();
    for change in changes {
        let Edit::Rehome(it) = &change.edits[1] else { panic!("{change:?}") };
        moved.push(it.vnic.clone());
        controller.change(&Caller::control(), &change, false, now).unwrap();
    }
    moved
}

const STARVED: [u64; 6] = [800, 800, 100, 100, 50, 50];
const QUIET: [u64; 6] = [10, 10, 10, 10, 10, 10];

#[test]
fn who_starves_for_three_rounds_is_moved_and_the_trail_says_what_it_gains() {
    let controller = pool("auto");
    let mut auto = Auto::default();
    for at in 0..2 {
        assert_eq!(round(&mut auto, &controller, &STARVED, Moment(NOW.0 + at * 10)), [""; 0]);
    }
    let moved = round(&mut auto, &controller, &STARVED, Moment(NOW.0 + 20));
    assert_eq!(moved.len(), 1);
    let line = controller.recent_audit(1).unwrap().remove(0);
    assert_eq!((line.by.user.as_str(), line.name.as_str()), ("control", moved[0].as_str()));
    assert!(line.reason.unwrap().starts_with("rebalance: it gains "));
    for at in 3..40 {
        let moved = round(&mut auto, &controller, &STARVED, Moment(NOW.0 + at * 10));
        assert_eq!(moved, [""; 0], "all have what they want");
    }
}

#[test]
fn only_pools_that_say_so_are_rebalanced_and_only_with_all_demand_in_sight() {
    let controller = pool("off");
    let mut auto = Auto::default();
    for at in 0..10 {
        assert_eq!(round(&mut auto, &controller, &STARVED, Moment(NOW.0 + at * 10)), [""; 0]);
    }
    let controller = pool("auto");
    let wants = [
        ("vm-1".to_owned(), Rates::both(900 * MBIT)),
        ("vm-2".to_owned(), Rates::both(900 * MBIT)),
    ];
    let silent = ["server-a".to_owned()].into();
    let sight = Sight { wants: wants.into(), silent, ..Sight::default() };
    for at in 0..10 {
        let now = Moment(NOW.0 + at * 10);
        assert_eq!(auto.round(&controller.state().unwrap(), &sight, now), []);
    }
}

#[test]
fn demand_that_comes_and_goes_within_three_rounds_moves_nobody() {
    for period in 1..3 {
        let controller = pool("auto");
        let mut auto = Auto::default();
        for at in 0..60 {
            let wants = if at / period % 2 == 0 { STARVED } else { QUIET };
            let moved = round(&mut auto, &controller, &wants, Moment(NOW.0 + at * ROUND_S));
            assert_eq!(moved, [""; 0], "period {period}, round {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever demand does: one move in a round, a minute of rest for each vNIC, and three in
    /// three minutes.
    #[test]
    fn alternating_demand_never_moves_anybody_too_often(
        phases in prop::collection::vec((prop::array::uniform6(0u64..1200), 1u64..9), 1..12),
    ) {
        let controller = pool("auto");
        let mut auto = Auto::default();
        let mut now = NOW;
        let mut moves: Vec<(String, u64)> = Vec::new();
        for (wants, rounds) in &phases {
            for _ in 0..*rounds {
                for vnic in round(&mut auto, &controller, wants, now) {
                    let last = moves.iter().rev().find(|(name, _)| *name == vnic);
                    prop_assert!(last.is_none_or(|(_, at)| now.0 >= at + 60), "{vnic} did not rest");
                    let recent = moves.iter().filter(|(name, at)| *name == vnic && at + 180 > now.0);
                    prop_assert!(recent.count() < 3, "{vnic} moved four times in three minutes");
                    moves.push((vnic, now.0));
                }
                now = Moment(now.0 + ROUND_S);
            }
        }
        // With demand that stays as it is, it comes to rest.
        let (wants, _) = phases.last().unwrap();
        let mut last_moves = 0;
        for at in 0..60 {
            let moved = round(&mut auto, &controller, wants, now);
            last_moves = if moved.is_empty() { last_moves } else { at };
            now = Moment(now.0 + ROUND_S);
        }
        prop_assert!(last_moves < 40, "it still moves in round {last_moves}");
    }
}
