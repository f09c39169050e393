//! `shares`: how exactly bandwidth is divided on the wire, and how fast it moves.
//!
//! ```text
//!   guest a ══ backend a ─┐
//!                         ├─ fabric ─ gateway ── uplink, 1.5 Gbit/s ── tcpdump, the kernel's clock
//!   guest b ══ backend b ─┘
//! ```
//! Both guests send as fast as their rings are taken. What counts is what came out of the uplink,
//! in wire bits: each frame with preamble, FCS and gap. No peer does this, so there are goals only.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use wireonce_qemu_tests::capture::{Capture, Seen, now_us};
use wireonce_qemu_tests::cluster::{Cluster, Plan as ClusterPlan, VmPlan};
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::rates::{Bins, Tolerance};
use wireonce_qemu_tests::{Error, Result};

use super::{Plan, Suite, shares_down, wait_links};
use crate::bench::Bench;
use crate::case::{Case, Contender, Fact, Figure, Goal, Rival, Sample, Times};
use crate::cpu::processes_us;
use crate::io_error;
use crate::senders::{Pace, Senders};
use crate::stats::percentile;

/// This suite.
pub const SUITE: Suite =
    Suite { name: "shares", about: "bandwidth divided on the wire, and moved", cases };

const UPLINK: &str = "1500Mbit";
const UPLINK_BPS: f64 = 1.5e9;
/// What is leased of it.
const LEASED: f64 = 0.99;
/// Shares of the two servers.
const SHARES: [[i64; 2]; 2] = [[300, 100], [100, 300]];
const OUTSIDE_INTERFACE: &str = "out0";
/// Two servers come first.
const GATEWAY: usize = 2;
const LIMIT: Duration = Duration::from_secs(20);
/// Changes of one round.
const CHANGES: usize = 8;
/// Between two changes; what follows one is judged until the next.
const BETWEEN: Duration = Duration::from_millis(250);
/// What one change has time for, before it counts as never having come.
const FOLLOW_US: u64 = 140_000;

/// What a round does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Both send all the time.
    Steady,
    /// The operator swaps the shares, again and again.
    Moved,
    /// One of the two falls silent and wakes, again and again.
    Demand,
}

fn cases(_bench: &Bench) -> Vec<Plan> {
    let all = [
        (Work::Steady, "shares 3 to 1"),
        (Work::Moved, "shares moved by the operator"),
        (Work::Demand, "shares as demand comes and goes"),
    ];
    let up = all.into_iter().map(|(work, name)| Plan::new(name, move |bench| case(bench, work)));
    up.chain([shares_down::plan()]).collect()
}

fn case(bench: &Bench, work: Work) -> Result<Case> {
    let (figures, goals) = match work {
        Work::Steady => (
            vec![
                Figure::new("utilisation", "% of the uplink"),
                Figure::new("error over 1 s", "% of the share"),
                Figure::new("error over 10 ms, p99", "% of the share"),
            ],
            vec![Goal::AtLeast(98.0), Goal::AtMost(0.5), Goal::AtMost(5.0)],
        ),
        Work::Moved => (
            vec![
                Figure::new("on the wire, median", "ms"),
                Figure::new("on the wire, longest", "ms"),
            ],
            vec![Goal::AtMost(20.0), Goal::AtMost(20.0)],
        ),
        Work::Demand => (
            vec![Figure::new("converged, median", "ms"), Figure::new("converged, longest", "ms")],
            vec![Goal::AtMost(25.0), Goal::AtMost(25.0)],
        ),
    };
    let peer = Rival::absent("none", "no peer divides an uplink between servers", &goals);
    let capture_dir = bench.dir().to_owned();
    let bed = Bed::start(bench, work, capture_dir)?;
    Ok(Case::new("", "", bed).figures(figures).against(peer))
}

#[derive(Debug)]
struct Bed {
    // Before the daemons that it uses.
    senders: Senders,
    cluster: Cluster,
    work: Work,
    /// Which of [`SHARES`] holds.
    swapped: bool,
    dir: std::path::PathBuf,
}

