//! What a good file becomes.

use super::{GOLDEN, edited, parse};
use crate::{
    Allow, Config, Direction, Driver, Encryption, FabricMtu, Holder, NextHop, SocketMode,
    UplinkPlace, VnicPlace, schema,
};
use std::{path::Path, sync::Arc};
use wireonce_shares::Terms;
use wireonce_wire::{UplinkId, Vni, VnicId};

fn golden() -> Config {
    parse(GOLDEN).unwrap()
}

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

#[test]
fn every_key_arrives() {
    let config = golden();
    assert_eq!(config.origin, "server-a.toml");
    assert_eq!(config.host.name, "server-a");
    assert_eq!(config.host.workers, 2);
    assert_eq!(config.host.private_key_file, Path::new("/etc/wireonce/server-a.key"));
    assert_eq!(config.fabric.port, 4791);
    assert_eq!(config.fabric.paths, 4);
    assert_eq!(config.fabric.mtu, FabricMtu::Fixed(9000));
    assert_eq!(config.fabric.encryption, Encryption::Off);
    assert_eq!(config.peer("gateway-a").unwrap().socket_addr().to_string(), "10.77.0.3:4800");
    assert_eq!(config.peer("server-b").unwrap().public_key, [1; 32]);

    let vnic = config.vnic(VnicId::new(1002).unwrap()).unwrap();
    assert_eq!(vnic.name, "vm-a");
    assert_eq!(vnic.mac.to_string(), "52:54:00:00:00:02");
    assert_eq!(vnic.network.name, "blue");
    assert_eq!(vnic.queue_pairs, 8);
    assert_eq!(vnic.addresses, ["192.0.2.2/32".parse().unwrap()]);
    assert_eq!(vnic.home.as_ref().unwrap().name, "east-1");
    assert_eq!(vnic.standbys[0].name, "east-2");
    assert_eq!(vnic.allow, Allow { dhcp_server: false, router_advertisement: true });
    assert_eq!(vnic.storm_frames_per_s, 50);
    assert!(vnic.trunk && !vnic.guest_tso);
    assert_eq!(config.uplink(UplinkId(9)).unwrap().storm_frames_per_s, 5000);
    let VnicPlace::Local(socket) = &vnic.place else { panic!("vm-a is local") };
    assert_eq!(socket.path, Path::new("/run/wireonce/vm-a.sock"));
    assert_eq!(socket.mode, SocketMode::Connect);
}

#[test]
fn bandwidth_arrives_in_bits_a_second() {
    let config = golden();
    let west = config.uplink(UplinkId(9)).unwrap();
    assert_eq!((west.up_bps, west.down_bps), (Some(1_000_000_000), Some(2_500_000_000)));
    assert_eq!(west.usable_bps(Direction::Up), Some(990_000_000));
    assert_eq!(west.usable_bps(Direction::Down), Some(2_400_000_000));
    assert_eq!(config.uplink(UplinkId(3)).unwrap().usable_bps(Direction::Up), None);
    let terms = |id, direction| config.vnic(VnicId::new(id).unwrap()).unwrap().terms(direction);
    let up = Terms {
        reservation_bps: 100_000_000,
        shares: 200,
        limit_bps: Some(800_000_000),
        limit_packets_per_s: Some(20_000),
    };
    assert_eq!(terms(1004, Direction::Up), up);
    let down = Terms { limit_bps: Some(64_000), ..Terms::default() };
    assert_eq!(terms(1004, Direction::Down), down);
    assert_eq!(terms(1001, Direction::Up), Terms::default());
    let grant = &config.grants[0];
    assert_eq!(grant.pool, "west");
    assert_eq!(grant.up, Terms { reservation_bps: 600_000_000, shares: 50, ..Terms::default() });
    assert_eq!(grant.down, Terms::default());
    assert!(matches!(&grant.server, Holder::Peer(peer) if peer.name == "server-b"));
}

/// What these of server B's vNICs bring of its grant in pool east, in Mbit/s.
fn brought(config: &Config, vnics: &[u64]) -> (u64, Option<u64>) {
    let server = Holder::Peer(Arc::clone(config.peer("server-b").unwrap()));
    let split = config.grant_split("east", &server, Direction::Up).unwrap();
    let terms = split.of(vnics.iter().map(|id| VnicId::new(*id).unwrap()));
    assert_eq!(terms.shares, 50);
    (terms.reservation_bps / 1_000_000, terms.limit_bps.map(|bps| bps / 1_000_000))
}

