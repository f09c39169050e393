//! What a new configuration changes in a daemon that runs, and what it may not.
//!
//! ```text
//!   running ──┐
//!             ├─> change_from ──> Change: added, removed, changed ──> check_change ──> apply
//!   new ──────┘        └ refused: [host], [fabric]                       └ refused: the machine
//! ```
//! Things are the same thing if they have the same identity: a peer its name, a network
//! its number, an uplink and a vNIC their id. Where they stand in the file does not
//! matter, nor does what they refer to change with it: a vNIC whose home has another
//! storm limit has not changed.

use crate::{
    Config, ConfigError, Control, Fabric, FabricMtu, FabricPort, Grant, Holder, Host, Network,
    NextHop, Outside, Peer, Port, SocketMode, Uplink, UplinkPlace, VhostSocket, Vnic, VnicPlace,
    error::Fault,
};
use std::{collections::HashMap, fmt::Display, hash::Hash, sync::Arc};

/// Keys of a vNIC that its VMM was told, or that lead to the VMM: to change them, the
/// connection ends and a new one begins.
const VMM_KEYS: &[&str] = &[
    "name",
    "host",
    "socket",
    "socket_mode",
    "mac",
    "mtu",
    "queue_pairs",
    "offload",
    "require_sealed_memory",
];
/// Keys of an uplink that lead to its wire: to change them, it is opened anew.
const PORT_KEYS: &[&str] = &["host", "driver", "interface"];

/// How two configurations of one host differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// The keys of this host's fabric port that differ.
    pub fabric_port: Vec<&'static str>,
    /// The other hosts. One with another address or key is another peer in all but name.
    pub peers: Parts<Peer>,
    /// The networks.
    pub networks: Parts<Network>,
    /// The uplinks, of this host and the others.
    pub uplinks: Parts<Uplink>,
    /// The vNICs, of this host and the others.
    pub vnics: Parts<Vnic>,
    /// The terms of servers in pools.
    pub grants: Parts<Grant>,
}

/// How the things of one kind differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts<T> {
    /// In the new configuration only.
    pub added: Vec<Arc<T>>,
    /// In the running one only.
    pub removed: Vec<Arc<T>>,
    /// In both, with other contents.
    pub changed: Vec<Changed<T>>,
}

/// One thing that is there before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed<T> {
    /// As it runs.
    pub before: Arc<T>,
    /// As it is to be.
    pub after: Arc<T>,
    /// The keys that differ, as the file names them.
    pub keys: Vec<&'static str>,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Self { added: Vec::new(), removed: Vec::new(), changed: Vec::new() }
    }
}

impl<T> Parts<T> {
    /// True if nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl<T> Changed<T> {
    fn touches(&self, keys: &[&str]) -> bool {
        self.keys.iter().any(|key| keys.contains(key))
    }
}

impl Changed<Vnic> {
    /// Whether the VMM's connection has to end for it; else only tables change.
    #[must_use]
    pub fn reconnects(&self) -> bool {
        self.touches(VMM_KEYS)
    }
}

impl Changed<Uplink> {
    /// Whether the port has to be opened anew; else only tables change.
    #[must_use]
    pub fn reopens(&self) -> bool {
        self.touches(PORT_KEYS)
    }
}

