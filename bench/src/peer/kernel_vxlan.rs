//! The kernel's VXLAN behind a tap, with DPDK's vhost PMD as the device that a guest needs.
//!
//! ```text
//!   testpmd ══ testpmd: vhost PMD ── tap ── bridge ── vxlan ── veth
//!   (load)     (device: copies frames to the tap)   (kernel, in the device's time)
//! ```
//! vhost-net would copy in the kernel instead; it cannot run here. The bridge is part of the usual
//! set-up and charged.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::netns::{FABRIC_INTERFACE, Netns};
use wireonce_qemu_tests::testpmd::{End, Forward, Memory, Testpmd};

use crate::load::Load;

/// The UDP port of VXLAN (RFC 7348).
pub const PORT: u16 = 4789;
const TAP: &str = "tap0";

/// The device side of one host.
#[derive(Debug)]
pub struct KernelVxlan {
    device: Load,
    pid: u32,
    socket: PathBuf,
}

impl KernelVxlan {
    /// The name in results.
    pub const NAME: &'static str = "vhost PMD + kernel tap, bridge, VXLAN";

    /// Sets up the device and the tunnel in `netns`, on processor `cpu`.
    ///
    /// # Errors
    /// The kernel has no VXLAN, or DPDK does not start.
    pub fn start(
        netns: &Netns,
        local: IpAddr,
        remote: IpAddr,
        cpu: u32,
        dir: &Path,
        name: &str,
    ) -> Result<Self> {
        netns.ip(&format!(
            "link add vxlan0 type vxlan id 100 local {local} remote {remote} dstport {PORT} \
             dev {FABRIC_INTERFACE}"
        ))?;
        netns.ip("link add br0 type bridge mcast_snooping 0")?;
        let socket = dir.join(format!("{name}.vhost"));
        let mut pmd = Testpmd::new(End::BackEnd(socket.clone()), Forward::Io);
        pmd.memory = Memory::Huge;
        pmd.cpu = cpu;
        pmd.more_devices.push(format!("net_tap0,iface={TAP}"));
        let mut device = Load::start_in(netns, &pmd, name, dir)?;
        for interface in ["vxlan0", TAP] {
            netns.ip(&format!("link set {interface} master br0"))?;
        }
        for interface in ["br0", "vxlan0", TAP] {
            netns.ip(&format!("link set {interface} addrgenmode none up"))?;
        }
        let pid = device.console().process().pid();
        Ok(Self { device, pid, socket })
    }

    /// Where a front-end connects.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The device's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The device's console: it forwards between a begin and an end.
    pub fn device(&mut self) -> &mut Load {
        &mut self.device
    }
}
