//! Uplink, grants, vNICs: a capacity divided level by level.
//!
//! ```text
//!   uplink, one direction      capacity
//!     ├─ grant of server A     reservation, shares, limit      wants what its vNICs want
//!     │    ├─ vNIC             reservation, shares, limit      wants its demand
//!     │    └─ vNIC
//!     └─ grant of server B
//! ```
//! Demand is added up from below, each node's no more than its limit; the capacity is divided
//! from above. So what a vNIC leaves goes to its server's others first, and what a server
//! leaves, to other servers.

use crate::{
    Claim, Demand, Terms,
    fill::{Filler, fill},
};

/// One vNIC behind a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VnicNode {
    /// What it is given.
    pub terms: Terms,
    /// What it would send.
    pub demand: Demand,
}

/// What one server may use of the uplink, and its vNICs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrantNode {
    /// What the server is given.
    pub terms: Terms,
    /// What it may send without a lease: it has that in any case, so it is lent to nobody.
    pub starter_bps: u64,
    /// Its vNICs.
    pub vnics: Vec<VnicNode>,
}

/// One direction of an uplink.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// The servers that use it.
    pub grants: Vec<GrantNode>,
}

/// Divides all of `capacity_bps` among `nodes`: first what they want, then what is left over
/// as headroom, by the same water level, up to their limits. So who wants more than a moment
/// ago has it already, unless somebody else lacks it. Who wants nothing gets headroom only if
/// `idle_too`.
#[must_use]
pub fn share_out(capacity_bps: u64, nodes: &[VnicNode], idle_too: bool) -> Vec<u64> {
    let mut claims: Vec<_> = nodes.iter().map(VnicNode::claim).collect();
    let mut given = Vec::new();
    fill(capacity_bps, &claims, &mut given);
    for ((claim, node), given_bps) in claims.iter_mut().zip(nodes).zip(&given) {
        let idle = node.demand == Demand::Bps(0);
        let most_bps = node.terms.limited(Demand::Unbounded.ceiling_bps());
        claim.floor_bps = *given_bps;
        claim.ceiling_bps = if idle && !idle_too { *given_bps } else { most_bps };
    }
    fill(capacity_bps, &claims, &mut given);
    given
}

impl VnicNode {
    fn claim(&self) -> Claim {
        claim(&self.terms, self.demand.ceiling_bps())
    }
}

impl GrantNode {
    /// What its vNICs want together, within their limits and its own.
    #[must_use]
    pub fn demand_bps(&self) -> u64 {
        let wanted = self.vnics.iter().map(|vnic| vnic.claim().ceiling_bps);
        self.terms.limited(wanted.fold(0, u64::saturating_add))
    }

    /// Divides what the server has among its vNICs, in their order. The server does this by
    /// itself, at once, whenever their demands change.
    #[must_use]
    pub fn divide(&self, capacity_bps: u64) -> Vec<u64> {
        let mut given = Vec::new();
        self.divide_with(&mut Divider::default(), capacity_bps, &mut given);
        given
    }

    /// [`Self::divide`] with memory that is used again.
    pub fn divide_with(&self, with: &mut Divider, capacity_bps: u64, given: &mut Vec<u64>) {
        with.claims.clear();
        with.claims.extend(self.vnics.iter().map(VnicNode::claim));
        with.filler.fill(capacity_bps, &with.claims, given);
    }

    fn claim(&self) -> Claim {
        let claim = claim(&self.terms, self.demand_bps());
        Claim {
            floor_bps: claim.floor_bps.max(self.starter_bps),
            ceiling_bps: claim.ceiling_bps.max(self.starter_bps),
            ..claim
        }
    }
}

impl Tree {
    /// Divides `capacity_bps` among the servers, in their order. Each has at least its starter.
    #[must_use]
    pub fn allocate(&self, capacity_bps: u64) -> Vec<u64> {
        let mut given = Vec::new();
        self.allocate_with(&mut Divider::default(), capacity_bps, &mut given);
        given
    }

    /// [`Self::allocate`] with memory that is used again.
    pub fn allocate_with(&self, with: &mut Divider, capacity_bps: u64, given: &mut Vec<u64>) {
        with.claims.clear();
        with.claims.extend(self.grants.iter().map(GrantNode::claim));
        with.filler.fill(capacity_bps, &with.claims, given);
    }
}

/// Memory for divisions, to be used again.
#[derive(Debug, Clone, Default)]
pub struct Divider {
    filler: Filler,
    claims: Vec<Claim>,
}

