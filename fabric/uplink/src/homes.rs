//! Attachments at this gateway: the machine, and what it says to workers and servers.
//!
//! ```text
//!   agent thread ── echoes, claims, its clock ──▶ wireonce_home::Gateway ──▶ cells, fences ──▶ workers
//!   health ─────── changes ─────────────────────▶        │
//!   main ───────── tables ──────────────────────▶        ├──▶ answers, states ──▶ servers
//!                                                        ├──▶ announcements ───▶ worker 0
//!                                                        └──▶ who is here ──────▶ those who divide bandwidth
//! ```
//! The machine runs on the agent's thread, after the socket was read. What it takes away it takes away
//! before the fence is raised, on one thread.

use crate::{
    attached::{Attached, Cell, Fence},
    bond::Part,
    down::Desks,
    health::{Health, HealthState},
    presence::{Move, Presence},
    shares::Shares,
    worker::{Command, Worker},
};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tracing::info;
use wireonce_config::{Config, VnicPlace};
use wireonce_directory::PeerNumbers;
use wireonce_home::{
    ATTACHMENT_CHANNEL, Claims, Gateway, GatewayOutput, State, StateReport, Tabled,
    UPLINK_STATE_CHANNEL, Word,
};
use wireonce_host::{SessionListener, workers::Mailbox};
use wireonce_link::{AgentHandle, PeerId, SessionEvent};
use wireonce_wire::{UplinkId, VnicId};

/// What begins now, a lease for example, may end before the next look at the clock, if that is further
/// away than this.
const LOOK_US: u64 = 5_000;

/// The attachments of this gateway. All clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Homes {
    shared: Arc<Shared>,
    health: Health,
    bandwidth: Bandwidth,
}

/// Those whose terms follow who is attached.
#[derive(Debug, Clone)]
pub(crate) struct Bandwidth {
    pub(crate) presence: Presence,
    pub(crate) shares: Shares,
    pub(crate) desks: Desks,
}

impl Bandwidth {
    /// Only a part of what an uplink carries is there, or another one, or all of it again.
    pub(crate) fn part_changed(&self, uplink: UplinkId, part: Part) {
        self.presence.set_part(uplink, part);
        self.shares.part_changed(uplink, part);
        self.desks.part_changed(uplink, part);
    }

    fn moved(&self, moves: &[Move], now_us: u64) {
        if !moves.is_empty() {
            self.presence.note(moves);
            self.shares.moved(moves, now_us);
            self.desks.moved(moves);
        }
    }
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    agent: OnceLock<AgentHandle>,
    announcer: OnceLock<Mailbox<Worker>>,
    clock: Instant,
}

/// What is changed together.
#[derive(Debug)]
struct Book {
    gateway: Gateway,
    attached: Arc<Attached>,
    fences: HashMap<usize, Arc<Fence>>,
    uplinks: Vec<UplinkId>,
    /// The next look at the clock.
    look_us: u64,
}

/// Hears of sessions on the agent's thread, and hands on what is not for homes.
#[derive(Debug)]
pub(crate) struct Ears<L> {
    homes: Homes,
    others: L,
}

