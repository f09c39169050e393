//! The worker's half of the fabric: its sockets, its links, its trains.
//!
//! ```text
//!  send(peer, block, frame) ─▶ path by flow hash ─▶ open train ─▶ seal ─▶ socket p
//!  flush()                  ─▶ the rest of every open train
//!
//!  handle(completion) ─▶ datagrams of one buffer ─▶ path by index ─▶ open ─▶ blocks ─▶ sink
//!  tick()             ─▶ holes that are too old, reports, probes
//! ```
//!
//! A worker has one socket per path number. Path *p* of worker *w* sends from the
//! UDP port `port + 1 + 8 * w + p` to the same kind of port at the peer, so
//! that routers and bonds which hash ports spread the paths. Frames of one flow
//! stay on one path, in order. ECN-capable frames have paths of their own, because
//! a train carries one outer ECN field (RFC 6040).

mod paths;
mod peers;
mod receive;
mod room;
mod rx;
mod status;
#[cfg(test)]
mod tests;
mod tx;
mod unproved;
mod wake;

use crate::{
    AgentHandle, KeyLimits, PeerId, Session,
    evidence::Fate,
    manager::Trouble,
    socket::{FabricSocket, RECEIVE_LAYOUT, RECEIVE_PAYLOAD_LEN},
};
use peers::{PeerLinks, tx_slot};
use receive::{News, Receiver, Report};
use room::{Full, Rooms};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::RawFd,
    sync::Arc,
};
use wake::{Asleep, Waits};
use wireonce_frame::{FrameRef, FrameSource, Offload, ecn::Ecn};
use wireonce_ledger::{Amount, DropReason};
use wireonce_ring::{BufferGroup, Completion, Ring, RingError, Token};
use wireonce_wire::{BlockHeader, Endpoint, TrainPool};

pub use status::{FabricSnapshot, LinkCounters, LinkSnapshot, SocketCounters};

/// Path numbers with this bit carry ECN-capable frames.
pub(crate) const ECT_PATH_BIT: u8 = 8;

/// Path numbers of one link: 8 paths in two ECN classes.
pub(crate) const PATH_NUMBERS: usize = 16;

/// Trains that the worker keeps for reuse.
const SPARE_TRAINS: usize = 64;

/// Shortest time between two looks at the paths' timers.
const TICK_US: u64 = 500;

/// Where a worker stands on the fabric.
#[derive(Debug, Clone)]
pub struct FabricConfig {
    /// This host's address.
    pub address: IpAddr,
    /// The host's first UDP port; the control socket has it.
    pub port: u16,
    /// Number of this worker.
    pub worker: u8,
    /// Paths of this host, 1 to 8.
    pub paths: u8,
    /// Receive buffers of 64 KB, a power of two.
    pub receive_buffers: u16,
    /// First of the two token kinds that belong to the fabric.
    pub token_kind: u8,
    /// What one key may seal.
    pub key_limits: KeyLimits,
    /// The peers at the start, in the order of their [`PeerId`].
    pub peers: Vec<PeerAddress>,
}

/// Where a peer stands on the fabric.
#[derive(Debug, Clone)]
pub struct PeerAddress {
    /// Its name, for people.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its first UDP port.
    pub port: u16,
}

/// A worker's fabric half could not start.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// A port is taken or the address is not ours.
    #[error(
        "cannot bind UDP {address}: {source}; the address must be one of this host's and the \
         ports from `port` + 1 on must be free, eight for each worker"
    )]
    Bind {
        /// What was to be bound.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// More workers and paths than there are ports.
    #[error("port {port} leaves no room for worker {worker}, which needs eight; use a lower port")]
    Port {
        /// The host's first port.
        port: u16,
        /// The worker.
        worker: u8,
    },
    /// The ring refused.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// What happened to a session, from the agent's thread to the workers.
#[derive(Debug, Clone)]
pub enum SessionEvent {
    /// Accept datagrams of this session from now on.
    Open(Arc<Session>),
    /// Send with this session from now on.
    Up(Arc<Session>),
    /// Accept and expect nothing of this session any more.
    Retired {
        /// The peer that it was with.
        peer: PeerId,
        /// Which of the sessions.
        generation: u64,
    },
    /// The peer is silent: stop sending.
    Down(PeerId),
    /// Nobody needed the peer for long: its sessions are about to be retired, and the
    /// next frame for it has to call it.
    Idle(PeerId, AgentHandle),
    /// The path to the peer takes datagrams of this length.
    Mtu(PeerId, usize),
    /// Something is wrong with the link, though it is up, or is not any more.
    Trouble(PeerId, Trouble),
    /// There is one more peer, before anything else is said of it.
    Added(PeerId, PeerAddress),
    /// The peer was removed; nothing more is said of it.
    Gone(PeerId),
}

/// A frame to send, beside its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Outbound {
    /// The port that it comes from.
    pub source: Endpoint,
    /// Where at the peer it goes.
    pub destination: Endpoint,
    /// Work left to the last hop.
    pub offload: Offload,
    /// Frames of one flow have one hash, and stay in order.
    pub flow_hash: u32,
    /// ECN field of the frame's IP header.
    pub ecn: Ecn,
    /// The account that it is booked on: a vNIC's id, or another number of the caller's.
    pub account: u64,
    /// What is booked.
    pub amount: Amount,
}

