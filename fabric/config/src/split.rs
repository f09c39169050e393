//! A grant, divided among the vNICs of its server: what each brings to the uplink that it is on.
//!
//! ```text
//!   grant of a server in a pool       limit 1 Gbit/s
//!     ├─ home u, 3 Gbit/s             750 Mbit/s       by the capacities of the homes,
//!     │    ├─ vNIC 1                  375              then alike among the vNICs of each
//!     │    └─ vNIC 2                  375
//!     └─ home w, 1 Gbit/s             250
//!          └─ vNIC 3                  250 ──▶ goes with vNIC 3 to any uplink of the pool
//! ```
//! What a server may use of an uplink is what those of its vNICs bring that are on it now. So the parts
//! add up to the grant wherever the vNICs are, and a gateway knows what is its own by
//! looking at nobody but those who are attached to it. Why: decision 14.

use crate::{
    bandwidth::Direction,
    model::{Config, Grant, Holder, VnicPlace},
};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};
use wireonce_shares::Terms;
use wireonce_wire::{UplinkId, VnicId};

/// A server's grant in a pool, in one direction, divided among its vNICs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantSplit {
    whole: Terms,
    parts: HashMap<VnicId, Part>,
}

/// What one vNIC brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    reservation_bps: u64,
    limit_bps: Option<u64>,
}

/// One uplink with those vNICs of a server whose home it is.
#[derive(Debug)]
struct Home {
    capacity_bps: u64,
    vnics: Vec<VnicId>,
}

impl GrantSplit {
    fn new(whole: Terms, homes: &[Home]) -> Self {
        let all: u128 = homes.iter().map(|home| u128::from(home.capacity_bps)).sum();
        let mut parts = HashMap::new();
        let mut before = 0;
        for home in homes {
            let after = before + u128::from(home.capacity_bps);
            let vnics = home.vnics.len() as u128;
            for (at, vnic) in (0_u128..).zip(&home.vnics) {
                let part = |bps| slice(slice(bps, before..after, all), at..at + 1, vnics);
                let reservation_bps = part(whole.reservation_bps);
                // A limit of nothing would stop a vNIC that was promised something.
                let limit_bps = whole.limit_bps.map(|bps| part(bps).max(1));
                parts.insert(*vnic, Part { reservation_bps, limit_bps });
            }
            before = after;
        }
        Self { whole, parts }
    }

    /// The grant as it was written.
    #[must_use]
    pub fn whole(&self) -> Terms {
        self.whole
    }

    /// What the server may use of an uplink on which these of its vNICs are. Of none, nothing.
    #[must_use]
    pub fn of(&self, here: impl IntoIterator<Item = VnicId>) -> Terms {
        let (mut reservation_bps, mut limit_bps) = (0_u64, 0_u64);
        for part in here.into_iter().filter_map(|vnic| self.parts.get(&vnic)) {
            reservation_bps = reservation_bps.saturating_add(part.reservation_bps);
            limit_bps = limit_bps.saturating_add(part.limit_bps.unwrap_or(0));
        }
        Terms {
            reservation_bps,
            limit_bps: self.whole.limit_bps.map(|whole_bps| limit_bps.min(whole_bps)),
            ..self.whole
        }
    }
}

/// What of `bps` is between two marks of a scale of `of`. Slices that cover the scale add up to all of it.
fn slice(bps: u64, marks: Range<u128>, of: u128) -> u64 {
    let below = |mark: u128| (u128::from(bps) * mark).checked_div(of).unwrap_or(0);
    u64::try_from(below(marks.end) - below(marks.start)).unwrap_or(bps)
}

impl Config {
    /// The grants in a pool, each divided among the vNICs of its server whose homes are in that pool.
    /// An uplink that is not shaped counts as the smallest one that is: what a vNIC brings from
    /// there counts when it has to go elsewhere.
    #[must_use]
    pub fn grant_splits(&self, pool: &str, direction: Direction) -> Vec<(Holder, GrantSplit)> {
        let shaped = self.uplinks.iter().filter(|uplink| uplink.pool == pool);
        let least_bps = shaped.filter_map(|uplink| uplink.usable_bps(direction)).min().unwrap_or(1);
        let mut servers: HashMap<Option<usize>, BTreeMap<UplinkId, Home>> = HashMap::new();
        for vnic in &self.vnics {
            let Some(home) = vnic.home.as_ref().filter(|home| home.pool == pool) else { continue };
            let server = match &vnic.place {
                VnicPlace::Local(_) => None,
                VnicPlace::Peer(peer) => Some(peer.index),
            };
            let capacity_bps = home.usable_bps(direction).unwrap_or(least_bps).max(1);
            let homes = servers.entry(server).or_default();
            let home = homes.entry(home.id);
            home.or_insert_with(|| Home { capacity_bps, vnics: Vec::new() }).vnics.push(vnic.id);
        }
        let grants = self.grants.iter().filter(|grant| grant.pool == pool);
        let split = |grant: &Arc<Grant>| {
            let server = match &grant.server {
                Holder::Local => None,
                Holder::Peer(peer) => Some(peer.index),
            };
            let mut homes: Vec<Home> =
                servers.remove(&server).into_iter().flat_map(BTreeMap::into_values).collect();
            // Each host rounds the same way, whatever the order of its file.
            homes.iter_mut().for_each(|home| home.vnics.sort_unstable());
            let terms = match direction {
                Direction::Up => grant.up,
                Direction::Down => grant.down,
            };
            (grant.server.clone(), GrantSplit::new(terms, &homes))
        };
        grants.map(split).collect()
    }

