//! How things stand, for people.

use super::{PeerCounters, Trouble};
use std::net::SocketAddr;

/// How things stand with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// Nobody asked for it, or not for long.
    Idle,
    /// The first handshake is going on.
    Connecting,
    /// A session is in use.
    Up,
    /// It was up and fell silent; handshakes are being tried.
    Down,
    /// It was removed. Its counters stay, so that sums do not shrink.
    Gone,
}

/// One peer, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// The name in the configuration.
    pub name: String,
    /// Its control socket.
    pub address: SocketAddr,
    /// Whether it can be used.
    pub state: PeerState,
    /// The epoch that we send with.
    pub epoch: Option<u8>,
    /// Round trip of the last hello, in microseconds.
    pub rtt_us: Option<u64>,
    /// How long ago its last hello was heard, in microseconds.
    pub heard_ago_us: Option<u64>,
    /// The longest UDP payload that is sent to it, in bytes.
    pub datagram_len_max: usize,
    /// What is wrong with the link, though it is up.
    pub trouble: Trouble,
    /// What happened.
    pub counters: PeerCounters,
}
