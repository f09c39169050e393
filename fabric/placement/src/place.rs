//! Homes and standbys such that what was promised survives any one loss.
//!
//! What has a home that can hold it keeps it. The others are placed, larger needs first: at their
//! own standbys in order, then at their machine's own uplinks, then where their server's other vNICs
//! are (so that it needs few leases and depends on few others), then where there is most room.
//! The first standby is on another machine than the home; in a pool that is on one machine only,
//! there is none that a loss of the machine would leave, and the vNIC is said to be unprotected.

use crate::{
    house::{House, MachineId, PoolId, Rates, ServerIndex, UplinkIndex, VnicIndex},
    loads::{Loads, Resource},
};
use rustc_hash::FxHashMap;
use std::{cmp::Reverse, collections::BTreeSet, fmt};

/// How many standbys a vNIC gets, if there are so many.
const STANDBYS: usize = 2;

/// Where one vNIC's frames leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Homes {
    /// Its home.
    pub home: UplinkIndex,
    /// What follows, in order. There is room for its needs at the first, whatever one thing is lost.
    pub standbys: Vec<UplinkIndex>,
}

/// Homes and standbys for all.
#[derive(Debug, Clone)]
pub struct Placement {
    /// One for each vNIC, in their order; `None` for one without needs whose pool has no open uplink.
    pub homes: Vec<Option<Homes>>,
    /// Those with needs whose pool is on one machine only: nothing is kept free for its loss.
    pub unprotected: Vec<VnicIndex>,
    /// What it uses.
    pub loads: Loads,
}

/// No place was found for somebody's needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Shortage {
    /// Whose.
    pub vnic: VnicIndex,
    /// His name.
    pub name: String,
    /// What was promised to him.
    pub needs: Rates,
    /// The uplink of his pool with the most room in the worst case of one loss, and that room.
    pub best: Option<(String, Rates)>,
    /// It is the standby that was not found.
    pub standby: bool,
    /// What is too small on the way to its home, if that was not to be another, and the room there.
    pub tight: Option<Box<(Resource, Rates)>>,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, needs, best, standby, .. } = self;
        let (up, down) = (needs.up_bps, needs.down_bps);
        write!(f, "vNIC {name:?} is promised {up} bit/s up and {down} bit/s down")?;
        if *standby {
            write!(f, ", and no standby can carry that when its home is lost; ")?;
        } else {
            write!(f, ", and no uplink of its pool can carry that; ")?;
        }
        match best {
            Some((uplink, room)) => write!(
                f,
                "most room, with one loss allowed for, is at {uplink:?}: {} bit/s up and {} bit/s \
                 down; lower a reservation or add an uplink",
                room.up_bps, room.down_bps
            ),
            None => write!(f, "the pool has no uplink that is open; add or revive one"),
        }
    }
}

/// Finds a home and standbys for each vNIC; see the module's documentation.
///
/// Two ways are tried. Home and standby together, one vNIC after the other, spreads well where there is
/// room. Where it is tight, standbys are better chosen when all homes are known.
///
/// # Errors
/// [`Shortage`]: the first whose needs find no place.
pub fn place(house: &House) -> Result<Placement, Shortage> {
    let order = order(house);
    let together = Placer::new(house).place_all(&order);
    let placer = match together {
        Ok(placer) => placer,
        Err(shortage) => {
            let mut placer = Placer::new(house);
            placer.place_homes(&order);
            placer.place_all(&order).map_err(|_| shortage)?
        }
    };
    Ok(Placement { homes: placer.homes, unprotected: placer.unprotected, loads: placer.loads })
}

/// Those that can stay come first, so that who must be placed anew does not displace them; then
/// larger needs.
fn order(house: &House) -> Vec<VnicIndex> {
    let mut order: Vec<_> = (0..house.vnics.len()).map(VnicIndex).collect();
    order.sort_by_key(|at| {
        let vnic = &house.vnics[at.0];
        let stays = vnic.home.is_some_and(|home| house.is_open(home));
        (!stays, Reverse(vnic.needs.sum_bps()), at.0)
    });
    order
}

/// How good an uplink is for the next vNIC: most room first, and among equals fewest vNICs.
type Rank = (Reverse<u64>, u32, UplinkIndex);

/// The open uplinks of a pool.
#[derive(Debug, Default)]
struct Pool {
    by_room: BTreeSet<Rank>,
    by_machine: FxHashMap<MachineId, Vec<UplinkIndex>>,
}

