//! The file's tables and keys: what may stand where, ranges and defaults.
//!
//! Names stay names here; [`crate::resolve`] turns them into what they name.

use crate::{
    error::{ConfigError, Fault},
    model::{Allow, Driver, Encryption, FabricMtu, FabricPort, Failover, NextHop, SocketMode},
    reader::{At, File, Section},
    values::{
        absolute_path, address_or_prefix, boolean, host_address, integer, interface,
        listen_address, mac, name, next_hop_address, one_of, public_key, quoted, rate, socket_path,
    },
};
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};
use toml::de::{DeTable, DeValue};
use wireonce_frame::MacAddr;
use wireonce_shares::{
    Rate, Terms,
    terms::{LIMIT_PACKETS_PER_S_MAX, SHARES_MAX},
};
use wireonce_wire::{UplinkId, Vni, VnicId};

/// The fabric's UDP port unless another is given.
pub const PORT_DEFAULT: u16 = 4790;
/// Directory of control sockets unless another is given.
pub const CONTROL_SOCKET_DIR: &str = "/run/wireonce";
/// Smallest MTU, of the fabric and of networks: what IPv6 needs (RFC 8200, 5).
pub const MTU_MIN: u16 = 1280;
/// Largest MTU, of the fabric and of networks.
pub const MTU_MAX: u16 = 9216;
/// A network's MTU unless another is given.
pub const NETWORK_MTU_DEFAULT: u16 = 1500;
/// Broadcast and multicast frames per second of a vNIC, or into a network through an
/// uplink, unless another limit is given.
pub const STORM_FRAMES_PER_S_DEFAULT: u32 = 1000;
/// Most paths of a link.
pub const PATHS_MAX: u8 = 8;
/// Most queue pairs of a vNIC.
pub const QUEUE_PAIRS_MAX: u8 = 8;
/// Most workers of a daemon.
pub const WORKERS_MAX: u16 = 64;
/// Most peers in one file.
pub const PEERS_MAX: usize = 1024;
/// Most networks in one file.
pub const NETWORKS_MAX: usize = 4096;
/// Most uplinks in one file.
pub const UPLINKS_MAX: usize = 1024;
/// Most policies in one file.
pub const POLICIES_MAX: usize = 4096;
/// Most grants in one file.
pub const GRANTS_MAX: usize = 65_536;
/// Least that an uplink or a fabric port carries, if that is said at all.
pub const CAPACITY_MIN: Rate = Rate(1_000_000);
/// Lowest limit: below it a frame of full size would take longer than anybody waits.
pub const LIMIT_MIN: Rate = Rate(64_000);
/// Most vNICs in one file, of all hosts together.
pub const VNICS_MAX: usize = 65_536;
/// Most addresses of one vNIC.
pub const ADDRESSES_MAX: usize = 64;
/// Most standbys of one vNIC.
pub const STANDBYS_MAX: usize = 8;
/// Shortest time after which vNICs go back to a home that is fit again: twice what a switch may take until
/// a port that came up forwards (30 s by IEEE 802.1D), and as long as a vNIC rests after other moves.
pub const FAIL_BACK_S_MIN: u32 = 60;
/// Longest time after which they do.
pub const FAIL_BACK_S_MAX: u32 = 86_400;
/// Where a daemon keeps what its next life has to know, unless another directory is given.
pub const STATE_DIRECTORY: &str = "/var/lib/wireonce";
/// UDP ports that each worker has, used or not; they follow the control port.
pub const WORKER_PORTS: u16 = 8;
/// Largest file, in bytes.
pub const FILE_LEN_MAX: usize = 64 << 20;

/// The key of the limit in packets.
const LIMIT_PACKETS: &str = "limit_packets_per_s";

/// The tables that a host with `[control]` has from its controller.
const KEPT_BY_THE_CONTROLLER: &[&str] =
    &["fabric_port", "peer", "network", "vnic", "uplink", "policy", "grant"];

