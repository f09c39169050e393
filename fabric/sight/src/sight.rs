//! What placement looks at beside the desired house: demand, and what is dead, sick or silent.

use crate::{
    look::{Look, minus},
    view::View,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use wireonce_desired::{Direction, Kind, Vnic, bandwidth};
use wireonce_ledger::{
    Amount,
    status::{VnicShareStatus, VnicStatus},
};
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
    /// Uplinks that carry frames and are left by whoever has a better one, as their gateway says:
    /// nobody is behind them, or there is a loop.
    pub sick: BTreeSet<String>,
    /// Servers with the gateways to which their link is up and not fit: homes there are left.
    pub gray: BTreeSet<(String, String)>,
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
        for (kind, host) in view.house.hosts() {
            sight.hear(view, kind, &host.name);
        }
        for uplink in view.house.uplinks() {
            let report = view.fresh(&uplink.host);
            let seen =
                report.and_then(|it| it.status.uplinks.iter().find(|u| u.name == uplink.name));
            match seen {
                Some(seen) if !seen.carrier || seen.health == "gone" => {
                    sight.dead.insert(uplink.name.clone());
                }
                Some(seen) if seen.health == "sick" => {
                    sight.sick.insert(uplink.name.clone());
                }
                _ => {}
            }
        }
        sight.ask_vnics(view);
        sight
    }

    /// Whether an uplink carries something, and its gateway would have more come there.
    #[must_use]
    pub fn is_fit(&self, uplink: &str) -> bool {
        !self.dead.contains(uplink) && !self.sick.contains(uplink)
    }

    /// Whether everything is fit, as far as is known.
    #[must_use]
    pub fn is_all_fit(&self) -> bool {
        self.dead.is_empty() && self.sick.is_empty() && self.gray.is_empty()
    }

    /// Whether a host is silent, and what it says of its links.
    fn hear(&mut self, view: &View<'_>, kind: Kind, host: &str) {
        let is_server = kind == Kind::Server;
        let Some(report) = view.fresh(host) else {
            if is_server {
                self.silent.insert(host.to_owned());
            }
            return;
        };
        let leaves = |gray: &wireonce_ledger::status::LinkGrayStatus| gray.leaves_homes;
        for link in report.status.links.iter().filter(|link| link.gray.as_ref().is_some_and(leaves))
        {
            let (host, peer) = (host.to_owned(), link.peer.clone());
            self.gray.insert(if is_server { (host, peer) } else { (peer, host) });
        }
    }

    /// What each vNIC would use, of those whose server is heard.
    fn ask_vnics(&mut self, view: &View<'_>) {
        let mut gateways: BTreeMap<&str, Vec<Look<'_>>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for uplink in view.house.uplinks() {
            if seen.insert((&uplink.pool, &uplink.host)) {
                gateways.entry(&uplink.pool).or_default().extend(view.look(&uplink.host));
            }
        }
        let mut server: Option<(&str, Option<Look<'_>>)> = None;
        let mut vnics: Vec<&Vnic> = view.house.vnics().collect();
        vnics.sort_by_key(|vnic| &vnic.host);
        for vnic in vnics {
            if server.as_ref().is_none_or(|(name, _)| *name != vnic.host) {
                server = Some((&vnic.host, view.look(&vnic.host)));
            }
            let Some((_, Some(look))) = &server else { continue };
            let Some(up) = wants(look, vnic) else { continue };
            let gateways = view.pool_of(vnic).and_then(|pool| gateways.get(pool));
            let down = Downward::of(gateways.into_iter().flatten(), vnic);
            let (down_wants, down_held) = match &down {
                Some(down) => (down.wants, down.held_percent),
                None => (used(look, vnic, Direction::Down), None),
            };
            let up_bps = bounded(view, vnic, up, up_held(look, vnic), Direction::Up);
            let down_bps = bounded(view, vnic, down_wants, down_held, Direction::Down);
            self.wants.insert(vnic.name.clone(), Rates { up_bps, down_bps });
        }
    }
}

/// What a vNIC would send: what its server says, else what it sends and a tenth more. `None`: its
/// server does not know it.
#[must_use]
pub fn wants(look: &Look<'_>, vnic: &Vnic) -> Option<Wants> {
    let (now, before) = look.vnic(&vnic.name)?;
    let used = used(look, vnic, Direction::Up);
    let Some(share) = now.share else { return Some(used) };
    let used_bps = used_bps(look, now, before, |of| of.tx).unwrap_or(0);
    Some(wanted(look, share, before.and_then(|old| old.share), used_bps))
}

/// What a share says: what was used at least, and more if there is too little of it.
fn wanted(
    look: &Look<'_>,
    share: VnicShareStatus,
    before: Option<VnicShareStatus>,
    used_bps: u64,
) -> Wants {
    if is_short(look, share, before) {
        return Wants { bps: used_bps.max(share.rate_bps), more: true };
    }
    if is_at_port(look, share, before) {
        // What the port lets through is for neighbours, too: its part of that says nothing of uplinks.
        return Wants { bps: used_bps, more: true };
    }
    // What is asked for at this moment may be less than what was used in the interval.
    Wants { bps: share.demand_bps.unwrap_or(0).max(used_bps), more: false }
}

