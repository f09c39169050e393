//! Which number each peer has in this process.
//!
//! A number is given once and means one peer, one key and one address until the process
//! ends: news of a session that arrives late never meets another peer.

use rustc_hash::FxHashMap;
use wireonce_config::{Config, Peer};
use wireonce_link::PeerId;

/// The numbers of the peers that there are now, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerNumbers(FxHashMap<String, PeerId>);

impl PeerNumbers {
    /// As an agent numbers the peers that it starts with.
    #[must_use]
    pub fn in_order(config: &Config) -> Self {
        let peers = config.peers.iter().map(|peer| &peer.name);
        Self(peers.enumerate().map(|(at, name)| (name.clone(), PeerId(at))).collect())
    }

    /// The number of `peer`; `None` if it has none yet.
    #[must_use]
    pub fn get(&self, peer: &Peer) -> Option<PeerId> {
        self.0.get(&peer.name).copied()
    }

    /// From now on the peer called `name` is `id`. Returns what it was.
    pub fn set(&mut self, name: &str, id: PeerId) -> Option<PeerId> {
        self.0.insert(name.to_owned(), id)
    }

    /// There is no peer called `name` any more. Returns what it was.
    pub fn remove(&mut self, name: &str) -> Option<PeerId> {
        self.0.remove(name)
    }
}