pub(crate) struct RawConfig {
    pub(crate) host: RawHost,
    pub(crate) fabric: RawFabric,
    pub(crate) control: Option<At<PathBuf>>,
    pub(crate) fabric_port: FabricPort,
    pub(crate) peers: Vec<RawPeer>,
    pub(crate) networks: Vec<RawNetwork>,
    pub(crate) uplinks: Vec<RawUplink>,
    pub(crate) policies: Vec<RawPolicy>,
    pub(crate) grants: Vec<RawGrant>,
    pub(crate) vnics: Vec<RawVnic>,
}

pub(crate) struct RawHost {
    pub(crate) title: String,
    pub(crate) line: usize,
    pub(crate) name: At<String>,
    pub(crate) private_key_file: At<PathBuf>,
    pub(crate) workers: u16,
    pub(crate) control_socket: Option<At<PathBuf>>,
    pub(crate) metrics_address: Option<At<SocketAddr>>,
    pub(crate) state_directory: Option<At<PathBuf>>,
}

pub(crate) struct RawFabric {
    pub(crate) address: At<IpAddr>,
    pub(crate) port: At<u16>,
    pub(crate) paths: u8,
    pub(crate) mtu: FabricMtu,
    pub(crate) encryption: Encryption,
    pub(crate) failover: Failover,
}

pub(crate) struct RawPeer {
    pub(crate) title: String,
    pub(crate) name: At<String>,
    pub(crate) address: At<IpAddr>,
    pub(crate) port: At<u16>,
    pub(crate) public_key: At<[u8; 32]>,
}

pub(crate) struct RawNetwork {
    pub(crate) title: String,
    pub(crate) name: At<String>,
    pub(crate) vni: At<Vni>,
    pub(crate) mtu: u16,
    pub(crate) pool: Option<At<String>>,
    pub(crate) vlan: Option<At<u16>>,
}

pub(crate) struct RawUplink {
    pub(crate) title: String,
    pub(crate) line: usize,
    pub(crate) id: At<UplinkId>,
    pub(crate) name: At<String>,
    pub(crate) host: At<String>,
    pub(crate) pool: String,
    pub(crate) driver: Option<Driver>,
    pub(crate) interface: Option<At<String>>,
    pub(crate) designated: Option<At<bool>>,
    pub(crate) mtu: Option<At<u16>>,
    pub(crate) storm_frames_per_s: u32,
    pub(crate) draining: bool,
    pub(crate) up: Option<Rate>,
    pub(crate) down: Option<Rate>,
    pub(crate) fail_back_s: Option<u32>,
    pub(crate) next_hop: Option<NextHop>,
    pub(crate) outside_probes: Option<bool>,
}

pub(crate) struct RawPolicy {
    pub(crate) title: String,
    pub(crate) name: At<String>,
    pub(crate) up: At<Terms>,
    pub(crate) down: At<Terms>,
}

pub(crate) struct RawGrant {
    pub(crate) title: String,
    pub(crate) pool: At<String>,
    pub(crate) server: At<String>,
    pub(crate) up: At<Terms>,
    pub(crate) down: At<Terms>,
}

pub(crate) struct RawVnic {
    pub(crate) title: String,
    pub(crate) line: usize,
    pub(crate) id: At<VnicId>,
    pub(crate) name: At<String>,
    pub(crate) host: At<String>,
    pub(crate) network: At<String>,
    pub(crate) mac: At<MacAddr>,
    pub(crate) addresses: Vec<At<IpNet>>,
    pub(crate) socket: Option<At<PathBuf>>,
    pub(crate) socket_mode: SocketMode,
    pub(crate) queue_pairs: u8,
    pub(crate) home: Option<At<String>>,
    pub(crate) standbys: Vec<At<String>>,
    pub(crate) policy: Option<At<String>>,
    pub(crate) trunk: bool,
    pub(crate) allow: Allow,
    pub(crate) storm_frames_per_s: u32,
    pub(crate) guest_tso: bool,
    pub(crate) require_sealed_memory: bool,
}

