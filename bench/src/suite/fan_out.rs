//! `encap` to many hosts: frames go to as many peers in turn, so that no two neighbours in the ring
//! share a train or a datagram.
//!
//! ```text
//!   ours:  testpmd ══ backend ──veth── bridge ──veths── 32 backends
//!   peer:  testpmd ══ OVS-DPDK, 32 VXLAN tunnels ──AF_XDP, veth── one UDP socket, 32 addresses
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use wireonce_qemu_tests::cluster::{Cluster, Plan as ClusterPlan, Status, VmPlan};
use wireonce_qemu_tests::netns::{FABRIC_INTERFACE, Offloads};
use wireonce_qemu_tests::testpmd::{End, Forward, Memory, Testpmd};
use wireonce_qemu_tests::{Error, Result};

use super::vm_vm::ipv4;
use super::{Plan, ledger};
use crate::bench::{Bench, pin_process};
use crate::case::{Case, Contender, Fact, Goal, Rival, Sample, Times};
use crate::frames::{Flow, Mix, write_pcap};
use crate::load::Load;
use crate::peer::kernel_vxlan;
use crate::peer::ovs::Ovs;
use crate::sink::Sink;
use crate::wire::{Reading, Wire};

/// How many hosts.
const PEERS: u8 = 32;
const SENDER: &str = "vm-a";

/// What bounds our rate here: not the sender.
const CROWD: &str = "32 receiving backends share the load's processor with the guest, and each \
    polls for a while after work; compare the CPU time per frame rather than the rate";

/// The cases, for the suite `encap`.
pub(super) fn cases() -> Vec<Plan> {
    vec![Plan::new("encap to 32 peers 64 B", case)]
}

fn case(bench: &Bench) -> Result<Case> {
    let name = format!("{} + VXLAN, AF_XDP, 32 tunnels", Ovs::NAME);
    let rival = Rival::start(bench, &name, &[Goal::RatioAtLeast(40.0)], || Peer::start(bench));
    Ok(Case::new("", "Mpps", Ours::start(bench)?).note(CROWD).against(rival))
}

fn sender() -> VmPlan {
    VmPlan::new(SENDER, 0, 11)
}

fn receivers() -> Vec<VmPlan> {
    let number = |n: u8| VmPlan::new(&format!("vm-{n}"), usize::from(n) + 1, 12 + n);
    (0..PEERS).map(number).collect()
}

/// A guest that sends to all of them in turn.
fn guest(bench: &Bench, socket: &Path, name: &str) -> Result<Load> {
    let from = sender();
    let flow = |to: &VmPlan| Flow {
        source_mac: from.mac_bytes(),
        destination_mac: to.mac_bytes(),
        source: ipv4(&from),
        destination: ipv4(to),
    };
    let flows: Vec<Flow> = receivers().iter().map(flow).collect();
    let pcap = bench.dir().join(format!("{name}.pcap"));
    write_pcap(&pcap, &flows, Mix::Fixed(64), u16::from(PEERS) * 4)?;
    let mut pmd = Testpmd::new(End::FrontEnd(socket.to_owned()), Forward::Io);
    pmd.memory = Memory::Huge;
    pmd.cpu = bench.cores().load;
    pmd.mac = Some(from.mac());
    pmd.more_devices.push(format!("net_pcap0,rx_pcap={},infinite_rx=1", pcap.display()));
    Load::start(&pmd, name, bench.dir())
}

#[derive(Debug)]
struct Ours {
    // The guest ends before the backends.
    guest: Load,
    cluster: Cluster,
    pid: u32,
}

