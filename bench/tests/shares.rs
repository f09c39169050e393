//! Bandwidth on a wire: two servers and an uplink that is smaller than what they send.
//!
//! Nothing here is judged by this machine's clock alone: what an uplink carried is compared with
//! the gateway's own clock (more time is more that it may carry), servers with each other, and
//! the rest by the books.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::thread::sleep;
use std::time::Duration;

use wireonce_bench::case::Times;
use wireonce_bench::suite::wait_links;
use wireonce_bench::tapend::TapEnd;
use wireonce_bench::tcp::{self, keep_sending};
use wireonce_bench::vm_end::vm_end;
use wireonce_qemu_tests::cluster::{Cluster, Plan, Profile, Status, VmPlan, daemon_binary};
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::process::{Process, wait_until};
use wireonce_qemu_tests::{Error, Result};

const LIMIT: Duration = Duration::from_secs(20);
const MBIT: u64 = 1_000_000;
/// What is leased of an uplink of 200 Mbit/s.
const USABLE_BPS: u64 = 198 * MBIT;
/// What is divided of it downwards.
const USABLE_DOWN_BPS: u64 = 192 * MBIT;
/// Two servers with one vNIC each, then the gateway.
const GATEWAY: usize = 2;

/// Frames of 60 bytes, and the FCS.
const SMALL: [&str; 5] = ["-u", "-l", "18", "-b", "4320K"];

/// How an end sends.
#[derive(Clone, Copy)]
enum Load {
    /// As fast as TCP may.
    Tcp,
    /// The same, from the outside to the end.
    TcpDown,
    /// So many megabits a second, whatever becomes of them.
    Udp(u32),
    /// About 30,000 frames a second of 64 bytes on the wire.
    Small,
    /// The same, from the outside to the end.
    SmallDown,
}

/// The servers with their ends at work.
struct Bed {
    // Before what they use.
    loads: Vec<Process>,
    ends: Vec<(TapEnd, Netns)>,
    cluster: Cluster,
    /// Loads so far.
    begun: u16,
}

impl Bed {
    /// `vm-a` on the first server, `vm-b` on the second; `change` says what else.
    fn start(tag: &str, change: impl FnOnce(&mut Plan)) -> Result<Self> {
        let mut plan = Plan { up: Some("200Mbit"), ..Plan::new(tag, 2) }
            .vm(VmPlan::new("vm-a", 0, 11))
            .vm(VmPlan::new("vm-b", 1, 12));
        change(&mut plan);
        let mut cluster = Cluster::build(plan, &daemon_binary(Profile::Dev)?)?;
        cluster.start()?;
        let mut ends = Vec::new();
        for vm in &cluster.plan().vms {
            ends.push(vm_end(&cluster, vm, None)?);
        }
        (0..GATEWAY).try_for_each(|server| wait_links(&cluster, server))?;
        Ok(Self { loads: Vec::new(), ends, cluster, begun: 0 })
    }

    /// An end sends to the outside until the bed is dropped.
    fn send(&mut self, end: usize, load: Load) -> Result<()> {
        let port = 5_301 + self.begun;
        self.begun += 1;
        let rate;
        let how: &[&str] = match load {
            Load::Tcp => &["-C", "cubic"],
            Load::TcpDown => &["-C", "cubic", "-R"],
            Load::Udp(mbit) => {
                rate = format!("{mbit}M");
                &["-u", "-l", "1400", "-b", &rate]
            }
            Load::Small => &SMALL,
            Load::SmallDown => &[&SMALL[..], &["-R"]].concat(),
        };
        let (_, netns) = self.ends.get(end).ok_or_else(|| Error::Unexpected("no end".into()))?;
        self.loads.extend(keep_sending(&self.cluster, netns, port, how)?);
        Ok(())
    }

    /// Waits until the gateway has promised this server so much.
    fn wait_lease(&self, server: &str, at_least_bps: u64) -> Result<()> {
        wait_until(&format!("a lease of {at_least_bps} for {server}"), LIMIT, || {
            let status = self.cluster.status(GATEWAY)?;
            Ok((lease_bps(&status, server) >= at_least_bps).then_some(()))
        })
        .map_err(|error| Error::Unexpected(format!("{error}\n{}", self.cluster.all_logs())))
    }

