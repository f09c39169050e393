//! What no command mends, with who acts: faults of links, of uplinks and of the network outside; and
//! what is not known.

use crate::{
    causes::Who,
    faults,
    look::Look,
    sight::{Downward, is_at_packet_limit, is_short},
    text,
    view::View,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use wireonce_desired::{Direction, Kind, Vnic};
use wireonce_ledger::status::{OutsidePairStatus, VnicShareStatus};
use wireonce_placement::{Command, Way};

/// So many names stand in one sentence.
const NAMED: usize = 4;
/// What is so near to a limit is at it: rates are measured, and limits are rounded down.
const AT_PERCENT: u64 = 97;

/// One thing that is so, and who acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What is so.
    pub what: String,
    /// Who can do something about it.
    pub who: Who,
}

impl Note {
    fn network(what: String) -> Self {
        Self { what, who: Who::Network }
    }
}

/// What is wrong between hosts, at uplinks, and outside.
#[must_use]
pub fn faults(view: &View<'_>) -> Vec<Note> {
    let links = faults::all(view).into_iter().map(|fault| format!("link {}", fault.said()));
    let outside = outside(view).into_iter().map(|it| it.said());
    links.chain(uplinks(view)).chain(outside).map(Note::network).collect()
}

/// Uplinks that are left by whoever has a better one.
fn uplinks(view: &View<'_>) -> Vec<String> {
    let said = view.house.uplinks().filter_map(|uplink| {
        let report = view.fresh(&uplink.host)?;
        let seen = report.status.uplinks.iter().find(|it| it.name == uplink.name)?;
        let (state, why) = match seen.health.as_str() {
            "sick" | "gone" => (seen.health.as_str(), seen.causes.join(", ")),
            _ if !seen.carrier => ("gone", "no carrier".to_owned()),
            _ => return None,
        };
        let (name, host) = (&uplink.name, &uplink.host);
        Some(format!("uplink {name} at {host} is {state} ({why}): its vNICs use their standbys"))
    });
    said.collect()
}

/// How two uplinks of a pool are wrongly joined outside, on some VLANs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// One uplink.
    pub(crate) one: String,
    /// The other, or the same if it hears itself.
    pub(crate) other: String,
    state: String,
    /// On which VLANs; `None` is untagged.
    pub(crate) vlans: BTreeSet<Option<u16>>,
    /// What to look at.
    pub(crate) look: String,
}

impl Pair {
    /// As a sentence.
    pub(crate) fn said(&self) -> String {
        format!("{}: {}", self.seen(), self.look)
    }

    /// Without what to look at.
    pub(crate) fn seen(&self) -> String {
        let Self { one, other, state, .. } = self;
        let word = |vlan: &Option<u16>| vlan.map_or("untagged".to_owned(), |id| id.to_string());
        let vlans = names(self.vlans.iter().map(word));
        match one == other {
            true => format!("outside, {one} hears its own probes ({state}) on VLAN {vlans}"),
            false => format!("outside, {one} and {other} are {state} on VLAN {vlans}"),
        }
    }
}

/// Whatever gateways' probes found wrong outside, each pair and state once: both ends say it.
pub(crate) fn outside(view: &View<'_>) -> Vec<Pair> {
    let mut pairs: BTreeMap<(&str, &str, &str), Pair> = BTreeMap::new();
    let fresh = view.reports.keys().filter_map(|host| view.fresh(host));
    for it in fresh.flat_map(|report| &report.status.outside) {
        let OutsidePairStatus { uplink, other, vlan, state, look: Some(look) } = it else {
            continue;
        };
        let (one, other) = if uplink <= other { (uplink, other) } else { (other, uplink) };
        let pair = pairs.entry((one, other, state)).or_insert_with(|| Pair {
            one: one.clone(),
            other: other.clone(),
            state: state.clone(),
            vlans: BTreeSet::new(),
            look: look.clone(),
        });
        pair.vlans.insert(*vlan);
    }
    pairs.into_values().collect()
}

/// Hosts of which nothing of now is known.
#[must_use]
pub fn silent(view: &View<'_>) -> Option<Note> {
    let mut said = Vec::new();
    let mut who = Who::Virtualisation;
    for (kind, host) in view.house.hosts() {
        let name = &host.name;
        said.push(match (view.look(name), view.silent_us(name)) {
            (Some(look), _) if look.elapsed_us() == 0 => format!("{name} has reported once"),
            (Some(_), _) => continue,
            (None, Some(us)) => format!("{name} for {}", text::seconds(us)),
            (None, None) => format!("{name} has not reported yet"),
        });
        if kind == Kind::Gateway {
            who = Who::Network;
        }
    }
    let what = format!(
        "{} of {} hosts are not heard, or not long enough: {}; what is there and what is wanted there \
         is not known",
        said.len(),
        view.house.hosts().count(),
        names(said.iter().cloned())
    );
    (!said.is_empty()).then_some(Note { what, who })
}