/// A frame that a peer sent us.
#[derive(Debug)]
pub struct Inbound<'a> {
    /// The authenticated sender.
    pub peer: PeerId,
    /// What the sender says of the frame: whether the peer owns its source is for the
    /// caller to check. Lent, because a copy for each frame would cost more than all looks
    /// at it.
    pub header: &'a BlockHeader,
    /// The frame.
    pub frame: FrameRef<'a>,
    /// Why the frame must go no further. It is passed on because only the caller can book
    /// it: on its source's account, if the peer owns that.
    pub refused: Option<DropReason>,
}

impl Inbound<'_> {
    /// The port that the frame comes from, says the peer.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Endpoint {
        self.header.source
    }

    /// Where it is to go.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> Endpoint {
        self.header.destination
    }

    /// Whether the frame may go on.
    ///
    /// # Errors
    /// [`Self::refused`].
    pub fn passable(&self) -> Result<(), DropReason> {
        self.refused.map_or(Ok(()), Err)
    }
}

/// What became of frames that were sent earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// As given in [`Outbound`].
    pub account: u64,
    /// As given in [`Outbound`], summed over frames with one fate.
    pub amount: Amount,
    /// The receiver's word, or that there is none.
    pub fate: Fate,
}

/// One worker's sockets, links and trains.
#[derive(Debug)]
pub struct Fabric {
    config: FabricConfig,
    sockets: Vec<FabricSocket>,
    group: BufferGroup,
    pool: TrainPool,
    peers: Vec<PeerLinks>,
    receiver: Receiver,
    /// Paths with an open train or waiting ones: (peer, slot).
    dirty: Vec<(usize, usize)>,
    rooms: Rooms,
    waits: Waits,
    outcomes: Vec<Outcome>,
    reports: Vec<Report>,
    news: Vec<News>,
    /// Which path has the next report that was asked for.
    turn: u8,
    next_tick_us: u64,
    /// A tick ran since the last flush.
    timers_due: bool,
}

impl Fabric {
    /// Binds the worker's sockets and arms them in `ring`.
    ///
    /// # Errors
    /// [`FabricError`]: a port is taken, or the ring refuses.
    pub fn new(ring: &mut Ring, config: &FabricConfig) -> Result<Self, FabricError> {
        let mut sockets = Vec::new();
        for path in 0..config.paths {
            let port = data_port(config.port, config.worker, path)
                .ok_or(FabricError::Port { port: config.port, worker: config.worker })?;
            let address = SocketAddr::new(config.address, port);
            let socket = FabricSocket::bind(address)
                .map_err(|source| FabricError::Bind { address, source })?;
            sockets.push(socket);
        }
        let buffer_len = RECEIVE_LAYOUT.payload_offset() + RECEIVE_PAYLOAD_LEN;
        let group = ring.add_buffer_group(config.receive_buffers, buffer_len)?;
        for (index, socket) in (0..).zip(&sockets) {
            let token = Token::new(config.token_kind, index);
            ring.recv_msg_multi(socket.fd(), &group, RECEIVE_LAYOUT, token)?;
        }
        Ok(Self {
            peers: config.peers.iter().map(PeerLinks::new).collect(),
            config: config.clone(),
            rooms: Rooms::new(sockets.len()),
            waits: Waits::default(),
            sockets,
            group,
            pool: TrainPool::new(SPARE_TRAINS),
            receiver: Receiver::new(config),
            dirty: Vec::new(),
            outcomes: Vec::new(),
            reports: Vec::new(),
            news: Vec::new(),
            turn: 0,
            next_tick_us: 0,
            timers_due: false,
        })
    }

