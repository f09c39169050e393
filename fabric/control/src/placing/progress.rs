//! How far a drain is: which hosts have still to take it, and who is still there.

use crate::{change::State, store::Revision};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;
use wireonce_desired::{House, Kind, Uplink, render};
use wireonce_ledger::report::HostReport;
use wireonce_member::text::tag_of;

/// How far a drain, or the end of one, is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Whether it drains now.
    pub draining: bool,
    /// Every host has taken it and, if it drains, nobody is there any more.
    pub done: bool,
    /// What it waits for.
    pub waits_for: Vec<Waiting>,
}

/// One host that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// The host.
    pub host: String,
    /// For what.
    pub why: String,
}

/// What a host said last, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Said {
    /// The tag of the text that it serves.
    pub(crate) tag: Option<String>,
    /// Why it refused the newest one.
    pub(crate) refused: Option<String>,
    /// How many vNICs are attached to its uplinks, if it says so.
    pub(crate) attached: BTreeMap<String, u64>,
}

impl Said {
    /// What a report says of it.
    pub(crate) fn of(report: &HostReport) -> Self {
        let (tag, refused) = (report.tag.clone(), report.refused.clone());
        let uplinks = report.status.uplinks.iter();
        let attached = uplinks.map(|uplink| (uplink.name.clone(), uplink.attached)).collect();
        Self { tag, refused, attached }
    }
}

/// The tags of hosts' texts, made once for each change of an object.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    version: Revision,
    known: BTreeMap<String, Option<String>>,
}

impl Tags {
    /// The tag of the text of `host`.
    fn of(&mut self, state: &State, host: &str) -> Option<String> {
        if self.version != state.changed() {
            self.version = state.changed();
            self.known.clear();
        }
        let known = self.known.entry(host.to_owned());
        known.or_insert_with(|| render(&state.house, host).map(|text| tag_of(&text))).clone()
    }
}

/// How far it is with these uplinks.
pub(crate) fn progress(
    state: &State,
    uplinks: &[&Uplink],
    draining: bool,
    tags: &mut Tags,
    said: impl Fn(&str) -> Option<Said>,
) -> Progress {
    let mut waits_for = Vec::new();
    for host in concerned(&state.house, uplinks) {
        let mut wait = |why: String| waits_for.push(Waiting { host: host.to_owned(), why });
        let Some(said) = said(host) else {
            wait("has not reported".to_owned());
            continue;
        };
        if said.tag != tags.of(state, host) {
            wait(match said.refused {
                Some(why) => format!("refused it: {why}"),
                None => "has not taken it yet".to_owned(),
            });
            continue;
        }
        for uplink in uplinks.iter().filter(|uplink| draining && uplink.host == host) {
            let attached = said.attached.get(&uplink.name).copied().unwrap_or(0);
            if attached > 0 {
                let vnics = if attached == 1 { "vNIC is" } else { "vNICs are" };
                wait(format!("{attached} {vnics} still attached to {:?}", uplink.name));
            }
        }
    }
    Progress { draining, done: waits_for.is_empty(), waits_for }
}

/// The hosts that know of these uplinks.
fn concerned<'h>(house: &'h House, uplinks: &[&Uplink]) -> BTreeSet<&'h str> {
    let pools: BTreeSet<&str> = uplinks.iter().map(|uplink| uplink.pool.as_str()).collect();
    let gateways = house.uplinks().filter(|uplink| pools.contains(uplink.pool.as_str()));
    let vnics =
        house.vnics().filter(|vnic| house.pool_of(vnic).is_some_and(|pool| pools.contains(pool)));
    gateways
        .map(|uplink| uplink.host.as_str())
        .chain(vnics.map(|vnic| vnic.host.as_str()))
        .collect()
}

/// The uplinks that `drain KIND NAME` is about.
pub(crate) fn uplinks_of<'h>(house: &'h House, kind: Kind, name: &str) -> Vec<&'h Uplink> {
    let is_meant = |uplink: &&Uplink| match kind {
        Kind::Gateway => uplink.host == name,
        _ => uplink.name == name,
    };
    house.uplinks().filter(is_meant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_desired::read;

    const HOUSE: &str = include_str!("../../../../docs/examples/control/house.toml");

    fn state() -> State {
        let house = read::toml(HOUSE).unwrap().into_iter().collect();
        State { house, house_version: 1, ..State::default() }
    }

    fn waits(said: impl Fn(&str, String) -> Option<Said>) -> Vec<(String, String)> {
        let state = state();
        let uplinks = uplinks_of(&state.house, Kind::Uplink, "east-1");
        let current = |host: &str| render(&state.house, host).map(|text| tag_of(&text)).unwrap();
        let said = |host: &str| said(host, current(host));
        let progress = progress(&state, &uplinks, true, &mut Tags::default(), said);
        assert_eq!(progress.done, progress.waits_for.is_empty());
        progress.waits_for.into_iter().map(|it| (it.host, it.why)).collect()
    }

    fn up_to_date(tag: String) -> Said {
        Said { tag: Some(tag), ..Said::default() }
    }

    #[test]
    fn each_host_that_knows_the_uplink_has_to_take_its_text() {
        assert_eq!(waits(|_, tag| Some(up_to_date(tag))), []);
        let waiting = waits(|host, tag| match host {
            "server-a" => None,
            "server-b" => Some(Said { refused: Some("no".to_owned()), ..Said::default() }),
            "gateway-b" => Some(up_to_date("old".to_owned())),
            _ => Some(up_to_date(tag)),
        });
        let expected = [
            ("gateway-b", "has not taken it yet"),
            ("server-a", "has not reported"),
            ("server-b", "refused it: no"),
        ];
        assert_eq!(waiting, expected.map(|(host, why)| (host.to_owned(), why.to_owned())));
    }

    #[test]
    fn who_is_still_attached_is_waited_for() {
        let attached = |host: &str, tag| {
            let attached = match host {
                "gateway-a" => [("east-1".to_owned(), 2)].into(),
                // What is attached to another uplink is none of its business.
                _ => [("east-2".to_owned(), 9)].into(),
            };
            Some(Said { attached, ..up_to_date(tag) })
        };
        let waiting = waits(attached);
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].1, "2 vNICs are still attached to \"east-1\"");
    }

    #[test]
    fn tags_follow_the_house() {
        let (mut tags, mut state) = (Tags::default(), state());
        let first = tags.of(&state, "server-a").unwrap();
        assert_eq!(first.len(), 64);
        let mut uplink = state.house.uplink("east-1").unwrap().clone();
        uplink.draining = true;
        state.house.put(wireonce_desired::Object::Uplink(uplink));
        assert_eq!(tags.of(&state, "server-a").unwrap(), first, "the same house");
        state.house_version = 2;
        assert_ne!(tags.of(&state, "server-a").unwrap(), first);
        assert_eq!(tags.of(&state, "nobody"), None);
    }
}
