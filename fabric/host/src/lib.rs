//! What every daemon on the fabric has, be it a backend or a gateway: its key, the
//! agent that keeps sessions with its peers, the threads of its workers, and what an
//! operator sees of the links.
#![forbid(unsafe_code)]

mod daemon;
mod links;
mod peers;
mod waker;
pub mod workers;

pub use daemon::{Applied, ApplyError, Daemon};
pub use peers::PeerChange;
pub use waker::Waker;

use peers::peer_config;
use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tracing::{info, warn};
use wireonce_config::{Config, Encryption, FabricMtu};
use wireonce_directory::PeerNumbers;
use wireonce_link::{
    Agent, AgentHandle, FabricConfig, KeyError, KeyLimits, PeerAddress, PeerId, Session,
    SessionEvent, SessionEvents, StaticKey,
    agent::{AgentError, ControlSocket},
    manager::{self, PathMtu, PeerConfig, Timing, Trouble},
};

/// Receive buffers of 64 KB that each worker has. The kernel fills them in turn, so all of
/// them together should fit into a processor's second-level cache; what finds none waits in
/// the socket.
const RECEIVE_BUFFERS: u16 = 16;
/// The wire versions of this program.
const VERSIONS: std::ops::RangeInclusive<u8> = 1..=1;
/// Bytes of the largest datagram that we take: a 9,216-byte packet without headers.
const DATAGRAM_LEN_MAX: u16 = 9_216 - 28;

/// The channel of bandwidth reports and leases (`wireonce_shares::Message`).
pub const BANDWIDTH_CHANNEL: u8 = 1;

/// The channel on which gateways of a pool tell each other how their uplinks are
/// (`wireonce_uplink::probe::news`).
pub const OUTSIDE_CHANNEL: u8 = 4;

/// Why the fabric side of a daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The private key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The control socket or the peers.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// More workers than a session can name.
    #[error("{0} workers: expected 1 to 64")]
    Workers(u16),
    /// The system's clock is before 1970.
    #[error("the system's clock is before 1970; set it")]
    Clock,
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Who hears of sessions: it hands on to the workers and returns.
///
/// No method has a body here: a listener before another that left one out would keep from it what
/// comes.
pub trait SessionListener: Send {
    /// News, in order.
    fn session(&self, event: SessionEvent);

    /// A message of a peer for whoever listens on `channel`.
    fn message(&self, peer: PeerId, channel: u8, payload: &[u8]);

    /// A hello of a peer was read at `now_us`; if it names one of ours that none before named, that
    /// was sent at `echoed_us`. Both on the daemon's clock.
    fn hello(&self, peer: PeerId, now_us: u64, echoed_us: Option<u64>);

    /// All that had come was read. Returns when to call this again at the latest.
    fn tick(&self, now_us: u64) -> Option<u64>;
}

/// The fabric side of a daemon.
#[derive(Debug)]
pub struct FabricHost {
    agent: Agent,
    numbers: PeerNumbers,
    encryption: Encryption,
}

impl FabricHost {
    /// What worker `number` of this host needs to know of the fabric.
    #[must_use]
    pub fn worker_config(config: &Config, number: u8, token_kind: u8) -> FabricConfig {
        let peer = |peer: &Arc<wireonce_config::Peer>| PeerAddress {
            name: peer.name.clone(),
            address: peer.address,
            port: peer.port,
        };
        FabricConfig {
            address: config.fabric.address,
            port: config.fabric.port,
            worker: number,
            paths: config.fabric.paths,
            receive_buffers: RECEIVE_BUFFERS,
            token_kind,
            key_limits: KeyLimits::default(),
            peers: config.peers.iter().map(peer).collect(),
        }
    }

    /// Loads the key and starts the agent, which calls all peers. Its clock is the daemon's:
    /// microseconds since `clock`.
    ///
    /// # Errors
    /// [`HostError`]: the key file, the address, the peers.
    pub fn start(
        config: &Config,
        listener: Box<dyn SessionListener>,
        clock: Instant,
    ) -> Result<Self, HostError> {
        let key = StaticKey::load(&config.host.private_key_file)?;
        let workers = u8::try_from(config.host.workers)
            .map_err(|_| HostError::Workers(config.host.workers))?;
        let wall_clock = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall_clock = wall_clock.map_err(|_| HostError::Clock)?.as_micros();
        let settings = manager::Config {
            key,
            versions: VERSIONS,
            workers,
            paths: config.fabric.paths,
            datagram_len_max: DATAGRAM_LEN_MAX,
            sealed: config.fabric.encryption == Encryption::Aes256Gcm,
            path_mtu: match config.fabric.mtu {
                FabricMtu::Probe => PathMtu::default(),
                FabricMtu::Fixed(mtu) => PathMtu::Fixed(mtu.into()),
            },
            timing: Timing::default(),
            wall_clock_us: u64::try_from(wall_clock).unwrap_or(u64::MAX),
        };
        let peers = config.peers.iter().map(|peer| peer_config(peer));
        let address = SocketAddr::new(config.fabric.address, config.fabric.port);
        let socket = ControlSocket::bind(address)?;
        let names = RefCell::new(config.peers.iter().map(|peer| peer.name.clone()).collect());
        let events = Box::new(Herald { listener, names });
        let agent = Agent::start_on(clock, socket, settings, peers.collect(), events)?;
        // Peers that we had before a restart have to learn that their session is gone.
        agent.handle().want_all();
        let numbers = PeerNumbers::in_order(config);
        Ok(Self { agent, numbers, encryption: config.fabric.encryption })
    }

