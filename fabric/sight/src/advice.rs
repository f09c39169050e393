//! What is out of balance, and the command that cures it: `wireonce_placement::advise`, fed.

use crate::{faults, sight::Sight, view::View};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wireonce_desired::{Direction, Grant, bandwidth};
use wireonce_placement::{GrantUse, House, Limits, Rates, advise};

/// One thing that is out of balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdviceLine {
    /// What is seen, in figures.
    pub evidence: String,
    /// What cures it, as it can be typed; `None` if no command does, as the evidence says.
    #[serde(default)]
    pub command: Option<String>,
}

/// Looks for imbalances in the house by number, which has the demand of `sight`.
#[must_use]
pub fn advice(view: &View<'_>, sight: &Sight, placed: &House) -> Vec<AdviceLine> {
    let found = advise(placed, &grant_uses(view, sight), &Limits::default());
    let found = found.into_iter().map(|it| (it.evidence, it.command));
    // No command mends a cable: who acts is the network team.
    let faults = faults::all(view).into_iter();
    let faults = faults.map(|fault| (format!("link {} (network)", fault.said()), None));
    faults.chain(found).map(|(evidence, command)| AdviceLine { evidence, command }).collect()
}

/// What each server may use of each pool, and would. Demand of silent servers is not known: what
/// is reserved for them counts as wanted, so that nobody is told to take it.
#[must_use]
pub fn grant_uses(view: &View<'_>, sight: &Sight) -> Vec<GrantUse> {
    let both = |of: &dyn Fn(Direction) -> u64| Rates {
        up_bps: of(Direction::Up),
        down_bps: of(Direction::Down),
    };
    // Of the vNICs of a server in a pool: what they would use, and what their policies reserve.
    let mut sums: BTreeMap<(&str, &str), (Rates, Rates)> = BTreeMap::new();
    for vnic in view.house.vnics() {
        let Some(pool) = view.pool_of(vnic) else { continue };
        let (wants, promised) = sums.entry((pool, &vnic.host)).or_default();
        *wants = wants.plus(sight.wants.get(&vnic.name).copied().unwrap_or_default());
        let policy = vnic.policy.as_deref().and_then(|name| view.house.policy(name));
        let reserves = |way| policy.map_or(0, |policy| policy.reservation(way).bps());
        *promised = promised.plus(both(&reserves));
    }
    for grant in view.house.grants() {
        sums.entry((&grant.pool, &grant.server)).or_default();
    }
    let grant_use = |((pool, server), (wants, promised)): ((&str, &str), (Rates, Rates))| {
        let reservation = both(&|way| view.granted(pool, server, way));
        // A grant that ends by itself is locked until then: no command changes its limit.
        let is_timed = view.house.grant(&Grant::name_of(pool, server));
        let is_timed = is_timed.is_some_and(|grant| grant.until.is_some());
        let limit = both(&|way| {
            let limit = view.grant_limit(pool, server, way);
            limit.filter(|_| !is_timed).unwrap_or(u64::MAX)
        });
        let is_silent = sight.silent.contains(server);
        GrantUse {
            pool: pool.to_owned(),
            pool_usable: both(&|way| bandwidth::usable(view.house, pool, way).bps()),
            server: server.to_owned(),
            reservation,
            limit,
            wants: if is_silent { wants.max(reservation) } else { wants },
            promised,
        }
    };
    sums.into_iter().map(grant_use).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        numbered::Numbered,
        sample::{Bed, MBIT},
    };
    use wireonce_ledger::status::LinkGrayStatus;

    fn lines(bed: &Bed) -> Vec<AdviceLine> {
        let view = bed.view();
        let sight = Sight::of(&view);
        advice(&view, &sight, &Numbered::of(view.house, &sight).house)
    }

    #[test]
    fn a_balanced_house_needs_no_advice() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(100 * MBIT));
        bed.server_b(|it| it.sends(100 * MBIT));
        assert_eq!(lines(&bed), []);
    }

    #[test]
    fn where_limits_divide_the_pool_a_move_is_told() {
        let mut bed = Bed::new();
        for (name, mbit) in [("east/server-a", 300), ("east/server-b", 1_600)] {
            bed.grant(name, |grant| {
                let rate = Some(wireonce_desired::Rate::from_bps(mbit * MBIT));
                grant.up = Some(wireonce_desired::Terms {
                    reservation: rate,
                    limit: rate,
                    ..Default::default()
                });
            });
        }
        bed.server_a(|it| it.sends(300 * MBIT).held(300 * MBIT, 0));
        bed.server_b(|it| it.sends(10 * MBIT));
        let command = "wireonce grant move --pool east --from server-b --to server-a 500Mbit";
        assert_eq!(lines(&bed)[0].command.as_deref(), Some(command));
    }

    #[test]
    fn a_limit_that_holds_back_beside_what_is_to_spare_is_told() {
        let mut bed = Bed::new();
        bed.grant("east/server-a", |grant| {
            let limit = Some(wireonce_desired::Rate::from_bps(300 * MBIT));
            grant.up = Some(wireonce_desired::Terms { limit, ..Default::default() });
        });
        bed.server_a(|it| it.sends(300 * MBIT).held(300 * MBIT, 0));
        bed.server_b(|it| it.sends(10 * MBIT));
        assert_eq!(
            lines(&bed),
            [AdviceLine {
                evidence:
                    "server-a wants 800Mbit up of pool east and may use 300Mbit; the pool has \
                           1669Mbit to spare: server-b reserves 400Mbit and wants 10Mbit"
                        .to_owned(),
                command: Some("wireonce grant set east/server-a up.limit=800Mbit".to_owned()),
            }]
        );
    }

    #[test]
    fn a_gray_link_is_told_once_with_who_acts() {
        let mut bed = Bed::new();
        let gray = |to, from| LinkGrayStatus {
            lost_to_percent: to,
            lost_from_percent: from,
            ..LinkGrayStatus::default()
        };
        bed.server_a(|it| it.sends(100 * MBIT).gray("gateway-a", &gray(None, Some(30))));
        bed.server_b(|it| it.sends(100 * MBIT));
        bed.gateway_a(|it| it.gray("server-a", &gray(Some(31), None)));
        let lines = lines(&bed);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let start = "link gateway-a to server-a: 31 % of the hellos are lost;";
        assert!(lines[0].evidence.starts_with(start), "{lines:?}");
        assert_eq!(lines[0].command, None);
    }

    #[test]
    fn what_is_reserved_for_a_silent_server_is_not_given_away() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(300 * MBIT));
        let view = bed.view();
        let uses = grant_uses(&view, &Sight::of(&view));
        assert_eq!((uses[1].server.as_str(), uses[1].wants.up_bps), ("server-b", 400 * MBIT));
    }
}