/// What a vNIC uses, and a tenth more.
fn used(look: &Look<'_>, vnic: &Vnic, direction: Direction) -> Wants {
    let of = |it: &VnicStatus| match direction {
        Direction::Up => it.tx,
        Direction::Down => it.rx,
    };
    let used = look.vnic(&vnic.name).and_then(|(now, before)| used_bps(look, now, before, of));
    Wants { bps: used.unwrap_or(0) / 10 * 11, more: false }
}

fn used_bps(
    look: &Look<'_>,
    now: &VnicStatus,
    before: Option<&VnicStatus>,
    of: impl Fn(&VnicStatus) -> Amount,
) -> Option<u64> {
    look.wire_bps(minus(of(now), of(before?)))
}

fn up_held(look: &Look<'_>, vnic: &Vnic) -> Option<u64> {
    let (now, before) = look.vnic(&vnic.name)?;
    let (share, before) = (now.share?, before?.share);
    held_percent(look, share, before).max(port_held_percent(look, share, before))
}

/// What comes from outside for a vNIC, where gateways shape that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Downward {
    /// What went to it.
    pub used_bps: u64,
    /// What it would get.
    pub wants: Wants,
    /// What it may get now, at all uplinks together.
    pub rate_bps: u64,
    /// It has less than would come.
    pub short: bool,
    /// In so many percent of the interval something of it waited, at the uplink where that was most.
    pub held_percent: Option<u64>,
    /// It is its limit in packets that holds it back.
    pub packets_held: bool,
    /// That limit, in packets a second.
    pub limit_packets_per_s: Option<u32>,
    /// Bytes that wait.
    pub queued_bytes: u64,
    /// Frames that were marked in the interval, because they waited.
    pub marked_frames: u64,
}

impl Downward {
    /// What gateways say; `None`: none of these shapes what comes for it.
    pub fn of<'l, 's: 'l>(
        gateways: impl Iterator<Item = &'l Look<'s>>,
        vnic: &Vnic,
    ) -> Option<Self> {
        let mut sum: Option<Self> = None;
        for look in gateways {
            for down in look.down(&vnic.name) {
                let (share, before) = (down.share(), down.share_before());
                let served = before.map(|old| look.per_second(share.served_bits, old.served_bits));
                let used_bps = served.flatten().unwrap_or(0);
                let it = sum.get_or_insert_default();
                it.used_bps = it.used_bps.saturating_add(used_bps);
                it.wants = it.wants.plus(wanted(look, share, before, used_bps));
                it.rate_bps = it.rate_bps.saturating_add(share.rate_bps);
                it.short |= is_short(look, share, before);
                it.held_percent = it.held_percent.max(held_percent(look, share, before));
                it.packets_held |= is_at_packet_limit(look, share, before);
                it.limit_packets_per_s = it.limit_packets_per_s.or(share.limit_packets_per_s);
                it.queued_bytes = it.queued_bytes.saturating_add(share.queued_bytes);
                it.marked_frames = it.marked_frames.saturating_add(down.marked_frames());
            }
        }
        sum
    }

    /// Nothing of it is held up.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !self.short && !self.packets_held && self.queued_bytes == 0 && self.marked_frames == 0
    }
}

/// For how many percent of the interval something of a vNIC waited, in steps of 5 ms.
#[must_use]
pub fn held_percent(
    look: &Look<'_>,
    now: VnicShareStatus,
    before: Option<VnicShareStatus>,
) -> Option<u64> {
    let held_us = now.held_us.saturating_sub(before?.held_us);
    percent_of(look, now, held_us)
}

/// The same, for its limit in packets alone.
#[must_use]
pub fn packets_held_percent(
    look: &Look<'_>,
    now: VnicShareStatus,
    before: Option<VnicShareStatus>,
) -> Option<u64> {
    let held_us = now.packets_held_us.saturating_sub(before?.packets_held_us);
    percent_of(look, now, held_us)
}

fn percent_of(look: &Look<'_>, now: VnicShareStatus, held_us: u64) -> Option<u64> {
    // An older version holds back and does not count it.
    look.percent(held_us).filter(|_| now.held_us > 0 || !now.held)
}

/// Whether it is its limit in packets that holds a vNIC back: more bandwidth would be of no use.
#[must_use]
pub fn is_at_packet_limit(
    look: &Look<'_>,
    now: VnicShareStatus,
    before: Option<VnicShareStatus>,
) -> bool {
    match packets_held_percent(look, now, before) {
        Some(percent) => percent >= SHORT_PERCENT,
        None => now.packets_held,
    }
}

