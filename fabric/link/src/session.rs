//! A session: what two hosts agreed on in one handshake, and the keys that follow from it.
//!
//! ```text
//!   Noise split + both randoms ── HKDF-Extract ──> secret (32 bytes, wiped on drop)
//!                                                    │
//!              ┌─────────────────────────────────────┴───────────────┐
//!        HKDF-Expand("data", direction, sender worker,        HKDF-Expand("control",
//!            receiver worker, path, epoch)                       direction, epoch)
//! ```
//!
//! Each sealing key leaves the session once: a second holder would start its
//! packet numbers from zero again and so repeat nonces. Opening keys are harmless
//! and may be derived as often as a link is set up.

use crate::AgentHandle;
use crate::aead::{self, OpeningKey, SealingKey};
use ring::hkdf;
use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use zeroize::{Zeroize, ZeroizeOnDrop};

const DATA_LABEL: &[u8] = b"wireonce data key v1";
const CONTROL_LABEL: &[u8] = b"wireonce control key v1";
const SECRET_LABEL: &[u8] = b"wireonce session secret v1";

/// The highest session index: 20 bits of a datagram's path index.
pub const INDEX_MAX: u32 = (1 << 20) - 1;

/// The most paths that a link may have.
pub const PATHS_MAX: u8 = 8;

/// A peer by its position in the configuration that the manager was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub usize);

/// Which end of the handshake sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    Initiator,
    Responder,
}

/// The 32 bytes from which a session's keys are derived.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(crate) struct SessionSecret([u8; 32]);

impl SessionSecret {
    /// Mixes everything that both ends know and nobody else does. `None` only if
    /// the crypto library refuses its own lengths.
    pub(crate) fn mix(handshake_hash: &[u8], secrets: &[u8]) -> Option<Self> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, handshake_hash).extract(secrets);
        expand(&prk, &[SECRET_LABEL]).map(Self)
    }

    fn derive(&self, info: &[&[u8]]) -> Option<DerivedKey> {
        expand(&hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &self.0), info).map(DerivedKey)
    }
}

/// Key bytes on their way into a cipher.
#[derive(Zeroize, ZeroizeOnDrop)]
struct DerivedKey([u8; aead::KEY_LEN]);

/// What workers and the agent tell each other of a session's way.
#[derive(Debug, Default)]
pub(crate) struct DataPaths {
    /// Paths on which nobody answers, of all workers.
    pub(crate) dead: AtomicU32,
    /// Pairs of workers that have no other path.
    pub(crate) cut: AtomicU32,
    /// Hellos that named a newer one of ours: the control way works in both directions.
    pub(crate) echoes: AtomicU32,
}

/// What one handshake established. Workers share it as `Arc<Session>`.
pub struct Session {
    /// The host at the other end.
    pub peer: PeerId,
    /// Its name in the configuration.
    pub peer_name: Arc<str>,
    /// Counts this process's sessions; never used again while it runs.
    pub generation: u64,
    /// Stands in every datagram's header.
    pub epoch: u8,
    /// The wire version that both ends speak on it.
    pub version: u8,
    /// Our index: it stands in the datagrams that come to us.
    pub local_index: u32,
    /// The peer's index: it stands in the datagrams that we send.
    pub remote_index: u32,
    /// How many workers this host has.
    pub local_workers: u8,
    /// How many workers the peer has.
    pub remote_workers: u8,
    /// How many paths each link has.
    pub paths: u8,
    /// The longest UDP payload, in bytes, to send when the session comes up.
    /// `mtu_changed` tells of later changes.
    pub datagram_len_max: usize,
    /// Whether data is encrypted. Handshakes and control messages always are.
    pub sealed: bool,
    pub(crate) sender: Sender,
    pub(crate) secret: SessionSecret,
    pub(crate) handed_out: Mutex<HashSet<(u8, u8, u8)>>,
    /// A worker wants another session in the place of this one.
    pub(crate) rekey_asked: AtomicBool,
    /// A worker sent or received a frame on it since the agent looked last.
    pub(crate) used: AtomicBool,
    /// No frame went for a while: the agent wants to know at once when one does.
    pub(crate) watched: AtomicBool,
    /// How data fares, and what the agent hears meanwhile.
    pub(crate) data: DataPaths,
    /// Whom to tell.
    pub(crate) agent: OnceLock<AgentHandle>,
}

