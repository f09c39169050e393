//! What placement looks at beside the desired house: demand, and what is dead or silent.

use crate::{look::minus, view::View};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use wireonce_desired::{Direction, Kind, Vnic, bandwidth};
use wireonce_ledger::status::VnicShareStatus;
use wireonce_placement::Rates;

/// Who waits in fewer of the steps is not short of bandwidth: a burst waits at any rate.
const SHORT_PERCENT: u64 = 50;
/// And who uses less of what it may send is not, either: its bursts wait, and all of them go out.
const USED_PERCENT: u64 = 80;

/// What is seen of the house, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// Uplinks that their gateway says carry nothing now.
    pub dead: BTreeSet<String>,
    /// What vNICs would use, of those whose server is heard.
    pub wants: BTreeMap<String, Rates>,
    /// Servers from which there is no fresh report.
    pub silent: BTreeSet<String>,
}

/// What somebody would use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wants {
    /// So much, in bits a second.
    pub bps: u64,
    /// And more: it is held back, and nobody can know how much it would use.
    pub more: bool,
}

impl Wants {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { bps: self.bps.saturating_add(other.bps), more: self.more || other.more }
    }
}

impl Sight {
    /// What the reports say.
    #[must_use]
    pub fn of(view: &View<'_>) -> Self {
        let mut sight = Self::default();
        for name in view.house.names(Kind::Server) {
            if view.fresh(name).is_none() {
                sight.silent.insert(name.to_owned());
            }
        }
        for uplink in view.house.uplinks() {
            let report = view.fresh(&uplink.host);
            let seen =
                report.and_then(|it| it.status.uplinks.iter().find(|u| u.name == uplink.name));
            if seen.is_some_and(|seen| !seen.carrier || seen.health == "gone") {
                sight.dead.insert(uplink.name.clone());
            }
        }
        let mut server: Option<(&str, Option<crate::Look<'_>>)> = None;
        let mut vnics: Vec<&Vnic> = view.house.vnics().collect();
        vnics.sort_by_key(|vnic| &vnic.host);
        for vnic in vnics {
            if server.as_ref().is_none_or(|(name, _)| *name != vnic.host) {
                server = Some((&vnic.host, view.look(&vnic.host)));
            }
            let Some((_, Some(look))) = &server else { continue };
            let Some(up) = wants(look, vnic, Direction::Up) else { continue };
            let down = wants(look, vnic, Direction::Down).unwrap_or_default();
            let bound = |wants: Wants, way| bounded(view, look, vnic, wants, way);
            let rates =
                Rates { up_bps: bound(up, Direction::Up), down_bps: bound(down, Direction::Down) };
            sight.wants.insert(vnic.name.clone(), rates);
        }
        sight
    }
}

/// What a vNIC would use: what its server says, else what it uses and a tenth more.
#[must_use]
pub fn wants(look: &crate::Look<'_>, vnic: &Vnic, direction: Direction) -> Option<Wants> {
    let (now, before) = look.vnic(&vnic.name)?;
    let amount = |of: &wireonce_ledger::status::VnicStatus| match direction {
        Direction::Up => of.tx,
        Direction::Down => of.rx,
    };
    let used_bps = before.and_then(|old| look.wire_bps(minus(amount(now), amount(old))));
    let used = Wants { bps: used_bps.unwrap_or(0) / 10 * 11, more: false };
    if direction == Direction::Down {
        return Some(used);
    }
    let Some(share) = now.share else { return Some(used) };
    if is_short(look, share, before.and_then(|old| old.share)) {
        return Some(Wants { bps: used_bps.unwrap_or(0).max(share.rate_bps), more: true });
    }
    // What a server asks for at this moment may be less than what it used in the interval.
    let asked_bps = share.demand_bps.unwrap_or(0);
    Some(Wants { bps: asked_bps.max(used_bps.unwrap_or(0)), more: false })
}

/// For how many percent of the interval something of a vNIC waited, in steps of 5 ms.
#[must_use]
pub fn held_percent(
    look: &crate::Look<'_>,
    now: VnicShareStatus,
    before: Option<VnicShareStatus>,
) -> Option<u64> {
    let held_us = now.held_us.saturating_sub(before?.held_us);
    percent_of(look, now, held_us)
}

/// The same, for its limit in packets alone.
#[must_use]
pub fn packets_held_percent(
    look: &crate::Look<'_>,
    now: VnicShareStatus,
    before: Option<VnicShareStatus>,
) -> Option<u64> {
    let held_us = now.packets_held_us.saturating_sub(before?.packets_held_us);
    percent_of(look, now, held_us)
}

fn percent_of(look: &crate::Look<'_>, now: VnicShareStatus, held_us: u64) -> Option<u64> {
    // An older version holds back and does not count it.
    look.percent(held_us).filter(|_| now.held_us > 0 || !now.held)
}

/// Whether it is its limit in packets that holds a vNIC back: more bandwidth would be of no use.
#[must_use]
pub fn is_at_packet_limit(
    look: &crate::Look<'_>,
    now: VnicShareStatus,
    before: Option<VnicShareStatus>,
) -> bool {
    match packets_held_percent(look, now, before) {
        Some(percent) => percent >= SHORT_PERCENT,
        None => now.packets_held,
    }
}

/// Whether a vNIC has less bandwidth than it would use. Without an interval, as it is at the moment.
#[must_use]
pub fn is_short(
    look: &crate::Look<'_>,
    now: VnicShareStatus,
    before: Option<VnicShareStatus>,
) -> bool {
    if is_at_packet_limit(look, now, before) {
        return false;
    }
    let Some(percent) = held_percent(look, now, before) else { return now.held };
    let served_bits = now.served_bits.saturating_sub(before.map_or(0, |old| old.served_bits));
    let used_bps = u128::from(look.per_second(served_bits, 0).unwrap_or(0));
    let uses_it = used_bps * 100 >= u128::from(now.rate_bps) * u128::from(USED_PERCENT);
    percent >= SHORT_PERCENT && uses_it
}

/// In figures, for who wants more than is known: the share of the time in which nothing waited was
/// enough for what it has, so it would use the whole time's; at most what the largest uplink of the pool
/// carries. Nobody gets more than the limit of his policy.
fn bounded(
    view: &View<'_>,
    look: &crate::Look<'_>,
    vnic: &Vnic,
    wants: Wants,
    direction: Direction,
) -> u64 {
    let limit = view.limit(vnic, direction).unwrap_or(u64::MAX);
    if !wants.more {
        return wants.bps.min(limit);
    }
    let share = look.vnic(&vnic.name).and_then(|(now, before)| Some((now.share?, before?.share)));
    let held = share.and_then(|(now, before)| held_percent(look, now, before));
    let free_percent = 100_u64.saturating_sub(held.unwrap_or(100));
    let whole_bps = wants.bps.saturating_mul(100).checked_div(free_percent).unwrap_or(u64::MAX);
    let percent = match direction {
        Direction::Up => bandwidth::USABLE_UP_PERCENT,
        Direction::Down => bandwidth::USABLE_DOWN_PERCENT,
    };
    let pool = view.pool_of(vnic);
    let uplinks = view.house.uplinks().filter(|uplink| Some(uplink.pool.as_str()) == pool);
    let largest = uplinks.filter_map(|it| it.capacity(direction)).max();
    let largest_bps = largest.map_or(0, |rate| rate.percent(percent).bps());
    whole_bps.min(largest_bps).max(wants.bps).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Bed, MBIT};

