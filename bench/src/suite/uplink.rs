//! `uplink`: from a guest's ring to the wire behind an uplink, and back.
//!
//! ```text
//!   ours:  testpmd ══ backend ──fabric, veth── gateway ──packet socket, veth── outside
//!   peer:  testpmd ══ OVS-DPDK ──AF_XDP (bulk: packet socket with TSO), veth── outside
//! ```
//! The peer has one hop, ours has two and a tunnel; the device side of both has one processor. Out,
//! the rate is what reaches the wire. In, frames come from a packet socket in the outside, which
//! shares its processor with the guest: it cannot send more than about half a million per second.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use wireonce_qemu_tests::cluster::{
    Cluster, Plan as ClusterPlan, Status, UPLINK_INTERFACE, VmPlan,
};
use wireonce_qemu_tests::netns::{End as WireEnd, Netns, Offloads, join};
use wireonce_qemu_tests::testpmd::{End, Forward, Memory, Testpmd};
use wireonce_qemu_tests::{Error, Result};

use super::{Plan, Suite, ledger};
use crate::bench::{Bench, pin_process};
use crate::case::{Case, Contender, Fact, Goal, Rival, Sample, Times};
use crate::frames::{Flow, Mix, write_pcap};
use crate::load::{Load, Place, Seen, txonly};
use crate::peer::ovs::Ovs;
use crate::wire::Reading;

/// This suite.
pub const SUITE: Suite =
    Suite { name: "uplink", about: "from a guest's ring to an uplink's wire, and back", cases };

/// Payload of a super-frame: 44 segments of 1448 bytes.
const BULK_PAYLOAD: u16 = 44 * 1448;
/// A MAC outside: nobody's, so that the outside drops what comes at once.
const OUTSIDE_MAC: [u8; 6] = [0x52, 0x54, 0, 0x99, 0, 1];
const OUTSIDE_INTERFACE: &str = "out0";
const VM: &str = "vm-a";
/// The port of the outside's sender.
const OUTSIDE_PORT: usize = 3;

/// Of the uplink's veth: a train of datagrams does not cross it whole.
const CUT_BEFORE_WIRE: Offloads = Offloads {
    udp_segmentation: Some(false),
    gro: None,
    udp_gro_forwarding: None,
    tcp_segmentation: None,
    checksums: None,
};

/// What the guest's port is told for bulk; a capture file's port knows no offloads.
const ASK_FOR_SEGMENTATION: [&str; 6] = [
    "port stop 0",
    "port config 0 tx_offload tcp_cksum on",
    "port config 0 tx_offload tcp_tso on",
    "csum set tcp hw 0",
    "tso set 1448 0",
    "port start 0",
];

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

#[derive(Debug, Clone, Copy)]
struct Setup {
    mix: Mix,
    way: Way,
    /// Joined datagrams are cut before the uplink's veth, as before a card that cannot.
    wire: bool,
    /// Flows that take turns; more than one only where frames are replayed.
    flows: u8,
}

impl Setup {
    fn name(self) -> String {
        let way = if self.way == Way::Out { "out" } else { "in" };
        let flows = if self.flows > 1 { format!(", {} flows", self.flows) } else { String::new() };
        let suffix = if self.wire { "-wire" } else { "" };
        format!("uplink {way} {}{flows}{suffix}", self.mix.name())
    }

    fn unit(self) -> &'static str {
        if matches!(self.mix, Mix::Fixed(64) | Mix::Summed(64)) { "Mpps" } else { "Gb/s" }
    }

    /// The rate of `frames_per_s` in that unit.
    fn value(self, frames_per_s: f64) -> f64 {
        match self.unit() {
            "Mpps" => frames_per_s / 1e6,
            _ => frames_per_s * self.mix.mean_len() * 8.0 / 1e9,
        }
    }
}

fn cases(_bench: &Bench) -> Vec<Plan> {
    let all = [
        (Mix::Fixed(64), Way::Out, false, 1),
        (Mix::Fixed(1500), Way::Out, false, 1),
        (Mix::Summed(64), Way::Out, false, 1),
        (Mix::Summed(64), Way::Out, true, 1),
        (Mix::Summed(64), Way::Out, true, 16),
        (Mix::Summed(1500), Way::Out, true, 1),
        (Mix::Tcp(BULK_PAYLOAD), Way::Out, false, 1),
        (Mix::Fixed(64), Way::In, false, 1),
        (Mix::Fixed(1500), Way::In, false, 1),
    ];
    let setups = all.into_iter().map(|(mix, way, wire, flows)| Setup { mix, way, wire, flows });
    setups.map(|setup| Plan::new(&setup.name(), move |bench| case(bench, setup))).collect()
}

fn case(bench: &Bench, setup: Setup) -> Result<Case> {
    let goal = Goal::RatioAtLeast(if setup.unit() == "Mpps" { 1.5 } else { 4.0 });
    let name = format!("{} to a veth, one hop", Ovs::NAME);
    let ovs = Rival::start(bench, &name, &[goal], || Peer::start(bench, setup));
    let other = Rival::absent(
        "cloud-hypervisor vhost_user_net",
        "cannot run here: Debian 12 has no package of it",
        &[goal],
    );
    let case = Case::new("", setup.unit(), Ours::start(bench, setup)?).against(ovs);
    // One row for it is enough.
    let first = setup.mix == Mix::Fixed(64) && setup.way == Way::Out;
    Ok(if first { case.against(other) } else { case })
}

