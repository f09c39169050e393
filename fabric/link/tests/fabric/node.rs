//! Two workers and their agents, turned by hand: what the tests of this folder share.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use wireonce_frame::{Offload, SliceSource, ecn::Ecn};
use wireonce_ledger::{Amount, DropReason};
use wireonce_link::{
    Agent, AgentHandle, ControlSocket, Fabric, FabricConfig, Fate, KeyLimits, Outbound, Outcome,
    PeerAddress, PeerId, Session, SessionEvent, SessionEvents, StaticKey,
    manager::{Config, PathMtu, PeerConfig, Timing, Trouble},
};
use wireonce_qemu_tests::impair::free_ports;
use wireonce_ring::{Ring, Wait};
use wireonce_wire::{Endpoint, VnicId};

/// Each node has one peer.
pub(crate) const PEER: PeerId = PeerId(0);

/// The control port and a worker's eight data ports.
pub(crate) const PORTS: u16 = 9;

struct Channel(mpsc::Sender<SessionEvent>);

impl SessionEvents for Channel {
    fn session_open(&self, session: Arc<Session>) {
        let _ = self.0.send(SessionEvent::Open(session));
    }
    fn session_up(&self, session: Arc<Session>) {
        let _ = self.0.send(SessionEvent::Up(session));
    }
    fn session_retired(&self, peer: PeerId, generation: u64) {
        let _ = self.0.send(SessionEvent::Retired { peer, generation });
    }
    fn peer_down(&self, peer: PeerId) {
        let _ = self.0.send(SessionEvent::Down(peer));
    }
    fn peer_idle(&self, peer: PeerId, agent: AgentHandle) {
        let _ = self.0.send(SessionEvent::Idle(peer, agent));
    }
    fn message(&self, _: PeerId, _: u8, _: &[u8]) {}
    fn peer_added(&self, _: PeerId, _: &PeerConfig) {}
    fn peer_gone(&self, peer: PeerId) {
        let _ = self.0.send(SessionEvent::Gone(peer));
    }
    fn mtu_changed(&self, peer: PeerId, len: usize) {
        let _ = self.0.send(SessionEvent::Mtu(peer, len));
    }
    fn hello(&self, _: PeerId, _: u64, _: Option<u64>) {}
    fn tick(&self, _: u64) -> Option<u64> {
        None
    }
    fn trouble(&self, _: PeerId, _: Trouble) {}
}

/// How a pair of nodes is made.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) ip: IpAddr,
    pub(crate) sealed: bool,
    pub(crate) paths: u8,
    pub(crate) path_mtu: PathMtu,
    pub(crate) timing: Timing,
    pub(crate) key_limits: KeyLimits,
}

impl Setup {
    pub(crate) fn new(ip: impl Into<IpAddr>) -> Self {
        Self {
            ip: ip.into(),
            sealed: true,
            paths: 1,
            path_mtu: PathMtu::Fixed(1500),
            // Long, so that a stalled test machine brings no peer down.
            timing: Timing { down_after_us: 3_000_000, ..Timing::default() },
            key_limits: KeyLimits::default(),
        }
    }
}

/// What both nodes know of each other, so that one can be made again.
pub(crate) struct Places {
    pub(crate) keys: [StaticKey; 2],
    /// Where each node's control port is.
    pub(crate) real: [SocketAddr; 2],
    /// Where the other one believes that it is.
    pub(crate) front: [SocketAddr; 2],
}

impl Places {
    /// Nodes that see each other directly.
    pub(crate) fn direct(ip: IpAddr) -> Self {
        let keys = [0, 1].map(|_| StaticKey::generate().unwrap());
        let real = [0, 1].map(|_| SocketAddr::new(ip, free_ports(ip, PORTS).unwrap()));
        Self { keys, front: real, real }
    }
}

pub(crate) struct Node {
    pub(crate) ring: Ring,
    pub(crate) fabric: Fabric,
    pub(crate) agent: Agent,
    events: mpsc::Receiver<SessionEvent>,
    start: Instant,
    /// Every frame that came, in order.
    pub(crate) received: Vec<Vec<u8>>,
    /// Every outcome that was told, in order.
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) fates: HashMap<Fate, u64>,
    /// Sessions that came up and went down.
    pub(crate) ups: u64,
    pub(crate) downs: u64,
}

