//! The kinds of objects, their words, and who owns them.

use crate::wrong::{Wrong, instead};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What an object is. The order is that of their tables: what others refer to first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A backend beside virtual machines.
    Server,
    /// A host that offers uplinks.
    Gateway,
    /// Uplinks that reach the same outside.
    Pool,
    /// One port of a gateway.
    Uplink,
    /// A layer-2 segment.
    Network,
    /// Terms of vNICs.
    Policy,
    /// One NIC of a virtual machine.
    Vnic,
    /// What grants of a pool may promise together.
    Budget,
    /// What a server may use of a pool.
    Grant,
}

/// Who may change objects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Team {
    /// Uplinks, pools, VLANs and ceilings.
    Network,
    /// vNICs and what servers are granted, within the budget.
    Virtualisation,
}

impl Kind {
    /// Every kind, in the order of their tables.
    pub const ALL: [Self; 9] = [
        Self::Server,
        Self::Gateway,
        Self::Pool,
        Self::Uplink,
        Self::Network,
        Self::Policy,
        Self::Vnic,
        Self::Budget,
        Self::Grant,
    ];

    /// The word of its table: `vnic` for `[[vnic]]`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Gateway => "gateway",
            Self::Pool => "pool",
            Self::Uplink => "uplink",
            Self::Network => "network",
            Self::Policy => "policy",
            Self::Vnic => "vnic",
            Self::Budget => "budget",
            Self::Grant => "grant",
        }
    }

    /// The word for several, as in the API's paths.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Server => "servers",
            Self::Gateway => "gateways",
            Self::Pool => "pools",
            Self::Uplink => "uplinks",
            Self::Network => "networks",
            Self::Policy => "policies",
            Self::Vnic => "vnics",
            Self::Budget => "budgets",
            Self::Grant => "grants",
        }
    }

    /// The team whose objects these are.
    #[must_use]
    pub fn owner(self) -> Team {
        match self {
            Self::Gateway | Self::Pool | Self::Uplink | Self::Network | Self::Budget => {
                Team::Network
            }
            Self::Server | Self::Policy | Self::Vnic | Self::Grant => Team::Virtualisation,
        }
    }

    /// What errors call the object `name` of this kind.
    #[must_use]
    pub fn title(self, name: &str) -> String {
        format!("[[{self}]] {name:?}")
    }

    /// The keys of its table.
    #[must_use]
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Server => {
                &["name", "address", "port", "public_key", "machine", "port_up", "port_down"]
            }
            Self::Gateway => &[
                "name",
                "address",
                "port",
                "public_key",
                "machine",
                "port_up",
                "port_down",
                "draining",
            ],
            Self::Pool => &["name", "mtu", "outside_probes", "rebalance"],
            Self::Uplink => &[
                "id",
                "name",
                "host",
                "pool",
                "driver",
                "interface",
                "designated",
                "mtu",
                "storm_frames_per_s",
                "up",
                "down",
                "draining",
                "fail_back_s",
                "next_hop",
                "next_hop_vlan",
                "outside_probes",
                "switch",
            ],
            Self::Network => &["name", "vni", "mtu", "pool", "vlan"],
            Self::Policy => &["name", "up", "down"],
            Self::Vnic => &[
                "id",
                "name",
                "host",
                "network",
                "mac",
                "addresses",
                "socket",
                "socket_mode",
                "queue_pairs",
                "home",
                "standbys",
                "trunk",
                "allow",
                "storm_frames_per_s",
                "offload",
                "require_sealed_memory",
                "policy",
            ],
            Self::Budget => &["pool", "up", "down"],
            Self::Grant => &["pool", "server", "up", "down", "until", "reason"],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Kind {
    type Err = Wrong;

    /// From the word or its plural.
    fn from_str(text: &str) -> Result<Self, Wrong> {
        let found = Self::ALL.into_iter().find(|k| k.word() == text || k.plural() == text);
        found.ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            let known = Self::ALL.map(Self::word);
            let remedy = instead(&shown, "kinds", "nothing of that kind", known);
            Wrong::new(format!("kind {shown:?}"), "there is no such kind of object", remedy)
        })
    }
}

impl Team {
    /// The role that belongs to it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Virtualisation => "virtualisation",
        }
    }
}
