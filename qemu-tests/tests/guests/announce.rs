//! A VMM's operator has a guest announced that does not do it itself, as after a migration.

use serde_json::json;

use wireonce_qemu_tests::cluster::{Plan, VmPlan};

use crate::bed::Bed;
use crate::sniffer::Sniffer;

#[test]
fn a_guest_that_qemu_announces_is_seen_outside() {
    let bed = Bed::new(Plan::new("announce", 1).vm(VmPlan::new("vm-a", 0, 11))).unwrap();
    let mut a = bed.boot_with("vm-a", &["guest_announce=off"]).unwrap();
    bed.must_reach_outside(&mut a).unwrap();
    let sniffer = Sniffer::start(&bed).unwrap();
    let timing = json!({"initial": 50, "max": 50, "rounds": 3, "step": 0});
    a.qmp().execute("announce-self", &timing).unwrap();
    let frame = "52:54:00:77:00:0b > ff:ff:ff:ff:ff:ff, ethertype Reverse ARP";
    sniffer.wait_for("three announcements", |log| log.matches(frame).count() >= 3).unwrap();
    bed.must_close().unwrap();
}
