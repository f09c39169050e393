//! The tables: servers, uplinks, vNICs, pools, as they are now.

mod rows;

use crate::{
    look::{Both, Look},
    notes::{self, Note},
    sight::{Downward, Wants},
    view::{Text, View},
};
use rows::{host_row, pool_row, uplink_row, vnic_row};
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, collections::BTreeMap};

/// The whole view.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Now {
    /// Servers and gateways, those that lack most first.
    pub hosts: Vec<HostRow>,
    /// Uplinks, the fullest first.
    pub uplinks: Vec<UplinkRow>,
    /// vNICs, those that lack most first.
    pub vnics: Vec<VnicRow>,
    /// Pools.
    pub pools: Vec<PoolRow>,
    /// What is wrong between hosts, at uplinks and outside, with who acts.
    pub notes: Vec<Note>,
}

/// How long a row's host has been silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Heard {
    /// So many milliseconds; `None`: it has not reported since the controller started.
    pub silent_ms: Option<u64>,
    /// That is too long for anything here to be of now.
    pub old: bool,
}

/// A server or a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostRow {
    /// Its name.
    pub name: String,
    /// `server` or `gateway`.
    pub kind: String,
    /// How it stands to its desired state.
    pub text: Text,
    /// Why it refused the newest text.
    pub why: Option<String>,
    /// When it was heard.
    pub heard: Heard,
    /// When its certificate ends: seconds since 1970.
    pub certificate_until_s: Option<u64>,
    /// The version of its program.
    pub version: String,
    /// What its vNICs send and receive; of a gateway, what its uplinks carry.
    pub rate: Both,
    /// What its vNICs would send.
    pub wants: Option<Wants>,
    /// One of them is held back.
    pub held: bool,
    /// What it may use of pools.
    pub grants: Vec<GrantRow>,
    /// What its fabric port carries, as its owner says.
    pub port: Both,
    /// What crosses it now.
    pub port_used: Both,
}

/// What a server may use of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GrantRow {
    /// The pool.
    pub pool: String,
    /// What is reserved.
    pub reservation: Both,
    /// The limit.
    pub limit: Both,
    /// The leases in force together, upwards.
    pub lease_bps: Option<u64>,
    /// What it sends, upwards.
    pub used_bps: Option<u64>,
    /// What its vNICs would send.
    pub wants: Option<Wants>,
    /// One of them is held back.
    pub held: bool,
    /// The same from outside.
    pub down: GrantDown,
}

/// What a server gets of a pool from outside, where gateways shape that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GrantDown {
    /// What its vNICs get.
    pub used_bps: Option<u64>,
    /// What would come for them.
    pub wants: Option<Wants>,
    /// For one of them something waits.
    pub held: bool,
}

/// An uplink.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UplinkRow {
    /// Its name.
    pub name: String,
    /// Who has it.
    pub gateway: String,
    /// What it reaches.
    pub pool: String,
    /// When its gateway was heard.
    pub heard: Heard,
    /// `alive`, `gone`, .., or `unknown` while its gateway is silent.
    pub state: String,
    /// Why, if it is not alive.
    pub causes: Vec<String>,
    /// Its interface has a link.
    pub carrier: Option<bool>,
    /// What it carries, as the network team says.
    pub capacity: Both,
    /// What it carries now.
    pub rate: Both,
    /// What is reserved for vNICs that are at home there.
    pub promised: Both,
    /// What is leased to servers, upwards.
    pub leased_bps: Option<u64>,
    /// How many vNICs use it; without word from its gateway, how many are meant to.
    pub attached: u64,
    /// What was dropped there in the last interval.
    pub drops: Vec<DropRow>,
}

/// Frames that were dropped in the last interval.
#[derive(Debug, Clone, PartialEq, Eq, Default, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct DropRow {
    /// Where.
    pub host: String,
    /// At which stage.
    pub stage: String,
    /// Why.
    pub reason: String,
    /// How many.
    pub frames: u64,
}