fn claim(terms: &Terms, demand_bps: u64) -> Claim {
    let ceiling_bps = terms.limited(demand_bps);
    Claim { floor_bps: terms.reservation_bps.min(ceiling_bps), weight: terms.shares, ceiling_bps }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GBIT: u64 = 1_000_000_000;

    fn vnic(demand: Demand) -> VnicNode {
        VnicNode { terms: Terms::default(), demand }
    }

    fn grant(reservation_bps: u64, vnics: &[VnicNode]) -> GrantNode {
        let terms = Terms { reservation_bps, ..Terms::default() };
        GrantNode { terms, vnics: vnics.to_vec(), ..GrantNode::default() }
    }

    #[test]
    fn a_starved_server_has_what_the_other_leaves() {
        let full = grant(2 * GBIT, &[vnic(Demand::Unbounded)]);
        let idle = grant(5 * GBIT, &[vnic(Demand::Bps(GBIT))]);
        let tree = Tree { grants: vec![full, idle] };
        assert_eq!(tree.allocate(10 * GBIT), [9 * GBIT, GBIT]);
    }

    #[test]
    fn a_reservation_that_is_wanted_again_is_there_again() {
        let borrower = grant(2 * GBIT, &[vnic(Demand::Unbounded), vnic(Demand::Unbounded)]);
        let owner = grant(7 * GBIT, &[vnic(Demand::Unbounded)]);
        let tree = Tree { grants: vec![borrower, owner] };
        assert_eq!(tree.allocate(10 * GBIT), [3 * GBIT, 7 * GBIT]);
        assert_eq!(tree.grants[0].divide(3 * GBIT), [3 * GBIT / 2, 3 * GBIT / 2]);
    }

    #[test]
    fn a_starter_is_lent_to_nobody() {
        let mut idle = grant(0, &[vnic(Demand::Bps(0))]);
        idle.starter_bps = GBIT / 2;
        let tree = Tree { grants: vec![idle, grant(0, &[vnic(Demand::Unbounded)])] };
        assert_eq!(tree.allocate(10 * GBIT), [GBIT / 2, 19 * GBIT / 2]);
    }

    #[test]
    fn a_limit_holds_at_both_levels() {
        let mut slow = vnic(Demand::Unbounded);
        slow.terms.limit_bps = Some(GBIT);
        let mut capped = grant(0, &[slow, vnic(Demand::Unbounded)]);
        capped.terms.limit_bps = Some(4 * GBIT);
        assert_eq!(capped.demand_bps(), 4 * GBIT);
        assert_eq!(capped.divide(4 * GBIT), [GBIT, 3 * GBIT]);
        let tree = Tree { grants: vec![capped, grant(0, &[vnic(Demand::Unbounded)])] };
        assert_eq!(tree.allocate(10 * GBIT), [4 * GBIT, 6 * GBIT]);
    }

    fn any_terms() -> impl Strategy<Value = Terms> {
        (0..2 * GBIT, 1..1_000_u32, prop::option::of(0..4 * GBIT)).prop_map(|(r, shares, limit)| {
            let limit_bps = limit.map(|limit| limit.max(r));
            Terms { reservation_bps: r, shares, limit_bps, ..Terms::default() }
        })
    }

    fn any_grant() -> impl Strategy<Value = GrantNode> {
        let demand = prop_oneof![(0..3 * GBIT).prop_map(Demand::Bps), Just(Demand::Unbounded)];
        let vnic = (any_terms(), demand).prop_map(|(terms, demand)| VnicNode { terms, demand });
        (any_terms(), prop::collection::vec(vnic, 0..8)).prop_map(|(terms, vnics)| GrantNode {
            terms,
            starter_bps: 0,
            vnics,
        })
    }

    #[test]
    fn what_nobody_wants_is_headroom_for_all_who_are_awake() {
        let mut nodes =
            [vnic(Demand::Bps(GBIT)), vnic(Demand::Bps(3 * GBIT)), vnic(Demand::Bps(0))];
        assert_eq!(share_out(8 * GBIT, &nodes, false), [4 * GBIT, 4 * GBIT, 0]);
        assert_eq!(share_out(9 * GBIT, &nodes, true), [3 * GBIT, 3 * GBIT, 3 * GBIT]);
        nodes[0].terms.limit_bps = Some(2 * GBIT);
        assert_eq!(share_out(8 * GBIT, &nodes, false), [2 * GBIT, 6 * GBIT, 0]);
        nodes[1].demand = Demand::Unbounded;
        assert_eq!(share_out(8 * GBIT, &nodes, true), [GBIT, 7 * GBIT, 0]);
    }

    proptest! {
        #[test]
        fn headroom_takes_nothing_from_anybody(
            capacity in 0..40 * GBIT,
            grant in any_grant(),
            idle_too: bool,
        ) {
            let given = share_out(capacity, &grant.vnics, idle_too);
            prop_assert!(given.iter().sum::<u64>() <= capacity);
            for ((given, wanted), vnic) in given.iter().zip(grant.divide(capacity)).zip(&grant.vnics) {
                prop_assert!(*given >= wanted);
                prop_assert!(vnic.terms.limit_bps.is_none_or(|limit| *given <= limit));
            }
        }

        #[test]
        fn no_level_gives_more_than_it_has(
            capacity in 0..40 * GBIT,
            grants in prop::collection::vec(any_grant(), 0..12),
        ) {
            let tree = Tree { grants };
            let given = tree.allocate(capacity);
            prop_assert!(given.iter().sum::<u64>() <= capacity);
            for (given, grant) in given.iter().zip(&tree.grants) {
                prop_assert!(grant.terms.limit_bps.is_none_or(|limit| *given <= limit));
                let vnics = grant.divide(*given);
                prop_assert!(vnics.iter().sum::<u64>() <= *given);
                for (given, vnic) in vnics.iter().zip(&grant.vnics) {
                    prop_assert!(*given <= vnic.terms.limited(vnic.demand.ceiling_bps()));
                }
            }
        }
    }
}
