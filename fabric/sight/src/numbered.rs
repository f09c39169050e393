//! The desired house with what is seen of it, by number, as placement reads it.

use crate::{sight::Sight, view::limit};
use std::collections::{BTreeMap, HashMap};
use wireonce_desired::{Direction, Grant, Host, House, Kind, Rate, Uplink, Vnic, bandwidth};
use wireonce_placement::{
    Gateway, GatewayIndex, House as Placed, MachineId, PoolId, Rates, Server, ServerIndex,
    SwitchId, UplinkIndex, VnicIndex,
};

/// Shares of a vNIC whose policy does not say.
const SHARES: u32 = 100;

/// A house by number, with demand and liveness. What does not hold together is left out: other gates
/// refuse that.
#[derive(Debug)]
pub struct Numbered<'h> {
    /// It, by number.
    pub house: Placed,
    uplinks: HashMap<&'h str, UplinkIndex>,
    vnics: HashMap<&'h str, VnicIndex>,
}

impl<'h> Numbered<'h> {
    /// The house with what is seen of it.
    #[must_use]
    pub fn of(house: &'h House, sight: &Sight) -> Self {
        let mut numbers = Numbers::default();
        let mut known =
            Self { house: Placed::default(), uplinks: HashMap::new(), vnics: HashMap::new() };
        let mut gateways = HashMap::new();
        let mut servers = HashMap::new();
        for (kind, host) in house.hosts() {
            let machine = numbers.machine(kind, host);
            let (send, receive) = (bps(host.port_up), bps(host.port_down));
            let name = host.name.clone();
            if kind == Kind::Gateway {
                gateways.insert(host.name.as_str(), GatewayIndex(known.house.gateways.len()));
                // What goes up comes in at its fabric port.
                let port = Rates { up_bps: receive, down_bps: send };
                let draining = host.draining;
                known.house.gateways.push(Gateway { name, machine, port, draining });
            } else {
                servers.insert(host.name.as_str(), ServerIndex(known.house.servers.len()));
                let port = Rates { up_bps: send, down_bps: receive };
                known.house.servers.push(Server { name, machine, port });
            }
        }
        for uplink in house.uplinks() {
            let Some(gateway) = gateways.get(uplink.host.as_str()) else { continue };
            known.uplinks.insert(&uplink.name, UplinkIndex(known.house.uplinks.len()));
            known.house.uplinks.push(wireonce_placement::Uplink {
                name: uplink.name.clone(),
                gateway: *gateway,
                pool: numbers.pool(&uplink.pool),
                switch: uplink.switch.as_deref().map(|switch| numbers.switch(switch)),
                usable: usable(uplink),
                alive: sight.is_fit(&uplink.name),
                draining: uplink.draining,
            });
        }
        known.house.gray = (sight.gray.iter())
            .filter_map(|(server, gateway)| {
                Some((*servers.get(server.as_str())?, *gateways.get(gateway.as_str())?))
            })
            .collect();
        for vnic in house.vnics() {
            let pool = house.pool_of(vnic).map(|pool| numbers.pool(pool));
            let Some((pool, server)) = pool.zip(servers.get(vnic.host.as_str())) else { continue };
            known.vnics.insert(&vnic.name, VnicIndex(known.house.vnics.len()));
            let placed = known.vnic_of(house, vnic, pool, *server, sight);
            known.house.vnics.push(placed);
        }
        known
    }

    fn vnic_of(
        &self,
        house: &House,
        vnic: &Vnic,
        pool: PoolId,
        server: ServerIndex,
        sight: &Sight,
    ) -> wireonce_placement::Vnic {
        let policy = vnic.policy.as_deref().and_then(|policy| house.policy(policy));
        let needs = both(|way| policy.map_or(0, |policy| policy.reservation(way).bps()));
        // Who is held back by its policy or by its server's grant is so at any home.
        let grant = house.pool_of(vnic).map(|pool| Grant::name_of(pool, &vnic.host));
        let grant = grant.and_then(|grant| house.grant(&grant));
        let most = both(|way| {
            let of_grant = limit(grant.and_then(|grant| grant.terms(way))).unwrap_or(u64::MAX);
            limit(policy.and_then(|policy| policy.terms(way))).unwrap_or(u64::MAX).min(of_grant)
        });
        let here = |name: &str| {
            let at = self.uplink(name);
            at.filter(|at| self.house.uplink(*at).pool == pool)
        };
        wireonce_placement::Vnic {
            name: vnic.name.clone(),
            server,
            pool,
            needs,
            wants: sight.wants.get(&vnic.name).copied().unwrap_or(needs).min(most),
            shares: policy.and_then(|policy| policy.terms(Direction::Up)?.shares).unwrap_or(SHARES),
            home: vnic.home.as_deref().and_then(here),
            standbys: vnic.standbys.iter().filter_map(|name| here(name)).collect(),
            may_move: true,
        }
    }

    /// The number of an uplink.
    #[must_use]
    pub fn uplink(&self, name: &str) -> Option<UplinkIndex> {
        self.uplinks.get(name).copied()
    }

    /// The number of a vNIC.
    #[must_use]
    pub fn vnic(&self, name: &str) -> Option<VnicIndex> {
        self.vnics.get(name).copied()
    }