/// A vNIC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VnicRow {
    /// Its name.
    pub name: String,
    /// Where its VM is.
    pub server: String,
    /// When its server was heard.
    pub heard: Heard,
    /// The uplink that it should use.
    pub home: Option<String>,
    /// The uplink that it uses, if its server says so.
    pub home_now: Option<String>,
    /// `down`, `connected`, `running`; `None`: its server does not say.
    pub state: Option<String>,
    /// From the guest and to it.
    pub rate: Both,
    /// What it would send.
    pub wants: Option<Wants>,
    /// What it may send to its home.
    pub share_bps: Option<u64>,
    /// The limit of its policy.
    pub limit: Both,
    /// The same in packets a second, upwards.
    pub limit_packets_per_s: Option<u32>,
    /// It has less than it would use.
    pub held: bool,
    /// Something of it waited in so many percent of the interval, in steps of 5 ms.
    pub held_percent: Option<u64>,
    /// Of that, it is its limit in packets that holds it back.
    pub packets_held: bool,
    /// Something of it waited for its server's fabric port in so many percent of the interval.
    pub port_held_percent: Option<u64>,
    /// It is that port that holds it back.
    pub port_held: bool,
    /// Bytes that wait.
    pub backlog_bytes: u64,
    /// What comes for it from outside, if gateways shape that.
    pub down: Option<Downward>,
    /// What was dropped of it in the last interval, at all hosts.
    pub drops: Vec<DropRow>,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolRow {
    /// Its name.
    pub name: String,
    /// What may be promised of its uplinks together.
    pub usable: Both,
    /// What grants reserve.
    pub reserved: Both,
    /// What they may reserve without asking.
    pub budget: Both,
    /// What its uplinks carry now.
    pub used: Both,
    /// What vNICs would send.
    pub wanted: Wants,
    /// Servers that are held back, who lacks most first.
    pub starved: Vec<Party>,
    /// Servers that have reserved what they do not want, most first.
    pub surplus: Vec<Party>,
    /// What would come for vNICs from outside.
    pub wanted_down: Wants,
    /// Servers for whose vNICs something waits outside, who lacks most first.
    pub starved_down: Vec<Party>,
    /// Servers that have reserved from outside what they do not want, most first.
    pub surplus_down: Vec<Party>,
}

/// A server in a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Party {
    /// Its name.
    pub server: String,
    /// What it uses.
    pub used_bps: u64,
    /// What is reserved for it.
    pub reserved_bps: u64,
    /// What it would use.
    pub wants: Wants,
}

/// Makes the tables.
#[must_use]
pub fn now(view: &View<'_>) -> Now {
    let names = view.house.hosts().map(|(_, host)| host.name.as_str());
    let looks: Looks<'_> = names.filter_map(|name| Some((name, view.look(name)?))).collect();
    let drops = drops_by_name(&looks);
    let mut vnics: Vec<VnicRow> =
        view.house.vnics().map(|vnic| vnic_row(view, &looks, &drops, vnic)).collect();
    let mut uplinks: Vec<UplinkRow> =
        view.house.uplinks().map(|it| uplink_row(view, &looks, &drops, &vnics, it)).collect();
    let mut hosts: Vec<HostRow> = (view.house.hosts())
        .map(|(kind, host)| host_row(view, &looks, &vnics, kind, host))
        .collect();
    let pools = view.house.pools().map(|pool| pool_row(view, &hosts, &uplinks, &pool.name));
    let pools = pools.collect();
    vnics.sort_by_key(|row| (Reverse(row.lack()), Reverse(row.rate.up_bps)));
    uplinks.sort_by_key(|row| Reverse(row.full_percent()));
    hosts.sort_by_key(|row| (Reverse(row.lacks()), Reverse(row.wants)));
    Now { hosts, uplinks, vnics, pools, notes: notes::faults(view) }
}

/// What happened at each host that is heard.
type Looks<'v> = BTreeMap<&'v str, Look<'v>>;
/// Drops by the vNIC or uplink that they are booked on.
type Drops<'v> = BTreeMap<&'v str, Vec<DropRow>>;

fn drops_by_name<'v>(looks: &Looks<'v>) -> Drops<'v> {
    let mut drops: Drops<'v> = BTreeMap::new();
    for (host, look) in looks {
        for (name, stage, flow) in look.flows() {
            for (reason, amount) in &flow.drops {
                drops.entry(name).or_default().push(DropRow {
                    host: (*host).to_owned(),
                    stage: stage.name().to_owned(),
                    reason: (*reason).to_owned(),
                    frames: amount.frames,
                });
            }
        }
    }
    drops.values_mut().for_each(|rows| rows.sort());
    drops
}

impl VnicRow {
    /// Who is held back lacks something; how long says how much.
    fn lack(&self) -> (bool, u64, Wants) {
        let down = self.down.unwrap_or_default();
        let up = (self.held, self.held_percent.unwrap_or(0), self.wants.unwrap_or_default());
        up.max((down.short, down.held_percent.unwrap_or(0), down.wants))
    }
}