    /// True for completions that [`Self::handle`] wants.
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        token.kind == self.config.token_kind || token.kind == self.writable_kind()
    }

    /// Deals with a completion of one of the worker's sockets; every frame that came
    /// with it goes to `sink`.
    ///
    /// # Errors
    /// [`RingError`] if the ring takes no more operations.
    pub fn handle(
        &mut self,
        ring: &mut Ring,
        completion: &Completion,
        now_us: u64,
        sink: &mut impl FnMut(Inbound<'_>),
    ) -> Result<(), RingError> {
        let index = completion.token.index as usize;
        if completion.token.kind == self.writable_kind() {
            self.rooms.writable(index);
            return Ok(());
        }
        if let Some(buffer) = completion.buffer {
            self.group.take(buffer);
            // An error has a buffer with nothing in it.
            let len = usize::try_from(completion.result).unwrap_or(0);
            self.receiver.receive(&mut self.group, (buffer, len), now_us, sink);
            self.receiver.free().for_each(|buffer| self.group.recycle(buffer));
            self.read_news(now_us);
        }
        if !completion.more
            && let Some(socket) = self.sockets.get(index)
        {
            ring.recv_msg_multi(socket.fd(), &self.group, RECEIVE_LAYOUT, completion.token)?;
        }
        Ok(())
    }

    /// Appends `frame` to the train of its path. Trains that it fills go out at once,
    /// the rest with [`Self::flush`].
    ///
    /// # Errors
    /// [`DropReason::NoSession`] if the peer is not connected,
    /// [`DropReason::FabricBusy`] if the path's socket is full, or its key used up, or a
    /// peer that nobody needed for long is being called: the
    /// frame was not touched and may be offered again when [`Self::is_full`] has changed.
    pub fn send<S: FrameSource + ?Sized>(
        &mut self,
        to: PeerId,
        block: &Outbound,
        frame: &mut S,
        now_us: u64,
    ) -> Result<(), DropReason> {
        let peer = self.peers.get_mut(to.0).ok_or(DropReason::NoSession)?;
        let Some(sending) = &mut peer.sending else {
            return Err(self.waits.call(to, &mut peer.asleep, now_us));
        };
        sending.session.mark_used();
        let slot = sending.slot_for(block);
        let path = sending.path(slot, &self.config).ok_or(DropReason::NoSession)?;
        if !path.has_room() {
            if path.is_used_up() {
                self.waits.for_key(to);
            }
            return Err(DropReason::FabricBusy);
        }
        if !path.has_work() {
            self.dirty.push((to.0, slot));
        }
        if let Some((account, amount)) = path.put(block, frame, &mut self.pool, now_us) {
            self.outcomes.push(Outcome { account, amount, fate: Fate::Unknown });
        }
        if let Some(socket) = self.sockets.get(path.socket)
            && self.rooms.is_free(path.socket)
            && let Err(full @ Full::Memory) = path.send_waiting(socket, &mut self.pool)
        {
            // A full socket is polled in `flush`, which tries once more.
            let _ = self.rooms.refused(path.socket, full, now_us);
        }
        Ok(())
    }

    /// Sends reports and probes that are due, and the open train of every path.
    ///
    /// # Errors
    /// [`RingError`] if the ring takes no more operations.
    pub fn flush(&mut self, ring: &mut Ring, now_us: u64) -> Result<(), RingError> {
        if std::mem::take(&mut self.timers_due) {
            self.send_reports(now_us);
            self.send_probes(now_us);
        }
        self.rooms.pass_time(now_us);
        self.waits.pass_time(now_us);
        let mut still_dirty = 0;
        for at in 0..self.dirty.len() {
            let (peer, slot) = self.dirty[at];
            let Some(path) = self.peers.get_mut(peer).and_then(|peer| peer.path_mut(slot)) else {
                continue;
            };
            let Some(socket) = self.sockets.get(path.socket) else { continue };
            if self.rooms.is_free(path.socket) {
                let Err(full) = path.flush(socket, &mut self.pool) else { continue };
                if self.rooms.refused(path.socket, full, now_us) {
                    let index = u32::try_from(path.socket).unwrap_or(u32::MAX);
                    let token = Token::new(self.config.token_kind + 1, index);
                    ring.poll_writable(socket.fd(), token)?;
                }
            }
            self.dirty[still_dirty] = (peer, slot);
            still_dirty += 1;
        }
        self.dirty.truncate(still_dirty);
        Ok(())
    }

    /// Runs the paths' timers, if it is time: frames behind a hole that is given up go
    /// to `sink`. Reports and probes follow with the next [`Self::flush`].
    pub fn tick(&mut self, now_us: u64, sink: &mut impl FnMut(Inbound<'_>)) {
        let is_time = now_us >= self.next_tick_us;
        if is_time {
            self.next_tick_us = now_us + TICK_US;
            self.timers_due = true;
        }
        // Frames wait behind a hole, so that this timer is exact.
        if is_time || self.receiver.next_hole_us().is_some_and(|at| at <= now_us) {
            self.receiver.tick(now_us, sink);
            self.read_news(now_us);
        }
    }

    /// When [`Self::tick`] and [`Self::flush`] have to be called again; `None` if
    /// nothing is under way.
    #[must_use]
    pub fn next_deadline_us(&self) -> Option<u64> {
        let sending = self.peers.iter().filter_map(PeerLinks::next_deadline_us);
        self.receiver
            .next_report_us()
            .into_iter()
            .chain(sending)
            .chain(self.rooms.next_deadline_us())
            .chain(self.waits.next_deadline_us())
            .min()
            .map(|at| at.max(self.next_tick_us))
            .into_iter()
            .chain(self.receiver.next_hole_us())
            .min()
    }

    /// What became of frames that were sent earlier, since the last call.
    pub fn outcomes(&mut self) -> impl Iterator<Item = Outcome> + '_ {
        self.outcomes.drain(..)
    }

    /// True if frames for the peer have a session to go with.
    #[must_use]
    pub fn is_up(&self, peer: PeerId) -> bool {
        self.peers.get(peer.0).is_some_and(|peer| peer.sending.is_some())
    }

    /// True while a socket has no room, the host no memory, or frames wait for a session. A
    /// completion ends that, or time ([`Self::next_deadline_us`]), or a session event.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rooms.any_full() || !self.waits.is_empty()
    }

    /// Takes over what the agent says about a session.
    pub fn apply(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Open(session) => {
                self.receiver.open_session(session);
            }
            SessionEvent::Up(session) => {
                self.waits.end(session.peer);
                self.use_session(session);
            }
            SessionEvent::Retired { peer, generation } => {
                self.waits.end(peer);
                self.retire(peer, generation);
            }
            SessionEvent::Down(peer) => {
                self.waits.end(peer);
                self.down(peer);
            }
            SessionEvent::Idle(peer, agent) => {
                if let Some(peer) = self.peers.get_mut(peer.0) {
                    peer.asleep = Some(Asleep::new(agent));
                }
            }
            // Workers found what concerns them by themselves.
            SessionEvent::Trouble(..) => {}
            SessionEvent::Added(id, address) => self.add_peer(id, &address),
            SessionEvent::Gone(id) => {
                self.waits.end(id);
                self.forget_peer(id);
            }
            SessionEvent::Mtu(peer, datagram_len) => {
                if let Some(peer) = self.peers.get_mut(peer.0) {
                    peer.set_datagram_len(datagram_len);
                }
            }
        }
    }

    /// The descriptors of the worker's sockets, in path order.
    #[must_use]
    pub fn socket_fds(&self) -> Vec<RawFd> {
        self.sockets.iter().map(FabricSocket::fd).collect()
    }

    fn writable_kind(&self) -> u8 {
        self.config.token_kind + 1
    }

    fn read_news(&mut self, now_us: u64) {
        let mut news = std::mem::take(&mut self.news);
        self.receiver.read_link_messages(&mut news);
        for item in news.drain(..) {
            self.book_evidence(&item, now_us);
        }
        self.news = news;
    }

    fn send_reports(&mut self, now_us: u64) {
        let mut reports = std::mem::take(&mut self.reports);
        self.receiver.reports(now_us, &mut reports);
        for report in reports.drain(..) {
            self.send_link(report.peer, report.worker, 0, &report.message);
            if report.asked {
                // Whoever has to ask may not hear the first path.
                self.turn = self.turn.wrapping_add(1);
                self.send_link(report.peer, report.worker, self.turn, &report.message);
            }
        }
        self.reports = reports;
    }

    /// Sends a message of the link itself to worker `worker` of `peer`: on the first path, or, if
    /// `turn` is not 0, on any other.
    fn send_link(&mut self, peer: PeerId, worker: u8, turn: u8, message: &[u8]) {
        let Some(sending) = self.peers.get_mut(peer.0).and_then(|peer| peer.sending.as_mut())
        else {
            return;
        };
        let others = sending.session.paths.saturating_sub(1);
        if turn > 0 && others == 0 {
            return;
        }
        let path = if turn == 0 { 0 } else { 1 + turn % others };
        let slot = tx_slot(worker, sending.living(worker, path));
        let Some(path) = sending.path(slot, &self.config) else { return };
        if !path.has_room_for_link() {
            return;
        }
        if !path.has_work() {
            self.dirty.push((peer.0, slot));
        }
        path.put_link(message, &mut self.pool);
    }
}

/// The UDP port of a path: the control socket has `first`, then come eight ports for
/// each worker, used or not, so that a peer need not know how many paths we have.
fn data_port(first: u16, worker: u8, path: u8) -> Option<u16> {
    first.checked_add(1 + u16::from(worker) * u16::from(ECT_PATH_BIT) + u16::from(path))
}
