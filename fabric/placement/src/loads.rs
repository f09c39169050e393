//! What placements use of each resource, and what any one loss would add to it.
//!
//! While all is well a vNIC loads what is on the way to its home. When its home's uplink or gateway
//! is lost, it loads what is on the way to its first standby instead. Losses are taken one at a time,
//! so a resource needs room for its load and for the largest of the additions, not for their sum:
//! spare room is shared between losses that do not happen together.
//!
//! What a loss *frees* on other resources is not counted: that errs on the safe side.

use crate::house::{GatewayIndex, House, PoolId, Rates, ServerIndex, UplinkIndex, VnicIndex};
use rustc_hash::{FxHashMap, FxHashSet};

/// Something with a capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// An uplink.
    Uplink(UplinkIndex),
    /// A gateway's fabric port.
    Gateway(GatewayIndex),
    /// A server's fabric port.
    Server(ServerIndex),
}

/// What may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Loss {
    /// One uplink.
    Uplink(UplinkIndex),
    /// A gateway with all its uplinks.
    Gateway(GatewayIndex),
}

impl Loss {
    /// Whether an uplink is lost with it.
    #[must_use]
    pub fn takes(self, house: &House, uplink: UplinkIndex) -> bool {
        match self {
            Self::Uplink(lost) => lost == uplink,
            Self::Gateway(lost) => house.uplink(uplink).gateway == lost,
        }
    }
}

/// The load of one resource.
#[derive(Debug, Clone, Default)]
struct Load {
    base: Rates,
    /// What each loss would add.
    added: FxHashMap<Loss, Rates>,
    /// The largest of them, in each direction.
    worst: Rates,
}

impl Load {
    /// What a loss would add becomes more or less by `needs`.
    fn change(&mut self, loss: Loss, needs: Rates, how: fn(Rates, Rates) -> Rates) {
        let added = self.added.entry(loss).or_default();
        let (before, after) = (*added, how(*added, needs));
        *added = after;
        self.worst = match before.within(after) {
            true => self.worst.max(after),
            false => self.added.values().fold(Rates::default(), |a, b| a.max(*b)),
        };
    }
}

/// The loads of all resources.
#[derive(Debug, Clone)]
pub struct Loads {
    uplinks: Vec<Load>,
    gateways: Vec<Load>,
    servers: Vec<Load>,
    /// The pools for whose losses room is kept.
    spread: FxHashSet<PoolId>,
}

impl Loads {
    /// Nothing is loaded yet.
    #[must_use]
    pub fn new(house: &House) -> Self {
        Self {
            uplinks: vec![Load::default(); house.uplinks.len()],
            gateways: vec![Load::default(); house.gateways.len()],
            servers: vec![Load::default(); house.servers.len()],
            spread: house.spread_pools(),
        }
    }

    /// What is used of a resource while nothing is lost.
    #[must_use]
    pub fn used(&self, of: Resource) -> Rates {
        self.load(of).base
    }

    /// What is left of a resource in the worst case of one loss.
    #[must_use]
    pub fn room(&self, house: &House, of: Resource) -> Rates {
        let load = self.load(of);
        house.capacity(of).minus(load.base).minus(load.worst)
    }

    /// Whether `needs` of this vNIC fit with this home: now, and when any one other thing is lost.
    #[must_use]
    pub fn fits_home(&self, house: &House, vnic: VnicIndex, home: UplinkIndex) -> bool {
        let needs = house.vnics[vnic.0].needs;
        needs == Rates::default()
            || house.resources(vnic, home).all(|it| needs.within(self.room(house, it)))
    }

    /// Whether they fit at this standby when that home is lost.
    #[must_use]
    pub fn fits_standby(
        &self,
        house: &House,
        vnic: VnicIndex,
        home: UplinkIndex,
        standby: UplinkIndex,
    ) -> bool {
        let needs = house.vnics[vnic.0].needs;
        needs == Rates::default()
            || losses(house, home).into_iter().all(|loss| {
                additions(house, vnic, home, standby).all(|it| {
                    let load = self.load(it);
                    let added = load.added.get(&loss).copied().unwrap_or_default();
                    needs.within(house.capacity(it).minus(load.base).minus(added))
                })
            })
    }

    /// The vNIC is placed there, and goes to the first of these that is left when its home is lost.
    pub fn add(
        &mut self,
        house: &House,
        vnic: VnicIndex,
        home: UplinkIndex,
        standbys: &[UplinkIndex],
    ) {
        self.book(house, vnic, home, standbys, Rates::plus);
    }

    /// The vNIC, which was placed there, is not any more.
    pub fn remove(
        &mut self,
        house: &House,
        vnic: VnicIndex,
        home: UplinkIndex,
        standbys: &[UplinkIndex],
    ) {
        self.book(house, vnic, home, standbys, Rates::minus);
    }

    fn book(
        &mut self,
        house: &House,
        vnic: VnicIndex,
        home: UplinkIndex,
        standbys: &[UplinkIndex],
        how: fn(Rates, Rates) -> Rates,
    ) {
        let needs = house.vnics[vnic.0].needs;
        if needs == Rates::default() {
            return;
        }
        for it in house.resources(vnic, home) {
            let load = self.load_mut(it);
            load.base = how(load.base, needs);
        }
        if !self.spread.contains(&house.vnics[vnic.0].pool) {
            return;
        }
        for loss in losses(house, home) {
            let Some(standby) = refuge(house, loss, standbys) else { continue };
            for it in additions(house, vnic, home, standby) {
                self.load_mut(it).change(loss, needs, how);
            }
        }
    }

    fn load(&self, of: Resource) -> &Load {
        match of {
            Resource::Uplink(at) => &self.uplinks[at.0],
            Resource::Gateway(at) => &self.gateways[at.0],
            Resource::Server(at) => &self.servers[at.0],
        }
    }

    fn load_mut(&mut self, of: Resource) -> &mut Load {
        match of {
            Resource::Uplink(at) => &mut self.uplinks[at.0],
            Resource::Gateway(at) => &mut self.gateways[at.0],
            Resource::Server(at) => &mut self.servers[at.0],
        }
    }
}

/// Where a vNIC with these standbys goes when its home is lost with `loss`.
#[must_use]
pub fn refuge(house: &House, loss: Loss, standbys: &[UplinkIndex]) -> Option<UplinkIndex> {
    standbys.iter().copied().find(|it| house.is_open(*it) && !loss.takes(house, *it))
}

/// What may be lost with this home.
pub(crate) fn losses(house: &House, home: UplinkIndex) -> [Loss; 2] {
    [Loss::Uplink(home), Loss::Gateway(house.uplink(home).gateway)]
}

/// What a vNIC loads at its standby that it does not load at its home.
pub(crate) fn additions(
    house: &House,
    vnic: VnicIndex,
    home: UplinkIndex,
    standby: UplinkIndex,
) -> impl Iterator<Item = Resource> {
    let home: Vec<_> = house.resources(vnic, home).collect();
    house.resources(vnic, standby).filter(move |it| !home.contains(it))
}
