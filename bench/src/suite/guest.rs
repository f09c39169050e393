//! `guest`: real Linux VMs under QEMU, through backend, fabric, gateway and uplink, against QEMU's
//! own TAP with the same guests and without a fabric.
//!
//! ```text
//!   ours:  guest ══ QEMU ══ backend ── fabric ── gateway ── veth ── [outside: iperf3]
//!   peer:  guest ══ QEMU ── tap ── bridge ───────────────── veth ── [outside: iperf3]
//! ```
//! Nothing is pinned: QEMU has threads of its own, and the scheduler's choice is the same for both.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use wireonce_qemu_tests::cluster::{Cluster, Plan as ClusterPlan, Status, VmPlan};
use wireonce_qemu_tests::guest::{Accel, Guest, Image};
use wireonce_qemu_tests::iperf::{self, Place};
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::{Error, Result};

use super::{Plan, Suite};
use crate::bench::{Bench, GuestPlan};
use crate::case::{Case, Contender, Fact, Figure, Goal, Rival, Sample, Times};
use crate::cpu::processes_us;
use crate::peer::qemu_tap::{self, Around, QemuTap};
use crate::round_trip::Asker;
use crate::tcp::UNIT_BYTES;

/// This suite.
pub const SUITE: Suite =
    Suite { name: "guest", about: "real VMs through the whole path, against QEMU's tap", cases };

/// iperf3's own port; each VM has the next one.
const PORT: u16 = 5201;
/// Ethernet, IPv4 and UDP headers and this are a frame of 64 bytes.
const SMALL_LEN: usize = 22;
const GRACE: Duration = Duration::from_secs(20);

fn cases(bench: &Bench) -> Vec<Plan> {
    let GuestPlan { vms, pairs, .. } = bench.guests;
    let name = format!("guest {vms} VM{}, {pairs} pair{}", plural(vms), plural(pairs));
    vec![Plan::new(&name, case)]
}

fn plural(count: impl Into<u32>) -> &'static str {
    if count.into() == 1 { "" } else { "s" }
}

fn case(bench: &Bench) -> Result<Case> {
    let image = Image::ensure()?;
    let accel = Accel::detect(&image)?;
    let plan = bench.guests;
    let vms = plan.vms();
    let ours = Ours::start(bench, &vms, &image, accel)?;
    let goals = [Goal::RatioAtLeast(1.0), Goal::RatioAtLeast(1.0)];
    let peer =
        Rival::start(bench, qemu_tap::NAME, &goals, || Peer::start(bench, &vms, &image, accel));
    let why = match accel {
        Accel::Kvm => "guests run under KVM",
        Accel::Tcg => "guests run under TCG: no stock guest boots under KVM here",
    };
    let figures = [
        ("TCP out", "Gb/s"),
        ("TCP in", "Gb/s"),
        ("64 B out", "kpps"),
        ("64 B in", "kpps"),
        ("p50", "us"),
        ("p99", "us"),
        ("p99.9", "us"),
    ];
    let figures = figures.map(|(name, unit)| Figure::new(name, unit)).to_vec();
    let case = Case::new("", "Gb/s", ours).figures(figures).against(peer);
    Ok(case.note(&format!(
        "{why}; nothing is encrypted; CPU is of backend and gateway for each 64 KiB of TCP out"
    )))
}

impl GuestPlan {
    fn vms(self) -> Vec<VmPlan> {
        let plan = |number: u8| {
            let mut vm = VmPlan::new(&format!("vm-{number}"), 0, 10 + number);
            vm.queue_pairs = self.pairs;
            vm
        };
        (1..=self.vms).map(plan).collect()
    }

    fn seconds(self, times: Times) -> u64 {
        self.seconds.map_or_else(|| crate::tcp::seconds(times), u64::from)
    }
}

/// The network that guests talk to.
#[derive(Debug, Clone, Copy)]
struct Outside<'a> {
    netns: &'a Netns,
    address: IpAddr,
}

/// Which end sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

/// Guests under load.
#[derive(Debug)]
struct Guests {
    all: Vec<Guest>,
    vms: Vec<VmPlan>,
    plan: GuestPlan,
}

