//! Joining: a token becomes a membership.

use crate::{
    ask::{AskError, Https},
    certificate::{Facts, TlsKey},
    directory::{DirectoryError, Membership},
    messages::{Admitted, Join},
    tls::Clock,
    token::{HostKind, Token},
};
use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{net::IpAddr, time::Duration};
use ureq::http::Method;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a host says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its address on the fabric.
    pub address: IpAddr,
    /// Its first UDP port.
    pub port: u16,
    /// The fabric's public key, as `wireonce pubkey FILE` prints it.
    pub public_key: String,
}

/// Why a host did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is for another host.
    #[error(
        "the token: is for {kind} {token:?}, and this host is {host:?}; use it there, or make one \
         for this host"
    )]
    OtherHost {
        /// Who it is for.
        kind: HostKind,
        /// Under which name.
        token: String,
        /// Who this is.
        host: String,
    },
    /// The controller refuses or cannot be reached.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The answer makes no sense.
    #[error("the controller answered what this version does not understand; use the same version")]
    Answer,
    /// The operating system gives no random bytes.
    #[error("no key could be made: the operating system gave no random bytes")]
    Random,
    /// What came cannot be kept.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// Asks the controller of `token` to let this host in.
///
/// # Errors
/// [`JoinError`]. If the controller let it in and the answer was lost, the token is used up.
pub fn join(token: &Token, host: &Host, clock: Clock) -> Result<Membership, JoinError> {
    if token.name != host.name {
        let (token_name, host) = (token.name.clone(), host.name.clone());
        return Err(JoinError::OtherHost { kind: token.kind, token: token_name, host });
    }
    let key = TlsKey::generate().ok_or(JoinError::Random)?;
    let ask = Join {
        secret: token.secret.to_hex(),
        kind: token.kind,
        name: host.name.clone(),
        address: host.address,
        port: host.port,
        public_key: host.public_key.clone(),
        tls_key: key.public_text(),
    };
    let answer = Https::joining(token, clock)?.json(Method::POST, "/v1/join", &ask, PATIENCE)?;
    let membership = admitted(&answer.body, key).ok_or(JoinError::Answer)?;
    // The chain was checked against the token; that the answer names the same, too.
    match digest(&SHA256, &membership.ca).as_ref() == token.ca {
        true => Ok(membership),
        false => Err(JoinError::Answer),
    }
}

/// The membership that an answer gives to the owner of `key`.
#[must_use]
pub fn admitted(body: &str, key: TlsKey) -> Option<Membership> {
    let Admitted { certificate, ca, addresses } = serde_json::from_str(body).ok()?;
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let ca = CertificateDer::from_pem_slice(ca.as_bytes()).ok()?;
    let facts = Facts::of(&certificate)?;
    (!addresses.is_empty()).then_some(Membership { addresses, ca, certificate, facts, key })
}
