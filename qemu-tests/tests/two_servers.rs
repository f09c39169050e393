//! Two servers, a VM on each, and the fabric between them: the daemons with real guests.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::time::Duration;

use wireonce_qemu_tests::cluster::{Cluster, Plan, Profile, VmPlan, daemon_binary};
use wireonce_qemu_tests::guest::{Accel, Guest, Image};
use wireonce_qemu_tests::iperf::{self, Load};
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

const LIMIT: Duration = Duration::from_secs(30);

fn plan(tag: &str) -> Plan {
    let plan = Plan { gateways: 0, ..Plan::new(tag, 2) };
    plan.vm(VmPlan::new("vm-a", 0, 11)).vm(VmPlan::new("vm-b", 1, 12))
}

fn start(plan: Plan) -> Result<(Cluster, Guest, Guest)> {
    let image = Image::ensure()?;
    let accel = Accel::detect(&image)?;
    let mut cluster = Cluster::build(plan, &daemon_binary(Profile::Dev)?)?;
    cluster.start()?;
    let boot = |name| cluster.vm(name, &image, accel)?.start_in(cluster.server_of(name)?);
    let (a, b) = (boot("vm-a")?, boot("vm-b")?);
    let (a, b) = (a.ready()?, b.ready()?);
    Ok((cluster, a, b))
}

/// Waits until `guest` reaches `cluster`'s VM called `to`; then all of 10 pings must be answered.
fn must_reach(cluster: &Cluster, guest: &mut Guest, to: &str) -> Result<()> {
    let address = cluster.vm_address(to)?;
    let answered = wait_until("a first answer", LIMIT, || {
        let ping = guest.try_run(&format!("ping -c 1 -W 1 {address}"), LIMIT)?;
        Ok((ping.status == 0).then_some(()))
    });
    answered.map_err(|error| {
        let logs: Vec<_> = (0..cluster.hosts().len()).map(|host| cluster.log(host)).collect();
        Error::Unexpected(format!("{error}; the daemons said:\n{}", logs.join("\n---\n")))
    })?;
    guest.run(&format!("ping -c 10 -i 0.1 -W 2 {address} | grep ' 0% packet loss'"), LIMIT)?;
    Ok(())
}

fn must_close(cluster: &Cluster) -> Result<()> {
    let mut holes = Vec::new();
    let closed = wait_until("the closing of all ledgers", LIMIT, || {
        holes.clear();
        for host in 0..cluster.hosts().len() {
            holes.extend(cluster.status(host)?.holes());
        }
        Ok(holes.is_empty().then_some(()))
    });
    closed.map_err(|error| Error::Unexpected(format!("{error}: {holes:#?}")))
}

#[test]
fn vms_on_two_servers_talk_and_the_ledgers_close() {
    let (cluster, mut a, mut b) = start(plan("two")).unwrap();
    must_reach(&cluster, &mut a, "vm-b").unwrap();
    must_reach(&cluster, &mut b, "vm-a").unwrap();
    let load = Load::tcp(cluster.vm_address("vm-b").unwrap(), 3);
    let seen = iperf::measure(&mut a, &mut b, load).unwrap();
    println!("vm-a -> vm-b: {:.0} Mb/s, {} re-sent", seen.received_mbps, seen.retransmits);
    assert!(seen.received_mbps > 1.0);
    must_close(&cluster).unwrap();
}

#[test]
fn vms_talk_when_qemu_listens_and_nothing_is_encrypted() {
    let plan = Plan { backend_listens: false, encrypted: false, ..plan("conn") };
    let (cluster, mut a, _b) = start(plan).unwrap();
    must_reach(&cluster, &mut a, "vm-b").unwrap();
    must_close(&cluster).unwrap();
}

#[test]
fn a_killed_backend_is_restarted_under_its_vm() {
    let (mut cluster, mut a, _b) = start(plan("kill")).unwrap();
    must_reach(&cluster, &mut a, "vm-b").unwrap();
    cluster.kill_daemon(0).unwrap();
    cluster.start_daemon(0).unwrap();
    must_reach(&cluster, &mut a, "vm-b").unwrap();
    assert!(cluster.stop_daemon(0).unwrap(), "SIGTERM must end a backend with success");
}

#[test]
fn a_vm_survives_reset_stop_and_a_cut_link() {
    let (cluster, mut a, _b) = start(plan("life")).unwrap();
    must_reach(&cluster, &mut a, "vm-b").unwrap();
    a.qmp().stop().unwrap();
    a.qmp().cont().unwrap();
    must_reach(&cluster, &mut a, "vm-b").unwrap();
    a.qmp().set_link("nic0", false).unwrap();
    a.qmp().set_link("nic0", true).unwrap();
    must_reach(&cluster, &mut a, "vm-b").unwrap();
    a.qmp().reset().unwrap();
    a.wait_rebooted(Duration::from_secs(90)).unwrap();
    must_reach(&cluster, &mut a, "vm-b").unwrap();
}
