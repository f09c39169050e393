//! Some vNICs placed anew, while all others stay exactly where they are.
//!
//! So a change of one vNIC never moves another, and a drain moves those that have to leave. What stays
//! is booked as it is, even where it is more than fits: who is placed gets what room is left.

use super::{Homes, Placement, Placer, Shortage, by_room};
use crate::{
    house::{House, UplinkIndex, VnicIndex},
    loads::{Loss, refuge},
};
use std::{cmp::Reverse, collections::BTreeSet};

/// One vNIC that is to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// Which.
    pub vnic: VnicIndex,
    /// Its home is the one that it has; only standbys are sought.
    pub home_stands: bool,
    /// If there is no place it stays as it is.
    pub optional: bool,
}

/// Places those of `tasks`, larger needs first; see [`super::place`] for how.
///
/// # Errors
/// All whose needs find no place.
pub fn place_these(house: &House, tasks: &[Task]) -> Result<Placement, Vec<Shortage>> {
    let mut order = tasks.to_vec();
    order.sort_by_key(|task| {
        let needs_bps = house.vnics[task.vnic.0].needs.sum_bps();
        (!task.home_stands, Reverse(needs_bps), task.vnic)
    });
    let together = attempt(house, &order, false);
    let placer = match together {
        Ok(placer) => placer,
        // Where it is tight, standbys are better chosen when all homes are known.
        Err(shortages) => attempt(house, &order, true).map_err(|_| shortages)?,
    };
    Ok(Placement { homes: placer.homes, unprotected: placer.unprotected, loads: placer.loads })
}

fn attempt<'h>(
    house: &'h House,
    tasks: &[Task],
    homes_first: bool,
) -> Result<Placer<'h>, Vec<Shortage>> {
    let mut placer = Placer::new(house);
    let placed: BTreeSet<VnicIndex> = tasks.iter().map(|task| task.vnic).collect();
    for at in (0..house.vnics.len()).map(VnicIndex).filter(|at| !placed.contains(at)) {
        placer.keep(at);
    }
    if homes_first {
        for task in tasks {
            let homes = placer.candidates(task);
            let fits = |home: &UplinkIndex| placer.loads.fits_home(house, task.vnic, *home);
            if let Some(home) = homes.into_iter().find(fits) {
                placer.book(task.vnic, home, Vec::new(), None);
            }
        }
    }
    let mut shortages = Vec::new();
    for task in tasks {
        match placer.place_task(task) {
            Ok(()) => {}
            Err(_) if task.optional => placer.keep(task.vnic),
            Err(shortage) => shortages.push(shortage),
        }
    }
    if shortages.is_empty() { Ok(placer) } else { Err(shortages) }
}

impl Placer<'_> {
    /// Books a vNIC as it is.
    fn keep(&mut self, at: VnicIndex) {
        let vnic = &self.house.vnics[at.0];
        let Some(home) = vnic.home else { return };
        self.together.entry((vnic.server, vnic.pool)).or_insert(home);
        self.loads.add(self.house, at, home, &vnic.standbys);
        self.rank(home, 1);
        let lost = Loss::Gateway(self.house.uplink(home).gateway);
        if let Some(standby) = refuge(self.house, lost, &vnic.standbys) {
            self.rank(standby, 0);
        }
        self.homes[at.0] = Some(Homes { home, standbys: vnic.standbys.clone() });
    }

    fn candidates(&self, task: &Task) -> Vec<UplinkIndex> {
        match self.house.vnics[task.vnic.0].home {
            Some(home) if task.home_stands => vec![home],
            _ => self.home_candidates(task.vnic),
        }
    }

    fn place_task(&mut self, task: &Task) -> Result<(), Shortage> {
        let at = task.vnic;
        let mut homes = self.candidates(task);
        if let Some(Homes { home, .. }) = self.homes[at.0].take() {
            self.loads.remove(self.house, at, home, &[]);
            self.rank(home, -1);
            homes.insert(0, home);
        }
        if homes.is_empty() && self.house.vnics[at.0].needs == crate::Rates::default() {
            return Ok(());
        }
        let home = homes.first().copied().filter(|_| task.home_stands);
        self.place_at(at, homes).map_err(|mut shortage| {
            let needs = shortage.needs;
            let resources = home.into_iter().flat_map(|home| self.house.resources(at, home));
            let mut rooms = resources.map(|it| (it, self.loads.room(self.house, it)));
            shortage.tight = rooms.find(|(_, room)| !needs.within(*room)).map(Box::new);
            if let Some(home) = home {
                // Another home might hold it, which is worth saying.
                shortage.best = self.best_but(at, home).or(shortage.best);
            }
            shortage
        })
    }

    /// The uplink with the most room for somebody who is not to stay where he is.
    fn best_but(&self, at: VnicIndex, home: UplinkIndex) -> Option<(String, crate::Rates)> {
        let pool = self.pools.get(&self.house.vnics[at.0].pool)?;
        let best = by_room(pool).find(|it| *it != home)?;
        let room = self.loads.room(self.house, crate::Resource::Uplink(best));
        Some((self.house.uplink(best).name.clone(), room))
    }
}
