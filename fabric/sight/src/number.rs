//! The house by number, as placement reads it.

use crate::{sight::Sight, view::View};
use std::collections::BTreeMap;
use wireonce_desired::{Direction, Host, Kind, Policy, Rate, Uplink, bandwidth};
use wireonce_placement::{
    Gateway, GatewayIndex, House, MachineId, PoolId, Rates, Server, ServerIndex, UplinkIndex, Vnic,
};

/// Shares of a vNIC whose policy does not say.
const SHARES: u32 = 100;

/// The desired house with what is seen of it. What does not hold together is left out.
#[must_use]
pub fn number(view: &View<'_>, sight: &Sight) -> House {
    let house = view.house;
    let mut placed = House::default();
    let mut numbers = Numbers::default();
    let (mut gateways, mut servers) = (BTreeMap::new(), BTreeMap::new());
    for (kind, host) in house.hosts() {
        let machine = numbers.machine(kind, host);
        let (send, receive) = (bps(host.port_up), bps(host.port_down));
        let name = host.name.clone();
        if kind == Kind::Gateway {
            gateways.insert(host.name.as_str(), GatewayIndex(placed.gateways.len()));
            // What goes up comes in at its fabric port.
            let port = Rates { up_bps: receive, down_bps: send };
            let draining = host.draining;
            placed.gateways.push(Gateway { name, machine, port, draining });
        } else {
            servers.insert(host.name.as_str(), ServerIndex(placed.servers.len()));
            let port = Rates { up_bps: send, down_bps: receive };
            placed.servers.push(Server { name, machine, port });
        }
    }
    let mut uplinks = BTreeMap::new();
    for uplink in house.uplinks() {
        let Some(gateway) = gateways.get(uplink.host.as_str()) else { continue };
        uplinks.insert(uplink.name.as_str(), UplinkIndex(placed.uplinks.len()));
        placed.uplinks.push(wireonce_placement::Uplink {
            name: uplink.name.clone(),
            gateway: *gateway,
            pool: PoolId(numbers.pool(&uplink.pool)),
            usable: usable(uplink),
            alive: !sight.dead.contains(&uplink.name),
            // Nobody is placed here, only moved; placement is the controller's.
            switch: None,
            draining: uplink.draining,
        });
    }
    for vnic in house.vnics() {
        let pool = view.pool_of(vnic).map(|pool| PoolId(numbers.pool(pool)));
        let Some((pool, server)) = pool.zip(servers.get(vnic.host.as_str())) else { continue };
        let policy = vnic.policy.as_deref().and_then(|policy| house.policy(policy));
        // Who is held back by its server's grant is so at any home.
        let granted = both(|way| {
            let pool = view.pool_of(vnic).unwrap_or_default();
            view.grant_limit(pool, &vnic.host, way).unwrap_or(u64::MAX)
        });
        let needs = both(|way| policy.map_or(0, |policy| policy.reservation(way).bps()));
        let here = |name: &String| {
            let at = uplinks.get(name.as_str()).copied();
            at.filter(|at: &UplinkIndex| placed.uplinks[at.0].pool == pool)
        };
        let (home, standbys) =
            (vnic.home.as_ref().and_then(here), vnic.standbys.iter().filter_map(here).collect());
        placed.vnics.push(Vnic {
            name: vnic.name.clone(),
            server: *server,
            pool,
            needs,
            wants: sight.wants.get(&vnic.name).copied().unwrap_or(needs).min(granted),
            shares: policy.and_then(shares).unwrap_or(SHARES),
            home,
            standbys,
            may_move: true,
        });
    }
    placed
}

/// What may be promised of an uplink; any rate if nobody said what it carries.
fn usable(uplink: &Uplink) -> Rates {
    let of = |direction, percent| {
        uplink.capacity(direction).map_or(u64::MAX, |rate| rate.percent(percent).bps())
    };
    Rates {
        up_bps: of(Direction::Up, bandwidth::USABLE_UP_PERCENT),
        down_bps: of(Direction::Down, bandwidth::USABLE_DOWN_PERCENT),
    }
}

fn bps(rate: Option<Rate>) -> u64 {
    rate.map_or(u64::MAX, Rate::bps)
}

fn both(of: impl Fn(Direction) -> u64) -> Rates {
    Rates { up_bps: of(Direction::Up), down_bps: of(Direction::Down) }
}

fn shares(policy: &Policy) -> Option<u32> {
    policy.up.as_ref().and_then(|terms| terms.shares)
}

/// Numbers for names, each the next one.
#[derive(Default)]
struct Numbers<'h> {
    machines: BTreeMap<(Option<Kind>, &'h str), u32>,
    pools: BTreeMap<&'h str, u32>,
}

impl<'h> Numbers<'h> {
    /// A host whose machine nobody named has one of its own.
    fn machine(&mut self, kind: Kind, host: &'h Host) -> MachineId {
        let own = (Some(kind), host.name.as_str());
        let key = host.machine.as_deref().map_or(own, |machine| (None, machine));
        let next = u32::try_from(self.machines.len()).unwrap_or(u32::MAX);
        MachineId(*self.machines.entry(key).or_insert(next))
    }

    fn pool(&mut self, name: &'h str) -> u32 {
        let next = u32::try_from(self.pools.len()).unwrap_or(u32::MAX);
        *self.pools.entry(name).or_insert(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Bed, MBIT};

    #[test]
    fn the_house_has_demand_and_liveness() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(200 * MBIT));
        bed.gateway_a(|it| it.carrier(false));
        let view = bed.view();
        let placed = number(&view, &Sight::of(&view));
        let vnic = placed.vnics.iter().find(|vnic| vnic.name == "vm-a").unwrap();
        assert_eq!(vnic.needs, Rates { up_bps: 100 * MBIT, down_bps: 0 });
        assert!(vnic.wants.up_bps > 200 * MBIT, "{vnic:?}");
        assert_eq!(vnic.home, Some(UplinkIndex(0)));
        assert_eq!(placed.uplinks[0].usable.up_bps, 990 * MBIT);
        assert!(!placed.uplinks[0].alive && placed.uplinks[1].alive);
        assert_eq!(placed.vnics.len(), 2, "a network without a pool has no uplink");
    }
}
