//! A server that is held back beside one that has more than it uses: both teams see it, one command
//! moves the difference, and the same TCP connections go on with it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use wireonce_qemu_tests::capture::{Capture, Seen, now_us};
use wireonce_qemu_tests::cluster::Cluster;
use wireonce_qemu_tests::guest::image::target_dir;
use wireonce_qemu_tests::plot::Chart;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::rates::{Bins, Tolerance};
use wireonce_qemu_tests::{Error, Result};

use super::flow::{Flow, Load};
use super::{OUTSIDE_INTERFACE, POOL, Story, asked, home_of, typed, wait_home};
use crate::result::DemoResult;

/// Shaping, not this machine, must be what holds the VMs back.
const UPLINK: &str = "400Mbit";
const BUDGET: &str = "600Mbit";
const OF_A: &str = "100Mbit";
const OF_B: &str = "500Mbit";
/// What vm-b sends, in megabits a second.
const B_SENDS: u32 = 40;
const PORT_A: u16 = 5301;
const PORT_B: u16 = 5302;
/// Two reports of each host, a second apart, that know nothing of what was before.
const SETTLE: Duration = Duration::from_millis(2_500);
const ADVICE_LIMIT: Duration = Duration::from_secs(30);
/// What is drawn before the command, and after it.
const BEFORE: Duration = Duration::from_millis(1_500);
const AFTER: Duration = Duration::from_millis(3_000);
/// What of it is measured.
const MEASURED_US: u64 = 1_000_000;
const COLUMN_US: u64 = 75_000;
/// Emulated guests send less evenly than real ones, and segments of 64 KB are few in a window.
const TOLERANCE: Tolerance = Tolerance { off: 0.20, window_off: 0.35, window_us: 10_000 };
const LOOK_AT: &str = "`wireonce top --once` and `wireonce explain vm-a` (with --keep), \
                       docs/evidence.md";

/// What the outside's port saw around the command.
struct Watched {
    seen: Vec<Seen>,
    from_us: u64,
    /// When the command was typed, and when it returned.
    typed_us: u64,
    returned_us: u64,
    until_us: u64,
    kept: bool,
}

impl Story<'_> {
    /// Capacity, budget and grants; starvation; the advice; the cure.
    pub(super) fn starved(&mut self, seen: &mut DemoResult) -> Result<()> {
        let (report, svg) = (self.report, self.chart_path());
        Self::step(report, "both teams say what is whose", LOOK_AT, || {
            divide(&self.cluster)?;
            go_home(&self.cluster)?;
            let shown =
                format!("2 uplinks of {UPLINK}, budget {BUDGET}; server-a {OF_A}, server-b {OF_B}");
            Ok(((), shown))
        })?;
        let (advice, flows) = Self::step(report, "vm-a starves, vm-b does not", LOOK_AT, || {
            let Self { vm_a, vm_b, cluster, .. } = self;
            let a = Flow::start(cluster, vm_a, PORT_A, Load::Tcp)?;
            let b = Flow::start(cluster, vm_b, PORT_B, Load::Paced(B_SENDS))?;
            sleep(SETTLE);
            let advice = wait_advice(cluster)?;
            let shown = format!("TCP of each to the outside; vm-b asks for {B_SENDS} Mb/s");
            Ok(((advice, [a, b]), shown))
        })?;
        report.note(&typed(&["advise"]));
        report.note(&advice.evidence);
        report.note(&format!("    {}", advice.command));

        let chart = Self::step(report, "the advised command", LOOK_AT, || {
            let watched = self.watch(&advice, flows)?;
            let told = Told::of(&watched, self.bins(&watched.seen))?;
            seen.starved_before_mbps = Some(told.before_mbps);
            seen.starved_after_mbps = Some(told.after_mbps);
            seen.realloc_ms = Some(told.realloc_ms);
            if !watched.kept {
                return Err(Error::Unexpected("a TCP connection did not survive".to_owned()));
            }
            told.chart.write_svg(&svg)?;
            let shown = told.shown();
            Ok((told.chart, shown))
        })?;
        report.note(&chart.blocks());
        report.note(&format!("drawn in {}", svg.display()));
        Ok(())
    }

    fn chart_path(&self) -> PathBuf {
        self.options.plot.clone().unwrap_or_else(|| target_dir().join("demo.svg"))
    }

    /// Types the command while both send, and watches the outside's port before and after it.
    fn watch(&mut self, advice: &Advice, flows: [Flow; 2]) -> Result<Watched> {
        let Self { vm_a, vm_b, cluster, .. } = self;
        let filter = format!("tcp and (dst port {PORT_A} or dst port {PORT_B})");
        let [a, b] = flows;
        let capture = Capture::start(cluster.dir(), cluster.outside(), OUTSIDE_INTERFACE, &filter)?;
        let from_us = now_us();
        let before = [a.connections(vm_a)?, b.connections(vm_b)?];
        sleep(BEFORE);
        let words: Vec<&str> = advice.words().collect();
        let words = [&words[..], &["--as", "virtualisation", "--reason", "vm-a starves"]].concat();
        let typed_us = now_us();
        cluster.verb(&words)?;
        let returned_us = now_us();
        sleep(AFTER);
        let until_us = now_us();
        let after = [a.connections(vm_a)?, b.connections(vm_b)?];
        a.stop(vm_a)?;
        b.stop(vm_b)?;
        let seen = capture.stop()?;
        let kept = before == after && before.iter().all(|ports: &BTreeSet<_>| !ports.is_empty());
        Ok(Watched { seen, from_us, typed_us, returned_us, until_us, kept })
    }

    /// What came from each VM.
    fn bins(&self, seen: &[Seen]) -> [Bins; 2] {
        let vms = &self.cluster.plan().vms;
        [0, 1].map(|index| {
            let mac = vms.get(index).map(|vm| vm.mac_bytes()).unwrap_or_default();
            Bins::of(seen.iter().filter(|frame| frame.source_mac == mac))
        })
    }
}