impl Change {
    /// True if nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { fabric_port, peers, networks, uplinks, vnics, grants } = self;
        let hosts =
            fabric_port.is_empty() && peers.is_empty() && networks.is_empty() && uplinks.is_empty();
        hosts && vnics.is_empty() && grants.is_empty()
    }

    /// One line for each thing that differs, such as `vnic "vm-a": home, standbys`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let Self { fabric_port, peers, networks, uplinks, vnics, grants } = self;
        let mut lines = Vec::new();
        if !fabric_port.is_empty() {
            lines.push(format!("fabric port: {}", fabric_port.join(", ")));
        }
        say(&mut lines, "peer", peers, |peer| peer.name.clone());
        say(&mut lines, "network", networks, |network| network.name.clone());
        say(&mut lines, "uplink", uplinks, |uplink| uplink.name.clone());
        say(&mut lines, "vnic", vnics, |vnic| vnic.name.clone());
        say(&mut lines, "grant", grants, |grant| format!("{}/{}", grant.pool, holder(grant)));
        lines
    }

    /// The vNICs of this host whose VMM's connection ends: they are gone, or come back
    /// by [`Self::vnics_to_connect`].
    pub fn vnics_to_disconnect(&self) -> impl Iterator<Item = &Arc<Vnic>> {
        let changed = self.vnics.changed.iter().filter(|it| it.reconnects()).map(|it| &it.before);
        let here = |vnic: &&Arc<Vnic>| matches!(vnic.place, VnicPlace::Local(_));
        self.vnics.removed.iter().chain(changed).filter(here)
    }

    /// The vNICs of this host whose socket is new, or new again.
    pub fn vnics_to_connect(&self) -> impl Iterator<Item = &Arc<Vnic>> {
        let changed = self.vnics.changed.iter().filter(|it| it.reconnects()).map(|it| &it.after);
        let here = |vnic: &&Arc<Vnic>| matches!(vnic.place, VnicPlace::Local(_));
        self.vnics.added.iter().chain(changed).filter(here)
    }

    /// The uplinks of this host whose port is to be opened, or opened anew.
    pub fn uplinks_to_open(&self) -> impl Iterator<Item = (&Arc<Uplink>, &Port)> {
        let changed = self.uplinks.changed.iter().filter(|it| it.reopens()).map(|it| &it.after);
        self.uplinks.added.iter().chain(changed).filter_map(|uplink| match &uplink.place {
            UplinkPlace::Local(port) => Some((uplink, port)),
            UplinkPlace::Peer(_) => None,
        })
    }
}

impl Config {
    /// What is different here from `running`, which a daemon serves.
    ///
    /// # Errors
    /// Something differs that cannot change while the daemon runs.
    pub fn change_from(&self, running: &Self) -> Result<Change, ConfigError> {
        // Named one by one: whatever is added to these has to be dealt with here.
        let Self {
            origin: _,
            host,
            fabric,
            control,
            fabric_port,
            peers,
            networks,
            uplinks,
            vnics,
            grants,
            lines: _,
        } = self;
        self.same_host(host, &running.host)?;
        self.same_fabric(fabric, &running.fabric)?;
        self.same_control(control.as_ref(), running.control.as_ref())?;
        Ok(Change {
            fabric_port: fabric_port_keys(running.fabric_port, *fabric_port),
            peers: parts(&running.peers, peers, |peer| peer.name.clone(), peer_keys),
            networks: parts(&running.networks, networks, |network| network.vni, network_keys),
            uplinks: parts(&running.uplinks, uplinks, |uplink| uplink.id, uplink_keys),
            vnics: parts(&running.vnics, vnics, |vnic| vnic.id, vnic_keys),
            grants: parts(&running.grants, grants, grant_name, grant_keys),
        })
    }

    fn same_host(&self, new: &Host, running: &Host) -> Result<(), ConfigError> {
        let Host {
            name,
            private_key_file,
            workers,
            control_socket,
            metrics_address,
            state_directory,
        } = new;
        let table = self.host_title();
        let path = |path: &std::path::Path| path.display().to_string();
        self.fixed(&table, "name", name, &running.name)?;
        let running_key = path(&running.private_key_file);
        self.fixed(&table, "private_key_file", &path(private_key_file), &running_key)?;
        self.fixed(&table, "workers", workers, &running.workers)?;
        let running_socket = path(&running.control_socket);
        self.fixed(&table, "control_socket", &path(control_socket), &running_socket)?;
        let running_directory = path(&running.state_directory);
        self.fixed(&table, "state_directory", &path(state_directory), &running_directory)?;
        let address = |address: Option<_>| address.map_or("none".to_owned(), |it| format!("{it}"));
        let running_address = address(running.metrics_address);
        self.fixed(&table, "metrics_address", &address(*metrics_address), &running_address)
    }

    fn same_fabric(&self, new: &Fabric, running: &Fabric) -> Result<(), ConfigError> {
        let Fabric { address, port, paths, mtu, encryption, failover } = new;
        let mtu_text = |mtu: &FabricMtu| match mtu {
            FabricMtu::Probe => "\"probe\"".to_owned(),
            FabricMtu::Fixed(mtu) => mtu.to_string(),
        };
        let fixed = |key, new: &dyn Display, old: &dyn Display| {
            self.fixed("[fabric]", key, &new.to_string(), &old.to_string())
        };
        fixed("address", address, &running.address)?;
        fixed("port", port, &running.port)?;
        fixed("paths", paths, &running.paths)?;
        fixed("mtu", &mtu_text(mtu), &mtu_text(&running.mtu))?;
        let (new, old) = (format!("{failover:?}"), format!("{:?}", running.failover));
        fixed("failover", &new, &old)?;
        fixed("encryption", &format!("{encryption:?}"), &format!("{:?}", running.encryption))
    }

