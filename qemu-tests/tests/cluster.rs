//! The set-up around the daemons, with a stand-in for them: a shell script that answers.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use wireonce_config::Config;
use wireonce_qemu_tests::cluster::{Cluster, Plan, UplinkDriver, VmPlan};
use wireonce_qemu_tests::watchdog::TempDir;
use wireonce_qemu_tests::{Error, Result};

const STAND_IN: &str = r#"#!/bin/sh
case $1 in
    keygen) echo private >"$2"; echo "$2" | sha256sum | xxd -r -p -l 32 | base64 ;;
    status) cat <<END
{"role": "stand-in", "ledger": []}
END
    ;;
    *) exec sleep 100 ;;
esac
"#;

fn stand_in(dir: &Path, text: &str) -> Result<PathBuf> {
    let path = dir.join("wireonce");
    let io = |source| Error::Io { what: "stand-in".to_owned(), source };
    fs::write(&path, text).map_err(io)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(io)?;
    Ok(path)
}

fn plan(tag: &str) -> Plan {
    Plan::new(tag, 2).vm(VmPlan::new("vm-a", 0, 11)).vm(VmPlan::new("vm-b", 1, 12))
}

#[test]
fn every_host_has_its_wires_its_configuration_and_its_daemon() {
    let dir = TempDir::new("standin").unwrap();
    let binary = stand_in(dir.path(), STAND_IN).unwrap();
    let mut cluster = Cluster::build(Plan { gateways: 2, ..plan("clu") }, &binary).unwrap();
    cluster.start().unwrap();
    let names: Vec<_> = cluster.hosts().iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["server-a", "server-b", "gateway-a", "gateway-b"]);

    let servers = &cluster.hosts()[..2];
    assert_eq!(servers[0].netns.ping(servers[1].address, 2).unwrap().len(), 2);
    for host in cluster.hosts() {
        let config = Config::load(&cluster.config_path(host)).unwrap();
        assert_eq!((config.host.name.as_str(), config.peers.len()), (host.name.as_str(), 3));
        assert_eq!((config.uplinks.len(), config.vnics.len()), (2, 2));
    }

    cluster.kill_daemon(0).unwrap();
    cluster.start_daemon(0).unwrap();
    // A `sleep` ends by the signal, not with success: the harness must tell the difference.
    assert!(!cluster.stop_daemon(1).unwrap());
}

#[test]
fn a_tap_uplink_is_bridged_to_the_outside() {
    let dir = TempDir::new("standin").unwrap();
    let binary = stand_in(dir.path(), STAND_IN).unwrap();
    let plan = Plan { driver: UplinkDriver::Tap, ..plan("tapup") };
    let cluster = Cluster::build(plan, &binary).unwrap();
    let ports = cluster.host(2).unwrap().netns.ip("-o link show master br0").unwrap();
    assert!(ports.contains("up0") && ports.contains("wire0"), "{ports}");
}

#[test]
fn a_daemon_that_ends_at_once_is_told_with_its_last_words() {
    let dir = TempDir::new("standin").unwrap();
    let text = STAND_IN.replace("*) exec sleep 100", "*) echo no such uplink; exit 2");
    let text = text.replace("status) cat", "status) exit 1; cat");
    let binary = stand_in(dir.path(), &text).unwrap();
    let mut cluster = Cluster::build(plan("dead"), &binary).unwrap();
    let error = cluster.start().unwrap_err().to_string();
    assert!(error.contains("ended too early") && error.contains("no such uplink"), "{error}");
}