    /// What went out in a while.
    fn watch(&self, time: Duration) -> Result<Span> {
        let before = self.cluster.status(GATEWAY)?;
        sleep(time);
        Ok(Span { before, after: self.cluster.status(GATEWAY)? })
    }
}

/// Two looks at the gateway.
struct Span {
    before: Status,
    after: Status,
}

impl Span {
    /// What went out of a vNIC's, in wire bits.
    fn bits(&self, vnic: &str) -> u64 {
        wire_bits(&self.after, vnic, "uplink-tx") - wire_bits(&self.before, vnic, "uplink-tx")
    }

    /// What came in for a vNIC, in wire bits.
    fn bits_down(&self, vnic: &str) -> u64 {
        wire_bits(&self.after, vnic, "uplink-rx") - wire_bits(&self.before, vnic, "uplink-rx")
    }

    /// Frames on the wire that went out of a vNIC's, or came in for it.
    fn packets(&self, vnic: &str, stage: &str) -> u64 {
        let packets =
            |status: &Status| status.account(vnic, stage).map_or(0, |row| row.output.segments);
        packets(&self.after) - packets(&self.before)
    }

    /// About so many packets a second, and never more: for the time, and bursts.
    fn must_be_at(&self, packets: u64, per_s: u64) {
        let most = self.at(per_s) + per_s / 100 + 66 + per_s / 20;
        println!("{packets} packets where {} are the limit", self.at(per_s));
        assert!(packets <= most, "{packets} packets where {most} were promised");
        assert!(packets >= self.at(per_s) / 100 * 60, "the limit is no less than it says");
    }

    /// So much at a rate, in the gateway's time.
    fn at(&self, bps: u64) -> u64 {
        let us = u128::from(self.after.sampled_at_us - self.before.sampled_at_us);
        u64::try_from(u128::from(bps) * us / 1_000_000).unwrap_or(u64::MAX)
    }

    /// The promise: never more than the rate for the time, and bursts: what a meter lets through
    /// after a stall, and what passed between a look at the counters and one at the clock.
    fn must_keep(&self, bits: u64, bps: u64, vnics: u64) {
        let bursts = bps / 100 + vnics * 70_000 * 8 + bps / 20;
        let most = self.at(bps) + self.at(bps) / 1_000 + bursts;
        assert!(bits <= most, "{bits} bits where {most} were promised");
    }
}

fn lease_bps(status: &Status, server: &str) -> u64 {
    let share = status.shares.iter().find(|share| share["server"] == server);
    share.and_then(|share| share["lease_bps"].as_u64()).unwrap_or(0)
}

/// As a wire counts them: each segment with headers of its own, and what is around a frame.
fn wire_bits(status: &Status, vnic: &str, stage: &str) -> u64 {
    let output = status.account(vnic, stage).map(|row| row.output).unwrap_or_default();
    let headers = (output.segments - output.frames) * 66;
    (output.bytes + headers + output.segments * 24) * 8
}

#[test]
fn servers_share_an_uplink_by_their_shares_lose_nothing_and_inherit_from_the_dead() {
    let run = || -> Result<()> {
        let mut bed = Bed::start("shar", |plan| plan.shares = vec![300, 100])?;
        bed.send(0, Load::Tcp)?;
        bed.send(1, Load::Tcp)?;
        bed.wait_lease("server-a", 140 * MBIT)?;
        bed.wait_lease("server-b", 45 * MBIT)?;
        let span = bed.watch(Duration::from_secs(4))?;
        let (a, b) = (span.bits("vm-a"), span.bits("vm-b"));
        println!("a {a}, b {b} of {} bits", span.at(USABLE_BPS));
        span.must_keep(a + b, USABLE_BPS, 2);
        assert!(a + b >= span.at(USABLE_BPS) / 2, "most of the uplink is used");
        assert!(a >= b * 2 && a <= b * 4, "three to one, about");

        // A throttled guest waits; it loses nothing.
        for (server, vnic) in [(0, "vm-a"), (1, "vm-b")] {
            let status = bed.cluster.status(server)?;
            assert_eq!(status.drops_of(vnic), [], "at the server");
            assert_eq!(span.after.drops_of(vnic), [], "at the gateway");
            assert_eq!(status.vnics[0]["share"]["held"], true);
        }

        bed.cluster.kill_daemon(1)?;
        bed.wait_lease("server-a", 190 * MBIT)?;
        let span = bed.watch(Duration::from_secs(2))?;
        span.must_keep(span.bits("vm-a") + span.bits("vm-b"), USABLE_BPS, 2);
        Ok(())
    };
    run().unwrap();
}

