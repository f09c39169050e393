//! Who calls, and what that role may change.

use crate::refusal::{Gate, Refusal};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;
use wireonce_desired::{Kind, Team};

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, and tokens, users, backups.
    Admin,
    /// Uplinks, pools, networks, budgets, and what is asked beyond them.
    Network,
    /// Servers, vNICs, policies, and grants within the budget.
    Virtualisation,
    /// Look.
    Viewer,
    /// A server or gateway: its own text and report, nothing else.
    Host,
    /// The controller itself: it ends what was to end.
    Control,
}

impl Role {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Network => "network",
            Self::Virtualisation => "virtualisation",
            Self::Viewer => "viewer",
            Self::Host => "host",
            Self::Control => "control",
        }
    }

    /// Whether it may change objects of a kind.
    #[must_use]
    pub fn may_change(self, kind: Kind) -> bool {
        match self {
            Self::Admin | Self::Control => true,
            Self::Network => kind.owner() == Team::Network,
            Self::Virtualisation => kind.owner() == Team::Virtualisation,
            Self::Viewer | Self::Host => false,
        }
    }

    /// Whether budgets bind it.
    #[must_use]
    pub fn is_bound_by_budgets(self) -> bool {
        self == Self::Virtualisation
    }

    /// Whether it may decide on requests.
    #[must_use]
    pub fn may_decide(self) -> bool {
        matches!(self, Self::Admin | Self::Network)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Admin, Self::Network, Self::Virtualisation, Self::Viewer];
        known.into_iter().find(|role| role.word() == text).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            let words = known.map(Self::word);
            let meant = wireonce_config::nearest(&shown, words);
            let remedy = match meant {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("the roles are {}", words.join(", ")),
            };
            format!("there is no role {shown:?}; {remedy}")
        })
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Caller {
    /// A person or program, as the kernel or a certificate names it.
    pub user: String,
    /// The role that is theirs.
    pub role: Role,
    /// The role that they act in, if another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acting_as: Option<Role>,
}

impl Caller {
    /// Somebody in their own role.
    #[must_use]
    pub fn new(user: impl Into<String>, role: Role) -> Self {
        Self { user: user.into(), role, acting_as: None }
    }

    /// The controller itself.
    #[must_use]
    pub fn control() -> Self {
        Self::new("control", Role::Control)
    }

    /// The same person in another role.
    ///
    /// # Errors
    /// Only an admin can.
    pub fn acting_as(self, role: Role) -> Result<Self, Refusal> {
        if self.role == role {
            return Ok(self);
        }
        if self.role != Role::Admin {
            let thing = format!("user {:?}", self.user);
            let problem = format!("has the role `{}` and cannot act as `{role}`", self.role);
            let remedy = "leave `--as` out, or ask an admin";
            return Err(Refusal::new(Gate::Right, thing, problem, remedy).who("admin"));
        }
        Ok(Self { acting_as: Some(role), ..self })
    }

    /// The role that counts.
    #[must_use]
    pub fn effective(&self) -> Role {
        self.acting_as.unwrap_or(self.role)
    }

    /// Refuses hosts whose name is another, and people.
    ///
    /// # Errors
    /// It is not that host that calls.
    pub fn need_host(&self, name: &str) -> Result<(), Refusal> {
        if self.role == Role::Host && self.user == name {
            return Ok(());
        }
        let thing = format!("host {:?}", name.chars().take(64).collect::<String>());
        let problem = format!("{self} is not that host");
        let remedy = "a host asks for itself, with its own certificate";
        Err(Refusal::new(Gate::Right, thing, problem, remedy))
    }

    /// Refuses hosts whose name is another; people may look.
    ///
    /// # Errors
    /// It is another host that calls.
    pub fn may_look_at_host(&self, name: &str) -> Result<(), Refusal> {
        if self.role == Role::Host { self.need_host(name) } else { Ok(()) }
    }

    /// Refuses hosts: what is for people is not for them.
    ///
    /// # Errors
    /// It is a host that calls.
    pub fn need_person(&self) -> Result<(), Refusal> {
        if self.role != Role::Host {
            return Ok(());
        }
        let problem = "a host may ask for its own text and say how it is, nothing else";
        let remedy = "ask as a person, with a role";
        Err(Refusal::new(Gate::Right, format!("host {:?}", self.user), problem, remedy))
    }

    /// Refuses those who are no admin.
    ///
    /// # Errors
    /// It is not an admin who calls.
    pub fn need_admin(&self, thing: &str) -> Result<(), Refusal> {
        if self.effective() == Role::Admin {
            return Ok(());
        }
        let problem = format!("the role `{}` may not do that", self.effective());
        Err(Refusal::new(Gate::Right, thing, problem, "ask an admin").who("admin"))
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.acting_as {
            Some(role) => write!(f, "{} ({}, as {role})", self.user, self.role),
            None => write!(f, "{} ({})", self.user, self.role),
        }
    }
}