impl Bed {
    fn start(bench: &Bench, work: Work, dir: std::path::PathBuf) -> Result<Self> {
        let plan = ClusterPlan {
            up: Some(UPLINK),
            shares: SHARES[0].to_vec(),
            ..ClusterPlan::new("shares", 2)
        };
        let plan = plan.vm(VmPlan::new("vm-a", 0, 11)).vm(VmPlan::new("vm-b", 1, 12));
        let mut cluster = Cluster::build(plan, &bench.binary)?;
        cluster.start()?;
        for host in 0..=GATEWAY {
            wait_links(&cluster, host)?;
        }
        let senders = Senders::start(&cluster, bench.cores().load)?;
        Ok(Self { senders, cluster, work, swapped: false, dir })
    }

    fn pids(&self) -> Vec<u32> {
        (0..=GATEWAY).filter_map(|host| self.cluster.daemon_pid(host)).collect()
    }

    fn shares(&self) -> [i64; 2] {
        SHARES[usize::from(self.swapped)]
    }

    /// What each of the two should have of the uplink while both want more, in bits a second.
    fn targets_bps(&self) -> [f64; 2] {
        targets_bps(self.shares())
    }

    /// Both send, and have what is theirs.
    fn settle(&mut self, times: Times) -> Result<()> {
        self.senders.set_all(Pace::Full);
        let wanted = self.targets_bps().map(|bps| bps * 0.95);
        wait_until("both leases", LIMIT, || {
            let status = self.cluster.status(GATEWAY)?;
            let lease = |server: &str| {
                let share = status.shares.iter().find(|share| share["server"] == server);
                share.and_then(|share| share["lease_bps"].as_f64()).unwrap_or(0.0)
            };
            let have = [lease("server-a"), lease("server-b")];
            Ok(have.iter().zip(wanted).all(|(have, wanted)| *have >= wanted).then_some(()))
        })?;
        sleep(times.warm_up);
        Ok(())
    }

