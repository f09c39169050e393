//! Managers on a simulated network: seeded loss, delay, reordering, duplication,
//! a limit on length, and traffic that must never meet a session that is not open.

use super::super::{Config, Manager, Output, PathMtu, PeerConfig, PeerStatus, Timing, Trouble};
use crate::key::StaticKey;
use crate::random::{Random, Seeded};
use crate::session::{PeerId, Session};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

pub(super) const MS: u64 = 1_000;
pub(super) const S: u64 = 1_000 * MS;

/// Every host sends one piece of data to every peer that is up in this time.
const DATA_EVERY_US: u64 = 5 * MS;

/// What the network does to a datagram.
#[derive(Clone)]
pub(super) struct Impairment {
    pub(super) lost_percent: u64,
    pub(super) doubled_percent: u64,
    pub(super) delay_us: u64,
    pub(super) jitter_us: u64,
    /// Longer control datagrams vanish.
    pub(super) len_max: usize,
}

impl Impairment {
    pub(super) const NONE: Self = Self {
        lost_percent: 0,
        doubled_percent: 0,
        delay_us: 50,
        jitter_us: 0,
        len_max: usize::MAX,
    };
}

enum Message {
    Control(Vec<u8>),
    /// Data on the session with this index of the receiver, and its first key's seal.
    Data(u32, Vec<u8>),
}

pub(super) struct Host {
    pub(super) key: StaticKey,
    pub(super) address: SocketAddr,
    pub(super) manager: Manager<Seeded>,
    /// By our index: what data may come on.
    pub(super) open: HashMap<u32, Arc<Session>>,
    /// What data goes out on.
    pub(super) up: HashMap<PeerId, Arc<Session>>,
    pub(super) mtu: HashMap<PeerId, usize>,
    /// Generation of every session that was ever up, the last one last.
    was_up: HashMap<PeerId, Vec<u64>>,
    pub(super) downs: u64,
    pub(super) ups: u64,
    pub(super) idles: u64,
    pub(super) retired: u64,
    /// What was said of the links, and when.
    pub(super) troubles: Vec<(u64, Trouble)>,
    /// Messages that were handed on.
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) alive: bool,
    /// Has no data to send.
    pub(super) quiet: bool,
}

/// Decides whether a control datagram passes: (from, to, bytes).
type Filter = Box<dyn FnMut(usize, usize, &[u8]) -> bool>;

pub(super) struct Sim {
    pub(super) now_us: u64,
    pub(super) hosts: Vec<Host>,
    pub(super) impairment: Impairment,
    pub(super) filter: Filter,
    /// Every control datagram sent, in order: from, to, bytes.
    pub(super) log: Vec<(usize, usize, Vec<u8>)>,
    pub(super) data_sent: u64,
    pub(super) data_refused: u64,
    random: Seeded,
    flying: BTreeMap<(u64, u64), (usize, usize, Message)>,
    next_flight: u64,
    next_data_us: u64,
}

pub(super) fn config(key: &StaticKey) -> Config {
    Config {
        key: key.clone(),
        versions: 1..=1,
        workers: 2,
        paths: 2,
        datagram_len_max: 8_972,
        sealed: true,
        path_mtu: PathMtu::default(),
        timing: Timing::default(),
        wall_clock_us: 1_700_000_000 * S,
    }
}

pub(super) fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(host + 1).unwrap()], 7_000))
}

impl Sim {
    /// `count` hosts that all know each other, changed by `change` (host, config).
    /// Peer ids are the hosts' positions without the own.
    pub(super) fn new(count: usize, seed: u64, change: impl Fn(usize, &mut Config)) -> Self {
        let mut keys: Vec<_> = (0..count).map(|_| StaticKey::generate().unwrap()).collect();
        // So that tests can name the host that wins a tie: the first.
        keys.sort_by_key(StaticKey::public);
        let hosts = (0..count).map(|at| host(at, &keys, seed, |config| change(at, config)));
        Self {
            now_us: 0,
            hosts: hosts.collect(),
            impairment: Impairment::NONE,
            filter: Box::new(|_, _, _| true),
            log: Vec::new(),
            data_sent: 0,
            data_refused: 0,
            random: Seeded(seed ^ 0x5eed),
            flying: BTreeMap::new(),
            next_flight: 0,
            next_data_us: 0,
        }
    }

    pub(super) fn pair(seed: u64) -> Self {
        Self::new(2, seed, |_, _| {})
    }

    pub(super) fn want(&mut self, host: usize) {
        self.hosts[host].manager.want_all(self.now_us);
        self.drain(host);
    }

