//! What the manager is told once: keys, peers, sizes, intervals.

use super::change::PEER_NUMBERS_MAX;
use crate::handshake::offer::DATAGRAM_LEN_FLOOR;
use crate::key::{PublicKey, StaticKey};
use crate::session::PATHS_MAX;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

const MS: u64 = 1_000;
const S: u64 = 1_000 * MS;

/// A session is replaced after this time.
pub const REKEY_AFTER_US: u64 = 120 * S;

/// A session on which no frame went either way for so long is given up.
pub const IDLE_AFTER_US: u64 = 600 * S;

/// Bytes of IP and UDP headers in front of a datagram.
pub(super) fn headers_len(address: SocketAddr) -> usize {
    if address.is_ipv4() { 28 } else { 48 }
}

/// A host that we may talk to.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Its name in logs and status.
    pub name: String,
    /// Its public key: whoever holds the private half is this peer.
    pub key: PublicKey,
    /// Its control socket. Nothing is ever sent to any other address.
    pub address: SocketAddr,
}

/// How the longest datagram is found.
#[derive(Debug, Clone)]
pub enum PathMtu {
    /// Every path carries IP packets of this many bytes; nothing is probed.
    Fixed(usize),
    /// Start at 1,280 bytes and probe these sizes of IP packets.
    Probe(Vec<usize>),
}

impl Default for PathMtu {
    /// Jumbo frames, two sizes of clouds, Ethernet, and a tunnel below it.
    fn default() -> Self {
        Self::Probe(vec![1_400, 1_460, 1_500, 8_896, 9_000])
    }
}

/// Intervals, in microseconds. The defaults are for one data centre.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// One hello per peer in this time, while frames go.
    pub hello_every_us: u64,
    /// Without a hello, or without an echo of ours, for this long, a peer is down. In
    /// proportion longer on a link whose hellos are more seldom.
    pub down_after_us: u64,
    /// Hellos become seldom when no frame went either way for this long.
    pub quiet_after_us: u64,
    /// One hello per peer in this time, while no frames go; [`Timing::hello_every_us`] if
    /// that is longer.
    pub quiet_hello_every_us: u64,
    /// The initiator replaces a session at this age, the responder a quarter later.
    pub rekey_after_us: u64,
    /// Sessions with a peer are given up when no frame went either way for this long.
    pub idle_after_us: u64,
    /// A session that was replaced is retired when nothing was heard on it for this long.
    pub retire_after_us: u64,
    /// The first repetition of an initiation; it doubles from there.
    pub retry_min_us: u64,
    /// The longest time between two initiations.
    pub retry_max_us: u64,
    /// Between the initiations to different peers at the start.
    pub pace_us: u64,
    /// How often longer datagrams are tried again.
    pub probe_every_us: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            hello_every_us: 100 * MS,
            down_after_us: 500 * MS,
            quiet_after_us: 3 * S,
            quiet_hello_every_us: S,
            rekey_after_us: REKEY_AFTER_US,
            idle_after_us: IDLE_AFTER_US,
            retire_after_us: 10 * S,
            retry_min_us: 100 * MS,
            retry_max_us: S,
            pace_us: MS,
            probe_every_us: 60 * S,
        }
    }
}

/// This host.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our static key.
    pub key: StaticKey,
    /// The wire versions that we speak, 1 to 15.
    pub versions: RangeInclusive<u8>,
    /// How many workers we have, at least 1.
    pub workers: u8,
    /// How many paths a link may have, 1 to [`PATHS_MAX`].
    pub paths: u8,
    /// The longest UDP payload that we can receive, in bytes.
    pub datagram_len_max: u16,
    /// Whether data is encrypted. Peers that disagree are refused.
    pub sealed: bool,
    /// The longest datagram to send.
    pub path_mtu: PathMtu,
    /// The intervals.
    pub timing: Timing,
    /// The wall clock when the manager is made, in microseconds since 1970. Later
    /// steps of the clock have no effect.
    pub wall_clock_us: u64,
}

/// What is wrong with a [`Config`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The wire versions are out of range.
    #[error("wire versions {0} to {1}: expected a range within 1 to 15")]
    Versions(u8, u8),
    /// No workers.
    #[error("0 workers: expected at least 1")]
    Workers,
    /// The number of paths is out of range.
    #[error("{0} paths: expected 1 to {PATHS_MAX}")]
    Paths(u8),
    /// The longest datagram is shorter than what every network carries.
    #[error("datagrams of at most {0} bytes: expected at least {DATAGRAM_LEN_FLOOR}")]
    DatagramLen(usize),
    /// An interval of nothing would never let the manager rest.
    #[error("an interval of 0 us: expected every one to be at least 1")]
    Timing,
    /// Two peers have the same key, or one has ours.
    #[error("peer {0:?} has the public key of another peer or of this host; each host has its own")]
    Key(String),
    /// All numbers are used up.
    #[error(
        "{PEER_NUMBERS_MAX} peers have come and gone since the daemon started, and it has no \
         number for one more; restart it"
    )]
    Peers,
}

impl Config {
    pub(super) fn check(&self, peers: &[PeerConfig]) -> Result<(), ConfigError> {
        let (min, max) = (*self.versions.start(), *self.versions.end());
        if min == 0 || min > max || max > 15 {
            return Err(ConfigError::Versions(min, max));
        }
        if self.workers == 0 {
            return Err(ConfigError::Workers);
        }
        if !(1..=PATHS_MAX).contains(&self.paths) {
            return Err(ConfigError::Paths(self.paths));
        }
        if self.datagram_len_max < DATAGRAM_LEN_FLOOR {
            return Err(ConfigError::DatagramLen(self.datagram_len_max.into()));
        }
        if let PathMtu::Fixed(packet_len) = self.path_mtu
            && packet_len < usize::from(DATAGRAM_LEN_FLOOR) + 48
        {
            return Err(ConfigError::DatagramLen(packet_len.saturating_sub(48)));
        }
        let Timing { hello_every_us, rekey_after_us, idle_after_us, .. } = self.timing;
        let Timing { retry_min_us, retry_max_us, .. } = self.timing;
        let intervals = [hello_every_us, rekey_after_us, idle_after_us, retry_min_us, retry_max_us];
        if intervals.contains(&0) {
            return Err(ConfigError::Timing);
        }
        let mut keys = vec![self.key.public()];
        for peer in peers {
            if keys.contains(&peer.key) {
                return Err(ConfigError::Key(peer.name.clone()));
            }
            keys.push(peer.key);
        }
        Ok(())
    }
}