/// The network team says what there is, the virtualisation team divides it.
fn divide(cluster: &Cluster) -> Result<()> {
    let (up, down) = (format!("up={UPLINK}"), format!("down={UPLINK}"));
    for uplink in ["uplink-1", "uplink-2"] {
        cluster.verb(&["uplink", "set", uplink, &up, &down, "--as", "network"])?;
    }
    let budget = format!("up={BUDGET}");
    cluster.verb(&["budget", "set", POOL, &budget, "--as", "network"])?;
    for (server, rate) in [("server-a", OF_A), ("server-b", OF_B)] {
        let name = format!("{POOL}/{server}");
        let keys = [format!("up.reservation={rate}"), format!("up.limit={rate}")];
        let [reservation, limit] = &keys;
        let words = ["grant", "set", &name, reservation, limit, "--as", "virtualisation"];
        cluster.verb(&words)?;
    }
    Ok(())
}

/// A stall of this machine may have sent a vNIC to its standby; SIGHUP brings it back.
fn go_home(cluster: &Cluster) -> Result<()> {
    for (server, (vnic, home)) in [("vm-a", "uplink-1"), ("vm-b", "uplink-2")].iter().enumerate() {
        if home_of(&cluster.status(server)?, vnic).as_deref() != Some(home) {
            cluster.reload(server)?;
            wait_home(cluster, server, vnic, |now| now == *home)?;
        }
    }
    Ok(())
}

/// What `wireonce advise` says.
#[derive(Debug, Clone)]
struct Advice {
    evidence: String,
    command: String,
}

impl Advice {
    /// The command's words behind the program's name.
    fn words(&self) -> impl Iterator<Item = &str> {
        self.command.split_whitespace().skip(1)
    }
}

/// Waits until there is an advice to move bandwidth to server-a.
fn wait_advice(cluster: &Cluster) -> Result<Advice> {
    wait_until("an advice to move bandwidth to server-a", ADVICE_LIMIT, || {
        sleep(Duration::from_millis(200));
        let lines = asked(cluster, &["advise"])?;
        let mut lines = lines.as_array().into_iter().flatten().filter_map(|line| {
            let text = |key: &str| line.get(key).and_then(Value::as_str).map(str::to_owned);
            Some(Advice { evidence: text("evidence")?, command: text("command")? })
        });
        let is_it = |it: &Advice| {
            it.command.starts_with("wireonce grant move") && it.command.contains("--to server-a")
        };
        Ok(lines.find(is_it))
    })
    .map_err(|error| {
        let said = cluster.verb(&["advise"]).unwrap_or_default();
        let top = cluster.verb(&["top", "--once"]).unwrap_or_default();
        Error::Unexpected(format!("{error}; it says:\n{said}{top}"))
    })
}

/// The figures of the cure.
struct Told {
    before_mbps: f64,
    after_mbps: f64,
    other_mbps: [f64; 2],
    realloc_ms: f64,
    command_ms: f64,
    chart: Chart,
}

impl Told {
    fn of(watched: &Watched, [a, b]: [Bins; 2]) -> Result<Self> {
        let &Watched { from_us, typed_us, returned_us, until_us, .. } = watched;
        let ends = [typed_us, until_us];
        let mean = |bins: &Bins| ends.map(|end| bins.bps(end - MEASURED_US, end) / 1e6);
        let ([before_mbps, after_mbps], other_mbps) = (mean(&a), mean(&b));
        if after_mbps < before_mbps * 2.0 {
            let what = format!("vm-a sends {before_mbps:.0} Mb/s, then {after_mbps:.0} Mb/s");
            return Err(Error::Unexpected(format!("the command cured nothing: {what}")));
        }
        let limit_us = until_us - MEASURED_US - typed_us;
        let realloc_us = a.settled(typed_us, limit_us, after_mbps * 1e6, TOLERANCE);
        let realloc_us = realloc_us
            .ok_or_else(|| Error::Unexpected("the new rate did not become steady".to_owned()))?;
        // Within the first window the rate may still have risen: at its end it had.
        let realloc_us = realloc_us + TOLERANCE.window_us;
        let chart = Chart::new("Rates at the outside's port", from_us, until_us, COLUMN_US)
            .line("vm-a", &a)
            .line("vm-b", &b)
            .mark(typed_us, "grant move");
        let command_ms = (returned_us - typed_us) as f64 / 1e3;
        let realloc_ms = realloc_us as f64 / 1e3;
        Ok(Self { before_mbps, after_mbps, other_mbps, realloc_ms, command_ms, chart })
    }

    fn shown(&self) -> String {
        let Self { before_mbps, after_mbps, other_mbps, realloc_ms, command_ms, .. } = self;
        let [before, after] = other_mbps;
        format!(
            "vm-a {before_mbps:.0} -> {after_mbps:.0} Mb/s, vm-b {before:.0} -> {after:.0}, same TCP \
             connections; on the wire {realloc_ms:.0} ms after it was typed (it took {command_ms:.0} ms)"
        )
    }
}
