//! What happens to a VM, its VMM and its backend. After each event the VM reaches the outside again
//! without any help, and another VM of the same server has noticed nothing.

use std::time::Duration;

use wireonce_qemu_tests::cluster::Plan;
use wireonce_qemu_tests::guest::Guest;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

use crate::bed::{BOOT_LIMIT, Bed, LIMIT, two_on_one_server};
use crate::steady::Steady;

/// Two VMs on one server; `vm-b` is being pinged.
fn start(plan: Plan) -> Result<(Bed, Guest, Guest, Steady)> {
    let bed = Bed::new(plan)?;
    let (mut a, b) = bed.boot_both()?;
    bed.must_reach_outside(&mut a)?;
    let steady = Steady::start(&bed, "vm-b")?;
    Ok((bed, a, b, steady))
}

fn finish(bed: &Bed, steady: Steady) -> Result<()> {
    steady.must_have_lost_nothing().map_err(|error| bed.explain(&error))?;
    bed.must_close()
}

#[test]
fn a_vm_is_back_after_reboot_and_reset() {
    let (bed, mut a, _b, steady) = start(two_on_one_server("boot")).unwrap();
    // The agent answers first: the reboot takes its channel away.
    a.run("touch /tmp/mark; (sleep 0.2; reboot -f) >/dev/null 2>&1 &", LIMIT).unwrap();
    must_boot_again(&mut a).unwrap();
    bed.must_reach_outside(&mut a).unwrap();

    a.run("touch /tmp/mark", LIMIT).unwrap();
    a.qmp().reset().unwrap();
    must_boot_again(&mut a).unwrap();
    bed.must_reach_outside(&mut a).unwrap();
    finish(&bed, steady).unwrap();
}

/// Waits for the agent, and makes sure that it is a new one.
fn must_boot_again(guest: &mut Guest) -> Result<()> {
    guest.wait_rebooted(BOOT_LIMIT)?;
    match guest.try_run("test -e /tmp/mark", LIMIT)?.status {
        0 => Err(Error::Unexpected("the guest did not boot again".to_owned())),
        _ => Ok(()),
    }
}

#[test]
fn a_vm_is_back_after_its_driver_was_unbound_its_link_cut_its_cpus_stopped() {
    let (bed, mut a, _b, steady) = start(two_on_one_server("bind")).unwrap();
    rebind(&mut a).unwrap();
    bed.must_reach_outside(&mut a).unwrap();

    a.qmp().set_link("nic0", false).unwrap();
    must_have_carrier(&mut a, false).unwrap();
    a.qmp().set_link("nic0", true).unwrap();
    must_have_carrier(&mut a, true).unwrap();
    bed.must_reach_outside(&mut a).unwrap();

    a.qmp().stop().unwrap();
    // Frames come in for a VM that does not run.
    assert!(
        bed.cluster.outside().ping(bed.cluster.vm_address("vm-a").unwrap(), 2).unwrap().is_empty()
    );
    a.qmp().cont().unwrap();
    bed.must_reach_outside(&mut a).unwrap();

    for _ in 0..5 {
        rebind(&mut a).unwrap();
    }
    bed.must_reach_outside(&mut a).unwrap();
    finish(&bed, steady).unwrap();
}

/// Takes the driver from the NIC and gives it back.
fn rebind(guest: &mut Guest) -> Result<()> {
    let script = "device=$(basename $(readlink -f /sys/class/net/eth0/device)) &&
        echo $device >/sys/bus/virtio/drivers/virtio_net/unbind &&
        ! test -e /sys/class/net/eth0 &&
        echo $device >/sys/bus/virtio/drivers/virtio_net/bind &&
        ip addr add 192.0.2.11/24 dev eth0 && ip link set eth0 up";
    guest.run(script, LIMIT).map(drop)
}

fn must_have_carrier(guest: &mut Guest, wanted: bool) -> Result<()> {
    let wanted = if wanted { "1" } else { "0" };
    wait_until(&format!("carrier {wanted}"), LIMIT, || {
        Ok((guest.run("cat /sys/class/net/eth0/carrier", LIMIT)?.trim() == wanted).then_some(()))
    })
}

