//! What there is, what was promised, what is wanted.

use crate::loads::Resource;
use rustc_hash::{FxHashMap, FxHashSet};

/// A rate for each direction, in bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Towards the outside.
    pub up_bps: u64,
    /// From the outside.
    pub down_bps: u64,
}

impl Rates {
    /// More than anything has.
    pub const UNLIMITED: Self = Self { up_bps: u64::MAX, down_bps: u64::MAX };

    /// The same in both directions.
    #[must_use]
    pub fn both(bps: u64) -> Self {
        Self { up_bps: bps, down_bps: bps }
    }

    /// Each direction by itself.
    #[must_use]
    pub fn each(self, other: Self, of: fn(u64, u64) -> u64) -> Self {
        Self { up_bps: of(self.up_bps, other.up_bps), down_bps: of(self.down_bps, other.down_bps) }
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// The difference, at least 0.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    /// The larger in each direction.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.each(other, u64::max)
    }

    /// The smaller in each direction.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        self.each(other, u64::min)
    }

    /// Whether it is no more than `other` in both directions.
    #[must_use]
    pub fn within(self, other: Self) -> bool {
        self.up_bps <= other.up_bps && self.down_bps <= other.down_bps
    }

    /// Both directions together.
    #[must_use]
    pub fn sum_bps(self) -> u64 {
        self.up_bps.saturating_add(self.down_bps)
    }
}

/// A physical host: a server and a gateway with the same one are on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MachineId(pub u32);

/// A physical switch outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SwitchId(pub u32);

/// A pool: uplinks that reach the same outside layer 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u32);

/// A position in [`House::gateways`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayIndex(pub usize);

/// A position in [`House::uplinks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UplinkIndex(pub usize);

/// A position in [`House::servers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerIndex(pub usize);

/// A position in [`House::vnics`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VnicIndex(pub usize);

/// A host that offers uplinks.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// For people.
    pub name: String,
    /// Where it runs.
    pub machine: MachineId,
    /// What its fabric port carries; [`Rates::UNLIMITED`] if nobody stated it.
    pub port: Rates,
    /// Nothing new goes there, and what is there leaves.
    pub draining: bool,
}

/// One port to the outside.
#[derive(Debug, Clone)]
pub struct Uplink {
    /// For people.
    pub name: String,
    /// Who has it.
    pub gateway: GatewayIndex,
    /// What it reaches.
    pub pool: PoolId,
    /// The switch that it is plugged into, if that is known.
    pub switch: Option<SwitchId>,
    /// What it carries; [`Rates::UNLIMITED`] if nobody stated it.
    pub usable: Rates,
    /// It has a carrier, and its gateway calls it fit.
    pub alive: bool,
    /// Nothing new goes there, and what is there leaves.
    pub draining: bool,
}

/// A host that runs VMs.
#[derive(Debug, Clone)]
pub struct Server {
    /// For people.
    pub name: String,
    /// Where it runs.
    pub machine: MachineId,
    /// What its fabric port carries; [`Rates::UNLIMITED`] if nobody stated it.
    pub port: Rates,
}

/// One VM NIC on a network with a pool.
#[derive(Debug, Clone)]
pub struct Vnic {
    /// For people.
    pub name: String,
    /// Where its VM is.
    pub server: ServerIndex,
    /// Which pool its network is on.
    pub pool: PoolId,
    /// What was promised to it.
    pub needs: Rates,
    /// What it would use.
    pub wants: Rates,
    /// Its part of what is not promised, in relation to others.
    pub shares: u32,
    /// The uplink that it uses.
    pub home: Option<UplinkIndex>,
    /// Those that follow, in order.
    pub standbys: Vec<UplinkIndex>,
    /// It may be moved to satisfy more demand; see [`crate::Pace`].
    pub may_move: bool,
}

/// All that placement looks at.
#[derive(Debug, Clone, Default)]
pub struct House {
    /// The gateways.
    pub gateways: Vec<Gateway>,
    /// The uplinks of all pools.
    pub uplinks: Vec<Uplink>,
    /// The servers.
    pub servers: Vec<Server>,
    /// The vNICs.
    pub vnics: Vec<Vnic>,
    /// Between whom the fabric is not fit, though it carries something: nothing new goes that way.
    pub gray: FxHashSet<(ServerIndex, GatewayIndex)>,
}

