//! The rules of vNICs.

use crate::{
    bandwidth::{self, Policies},
    error::{ConfigError, Fault},
    model::{Network, Uplink, VhostSocket, Vnic, VnicPlace},
    reader::At,
    resolve::{HostRef, Resolver},
    schema::RawVnic,
    unique::{Unique, unknown},
};
use ipnet::IpNet;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use wireonce_frame::MacAddr;
use wireonce_wire::{Vni, VnicId};

/// Resolves the vNICs; stops at the first broken rule.
pub(crate) fn resolve(
    resolver: &Resolver<'_>,
    networks: &[Arc<Network>],
    policies: &Policies,
    control_socket: &Path,
    raw: Vec<RawVnic>,
) -> Result<Vec<Arc<Vnic>>, ConfigError> {
    let mut vnics = Vnics {
        resolver,
        networks: networks.iter().map(|n| (n.name.as_str(), n)).collect(),
        policies,
        control_socket,
        ids: Unique::new(
            resolver.file,
            "id",
            "id",
            "give each vNIC its own id, and no id twice ever",
        ),
        names: Unique::new(resolver.file, "name", "name", "give each vNIC its own name"),
        macs: Unique::new(resolver.file, "mac", "MAC", "give each vNIC of a network its own"),
        addresses: Unique::new(
            resolver.file,
            "addresses",
            "address",
            "give each vNIC of a network its own, or a prefix that holds a shared one",
        ),
        sockets: Unique::new(resolver.file, "socket", "socket", "give each vNIC its own socket"),
    };
    raw.into_iter().map(|raw| vnics.vnic(raw).map(Arc::new)).collect()
}

struct Vnics<'a> {
    resolver: &'a Resolver<'a>,
    networks: HashMap<&'a str, &'a Arc<Network>>,
    policies: &'a Policies,
    control_socket: &'a Path,
    ids: Unique<'a, VnicId>,
    names: Unique<'a, String>,
    macs: Unique<'a, (Vni, MacAddr)>,
    addresses: Unique<'a, (Vni, IpNet)>,
    sockets: Unique<'a, PathBuf>,
}

