//! Every size of guest over every size and kind of fabric: what a guest and the outside exchange
//! must need no fragment, no second try and no checksum that the receiving kernel finds wrong.
//!
//! The guests stay; between the cases the daemons end, the fabric is changed, and they come back.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use wireonce_qemu_tests::cluster::{
    Cluster, Plan, Profile, UPLINK_INTERFACE, VmPlan, daemon_binary,
};
use wireonce_qemu_tests::guest::Guest;
use wireonce_qemu_tests::iperf::{self, Load, Place};
use wireonce_qemu_tests::netns::Offloads;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

const LIMIT: Duration = Duration::from_secs(20);
/// Behind the one server.
const GATEWAY: usize = 1;

/// The kernel's counters, `Tcp.RetransSegs` and so on.
type Counters = BTreeMap<String, u64>;

/// What a kernel counted: pairs of lines, first the names, then the values.
fn counters(place: &mut impl Place) -> Result<Counters> {
    let text = place.shell("cat /proc/self/net/snmp /proc/self/net/netstat", LIMIT)?;
    let lines: Vec<_> = text.lines().collect();
    let mut counters = Counters::new();
    for pair in lines.chunks_exact(2) {
        let mut names = pair[0].split_whitespace();
        let group = names.next().unwrap_or_default().trim_end_matches(':').to_owned();
        for (name, value) in names.zip(pair[1].split_whitespace().skip(1)) {
            // Some are signed, such as Tcp.MaxConn.
            counters.insert(format!("{group}.{name}"), value.parse().unwrap_or(0));
        }
    }
    for line in place.shell("cat /proc/self/net/snmp6", LIMIT)?.lines() {
        if let Some((name, value)) = line.split_once(char::is_whitespace) {
            counters.insert(name.to_owned(), value.trim().parse().unwrap_or(0));
        }
    }
    Ok(counters)
}

fn grown(before: &Counters, after: &Counters, name: &str) -> u64 {
    let get = |counters: &Counters| counters.get(name).copied().unwrap_or(0);
    get(after) - get(before)
}

/// Fragments and wrong checksums that a kernel met in between.
fn flaws(before: &Counters, after: &Counters) -> Vec<String> {
    let names = [
        "Tcp.InCsumErrors",
        "Tcp.InErrs",
        "Udp.InCsumErrors",
        "Icmp.InCsumErrors",
        "Ip.ReasmReqds",
        "Ip.FragCreates",
        "Ip6ReasmReqds",
        "Ip6FragCreates",
        "Udp6InCsumErrors",
    ];
    let flaw = |name: &&str| grown(before, after, name) > 0;
    names.iter().filter(|name| flaw(name)).map(|name| (*name).to_owned()).collect()
}

/// Packets and bytes that the interface of the outside received and sent.
fn outside_port(cluster: &Cluster) -> Result<[u64; 4]> {
    let text = cluster.outside().ip("-s -j link show out0")?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|error| Error::Unexpected(format!("ip -s -j: {error}: {text}")))?;
    let fields = ["rx/packets", "rx/bytes", "tx/packets", "tx/bytes"];
    Ok(fields.map(|field| {
        json.pointer(&format!("/0/stats64/{field}")).and_then(Value::as_u64).unwrap_or(0)
    }))
}

/// The same, as the gateway booked it, less what it joined before the port.
fn uplink(cluster: &Cluster) -> Result<[u64; 4]> {
    let status = cluster.status(GATEWAY)?;
    let uplink = status.uplinks.first().cloned().unwrap_or_default();
    let fields = ["out/frames", "out/bytes", "in/frames", "in/bytes"];
    let [frames, bytes, frames_in, bytes_in] = fields
        .map(|field| uplink.pointer(&format!("/{field}")).and_then(Value::as_u64).unwrap_or(0));
    let counter = |name: &str| status.counters.get(name).copied().unwrap_or(0);
    let joined = counter("uplink_frames_joined");
    Ok([frames - joined, bytes - counter("uplink_joined_header_bytes"), frames_in, bytes_in])
}

/// Both ends of the uplink's wire at a moment at which nothing is on its way.
fn quiet(cluster: &Cluster) -> Result<([u64; 4], [u64; 4])> {
    let mut last = None;
    wait_until("quiet on the uplink", LIMIT, || {
        let now = (outside_port(cluster)?, uplink(cluster)?);
        let quiet = last == Some(now);
        last = Some(now);
        std::thread::sleep(Duration::from_millis(50));
        Ok(quiet.then_some(now))
    })
}

