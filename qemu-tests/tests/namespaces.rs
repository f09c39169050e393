//! The harness's own promise: nothing is left behind, whatever happens to its owner.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use wireonce_qemu_tests::netns::{Fabric, Netns, Offloads};
use wireonce_qemu_tests::process::{Process, run, wait_until};
use wireonce_qemu_tests::watchdog::{TempDir, start_time};

const LIMIT: Duration = Duration::from_secs(20);
const OWNER: &str = "WIREONCE_TEST_OWNER";

fn exists(netns: &str) -> bool {
    Path::new("/run/netns").join(netns).exists()
}

#[test]
fn a_dropped_namespace_is_gone_with_its_processes() {
    let netns = Netns::new("drop", "host").unwrap();
    let name = netns.name().to_owned();
    let mut sleeper = netns.command("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    wait_until("the process enters", LIMIT, || {
        let pids = run(Command::new("ip").args(["netns", "pids", &name]), LIMIT)?;
        Ok((!pids.trim().is_empty()).then_some(()))
    })
    .unwrap();
    assert!(exists(&name));
    drop(netns);
    assert!(!exists(&name));
    assert!(!sleeper.wait().unwrap().success());
}

#[test]
fn hosts_reach_each_other_over_the_fabric_until_a_link_is_cut() {
    let fabric = Fabric::new("fab", 1500, Offloads::WIRE).unwrap();
    let hosts = [Netns::new("fab", "a").unwrap(), Netns::new("fab", "b").unwrap()];
    for (number, host) in hosts.iter().enumerate() {
        let address: IpAddr = format!("10.77.0.{}", number + 1).parse().unwrap();
        fabric.attach(host, number, &[address]).unwrap();
    }
    let peer = "10.77.0.2".parse().unwrap();
    assert_eq!(hosts[0].ping(peer, 3).unwrap().len(), 3);
    fabric.set_link(1, false).unwrap();
    assert_eq!(hosts[0].ping(peer, 1).unwrap().len(), 0);
}

/// Not a test by itself: the process that the next test kills.
#[test]
#[ignore = "started by a_killed_owner_leaves_nothing"]
fn owner() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    let netns = Netns::new("kill", "host").unwrap();
    let dir = TempDir::new("kill").unwrap();
    let process = Process::start("sleeper", dir.path(), Command::new("sleep").arg("120")).unwrap();
    println!("owns {} {} {}", netns.name(), dir.path().display(), process.pid());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_owner_leaves_nothing() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["owner", "--exact", "--ignored", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.contains("owns ")).unwrap();
    let words: Vec<&str> = line.split_once("owns ").unwrap().1.split(' ').collect();
    let (netns, dir, pid) = (words[0], words[1], words[2].parse().unwrap());
    assert!(exists(netns) && Path::new(dir).exists() && start_time(pid).is_some());

    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until("clean-up after SIGKILL", LIMIT, || {
        let gone = !exists(netns) && !Path::new(dir).exists() && start_time(pid).is_none();
        Ok(gone.then_some(()))
    })
    .unwrap();
}
