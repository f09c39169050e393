//! A VM that lies is stopped at its own port: the drop has the right name, and nothing of it is seen
//! outside.
//!
//! Frames with forged headers come from the guest kernel's own generator (`pktgen`), so many of each
//! kind and no more; what takes a protocol (ARP, duplicate address detection, spanning tree,
//! redirects) comes from the guest's stack. A sniffer outside sees every frame; each forged one
//! carries a port number, MAC or address that nothing else does.
//!
//! Not made here: LLDP and LACP by their ethertypes (their destination address is), neighbour
//! advertisements, LLC/SNAP. They are unit tests of the guard.

use std::path::PathBuf;
use std::process::Command;

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::cluster::{Plan, VmPlan};
use wireonce_qemu_tests::guest::Guest;
use wireonce_qemu_tests::process::{run, wait_until};

use crate::bed::{Bed, LIMIT};
use crate::sniffer::Sniffer;

/// The ports of forged frames, and of the honest ones after them.
const FORGED: u32 = 40666;
const HONEST: u32 = 40111;
/// Frames of each kind.
const COUNT: u64 = 50;
const BROADCASTS: u64 = 500;
const BROADCAST: u32 = 40222;

/// What `pktgen` is told beyond the honest frame, and the name of the drop.
const FORGERIES: &[(&str, &str)] = &[
    ("src_mac 52:54:00:99:99:99", "source-mac"),
    ("src_min 192.0.2.99", "source-ip"),
    ("dst_mac 01:80:c2:00:00:00", "link-control"),
    ("dst_mac 01:80:c2:00:00:0e", "link-control"),
    ("dst_mac 01:00:0c:cc:cc:cc", "link-control"),
    ("vlan_id 5", "vlan-tag"),
    ("udp_src_min 67", "dhcp-server"),
    ("pkt_size 1700", "frame-long"),
];

/// What the guest's own stack is made to send, and the name of the drop.
const STORIES: &[(&str, &str)] = &[
    (
        "ip addr add 192.0.2.99/24 dev eth0; arping -q -U -c 3 -I eth0 -s 192.0.2.99 192.0.2.99; \
      ip addr del 192.0.2.99/24 dev eth0",
        "arp-spoof",
    ),
    (
        "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad; ip addr add 2001:db8::99/64 dev eth0; \
      sleep 2; ip addr del 2001:db8::99/64 dev eth0",
        "nd-spoof",
    ),
];

#[test]
fn a_lying_vm_is_stopped_at_its_port() {
    let plan = Plan::new("guard", 1).vm(VmPlan::new("vm-a", 0, 11));
    let bed = Bed::with_config(plan, |text| {
        let addresses = "addresses = [\"192.0.2.11\"]";
        assert!(text.contains(addresses), "{text}");
        let more = "addresses = [\"192.0.2.11\", \"2001:db8::11\"]\nstorm_frames_per_s = 20";
        text.replace(addresses, more)
    })
    .unwrap();
    let mut a = bed.boot_with("vm-a", &[]).unwrap();
    bed.must_reach_outside(&mut a).unwrap();
    load_modules(&bed, &mut a).unwrap();
    let sniffer = Sniffer::start(&bed).unwrap();
    let outside = bed.cluster.outside().sh("cat /sys/class/net/out0/address", LIMIT).unwrap();
    let generator = Generator { outside_mac: outside.trim().to_owned() };

    for (forgery, reason) in FORGERIES {
        let before = dropped(&bed, reason).unwrap();
        generator.send(&mut a, FORGED, COUNT, forgery).unwrap();
        must_drop(&bed, reason, before + COUNT).unwrap();
    }
    for (story, reason) in STORIES {
        let before = dropped(&bed, reason).unwrap();
        a.run(story, LIMIT).unwrap();
        must_drop(&bed, reason, before + 1).unwrap();
    }
    must_drop_bpdus(&bed, &mut a).unwrap();
    must_drop_redirects(&bed, &mut a).unwrap();

    // A few broadcasts pass, the rest is a storm: none is lost in between.
    let before = dropped(&bed, "storm").unwrap();
    generator.send(&mut a, BROADCAST, BROADCASTS, "dst_mac ff:ff:ff:ff:ff:ff").unwrap();
    // Honest frames, after all the others: the sniffer is awake and has seen what there was.
    generator.send(&mut a, HONEST, COUNT, "").unwrap();
    let log = sniffer.wait_for("honest frames", |log| count(log, HONEST) >= COUNT).unwrap();
    let passed = count(&log, BROADCAST);
    let stormed = dropped(&bed, "storm").unwrap() - before;
    assert!((1..BROADCASTS).contains(&passed), "{passed} of {BROADCASTS} passed");
    assert_eq!(passed + stormed, BROADCASTS);

    assert_eq!(count(&log, FORGED), 0, "{log}");
    for never in ["52:54:00:99:99:99", "192.0.2.99", "2001:db8::99", "01:80:c2", "vlan", "redirect"]
    {
        assert!(!log.contains(never), "{never} was seen outside:\n{log}");
    }
    bed.must_reach_outside(&mut a).unwrap();
    bed.must_close().unwrap();
}

