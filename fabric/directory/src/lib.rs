//! Who is where: the forwarding tables that follow from the configuration.
//!
//! There is no learning: a vNIC's location, network and home stand in the desired
//! state, and every host has them. Two questions are asked for every frame.
//! On its way out: [`Directory::route`]. On its way in from a peer, who may be
//! compromised: [`Directory::admit`].
//!
//! The tables never change. Another configuration has other tables, which take the place
//! of these whole, together with everything that remembers an answer of them.
#![forbid(unsafe_code)]

mod numbers;
#[cfg(test)]
mod tests;

pub use numbers::PeerNumbers;

use rustc_hash::FxHashMap;
use std::{net::IpAddr, sync::Arc};
use wireonce_config::{Config, Network, Peer, Uplink, UplinkPlace, Vnic, VnicPlace};
use wireonce_frame::MacAddr;
use wireonce_ledger::DropReason;
use wireonce_link::PeerId;
use wireonce_wire::{Endpoint, UplinkId, Vni, VnicId};

/// Which host something is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// This one.
    Local,
    /// A peer.
    Peer(PeerId),
}

/// A vNIC and where it is.
#[derive(Debug, Clone)]
pub struct VnicEntry {
    /// Its configuration.
    pub vnic: Arc<Vnic>,
    /// Its server.
    pub host: Host,
}

/// An uplink and where it is.
#[derive(Debug, Clone)]
pub struct UplinkEntry {
    /// Its configuration.
    pub uplink: Arc<Uplink>,
    /// Its gateway.
    pub host: Host,
}

/// A network and where its vNICs are.
#[derive(Debug, Clone)]
pub struct NetworkEntry {
    /// Its configuration.
    pub network: Arc<Network>,
    /// The vNICs on this host.
    pub local_members: Vec<VnicId>,
    /// The other hosts that have a vNIC in it.
    pub member_peers: Vec<PeerId>,
}

/// Where a unicast frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To a vNIC of this host.
    LocalVnic(VnicId),
    /// Out of the fabric, wherever the vNIC is attached now; the tables only know where it should be
    /// ([`Directory::route_outside`]).
    Outside,
    /// To an uplink of this process.
    LocalUplink(UplinkId),
    /// To an endpoint of a peer.
    Peer(PeerId, Endpoint),
    /// Nowhere.
    Drop(DropReason),
}

/// The forwarding tables of one host.
#[derive(Debug, Default)]
pub struct Directory {
    vnics: FxHashMap<VnicId, VnicEntry>,
    by_mac: FxHashMap<(Vni, MacAddr), VnicId>,
    networks: FxHashMap<Vni, NetworkEntry>,
    uplinks: FxHashMap<UplinkId, UplinkEntry>,
    by_vlan: FxHashMap<(UplinkId, Option<u16>), Vni>,
    by_address: FxHashMap<(Vni, IpAddr), VnicId>,
}

