//! The checks that look at the machine, against a directory of the test's own.

use super::{edited, parse};
use crate::{Config, Serves};
use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    os::unix::net::UnixListener,
    path::Path,
    process,
    sync::atomic::{AtomicU8, Ordering},
};
use tempfile::TempDir;

/// A loopback address that no other test uses now, for ports of its own.
fn address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = process::id().to_be_bytes();
    Ipv4Addr::new(127, NEXT.fetch_add(1, Ordering::Relaxed), high, low)
}

/// The golden configuration with everything in `directory`, and what it needs there.
fn prepared(directory: &Path) -> Config {
    fs::write(directory.join("server-a.key"), "secret").unwrap();
    let text = edited(&[
        ("workers = 2", "workers = 2\ncontrol_socket = \"/run/wireonce/server-a.sock\""),
        ("\"eth1\"", "\"lo\""),
        ("10.77.0.1", &address().to_string()),
    ]);
    let text = text.replace("/run/wireonce", directory.to_str().unwrap());
    parse(&text.replace("/etc/wireonce", directory.to_str().unwrap())).unwrap()
}

/// The error after `spoil`, with the directory's name taken out.
fn refusal(spoil: impl FnOnce(&Path)) -> String {
    let directory = TempDir::new().unwrap();
    let config = prepared(directory.path());
    assert_eq!(config.check_host(Serves::Everything), Ok(()));
    spoil(directory.path());
    let error = config.check_host(Serves::Everything).expect_err("must be refused");
    error.to_string().replace(directory.path().to_str().unwrap(), "DIR")
}

#[test]
fn the_private_key_must_be_there() {
    assert_eq!(
        refusal(|dir| fs::remove_file(dir.join("server-a.key")).unwrap()),
        "server-a.toml:3: [host] \"server-a\": key `private_key_file`: DIR/server-a.key does not \
         exist; run `wireonce keygen DIR/server-a.key`"
    );
}

#[test]
fn the_private_key_must_be_a_file() {
    let spoil = |dir: &Path| {
        fs::remove_file(dir.join("server-a.key")).unwrap();
        fs::create_dir(dir.join("server-a.key")).unwrap();
    };
    assert_eq!(
        refusal(spoil),
        "server-a.toml:3: [host] \"server-a\": key `private_key_file`: DIR/server-a.key is not a \
         regular file; name the private key file"
    );
}

#[test]
fn a_control_socket_of_a_running_daemon_is_refused() {
    let mut alive = None;
    let spoil = |dir: &Path| alive = Some(UnixListener::bind(dir.join("server-a.sock")).unwrap());
    assert_eq!(
        refusal(spoil),
        "server-a.toml:5: [host] \"server-a\": key `control_socket`: DIR/server-a.sock is in use \
         by a running process; stop that process or give another path"
    );
    drop(alive);
}

#[test]
fn the_socket_of_a_dead_process_is_no_obstacle() {
    let directory = TempDir::new().unwrap();
    let config = prepared(directory.path());
    drop(UnixListener::bind(directory.path().join("vm-c.sock")).unwrap());
    assert!(directory.path().join("vm-c.sock").exists());
    assert_eq!(config.check_host(Serves::Everything), Ok(()));
}

#[test]
fn a_file_in_the_socket_s_place_is_refused() {
    assert_eq!(
        refusal(|dir| fs::write(dir.join("vm-c.sock"), "").unwrap()),
        "server-a.toml:68: [[vnic]] \"vm-c\": key `socket`: DIR/vm-c.sock exists and is not a \
         socket; remove it or give another path"
    );
}

#[test]
fn a_socket_that_the_vmm_listens_on_may_be_in_use() {
    let directory = TempDir::new().unwrap();
    let config = prepared(directory.path());
    // vm-a has `socket_mode = "connect"`.
    let _vmm = UnixListener::bind(directory.path().join("vm-a.sock")).unwrap();
    assert_eq!(config.check_host(Serves::Everything), Ok(()));
}