    /// Sends a message from `host` to its first peer.
    pub(super) fn send_message(&mut self, host: usize, payload: &[u8]) {
        self.hosts[host].manager.send_message(PeerId(0), 1, payload);
        self.drain(host);
    }

    pub(super) fn status(&self, host: usize, peer: usize) -> PeerStatus {
        self.hosts[host].manager.status(self.now_us)[peer].clone()
    }

    /// Both ends of a pair are up on the same session.
    pub(super) fn joined(&self) -> bool {
        let up = |host: usize| self.hosts[host].up.get(&PeerId(0));
        match (up(0), up(1)) {
            (Some(a), Some(b)) => {
                a.local_index == b.remote_index
                    && a.remote_index == b.local_index
                    && a.epoch == b.epoch
                    && a.secret == b.secret
            }
            _ => false,
        }
    }

    /// The host's process ends as it should, and tells its peers.
    pub(super) fn stop(&mut self, at: usize) {
        self.hosts[at].manager.stop();
        self.drain(at);
        self.hosts[at].alive = false;
    }

    /// The host forgets everything but its configuration; `change` alters that.
    pub(super) fn restart(&mut self, at: usize, change: impl Fn(&mut Config)) {
        let keys: Vec<_> = self.hosts.iter().map(|host| host.key.clone()).collect();
        let now_us = self.now_us;
        let seed = self.random.next();
        self.hosts[at] = host_at(at, &keys, seed, now_us, |config| {
            config.wall_clock_us += now_us;
            change(config);
        });
    }

    pub(super) fn run_for(&mut self, time_us: u64) {
        self.run_until(self.now_us + time_us, |_| false);
    }

