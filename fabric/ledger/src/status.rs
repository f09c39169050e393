//! What a daemon says about itself.
//!
//! ```text
//! worker counters ──> Daemon::status() ──> Status ──JSON line──> wireonce status
//! ```
//! Counters only ever grow while a daemon runs; whoever wants rates takes two
//! samples and divides by the difference of their [`Status::sampled_at_us`].

use crate::{Account, Amount, Stage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A daemon at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// `backend` or `gateway`.
    pub role: String,
    /// The host's name in the configuration.
    pub host: String,
    /// The version of the program.
    pub version: String,
    /// A number that tells this life of the daemon from its others; 0 of an older version.
    pub life: u64,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// When the counters were read: monotonic microseconds since the daemon started.
    pub sampled_at_us: u64,
    /// `aes-256-gcm` or `off`.
    pub encryption: String,
    /// Which configuration it serves, and what became of the newest one.
    pub configuration: ConfigurationStatus,
    /// This host's vNICs.
    pub vnics: Vec<VnicStatus>,
    /// The links to other hosts.
    pub links: Vec<LinkStatus>,
    /// This host's uplinks.
    pub uplinks: Vec<UplinkStatus>,
    /// How this host's uplinks are joined with the others of their pools, outside.
    pub outside: Vec<OutsidePairStatus>,
    /// Who may send how much through which uplink, where that is shaped.
    pub shares: Vec<ShareStatus>,
    /// This host's fabric port, if it is a server whose port is divided.
    pub fabric_port: Option<FabricPortStatus>,
    /// What comes from outside for which vNIC, at uplinks where that is shaped.
    pub down: Vec<DownStatus>,
    /// The books, one row for each vNIC or uplink and stage.
    pub ledger: Vec<LedgerRow>,
    /// Everything else that is counted, by name.
    pub counters: BTreeMap<String, u64>,
}

/// Which configuration a daemon serves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigurationStatus {
    /// Where it is from, such as a file.
    pub origin: String,
    /// How many were taken since the daemon started; the one that it started with is 1.
    pub number: u64,
    /// When it was taken: seconds since 1970.
    pub taken_at_s: u64,
    /// What it changed, in some lines; empty for the one that the daemon started with.
    pub changed: Vec<String>,
    /// What of it could not be done.
    pub troubles: Vec<String>,
    /// How the daemon stands with its controller, if it has one.
    pub controller: Option<ControllerStatus>,
    /// Why the newest one was refused; `None` if the newest one is served.
    pub refused: Option<String>,
    /// When it was: seconds since 1970.
    pub refused_at_s: Option<u64>,
}

/// How a daemon stands with its controller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ControllerStatus {
    /// Where the controller is.
    pub address: String,
    /// The tag of the text that is served; `None`: no text has come yet.
    pub tag: Option<String>,
    /// Since when the controller does not answer, or refuses: seconds since 1970. `None`: it
    /// answers.
    pub silent_since_s: Option<u64>,
    /// What is wrong then.
    pub error: Option<String>,
    /// Until when this host's certificate is valid: seconds since 1970.
    pub certificate_until_s: u64,
}

/// One vNIC of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VnicStatus {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The network's name.
    pub network: String,
    /// Its MAC address.
    pub mac: String,
    /// What its VMM and guest are doing.
    pub state: VnicState,
    /// The virtio features that the guest's driver took.
    pub features: Vec<String>,
    /// Queue pairs that the guest uses.
    pub queue_pairs: u32,
    /// The guest's memory is mapped, and its VMM cannot cut it off (`F_SEAL_SHRINK`).
    pub memory_sealed: bool,
    /// From the guest.
    pub tx: Amount,
    /// To the guest.
    pub rx: Amount,
    /// What it may send to its home; `None`: the home is not shaped.
    pub share: Option<VnicShareStatus>,
    /// Which uplink it uses; `None`: its network has none.
    pub home: Option<VnicHomeStatus>,
}

