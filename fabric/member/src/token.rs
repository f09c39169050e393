//! The token that lets one host in, once: what `wireonce token make` prints and `wireonce
//! join` takes.
//!
//! ```text
//! wo1_ base64url( JSON {kind, name, addresses, ca, secret, until} , first 4 bytes of its SHA-256 )
//! ```
//! The four bytes tell a token that was cut short or mistyped from one that is refused. The
//! fingerprint of the certificate authority tells the host whom to believe: the token came
//! by a way that its owner trusts.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use zeroize::Zeroize;

/// What every token begins with; the number is the version of the form.
const PREFIX: &str = "wo1_";
/// Bytes that tell whether a token is whole.
const CHECK_LEN: usize = 4;
/// Longest token that is read, characters.
const LEN_MAX: usize = 4096;
/// Most addresses in a token.
pub const ADDRESSES_MAX: usize = 8;

/// What kind of host it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostKind {
    /// It runs virtual machines: `wireonce backend`.
    Server,
    /// It offers uplinks: `wireonce gateway`.
    Gateway,
}

impl HostKind {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for HostKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What is random in a token: whoever has it may join.
#[derive(Clone, PartialEq, Eq, Zeroize)]
#[zeroize(drop)]
pub struct Secret(pub [u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A new one; `None` if the operating system gives no random bytes.
    #[must_use]
    pub fn generate() -> Option<Self> {
        let mut bytes = [0; 16];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// As it stands in a request: hexadecimal.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// What the controller keeps of it. It has 128 random bits, so a plain hash is enough.
    #[must_use]
    pub fn hash(&self) -> String {
        hex(digest(&SHA256, &self.0).as_ref())
    }

    /// The secret that a request has as text.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }
}

/// What lets one host in, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it may join as.
    pub kind: HostKind,
    /// Under which name.
    pub name: String,
    /// Where the controller is: `HOST:PORT`, tried in turn.
    pub addresses: Vec<String>,
    /// SHA-256 of the certificate of the controller's authority.
    pub ca: [u8; 32],
    /// What the controller knows it by.
    pub secret: Secret,
    /// Until when it can be used: seconds since 1970.
    pub until_s: u64,
}

/// How a token is written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: HostKind,
    name: String,
    addresses: Vec<String>,
    ca: String,
    secret: String,
    until: u64,
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin like one.
    #[error(
        "the token: does not begin with `wo1_`; give what `wireonce token make` printed, all of it"
    )]
    NotOne,
    /// It begins like one of another version.
    #[error(
        "the token: was made by another version of wireonce; use the same version on both hosts"
    )]
    OtherVersion,
    /// It is not what was printed.
    #[error("the token: was cut short or altered on its way; copy all of it")]
    Damaged,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = Written {
            kind: self.kind,
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            ca: hex(&self.ca),
            secret: self.secret.to_hex(),
            until: self.until_s,
        };
        let mut bytes = serde_json::to_vec(&written).map_err(|_| fmt::Error)?;
        bytes.extend_from_slice(&check(&bytes));
        write!(f, "{PREFIX}{}", BASE64.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            let is_other = text.strip_prefix("wo").is_some_and(|rest| {
                rest.split_once('_').is_some_and(|(version, _)| version.parse::<u32>().is_ok())
            });
            return Err(if is_other { TokenError::OtherVersion } else { TokenError::NotOne });
        };
        if encoded.len() > LEN_MAX {
            return Err(TokenError::Damaged);
        }
        let bytes = BASE64.decode(encoded).map_err(|_| TokenError::Damaged)?;
        let body_len = bytes.len().checked_sub(CHECK_LEN).ok_or(TokenError::Damaged)?;
        let (body, found) = bytes.split_at_checked(body_len).ok_or(TokenError::Damaged)?;
        if found != check(body) {
            return Err(TokenError::Damaged);
        }
        // It is whole, so what cannot be read was written by somebody else.
        let other = TokenError::OtherVersion;
        let written: Written = serde_json::from_slice(body).map_err(|_| other)?;
        if written.addresses.is_empty() || written.addresses.len() > ADDRESSES_MAX {
            return Err(other);
        }
        Ok(Self {
            kind: written.kind,
            name: written.name,
            addresses: written.addresses,
            ca: unhex(&written.ca).ok_or(other)?,
            secret: Secret::from_hex(&written.secret).ok_or(other)?,
            until_s: written.until,
        })
    }
}

fn check(body: &[u8]) -> [u8; CHECK_LEN] {
    let digest = digest(&SHA256, body);
    let mut check = [0; CHECK_LEN];
    for (to, from) in check.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    check
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `N` bytes from twice as many hexadecimal digits.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            kind: HostKind::Gateway,
            name: "gateway-a".to_owned(),
            addresses: vec!["10.0.0.5:7443".to_owned(), "[fd00::5]:7443".to_owned()],
            ca: [7; 32],
            secret: Secret([9; 16]),
            until_s: 1_772_388_000,
        }
    }

    #[test]
    fn a_token_reads_back_with_space_around_it() {
        let text = token().to_string();
        assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)), "{text}");
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token()));
    }

    #[test]
    fn every_wrong_form_has_its_one_error() {
        let text = token().to_string();
        let said = |text: &str| text.parse::<Token>().unwrap_err();
        assert_eq!(said(""), TokenError::NotOne);
        assert_eq!(said("hello"), TokenError::NotOne);
        assert_eq!(said(&text[1..]), TokenError::NotOne);
        assert_eq!(said(&text.replacen("wo1_", "wo2_", 1)), TokenError::OtherVersion);
        for end in PREFIX.len()..text.len() {
            assert_eq!(said(&text[..end]), TokenError::Damaged, "{end}");
        }
        assert_eq!(said(&format!("{text}A")), TokenError::Damaged);
        assert_eq!(said(&format!("wo1_{}", "A".repeat(LEN_MAX + 1))), TokenError::Damaged);
        for at in PREFIX.len()..text.len() {
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            // The last character's unused bits make it no base64, or the same token.
            if let Ok(same) = changed.parse::<Token>() {
                assert_eq!(same, token(), "{at}");
            }
        }
    }

    #[test]
    fn a_whole_token_with_other_contents_is_of_another_version() {
        let mut bytes = b"{\"kind\":\"cook\"}".to_vec();
        bytes.extend_from_slice(&check(&bytes));
        let text = format!("{PREFIX}{}", BASE64.encode(bytes));
        assert_eq!(text.parse::<Token>(), Err(TokenError::OtherVersion));
    }

    #[test]
    fn the_secret_shows_in_no_debug_output() {
        assert!(!format!("{:?}", token()).contains("0909"));
        assert!(format!("{:?}", token()).contains("Secret(..)"));
    }

    #[test]
    fn hexadecimal_digits_are_exactly_so_many() {
        assert_eq!(unhex::<2>("0aff"), Some([10, 255]));
        for text in ["", "0af", "0afff", "0ag0", "+1+2", "äö"] {
            assert_eq!(unhex::<2>(text), None, "{text}");
        }
    }
}
