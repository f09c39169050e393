//! Policies and grants: who is promised what of which uplinks.

use crate::{
    error::{ConfigError, Fault},
    model::{Config, FabricPort, Grant, Holder, Policy, Uplink, Vnic, VnicPlace},
    reader::{At, File},
    resolve::{HostRef, Resolver},
    schema::{RawGrant, RawPolicy},
    unique::{Unique, unknown},
};
use std::{collections::HashMap, sync::Arc};
use wireonce_shares::{Rate, Terms};

/// Which way frames go through an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From guests to the outside.
    Up,
    /// From the outside to guests.
    Down,
}

/// The policies by name.
pub(crate) type Policies = HashMap<String, Arc<Policy>>;

/// Resolves the policies; stops at the first name that is there twice.
pub(crate) fn policies(file: &File, raw: Vec<RawPolicy>) -> Result<Policies, ConfigError> {
    let mut names = Unique::new(file, "name", "name", "give each policy its own name");
    let mut policies = HashMap::with_capacity(raw.len());
    for RawPolicy { title, name, up, down } in raw {
        names.claim(&title, &format!("policy {:?}", name.value), &name)?;
        let policy = Policy { name: name.value.clone(), up: up.value, down: down.value };
        policies.insert(name.value, Arc::new(policy));
    }
    Ok(policies)
}

/// The policy that a vNIC names.
pub(crate) fn policy(
    resolver: &Resolver<'_>,
    policies: &Policies,
    title: &str,
    name: &At<String>,
) -> Result<Arc<Policy>, ConfigError> {
    policies.get(&name.value).map(Arc::clone).ok_or_else(|| {
        let known = policies.keys().map(String::as_str);
        let what = "the name of no [[policy]]";
        let fault = unknown(&name.value, what, "policies", "a [[policy]]", known);
        resolver.file.error(name.line, title, Some("policy"), fault)
    })
}

/// Resolves the grants; stops at the first broken rule.
pub(crate) fn grants(
    resolver: &Resolver<'_>,
    raw: Vec<RawGrant>,
) -> Result<Vec<Arc<Grant>>, ConfigError> {
    let mut grants = Grants {
        resolver,
        taken: Unique::new(
            resolver.file,
            "server",
            "grant",
            "write all that a server has of a pool into one grant",
        ),
        reserved: HashMap::new(),
    };
    raw.into_iter().map(|raw| grants.grant(raw).map(Arc::new)).collect()
}

struct Grants<'a> {
    resolver: &'a Resolver<'a>,
    taken: Unique<'a, (String, String)>,
    /// What is reserved so far, by pool and direction.
    reserved: HashMap<(String, Direction), u64>,
}

impl Grants<'_> {
    fn grant(&mut self, raw: RawGrant) -> Result<Grant, ConfigError> {
        let RawGrant { title, pool, server, up, down } = raw;
        self.resolver
            .uplinks
            .pool(&pool.value)
            .map_err(|fault| self.resolver.file.error(pool.line, &title, Some("pool"), fault))?;
        let holder = match self.resolver.host(&title, "server", &server)? {
            HostRef::Local => Holder::Local,
            HostRef::Peer(peer) => Holder::Peer(peer),
        };
        let owner = format!("server {:?} in pool {:?}", server.value, pool.value);
        let shown = format!("{:?} has", server.value);
        let pair = (pool.value.clone(), server.value);
        self.taken.claim_shown(&title, &owner, pair, server.line, &shown)?;
        self.reserve(&title, &pool.value, Direction::Up, &up)?;
        self.reserve(&title, &pool.value, Direction::Down, &down)?;
        Ok(Grant { pool: pool.value, server: holder, up: up.value, down: down.value })
    }

    /// What is reserved has to be there when all uplinks are.
    fn reserve(
        &mut self,
        title: &str,
        pool: &str,
        direction: Direction,
        terms: &At<Terms>,
    ) -> Result<(), ConfigError> {
        let reserved = self.reserved.entry((pool.to_owned(), direction)).or_default();
        *reserved = reserved.saturating_add(terms.value.reservation_bps);
        let uplinks = self.resolver.uplinks.by_name.values().filter(|uplink| uplink.pool == pool);
        let usable = uplinks.filter_map(|uplink| uplink.usable_bps(direction));
        let usable = usable.fold(0, u64::saturating_add);
        if *reserved <= usable || terms.value.reservation_bps == 0 {
            return Ok(());
        }
        let key = direction.key();
        let problem = format!(
            "with this, {} of pool {pool:?} are reserved, and its uplinks have {} for it ({} % of their `{key}`)",
            Rate(*reserved),
            Rate(usable),
            direction.usable_percent(),
        );
        let remedy = format!("reserve less, or give the pool's uplinks (more) `{key}`");
        let table = format!("{title} [{key}]");
        let fault = Fault::new(problem, remedy);
        Err(self.resolver.file.error(terms.line, &table, Some("reservation"), fault))
    }
}

