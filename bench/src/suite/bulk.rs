//! `bulk`: TCP (cubic) from TAP to TAP through the real daemons, one and eight flows, both ways.
//!
//! ```text
//!   ours:  iperf3 ─ TAP ══ TAP end ══ backend ── fabric ── gateway ══ TAP ─ iperf3
//!   peer:  iperf3 ─────────────── VXLAN ────── fabric ───── VXLAN ─────────── iperf3
//! ```
//! `out` is from the vNIC to the uplink. See [`crate::tapend`] for what the TAP
//! end is and is not.

use std::net::IpAddr;

use wireonce_qemu_tests::Result;

use super::{Plan, Suite};
use crate::bench::Bench;
use crate::case::{Case, Contender, Fact, Goal, Rival, Sample, Times};
use crate::cpu::softirq_threads_us;
use crate::machine::Sides;
use crate::peer::vxlan::{self, Vxlan};
use crate::tap_bed::{Costs, Setup, TapBed};
use crate::tcp::{self, Load, Seen, Server};

/// This suite.
pub const SUITE: Suite =
    Suite { name: "bulk", about: "TCP from TAP to TAP, against kernel VXLAN", cases };

/// What stands beside every figure of this kind.
pub(super) const NOTE: &str = "CPU is of both sides, iperf3 included, for each 64 KiB";

fn cases(bench: &Bench) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut add = |suffix: &str, load: Flows, wire: bool| {
        let Flows { count, way, sides } = load;
        let word = if count == 1 { "flow" } else { "flows" };
        let pinned = if sides == Sides::ANYWHERE { "" } else { super::PINNED };
        let name = format!("bulk{suffix} {count} {word} {}{pinned}", way.name());
        plans.push(Plan::new(&name, move |bench| case(bench, load, wire)));
    };
    let sides = Sides::ANYWHERE;
    for (suffix, wire) in [("", false), ("-wire", true)] {
        for count in [1, 8] {
            for way in [Way::Out, Way::In] {
                add(suffix, Flows { count, way, sides }, wire);
            }
        }
    }
    for count in [1, 8] {
        add("", Flows { count, way: Way::Out, sides: Sides::apart(bench.cores()) }, false);
    }
    plans
}

/// A load of TCP connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flows {
    /// Side by side.
    pub(super) count: u32,
    /// Which way the bytes go.
    pub(super) way: Way,
    /// Where the sides run.
    pub(super) sides: Sides,
}

impl Flows {
    /// One, from the vNIC, nothing pinned.
    pub(super) const ONE_OUT: Self = Self { count: 1, way: Way::Out, sides: Sides::ANYWHERE };

    fn to(self, to: IpAddr) -> Load {
        Load { to, flows: self.count, reverse: self.way == Way::In }
    }
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the vNIC to the uplink.
    Out,
    /// From the uplink to the vNIC.
    In,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

fn case(bench: &Bench, flows: Flows, wire: bool) -> Result<Case> {
    let setup = Setup { wire, ..Setup::default() };
    let ours = Bulk::start(bench, "bulk", setup, flows)?;
    let peer = Rival::start(bench, vxlan::NAME, &[Goal::RatioAtLeast(1.0)], || {
        let vxlan = Vxlan::start("bulkvx", &setup.offloads())?;
        if wire {
            vxlan.cut_before_wire()?;
        }
        Peer::start(bench, vxlan, flows)
    });
    Ok(Case::new("", "Gb/s", ours).note(NOTE).against(peer))
}

/// What sealing costs in bulk: ours against ours.
///
/// # Errors
/// Ours does not start.
pub(super) fn sealed(bench: &Bench) -> Result<Case> {
    let start = |tag: &str, sealed: bool| {
        let setup = Setup { sealed, ..Setup::default() };
        Bulk::start(bench, tag, setup, Flows::ONE_OUT)
    };
    let ours = start("bulkseal", true)?;
    let rival = Rival::start(bench, "ours, encryption off", &[Goal::RatioAtLeast(0.6)], || {
        start("bulkopen", false)
    });
    Ok(Case::new("", "Gb/s", ours).note(NOTE).against(rival))
}

/// Our path under TCP.
#[derive(Debug)]
pub(super) struct Bulk {
    _server: Server,
    /// The path.
    pub(super) bed: TapBed,
    flows: Flows,
}

impl Bulk {
    pub(super) fn start(bench: &Bench, tag: &str, setup: Setup, flows: Flows) -> Result<Self> {
        let bed = TapBed::start(bench, tag, setup, flows.sides)?;
        let server = Server::start(bed.far()?, flows.sides.far, bench.dir())?;
        Ok(Self { _server: server, bed, flows })
    }
}

impl Contender for Bulk {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let Self { bed, flows, .. } = self;
        let load = flows.to(bed.far_address());
        let drops = bed.drops()?;
        let before = bed.costs();
        let seen = bed.explain(tcp::send(bed.end(0), flows.sides.near, load, times))?;
        let costs = bed.costs().since(before);
        let mut facts = facts(&seen, costs);
        facts.extend(bed.drops()?.since(&drops));
        Ok(Sample {
            values: vec![seen.bps / 1e9],
            cpu_us_per_frame: seen.per_unit(costs.sum_us() + seen.iperf_us),
            facts,
            events: Vec::new(),
        })
    }
}

/// What the parts cost.
fn facts(seen: &Seen, costs: Costs) -> Vec<Fact> {
    let each = |name: &str, us: f64| Some(Fact::new(name, seen.per_unit(us)?, "us per 64 KiB"));
    let cores = |name: &str, us: f64| Some(Fact::new(name, seen.cores_per_10_gbps(us)?, "cores"));
    let facts = [
        each("backend", costs.backend_us),
        each("gateway", costs.gateway_us),
        each("TAP end", costs.ends_us),
        each("iperf3", seen.iperf_us),
        cores("backend per 10 Gb/s", costs.backend_us),
        cores("gateway per 10 Gb/s", costs.gateway_us),
        Some(Fact::new("sent again", seen.retransmits, "segments")),
    ];
    facts.into_iter().flatten().collect()
}

/// Kernel VXLAN with the same ends.
#[derive(Debug)]
pub(super) struct Peer {
    _server: Server,
    /// The hosts.
    pub(super) vxlan: Vxlan,
    flows: Flows,
}

impl Peer {
    pub(super) fn start(bench: &Bench, vxlan: Vxlan, flows: Flows) -> Result<Self> {
        let server = Server::start(vxlan.far(), flows.sides.far, bench.dir())?;
        Ok(Self { _server: server, vxlan, flows })
    }
}

impl Contender for Peer {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let load = self.flows.to(Vxlan::far_address());
        let before_us = softirq_threads_us();
        let seen = tcp::send(self.vxlan.near(), self.flows.sides.near, load, times)?;
        let softirq_us = softirq_threads_us() - before_us;
        Ok(Sample {
            values: vec![seen.bps / 1e9],
            cpu_us_per_frame: seen.per_unit(softirq_us + seen.iperf_us),
            facts: vec![Fact::new("sent again", seen.retransmits, "segments")],
            events: Vec::new(),
        })
    }
}
