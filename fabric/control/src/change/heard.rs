//! What hosts said, as far as it belongs beside a change.
//!
//! A change is applied when it is in the store, and hosts take it a moment later. One that refused the
//! text that it was sent last does not, until what it refuses is mended: whoever changes something
//! for it has to hear that with the answer.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;
use wireonce_desired::{House, Rate, render};
use wireonce_sight::{View, view::Text};

/// Most hosts that are named; of the rest it is said that there are more.
const NAMED_MAX: usize = 8;
/// Most hosts whose texts are compared: each costs two looks at the whole house.
const LOOKED_AT_MAX: usize = 64;
/// Longest reason of a host that is shown, characters.
const WHY_LEN_MAX: usize = 300;

/// What a server did with a pool when more was asked for: upwards, where leases say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerUse {
    /// The pool.
    pub pool: String,
    /// The server.
    pub server: String,
    /// What its grant reserves.
    pub reserved: Rate,
    /// What it sent; left out if nobody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Rate>,
    /// What it would have sent; left out if it did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Rate>,
    /// And more: it was held back, and nobody can know how much it would have sent.
    #[serde(default)]
    pub more: bool,
    /// So many seconds before that its last report came; left out if none had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_s: Option<u64>,
}

/// What each server with a part in these pools used and wanted, as the reports say.
pub(super) fn measured(view: &View<'_>, pools: &BTreeSet<&str>) -> Vec<ServerUse> {
    let rate = |bps: Option<u64>| bps.map(Rate::from_bps);
    let now = wireonce_sight::now(view);
    let grants = now.hosts.iter().flat_map(|host| host.grants.iter().map(move |it| (host, it)));
    let in_pools = grants.filter(|(_, grant)| pools.contains(grant.pool.as_str()));
    let mut found: Vec<ServerUse> = in_pools
        .map(|(host, grant)| ServerUse {
            pool: grant.pool.clone(),
            server: host.name.clone(),
            reserved: Rate::from_bps(grant.reservation.up_bps.unwrap_or(0)),
            used: rate(grant.used_bps),
            wanted: rate(grant.wants.map(|wants| wants.bps)),
            more: grant.wants.is_some_and(|wants| wants.more),
            heard_s: host.heard.silent_ms.map(|ms| ms / 1_000),
        })
        .collect();
    found.sort_by(|a, b| (&a.pool, &a.server).cmp(&(&b.pool, &b.server)));
    found
}

/// A note for each host that a change concerns, and that will not take it: it refused its newest text.
pub(super) fn unserved(view: &View<'_>, before: &House, after: &House) -> Vec<String> {
    let refusing = view.reports.keys().filter_map(|host| match view.text(host) {
        (Text::Refused, why) => Some((host.as_str(), why.unwrap_or_default())),
        _ => None,
    });
    let is_concerned = |host: &str| render(before, host) != render(after, host);
    let concerned = refusing.take(LOOKED_AT_MAX).filter(|(host, _)| is_concerned(host));
    let mut notes: Vec<String> =
        concerned.take(NAMED_MAX + 1).map(|(host, why)| note(host, &why)).collect();
    if notes.len() > NAMED_MAX {
        notes.truncate(NAMED_MAX);
        notes.push("more hosts refused their newest texts: `wireonce top` shows them".to_owned());
    }
    notes
}

fn note(host: &str, why: &str) -> String {
    let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let shown: String = why.chars().take(WHY_LEN_MAX).collect();
    let cut = if shown.len() < why.len() { ".." } else { "" };
    format!(
        "{host} refused the text that it was sent last and serves the one before ({shown}{cut}); \
         what is changed here reaches it when it takes a text again: `wireonce top` shows that"
    )
}
