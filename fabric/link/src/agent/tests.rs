//! The control thread with real sockets and the real clock.

use super::*;
use crate::key::StaticKey;
use crate::manager::{PathMtu, PeerState, Timing};
use std::net::Ipv6Addr;
use std::sync::mpsc::{Receiver, Sender, channel};

const MS: u64 = 1_000;

/// Far longer than anything takes; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
enum Event {
    Open,
    Up(Arc<Session>),
    Retired,
    Down,
    Mtu(usize),
    Added(PeerId),
    Gone(PeerId),
    Message(PeerId, u8, Vec<u8>),
}

struct Tell(Sender<Event>);

impl SessionEvents for Tell {
    fn session_open(&self, _: Arc<Session>) {
        let _ = self.0.send(Event::Open);
    }
    fn session_up(&self, session: Arc<Session>) {
        let _ = self.0.send(Event::Up(session));
    }
    fn session_retired(&self, _: PeerId, _: u64) {
        let _ = self.0.send(Event::Retired);
    }
    fn peer_down(&self, _: PeerId) {
        let _ = self.0.send(Event::Down);
    }
    fn peer_idle(&self, _: PeerId, _: AgentHandle) {
        let _ = self.0.send(Event::Down);
    }
    fn peer_added(&self, peer: PeerId, _: &PeerConfig) {
        let _ = self.0.send(Event::Added(peer));
    }
    fn peer_gone(&self, peer: PeerId) {
        let _ = self.0.send(Event::Gone(peer));
    }
    fn message(&self, peer: PeerId, channel: u8, payload: &[u8]) {
        let _ = self.0.send(Event::Message(peer, channel, payload.to_vec()));
    }
    fn mtu_changed(&self, _: PeerId, len: usize) {
        let _ = self.0.send(Event::Mtu(len));
    }
    fn hello(&self, _: PeerId, _: u64, _: Option<u64>) {}
    fn tick(&self, _: u64) -> Option<u64> {
        None
    }
    fn trouble(&self, _: PeerId, _: Trouble) {}
}

fn config(key: &StaticKey, rekey_after_us: u64) -> Config {
    Config {
        key: key.clone(),
        versions: 1..=1,
        workers: 1,
        paths: 1,
        datagram_len_max: 8_972,
        sealed: true,
        path_mtu: PathMtu::default(),
        timing: Timing {
            hello_every_us: 20 * MS,
            // Long, so that a stalled test machine brings no peer down.
            down_after_us: 3_000 * MS,
            rekey_after_us,
            retire_after_us: 100 * MS,
            ..Timing::default()
        },
        wall_clock_us: 1,
    }
}

struct Ends {
    keys: [StaticKey; 2],
    addresses: [SocketAddr; 2],
}

fn start(
    ends: &Ends,
    at: usize,
    socket: ControlSocket,
    rekey_after_us: u64,
) -> (Agent, Receiver<Event>) {
    let (tell, events) = channel();
    let peer = PeerConfig {
        name: format!("host-{}", 1 - at),
        key: ends.keys[1 - at].public(),
        address: ends.addresses[1 - at],
    };
    let config = config(&ends.keys[at], rekey_after_us);
    let agent = Agent::start(socket, config, vec![peer], Box::new(Tell(tell))).unwrap();
    (agent, events)
}

fn ends(local: SocketAddr) -> (Ends, [ControlSocket; 2]) {
    let sockets = [0, 1].map(|_| ControlSocket::bind(local).unwrap());
    let addresses = [sockets[0].local_addr(), sockets[1].local_addr()];
    let keys = [0, 1].map(|_| StaticKey::generate().unwrap());
    (Ends { keys, addresses }, sockets)
}

fn next_up(events: &Receiver<Event>) -> Arc<Session> {
    loop {
        if let Event::Up(session) = events.recv_timeout(PATIENCE).unwrap() {
            return session;
        }
    }
}

#[test]
fn messages_reach_the_other_end_and_only_while_there_is_a_session() {
    let (ends, [socket_a, socket_b]) = ends(([127, 0, 0, 1], 0).into());
    let (a, events_a) = start(&ends, 0, socket_a, 60_000 * MS);
    let (b, events_b) = start(&ends, 1, socket_b, 60_000 * MS);
    a.handle().send(PeerId(0), 7, vec![0]);
    a.handle().want(PeerId(0));
    next_up(&events_a);
    next_up(&events_b);
    a.handle().send(PeerId(7), 7, vec![1]);
    a.handle().send(PeerId(0), 7, vec![2; MESSAGE_LEN_MAX + 1]);
    a.handle().send(PeerId(0), 7, vec![3; MESSAGE_LEN_MAX]);
    let message = |events: &Receiver<Event>| loop {
        if let Event::Message(peer, channel, payload) = events.recv_timeout(PATIENCE).unwrap() {
            return (peer, channel, payload);
        }
    };
    assert_eq!(message(&events_b), (PeerId(0), 7, vec![3; MESSAGE_LEN_MAX]));
    b.handle().send(PeerId(0), 9, Vec::new());
    assert_eq!(message(&events_a), (PeerId(0), 9, Vec::new()));
    let counters = a.handle().status().peers[0].counters;
    assert_eq!((counters.messages_sent, counters.messages_heard), (1, 1));
}

