//! From the house to the text below the line of one host's file.
//!
//! A host is told what it needs, no more:
//!
//! ```text
//! its networks   server: of its vNICs     gateway: on the pools of its uplinks
//!     └─> their vNICs, on all hosts; sockets only of its own
//!     └─> their pools ─> the pools' uplinks; interfaces only of its own
//!             └─> the grants: a server its own, a gateway all of its pools
//! its peers      the hosts of those vNICs and uplinks
//! ```

use crate::{
    house::House,
    kind::Kind,
    object::{Grant, Host, Network, Policy, Terms, Uplink, Vnic, is_false},
    rate::Rate,
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The tables of a host's file, in the order in which they are written.
#[derive(Serialize, Default)]
struct Document<'h> {
    #[serde(skip_serializing_if = "Option::is_none")]
    fabric_port: Option<FabricPortTable>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peer: Vec<PeerTable<'h>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    network: Vec<&'h Network>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    uplink: Vec<UplinkTable<'h>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policy: Vec<&'h Policy>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grant: Vec<GrantTable<'h>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vnic: Vec<VnicTable<'h>>,
}

/// What the host's own fabric port carries.
#[derive(Serialize)]
struct FabricPortTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    port_up: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_down: Option<Rate>,
}

#[derive(Serialize)]
struct PeerTable<'h> {
    name: &'h str,
    address: IpAddr,
    port: u16,
    public_key: &'h str,
}

#[derive(Serialize)]
struct UplinkTable<'h> {
    id: u32,
    name: &'h str,
    host: &'h str,
    pool: &'h str,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<&'h str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<&'h str>,
    designated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storm_frames_per_s: Option<u32>,
    #[serde(skip_serializing_if = "is_false")]
    draining: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    down: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_back_s: Option<u32>,
    next_hop: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_hop_vlan: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outside_probes: Option<bool>,
}

#[derive(Serialize)]
struct GrantTable<'h> {
    pool: &'h str,
    server: &'h str,
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<&'h Terms>,
    #[serde(skip_serializing_if = "Option::is_none")]
    down: Option<&'h Terms>,
}

/// A vNIC as its own host needs it, or as the others do.
#[derive(Serialize)]
struct VnicTable<'h> {
    id: u64,
    name: &'h str,
    host: &'h str,
    network: &'h str,
    mac: &'h str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    addresses: &'h [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<&'h str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    standbys: &'h [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'h str>,
    #[serde(flatten)]
    own: Option<OwnVnic<'h>>,
}

/// What only the server of a vNIC needs.
#[derive(Serialize)]
struct OwnVnic<'h> {
    socket: &'h str,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_mode: Option<&'h str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_pairs: Option<u8>,
    trunk: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    allow: &'h [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    storm_frames_per_s: Option<u32>,
    require_sealed_memory: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    offload: Option<&'h crate::object::Offload>,
}

/// The text below the line for `host`; `None` if the house has no such host.
#[must_use]
pub fn render(house: &House, host: &str) -> Option<String> {
    let needs = Needs::of(house, host)?;
    let mut document = Document::default();
    for (kind, peer) in house.hosts() {
        if peer.name == host && kind == Kind::Server {
            document.fabric_port = fabric_port_table(peer);
        }
        if peer.name != host && needs.hosts.contains(peer.name.as_str()) {
            document.peer.push(peer_table(peer));
        }
    }
    document.network = needs.networks.values().copied().collect();
    for uplink in house.uplinks().filter(|uplink| needs.pools.contains(uplink.pool.as_str())) {
        document.uplink.push(uplink_table(house, uplink, uplink.host == host));
    }
    let is_gateway = needs.kind == Kind::Gateway;
    for vnic in house.vnics().filter(|vnic| needs.networks.contains_key(vnic.network.as_str())) {
        let own = vnic.host == host;
        document.vnic.push(vnic_table(vnic, own, own || is_gateway));
    }
    let used: BTreeSet<&str> = document.vnic.iter().filter_map(|vnic| vnic.policy).collect();
    document.policy = house.policies().filter(|p| used.contains(p.name.as_str())).collect();
    let known = |grant: &&Grant| match is_gateway {
        // A server without a vNIC there asks for nothing, and is no peer.
        true => needs.hosts.contains(grant.server.as_str()),
        false => grant.server == host,
    };
    let grants = house.grants().filter(|grant| needs.pools.contains(grant.pool.as_str()));
    document.grant = grants.filter(known).map(grant_table).collect();
    Some(text(&document))
}