/// Policies whose own limits hold vNICs back: that is no imbalance, but somebody has less than he would
/// use.
#[must_use]
pub fn policy_limits(view: &View<'_>) -> Vec<Note> {
    let mut held: BTreeMap<(&str, &'static str), (Limit, BTreeSet<&str>)> = BTreeMap::new();
    let mut looks: BTreeMap<&str, Option<Look<'_>>> = BTreeMap::new();
    for host in view.house.hosts().map(|(_, host)| host.name.as_str()) {
        looks.insert(host, view.look(host));
    }
    let look = |host: &str| looks.get(host)?.as_ref();
    let mut gateways: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for uplink in view.house.uplinks() {
        gateways.entry(&uplink.pool).or_default().insert(&uplink.host);
    }
    for vnic in view.house.vnics() {
        let Some(policy) = vnic.policy.as_deref() else { continue };
        let up = look(&vnic.host).and_then(|look| up_limit(view, look, vnic));
        let hosts = view.pool_of(vnic).and_then(|pool| gateways.get(pool));
        let down = Downward::of(hosts.into_iter().flatten().filter_map(|host| look(host)), vnic);
        let down = down.and_then(|down| down_limit(view, &down, vnic));
        for limit in [up, down].into_iter().flatten() {
            let entry = held.entry((policy, limit.key())).or_insert((limit, BTreeSet::new()));
            entry.1.insert(&vnic.name);
        }
    }
    let said = held.into_iter().map(|((policy, key), (limit, vnics))| {
        let (number, shown) = (vnics.len(), names(vnics.iter().map(|name| (*name).to_owned())));
        let verb = if number == 1 { "vNIC has" } else { "vNICs have" };
        let what = format!(
            "{number} {verb} all that {key} of policy {policy:?} allows, {}, and would use more: \
             {shown}; `{}` gives each more",
            limit.shown(),
            limit.doubled(policy),
        );
        Note { what, who: Who::Virtualisation }
    });
    said.collect()
}

/// One limit of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// In bits a second.
    Bits(Way, u64),
    /// In packets a second.
    Packets(Way, u32),
}

impl Limit {
    fn key(self) -> &'static str {
        match self {
            Self::Bits(Way::Up, _) => "up.limit",
            Self::Bits(Way::Down, _) => "down.limit",
            Self::Packets(Way::Up, _) => "up.limit_packets_per_s",
            Self::Packets(Way::Down, _) => "down.limit_packets_per_s",
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Bits(_, bps) => text::rate(bps),
            Self::Packets(_, per_s) => per_s.to_string(),
        }
    }

    /// Gives twice as much.
    pub(crate) fn doubled(self, policy: &str) -> Command {
        let policy = policy.to_owned();
        match self {
            Self::Bits(way, bps) => {
                let limit = text::enough(bps.saturating_mul(2));
                Command::PolicyLimit { policy, way, limit }
            }
            Self::Packets(way, per_s) => {
                let most = wireonce_desired::bandwidth::LIMIT_PACKETS_PER_S_MAX;
                Command::PolicyPackets { policy, way, per_s: per_s.saturating_mul(2).min(most) }
            }
        }
    }
}

/// Which limit of its policy holds a vNIC back upwards, if one does.
pub(crate) fn up_limit(view: &View<'_>, look: &Look<'_>, vnic: &Vnic) -> Option<Limit> {
    let (now, before) = look.vnic(&vnic.name)?;
    let (share, old) = (now.share?, before.and_then(|old| old.share));
    let VnicShareStatus { rate_bps, limit_packets_per_s, .. } = share;
    if is_at_packet_limit(look, share, old) {
        return limit_packets_per_s.map(|per_s| Limit::Packets(Way::Up, per_s));
    }
    let limit_bps = view.limit(vnic, Direction::Up)?;
    let is_held = is_short(look, share, old) && is_at(rate_bps, limit_bps);
    is_held.then_some(Limit::Bits(Way::Up, limit_bps))
}

