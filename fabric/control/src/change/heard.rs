//! What hosts said, as far as it belongs beside a change.
//!
//! A change is applied when it is in the store, and hosts take it a moment later. One that refused the
//! text that it was sent last does not, until what it refuses is mended: whoever changes something
//! for it has to hear that with the answer.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;
use wireonce_desired::{Direction, House, Rate, render};
use wireonce_sight::{
    View,
    now::{GrantRow, HostRow},
    view::Text,
};

/// Most hosts that are named; of the rest it is said that there are more.
const NAMED_MAX: usize = 8;
/// Most hosts whose texts are compared: each costs two looks at the whole house.
const LOOKED_AT_MAX: usize = 64;
/// Longest reason of a host that is shown, characters.
const WHY_LEN_MAX: usize = 300;

/// What a server did with a pool, one way, when more was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerUse {
    /// The pool.
    pub pool: String,
    /// The server.
    pub server: String,
    /// Towards the outside, or from it.
    pub direction: Direction,
    /// What its grant reserves.
    pub reserved: Rate,
    /// What it sent or got; left out if nobody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Rate>,
    /// What it would have sent or got; left out if nobody knows.
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
    let now = wireonce_sight::now(view);
    let grants = now.hosts.iter().flat_map(|host| host.grants.iter().map(move |it| (host, it)));
    let in_pools = grants.filter(|(_, grant)| pools.contains(grant.pool.as_str()));
    let both = |(host, grant)| Direction::BOTH.map(|direction| one_way(host, grant, direction));
    let mut found: Vec<ServerUse> = in_pools.flat_map(both).collect();
    found.sort_by(|a, b| (&a.pool, a.direction, &a.server).cmp(&(&b.pool, b.direction, &b.server)));
    found
}

fn one_way(host: &HostRow, grant: &GrantRow, direction: Direction) -> ServerUse {
    let (reserved, used, wants) = match direction {
        Direction::Up => (grant.reservation.up_bps, grant.used_bps, grant.wants),
        Direction::Down => (grant.reservation.down_bps, grant.down.used_bps, grant.down.wants),
    };
    ServerUse {
        pool: grant.pool.clone(),
        server: host.name.clone(),
        direction,
        reserved: Rate::from_bps(reserved.unwrap_or(0)),
        used: used.map(Rate::from_bps),
        wanted: wants.map(|wants| Rate::from_bps(wants.bps)),
        more: wants.is_some_and(|wants| wants.more),
        heard_s: host.heard.silent_ms.map(|ms| ms / 1_000),
    }
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
