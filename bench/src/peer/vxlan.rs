//! Kernel VXLAN between two namespaces, over the same kind of wires as ours.
//!
//! ```text
//!   iperf3 ── TCP ── [vx0 ─ VXLAN ─ fabric0]══veth══[fabric0 ─ VXLAN ─ vx0] ── TCP ── iperf3
//! ```
//! No frame leaves the kernel and no process is between: what a guest's TAP would add is left out.
//! [`Vxlan::add_end`] adds it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::netns::{FABRIC_INTERFACE, Fabric, Netns, Offloads};

use super::kernel_vxlan::PORT;
use crate::tapend::{TapPair, make_tap};
use crate::wire::Wire;

/// The name in results.
pub const NAME: &str = "kernel VXLAN";
/// The name of what has TAP ends.
pub const TAP_NAME: &str = "kernel tap, bridge, VXLAN";

const INTERFACE: &str = "vx0";
const BRIDGE: &str = "br0";
/// The wire's 1,500 bytes without outer IPv4, UDP, VXLAN and inner Ethernet headers.
const MTU: u32 = 1450;
const LIMIT: Duration = Duration::from_secs(20);

/// Two hosts with a VXLAN interface each.
#[derive(Debug)]
pub struct Vxlan {
    // Before the namespaces that they live in.
    ends: Vec<(TapPair, Netns)>,
    near: Netns,
    far: Netns,
    fabric: Option<Fabric>,
    tag: String,
}

impl Vxlan {
    /// Makes both hosts, joined by one veth pair; `tag` is in their namespaces' names, `offloads` are the
    /// wire's.
    ///
    /// # Errors
    /// The kernel has no VXLAN.
    pub fn start(tag: &str, offloads: &Offloads) -> Result<Self> {
        let Wire { near, far } = Wire::new(tag, offloads)?;
        Self::finish(tag, near, far, None)
    }

    /// The same, joined by a bridge in a namespace of its own.
    ///
    /// # Errors
    /// The kernel has no VXLAN.
    pub fn start_bridged(tag: &str, offloads: Offloads) -> Result<Self> {
        let fabric = Fabric::new(tag, 1500, offloads)?;
        let [near, far] = [Netns::new(tag, "near")?, Netns::new(tag, "far")?];
        fabric.attach(&near, 0, &[])?;
        fabric.attach(&far, 1, &[])?;
        Self::finish(tag, near, far, Some(fabric))
    }

    fn finish(tag: &str, near: Netns, far: Netns, fabric: Option<Fabric>) -> Result<Self> {
        let outer = [Wire::near_address(), Wire::far_address()];
        let inner = [Self::end_address(0), Self::far_address()];
        for (at, host) in [&near, &far].into_iter().enumerate() {
            host.add_address(FABRIC_INTERFACE, outer[at], 24)?;
            host.ip(&format!(
                "link add {INTERFACE} mtu {MTU} type vxlan id 100 local {} remote {} \
                 dstport {PORT} dev {FABRIC_INTERFACE}",
                outer[at],
                outer[1 - at],
            ))?;
            host.ip(&format!("link set {INTERFACE} addrgenmode none up"))?;
            host.add_address(INTERFACE, inner[at], 24)?;
        }
        Ok(Self { ends: Vec::new(), near, far, fabric, tag: tag.to_owned() })
    }

    /// Moves the near host's address to a namespace behind a TAP, a bridge, and a thread that does what a
    /// VMM does without virtqueues: it copies between two TAPs. Each call adds another end, with the
    /// next address.
    ///
    /// ```text
    ///   [end: tap0] ══ thread ══ [near: tap0 ─ br0 ─ vx0 ─ VXLAN]
    /// ```
    /// # Errors
    /// `ip` refuses something.
    pub fn add_end(&mut self, cpu: Option<u32>) -> Result<()> {
        let number = self.ends.len();
        if number == 0 {
            self.near.ip(&format!("addr flush dev {INTERFACE}"))?;
            self.near.ip(&format!("link add {BRIDGE} type bridge mcast_snooping 0"))?;
            self.near.ip(&format!("link set {BRIDGE} addrgenmode none up"))?;
            self.near.ip(&format!("link set {INTERFACE} master {BRIDGE}"))?;
        }
        let netns = Netns::new(&self.tag, &format!("end-{number}"))?;
        let tap = format!("tap{number}");
        make_tap(&self.near, &tap, MTU)?;
        self.near.ip(&format!("link set {tap} master {BRIDGE}"))?;
        make_tap(&netns, &tap, MTU)?;
        netns.add_address(&tap, Self::end_address(number), 24)?;
        let pair = TapPair::start(&netns, &self.near, &tap, cpu)?;
        self.ends.push((pair, netns));
        Ok(())
    }

    /// The near host.
    #[must_use]
    pub fn near(&self) -> &Netns {
        &self.near
    }

    /// The far host.
    #[must_use]
    pub fn far(&self) -> &Netns {
        &self.far
    }

    /// The namespace of an end, from 0; the near host without ends.
    #[must_use]
    pub fn end(&self, number: usize) -> &Netns {
        self.ends.get(number).map_or(&self.near, |(_, netns)| netns)
    }

    /// The bridge between the hosts, if there is one.
    #[must_use]
    pub fn fabric(&self) -> Option<&Fabric> {
        self.fabric.as_ref()
    }

    /// The address of an end, from 0, or of the near host.
    #[must_use]
    pub fn end_address(number: usize) -> IpAddr {
        let last = u8::try_from(number).unwrap_or(u8::MAX).saturating_add(11);
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    /// The far host's address.
    #[must_use]
    pub fn far_address() -> IpAddr {
        Ipv4Addr::new(192, 0, 2, 1).into()
    }

    /// Cuts frames before the wire as a card without offloads for tunnels does; the receiver joins
    /// them.
    ///
    /// # Errors
    /// `ethtool` refuses it.
    pub fn cut_before_wire(&self) -> Result<()> {
        const OFF: &str = "tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off";
        for host in [&self.near, &self.far] {
            host.sh(&format!("ethtool -K {FABRIC_INTERFACE} {OFF}"), LIMIT)?;
        }
        Ok(())
    }
}