    fn same_control(
        &self,
        new: Option<&Control>,
        running: Option<&Control>,
    ) -> Result<(), ConfigError> {
        let shown = |control: Option<&Control>| {
            control.map_or("none".to_owned(), |it| it.directory.display().to_string())
        };
        self.fixed("[control]", "directory", &shown(new), &shown(running))
    }

    /// What no running daemon can change.
    fn fixed<T: PartialEq + Display>(
        &self,
        table: &str,
        key: &'static str,
        new: &T,
        running: &T,
    ) -> Result<(), ConfigError> {
        if new == running {
            return Ok(());
        }
        let fault = Fault::new(
            format!("cannot change from {running} to {new} while the daemon runs"),
            "put it back, or restart the daemon",
        );
        Err(self.error(table, key, fault))
    }
}

/// Pairs the things of one kind by their identity.
fn parts<T, K: Eq + Hash>(
    running: &[Arc<T>],
    new: &[Arc<T>],
    identity: impl Fn(&T) -> K,
    keys: impl Fn(&T, &T) -> Vec<&'static str>,
) -> Parts<T> {
    let mut before: HashMap<K, &Arc<T>> = running.iter().map(|it| (identity(it), it)).collect();
    let mut parts = Parts::default();
    for after in new {
        let Some(before) = before.remove(&identity(after)) else {
            parts.added.push(Arc::clone(after));
            continue;
        };
        let keys = keys(before, after);
        if !keys.is_empty() {
            let (before, after) = (Arc::clone(before), Arc::clone(after));
            parts.changed.push(Changed { before, after, keys });
        }
    }
    // In the order of the file that runs.
    parts.removed =
        running.iter().filter(|it| before.contains_key(&identity(it))).map(Arc::clone).collect();
    parts
}

fn fabric_port_keys(before: FabricPort, after: FabricPort) -> Vec<&'static str> {
    let FabricPort { up_bps, down_bps } = after;
    differing([("port_up", up_bps != before.up_bps), ("port_down", down_bps != before.down_bps)])
}

fn peer_keys(before: &Peer, after: &Peer) -> Vec<&'static str> {
    let Peer { index: _, name: _, address, port, public_key } = after;
    differing([
        ("address", *address != before.address),
        ("port", *port != before.port),
        ("public_key", *public_key != before.public_key),
    ])
}

fn network_keys(before: &Network, after: &Network) -> Vec<&'static str> {
    let Network { name, vni: _, mtu, outside } = after;
    let pool = |outside: &Option<Outside>| outside.as_ref().map(|outside| outside.pool.clone());
    let vlan = |outside: &Option<Outside>| outside.as_ref().and_then(|outside| outside.vlan);
    let designated =
        |outside: &Option<Outside>| outside.as_ref().map(|outside| outside.designated.id);
    differing([
        ("name", *name != before.name),
        ("mtu", *mtu != before.mtu),
        ("pool", pool(outside) != pool(&before.outside)),
        ("vlan", vlan(outside) != vlan(&before.outside)),
        ("designated", designated(outside) != designated(&before.outside)),
    ])
}

fn uplink_keys(before: &Uplink, after: &Uplink) -> Vec<&'static str> {
    let Uplink {
        id: _,
        name,
        pool,
        mtu,
        storm_frames_per_s,
        draining,
        up_bps,
        down_bps,
        fail_back_s,
        next_hop,
        outside_probes,
        place,
    } = after;
    let address = |hop: &Option<NextHop>| hop.map(|hop| hop.address);
    let vlan = |hop: &Option<NextHop>| hop.and_then(|hop| hop.vlan);
    let (old, new) = (uplink_place(&before.place), uplink_place(place));
    differing([
        ("name", *name != before.name),
        ("host", old.0 != new.0),
        ("pool", *pool != before.pool),
        ("mtu", *mtu != before.mtu),
        ("storm_frames_per_s", *storm_frames_per_s != before.storm_frames_per_s),
        ("draining", *draining != before.draining),
        ("up", *up_bps != before.up_bps),
        ("down", *down_bps != before.down_bps),
        ("fail_back_s", *fail_back_s != before.fail_back_s),
        ("next_hop", address(next_hop) != address(&before.next_hop)),
        ("next_hop_vlan", vlan(next_hop) != vlan(&before.next_hop)),
        ("outside_probes", *outside_probes != before.outside_probes),
        ("driver", old.1.map(|port| port.driver) != new.1.map(|port| port.driver)),
        ("interface", old.1.map(|port| &port.interface) != new.1.map(|port| &port.interface)),
    ])
}

