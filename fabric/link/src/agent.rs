//! The control thread: drives the session manager with one UDP socket and the clock.
//!
//! ```text
//!   others ─── want, status ─> commands + eventfd ──┐
//!                                                   v
//!   peers <──> control socket <──────────────> control thread ── SessionEvents ──> workers
//!              (DF set, DSCP CS6)                   │
//!                                             Manager (pure)
//! ```
//!
//! At each wake the socket is read before the timers run: a thread that was
//! stalled for longer than a peer may be silent must not take its own sleep for
//! the peer's. What is read per wake is bounded, so that a flood starves no timer.

use crate::manager::{
    Config, ConfigError, Counters, MESSAGE_LEN_MAX, Manager, Output, PeerConfig, PeerStatus,
    Trouble,
};
use crate::random::SystemRandom;
use crate::session::{PeerId, Session};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Class selector 6, network control, in the place of the traffic class.
const TRAFFIC_CLASS: u8 = 48 << 2;

/// Datagrams read at one wake.
const BATCH: usize = 256;

/// The longest UDP payload there is.
const DATAGRAM_LEN_MAX: usize = 65_535;

/// Asked of the kernel; it may give less.
const SOCKET_BUFFER_LEN: usize = 1 << 20;

/// Messages that wait for the thread; it sends them all at its next wake.
const OUTBOX_MAX: usize = 4_096;

/// How long a caller waits for the thread's answer.
const STATUS_WAIT: Duration = Duration::from_secs(1);

/// What the workers are told, on the control thread: it waits meanwhile, so hand on
/// and return.
pub trait SessionEvents: Send {
    /// Accept datagrams on this session from now on.
    fn session_open(&self, session: Arc<Session>);
    /// Send on this session from now on. Repeated when a silent peer comes back.
    fn session_up(&self, session: Arc<Session>);
    /// Stop accepting on this session; what was in flight on it has an unknown fate.
    fn session_retired(&self, peer: PeerId, generation: u64);
    /// The peer is silent until the next `session_up`.
    fn peer_down(&self, peer: PeerId);
    /// Nobody needed the peer for long, so its sessions are about to be retired. Who has a
    /// frame for it calls it with `agent` ([`AgentHandle::want`]).
    fn peer_idle(&self, peer: PeerId, agent: AgentHandle);
    /// A message of the peer for whoever listens on `channel`. It says whatever the peer
    /// likes, and peers may send a few thousand a second.
    fn message(&self, peer: PeerId, channel: u8, payload: &[u8]);
    /// A hello of the peer was read at `now_us`, on the agent's clock. If it names one of ours as heard,
    /// and none newer was named before, that was sent at `echoed_us`.
    fn hello(&self, peer: PeerId, now_us: u64, echoed_us: Option<u64>);
    /// All that had come was read, and it is `now_us`. Returns when to call it again at the latest.
    fn tick(&self, now_us: u64) -> Option<u64>;
    /// The longest UDP payload to this peer is now `datagram_len_max` bytes.
    fn mtu_changed(&self, peer: PeerId, datagram_len_max: usize);
    /// Something is wrong with the link to this peer, though it is up, or is not any more.
    fn trouble(&self, peer: PeerId, trouble: Trouble);
    /// There is one more peer, before anything else is said of it.
    fn peer_added(&self, peer: PeerId, config: &PeerConfig);
    /// The peer was removed; nothing more is said of it.
    fn peer_gone(&self, peer: PeerId);
}

/// Why the control thread did not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The socket cannot reach a peer.
    #[error("peer {name}: its address {peer} is not of the same IP version as ours, {local}")]
    Family {
        /// Whose address.
        name: String,
        /// The peer's address.
        peer: SocketAddr,
        /// Our socket's address.
        local: SocketAddr,
    },
    /// The thread has ended, or is stuck.
    #[error("the control thread does not answer; restart the daemon")]
    Silent,
    /// The system refused a socket, an event descriptor or a thread.
    #[error("control socket {address}: {source}")]
    System {
        /// The socket's address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// The UDP socket for handshakes and hellos.
#[derive(Debug)]
pub struct ControlSocket {
    socket: UdpSocket,
    address: SocketAddr,
}

impl ControlSocket {
    /// A socket at `address`: never fragments, DSCP CS6. Port 0 takes any.
    ///
    /// # Errors
    /// The address is taken or not ours, or an option is not supported.
    pub fn bind(address: SocketAddr) -> Result<Self, AgentError> {
        Self::open(address).map_err(|source| AgentError::System { address, source })
    }

    /// Where it is bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        // PROBE sets DF and ignores the kernel's idea of the path: ours is proved.
        if address.is_ipv4() {
            sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
            sockopt::set_ip_tos(&socket, TRAFFIC_CLASS)?;
        } else {
            sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?;
            sockopt::set_ipv6_tclass(&socket, TRAFFIC_CLASS.into())?;
        }
        sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_LEN)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }
}