    /// The operator's change: a new file for the gateway, and word that it is there. Returns when
    /// the word was given.
    fn swap(&mut self) -> Result<u64> {
        self.swapped = !self.swapped;
        let shares = self.shares().to_vec();
        self.cluster.write_plan(|plan| plan.shares = shares)?;
        let pid = self.cluster.daemon_pid(GATEWAY).and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::Unexpected("there is no gateway".to_owned()))?;
        let at_us = now_us();
        kill_process(pid, Signal::HUP)
            .map_err(|error| io_error("cannot tell the gateway")(error.into()))?;
        Ok(at_us)
    }

    fn capture(&self) -> Result<Capture> {
        Capture::start(&self.dir, self.cluster.outside(), OUTSIDE_INTERFACE, "udp")
    }

    /// What came, for each of the two.
    fn bins(&self, seen: &[Seen]) -> [Bins; 2] {
        let vms = &self.cluster.plan().vms;
        [0, 1].map(|index| {
            let mac = vms.get(index).map(VmPlan::mac_bytes).unwrap_or_default();
            Bins::of(seen.iter().filter(|frame| frame.source_mac == mac))
        })
    }

    fn steady(&mut self, times: Times) -> Result<Sample> {
        self.settle(times)?;
        let window = times.window.max(Duration::from_millis(1_200));
        let capture = self.capture()?;
        let cpu_us = processes_us(&self.pids());
        let from_us = now_us();
        sleep(window);
        let until_us = now_us();
        let cpu_us = processes_us(&self.pids()) - cpu_us;
        self.senders.set_all(Pace::Silent);
        let seen = capture.stop()?;
        let bins = self.bins(&seen);
        let whole: f64 = bins.iter().map(|bins| bins.bps(from_us, until_us)).sum();
        let errors = |window_us: u64| -> Vec<f64> {
            let each = bins.iter().zip(self.targets_bps());
            each.flat_map(|(bins, target)| bins.errors(from_us, until_us, window_us, target))
                .map(|error| error * 100.0)
                .collect()
        };
        let second = errors(1_000_000).into_iter().fold(0.0, f64::max);
        // Over 10 ms only where a vNIC has a Gbit/s: there the first one.
        let wide = usize::from(self.swapped);
        let short: Vec<f64> = bins
            .get(wide)
            .zip(self.targets_bps().get(wide))
            .map(|(bins, target)| bins.errors(from_us, until_us, 10_000, *target))
            .unwrap_or_default();
        let short = percentile(&short, 0.99).unwrap_or(1.0) * 100.0;
        let frames = seen.iter().filter(|it| (from_us..until_us).contains(&it.at_us)).count();
        Ok(Sample {
            values: vec![whole / UPLINK_BPS * 100.0, second, short],
            cpu_us_per_frame: (frames > 0).then(|| cpu_us / frames as f64),
            facts: vec![Fact::new("dropped at the gateway", self.dropped()?, "frames")],
            events: Vec::new(),
        })
    }

    /// The times, in milliseconds, that it took until what came out was as it should be, after
    /// each change of a round.
    fn changes(&mut self, times: Times) -> Result<Sample> {
        self.settle(times)?;
        let lost_before = self.dropped()?;
        let capture = self.capture()?;
        let mut orders = Vec::new();
        for number in 0..CHANGES {
            let (at_us, targets) = self.change(number)?;
            orders.push((at_us, targets));
            sleep(BETWEEN);
        }
        self.senders.set_all(Pace::Silent);
        let seen = capture.stop()?;
        let lost = self.dropped()? - lost_before;
        self.senders.must_run()?;
        let bins = self.bins(&seen);
        let mut took_ms = Vec::new();
        for (at_us, targets) in orders {
            let each = bins.iter().zip(targets).filter(|(_, target)| *target > 0.0);
            let settled = each
                .map(|(bins, target)| bins.settled(at_us, FOLLOW_US, target, Tolerance::STANDARD));
            let slowest = settled.map(|at| at.unwrap_or(FOLLOW_US)).max().unwrap_or(FOLLOW_US);
            took_ms.push(slowest as f64 / 1e3);
        }
        let median = percentile(&took_ms, 0.5).unwrap_or(f64::NAN);
        let longest = took_ms.iter().copied().fold(0.0, f64::max);
        Ok(Sample {
            values: vec![median, longest],
            cpu_us_per_frame: None,
            facts: vec![Fact::new("dropped at the gateway", lost, "frames")],
            events: Vec::new(),
        })
    }

    /// Does the next change; returns when, and what each should have from then on.
    fn change(&mut self, number: usize) -> Result<(u64, [f64; 2])> {
        if self.work == Work::Moved {
            let at_us = self.swap()?;
            return Ok((at_us, self.targets_bps()));
        }
        let wakes = number % 2 == 1;
        let at_us = now_us();
        self.senders.set(1, if wakes { Pace::Full } else { Pace::Silent });
        let alone = [UPLINK_BPS * LEASED, 0.0];
        Ok((at_us, if wakes { self.targets_bps() } else { alone }))
    }

    /// Frames that the gateway refused to the two.
    fn dropped(&self) -> Result<f64> {
        let status = self.cluster.status(GATEWAY)?;
        let vnics = &self.cluster.plan().vms;
        let rows = status.ledger.iter().filter(|row| vnics.iter().any(|vm| vm.name == row.name));
        let frames: u64 = rows.flat_map(|row| row.drops.values()).map(|it| it.frames).sum();
        Ok(frames as f64)
    }
}

impl Contender for Bed {
    fn round(&mut self, times: Times) -> Result<Sample> {
        match self.work {
            Work::Steady => self.steady(times),
            Work::Moved | Work::Demand => self.changes(times),
        }
    }
}

fn targets_bps(shares: [i64; 2]) -> [f64; 2] {
    let sum: i64 = shares.iter().sum();
    shares.map(|share| UPLINK_BPS * LEASED * share as f64 / sum as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_have_all_that_is_leased_by_their_shares() {
        let [a, b] = targets_bps([300, 100]);
        assert!((a / b - 3.0).abs() < 1e-9);
        assert!((a + b - UPLINK_BPS * LEASED).abs() < 1.0);
    }
}