#[test]
fn bandwidth_moves_from_one_server_to_the_other_while_both_send_and_nothing_is_lost() {
    let run = || -> Result<()> {
        let mut bed = Bed::start("sham", |plan| plan.shares = vec![300, 100])?;
        bed.send(0, Load::Tcp)?;
        bed.send(1, Load::Tcp)?;
        bed.wait_lease("server-a", 140 * MBIT)?;
        bed.cluster.change(&[GATEWAY, 0, 1], |plan| plan.shares = vec![100, 300])?;
        bed.wait_lease("server-b", 140 * MBIT)?;
        let span = bed.watch(Duration::from_secs(4))?;
        let (a, b) = (span.bits("vm-a"), span.bits("vm-b"));
        println!("a {a}, b {b} of {} bits", span.at(USABLE_BPS));
        span.must_keep(a + b, USABLE_BPS, 2);
        assert!(b >= a * 2 && b <= a * 4, "one to three, about");
        for (server, vnic) in [(0, "vm-a"), (1, "vm-b")] {
            assert_eq!(bed.cluster.status(server)?.drops_of(vnic), [], "at the server");
            assert_eq!(span.after.drops_of(vnic), [], "at the gateway");
        }
        // The connections are those from before the change.
        for load in &mut bed.loads {
            load.must_be_alive()?;
        }
        Ok(())
    };
    run().unwrap();
}

#[test]
fn a_limit_holds_and_what_it_leaves_is_for_others() {
    let run = || -> Result<()> {
        let mut bed = Bed::start("shal", |plan| {
            plan.vms.iter_mut().filter(|vm| vm.name == "vm-b").for_each(|vm| {
                vm.limit = Some("20Mbit");
            });
        })?;
        bed.send(0, Load::Tcp)?;
        bed.send(1, Load::Tcp)?;
        bed.wait_lease("server-a", 170 * MBIT)?;
        bed.wait_lease("server-b", 18 * MBIT)?;
        let span = bed.watch(Duration::from_secs(4))?;
        let (a, b) = (span.bits("vm-a"), span.bits("vm-b"));
        println!("a {a}, b {b} of {} bits", span.at(20 * MBIT));
        span.must_keep(b, 20 * MBIT, 1);
        span.must_keep(a + b, USABLE_BPS, 2);
        assert!(b >= span.at(20 * MBIT) / 100 * 60, "the limit is no less than it says");
        assert!(a >= b * 4);
        assert_eq!(bed.cluster.status(1)?.drops_of("vm-b"), []);
        Ok(())
    };
    run().unwrap();
}

#[test]
fn a_throttled_uplink_does_not_slow_what_the_same_vm_sends_to_another() {
    const LIMIT_BPS: u64 = 20 * MBIT;
    let run = || -> Result<()> {
        let mut bed = Bed::start("shavm", |plan| {
            plan.vms.iter_mut().filter(|vm| vm.name == "vm-a").for_each(|vm| {
                vm.limit = Some("20Mbit");
            });
        })?;
        let (_, receiver) = &bed.ends[1];
        let _server = tcp::Server::start(receiver, None, bed.cluster.dir())?;
        let to = bed.cluster.plan().vms[1].address();
        let load = tcp::Load { to, flows: 1, reverse: false };
        let times = Times { warm_up: Duration::ZERO, window: Duration::from_secs(3) };
        // TCP that waits in the guest, and then beside it what heeds nobody.
        for outward in [Load::Tcp, Load::Udp(60)] {
            bed.send(0, outward)?;
            wait_until("a vNIC that is held back", LIMIT, || {
                let share = &bed.cluster.status(0)?.vnics[0]["share"];
                Ok((share["held"] == true).then_some(()))
            })?;
            let before = bed.cluster.status(GATEWAY)?;
            let seen = tcp::send(&bed.ends[0].1, None, load, times)?;
            let span = Span { before, after: bed.cluster.status(GATEWAY)? };
            let out = span.bits("vm-a");
            println!("{out} of {} bits out, {} bit/s to vm-b", span.at(LIMIT_BPS), seen.bps);
            span.must_keep(out, LIMIT_BPS, 1);
            assert!(out >= span.at(LIMIT_BPS) / 3, "the throttled part goes on");
            assert!(seen.bps > 100e6, "the other part waits for nothing of it");
        }
        // What was beyond the limit was dropped by its name, and nothing else; questions for an
        // address are answered at the port.
        let drops = bed.cluster.status(0)?.drops_of("vm-a");
        let is_ours = |why: &str| matches!(why, "shaped" | "answered-here");
        assert!(drops.iter().all(|(why, _)| is_ours(why)), "{drops:?}");
        assert_eq!(bed.cluster.status(1)?.drops_of("vm-a"), [], "at vm-b's server");
        Ok(())
    };
    run().unwrap();
}