impl Guests {
    /// TCP of all guests at once, in bits per second.
    fn tcp(&mut self, way: Way, outside: Outside<'_>, times: Times) -> Result<f64> {
        let options = format!("-C cubic -P {}", self.plan.pairs);
        self.load(way, outside, times, &options, |json| {
            number(json, "/end/sum_received/bits_per_second")
        })
    }

    /// Frames of 64 bytes of all guests at once that arrived, per second.
    fn small(&mut self, way: Way, outside: Outside<'_>, times: Times) -> Result<f64> {
        let options = format!("-u -b 0 -l {SMALL_LEN} -P {}", self.plan.pairs);
        self.load(way, outside, times, &options, |json| {
            let sent = number(json, "/end/sum/packets")?;
            let lost = number(json, "/end/sum/lost_packets")?;
            Some((sent - lost) / number(json, "/end/sum/seconds")?)
        })
    }

    /// One iperf3 for each guest, side by side; the sum of what `read` finds in their reports.
    fn load(
        &mut self,
        way: Way,
        outside: Outside<'_>,
        times: Times,
        options: &str,
        read: impl Fn(&Value) -> Option<f64> + Sync,
    ) -> Result<f64> {
        let seconds = self.plan.seconds(times);
        let test = |guest: &mut Guest, port: u16, vm: &VmPlan| {
            let mut netns = outside.netns;
            let to = match way {
                Way::Out => outside.address,
                Way::In => vm.address(),
            };
            let line = format!("iperf3 -J -c {to} -p {port} -t {seconds} {options}");
            let limit = Duration::from_secs(seconds) + GRACE;
            let text = match way {
                Way::Out => {
                    iperf::serve(&mut netns, port)?;
                    guest.shell(&line, limit)?
                }
                Way::In => {
                    iperf::serve(guest, port)?;
                    netns.shell(&line, limit)?
                }
            };
            let json: Value = serde_json::from_str(&text)
                .map_err(|error| Error::Unexpected(format!("iperf3: {error}: {text}")))?;
            read(&json).ok_or_else(|| Error::Unexpected(format!("iperf3 said {text}")))
        };
        let test = &test;
        thread::scope(|scope| {
            let each = self.all.iter_mut().zip(PORT..).zip(&self.vms);
            let running: Vec<_> = each
                .map(|((guest, port), vm)| scope.spawn(move || test(guest, port, vm)))
                .collect();
            let gone = |_| Err(Error::Unexpected("a thread panicked".to_owned()));
            running.into_iter().map(|test| test.join().unwrap_or_else(gone)).sum()
        })
    }

    /// Round trips from the outside to the first guest's kernel, nothing else going on.
    fn latency(&self, outside: Outside<'_>, times: Times) -> Result<[f64; 3]> {
        let Some(IpAddr::V4(to)) = self.vms.first().map(VmPlan::address) else {
            return Err(Error::Unexpected("no guest with an IPv4 address".to_owned()));
        };
        let asker = Asker { netns: outside.netns, cpu: None, gap: Duration::ZERO };
        asker.icmp(to, times)?.quantiles()
    }

    /// What comes behind TCP in the list of figures.
    fn rest(&mut self, outside: Outside<'_>, times: Times) -> Result<Vec<f64>> {
        let small = [Way::Out, Way::In].map(|way| self.small(way, outside, times));
        let [out_pps, in_pps] = small;
        let mut values = vec![out_pps? / 1e3, in_pps? / 1e3];
        values.extend(self.latency(outside, times)?);
        Ok(values)
    }
}

fn number(json: &Value, path: &str) -> Option<f64> {
    json.pointer(path).and_then(Value::as_f64)
}

/// Guests on our path.
#[derive(Debug)]
struct Ours {
    // VMs end before what carries them.
    guests: Guests,
    cluster: Cluster,
}

const BACKEND: usize = 0;
const GATEWAY: usize = 1;

