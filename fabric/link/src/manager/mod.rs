//! The session manager: which peers are there, on which session, how long a datagram may be.
//!
//! Pure: datagrams, timers and wishes go in with the time, [`Output`]s come out.
//! `docs/handshake.md` has the theory; in short, per peer:
//!
//! ```text
//!              want                    Response                  2 down_after
//!   idle ──────────────> connecting ──────────────> up ─────────────────────┐
//!                          ^   ^  Initiation,        │ ^                    │
//!                          │   │  then first hello   │ │ rekey: a second    │
//!                          │   └──(as responder)─────┘ └─ session beside it │
//!                          └───────────── down: initiate again <────────────┘
//! ```
//!
//! From up a peer goes back to idle when no frame went either way for ten minutes.
//!
//! A new session is opened for receiving before it is used for sending, and the
//! old one is retired when nothing was heard on it for ten seconds. So no message
//! whose loss would interrupt traffic exists.

mod change;
mod config;
mod counters;
mod goodbye;
mod gray;
mod hello;
mod live;
mod message;
mod mtu;
mod output;
mod pace;
mod parting;
mod peer;
mod respond;
mod status;
#[cfg(test)]
mod tests;

pub use change::PEER_NUMBERS_MAX;
pub use config::{Config, ConfigError, IDLE_AFTER_US, PathMtu, PeerConfig, REKEY_AFTER_US, Timing};
pub use counters::{Counters, PeerCounters};
pub use gray::Trouble;
pub use message::MESSAGE_LEN_MAX;
pub use output::Output;
pub use status::{PeerState, PeerStatus};

use crate::handshake::header::{Header, Kind};
use crate::handshake::limiter::Limiter;
use crate::handshake::offer::{Offer, RANDOM_LEN};
use crate::handshake::{Agreement, HandshakeError, Initiator, MacKey};
use crate::key::PublicKey;
use crate::random::{NoRandom, Random};
use crate::session::{INDEX_MAX, PeerId, Sender};
use hello::Hello;
use live::{Live, Message, Refused};
use peer::Peer;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Tries to find an unused session index; the space is far larger than any use of it.
const INDEX_TRIES: usize = 64;

/// No worker gets a session replaced that is younger than this.
const REKEY_PAUSE_US: u64 = 1_000_000;

/// See the module's documentation.
pub struct Manager<R> {
    config: Config,
    mac: MacKey,
    random: R,
    peers: Vec<Peer>,
    by_key: HashMap<PublicKey, PeerId>,
    /// Our session indexes in use, of handshakes and of sessions.
    by_index: HashMap<u32, PeerId>,
    timers: BTreeSet<(u64, PeerId)>,
    limiter: Limiter,
    outputs: VecDeque<Output>,
    counters: Counters,
    generation: u64,
    started_us: u64,
    /// The timestamp of our last initiation.
    timestamp_us: u64,
}

