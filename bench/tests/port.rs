//! A server's fabric port on a wire: less than the uplinks of its vNICs together.
//!
//! What leaves the server is counted by its links, datagram by datagram, and compared with its own
//! clock: more time is more that the port may carry.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::thread::sleep;
use std::time::Duration;

use wireonce_bench::suite::wait_links;
use wireonce_bench::tapend::TapEnd;
use wireonce_bench::tcp::keep_sending;
use wireonce_bench::vm_end::vm_end;
use wireonce_qemu_tests::cluster::{Cluster, Plan, Profile, Status, VmPlan, daemon_binary};
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::process::{Process, wait_until};
use wireonce_qemu_tests::{Error, Result};

const LIMIT: Duration = Duration::from_secs(20);
const MBIT: u64 = 1_000_000;
/// The server, then the gateways.
const SERVER: usize = 0;
const GATEWAYS: [usize; 2] = [1, 2];
/// What is around a datagram's payload: UDP, IPv4, Ethernet with preamble, FCS and gap.
const AROUND: u64 = 8 + 20 + 14 + 24;

/// One server with `vm-a`, at home at the first gateway, and `vm-b`, at home at the second.
struct Bed {
    // Before what they use.
    loads: Vec<Process>,
    ends: Vec<(TapEnd, Netns)>,
    cluster: Cluster,
}

impl Bed {
    fn start(tag: &str, change: impl FnOnce(&mut Plan)) -> Result<Self> {
        let mut plan = Plan { gateways: 2, ..Plan::new(tag, 1) }
            .vm(VmPlan::new("vm-a", 0, 11))
            .vm(VmPlan { home: 1, ..VmPlan::new("vm-b", 0, 12) });
        change(&mut plan);
        let mut cluster = Cluster::build(plan, &daemon_binary(Profile::Dev)?)?;
        cluster.start()?;
        let mut ends = Vec::new();
        for vm in &cluster.plan().vms {
            ends.push(vm_end(&cluster, vm, None)?);
        }
        wait_links(&cluster, SERVER)?;
        Ok(Self { loads: Vec::new(), ends, cluster })
    }

    /// Each end sends to the outside, or gets from it, as fast as TCP may, until the bed is dropped.
    fn load(&mut self, more: &[&str]) -> Result<()> {
        let how = [&["-C", "cubic"], more].concat();
        for ((_, netns), port) in self.ends.iter().zip([5_301, 5_302]) {
            self.loads.extend(keep_sending(&self.cluster, netns, port, &how)?);
        }
        Ok(())
    }

    fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        wait_until(what, LIMIT, || Ok(done(self)?.then_some(())))
            .map_err(|error| Error::Unexpected(format!("{error}\n{}", self.cluster.all_logs())))
    }

    /// The server before and after a while.
    fn watch(&self, time: Duration) -> Result<(Status, Status)> {
        let before = self.cluster.status(SERVER)?;
        sleep(time);
        Ok((before, self.cluster.status(SERVER)?))
    }
}

/// Bits on the fabric's wire that the links of a host carried, `sent` or `received`.
fn fabric_bits(status: &Status, way: &str) -> u64 {
    let count = |key: &str| {
        let key = format!("{way}_{key}");
        status.links.iter().filter_map(|link| link[&key].as_u64()).sum::<u64>()
    };
    (count("bytes") + count("datagrams") * AROUND) * 8
}

/// So much at a rate, in the host's time between two looks.
fn at((before, after): &(Status, Status), bps: u64) -> u64 {
    let us = u128::from(after.sampled_at_us - before.sampled_at_us);
    u64::try_from(u128::from(bps) * us / 1_000_000).unwrap_or(u64::MAX)
}

/// What each vNIC sent, in bytes of frames.
fn sent_bytes((before, after): &(Status, Status), vnic: &str) -> u64 {
    let bytes = |status: &Status| status.account(vnic, "guest-tx").map_or(0, |it| it.output.bytes);
    bytes(after) - bytes(before)
}

