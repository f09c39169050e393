//! Frames that do not fit, and guests that take none of the work off us.

use wireonce_qemu_tests::cluster::{Plan, VmPlan};
use wireonce_qemu_tests::guest::Guest;
use wireonce_qemu_tests::iperf::{self, Load};
use wireonce_qemu_tests::{Error, Result};

use crate::bed::{Bed, LIMIT};

fn one(tag: &str) -> Plan {
    Plan::new(tag, 1).vm(VmPlan::new("vm-a", 0, 11))
}

#[test]
fn jumbo_frames_cross_a_fabric_of_1500() {
    let bed = Bed::new(Plan { network_mtu: 9000, fabric_mtu: 1500, ..one("jumbo") }).unwrap();
    let mut a = bed.boot("vm-a").unwrap();
    assert_eq!(a.run("cat /sys/class/net/eth0/mtu", LIMIT).unwrap().trim(), "9000");
    bed.must_reach_outside(&mut a).unwrap();
    let (outside, inside) =
        (bed.cluster.outside_address(), bed.cluster.vm_address("vm-a").unwrap());
    let ping = format!("ping -s 8900 -c 20 -i 0.05 -W 5 {outside} | grep ' 0% packet loss'");
    a.run(&ping, LIMIT).map_err(|error| bed.explain(&error)).unwrap();
    // In one piece each: nobody cut or joined IP packets.
    let mut netns = bed.cluster.outside();
    for (name, text) in [
        ("guest", a.run("cat /proc/net/snmp", LIMIT).unwrap()),
        ("outside", netns.sh("cat /proc/net/snmp", LIMIT).unwrap()),
    ] {
        for counter in ["FragCreates", "ReasmReqds"] {
            assert_eq!(snmp(&text, "Ip", counter).unwrap(), 0, "{name} {counter}");
        }
    }
    let out = iperf::measure(&mut a, &mut netns, Load::tcp(outside, 2)).unwrap();
    let inward = iperf::measure(&mut netns, &mut a, Load::tcp(inside, 2)).unwrap();
    println!("out {:.0}, in {:.0} Mb/s", out.received_mbps, inward.received_mbps);
    assert!(out.received_mbps > 1.0 && inward.received_mbps > 1.0);
    must_have_received_well(&mut a).unwrap();
    bed.must_close().unwrap();
}

/// The outside sends large segments without checksums (veth); this guest must get small ones with.
#[test]
fn a_guest_without_receive_offloads_gets_right_checksums() {
    let bed = Bed::new(one("plain")).unwrap();
    let off =
        ["guest_csum=off", "guest_tso4=off", "guest_tso6=off", "guest_ecn=off", "guest_ufo=off"];
    let mut a = bed.boot_with("vm-a", &off).unwrap();
    bed.must_reach_outside(&mut a).unwrap();
    let features = bed.vnic_field(0, "vm-a", "features").unwrap().to_string();
    assert!(!features.contains("GUEST_CSUM") && !features.contains("GUEST_TSO"), "{features}");
    let to = bed.cluster.vm_address("vm-a").unwrap();
    let seen = iperf::measure(&mut bed.cluster.outside(), &mut a, Load::tcp(to, 3)).unwrap();
    println!("in {:.0} Mb/s, {} re-sent", seen.received_mbps, seen.retransmits);
    assert!(seen.received_mbps > 1.0);
    must_have_received_well(&mut a).unwrap();
    bed.must_close().unwrap();
    // Large segments did come, and were cut here.
    let books = bed.account(0, "vm-a", "guest-rx").unwrap();
    assert!(books.input.segments > books.input.frames * 2, "{books:?}");
}

/// A guest that leaves all work to itself and merges no buffers.
#[test]
fn a_guest_without_any_offload_and_without_mergeable_buffers_talks() {
    let bed = Bed::new(one("bare")).unwrap();
    let off = [
        "csum=off",
        "gso=off",
        "host_tso4=off",
        "host_tso6=off",
        "host_ecn=off",
        "host_ufo=off",
        "guest_csum=off",
        "guest_tso4=off",
        "guest_tso6=off",
        "guest_ecn=off",
        "guest_ufo=off",
        "mrg_rxbuf=off",
        "event_idx=off",
        "indirect_desc=off",
    ];
    let mut a = bed.boot_with("vm-a", &off).unwrap();
    bed.must_reach_outside(&mut a).unwrap();
    let to = bed.cluster.vm_address("vm-a").unwrap();
    let mut netns = bed.cluster.outside();
    let inward = iperf::measure(&mut netns, &mut a, Load::tcp(to, 2)).unwrap();
    let outside = bed.cluster.outside_address();
    let out = iperf::measure(&mut a, &mut netns, Load::tcp(outside, 2)).unwrap();
    println!("out {:.0}, in {:.0} Mb/s", out.received_mbps, inward.received_mbps);
    assert!(out.received_mbps > 1.0 && inward.received_mbps > 1.0);
    must_have_received_well(&mut a).unwrap();
    bed.must_close().unwrap();
}

/// The guest's own stack found nothing wrong with what it got.
fn must_have_received_well(guest: &mut Guest) -> Result<()> {
    let text = guest.run("cat /proc/net/snmp", LIMIT)?;
    let bad = [
        ("Ip", "InHdrErrors"),
        ("Tcp", "InErrs"),
        ("Tcp", "InCsumErrors"),
        ("Icmp", "InCsumErrors"),
    ];
    for (protocol, counter) in bad {
        let count = snmp(&text, protocol, counter)?;
        if count > 0 {
            return Err(Error::Unexpected(format!("{protocol} {counter} {count}:\n{text}")));
        }
    }
    match snmp(&text, "Tcp", "InSegs")? {
        0..100 => Err(Error::Unexpected(format!("hardly any TCP:\n{text}"))),
        _ => Ok(()),
    }
}

/// A counter of `/proc/net/snmp`: a line of names and a line of values for each protocol.
fn snmp(text: &str, protocol: &str, counter: &str) -> Result<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let mut pairs = names.split(' ').zip(values.split(' '));
    let value = pairs.find(|(name, _)| *name == counter).and_then(|(_, value)| value.parse().ok());
    value.ok_or_else(|| Error::Unexpected(format!("no {protocol} {counter} in {text}")))
}
