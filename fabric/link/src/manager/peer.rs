//! What the manager knows about one peer. Decisions that need no one else are here.

use super::REKEY_PAUSE_US;
use super::config::{Config, PathMtu, PeerConfig, Timing, headers_len};
use super::counters::PeerCounters;
use super::gray::Gray;
use super::live::Live;
use super::message::Meter;
use super::mtu::MtuSearch;
use super::pace::Pace;
use super::{PeerState, PeerStatus};
use crate::handshake::{Initiator, MacKey};
use std::net::SocketAddr;
use std::sync::Arc;

/// Sessions per peer: the current one, the one before, one that waits to be
/// confirmed, and one more for crossings.
pub(super) const SESSIONS_MAX: usize = 4;

/// A session that nobody confirmed is forgotten after so many of the longest retries.
const PENDING_RETRIES: u64 = 5;

/// No session lives longer than this many rekey intervals, whatever happens.
const LIFETIME_REKEYS: u64 = 3;

pub(super) struct Peer {
    pub(super) name: Arc<str>,
    pub(super) address: SocketAddr,
    pub(super) key: crate::key::PublicKey,
    pub(super) mac: MacKey,
    /// Somebody wants to talk to it, or it talked to us.
    pub(super) wanted: bool,
    /// It was removed, and is only remembered.
    pub(super) gone: bool,
    /// Published as usable, and not as down since.
    pub(super) up: bool,
    /// Our initiation that waits for its response.
    pub(super) handshake: Option<Initiator>,
    /// When to send the next initiation. `None`: no handshake is due.
    pub(super) initiate_at_us: Option<u64>,
    pub(super) attempts: u32,
    /// The peer's highest initiation timestamp: older ones are replays.
    pub(super) timestamp_us: u64,
    pub(super) epoch: u8,
    pub(super) sessions: Vec<Live>,
    /// Generation of the session that we send on.
    pub(super) current: Option<u64>,
    /// When the current session is to be replaced.
    pub(super) rekey_at_us: u64,
    pub(super) hello_at_us: u64,
    pub(super) pace: Pace,
    /// Somebody has to know soon when it is gone.
    pub(super) urgent: bool,
    /// When a frame went or came last, or somebody wanted the peer.
    pub(super) used_us: u64,
    /// When any hello of the peer was heard.
    pub(super) heard_us: Option<u64>,
    /// When the peer last proved that it heard a new hello of ours.
    pub(super) echoed_us: u64,
    pub(super) rtt_us: Option<u64>,
    pub(super) mtu: MtuSearch,
    pub(super) gray: Gray,
    /// The length that the workers were told last.
    pub(super) published_len: usize,
    /// Messages that it may still send us.
    pub(super) messages: Meter,
    pub(super) counters: PeerCounters,
    /// When a refusal was logged last.
    pub(super) logged_us: Option<u64>,
    /// The entry in the manager's timer queue.
    pub(super) due_us: Option<u64>,
}

impl Peer {
    pub(super) fn new(config: &Config, peer: PeerConfig) -> Self {
        let mtu = mtu_search(config, peer.address);
        Self {
            name: peer.name.into(),
            address: peer.address,
            key: peer.key,
            mac: MacKey::to(&peer.key),
            wanted: false,
            gone: false,
            up: false,
            handshake: None,
            initiate_at_us: None,
            attempts: 0,
            timestamp_us: 0,
            epoch: 0,
            sessions: Vec::new(),
            current: None,
            rekey_at_us: u64::MAX,
            hello_at_us: 0,
            pace: Pace::new(&config.timing),
            urgent: false,
            used_us: 0,
            heard_us: None,
            echoed_us: 0,
            rtt_us: None,
            published_len: mtu.current(),
            mtu,
            gray: Gray::default(),
            messages: Meter::default(),
            counters: PeerCounters::default(),
            logged_us: None,
            due_us: None,
        }
    }

    pub(super) fn by_generation(&mut self, generation: u64) -> Option<&mut Live> {
        self.sessions.iter_mut().find(|live| live.session.generation == generation)
    }

    pub(super) fn current(&mut self) -> Option<&mut Live> {
        let generation = self.current?;
        self.by_generation(generation)
    }

    /// Begins a handshake unless one is under way. After answering the peer's call,
    /// it gets a while to confirm: two calls that both succeed would leave each end
    /// sending on its own, and neither would hear its hellos echoed.
    pub(super) fn initiate(&mut self, at_us: u64, timing: &Timing) {
        if self.initiate_at_us.is_none() {
            let pending = self.sessions.iter().filter(|live| live.pending);
            let answered_us = pending.map(|live| live.created_us).max();
            let patience_us = answered_us.map(|at_us| at_us.saturating_add(timing.retry_max_us));
            self.initiate_at_us = Some(patience_us.map_or(at_us, |us| us.max(at_us)));
            self.attempts = 0;
        }
    }

    /// Takes note of what the workers say by way of the sessions. Called with every hello.
    pub(super) fn hear_workers(&mut self, now_us: u64) {
        for live in &self.sessions {
            if live.session.take_used() {
                self.used_us = now_us;
            }
        }
        if let Some(live) = self.current()
            && live.session.rekey_asked()
        {
            let at_us = live.created_us.saturating_add(REKEY_PAUSE_US);
            self.rekey_at_us = self.rekey_at_us.min(at_us);
        }
    }