impl Ours {
    fn start(bench: &Bench, vms: &[VmPlan], image: &Image, accel: Accel) -> Result<Self> {
        let plan = bench.guests;
        let mut cluster =
            ClusterPlan { direct: true, encrypted: false, ..ClusterPlan::new("guest", 1) };
        cluster.vms = vms.to_vec();
        let mut cluster = Cluster::build(cluster, &bench.binary)?;
        cluster.start()?;
        let start = |vm: &VmPlan| {
            let described = cluster.vm(&vm.name, image, accel)?.cpus(plan.pairs);
            described.start_in(cluster.server_of(&vm.name)?)
        };
        let booting: Result<Vec<_>> = vms.iter().map(start).collect();
        let all: Result<Vec<_>> = booting?.into_iter().map(|guest| guest.ready()).collect();
        let mut all = all?;
        for guest in &mut all {
            if plan.pairs > 1 {
                guest.run(&format!("ethtool -L eth0 combined {}", plan.pairs), GRACE)?;
            }
            cluster.wait_answer(guest, cluster.outside_address())?;
        }
        let guests = Guests { all, vms: vms.to_vec(), plan };
        Ok(Self { guests, cluster })
    }

    fn daemons_us(&self) -> f64 {
        let pids = [BACKEND, GATEWAY].map(|host| self.cluster.daemon_pid(host).unwrap_or_default());
        processes_us(&pids)
    }
}

impl Contender for Ours {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let before = self.cluster.status(BACKEND)?;
        let before_us = self.daemons_us();
        let outside =
            Outside { netns: self.cluster.outside(), address: self.cluster.outside_address() };
        let out_bps = self.guests.tcp(Way::Out, outside, times)?;
        let out_us = self.daemons_us() - before_us;
        let between = self.cluster.status(BACKEND)?;
        let outside =
            Outside { netns: self.cluster.outside(), address: self.cluster.outside_address() };
        let in_bps = self.guests.tcp(Way::In, outside, times)?;
        let after = self.cluster.status(BACKEND)?;

        let mut values = vec![out_bps / 1e9, in_bps / 1e9];
        values.extend(self.guests.rest(outside, times)?);
        let mut facts = signals("out", &before, &between);
        facts.extend(signals("in", &between, &after));
        let units = out_bps / 8.0 * self.guests.plan.seconds(times) as f64 / UNIT_BYTES;
        let cpu_us_per_frame = (units > 0.0).then(|| out_us / units);
        Ok(Sample { values, cpu_us_per_frame, facts, events: Vec::new() })
    }
}

/// Kicks and calls for each frame of all vNICs between two looks.
fn signals(way: &str, before: &Status, after: &Status) -> Vec<Fact> {
    let frames = |status: &Status, stage: &str| -> u64 {
        let rows = status.ledger.iter().filter(|row| row.stage == stage);
        rows.map(|row| row.input.frames).sum()
    };
    let frames = |stage| frames(after, stage).saturating_sub(frames(before, stage));
    let frames = (frames("guest-tx") + frames("guest-rx")) as f64;
    let fact = |name: &str, counter: &str| {
        let count = |status: &Status| status.counters.get(counter).copied();
        let signals = count(after)?.saturating_sub(count(before)?);
        let name = format!("{name} per frame of TCP {way}");
        (frames > 0.0).then(|| Fact::new(&name, signals as f64 / frames, ""))
    };
    [fact("kicks", "guest_kicks"), fact("calls", "guest_calls")].into_iter().flatten().collect()
}

/// The same guests on QEMU's own TAP.
#[derive(Debug)]
struct Peer {
    guests: Guests,
    // Behind the guests: they end first.
    bed: Around,
}

impl Peer {
    fn start(bench: &Bench, vms: &[VmPlan], image: &Image, accel: Accel) -> Result<Self> {
        let plan = bench.guests;
        let QemuTap { guests, around } = QemuTap::start(vms, plan.pairs, image, accel)?;
        let guests = Guests { all: guests, vms: vms.to_vec(), plan };
        Ok(Self { guests, bed: around })
    }
}

impl Contender for Peer {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let outside = Outside { netns: &self.bed.outside, address: Around::outside_address() };
        let out_bps = self.guests.tcp(Way::Out, outside, times)?;
        let in_bps = self.guests.tcp(Way::In, outside, times)?;
        let mut values = vec![out_bps / 1e9, in_bps / 1e9];
        values.extend(self.guests.rest(outside, times)?);
        Ok(Sample { values, cpu_us_per_frame: None, facts: Vec::new(), events: Vec::new() })
    }
}