impl Direction {
    fn key(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// How much of an uplink is given away. Downwards less: the gateway only sees what its
    /// port has already let through, and its queue has to stand before the port's.
    fn usable_percent(self) -> u64 {
        match self {
            Self::Up => 99,
            Self::Down => 96,
        }
    }
}

impl Uplink {
    /// What may be given away of it, in bits a second; `None`: it is not shaped.
    #[must_use]
    pub fn usable_bps(&self, direction: Direction) -> Option<u64> {
        let capacity_bps = match direction {
            Direction::Up => self.up_bps,
            Direction::Down => self.down_bps,
        };
        capacity_bps.map(|bps| bps / 100 * direction.usable_percent())
    }
}

impl FabricPort {
    /// What may be given away of it, in bits a second on the fabric's wire; `None`: anything. What
    /// is kept back is for hellos and reports; and downwards, because the queue has to stand
    /// at those who send.
    #[must_use]
    pub fn usable_bps(&self, direction: Direction) -> Option<u64> {
        let (capacity_bps, percent) = match direction {
            Direction::Up => (self.up_bps, 98),
            Direction::Down => (self.down_bps, 96),
        };
        capacity_bps.map(|bps| bps / 100 * percent)
    }
}

impl Vnic {
    /// Its terms on its home.
    #[must_use]
    pub fn terms(&self, direction: Direction) -> Terms {
        let terms = |policy: &Arc<Policy>| match direction {
            Direction::Up => policy.up,
            Direction::Down => policy.down,
        };
        self.policy.as_ref().map(terms).unwrap_or_default()
    }

    /// The server that it is on.
    #[must_use]
    pub fn server(&self) -> Holder {
        match &self.place {
            VnicPlace::Local(_) => Holder::Local,
            VnicPlace::Peer(peer) => Holder::Peer(Arc::clone(peer)),
        }
    }
}

impl Config {
    /// The servers that use an uplink, or may have to, each once: those with a vNIC whose home or
    /// standby it is. This host comes first, then the peers in their order.
    #[must_use]
    pub fn servers_on(&self, uplink: &Uplink) -> Vec<Holder> {
        let mut here = false;
        let mut peers = vec![false; self.peers.len()];
        for vnic in self.vnics.iter().filter(|vnic| vnic.may_attach(uplink)) {
            match &vnic.place {
                VnicPlace::Local(_) => here = true,
                VnicPlace::Peer(peer) => {
                    if let Some(flag) = peers.get_mut(peer.index) {
                        *flag = true;
                    }
                }
            }
        }
        let peers = self.peers.iter().zip(peers).filter(|(_, uses)| *uses);
        let peers = peers.map(|(peer, _)| Holder::Peer(Arc::clone(peer)));
        here.then_some(Holder::Local).into_iter().chain(peers).collect()
    }
}

impl Vnic {
    /// Whether its network meets the outside where the uplink does, so that it may be attached there,
    /// wanted or not.
    #[must_use]
    pub fn is_in_pool(&self, uplink: &Uplink) -> bool {
        self.network.outside.as_ref().is_some_and(|outside| outside.pool == uplink.pool)
    }

    fn is_home(&self, uplink: &Uplink) -> bool {
        self.home.as_ref().is_some_and(|home| home.id == uplink.id)
    }

    /// Whether the uplink is its home or one of its standbys.
    #[must_use]
    pub fn may_attach(&self, uplink: &Uplink) -> bool {
        self.is_home(uplink) || self.standbys.iter().any(|standby| standby.id == uplink.id)
    }
}
