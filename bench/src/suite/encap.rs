//! `encap`: from a guest's ring to datagrams on the fabric's wire.
//!
//! ```text
//!   ours:  testpmd ══ backend A ──veth── backend B, where the frames' vNIC has no guest
//!   peer:  testpmd ══ OVS-DPDK, VXLAN ──AF_XDP, veth── UDP socket that is read
//!   peer:  testpmd ══ vhost PMD, tap, bridge, VXLAN ──veth── UDP socket that is read
//! ```
//! The device has one processor; testpmd shares the other one with the receiver, which for ours
//! unpacks every frame (and opens every datagram, when sealed) and for the peers does not. The
//! rate is that of frames on the wire; what the receiver got is told beside it.

use wireonce_qemu_tests::cluster::{Cluster, Plan as ClusterPlan, Status, VmPlan};
use wireonce_qemu_tests::netns::{FABRIC_INTERFACE, Offloads};
use wireonce_qemu_tests::testpmd::Testpmd;
use wireonce_qemu_tests::{Error, Result};

use super::{Plan, Suite, ledger};
use crate::bench::{Bench, pin_process};
use crate::case::{Case, Contender, Fact, Goal, Rival, Sample, Times};
use crate::cpu::processes_us;
use crate::load::{Load, Place, txonly};
use crate::peer::kernel_vxlan::{self, KernelVxlan};
use crate::peer::ovs::Ovs;
use crate::sink::Sink;
use crate::wire::{Reading, Wire};

/// This suite.
pub const SUITE: Suite =
    Suite { name: "encap", about: "out of a guest's ring, into datagrams on the wire", cases };

/// What is sent, and over what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) bytes: u16,
    pub(super) encrypted: bool,
    pub(super) offloads: Offloads,
}

impl Setup {
    /// Frames of `bytes` in clear text; `wire`: trains are cut and joined as on a real wire.
    pub(super) fn clear(bytes: u16, wire: bool) -> Self {
        let offloads = if wire { Offloads::WIRE } else { Offloads::default() };
        Self { bytes, encrypted: false, offloads }
    }

    /// Small frames count by number, large ones by bits.
    pub(super) fn unit(&self) -> &'static str {
        if self.bytes < 512 { "Mpps" } else { "Gb/s" }
    }

    /// The rate in that unit.
    fn value(&self, frames_per_s: f64) -> f64 {
        if self.unit() == "Mpps" { frames_per_s / 1e6 } else { self.gbps(frames_per_s) }
    }

    fn gbps(&self, frames_per_s: f64) -> f64 {
        frames_per_s * f64::from(self.bytes) * 8.0 / 1e9
    }
}

fn cases(_bench: &Bench) -> Vec<Plan> {
    let plan = |(bytes, wire): (u16, bool)| {
        let suffix = if wire { "-wire" } else { "" };
        let setup = Setup::clear(bytes, wire);
        Plan::new(&format!("encap{suffix} {bytes} B"), move |bench| case(bench, setup, wire))
    };
    let sizes = [(64, false), (1450, false), (64, true), (1450, true)].into_iter();
    sizes.map(plan).chain(super::fan_out::cases()).collect()
}

fn case(bench: &Bench, setup: Setup, wire: bool) -> Result<Case> {
    let small = setup.bytes < 512;
    let tag = format!("{}{}", setup.bytes, if wire { "w" } else { "" });
    let ovs_goal = Goal::RatioAtLeast(if small { 40.0 } else { 10.0 });
    let kernel_goal: &[Goal] = if small { &[Goal::RatioAtLeast(5.0)] } else { &[] };
    let ovs_name = format!("{} + VXLAN, AF_XDP", Ovs::NAME);
    Ok(Case::new("", setup.unit(), Ours::start(bench, setup)?)
        .against(Rival::start(bench, &ovs_name, &[ovs_goal], || {
            OvsEncap::start(bench, setup, &format!("ovs{tag}"))
        }))
        .against(Rival::start(bench, KernelVxlan::NAME, kernel_goal, || {
            KernelEncap::start(bench, setup, &format!("krn{tag}"))
        })))
}

const SENDER: &str = "vm-a";
const RECEIVER: &str = "vm-b";

fn sender() -> VmPlan {
    VmPlan::new(SENDER, 0, 11)
}

fn receiver() -> VmPlan {
    VmPlan::new(RECEIVER, 1, 12)
}

fn front_end(bench: &Bench, setup: Setup) -> Testpmd {
    let to = receiver();
    let to = Place { mac: to.mac(), address: to.address() };
    txonly(&sender(), &to, bench.cores().load, setup.bytes)
}

/// Two backends, one of them with a guest.
#[derive(Debug)]
pub(super) struct Ours {
    // The front-end ends before the backends.
    front: Load,
    cluster: Cluster,
    pids: [u32; 2],
    setup: Setup,
}

impl Ours {
    pub(super) fn start(bench: &Bench, setup: Setup) -> Result<Self> {
        let plan = ClusterPlan {
            gateways: 0,
            direct: true,
            encrypted: setup.encrypted,
            fabric_offloads: setup.offloads,
            ..ClusterPlan::new(if setup.encrypted { "sealed" } else { "encap" }, 2)
        };
        let mut cluster = Cluster::build(plan.vm(sender()).vm(receiver()), &bench.binary)?;
        cluster.start()?;
        let pids = [0, 1].map(|index| cluster.daemon_pid(index).unwrap_or_default());
        pin_process(pids[0], bench.cores().device)?;
        pin_process(pids[1], bench.cores().load)?;
        let mut front = front_end(bench, setup);
        front.connect_to(&cluster.vnic_socket(SENDER));
        let front = Load::start(&front, "front", cluster.dir())?;
        super::wait_links(&cluster, 0)?;
        Ok(Self { front, cluster, pids, setup })
    }
}

