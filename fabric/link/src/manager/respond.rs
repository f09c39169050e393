//! The responder's half of the handshake, and what both halves share: judging the
//! other's terms and making the session.

use super::live::Live;
use super::{Manager, Output};
use crate::handshake::offer::Offer;
use crate::handshake::{Agreement, Responder};
use crate::random::Random;
use crate::session::{DataPaths, PeerId, Sender, Session};
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

/// When initiations cross, the host with the lower key insists on its own so many
/// times. After that it takes the other's, in case its own are refused as replays
/// because its clock went back.
const INSIST_ATTEMPTS: u32 = 3;

/// A refused peer is logged at most once in this time.
const LOG_EVERY_US: u64 = 10_000_000;

impl<R: Random> Manager<R> {
    /// Someone calls. Cheap checks first; silence unless all hold.
    pub(super) fn initiation(&mut self, now_us: u64, from: SocketAddr, datagram: &[u8]) {
        if let Err(error) = Responder::check(&self.mac, datagram) {
            self.count(error);
            return;
        }
        if !self.limiter.admit(now_us, from.ip()) {
            self.counters.limited += 1;
            return;
        }
        let responder = match Responder::read(&self.config.key, &self.mac, datagram) {
            Ok(responder) => responder,
            Err(error) => {
                self.count(error);
                return;
            }
        };
        let Some(&id) = self.by_key.get(&responder.initiator) else {
            self.counters.unknown_key += 1;
            return;
        };
        if self.willing(now_us, id, &responder.offer) {
            self.answer(now_us, id, responder);
        }
    }

    /// Whether to answer a peer's initiation.
    fn willing(&mut self, now_us: u64, id: PeerId, offer: &Offer) -> bool {
        let local = self.config.key.public();
        let Some(peer) = self.peers.get_mut(id.0) else { return false };
        if offer.timestamp_us <= peer.timestamp_us {
            peer.counters.initiations_replayed += 1;
            return false;
        }
        peer.timestamp_us = offer.timestamp_us;
        let insists = peer.handshake.is_some() && peer.attempts <= INSIST_ATTEMPTS;
        if insists && local < peer.key {
            peer.counters.initiations_crossed += 1;
            return false;
        }
        let mine = self.terms();
        self.acceptable(now_us, id, &mine, offer)
    }

    /// Answers, and opens the session for receiving. Nothing is sent on it until
    /// the initiator's first message on it proves that it lives.
    fn answer(&mut self, now_us: u64, id: PeerId, responder: Responder) {
        let retry_us = self.config.timing.retry_max_us;
        let Some(version) = self.terms().common_version(&responder.offer) else { return };
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        if self.config.key.public() > peer.key || peer.handshake.is_none() {
            // Our own call gives way; it is repeated should theirs come to nothing.
            peer.initiate_at_us = peer.initiate_at_us.map(|_| now_us.saturating_add(retry_us));
            self.drop_handshake(id);
        }
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        peer.counters.initiations_answered += 1;
        let epoch = peer.free_epoch(responder.offer.epoch);
        let (to, mac) = (peer.address, peer.mac.clone());
        let unconfirmed = peer.sessions.iter().find(|live| live.pending);
        if let Some(generation) = unconfirmed.map(|live| live.session.generation) {
            self.retire(now_us, id, generation);
        }
        let Ok(offer) = self.offer(now_us, version, epoch) else {
            self.counters.no_random += 1;
            return;
        };
        match responder.answer(&mac, offer) {
            Ok((agreement, bytes)) => {
                self.make_session(now_us, id, agreement, Sender::Responder, version, epoch);
                self.outputs.push_back(Output::Send { to, bytes });
            }
            Err(error) => self.count(error),
        }
    }

    /// Keeps the session and opens it for receiving.
    pub(super) fn make_session(
        &mut self,
        now_us: u64,
        id: PeerId,
        agreement: Agreement,
        sender: Sender,
        version: u8,
        epoch: u8,
    ) -> Option<u64> {
        let surplus = self.peers.get(id.0)?.surplus();
        if let Some(generation) = surplus {
            self.retire(now_us, id, generation);
        }
        let peer = self.peers.get_mut(id.0)?;
        let Agreement { local, remote, secret } = agreement;
        self.generation += 1;
        peer.mtu.set_limit(remote.datagram_len_max);
        let session = Arc::new(Session {
            peer: id,
            peer_name: Arc::clone(&peer.name),
            generation: self.generation,
            epoch,
            version,
            local_index: local.index,
            remote_index: remote.index,
            local_workers: local.workers,
            remote_workers: remote.workers,
            paths: local.paths.min(remote.paths),
            datagram_len_max: peer.mtu.current(),
            sealed: local.sealed,
            sender,
            secret,
            handed_out: Mutex::default(),
            rekey_asked: AtomicBool::default(),
            used: AtomicBool::default(),
            watched: AtomicBool::default(),
            data: DataPaths::default(),
            agent: OnceLock::new(),
        });
        let pending = sender == Sender::Responder;
        let live = Live::new(Arc::clone(&session), pending, now_us)?;
        // The handshake's index, if there was one, becomes the session's.
        self.by_index.insert(local.index, id);
        peer.handshake.take_if(|handshake| handshake.index() == local.index);
        peer.sessions.push(live);
        self.outputs.push_back(Output::SessionOpen(session));
        self.reschedule(id);
        Some(self.generation)
    }

    /// Whether the two sets of terms fit together; if not, says why.
    pub(super) fn acceptable(
        &mut self,
        now_us: u64,
        id: PeerId,
        mine: &Offer,
        theirs: &Offer,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(id.0) else { return false };
        let speaks = mine.common_version(theirs).is_some();
        if speaks && mine.sealed == theirs.sealed {
            return true;
        }
        if speaks {
            peer.counters.encryption_mismatch += 1;
        } else {
            peer.counters.version_mismatch += 1;
        }
        let due = peer.logged_us.is_none_or(|at_us| now_us.saturating_sub(at_us) >= LOG_EVERY_US);
        if !due {
            return false;
        }
        peer.logged_us = Some(now_us);
        if speaks {
            tracing::error!(
                peer = %peer.name, here = mine.sealed, there = theirs.sealed,
                "refused: one end encrypts data and the other does not; set `encryption` alike"
            );
        } else {
            tracing::error!(
                peer = %peer.name,
                here = format!("{} to {}", mine.version_min, mine.version_max),
                there = format!("{} to {}", theirs.version_min, theirs.version_max),
                "refused: no wire version in common; upgrade the older end"
            );
        }
        false
    }

    /// What of our offer does not change from handshake to handshake.
    fn terms(&self) -> Offer {
        Offer {
            timestamp_us: 0,
            version_min: *self.config.versions.start(),
            version_max: *self.config.versions.end(),
            version: 0,
            sealed: self.config.sealed,
            index: 0,
            epoch: 0,
            workers: self.config.workers,
            paths: self.config.paths,
            datagram_len_max: self.config.datagram_len_max,
            random: [0; crate::handshake::offer::RANDOM_LEN],
        }
    }
}