fn dropped(bed: &Bed, reason: &str) -> Result<u64> {
    let books = bed.account(0, "vm-a", "guest-tx")?;
    Ok(books.drops.get(reason).map_or(0, |amount| amount.frames))
}

/// Waits for at least `wanted` drops; one too many would be an honest frame.
fn must_drop(bed: &Bed, reason: &str, wanted: u64) -> Result<()> {
    let seen = wait_until(&format!("{wanted} times {reason}"), LIMIT, || {
        Ok((dropped(bed, reason)? >= wanted).then_some(()))
    });
    seen.map_err(|error| bed.explain(&error))
}

/// The guest bridges its NIC, with spanning tree: real BPDUs.
fn must_drop_bpdus(bed: &Bed, guest: &mut Guest) -> Result<()> {
    let before = dropped(bed, "link-control")?;
    guest.run(
        "brctl addbr br0 && echo 1 >/sys/class/net/br0/bridge/stp_state && brctl addif br0 eth0 && ip link set br0 up",
        LIMIT,
    )?;
    must_drop(bed, "link-control", before + 2)?;
    guest.run("brctl delif br0 eth0 && ip link set br0 down && brctl delbr br0", LIMIT)?;
    bed.must_reach_outside(guest)
}

/// The guest forwards for the outside, and tells it of a better way.
fn must_drop_redirects(bed: &Bed, guest: &mut Guest) -> Result<()> {
    let before = dropped(bed, "router-advertisement")?;
    guest.run(
        "echo 1 >/proc/sys/net/ipv4/ip_forward
         for name in all eth0; do
             echo 0 >/proc/sys/net/ipv4/conf/$name/rp_filter
             echo 1 >/proc/sys/net/ipv4/conf/$name/send_redirects
         done
         ip route add 198.51.100.0/24 via 192.0.2.77
         arp -i eth0 -s 192.0.2.77 52:54:00:00:00:77",
        LIMIT,
    )?;
    let outside = bed.cluster.outside();
    outside.ip("route add 198.51.100.0/24 via 192.0.2.11")?;
    outside.try_sh("busybox ping -c 3 -i 0.2 -W 1 198.51.100.1", LIMIT)?;
    must_drop(bed, "router-advertisement", before + 1)?;
    outside.ip("route del 198.51.100.0/24")?;
    guest.run("echo 0 >/proc/sys/net/ipv4/ip_forward", LIMIT).map(drop)
}

/// The guest kernel's packet generator.
struct Generator {
    outside_mac: String,
}

impl Generator {
    /// Sends `count` UDP frames to the outside at `port`, as told by `forgery` where it differs.
    fn send(&self, guest: &mut Guest, port: u32, count: u64, forgery: &str) -> Result<()> {
        let mac = format!("dst_mac {}", self.outside_mac);
        let (from, to) = (format!("udp_dst_min {port}"), format!("udp_dst_max {port}"));
        let count = format!("count {count}");
        let words =
            [&count, "pkt_size 100", "dst_min 192.0.2.1", "dst_max 192.0.2.1", &mac, &from, &to];
        let mut script = "cd /proc/net/pktgen
            echo rem_device_all >kpktgend_0 && echo add_device eth0 >kpktgend_0"
            .to_owned();
        for word in words.into_iter().chain([forgery]).filter(|word| !word.is_empty()) {
            script += &format!(" && echo '{word}' >eth0");
        }
        // An upper bound that was not given would be the default.
        for (min, max) in [("src_min", "src_max"), ("udp_src_min", "udp_src_max")] {
            if forgery.starts_with(min) {
                script += &format!(" && echo '{}' >eth0", forgery.replace(min, max));
            }
        }
        script += " && echo start >pgctrl && grep -A1 '^Result: OK' eth0";
        guest.run(&script, LIMIT).map(drop)
    }
}

/// Carries modules into the guest that its image does not have, in the order in which they load.
fn load_modules(bed: &Bed, guest: &mut Guest) -> Result<()> {
    let find = |name: &str| {
        let mut command = Command::new("find");
        command.arg(bed.modules()).args(["-name", name]);
        run(&mut command, LIMIT).map(|text| PathBuf::from(text.trim()))
    };
    let dir = bed.cluster.dir();
    for name in ["llc.ko", "stp.ko", "bridge.ko", "pktgen.ko"] {
        let file = find(name)?;
        let serve = format!("busybox nc -l -p 7100 <{} >/dev/null 2>&1 &", file.display());
        bed.cluster.outside().sh(&format!("cd {}; {serve} sleep 0.2", dir.display()), LIMIT)?;
        let to = bed.cluster.outside_address();
        let fetch = format!(
            "cd /tmp; test -e hold || mkfifo hold; exec 9<>hold
             nc {to} 7100 <&9 >{name} && insmod {name}"
        );
        guest.run(&fetch, LIMIT)?;
    }
    Ok(())
}

/// Lines about frames to a UDP port.
fn count(log: &str, port: u32) -> u64 {
    let line = format!(".{port}: UDP");
    log.lines().filter(|it| it.contains(&line)).map(|_| 1).sum()
}