/// Which uplink a vNIC uses, and how it came there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VnicHomeStatus {
    /// The uplink that the tables want.
    pub desired: String,
    /// The uplink that its frames use; `None`: it is attached nowhere yet.
    pub now: Option<String>,
    /// The gateway has said yes to the newest claim.
    pub confirmed: bool,
    /// The uplink that it is about to use.
    pub going: Option<String>,
    /// Orders the claims of the vNIC; it only grows.
    pub epoch: u64,
    /// Why it is where it is: `start`, `home-silent`, `home-unheard`, `home-sick`, `home-gone`,
    /// `home-gray`, `home-draining`, `desired` or `fail-back`.
    pub why: String,
    /// How long ago it came there, in microseconds; `None`: it has not.
    pub moved_ago_us: Option<u64>,
    /// How often it went from one uplink to another since the daemon started.
    pub swaps: u64,
    /// Where it would be, had it not moved three times within 180 s; `None`: it waits for nothing.
    pub held: Option<MoveHeldStatus>,
}

/// A move that waits, since switches take an address that moves too often for a loop.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MoveHeldStatus {
    /// The uplink that it would use.
    pub to: String,
    /// Why it would: `home-sick`, `home-gray`, `home-draining`, `desired` or `fail-back`.
    pub why: String,
    /// It goes there in so many microseconds, if nothing changes.
    pub for_us: u64,
}

/// What a vNIC's VMM and guest are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VnicState {
    /// No VMM is connected.
    #[default]
    Down,
    /// A VMM is connected; the guest's driver is not running.
    Connected,
    /// The guest's driver is running.
    Running,
}

/// One link to another host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkStatus {
    /// The other host's name.
    pub peer: String,
    /// Its address and port.
    pub address: String,
    /// How far the link is.
    pub state: LinkState,
    /// The key epoch in use.
    pub epoch: u64,
    /// Smoothed round trip, in microseconds; `None` until one is measured.
    pub rtt_us: Option<u64>,
    /// Bytes of UDP payload in one datagram of a train.
    pub datagram_len: u32,
    /// Datagrams sent.
    pub sent_datagrams: u64,
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
    /// Datagrams received.
    pub received_datagrams: u64,
    /// Bytes of UDP payload received.
    pub received_bytes: u64,
    /// What is wrong with it, though it is up; `None`: nothing.
    pub gray: Option<LinkGrayStatus>,
    /// Datagrams that the other host says it never got.
    pub lost: u64,
    /// Datagrams of the other host that never came.
    pub missed: u64,
    /// Datagrams that arrived after a later one.
    pub reordered: u64,
    /// Datagrams that arrived after their hole was final.
    pub late: u64,
    /// Datagrams that arrived twice, or were replayed.
    pub duplicate: u64,
    /// Datagrams that did not pass authentication.
    pub auth_failed: u64,
    /// Datagrams that the kernel dropped at our socket.
    pub socket_drops: u64,
}

/// What is wrong with a link that is up, or was: a gray failure.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkGrayStatus {
    /// The names of all that is wrong: `one-way`, `lossy-to-peer`, `lossy-from-peer`, `no-path`, `path-dead`,
    /// `full-size-lost`.
    pub trouble: Vec<String>,
    /// vNICs whose home is at the other end leave it, if a standby is better.
    pub leaves_homes: bool,
    /// Percent of our hellos that the other host does not hear.
    pub lost_to_percent: Option<u8>,
    /// Percent of its hellos that do not come here, as it says.
    pub lost_from_percent: Option<u8>,
    /// The other host is heard, and does not hear us.
    pub one_way: bool,
    /// Hellos arrive, and data does not.
    pub no_path: bool,
    /// Data paths on which nobody answers.
    pub dead_paths: Vec<String>,
    /// Bytes of UDP payload that were carried and are lost now, while shorter datagrams are not.
    pub full_size_lost: Option<u32>,
}

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Nothing is known of the other host.
    #[default]
    Down,
    /// Nobody needs the other host now; the next frame for it makes a session.
    Idle,
    /// The handshake is under way.
    Connecting,
    /// The link carries frames.
    Up,
}

/// One uplink of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UplinkStatus {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// `packet` or `tap`.
    pub driver: String,
    /// The network interface.
    pub interface: String,
    /// The interface has a link.
    pub carrier: bool,
    /// It lets broadcast from outside in, for at least one network.
    pub designated: bool,
    /// Outside to fabric.
    #[serde(rename = "in")]
    pub inward: Amount,
    /// What it can carry towards the outside, in bits a second; `None`: it is not shaped.
    pub up_bps: Option<u64>,
    /// What it can carry from the outside, in bits a second; `None`: it is not shaped.
    pub down_bps: Option<u64>,
    /// Fabric to outside.
    #[serde(rename = "out")]
    pub outward: Amount,
    /// Frames that the kernel dropped before we could read them.
    pub kernel_drops: u64,
    /// `alive`, `draining`, `sick` or `gone`.
    pub health: String,
    /// Why, if it is not alive; the least bad first.
    pub causes: Vec<String>,
    /// vNICs that are attached to it.
    pub attached: u64,
    /// The router behind it, if it is asked whether it answers.
    pub next_hop: Option<NextHopStatus>,
    /// Its ports, if it is a bond.
    pub members: Vec<MemberStatus>,
}

