//! Kernel VXLAN between two namespaces, over the same kind of veth pair as ours.
//!
//! ```text
//!   iperf3 ── TCP ── [vx0 ─ VXLAN ─ fabric0]══veth══[fabric0 ─ VXLAN ─ vx0] ── TCP ── iperf3
//! ```
//! No frame leaves the kernel and no process is between: what a guest's TAP would add is left out.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::netns::{FABRIC_INTERFACE, Offloads};

use super::kernel_vxlan::PORT;
use crate::wire::Wire;

/// The name in results.
pub const NAME: &str = "kernel VXLAN";

const INTERFACE: &str = "vx0";
/// The wire's 1,500 bytes without outer IPv4, UDP, VXLAN and inner Ethernet headers.
const MTU: u32 = 1450;

/// Two hosts with a VXLAN interface each.
#[derive(Debug)]
pub struct Vxlan {
    /// The hosts.
    pub wire: Wire,
}

impl Vxlan {
    /// Makes both hosts; `tag` is in their namespaces' names, `offloads` are the wire's.
    ///
    /// # Errors
    /// The kernel has no VXLAN.
    pub fn start(tag: &str, offloads: &Offloads) -> Result<Self> {
        let wire = Wire::new(tag, offloads)?;
        let outer = [Wire::near_address(), Wire::far_address()];
        let inner = [Self::near_address(), Self::far_address()];
        for (at, host) in [&wire.near, &wire.far].into_iter().enumerate() {
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
        Ok(Self { wire })
    }

    /// The near host's address on the virtual network.
    #[must_use]
    pub fn near_address() -> IpAddr {
        Ipv4Addr::new(192, 0, 2, 11).into()
    }

    /// The far host's address on the virtual network.
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
        for host in [&self.wire.near, &self.wire.far] {
            host.sh(&format!("ethtool -K {FABRIC_INTERFACE} {OFF}"), Duration::from_secs(20))?;
        }
        Ok(())
    }
}
