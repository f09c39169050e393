//! The configuration after every name has become what it names.

use crate::lines::Lines;
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};
use wireonce_frame::MacAddr;
use wireonce_shares::Terms;
use wireonce_wire::{UplinkId, Vni, VnicId};

/// The desired state as one host needs it.
///
/// The parts refer to each other directly: a vNIC holds its network, its home and
/// its host, so that no reference can be broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file that it was read from, as it was named.
    pub origin: String,
    /// This host.
    pub host: Host,
    /// How this host sits on the fabric.
    pub fabric: Fabric,
    /// Where it keeps its membership in a controller, which has everything below.
    pub control: Option<Control>,
    /// What its fabric port carries.
    pub fabric_port: FabricPort,
    /// The other hosts, in file order.
    pub peers: Vec<Arc<Peer>>,
    /// The networks, in file order.
    pub networks: Vec<Arc<Network>>,
    /// All uplinks, this host's and the others', by id.
    pub uplinks: Vec<Arc<Uplink>>,
    /// All vNICs, this host's and the others', in file order.
    pub vnics: Vec<Arc<Vnic>>,
    /// The terms of servers in pools, in file order.
    pub grants: Vec<Arc<Grant>>,
    /// Where in the file the keys stand that only the machine can prove wrong.
    pub lines: Lines,
}

/// This host, or rather one daemon on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The name that the other hosts' files know it by.
    pub name: String,
    /// The file with this host's private key.
    pub private_key_file: PathBuf,
    /// Worker threads.
    pub workers: u16,
    /// The Unix socket that `wireonce status` asks.
    pub control_socket: PathBuf,
    /// Where Prometheus finds `/metrics`; `None`: nowhere.
    pub metrics_address: Option<SocketAddr>,
    /// Where the daemon keeps what its next life has to know.
    pub state_directory: PathBuf,
}

/// A host's membership in a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The directory that is all of it.
    pub directory: PathBuf,
}

/// How this host sits on the fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fabric {
    /// This host's address; peers have the same IP version.
    pub address: IpAddr,
    /// The first UDP port.
    pub port: u16,
    /// UDP source ports per link, for ECMP and LAG: 1 to 8.
    pub paths: u8,
    /// How large fabric packets may be.
    pub mtu: FabricMtu,
    /// How datagrams are protected.
    pub encryption: Encryption,
    /// How soon a vNIC of this host leaves a home that is lost.
    pub failover: Failover,
}

/// What a host's fabric port carries, in bits a second on the fabric's wire; `None`: as much as
/// anybody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FabricPort {
    /// To the other hosts.
    pub up_bps: Option<u64>,
    /// From them.
    pub down_bps: Option<u64>,
}

/// How soon a vNIC leaves a home that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failover {
    /// Within 35 ms.
    Fast,
    /// Within 350 ms.
    Default,
}

/// How large an IP packet of the fabric may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FabricMtu {
    /// What each path carries is found out by probing.
    Probe,
    /// This many bytes, IP header included.
    Fixed(u16),
}

/// How datagrams are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// AES-256-GCM on each datagram.
    Aes256Gcm,
    /// Clear text that anyone on the fabric can read and forge.
    Off,
}

/// Another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its position in [`Config::peers`].
    pub index: usize,
    /// The name of the host.
    pub name: String,
    /// Its address on the fabric.
    pub address: IpAddr,
    /// Its first UDP port.
    pub port: u16,
    /// Its static X25519 public key.
    pub public_key: [u8; 32],
}

impl Peer {
    /// Address and first port.
    #[must_use]
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

/// A layer-2 segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// For people.
    pub name: String,
    /// For blocks.
    pub vni: Vni,
    /// Bytes of the largest IP packet, without Ethernet header.
    pub mtu: u16,
    /// How it reaches outside; `None` keeps it among its vNICs.
    pub outside: Option<Outside>,
}

/// Where a network meets the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// The pool of uplinks.
    pub pool: String,
    /// The VLAN on those uplinks, 1 to 4094; `None` is untagged.
    pub vlan: Option<u16>,
    /// The one uplink that lets broadcast and multicast from outside in.
    pub designated: Arc<Uplink>,
}

