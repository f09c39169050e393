//! Changes of the house: what is asked, through which gates it goes, what comes of it.
//!
//! ```text
//!  Change ─> text ─> house ─> right ─> admission ─┬─> Plan: comparisons and writes
//!            alone   together  role     room, pace,│      objects, timers, audit, counters
//!            ids     homes     owner    budgets    └─> Plan: a request for the network team
//! ```
//! All of this is arithmetic on a [`State`] that was read at one revision. A plan is
//! carried out only if nobody changed the house since: each plan rewrites the key
//! `house`, and compares its version first. So two writers never both win, and no sum is
//! ever taken over two houses.

mod audit;
mod draft;
mod heard;
mod plan;
mod request;
mod state;
mod timers;

#[cfg(test)]
mod tests;

pub(crate) use plan::{check_words, json, take_counters, unchanged};
pub(crate) use state::HOUSE;

pub(crate) use audit::plan_restored;
pub use audit::{Action, AuditEntry, AuditFilter};
pub use heard::ServerUse;
pub use plan::{Answer, Plan, Standing, plan};
pub use request::{Decision, Request, RequestState, Verdict, decide, withdraw};
pub use state::{Counters, State, Timer};
pub use timers::{lasting, next_end, plan_ended};

use crate::{refusal::Refusal, store::Revision};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use wireonce_desired::{Direction, Kind, Object, Rate, read};

/// Most timed changes at a time.
pub const TIMERS_MAX: usize = 64;
/// Most requests that wait for an answer.
pub const OPEN_REQUESTS_MAX: usize = 256;
/// Most requests that are kept, open or answered; the oldest answered ones go first.
pub const REQUESTS_MAX: usize = 1024;

/// What a change is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Whatever is there.
    #[default]
    Any,
    /// The object with this version.
    Version(Revision),
    /// That there is none yet.
    Absent,
}

/// One thing that a change does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Makes an object, or takes the place of the one with its name.
    Put(Object, Base),
    /// Removes an object.
    Delete(Kind, String, Base),
    /// Moves a reservation from one server's grant to another's.
    Move(Move),
    /// Ends a timed change of a grant before its time.
    End(String),
    /// Moves a vNIC to another home.
    Rehome(Rehome),
    /// Makes an uplink or gateway drain, or no more.
    Drain(Kind, String, bool),
    /// Does nothing, if the house is still that of this revision; else the change is refused.
    Since(Revision),
}

/// A vNIC that goes to another home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rehome {
    /// The vNIC.
    pub vnic: String,
    /// The uplink that is to be its home.
    pub to: String,
}

/// A reservation that goes from one server to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The pool.
    pub pool: String,
    /// Whose reservation becomes less.
    pub from: String,
    /// Whose reservation becomes more.
    pub to: String,
    /// How much.
    pub rate: Rate,
    /// In which directions; `up` if left out.
    #[serde(default = "only_up")]
    pub directions: Vec<Direction>,
    /// When it goes back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<wireonce_desired::Moment>,
}

/// What somebody asks for: all of it, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Change {
    /// What to do, in this order.
    pub edits: Vec<Edit>,
    /// Why, for the audit trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The grants that it puts or moves end so many seconds after it was carried out, by the
    /// controller's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
    /// The revision whose objects it was made from. A request keeps the versions of its objects instead.
    #[serde(skip)]
    pub based_on: Option<Revision>,
}

impl Change {
    /// Puts all these objects, whatever is there.
    #[must_use]
    pub fn put_all(objects: Vec<Object>) -> Self {
        let edits = objects.into_iter().map(|object| Edit::Put(object, Base::Any)).collect();
        Self { edits, ..Self::default() }
    }

    /// One edit.
    #[must_use]
    pub fn one(edit: Edit) -> Self {
        Self { edits: vec![edit], ..Self::default() }
    }

    /// The same, with why.
    #[must_use]
    pub fn because(self, reason: Option<String>) -> Self {
        Self { reason, ..self }
    }

    /// The same, for the objects of a revision.
    #[must_use]
    pub fn based_on(self, based_on: Option<Revision>) -> Self {
        Self { based_on, ..self }
    }

    /// Whether another one does the same, for whatever reason.
    #[must_use]
    pub fn does_as(&self, other: &Self) -> bool {
        self.edits == other.edits && self.for_s == other.for_s
    }

    /// The same, for so many seconds.
    #[must_use]
    pub fn lasting(self, for_s: Option<u64>) -> Self {
        Self { for_s, ..self }
    }
}

/// How an edit is kept in a request.
#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Kept {
    Put { kind: Kind, object: Value, base: Base },
    Delete { kind: Kind, name: String, base: Base },
    Move(Move),
    End { grant: String },
    Rehome(Rehome),
    Drain { kind: Kind, name: String, draining: bool },
    Since { revision: Revision },
}

impl Serialize for Edit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kept = match self.clone() {
            Self::Put(object, base) => Kept::Put {
                kind: object.kind(),
                object: serde_json::to_value(&object).map_err(serde::ser::Error::custom)?,
                base,
            },
            Self::Delete(kind, name, base) => Kept::Delete { kind, name, base },
            Self::Move(what) => Kept::Move(what),
            Self::End(grant) => Kept::End { grant },
            Self::Rehome(what) => Kept::Rehome(what),
            Self::Drain(kind, name, draining) => Kept::Drain { kind, name, draining },
            Self::Since(revision) => Kept::Since { revision },
        };
        kept.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Edit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Kept::deserialize(deserializer)? {
            Kept::Put { kind, object, base } => {
                let object = read::object(kind, object).map_err(serde::de::Error::custom)?;
                Self::Put(object, base)
            }
            Kept::Delete { kind, name, base } => Self::Delete(kind, name, base),
            Kept::Move(what) => Self::Move(what),
            Kept::End { grant } => Self::End(grant),
            Kept::Rehome(what) => Self::Rehome(what),
            Kept::Drain { kind, name, draining } => Self::Drain(kind, name, draining),
            Kept::Since { revision } => Self::Since(revision),
        })
    }
}

fn only_up() -> Vec<Direction> {
    vec![Direction::Up]
}

/// A result that may be refused.
pub(crate) type Allowed<T> = Result<T, Refusal>;
