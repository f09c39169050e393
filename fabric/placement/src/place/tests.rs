use super::*;
use crate::{
    house::GatewayIndex,
    sample::{GBIT, any_house, housed, machines, vnic},
};
use proptest::prelude::*;

fn home(placement: &Placement, at: usize) -> usize {
    placement.homes[at].as_ref().expect("it has a home").home.0
}

#[test]
fn a_home_is_local_while_that_holds_it() {
    let mut house = machines(3, 10 * GBIT);
    house.vnics = vec![vnic("a", 1, GBIT, 0), vnic("b", 2, 0, 0)];
    let placement = place(&house).unwrap();
    assert_eq!((home(&placement, 0), home(&placement, 1)), (1, 2));
    assert_ne!(placement.homes[0].as_ref().unwrap().standbys[0].0, 1);
}

#[test]
fn what_the_local_uplink_cannot_hold_goes_where_most_room_is() {
    let mut house = machines(3, 10 * GBIT);
    house.uplinks[0].usable = Rates::both(GBIT);
    house.uplinks[1].usable = Rates::both(5 * GBIT);
    house.vnics = vec![vnic("large", 0, 4 * GBIT, 0)];
    assert_eq!(home(&place(&house).unwrap(), 0), 2);
}

#[test]
fn the_vnics_of_a_server_without_an_uplink_stay_together() {
    let mut house = machines(4, 10 * GBIT);
    house.uplinks[0].alive = false;
    house.vnics = vec![vnic("a", 0, 0, 0), vnic("b", 2, GBIT, 0), vnic("c", 0, GBIT, 0)];
    let placement = place(&house).unwrap();
    assert_eq!(home(&placement, 0), home(&placement, 2));
}

#[test]
fn a_way_that_is_not_fit_leads_to_no_home_and_no_standby() {
    let mut house = machines(4, 10 * GBIT);
    house.uplinks[0].alive = false;
    house.vnics = vec![vnic("a", 0, GBIT, 0), vnic("b", 0, 0, 0)];
    house.gray.insert((ServerIndex(0), GatewayIndex(1)));
    let placement = place(&house).unwrap();
    for homes in placement.homes.iter().flatten() {
        let all: Vec<usize> = homes.standbys.iter().chain([&homes.home]).map(|at| at.0).collect();
        assert!(!all.contains(&1) && all.len() == 2, "{all:?}");
    }
}

#[test]
fn room_is_kept_for_the_loss_of_any_one_uplink() {
    // Two uplinks of 10: each may carry 5, so that one can carry both.
    let mut house = machines(2, 10 * GBIT);
    house.vnics = vec![vnic("a", 0, 5 * GBIT, 0), vnic("b", 1, 5 * GBIT, 0)];
    place(&house).unwrap();
    house.vnics.push(vnic("c", 0, 1, 0));
    let shortage = place(&house).unwrap_err();
    assert_eq!(shortage.name, "c");
    let said = shortage.to_string();
    assert!(said.contains("promised 1 bit/s") && said.contains("add an uplink"), "{said}");
}

#[test]
fn spare_room_is_shared_between_losses() {
    // Three of 9: 6 each, and 3 spare on each hold the halves of any one that is lost.
    let mut house = machines(3, 9 * GBIT);
    house.vnics = (0..6).map(|at| vnic(&format!("v{at}"), at / 2, 3 * GBIT, 0)).collect();
    let placement = place(&house).unwrap();
    for machine in 0..3 {
        let standbys: Vec<_> = placement
            .homes
            .iter()
            .flatten()
            .filter(|it| it.home.0 == machine)
            .map(|it| it.standbys[0])
            .collect();
        assert_eq!(standbys.len(), 2);
        assert_ne!(standbys[0], standbys[1], "one standby cannot hold both");
    }
}

#[test]
fn a_drain_moves_to_the_standby_and_nothing_else() {
    let mut house = machines(3, 10 * GBIT);
    house.vnics = vec![housed("a", 0, 0, 0, 2), housed("b", 1, 0, 1, 2)];
    house.vnics[0].needs = Rates::both(GBIT);
    house.gateways[0].draining = true;
    let placement = place(&house).unwrap();
    assert_eq!((home(&placement, 0), home(&placement, 1)), (2, 1));
    let standbys = &placement.homes[0].as_ref().unwrap().standbys;
    assert_eq!(standbys[..], [UplinkIndex(1)], "the one that drains is no standby");
}