#[test]
fn a_server_that_obeys_nobody_is_policed_and_takes_nothing_from_the_other() {
    let run = || -> Result<()> {
        let mut bed = Bed::start("shax", |plan| plan.rogue = Some(1))?;
        bed.send(0, Load::Tcp)?;
        bed.send(1, Load::Udp(100))?;
        bed.wait_lease("server-a", 190 * MBIT)?;
        let over = |status: &Status| {
            let drops = status.drops_of("vm-b");
            drops.iter().filter(|(why, _)| why == "over-lease").map(|(_, n)| *n).sum::<u64>()
        };
        wait_until("frames over the lease", LIMIT, || {
            Ok((over(&bed.cluster.status(GATEWAY)?) > 1_000).then_some(()))
        })?;
        let span = bed.watch(Duration::from_secs(4))?;
        let (a, b) = (span.bits("vm-a"), span.bits("vm-b"));
        println!("a {a}, b {b} of {} bits, {} over", span.at(USABLE_BPS), over(&span.after));
        let starter_bps = USABLE_BPS / 40;
        span.must_keep(b, starter_bps, 1);
        span.must_keep(a + b, USABLE_BPS, 2);
        assert!(over(&span.after) > over(&span.before));
        assert!(a >= span.at(USABLE_BPS) / 2);
        assert_eq!(span.after.drops_of("vm-a"), []);
        Ok(())
    };
    run().unwrap();
}