impl Vnics<'_> {
    fn vnic(&mut self, raw: RawVnic) -> Result<Vnic, ConfigError> {
        let network = self.network(&raw)?;
        self.claim(&raw, &network)?;
        let place = self.place(&raw)?;
        let home = self.home(&raw, &network)?;
        let standbys = self.standbys(&raw, &network, home.as_ref())?;
        let policy = raw
            .policy
            .as_ref()
            .map(|name| bandwidth::policy(self.resolver, self.policies, &raw.title, name));
        Ok(Vnic {
            id: raw.id.value,
            name: raw.name.value,
            place,
            network,
            mac: raw.mac.value,
            addresses: raw.addresses.into_iter().map(|at| at.value).collect(),
            queue_pairs: raw.queue_pairs,
            home,
            standbys,
            policy: policy.transpose()?,
            trunk: raw.trunk,
            allow: raw.allow,
            storm_frames_per_s: raw.storm_frames_per_s,
            guest_tso: raw.guest_tso,
            require_sealed_memory: raw.require_sealed_memory,
        })
    }

    fn network(&self, raw: &RawVnic) -> Result<Arc<Network>, ConfigError> {
        let At { value: name, line } = &raw.network;
        self.networks.get(name.as_str()).map(|network| Arc::clone(network)).ok_or_else(|| {
            let known = self.networks.keys().copied();
            let fault =
                unknown(name, "the name of no [[network]]", "networks", "a [[network]]", known);
            self.error(raw, *line, "network", fault)
        })
    }

    /// Takes everything that no other vNIC may have.
    fn claim(&mut self, raw: &RawVnic, network: &Network) -> Result<(), ConfigError> {
        let owner = format!("vNIC {:?}", raw.name.value);
        let in_network = format!("{owner} in network {:?}", network.name);
        let (title, vni) = (&raw.title, network.vni);
        let shown = format!("{} is", raw.id.value);
        self.ids.claim_shown(title, &owner, raw.id.value, raw.id.line, &shown)?;
        self.names.claim(title, &owner, &raw.name)?;
        let mac = raw.mac.value;
        let shown = format!("{mac} is");
        self.macs.claim_shown(title, &in_network, (vni, mac), raw.mac.line, &shown)?;
        for At { value: net, line } in &raw.addresses {
            let shown = format!("{} is", show(net));
            self.addresses.claim_shown(title, &in_network, (vni, *net), *line, &shown)?;
        }
        Ok(())
    }

    fn place(&mut self, raw: &RawVnic) -> Result<VnicPlace, ConfigError> {
        if let HostRef::Peer(peer) = self.resolver.host(&raw.title, "host", &raw.host)? {
            return Ok(VnicPlace::Peer(peer));
        }
        let Some(socket) = &raw.socket else {
            let fault = Fault::new(
                "missing, and the vNIC is on this host",
                format!("add a line such as `socket = \"/run/wireonce/{}.sock\"`", raw.name.value),
            );
            return Err(self.error(raw, raw.line, "socket", fault));
        };
        if socket.value == self.control_socket {
            let problem = format!("{:?} is already this host's control socket", socket.value);
            let fault = Fault::new(problem, "give each socket its own path");
            return Err(self.error(raw, socket.line, "socket", fault));
        }
        self.sockets.claim(&raw.title, &format!("vNIC {:?}", raw.name.value), socket)?;
        Ok(VnicPlace::Local(VhostSocket { path: socket.value.clone(), mode: raw.socket_mode }))
    }

    fn home(&self, raw: &RawVnic, network: &Network) -> Result<Option<Arc<Uplink>>, ConfigError> {
        match (&raw.home, &network.outside) {
            (Some(name), _) => self.uplink(raw, network, "home", name).map(Some),
            (None, None) => Ok(None),
            (None, Some(outside)) => {
                let fault = Fault::new(
                    format!("missing, and network {:?} has pool {:?}", network.name, outside.pool),
                    format!("add a line such as `home = {:?}`", outside.designated.name),
                );
                Err(self.error(raw, raw.line, "home", fault))
            }
        }
    }

    fn standbys(
        &self,
        raw: &RawVnic,
        network: &Network,
        home: Option<&Arc<Uplink>>,
    ) -> Result<Vec<Arc<Uplink>>, ConfigError> {
        let mut standbys: Vec<Arc<Uplink>> = Vec::with_capacity(raw.standbys.len());
        for name in &raw.standbys {
            let uplink = self.uplink(raw, network, "standbys", name)?;
            let twice = if home.is_some_and(|home| home.id == uplink.id) {
                Some("already the home")
            } else if standbys.iter().any(|other| other.id == uplink.id) {
                Some("already a standby")
            } else {
                None
            };
            if let Some(twice) = twice {
                let problem = format!("{:?} is {twice}", uplink.name);
                let fault = Fault::new(problem, "name each uplink once");
                return Err(self.error(raw, name.line, "standbys", fault));
            }
            standbys.push(uplink);
        }
        Ok(standbys)
    }

    /// The uplink `name` of the network's pool.
    fn uplink(
        &self,
        raw: &RawVnic,
        network: &Network,
        key: &str,
        name: &At<String>,
    ) -> Result<Arc<Uplink>, ConfigError> {
        let refuse = |fault| Err(self.error(raw, name.line, key, fault));
        let Some(outside) = &network.outside else {
            return refuse(Fault::new(
                format!("network {:?} has no pool, so its vNICs use no uplink", network.name),
                format!("remove `{key}` or give the network a `pool`"),
            ));
        };
        let Some(uplink) = self.resolver.uplinks.by_name.get(&name.value) else {
            let known = self.resolver.uplinks.by_name.values();
            let known = known.filter(|u| u.pool == outside.pool).map(|u| u.name.as_str());
            let what = "the name of no [[uplink]]";
            return refuse(unknown(&name.value, what, "uplinks", "an [[uplink]]", known));
        };
        if uplink.pool != outside.pool {
            return refuse(Fault::new(
                format!(
                    "uplink {:?} is in pool {:?}, but network {:?} is on pool {:?}",
                    uplink.name, uplink.pool, network.name, outside.pool
                ),
                format!("name an uplink of that pool, such as {:?}", outside.designated.name),
            ));
        }
        Ok(Arc::clone(uplink))
    }

    fn error(&self, raw: &RawVnic, line: usize, key: &str, fault: Fault) -> ConfigError {
        self.resolver.file.error(line, &raw.title, Some(key), fault)
    }
}

/// A whole-length prefix reads as the address that it is.
fn show(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}
