//! From names to what they name, and the rules between tables.
//!
//! ```text
//! [host] ──┐
//! [[peer]] ┴─> hosts ──> [[uplink]] ──> [[network]] ──> [[vnic]]
//!                        pool members   designated      home, standbys
//! ```
//! Each step sees only what the steps before it have made, so there are no cycles.

use crate::{
    error::{ConfigError, Fault},
    lines::Lines,
    model::{Config, Control, Fabric, Host, Network, Outside, Peer, Port, Uplink, UplinkPlace},
    reader::{At, File},
    schema::{
        CONTROL_SOCKET_DIR, RawConfig, RawFabric, RawHost, RawNetwork, RawPeer, RawUplink,
        STATE_DIRECTORY, WORKER_PORTS,
    },
    unique::{Unique, unknown},
};
use std::{collections::HashMap, path::PathBuf, sync::Arc};

/// Turns what was read into a configuration; stops at the first broken rule.
pub(crate) fn resolve(file: &File, origin: &str, raw: RawConfig) -> Result<Config, ConfigError> {
    let RawConfig {
        host,
        fabric,
        control,
        fabric_port,
        peers,
        networks,
        uplinks,
        policies,
        grants,
        vnics,
    } = raw;
    let control_socket = match &host.control_socket {
        Some(path) => path.value.clone(),
        None => PathBuf::from(CONTROL_SOCKET_DIR).join(format!("{}.sock", host.name.value)),
    };
    check_ports(file, "[fabric]", &fabric.port, host.workers)?;
    let lines = Lines::new(file.origins(), &host, &fabric, &peers, &uplinks, &vnics)
        .with_control(control.as_ref());
    let peers = resolve_peers(file, &host, &fabric, peers)?;
    let mut resolver = Resolver::new(file, &host.name.value, &peers);
    resolver.uplinks(uplinks)?;
    let networks = resolver.networks(networks)?;
    let policies = crate::bandwidth::policies(file, policies)?;
    let vnics = crate::vnics::resolve(&resolver, &networks, &policies, &control_socket, vnics)?;
    let grants = crate::bandwidth::grants(&resolver, grants)?;
    let uplinks = resolver.uplinks.by_id();
    Ok(Config {
        origin: origin.to_owned(),
        host: Host {
            name: host.name.value,
            private_key_file: host.private_key_file.value,
            workers: host.workers,
            control_socket,
            metrics_address: host.metrics_address.map(|at| at.value),
            state_directory: host
                .state_directory
                .map_or_else(|| STATE_DIRECTORY.into(), |at| at.value),
        },
        fabric: Fabric {
            address: fabric.address.value,
            port: fabric.port.value,
            paths: fabric.paths,
            mtu: fabric.mtu,
            encryption: fabric.encryption,
            failover: fabric.failover,
        },
        control: control.map(|directory| Control { directory: directory.value }),
        fabric_port,
        peers,
        networks,
        uplinks,
        vnics,
        grants,
        lines,
    })
}

/// The workers' ports follow the control port, and 65535 is the last port.
fn check_ports(file: &File, title: &str, port: &At<u16>, workers: u16) -> Result<(), ConfigError> {
    let needed = workers.saturating_mul(WORKER_PORTS);
    if port.value.checked_add(needed).is_some() {
        return Ok(());
    }
    let fault = Fault::new(
        format!(
            "{} leaves no room for the {needed} ports that follow it, {WORKER_PORTS} for each \
             worker",
            port.value
        ),
        format!("give at most {}", u16::MAX.saturating_sub(needed)),
    );
    Err(file.error(port.line, title, Some("port"), fault))
}

fn resolve_peers(
    file: &File,
    host: &RawHost,
    fabric: &RawFabric,
    raw: Vec<RawPeer>,
) -> Result<Vec<Arc<Peer>>, ConfigError> {
    let mut names = Unique::new(file, "name", "name", "give each host its own name");
    let mut addresses = Unique::new(
        file,
        "address",
        "address and port",
        "give each host its own address, or its own `port` on one",
    );
    let mut keys = Unique::new(
        file,
        "public_key",
        "public key",
        "make one with `wireonce keygen` on each host",
    );
    let here = format!("this host, {:?}", host.name.value);
    names.claim("[host]", &here, &host.name)?;
    let own = (fabric.address.value, fabric.port.value);
    addresses.claim_shown("[fabric]", &here, own, fabric.address.line, "")?;

    let mut peers = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let owner = format!("peer {:?}", raw.name.value);
        names.claim(&raw.title, &owner, &raw.name)?;
        if raw.address.value.is_ipv4() != fabric.address.value.is_ipv4() {
            let version = |v4: bool| if v4 { "IPv4" } else { "IPv6" };
            let mine = version(fabric.address.value.is_ipv4());
            let fault = Fault::new(
                format!(
                    "{} is {} but this host's address {} (line {}) is {mine}",
                    raw.address.value,
                    version(raw.address.value.is_ipv4()),
                    fabric.address.value,
                    fabric.address.line,
                ),
                format!("give the peer's {mine} address: a fabric has one IP version"),
            );
            return Err(file.error(raw.address.line, &raw.title, Some("address"), fault));
        }
        // How many workers it has, only its own file knows: at least one.
        check_ports(file, &raw.title, &raw.port, 1)?;
        let place = (raw.address.value, raw.port.value);
        let line = raw.address.line;
        let shown = format!("{} port {} is", raw.address.value, raw.port.value);
        addresses.claim_shown(&raw.title, &owner, place, line, &shown)?;
        let line = raw.public_key.line;
        keys.claim_shown(&raw.title, &owner, raw.public_key.value, line, "it is")?;
        peers.push(Arc::new(Peer {
            index,
            name: raw.name.value,
            address: raw.address.value,
            port: raw.port.value,
            public_key: raw.public_key.value,
        }));
    }
    Ok(peers)
}

