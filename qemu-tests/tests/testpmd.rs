//! DPDK's front-end against DPDK's own back-end: what the harness can drive.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::time::Duration;

use wireonce_qemu_tests::guest::{Accel, Image, Nic, NicBackend, Vm};
use wireonce_qemu_tests::netns::{End, Netns, join};
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::testpmd::{Counters, End as PmdEnd, Forward, Memory, Testpmd};
use wireonce_qemu_tests::watchdog::TempDir;
use wireonce_qemu_tests::{Result, hugepages};

/// Runs until `enough` packets have come out at the other end; returns front-end, back-end.
fn exchange(memory: Memory, front: Forward, back: Forward) -> Result<(Counters, Counters)> {
    let dir = TempDir::new("pmd")?;
    let socket = dir.path().join("vhost.sock");
    let mut back_end = Testpmd::new(PmdEnd::BackEnd(socket.clone()), back);
    let mut front_end = Testpmd::new(PmdEnd::FrontEnd(socket), front);
    back_end.memory = memory;
    front_end.memory = memory;
    front_end.cpu = 1;
    let back_end = back_end.start("back", dir.path())?;
    let front_end = front_end.start("front", dir.path())?;
    let receiver = if back == Forward::RxOnly { &back_end } else { &front_end };
    wait_until("10000 packets", Duration::from_secs(30), || {
        Ok((receiver.counters().rx_packets > 10_000).then_some(()))
    })?;
    Ok((front_end.stop()?, back_end.stop()?))
}

#[test]
fn frames_cross_the_socket_from_the_front_end() {
    let (front, back) = exchange(Memory::Plain, Forward::TxOnly, Forward::RxOnly).unwrap();
    assert!(front.tx_packets >= back.rx_packets, "{front:?} {back:?}");
    assert!(!back.rx_pps.is_empty());
}

#[test]
fn frames_cross_the_socket_to_the_front_end_from_huge_pages() {
    let path = "/proc/sys/vm/nr_hugepages";
    let before = std::fs::read_to_string(path).unwrap();
    let pages = hugepages::reserve(512).unwrap();
    let (front, _) = exchange(Memory::Huge, Forward::RxOnly, Forward::TxOnly).unwrap();
    assert!(front.rx_packets > 10_000, "{front:?}");
    drop(pages);
    assert_eq!(std::fs::read_to_string(path).unwrap(), before);
}

/// A guest's vhost-user NIC with DPDK's back-end behind it: QEMU's side of the socket, both ways
/// of connecting, before any back-end of ours is to blame.
#[test]
fn a_guest_pings_through_dpdks_back_end_whoever_listens() {
    let image = Image::ensure().unwrap();
    let accel = Accel::detect(&image).unwrap();
    for qemu_listens in [false, true] {
        let host = Netns::new("dpdk", "host").unwrap();
        let outside = Netns::new("dpdk", "outside").unwrap();
        let ends =
            [("up0", &host), ("out0", &outside)].map(|(interface, netns)| End { netns, interface });
        join(ends[0], ends[1], 1500).unwrap();
        outside.add_address("out0", "192.0.2.1".parse().unwrap(), 24).unwrap();

        let dir = TempDir::new("pmd").unwrap();
        let socket = dir.path().join("vhost.sock");
        let (nic, end) = if qemu_listens {
            (NicBackend::VhostUserListen(socket.clone()), PmdEnd::BackEndConnect(socket))
        } else {
            (NicBackend::VhostUserConnect(socket.clone()), PmdEnd::BackEnd(socket))
        };
        let mut back_end = Testpmd::new(end, Forward::Io);
        back_end.interface = Some("up0".to_owned());
        let _back_end = back_end.start_in(&host, "back", dir.path()).unwrap();
        let vm = Vm::new("dpdk", &image, accel)
            .nic(Nic::new(nic, "52:54:00:00:00:11"))
            .address("192.0.2.11/24");
        let mut guest = vm.boot_in(&host).unwrap();
        let answered = wait_until("an answer", Duration::from_secs(30), || {
            let ping = guest.try_run("ping -c 1 -W 1 192.0.2.1", Duration::from_secs(5))?;
            Ok((ping.status == 0).then_some(()))
        });
        assert!(answered.is_ok(), "qemu_listens {qemu_listens}: {answered:?}");
    }
}
