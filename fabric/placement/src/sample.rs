//! Houses for tests.

use crate::house::{
    Gateway, GatewayIndex, House, MachineId, PoolId, Rates, Server, ServerIndex, Uplink,
    UplinkIndex, Vnic,
};
use proptest::prelude::*;

pub(crate) const MBIT: u64 = 1_000_000;
pub(crate) const GBIT: u64 = 1_000 * MBIT;

/// Machines 0 to n-1, each a server and a gateway with one uplink of that capacity in one pool.
pub(crate) fn machines(number: u32, capacity_bps: u64) -> House {
    let mut house = House::default();
    for at in 0..number {
        let machine = MachineId(at);
        let port = Rates::UNLIMITED;
        let name = |what: &str| format!("{what}-{at}");
        house.servers.push(Server { name: name("server"), machine, port });
        house.gateways.push(Gateway { name: name("gateway"), machine, port, draining: false });
        house.uplinks.push(Uplink {
            name: name("uplink"),
            gateway: GatewayIndex(house.gateways.len() - 1),
            pool: PoolId(0),
            switch: None,
            usable: Rates::both(capacity_bps),
            alive: true,
            draining: false,
        });
    }
    house
}

/// A vNIC without a home.
pub(crate) fn vnic(name: &str, server: usize, needs: u64, wants: u64) -> Vnic {
    Vnic {
        name: name.to_owned(),
        server: ServerIndex(server),
        pool: PoolId(0),
        needs: Rates::both(needs),
        wants: Rates::both(wants),
        shares: 100,
        home: None,
        standbys: Vec::new(),
        may_move: true,
    }
}

/// A vNIC with a home and a standby.
pub(crate) fn housed(name: &str, server: usize, wants: u64, home: usize, standby: usize) -> Vnic {
    Vnic {
        home: Some(UplinkIndex(home)),
        standbys: vec![UplinkIndex(standby)],
        ..vnic(name, server, 0, wants)
    }
}

/// Any house of a few machines, uplinks and vNICs, without homes.
pub(crate) fn any_house() -> impl Strategy<Value = House> {
    let rate = || prop_oneof![Just(0), 1..10 * GBIT];
    let machines = 1..5_u32;
    let uplinks =
        prop::collection::vec((any::<prop::sample::Index>(), 0..2_u32, rate(), rate()), 1..8);
    let vnics = prop::collection::vec(
        (any::<prop::sample::Index>(), 0..2_u32, (0..GBIT, 0..GBIT), (rate(), rate()), 1..10_u32),
        0..24,
    );
    let port = prop_oneof![Just(u64::MAX), GBIT..20 * GBIT];
    (machines, uplinks, vnics, port).prop_map(|(number, uplinks, vnics, port)| {
        let mut house = machines_without_uplinks(number, port);
        for (at, pool, up_bps, down_bps) in uplinks {
            let gateway = at.index(house.gateways.len());
            house.uplinks.push(Uplink {
                name: format!("uplink-{}", house.uplinks.len()),
                gateway: GatewayIndex(gateway),
                pool: PoolId(pool),
                switch: None,
                usable: Rates { up_bps, down_bps },
                alive: true,
                draining: false,
            });
        }
        for (at, pool, needs, wants, shares) in vnics {
            let server = at.index(house.servers.len());
            let name = format!("vnic-{}", house.vnics.len());
            house.vnics.push(Vnic {
                pool: PoolId(pool),
                needs: Rates { up_bps: needs.0, down_bps: needs.1 },
                wants: Rates { up_bps: wants.0, down_bps: wants.1 },
                shares,
                ..vnic(&name, server, 0, 0)
            });
        }
        house
    })
}

fn machines_without_uplinks(number: u32, port_bps: u64) -> House {
    let mut house = machines(number, 0);
    house.uplinks.clear();
    for server in &mut house.servers {
        server.port = Rates::both(port_bps);
    }
    for gateway in &mut house.gateways {
        gateway.port = Rates::both(port_bps);
    }
    house
}