impl UplinkRow {
    /// How full it is, in the direction in which that is more.
    #[must_use]
    pub fn full_percent(&self) -> Option<u64> {
        full_percent(self.rate, self.capacity)
    }
}

impl HostRow {
    /// One of its vNICs is held back, or something waits for one outside.
    fn lacks(&self) -> bool {
        self.held || self.grants.iter().any(|grant| grant.down.held)
    }

    /// How full its fabric port is, in the direction in which that is more.
    #[must_use]
    pub fn full_percent(&self) -> Option<u64> {
        full_percent(self.port_used, self.port)
    }
}

fn full_percent(used: Both, capacity: Both) -> Option<u64> {
    let of =
        |used: Option<u64>, capacity: Option<u64>| used?.saturating_mul(100).checked_div(capacity?);
    of(used.up_bps, capacity.up_bps).max(of(used.down_bps, capacity.down_bps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Bed, MBIT};
    use wireonce_ledger::{DropReason, Stage};

    #[test]
    fn the_starved_stand_first_and_beside_those_with_a_surplus() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(300 * MBIT));
        bed.server_b(|it| it.sends(50 * MBIT).held(50 * MBIT, 65_000));
        bed.gateway_b(|it| it.lease("east-2", "server-b", 60 * MBIT, 50 * MBIT));
        let now = now(&bed.view());
        let first = &now.vnics[0];
        assert_eq!((first.name.as_str(), first.held, first.held_percent), ("vm-b", true, Some(90)));
        assert_eq!((first.share_bps, first.backlog_bytes), (Some(50 * MBIT), 65_000));
        assert_eq!(now.hosts[0].name, "server-b");
        assert_eq!(now.hosts[0].grants[0].lease_bps, Some(60 * MBIT));
        let pool = &now.pools[0];
        assert_eq!(pool.starved[0].server, "server-b");
        assert_eq!(
            (pool.surplus[0].server.as_str(), pool.surplus[0].reserved_bps),
            ("server-a", 600 * MBIT)
        );
    }

    #[test]
    fn who_starves_from_outside_stands_first_too() {
        let mut bed = Bed::new();
        bed.grant("east/server-b", |grant| {
            let reservation = Some(wireonce_desired::Rate::from_bps(200 * MBIT));
            grant.down = Some(wireonce_desired::Terms { reservation, ..Default::default() });
        });
        bed.server_a(|it| it);
        bed.server_b(|it| it.sends(50 * MBIT));
        bed.gateway_a(|it| it.comes("vm-a", 300 * MBIT, 900));
        bed.gateway_b(|it| it.comes("vm-b", 10 * MBIT, 0));
        let now = now(&bed.view());
        assert_eq!(now.vnics[0].name, "vm-a");
        let down = now.vnics[0].down.unwrap();
        assert!(down.short && !now.vnics[0].held);
        assert_eq!((down.rate_bps, down.queued_bytes), (300 * MBIT, 200_000));
        assert_eq!(now.hosts[0].name, "server-a");
        let pool = &now.pools[0];
        assert_eq!((pool.starved.len(), pool.starved_down[0].server.as_str()), (0, "server-a"));
        assert_eq!(pool.starved_down[0].used_bps, 300 * MBIT);
        assert_eq!(pool.surplus_down[0].server, "server-b");
        assert_eq!(pool.wanted_down, Wants { bps: 311 * MBIT, more: true });
    }

    #[test]
    fn what_is_wrong_outside_is_noted_with_who_acts() {
        let mut bed = Bed::new();
        bed.gateway_a(|it| it.outside("east-2", Some(100), "apart"));
        let notes = now(&bed.view()).notes;
        assert_eq!((notes.len(), notes[0].who), (1, crate::causes::Who::Network));
        assert!(notes[0].what.starts_with("outside, east-1 and east-2 are apart on VLAN 100"));
    }

    #[test]
    fn who_is_at_its_limit_in_packets_is_marked_and_not_starved() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(12 * MBIT).at_packet_limit(1_000, 12 * MBIT));
        let now = now(&bed.view());
        let vnic = now.vnics.iter().find(|row| row.name == "vm-a").unwrap();
        assert_eq!((vnic.held, vnic.packets_held, vnic.held_percent), (false, true, Some(90)));
        assert!(now.pools[0].starved.is_empty());
    }

    #[test]
    fn who_waits_for_its_servers_port_is_marked_and_not_starved() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(100 * MBIT).at_port(100 * MBIT));
        let now = now(&bed.view());
        let vnic = now.vnics.iter().find(|row| row.name == "vm-a").unwrap();
        assert_eq!((vnic.held, vnic.port_held, vnic.port_held_percent), (false, true, Some(90)));
        assert!(now.pools[0].starved.is_empty());
    }

    #[test]
    fn homes_and_health_are_what_daemons_say() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.at_home("east-2", "home-silent"));
        bed.gateway_a(|it| it.health("sick", &["next-hop-silent"]));
        let now = now(&bed.view());
        let vnic = now.vnics.iter().find(|row| row.name == "vm-a").unwrap();
        let homes = (vnic.home.as_deref(), vnic.home_now.as_deref());
        assert_eq!(homes, (Some("east-1"), Some("east-2")));
        let uplink = now.uplinks.iter().find(|row| row.name == "east-1").unwrap();
        assert_eq!((uplink.state.as_str(), uplink.attached), ("sick", 0));
        assert_eq!(uplink.causes, ["next-hop-silent"]);
    }

    #[test]
    fn rates_are_of_the_interval_and_uplinks_show_what_they_carry() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(300 * MBIT));
        bed.gateway_a(|it| it.carries("vm-a", 300 * MBIT));
        let now = now(&bed.view());
        let uplink = now.uplinks.iter().find(|row| row.name == "east-1").unwrap();
        assert_eq!((uplink.rate.up_bps, uplink.full_percent()), (Some(300 * MBIT), Some(30)));
        assert_eq!((uplink.state.as_str(), uplink.attached), ("alive", 1));
        assert_eq!(uplink.promised.up_bps, Some(100 * MBIT));
        let vnic = now.vnics.iter().find(|row| row.name == "vm-a").unwrap();
        assert_eq!(vnic.rate.up_bps, Some(300 * MBIT));
    }

    #[test]
    fn what_is_old_is_marked_and_has_no_rates() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(300 * MBIT).held(300 * MBIT, 1));
        bed.wait_s(5);
        let now = now(&bed.view());
        let vnic = now.vnics.iter().find(|row| row.name == "vm-a").unwrap();
        assert!(vnic.heard.old && !vnic.held);
        assert_eq!((vnic.rate, vnic.heard.silent_ms), (Both::default(), Some(5_100)));
        let never = now.vnics.iter().find(|row| row.name == "vm-b").unwrap();
        assert_eq!(never.heard, Heard { silent_ms: None, old: false });
    }

    #[test]
    fn drops_of_all_hosts_stand_at_their_vnic() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.drops(Stage::GuestTx, DropReason::SourceIp, 3));
        bed.gateway_a(|it| {
            it.flow("vm-a", Stage::UplinkTx, 9, &[(DropReason::OverLease, 9)]).flow(
                "east-1",
                Stage::UplinkRx,
                2,
                &[(DropReason::UnknownMac, 2)],
            )
        });
        let now = now(&bed.view());
        let vnic = now.vnics.iter().find(|row| row.name == "vm-a").unwrap();
        let shown: Vec<_> =
            vnic.drops.iter().map(|it| (it.host.as_str(), it.reason.as_str(), it.frames)).collect();
        assert_eq!(shown, [("gateway-a", "over-lease", 9), ("server-a", "source-ip", 3)]);
        let uplink = now.uplinks.iter().find(|row| row.name == "east-1").unwrap();
        assert_eq!(uplink.drops[0].reason, "unknown-mac");
    }

    #[test]
    fn hosts_say_whether_they_serve_what_they_should() {
        let mut bed = Bed::new();
        for host in ["server-a", "server-b", "gateway-a"] {
            bed.tags.insert(host.to_owned(), "new".to_owned());
        }
        bed.server_a(|it| it.tag("new"));
        bed.server_b(|it| it.tag("old"));
        bed.gateway_a(|it| it.tag("old").refused("no such interface"));
        let now = now(&bed.view());
        let text = |name: &str| now.hosts.iter().find(|row| row.name == name).unwrap().text;
        assert_eq!(
            ["server-a", "server-b", "gateway-a", "gateway-b"].map(text),
            [Text::UpToDate, Text::Behind, Text::Refused, Text::Unknown]
        );
    }

    #[test]
    fn a_view_survives_the_wire() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(300 * MBIT).held(300 * MBIT, 1));
        let now = now(&bed.view());
        let text = serde_json::to_string(&now).unwrap();
        assert_eq!(serde_json::from_str::<Now>(&text).unwrap(), now);
    }
}
