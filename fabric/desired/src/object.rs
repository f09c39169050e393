//! The objects, as they stand in TOML and JSON.
//!
//! Types, units and unknown keys are judged here. What a name, MAC or address may look
//! like, `wireonce-config` judges when the house is checked: one set of rules for both
//! ways to run a host.

use crate::{kind::Kind, rate::Rate, until::Moment};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// A server or a gateway: where it is on the fabric, and by which key it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The `name` in its own `[host]`; unique among servers and gateways.
    pub name: String,
    /// Its address on the fabric.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "10.77.0.1"))]
    pub address: IpAddr,
    /// Its first UDP port.
    #[serde(default = "port_default")]
    pub port: u16,
    /// Its public key, as `wireonce pubkey FILE` prints it.
    pub public_key: String,
    /// The machine that it runs on; daemons of one machine fail together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// What its fabric port can send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_up: Option<Rate>,
    /// What its fabric port can receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_down: Option<Rate>,
    /// Of a gateway: nothing new goes to its uplinks, and what is there leaves.
    #[serde(default, skip_serializing_if = "is_false")]
    pub draining: bool,
}

/// Uplinks that reach the same outside layer-2 network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// For people, and for uplinks, networks, grants and budgets.
    pub name: String,
    /// The MTU of those of its uplinks that give none of their own, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Who moves its vNICs to where there is more bandwidth; `off` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Rebalance>,
    /// Whether those of its uplinks that do not say so themselves send probes outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside_probes: Option<bool>,
}

/// Who moves a pool's vNICs to where there is more bandwidth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Rebalance {
    /// An operator.
    Off,
    /// The controller by itself.
    Auto,
}

/// One port of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// For blocks; given by the controller if left out, and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// For people, and for `home` and `standbys`.
    pub name: String,
    /// The gateway that it is on.
    pub host: String,
    /// The pool.
    pub pool: String,
    /// `packet` or `tap`.
    pub driver: String,
    /// The network interface.
    pub interface: String,
    /// The pool's designated uplink.
    #[serde(default, skip_serializing_if = "is_false")]
    pub designated: bool,
    /// Bytes of the largest IP packet outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Broadcast frames a second that it lets in from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm_frames_per_s: Option<u32>,
    /// What it can carry towards the outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<Rate>,
    /// What it can carry from the outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<Rate>,
    /// Nothing new goes there, and what is there leaves; until then it carries it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub draining: bool,
    /// vNICs whose home it is come back to it by themselves when it was fit for so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_back_s: Option<u32>,
    /// The router behind it, which is asked each second whether it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "192.0.2.1"))]
    pub next_hop: Option<IpAddr>,
    /// The VLAN that the router is on; untagged if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop_vlan: Option<u16>,
    /// Whether it sends probes on the outside network; if left out, as its pool says, and if that
    /// does not, whenever the pool has another uplink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside_probes: Option<bool>,
    /// The physical switch that it is plugged into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
}

/// A layer-2 segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// For people.
    pub name: String,
    /// Its number on the fabric.
    pub vni: u32,
    /// Bytes of the largest IP packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// The uplinks through which it reaches outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Its VLAN on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}

/// What is promised in one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// What it gets whenever it wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Rate>,
    /// Its weight for what is left; 100 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<u32>,
    /// What it never gets more than.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Rate>,
    /// Of a policy: packets a second that it never gets more than.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_packets_per_s: Option<u32>,
}

/// Terms that vNICs share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// For people, and for vNICs.
    pub name: String,
    /// Towards the outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<Terms>,
    /// From the outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<Terms>,
}

/// One NIC of a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Vnic {
    /// For blocks; given by the controller if left out, and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// For people.
    pub name: String,
    /// The server that its virtual machine runs on.
    pub host: String,
    /// The segment that it is on.
    pub network: String,
    /// Its only source MAC.
    pub mac: String,
    /// The source IP addresses or prefixes that it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The path of its vhost-user socket.
    pub socket: String,
    /// `listen` or `connect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_mode: Option<String>,
    /// Offered to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_pairs: Option<u8>,
    /// The uplink that it uses now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// The uplinks that follow when the home is lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standbys: Vec<String>,
    /// The guest may use VLAN tags.
    #[serde(default, skip_serializing_if = "is_false")]
    pub trunk: bool,
    /// What the port guard lets through beyond the rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Broadcast frames a second that the guest may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm_frames_per_s: Option<u32>,
    /// Refuse a VMM whose guest memory is not sealed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub require_sealed_memory: bool,
    /// The name of its policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What is offered to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offload: Option<Offload>,
}

/// Offloads of a vNIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Offload {
    /// Offer TSO towards the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_tso: Option<bool>,
}

/// The sum of reservations that grants of a pool may promise without asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The pool; it is the budget's name too.
    pub pool: String,
    /// Towards the outside; nothing if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<Rate>,
    /// From the outside; nothing if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<Rate>,
}

/// What a server may use of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The pool.
    pub pool: String,
    /// The server. The grant's name is `POOL/SERVER`.
    pub server: String,
    /// When it ends by itself and the terms before it come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Towards the outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<Terms>,
    /// From the outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<Terms>,
}