/// Where a host name leads.
pub(crate) enum HostRef {
    Local,
    Peer(Arc<Peer>),
}

/// What the steps so far have made.
pub(crate) struct Resolver<'a> {
    pub(crate) file: &'a File,
    host: &'a str,
    peers: HashMap<&'a str, &'a Arc<Peer>>,
    pub(crate) uplinks: Uplinks,
}

/// The uplinks by name and by pool.
#[derive(Default)]
pub(crate) struct Uplinks {
    pub(crate) by_name: HashMap<String, Arc<Uplink>>,
    pools: HashMap<String, Pool>,
}

/// The uplinks of one pool.
pub(crate) struct Pool {
    members: Vec<Arc<Uplink>>,
    /// Whoever has the lowest id.
    lowest: Arc<Uplink>,
    /// The uplink that the file marks as designated, and the mark's line.
    marked: Option<(Arc<Uplink>, usize)>,
}

impl Uplinks {
    /// The pool with this name.
    pub(crate) fn pool(&self, name: &str) -> Result<&Pool, Fault> {
        self.pools.get(name).ok_or_else(|| {
            let known = self.pools.keys().map(String::as_str);
            let what = "the pool of no [[uplink]]";
            unknown(name, what, "pools", "an [[uplink]] of that pool", known)
        })
    }

    /// All of them, in the order of their ids.
    fn by_id(self) -> Vec<Arc<Uplink>> {
        let mut all: Vec<_> = self.by_name.into_values().collect();
        all.sort_unstable_by_key(|uplink| uplink.id);
        all
    }
}

impl Pool {
    /// The marked uplink, or else the one with the lowest id.
    fn designated(&self) -> &Arc<Uplink> {
        self.marked.as_ref().map_or(&self.lowest, |(uplink, _)| uplink)
    }
}

impl<'a> Resolver<'a> {
    fn new(file: &'a File, host: &'a str, peers: &'a [Arc<Peer>]) -> Self {
        let peers = peers.iter().map(|peer| (peer.name.as_str(), peer)).collect();
        Self { file, host, peers, uplinks: Uplinks::default() }
    }

    /// The host that `name`, the value of `key` in the table `title`, names.
    pub(crate) fn host(
        &self,
        title: &str,
        key: &str,
        name: &At<String>,
    ) -> Result<HostRef, ConfigError> {
        if name.value == self.host {
            return Ok(HostRef::Local);
        }
        if let Some(peer) = self.peers.get(name.value.as_str()) {
            return Ok(HostRef::Peer(Arc::clone(peer)));
        }
        let known = self.peers.keys().copied().chain([self.host]);
        let what = "neither this host nor a [[peer]]";
        let fault = unknown(&name.value, what, "hosts", "a [[peer]]", known);
        Err(self.file.error(name.line, title, Some(key), fault))
    }

    fn uplinks(&mut self, raw: Vec<RawUplink>) -> Result<(), ConfigError> {
        let mut ids = Unique::new(self.file, "id", "id", "give each uplink its own id");
        let mut names = Unique::new(self.file, "name", "name", "give each uplink its own name");
        let mut interfaces = Unique::new(
            self.file,
            "interface",
            "interface",
            "give each uplink of a host its own interface",
        );
        for raw in raw {
            let owner = format!("uplink {:?}", raw.name.value);
            let id = raw.id.value;
            ids.claim_shown(&raw.title, &owner, id.0, raw.id.line, &format!("{} is", id.0))?;
            names.claim(&raw.title, &owner, &raw.name)?;
            let place = self.uplink_place(&raw)?;
            if let (UplinkPlace::Local(_), Some(interface)) = (&place, &raw.interface) {
                interfaces.claim(&raw.title, &owner, interface)?;
            }
            self.add_uplink(raw, place)?;
        }
        Ok(())
    }

