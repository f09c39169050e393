//! A host that has everything but itself from a controller.

use super::GOLDEN;
use crate::{Config, HostFile};

const CONTROL: &str = "[control]\ndirectory = \"/var/lib/wireonce/server-a\"\n";

/// The golden file's own tables with `[control]`, and the rest.
fn parts() -> (HostFile, &'static str) {
    let at = GOLDEN.find("[[peer]]").unwrap();
    let own = format!("{}{CONTROL}", &GOLDEN[..at]);
    (HostFile::parse(own, "a.toml").unwrap(), &GOLDEN[at..])
}

#[test]
fn the_controllers_text_below_the_line_is_as_if_it_stood_there() {
    let (file, text) = parts();
    assert_eq!(file.control().unwrap().directory.to_str(), Some("/var/lib/wireonce/server-a"));
    assert!(file.alone().vnics.is_empty() && file.alone().peers.is_empty());
    let joined = file.with(text, "the controller").unwrap();
    let whole = Config::parse(GOLDEN, "a.toml").unwrap();
    assert_eq!((joined.vnics, joined.peers), (whole.vnics, whole.peers));
    assert_eq!((joined.networks, joined.uplinks), (whole.networks, whole.uplinks));
    assert_eq!(joined.origin, "a.toml");
}

#[test]
fn errors_name_the_part_that_they_are_in_and_its_line() {
    let (file, text) = parts();
    let said = |text: &str| file.with(text, "the controller").unwrap_err().to_string();
    let first = "[[peer]]\nname = \"b\"\n";
    assert!(said(first).starts_with("the controller:1: [[peer]] \"b\": key `address`"));
    let broken = format!("{text}\nx = = 1\n");
    let line = text.lines().count() + 2;
    assert!(said(&broken).starts_with(&format!("the controller:{line}: not TOML")));
    let own = file.with("[host]\n", "the controller").unwrap_err().to_string();
    assert!(own.starts_with("the controller:1: not TOML: duplicate key"), "{own}");
    let port = format!("{CONTROL}[fabric]\naddress = \"127.0.0.1\"\nport = 70000\n");
    let port = format!("[host]\nname = \"a\"\nprivate_key_file = \"/k\"\n{port}");
    let wrong = HostFile::parse(port, "a.toml").unwrap_err().to_string();
    assert!(wrong.starts_with("a.toml:8: [fabric]: key `port`"), "{wrong}");
}

#[test]
fn with_a_controller_the_file_has_only_what_is_the_hosts_own() {
    for table in ["peer", "network", "uplink", "policy", "grant", "vnic"] {
        let (file, _) = parts();
        let text = format!("{}[[{table}]]\n", file.text());
        let line = text.lines().count();
        let error = HostFile::parse(text, "a.toml").unwrap_err().to_string();
        let expected = format!("a.toml:{line}: key `{table}`: is kept by the controller; take it");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn the_fabric_port_is_the_controllers_too() {
    let (file, text) = parts();
    assert_eq!(file.with(text, "t").unwrap().fabric_port.up_bps, Some(10_000_000_000));
    let own = format!("{}[fabric_port]\nport_up = \"1Gbit\"\n", file.text());
    let error = HostFile::parse(own, "a.toml").unwrap_err().to_string();
    assert!(error.contains("key `fabric_port`: is kept by the controller; take it"), "{error}");
}

#[test]
fn the_directory_is_an_absolute_path_and_the_only_key() {
    let own = "[host]\nname = \"a\"\nprivate_key_file = \"/k\"\n[fabric]\naddress = \"::1\"\n";
    let said = |control: &str| {
        HostFile::parse(format!("{own}[control]\n{control}"), "a").unwrap_err().to_string()
    };
    let missing = "a:6: [control]: key `directory`: missing; add a line such as";
    assert!(said("").starts_with(missing), "{}", said(""));
    let relative = said("directory = \"x\"\n");
    assert!(relative.contains("key `directory`: \"x\" is not an absolute path"), "{relative}");
    assert!(said("dir = \"/x\"\n").contains("key `dir`: unknown key"));
}

#[test]
fn a_running_daemon_keeps_its_directory() {
    let (file, text) = parts();
    let running = file.with(text, "t").unwrap();
    let other = file.text().replace("wireonce/server-a\"\n[", "x\"\n[");
    let other = other.replace("directory = \"/var/lib/wireonce/server-a\"", "directory = \"/x\"");
    let other = HostFile::parse(other, "a.toml").unwrap().with(text, "t").unwrap();
    let error = other.change_from(&running).unwrap_err().to_string();
    assert!(error.contains("key `directory`: cannot change from /var/lib/wireonce/server-a to /x"));
    let none = Config::parse(GOLDEN, "a.toml").unwrap();
    assert!(none.change_from(&running).is_err());
    assert!(running.change_from(&running).unwrap().is_empty());
}