/// Everything the operator may ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentStatus {
    /// All peers, in the order of their ids.
    pub peers: Vec<PeerStatus>,
    /// What came from strangers, or led to nothing.
    pub counters: Counters,
    /// Datagrams that the socket did not take, probes that are too long included.
    pub sends_failed: u64,
}

/// What others ask of the thread. Bounded by the number of peers and of callers.
#[derive(Debug, Default)]
struct Commands {
    want: BTreeSet<PeerId>,
    want_all: bool,
    /// How often hellos are to go.
    urge: BTreeMap<PeerId, Option<u64>>,
    /// Messages to send: peer, channel, payload.
    messages: Vec<(PeerId, u8, Vec<u8>)>,
    status: Vec<SyncSender<AgentStatus>>,
    peers: Vec<PeerCommand>,
    /// Call [`SessionEvents::tick`] at once.
    look: bool,
    stop: bool,
}

/// Peers that come and go; whoever asks waits for the answer.
#[derive(Debug)]
enum PeerCommand {
    Add(PeerConfig, SyncSender<Result<PeerId, ConfigError>>),
    Remove(PeerId, SyncSender<()>),
}

#[derive(Debug)]
struct Shared {
    commands: Mutex<Commands>,
    wake: OwnedFd,
    address: SocketAddr,
    /// Numbers that were given.
    peers: AtomicUsize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Commands> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, change: impl FnOnce(&mut Commands)) {
        change(&mut self.lock());
        // It fails only when the counter is full: then the thread wakes anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn known(&self, peer: PeerId) -> bool {
        peer.0 < self.peers.load(Ordering::Relaxed)
    }
}

/// Asks the control thread. Cheap to clone; any thread may hold one.
#[derive(Debug, Clone)]
pub struct AgentHandle {
    shared: Arc<Shared>,
}

impl AgentHandle {
    /// Make a session with `peer` if there is none.
    pub fn want(&self, peer: PeerId) {
        if self.shared.known(peer) {
            self.shared.ask(|commands| {
                commands.want.insert(peer);
            });
        }
    }

    /// Make sessions with all peers, paced.
    pub fn want_all(&self) {
        self.shared.ask(|commands| commands.want_all = true);
    }

    /// Keep a session with `peer`, with a hello each `every_us`, frames or not; `None`: as with others.
    pub fn urge(&self, peer: PeerId, every_us: Option<u64>) {
        if self.shared.known(peer) {
            self.shared.ask(|commands| {
                commands.urge.insert(peer, every_us);
            });
        }
    }

    /// [`SessionEvents::tick`] has something to do earlier than it said.
    pub fn look(&self) {
        self.shared.ask(|commands| commands.look = true);
    }

    /// Sends a message to `peer`, if there is a session: at most [`MESSAGE_LEN_MAX`] bytes,
    /// once, sealed, on the control socket. One that is lost, or that comes faster than the
    /// thread sends, is gone: say the whole state each time.
    pub fn send(&self, peer: PeerId, channel: u8, payload: Vec<u8>) {
        if self.shared.known(peer) && payload.len() <= MESSAGE_LEN_MAX {
            self.shared.ask(|commands| {
                if commands.messages.len() < OUTBOX_MAX {
                    commands.messages.push((peer, channel, payload));
                }
            });
        }
    }

