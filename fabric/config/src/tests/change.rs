//! What differs between two files, and what must not.

use super::{GOLDEN, edited, parse};
use crate::{Change, Config, Serves};
use std::{fs, os::unix::net::UnixListener};
use tempfile::TempDir;

fn change(edits: &[(&str, &str)]) -> Result<Change, String> {
    let running = parse(GOLDEN).unwrap();
    let new = parse(&edited(edits)).unwrap();
    new.change_from(&running).map_err(|error| error.to_string())
}

fn names(vnics: impl Iterator<Item = impl AsRef<crate::Vnic>>) -> Vec<String> {
    vnics.map(|vnic| vnic.as_ref().name.clone()).collect()
}

#[test]
fn the_same_file_in_another_order_is_no_change() {
    assert!(change(&[]).unwrap().is_empty());
    let (head, tables) = GOLDEN.split_once("[[peer]]").unwrap();
    let mut tables: Vec<&str> = tables.split("[[peer]]").collect();
    // The second peer's part goes on with the other tables, which may stand anywhere.
    tables.reverse();
    let turned = format!("{head}[[peer]]{}", tables.join("[[peer]]"));
    assert_ne!(turned, GOLDEN);
    let turned = parse(&turned).unwrap();
    let change = turned.change_from(&parse(GOLDEN).unwrap()).unwrap();
    assert_eq!(change.lines(), Vec::<String>::new());
}

#[test]
fn what_is_new_and_what_is_gone_is_named() {
    let change = change(&[
        ("name = \"vm-c\"", "name = \"vm-e\""),
        ("id = 1003", "id = 1009"),
        ("name = \"server-b\"\naddress", "name = \"server-c\"\naddress"),
        ("name = \"vm-b\"\nhost = \"server-b\"", "name = \"vm-b\"\nhost = \"server-c\""),
        ("name = \"vm-d\"\nhost = \"server-b\"", "name = \"vm-d\"\nhost = \"server-c\""),
        ("server = \"server-b\"", "server = \"server-c\""),
        ("name = \"green\"\nvni = 0xc8", "name = \"olive\"\nvni = 0xc9"),
        ("network = \"green\"", "network = \"olive\""),
    ])
    .unwrap();
    assert_eq!(
        change.lines(),
        [
            "+ peer \"server-c\"",
            "- peer \"server-b\"",
            "+ network \"olive\"",
            "- network \"green\"",
            "+ vnic \"vm-e\"",
            "- vnic \"vm-c\"",
            "vnic \"vm-b\": host",
            "vnic \"vm-d\": host",
            "+ grant \"west/server-c\"",
            "- grant \"west/server-b\"",
        ]
    );
    assert_eq!(names(change.vnics_to_connect()), ["vm-e"]);
    assert_eq!(names(change.vnics_to_disconnect()), ["vm-c"], "vm-b was never here");
}

#[test]
fn a_move_and_new_rights_touch_only_tables() {
    let change = change(&[
        ("home = \"east-1\"\nstandbys = [\"east-2\"]", "home = \"east-2\""),
        ("storm_frames_per_s = 50\n", ""),
        ("addresses = [\"192.0.2.2\"]", "addresses = [\"192.0.2.3\"]"),
        ("trunk = true\n", ""),
        ("allow = [\"router-advertisement\"]\n", ""),
    ])
    .unwrap();
    assert_eq!(
        change.lines(),
        ["vnic \"vm-a\": addresses, home, standbys, trunk, allow, storm_frames_per_s"]
    );
    assert!(!change.vnics.changed[0].reconnects());
    assert_eq!(change.vnics_to_disconnect().count() + change.vnics_to_connect().count(), 0);
}

#[test]
fn what_the_vmm_was_told_ends_its_connection() {
    for (from, to, key) in [
        ("52:54:00:00:00:02", "52:54:00:00:00:03", "mac"),
        ("queue_pairs = 8", "queue_pairs = 4", "queue_pairs"),
        ("guest_tso = false", "guest_tso = true", "offload"),
        ("/vm-a.sock", "/vm-x.sock", "socket"),
        ("socket_mode = \"connect\"\n", "", "socket_mode"),
        ("trunk = true", "trunk = true\nrequire_sealed_memory = true", "require_sealed_memory"),
    ] {
        let change = change(&[(from, to)]).unwrap();
        assert_eq!(change.lines(), [format!("vnic \"vm-a\": {key}")]);
        assert_eq!(names(change.vnics_to_disconnect()), ["vm-a"], "{key}");
        assert_eq!(names(change.vnics_to_connect()), ["vm-a"], "{key}");
    }
    let change = change(&[("vni = 0xc8\nmtu = 9000", "vni = 0xc8\nmtu = 1500")]).unwrap();
    assert_eq!(change.lines(), ["network \"green\": mtu", "vnic \"vm-c\": mtu"]);
    assert_eq!(names(change.vnics_to_disconnect()), ["vm-c"]);
}

