//! The one answer to what cannot be done: at which gate, what is wrong, what would be
//! right, and who could do it.

use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;
use wireonce_desired::Wrong;

/// Where a change was stopped. The order is that in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// The text makes no sense alone.
    Text,
    /// The thing that it is about does not exist.
    Missing,
    /// Somebody else changed it since, or it is in a state that forbids it.
    Conflict,
    /// The house does not hold together with it.
    House,
    /// This caller may not do it.
    Right,
    /// There is no room for it.
    Admission,
    /// The store did not take it.
    Store,
}

/// Why something was not done. The old state stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
pub struct Refusal {
    /// Where it was stopped.
    pub gate: Gate,
    /// The thing, such as `[[vnic]] "vm-a"`.
    #[schema(value_type = String)]
    pub thing: Box<str>,
    /// The key inside it, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub key: Option<Box<str>>,
    /// What is wrong.
    #[schema(value_type = String)]
    pub problem: Box<str>,
    /// What would be right.
    #[schema(value_type = String)]
    pub remedy: Box<str>,
    /// The role that could do it, if it is a matter of right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub who: Option<Box<str>>,
}

impl Refusal {
    /// A refusal that is no matter of right.
    #[must_use]
    pub fn new(
        gate: Gate,
        thing: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let wrong = Wrong::new(thing, problem, remedy);
        Self::wrong(gate, wrong)
    }

    /// What [`Wrong`] says, at a gate.
    #[must_use]
    pub fn wrong(gate: Gate, wrong: Wrong) -> Self {
        let Wrong { thing, key, problem, remedy } = wrong;
        Self {
            gate,
            thing: thing.into(),
            key: key.map(Into::into),
            problem: problem.into(),
            remedy: remedy.into(),
            who: None,
        }
    }

    /// The same, with who could do it.
    #[must_use]
    pub fn who(self, role: &str) -> Self {
        Self { who: Some(role.into()), ..self }
    }

    /// The status of HTTP that says it.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self.gate {
            Gate::Text => 400,
            Gate::Right => 403,
            Gate::Missing => 404,
            Gate::Conflict | Gate::Admission => 409,
            Gate::House => 422,
            Gate::Store => 507,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.thing)?;
        if let Some(key) = &self.key {
            write!(f, ": key `{key}`")?;
        }
        write!(f, ": {}; {}", self.problem, self.remedy)?;
        match &self.who {
            Some(role) => write!(f, " (the role `{role}` can)"),
            None => Ok(()),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        let (thing, rest) = text.split_once(": ").unwrap_or(("store", &text));
        let (problem, remedy) = rest.split_once("; ").unwrap_or((rest, "try again"));
        Self::new(Gate::Store, thing, problem, remedy)
    }
}