/// The router behind an uplink.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NextHopStatus {
    /// Its address.
    pub address: String,
    /// The VLAN that it is asked on; `None` is untagged.
    pub vlan: Option<u16>,
    /// `answers`, `silent`, or `unknown` while it is too early to say.
    pub state: String,
}

/// One port of an uplink that is a bond.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberStatus {
    /// The network interface.
    pub interface: String,
    /// It has a link.
    pub carrier: bool,
    /// In Mbit/s, if the port says so.
    pub speed_mbps: Option<u64>,
}

/// How two uplinks of a pool are joined outside, on one VLAN, by what this host's uplink hears.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OutsidePairStatus {
    /// The uplink of this host.
    pub uplink: String,
    /// The other one; itself if it hears its own probes.
    pub other: String,
    /// `None` is untagged.
    pub vlan: Option<u16>,
    /// `joined`, `one-way`, `vlan-missing`, `apart`, `loop`, or why nothing can be said: `waiting`,
    /// `down`, `unknown`.
    pub state: String,
    /// What to look at, if something is wrong outside.
    pub look: Option<String>,
}

/// What one server has of one uplink, upwards. A backend shows its own, a gateway all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ShareStatus {
    /// The uplink's name.
    pub uplink: String,
    /// The server's name.
    pub server: String,
    /// The lease in force, in wire bits a second; `None`: none is, and the starter holds.
    pub lease_bps: Option<u64>,
    /// What it may send without a lease.
    pub starter_bps: u64,
    /// What it would send; `None`: more than it may.
    pub demand_bps: Option<u64>,
    /// Wire bits that it says it sent, since it started.
    pub served_bits: u64,
}

/// A server's fabric port, where it is said what that carries. Bits are those on the fabric's wire.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FabricPortStatus {
    /// What it can send, in bits a second; `None`: that is not divided.
    pub up_bps: Option<u64>,
    /// What it can receive; `None`: that is not divided.
    pub down_bps: Option<u64>,
    /// What its vNICs sent through it in the last 5 ms in which one did, in bits a second.
    pub sent_bps: u64,
    /// What they would send; `None`: more than it can.
    pub demand_bps: Option<u64>,
    /// What comes from VMs of other servers, and from uplinks without `down`, and a tenth more.
    pub received_from_vms_bps: u64,
    /// What each uplink was told that it may send to this server, in bits a second on the uplink's wire.
    pub told_bps: BTreeMap<String, u64>,
}

/// What a vNIC may send to its home, if that is shaped, and through its server's fabric port, if that is
/// divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VnicShareStatus {
    /// In wire bits a second, now. If its home is not shaped, its part of the port.
    pub rate_bps: u64,
    /// What it would send; `None`: more than it may.
    pub demand_bps: Option<u64>,
    /// It is held back.
    pub held: bool,
    /// How long it has been held back since the daemon started, in microseconds: steps of 5 ms in which
    /// something waited.
    pub held_us: u64,
    /// Bytes that wait.
    pub queued_bytes: u64,
    /// Wire bits that it sent to homes that are shaped.
    pub served_bits: u64,
    /// And packets: frames on the wire, after segmentation.
    pub served_packets: u64,
    /// Packets a second that it may send; `None`: any number.
    pub limit_packets_per_s: Option<u32>,
    /// It is that limit that holds it back.
    pub packets_held: bool,
    /// For how long it did, of `held_us`.
    pub packets_held_us: u64,
    /// What it may send through the server's fabric port, to its home and to other servers' VMs, in bits
    /// a second on the fabric's wire; `None`: the port is not divided.
    pub port_rate_bps: Option<u64>,
    /// It is the port that holds it back.
    pub port_held: bool,
    /// How long something waited for the port since the daemon started, in microseconds: steps of 5 ms.
    /// Apart from `held_us`.
    pub port_held_us: u64,
}