/// One port of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// For blocks.
    pub id: UplinkId,
    /// For people.
    pub name: String,
    /// Uplinks of one pool reach the same outside layer-2 network.
    pub pool: String,
    /// Bytes of the largest IP packet outside; `None`: ask the interface.
    pub mtu: Option<u16>,
    /// Broadcast and multicast frames per second that it lets into each network.
    pub storm_frames_per_s: u32,
    /// Nothing new goes there, and what is there leaves; until then it carries it.
    pub draining: bool,
    /// What it carries towards the outside, in bits a second; `None`: nothing upwards is shaped.
    pub up_bps: Option<u64>,
    /// What it carries from the outside, in bits a second; `None`: nothing downwards is shaped.
    pub down_bps: Option<u64>,
    /// vNICs whose home it is come back by themselves when it was fit for so many seconds; `None`: the
    /// operator brings them back.
    pub fail_back_s: Option<u32>,
    /// Who is asked each second whether it answers; `None`: nobody.
    pub next_hop: Option<NextHop>,
    /// Whether it sends probes outside, if that is said; see [`Config::probes_outside`].
    pub outside_probes: Option<bool>,
    /// Where it is.
    pub place: UplinkPlace,
}

/// The router behind an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// Its address.
    pub address: IpAddr,
    /// The VLAN that it is on, 1 to 4094; `None` is untagged.
    pub vlan: Option<u16>,
}

/// Where an uplink is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UplinkPlace {
    /// On this host, as this port.
    Local(Port),
    /// On another host.
    Peer(Arc<Peer>),
}

/// Terms that vNICs have by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// For people, and for vNICs.
    pub name: String,
    /// Towards the uplink.
    pub up: Terms,
    /// From the uplink.
    pub down: Terms,
}

/// What one server may use of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The pool.
    pub pool: String,
    /// Who may use it.
    pub server: Holder,
    /// Towards the uplinks.
    pub up: Terms,
    /// From the uplinks.
    pub down: Terms,
}

/// A server that has something of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// This host.
    Local,
    /// Another host.
    Peer(Arc<Peer>),
}

/// How this host drives an uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The kind of access.
    pub driver: Driver,
    /// The network interface.
    pub interface: String,
}

/// How a gateway reaches an uplink's wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// An AF_PACKET socket on an existing interface.
    Packet,
    /// A TAP device.
    Tap,
}

/// One NIC of a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vnic {
    /// For blocks; never used again.
    pub id: VnicId,
    /// For people.
    pub name: String,
    /// Where the virtual machine is.
    pub place: VnicPlace,
    /// The segment that it is on.
    pub network: Arc<Network>,
    /// Its only source MAC address.
    pub mac: MacAddr,
    /// The source addresses that it may use; if empty, source addresses are not checked.
    pub addresses: Vec<IpNet>,
    /// Queue pairs that are offered to the guest, 1 to 8.
    pub queue_pairs: u8,
    /// The uplink that it uses now; `None` on a network without pool.
    pub home: Option<Arc<Uplink>>,
    /// The uplinks that follow when the home is lost, in order.
    pub standbys: Vec<Arc<Uplink>>,
    /// Its terms on the home; `None`: the default ones.
    pub policy: Option<Arc<Policy>>,
    /// The guest may send and receive VLAN tags.
    pub trunk: bool,
    /// What the port guard lets through beyond the rule.
    pub allow: Allow,
    /// Broadcast and multicast frames per second that the guest may send.
    pub storm_frames_per_s: u32,
    /// The guest is offered TSO frames towards it (GUEST_TSO4 and GUEST_TSO6).
    pub guest_tso: bool,
    /// A VMM whose guest memory could shrink under the backend is refused.
    pub require_sealed_memory: bool,
}

/// Where a vNIC's virtual machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VnicPlace {
    /// On this host, behind this socket.
    Local(VhostSocket),
    /// On another host.
    Peer(Arc<Peer>),
}

/// The vhost-user socket between the backend and the VMM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostSocket {
    /// Its path.
    pub path: PathBuf,
    /// Which side listens.
    pub mode: SocketMode,
}