impl Homes {
    /// Nothing is attached yet.
    pub(crate) fn new(health: &Health, bandwidth: Bandwidth, clock: Instant) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_us = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        let book = Book {
            gateway: Gateway::new(wall_us),
            attached: Arc::default(),
            fences: HashMap::new(),
            uplinks: Vec::new(),
            look_us: 0,
        };
        let shared = Shared {
            book: Mutex::new(book),
            agent: OnceLock::new(),
            announcer: OnceLock::new(),
            clock,
        };
        let homes = Self { shared: Arc::new(shared), health: health.clone(), bandwidth };
        let told = homes.clone();
        health.listen(move |_| told.tell_health());
        homes
    }

    /// Another configuration. Workers are to use what this returns with their next tables; it holds
    /// already.
    pub(crate) fn change(&self, config: &Config, numbers: &PeerNumbers) -> Arc<Attached> {
        let now_us = self.now_us();
        let mut book = self.lock();
        book.uplinks = config.local_uplinks().map(|(uplink, _)| uplink.id).collect();
        let tables = tables(config, numbers);
        let mut cells = FxHashMap::default();
        for (id, tabled) in &tables {
            let fence = Arc::clone(book.fences.entry(tabled.peer).or_default());
            for uplink in &tabled.uplinks {
                let kept = book.attached.cell(*id, *uplink).map(Arc::clone);
                // Another server's has another fence.
                let kept = kept.filter(|cell| cell.is_behind(&fence));
                let cell = kept.unwrap_or_else(|| Arc::new(Cell::new(Arc::clone(&fence))));
                cells.insert((*id, *uplink), cell);
            }
        }
        book.attached = Arc::new(Attached::new(cells));
        book.gateway.tables(now_us, tables);
        let states = self.states(&book.uplinks);
        book.gateway.states(now_us, states);
        self.drain(&mut book);
        self.look_soon(&mut book, now_us);
        Arc::clone(&book.attached)
    }

    /// Answers are sent by `agent` from now on.
    pub(crate) fn set_agent(&self, agent: AgentHandle) {
        // Set once: there is one agent.
        let _ = self.shared.agent.set(agent);
    }

    /// Whoever announces vNICs outside.
    pub(crate) fn set_announcer(&self, announcer: Mailbox<Worker>) {
        let _ = self.shared.announcer.set(announcer);
    }

    /// For whoever hears of sessions; `others` hears the rest.
    pub(crate) fn ears<L>(&self, others: L) -> Ears<L> {
        Ears { homes: self.clone(), others }
    }

    /// How many vNICs are attached to an uplink.
    pub(crate) fn attached(&self, uplink: UplinkId) -> usize {
        self.lock().gateway.attached(uplink).0
    }

    /// How many vNICs are attached that can go elsewhere.
    pub(crate) fn movable(&self) -> usize {
        let book = self.lock();
        book.uplinks.iter().map(|uplink| book.gateway.attached(*uplink).1).sum()
    }

    fn tell_health(&self) {
        let now_us = self.now_us();
        let mut book = self.lock();
        let states = self.states(&book.uplinks);
        book.gateway.states(now_us, states);
        self.drain(&mut book);
    }

    fn states(&self, uplinks: &[UplinkId]) -> Vec<StateReport> {
        let state = |uplink: &UplinkId| StateReport {
            uplink: *uplink,
            state: match self.health.state(*uplink) {
                HealthState::Alive => State::Alive,
                HealthState::Draining => State::Draining,
                HealthState::Sick => State::Sick,
                HealthState::Gone => State::Gone,
            },
        };
        uplinks.iter().map(state).collect()
    }

    /// Does what the machine says, in its order.
    fn drain(&self, book: &mut Book) {
        let send = |peer: usize, channel, bytes| {
            if let Some(agent) = self.shared.agent.get() {
                agent.send(PeerId(peer), channel, bytes);
            }
        };
        let mut attached: BTreeMap<UplinkId, (VnicId, u64)> = BTreeMap::new();
        let mut moves = Vec::new();
        while let Some(output) = book.gateway.poll_output() {
            match output {
                GatewayOutput::Show(vnic, uplink, word) => {
                    if let Some(cell) = book.attached.cell(vnic, uplink) {
                        cell.show(word);
                    }
                    moves.push(Move { vnic, uplink, here: word != Word::default() });
                }
                GatewayOutput::Fence(peer, until_us) => {
                    book.fences.entry(peer).or_default().set(until_us);
                }
                GatewayOutput::Answer(peer, answers) => {
                    // Before the server hears that it may send here, its meters know of it.
                    self.bandwidth.moved(&std::mem::take(&mut moves), self.now_us());
                    send(peer, ATTACHMENT_CHANNEL, answers.emit());
                }
                GatewayOutput::Tell(peer, states) => {
                    send(peer, UPLINK_STATE_CHANNEL, states.emit());
                }
                GatewayOutput::Announce(vnic, uplink) => {
                    attached.entry(uplink).or_insert((vnic, 0)).1 += 1;
                    if let Some(announcer) = self.shared.announcer.get() {
                        announcer.post(Command::Announce(uplink, vnic));
                    }
                }
            }
        }
        self.bandwidth.moved(&moves, self.now_us());
        // One line for all that come together: theirs would cost more than what is done for them.
        for (uplink, (first, vnics)) in attached {
            match vnics {
                1 => info!(vnic = %first, uplink = uplink.0, "vNIC is attached"),
                _ => info!(vnics, %first, uplink = uplink.0, "vNICs are attached"),
            }
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.shared.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has begun.
    fn look_soon(&self, book: &mut Book, now_us: u64) {
        if book.look_us > now_us.saturating_add(LOOK_US)
            && let Some(agent) = self.shared.agent.get()
        {
            book.look_us = now_us;
            agent.look();
        }
    }

    /// Something came that begins something.
    fn heard(&self, change: impl FnOnce(&mut Gateway, u64)) {
        let now_us = self.now_us();
        let mut book = self.lock();
        change(&mut book.gateway, now_us);
        self.drain(&mut book);
        self.look_soon(&mut book, now_us);
    }

    /// Something came, or it is time.
    fn with(&self, change: impl FnOnce(&mut Gateway, u64)) {
        let now_us = self.now_us();
        let mut book = self.lock();
        change(&mut book.gateway, now_us);
        self.drain(&mut book);
    }
}

impl<L: SessionListener> SessionListener for Ears<L> {
    fn session(&self, event: SessionEvent) {
        if let SessionEvent::Up(session) = &event {
            let peer = session.peer.0;
            self.homes.heard(|gateway, now_us| gateway.session(now_us, peer));
        }
        self.others.session(event);
    }

    fn message(&self, peer: PeerId, channel: u8, payload: &[u8]) {
        if channel != ATTACHMENT_CHANNEL {
            return self.others.message(peer, channel, payload);
        }
        if let Some(claims) = Claims::parse(payload) {
            self.homes.heard(|gateway, now_us| gateway.claims(now_us, peer.0, &claims));
        }
    }

    fn hello(&self, peer: PeerId, now_us: u64, echoed_us: Option<u64>) {
        if let Some(sent_us) = echoed_us {
            self.homes.with(|gateway, _| gateway.echo(now_us, peer.0, sent_us));
        }
        self.others.hello(peer, now_us, echoed_us);
    }

    fn tick(&self, now_us: u64) -> Option<u64> {
        let mut book = self.homes.lock();
        let next_us = book.gateway.tick(now_us).max(now_us + 1);
        book.look_us = next_us;
        self.homes.drain(&mut book);
        drop(book);
        self.others.tick(now_us).into_iter().chain([next_us]).min()
    }
}

/// What the tables say of the vNICs that may be attached here.
fn tables(config: &Config, numbers: &PeerNumbers) -> BTreeMap<VnicId, Tabled> {
    let mut tables = BTreeMap::new();
    for vnic in &config.vnics {
        let (VnicPlace::Peer(peer), Some(outside)) = (&vnic.place, &vnic.network.outside) else {
            continue;
        };
        let Some(peer) = numbers.get(peer) else { continue };
        let here = config.local_uplinks().filter(|(uplink, _)| uplink.pool == outside.pool);
        let uplinks: Vec<UplinkId> = here.map(|(uplink, _)| uplink.id).collect();
        let home = vnic.home.as_ref().map(|home| home.id).filter(|id| uplinks.contains(id));
        let leased = !vnic.standbys.is_empty();
        tables.insert(vnic.id, Tabled { peer: peer.0, uplinks, home, leased });
    }
    tables
}