impl Session {
    /// The key for datagrams from our `local_worker` to the peer's `remote_worker`
    /// on `path`. `None` when it was handed out before: its packet numbers belong
    /// to whoever took it.
    #[must_use]
    pub fn sealing_key(&self, local_worker: u8, remote_worker: u8, path: u8) -> Option<SealingKey> {
        let mut handed_out = self.handed_out.lock().unwrap_or_else(PoisonError::into_inner);
        if !handed_out.insert((local_worker, remote_worker, path)) {
            return None;
        }
        let key = self.data_key(self.sender, local_worker, remote_worker, path)?;
        SealingKey::new(&key.0)
    }

    /// The key for datagrams from the peer's `remote_worker` to our `local_worker`
    /// on `path`. `None` only if the crypto library fails.
    #[must_use]
    pub fn opening_key(&self, remote_worker: u8, local_worker: u8, path: u8) -> Option<OpeningKey> {
        let key = self.data_key(self.sender.other(), remote_worker, local_worker, path)?;
        OpeningKey::new(&key.0)
    }

    /// Asks the agent to replace this session, because one of its keys has sealed nearly
    /// all that it may. The agent looks at it with every hello, so within 100 ms; it goes
    /// on trying until there is a new session.
    pub fn ask_rekey(&self) {
        self.rekey_asked.store(true, Ordering::Relaxed);
    }

    /// Notes that a frame went or came. A session on which none does has seldom hellos, and
    /// is given up later; the first frame after a while tells the agent at once.
    #[inline]
    pub fn mark_used(&self) {
        // All workers share it: no write where there is nothing new.
        if !self.used.load(Ordering::Relaxed)
            && self.note_use()
            && let Some(agent) = self.agent.get()
        {
            agent.want(self.peer);
        }
    }

    /// Notes that a frame went or came. True if the agent is to be told.
    #[cold]
    pub(crate) fn note_use(&self) -> bool {
        // In one order with `watch`: one of the two sees what the other wrote.
        self.used.store(true, Ordering::SeqCst);
        self.watched.swap(false, Ordering::SeqCst)
    }

    /// Wants to be told of the next frame. False if there was one since [`Self::take_used`].
    pub(crate) fn watch(&self) -> bool {
        self.watched.store(true, Ordering::SeqCst);
        !self.used.load(Ordering::SeqCst)
    }

    /// Whether [`Self::mark_used`] was called since the last time.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Whether somebody has called [`Self::ask_rekey`].
    pub(crate) fn rekey_asked(&self) -> bool {
        self.rekey_asked.load(Ordering::Relaxed)
    }

    /// The control keys: ours to send with, the peer's to open.
    pub(crate) fn control_keys(&self) -> Option<(SealingKey, OpeningKey)> {
        let mine = self.control_key(self.sender)?;
        let theirs = self.control_key(self.sender.other())?;
        Some((SealingKey::new(&mine.0)?, OpeningKey::new(&theirs.0)?))
    }

    fn data_key(&self, sender: Sender, from: u8, to: u8, path: u8) -> Option<DerivedKey> {
        self.secret.derive(&[DATA_LABEL, &[sender.code(), from, to, path, self.epoch]])
    }

    fn control_key(&self, sender: Sender) -> Option<DerivedKey> {
        self.secret.derive(&[CONTROL_LABEL, &[sender.code(), self.epoch]])
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer_name)
            .field("generation", &self.generation)
            .field("epoch", &self.epoch)
            .field("local_index", &self.local_index)
            .field("remote_index", &self.remote_index)
            .field("sealed", &self.sealed)
            .finish_non_exhaustive()
    }
}

impl Sender {
    fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Initiator => 0,
            Self::Responder => 1,
        }
    }
}