#[test]
fn a_fabric_port_has_what_it_carries_and_keeps_a_little_back() {
    use crate::{Direction, FabricPort};
    let port = golden().fabric_port;
    assert_eq!((port.up_bps, port.down_bps), (Some(10_000_000_000), Some(5_000_000_000)));
    let usable = [Direction::Up, Direction::Down].map(|way| port.usable_bps(way));
    assert_eq!(usable, [Some(9_800_000_000), Some(4_800_000_000)]);
    let without = edited(&[("[fabric_port]\nport_up = \"10Gbit\"\nport_down = \"5Gbit\"\n", "")]);
    let none = parse(&without).unwrap().fabric_port;
    assert_eq!((none, none.usable_bps(Direction::Up)), (FabricPort::default(), None));
}

#[test]
fn a_grant_is_divided_among_the_homes_of_the_servers_vnics_and_goes_where_they_go() {
    // Server B has homes on both uplinks of pool east, of 1 and 3 Gbit/s; server A on one.
    let small = (
        "pool = \"east\"\n\n[[uplink]]\nid = 3",
        "pool = \"east\"\nup = \"1Gbit\"\n\n[[uplink]]\nid = 3",
    );
    let large = ("mtu = 1500", "mtu = 1500\nup = \"3Gbit\"");
    let pool = ("pool = \"west\"\nserver", "pool = \"east\"\nserver");
    let limit = ("shares = 50", "shares = 50, limit = \"2Gbit\"");
    let elsewhere = ("home = \"east-2\"\npolicy", "home = \"east-1\"\npolicy");
    let config = parse(&edited(&[small, large, pool, limit, elsewhere])).unwrap();
    assert_eq!(brought(&config, &[1001]), (150, Some(500)));
    assert_eq!(brought(&config, &[1004]), (450, Some(1500)));
    assert_eq!(brought(&config, &[1001, 1004]), (600, Some(2000)), "one uplink has taken over");
    assert_eq!(brought(&config, &[]), (0, Some(0)));
    assert_eq!(config.grant_split("east", &Holder::Local, Direction::Up), None);
    assert_eq!(config.grant_split("west", &config.grants[0].server, Direction::Up), None);
    let uplink = |id| config.uplink(UplinkId(id)).unwrap();
    let peer = Holder::Peer(Arc::clone(config.peer("server-b").unwrap()));
    assert_eq!(config.servers_on(uplink(3)), [Holder::Local, peer.clone()]);
    assert_eq!(config.servers_on(uplink(7)), [Holder::Local, peer], "a standby is there");
    // A home that is not shaped counts as the smallest that is, and where none is, all alike.
    let config = parse(&edited(&[large, pool, limit, elsewhere])).unwrap();
    assert_eq!(brought(&config, &[1001]), (300, Some(1000)));
    let room = ("reservation = \"600Mbit\", ", "");
    let config = parse(&edited(&[pool, room, limit, elsewhere])).unwrap();
    assert_eq!(brought(&config, &[1001]), (0, Some(1000)));
}

#[test]
fn who_probes_the_outside_is_said_or_follows_from_the_pool() {
    let config = parse(&edited(&[(
        "mtu = 1500",
        "next_hop = \"fe80::1\"\nnext_hop_vlan = 20\noutside_probes = false",
    )]))
    .unwrap();
    let uplink = |id| config.uplink(UplinkId(id)).unwrap();
    assert!(config.probes_outside(uplink(7)), "another uplink is in the pool");
    assert!(!config.probes_outside(uplink(3)), "it is said");
    assert!(!config.probes_outside(uplink(9)), "it is alone");
    let hop = NextHop { address: "fe80::1".parse().unwrap(), vlan: Some(20) };
    assert_eq!((uplink(3).next_hop, uplink(7).next_hop), (Some(hop), None));
    let said = ("storm_frames_per_s = 5000", "outside_probes = true");
    let config = parse(&edited(&[said])).unwrap();
    assert!(config.probes_outside(config.uplink(UplinkId(9)).unwrap()), "to find a loop");
}