    /// A handle on no thread, for tests of those who ask.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let (commands, peers) = (Mutex::default(), AtomicUsize::new(1));
        Self { shared: Arc::new(Shared { commands, wake, address, peers }) }
    }

    /// Takes out whom somebody wants.
    #[cfg(test)]
    pub(crate) fn take_wanted(&self) -> Vec<PeerId> {
        std::mem::take(&mut self.shared.lock().want).into_iter().collect()
    }

    /// One more peer. When this returns, everyone has heard of it, and it is called when
    /// somebody wants it.
    ///
    /// # Errors
    /// See [`AgentError`]; nothing has changed then.
    pub fn add_peer(&self, peer: PeerConfig) -> Result<PeerId, AgentError> {
        check_family(self.shared.address, &peer)?;
        let (reply, answer) = sync_channel(1);
        self.shared.ask(|commands| commands.peers.push(PeerCommand::Add(peer, reply)));
        let added = answer.recv_timeout(STATUS_WAIT).map_err(|_| AgentError::Silent)?;
        Ok(added?)
    }

    /// Takes leave of a peer. When this returns, everyone has heard of it.
    pub fn remove_peer(&self, peer: PeerId) {
        let (reply, answer) = sync_channel(1);
        self.shared.ask(|commands| commands.peers.push(PeerCommand::Remove(peer, reply)));
        let _ = answer.recv_timeout(STATUS_WAIT);
    }

    /// How things stand; empty when the thread has stopped or does not answer
    /// within a second.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        let (reply, answer) = sync_channel(1);
        self.shared.ask(|commands| commands.status.push(reply));
        answer.recv_timeout(STATUS_WAIT).unwrap_or_default()
    }
}

/// The running control thread. Dropping it says goodbye to all peers and stops the thread.
#[derive(Debug)]
pub struct Agent {
    handle: AgentHandle,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Starts the thread. Peers are called when somebody wants them.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub fn start(
        socket: ControlSocket,
        config: Config,
        peers: Vec<PeerConfig>,
        events: Box<dyn SessionEvents>,
    ) -> Result<Self, AgentError> {
        Self::start_on(Instant::now(), socket, config, peers, events)
    }

    /// Starts the thread with a clock that others have, too: microseconds since `clock`.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub fn start_on(
        clock: Instant,
        socket: ControlSocket,
        config: Config,
        peers: Vec<PeerConfig>,
        events: Box<dyn SessionEvents>,
    ) -> Result<Self, AgentError> {
        let address = socket.address;
        peers.iter().try_for_each(|peer| check_family(address, peer))?;
        let failed = |source| AgentError::System { address, source };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| failed(error.into()))?;
        let commands = Mutex::default();
        let count = AtomicUsize::new(peers.len());
        let shared = Arc::new(Shared { commands, wake, address, peers: count });
        let worker = Worker {
            manager: Manager::new(micros(clock), config, peers, SystemRandom::new())?,
            socket: socket.socket,
            shared: Arc::clone(&shared),
            events,
            clock,
            tick_us: Some(0),
            sends_failed: 0,
        };
        let thread = std::thread::Builder::new()
            .name("wireonce-link".into())
            .spawn(move || worker.run())
            .map_err(failed)?;
        Ok(Self { handle: AgentHandle { shared }, thread: Some(thread) })
    }

    /// For whoever needs sessions.
    #[must_use]
    pub fn handle(&self) -> AgentHandle {
        self.handle.clone()
    }

    /// Stops the thread and waits for its end.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.handle.shared.ask(|commands| commands.stop = true);
            // A panic in the thread has ended the process already.
            let _ = thread.join();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.join();
    }
}

/// What lives on the thread.
struct Worker {
    manager: Manager<SystemRandom>,
    socket: UdpSocket,
    shared: Arc<Shared>,
    events: Box<dyn SessionEvents>,
    clock: Instant,
    /// When [`SessionEvents::tick`] is due.
    tick_us: Option<u64>,
    sends_failed: u64,
}

