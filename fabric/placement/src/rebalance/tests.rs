use super::*;
use crate::{
    house::ServerIndex,
    place::place,
    sample::{GBIT, MBIT, any_house, housed, machines},
};
use proptest::prelude::*;

fn plan(house: &House) -> Plan {
    rebalance(house, &Limits::default())
}

/// Two machines of 10 Gbit/s; both of machine 0's vNICs want 8.
fn starved() -> House {
    let mut house = machines(2, 10 * GBIT);
    house.vnics = vec![
        housed("a", 0, 8 * GBIT, 0, 1),
        housed("b", 0, 8 * GBIT, 0, 1),
        housed("c", 1, GBIT, 1, 0),
    ];
    house
}

#[test]
fn who_starves_beside_a_surplus_is_moved_there_and_the_price_is_told() {
    let plan = plan(&starved());
    assert_eq!(plan.moves.len(), 1);
    let it = &plan.moves[0];
    assert_eq!((it.vnic.0, it.from.0, it.to.0), (0, 0, 1));
    assert_eq!(it.gain, Rates::both(3 * GBIT));
    assert_eq!(it.gain_all_bps, 12 * GBIT, "b gains as much, in both directions");
    assert_eq!(it.fabric, Rates::both(8 * GBIT));
    assert_eq!(it.depends_on, Some(GatewayIndex(1)));
    assert_eq!(it.millicores, 16 * Limits::default().millicores_per_gbps);
    assert_eq!((plan.before_bps, plan.after_bps), (22 * GBIT, 34 * GBIT));
    assert_eq!(plan.held, []);
}

#[test]
fn nobody_is_moved_across_a_way_that_is_not_fit() {
    let mut house = starved();
    house.gray.insert((ServerIndex(0), GatewayIndex(1)));
    let plan = plan(&house);
    assert_eq!(plan.moves, []);
    assert!(plan.held.iter().all(|(_, _, why)| *why == Held::Pool), "{:?}", plan.held);
    assert_eq!(pays(&house, VnicIndex(0), UplinkIndex(1), &Limits::default()), None);
    house.gray = [(ServerIndex(1), GatewayIndex(1))].into_iter().collect();
    assert_eq!(self::plan(&house).moves.len(), 1, "the way of another server");
}

#[test]
fn who_has_what_it_wants_stays() {
    let mut house = starved();
    house.vnics[0].wants = Rates::both(GBIT);
    assert_eq!(plan(&house).moves, []);
}

#[test]
fn a_full_server_port_is_said_and_nothing_is_moved() {
    let mut house = starved();
    house.servers[0].port = Rates::both(10 * MBIT);
    let plan = plan(&house);
    assert_eq!(plan.moves, []);
    let why: Vec<_> = plan.held.iter().map(|(at, _, why)| (at.0, *why)).collect();
    assert_eq!(why, [(0, Held::ServerPort), (1, Held::ServerPort)]);
}

#[test]
fn a_pool_without_a_surplus_is_said() {
    let mut house = starved();
    house.vnics[2].wants = Rates::both(10 * GBIT);
    let plan = plan(&house);
    assert_eq!(plan.moves, []);
    assert!(plan.held.iter().all(|(_, _, why)| *why == Held::Pool), "{:?}", plan.held);
}

#[test]
fn who_rests_is_left_where_it_is() {
    let mut house = starved();
    house.vnics[0].may_move = false;
    let plan = plan(&house);
    assert_eq!(plan.moves.len(), 1);
    assert_eq!(plan.moves[0].vnic, VnicIndex(1));
}

#[test]
fn a_move_that_leaves_a_promise_without_standby_is_not_made() {
    let mut house = starved();
    for vnic in &mut house.vnics[..2] {
        vnic.needs = Rates::both(4 * GBIT);
        vnic.may_move = vnic.name == "a";
    }
    // Machine 1's own promise takes the room that a's standby would need at the old home.
    house.vnics[2].needs = Rates::both(GBIT);
    house.uplinks[0].usable = Rates::both(8 * GBIT);
    let plan = plan(&house);
    assert_eq!(plan.moves, []);
    assert!(
        plan.held.iter().any(|(at, _, why)| at.0 == 0 && *why == Held::Promises),
        "{:?}",
        plan.held
    );
}

#[test]
fn small_gains_are_not_worth_a_move() {
    let mut house = starved();
    house.vnics[0].wants = Rates::both(5 * GBIT + 20 * MBIT);
    house.vnics[1].wants = Rates::both(5 * GBIT);
    assert_eq!(plan(&house).moves, []);
}

proptest! {
    #[test]
    fn a_plan_never_makes_less_use_and_nobody_moves_worse(mut house in any_house()) {
        let Ok(placement) = place(&house) else { return Ok(()) };
        for (vnic, homes) in house.vnics.iter_mut().zip(&placement.homes) {
            if let Some(homes) = homes {
                (vnic.home, vnic.standbys) = (Some(homes.home), homes.standbys.clone());
            }
        }
        let plan = plan(&house);
        let gained: u64 = plan.moves.iter().map(|it| it.gain.sum_bps()).sum();
        let slack = house.vnics.len() as u64 * 2;
        prop_assert!(plan.after_bps + slack >= plan.before_bps + gained, "{plan:?}");
        // The house after the plan is one that admission accepts as it is.
        for it in &plan.moves {
            house.vnics[it.vnic.0].home = Some(it.to);
        }
        let after = place(&house);
        prop_assert!(after.is_ok(), "{after:?}");
    }
}