    /// How data is protected, as the configuration says it.
    #[must_use]
    pub fn encryption(&self) -> &'static str {
        match self.encryption {
            Encryption::Aes256Gcm => "aes-256-gcm",
            Encryption::Off => "off",
        }
    }

    /// For whoever sends messages to peers.
    #[must_use]
    pub fn agent(&self) -> AgentHandle {
        self.agent.handle()
    }

    /// Ends the agent.
    pub fn stop(self) {
        self.agent.stop();
    }
}

/// Says what happens to sessions in the log, and hands it on.
struct Herald {
    listener: Box<dyn SessionListener>,
    /// By number. The agent's thread alone looks at it.
    names: RefCell<Vec<String>>,
}

impl Herald {
    fn name(&self, peer: PeerId) -> String {
        self.names.borrow().get(peer.0).cloned().unwrap_or_default()
    }
}

impl SessionEvents for Herald {
    fn session_open(&self, session: Arc<Session>) {
        self.listener.session(SessionEvent::Open(session));
    }

    fn session_up(&self, session: Arc<Session>) {
        info!(
            peer = &*session.peer_name,
            epoch = session.epoch,
            datagram_len = session.datagram_len_max,
            sealed = session.sealed,
            "link is up"
        );
        self.listener.session(SessionEvent::Up(session));
    }

    fn session_retired(&self, peer: PeerId, generation: u64) {
        self.listener.session(SessionEvent::Retired { peer, generation });
    }

    fn peer_down(&self, peer: PeerId) {
        warn!(peer = self.name(peer), "link is down: the peer is silent");
        self.listener.session(SessionEvent::Down(peer));
    }

    fn peer_idle(&self, peer: PeerId, agent: AgentHandle) {
        info!(peer = self.name(peer), "link is idle: given up until the next frame");
        self.listener.session(SessionEvent::Idle(peer, agent));
    }

    fn message(&self, peer: PeerId, channel: u8, payload: &[u8]) {
        self.listener.message(peer, channel, payload);
    }

    fn hello(&self, peer: PeerId, now_us: u64, echoed_us: Option<u64>) {
        self.listener.hello(peer, now_us, echoed_us);
    }

    fn tick(&self, now_us: u64) -> Option<u64> {
        self.listener.tick(now_us)
    }

    fn mtu_changed(&self, peer: PeerId, datagram_len_max: usize) {
        info!(peer = self.name(peer), datagram_len = datagram_len_max, "path MTU changed");
        self.listener.session(SessionEvent::Mtu(peer, datagram_len_max));
    }

    fn trouble(&self, peer: PeerId, trouble: Trouble) {
        let name = self.name(peer);
        let names: Vec<_> = trouble.names().collect();
        if names.is_empty() {
            info!(peer = name, "link is well again");
        } else {
            warn!(
                peer = name,
                trouble = names.join(", "),
                lost_to_peer_percent = trouble.lossy_to_peer,
                lost_from_peer_percent = trouble.lossy_from_peer,
                datagram_len_lost = trouble.full_size_lost,
                dead_paths = trouble.paths_dead,
                "link is up and not fit"
            );
        }
        self.listener.session(SessionEvent::Trouble(peer, trouble));
    }

    fn peer_added(&self, peer: PeerId, config: &PeerConfig) {
        info!(peer = config.name, address = %config.address, "peer added");
        self.names.borrow_mut().push(config.name.clone());
        let address = PeerAddress {
            name: config.name.clone(),
            address: config.address.ip(),
            port: config.address.port(),
        };
        self.listener.session(SessionEvent::Added(peer, address));
    }

    fn peer_gone(&self, peer: PeerId) {
        info!(peer = self.name(peer), "peer removed");
        self.listener.session(SessionEvent::Gone(peer));
    }
}
