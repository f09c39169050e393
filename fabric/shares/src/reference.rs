//! The same divisions once more, in the plainest way: progressive filling with exact fractions.
//!
//! All are given their floors. Then the water rises, for each by his weight, from one level at which somebody
//! begins or ends to rise to the next, until the capacity is used up. Levels are fractions p / q of
//! whole numbers; nothing is rounded but the result.

use crate::{Demand, GrantNode, Terms, Tree, VnicNode, share_out};
use proptest::prelude::*;

const GBIT: u64 = 1_000_000_000;

/// Somebody who wants something.
#[derive(Debug, Clone, Copy)]
struct Wants {
    floor: u128,
    weight: u128,
    ceiling: u128,
}

impl Wants {
    /// What he has at the level p / q, times q.
    fn has(&self, (p, q): (u128, u128)) -> u128 {
        (self.weight * p).clamp(self.floor * q, self.ceiling * q)
    }

    fn rises(&self, (p, q): (u128, u128)) -> bool {
        (self.floor * q..self.ceiling * q).contains(&(self.weight * p))
    }
}

fn fill_slowly(capacity: u64, all: &[Wants]) -> Vec<u64> {
    let capacity = u128::from(capacity);
    let floors: u128 = all.iter().map(|wants| wants.floor).sum();
    if all.iter().map(|wants| wants.ceiling).sum::<u128>() <= capacity {
        return all.iter().map(|wants| whole(wants.ceiling, 1)).collect();
    }
    if floors >= capacity {
        return all.iter().map(|wants| whole(capacity * wants.floor, floors.max(1))).collect();
    }
    let mut levels: Vec<(u128, u128)> = vec![(0, 1)];
    levels.extend(all.iter().flat_map(|it| [(it.floor, it.weight), (it.ceiling, it.weight)]));
    levels.sort_by(|(p, q), (r, s)| (p * s).cmp(&(r * q)));
    let used = |level: (u128, u128)| all.iter().map(|wants| wants.has(level)).sum::<u128>();
    // The last level that can be reached, and what is left there.
    let fits = |level: &&(u128, u128)| used(**level) <= capacity * level.1;
    let (p, q) = *levels.iter().take_while(fits).last().unwrap();
    let left = capacity * q - used((p, q));
    let rising: u128 = all.iter().filter(|it| it.rises((p, q))).map(|it| it.weight).sum();
    let has = |wants: &Wants| match wants.rises((p, q)) {
        true => whole(wants.weight * (p * rising + left), q * rising),
        false => whole(wants.has((p, q)), q),
    };
    all.iter().map(has).collect()
}

fn whole(p: u128, q: u128) -> u64 {
    u64::try_from(p / q).unwrap()
}

/// What a vNIC wants, in its limit.
fn wanted(vnic: &VnicNode) -> u64 {
    let demand = match vnic.demand {
        Demand::Bps(bps) => bps,
        Demand::Unbounded => 1_000_000_000_000_000,
    };
    demand.min(vnic.terms.limit_bps.unwrap_or(u64::MAX))
}

fn wants(terms: &Terms, wanted: u64) -> Wants {
    let floor = terms.reservation_bps.min(wanted).into();
    Wants { floor, weight: terms.shares.into(), ceiling: wanted.into() }
}

fn divide_slowly(capacity: u64, vnics: &[VnicNode]) -> Vec<u64> {
    let all: Vec<Wants> = vnics.iter().map(|vnic| wants(&vnic.terms, wanted(vnic))).collect();
    fill_slowly(capacity, &all)
}

fn allocate_slowly(capacity: u64, tree: &Tree) -> Vec<u64> {
    let grant = |grant: &GrantNode| {
        let together: u64 = grant.vnics.iter().map(wanted).sum();
        let wants = wants(&grant.terms, together.min(grant.terms.limit_bps.unwrap_or(u64::MAX)));
        let starter = u128::from(grant.starter_bps);
        Wants { floor: wants.floor.max(starter), ceiling: wants.ceiling.max(starter), ..wants }
    };
    fill_slowly(capacity, &tree.grants.iter().map(grant).collect::<Vec<_>>())
}