impl Ours {
    fn start(bench: &Bench) -> Result<Self> {
        let mut vms = receivers();
        vms.push(sender());
        let plan = ClusterPlan {
            gateways: 0,
            encrypted: false,
            vms,
            ..ClusterPlan::new("fan", usize::from(PEERS) + 1)
        };
        let mut cluster = Cluster::build(plan, &bench.binary)?;
        cluster.start()?;
        let pid = cluster.daemon_pid(0).unwrap_or_default();
        pin_process(pid, bench.cores().device)?;
        for index in 1..cluster.hosts().len() {
            pin_process(cluster.daemon_pid(index).unwrap_or_default(), bench.cores().load)?;
        }
        super::wait_links(&cluster, 0)?;
        let guest = guest(bench, &cluster.vnic_socket(SENDER), "fan-ours")?;
        Ok(Self { guest, cluster, pid })
    }
}

impl Contender for Ours {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let mut looks: Vec<Status> = Vec::new();
        let Self { guest, cluster, pid } = self;
        let seen = guest.measure(times, &[*pid], |_| {
            looks.push(cluster.status(0)?);
            Ok(())
        })?;
        let [before, after] = looks.as_slice() else {
            return Err(Error::Unexpected("the backend did not answer twice".to_owned()));
        };
        let looks = [before, after];
        let sent = ledger::rate(looks, SENDER, "guest-tx", ledger::Side::Output)?;
        let lost = ledger::drop_rate(looks, SENDER, "fabric-tx", "lost-in-fabric")?;
        Ok(Sample {
            values: vec![sent / 1e6],
            cpu_us_per_frame: seen.cpu_us_per_frame(sent),
            facts: vec![Fact::new("lost on the way", lost / sent.max(1.0) * 100.0, "%")],
            events: Vec::new(),
        })
    }
}

#[derive(Debug)]
struct Peer {
    guest: Load,
    ovs: Ovs,
    sink: Sink,
    wire: Wire,
}

impl Peer {
    fn start(bench: &Bench) -> Result<Self> {
        let wire = Wire::new("fanovs", &Offloads::default())?;
        let ovs = Ovs::start(&wire.near, bench.dir(), "fan-ovs", bench.cores().device)?;
        let (near, receivers) = (Wire::near_address(), receivers());
        for n in 0..PEERS {
            wire.far.add_address(FABRIC_INTERFACE, far_address(n), 24)?;
        }
        let socket = ovs.vxlan_host(&wire.near, near, far_address(0))?;
        for (n, vm) in (0..PEERS).zip(&receivers).skip(1) {
            let port = format!("vxlan{n}");
            ovs.add_vxlan("br-guest", &port, far_address(n))?;
            ovs.steer("br-guest", "vhost0", &vm.mac(), &port)?;
        }
        let sink = Sink::start(&wire.far, kernel_vxlan::PORT, bench.cores().load)?;
        let mut guest = guest(bench, &socket, "fan-ovs-guest")?;
        guest.first_frames(|_| Ok(sink.datagrams() > 0))?;
        ovs.pause()?;
        Ok(Self { guest, ovs, sink, wire })
    }
}

fn far_address(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 78, 0, 2 + n).into()
}

impl Contender for Peer {
    fn round(&mut self, times: Times) -> Result<Sample> {
        self.ovs.resume()?;
        let Self { guest, ovs, sink, wire } = self;
        let mut looks = Vec::new();
        let seen = guest.measure(times, &[ovs.pid()], |_| {
            let reading = Reading::take(&wire.far, FABRIC_INTERFACE, "rx_packets")?;
            looks.push((reading, sink.datagrams()));
            Ok(())
        });
        ovs.pause()?;
        let seen = seen?;
        let &[(before, got_before), (after, got_after)] = looks.as_slice() else {
            return Err(Error::Unexpected("the wire was not read twice".to_owned()));
        };
        let sent = after.per_s_since(before);
        let got = crate::wire::rate(got_before, got_after, seen.seconds);
        Ok(Sample {
            values: vec![sent / 1e6],
            cpu_us_per_frame: seen.cpu_us_per_frame(sent),
            facts: vec![Fact::new("received", got / 1e6, "Mpps")],
            events: Vec::new(),
        })
    }
}