#[test]
fn an_uplink_is_opened_anew_only_for_its_port() {
    let opened = |edit: (&str, &str)| {
        let change = change(&[edit]).unwrap();
        let names: Vec<_> = change.uplinks_to_open().map(|(it, _)| it.name.clone()).collect();
        (change.lines(), names)
    };
    let (lines, names) = opened(("\"eth1\"", "\"eth2\""));
    assert_eq!((lines[0].as_str(), names.len()), ("uplink \"east-1\": interface", 1));
    let (lines, names) = opened(("storm_frames_per_s = 5000", "storm_frames_per_s = 6000"));
    assert_eq!((lines[0].as_str(), names.len()), ("uplink \"west-1\": storm_frames_per_s", 0));
    let (lines, names) = opened(("up = \"1Gbit\"", "draining = true\nup = \"1Gbit\""));
    assert_eq!((lines[0].as_str(), names.len()), ("uplink \"west-1\": draining", 0));
    let (lines, names) =
        opened(("mtu = 1500", "mtu = 1500\nnext_hop = \"192.0.2.1\"\nnext_hop_vlan = 7"));
    assert_eq!((lines[0].as_str(), names.len()), ("uplink \"east-1\": next_hop, next_hop_vlan", 0));
    let (lines, names) = opened(("mtu = 1500", "mtu = 1500\noutside_probes = false"));
    assert_eq!((lines[0].as_str(), names.len()), ("uplink \"east-1\": outside_probes", 0));
    let (lines, names) = opened(("pool = \"east\"\n\n", "pool = \"east\"\ndesignated = true\n\n"));
    assert_eq!((lines, names.len()), (vec!["network \"blue\": designated".to_owned()], 0));
}

#[test]
fn terms_and_capacities_touch_only_tables() {
    let change = change(&[
        ("up = \"1Gbit\"", "up = \"3Gbit\""),
        ("limit_packets_per_s = 20000", "limit_packets_per_s = 30000"),
        ("600Mbit\", shares = 50", "500Mbit\", shares = 50"),
        ("port_down = \"5Gbit\"\n", ""),
    ])
    .unwrap();
    assert_eq!(
        change.lines(),
        [
            "fabric port: port_down",
            "uplink \"west-1\": up",
            "vnic \"vm-d\": policy",
            "grant \"west/server-b\": up"
        ]
    );
    assert_eq!(change.uplinks_to_open().count() + change.vnics_to_connect().count(), 0);
    assert!(!change.is_empty());
}

#[test]
fn what_a_running_process_is_made_of_cannot_change() {
    for (from, to, wanted) in [
        (
            "workers = 2",
            "workers = 3",
            "server-a.toml: [host] \"server-a\": key `workers`: cannot change from 2 to 3 while \
             the daemon runs; put it back, or restart the daemon",
        ),
        (
            "port = 4791",
            "port = 4792",
            "server-a.toml:8: [fabric]: key `port`: cannot change from 4791 to 4792 while the \
             daemon runs; put it back, or restart the daemon",
        ),
    ] {
        assert_eq!(change(&[(from, to)]).unwrap_err(), wanted);
    }
    for (from, to, key) in [
        ("/etc/wireonce/server-a.key", "/etc/wireonce/x.key", "private_key_file"),
        ("10.77.0.1", "10.77.0.9", "address"),
        ("paths = 4", "paths = 5", "paths"),
        ("mtu = 9000\nencryption", "mtu = 1500\nencryption", "mtu"),
        ("encryption = \"off\"", "encryption = \"aes-256-gcm\"", "encryption"),
        ("workers = 2", "workers = 2\ncontrol_socket = \"/run/c\"", "control_socket"),
        ("workers = 2", "workers = 2\nmetrics_address = \"127.0.0.1:9\"", "metrics_address"),
    ] {
        let error = change(&[(from, to)]).unwrap_err();
        assert!(error.contains(&format!("key `{key}`: cannot change")), "{error}");
    }
    let text = GOLDEN.replace("server-a\"", "server-x\"");
    let error = parse(&text).unwrap().change_from(&parse(GOLDEN).unwrap()).unwrap_err();
    assert!(error.to_string().contains("key `name`: cannot change from server-a"), "{error}");
}

#[test]
fn only_what_is_new_has_to_be_free() {
    let directory = TempDir::new().unwrap();
    let at = |text: &str| -> Config {
        parse(&text.replace("/run/wireonce", directory.path().to_str().unwrap())).unwrap()
    };
    let running = at(&edited(&[("\"eth1\"", "\"lo\"")]));
    // The running daemon listens there.
    let _ours = UnixListener::bind(directory.path().join("vm-c.sock")).unwrap();
    let refused = |edits: &[(&str, &str)], serves| {
        let mut all = vec![("\"eth1\"", "\"lo\"")];
        all.extend(edits);
        let new = at(&edited(&all));
        let change = new.change_from(&running).unwrap();
        let done = new.check_change(&change, &running, serves);
        done.map_err(|error| error.to_string().replace(directory.path().to_str().unwrap(), "DIR"))
    };
    assert_eq!(refused(&[], Serves::Everything), Ok(()));
    assert_eq!(refused(&[("id = 1003", "id = 1009")], Serves::Vnics), Ok(()));
    fs::write(directory.path().join("vm-d.sock"), "").unwrap();
    let error = refused(&[("vm-c.sock", "vm-d.sock")], Serves::Vnics).unwrap_err();
    assert!(error.contains("DIR/vm-d.sock exists and is not a socket"), "{error}");
    let gone = [("\"wo-west\"", "\"wo-none\""), ("driver = \"tap\"", "driver = \"packet\"")];
    let error = refused(&gone, Serves::Uplinks).unwrap_err();
    assert!(error.contains("there is no interface \"wo-none\""), "{error}");
    assert_eq!(refused(&gone, Serves::Vnics), Ok(()), "not a backend's affair");
}
