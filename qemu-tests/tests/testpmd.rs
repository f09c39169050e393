//! DPDK's front-end against DPDK's own back-end: what the harness can drive.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::time::Duration;

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::testpmd::{Counters, End, Forward, Memory, Testpmd, reserve_huge_pages};
use wireonce_qemu_tests::watchdog::TempDir;

/// Runs until `enough` packets have come out at the other end; returns front-end, back-end.
fn exchange(memory: Memory, front: Forward, back: Forward) -> Result<(Counters, Counters)> {
    let dir = TempDir::new("pmd")?;
    let socket = dir.path().join("vhost.sock");
    let mut back_end = Testpmd::new(End::BackEnd(socket.clone()), back);
    let mut front_end = Testpmd::new(End::FrontEnd(socket), front);
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
    let pages = reserve_huge_pages(512).unwrap();
    let (front, _) = exchange(Memory::Huge, Forward::RxOnly, Forward::TxOnly).unwrap();
    assert!(front.rx_packets > 10_000, "{front:?}");
    drop(pages);
    assert_eq!(std::fs::read_to_string(path).unwrap(), before);
}
