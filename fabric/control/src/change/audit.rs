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

/// Which lines of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Only what is about this: `KIND/NAME`, or a name of any kind.
    pub object: Option<String>,
    /// Only what this person did.
    pub by: Option<String>,
}

impl AuditFilter {
    /// Whether it has a line.
    #[must_use]
    pub fn has(&self, entry: &AuditEntry) -> bool {
        let is_about = |object: &String| entry.name == *object || entry.subject() == *object;
        self.object.as_ref().is_none_or(is_about)
            && self.by.as_ref().is_none_or(|by| entry.by.user == *by)
    }
}

impl AuditEntry {
    /// What it is about: `vnic/vm-a`, `request/3`, `user/nina`.
    #[must_use]
    pub fn subject(&self) -> String {
        match (self.kind, self.action) {
            (Some(kind), _) => format!("{kind}/{}", self.name),
            (None, Action::Requested | Action::Approved | Action::Denied | Action::Withdrawn) => {
                format!("request/{}", self.name)
            }
            // Persons are no objects, nor is the store; their lines say so in the name.
            (None, _) => self.name.clone(),
        }
    }

    /// The key that keeps it.
    #[must_use]
    pub fn key(number: u64) -> String {
        format!("audit/{number:020}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Role;

    fn line(action: Action, kind: Option<Kind>, name: &str) -> AuditEntry {
        AuditEntry {
            number: 1,
            at: Moment(0),
            by: Caller::new("nina", Role::Network),
            action,
            kind,
            name: name.to_owned(),
            before: None,
            after: None,
            reason: None,
            request: None,
        }
    }

    #[test]
    fn a_line_says_what_it_is_about_and_is_found_by_that_and_by_who_did_it() {
        let grant = line(Action::Changed, Some(Kind::Grant), "east/server-a");
        let request = line(Action::Denied, None, "3");
        let user = line(Action::Revoked, None, "user/olga");
        let host = line(Action::Joined, Some(Kind::Server), "server-a");
        let lines = [&grant, &request, &user, &host];
        assert_eq!(
            lines.map(AuditEntry::subject),
            ["grant/east/server-a", "request/3", "user/olga", "server/server-a"]
        );
        let found = |object: Option<&str>, by: Option<&str>| {
            let filter =
                AuditFilter { object: object.map(str::to_owned), by: by.map(str::to_owned) };
            lines.map(|line| filter.has(line))
        };
        assert_eq!(found(None, None), [true; 4]);
        assert_eq!(found(Some("east/server-a"), None), [true, false, false, false]);
        assert_eq!(found(Some("grant/east/server-a"), Some("nina")), [true, false, false, false]);
        assert_eq!(found(Some("server-a"), None), [false, false, false, true]);
        assert_eq!(found(Some("user/olga"), None), [false, false, true, false]);
        assert_eq!(found(None, Some("olga")), [false; 4], "it was done to her, not by her");
    }
}