    /// Makes hellos seldom when no frame went for a while, and frequent when one did.
    pub(super) fn settle_pace(&mut self, now_us: u64) {
        let quiet = self.pace.may_rest(now_us, self.used_us)
            && self.current().is_some_and(|live| live.session.watch());
        if quiet {
            self.pace.rest();
        } else if self.pace.wake(now_us) {
            self.hello_at_us = now_us;
        }
    }

    /// An epoch that none of our sessions with the peer has, `wanted` if possible.
    pub(super) fn free_epoch(&self, wanted: u8) -> u8 {
        let taken = |epoch| self.sessions.iter().any(|live| live.session.epoch == epoch);
        let free = (0..=u8::MAX).map(|step| wanted.wrapping_add(step)).find(|&e| !taken(e));
        free.unwrap_or(wanted)
    }

    /// The moment from which the peer counts as down unless it is heard.
    pub(super) fn down_at_us(&self) -> Option<u64> {
        let alive_us = self.heard_us.unwrap_or(0).min(self.echoed_us);
        self.up.then(|| self.pace.down_at_us(alive_us))
    }

    /// When `live` is to be retired.
    fn retire_at_us(&self, live: &Live, timing: &Timing) -> u64 {
        let lifetime_us = timing.rekey_after_us.saturating_mul(LIFETIME_REKEYS);
        let dead_us = live.created_us.saturating_add(lifetime_us);
        if self.current == Some(live.session.generation) {
            dead_us
        } else if live.pending {
            live.created_us.saturating_add(timing.retry_max_us.saturating_mul(PENDING_RETRIES))
        } else {
            live.heard_us.saturating_add(timing.retire_after_us).min(dead_us)
        }
    }

    /// A session whose time is over.
    pub(super) fn expired(&self, now_us: u64, timing: &Timing) -> Option<u64> {
        let over = |live: &&Live| self.retire_at_us(live, timing) <= now_us;
        self.sessions.iter().find(over).map(|live| live.session.generation)
    }

    /// Whether nobody has needed the peer for long.
    pub(super) fn is_idle(&self, now_us: u64, timing: &Timing) -> bool {
        // A peer that wants frequent hellos has a need of its own.
        let unused = now_us.saturating_sub(self.used_us) >= timing.idle_after_us;
        self.up && !self.urgent && unused && self.pace.peer_rests()
    }

    /// Forgets what belonged to the session that is being given up. Its path is looked for
    /// anew with the next one.
    pub(super) fn rest(&mut self) {
        self.wanted = false;
        self.up = false;
        self.current = None;
        self.rekey_at_us = u64::MAX;
        self.initiate_at_us = None;
        self.attempts = 0;
        self.rtt_us = None;
        self.mtu.reset();
    }

    /// The session to give up when there are too many: the oldest that we do not send on.
    pub(super) fn surplus(&self) -> Option<u64> {
        if self.sessions.len() < SESSIONS_MAX {
            return None;
        }
        let generations = self.sessions.iter().map(|live| live.session.generation);
        generations.filter(|&generation| Some(generation) != self.current).min()
    }

    /// When something is next to be done.
    pub(super) fn next_due_us(&self, timing: &Timing) -> Option<u64> {
        let hello = self.current.map(|_| self.hello_at_us);
        let rekey = self.current.filter(|_| self.initiate_at_us.is_none());
        let retire = self.sessions.iter().map(|live| self.retire_at_us(live, timing)).min();
        [self.initiate_at_us, hello, rekey.map(|_| self.rekey_at_us), self.down_at_us(), retire]
            .into_iter()
            .flatten()
            .min()
    }

    /// For people.
    pub(super) fn status(&self, now_us: u64) -> PeerStatus {
        let state = match (self.up, self.counters.downs > 0 && self.counters.sessions > 0) {
            _ if self.gone => PeerState::Gone,
            (true, _) => PeerState::Up,
            (false, _) if !self.wanted => PeerState::Idle,
            (false, true) => PeerState::Down,
            (false, false) => PeerState::Connecting,
        };
        let current =
            self.sessions.iter().find(|live| Some(live.session.generation) == self.current);
        PeerStatus {
            name: self.name.to_string(),
            address: self.address,
            state,
            epoch: current.map(|live| live.session.epoch),
            rtt_us: self.rtt_us,
            heard_ago_us: self.heard_us.map(|at_us| now_us.saturating_sub(at_us)),
            datagram_len_max: self.published_len,
            trouble: self.gray.shown(),
            counters: self.counters,
        }
    }
}

fn mtu_search(config: &Config, address: SocketAddr) -> MtuSearch {
    let headers_len = headers_len(address);
    let payload = |packet_len: usize| {
        u16::try_from(packet_len.saturating_sub(headers_len)).unwrap_or(u16::MAX)
    };
    let (floor, sizes) = match &config.path_mtu {
        PathMtu::Fixed(packet_len) => (payload(*packet_len), Vec::new()),
        PathMtu::Probe(packet_lens) => {
            (payload(1_280), packet_lens.iter().map(|&len| payload(len)).collect())
        }
    };
    let timing = &config.timing;
    MtuSearch::new(floor, sizes, timing.probe_every_us)
}
