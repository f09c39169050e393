//! VMs of one server among each other, on one worker and on two; VMs of two servers and the
//! outside at the same time.

use std::thread;

use wireonce_qemu_tests::cluster::{Plan, VmPlan};
use wireonce_qemu_tests::iperf::{self, Load};
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

use crate::bed::{Bed, LIMIT, two_on_one_server};

#[test]
fn vms_of_one_server_talk_on_one_worker() {
    talk(two_on_one_server("same")).unwrap();
}

#[test]
fn vms_of_one_server_talk_across_workers() {
    // vNICs 1 and 2: one on each of two workers.
    talk(Plan { workers: 2, ..two_on_one_server("cross") }).unwrap();
}

fn talk(plan: Plan) -> Result<()> {
    let bed = Bed::new(plan)?;
    let (mut a, mut b) = bed.boot_both()?;
    let (to_a, to_b) = (bed.cluster.vm_address("vm-a")?, bed.cluster.vm_address("vm-b")?);
    bed.must_reach(&mut a, to_b)?;
    bed.must_reach(&mut b, to_a)?;
    must_flow(&bed, iperf::measure(&mut a, &mut b, Load::tcp(to_b, 2)))?;
    must_flow(&bed, iperf::measure(&mut b, &mut a, Load::tcp(to_a, 2)))?;
    bed.must_reach_outside(&mut a)?;
    bed.must_reach_outside(&mut b)?;
    bed.must_close()
}

fn must_flow(bed: &Bed, seen: Result<iperf::Throughput>) -> Result<()> {
    let seen = seen.map_err(|error| bed.explain(&error))?;
    println!("{:.0} Mb/s, {} re-sent", seen.received_mbps, seen.retransmits);
    if seen.received_mbps > 1.0 {
        return Ok(());
    }
    Err(bed.explain(&Error::Unexpected(format!("TCP does not flow: {seen:?}"))))
}

/// Each of two VMs sends to the other's server and to the outside, all at once.
#[test]
fn vms_of_two_servers_and_the_outside_talk_at_once() {
    let plan = Plan::new("all", 2).vm(VmPlan::new("vm-a", 0, 11)).vm(VmPlan::new("vm-b", 1, 12));
    let bed = Bed::new(plan).unwrap();
    let (mut a, mut b) = bed.boot_both().unwrap();
    let (to_a, to_b) =
        (bed.cluster.vm_address("vm-a").unwrap(), bed.cluster.vm_address("vm-b").unwrap());
    let outside = bed.cluster.outside_address();
    bed.must_reach(&mut a, to_b).unwrap();
    bed.must_reach_outside(&mut a).unwrap();
    bed.must_reach_outside(&mut b).unwrap();

    // vm-b serves vm-a and the outside; the outside serves vm-a.
    let mut netns = bed.cluster.outside();
    iperf::serve(&mut b, 5201).unwrap();
    iperf::serve(&mut b, 5202).unwrap();
    iperf::serve(&mut netns, 5203).unwrap();
    let load = |to, port| Load { port, ..Load::tcp(to, 3) };
    let command = format!(
        "iperf3 -C cubic -J -c {outside} -p 5203 -t 3 >/tmp/out.json & \
         iperf3 -C cubic -J -c {to_b} -p 5201 -t 3 >/tmp/b.json; wait; cat /tmp/out.json /tmp/b.json"
    );
    thread::scope(|scope| {
        let inward = scope.spawn(|| iperf::send(&mut bed.cluster.outside(), load(to_b, 5202)));
        let seen = a.run(&command, LIMIT).unwrap();
        assert!(!seen.contains("\"error\""), "{seen}");
        assert_eq!(seen.matches("\"sum_received\"").count(), 2, "{seen}");
        must_flow(&bed, inward.join().unwrap()).unwrap();
    });
    bed.must_reach(&mut b, to_a).unwrap();
    bed.must_close().unwrap();
    // All three ways were taken: by the books, not by hope.
    wait_until("books of every way", LIMIT, || {
        let passed =
            |host, name, stage| Ok::<_, Error>(bed.account(host, name, stage)?.output.frames);
        let ways = [
            passed(1, "vm-a", "fabric-rx")?,
            passed(1, "uplink-1", "fabric-rx")?,
            passed(2, "vm-a", "fabric-rx").or_else(|_| passed(2, "uplink-1", "uplink-tx"))?,
        ];
        Ok(ways.iter().all(|frames| *frames > 100).then_some(()))
    })
    .map_err(|error| bed.explain(&error))
    .unwrap();
}