/// First what is wanted, then what is left, to those who are awake or to all, within their limits.
fn share_out_slowly(capacity: u64, nodes: &[VnicNode], idle_too: bool) -> Vec<u64> {
    let first = divide_slowly(capacity, nodes);
    let more = |(node, given): (&VnicNode, &u64)| {
        let limit = node.terms.limit_bps.unwrap_or(1_000_000_000_000_000);
        let asleep = node.demand == Demand::Bps(0) && !idle_too;
        let ceiling = if asleep { *given } else { limit.min(1_000_000_000_000_000) };
        Wants { floor: (*given).into(), weight: node.terms.shares.into(), ceiling: ceiling.into() }
    };
    fill_slowly(capacity, &nodes.iter().zip(&first).map(more).collect::<Vec<_>>())
}

fn any_rate() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(GBIT), 1..100_u64, 0..4 * GBIT]
}

fn any_terms() -> impl Strategy<Value = Terms> {
    let shares = prop_oneof![Just(100), 1..10_u32, 1..=1_000_000_u32];
    (any_rate(), shares, prop::option::of(any_rate())).prop_map(|(r, shares, limit)| {
        let limit_bps = limit.map(|limit| limit.max(r));
        Terms { reservation_bps: r, shares, limit_bps, ..Terms::default() }
    })
}

fn any_vnic() -> impl Strategy<Value = VnicNode> {
    let demand = prop_oneof![any_rate().prop_map(Demand::Bps), Just(Demand::Unbounded)];
    (any_terms(), demand).prop_map(|(terms, demand)| VnicNode { terms, demand })
}

fn any_grant() -> impl Strategy<Value = GrantNode> {
    let starter = prop_oneof![Just(0), 0..GBIT / 100];
    (any_terms(), starter, prop::collection::vec(any_vnic(), 0..8))
        .prop_map(|(terms, starter_bps, vnics)| GrantNode { terms, starter_bps, vnics })
}

/// The fast code rounds each share down before it compares, so it may be off by a bit a second for each claim.
fn agree(fast: &[u64], slow: &[u64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(fast.len(), slow.len());
    for (a, b) in fast.iter().zip(slow) {
        prop_assert!(a.abs_diff(*b) <= fast.len() as u64, "{:?} {:?}", fast, slow);
    }
    Ok(())
}

#[test]
fn the_reference_itself_gives_what_can_be_worked_out_by_hand() {
    let wants = |floor, weight, ceiling| Wants { floor, weight, ceiling };
    let all = [wants(0, 1, 100), wants(0, 1, 10_000), wants(0, 3, 10_000)];
    assert_eq!(fill_slowly(900, &all), [100, 200, 600]);
    let all = [wants(800, 1, 10_000), wants(0, 1, 10_000)];
    assert_eq!(fill_slowly(1_000, &all), [800, 200]);
    assert_eq!(fill_slowly(400, &all), [400, 0]);
    assert_eq!(fill_slowly(10, &[wants(0, 1, 100), wants(0, 2, 100)]), [3, 6]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_tree_is_divided_as_the_plain_reference_divides_it(
        capacity in prop_oneof![0..1_000_u64, 0..20 * GBIT],
        grants in prop::collection::vec(any_grant(), 0..12),
    ) {
        let tree = Tree { grants };
        let given = tree.allocate(capacity);
        agree(&given, &allocate_slowly(capacity, &tree))?;
        for (grant, given) in tree.grants.iter().zip(given) {
            agree(&grant.divide(given), &divide_slowly(given, &grant.vnics))?;
        }
    }

    #[test]
    fn what_is_shared_out_is_what_the_plain_reference_shares_out(
        capacity in prop_oneof![0..1_000_u64, 0..20 * GBIT],
        nodes in prop::collection::vec(any_vnic(), 0..12),
        idle_too: bool,
    ) {
        let (fast, slow) =
            (share_out(capacity, &nodes, idle_too), share_out_slowly(capacity, &nodes, idle_too));
        agree(&fast, &slow)?;
    }
}
