use super::*;
use crate::{
    house::{GatewayIndex, UplinkIndex},
    place::{Homes, Task, place, place_these},
    sample::{GBIT, any_house, housed, machines, vnic},
};
use proptest::prelude::*;

fn promised(name: &str, home: usize, standbys: &[usize], gbit: u64) -> crate::Vnic {
    let standbys = standbys.iter().map(|at| UplinkIndex(*at)).collect();
    crate::Vnic { needs: Rates::both(gbit * GBIT), standbys, ..housed(name, 0, 0, home, 0) }
}

fn move_in(house: &mut House, homes: &[Option<Homes>]) {
    for (vnic, homes) in house.vnics.iter_mut().zip(homes) {
        if let Some(homes) = homes {
            (vnic.home, vnic.standbys) = (Some(homes.home), homes.standbys.clone());
        }
    }
}

fn is_avoidable(breach: &Breach) -> bool {
    !matches!(breach, Breach::Alone { avoidable: false, .. })
}

#[test]
fn what_is_too_much_is_named_with_the_loss_that_makes_it_so() {
    let mut house = machines(2, 10 * GBIT);
    house.vnics = vec![promised("a", 0, &[1], 4), promised("b", 1, &[0], 7)];
    let lost = Some(Loss::Uplink(UplinkIndex(1)));
    let found = breaches(&house);
    let over = |of, lost| {
        let (promised, capacity) = (Rates::both(11 * GBIT), Rates::both(10 * GBIT));
        found.contains(&Breach::Over { of, lost, promised, capacity, largest: VnicIndex(1) })
    };
    assert!(over(Resource::Uplink(UplinkIndex(0)), lost), "{found:?}");
    assert!(over(Resource::Uplink(UplinkIndex(0)), Some(Loss::Gateway(GatewayIndex(1)))));
    house.vnics[1].needs = Rates::both(6 * GBIT);
    assert_eq!(breaches(&house), []);
}

#[test]
fn who_has_nowhere_to_go_is_named_only_if_something_is_promised_to_him() {
    let mut house = machines(2, 10 * GBIT);
    house.vnics = vec![promised("a", 0, &[], 1), promised("b", 0, &[], 0)];
    let alone = |found: &[Breach]| {
        let is =
            |it: &&Breach| matches!(it, Breach::Alone { vnic, avoidable: true, .. } if vnic.0 == 0);
        found.iter().filter(is).count()
    };
    let found = breaches(&house);
    assert_eq!((alone(&found), found.len()), (2, 2));
    house.uplinks[1].draining = true;
    assert!(breaches(&house).iter().all(|it| !is_avoidable(it)), "the pool is on one machine now");
}

#[test]
fn a_standby_on_the_homes_own_gateway_helps_only_against_the_loss_of_the_uplink() {
    let mut house = machines(3, 10 * GBIT);
    house.uplinks[1].gateway = GatewayIndex(0);
    house.vnics = vec![promised("a", 0, &[1], 1)];
    let lost = Loss::Gateway(GatewayIndex(0));
    let alone = Breach::Alone { vnic: VnicIndex(0), lost, avoidable: true };
    assert_eq!(breaches(&house), [alone]);
    house.vnics[0].standbys.push(UplinkIndex(2));
    assert_eq!(breaches(&house), []);
}

#[test]
fn a_standby_is_on_another_switch_if_there_is_one() {
    let mut house = machines(4, 10 * GBIT);
    for (at, switch) in [0, 0, 1, 0].into_iter().enumerate() {
        house.uplinks[at].switch = Some(crate::SwitchId(switch));
    }
    house.vnics = vec![vnic("a", 0, GBIT, 0), vnic("b", 0, 0, 0)];
    let placement = place(&house).unwrap();
    for homes in placement.homes.iter().flatten() {
        assert_eq!((homes.home.0, homes.standbys[0].0), (0, 2), "{homes:?}");
    }
    house.uplinks[2].usable = Rates::both(GBIT / 2);
    assert_eq!(place(&house).unwrap().homes[0].as_ref().unwrap().standbys[0].0, 1);
}

#[test]
fn who_is_to_keep_his_home_is_not_placed_elsewhere_and_hears_what_is_too_small() {
    let mut house = machines(3, 10 * GBIT);
    house.vnics = vec![promised("a", 0, &[1], 9), promised("b", 0, &[], 2)];
    let task = |home_stands| Task { vnic: VnicIndex(1), home_stands, optional: false };
    let shortages = place_these(&house, &[task(true)]).unwrap_err();
    let room = Rates::both(GBIT);
    let tight = shortages[0].tight.as_deref();
    assert_eq!(tight, Some(&(Resource::Uplink(UplinkIndex(0)), room)));
    assert_eq!(shortages[0].best, Some(("uplink-2".to_owned(), Rates::both(10 * GBIT))));
    let placement = place_these(&house, &[task(false)]).unwrap();
    assert_ne!(placement.homes[1].as_ref().unwrap().home.0, 0);
    let optional = Task { optional: true, ..task(true) };
    let placement = place_these(&house, &[optional]).unwrap();
    assert_eq!(placement.homes[1], Some(Homes { home: UplinkIndex(0), standbys: vec![] }));
}

proptest! {
    /// What was found breaks no promise, as it is judged here.
    #[test]
    fn what_is_placed_keeps_its_promises(mut house in any_house()) {
        let Ok(placement) = place(&house) else { return Ok(()) };
        move_in(&mut house, &placement.homes);
        let found = breaches(&house);
        prop_assert!(!found.iter().any(is_avoidable), "{found:?}");
    }

    /// A drain moves those that are there and nobody else, and breaks no promise.
    #[test]
    fn a_drain_moves_all_or_nobody(mut house in any_house(), which in any::<prop::sample::Index>()) {
        let Ok(placement) = place(&house) else { return Ok(()) };
        move_in(&mut house, &placement.homes);
        let drained = UplinkIndex(which.index(house.uplinks.len()));
        house.uplinks[drained.0].draining = true;
        let mut tasks = Vec::new();
        for (at, vnic) in house.vnics.iter().enumerate() {
            let leaves = vnic.home == Some(drained);
            if leaves || vnic.standbys.contains(&drained) {
                let vnic = VnicIndex(at);
                tasks.push(Task { vnic, home_stands: !leaves, optional: false });
            }
        }
        let before = house.vnics.clone();
        let Ok(placement) = place_these(&house, &tasks) else { return Ok(()) };
        move_in(&mut house, &placement.homes);
        for (at, (vnic, before)) in house.vnics.iter().zip(&before).enumerate() {
            let task = tasks.iter().find(|task| task.vnic.0 == at);
            if task.is_none() {
                prop_assert_eq!((vnic.home, &vnic.standbys), (before.home, &before.standbys));
            } else if placement.homes[at].is_some() {
                prop_assert_ne!(vnic.home, Some(drained));
                prop_assert!(!vnic.standbys.contains(&drained));
            }
        }
        let found = breaches(&house);
        prop_assert!(!found.iter().any(is_avoidable), "{found:?}");
    }
}