/// Towards the outside or from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Towards the outside.
    Up,
    /// From the outside.
    Down,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];

    /// The key of its terms.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl Policy {
    /// Its terms, if it has any.
    #[must_use]
    pub fn terms(&self, direction: Direction) -> Option<&Terms> {
        pick(&self.up, &self.down, direction)
    }

    /// What it reserves.
    #[must_use]
    pub fn reservation(&self, direction: Direction) -> Rate {
        reservation(self.terms(direction))
    }
}

impl Grant {
    /// `POOL/SERVER`.
    #[must_use]
    pub fn name_of(pool: &str, server: &str) -> String {
        format!("{pool}/{server}")
    }

    /// A grant without terms: no reservation, 100 shares, no limit.
    #[must_use]
    pub fn empty(pool: &str, server: &str) -> Self {
        Self {
            pool: pool.to_owned(),
            server: server.to_owned(),
            until: None,
            reason: None,
            up: None,
            down: None,
        }
    }

    /// Its terms, if it has any.
    #[must_use]
    pub fn terms(&self, direction: Direction) -> Option<&Terms> {
        pick(&self.up, &self.down, direction)
    }

    /// What it reserves.
    #[must_use]
    pub fn reservation(&self, direction: Direction) -> Rate {
        reservation(self.terms(direction))
    }

    /// Changes what it reserves, and nothing else.
    pub fn set_reservation(&mut self, direction: Direction, rate: Rate) {
        self.terms_mut(direction).reservation = (rate != Rate::ZERO).then_some(rate);
    }

    /// What it never gets more than, if there is such a limit.
    #[must_use]
    pub fn limit(&self, direction: Direction) -> Option<Rate> {
        self.terms(direction).and_then(|terms| terms.limit)
    }

    /// Changes its limit, and nothing else.
    pub fn set_limit(&mut self, direction: Direction, limit: Rate) {
        self.terms_mut(direction).limit = Some(limit);
    }

    /// Gives away `rate` of what it reserves, and as much of its limit, if it has one; the least limit
    /// that there is stays. `None`, and nothing is changed, if it reserves less.
    pub fn give(&mut self, direction: Direction, rate: Rate) -> Option<()> {
        let left = self.reservation(direction).checked_sub(rate)?;
        self.set_reservation(direction, left);
        let terms = self.terms_mut(direction);
        // Never below what is still reserved: a limit is not below its reservation.
        terms.limit = terms.limit.map(|limit| limit.saturating_sub(rate).max(Rate::LIMIT_MIN));
        Some(())
    }

    /// Takes what another one gave: reserves so much more, and may use so much more, if it has a
    /// limit.
    pub fn take(&mut self, direction: Direction, rate: Rate) {
        let more = self.reservation(direction).saturating_add(rate);
        self.set_reservation(direction, more);
        let terms = self.terms_mut(direction);
        terms.limit = terms.limit.map(|limit| limit.saturating_add(rate));
    }

    fn terms_mut(&mut self, direction: Direction) -> &mut Terms {
        match direction {
            Direction::Up => self.up.get_or_insert_default(),
            Direction::Down => self.down.get_or_insert_default(),
        }
    }
}

impl Budget {
    /// What grants may promise together.
    #[must_use]
    pub fn rate(&self, direction: Direction) -> Rate {
        *pick(&self.up, &self.down, direction).unwrap_or(&Rate::ZERO)
    }
}

impl Uplink {
    /// What it can carry, if it is known.
    #[must_use]
    pub fn capacity(&self, direction: Direction) -> Option<Rate> {
        pick(&self.up, &self.down, direction).copied()
    }
}

/// Any object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each is the object of the kind that it is named after")]
pub enum Object {
    Server(Host),
    Gateway(Host),
    Pool(Pool),
    Uplink(Uplink),
    Network(Network),
    Policy(Policy),
    Vnic(Box<Vnic>),
    Budget(Budget),
    Grant(Grant),
}

impl Object {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Server(_) => Kind::Server,
            Self::Gateway(_) => Kind::Gateway,
            Self::Pool(_) => Kind::Pool,
            Self::Uplink(_) => Kind::Uplink,
            Self::Network(_) => Kind::Network,
            Self::Policy(_) => Kind::Policy,
            Self::Vnic(_) => Kind::Vnic,
            Self::Budget(_) => Kind::Budget,
            Self::Grant(_) => Kind::Grant,
        }
    }

    /// Its name among its kind.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Server(host) | Self::Gateway(host) => host.name.clone(),
            Self::Pool(pool) => pool.name.clone(),
            Self::Uplink(uplink) => uplink.name.clone(),
            Self::Network(network) => network.name.clone(),
            Self::Policy(policy) => policy.name.clone(),
            Self::Vnic(vnic) => vnic.name.clone(),
            Self::Budget(budget) => budget.pool.clone(),
            Self::Grant(grant) => Grant::name_of(&grant.pool, &grant.server),
        }
    }

    /// What errors call it.
    #[must_use]
    pub fn title(&self) -> String {
        self.kind().title(&self.name())
    }
}

fn pick<'t, T>(up: &'t Option<T>, down: &'t Option<T>, direction: Direction) -> Option<&'t T> {
    match direction {
        Direction::Up => up.as_ref(),
        Direction::Down => down.as_ref(),
    }
}

fn reservation(terms: Option<&Terms>) -> Rate {
    terms.and_then(|terms| terms.reservation).unwrap_or(Rate::ZERO)
}

fn port_default() -> u16 {
    wireonce_config::schema::PORT_DEFAULT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
pub(crate) fn is_false(flag: &bool) -> bool {
    !flag
}