/// Where a server's first vNIC is.
fn home(bed: &Bed) -> Result<String> {
    Ok(bed.cluster.status(0)?.vnics[0]["home"]["now"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_throttled_vm_that_leaves_an_uplink_for_good_keeps_its_rate_and_loses_nothing() {
    const RATE_BPS: u64 = 20 * MBIT / 100 * 99;
    // Two servers, then the gateways.
    const GATEWAYS: [usize; 3] = [2, 3, 4];
    let run = || -> Result<()> {
        let mut bed = Bed::start("shamov", |plan| {
            (plan.up, plan.gateways) = (Some("20Mbit"), 3);
            plan.vms[0].standbys = vec![1];
        })?;
        bed.send(0, Load::Udp(60))?;
        wait_until("a guest that waits", LIMIT, || {
            let share = &bed.cluster.status(0)?.vnics[0]["share"];
            Ok((share["held"] == true).then_some(()))
        })?;
        let goes = |home: usize, standby: usize| {
            move |plan: &mut Plan| (plan.vms[0].home, plan.vms[0].standbys) = (home, vec![standby])
        };
        // One look at what left through an uplink while this happened, and what it may carry.
        let keeps =
            |bed: &mut Bed, at: usize, least: bool, change: &dyn Fn(&mut Bed) -> Result<()>| {
                let before = bed.cluster.status(GATEWAYS[at])?;
                change(bed)?;
                sleep(Duration::from_millis(1_000));
                let span = Span { before, after: bed.cluster.status(GATEWAYS[at])? };
                let bits = span.bits("vm-a");
                println!("uplink-{}: {bits} of {} bits", at + 1, span.at(RATE_BPS));
                span.must_keep(bits, RATE_BPS, 1);
                assert!(!least || bits >= span.at(RATE_BPS) / 3, "it goes on");
                Ok::<_, Error>(())
            };
        let dropped = |bed: &Bed| -> Result<Vec<_>> {
            let hosts = [0].iter().chain(&GATEWAYS);
            hosts.map(|host| Ok(bed.cluster.status(*host)?.drops_of("vm-a"))).collect()
        };
        // What came before the VM's end was there.
        let before = dropped(&bed)?;
        let none_lost = |bed: &Bed| -> Result<()> {
            assert_eq!(dropped(bed)?, before, "{}", bed.cluster.all_logs());
            Ok(())
        };

        // The gateways forget that it was ever wanted at the first; its server has not heard of that.
        keeps(&mut bed, 0, true, &|bed| bed.cluster.change(&GATEWAYS, goes(1, 2)))?;
        none_lost(&bed)?;
        keeps(&mut bed, 0, false, &|bed| bed.cluster.change(&[0, 1], |_| {}))?;
        assert_eq!(home(&bed)?, "uplink-2");
        keeps(&mut bed, 1, true, &|_| Ok(()))?;
        none_lost(&bed)?;

        // The server goes back to the first, which has not heard that it may come.
        keeps(&mut bed, 1, false, &|bed| bed.cluster.change(&[0, 1], goes(0, 2)))?;
        assert_eq!(home(&bed)?, "uplink-1");
        keeps(&mut bed, 0, true, &|_| Ok(()))?;
        keeps(&mut bed, 0, true, &|bed| bed.cluster.change(&GATEWAYS, |_| {}))?;
        none_lost(&bed)?;
        let share = &bed.cluster.status(0)?.vnics[0]["share"];
        assert_eq!(share["held"], true, "{share}");
        Ok(())
    };
    run().unwrap();
}

/// What a gateway says of a vNIC's way down.
fn down<'s>(status: &'s Status, vnic: &str) -> &'s serde_json::Value {
    let found = status.down.iter().find(|it| it["vnic"] == vnic);
    found.unwrap_or_else(|| panic!("nothing of {vnic}: {:?}", status.down))
}

#[test]
fn the_outside_reaches_vms_by_shares_a_limit_holds_and_small_flows_pass_bulk() {
    let run = || -> Result<()> {
        let mut bed = Bed::start("shad", |plan| {
            (plan.up, plan.down, plan.shares) = (None, Some("200Mbit"), vec![300, 100]);
            plan.workers = 2;
        })?;
        bed.send(0, Load::TcpDown)?;
        bed.send(1, Load::TcpDown)?;
        wait_until("both to be held back", LIMIT, || {
            let status = bed.cluster.status(GATEWAY)?;
            let rate = |vnic| down(&status, vnic)["rate_bps"].as_u64().unwrap_or(0);
            Ok((rate("vm-a") == 144 * MBIT && rate("vm-b") == 48 * MBIT).then_some(()))
        })?;
        let before = bed.cluster.status(GATEWAY)?;
        // Each has a queue that stands; what is small goes past it.
        let outside = bed.cluster.outside_address();
        for (_, netns) in &bed.ends {
            let answers = netns.ping(outside, 100)?.len();
            assert!(answers >= 95, "{answers} of 100 pings were answered");
        }
        let span = Span { before, after: bed.cluster.status(GATEWAY)? };
        let (a, b) = (span.bits_down("vm-a"), span.bits_down("vm-b"));
        println!("a {a}, b {b} of {} bits", span.at(USABLE_DOWN_BPS));
        span.must_keep(a + b, USABLE_DOWN_BPS, 2);
        assert!(a + b >= span.at(USABLE_DOWN_BPS) / 2, "most of the uplink is used");
        assert!(a >= b * 2 && a <= b * 4, "three to one, about");
        let names = ["vm-a", "vm-b"].map(|vnic| span.after.drops_of(vnic));
        let only_shaped = |drops: &Vec<(String, u64)>| drops.iter().all(|(why, _)| why == "shaped");
        assert!(names.iter().all(only_shaped), "{names:?}");

        // A limit while both receive: at once, and the other has what it leaves.
        bed.cluster.change(&[GATEWAY, 0, 1], |plan| {
            plan.vms.iter_mut().filter(|vm| vm.name == "vm-a").for_each(|vm| {
                vm.down_limit = Some("20Mbit");
            });
        })?;
        let span = bed.watch(Duration::from_secs(4))?;
        let (a, b) = (span.bits_down("vm-a"), span.bits_down("vm-b"));
        println!("a {a} of {} bits, b {b}", span.at(20 * MBIT));
        span.must_keep(a, 20 * MBIT, 1);
        span.must_keep(a + b, USABLE_DOWN_BPS, 2);
        assert!(a >= span.at(20 * MBIT) / 100 * 60, "the limit is no less than it says");
        assert!(b >= a * 4);
        // The connections are those from before the change.
        for load in &mut bed.loads {
            load.must_be_alive()?;
        }

        // Nothing comes any more: what waited has gone, and the books close.
        bed.loads.clear();
        wait_until("books that close", LIMIT, || {
            let status = bed.cluster.status(GATEWAY)?;
            let closes = |vnic: &str| {
                let row = status.account(vnic, "uplink-rx")?;
                let dropped: u64 = row.drops.values().map(|amount| amount.frames).sum();
                Some(row.input.frames == row.output.frames + dropped)
            };
            let closed = ["vm-a", "vm-b"].iter().all(|vnic| closes(vnic) == Some(true));
            Ok((closed && down(&status, "vm-a")["queued_bytes"] == 0).then_some(()))
        })?;
        Ok(())
    };
    run().unwrap();
}

/// Frames that wait for their vNIC's limit in packets.
fn waits_for_packets(share: &serde_json::Value) -> bool {
    share["packets_held"] == true && share["demand_bps"].is_u64()
}

#[test]
fn a_limit_in_packets_holds_both_ways_loses_nothing_upwards_and_changes_while_frames_wait() {
    let run = || -> Result<()> {
        let limit = |up, down| {
            move |plan: &mut Plan| {
                plan.vms.iter_mut().filter(|vm| vm.name == "vm-a").for_each(|vm| {
                    (vm.packet_limit, vm.down_packet_limit) = (Some(up), Some(down));
                });
            }
        };
        let mut bed = Bed::start("shap", |plan| {
            plan.down = Some("200Mbit");
            limit(4_000, 2_000)(plan);
        })?;
        bed.send(0, Load::Small)?;
        bed.send(1, Load::SmallDown)?;
        wait_until("a ring that waits", LIMIT, || {
            let share = &bed.cluster.status(0)?.vnics[0]["share"];
            // As much as may wait is in the queue: the rest stays in the ring.
            let full = share["queued_bytes"].as_u64() > Some(200_000);
            Ok((waits_for_packets(share) && full).then_some(()))
        })?;
        let span = bed.watch(Duration::from_secs(2))?;
        span.must_be_at(span.packets("vm-a", "uplink-tx"), 4_000);
        let free = span.packets("vm-b", "uplink-rx");
        assert!(free > span.at(4_000), "{free}: another vNIC is not limited");

        // Another limit, while frames wait for this one.
        bed.cluster.change(&[GATEWAY, 0, 1], limit(8_000, 2_000))?;
        sleep(Duration::from_millis(500));
        let span = bed.watch(Duration::from_secs(2))?;
        span.must_be_at(span.packets("vm-a", "uplink-tx"), 8_000);

        // It waited in the guest, and nothing of it was lost.
        assert_eq!(bed.cluster.status(0)?.drops_of("vm-a"), [], "at the server");
        assert_eq!(span.after.drops_of("vm-a"), [], "at the gateway");

        // From outside what comes faster is queued, and dropped by its name.
        bed.loads.clear();
        bed.send(0, Load::SmallDown)?;
        wait_until("frames from outside that wait", LIMIT, || {
            Ok(waits_for_packets(down(&bed.cluster.status(GATEWAY)?, "vm-a")).then_some(()))
        })?;
        let span = bed.watch(Duration::from_secs(2))?;
        span.must_be_at(span.packets("vm-a", "uplink-rx"), 2_000);
        let why: Vec<_> = span.after.drops_of("vm-a").into_iter().map(|(why, _)| why).collect();
        assert_eq!(why, ["shaped"]);
        Ok(())
    };
    run().unwrap();
}