    fn uplink_place(&self, raw: &RawUplink) -> Result<UplinkPlace, ConfigError> {
        if let HostRef::Peer(peer) = self.host(&raw.title, "host", &raw.host)? {
            return Ok(UplinkPlace::Peer(peer));
        }
        let missing = |key: &str, example: &str| {
            let fault = Fault::new(
                "missing, and the uplink is on this host",
                format!("add a line such as `{key} = {example}`"),
            );
            self.file.error(raw.line, &raw.title, Some(key), fault)
        };
        let driver = raw.driver.ok_or_else(|| missing("driver", "\"packet\""))?;
        let interface = raw.interface.clone().ok_or_else(|| missing("interface", "\"eth1\""))?;
        Ok(UplinkPlace::Local(Port { driver, interface: interface.value }))
    }

    fn add_uplink(&mut self, raw: RawUplink, place: UplinkPlace) -> Result<(), ConfigError> {
        let uplink = Arc::new(Uplink {
            id: raw.id.value,
            name: raw.name.value,
            pool: raw.pool,
            mtu: raw.mtu.map(|at| at.value),
            storm_frames_per_s: raw.storm_frames_per_s,
            draining: raw.draining,
            up_bps: raw.up.map(|rate| rate.0),
            down_bps: raw.down.map(|rate| rate.0),
            fail_back_s: raw.fail_back_s,
            next_hop: raw.next_hop,
            outside_probes: raw.outside_probes,
            place,
        });
        let pool = self.uplinks.pools.entry(uplink.pool.clone()).or_insert_with(|| Pool {
            members: Vec::new(),
            lowest: Arc::clone(&uplink),
            marked: None,
        });
        if uplink.id < pool.lowest.id {
            pool.lowest = Arc::clone(&uplink);
        }
        if let Some(At { value: true, line }) = raw.designated {
            if let Some((other, at)) = &pool.marked {
                let fault = Fault::new(
                    format!(
                        "uplink {:?} (line {at}) is already the designated one of pool {:?}",
                        other.name, uplink.pool
                    ),
                    "mark at most one uplink of a pool",
                );
                return Err(self.file.error(line, &raw.title, Some("designated"), fault));
            }
            pool.marked = Some((Arc::clone(&uplink), line));
        }
        pool.members.push(Arc::clone(&uplink));
        self.uplinks.by_name.insert(uplink.name.clone(), uplink);
        Ok(())
    }

    fn networks(&self, raw: Vec<RawNetwork>) -> Result<Vec<Arc<Network>>, ConfigError> {
        let mut names = Unique::new(self.file, "name", "name", "give each network its own name");
        let mut vnis = Unique::new(self.file, "vni", "number", "give each network its own number");
        let mut vlans =
            Unique::new(self.file, "vlan", "segment", "give each network of a pool its own VLAN");
        let mut networks = Vec::with_capacity(raw.len());
        for raw in raw {
            let owner = format!("network {:?}", raw.name.value);
            names.claim(&raw.title, &owner, &raw.name)?;
            let vni = raw.vni.value;
            vnis.claim_shown(&raw.title, &owner, vni, raw.vni.line, &format!("{} is", vni.get()))?;
            let outside = self.outside(&raw)?;
            if let (Some(outside), Some(pool)) = (&outside, &raw.pool) {
                let vlan = outside.vlan;
                let line = raw.vlan.as_ref().map_or(pool.line, |at| at.line);
                let shown = match vlan {
                    Some(vlan) => format!("VLAN {vlan} of pool {:?} is", outside.pool),
                    None => format!("the untagged LAN of pool {:?} is", outside.pool),
                };
                let key = (outside.pool.clone(), vlan);
                vlans.claim_shown(&raw.title, &owner, key, line, &shown)?;
            }
            networks.push(Arc::new(Network { name: raw.name.value, vni, mtu: raw.mtu, outside }));
        }
        Ok(networks)
    }

    fn outside(&self, raw: &RawNetwork) -> Result<Option<Outside>, ConfigError> {
        let error = |at: usize, key: &str, fault| self.file.error(at, &raw.title, Some(key), fault);
        let Some(name) = &raw.pool else {
            let Some(vlan) = &raw.vlan else { return Ok(None) };
            let fault = Fault::new(
                "a VLAN is one of a pool, and this network has none",
                "add `pool = \"..\"` or remove `vlan`",
            );
            return Err(error(vlan.line, "vlan", fault));
        };
        let pool = self.uplinks.pool(&name.value).map_err(|f| error(name.line, "pool", f))?;
        let small = pool.members.iter().find(|uplink| uplink.mtu.is_some_and(|m| m < raw.mtu));
        if let Some((uplink, mtu)) = small.and_then(|uplink| Some((uplink, uplink.mtu?))) {
            let fault = Fault::new(
                format!(
                    "uplink {:?} carries {mtu} bytes, less than the network's MTU of {}",
                    uplink.name, raw.mtu
                ),
                "lower the network's `mtu` or raise the uplink's",
            );
            return Err(error(name.line, "pool", fault));
        }
        Ok(Some(Outside {
            pool: name.value.clone(),
            vlan: raw.vlan.as_ref().map(|at| at.value),
            designated: Arc::clone(pool.designated()),
        }))
    }
}