#[test]
fn a_port_smaller_than_two_uplinks_is_shared_without_a_loss_and_never_carries_more() {
    let run = || -> Result<()> {
        let mut bed = Bed::start("ptup", |plan| {
            (plan.up, plan.port_up) = (Some("200Mbit"), Some("100Mbit"));
        })?;
        // What the ends' kernels sent before their rings were there.
        let early = bed.cluster.status(SERVER)?;
        bed.load(&[])?;
        bed.wait("two vNICs that wait for the port", |bed| {
            let waits = |vnic: &serde_json::Value| vnic["share"]["port_held_us"].as_u64() > Some(0);
            Ok(bed.cluster.status(SERVER)?.vnics.iter().all(waits))
        })?;
        sleep(Duration::from_millis(500));
        let span = bed.watch(Duration::from_secs(4))?;
        let sent = fabric_bits(&span.1, "sent") - fabric_bits(&span.0, "sent");
        let (a, b) = (sent_bytes(&span, "vm-a"), sent_bytes(&span, "vm-b"));
        println!("{sent} of {} bits; a {a} b {b} bytes", at(&span, 100 * MBIT));
        // For each vNIC a burst and a train, and what passed between the looks at counters and clock.
        let slack = 2 * 2 * 70_000 * 8 + 5 * MBIT;
        assert!(sent <= at(&span, 100 * MBIT) + slack, "{sent} bits left a port of 100 Mbit/s");
        assert!(sent >= at(&span, 100 * MBIT) / 2, "most of the port is used");
        assert!(a <= b * 2 && b <= a * 2, "about the same: {a} {b}");

        // The guests wait; they lose nothing, and no gateway keeps what the port cannot send.
        for vnic in ["vm-a", "vm-b"] {
            assert_eq!(span.1.drops_of(vnic), early.drops_of(vnic), "at the server");
            for gateway in GATEWAYS {
                assert_eq!(bed.cluster.status(gateway)?.drops_of(vnic), [], "at the gateway");
            }
        }
        for share in &span.1.shares {
            let demand = share["demand_bps"].as_u64();
            assert!(demand.is_some_and(|bps| bps <= 98 * MBIT), "{share}");
        }

        // Another capacity counts while they send; and none is no limit.
        bed.cluster.change(&[SERVER], |plan| plan.port_up = Some("40Mbit"))?;
        sleep(Duration::from_millis(500));
        let span = bed.watch(Duration::from_secs(2))?;
        let sent = fabric_bits(&span.1, "sent") - fabric_bits(&span.0, "sent");
        assert!(sent <= at(&span, 40 * MBIT) + slack, "{sent} bits left a port of 40 Mbit/s");
        bed.cluster.change(&[SERVER], |plan| plan.port_up = None)?;
        bed.wait("more than the port had", |bed| {
            let span = bed.watch(Duration::from_millis(500))?;
            let sent = fabric_bits(&span.1, "sent") - fabric_bits(&span.0, "sent");
            Ok(sent > at(&span, 110 * MBIT))
        })?;
        for load in &mut bed.loads {
            load.must_be_alive()?;
        }
        Ok(())
    };
    run().unwrap();
}

#[test]
fn gateways_send_a_server_no_more_than_its_port_can_receive() {
    let run = || -> Result<()> {
        let mut bed = Bed::start("ptdn", |plan| {
            (plan.down, plan.port_down) = (Some("200Mbit"), Some("60Mbit"));
        })?;
        bed.load(&["-R"])?;
        bed.wait("vNICs that wait at the gateways for what the server can receive", |bed| {
            let rate = |gateway| -> Result<u64> {
                let status = bed.cluster.status(gateway)?;
                Ok(status.down.iter().filter_map(|it| it["rate_bps"].as_u64()).max().unwrap_or(0))
            };
            let [one, two] = [rate(GATEWAYS[0])?, rate(GATEWAYS[1])?];
            Ok([one, two].iter().all(|bps| (5 * MBIT..50 * MBIT).contains(bps)))
        })?;
        sleep(Duration::from_millis(500));
        let span = bed.watch(Duration::from_secs(4))?;
        let came = fabric_bits(&span.1, "received") - fabric_bits(&span.0, "received");
        println!("{came} of {} bits", at(&span, 60 * MBIT));
        let slack = 2 * 2 * 70_000 * 8 + 5 * MBIT;
        assert!(came <= at(&span, 60 * MBIT) + slack, "{came} bits came to a port of 60 Mbit/s");
        assert!(came >= at(&span, 60 * MBIT) / 2, "most of the port is used");
        Ok(())
    };
    run().unwrap();
}
