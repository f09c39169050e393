//! What a controller says about itself and its hosts, for whoever watches it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A controller at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlStatus {
    /// The version of the program.
    pub version: String,
    /// Seconds since the controller started.
    pub uptime_s: u64,
    /// The newest revision of the desired state.
    pub revision: u64,
    /// Lines of the audit trail.
    pub audit_lines: u64,
    /// Requests that wait for an answer.
    pub requests_open: u64,
    /// Grants that end by themselves.
    pub timed_grants: u64,
    /// How many objects there are, by kind.
    pub objects: BTreeMap<String, u64>,
    /// Servers and gateways.
    pub hosts: Vec<HostStanding>,
    /// When certificates end.
    pub certificates: Vec<CertificateEnd>,
}

/// How a host stands to its controller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostStanding {
    /// Its name.
    pub name: String,
    /// `server` or `gateway`.
    pub kind: String,
    /// It says how it is, as often as it was asked to.
    pub is_heard: bool,
    /// For how long it has said nothing, in microseconds; `None`: nothing since the controller started.
    pub silent_us: Option<u64>,
    /// It refuses its newest text, and serves the one before it.
    pub has_refused: bool,
}

/// When the newest certificate of a host or person ends.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateEnd {
    /// `server`, `gateway` or `user`.
    pub holder: String,
    /// Which one.
    pub name: String,
    /// When: seconds since 1970.
    pub until_s: u64,
}