/// What one vNIC gets from the outside through one uplink that is shaped. A gateway shows those
/// that are at home there, and others that frames came for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DownStatus {
    /// The uplink's name.
    pub uplink: String,
    /// The name of the server that the vNIC is on.
    pub server: String,
    /// The vNIC's name.
    pub vnic: String,
    /// Its id.
    pub vnic_id: u64,
    /// What it may have now, in wire bits a second; 0 while nothing comes for it but a burst.
    pub rate_bps: u64,
    /// What would come; `None`: more than it may have.
    pub demand_bps: Option<u64>,
    /// Something had to wait lately.
    pub held: bool,
    /// How long something had to wait since the daemon started, in microseconds: steps of 5 ms.
    pub held_us: u64,
    /// Bytes that wait.
    pub queued_bytes: u64,
    /// Wire bits that went to its server.
    pub served_bits: u64,
    /// And packets, while it has a limit in packets: frames on the wire, after segmentation.
    pub served_packets: u64,
    /// Packets a second that it may have; `None`: any number.
    pub limit_packets_per_s: Option<u32>,
    /// It is that limit that something had to wait for lately.
    pub packets_held: bool,
    /// For how long it did, of `held_us`.
    pub packets_held_us: u64,
    /// Frames that were marked (ECN) because they waited.
    pub marked_frames: u64,
    /// Frames that were dropped because too much waited, or too long.
    pub dropped_frames: u64,
}

/// One [`Account`] of one vNIC or uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// The vNIC's or uplink's name.
    pub name: String,
    /// Its id.
    pub id: u64,
    /// Where it is counted.
    pub stage: Stage,
    /// What came to the stage.
    pub input: Amount,
    /// What replication added.
    pub copies: Amount,
    /// What left the stage towards the next.
    pub output: Amount,
    /// What was dropped, by reason.
    pub drops: BTreeMap<String, Amount>,
    /// Frames that came in and neither left nor were dropped; zero when drained.
    pub open_frames: i64,
}

impl LedgerRow {
    /// The row for `account`.
    #[must_use]
    pub fn new(name: &str, id: u64, stage: Stage, account: &Account) -> Self {
        let drops = account.drops().map(|(reason, amount)| (reason.name().to_owned(), amount));
        // More open frames than an i64 holds cannot be: it would take centuries.
        let bounds = i128::from(i64::MIN)..=i128::from(i64::MAX);
        let open = account.open_frames().clamp(*bounds.start(), *bounds.end());
        Self {
            name: name.to_owned(),
            id,
            stage,
            input: account.input,
            copies: account.copies,
            output: account.output,
            drops: drops.collect(),
            open_frames: i64::try_from(open).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DropReason;

    #[test]
    fn a_status_survives_the_wire() {
        let mut account = Account::default();
        account.input += Amount::frame(1500, 1);
        account.drop(DropReason::SourceMac, Amount::frame(1500, 1));
        let status = Status {
            role: "backend".to_owned(),
            vnics: vec![VnicStatus { state: VnicState::Running, ..VnicStatus::default() }],
            links: vec![LinkStatus { rtt_us: Some(31), ..LinkStatus::default() }],
            ledger: vec![LedgerRow::new("vm-a", 1, Stage::GuestTx, &account)],
            counters: BTreeMap::from([("kicks".to_owned(), 7)]),
            ..Status::default()
        };
        let line = serde_json::to_string(&status).unwrap();
        assert!(line.contains("\"source-mac\"") && line.contains("\"running\""), "{line}");
        assert_eq!(serde_json::from_str::<Status>(&line).unwrap(), status);
    }

    #[test]
    fn a_newer_daemon_s_status_can_be_read() {
        let status: Status =
            serde_json::from_str("{\"role\":\"gateway\",\"uplinks\":[{\"speed\":1}],\"new\":{}}")
                .unwrap();
        assert_eq!(status.role, "gateway");
        assert_eq!(status.uplinks.len(), 1);
    }

    #[test]
    fn open_frames_are_what_neither_left_nor_was_dropped() {
        let mut account = Account::default();
        account.output += Amount::frame(60, 1);
        assert_eq!(LedgerRow::new("vm-a", 1, Stage::GuestRx, &account).open_frames, -1);
    }
}