impl House {
    /// The uplink with this number.
    #[must_use]
    pub fn uplink(&self, at: UplinkIndex) -> &Uplink {
        &self.uplinks[at.0]
    }

    /// The gateway of an uplink.
    #[must_use]
    pub fn gateway_of(&self, at: UplinkIndex) -> &Gateway {
        &self.gateways[self.uplink(at).gateway.0]
    }

    /// The server of a vNIC.
    #[must_use]
    pub fn server_of(&self, at: VnicIndex) -> &Server {
        &self.servers[self.vnics[at.0].server.0]
    }

    /// Whether a vNIC's frames cross the fabric to get to this uplink.
    #[must_use]
    pub fn is_remote(&self, vnic: VnicIndex, uplink: UplinkIndex) -> bool {
        self.server_of(vnic).machine != self.gateway_of(uplink).machine
    }

    /// Whether new vNICs may be placed there.
    #[must_use]
    pub fn is_open(&self, at: UplinkIndex) -> bool {
        let uplink = self.uplink(at);
        uplink.alive && !uplink.draining && !self.gateway_of(at).draining
    }

    /// Whether this vNIC may be placed there: the way to it is fit, too.
    #[must_use]
    pub fn is_open_for(&self, vnic: VnicIndex, at: UplinkIndex) -> bool {
        let way = (self.vnics[vnic.0].server, self.uplink(at).gateway);
        self.is_open(at) && (self.gray.is_empty() || !self.gray.contains(&way))
    }

    /// Whether both are plugged into one switch, as far as is known.
    #[must_use]
    pub fn is_same_switch(&self, one: UplinkIndex, other: UplinkIndex) -> bool {
        let switch = self.uplink(one).switch;
        switch.is_some() && switch == self.uplink(other).switch
    }

    /// Whether a loss of the one's machine leaves the other.
    #[must_use]
    pub fn is_apart(&self, one: UplinkIndex, other: UplinkIndex) -> bool {
        self.gateway_of(one).machine != self.gateway_of(other).machine
    }

    /// The name of a resource, for people.
    #[must_use]
    pub fn resource_name(&self, of: Resource) -> &str {
        match of {
            Resource::Uplink(at) => &self.uplink(at).name,
            Resource::Gateway(at) => &self.gateways[at.0].name,
            Resource::Server(at) => &self.servers[at.0].name,
        }
    }

    /// What a resource carries.
    #[must_use]
    pub fn capacity(&self, of: Resource) -> Rates {
        match of {
            Resource::Uplink(at) => self.uplink(at).usable,
            Resource::Gateway(at) => self.gateways[at.0].port,
            Resource::Server(at) => self.servers[at.0].port,
        }
    }

    /// The pools whose open uplinks are on several machines: only these can survive the loss of one.
    #[must_use]
    pub fn spread_pools(&self) -> FxHashSet<PoolId> {
        let mut first: FxHashMap<PoolId, MachineId> = FxHashMap::default();
        let mut spread = FxHashSet::default();
        for at in (0..self.uplinks.len()).map(UplinkIndex).filter(|at| self.is_open(*at)) {
            let (pool, machine) = (self.uplink(at).pool, self.gateway_of(at).machine);
            if *first.entry(pool).or_insert(machine) != machine {
                spread.insert(pool);
            }
        }
        spread
    }

    /// What a vNIC uses while its home is `uplink`.
    pub fn resources(
        &self,
        vnic: VnicIndex,
        uplink: UplinkIndex,
    ) -> impl Iterator<Item = Resource> + use<> {
        let ports = self.is_remote(vnic, uplink).then_some([
            Resource::Gateway(self.uplink(uplink).gateway),
            Resource::Server(self.vnics[vnic.0].server),
        ]);
        std::iter::once(Resource::Uplink(uplink)).chain(ports.into_iter().flatten())
    }
}
