//! Peers that come and go with a new configuration.
//!
//! ```text
//!   begin_peers: new ones get a number ─▶ tables that name them ─▶ commit_peers: called;
//!        │                                                         those gone: goodbye
//!        └──────── it is not taken after all ─▶ abandon_peers
//! ```

use crate::{FabricHost, HostError};
use wireonce_config::{Change, Peer};
use wireonce_directory::PeerNumbers;
use wireonce_link::{PeerId, PublicKey, manager::PeerConfig};

/// What a new configuration does to the peers, while it is not decided yet.
#[derive(Debug)]
#[must_use = "commit it or abandon it"]
pub struct PeerChange {
    numbers: PeerNumbers,
    added: Vec<PeerId>,
    gone: Vec<PeerId>,
}

impl PeerChange {
    /// The numbers with which the new tables are made.
    #[must_use]
    pub fn numbers(&self) -> &PeerNumbers {
        &self.numbers
    }
}

impl FabricHost {
    /// Gives the new peers of `change` their numbers, and tells the workers. A peer with
    /// another key or address is a new one.
    ///
    /// # Errors
    /// [`HostError::Agent`]; no peer is left that was not there before.
    pub fn begin_peers(&self, change: &Change) -> Result<PeerChange, HostError> {
        let numbers = self.numbers.clone();
        let mut begun = PeerChange { numbers, added: Vec::new(), gone: Vec::new() };
        let changed = change.peers.changed.iter().map(|changed| &changed.after);
        for peer in change.peers.added.iter().chain(changed) {
            match self.agent.handle().add_peer(peer_config(peer)) {
                Ok(id) => {
                    begun.gone.extend(begun.numbers.set(&peer.name, id));
                    begun.added.push(id);
                }
                Err(error) => {
                    self.abandon_peers(begun);
                    return Err(error.into());
                }
            }
        }
        for peer in &change.peers.removed {
            begun.gone.extend(begun.numbers.remove(&peer.name));
        }
        Ok(begun)
    }

    /// The new configuration is not taken.
    pub fn abandon_peers(&self, change: PeerChange) {
        for id in change.added {
            self.agent.handle().remove_peer(id);
        }
    }

    /// The new tables are in use: new peers are called, and nobody needs the old ones.
    pub fn commit_peers(&mut self, change: PeerChange) {
        self.numbers = change.numbers;
        let agent = self.agent.handle();
        change.added.into_iter().for_each(|id| agent.want(id));
        change.gone.into_iter().for_each(|id| agent.remove_peer(id));
    }
}

pub(crate) fn peer_config(peer: &Peer) -> PeerConfig {
    PeerConfig {
        name: peer.name.clone(),
        key: PublicKey::from_bytes(peer.public_key),
        address: peer.socket_addr(),
    }
}