    #[test]
    fn demand_is_what_a_server_says_or_what_is_used_and_a_tenth_more() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(100 * MBIT).held(100 * MBIT, 0));
        bed.server_b(|it| it.sends(50 * MBIT));
        let sight = Sight::of(&bed.view());
        // Held back by nobody knows how much: as much as an uplink, and not over its limit.
        assert_eq!(sight.wants["vm-a"].up_bps, 800 * MBIT);
        let wants = sight.wants["vm-b"].up_bps;
        assert!((54 * MBIT..=56 * MBIT).contains(&wants), "{wants}");
    }

    #[test]
    fn bursts_that_wait_and_all_go_out_are_no_shortage() {
        let mut bed = Bed::new();
        let share = |served_bits| VnicShareStatus {
            rate_bps: 170 * MBIT,
            demand_bps: None,
            held: true,
            held_us: 900_000,
            served_bits,
            ..VnicShareStatus::default()
        };
        let mut wants = |served_bits| {
            bed.server_a(|it| it.sends(100 * MBIT).shared(share(served_bits)));
            let view = bed.view();
            let vnic = view.house.vnic("vm-a").unwrap();
            wants(&view.look("server-a").unwrap(), vnic, Direction::Up).unwrap().more
        };
        assert!(!wants(100 * MBIT), "six tenths of what it may");
        assert!(wants(160 * MBIT));
    }

    #[test]
    fn who_is_at_its_limit_in_packets_wants_no_more_bandwidth() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(12 * MBIT).at_packet_limit(1_000, 12 * MBIT));
        let view = bed.view();
        let (look, vnic) = (view.look("server-a").unwrap(), view.house.vnic("vm-a").unwrap());
        let wants = wants(&look, vnic, Direction::Up).unwrap();
        assert_eq!(wants, Wants { bps: 13_200_000, more: false });
        let (now, _) = look.vnic("vm-a").unwrap();
        assert!(!is_short(&look, now.share.unwrap(), None), "nor at the moment");
    }

    #[test]
    fn who_is_silent_has_no_demand_and_a_port_without_carrier_is_dead() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(100 * MBIT));
        bed.gateway_a(|it| it.carrier(false));
        let sight = Sight::of(&bed.view());
        assert_eq!(sight.dead.iter().collect::<Vec<_>>(), ["east-1"]);
        assert_eq!(sight.silent.iter().collect::<Vec<_>>(), ["server-b"]);
        assert!(sight.wants.contains_key("vm-a") && !sight.wants.contains_key("vm-b"));
        bed.gateway_a(|it| it.carrier(true).health("gone", &["stopping"]));
        assert!(Sight::of(&bed.view()).dead.contains("east-1"), "its gateway says so");
        bed.wait_s(10);
        let sight = Sight::of(&bed.view());
        assert!(sight.wants.is_empty() && sight.dead.is_empty(), "what is old is not of now");
    }
}