impl Directory {
    /// The tables for the host whose configuration this is, with its peers numbered in
    /// order.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::numbered(config, &PeerNumbers::in_order(config))
    }

    /// The tables for the host whose configuration this is. A peer without a number
    /// cannot be reached.
    #[must_use]
    pub fn numbered(config: &Config, numbers: &PeerNumbers) -> Self {
        let mut directory = Self::default();
        for uplink in &config.uplinks {
            directory.add_uplink(config, numbers, uplink);
        }
        for network in &config.networks {
            let members = config.member_peers(network.vni);
            let member_peers = members.iter().filter_map(|peer| numbers.get(peer)).collect();
            let network = Arc::clone(network);
            let local_members = Vec::new();
            directory
                .networks
                .insert(network.vni, NetworkEntry { network, local_members, member_peers });
        }
        for vnic in &config.vnics {
            directory.add_vnic(numbers, vnic);
        }
        directory
    }

    /// The vNIC with this id.
    #[must_use]
    pub fn vnic(&self, id: VnicId) -> Option<&VnicEntry> {
        self.vnics.get(&id)
    }

    /// All vNICs, in no order.
    pub fn vnics(&self) -> impl Iterator<Item = &VnicEntry> {
        self.vnics.values()
    }

    /// The vNIC of a network that has this MAC address.
    #[must_use]
    pub fn lookup(&self, vni: Vni, mac: MacAddr) -> Option<&VnicEntry> {
        self.vnics.get(self.by_mac.get(&(vni, mac))?)
    }

    /// The network with this number.
    #[must_use]
    pub fn network(&self, vni: Vni) -> Option<&NetworkEntry> {
        self.networks.get(&vni)
    }

    /// The uplink with this id.
    #[must_use]
    pub fn uplink(&self, id: UplinkId) -> Option<&UplinkEntry> {
        self.uplinks.get(&id)
    }

    /// The network that an uplink's frames with this VLAN tag (or none) belong to.
    #[must_use]
    pub fn network_by_vlan(&self, uplink: UplinkId, vlan: Option<u16>) -> Option<Vni> {
        self.by_vlan.get(&(uplink, vlan)).copied()
    }

    /// The vNICs' own addresses, network by network: what may be answered for them.
    pub fn addresses(&self) -> impl Iterator<Item = (Vni, IpAddr, &Vnic)> {
        self.by_address.iter().filter_map(|((vni, address), id)| {
            self.vnics.get(id).map(|entry| (*vni, *address, &*entry.vnic))
        })
    }

    /// Where a unicast frame of the vNIC `from` to `destination` goes: to the vNIC of
    /// its network that has the address, else outside.
    #[must_use]
    pub fn route(&self, from: &Vnic, destination: MacAddr) -> Route {
        if destination == from.mac {
            return Route::Drop(DropReason::Reflected);
        }
        if let Some(to) = self.lookup(from.network.vni, destination) {
            return match to.host {
                Host::Local => Route::LocalVnic(to.vnic.id),
                Host::Peer(peer) => Route::Peer(peer, Endpoint::Vnic(to.vnic.id)),
            };
        }
        if from.home.is_some() { Route::Outside } else { Route::Drop(DropReason::NoRoute) }
    }

    /// Where a frame of the vNIC `from` should leave the fabric: through its home.
    #[must_use]
    pub fn route_outside(&self, from: &Vnic) -> Route {
        let Some(home) = from.home.as_ref().and_then(|home| self.uplinks.get(&home.id)) else {
            return Route::Drop(DropReason::NoRoute);
        };
        match home.host {
            Host::Local => Route::LocalUplink(home.uplink.id),
            Host::Peer(peer) => Route::Peer(peer, Endpoint::Uplink(home.uplink.id)),
        }
    }

    /// The network of a block from `peer`, if the peer may send it.
    ///
    /// # Errors
    /// [`DropReason::SourceNotOwned`], [`DropReason::UnknownDestination`] or
    /// [`DropReason::NetworkMismatch`].
    pub fn admit(
        &self,
        peer: PeerId,
        source: Endpoint,
        destination: Endpoint,
    ) -> Result<Vni, DropReason> {
        match source {
            Endpoint::Vnic(id) => {
                let from = self.vnics.get(&id).ok_or(DropReason::SourceNotOwned)?;
                if from.host != Host::Peer(peer) {
                    return Err(DropReason::SourceNotOwned);
                }
                self.admit_from_vnic(&from.vnic, destination)
            }
            Endpoint::Uplink(id) => {
                let from = self.uplinks.get(&id).ok_or(DropReason::SourceNotOwned)?;
                if from.host != Host::Peer(peer) {
                    return Err(DropReason::SourceNotOwned);
                }
                self.admit_from_uplink(&from.uplink, destination)
            }
            Endpoint::Link | Endpoint::Network(_) => Err(DropReason::SourceNotOwned),
        }
    }

    fn admit_from_vnic(&self, from: &Vnic, destination: Endpoint) -> Result<Vni, DropReason> {
        let vni = from.network.vni;
        let same_network = match destination {
            Endpoint::Vnic(id) => self.local_vnic(id)?.network.vni == vni,
            Endpoint::Network(to) => to == vni,
            // Which of its pool's it uses now, attachments say; a network without a pool has none.
            Endpoint::Uplink(id) => {
                let to = self.uplinks.get(&id).filter(|to| to.host == Host::Local);
                let to = to.ok_or(DropReason::UnknownDestination)?;
                let outside = from.network.outside.as_ref();
                outside.is_some_and(|outside| outside.pool == to.uplink.pool)
            }
            Endpoint::Link => return Err(DropReason::UnknownDestination),
        };
        if same_network { Ok(vni) } else { Err(DropReason::NetworkMismatch) }
    }

    fn admit_from_uplink(&self, from: &Uplink, destination: Endpoint) -> Result<Vni, DropReason> {
        let network = match destination {
            Endpoint::Vnic(id) => &self.local_vnic(id)?.network,
            Endpoint::Network(vni) => {
                &self.networks.get(&vni).ok_or(DropReason::UnknownDestination)?.network
            }
            Endpoint::Uplink(_) | Endpoint::Link => return Err(DropReason::UnknownDestination),
        };
        let in_pool = network.outside.as_ref().is_some_and(|outside| outside.pool == from.pool);
        if in_pool { Ok(network.vni) } else { Err(DropReason::NetworkMismatch) }
    }

    fn local_vnic(&self, id: VnicId) -> Result<&Arc<Vnic>, DropReason> {
        let entry = self.vnics.get(&id).filter(|entry| entry.host == Host::Local);
        entry.map(|entry| &entry.vnic).ok_or(DropReason::UnknownDestination)
    }

    fn add_uplink(&mut self, config: &Config, numbers: &PeerNumbers, uplink: &Arc<Uplink>) {
        let host = match &uplink.place {
            UplinkPlace::Local(_) => Host::Local,
            UplinkPlace::Peer(peer) => host_of(numbers, peer),
        };
        for network in &config.networks {
            if let Some(outside) = &network.outside
                && outside.pool == uplink.pool
            {
                self.by_vlan.insert((uplink.id, outside.vlan), network.vni);
            }
        }
        let uplink = Arc::clone(uplink);
        self.uplinks.insert(uplink.id, UplinkEntry { uplink, host });
    }

    fn add_vnic(&mut self, numbers: &PeerNumbers, vnic: &Arc<Vnic>) {
        let vni = vnic.network.vni;
        let host = match &vnic.place {
            VnicPlace::Local(_) => Host::Local,
            VnicPlace::Peer(peer) => host_of(numbers, peer),
        };
        if host == Host::Local
            && let Some(network) = self.networks.get_mut(&vni)
        {
            network.local_members.push(vnic.id);
        }
        self.by_mac.insert((vni, vnic.mac), vnic.id);
        for address in &vnic.addresses {
            // A prefix is a range that the vNIC may use, not an address that it has.
            if address.prefix_len() == address.max_prefix_len() {
                self.by_address.insert((vni, address.addr()), vnic.id);
            }
        }
        self.vnics.insert(vnic.id, VnicEntry { vnic: Arc::clone(vnic), host });
    }
}

/// A peer without a number is one that no agent knows: nothing is sent to it, and nothing
/// comes from it.
fn host_of(numbers: &PeerNumbers, peer: &Peer) -> Host {
    Host::Peer(numbers.get(peer).unwrap_or(PeerId(usize::MAX)))
}