#[test]
fn sealed_memory_may_be_required_of_one_vnic() {
    let config = parse(&edited(&[("trunk = true", "require_sealed_memory = true")])).unwrap();
    let required = |id| config.vnic(VnicId::new(id).unwrap()).unwrap().require_sealed_memory;
    assert!(required(1002) && !required(1003));
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(&edited(&[
        ("workers = 2\n", ""),
        ("port = 4791\n", ""),
        ("paths = 4\n", ""),
        ("mtu = 9000\n", ""),
        ("encryption = \"off\"\n", ""),
    ]))
    .unwrap();
    assert_eq!(config.host.workers, 1);
    assert_eq!(config.host.control_socket, Path::new("/run/wireonce/server-a.sock"));
    assert_eq!(config.fabric.port, 4790);
    assert_eq!(config.fabric.paths, 1);
    assert_eq!(config.fabric.mtu, FabricMtu::Probe);
    assert_eq!(config.fabric.encryption, Encryption::Aes256Gcm);
    assert_eq!(config.peer("server-b").unwrap().port, 4790);
    assert_eq!(config.network(vni(100)).unwrap().mtu, 1500);

    let vnic = config.vnic(VnicId::new(1003).unwrap()).unwrap();
    assert_eq!(vnic.queue_pairs, 1);
    assert_eq!(vnic.storm_frames_per_s, schema::STORM_FRAMES_PER_S_DEFAULT);
    let uplink = config.uplink(UplinkId(3)).unwrap();
    assert_eq!(uplink.storm_frames_per_s, schema::STORM_FRAMES_PER_S_DEFAULT);
    assert_eq!(vnic.allow, Allow::default());
    assert!(!vnic.require_sealed_memory);
    assert!(!vnic.trunk && vnic.guest_tso && vnic.home.is_none() && vnic.addresses.is_empty());
    let VnicPlace::Local(socket) = &vnic.place else { panic!("vm-c is local") };
    assert_eq!(socket.mode, SocketMode::Listen);
}

#[test]
fn local_things_are_told_from_those_of_peers() {
    let config = golden();
    let vnics: Vec<_> = config.local_vnics().map(|(vnic, _)| vnic.name.as_str()).collect();
    assert_eq!(vnics, ["vm-a", "vm-c"]);
    let uplinks: Vec<_> = config
        .local_uplinks()
        .map(|(uplink, port)| (uplink.id, port.driver, port.interface.as_str()))
        .collect();
    let (packet, tap) = (Driver::Packet, Driver::Tap);
    assert_eq!(uplinks, [(UplinkId(3), packet, "eth1"), (UplinkId(9), tap, "wo-west")]);
    let remote = config.uplink(UplinkId(7)).unwrap();
    assert!(matches!(&remote.place, UplinkPlace::Peer(peer) if peer.name == "gateway-a"));
}

#[test]
fn a_network_knows_its_members_and_their_hosts() {
    let config = golden();
    let names: Vec<_> = config.vnics_of(vni(100)).map(|vnic| vnic.name.as_str()).collect();
    assert_eq!(names, ["vm-b", "vm-a", "vm-d"]);
    let peers: Vec<_> = config.member_peers(vni(100)).iter().map(|p| p.name.as_str()).collect();
    assert_eq!(peers, ["server-b"]);
    assert!(config.member_peers(vni(200)).is_empty());
    assert_eq!(config.network_on("east", Some(7)).unwrap().name, "blue");
    assert!(config.network_on("east", None).is_none());
    assert_eq!(config.uplinks_of("east").count(), 2);
}

#[test]
fn the_lowest_id_is_the_designated_uplink() {
    assert_eq!(golden().designated_uplink(vni(100)).unwrap().id, UplinkId(3));
    assert!(golden().designated_uplink(vni(200)).is_none());
}

#[test]
fn a_mark_makes_another_uplink_the_designated_one() {
    let config = parse(&edited(&[("id = 7\n", "id = 7\ndesignated = true\n")])).unwrap();
    assert_eq!(config.designated_uplink(vni(100)).unwrap().id, UplinkId(7));
}

#[test]
fn one_mac_may_be_in_two_networks() {
    let config = golden();
    let twice = config.vnics.iter().filter(|v| v.mac.to_string() == "52:54:00:00:00:01");
    assert_eq!(twice.count(), 2);
}

#[test]
fn the_socket_of_another_host_may_equal_one_here() {
    let text =
        edited(&[("home = \"east-2\"", "home = \"east-2\"\nsocket = \"/run/wireonce/vm-a.sock\"")]);
    assert!(parse(&text).is_ok());
}

#[test]
fn a_fabric_may_be_ipv6() {
    let config = parse(&edited(&[
        ("10.77.0.1", "fd00::1"),
        ("10.77.0.2", "fd00::2"),
        ("10.77.0.3", "fd00::3"),
    ]))
    .unwrap();
    assert_eq!(config.peer("server-b").unwrap().socket_addr().to_string(), "[fd00::2]:4790");
}
