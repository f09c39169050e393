//! QEMU's own TAP: the same guests, each with a TAP in a bridge, straight to the outside.
//!
//! ```text
//!   guest ══ QEMU ── tap ── bridge ── veth ── [outside]
//! ```
//! There is no fabric between: it is what a VM has on a host with an uplink of its own.

use std::net::{IpAddr, Ipv4Addr};

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::cluster::VmPlan;
use wireonce_qemu_tests::guest::{Accel, Guest, Image, Nic, NicBackend, Vm};
use wireonce_qemu_tests::netns::{End, Netns, join};

/// The name in results.
pub const NAME: &str = "QEMU tap";

const MTU: u32 = 1500;

/// The guests and what is around them.
#[derive(Debug)]
pub struct QemuTap {
    /// In the order of their plans.
    pub guests: Vec<Guest>,
    /// Must live as long as they do.
    pub around: Around,
}

/// The namespaces around the guests.
#[derive(Debug)]
pub struct Around {
    /// The network that they talk to.
    pub outside: Netns,
    _host: Netns,
}

impl Around {
    /// The outside's address.
    #[must_use]
    pub fn outside_address() -> IpAddr {
        Ipv4Addr::new(192, 0, 2, 1).into()
    }
}

impl QemuTap {
    /// Boots guests as planned, each with `cpus` processors.
    ///
    /// # Errors
    /// A guest does not come up.
    pub fn start(vms: &[VmPlan], cpus: u16, image: &Image, accel: Accel) -> Result<Self> {
        let host = Netns::new("guesttap", "host")?;
        let outside = Netns::new("guesttap", "outside")?;
        join(
            End { netns: &host, interface: "wire0" },
            End { netns: &outside, interface: "out0" },
            MTU,
        )?;
        outside.add_address("out0", Around::outside_address(), 24)?;
        host.ip("link add br0 type bridge mcast_snooping 0")?;
        host.ip("link set br0 addrgenmode none up")?;
        host.ip("link set wire0 master br0")?;
        let mut booting = Vec::new();
        for (number, plan) in vms.iter().enumerate() {
            let tap = format!("tap{number}");
            host.ip(&format!("tuntap add {tap} mode tap vnet_hdr"))?;
            host.ip(&format!("link set {tap} master br0 addrgenmode none up"))?;
            let mut nic = Nic::new(NicBackend::Tap(tap), &plan.mac());
            nic.host_mtu = Some(MTU);
            let vm = Vm::new(&plan.name, image, accel).nic(nic).cpus(cpus);
            booting.push(vm.address(&format!("{}/24", plan.address())).start_in(&host)?);
        }
        let guests: Result<Vec<_>> = booting.into_iter().map(|guest| guest.ready()).collect();
        Ok(Self { guests: guests?, around: Around { outside, _host: host } })
    }
}
