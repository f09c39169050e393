//! `bulk`: TCP (cubic) from TAP to TAP through the real daemons, one and eight flows, both ways.
//!
//! ```text
//!   ours:  iperf3 ─ TAP ══ TAP end ══ backend ── fabric ── gateway ══ TAP ─ iperf3
//!          └──────────── device core ─────────┘            └──── load core ─────┘
//!   peer:  iperf3 ─────────────── VXLAN ────── fabric ───── VXLAN ─────────── iperf3
//! ```
//! Each side has a core: iperf3, and all that works for that side. `out` is from the vNIC to the uplink.
//! See [`crate::tapend`] for what the TAP end is and is not.

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::cluster::{
    Cluster, Plan as ClusterPlan, UPLINK_INTERFACE, UplinkDriver, VmPlan,
};
use wireonce_qemu_tests::netns::{Netns, Offloads};

use super::{Plan, Suite};
use crate::bench::{Bench, pin_process};
use crate::case::{Case, Contender, Fact, Goal, Rival, Sample, Times};
use crate::cpu::{processes_us, softirq_threads_us, thread_us};
use crate::machine::Cores;
use crate::peer::vxlan::{self, Vxlan};
use crate::tapend::{TapEnd, make_tap};
use crate::tcp::{self, Load, Seen, Server};

/// This suite.
pub const SUITE: Suite =
    Suite { name: "bulk", about: "TCP from TAP to TAP, against kernel VXLAN", cases };

const VM: &str = "vm-a";
const TAP: &str = "tap0";
const NOTE: &str = "CPU is of both sides, iperf3 included, for each 64 KiB";

fn cases(_bench: &Bench) -> Vec<Plan> {
    let mut plans = Vec::new();
    for wire in [false, true] {
        for flows in [1, 8] {
            for way in [Way::Out, Way::In] {
                let suffix = if wire { "-wire" } else { "" };
                let name = format!("bulk{suffix} {flows} {} {}", flows_word(flows), way.name());
                plans.push(Plan::new(&name, move |bench| case(bench, flows, way, wire)));
            }
        }
    }
    plans
}

fn flows_word(flows: u32) -> &'static str {
    if flows == 1 { "flow" } else { "flows" }
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

fn case(bench: &Bench, flows: u32, way: Way, wire: bool) -> Result<Case> {
    let ours = Bulk { bed: Bed::start(bench, "bulk", Setup { wire, sealed: false })?, flows, way };
    let goals = [Goal::RatioAtLeast(1.0)];
    let peer = Rival::start(bench, vxlan::NAME, &goals, || Peer::start(bench, flows, way, wire));
    Ok(Case::new("", "Gb/s", ours).note(NOTE).against(peer))
}

/// How the path is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    /// Trains are cut before the wire and joined behind it.
    pub wire: bool,
    /// AES-256-GCM between the hosts.
    pub sealed: bool,
}

impl Setup {
    fn offloads(self) -> Offloads {
        if self.wire { Offloads::WIRE } else { Offloads::default() }
    }
}

/// Our path between two TAPs that the kernel's TCP drives.
#[derive(Debug)]
pub struct Bed {
    _server: Server,
    // Before its namespace and the backend.
    end: TapEnd,
    end_netns: Netns,
    cluster: Cluster,
    cores: Cores,
    backend: u32,
    gateway: u32,
}

/// The hosts of the cluster.
const BACKEND: usize = 0;
const GATEWAY: usize = 1;

impl Bed {
    /// Starts backend, gateway, TAP end and an iperf3 server behind the gateway.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(bench: &Bench, tag: &str, setup: Setup) -> Result<Self> {
        let vm = VmPlan::new(VM, 0, 11);
        let plan = ClusterPlan {
            driver: UplinkDriver::Tap,
            encrypted: setup.sealed,
            fabric_offloads: setup.offloads(),
            direct: true,
            ..ClusterPlan::new(tag, 1)
        };
        let mtu = plan.network_mtu;
        let mut cluster = Cluster::build(plan.vm(vm.clone()), &bench.binary)?;
        let gateway = &cluster.host(GATEWAY)?.netns;
        // The uplink's TAP is an end itself here, not the port of a bridge.
        gateway.ip(&format!("link set {UPLINK_INTERFACE} nomaster txqueuelen 4096"))?;
        gateway.add_address(UPLINK_INTERFACE, cluster.outside_address(), 24)?;
        cluster.start()?;