/// Reads the whole document; stops at the first thing that is wrong.
pub(crate) fn read(file: &File, document: &DeTable<'_>) -> Result<RawConfig, ConfigError> {
    const TABLES: &[&str] = &[
        "host",
        "fabric",
        "control",
        "fabric_port",
        "peer",
        "network",
        "vnic",
        "uplink",
        "policy",
        "grant",
    ];
    const CONTROL: &[&str] = &["directory"];
    const HOST: &[&str] = &[
        "name",
        "private_key_file",
        "workers",
        "control_socket",
        "metrics_address",
        "state_directory",
    ];
    const FABRIC: &[&str] = &["address", "port", "paths", "mtu", "encryption", "failover"];

    let root = Section::new(file, "", 0, document, TABLES)?;
    let one = |key: &str, keys| {
        root.table(key, keys)?.ok_or_else(|| {
            let remedy = format!("add it; it has the keys {}", keys.join(", "));
            file.whole(Fault::new(format!("there is no table `[{key}]`"), remedy))
        })
    };
    let control = root.table("control", CONTROL)?.map(|section| control(&section)).transpose()?;
    if control.is_some() {
        root.refuse_own(KEPT_BY_THE_CONTROLLER, kept_by_the_controller)?;
    }
    Ok(RawConfig {
        control,
        host: host(&one("host", HOST)?)?,
        fabric: fabric(&one("fabric", FABRIC)?)?,
        fabric_port: fabric_port(&root)?,
        peers: peers(&root)?,
        networks: networks(&root)?,
        uplinks: uplinks(&root)?,
        policies: policies(&root)?,
        grants: grants(&root)?,
        vnics: vnics(&root)?,
    })
}

fn control(section: &Section<'_>) -> Result<At<PathBuf>, ConfigError> {
    section.required("directory", "\"/var/lib/wireonce/server-a\"", absolute_path)
}

fn kept_by_the_controller() -> Fault {
    let remedy = "take it out of this file and use `wireonce apply`, or take `[control]` out";
    Fault::new("is kept by the controller", remedy)
}

fn host(section: &Section<'_>) -> Result<RawHost, ConfigError> {
    let key_file = "\"/etc/wireonce/server-a.key\"";
    Ok(RawHost {
        title: section.title().to_owned(),
        line: section.line(),
        name: section.required("name", "\"server-a\"", name)?,
        private_key_file: section.required("private_key_file", key_file, absolute_path)?,
        workers: or(section.optional("workers", integer(1..=WORKERS_MAX))?, 1),
        control_socket: section.optional("control_socket", socket_path)?,
        metrics_address: section.optional("metrics_address", listen_address)?,
        state_directory: section.optional("state_directory", absolute_path)?,
    })
}

fn fabric(section: &Section<'_>) -> Result<RawFabric, ConfigError> {
    let profiles = [("default", Failover::Default), ("fast", Failover::Fast)];
    let ciphers = [("aes-256-gcm", Encryption::Aes256Gcm), ("off", Encryption::Off)];
    Ok(RawFabric {
        address: section.required("address", "\"10.77.0.1\"", host_address)?,
        port: port(section)?,
        paths: or(section.optional("paths", integer(1..=PATHS_MAX))?, 1),
        mtu: or(section.optional("mtu", fabric_mtu)?, FabricMtu::Probe),
        encryption: or(section.optional("encryption", one_of(&ciphers))?, Encryption::Aes256Gcm),
        failover: or(section.optional("failover", one_of(&profiles))?, Failover::Default),
    })
}

