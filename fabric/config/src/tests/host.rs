//! The checks that look at the machine, against a directory of the test's own.

use super::{edited, parse};
use crate::Config;
use std::{fs, os::unix::net::UnixListener, path::Path};
use tempfile::TempDir;

/// The golden configuration with everything in `directory`, and what it needs there.
fn prepared(directory: &Path) -> Config {
    fs::write(directory.join("server-a.key"), "secret").unwrap();
    let text = edited(&[
        ("workers = 2", "workers = 2\ncontrol_socket = \"/run/wireonce/server-a.sock\""),
        ("\"eth1\"", "\"lo\""),
    ]);
    let text = text.replace("/run/wireonce", directory.to_str().unwrap());
    parse(&text.replace("/etc/wireonce", directory.to_str().unwrap())).unwrap()
}

/// The error after `spoil`, with the directory's name taken out.
fn refusal(spoil: impl FnOnce(&Path)) -> String {
    let directory = TempDir::new().unwrap();
    let config = prepared(directory.path());
    assert_eq!(config.check_host(), Ok(()));
    spoil(directory.path());
    let error = config.check_host().expect_err("must be refused");
    error.to_string().replace(directory.path().to_str().unwrap(), "DIR")
}

#[test]
fn the_private_key_must_be_there() {
    assert_eq!(
        refusal(|dir| fs::remove_file(dir.join("server-a.key")).unwrap()),
        "server-a.toml: [host] \"server-a\": key `private_key_file`: DIR/server-a.key does not \
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
        "server-a.toml: [host] \"server-a\": key `private_key_file`: DIR/server-a.key is not a \
         file; name the private key file"
    );
}

#[test]
fn a_control_socket_of_a_running_daemon_is_refused() {
    let mut alive = None;
    let spoil = |dir: &Path| alive = Some(UnixListener::bind(dir.join("server-a.sock")).unwrap());
    assert_eq!(
        refusal(spoil),
        "server-a.toml: [host] \"server-a\": key `control_socket`: DIR/server-a.sock is in use \
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
    assert_eq!(config.check_host(), Ok(()));
}

#[test]
fn a_file_in_the_socket_s_place_is_refused() {
    assert_eq!(
        refusal(|dir| fs::write(dir.join("vm-c.sock"), "").unwrap()),
        "server-a.toml: [[vnic]] \"vm-c\": key `socket`: DIR/vm-c.sock exists and is not a \
         socket; remove it or give another path"
    );
}

#[test]
fn a_socket_that_the_vmm_listens_on_may_be_in_use() {
    let directory = TempDir::new().unwrap();
    let config = prepared(directory.path());
    // vm-a has `socket_mode = "connect"`.
    let _vmm = UnixListener::bind(directory.path().join("vm-a.sock")).unwrap();
    assert_eq!(config.check_host(), Ok(()));
}

#[test]
fn a_missing_directory_is_named() {
    let directory = TempDir::new().unwrap();
    let mut config = prepared(directory.path());
    config.host.control_socket = directory.path().join("missing/here.sock");
    let shown = directory.path().display();
    assert_eq!(
        config.check_host().expect_err("must be refused").to_string(),
        format!(
            "server-a.toml: [host] \"server-a\": key `control_socket`: the directory \
             {shown}/missing is missing: No such file or directory; \
             run `mkdir -p {shown}/missing` or give another path"
        )
    );
}

#[test]
fn the_interface_of_a_packet_uplink_must_exist() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("server-a.key"), "secret").unwrap();
    let text = edited(&[("\"eth1\"", "\"wo-none\"")])
        .replace("/run/wireonce", directory.path().to_str().unwrap())
        .replace("/etc/wireonce", directory.path().to_str().unwrap());
    let mut config = parse(&text).unwrap();
    config.host.control_socket = directory.path().join("server-a.sock");
    // The TAP device of "west-1" does not exist either, and need not.
    assert_eq!(
        config.check_host().expect_err("must be refused").to_string(),
        "server-a.toml: [[uplink]] \"east-1\": key `interface`: there is no interface \
         \"wo-none\"; give an interface that `ip link` shows"
    );
}
