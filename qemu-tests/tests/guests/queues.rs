//! Two queue pairs: both carry traffic, and the guest changes their number under load.

use wireonce_qemu_tests::cluster::{Plan, VmPlan};
use wireonce_qemu_tests::guest::Guest;
use wireonce_qemu_tests::iperf;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

use crate::bed::{Bed, LIMIT};

#[test]
fn two_queue_pairs_carry_traffic_and_change_under_load() {
    let vm = VmPlan { queue_pairs: 2, ..VmPlan::new("vm-a", 0, 11) };
    let bed = Bed::new(Plan::new("mq", 1).vm(vm)).unwrap();
    // A pair per processor: the driver uses no more.
    let vm = bed.vm("vm-a").unwrap().cpus(2);
    let mut a = vm.boot_in(bed.cluster.server_of("vm-a").unwrap()).unwrap();
    bed.must_reach_outside(&mut a).unwrap();
    must_use(&bed, &mut a, 2).unwrap();

    // So many connections, out and in, that some are on each ring; the number of pairs changes.
    let outside = bed.cluster.outside_address();
    let mut netns = bed.cluster.outside();
    iperf::serve(&mut netns, 5201).unwrap();
    iperf::serve(&mut netns, 5202).unwrap();
    let client = format!(
        "for way in '5201' '5202 -R'; do \
           iperf3 -C cubic -c {outside} -P 8 -t 10 -p $way >/tmp/iperf-${{way%% *}} 2>&1 & \
         done"
    );
    a.run(&client, LIMIT).unwrap();
    let before = pair_packets(&mut a).unwrap();
    wait_until("all four rings carry frames", LIMIT, || {
        let now = pair_packets(&mut a)?;
        Ok(now.iter().zip(&before).all(|(now, before)| *now > before + 100).then_some(()))
    })
    .map_err(|error| bed.explain(&Error::Unexpected(format!("{error}: {before:?}"))))
    .unwrap();
    for pairs in [1, 2, 1, 2] {
        a.run(&format!("ethtool -L eth0 combined {pairs}"), LIMIT).unwrap();
        must_use(&bed, &mut a, pairs).unwrap();
        let was = frames_out(&bed).unwrap();
        wait_until("traffic goes on", LIMIT, || Ok((frames_out(&bed)? > was + 100).then_some(())))
            .map_err(|error| bed.explain(&error))
            .unwrap();
    }
    let done = "! pidof iperf3 >/dev/null && grep -c receiver /tmp/iperf-5201 /tmp/iperf-5202";
    wait_until("the end of the load", LIMIT, || {
        Ok((a.try_run(done, LIMIT)?.status == 0).then_some(()))
    })
    .map_err(|error| {
        let log = a.try_run("cat /tmp/iperf-*", LIMIT).map(|it| it.output).unwrap_or_default();
        bed.explain(&Error::Unexpected(format!("{error}: {log}")))
    })
    .unwrap();
    bed.must_reach_outside(&mut a).unwrap();
    bed.must_close().unwrap();
}

fn must_use(bed: &Bed, guest: &mut Guest, pairs: u64) -> Result<()> {
    let mut seen = serde_json::Value::Null;
    let done = wait_until(&format!("{pairs} queue pairs in the status"), LIMIT, || {
        seen = bed.vnic_field(0, "vm-a", "queue_pairs")?;
        Ok((seen == pairs).then_some(()))
    });
    done.map_err(|error| {
        let guest = guest.try_run("ethtool -l eth0", LIMIT).map(|it| it.output).unwrap_or_default();
        bed.explain(&Error::Unexpected(format!("{error}: {seen}; the guest says {guest}")))
    })
}

fn frames_out(bed: &Bed) -> Result<u64> {
    Ok(bed.account(0, "vm-a", "guest-tx")?.output.frames)
}

/// Packets of rx 0, rx 1, tx 0 and tx 1, as the guest's driver counts.
fn pair_packets(guest: &mut Guest) -> Result<Vec<u64>> {
    let text = guest.run("ethtool -S eth0", LIMIT)?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        line.and_then(|value| value.parse().ok())
            .ok_or_else(|| Error::Unexpected(format!("no {name} in {text}")))
    };
    ["rx_queue_0_packets", "rx_queue_1_packets", "tx_queue_0_packets", "tx_queue_1_packets"]
        .map(value)
        .into_iter()
        .collect()
}