/// What the host's fabric port carries; none written is as much as anybody wants.
fn fabric_port(root: &Section<'_>) -> Result<FabricPort, ConfigError> {
    const KEYS: &[&str] = &["port_up", "port_down"];
    let Some(section) = root.table("fabric_port", KEYS)? else {
        return Ok(FabricPort::default());
    };
    Ok(FabricPort {
        up_bps: section.optional("port_up", rate(CAPACITY_MIN))?.map(|at| at.value.0),
        down_bps: section.optional("port_down", rate(CAPACITY_MIN))?.map(|at| at.value.0),
    })
}

fn peers(root: &Section<'_>) -> Result<Vec<RawPeer>, ConfigError> {
    const KEYS: &[&str] = &["name", "address", "port", "public_key"];
    let key = "\"mpI..44 characters of base64..hU=\"";
    let peer = |section: Section<'_>| {
        Ok(RawPeer {
            title: section.title().to_owned(),
            name: section.required("name", "\"server-b\"", name)?,
            address: section.required("address", "\"10.77.0.2\"", host_address)?,
            port: port(&section)?,
            public_key: section.required("public_key", key, public_key)?,
        })
    };
    root.tables("peer", PEERS_MAX, KEYS)?.into_iter().map(peer).collect()
}

fn networks(root: &Section<'_>) -> Result<Vec<RawNetwork>, ConfigError> {
    const KEYS: &[&str] = &["name", "vni", "mtu", "pool", "vlan"];
    let network = |section: Section<'_>| {
        Ok(RawNetwork {
            title: section.title().to_owned(),
            name: section.required("name", "\"blue\"", name)?,
            vni: section.required("vni", "100", vni)?,
            mtu: or(section.optional("mtu", integer(MTU_MIN..=MTU_MAX))?, NETWORK_MTU_DEFAULT),
            pool: section.optional("pool", name)?,
            vlan: section.optional("vlan", integer(1..=4094))?,
        })
    };
    root.tables("network", NETWORKS_MAX, KEYS)?.into_iter().map(network).collect()
}

fn uplinks(root: &Section<'_>) -> Result<Vec<RawUplink>, ConfigError> {
    const KEYS: &[&str] = &[
        "id",
        "name",
        "host",
        "pool",
        "driver",
        "interface",
        "designated",
        "mtu",
        "storm_frames_per_s",
        "draining",
        "up",
        "down",
        "fail_back_s",
        "next_hop",
        "next_hop_vlan",
        "outside_probes",
    ];
    let drivers = [("packet", Driver::Packet), ("tap", Driver::Tap)];
    let uplink = |section: Section<'_>| {
        Ok(RawUplink {
            title: section.title().to_owned(),
            line: section.line(),
            id: section.required("id", "1", uplink_id)?,
            name: section.required("name", "\"east-1\"", name)?,
            host: section.required("host", "\"gateway-a\"", name)?,
            pool: section.required("pool", "\"east\"", name)?.value,
            driver: section.optional("driver", one_of(&drivers))?.map(|at| at.value),
            interface: section.optional("interface", interface)?,
            designated: section.optional("designated", boolean)?,
            mtu: section.optional("mtu", integer(MTU_MIN..=MTU_MAX))?,
            storm_frames_per_s: storm_frames_per_s(&section)?,
            draining: or(section.optional("draining", boolean)?, false),
            up: section.optional("up", rate(CAPACITY_MIN))?.map(|at| at.value),
            down: section.optional("down", rate(CAPACITY_MIN))?.map(|at| at.value),
            fail_back_s: section
                .optional("fail_back_s", integer(FAIL_BACK_S_MIN..=FAIL_BACK_S_MAX))?
                .map(|at| at.value),
            next_hop: next_hop(&section)?,
            outside_probes: section.optional("outside_probes", boolean)?.map(|at| at.value),
        })
    };
    root.tables("uplink", UPLINKS_MAX, KEYS)?.into_iter().map(uplink).collect()
}

