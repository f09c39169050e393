//! What a host is sent: read by the daemons' reader, and nothing that it need not know.

use super::{HOUSE, changed, house, objects};
use crate::{House, Object, Vnic, export, read, render, rules};
use proptest::prelude::*;
use wireonce_config::Config;

/// The configuration of `host`: its own head before what the controller sends.
fn config(house: &House, host: &str) -> Config {
    let own = house.hosts().find(|(_, own)| own.name == host).unwrap().1;
    let head = format!(
        "[host]\nname = {host:?}\nprivate_key_file = \"/k\"\n[fabric]\naddress = \"{}\"\nport = \
         {}\n",
        own.address, own.port
    );
    let text = head + &render(house, host).unwrap();
    Config::parse(&text, host).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn every_host_can_read_what_it_is_sent() {
    let house = house();
    for (_, host) in house.hosts() {
        config(&house, &host.name);
    }
    assert_eq!(render(&house, "server-x"), None);
}

#[test]
fn a_server_knows_its_networks_and_no_others() {
    let config = config(&house(), "server-a");
    let names: Vec<_> = config.networks.iter().map(|network| network.name.as_str()).collect();
    assert_eq!(names, ["blue"]);
    let vnics: Vec<_> = config.vnics.iter().map(|vnic| vnic.name.as_str()).collect();
    assert_eq!(vnics, ["vm-a", "vm-b"]);
    assert_eq!(config.peers.len(), 3);
    assert_eq!(config.uplinks.len(), 2);
    assert_eq!(config.uplinks[0].mtu, Some(1600), "the pool's");
}

#[test]
fn sockets_and_interfaces_of_others_are_not_told() {
    let text = render(&house(), "server-a").unwrap();
    assert!(text.contains("vm-a.sock") && !text.contains("vm-b.sock"), "{text}");
    assert!(!text.contains("eth1"), "{text}");
    let text = render(&house(), "gateway-a").unwrap();
    assert!(!text.contains(".sock"), "{text}");
    assert_eq!(text.matches("eth1").count(), 1, "{text}");
}

#[test]
fn a_gateway_knows_the_networks_of_its_pools_and_the_other_gateway() {
    let config = config(&house(), "gateway-a");
    assert_eq!(config.networks.len(), 1);
    assert_eq!(config.vnics.len(), 2);
    assert!(config.peer("gateway-b").is_some());
}

#[test]
fn what_was_promised_arrives_where_it_is_kept() {
    use wireonce_config::Direction;
    let server = config(&house(), "server-a");
    assert_eq!(server.uplinks[0].up_bps, Some(1_000_000_000));
    let vnic = server.vnics.iter().find(|vnic| vnic.name == "vm-a").unwrap();
    assert_eq!(vnic.terms(Direction::Up).reservation_bps, 100_000_000);
    assert_eq!(server.grants.len(), 1, "its own");
    assert_eq!(server.grants[0].up.reservation_bps, 600_000_000);
    let gateway = config(&house(), "gateway-b");
    assert_eq!(gateway.grants.len(), 2);
    assert_eq!(gateway.vnics[0].terms(Direction::Up).shares, 200);
}

#[test]
fn a_server_and_nobody_else_knows_what_its_fabric_port_carries() {
    let house = house();
    for (kind, host) in house.hosts() {
        let port = config(&house, &host.name).fabric_port;
        let (up, down) = match kind {
            crate::Kind::Server => (host.port_up, host.port_down),
            _ => (None, None),
        };
        assert_eq!(port.up_bps, up.map(crate::Rate::bps), "{}", host.name);
        assert_eq!(port.down_bps, down.map(crate::Rate::bps), "{}", host.name);
    }
    let known = |host: &str| render(&house, host).unwrap().matches("[fabric_port]").count();
    assert_eq!((known("server-a"), known("gateway-a")), (1, 0));
}

#[test]
fn a_fabric_port_that_no_host_would_take_is_refused_here() {
    let said = super::error("port_up = \"10Gbit\"", "port_up = \"999kbit\"");
    let expected = "[[server]] \"server-a\": key `port_up`: is below 1Mbit; give what it can \
                    carry, from 1Mbit";
    assert_eq!(said, expected);
}

#[test]
fn a_limit_in_packets_arrives_at_the_server_and_at_the_gateways() {
    use wireonce_config::Direction;
    let limit = |per_s| format!("limit = \"800Mbit\", limit_packets_per_s = {per_s} }}");
    let limited = |per_s| changed("limit = \"800Mbit\" }", &limit(per_s)).unwrap();
    let house = limited(20_000);
    for host in ["server-a", "gateway-a", "gateway-b"] {
        let config = config(&house, host);
        let vnic = config.vnics.iter().find(|vnic| vnic.name == "vm-a").unwrap();
        assert_eq!(vnic.terms(Direction::Up).limit_packets_per_s, Some(20_000), "{host}");
        assert_eq!(vnic.terms(Direction::Down).limit_packets_per_s, None, "{host}");
    }
    let difference = crate::Difference::between(&house, &limited(40_000)).to_string();
    assert_eq!(difference, "~ policy gold\n    up.limit_packets_per_s: 20000 -> 40000\n");
}

#[test]
fn who_asks_and_who_probes_outside_arrives_where_it_is_needed() {
    let hop = "interface = \"eth1\"\nnext_hop = \"192.0.2.1\"\nnext_hop_vlan = 20";
    let house = changed("interface = \"eth1\"", hop).unwrap();
    let hops = |host| config(&house, host).uplinks.iter().filter_map(|it| it.next_hop).count();
    assert_eq!([hops("gateway-a"), hops("gateway-b")], [1, 0], "only its own gateway asks");
    let quiet = changed("mtu = 1600", "mtu = 1600\noutside_probes = false").unwrap();
    for (house, probes) in [(&house, true), (&quiet, false)] {
        let config = config(house, "gateway-a");
        assert!(config.uplinks.iter().all(|uplink| config.probes_outside(uplink) == probes));
    }
}

#[test]
fn settings_of_a_vnic_arrive() {
    let config = config(&house(), "server-b");
    let vnic = config.vnics.iter().find(|vnic| vnic.name == "vm-b").unwrap();
    assert!(!vnic.guest_tso);
    assert_eq!(vnic.home.as_ref().unwrap().name, "east-2");
}

#[test]
fn an_exported_house_reads_back_as_it_was() {
    let house = house();
    let again: House = objects(&export(&house)).into_iter().collect();
    assert_eq!(again, house);
    assert_eq!(read::toml(&export(&House::default())).unwrap(), []);
}

/// A house with some vNICs of the given servers, networks and homes.
fn grown(vnics: &[(bool, bool, u8)]) -> House {
    let mut house: House = objects(HOUSE).into_iter().collect();
    for (number, (server, network, home)) in (2000u64..).zip(vnics) {
        let blue = *network;
        house.put(Object::Vnic(Box::new(Vnic {
            id: Some(number),
            name: format!("vm-{number}"),
            host: if *server { "server-a" } else { "server-b" }.to_owned(),
            network: if blue { "blue" } else { "storage" }.to_owned(),
            mac: format!("52:54:00:01:{:02x}:{:02x}", number >> 8, number & 255),
            addresses: Vec::new(),
            socket: format!("/run/{number}.sock"),
            socket_mode: None,
            queue_pairs: Some(1 + home % 8),
            home: blue.then(|| format!("east-{}", 1 + home % 2)),
            standbys: Vec::new(),
            trunk: *server,
            allow: Vec::new(),
            storm_frames_per_s: None,
            require_sealed_memory: *network,
            policy: None,
            offload: None,
        })));
    }
    house
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A house that passes the rules is one that all its hosts can read, and each pair
    /// of hosts that has a network in common knows each other.
    #[test]
    fn what_passes_the_rules_every_host_can_read(
        vnics in prop::collection::vec(any::<(bool, bool, u8)>(), 0..24),
    ) {
        let house = grown(&vnics);
        rules::check(&house).unwrap();
        let configs: Vec<Config> =
            house.hosts().map(|(_, host)| config(&house, &host.name)).collect();
        for a in &configs {
            for b in &configs {
                let knows = a.peer(&b.host.name).is_some();
                prop_assert_eq!(knows, b.peer(&a.host.name).is_some());
            }
        }
    }
}