/// For how many percent of the interval something of a vNIC waited for its server's fabric port.
#[must_use]
pub fn port_held_percent(
    look: &Look<'_>,
    now: VnicShareStatus,
    before: Option<VnicShareStatus>,
) -> Option<u64> {
    let held_us = now.port_held_us.saturating_sub(before?.port_held_us);
    look.percent(held_us).filter(|_| now.port_held_us > 0 || !now.port_held)
}

/// Whether it is its server's own fabric port that holds a vNIC back: borrowing would be of no use.
#[must_use]
pub fn is_at_port(look: &Look<'_>, now: VnicShareStatus, before: Option<VnicShareStatus>) -> bool {
    match port_held_percent(look, now, before) {
        Some(percent) => percent >= SHORT_PERCENT,
        None => now.port_held,
    }
}

/// Whether a vNIC has less bandwidth than it would use. Without an interval, as it is at the moment.
#[must_use]
pub fn is_short(look: &Look<'_>, now: VnicShareStatus, before: Option<VnicShareStatus>) -> bool {
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
    vnic: &Vnic,
    wants: Wants,
    held_percent: Option<u64>,
    direction: Direction,
) -> u64 {
    let limit = view.limit(vnic, direction).unwrap_or(u64::MAX);
    if !wants.more {
        return wants.bps.min(limit);
    }
    let free_percent = 100_u64.saturating_sub(held_percent.unwrap_or(100));
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
    use wireonce_ledger::{Stage, status::LinkGrayStatus};

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
            wants(&view.look("server-a").unwrap(), vnic).unwrap().more
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
        let wants = wants(&look, vnic).unwrap();
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
        bed.gateway_a(|it| it.health("sick", &["next-hop-silent"]));
        let sight = Sight::of(&bed.view());
        assert!(sight.dead.is_empty() && !sight.is_fit("east-1") && sight.is_fit("east-2"));
        bed.wait_s(10);
        let sight = Sight::of(&bed.view());
        assert!(sight.wants.is_empty() && sight.dead.is_empty(), "what is old is not of now");
    }

    #[test]
    fn who_waits_for_its_servers_port_wants_more_and_is_not_short_of_uplinks() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(120 * MBIT).at_port(120 * MBIT));
        let view = bed.view();
        let (look, vnic) = (view.look("server-a").unwrap(), view.house.vnic("vm-a").unwrap());
        assert_eq!(wants(&look, vnic).unwrap(), Wants { bps: 120 * MBIT, more: true });
        let (now, before) = look.vnic("vm-a").unwrap();
        let (share, before) = (now.share.unwrap(), before.unwrap().share);
        assert!(!is_short(&look, share, before) && is_at_port(&look, share, before));
        assert!(is_at_port(&look, share, None), "at the moment, too");
    }

    #[test]
    fn demand_from_outside_is_what_the_gateway_says_not_what_comes_from_neighbours() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.flow("vm-a", Stage::GuestRx, 50_000, &[]));
        let down = |bed: &Bed| Sight::of(&bed.view()).wants["vm-a"].down_bps;
        assert!(down(&bed) > 600 * MBIT, "nobody else says it");
        bed.gateway_a(|it| it.comes("vm-a", 100 * MBIT, 0));
        assert_eq!(down(&bed), 110 * MBIT);
    }

    #[test]
    fn who_waits_at_the_gateway_wants_more_from_outside() {
        let mut bed = Bed::new();
        bed.server_a(|it| it);
        bed.gateway_a(|it| it.comes("vm-a", 100 * MBIT, 900));
        let view = bed.view();
        let looks = [view.look("gateway-a").unwrap()];
        let down = Downward::of(looks.iter(), view.house.vnic("vm-a").unwrap()).unwrap();
        assert!(down.short && !down.is_quiet());
        assert_eq!((down.held_percent, down.queued_bytes), (Some(90), 200_000));
        assert_eq!(down.wants, Wants { bps: 100 * MBIT, more: true });
        // So much in a tenth of the time, but not more than its policy's limit.
        assert_eq!(Sight::of(&view).wants["vm-a"].down_bps, 800 * MBIT);
        bed.gateway_a(|it| it.comes("vm-a", 100 * MBIT, 300));
        assert_eq!(Sight::of(&bed.view()).wants["vm-a"].down_bps, 100 * MBIT, "a burst waits");
    }

    #[test]
    fn a_link_that_homes_leave_is_no_way_to_a_gateway_whichever_end_says_so() {
        let gray = |leaves_homes| LinkGrayStatus { leaves_homes, ..LinkGrayStatus::default() };
        let way = ("server-a".to_owned(), "gateway-b".to_owned());
        let mut bed = Bed::new();
        bed.server_a(|it| it.gray("gateway-b", &gray(true)).gray("gateway-a", &gray(false)));
        assert_eq!(Sight::of(&bed.view()).gray, [way.clone()].into());
        bed.server_a(|it| it);
        bed.gateway_b(|it| it.gray("server-a", &gray(true)));
        assert_eq!(Sight::of(&bed.view()).gray, [way].into());
    }
}