#[test]
fn a_missing_directory_is_named() {
    let directory = TempDir::new().unwrap();
    let mut config = prepared(directory.path());
    config.host.control_socket = directory.path().join("missing/here.sock");
    let shown = directory.path().display();
    assert_eq!(
        config.check_host(Serves::Everything).expect_err("must be refused").to_string(),
        format!(
            "server-a.toml:5: [host] \"server-a\": key `control_socket`: the directory \
             {shown}/missing is missing: No such file or directory; \
             run `mkdir -p {shown}/missing` or give another path"
        )
    );
}

#[test]
fn the_interface_of_a_packet_uplink_must_exist() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("server-a.key"), "secret").unwrap();
    let text = edited(&[("\"eth1\"", "\"wo-none\""), ("10.77.0.1", &address().to_string())])
        .replace("/run/wireonce", directory.path().to_str().unwrap())
        .replace("/etc/wireonce", directory.path().to_str().unwrap());
    let mut config = parse(&text).unwrap();
    config.host.control_socket = directory.path().join("server-a.sock");
    // The TAP device of "west-1" does not exist either, and need not.
    assert_eq!(
        config.check_host(Serves::Everything).expect_err("must be refused").to_string(),
        "server-a.toml:81: [[uplink]] \"east-1\": key `interface`: there is no interface \
         \"wo-none\"; give an interface that `ip link` shows"
    );
    // A backend drives no uplink.
    assert_eq!(config.check_host(Serves::Vnics), Ok(()));
    assert!(config.check_host(Serves::Uplinks).is_err());
}

#[test]
fn a_gateway_does_not_look_at_vnics_sockets() {
    let directory = TempDir::new().unwrap();
    let config = prepared(directory.path());
    fs::write(directory.path().join("vm-c.sock"), "").unwrap();
    assert_eq!(config.check_host(Serves::Uplinks), Ok(()));
    assert!(config.check_host(Serves::Vnics).is_err());
}

#[test]
fn a_gateway_needs_an_uplink() {
    let directory = TempDir::new().unwrap();
    let mut config = prepared(directory.path());
    config.uplinks.retain(|uplink| uplink.name == "east-2");
    assert_eq!(config.check_host(Serves::Everything), Ok(()));
    assert_eq!(
        config.check_host(Serves::Uplinks).expect_err("must be refused").to_string(),
        "server-a.toml:2: [host] \"server-a\": key `name`: no uplink is on this host, so there is \
         nothing for a gateway to do; give an [[uplink]] this `host`, a `driver` and an `interface`"
    );
}

#[test]
fn an_address_of_another_host_is_refused() {
    let directory = TempDir::new().unwrap();
    let mut config = prepared(directory.path());
    // TEST-NET-1, RFC 5737: nobody has it.
    config.fabric.address = Ipv4Addr::new(192, 0, 2, 7).into();
    assert_eq!(
        config.check_host(Serves::Everything).expect_err("must be refused").to_string(),
        "server-a.toml:8: [fabric]: key `address`: 192.0.2.7 is no address of this host; give an \
         address that `ip addr` shows"
    );
}

#[test]
fn a_taken_port_of_any_path_is_refused() {
    let directory = TempDir::new().unwrap();
    let config = prepared(directory.path());
    let address = config.fabric.address;
    // The control port, and the last path of the last worker: 4791 + 1 + 8 * 1 + 3.
    for port in [4791, 4803] {
        let taken = UdpSocket::bind((address, port)).unwrap();
        assert_eq!(
            config.check_host(Serves::Everything).expect_err("must be refused").to_string(),
            format!(
                "server-a.toml:9: [fabric]: key `port`: UDP port {port} of {address} is in use; \
                 free the ports 4791 to 4803, or give another `port`"
            )
        );
        drop(taken);
        assert_eq!(config.check_host(Serves::Everything), Ok(()));
    }
    // No path uses it.
    let _free = UdpSocket::bind((address, 4804)).unwrap();
    assert_eq!(config.check_host(Serves::Everything), Ok(()));
}

#[test]
fn this_host_s_own_key_is_no_peer_s() {
    let config = prepared(TempDir::new().unwrap().path());
    assert_eq!(config.check_own_key(&[3; 32]), Ok(()));
    let error = config.check_own_key(&[2; 32]).expect_err("gateway-a has it").to_string();
    let start = "server-a.toml:23: [[peer]] \"gateway-a\": key `public_key`: it is this host's own";
    assert!(error.starts_with(start), "{error}");
}
