//! The audit trail: who changed what, when, why. It is only appended to.

use crate::caller::Caller;
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
    /// A host's certificate is refused from now on.
    Revoked,
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
    /// The name of the object, or the number of the request, or the host.
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

impl AuditEntry {
    /// The key that keeps it.
    #[must_use]
    pub fn key(number: u64) -> String {
        format!("audit/{number:020}")
    }
}
