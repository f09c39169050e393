//! Whom a certificate names: `wireonce://server/server-a` in its subject alternative name.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;
use wireonce_desired::Kind;
use wireonce_member::HostKind;

/// What the subject alternative name begins with.
const SCHEME: &str = "wireonce://";
/// Longest name, characters: that of a host's file.
const NAME_LEN_MAX: usize = 63;

/// What holds a certificate.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// A server.
    Server,
    /// A gateway.
    Gateway,
    /// A person or program with a role.
    User,
}

impl Holder {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Gateway => "gateway",
            Self::User => "user",
        }
    }

    /// The kind of its object; people have none.
    #[must_use]
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::Server => Some(Kind::Server),
            Self::Gateway => Some(Kind::Gateway),
            Self::User => None,
        }
    }
}

impl From<HostKind> for Holder {
    fn from(kind: HostKind) -> Self {
        match kind {
            HostKind::Server => Self::Server,
            HostKind::Gateway => Self::Gateway,
        }
    }
}

/// A holder by name. Reads and writes as `server/server-a`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// What it is.
    pub holder: Holder,
    /// Which one.
    pub name: String,
}

impl Identity {
    /// A holder by name; `None` if that is no name.
    #[must_use]
    pub fn new(holder: Holder, name: &str) -> Option<Self> {
        is_name(name).then(|| Self { holder, name: name.to_owned() })
    }

    /// As a certificate has it.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{self}")
    }

    /// From a certificate.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<Self> {
        uri.strip_prefix(SCHEME)?.parse().ok()
    }

    /// What errors call it.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {:?}", self.holder.word(), self.name)
    }

    /// How its holder gets in again.
    #[must_use]
    pub fn way_back(&self) -> String {
        let Self { holder, name } = self;
        match holder {
            Holder::User => format!("have an admin run `wireonce user make {name} --role ROLE`"),
            host => format!(
                "`wireonce token make --{} {name}` at the controller, then `wireonce join --config \
                 FILE TOKEN` on the host, lets it in again",
                host.word()
            ),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.holder.word(), self.name)
    }
}

impl FromStr for Identity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (word, name) = text.split_once('/').ok_or(())?;
        let holders = [Holder::Server, Holder::Gateway, Holder::User];
        let holder = holders.into_iter().find(|holder| holder.word() == word).ok_or(())?;
        Self::new(holder, name).ok_or(())
    }
}

/// The rule of a host's file.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=NAME_LEN_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
}
