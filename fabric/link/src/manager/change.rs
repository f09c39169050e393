//! Peers that come and go while the manager runs.
//!
//! A number is never given twice: who hears late of a session with a peer that is gone
//! finds nobody under its number, and never somebody else.

use super::goodbye::Goodbye;
use super::peer::Peer;
use super::{ConfigError, Manager, Output, PeerConfig};
use crate::random::Random;
use crate::session::PeerId;

/// Peers that a process may have had. Their numbers and names are kept.
pub const PEER_NUMBERS_MAX: usize = 4_096;

impl<R: Random> Manager<R> {
    /// One more peer. Returns its number. If another peer has the same key, as one has
    /// whose address changed, this one is called by it from now on.
    ///
    /// # Errors
    /// [`ConfigError::Key`] if the key is this host's own, [`ConfigError::Peers`].
    pub fn add_peer(&mut self, now_us: u64, peer: PeerConfig) -> Result<PeerId, ConfigError> {
        if peer.key == self.config.key.public() {
            return Err(ConfigError::Key(peer.name));
        }
        if self.peers.len() >= PEER_NUMBERS_MAX {
            return Err(ConfigError::Peers);
        }
        let id = PeerId(self.peers.len());
        self.limiter.know(peer.address.ip(), now_us);
        self.by_key.insert(peer.key, id);
        self.outputs.push_back(Output::PeerAdded { peer: id, config: peer.clone() });
        let known = self.peers.iter().filter(|other| other.key == peer.key);
        let timestamp_us = known.map(|other| other.timestamp_us).max();
        let mut peer = Peer::new(&self.config, peer);
        // What was recorded before it was removed is no newer for its coming back.
        peer.timestamp_us = timestamp_us.unwrap_or(0);
        self.peers.push(peer);
        Ok(id)
    }

    /// Takes leave of a peer: nothing is sent to it, and nothing of it accepted, any more.
    pub fn remove_peer(&mut self, now_us: u64, id: PeerId) {
        if self.peers.get(id.0).is_none_or(|peer| peer.gone) {
            return;
        }
        self.say_goodbye(id, Goodbye::Stopping);
        self.drop_handshake(id);
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        peer.gone = true;
        let was_up = peer.up;
        peer.rest();
        let (key, ip) = (peer.key, peer.address.ip());
        if self.by_key.get(&key) == Some(&id) {
            self.by_key.remove(&key);
        }
        // Another peer may have the same address, or the same IPv6 network.
        self.limiter.forget(ip);
        let left = self.peers.iter().filter(|peer| !peer.gone);
        left.for_each(|peer| self.limiter.know(peer.address.ip(), now_us));
        if was_up {
            self.outputs.push_back(Output::PeerDown { peer: id });
        }
        self.retire_up_to(now_us, id, u64::MAX);
        self.outputs.push_back(Output::PeerGone { peer: id });
        self.reschedule(id);
    }
}