fn expand(prk: &hkdf::Prk, info: &[&[u8]]) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    prk.expand(info, hkdf::HKDF_SHA256).ok()?.fill(&mut key).ok()?;
    Some(key)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The two ends of a session with `secret`: first the initiator's.
    pub(crate) fn pair(secret: [u8; 32], epoch: u8) -> (Session, Session) {
        let end = |sender, local_index, remote_index| Session {
            peer: PeerId(0),
            peer_name: "peer".into(),
            generation: 1,
            epoch,
            version: 1,
            local_index,
            remote_index,
            local_workers: 2,
            remote_workers: 2,
            paths: 2,
            datagram_len_max: 1_252,
            sealed: true,
            sender,
            secret: SessionSecret(secret),
            handed_out: Mutex::default(),
            rekey_asked: AtomicBool::default(),
            used: AtomicBool::default(),
            watched: AtomicBool::default(),
            data: DataPaths::default(),
            agent: OnceLock::new(),
        };
        (end(Sender::Initiator, 1, 2), end(Sender::Responder, 2, 1))
    }

    #[test]
    fn both_ends_derive_the_same_data_keys() {
        let (a, b) = pair([9; 32], 3);
        for (from, to, path) in [(0, 0, 0), (0, 1, 0), (1, 0, 2), (255, 254, 15)] {
            for (sender, receiver) in [(&a, &b), (&b, &a)] {
                let seal = sender.sealing_key(from, to, path).unwrap();
                let open = receiver.opening_key(from, to, path).unwrap();
                let (mut bytes, mut tag) = (*b"frame", [0; 16]);
                seal.seal(1, &[0; 16], &mut bytes, &mut tag).unwrap();
                let mut sealed = [&bytes[..], &tag[..]].concat();
                assert_eq!(open.open(1, &[0; 16], &mut sealed), Ok(5));
                assert_eq!(&sealed[..5], b"frame");
            }
        }
    }

    #[test]
    fn both_ends_derive_the_same_control_keys() {
        let (a, b) = pair([9; 32], 3);
        let (seal, _) = a.control_keys().unwrap();
        let (_, open) = b.control_keys().unwrap();
        let (mut bytes, mut tag) = (*b"hello", [0; 16]);
        seal.seal(0, &[0; 16], &mut bytes, &mut tag).unwrap();
        let mut sealed = [&bytes[..], &tag[..]].concat();
        assert_eq!(open.open(0, &[0; 16], &mut sealed), Ok(5));
    }

    #[test]
    fn every_direction_worker_path_and_epoch_has_its_own_key() {
        let mut seen = HashSet::new();
        let mut count = 0;
        for epoch in [0, 1, 255] {
            let (a, _) = pair([9; 32], epoch);
            for sender in [Sender::Initiator, Sender::Responder] {
                assert!(seen.insert(a.control_key(sender).unwrap().0));
                count += 1;
                for from in [0, 1, 2, 255] {
                    for to in [0, 1, 2, 255] {
                        for path in 0..16 {
                            seen.insert(a.data_key(sender, from, to, path).unwrap().0);
                            count += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(seen.len(), count);
        let (other, _) = pair([8; 32], 0);
        assert!(seen.insert(other.data_key(Sender::Initiator, 0, 0, 0).unwrap().0));
    }

    #[test]
    fn a_sealing_key_is_handed_out_once() {
        let (a, _) = pair([9; 32], 0);
        assert!(a.sealing_key(0, 1, 0).is_some());
        assert!(a.sealing_key(0, 1, 0).is_none());
        assert!(a.sealing_key(1, 0, 0).is_some());
        assert!(a.opening_key(0, 1, 0).is_some());
        assert!(a.opening_key(0, 1, 0).is_some());
    }

    #[test]
    fn a_watcher_hears_of_the_next_frame_once_and_of_none_that_it_has_not_taken() {
        let (a, _) = pair([9; 32], 0);
        assert!(!a.note_use(), "nobody watches");
        assert!(!a.watch(), "there was a frame");
        assert!(a.take_used() && a.watch());
        assert!(a.note_use() && !a.note_use());
    }

    #[test]
    fn debug_output_hides_the_secret() {
        let (a, _) = pair([0xab; 32], 0);
        assert!(!format!("{a:?}").contains("171"), "{a:?}");
    }
}
