//! A VM and the outside, through a gateway's uplink: the daemons with a real guest.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use wireonce_qemu_tests::cluster::{Cluster, Plan, Profile, UplinkDriver, VmPlan, daemon_binary};
use wireonce_qemu_tests::guest::Guest;
use wireonce_qemu_tests::iperf::{self, Load};
use wireonce_qemu_tests::{Error, Result};

fn start(plan: Plan) -> Result<(Guest, Cluster)> {
    let plan = plan.vm(VmPlan::new("vm-a", 0, 11));
    let mut cluster = Cluster::build(plan, &daemon_binary(Profile::Dev)?)?;
    let guest = cluster.start_with_guests()?.pop();
    let guest = guest.ok_or_else(|| Error::Unexpected("the plan has a VM".to_owned()))?;
    Ok((guest, cluster))
}

/// Ping and TCP both ways, then the books.
fn must_carry(plan: Plan) {
    let (mut guest, cluster) = start(plan).expect("the test bed");
    let outside = cluster.outside_address();
    let vm = cluster.vm_address("vm-a").expect("vm-a");
    cluster.must_reach(&mut guest, outside).expect("the outside answers");
    let out = iperf::measure(&mut guest, &mut cluster.outside(), Load::tcp(outside, 2));
    let inward = iperf::measure(&mut cluster.outside(), &mut guest, Load::tcp(vm, 2));
    let (out, inward) = (out.expect("TCP out"), inward.expect("TCP in"));
    println!("out {:.0} Mb/s, in {:.0} Mb/s", out.received_mbps, inward.received_mbps);
    assert!(out.received_mbps > 1.0 && inward.received_mbps > 1.0);
    cluster.must_close().expect("the books close");
}

#[test]
fn a_packet_uplink_carries_tcp_both_ways() {
    must_carry(Plan::new("packet", 1));
}

#[test]
fn a_tap_uplink_carries_tcp_both_ways() {
    must_carry(Plan { driver: UplinkDriver::Tap, ..Plan::new("tapup", 1) });
}

#[test]
fn a_gateway_carries_tcp_both_ways_when_encryption_is_off() {
    must_carry(Plan { encrypted: false, ..Plan::new("clear", 1) });
}

#[test]
fn an_outside_without_offloads_gets_frames_that_fit() {
    let (mut guest, cluster) = start(Plan::new("plain", 1)).unwrap();
    let outside = cluster.outside_address();
    // No segmentation, no joining, no checksum help: every frame is looked at as a wire has it.
    let line = "ethtool -K out0 tso off gso off gro off tx off rx off";
    cluster.outside().sh(line, std::time::Duration::from_secs(10)).unwrap();
    cluster.must_reach(&mut guest, outside).unwrap();
    let out = iperf::measure(&mut guest, &mut cluster.outside(), Load::tcp(outside, 2)).unwrap();
    assert!(out.received_mbps > 1.0);
    cluster.must_close().unwrap();
}

#[test]
fn a_restarted_gateway_serves_its_vms_again() {
    let (mut guest, mut cluster) = start(Plan::new("gwkill", 1)).unwrap();
    let outside = cluster.outside_address();
    cluster.must_reach(&mut guest, outside).unwrap();
    cluster.kill_daemon(1).unwrap();
    cluster.start_daemon(1).unwrap();
    cluster.must_reach(&mut guest, outside).unwrap();
    assert!(cluster.stop_daemon(1).unwrap(), "SIGTERM must end a gateway with success");
}

#[test]
fn two_gateways_of_a_pool_make_no_duplicates() {
    let (mut guest, cluster) = start(Plan { gateways: 2, ..Plan::new("pool", 1) }).unwrap();
    let outside = cluster.outside_address();
    cluster.must_reach(&mut guest, outside).unwrap();
    let line = format!("ping -c 10 -i 0.1 -W 2 {outside}");
    let seen = guest.run(&line, std::time::Duration::from_secs(30)).unwrap();
    assert!(!seen.contains("DUP!"), "{seen}");
    // The outside asks for the VM by broadcast: one answer comes, through one uplink.
    let arping = "busybox arping -c 3 -I out0 192.0.2.11";
    let seen = cluster.outside().sh(arping, std::time::Duration::from_secs(30)).unwrap();
    assert!(seen.contains("Received 3 response"), "{seen}");
    cluster.must_close().unwrap();
    // What the outside asked came in through one gateway, and the VM's own broadcasts through
    // none: the second gateway, which is no home, has nothing but drops, each with its name.
    let status = cluster.status(2).unwrap();
    let second = status.account("uplink-2", "uplink-rx").expect("the switch floods to both");
    assert_eq!(second.output.frames, 0, "{second:?}");
    assert!(second.drops.contains_key("not-designated"), "{second:?}");
    assert!(second.drops.contains_key("reflection"), "{second:?}");
}

#[test]
fn a_storm_from_outside_is_cut_at_the_gateway_and_the_vm_stays_reachable() {
    const STORM: u64 = 5_000;
    let (mut guest, cluster) = start(Plan::new("storm", 1)).unwrap();
    let outside = cluster.outside_address();
    cluster.must_reach(&mut guest, outside).unwrap();
    let line = format!("ping -q -b -c {STORM} -l {STORM} -W 1 192.0.2.255");
    // Nobody answers a broadcast ping, so it says that it failed.
    let _ = cluster.outside().sh(&line, std::time::Duration::from_secs(30));
    cluster.must_reach(&mut guest, outside).unwrap();
    cluster.must_close().unwrap();
    let status = cluster.status(1).unwrap();
    let uplink = status.account("uplink-1", "uplink-rx").expect("broadcasts came");
    let cut = uplink.drops.get("outside-storm").map_or(0, |amount| amount.frames);
    assert!(cut >= 1 && uplink.output.frames >= 1, "{uplink:?}");
    assert!(uplink.input.frames >= STORM, "the whole storm was read: {uplink:?}");
}
