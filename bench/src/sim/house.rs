//! The simulated house: who is where, what was promised, what is wanted.

use wireonce_placement::{
    Gateway, GatewayIndex, House, MachineId, Placement, PoolId, Rates, Server, ServerIndex, Uplink,
    UplinkIndex, Vnic,
};
use wireonce_shares::{Demand, GrantNode, Terms, Tree, VnicNode};

use super::Random;

const MBIT: u64 = 1_000_000;
const GBIT: u64 = 1_000 * MBIT;
/// What each uplink carries, both ways.
pub const UPLINK_BPS: u64 = 25 * GBIT;
/// What each fabric port carries, both ways.
const PORT_BPS: u64 = 100 * GBIT;
/// Uplinks of a pool: a large site has many.
const POOL: usize = 100;

/// How large a house is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Hosts that run VMs.
    pub servers: usize,
    /// Uplinks, each on a gateway of its own, which runs on one of the servers' machines.
    pub uplinks: usize,
    /// vNICs, the same number on each server.
    pub vnics: usize,
}

/// A house whose vNICs have no homes yet. One in ten has a reservation; half of the servers are busy.
#[must_use]
pub fn house(size: Size, random: &mut Random) -> House {
    let mut house = House::default();
    let pools = (size.uplinks / POOL).max(1);
    for at in 0..size.servers {
        let machine = machine(at);
        let name = format!("server-{at}");
        house.servers.push(Server { name, machine, port: Rates::both(PORT_BPS) });
    }
    for at in 0..size.uplinks {
        // Spread over the machines, and pool by pool over all of them.
        let machine = machine(at * size.servers / size.uplinks);
        let (port, draining) = (Rates::both(PORT_BPS), false);
        house.gateways.push(Gateway { name: format!("gateway-{at}"), machine, port, draining });
        house.uplinks.push(Uplink {
            name: format!("uplink-{at}"),
            gateway: GatewayIndex(at),
            pool: pool(at % pools),
            switch: None,
            usable: Rates::both(UPLINK_BPS),
            alive: true,
            draining,
        });
    }
    let busy: Vec<bool> = (0..size.servers).map(|_| random.one_in(2)).collect();
    for at in 0..size.vnics {
        let server = at % size.servers;
        let busy = busy[server];
        let wants = Rates { up_bps: wanted_bps(busy, random), down_bps: wanted_bps(busy, random) };
        let needs = if random.one_in(10) { 200 * MBIT } else { 0 };
        house.vnics.push(Vnic {
            name: format!("vnic-{at}"),
            server: ServerIndex(server),
            pool: pool(server % pools),
            needs: Rates::both(needs),
            wants,
            shares: u32::try_from(1 + random.below(8)).unwrap_or(1) * 100,
            home: None,
            standbys: Vec::new(),
            may_move: true,
        });
    }
    house
}

/// What a vNIC wants: much, if its server is busy and it is one of two; else a little.
pub fn wanted_bps(busy: bool, random: &mut Random) -> u64 {
    if busy && random.one_in(2) { 10 * GBIT } else { random.below(200 * MBIT) }
}

fn machine(at: usize) -> MachineId {
    MachineId(u32::try_from(at).unwrap_or(u32::MAX))
}

fn pool(at: usize) -> PoolId {
    PoolId(u32::try_from(at).unwrap_or(u32::MAX))
}

/// Gives each vNIC the home and standbys of a placement.
pub fn move_in(house: &mut House, placement: &Placement) {
    for (vnic, homes) in house.vnics.iter_mut().zip(&placement.homes) {
        if let Some(homes) = homes {
            (vnic.home, vnic.standbys) = (Some(homes.home), homes.standbys.clone());
        }
    }
}

/// The trees of all uplinks, upwards: a grant for each server that has vNICs there.
#[must_use]
pub fn trees(house: &House) -> Vec<Tree> {
    let mut trees = vec![Tree::default(); house.uplinks.len()];
    let mut last: Vec<Option<ServerIndex>> = vec![None; house.uplinks.len()];
    let mut order: Vec<_> = house.vnics.iter().collect();
    order.sort_by_key(|vnic| vnic.server);
    for vnic in order {
        let Some(UplinkIndex(home)) = vnic.home else { continue };
        if last[home] != Some(vnic.server) {
            last[home] = Some(vnic.server);
            trees[home].grants.push(GrantNode::default());
        }
        let terms =
            Terms { reservation_bps: vnic.needs.up_bps, shares: vnic.shares, ..Terms::default() };
        let demand = Demand::Bps(vnic.wants.up_bps);
        if let Some(grant) = trees[home].grants.last_mut() {
            grant.terms.reservation_bps += terms.reservation_bps;
            grant.vnics.push(VnicNode { terms, demand });
        }
    }
    trees
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_placement::place;

    #[test]
    fn every_vnic_of_a_house_has_a_home_and_is_in_one_tree() {
        let size = Size { servers: 50, uplinks: 10, vnics: 500 };
        let mut house = house(size, &mut Random(1));
        let placement = place(&house).unwrap();
        move_in(&mut house, &placement);
        let trees = trees(&house);
        let vnics = trees.iter().flat_map(|tree| &tree.grants).map(|grant| grant.vnics.len());
        assert_eq!((trees.len(), vnics.sum::<usize>()), (10, 500));
        assert_eq!(placement.unprotected, []);
    }
}