/// Which side of the vhost-user socket the backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketMode {
    /// The backend listens and the VMM connects.
    Listen,
    /// The VMM listens and the backend connects.
    Connect,
}

/// What the port guard lets through beyond the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allow {
    /// DHCP server replies.
    pub dhcp_server: bool,
    /// IPv6 router advertisements and redirects.
    pub router_advertisement: bool,
}

impl Config {
    /// This host's vNICs, each with its socket.
    pub fn local_vnics(&self) -> impl Iterator<Item = (&Arc<Vnic>, &VhostSocket)> {
        self.vnics.iter().filter_map(|vnic| match &vnic.place {
            VnicPlace::Local(socket) => Some((vnic, socket)),
            VnicPlace::Peer(_) => None,
        })
    }

    /// This host's uplinks, each with its port.
    pub fn local_uplinks(&self) -> impl Iterator<Item = (&Arc<Uplink>, &Port)> {
        self.uplinks.iter().filter_map(|uplink| match &uplink.place {
            UplinkPlace::Local(port) => Some((uplink, port)),
            UplinkPlace::Peer(_) => None,
        })
    }

    /// The vNICs of a network, on all hosts.
    pub fn vnics_of(&self, vni: Vni) -> impl Iterator<Item = &Arc<Vnic>> {
        self.vnics.iter().filter(move |vnic| vnic.network.vni == vni)
    }

    /// The uplinks of a pool, by id.
    pub fn uplinks_of<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a Arc<Uplink>> {
        self.uplinks.iter().filter(move |uplink| uplink.pool == pool)
    }

    /// The other hosts that have a vNIC in a network, each once, in peer order:
    /// where broadcast has to go.
    #[must_use]
    pub fn member_peers(&self, vni: Vni) -> Vec<&Arc<Peer>> {
        let mut member = vec![false; self.peers.len()];
        for vnic in self.vnics_of(vni) {
            if let VnicPlace::Peer(peer) = &vnic.place
                && let Some(flag) = member.get_mut(peer.index)
            {
                *flag = true;
            }
        }
        self.peers.iter().zip(member).filter_map(|(peer, is)| is.then_some(peer)).collect()
    }

    /// Whether `uplink` sends probes on the outside network. Unless it is said, it does if its
    /// pool has another uplink to be heard by.
    #[must_use]
    pub fn probes_outside(&self, uplink: &Uplink) -> bool {
        let several = || self.uplinks_of(&uplink.pool).nth(1).is_some();
        uplink.outside_probes.unwrap_or_else(several)
    }

    /// The one uplink that lets a network's broadcast from outside in; `None` for a
    /// network without pool.
    #[must_use]
    pub fn designated_uplink(&self, vni: Vni) -> Option<&Arc<Uplink>> {
        self.network(vni)?.outside.as_ref().map(|outside| &outside.designated)
    }

    /// The network of a pool that uses `vlan` on its uplinks.
    #[must_use]
    pub fn network_on(&self, pool: &str, vlan: Option<u16>) -> Option<&Arc<Network>> {
        self.networks.iter().find(|network| {
            network.outside.as_ref().is_some_and(|o| o.pool == pool && o.vlan == vlan)
        })
    }

    /// The peer with this name.
    #[must_use]
    pub fn peer(&self, name: &str) -> Option<&Arc<Peer>> {
        self.peers.iter().find(|peer| peer.name == name)
    }

    /// The network with this number.
    #[must_use]
    pub fn network(&self, vni: Vni) -> Option<&Arc<Network>> {
        self.networks.iter().find(|network| network.vni == vni)
    }

    /// The vNIC with this id.
    #[must_use]
    pub fn vnic(&self, id: VnicId) -> Option<&Arc<Vnic>> {
        self.vnics.iter().find(|vnic| vnic.id == id)
    }

    /// The uplink with this id.
    #[must_use]
    pub fn uplink(&self, id: UplinkId) -> Option<&Arc<Uplink>> {
        self.uplinks.iter().find(|uplink| uplink.id == id)
    }
}