struct Placer<'a> {
    house: &'a House,
    pools: FxHashMap<PoolId, Pool>,
    loads: Loads,
    /// Where a server's vNICs went that are not at home on its own machine.
    together: FxHashMap<(ServerIndex, PoolId), UplinkIndex>,
    /// By uplink, where it stands in its pool's order.
    ranks: Vec<Rank>,
    homes: Vec<Option<Homes>>,
    unprotected: Vec<VnicIndex>,
}

impl<'a> Placer<'a> {
    fn new(house: &'a House) -> Self {
        let mut pools: FxHashMap<PoolId, Pool> = FxHashMap::default();
        let loads = Loads::new(house);
        let rank = |at| (Reverse(room_bps(&loads, house, UplinkIndex(at))), 0, UplinkIndex(at));
        let ranks: Vec<_> = (0..house.uplinks.len()).map(rank).collect();
        for at in (0..house.uplinks.len()).map(UplinkIndex).filter(|at| house.is_open(*at)) {
            let pool = pools.entry(house.uplink(at).pool).or_default();
            pool.by_room.insert(ranks[at.0]);
            pool.by_machine.entry(house.gateway_of(at).machine).or_default().push(at);
        }
        Self {
            house,
            pools,
            together: FxHashMap::default(),
            loads,
            ranks,
            homes: vec![None; house.vnics.len()],
            unprotected: Vec::new(),
        }
    }

    fn place_all(mut self, order: &[VnicIndex]) -> Result<Self, Shortage> {
        for at in order {
            self.place(*at)?;
        }
        Ok(self)
    }

    /// Books homes alone, so that standbys are chosen with all of them in sight.
    fn place_homes(&mut self, order: &[VnicIndex]) {
        for at in order {
            let candidates = self.home_candidates(*at);
            let fits = |home: &UplinkIndex| self.loads.fits_home(self.house, *at, *home);
            let Some(home) = candidates.into_iter().find(fits) else { continue };
            self.book(*at, home, Vec::new(), None);
        }
    }

    fn place(&mut self, at: VnicIndex) -> Result<(), Shortage> {
        let mut homes = self.home_candidates(at);
        if let Some(Homes { home, .. }) = self.homes[at.0].take() {
            self.loads.remove(self.house, at, home, &[]);
            self.rank(home, -1);
            homes.insert(0, home);
        }
        self.place_at(at, homes)
    }

    /// At the first of these homes that holds it, with a standby.
    fn place_at(&mut self, at: VnicIndex, homes: Vec<UplinkIndex>) -> Result<(), Shortage> {
        let needs = self.house.vnics[at.0].needs;
        if homes.is_empty() && needs == Rates::default() {
            return Ok(());
        }
        let mut standby_missing = false;
        for home in homes {
            if !self.loads.fits_home(self.house, at, home) {
                continue;
            }
            let standbys = self.standbys(at, home);
            let protects = |standby: &&UplinkIndex| self.house.is_apart(home, **standby);
            let first = standbys.first().filter(protects).copied();
            if first.is_none() && self.is_spread(at) && needs != Rates::default() {
                standby_missing = true;
                continue;
            }
            if first.is_none() && needs != Rates::default() {
                self.unprotected.push(at);
            }
            self.book(at, home, standbys, first);
            return Ok(());
        }
        Err(self.shortage(at, standby_missing))
    }

    fn book(
        &mut self,
        at: VnicIndex,
        home: UplinkIndex,
        standbys: Vec<UplinkIndex>,
        first: Option<UplinkIndex>,
    ) {
        let vnic = &self.house.vnics[at.0];
        self.together.entry((vnic.server, vnic.pool)).or_insert(home);
        self.loads.add(self.house, at, home, first.as_slice());
        self.rank(home, 1);
        if let Some(first) = first {
            self.rank(first, 0);
        }
        self.homes[at.0] = Some(Homes { home, standbys });
    }

