//! What hosts and people say to the controller when they join, and what it answers.

use crate::token::HostKind;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Largest body of a join, bytes.
pub const JOIN_LEN_MAX: usize = 16 << 10;
/// The header with the tag of the text that a host has, and of the one that it gets.
pub const ETAG: &str = "etag";

/// A host that wants to join (`POST /v1/join`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The token's secret, hexadecimal.
    pub secret: String,
    /// What it is.
    pub kind: HostKind,
    /// Its name.
    pub name: String,
    /// Its address on the fabric.
    pub address: IpAddr,
    /// Its first UDP port.
    pub port: u16,
    /// The fabric's public key, as `wireonce pubkey FILE` prints it.
    pub public_key: String,
    /// The public key for TLS: base64 of an uncompressed point on P-256.
    pub tls_key: String,
}

/// A member that wants a new certificate (`POST /v1/hosts/NAME/certificate`), or an admin who
/// wants one for a person (`POST /v1/users`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// The public key for TLS: base64 of an uncompressed point on P-256.
    pub tls_key: String,
}

/// What a member gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// The certificate, PEM.
    pub certificate: String,
    /// The certificate of the authority, PEM.
    pub ca: String,
    /// Where the controller is: `HOST:PORT`, tried in turn.
    pub addresses: Vec<String>,
}

/// Whatever the controller refuses, it says so.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ErrorText {
    /// A sentence.
    pub(crate) text: String,
}