/// Who is asked whether it answers, and on which VLAN.
fn next_hop(section: &Section<'_>) -> Result<Option<NextHop>, ConfigError> {
    let address = section.optional("next_hop", next_hop_address)?;
    let vlan = section.optional("next_hop_vlan", integer(1..=4094))?.map(|at| at.value);
    match (address, vlan) {
        (Some(address), vlan) => Ok(Some(NextHop { address: address.value, vlan })),
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let message =
                "nobody is asked on it; add `next_hop = \"..\"` or remove `next_hop_vlan`";
            Err(section.contradiction("next_hop_vlan", message))
        }
    }
}

fn policies(root: &Section<'_>) -> Result<Vec<RawPolicy>, ConfigError> {
    const KEYS: &[&str] = &["name", "up", "down"];
    let policy = |section: Section<'_>| {
        Ok(RawPolicy {
            title: section.title().to_owned(),
            name: section.required("name", "\"gold\"", name)?,
            up: terms(&section, "up", Of::Vnic)?,
            down: terms(&section, "down", Of::Vnic)?,
        })
    };
    root.tables("policy", POLICIES_MAX, KEYS)?.into_iter().map(policy).collect()
}

fn grants(root: &Section<'_>) -> Result<Vec<RawGrant>, ConfigError> {
    const KEYS: &[&str] = &["pool", "server", "up", "down"];
    let grant = |section: Section<'_>| {
        Ok(RawGrant {
            title: section.title().to_owned(),
            pool: section.required("pool", "\"east\"", name)?,
            server: section.required("server", "\"server-a\"", name)?,
            up: terms(&section, "up", Of::Server)?,
            down: terms(&section, "down", Of::Server)?,
        })
    };
    root.tables("grant", GRANTS_MAX, KEYS)?.into_iter().map(grant).collect()
}

/// Whose terms they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Vnic,
    Server,
}

/// The terms of one direction, checked by themselves; none written are the default ones.
fn terms(section: &Section<'_>, key: &str, of: Of) -> Result<At<Terms>, ConfigError> {
    const KEYS: &[&str] = &["reservation", "shares", "limit", LIMIT_PACKETS];
    let default = Terms::default();
    let Some(inner) = section.table(key, KEYS)? else {
        return Ok(At { value: default, line: section.line() });
    };
    let reservation = inner.optional("reservation", rate(Rate(0)))?;
    let shares = inner.optional("shares", integer(1..=SHARES_MAX))?;
    let limit = inner.optional("limit", rate(LIMIT_MIN))?;
    let packets = inner.optional(LIMIT_PACKETS, integer(1..=LIMIT_PACKETS_PER_S_MAX))?;
    if of == Of::Server && packets.is_some() {
        let message = "a grant has no limit in packets; give it in the [[policy]] of the vNICs";
        return Err(inner.contradiction(LIMIT_PACKETS, message));
    }
    let terms = Terms {
        reservation_bps: reservation.map_or(default.reservation_bps, |at| at.value.0),
        shares: or(shares, default.shares),
        limit_bps: limit.map(|at| at.value.0),
        limit_packets_per_s: packets.map(|at| at.value),
    };
    match terms.check() {
        Ok(()) => Ok(At { value: terms, line: inner.line() }),
        Err(error) => Err(inner.contradiction("limit", &error.to_string())),
    }
}

fn vnics(root: &Section<'_>) -> Result<Vec<RawVnic>, ConfigError> {
    const KEYS: &[&str] = &[
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
        "policy",
        "trunk",
        "allow",
        "storm_frames_per_s",
        "offload",
        "require_sealed_memory",
    ];
    root.tables("vnic", VNICS_MAX, KEYS)?.iter().map(vnic).collect()
}