impl Node {
    pub(crate) fn new(setup: &Setup, places: &Places, me: usize) -> Self {
        let other = 1 - me;
        let (sender, events) = mpsc::channel();
        let wall_clock = std::time::UNIX_EPOCH.elapsed().unwrap();
        let config = Config {
            key: places.keys[me].clone(),
            versions: 1..=1,
            workers: 1,
            paths: setup.paths,
            datagram_len_max: 9_188,
            sealed: setup.sealed,
            path_mtu: setup.path_mtu.clone(),
            timing: setup.timing,
            wall_clock_us: u64::try_from(wall_clock.as_micros()).unwrap(),
        };
        let peer = PeerConfig {
            name: format!("node-{other}"),
            key: places.keys[other].public(),
            address: places.front[other],
        };
        let mut ring = Ring::new().unwrap();
        let fabric = FabricConfig {
            address: setup.ip,
            port: places.real[me].port(),
            worker: 0,
            paths: setup.paths,
            receive_buffers: 16,
            token_kind: 8,
            key_limits: setup.key_limits,
            peers: vec![PeerAddress {
                name: peer.name.clone(),
                address: peer.address.ip(),
                port: peer.address.port(),
            }],
        };
        let fabric = Fabric::new(&mut ring, &fabric).unwrap();
        let socket = ControlSocket::bind(places.real[me]).unwrap();
        let agent = Agent::start(socket, config, vec![peer], Box::new(Channel(sender))).unwrap();
        agent.handle().want_all();
        Self {
            ring,
            fabric,
            agent,
            events,
            start: Instant::now(),
            received: Vec::new(),
            outcomes: Vec::new(),
            fates: HashMap::new(),
            ups: 0,
            downs: 0,
        }
    }

    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap()
    }

    /// One turn of a worker's loop.
    pub(crate) fn turn(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            match event {
                SessionEvent::Up(_) => self.ups += 1,
                SessionEvent::Down(_) => self.downs += 1,
                _ => {}
            }
            self.fabric.apply(event);
        }
        let mut completions = Vec::new();
        self.ring.enter(Wait::AtMostUs(500), &mut completions).unwrap();
        let now_us = self.now_us();
        let received = &mut self.received;
        let mut sink = |inbound: wireonce_link::Inbound<'_>| {
            received.push(inbound.frame.parts().concat());
        };
        for completion in &completions {
            self.fabric.handle(&mut self.ring, completion, now_us, &mut sink).unwrap();
        }
        self.fabric.tick(now_us, &mut sink);
        self.fabric.flush(&mut self.ring, now_us).unwrap();
        for outcome in self.fabric.outcomes() {
            *self.fates.entry(outcome.fate).or_default() += outcome.amount.frames;
            self.outcomes.push(outcome);
        }
    }

    /// Sends a frame that is booked on `account`.
    pub(crate) fn send_for(
        &mut self,
        account: u64,
        frame: &[u8],
        flow_hash: u32,
        ecn: Ecn,
    ) -> Result<(), DropReason> {
        let block = outbound(account, frame, flow_hash, ecn);
        let now_us = self.now_us();
        self.fabric.send(PEER, &block, &mut SliceSource::new(frame), now_us)
    }

    pub(crate) fn fate(&self, fate: Fate) -> u64 {
        self.fates.get(&fate).copied().unwrap_or(0)
    }
}

pub(crate) fn outbound(account: u64, frame: &[u8], flow_hash: u32, ecn: Ecn) -> Outbound {
    Outbound {
        source: Endpoint::Vnic(VnicId::new(1).unwrap()),
        destination: Endpoint::Vnic(VnicId::new(2).unwrap()),
        offload: Offload::default(),
        flow_hash,
        ecn,
        account,
        amount: Amount::frame(frame.len(), 1),
    }
}

/// Two nodes that are up.
pub(crate) fn pair(setup: &Setup, places: &Places) -> (Node, Node) {
    let (mut a, mut b) = (Node::new(setup, places, 0), Node::new(setup, places, 1));
    drive(&mut a, &mut b, both_up);
    (a, b)
}

pub(crate) fn both_up(a: &Node, b: &Node) -> bool {
    a.fabric.is_up(PEER) && b.fabric.is_up(PEER)
}

/// Turns both workers until `done`, within bounds.
pub(crate) fn drive(a: &mut Node, b: &mut Node, done: impl Fn(&Node, &Node) -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done(a, b) {
        assert!(
            Instant::now() < end,
            "a: {:?} {:?}\nb: {:?} {:?}",
            a.fates,
            a.fabric.snapshot(),
            b.fates,
            b.fabric.snapshot()
        );
        a.turn();
        b.turn();
    }
}