    /// The grant of one server in a pool; `None` if it has none.
    #[must_use]
    pub fn grant_split(
        &self,
        pool: &str,
        server: &Holder,
        direction: Direction,
    ) -> Option<GrantSplit> {
        let mut splits = self.grant_splits(pool, direction).into_iter();
        splits.find(|(holder, _)| holder == server).map(|(_, split)| split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vnic(id: usize) -> VnicId {
        VnicId::new(id as u64 + 1).unwrap()
    }

    /// Homes of these capacities with so many vNICs each, numbered through.
    fn homes(homes: &[(u64, usize)]) -> Vec<Home> {
        let mut next = 0..;
        let home = |(capacity_bps, vnics): &(u64, usize)| Home {
            capacity_bps: *capacity_bps,
            vnics: next.by_ref().take(*vnics).map(vnic).collect(),
        };
        homes.iter().map(home).collect()
    }

    fn any_terms() -> impl Strategy<Value = Terms> {
        let bps = || 0..20_000_000_000_u64;
        (bps(), prop::option::of(bps()), 1..1_000_u32).prop_map(|(r, limit, shares)| {
            let limit_bps = limit.map(|bps| bps.max(r).max(1_000));
            Terms { reservation_bps: r, shares, limit_bps, ..Terms::default() }
        })
    }

    proptest! {
        /// Where the vNICs are is any uplink for each: at home, at a standby after a failover, on the way.
        #[test]
        fn wherever_vnics_are_their_parts_add_up_to_the_grant_and_nobody_is_without(
            whole in any_terms(),
            at_home in prop::collection::vec((1..400_000_000_000_u64, 1..9_usize), 1..6),
            now in prop::collection::vec(0..7_usize, 54),
        ) {
            let vnics: usize = at_home.iter().map(|(_, vnics)| vnics).sum();
            let split = GrantSplit::new(whole, &homes(&at_home));
            let now = &now;
            let on = |uplink| (0..vnics).filter(move |at| now[*at] == uplink).map(vnic);
            let uplinks: Vec<Terms> = (0..7).map(|uplink| split.of(on(uplink))).collect();
            let reserved: u64 = uplinks.iter().map(|terms| terms.reservation_bps).sum();
            prop_assert_eq!(reserved, whole.reservation_bps);
            for (uplink, terms) in uplinks.iter().enumerate() {
                prop_assert_eq!(terms.shares, whole.shares);
                prop_assert_eq!(terms.limit_bps.is_some(), whole.limit_bps.is_some());
                let nobody = on(uplink).next().is_none();
                prop_assert!(nobody || terms.limit_bps != Some(0), "{terms:?}");
                prop_assert!(!nobody || (terms.reservation_bps, terms.limit_bps.unwrap_or(0)) == (0, 0));
            }
            if let Some(limit_bps) = whole.limit_bps {
                let limits: u64 = uplinks.iter().filter_map(|terms| terms.limit_bps).sum();
                prop_assert!(limits >= limit_bps, "{limits} of {limit_bps}");
                // A bit a second for each whose part is less than that.
                prop_assert!(limits <= limit_bps + vnics as u64, "{limits} of {limit_bps}");
            }
            prop_assert_eq!(split.of((0..vnics).map(vnic)), whole);
        }
    }

    #[test]
    fn homes_count_by_capacity_and_their_vnics_alike() {
        let whole = Terms { reservation_bps: 400, limit_bps: Some(1_000), ..Terms::default() };
        let split = GrantSplit::new(whole, &homes(&[(3, 2), (1, 1)]));
        let of = |vnics: &[usize]| {
            let terms = split.of(vnics.iter().copied().map(vnic));
            (terms.reservation_bps, terms.limit_bps.unwrap())
        };
        assert_eq!([of(&[0]), of(&[1]), of(&[2])], [(150, 375), (150, 375), (100, 250)]);
        assert_eq!([of(&[0, 2]), of(&[]), of(&[7])], [(250, 625), (0, 0), (0, 0)]);
    }
}
