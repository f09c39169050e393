//! What is kept of tokens and of the certificates that were given.

use super::{Holder, Identity};
use crate::{
    caller::{Caller, Role},
    change::{Allowed, State},
    refusal::{Gate, Refusal},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wireonce_desired::Moment;

/// A token, as the controller knows it: by the hash of its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// What it is called in `token list`: the first digits of the hash.
    pub id: String,
    /// What may join.
    pub holder: Holder,
    /// Under which name.
    pub name: String,
    /// Until when.
    pub until: Moment,
    /// Whether the host may come with another key than the one that is known.
    pub rekey: bool,
    /// When it was made.
    pub made: Moment,
    /// Who made it.
    pub by: Caller,
    /// When it was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Moment>,
}

impl Invitation {
    /// Digits of the hash that name it.
    const ID_LEN: usize = 8;

    /// The name of the one with this hash.
    #[must_use]
    pub fn id_of(hash: &str) -> String {
        hash.chars().take(Self::ID_LEN).collect()
    }

    /// The key that keeps it.
    #[must_use]
    pub fn key(hash: &str) -> String {
        format!("token/{hash}")
    }
}

/// One certificate that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Issued {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Until when it is valid.
    pub until: Moment,
}

/// Which of a holder's certificates count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lasting {
    /// All that the authority gave it. A store that was restored from an older backup does not know
    /// the newest, and lets them in all the same.
    All,
    /// Only those that are listed: once something was revoked.
    Listed,
}

/// What a holder was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Credentials {
    /// What it is.
    pub holder: Holder,
    /// Which one.
    pub name: String,
    /// The role of a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// When it joined last.
    pub joined: Moment,
    /// Who let it in.
    pub by: Caller,
    /// Its certificates that have not expired.
    pub certificates: Vec<Issued>,
    /// Which certificates count.
    pub lasting: Lasting,
    /// When they were revoked, if it has not joined again since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Moment>,
}

impl Credentials {
    /// Whose they are.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { holder: self.holder, name: self.name.clone() }
    }

    /// The key that keeps those of a holder.
    #[must_use]
    pub fn key(identity: &Identity) -> String {
        format!("member/{identity}")
    }

    /// Until when the newest certificate is valid.
    #[must_use]
    pub fn until(&self) -> Option<Moment> {
        self.certificates.iter().map(|issued| issued.until).max()
    }

    /// Notes a certificate, and forgets those that have expired.
    pub(super) fn give(&mut self, issued: Issued, now: Moment) {
        self.certificates.retain(|old| old.until >= now);
        self.certificates.push(issued);
    }
}

impl State {
    /// Who shows a certificate with this name and number, if it still counts.
    ///
    /// # Errors
    /// It does not, and why; and how its holder gets in again.
    pub fn admit(
        &self,
        identity: &Identity,
        serial: &str,
        until: Moment,
        now: Moment,
    ) -> Allowed<Caller> {
        let no = |problem: String| {
            let thing = format!("the certificate of {}", identity.title());
            let refusal = Refusal::new(Gate::Right, thing, problem, identity.way_back());
            Err(refusal.who("admin"))
        };
        if until < now {
            return no(format!("has expired at {until}"));
        }
        let Some(known) = self.members.get(identity) else {
            return no("was given by this authority, but is not known here".to_owned());
        };
        if let Some(revoked) = known.revoked {
            return no(format!("was revoked at {revoked}"));
        }
        let is_listed = known.certificates.iter().any(|issued| issued.serial == serial);
        if known.lasting == Lasting::Listed && !is_listed {
            return no("was revoked, or another took its place".to_owned());
        }
        match identity.holder.kind() {
            Some(kind) if self.house.get(kind, &identity.name).is_none() => {
                no(format!("counts no more: {} does not exist", kind.title(&identity.name)))
            }
            Some(_) => Ok(Caller::new(&identity.name, Role::Host)),
            None => Ok(Caller::new(&identity.name, known.role.unwrap_or(Role::Viewer))),
        }
    }
}
