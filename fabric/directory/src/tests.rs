use crate::{Directory, Host, Route};
use wireonce_config::Config;
use wireonce_ledger::DropReason;
use wireonce_link::PeerId;
use wireonce_wire::{Endpoint, UplinkId, Vni, VnicId};

const FILE: &str = r#"
[host]
name = "server-a"
private_key_file = "/nowhere/server-a.key"

[fabric]
address = "10.0.0.1"
mtu = 1500

[[peer]]
name = "server-b"
address = "10.0.0.2"
public_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="

[[peer]]
name = "gateway"
address = "10.0.0.3"
public_key = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="

[[network]]
name = "blue"
vni = 100
pool = "outside"

[[network]]
name = "red"
vni = 200

[[uplink]]
id = 7
name = "up"
host = "gateway"
pool = "outside"
driver = "packet"
interface = "eth1"

[[vnic]]
id = 1
name = "a1"
host = "server-a"
network = "blue"
mac = "52:54:00:00:00:01"
addresses = ["192.0.2.1", "198.51.100.0/24"]
socket = "/run/a1.sock"
home = "up"

[[vnic]]
id = 2
name = "a2"
host = "server-a"
network = "blue"
mac = "52:54:00:00:00:02"
socket = "/run/a2.sock"
home = "up"

[[vnic]]
id = 3
name = "b3"
host = "server-b"
network = "blue"
mac = "52:54:00:00:00:03"
home = "up"

[[vnic]]
id = 4
name = "b4"
host = "server-b"
network = "red"
mac = "52:54:00:00:00:04"

[[vnic]]
id = 5
name = "a5"
host = "server-a"
network = "red"
mac = "52:54:00:00:00:05"
socket = "/run/a5.sock"
"#;

const SERVER_B: PeerId = PeerId(0);
const GATEWAY: PeerId = PeerId(1);

fn directory() -> Directory {
    Directory::new(&Config::parse(FILE, "test.toml").unwrap())
}

fn vnic(id: u64) -> Endpoint {
    Endpoint::Vnic(VnicId::new(id).unwrap())
}

fn network(vni: u32) -> Endpoint {
    Endpoint::Network(Vni::new(vni).unwrap())
}

#[test]
fn unicast_goes_to_the_vnic_that_has_the_address_or_home() {
    let directory = directory();
    let from = directory.vnic(VnicId::new(1).unwrap()).unwrap();
    assert_eq!(from.host, Host::Local);
    let route = |mac: &str| directory.route(&from.vnic, mac.parse().unwrap());
    assert_eq!(route("52:54:00:00:00:02"), Route::LocalVnic(VnicId::new(2).unwrap()));
    assert_eq!(route("52:54:00:00:00:03"), Route::Peer(SERVER_B, vnic(3)));
    assert_eq!(route("02:00:00:00:00:09"), Route::Outside);
    let home = Route::Peer(GATEWAY, Endpoint::Uplink(UplinkId(7)));
    assert_eq!(directory.route_outside(&from.vnic), home);
    assert_eq!(route("52:54:00:00:00:04"), Route::Outside, "red's addresses mean nothing in blue");
    assert_eq!(route("52:54:00:00:00:01"), Route::Drop(DropReason::Reflected));
}

#[test]
fn a_network_without_pool_has_no_way_out() {
    let directory = directory();
    let from = directory.vnic(VnicId::new(5).unwrap()).unwrap();
    let route = directory.route(&from.vnic, "02:00:00:00:00:09".parse().unwrap());
    assert_eq!(route, Route::Drop(DropReason::NoRoute));
}

#[test]
fn a_peer_speaks_only_for_what_is_on_it() {
    let directory = directory();
    let blue = Ok(Vni::new(100).unwrap());
    assert_eq!(directory.admit(SERVER_B, vnic(3), vnic(1)), blue);
    assert_eq!(directory.admit(SERVER_B, vnic(3), network(100)), blue);
    assert_eq!(directory.admit(GATEWAY, Endpoint::Uplink(UplinkId(7)), vnic(1)), blue);
    let not_owned = Err(DropReason::SourceNotOwned);
    assert_eq!(directory.admit(GATEWAY, vnic(3), vnic(1)), not_owned);
    assert_eq!(directory.admit(SERVER_B, vnic(1), vnic(2)), not_owned);
    assert_eq!(directory.admit(SERVER_B, vnic(99), vnic(2)), not_owned);
    assert_eq!(directory.admit(SERVER_B, Endpoint::Uplink(UplinkId(7)), vnic(1)), not_owned);
    assert_eq!(directory.admit(SERVER_B, network(100), vnic(1)), not_owned);
}

#[test]
fn networks_do_not_mix() {
    let directory = directory();
    let mismatch = Err(DropReason::NetworkMismatch);
    assert_eq!(directory.admit(SERVER_B, vnic(4), vnic(1)), mismatch);
    assert_eq!(directory.admit(SERVER_B, vnic(3), network(200)), mismatch);
    assert_eq!(directory.admit(GATEWAY, Endpoint::Uplink(UplinkId(7)), vnic(5)), mismatch);
    assert_eq!(directory.admit(GATEWAY, Endpoint::Uplink(UplinkId(7)), network(200)), mismatch);
}

#[test]
fn what_is_not_here_is_no_destination() {
    let directory = directory();
    let unknown = Err(DropReason::UnknownDestination);
    assert_eq!(directory.admit(SERVER_B, vnic(3), vnic(3)), unknown);
    assert_eq!(directory.admit(SERVER_B, vnic(3), Endpoint::Uplink(UplinkId(7))), unknown);
    assert_eq!(directory.admit(SERVER_B, vnic(3), Endpoint::Link), unknown);
}

#[test]
fn only_addresses_of_their_own_are_answered_for() {
    let directory = directory();
    let all: Vec<_> = directory.addresses().collect();
    let [(vni, address, vnic)] = all[..] else { panic!("a prefix is no address: {all:?}") };
    assert_eq!((vni.get(), address.to_string().as_str()), (100, "192.0.2.1"));
    assert_eq!(vnic.name, "a1");
}

#[test]
fn an_uplink_knows_its_networks_by_vlan() {
    let directory = directory();
    assert_eq!(directory.network_by_vlan(UplinkId(7), None), Vni::new(100));
    assert_eq!(directory.network_by_vlan(UplinkId(7), Some(5)), None);
}