impl Contender for Ours {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let mut looks: Vec<[Status; 2]> = Vec::new();
        let mut receiver_us = Vec::new();
        let Self { front, cluster, pids, setup } = self;
        let seen = front.measure(times, &pids[..1], |_| {
            looks.push([cluster.status(0)?, cluster.status(1)?]);
            receiver_us.push(processes_us(&pids[1..]));
            Ok(())
        })?;
        let [before, after] = looks.as_slice() else {
            return Err(Error::Unexpected("the backends did not answer twice".to_owned()));
        };
        let sent = ledger::rate([&before[0], &after[0]], SENDER, "guest-tx", ledger::Side::Output)?;
        let got = ledger::rate([&before[1], &after[1]], SENDER, "fabric-rx", ledger::Side::Input)?;
        let us: f64 = receiver_us.last().zip(receiver_us.first()).map_or(0.0, |(b, a)| b - a);
        let share = us / (seen.seconds * 1e6) * 100.0;
        Ok(Sample {
            values: vec![setup.value(sent)],
            cpu_us_per_frame: seen.cpu_us_per_frame(sent),
            facts: vec![
                Fact::new("on the wire", setup.gbps(sent), "Gb/s"),
                Fact::new("received", setup.value(got), setup.unit()),
                Fact::new("receiver's CPU", share, "%"),
            ],
            events: Vec::new(),
        })
    }
}

/// What both peers have beside their device.
#[derive(Debug)]
struct Behind {
    sink: Sink,
    wire: Wire,
    setup: Setup,
}

/// Frames that arrived at the far end of the wire and at the sink.
#[derive(Debug, Default)]
struct Arrived {
    wire: Vec<Reading>,
    sink: Vec<u64>,
}

impl Behind {
    fn new(bench: &Bench, setup: Setup, name: &str) -> Result<Self> {
        let wire = Wire::new(name, &setup.offloads)?;
        wire.far.add_address(FABRIC_INTERFACE, Wire::far_address(), 24)?;
        let sink = Sink::start(&wire.far, kernel_vxlan::PORT, bench.cores().load)?;
        Ok(Self { sink, wire, setup })
    }

    fn look(&self, arrived: &mut Arrived) -> Result<()> {
        arrived.wire.push(Reading::take(&self.wire.far, FABRIC_INTERFACE, "rx_packets")?);
        arrived.sink.push(self.sink.datagrams());
        Ok(())
    }

    fn sample(&self, seen: &crate::load::Seen, arrived: &Arrived) -> Result<Sample> {
        let (&[before, after], &[sink_before, sink_after]) =
            (arrived.wire.as_slice(), arrived.sink.as_slice())
        else {
            return Err(Error::Unexpected("the wire was not read twice".to_owned()));
        };
        let sent = after.per_s_since(before);
        let got = crate::wire::rate(sink_before, sink_after, seen.seconds);
        let setup = self.setup;
        Ok(Sample {
            values: vec![setup.value(sent)],
            cpu_us_per_frame: seen.cpu_us_per_frame(sent),
            facts: vec![
                Fact::new("on the wire", setup.gbps(sent), "Gb/s"),
                Fact::new("received", setup.value(got), setup.unit()),
            ],
            events: Vec::new(),
        })
    }
}

#[derive(Debug)]
struct OvsEncap {
    front: Load,
    ovs: Ovs,
    behind: Behind,
}

impl OvsEncap {
    fn start(bench: &Bench, setup: Setup, name: &str) -> Result<Self> {
        let behind = Behind::new(bench, setup, name)?;
        let near = &behind.wire.near;
        let ovs = Ovs::start(near, bench.dir(), name, bench.cores().device)?;
        let socket = ovs.vxlan_host(near, Wire::near_address(), Wire::far_address())?;
        let mut front = front_end(bench, setup);
        front.connect_to(&socket);
        let mut front = Load::start(&front, &format!("{name}-front"), bench.dir())?;
        front.first_frames(|_| Ok(behind.sink.datagrams() > 0))?;
        ovs.pause()?;
        Ok(Self { front, ovs, behind })
    }
}

impl Contender for OvsEncap {
    fn round(&mut self, times: Times) -> Result<Sample> {
        self.ovs.resume()?;
        let mut arrived = Arrived::default();
        let pids = [self.ovs.pid()];
        let seen = self.front.measure(times, &pids, |_| self.behind.look(&mut arrived));
        self.ovs.pause()?;
        self.behind.sample(&seen?, &arrived)
    }
}

#[derive(Debug)]
struct KernelEncap {
    front: Load,
    kernel: KernelVxlan,
    behind: Behind,
}

impl KernelEncap {
    fn start(bench: &Bench, setup: Setup, name: &str) -> Result<Self> {
        let behind = Behind::new(bench, setup, name)?;
        let near = &behind.wire.near;
        let (local, remote) = (Wire::near_address(), Wire::far_address());
        near.add_address(FABRIC_INTERFACE, local, 24)?;
        let cpu = bench.cores().device;
        let kernel = KernelVxlan::start(near, local, remote, cpu, bench.dir(), name)?;
        let mut front = front_end(bench, setup);
        front.connect_to(kernel.socket());
        let front = Load::start(&front, &format!("{name}-front"), bench.dir())?;
        Ok(Self { front, kernel, behind })
    }
}

impl Contender for KernelEncap {
    fn round(&mut self, times: Times) -> Result<Sample> {
        self.kernel.device().begin()?;
        let mut arrived = Arrived::default();
        let pids = [self.kernel.pid()];
        let seen = self.front.measure(times, &pids, |_| self.behind.look(&mut arrived))?;
        self.kernel.device().end()?;
        self.behind.sample(&seen, &arrived)
    }
}
