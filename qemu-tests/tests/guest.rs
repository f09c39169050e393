//! Stock guests, with QEMU's own tap in the place of the backend: what the harness can do.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::guest::{Accel, Guest, Image, Nic, NicBackend, Vm};
use wireonce_qemu_tests::iperf::{self, Load};
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::watchdog::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

fn plain_guest() -> Result<Guest> {
    let image = Image::ensure()?;
    let accel = Accel::detect(&image)?;
    Vm::new("plain", &image, accel).hotplug_mb(256).boot()
}

#[test]
fn a_guest_runs_commands_and_tells_their_status() {
    let mut guest = plain_guest().unwrap();
    assert_eq!(guest.run("echo 'a  b'; echo c", LIMIT).unwrap(), "a  b\nc\n");
    assert_eq!(guest.try_run("echo no; exit 3", LIMIT).unwrap().status, 3);
    assert_eq!(guest.try_run("sleep 20", Duration::from_secs(1)).unwrap().status, 137);
    let long = guest.run("seq 1 20000", LIMIT).unwrap();
    assert_eq!(long.lines().count(), 20000);
}

#[test]
fn a_person_gets_a_shell_on_the_console() {
    let dir = TempDir::new("console").unwrap();
    let socket = dir.path().join("console.sock");
    let image = Image::ensure().unwrap();
    let accel = Accel::detect(&image).unwrap();
    let _guest = Vm::new("console", &image, accel).console(socket.clone()).boot().unwrap();
    let mut console = UnixStream::connect(socket).unwrap();
    console.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut seen = String::new();
    wait_until("the shell's answer", LIMIT, || {
        console.write_all(b"echo $((6 * 7))\n").unwrap();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = console.read(&mut buffer) {
            seen += &String::from_utf8_lossy(&buffer[..count]);
        }
        Ok(seen.lines().any(|line| line.trim() == "42").then_some(()))
    })
    .unwrap();
}

#[test]
fn qmp_stops_continues_resets_and_plugs_memory() {
    let mut guest = plain_guest().unwrap();
    guest.qmp().stop().unwrap();
    assert_eq!(guest.qmp().status().unwrap(), "paused");
    guest.qmp().cont().unwrap();
    assert_eq!(guest.qmp().status().unwrap(), "running");
    guest.qmp().plug_memory("dimm0", 128).unwrap();
    let dimms = "ls -d /sys/bus/acpi/devices/PNP0C80:*";
    wait_until("the guest sees the memory", LIMIT, || {
        Ok((guest.try_run(dimms, LIMIT)?.status == 0).then_some(()))
    })
    .unwrap();
    guest.run("touch /tmp/mark", LIMIT).unwrap();
    guest.qmp().reset().unwrap();
    guest.wait_rebooted(Duration::from_secs(90)).unwrap();
    assert_ne!(guest.try_run("test -e /tmp/mark", LIMIT).unwrap().status, 0);
}

#[test]
fn tcp_flows_both_ways_through_qemus_own_tap() {
    let netns = Netns::new("tap", "host").unwrap();
    netns.ip("tuntap add tap0 mode tap vnet_hdr").unwrap();
    netns.ip("addr add 192.0.2.1/24 dev tap0").unwrap();
    netns.ip("link set tap0 up").unwrap();
    let image = Image::ensure().unwrap();
    let accel = Accel::detect(&image).unwrap();
    let nic = Nic::new(NicBackend::Tap("tap0".to_owned()), "52:54:00:00:00:11");
    let mut guest =
        Vm::new("tap", &image, accel).nic(nic).address("192.0.2.11/24").boot_in(&netns).unwrap();

    let (host, vm) = ("192.0.2.1".parse().unwrap(), "192.0.2.11".parse().unwrap());
    assert!(!netns.ping(vm, 5).unwrap().is_empty());
    let out = iperf::measure(&mut guest, &mut &netns, Load::tcp(host, 2)).unwrap();
    let inward = iperf::measure(&mut &netns, &mut guest, Load::tcp(vm, 2)).unwrap();
    println!("{}: out {:.0}, in {:.0} Mb/s", accel.name(), out.received_mbps, inward.received_mbps);
    assert!(out.received_mbps > 1.0 && inward.received_mbps > 1.0);
}
