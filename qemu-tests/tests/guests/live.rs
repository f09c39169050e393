//! The configuration changes while a VM sends: vNICs come and go, a home moves to another gateway,
//! a file is wrong. The VM's one TCP connection goes on, and so does a ping from outside.

use std::fs;

use wireonce_qemu_tests::cluster::{Plan, VmPlan};
use wireonce_qemu_tests::guest::Guest;
use wireonce_qemu_tests::iperf;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

use crate::bed::{Bed, LIMIT};
use crate::sniffer::Sniffer;
use crate::steady::Steady;

const SERVER: usize = 0;
const GATEWAY_A: usize = 1;
const GATEWAY_B: usize = 2;
/// Longer than everything that happens meanwhile.
const LOAD_S: u32 = 600;
/// How much must come through after each change.
const PROGRESS: u64 = 1 << 20;

#[test]
fn a_vm_sends_on_while_vnics_come_and_go_its_home_moves_and_a_file_is_wrong() {
    let plan = Plan { gateways: 2, ..Plan::new("live", 1) }.vm(VmPlan::new("vm-a", 0, 11));
    let mut bed = Bed::new(plan).unwrap();
    let mut a = bed.boot("vm-a").unwrap();
    bed.must_reach_outside(&mut a).unwrap();
    let steady = Steady::start(&bed, "vm-a").unwrap();
    start_load(&bed, &mut a).unwrap();
    must_flow(&bed, &mut a, "uplink-1").unwrap();

    // A second vNIC, and its VM.
    bed.cluster
        .change(&[SERVER, GATEWAY_A, GATEWAY_B], |plan| {
            plan.vms.push(VmPlan::new("vm-b", 0, 12));
        })
        .map_err(|error| bed.explain(&error))
        .unwrap();
    let mut b = bed.boot("vm-b").unwrap();
    bed.must_reach_outside(&mut b).unwrap();
    bed.must_reach(&mut b, bed.cluster.vm_address("vm-a").unwrap()).unwrap();
    must_flow(&bed, &mut a, "uplink-1").unwrap();

    // The first one's home moves: first who takes it over, then who sends there, then who had it.
    let sniffer = Sniffer::start(&bed).unwrap();
    bed.cluster
        .change(&[GATEWAY_B, SERVER, GATEWAY_A], |plan| plan.vms[0].home = 1)
        .map_err(|error| bed.explain(&error))
        .unwrap();
    let announcement = "52:54:00:77:00:0b > ff:ff:ff:ff:ff:ff, ethertype ARP";
    sniffer.wait_for("an announcement", |log| log.contains(announcement)).unwrap();
    drop(sniffer);
    must_flow(&bed, &mut a, "uplink-2").unwrap();
    let places = bed.cluster.outside().sh("bridge fdb show br out0", LIMIT).unwrap();
    assert!(places.contains("52:54:00:77:00:0b dev to-gw1"), "{places}");
    bed.must_reach_outside(&mut b).unwrap();

    // A file that is wrong.
    let path = bed.cluster.config_path(bed.cluster.host(SERVER).unwrap());
    let good = fs::read_to_string(&path).unwrap();
    for bad in ["[[[".to_owned(), good.replace("workers = 1", "workers = 2")] {
        fs::write(&path, bad).unwrap();
        let before = bed.cluster.status(SERVER).unwrap().configuration;
        let now = bed.cluster.reload(SERVER).unwrap();
        assert!(now.refused.is_some() && now.number == before.number, "{now:?}");
        must_flow(&bed, &mut a, "uplink-2").unwrap();
    }
    fs::write(&path, good).unwrap();
    assert_eq!(bed.cluster.reload(SERVER).unwrap().refused, None);

    // The second vNIC goes while its VM runs.
    bed.cluster
        .change(&[SERVER, GATEWAY_A, GATEWAY_B], |plan| {
            plan.vms.pop();
        })
        .map_err(|error| bed.explain(&error))
        .unwrap();
    must_flow(&bed, &mut a, "uplink-2").unwrap();
    let vnics = bed.cluster.status(SERVER).unwrap().vnics;
    assert!(vnics.len() == 1 && vnics[0]["name"] == "vm-a", "{vnics:?}");
    assert!(!bed.cluster.vnic_socket("vm-b").exists());
    assert!(bed.account(SERVER, "vm-b", "guest-tx").unwrap().output.frames > 0, "its books stay");

    stop_load(&mut a).unwrap();
    steady.must_have_lost_nothing().map_err(|error| bed.explain(&error)).unwrap();
    bed.must_close().unwrap();
}

/// One TCP connection from the VM to the outside, which ends with an error if it breaks.
fn start_load(bed: &Bed, guest: &mut Guest) -> Result<()> {
    iperf::serve(&mut bed.cluster.outside(), 5201)?;
    let to = bed.cluster.outside_address();
    let line = format!("iperf3 -C cubic -c {to} -t {LOAD_S} >/tmp/load 2>&1 </dev/null &");
    guest.run(&line, LIMIT).map(drop)
}

/// The connection goes on, out through the uplink `uplink`.
fn must_flow(bed: &Bed, guest: &mut Guest, uplink: &str) -> Result<()> {
    let through = || -> Result<u64> {
        let mut bytes = 0;
        for gateway in [GATEWAY_A, GATEWAY_B] {
            for seen in bed.cluster.status(gateway)?.uplinks {
                if seen["name"] == uplink {
                    bytes += seen["out"]["bytes"].as_u64().unwrap_or(0);
                }
            }
        }
        Ok(bytes)
    };
    let before = through()?;
    let flows = wait_until(&format!("frames through {uplink}"), LIMIT, || {
        Ok((through()? > before + PROGRESS).then_some(()))
    });
    flows.map_err(|error| bed.explain(&error))?;
    match guest.try_run("pidof iperf3", LIMIT)?.status {
        0 => Ok(()),
        _ => Err(Error::Unexpected(format!(
            "the connection broke: {}",
            guest.run("cat /tmp/load", LIMIT)?
        ))),
    }
}

fn stop_load(guest: &mut Guest) -> Result<()> {
    guest.run("kill -INT $(pidof iperf3); while pidof iperf3; do sleep 0.1; done", LIMIT)?;
    let said = guest.run("cat /tmp/load", LIMIT)?;
    match said.matches("connected to").count() {
        1 => Ok(()),
        _ => Err(Error::Unexpected(format!("not one connection: {said}"))),
    }
}