        let cores = bench.cores();
        let pids = [BACKEND, GATEWAY].map(|host| cluster.daemon_pid(host).unwrap_or_default());
        let [backend, gateway] = pids;
        pin_process(backend, cores.device)?;
        pin_process(gateway, cores.load)?;
        let end_netns = Netns::new(tag, "end")?;
        make_tap(&end_netns, TAP, &vm.mac(), vm.address(), mtu)?;
        let end = TapEnd::start(&end_netns, TAP, &cluster.vnic_socket(VM), cores.device)?;
        let server = Server::start(&cluster.host(GATEWAY)?.netns, cores.load, cluster.dir())?;
        super::wait_links(&cluster, BACKEND)?;
        Ok(Self { _server: server, end, end_netns, cluster, cores, backend, gateway })
    }

    /// Runs a test from the vNIC's end. Returns it with the CPU time of each part.
    ///
    /// # Errors
    /// As [`tcp::send`]; the message has the daemons' last lines.
    pub fn run(&mut self, flows: u32, way: Way, times: Times) -> Result<(Seen, Costs)> {
        let to = self.cluster.outside_address();
        let load = Load { to, flows, reverse: way == Way::In };
        let before = self.costs();
        let seen = tcp::send(&self.end_netns, self.cores.device, load, times);
        self.end.must_run()?;
        let seen = seen.map_err(|error| {
            let logs = self.cluster.all_logs();
            wireonce_qemu_tests::Error::Unexpected(format!("{error}\n{logs}"))
        })?;
        Ok((seen, self.costs().since(before)))
    }

    fn costs(&self) -> Costs {
        Costs {
            backend_us: processes_us(&[self.backend]),
            gateway_us: processes_us(&[self.gateway]),
            end_us: thread_us(self.end.thread_id()),
            softirq_us: softirq_threads_us(),
        }
    }
}

/// CPU time of the parts of a path, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Costs {
    /// The backend.
    pub backend_us: f64,
    /// The gateway.
    pub gateway_us: f64,
    /// The TAP end, which stands for a guest's driver.
    pub end_us: f64,
    /// The kernel's softirq threads.
    pub softirq_us: f64,
}

impl Costs {
    fn since(self, before: Self) -> Self {
        Self {
            backend_us: self.backend_us - before.backend_us,
            gateway_us: self.gateway_us - before.gateway_us,
            end_us: self.end_us - before.end_us,
            softirq_us: self.softirq_us - before.softirq_us,
        }
    }

    fn sum_us(self) -> f64 {
        self.backend_us + self.gateway_us + self.end_us + self.softirq_us
    }
}

#[derive(Debug)]
struct Bulk {
    bed: Bed,
    flows: u32,
    way: Way,
}

impl Contender for Bulk {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let (seen, costs) = self.bed.run(self.flows, self.way, times)?;
        Ok(Sample {
            values: vec![seen.bps / 1e9],
            cpu_us_per_frame: seen.per_unit(costs.sum_us() + seen.iperf_us),
            facts: facts(&seen, costs),
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
        each("TAP end", costs.end_us),
        each("iperf3", seen.iperf_us),
        cores("backend per 10 Gb/s", costs.backend_us),
        cores("gateway per 10 Gb/s", costs.gateway_us),
        Some(Fact::new("sent again", seen.retransmits, "segments")),
    ];
    facts.into_iter().flatten().collect()
}

/// Kernel VXLAN with the same ends.
#[derive(Debug)]
struct Peer {
    _server: Server,
    vxlan: Vxlan,
    cores: Cores,
    flows: u32,
    way: Way,
}

impl Peer {
    fn start(bench: &Bench, flows: u32, way: Way, wire: bool) -> Result<Self> {
        let setup = Setup { wire, sealed: false };
        let vxlan = Vxlan::start("bulkvx", &setup.offloads())?;
        if wire {
            vxlan.cut_before_wire()?;
        }
        let cores = bench.cores();
        let server = Server::start(&vxlan.wire.far, cores.load, bench.dir())?;
        Ok(Self { _server: server, vxlan, cores, flows, way })
    }
}

impl Contender for Peer {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let load =
            Load { to: Vxlan::far_address(), flows: self.flows, reverse: self.way == Way::In };
        let before_us = softirq_threads_us();
        let seen = tcp::send(&self.vxlan.wire.near, self.cores.device, load, times)?;
        let softirq_us = softirq_threads_us() - before_us;
        Ok(Sample {
            values: vec![seen.bps / 1e9],
            cpu_us_per_frame: seen.per_unit(softirq_us + seen.iperf_us),
            facts: vec![Fact::new("sent again", seen.retransmits, "segments")],
        })
    }
}