#[test]
fn two_agents_come_up_and_rekey() {
    let (ends, [socket_a, socket_b]) = ends(([127, 0, 0, 1], 0).into());
    let (a, events_a) = start(&ends, 0, socket_a, 200 * MS);
    let (_b, events_b) = start(&ends, 1, socket_b, 200 * MS);
    a.handle().want(PeerId(0));
    let (mut generations, mut opened, mut retired, mut mtu) = (Vec::new(), 0, 0, 0);
    while generations.len() < 4 || retired < 2 {
        match events_a.recv_timeout(PATIENCE).unwrap() {
            Event::Open => opened += 1,
            Event::Up(session) => generations.push(session.generation),
            Event::Retired => retired += 1,
            Event::Mtu(len) => mtu = len,
            _ => {}
        }
    }
    assert!(opened >= 4);
    assert!(generations.is_sorted());
    assert_eq!(mtu, 8_972, "the loopback carries jumbo frames");
    let (up_a, up_b) = (next_up(&events_a), next_up(&events_b));
    assert_eq!((up_a.peer, up_b.peer), (PeerId(0), PeerId(0)));
    let status = a.handle().status();
    assert_eq!(status.peers[0].name, "host-1");
    assert!(status.peers[0].rtt_us.is_some());
    a.stop();
}

#[test]
fn a_restarted_agent_is_found_again() {
    let (ends, [socket_a, socket_b]) = ends(([127, 0, 0, 1], 0).into());
    let (a, events_a) = start(&ends, 0, socket_a, 60_000 * MS);
    let (b, events_b) = start(&ends, 1, socket_b, 60_000 * MS);
    a.handle().want_all();
    let first = next_up(&events_a);
    assert_eq!(next_up(&events_b).remote_index, first.local_index);
    b.stop();
    let socket_b = ControlSocket::bind(ends.addresses[1]).unwrap();
    let (b, events_b) = start(&ends, 1, socket_b, 60_000 * MS);
    b.handle().want_all();
    let second = next_up(&events_a);
    assert!(second.generation > first.generation);
    assert_eq!(next_up(&events_b).remote_index, second.local_index);
}

#[test]
fn ipv6_works_too() {
    let local = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if matches!(UdpSocket::bind(local), Err(error) if error.kind() == ErrorKind::AddrNotAvailable) {
        return;
    }
    let (ends, [socket_a, socket_b]) = ends(local);
    let (a, events_a) = start(&ends, 0, socket_a, 60_000 * MS);
    let (_b, events_b) = start(&ends, 1, socket_b, 60_000 * MS);
    a.handle().want_all();
    assert_eq!(next_up(&events_a).datagram_len_max, 1_232);
    next_up(&events_b);
    assert_eq!(a.handle().status().peers[0].state, PeerState::Up);
}

#[test]
fn a_peer_of_the_other_ip_version_is_refused_by_name() {
    let (ends, [socket, _]) = ends(([127, 0, 0, 1], 0).into());
    let peer = PeerConfig {
        name: "six".into(),
        key: ends.keys[1].public(),
        address: SocketAddr::from((Ipv6Addr::LOCALHOST, 1)),
    };
    let (tell, _events) = channel();
    let config = config(&ends.keys[0], 1);
    let error = Agent::start(socket, config, vec![peer], Box::new(Tell(tell))).unwrap_err();
    assert!(error.to_string().contains("six"), "{error}");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let first = ControlSocket::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let error = ControlSocket::bind(first.local_addr()).unwrap_err();
    assert!(error.to_string().contains(&first.local_addr().to_string()), "{error}");
}

#[test]
fn peers_come_and_go_while_the_thread_runs() {
    let (ends, [socket_a, socket_b]) = ends(([127, 0, 0, 1], 0).into());
    let (tell, events_a) = channel();
    let alone = config(&ends.keys[0], 60_000 * MS);
    let a = Agent::start(socket_a, alone, Vec::new(), Box::new(Tell(tell))).unwrap();
    let (b, events_b) = start(&ends, 1, socket_b, 60_000 * MS);
    b.handle().want_all();
    let peer = PeerConfig {
        name: "host-1".into(),
        key: ends.keys[1].public(),
        address: ends.addresses[1],
    };
    let id = a.handle().add_peer(peer.clone()).unwrap();
    assert!(
        matches!(events_a.try_recv(), Ok(Event::Added(first)) if first == id),
        "everyone has heard of it, and of nothing before"
    );
    a.handle().want(id);
    assert_eq!(next_up(&events_a).peer, id);
    next_up(&events_b);
    a.handle().remove_peer(id);
    let last = events_a.try_iter().last();
    assert!(matches!(last, Some(Event::Gone(gone)) if gone == id), "{last:?}");
    assert_eq!(a.handle().status().peers[0].state, PeerState::Gone);

    let other = PeerConfig { address: SocketAddr::from((Ipv6Addr::LOCALHOST, 1)), ..peer.clone() };
    let error = a.handle().add_peer(other).unwrap_err();
    assert!(error.to_string().contains("not of the same IP version"), "{error}");
    let again = a.handle().add_peer(peer.clone()).unwrap();
    assert_ne!(again, id);
    let handle = a.handle();
    a.stop();
    let error = handle.add_peer(peer).unwrap_err();
    assert!(matches!(error, AgentError::Silent), "{error}");
}