impl<R: Random> Manager<R> {
    /// A manager of sessions with `peers`, whose [`PeerId`]s are their positions.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn new(
        now_us: u64,
        config: Config,
        peers: Vec<PeerConfig>,
        random: R,
    ) -> Result<Self, ConfigError> {
        config.check(&peers)?;
        let addresses = peers.iter().map(|peer| peer.address.ip());
        Ok(Self {
            mac: MacKey::to(&config.key.public()),
            limiter: Limiter::new(addresses, now_us),
            by_key: peers.iter().enumerate().map(|(at, peer)| (peer.key, PeerId(at))).collect(),
            peers: peers.into_iter().map(|peer| Peer::new(&config, peer)).collect(),
            config,
            random,
            by_index: HashMap::new(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            generation: 0,
            started_us: now_us,
            timestamp_us: 0,
        })
    }

    /// Somebody wants to send to `peer`. Unknown peers are ignored.
    pub fn want(&mut self, now_us: u64, peer: PeerId) {
        self.want_at(peer, now_us);
    }

    /// Calls all peers, at the pace of [`Timing::pace_us`]: after a restart they
    /// learn of it at once instead of after a silence.
    pub fn want_all(&mut self, now_us: u64) {
        let mut at_us = now_us;
        for peer in 0..self.peers.len() {
            if self.peers.get(peer).is_none_or(|peer| peer.gone) {
                continue;
            }
            self.want_at(PeerId(peer), at_us);
            at_us = at_us.saturating_add(self.config.timing.pace_us);
        }
    }

    /// Somebody has to know within a few of `every_us` when `peer` is gone, and keeps a session with
    /// it; `None`: nobody has to any more.
    pub fn urge(&mut self, now_us: u64, id: PeerId, every_us: Option<u64>) {
        let timing = self.config.timing;
        let Some(peer) = self.peers.get_mut(id.0).filter(|peer| !peer.gone) else { return };
        peer.urgent = every_us.is_some();
        peer.pace.urge(now_us, every_us, &timing);
        peer.hello_at_us = now_us;
        if peer.urgent {
            self.want_at(id, now_us);
        }
        self.reschedule(id);
    }

    /// A datagram came to the control socket. It is decrypted in place.
    pub fn datagram(&mut self, now_us: u64, from: SocketAddr, datagram: &mut [u8]) {
        let Some((header, _)) = Header::parse(datagram) else {
            self.counters.malformed += 1;
            return;
        };
        match header.kind {
            Kind::Initiation => self.initiation(now_us, from, datagram),
            Kind::Response => self.response(now_us, header, datagram),
            Kind::Control => self.control(now_us, header, datagram),
            // Data has sockets of its own.
            Kind::Data => self.counters.malformed += 1,
        }
    }

    /// When [`Self::timer`] has something to do.
    #[must_use]
    pub fn next_timer_us(&self) -> Option<u64> {
        self.timers.first().map(|&(due_us, _)| due_us)
    }

    /// Does what is due at `now_us`.
    pub fn timer(&mut self, now_us: u64) {
        while let Some(&(due_us, id)) = self.timers.first()
            && due_us <= now_us
        {
            self.timers.pop_first();
            if let Some(peer) = self.peers.get_mut(id.0) {
                peer.due_us = None;
            }
            self.peer_timer(now_us, id);
            self.reschedule(id);
        }
    }

    /// The next thing to do or tell. To be drained after every call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// All peers, in the order of their ids.
    #[must_use]
    pub fn status(&self, now_us: u64) -> Vec<PeerStatus> {
        self.peers.iter().map(|peer| peer.status(now_us)).collect()
    }

    /// What came from strangers, or led to nothing.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn want_at(&mut self, id: PeerId, at_us: u64) {
        let Some(peer) = self.peers.get_mut(id.0).filter(|peer| !peer.gone) else { return };
        peer.wanted = true;
        peer.used_us = at_us;
        if peer.current.is_none() {
            peer.initiate(at_us, &self.config.timing);
        } else if peer.pace.wake(at_us) {
            peer.hello_at_us = at_us;
        }
        self.reschedule(id);
    }

    /// Puts the peer's next deadline into the timer queue.
    fn reschedule(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        let due_us = peer.next_due_us(&self.config.timing);
        if peer.due_us == due_us {
            return;
        }
        if let Some(old_us) = peer.due_us {
            self.timers.remove(&(old_us, id));
        }
        if let Some(due_us) = due_us {
            self.timers.insert((due_us, id));
        }
        peer.due_us = due_us;
    }

    fn peer_timer(&mut self, now_us: u64, id: PeerId) {
        let timing = self.config.timing;
        while let Some(generation) =
            self.peers.get(id.0).and_then(|peer| peer.expired(now_us, &timing))
        {
            self.retire(now_us, id, generation);
        }
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        if peer.down_at_us().is_some_and(|at_us| at_us <= now_us) {
            self.down(now_us, id);
        }
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        peer.hear_workers(now_us);
        peer.settle_pace(now_us);
        if peer.is_idle(now_us, &timing) {
            self.let_go(id);
            return;
        }
        if peer.current.is_some() && peer.rekey_at_us <= now_us {
            peer.initiate(now_us, &self.config.timing);
        }
        let initiate = peer.initiate_at_us.is_some_and(|at_us| at_us <= now_us);
        if peer.current.is_some() && peer.hello_at_us <= now_us {
            self.send_hellos(now_us, id);
        }
        if initiate {
            self.send_initiation(now_us, id);
        }
        self.judge(now_us, id);
    }

    /// The peer is silent, or deaf: say so, and call it.
    fn down(&mut self, now_us: u64, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        tracing::warn!(peer = %peer.name, "peer is silent; calling it again");
        peer.up = false;
        peer.counters.downs += 1;
        peer.mtu.reset();
        peer.gray.forget();
        peer.pace.begin(now_us);
        peer.hello_at_us = peer.hello_at_us.min(now_us);
        peer.sessions.iter_mut().for_each(Live::forget_sent);
        self.outputs.push_back(Output::PeerDown { peer: id });
        self.publish_mtu(id);
        if let Some(peer) = self.peers.get_mut(id.0) {
            peer.initiate(now_us, &self.config.timing);
        }
    }

    fn retire(&mut self, now_us: u64, id: PeerId, generation: u64) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        let was_current = peer.current == Some(generation);
        let at = peer.sessions.iter().position(|live| live.session.generation == generation);
        if let Some(at) = at {
            let live = peer.sessions.remove(at);
            self.by_index.remove(&live.session.local_index);
        }
        if was_current {
            peer.current = None;
            if peer.up {
                self.down(now_us, id);
            }
        }
        self.outputs.push_back(Output::SessionRetired { peer: id, generation });
    }

    /// The regular small hello and, if due, padded ones.
    fn send_hellos(&mut self, now_us: u64, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        let every_us = peer.pace.every_us();
        peer.hello_at_us = now_us.saturating_add(every_us);
        let lens = peer.mtu.due(now_us, every_us);
        let to = peer.address;
        let mut pace = peer.pace.clone();
        let Some(live) = peer.current() else { return };
        let announced_us = pace.announce(live.next_number());
        let hellos: Vec<_> = lens
            .into_iter()
            .chain([0])
            .filter_map(|len| live.hello(now_us, announced_us, len))
            .collect();
        peer.pace = pace;
        for bytes in hellos {
            peer.counters.hellos_sent += 1;
            self.outputs.push_back(Output::Send { to, bytes });
        }
    }

    fn send_initiation(&mut self, now_us: u64, id: PeerId) {
        if self.try_initiation(now_us, id).is_err() {
            self.counters.no_random += 1;
        }
        let timing = self.config.timing;
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        let doubled = timing.retry_min_us.saturating_mul(1 << peer.attempts.min(20));
        peer.attempts = peer.attempts.saturating_add(1);
        let wait_us = doubled.min(timing.retry_max_us);
        let wait_us = wait_us.saturating_add(self.random.below(wait_us / 4 + 1));
        peer.initiate_at_us = Some(now_us.saturating_add(wait_us));
    }

    /// Every repetition is a new handshake: the peer takes no timestamp twice.
    fn try_initiation(&mut self, now_us: u64, id: PeerId) -> Result<(), HandshakeError> {
        self.drop_handshake(id);
        let epoch =
            self.peers.get(id.0).map_or(0, |peer| peer.free_epoch(peer.epoch.wrapping_add(1)));
        let offer = self.offer(now_us, 0, epoch).map_err(|NoRandom| HandshakeError::Local)?;
        let Some(peer) = self.peers.get_mut(id.0) else { return Ok(()) };
        let (initiator, bytes) = Initiator::start(&self.config.key, &peer.key, &peer.mac, offer)?;
        self.by_index.insert(initiator.index(), id);
        peer.handshake = Some(initiator);
        peer.counters.initiations_sent += 1;
        self.outputs.push_back(Output::Send { to: peer.address, bytes });
        Ok(())
    }

    fn drop_handshake(&mut self, id: PeerId) {
        let handshake = self.peers.get_mut(id.0).and_then(|peer| peer.handshake.take());
        if let Some(initiator) = handshake {
            self.by_index.remove(&initiator.index());
        }
    }

    /// Our terms, with an index that is free and a timestamp that only rises.
    fn offer(&mut self, now_us: u64, version: u8, epoch: u8) -> Result<Offer, NoRandom> {
        let wall_us =
            self.config.wall_clock_us.saturating_add(now_us.saturating_sub(self.started_us));
        self.timestamp_us = wall_us.max(self.timestamp_us.saturating_add(1));
        let mut random = [0; RANDOM_LEN];
        self.random.fill(&mut random)?;
        Ok(Offer {
            timestamp_us: self.timestamp_us,
            version_min: *self.config.versions.start(),
            version_max: *self.config.versions.end(),
            version,
            sealed: self.config.sealed,
            index: self.free_index()?,
            epoch,
            workers: self.config.workers,
            paths: self.config.paths,
            datagram_len_max: self.config.datagram_len_max,
            random,
        })
    }

    fn free_index(&mut self) -> Result<u32, NoRandom> {
        for _ in 0..INDEX_TRIES {
            let index = u32::try_from(1 + self.random.below(INDEX_MAX.into())).unwrap_or(1);
            if !self.by_index.contains_key(&index) {
                return Ok(index);
            }
        }
        Err(NoRandom)
    }

    fn response(&mut self, now_us: u64, header: Header, datagram: &[u8]) {
        let id = self.by_index.get(&header.index).copied();
        let peer = id.and_then(|id| self.peers.get_mut(id.0));
        let Some((id, peer)) = id.zip(peer) else {
            self.counters.stale_responses += 1;
            return;
        };
        let Some(handshake) =
            peer.handshake.as_mut().filter(|handshake| handshake.index() == header.index)
        else {
            self.counters.stale_responses += 1;
            return;
        };
        match handshake.finish(&self.mac, datagram) {
            Ok(agreement) => self.responded(now_us, id, agreement),
            Err(error) => self.count(error),
        }
    }

    /// The peer answered our call.
    fn responded(&mut self, now_us: u64, id: PeerId, agreement: Agreement) {
        let common = agreement.local.common_version(&agreement.remote);
        if !self.acceptable(now_us, id, &agreement.local, &agreement.remote)
            || common != Some(agreement.remote.version)
        {
            // Kept until the next repetition, which meets the same end.
            return;
        }
        let epoch = agreement.remote.epoch;
        let version = agreement.remote.version;
        let made = self.make_session(now_us, id, agreement, Sender::Initiator, version, epoch);
        if let Some(generation) = made {
            self.use_session(now_us, id, generation);
        }
    }

    fn control(&mut self, now_us: u64, header: Header, datagram: &mut [u8]) {
        let Some(&id) = self.by_index.get(&header.index) else {
            self.counters.unknown_session += 1;
            return;
        };
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        // The index of a handshake that is going on has no session yet.
        let (sessions, mtu, judge) = (&mut peer.sessions, &mut peer.mtu, &mut peer.gray.judge);
        let Some(live) = sessions.iter_mut().find(|live| live.session.local_index == header.index)
        else {
            self.counters.unknown_session += 1;
            return;
        };
        let generation = live.session.generation;
        let opened = live.open(now_us, header, datagram);
        match opened {
            Ok(Message::Hello(hello, newest)) => {
                let echo = live.echo(now_us, &hello, mtu, judge);
                self.heard(now_us, id, generation, echo);
                if newest {
                    self.heard_pace(now_us, id, generation, &hello);
                }
            }
            Ok(Message::Note(note)) => self.heard_message(now_us, id, note),
            Ok(Message::Goodbye(why)) => self.goodbye(now_us, id, generation, why),
            Err(Refused::Forged) => self.counters.forged += 1,
            Err(Refused::Repeated) => self.counters.repeated += 1,
            Err(Refused::Unknown) => self.counters.unknown_control += 1,
        }
    }

    /// An authentic hello came on the session `generation`.
    fn heard(&mut self, now_us: u64, id: PeerId, generation: u64, echo: live::Echo) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        peer.counters.hellos_heard += 1;
        peer.heard_us = Some(now_us);
        peer.rtt_us = echo.rtt_us.or(peer.rtt_us);
        if echo.progressed {
            peer.echoed_us = now_us;
        }
        if peer.urgent && peer.current == Some(generation) {
            // Whoever fences itself by our echoes has to have them soon; but two in one interval will do.
            let every_us = peer.pace.every_us();
            let next_us = peer.hello_at_us.saturating_sub(every_us / 2).max(now_us);
            peer.hello_at_us = peer.hello_at_us.min(next_us);
        }
        self.outputs.push_back(Output::Hello { peer: id, echoed_us: echo.sent_us });
        let pending = peer.by_generation(generation).is_some_and(|live| live.pending);
        // A peer that was down is back when it hears us, too. Only on the current
        // session: workers have given up the keys of those before.
        let back = !peer.up && echo.progressed && peer.current == Some(generation);
        if pending || back {
            self.use_session(now_us, id, generation);
        } else {
            self.publish_mtu(id);
            self.reschedule(id);
        }
    }

    /// What the newest hello of the current session says about the pace.
    fn heard_pace(&mut self, now_us: u64, id: PeerId, generation: u64, hello: &Hello) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        if peer.current != Some(generation) {
            return;
        }
        if let Some(number) = hello.heard.checked_sub(1) {
            peer.pace.echoed(number);
        }
        if peer.pace.heard(now_us, hello.every_us) {
            peer.hello_at_us = now_us;
        }
        self.reschedule(id);
    }

    /// Both ends have the session: send on it from now on.
    fn use_session(&mut self, now_us: u64, id: PeerId, generation: u64) {
        self.drop_handshake(id);
        let rekey_us = self.config.timing.rekey_after_us;
        let jitter_us = self.random.below(rekey_us / 16 + 1);
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        let Some(live) = peer.by_generation(generation) else { return };
        live.pending = false;
        let session = Arc::clone(&live.session);
        let created_us = live.created_us;
        let patience_us = if session.sender == Sender::Initiator { 0 } else { rekey_us / 4 };
        let age_us = rekey_us.saturating_add(patience_us).saturating_sub(jitter_us);
        let first = peer.current != Some(generation);
        if !peer.up {
            peer.used_us = now_us;
        }
        peer.current = Some(generation);
        peer.pace.begin(now_us);
        peer.up = true;
        peer.wanted = true;
        peer.epoch = session.epoch;
        peer.initiate_at_us = None;
        peer.attempts = 0;
        peer.rekey_at_us = created_us.saturating_add(age_us);
        peer.heard_us = Some(now_us);
        peer.echoed_us = now_us;
        peer.published_len = session.datagram_len_max;
        if first {
            peer.counters.sessions += 1;
            tracing::info!(peer = %peer.name, epoch = session.epoch, "session is up");
        }
        self.outputs.push_back(Output::SessionUp(session));
        self.publish_mtu(id);
        self.send_hellos(now_us, id);
        self.reschedule(id);
    }

    /// Tells the workers the longest datagram if they do not know it yet.
    fn publish_mtu(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        let datagram_len_max = peer.mtu.current();
        if peer.published_len != datagram_len_max {
            peer.published_len = datagram_len_max;
            self.outputs.push_back(Output::MtuChanged { peer: id, datagram_len_max });
        }
    }

    fn count(&mut self, error: HandshakeError) {
        match error {
            HandshakeError::Malformed => self.counters.malformed += 1,
            HandshakeError::Mac => self.counters.bad_mac += 1,
            HandshakeError::Crypto => self.counters.unreadable += 1,
            HandshakeError::Local => self.counters.no_random += 1,
        }
    }
}

impl<R> fmt::Debug for Manager<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("peers", &self.peers.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
