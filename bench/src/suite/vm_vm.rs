//! `vm-vm`: from one guest's ring to another's on another host, both ways at once.
//!
//! ```text
//!                    ┌─ backend A ══ virtio ─┐
//!   ours:    veth ───┤                       testpmd: sends at both, receives at both
//!                    └─ backend B ══ virtio ─┘
//!   peer:    the same with an OVS-DPDK + VXLAN on each side
//! ```
//! Both hosts' device sides share one processor, as do both guests: what is measured is the cost
//! of the whole way. The rate is what arrives in both guests' rings together; more is offered than
//! that, so something is lost. The `in turn` cases have frames go round instead, so that no more
//! are on their way than rings hold: that is the rate without loss.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use wireonce_qemu_tests::cluster::{Cluster, Plan as ClusterPlan, VmPlan};
use wireonce_qemu_tests::netns::Offloads;
use wireonce_qemu_tests::testpmd::{End, Forward, Memory, Testpmd};
use wireonce_qemu_tests::{Error, Result};

use super::{Plan, Suite};
use crate::bench::{Bench, pin_process};
use crate::case::{Case, Contender, Fact, Goal, Rival, Sample, Times};
use crate::frames::{Flow, Mix, write_pcap};
use crate::load::{Load, PortRates};
use crate::peer::ovs::Ovs;
use crate::wire::Wire;

/// This suite.
pub const SUITE: Suite =
    Suite { name: "vm-vm", about: "from a guest's ring to another one's, over the fabric", cases };

/// What is sent, how, and over what.
#[derive(Debug, Clone, Copy)]
struct Setup {
    mix: Mix,
    /// The same frames go round, or new ones come without end.
    in_turn: bool,
    offloads: Offloads,
}

fn cases(_bench: &Bench) -> Vec<Plan> {
    let mut plans = Vec::new();
    for (suffix, offloads) in [("", Offloads::default()), ("-wire", Offloads::WIRE)] {
        for mix in [Mix::Fixed(64), Mix::Imix, Mix::Fixed(1450)] {
            let setup = Setup { mix, in_turn: false, offloads };
            let name = format!("vm-vm{suffix} {}", mix.name());
            plans.push(Plan::new(&name, move |bench| case(bench, setup)));
        }
    }
    let setup = Setup { mix: Mix::Fixed(64), in_turn: true, offloads: Offloads::default() };
    plans.push(Plan::new("vm-vm in turn 64 B", move |bench| case(bench, setup)));
    plans
}

fn case(bench: &Bench, setup: Setup) -> Result<Case> {
    let goal = Goal::RatioAtLeast(30.0);
    let goals: &[Goal] = if setup.mix == Mix::Fixed(64) { &[goal] } else { &[] };
    let name = format!("{} + VXLAN at both ends, AF_XDP", Ovs::NAME);
    let rival = Rival::start(bench, &name, goals, || Peer::start(bench, setup));
    Ok(Case::new("", "Mpps", Ours::start(bench, setup)?).against(rival))
}

fn vms() -> [VmPlan; 2] {
    [VmPlan::new("vm-a", 0, 11), VmPlan::new("vm-b", 1, 12)]
}