/// One case: TCP both ways and pings of full size, then every counter that could tell of a flaw.
fn case(cluster: &Cluster, guest: &mut Guest, name: &str) -> Result<()> {
    let outside = cluster.outside_address();
    let vm = cluster.vm_address("vm-a")?;
    cluster.wait_answer(guest, outside)?;
    let (port, booked) = quiet(cluster)?;
    let kernels = |guest: &mut Guest| -> Result<Vec<Counters>> {
        let mut all = vec![counters(guest)?, counters(&mut cluster.outside())?];
        for host in cluster.hosts() {
            all.push(counters(&mut &host.netns)?);
        }
        Ok(all)
    };
    let before = kernels(guest)?;

    let full = cluster.plan().network_mtu - 28;
    guest.run(&format!("ping -c 3 -i 0.05 -W 5 -s {full} {outside} | grep ' 0% packet'"), LIMIT)?;
    let out = iperf::measure(guest, &mut cluster.outside(), Load::tcp(outside, 1))?;
    let inward = iperf::measure(&mut cluster.outside(), guest, Load::tcp(vm, 1))?;

    let after = kernels(guest)?;
    let (port_after, booked_after) = quiet(cluster)?;
    let resent = |at: usize| {
        let grown = |name| grown(&before[at], &after[at], name);
        (grown("Tcp.RetransSegs"), grown("Tcp.OutSegs"))
    };
    println!(
        "{name}: out {:.0} Mb/s (re-sent {:?}), in {:.0} Mb/s (re-sent {:?})",
        out.received_mbps,
        resent(0),
        inward.received_mbps,
        resent(1)
    );
    let bad = |why: String| Err(Error::Unexpected(format!("{name}: {why}")));
    for ((who, before), after) in
        ["guest", "outside", "server", "gateway"].iter().zip(&before).zip(&after)
    {
        let flaws = flaws(before, after);
        if !flaws.is_empty() {
            return bad(format!("the kernel of {who} counted {flaws:?}"));
        }
    }
    for at in [0, 1] {
        let (again, sent) = resent(at);
        if again > 10 + sent / 100 {
            return bad(format!("{again} of {sent} segments were sent again"));
        }
    }
    let grown = |after: [u64; 4], before: [u64; 4]| {
        std::array::from_fn::<u64, 4, _>(|at| after[at] - before[at])
    };
    let (wire, books) = (grown(port_after, port), grown(booked_after, booked));
    if wire != books {
        return bad(format!(
            "the outside's port counted {wire:?}, the uplink {UPLINK_INTERFACE} booked {books:?} \
             (packets and bytes out, then in)"
        ));
    }
    cluster.must_close().map(drop)
}

/// All fabrics for one guest.
fn must_fit_every_fabric(tag: &str, network_mtu: u32) -> Result<()> {
    let plan = Plan { network_mtu, ..Plan::new(tag, 1) }.vm(VmPlan::new("vm-a", 0, 11));
    let mut cluster = Cluster::build(plan, &daemon_binary(Profile::Dev)?)?;
    let mut guests = cluster.start_with_guests()?;
    let guest = guests.first_mut().ok_or_else(|| Error::Unexpected("no guest".to_owned()))?;
    for fabric_mtu in [1280, 1500, 9000] {
        for fabric_ipv6 in [false, true] {
            cluster.refit(|plan| {
                plan.fabric_mtu = fabric_mtu;
                plan.fabric_ipv6 = fabric_ipv6;
            })?;
            for (trains, offloads) in [("whole", Offloads::WHOLE), ("cut", Offloads::WIRE)] {
                cluster.set_fabric_offloads(offloads)?;
                let ip = if fabric_ipv6 { "IPv6" } else { "IPv4" };
                let name = format!("guest {network_mtu}, {ip} fabric {fabric_mtu}, {trains}");
                case(&cluster, guest, &name)?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_guest_of_1500_bytes_fits_every_fabric() {
    must_fit_every_fabric("mat15", 1500).unwrap();
}

#[test]
fn a_guest_of_9000_bytes_fits_every_fabric() {
    must_fit_every_fabric("mat90", 9000).unwrap();
}