fn vnic(section: &Section<'_>) -> Result<RawVnic, ConfigError> {
    let modes = [("listen", SocketMode::Listen), ("connect", SocketMode::Connect)];
    let guest_tso = match section.table("offload", &["guest_tso"])? {
        Some(offload) => offload.optional("guest_tso", boolean)?,
        None => None,
    };
    Ok(RawVnic {
        title: section.title().to_owned(),
        line: section.line(),
        id: section.required("id", "1001", vnic_id)?,
        name: section.required("name", "\"vm-a\"", name)?,
        host: section.required("host", "\"server-a\"", name)?,
        network: section.required("network", "\"blue\"", name)?,
        mac: section.required("mac", "\"52:54:00:12:34:56\"", mac)?,
        addresses: section.list("addresses", ADDRESSES_MAX, address_or_prefix)?,
        socket: section.optional("socket", socket_path)?,
        socket_mode: or(section.optional("socket_mode", one_of(&modes))?, SocketMode::Listen),
        queue_pairs: or(section.optional("queue_pairs", integer(1..=QUEUE_PAIRS_MAX))?, 1),
        home: section.optional("home", name)?,
        standbys: section.list("standbys", STANDBYS_MAX, name)?,
        policy: section.optional("policy", name)?,
        trunk: or(section.optional("trunk", boolean)?, false),
        allow: allow(section)?,
        storm_frames_per_s: storm_frames_per_s(section)?,
        guest_tso: or(guest_tso, true),
        require_sealed_memory: or(section.optional("require_sealed_memory", boolean)?, false),
    })
}

fn allow(section: &Section<'_>) -> Result<Allow, ConfigError> {
    #[derive(Clone, Copy)]
    enum Word {
        DhcpServer,
        RouterAdvertisement,
    }
    let words =
        [("dhcp-server", Word::DhcpServer), ("router-advertisement", Word::RouterAdvertisement)];
    let mut allow = Allow::default();
    for word in section.list("allow", words.len(), one_of(&words))? {
        match word.value {
            Word::DhcpServer => allow.dhcp_server = true,
            Word::RouterAdvertisement => allow.router_advertisement = true,
        }
    }
    Ok(allow)
}

fn storm_frames_per_s(section: &Section<'_>) -> Result<u32, ConfigError> {
    let limit = section.optional("storm_frames_per_s", integer(1..=10_000_000))?;
    Ok(or(limit, STORM_FRAMES_PER_S_DEFAULT))
}

/// The port; one that is not written stands where its table begins.
fn port(section: &Section<'_>) -> Result<At<u16>, ConfigError> {
    let port = section.optional("port", integer(1..=u16::MAX))?;
    Ok(port.unwrap_or(At { value: PORT_DEFAULT, line: section.line() }))
}

fn fabric_mtu(value: &DeValue<'_>) -> Result<FabricMtu, Fault> {
    if value.as_str() == Some("probe") {
        return Ok(FabricMtu::Probe);
    }
    if let Some(word) = value.as_str() {
        let problem = format!("{} is not known", quoted(word));
        return Err(Fault::new(problem, "write \"probe\" or a number without quotes"));
    }
    let fixed = integer(MTU_MIN..=MTU_MAX)(value).map(FabricMtu::Fixed);
    let remedy = || format!("write \"probe\" or a number from {MTU_MIN} to {MTU_MAX}");
    fixed.map_err(|fault| fault.with_remedy(remedy()))
}

fn vni(value: &DeValue<'_>) -> Result<Vni, Fault> {
    let number = integer(0..=Vni::MAX)(value)?;
    Vni::new(number).ok_or_else(|| Fault::new("is no network number", "write a smaller one"))
}

fn uplink_id(value: &DeValue<'_>) -> Result<UplinkId, Fault> {
    integer(1..=u32::MAX)(value).map(UplinkId)
}

fn vnic_id(value: &DeValue<'_>) -> Result<VnicId, Fault> {
    let number = integer(1..=VnicId::MAX)(value)?;
    VnicId::new(number).ok_or_else(|| Fault::new("is no vNIC id", "write a number from 1"))
}

fn or<T>(value: Option<At<T>>, default: T) -> T {
    value.map_or(default, |at| at.value)
}