    /// The name of an uplink.
    #[must_use]
    pub fn name(&self, at: UplinkIndex) -> &str {
        &self.house.uplink(at).name
    }
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

/// Numbers for names, each the next one.
#[derive(Default)]
struct Numbers<'h> {
    machines: BTreeMap<(Option<Kind>, &'h str), u32>,
    pools: BTreeMap<&'h str, u32>,
    switches: BTreeMap<&'h str, u32>,
}

impl<'h> Numbers<'h> {
    /// A host whose machine nobody named has one of its own.
    fn machine(&mut self, kind: Kind, host: &'h Host) -> MachineId {
        let own = (Some(kind), host.name.as_str());
        let key = host.machine.as_deref().map_or(own, |machine| (None, machine));
        MachineId(number(&mut self.machines, key))
    }

    fn pool(&mut self, name: &'h str) -> PoolId {
        PoolId(number(&mut self.pools, name))
    }

    fn switch(&mut self, name: &'h str) -> SwitchId {
        SwitchId(number(&mut self.switches, name))
    }
}

fn number<K: Ord>(known: &mut BTreeMap<K, u32>, key: K) -> u32 {
    let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
    *known.entry(key).or_insert(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Bed, MBIT};
    use wireonce_desired::{Object, Terms, read};
    use wireonce_ledger::status::LinkGrayStatus;

    fn house(text: &str) -> House {
        read::toml(text).unwrap().into_iter().collect()
    }

    const HOUSE: &str = include_str!("../../../docs/examples/control/house.toml");

    #[test]
    fn what_goes_up_leaves_a_servers_port_and_comes_in_at_a_gateways() {
        let text = HOUSE.replace("port_up = \"10Gbit\"", "port_up = \"3Gbit\"").replace(
            "address = \"10.77.0.11\"",
            "address = \"10.77.0.11\"\nport_up = \"1Gbit\"\nport_down = \"2Gbit\"",
        );
        let house = house(&text);
        let known = Numbered::of(&house, &Sight::default());
        let server = known.house.servers[0].port;
        assert_eq!(server, Rates { up_bps: 3_000_000_000, down_bps: u64::MAX });
        let gateway = known.house.gateways[0].port;
        assert_eq!(gateway, Rates { up_bps: 2_000_000_000, down_bps: 1_000_000_000 });
    }

    #[test]
    fn reservations_are_needs_and_demand_ends_at_the_limit() {
        let house = house(HOUSE);
        let wants = Rates::both(5_000_000_000);
        let sight = Sight { wants: [("vm-a".to_owned(), wants)].into(), ..Sight::default() };
        let known = Numbered::of(&house, &sight);
        let vnic = &known.house.vnics[known.vnic("vm-a").unwrap().0];
        assert_eq!(vnic.needs, Rates { up_bps: 100_000_000, down_bps: 0 });
        assert_eq!(vnic.wants, Rates::both(800_000_000));
        assert_eq!(vnic.shares, 200);
        assert_eq!(known.vnic("vm-c"), None, "its network has no pool");
        assert_eq!(known.house.uplinks[0].usable.up_bps, 990_000_000);
    }

    #[test]
    fn daemons_of_one_machine_are_on_one() {
        let text = HOUSE
            .replace("address = \"10.77.0.11\"", "address = \"10.77.0.11\"\nmachine = \"rack1-1\"");
        let house = house(&text);
        let known = Numbered::of(&house, &Sight::default());
        let east = known.uplink("east-1").unwrap();
        assert!(!known.house.is_remote(known.vnic("vm-a").unwrap(), east));
        assert!(known.house.is_remote(known.vnic("vm-b").unwrap(), east));
    }

    #[test]
    fn demand_and_liveness_are_what_is_seen() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(200 * MBIT));
        bed.gateway_a(|it| it.carrier(false));
        let view = bed.view();
        let known = Numbered::of(view.house, &Sight::of(&view));
        let vnic = &known.house.vnics[known.vnic("vm-a").unwrap().0];
        assert!(vnic.wants.up_bps > 200 * MBIT, "{vnic:?}");
        assert_eq!(vnic.home, Some(UplinkIndex(0)));
        assert!(!known.house.uplinks[0].alive && known.house.uplinks[1].alive);
    }

    #[test]
    fn an_uplink_that_is_sick_and_a_link_that_is_gray_lead_nowhere_new() {
        let gray = LinkGrayStatus { leaves_homes: true, ..LinkGrayStatus::default() };
        let mut bed = Bed::new();
        bed.server_a(|it| it.gray("gateway-b", &gray));
        bed.gateway_a(|it| it.health("sick", &["next-hop-silent"]));
        let view = bed.view();
        let known = Numbered::of(view.house, &Sight::of(&view));
        let (vm_a, vm_b) = (known.vnic("vm-a").unwrap(), known.vnic("vm-b").unwrap());
        let (east_1, east_2) = (known.uplink("east-1").unwrap(), known.uplink("east-2").unwrap());
        assert!(!known.house.uplink(east_1).alive && known.house.uplink(east_2).alive);
        assert!(!known.house.is_open_for(vm_a, east_2) && known.house.is_open_for(vm_b, east_2));
    }

    #[test]
    fn demand_ends_at_the_grant_of_the_server() {
        let mut house = house(HOUSE);
        let mut grant = house.grant("east/server-a").unwrap().clone();
        let limit = Some(Rate::from_bps(200 * MBIT));
        grant.up = Some(Terms { limit, ..Terms::default() });
        house.put(Object::Grant(grant));
        let wants = Rates::both(500 * MBIT);
        let sight = Sight { wants: [("vm-a".to_owned(), wants)].into(), ..Sight::default() };
        let known = Numbered::of(&house, &sight);
        let vnic = &known.house.vnics[known.vnic("vm-a").unwrap().0];
        assert_eq!(vnic.wants, Rates { up_bps: 200 * MBIT, down_bps: 500 * MBIT });
    }
}