fn vm() -> VmPlan {
    VmPlan::new(VM, 0, 11)
}

fn outside_address() -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 99)
}

fn vm_address() -> Ipv4Addr {
    match vm().address() {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn in_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The guest, and for the way in the outside's sender, in one testpmd.
#[derive(Debug)]
struct Guest {
    load: Load,
    setup: Setup,
}

impl Guest {
    /// `socket` is where it connects or, if so told, listens.
    fn start(
        bench: &Bench,
        setup: Setup,
        (socket, listens): (&Path, bool),
        outside: &Netns,
        name: &str,
    ) -> Result<Self> {
        let cpu = bench.cores().load;
        let pcap = bench.dir().join(format!("{name}.pcap"));
        let mut pmd = match (setup.way, setup.mix) {
            (Way::Out, Mix::Fixed(bytes)) => {
                let to = Place { mac: in_text(OUTSIDE_MAC), address: outside_address().into() };
                txonly(&vm(), &to, cpu, bytes)
            }
            (Way::Out, mix @ Mix::Tcp(_)) => bulk(&pcap, mix)?,
            (Way::Out, mix) => replay(&pcap, mix, setup.flows)?,
            (Way::In, mix) => from_outside(&pcap, mix)?,
        };
        pmd.connect_to(socket);
        pmd.listens = listens;
        pmd.memory = Memory::Huge;
        pmd.cpu = cpu;
        pmd.mac = Some(vm().mac());
        // The sender's packet socket is in the outside.
        let mut load = Load::start_in(outside, &pmd, &format!("{name}-guest"), bench.dir())?;
        if matches!((setup.way, setup.mix), (Way::Out, Mix::Tcp(_))) {
            for line in ASK_FOR_SEGMENTATION {
                load.console().command(line)?;
            }
        }
        Ok(Self { load, setup })
    }

    /// What the guest got per second.
    fn received(&self, seen: &Seen) -> f64 {
        seen.port(0).rx_pps
    }
}

/// From the guest to an address of the outside.
fn outward_flow(number: u8) -> Flow {
    let [a, b, c, d] = outside_address().octets();
    Flow {
        source_mac: vm().mac_bytes(),
        destination_mac: OUTSIDE_MAC,
        source: vm_address(),
        destination: Ipv4Addr::new(a, b, c, d + number),
    }
}

/// Frames from a capture file as they are; the flows take turns.
fn replay(pcap: &Path, mix: Mix, flows: u8) -> Result<Testpmd> {
    let flows: Vec<Flow> = (0..flows).map(outward_flow).collect();
    write_pcap(pcap, &flows, mix, 64)?;
    let mut pmd = Testpmd::new(End::FrontEnd("unset".into()), Forward::Io);
    pmd.more_devices.push(format!("net_pcap0,rx_pcap={},infinite_rx=1", pcap.display()));
    Ok(pmd)
}

/// Super-frames from a capture file through the checksum engine, which asks for segmentation.
fn bulk(pcap: &Path, mix: Mix) -> Result<Testpmd> {
    write_pcap(pcap, &[outward_flow(0)], mix, 16)?;
    let mut pmd = Testpmd::new(End::FrontEnd("unset".into()), Forward::Csum);
    pmd.peer_mac = Some(in_text(OUTSIDE_MAC));
    pmd.more_devices.push(format!("net_pcap0,rx_pcap={},infinite_rx=1", pcap.display()));
    // Each frame in one buffer, so fewer of them.
    pmd.more_options = ["--mbuf-size=65535", "--total-num-mbufs=3000"].map(str::to_owned).to_vec();
    Ok(pmd)
}

/// Frames from a capture file to a packet socket of the outside; port 0 is the guest's and its
/// other side drops.
fn from_outside(pcap: &Path, mix: Mix) -> Result<Testpmd> {
    let flow = Flow {
        source_mac: OUTSIDE_MAC,
        destination_mac: vm().mac_bytes(),
        source: outside_address(),
        destination: vm_address(),
    };
    write_pcap(pcap, &[flow], mix, 64)?;
    let mut pmd = Testpmd::new(End::FrontEnd("unset".into()), Forward::Io);
    pmd.more_devices = vec![
        "net_null0,no-rx=1".to_owned(),
        format!("net_pcap0,rx_pcap={},infinite_rx=1", pcap.display()),
        format!("net_af_packet0,iface={OUTSIDE_INTERFACE}"),
    ];
    Ok(pmd)
}

#[derive(Debug)]
struct Ours {
    // The guest ends before the daemons.
    guest: Guest,
    cluster: Cluster,
    pids: [u32; 2],
}

impl Ours {
    fn start(bench: &Bench, setup: Setup) -> Result<Self> {
        let plan = ClusterPlan { direct: true, encrypted: false, ..ClusterPlan::new("uplink", 1) };
        let mut cluster = Cluster::build(plan.vm(vm()), &bench.binary)?;
        cluster.start()?;
        let pids = [0, 1].map(|index| cluster.daemon_pid(index).unwrap_or_default());
        for pid in pids {
            pin_process(pid, bench.cores().device)?;
        }
        super::wait_links(&cluster, 0)?;
        if setup.wire {
            cluster.host(1)?.netns.set_offloads(UPLINK_INTERFACE, &CUT_BEFORE_WIRE)?;
        }
        let socket = cluster.vnic_socket(VM);
        let outside = cluster.outside();
        let guest = Guest::start(bench, setup, (&socket, false), outside, "uplink-ours")?;
        Ok(Self { guest, cluster, pids })
    }
}

impl Contender for Ours {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let mut looks: Vec<[Status; 2]> = Vec::new();
        let Self { guest, cluster, pids } = self;
        let setup = guest.setup;
        let seen = guest.load.measure(times, pids, |_| {
            looks.push([cluster.status(0)?, cluster.status(1)?]);
            Ok(())
        })?;
        let [before, after] = looks.as_slice() else {
            return Err(Error::Unexpected("the daemons did not answer twice".to_owned()));
        };
        let gateway = [&before[1], &after[1]];
        let (offered, got) = match setup.way {
            Way::Out => {
                let out = ledger::rate(gateway, VM, "uplink-tx", ledger::Side::Output)?;
                (seen.port(0).tx_pps, out)
            }
            Way::In => (seen.port(OUTSIDE_PORT).tx_pps, guest.received(&seen)),
        };
        Ok(Sample {
            values: vec![setup.value(got)],
            cpu_us_per_frame: seen.cpu_us_per_frame(got),
            facts: vec![Fact::new("offered", setup.value(offered), setup.unit())],
            events: Vec::new(),
        })
    }
}

#[derive(Debug)]
struct Peer {
    guest: Guest,
    ovs: Ovs,
    _host: Netns,
    outside: Netns,
}

impl Peer {
    fn start(bench: &Bench, setup: Setup) -> Result<Self> {
        let host = Netns::new("upovs", "host")?;
        let outside = Netns::new("upovs", "outside")?;
        join(
            WireEnd { netns: &host, interface: UPLINK_INTERFACE },
            WireEnd { netns: &outside, interface: OUTSIDE_INTERFACE },
            1500,
        )?;
        if setup.wire {
            host.set_offloads(UPLINK_INTERFACE, &CUT_BEFORE_WIRE)?;
        }
        let bulk = matches!(setup.mix, Mix::Tcp(_));
        let ovs = if bulk {
            Ovs::start_with_tso(&host, bench.dir(), "ovs-up", bench.cores().device)?
        } else {
            Ovs::start(&host, bench.dir(), "ovs-up", bench.cores().device)?
        };
        ovs.add_bridge("br-guest")?;
        if bulk {
            ovs.add_system("br-guest", UPLINK_INTERFACE)?;
        } else {
            ovs.add_afxdp("br-guest", UPLINK_INTERFACE)?;
        }
        let socket = if bulk {
            ovs.add_vhost_client("br-guest", "vhost0")?
        } else {
            ovs.add_vhost("br-guest", "vhost0")?
        };
        ovs.join("br-guest", "vhost0", UPLINK_INTERFACE)?;
        let mut guest = Guest::start(bench, setup, (&socket, bulk), &outside, "uplink-ovs")?;
        guest.load.first_frames(|rates| match setup.way {
            Way::Out => Ok(Reading::take(&outside, OUTSIDE_INTERFACE, "rx_packets")?.count > 0),
            Way::In => Ok(rates.first().is_some_and(|port| port.rx_pps > 0.0)),
        })?;
        ovs.pause()?;
        Ok(Self { guest, ovs, _host: host, outside })
    }
}

impl Contender for Peer {
    fn round(&mut self, times: Times) -> Result<Sample> {
        self.ovs.resume()?;
        let Self { guest, ovs, outside, .. } = self;
        let setup = guest.setup;
        let mut wire = Vec::new();
        let seen = guest.load.measure(times, &[ovs.pid()], |_| {
            wire.push(Reading::take(outside, OUTSIDE_INTERFACE, "rx_packets")?);
            Ok(())
        });
        ovs.pause()?;
        let seen = seen?;
        let &[before, after] = wire.as_slice() else {
            return Err(Error::Unexpected("the wire was not read twice".to_owned()));
        };
        let wire = after.per_s_since(before);
        let (offered, got) = match setup.way {
            Way::Out => (seen.port(0).tx_pps, wire),
            Way::In => (seen.port(OUTSIDE_PORT).tx_pps, guest.received(&seen)),
        };
        Ok(Sample {
            values: vec![setup.value(got)],
            cpu_us_per_frame: seen.cpu_us_per_frame(got),
            facts: vec![Fact::new("offered", setup.value(offered), setup.unit())],
            events: Vec::new(),
        })
    }
}