/// The other host, if it is one, and the port if it is this one.
fn uplink_place(place: &UplinkPlace) -> (Option<&str>, Option<&Port>) {
    match place {
        UplinkPlace::Local(port) => (None, Some(port)),
        UplinkPlace::Peer(peer) => (Some(&peer.name), None),
    }
}

fn vnic_keys(before: &Vnic, after: &Vnic) -> Vec<&'static str> {
    let Vnic {
        id: _,
        name,
        place,
        network,
        mac,
        addresses,
        queue_pairs,
        home,
        standbys,
        policy,
        trunk,
        allow,
        storm_frames_per_s,
        guest_tso,
        require_sealed_memory,
    } = after;
    let uplink = |uplink: &Option<Arc<Uplink>>| uplink.as_ref().map(|uplink| uplink.id);
    let ids = |uplinks: &[Arc<Uplink>]| uplinks.iter().map(|uplink| uplink.id).collect::<Vec<_>>();
    let (old, new) = (vnic_place(&before.place), vnic_place(place));
    let mode = |socket: Option<&VhostSocket>| socket.map(|it| it.mode == SocketMode::Listen);
    differing([
        ("name", *name != before.name),
        ("host", old.0 != new.0),
        ("socket", old.1.map(|socket| &socket.path) != new.1.map(|socket| &socket.path)),
        ("socket_mode", mode(old.1) != mode(new.1)),
        ("network", network.vni != before.network.vni),
        ("mtu", network.mtu != before.network.mtu),
        ("mac", *mac != before.mac),
        ("addresses", *addresses != before.addresses),
        ("queue_pairs", *queue_pairs != before.queue_pairs),
        ("home", uplink(home) != uplink(&before.home)),
        ("standbys", ids(standbys) != ids(&before.standbys)),
        ("policy", *policy != before.policy),
        ("trunk", *trunk != before.trunk),
        ("allow", *allow != before.allow),
        ("storm_frames_per_s", *storm_frames_per_s != before.storm_frames_per_s),
        ("offload", *guest_tso != before.guest_tso),
        ("require_sealed_memory", *require_sealed_memory != before.require_sealed_memory),
    ])
}

fn vnic_place(place: &VnicPlace) -> (Option<&str>, Option<&VhostSocket>) {
    match place {
        VnicPlace::Local(socket) => (None, Some(socket)),
        VnicPlace::Peer(peer) => (Some(&peer.name), None),
    }
}

/// A grant is one of a pool and a server.
fn grant_name(grant: &Grant) -> (String, String) {
    (grant.pool.clone(), holder(grant).to_owned())
}

/// This host's own grants have no name of a peer.
fn holder(grant: &Grant) -> &str {
    match &grant.server {
        Holder::Local => "this host",
        Holder::Peer(peer) => &peer.name,
    }
}

fn grant_keys(before: &Grant, after: &Grant) -> Vec<&'static str> {
    let Grant { pool: _, server: _, up, down } = after;
    differing([("up", *up != before.up), ("down", *down != before.down)])
}

fn differing<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<&'static str> {
    keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

fn say<T>(lines: &mut Vec<String>, kind: &str, parts: &Parts<T>, name: impl Fn(&T) -> String) {
    lines.extend(parts.added.iter().map(|it| format!("+ {kind} {:?}", name(it))));
    lines.extend(parts.removed.iter().map(|it| format!("- {kind} {:?}", name(it))));
    let changed = parts.changed.iter();
    lines.extend(changed.map(|it| format!("{kind} {:?}: {}", name(&it.after), it.keys.join(", "))));
}
