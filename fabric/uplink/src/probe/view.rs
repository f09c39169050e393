//! What the configuration says of this gateway's pools, as the desk needs it.

use super::keys::Keys;
use wireonce_config::{Config, NextHop, Uplink, UplinkPlace};
use wireonce_directory::PeerNumbers;
use wireonce_link::{PeerId, PublicKey, StaticKey};
use wireonce_wire::UplinkId;

/// One pool that this gateway has an uplink of.
#[derive(Debug, Clone)]
pub(super) struct PoolView {
    pub(super) name: String,
    /// The designated uplink while it is up.
    pub(super) configured: UplinkId,
    /// The VLANs of its networks, untagged first.
    pub(super) vlans: Vec<Option<u16>>,
    pub(super) own: Vec<OwnView>,
    pub(super) others: Vec<OtherView>,
    pub(super) keys: Keys,
}

/// An uplink of this gateway.
#[derive(Debug, Clone)]
pub(super) struct OwnView {
    pub(super) id: UplinkId,
    pub(super) name: String,
    pub(super) interface: String,
    /// It sends probes and is expected to be heard.
    pub(super) probes: bool,
    pub(super) next_hop: Option<NextHop>,
}

/// An uplink of another gateway.
#[derive(Debug, Clone)]
pub(super) struct OtherView {
    pub(super) id: UplinkId,
    pub(super) name: String,
    pub(super) probes: bool,
    pub(super) gateway: PublicKey,
    /// Its gateway on the fabric; `None` if it has no number yet.
    pub(super) peer: Option<PeerId>,
}

/// The pools of this gateway's uplinks.
pub(super) fn pools(config: &Config, numbers: &PeerNumbers, key: &StaticKey) -> Vec<PoolView> {
    let mut pools: Vec<PoolView> = Vec::new();
    for (uplink, _) in config.local_uplinks() {
        if pools.iter().all(|pool| pool.name != uplink.pool) {
            pools.push(pool(config, numbers, key, &uplink.pool));
        }
    }
    pools
}

fn pool(config: &Config, numbers: &PeerNumbers, key: &StaticKey, name: &str) -> PoolView {
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for uplink in config.uplinks_of(name) {
        match &uplink.place {
            UplinkPlace::Local(port) => own.push(OwnView {
                id: uplink.id,
                name: uplink.name.clone(),
                interface: port.interface.clone(),
                probes: config.probes_outside(uplink),
                next_hop: uplink.next_hop,
            }),
            UplinkPlace::Peer(peer) => others.push(OtherView {
                id: uplink.id,
                name: uplink.name.clone(),
                probes: config.probes_outside(uplink),
                gateway: PublicKey::from_bytes(peer.public_key),
                peer: numbers.get(peer),
            }),
        }
    }
    let keys =
        Keys::new(key, others.iter().filter(|other| other.probes).map(|other| other.gateway));
    PoolView {
        name: name.to_owned(),
        configured: configured(config, name),
        vlans: vlans(config, name),
        own,
        others,
        keys,
    }
}

/// The pool's designated uplink: all its networks have the same; without a network, the first.
pub(super) fn configured(config: &Config, pool: &str) -> UplinkId {
    let mut outsides = config.networks.iter().filter_map(|network| network.outside.as_ref());
    let designated = outsides.find(|outside| outside.pool == pool).map(|it| it.designated.id);
    let first = || config.uplinks_of(pool).next().map(|uplink: &std::sync::Arc<Uplink>| uplink.id);
    designated.or_else(first).unwrap_or(UplinkId(0))
}

fn vlans(config: &Config, pool: &str) -> Vec<Option<u16>> {
    let outsides = config.networks.iter().filter_map(|network| network.outside.as_ref());
    let mut vlans: Vec<_> = outsides.filter(|it| it.pool == pool).map(|it| it.vlan).collect();
    vlans.sort_unstable();
    vlans.dedup();
    vlans
}