/// The whole house as TOML, as `wireonce apply` reads it.
#[must_use]
pub fn export(house: &House) -> String {
    #[derive(Serialize)]
    struct Everything<'h> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        server: Vec<&'h crate::Object>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        gateway: Vec<&'h crate::Object>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pool: Vec<&'h crate::Object>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        uplink: Vec<&'h crate::Object>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        network: Vec<&'h crate::Object>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        policy: Vec<&'h crate::Object>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        vnic: Vec<&'h crate::Object>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        budget: Vec<&'h crate::Object>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        grant: Vec<&'h crate::Object>,
    }
    let of = |kind| house.of(kind).collect();
    text(&Everything {
        server: of(Kind::Server),
        gateway: of(Kind::Gateway),
        pool: of(Kind::Pool),
        uplink: of(Kind::Uplink),
        network: of(Kind::Network),
        policy: of(Kind::Policy),
        vnic: of(Kind::Vnic),
        budget: of(Kind::Budget),
        grant: of(Kind::Grant),
    })
}

/// The whole file of a host that knows everything, to have it checked; and the kinds
/// of those that are its peers.
pub(crate) fn for_observer(house: &House) -> (String, BTreeMap<&str, Kind>) {
    let mut document = Document::default();
    for (_, peer) in house.hosts() {
        document.peer.push(peer_table(peer));
    }
    document.network = house.networks().collect();
    document.uplink = house.uplinks().map(|uplink| uplink_table(house, uplink, true)).collect();
    document.vnic = house.vnics().map(|vnic| vnic_table(vnic, true, true)).collect();
    // Grants are left out: whether there is room for them is another question than whether
    // the house holds together, and is asked later.
    document.policy = house.policies().collect();
    let names: BTreeMap<&str, Kind> =
        house.hosts().map(|(kind, host)| (host.name.as_str(), kind)).collect();
    let mut name = "observer".to_owned();
    while names.contains_key(name.as_str()) {
        name.push('x');
    }
    let address = observer_address(house);
    let head = format!(
        "[host]\nname = {name:?}\nprivate_key_file = \"/dev/null\"\n\n\
         [fabric]\naddress = \"{address}\"\nport = 1\n\n"
    );
    (head + &text(&document), names)
}

/// An address of the house's version that no host has with port 1.
fn observer_address(house: &House) -> IpAddr {
    let taken: BTreeSet<IpAddr> =
        house.hosts().filter(|(_, host)| host.port == 1).map(|(_, host)| host.address).collect();
    let v6 = house.hosts().any(|(_, host)| host.address.is_ipv6());
    let free = |address: &IpAddr| !taken.contains(address);
    let candidates = (1..=u16::MAX).map(|low| match v6 {
        true => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, low)),
        false => {
            let [high, low] = low.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(10, 255, high, low))
        }
    });
    candidates.into_iter().find(free).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// What a host has to know of.
struct Needs<'h> {
    kind: Kind,
    networks: BTreeMap<&'h str, &'h Network>,
    pools: BTreeSet<&'h str>,
    hosts: BTreeSet<&'h str>,
}