impl Worker {
    fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM_LEN_MAX];
        loop {
            self.wait();
            self.receive(&mut buffer);
            self.manager.timer(self.now_us());
            self.publish();
            self.tick();
            if self.obey() {
                return;
            }
        }
    }

    /// Others' timers, on what was read before.
    fn tick(&mut self) {
        let now_us = self.now_us();
        if self.tick_us.is_some_and(|due_us| due_us <= now_us) {
            self.tick_us = self.events.tick(now_us);
        }
    }

    /// Sleeps until a datagram, a command or a timer.
    fn wait(&self) {
        let next_us = self.manager.next_timer_us().into_iter().chain(self.tick_us).min();
        let timeout = next_us.map(|due_us| {
            let wait = Duration::from_micros(due_us.saturating_sub(self.now_us()));
            // Longer than any interval that could matter if the conversion fails.
            Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 3_600, tv_nsec: 0 })
        });
        let mut fds = [
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::new(&self.shared.wake, PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                // Not expected; do not spin should it ever happen.
                tracing::error!(%error, "control thread cannot wait");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            match self.socket.recv_from(buffer) {
                Ok((len, from)) => {
                    let now_us = self.now_us();
                    if let Some(datagram) = buffer.get_mut(..len) {
                        self.manager.datagram(now_us, from, datagram);
                    }
                    self.publish();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    // An ICMP error that concerns an earlier send: nothing was read.
                    tracing::debug!(%error, "control socket");
                    return;
                }
            }
        }
    }

    /// Does what others asked for; `true` to stop.
    fn obey(&mut self) -> bool {
        let mut count = [0; 8];
        // Nothing to read is fine, too.
        let _ = rustix::io::read(&self.shared.wake, &mut count);
        let commands = std::mem::take(&mut *self.shared.lock());
        let now_us = self.now_us();
        if commands.want_all {
            self.manager.want_all(now_us);
        }
        for peer in commands.want {
            self.manager.want(now_us, peer);
        }
        for command in commands.peers {
            self.change_peers(now_us, command);
        }
        for (peer, every_us) in commands.urge {
            self.manager.urge(now_us, peer, every_us);
        }
        for (peer, channel, payload) in commands.messages {
            self.manager.send_message(peer, channel, &payload);
            self.publish();
        }
        for reply in commands.status {
            // The caller may have given up.
            let _ = reply.try_send(self.status());
        }
        if commands.look {
            self.tick_us = Some(0);
        }
        if commands.stop {
            self.manager.stop();
        }
        self.publish();
        commands.stop
    }

    /// The answer is the last thing: everyone has heard by then.
    fn change_peers(&mut self, now_us: u64, command: PeerCommand) {
        match command {
            PeerCommand::Add(peer, reply) => {
                let added = self.manager.add_peer(now_us, peer);
                if let Ok(PeerId(number)) = added {
                    self.shared.peers.store(number + 1, Ordering::Relaxed);
                }
                self.publish();
                let _ = reply.try_send(added);
            }
            PeerCommand::Remove(peer, reply) => {
                self.manager.remove_peer(now_us, peer);
                self.publish();
                let _ = reply.try_send(());
            }
        }
    }

    fn status(&self) -> AgentStatus {
        AgentStatus {
            peers: self.manager.status(self.now_us()),
            counters: self.manager.counters(),
            sends_failed: self.sends_failed,
        }
    }

    fn publish(&mut self) {
        while let Some(output) = self.manager.poll_output() {
            match output {
                Output::Send { to, bytes } => self.send(to, &bytes),
                Output::SessionOpen(session) => {
                    // Set once: nobody else does.
                    let _ = session.agent.set(self.handle());
                    self.events.session_open(session);
                }
                Output::SessionUp(session) => self.events.session_up(session),
                Output::SessionRetired { peer, generation } => {
                    self.events.session_retired(peer, generation);
                }
                Output::PeerDown { peer } => self.events.peer_down(peer),
                Output::PeerAdded { peer, config } => self.events.peer_added(peer, &config),
                Output::PeerGone { peer } => self.events.peer_gone(peer),
                Output::PeerIdle { peer } => {
                    self.events.peer_idle(peer, self.handle());
                }
                Output::Message { peer, channel, payload } => {
                    self.events.message(peer, channel, &payload);
                }
                Output::Hello { peer, echoed_us } => {
                    self.events.hello(peer, self.now_us(), echoed_us);
                }
                Output::Trouble { peer, trouble } => self.events.trouble(peer, trouble),
                Output::MtuChanged { peer, datagram_len_max } => {
                    self.events.mtu_changed(peer, datagram_len_max);
                }
            }
        }
    }

    fn handle(&self) -> AgentHandle {
        AgentHandle { shared: Arc::clone(&self.shared) }
    }

    /// What cannot be sent is lost; the manager copes with loss.
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        if let Err(error) = self.socket.send_to(bytes, to) {
            self.sends_failed += 1;
            tracing::debug!(%to, len = bytes.len(), %error, "control datagram not sent");
        }
    }

    fn now_us(&self) -> u64 {
        micros(self.clock)
    }
}

fn micros(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn check_family(local: SocketAddr, peer: &PeerConfig) -> Result<(), AgentError> {
    if peer.address.is_ipv4() == local.is_ipv4() {
        return Ok(());
    }
    Err(AgentError::Family { name: peer.name.clone(), peer: peer.address, local })
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("manager", &self.manager).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
