//! What a cluster is made of.

use std::net::{IpAddr, Ipv4Addr};

use crate::netns::Offloads;

/// One VM of a plan; its vNIC has the same name.
#[derive(Debug, Clone)]
pub struct VmPlan {
    /// The name of the VM and of its vNIC.
    pub name: String,
    /// Which server it runs on, from 0.
    pub server: usize,
    /// The last byte of its address 192.0.2.N and of its MAC.
    pub number: u8,
    /// Receive and transmit queues: so many of each.
    pub queue_pairs: u16,
    /// The gateway that its home uplink is on, from 0.
    pub home: usize,
    /// The most that it may send to its home, such as `20Mbit`.
    pub limit: Option<&'static str>,
    /// The most that it may get from its home.
    pub down_limit: Option<&'static str>,
    /// The most packets a second that it may send to its home.
    pub packet_limit: Option<u32>,
    /// The most packets a second that it may get from its home.
    pub down_packet_limit: Option<u32>,
    /// The gateways that its standbys are on, in order.
    pub standbys: Vec<usize>,
}

impl VmPlan {
    /// A VM with one queue pair and its home on the first gateway.
    #[must_use]
    pub fn new(name: &str, server: usize, number: u8) -> Self {
        Self {
            name: name.to_owned(),
            server,
            number,
            queue_pairs: 1,
            home: 0,
            limit: None,
            down_limit: None,
            packet_limit: None,
            down_packet_limit: None,
            standbys: Vec::new(),
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, self.number).into()
    }

    /// Its MAC address.
    #[must_use]
    pub fn mac_bytes(&self) -> [u8; 6] {
        [0x52, 0x54, 0x00, 0x77, 0x00, self.number]
    }

    /// Its MAC address, as text.
    #[must_use]
    pub fn mac(&self) -> String {
        format!("52:54:00:77:00:{:02x}", self.number)
    }
}

/// How a gateway reaches the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UplinkDriver {
    /// An interface by a packet socket.
    Packet,
    /// A TAP device in a bridge.
    Tap,
}

/// What a test bed is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// A word in the names of its namespaces.
    pub tag: String,
    /// How many servers.
    pub servers: usize,
    /// How many gateways, each with one uplink of the pool.
    pub gateways: usize,
    /// The VMs.
    pub vms: Vec<VmPlan>,
    /// vNICs of the first server besides those of VMs, without a VM: their home and standbys are the first
    /// VM's, and their ids come before it.
    pub idle_vnics: u16,
    /// The fabric's MTU, in bytes.
    pub fabric_mtu: u32,
    /// The hosts talk over IPv6, or over IPv4.
    pub fabric_ipv6: bool,
    /// Offloads of the hosts' fabric interfaces.
    pub fabric_offloads: Offloads,
    /// The two hosts of the plan are joined by one wire, without a bridge: for measurements.
    pub direct: bool,
    /// The MTU of the VMs' network, in bytes.
    pub network_mtu: u32,
    /// AES-256-GCM between the hosts, or nothing.
    pub encrypted: bool,
    /// Workers of each daemon.
    pub workers: u16,
    /// Paths of each link.
    pub paths: u8,
    /// The backend listens and QEMU connects, or the other way round.
    pub backend_listens: bool,
    /// How gateways reach the outside.
    pub driver: UplinkDriver,
    /// VLANs of the pool besides the untagged network of the VMs, each a network without vNICs.
    pub vlans: Vec<u16>,
    /// What each uplink carries towards the outside, such as `200Mbit`; `None`: it is not shaped.
    pub up: Option<&'static str>,
    /// What each uplink carries from the outside; `None`: it is not shaped.
    pub down: Option<&'static str>,
    /// What the fabric port of each server can send, such as `100Mbit`; `None`: that is not divided.
    pub port_up: Option<&'static str>,
    /// What it can receive; `None`: that is not divided.
    pub port_down: Option<&'static str>,
    /// Shares of the servers in the pool, both ways, from the first on; those without have the default.
    pub shares: Vec<i64>,
    /// A server whose own file says nothing of what uplinks carry, so that it obeys nobody.
    pub rogue: Option<usize>,
    /// A controller keeps the house, and hosts are members of it; else each host reads a whole file.
    pub controlled: bool,
    /// Daemons and the controller answer `GET /metrics`.
    pub metrics: bool,
    /// How soon a lost home is left: `default` or `fast`.
    pub failover: &'static str,
    /// Daemons run as `nobody` with [`Self::capabilities`] and no others; else as the caller.
    pub unprivileged: bool,
}

impl Plan {
    /// `servers` servers and one gateway, with the product's defaults.
    #[must_use]
    pub fn new(tag: &str, servers: usize) -> Self {
        Self {
            tag: tag.to_owned(),
            servers,
            gateways: 1,
            vms: Vec::new(),
            idle_vnics: 0,
            fabric_mtu: 1500,
            fabric_ipv6: false,
            fabric_offloads: Offloads::default(),
            direct: false,
            network_mtu: 1500,
            encrypted: true,
            workers: 1,
            paths: 1,
            backend_listens: true,
            driver: UplinkDriver::Packet,
            vlans: Vec::new(),
            up: None,
            down: None,
            port_up: None,
            port_down: None,
            shares: Vec::new(),
            rogue: None,
            controlled: false,
            metrics: false,
            failover: "default",
            unprivileged: false,
        }
    }

    /// The capabilities that a daemon cannot do its work without, as setpriv and systemd name them.
    #[must_use]
    pub fn capabilities(&self, role: Role) -> &'static [&'static str] {
        match (role, self.driver) {
            (Role::Gateway, UplinkDriver::Packet) => &["net_raw"],
            // Its TAP is made beforehand, for its user.
            (Role::Gateway, UplinkDriver::Tap) | (Role::Backend, _) => &[],
        }
    }

    /// Adds a VM.
    #[must_use]
    pub fn vm(mut self, vm: VmPlan) -> Self {
        self.vms.push(vm);
        self
    }
}

/// What a host is for: the daemon's subcommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It runs VMs.
    Backend,
    /// It offers an uplink.
    Gateway,
}

impl Role {
    /// The daemon's subcommand.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Gateway => "gateway",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_has_an_address_and_a_mac_of_its_number() {
        let vm = VmPlan::new("vm-a", 0, 11);
        assert_eq!(vm.address().to_string(), "192.0.2.11");
        assert_eq!(vm.mac(), "52:54:00:77:00:0b");
    }
}