impl<'h> Needs<'h> {
    fn of(house: &'h House, host: &str) -> Option<Self> {
        let kind = house.host_kind(host)?;
        let own_networks: BTreeSet<&str> =
            house.vnics().filter(|vnic| vnic.host == host).map(|vnic| &*vnic.network).collect();
        let mut pools: BTreeSet<&str> =
            house.uplinks().filter(|uplink| uplink.host == host).map(|u| &*u.pool).collect();
        let networks: BTreeMap<&str, &Network> = house
            .networks()
            .filter(|network| {
                let on_pool = network.pool.as_deref().is_some_and(|pool| pools.contains(pool));
                on_pool || own_networks.contains(network.name.as_str())
            })
            .map(|network| (network.name.as_str(), network))
            .collect();
        pools.extend(networks.values().filter_map(|network| network.pool.as_deref()));
        let vnics = house.vnics().filter(|vnic| networks.contains_key(vnic.network.as_str()));
        let uplinks = house.uplinks().filter(|uplink| pools.contains(uplink.pool.as_str()));
        let hosts = vnics.map(|vnic| &*vnic.host).chain(uplinks.map(|u| &*u.host)).collect();
        Some(Self { kind, networks, pools, hosts })
    }
}

/// Only servers divide theirs.
fn fabric_port_table(host: &Host) -> Option<FabricPortTable> {
    let table = FabricPortTable { port_up: host.port_up, port_down: host.port_down };
    (table.port_up.is_some() || table.port_down.is_some()).then_some(table)
}

fn peer_table(host: &Host) -> PeerTable<'_> {
    PeerTable {
        name: &host.name,
        address: host.address,
        port: host.port,
        public_key: &host.public_key,
    }
}

fn uplink_table<'h>(house: &'h House, uplink: &'h Uplink, own: bool) -> UplinkTable<'h> {
    let pool = house.pool(&uplink.pool);
    UplinkTable {
        id: uplink.id.unwrap_or(0),
        name: &uplink.name,
        host: &uplink.host,
        pool: &uplink.pool,
        driver: own.then_some(&uplink.driver),
        interface: own.then_some(&uplink.interface),
        designated: uplink.designated,
        mtu: uplink.mtu.or(pool.and_then(|pool| pool.mtu)),
        storm_frames_per_s: uplink.storm_frames_per_s,
        draining: house.is_draining(uplink),
        up: uplink.up,
        down: uplink.down,
        fail_back_s: uplink.fail_back_s,
        // Only its own gateway asks; all of the pool have to know who probes.
        next_hop: uplink.next_hop.filter(|_| own),
        next_hop_vlan: uplink.next_hop_vlan.filter(|_| own),
        outside_probes: uplink.outside_probes.or(pool.and_then(|pool| pool.outside_probes)),
    }
}

fn grant_table(grant: &Grant) -> GrantTable<'_> {
    GrantTable {
        pool: &grant.pool,
        server: &grant.server,
        up: grant.up.as_ref(),
        down: grant.down.as_ref(),
    }
}

fn vnic_table(vnic: &Vnic, own: bool, with_policy: bool) -> VnicTable<'_> {
    VnicTable {
        id: vnic.id.unwrap_or(0),
        name: &vnic.name,
        host: &vnic.host,
        network: &vnic.network,
        mac: &vnic.mac,
        addresses: &vnic.addresses,
        home: vnic.home.as_deref(),
        standbys: &vnic.standbys,
        policy: vnic.policy.as_deref().filter(|_| with_policy),
        own: own.then(|| OwnVnic {
            socket: &vnic.socket,
            socket_mode: vnic.socket_mode.as_deref(),
            queue_pairs: vnic.queue_pairs,
            trunk: vnic.trunk,
            allow: &vnic.allow,
            storm_frames_per_s: vnic.storm_frames_per_s,
            require_sealed_memory: vnic.require_sealed_memory,
            offload: vnic.offload.as_ref(),
        }),
    }
}

/// TOML cannot fail to say any of this.
fn text<T: Serialize>(document: &T) -> String {
    toml::to_string(document).unwrap_or_default()
}