#[test]
fn a_vm_uses_memory_that_was_plugged_in() {
    let (bed, b, steady);
    let mut a;
    {
        bed = Bed::new(two_on_one_server("plug")).unwrap();
        let server = bed.cluster.server_of("vm-a").unwrap();
        let first =
            bed.vm("vm-a").unwrap().memory_mb(192).hotplug_mb(256).start_in(server).unwrap();
        b = bed.boot("vm-b").unwrap();
        a = first.ready().unwrap();
        bed.must_reach_outside(&mut a).unwrap();
        steady = Steady::start(&bed, "vm-b").unwrap();
    }
    let before = memory_kb(&mut a).unwrap();
    a.qmp().plug_memory("dimm0", 256).unwrap();
    wait_until("the guest has the memory", LIMIT, || {
        // A kernel that does not bring it online by itself is told to.
        a.run(
            "for m in /sys/devices/system/memory/memory*/state; do
            grep -q offline $m && echo online_movable >$m 2>/dev/null; done; true",
            LIMIT,
        )?;
        Ok((memory_kb(&mut a)? > before + 200_000).then_some(()))
    })
    .unwrap();
    // More than fits into the old memory: what the NIC gets from now on is in the new one, too.
    a.run("mount -o remount,size=300m /tmp && dd if=/dev/zero of=/tmp/fill bs=1M count=200", LIMIT)
        .unwrap();
    rebind(&mut a).unwrap();
    bed.must_reach_outside(&mut a).unwrap();
    finish(&bed, steady).unwrap();
    drop(b);
}

fn memory_kb(guest: &mut Guest) -> Result<u64> {
    let text = guest.run("awk '/^MemTotal/ {print $2}' /proc/meminfo", LIMIT)?;
    text.trim().parse().map_err(|_| Error::Unexpected(format!("MemTotal is {text}")))
}

#[test]
fn a_killed_qemu_is_started_again() {
    let (bed, mut a, _b, steady) = start(two_on_one_server("vmm")).unwrap();
    a.process().kill();
    drop(a);
    wait_until("the backend hears of it", LIMIT, || {
        Ok((bed.vnic_field(0, "vm-a", "state")? == "down").then_some(()))
    })
    .unwrap();
    let mut a = bed.boot("vm-a").unwrap();
    bed.must_reach_outside(&mut a).unwrap();
    finish(&bed, steady).unwrap();
}

#[test]
fn a_killed_backend_is_found_again_by_qemu() {
    backend_killed(true).unwrap();
}

#[test]
fn a_killed_backend_finds_qemu_again() {
    backend_killed(false).unwrap();
}

/// Twice, the second time in the middle of a transfer: TCP must come through on one connection.
fn backend_killed(backend_listens: bool) -> Result<()> {
    let tag = if backend_listens { "kill" } else { "killc" };
    let mut bed = Bed::new(Plan { backend_listens, ..two_on_one_server(tag) })?;
    let (mut a, mut b) = bed.boot_both()?;
    bed.must_reach_outside(&mut a)?;
    bed.must_reach_outside(&mut b)?;
    bed.cluster.kill_daemon(0)?;
    bed.cluster.start_daemon(0)?;
    bed.must_reach_outside(&mut a)?;
    bed.must_reach_outside(&mut b)?;

    let outside = bed.cluster.outside_address();
    let receive = "mkfifo hold; exec 9<>hold; busybox nc -l -p 7000 <&9 >received 2>/dev/null &";
    let dir = bed.cluster.dir().display().to_string();
    bed.cluster.outside().sh(&format!("cd {dir}; {receive} sleep 0.3"), LIMIT)?;
    // A nc whose own input ends says so to its peer, which then ends: hence the held FIFO.
    // The guest starts to send, then its backend is killed while it does.
    let send = format!(
        "(for n in $(seq 1 60); do seq 1 20000; done | nc {outside} 7000; touch /tmp/sent) >/dev/null 2>&1 &"
    );
    a.run(&send, LIMIT)?;
    wait_until("the first bytes", LIMIT, || {
        Ok(std::fs::metadata(format!("{dir}/received"))
            .is_ok_and(|it| it.len() > 100_000)
            .then_some(()))
    })?;
    bed.cluster.kill_daemon(0)?;
    if a.try_run("test -e /tmp/sent", LIMIT)?.status == 0 {
        return Err(Error::Unexpected("the transfer was over before the kill".to_owned()));
    }
    bed.cluster.start_daemon(0)?;
    let sent = wait_until("the end of the transfer", Duration::from_secs(60), || {
        Ok((a.try_run("test -e /tmp/sent", LIMIT)?.status == 0).then_some(()))
    });
    sent.map_err(|error| bed.explain(&error))?;
    let line = format!("cd {dir}; for n in $(seq 1 60); do seq 1 20000; done | cmp - received");
    bed.cluster.outside().sh(&line, LIMIT)?;
    bed.must_reach_outside(&mut b)?;
    bed.must_close()?;
    match bed.cluster.stop_daemon(0)? {
        true => Ok(()),
        false => Err(Error::Unexpected("SIGTERM did not end the backend with success".to_owned())),
    }
}
