//! Which promises a house would not keep as it stands: while all is well, or after any one loss.
//!
//! [`place`](mod@crate::place) finds homes and standbys; here those that are written down are judged, by
//! the same rules. Who looks at a change compares what is found before and after: what was broken
//! already is nobody's fault who touches something else.

use crate::{
    house::{House, Rates, VnicIndex},
    loads::{Loss, Resource, additions, losses, refuge},
};
use rustc_hash::FxHashMap;

/// A promise that would not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// More is promised on something than it carries.
    Over {
        /// On what.
        of: Resource,
        /// After which loss; `None`: while all is well.
        lost: Option<Loss>,
        /// What it would have to carry.
        promised: Rates,
        /// What it carries.
        capacity: Rates,
        /// The largest of those who would be there.
        largest: VnicIndex,
    },
    /// A vNIC to which something is promised has nowhere to go.
    Alone {
        /// Which.
        vnic: VnicIndex,
        /// After which loss.
        lost: Loss,
        /// Its pool is on several machines, so it could have.
        avoidable: bool,
    },
}

/// What of the promises would not be kept, in the order of uplinks and losses.
#[must_use]
pub fn breaches(house: &House) -> Vec<Breach> {
    let mut sums = Sums { house, of: FxHashMap::default() };
    let spread = house.spread_pools();
    let mut found = Vec::new();
    for at in (0..house.vnics.len()).map(VnicIndex) {
        let vnic = &house.vnics[at.0];
        let Some(home) = vnic.home.filter(|_| vnic.needs != Rates::default()) else { continue };
        for it in house.resources(at, home) {
            sums.add(it, None, at);
        }
        let avoidable = spread.contains(&vnic.pool);
        for lost in losses(house, home) {
            // Where nothing can be kept free for the loss of the machine, nothing is.
            match refuge(house, lost, &vnic.standbys).filter(|_| avoidable) {
                Some(standby) => {
                    additions(house, at, home, standby).for_each(|it| sums.add(it, Some(lost), at));
                }
                None => found.push(Breach::Alone { vnic: at, lost, avoidable }),
            }
        }
    }
    found.extend(sums.over());
    found
}

/// What comes to each resource, while all is well and by each loss, and the largest part of it.
struct Sums<'h> {
    house: &'h House,
    of: FxHashMap<(Resource, Option<Loss>), (Rates, VnicIndex)>,
}

impl Sums<'_> {
    fn add(&mut self, of: Resource, lost: Option<Loss>, vnic: VnicIndex) {
        let needs = self.house.vnics[vnic.0].needs;
        let (sum, largest) = self.of.entry((of, lost)).or_insert((Rates::default(), vnic));
        *sum = sum.plus(needs);
        if needs.sum_bps() > self.house.vnics[largest.0].needs.sum_bps() {
            *largest = vnic;
        }
    }

    fn over(&self) -> Vec<Breach> {
        let mut over = Vec::new();
        for ((of, lost), (sum, largest)) in &self.of {
            let base = self.of.get(&(*of, None)).map_or(Rates::default(), |(sum, _)| *sum);
            let promised = if lost.is_some() { base.plus(*sum) } else { base };
            let capacity = self.house.capacity(*of);
            if !promised.within(capacity) {
                let (of, lost, largest) = (*of, *lost, *largest);
                over.push(Breach::Over { of, lost, promised, capacity, largest });
            }
        }
        over.sort_by_key(|breach| match breach {
            Breach::Over { of, lost, .. } => Some((*lost, *of)),
            Breach::Alone { .. } => None,
        });
        over
    }
}

#[cfg(test)]
mod tests;
