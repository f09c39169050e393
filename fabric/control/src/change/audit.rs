//! The audit trail: who changed what, when, why. It is only appended to.

use super::{Allowed, State, plan::json, state::HOUSE};
use crate::{
    caller::Caller,
    pki::Given,
    store::{Op, Restored},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use wireonce_desired::{Kind, Moment};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// An object is new.
    Added,
    /// An object is not what it was.
    Changed,
    /// An object is gone.
    Removed,
    /// Somebody asked for more than the budget.
    Requested,
    /// A request was approved; its changes follow.
    Approved,
    /// A request was denied.
    Denied,
    /// Who made a request took it back.
    Withdrawn,
    /// A token for a host was made.
    Invited,
    /// A host got its certificate.
    Joined,
    /// A token was removed.
    Uninvited,
    /// A host's certificate is refused from now on.
    Revoked,
    /// The store was filled from a backup.
    Restored,
}

/// One line of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its number; each is one more than the one before.
    pub number: u64,
    /// When.
    pub at: Moment,
    /// Who.
    pub by: Caller,
    /// What was done.
    pub action: Action,
    /// The kind of the object, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The name of the object, or the number of the request, or the host, or `store`.
    pub name: String,
    /// The object before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub before: Option<Value>,
    /// The object after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub after: Option<Value>,
    /// Why, as they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The request that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
}

/// What has to be written so that the trail says that all of it came from a backup: what was done after
/// that is not in it.
pub(crate) fn plan_restored(
    state: &State,
    by: &Caller,
    restored: Restored,
    now: Moment,
) -> Allowed<Given<()>> {
    let Restored { keys, revision } = restored;
    let mut counters = state.counters.clone();
    let entry = AuditEntry {
        number: counters.audit,
        at: now,
        by: by.clone(),
        action: Action::Restored,
        kind: None,
        name: "store".to_owned(),
        before: None,
        after: None,
        reason: Some(format!("from a backup of revision {revision}, {keys} keys")),
        request: None,
    };
    counters.audit += 1;
    let ops = vec![
        Op::put(AuditEntry::key(entry.number), json(&entry)?),
        Op::put(HOUSE, json(&counters)?),
    ];
    Ok((ops, ()))
}

impl AuditEntry {
    /// The key that keeps it.
    #[must_use]
    pub fn key(number: u64) -> String {
        format!("audit/{number:020}")
    }
}