    /// Homes to try, best first.
    fn home_candidates(&self, at: VnicIndex) -> Vec<UplinkIndex> {
        let vnic = &self.house.vnics[at.0];
        let Some(pool) = self.pools.get(&vnic.pool) else { return Vec::new() };
        let known = vnic.home.iter().chain(&vnic.standbys).copied();
        let mut candidates: Vec<_> = known.filter(|it| self.is_usable(at, *it)).collect();
        let machine = self.house.server_of(at).machine;
        let local = pool.by_machine.get(&machine).map_or(&[][..], Vec::as_slice);
        let together = self.together.get(&(vnic.server, vnic.pool));
        let is_fit = |it: &UplinkIndex| self.house.is_open_for(at, *it);
        candidates.extend(local.iter().chain(together).copied().filter(is_fit));
        let mut others = by_room(pool).filter(is_fit);
        if vnic.needs == Rates::default() {
            // Anything holds it: no need to list them all.
            candidates.extend(others.next());
            candidates.truncate(1);
            return candidates;
        }
        candidates.extend(others);
        candidates
    }

    /// Its standbys: those that it has first; the first one apart from the home, with room for it.
    fn standbys(&self, at: VnicIndex, home: UplinkIndex) -> Vec<UplinkIndex> {
        let vnic = &self.house.vnics[at.0];
        let Some(pool) = self.pools.get(&vnic.pool) else { return Vec::new() };
        let known = vnic.standbys.iter().chain(&vnic.home).copied();
        let known = known.filter(move |it| self.is_usable(at, *it));
        let others = by_room(pool).filter(move |it| self.house.is_open_for(at, *it));
        let all = || known.clone().chain(others.clone()).filter(|it| *it != home);
        let apart = |it: &UplinkIndex| self.house.is_apart(home, *it);
        let elsewhere = |it: &UplinkIndex| apart(it) && !self.house.is_same_switch(home, *it);
        let holds = |it: &UplinkIndex| self.loads.fits_standby(self.house, at, home, *it);
        let first = all().find(|it| elsewhere(it) && holds(it));
        let first = first.or_else(|| all().find(|it| apart(it) && holds(it)));
        let mut standbys: Vec<_> = first.into_iter().collect();
        if first.is_none() && vnic.needs != Rates::default() && self.is_spread(at) {
            return standbys;
        }
        // Those that follow need no room: another machine and switch first.
        while standbys.len() < STANDBYS {
            let mut next = all().filter(|it| !standbys.contains(it));
            let next = next
                .clone()
                .find(elsewhere)
                .or_else(|| next.clone().find(apart))
                .or_else(|| next.next());
            let Some(next) = next else { break };
            standbys.push(next);
        }
        standbys
    }

    fn is_usable(&self, at: VnicIndex, uplink: UplinkIndex) -> bool {
        let pool = self.house.vnics[at.0].pool;
        self.house.is_open_for(at, uplink) && self.house.uplink(uplink).pool == pool
    }

    /// Whether its pool can survive the loss of a machine at all.
    fn is_spread(&self, at: VnicIndex) -> bool {
        let pool = self.pools.get(&self.house.vnics[at.0].pool);
        pool.is_some_and(|pool| pool.by_machine.len() > 1)
    }

    /// Finds its place again in its pool's order, with so many vNICs more.
    fn rank(&mut self, at: UplinkIndex, more: i32) {
        let Some(pool) = self.pools.get_mut(&self.house.uplink(at).pool) else { return };
        if !self.house.is_open(at) {
            return;
        }
        let rank = &mut self.ranks[at.0];
        pool.by_room.remove(rank);
        *rank = (
            Reverse(room_bps(&self.loads, self.house, at)),
            rank.1.saturating_add_signed(more),
            at,
        );
        pool.by_room.insert(*rank);
    }

    fn shortage(&self, at: VnicIndex, standby: bool) -> Shortage {
        let vnic = &self.house.vnics[at.0];
        let best = self.pools.get(&vnic.pool).and_then(|pool| by_room(pool).next());
        let best = best.map(|at| {
            let room = self.loads.room(self.house, Resource::Uplink(at));
            (self.house.uplink(at).name.clone(), room)
        });
        let (name, needs) = (vnic.name.clone(), vnic.needs);
        Shortage { vnic: at, name, needs, best, standby, tight: None }
    }
}

/// The pool's uplinks, best first.
fn by_room(pool: &Pool) -> impl Iterator<Item = UplinkIndex> + Clone {
    pool.by_room.iter().map(|(_, _, at)| *at)
}

/// The room in the direction that has less.
fn room_bps(loads: &Loads, house: &House, at: UplinkIndex) -> u64 {
    let room = loads.room(house, Resource::Uplink(at));
    room.up_bps.min(room.down_bps)
}

#[cfg(test)]
mod tests;
mod these;

pub use these::{Task, place_these};