#[test]
fn a_pool_on_one_machine_is_used_and_said_to_be_unprotected() {
    let mut house = machines(1, 10 * GBIT);
    house.vnics = vec![vnic("a", 0, GBIT, 0), vnic("b", 0, 0, 0)];
    let placement = place(&house).unwrap();
    assert_eq!(placement.unprotected, [VnicIndex(0)]);
}

#[test]
fn a_fabric_port_that_is_full_takes_no_remote_home() {
    let mut house = machines(2, 10 * GBIT);
    house.uplinks[0].usable = Rates::both(0);
    house.servers[0].port = Rates::both(GBIT);
    house.vnics = vec![vnic("a", 0, 2 * GBIT, 0)];
    assert!(place(&house).is_err());
    house.servers[0].port = Rates::both(2 * GBIT);
    house.uplinks[0].usable = Rates::both(2 * GBIT);
    assert_eq!(home(&place(&house).unwrap(), 0), 0);
}

#[test]
fn a_pool_without_open_uplinks_is_an_error_only_for_who_needs_it() {
    let mut house = machines(1, GBIT);
    house.uplinks[0].alive = false;
    house.vnics = vec![vnic("a", 0, 0, GBIT)];
    assert!(place(&house).unwrap().homes[0].is_none());
    house.vnics[0].needs = Rates::both(1);
    let said = place(&house).unwrap_err().to_string();
    assert!(said.contains("no uplink that is open"), "{said}");
}

/// What each resource carries after a loss, by walking through all vNICs: slow, and another way.
fn loads_after(
    house: &House,
    homes: &[Option<Homes>],
    loss: Option<GatewayOrUplink>,
) -> Vec<(Resource, Rates)> {
    let lost = |at: UplinkIndex| match loss {
        None => false,
        Some(GatewayOrUplink::Uplink(lost)) => at == lost,
        Some(GatewayOrUplink::Gateway(lost)) => house.uplink(at).gateway == lost,
    };
    let mut loads: Vec<(Resource, Rates)> = Vec::new();
    for (index, homes) in homes.iter().enumerate() {
        let Some(homes) = homes else { continue };
        let at = VnicIndex(index);
        let first = homes.standbys.first().copied();
        let used = if lost(homes.home) { first } else { Some(homes.home) };
        let Some(used) = used else { continue };
        for it in house.resources(at, used) {
            match loads.iter_mut().find(|(other, _)| *other == it) {
                Some((_, load)) => *load = load.plus(house.vnics[index].needs),
                None => loads.push((it, house.vnics[index].needs)),
            }
        }
    }
    loads
}

#[derive(Clone, Copy)]
enum GatewayOrUplink {
    Gateway(GatewayIndex),
    Uplink(UplinkIndex),
}

proptest! {
    #[test]
    fn every_promise_survives_every_single_loss(mut house in any_house()) {
        let Ok(placement) = place(&house) else { return Ok(()) };
        let losses = (0..house.uplinks.len()).map(|at| GatewayOrUplink::Uplink(UplinkIndex(at)))
            .chain((0..house.gateways.len()).map(|at| GatewayOrUplink::Gateway(GatewayIndex(at))));
        for loss in losses.map(Some).chain([None]) {
            for (it, load) in loads_after(&house, &placement.homes, loss) {
                // Who is unprotected may find no room at a standby on the lost machine.
                let unprotected = placement.unprotected.iter().any(|at| {
                    let homes = placement.homes[at.0].as_ref().unwrap();
                    homes.standbys.iter().any(|standby| house.resources(*at, *standby).any(|r| r == it))
                });
                let fits = load.within(house.capacity(it)) || (loss.is_some() && unprotected);
                prop_assert!(fits, "{it:?} {load:?} of {:?}", house.capacity(it));
            }
        }
        for (at, homes) in placement.homes.iter().enumerate() {
            let Some(homes) = homes else { continue };
            prop_assert_eq!(house.uplink(homes.home).pool, house.vnics[at].pool);
            prop_assert!(!homes.standbys.contains(&homes.home));
        }
        // Whoever is placed stays there when asked again.
        for (vnic, homes) in house.vnics.iter_mut().zip(&placement.homes) {
            if let Some(homes) = homes {
                (vnic.home, vnic.standbys) = (Some(homes.home), homes.standbys.clone());
            }
        }
        let again = place(&house).unwrap();
        for (first, second) in placement.homes.iter().zip(&again.homes) {
            prop_assert_eq!(first.as_ref().map(|it| it.home), second.as_ref().map(|it| it.home));
        }
    }
}
