//! What the manager asks for and tells.

use super::Trouble;
use super::config::PeerConfig;
use crate::session::{PeerId, Session};
use std::net::SocketAddr;
use std::sync::Arc;

/// What is to be done or told, in this order.
#[derive(Debug)]
pub enum Output {
    /// Send this datagram.
    Send {
        /// The peer's configured address.
        to: SocketAddr,
        /// The UDP payload.
        bytes: Vec<u8>,
    },
    /// Accept datagrams on this session from now on.
    SessionOpen(Arc<Session>),
    /// Send on this session from now on. Said again when a peer that was down
    /// comes back on it, but never of a session that another has replaced.
    SessionUp(Arc<Session>),
    /// Stop accepting on this session; nobody sends on it any more.
    SessionRetired {
        /// Whose session.
        peer: PeerId,
        /// Which.
        generation: u64,
    },
    /// The peer is silent: use another way until the next `SessionUp`.
    PeerDown {
        /// Who.
        peer: PeerId,
    },
    /// Nobody needed the peer for long: its sessions are retired. Somebody who has a
    /// frame for it says so ([`Manager::want`](super::Manager::want)).
    PeerIdle {
        /// Who.
        peer: PeerId,
    },
    /// There is one more peer, before anything else is said of it.
    PeerAdded {
        /// Its number.
        peer: PeerId,
        /// Who it is.
        config: PeerConfig,
    },
    /// The peer was removed; nothing more is said of it.
    PeerGone {
        /// Who.
        peer: PeerId,
    },
    /// A hello of the peer was read.
    Hello {
        /// Whose.
        peer: PeerId,
        /// When the newest of our hellos was sent that it names, if no hello before named that one.
        echoed_us: Option<u64>,
    },
    /// The longest datagram to this peer has changed.
    MtuChanged {
        /// Who.
        peer: PeerId,
        /// Bytes of UDP payload.
        datagram_len_max: usize,
    },
    /// Something is wrong with the link to this peer, though it is up, or is not any more.
    Trouble {
        /// Who.
        peer: PeerId,
        /// All that is wrong now.
        trouble: Trouble,
    },
    /// A message came for whoever listens on `channel`.
    Message {
        /// Who sent it.
        peer: PeerId,
        /// Whom it is for.
        channel: u8,
        /// What it says: whatever the peer likes.
        payload: Vec<u8>,
    },
}