/// The same downwards.
pub(crate) fn down_limit(view: &View<'_>, down: &Downward, vnic: &Vnic) -> Option<Limit> {
    if down.packets_held {
        return down.limit_packets_per_s.map(|per_s| Limit::Packets(Way::Down, per_s));
    }
    let limit_bps = view.limit(vnic, Direction::Down)?;
    let is_held = down.short && is_at(down.rate_bps, limit_bps);
    is_held.then_some(Limit::Bits(Way::Down, limit_bps))
}

/// Whether a rate is at a limit.
pub(crate) fn is_at(bps: u64, limit_bps: u64) -> bool {
    of_percent(bps, limit_bps) >= AT_PERCENT
}

/// How many percent a part is.
pub(crate) fn of_percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part).saturating_mul(100).checked_div(u128::from(whole));
    percent.and_then(|percent| u64::try_from(percent).ok()).unwrap_or(u64::MAX)
}

/// "a, b and 3 more"
fn names(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    let shown = all.get(..NAMED).unwrap_or(&all).join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Bed, MBIT};

    #[test]
    fn what_probes_find_outside_is_said_once_with_its_vlans_and_what_to_look_at() {
        let mut bed = Bed::new();
        bed.gateway_a(|it| {
            let it = it.outside("east-2", Some(100), "vlan-missing");
            it.outside("east-2", Some(200), "vlan-missing").outside("east-2", None, "joined")
        });
        bed.gateway_b(|it| {
            let it = it.outside("east-1", Some(100), "vlan-missing");
            it.outside("east-2", Some(100), "loop")
        });
        let said: Vec<String> = faults(&bed.view()).into_iter().map(|it| it.what).collect();
        assert_eq!(
            said,
            [
                "outside, east-1 and east-2 are vlan-missing on VLAN 100, 200: look at the switch \
                 ports",
                "outside, east-2 hears its own probes (loop) on VLAN 100: look at the switch ports",
            ]
        );
        bed.wait_s(10);
        assert_eq!(faults(&bed.view()), [], "what is old is not of now");
    }

    #[test]
    fn an_uplink_that_is_left_is_said_with_the_reason() {
        let mut bed = Bed::new();
        bed.gateway_a(|it| it.health("sick", &["next-hop-silent"]));
        bed.gateway_b(|it| it.carrier(false));
        let said: Vec<String> = faults(&bed.view()).into_iter().map(|it| it.what).collect();
        assert_eq!(
            said,
            [
                "uplink east-1 at gateway-a is sick (next-hop-silent): its vNICs use their standbys",
                "uplink east-2 at gateway-b is gone (no carrier): its vNICs use their standbys",
            ]
        );
    }

    #[test]
    fn who_is_not_heard_is_named() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(MBIT));
        bed.wait_s(10);
        bed.gateway_a(|it| it);
        let what = silent(&bed.view()).unwrap().what;
        let said = "3 of 4 hosts are not heard, or not long enough: ";
        assert!(what.starts_with(said), "{what}");
        for part in ["server-a for 10.1 s", "server-b has not reported yet"] {
            assert!(what.contains(part), "{what}");
        }
        bed.server_a(|it| it);
        bed.server_b(|it| it);
        bed.gateway_b(|it| it);
        assert_eq!(silent(&bed.view()), None);
        bed.reports.get_mut("server-b").unwrap().before = None;
        assert!(silent(&bed.view()).unwrap().what.contains(": server-b has reported once;"));
    }

    #[test]
    fn who_is_at_the_limit_of_its_policy_is_told_in_one_line_for_each_limit() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(800 * MBIT).held(800 * MBIT, 64_000));
        bed.gateway_a(|it| it.comes("vm-a", 800 * MBIT, 900));
        let said: Vec<String> = policy_limits(&bed.view()).into_iter().map(|it| it.what).collect();
        assert_eq!(
            said,
            [
                "1 vNIC has all that down.limit of policy \"gold\" allows, 800Mbit, and would use \
                 more: vm-a; `wireonce policy set gold down.limit=1600Mbit` gives each more",
                "1 vNIC has all that up.limit of policy \"gold\" allows, 800Mbit, and would use \
                 more: vm-a; `wireonce policy set gold up.limit=1600Mbit` gives each more",
            ]
        );
        bed.server_a(|it| it.sends(12 * MBIT).at_packet_limit(1_000, 12 * MBIT));
        bed.gateway_a(|it| it.comes("vm-a", 300 * MBIT, 900));
        let said = policy_limits(&bed.view());
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].what.contains("`wireonce policy set gold up.limit_packets_per_s=2000`"));
    }
}