/// A VM's address.
pub(crate) fn ipv4(vm: &VmPlan) -> Ipv4Addr {
    match vm.address() {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

/// Both guests in one testpmd: port 0 is A's, and B's is the next but one or the next.
#[derive(Debug)]
struct Guests {
    load: Load,
    setup: Setup,
    ports: [usize; 2],
}

impl Guests {
    fn start(
        bench: &Bench,
        setup: Setup,
        sockets: [&std::path::Path; 2],
        name: &str,
    ) -> Result<Self> {
        let [a, b] = vms();
        let mut pmd = Testpmd::new(End::FrontEnd(sockets[0].to_owned()), Forward::Io);
        pmd.memory = Memory::Huge;
        pmd.cpu = bench.cores().load;
        pmd.mac = Some(a.mac());
        let other = format!(
            "net_virtio_user1,path={},queues=1,queue_size=1024,mrg_rxbuf=1,in_order=1,mac={}",
            sockets[1].display(),
            b.mac()
        );
        let ports = if setup.in_turn {
            // The first frames are testpmd's own.
            pmd.peer_mac = Some(b.mac());
            pmd.addresses = Some((a.address().to_string(), b.address().to_string()));
            pmd.more_devices.push(other);
            [0, 1]
        } else {
            let replay = |number: usize, from: &VmPlan, to: &VmPlan| {
                let path = bench.dir().join(format!("{name}-{number}.pcap"));
                let flow = Flow {
                    source_mac: from.mac_bytes(),
                    destination_mac: to.mac_bytes(),
                    source: ipv4(from),
                    destination: ipv4(to),
                };
                write_pcap(&path, &[flow], setup.mix, 64)?;
                Ok::<_, Error>(format!("net_pcap{number},rx_pcap={},infinite_rx=1", path.display()))
            };
            pmd.more_devices = vec![replay(0, &a, &b)?, other, replay(1, &b, &a)?];
            [0, 2]
        };
        let load = Load::start(&pmd, &format!("{name}-guests"), bench.dir())?;
        let mut guests = Self { load, setup, ports };
        if !setup.in_turn {
            guests.load.first_frames(|rates| {
                Ok(ports.iter().any(|port| rates.get(*port).is_some_and(|port| port.rx_pps > 0.0)))
            })?;
        }
        Ok(guests)
    }

    fn round(&mut self, times: Times, pids: &[u32]) -> Result<Sample> {
        let seen = if self.setup.in_turn {
            self.load.measure_first(times, pids, TURN_BURSTS)?
        } else {
            self.load.measure(times, pids, |_| Ok(()))?
        };
        let sum = |rate: fn(PortRates) -> f64| -> f64 {
            self.ports.iter().map(|port| rate(seen.port(*port))).sum()
        };
        let got = sum(|port| port.rx_pps);
        let offered = sum(|port| port.tx_pps);
        let lost = if offered > 0.0 { (1.0 - got / offered).max(0.0) * 100.0 } else { 0.0 };
        Ok(Sample {
            values: vec![got / 1e6],
            cpu_us_per_frame: seen.cpu_us_per_frame(got),
            facts: vec![
                Fact::new("in Gb/s", got * self.setup.mix.mean_len() * 8.0 / 1e9, ""),
                Fact::new("taken from guests", offered / 1e6, "Mpps"),
                Fact::new("not delivered", lost, "%"),
            ],
            events: Vec::new(),
        })
    }
}

/// Frames that go round, in bursts of 32: as many as fit in a ring, with room to spare.
const TURN_BURSTS: u32 = 24;

#[derive(Debug)]
struct Ours {
    // The guests end before the backends.
    guests: Guests,
    _cluster: Cluster,
    pids: [u32; 2],
}

impl Ours {
    fn start(bench: &Bench, setup: Setup) -> Result<Self> {
        let plan = ClusterPlan {
            gateways: 0,
            direct: true,
            encrypted: false,
            fabric_offloads: setup.offloads,
            ..ClusterPlan::new("vmvm", 2)
        };
        let [a, b] = vms();
        let mut cluster = Cluster::build(plan.vm(a).vm(b), &bench.binary)?;
        cluster.start()?;
        let pids = [0, 1].map(|index| cluster.daemon_pid(index).unwrap_or_default());
        for pid in pids {
            pin_process(pid, bench.cores().device)?;
        }
        super::wait_links(&cluster, 0)?;
        let [a, b] = ["vm-a", "vm-b"].map(|name| cluster.vnic_socket(name));
        let guests = Guests::start(bench, setup, [&a, &b], "vmvm-ours")?;
        Ok(Self { guests, _cluster: cluster, pids })
    }
}

impl Contender for Ours {
    fn round(&mut self, times: Times) -> Result<Sample> {
        self.guests.round(times, &self.pids)
    }
}

/// Time in which a switch notices its guests.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Peer {
    guests: Guests,
    switches: [Ovs; 2],
    _wire: Wire,
}

impl Peer {
    fn start(bench: &Bench, setup: Setup) -> Result<Self> {
        let wire = Wire::new("vmvmp", &setup.offloads)?;
        let cpu = bench.cores().device;
        let (near, far) = (Wire::near_address(), Wire::far_address());
        let a = Ovs::start(&wire.near, bench.dir(), "ovs-a", cpu)?;
        let b = Ovs::start(&wire.far, bench.dir(), "ovs-b", cpu)?;
        let sockets = (a.vxlan_host(&wire.near, near, far)?, b.vxlan_host(&wire.far, far, near)?);
        let guests = Guests::start(bench, setup, [&sockets.0, &sockets.1], "vmvm-peer")?;
        if setup.in_turn {
            thread::sleep(SETTLE);
        }
        a.pause()?;
        b.pause()?;
        Ok(Self { guests, switches: [a, b], _wire: wire })
    }
}

impl Contender for Peer {
    fn round(&mut self, times: Times) -> Result<Sample> {
        self.switches.iter().try_for_each(Ovs::resume)?;
        let pids = [self.switches[0].pid(), self.switches[1].pid()];
        let sample = self.guests.round(times, &pids);
        self.switches.iter().try_for_each(Ovs::pause)?;
        sample
    }
}
