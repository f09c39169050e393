//! Two servers, a VM on each, and the fabric between them: the daemons with real guests.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::net::IpAddr;
use std::time::Duration;

use wireonce_qemu_tests::cluster::{Cluster, Plan, Profile, VmPlan, daemon_binary};
use wireonce_qemu_tests::guest::Guest;
use wireonce_qemu_tests::iperf::{self, Load};
use wireonce_qemu_tests::netns::Offloads;
use wireonce_qemu_tests::{Error, Result};

fn plan(tag: &str) -> Plan {
    let plan = Plan { gateways: 0, ..Plan::new(tag, 2) };
    plan.vm(VmPlan::new("vm-a", 0, 11)).vm(VmPlan::new("vm-b", 1, 12))
}

/// A running cluster, its two VMs and the second one's address.
struct Bed {
    // VMs end before what carries them.
    a: Guest,
    b: Guest,
    cluster: Cluster,
    to_b: IpAddr,
}

fn start(plan: Plan) -> Result<Bed> {
    let mut cluster = Cluster::build(plan, &daemon_binary(Profile::Dev)?)?;
    let guests = cluster.start_with_guests()?;
    let to_b = cluster.vm_address("vm-b")?;
    let [a, b] = guests.try_into().map_err(|_| Error::Unexpected("two VMs".to_owned()))?;
    Ok(Bed { a, b, cluster, to_b })
}

impl Bed {
    fn must_reach_b(&mut self) {
        self.cluster.must_reach(&mut self.a, self.to_b).expect("vm-a reaches vm-b");
    }
}

#[test]
fn vms_on_two_servers_talk_and_the_ledgers_close() {
    let mut bed = start(plan("two")).unwrap();
    bed.must_reach_b();
    let seen = iperf::measure(&mut bed.a, &mut bed.b, Load::tcp(bed.to_b, 3)).unwrap();
    println!("vm-a -> vm-b: {:.0} Mb/s, {} re-sent", seen.received_mbps, seen.retransmits);
    assert!(seen.received_mbps > 1.0);
    bed.cluster.must_close().unwrap();
}

#[test]
fn trains_that_are_cut_and_joined_on_the_way_carry_the_same() {
    let mut bed = start(Plan { fabric_offloads: Offloads::WIRE, ..plan("wire") }).unwrap();
    bed.must_reach_b();
    let seen = iperf::measure(&mut bed.a, &mut bed.b, Load::tcp(bed.to_b, 3)).unwrap();
    assert!(seen.received_mbps > 1.0);
    bed.cluster.must_close().unwrap();
}

#[test]
fn vms_talk_when_qemu_listens_and_nothing_is_encrypted() {
    let plan = Plan { backend_listens: false, encrypted: false, ..plan("conn") };
    let mut bed = start(plan).unwrap();
    bed.must_reach_b();
    bed.cluster.must_close().unwrap();
}

#[test]
fn vms_with_several_queue_pairs_and_workers_talk() {
    let mut plan = Plan { workers: 2, paths: 2, ..plan("multi") };
    for vm in &mut plan.vms {
        vm.queue_pairs = 2;
    }
    let mut bed = start(plan).unwrap();
    bed.must_reach_b();
    // A guest with one CPU uses one pair until it is told otherwise.
    for guest in [&mut bed.a, &mut bed.b] {
        guest.run("ethtool -L eth0 combined 2", Duration::from_secs(20)).unwrap();
    }
    bed.must_reach_b();
    let load = Load { streams: 4, ..Load::tcp(bed.to_b, 3) };
    assert!(iperf::measure(&mut bed.a, &mut bed.b, load).unwrap().received_mbps > 1.0);
    bed.cluster.must_close().unwrap();
}