    /// Runs until `done` or `end_us`; says whether it was done.
    pub(super) fn run_until(&mut self, end_us: u64, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let timers = self.hosts.iter().filter(|host| host.alive);
            let timers = timers.filter_map(|host| host.manager.next_timer_us());
            let flights = self.flying.keys().next().map(|&(at_us, _)| at_us);
            let next = timers.chain(flights).chain([self.next_data_us]).min().unwrap();
            if next > end_us {
                self.now_us = end_us;
                return false;
            }
            self.now_us = self.now_us.max(next);
            self.step();
        }
    }

    /// Hands `bytes` to a host as if they had come from `from`; returns what it does.
    pub(super) fn inject(&mut self, at: usize, from: SocketAddr, bytes: &[u8]) -> usize {
        let before = self.log.len();
        let mut bytes = bytes.to_vec();
        self.hosts[at].manager.datagram(self.now_us, from, &mut bytes);
        let outputs = self.drain(at);
        assert!(self.log.len() - before <= outputs);
        outputs
    }

    fn step(&mut self) {
        while let Some((&(at_us, flight), _)) = self.flying.first_key_value()
            && at_us <= self.now_us
        {
            if let Some((from, to, message)) = self.flying.remove(&(at_us, flight)) {
                self.arrive(from, to, message);
            }
        }
        for at in 0..self.hosts.len() {
            if self.hosts[at].alive {
                self.hosts[at].manager.timer(self.now_us);
                self.drain(at);
            }
        }
        if self.next_data_us <= self.now_us {
            self.next_data_us = self.now_us + DATA_EVERY_US;
            self.send_data();
        }
    }

    fn arrive(&mut self, from: usize, to: usize, message: Message) {
        if !self.hosts[to].alive {
            return;
        }
        match message {
            Message::Control(mut bytes) => {
                let address = self.hosts[from].address;
                self.hosts[to].manager.datagram(self.now_us, address, &mut bytes);
                self.drain(to);
            }
            Message::Data(index, mut sealed) => {
                let session = self.hosts[to].open.get(&index);
                let key = session.and_then(|session| session.opening_key(0, 0, 0));
                let opened = key.is_some_and(|key| key.open(0, &[0; 16], &mut sealed).is_ok());
                if let Some(session) = session.filter(|_| opened) {
                    session.mark_used();
                } else {
                    self.data_refused += 1;
                }
            }
        }
    }

    fn send_data(&mut self) {
        let mut data = Vec::new();
        let mut wakes = Vec::new();
        let talkers = self.hosts.iter().enumerate().filter(|(_, host)| host.alive && !host.quiet);
        for (from, host) in talkers {
            for (peer, session) in &host.up {
                let to = session.peer_name.strip_prefix("host-").unwrap().parse().unwrap();
                if session.note_use() {
                    wakes.push((from, *peer));
                }
                // Every piece is sealed anew with number 0: fine for a test's payload.
                session.handed_out.lock().unwrap().clear();
                let key = session.sealing_key(0, 0, 0).unwrap();
                let mut tag = [0; 16];
                key.seal(0, &[0; 16], &mut [], &mut tag).unwrap();
                data.push((from, to, Message::Data(session.remote_index, tag.to_vec())));
            }
        }
        for (at, peer) in wakes {
            self.hosts[at].manager.want(self.now_us, peer);
            self.drain(at);
        }
        for (from, to, message) in data {
            self.data_sent += 1;
            self.fly(from, to, message);
        }
    }

    fn drain(&mut self, at: usize) -> usize {
        let mut count = 0;
        while let Some(output) = self.hosts[at].manager.poll_output() {
            count += 1;
            self.output(at, output);
        }
        count
    }

    fn output(&mut self, at: usize, output: Output) {
        let host = &mut self.hosts[at];
        match output {
            Output::Send { to, bytes } => {
                let to = self.hosts.iter().position(|host| host.address == to).unwrap();
                self.log.push((at, to, bytes.clone()));
                let lost = self.random.below(100) < self.impairment.lost_percent
                    || bytes.len() > self.impairment.len_max;
                if !(self.filter)(at, to, &bytes) || lost {
                    return;
                }
                if self.random.below(100) < self.impairment.doubled_percent {
                    self.fly(at, to, Message::Control(bytes.clone()));
                }
                self.fly(at, to, Message::Control(bytes));
            }
            Output::SessionOpen(session) => {
                assert!(host.open.insert(session.local_index, session).is_none());
            }
            Output::SessionUp(session) => {
                assert!(host.open.contains_key(&session.local_index), "up before open");
                host.ups += 1;
                let was_up = host.was_up.entry(session.peer).or_default();
                if was_up.last() != Some(&session.generation) {
                    assert!(!was_up.contains(&session.generation), "up again after another");
                    was_up.push(session.generation);
                }
                host.mtu.insert(session.peer, session.datagram_len_max);
                host.up.insert(session.peer, session);
            }
            Output::SessionRetired { peer, generation } => {
                host.retired += 1;
                let sending = host.up.get(&peer).map(|session| session.generation);
                assert_ne!(sending, Some(generation), "retired while in use");
                host.open.retain(|_, session| session.generation != generation);
            }
            Output::PeerDown { peer } => {
                host.downs += 1;
                host.up.remove(&peer).expect("down only after up");
            }
            Output::PeerIdle { peer } => {
                host.idles += 1;
                host.up.remove(&peer);
            }
            Output::PeerAdded { peer, .. } => assert!(!host.was_up.contains_key(&peer)),
            Output::PeerGone { peer } => {
                assert!(!host.up.contains_key(&peer), "gone while in use");
                assert!(host.open.values().all(|session| session.peer != peer));
            }
            Output::Message { payload, .. } => host.messages.push(payload),
            Output::Hello { .. } => {}
            Output::Trouble { trouble, .. } => {
                let at_us = self.now_us;
                self.hosts[at].troubles.push((at_us, trouble));
            }
            Output::MtuChanged { peer, datagram_len_max } => {
                host.mtu.insert(peer, datagram_len_max);
            }
        }
    }

    fn fly(&mut self, from: usize, to: usize, message: Message) {
        let jitter_us = self.random.below(self.impairment.jitter_us + 1);
        let at_us = self.now_us + self.impairment.delay_us + jitter_us;
        self.next_flight += 1;
        self.flying.insert((at_us, self.next_flight), (from, to, message));
    }
}

fn host(at: usize, keys: &[StaticKey], seed: u64, change: impl Fn(&mut Config)) -> Host {
    host_at(at, keys, seed.wrapping_add(at as u64), 0, change)
}

fn host_at(
    at: usize,
    keys: &[StaticKey],
    seed: u64,
    now_us: u64,
    change: impl Fn(&mut Config),
) -> Host {
    let others = keys.iter().enumerate().filter(|&(other, _)| other != at);
    let peers = others.map(|(other, key)| PeerConfig {
        name: format!("host-{other}"),
        key: key.public(),
        address: address(other),
    });
    let mut config = config(&keys[at]);
    change(&mut config);
    Host {
        key: keys[at].clone(),
        address: address(at),
        manager: Manager::new(now_us, config, peers.collect(), Seeded(seed)).unwrap(),
        open: HashMap::new(),
        up: HashMap::new(),
        mtu: HashMap::new(),
        was_up: HashMap::new(),
        downs: 0,
        ups: 0,
        idles: 0,
        retired: 0,
        troubles: Vec::new(),
        messages: Vec::new(),
        alive: true,
        quiet: false,
    }
}
