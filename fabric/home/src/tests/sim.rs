//! The house.

mod agents;
mod faults;
mod hand;

use crate::{
    Answers, Claims, EPOCHS_RESERVED, Epochs, Gateway, Server, State, StateReport, States, Tabled,
    Timing, Way, Wish, Word,
};
use std::collections::{BTreeMap, VecDeque};
use wireonce_wire::{UplinkId, VnicId};

const STEP_US: u64 = 250;
const FAULTS_END_US: u64 = 2_000_000;
/// After the last fault everything is in order within this time: gateways tell their states each second,
/// and the last may be lost.
const BOUND_US: u64 = 1_300_000;
const HELLO_US: u64 = Timing::FAST.hello_us;

/// Numbers from a seed (splitmix64).
pub(super) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A clock that began somewhere and goes a little wrong.
#[derive(Clone, Copy)]
struct Clock {
    offset_us: u64,
    speed: u64,
}

impl Clock {
    fn at(&self, now_us: u64) -> u64 {
        self.offset_us + now_us * self.speed / 1_000
    }
}

#[derive(Clone)]
enum Message {
    /// Its number, and one more than the highest number that was heard.
    Hello(u64, u64),
    Claims(Claims),
    Answers(Answers),
    States(States),
    Frame(Frame),
}

#[derive(Clone, Copy)]
struct Frame {
    vnic: VnicId,
    uplink: UplinkId,
    /// How often the vNIC had swapped.
    swap: usize,
}

/// The hellos of one process to one other.
#[derive(Default, Clone)]
struct Link {
    sent_us: Vec<u64>,
    heard: u64,
    echoed: u64,
    next_us: u64,
}

impl Link {
    /// Takes a hello; returns when the newest of ours was sent that it echoes, if that is news.
    fn take(&mut self, number: u64, heard: u64) -> Option<u64> {
        self.heard = self.heard.max(number + 1);
        let news = heard > self.echoed;
        self.echoed = self.echoed.max(heard);
        let at = usize::try_from(heard).ok()?.checked_sub(1)?;
        news.then(|| self.sent_us.get(at).copied()).flatten()
    }

    fn hello(&mut self, local_us: u64) -> Message {
        self.sent_us.push(local_us);
        Message::Hello(self.sent_us.len() as u64 - 1, self.heard)
    }
}

struct Host<M> {
    clock: Clock,
    machine: M,
    /// One for each host on the other side.
    links: Vec<Link>,
    inbox: VecDeque<(usize, Message)>,
    /// Frames for the worker.
    frames: VecDeque<Frame>,
    agent_stalls_until_us: u64,
    worker_stalls_until_us: u64,
    down_until_us: u64,
    life: u64,
    next_tick_us: u64,
}

struct GatewaySide {
    gateway: Gateway,
    words: BTreeMap<(VnicId, UplinkId), Word>,
    fences: BTreeMap<usize, u64>,
    state: State,
}

struct ServerSide {
    server: Server,
    ways: BTreeMap<VnicId, Way>,
    /// What the disk has.
    written: u64,
}

/// A vNIC as somebody sees it who sees everything.
struct Seen {
    server: usize,
    /// Whether each swap was planned, and the gateway that it led to; the first life's start is one, too.
    swaps: Vec<(bool, usize)>,
    /// The highest number of swaps among the frames that have left, by gateway.
    passed: BTreeMap<usize, usize>,
    planned_us: u64,
    going: Option<usize>,
    /// Where it was about to go, and after which swap: what a process that is gone has said there.
    tried: Vec<(usize, usize)>,
    epoch: u64,
    frames: u64,
}

pub(super) struct House {
    seed: u64,
    random: Random,
    now_us: u64,
    servers: Vec<Host<ServerSide>>,
    gateways: Vec<Host<GatewaySide>>,
    vnics: BTreeMap<VnicId, Seen>,
    homes: BTreeMap<VnicId, usize>,
    under_way: Vec<(u64, bool, usize, usize, Message)>,
    /// (to a gateway, server, gateway): nothing passes until then.
    cuts: BTreeMap<(bool, usize, usize), u64>,
    loss_percent: u64,
    /// (server, gateway): so many in a hundred are lost on this link, beside what all lose; and how many
    /// in the direction (to a gateway, server, gateway).
    lossy: BTreeMap<(bool, usize, usize), u64>,
    pub(super) faults: bool,
    /// What happened to homes, for whoever reads of a failure.
    log: Vec<String>,
    /// That of the servers.
    timing: Timing,
}

fn uplink_of(gateway: usize) -> UplinkId {
    UplinkId(u32::try_from(gateway).unwrap() + 10)
}

fn clock(random: &mut Random) -> Clock {
    // A hundredth too fast or too slow: far worse than any clock.
    Clock { offset_us: 1_000_000 + random.below(1 << 40), speed: 990 + random.below(21) }
}

fn host<M>(random: &mut Random, others: usize, machine: M, clock: Clock) -> Host<M> {
    let next_us = |random: &mut Random| random.below(HELLO_US);
    Host {
        clock,
        machine,
        links: (0..others).map(|_| Link { next_us: next_us(random), ..Link::default() }).collect(),
        inbox: VecDeque::new(),
        frames: VecDeque::new(),
        agent_stalls_until_us: 0,
        worker_stalls_until_us: 0,
        down_until_us: 0,
        life: 1,
        next_tick_us: 0,
    }
}

impl House {
    pub(super) fn new(seed: u64) -> Self {
        // Some may move as often as they like: three times in three minutes are few for two seconds.
        let mut random = Random(!seed);
        let pace_us = if random.one_in(2) { 0 } else { random.below(1_000_000) };
        Self::with(seed, Timing { pace_us, ..Timing::FAST })
    }

    fn with(seed: u64, timing: Timing) -> Self {
        let mut random = Random(seed);
        let servers = usize::try_from(1 + random.below(2)).unwrap();
        let gateways = usize::try_from(2 + random.below(2)).unwrap();
        let each = 1 + random.below(3);
        let mut house = Self {
            timing,
            seed,
            loss_percent: random.below(30),
            now_us: 0,
            servers: Vec::new(),
            gateways: Vec::new(),
            vnics: BTreeMap::new(),
            homes: BTreeMap::new(),
            under_way: Vec::new(),
            cuts: BTreeMap::new(),
            lossy: BTreeMap::new(),
            faults: true,
            log: Vec::new(),
            random,
        };
        for server in 0..servers {
            for n in 0..each {
                let id = VnicId::new(1 + n + 100 * server as u64).unwrap();
                let home = usize::try_from(house.random.below(gateways as u64)).unwrap();
                house.homes.insert(id, home);
                let seen = Seen {
                    server,
                    swaps: vec![(false, home)],
                    passed: BTreeMap::new(),
                    planned_us: 0,
                    going: None,
                    tried: Vec::new(),
                    epoch: 0,
                    frames: 0,
                };
                house.vnics.insert(id, seen);
            }
        }
        for _ in 0..gateways {
            let clock = clock(&mut house.random);
            let side = house.gateway_side(clock);
            let gateway = host(&mut house.random, servers, side, clock);
            house.gateways.push(gateway);
        }
        for _ in 0..servers {
            let clock = clock(&mut house.random);
            let mut epochs = Epochs::after(0, 1_000);
            // Another block is due soon.
            epochs.raise(1_000 + EPOCHS_RESERVED / 2 - 2 - seed % 5);
            let side = ServerSide {
                server: Server::new(house.timing, 1_000, epochs, clock.at(0)),
                ways: BTreeMap::new(),
                written: epochs.end(),
            };
            let server = host(&mut house.random, gateways, side, clock);
            house.servers.push(server);
        }
        for server in 0..servers {
            house.wish_all(server);
        }
        for gateway in 0..gateways {
            house.give_tables(gateway);
        }
        house
    }

    fn gateway_side(&self, clock: Clock) -> GatewaySide {
        GatewaySide {
            // The wall clock is right.
            gateway: Gateway::new(self.now_us + 1_000 + clock.speed),
            words: BTreeMap::new(),
            fences: BTreeMap::new(),
            state: State::Alive,
        }
    }

    fn ways(&self, id: VnicId) -> (Way, Vec<Way>) {
        let home = self.homes[&id];
        let way = |gateway: usize| Way { peer: gateway, uplink: uplink_of(gateway) };
        let count = self.gateways.len().max(home + 1);
        (way(home), (0..count).filter(|at| *at != home).map(way).collect())
    }

    fn wish_all(&mut self, server: usize) {
        let mine: Vec<VnicId> = self.of(server).collect();
        for id in mine {
            let (home, standbys) = self.ways(id);
            let wish = Wish { home, standbys, fail_back_us: None };
            self.servers[server].machine.server.wish(id, wish);
        }
    }

    fn of(&self, server: usize) -> impl Iterator<Item = VnicId> + '_ {
        self.vnics.iter().filter(move |(_, seen)| seen.server == server).map(|(id, _)| *id)
    }

    fn give_tables(&mut self, gateway: usize) {
        let tabled = |(id, seen): (&VnicId, &Seen)| {
            let home = (self.homes[id] == gateway).then(|| uplink_of(gateway));
            let uplinks = vec![uplink_of(gateway)];
            (*id, Tabled { peer: seen.server, uplinks, home, leased: true })
        };
        let tables = self.vnics.iter().map(tabled).collect();
        let local_us = self.gateways[gateway].clock.at(self.now_us);
        let side = &mut self.gateways[gateway].machine;
        side.gateway.tables(local_us, tables);
        let report = StateReport { uplink: uplink_of(gateway), state: side.state };
        side.gateway.states(local_us, vec![report]);
        for server in 0..self.servers.len() {
            self.gateways[gateway].machine.gateway.session(local_us, server);
        }
        self.drain_gateway(gateway);
    }

    fn send(&mut self, to_gateway: bool, server: usize, gateway: usize, message: Message) {
        let cut_us = self.cuts.get(&(to_gateway, server, gateway)).copied().unwrap_or(0);
        let bad = self.faults && self.now_us < FAULTS_END_US;
        let lossy = self.lossy.get(&(to_gateway, server, gateway)).copied().unwrap_or(0);
        let lossy = lossy > 0 && self.random.below(100) < lossy;
        let lost =
            lossy || self.now_us < cut_us || (bad && self.random.below(100) < self.loss_percent);
        let slow = bad && self.random.one_in(20);
        let delay_us = if slow { self.random.below(40_000) } else { 50 + self.random.below(300) };
        if !lost {
            self.under_way.push((self.now_us + delay_us, to_gateway, server, gateway, message));
        }
    }

    fn deliver(&mut self) {
        let now_us = self.now_us;
        let (mut due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.under_way).into_iter().partition(|(at, ..)| *at <= now_us);
        self.under_way = later;
        due.sort_by_key(|(at, ..)| *at);
        for (_, to_gateway, server, gateway, message) in due {
            if to_gateway {
                let host = &mut self.gateways[gateway];
                if now_us < host.down_until_us {
                    continue;
                }
                match message {
                    Message::Frame(frame) => host.frames.push_back(frame),
                    other => host.inbox.push_back((server, other)),
                }
            } else if now_us >= self.servers[server].down_until_us {
                self.servers[server].inbox.push_back((gateway, message));
            }
        }
    }

    fn word(&self, gateway: usize, id: VnicId) -> Word {
        let host = &self.gateways[gateway];
        let word = host.machine.words.get(&(id, uplink_of(gateway))).copied().unwrap_or_default();
        let fence_us = host.machine.fences.get(&self.vnics[&id].server).copied().unwrap_or(0);
        let fenced = word.leased && host.clock.at(self.now_us) > fence_us;
        let down = self.now_us < host.down_until_us;
        if fenced || down { Word::default() } else { word }
    }

    /// What a gateway's worker does with a frame.
    fn pass(&mut self, gateway: usize, frame: Frame) {
        let word = self.word(gateway, frame.vnic);
        if !word.egress || frame.uplink != uplink_of(gateway) {
            return;
        }
        let server = &self.servers[self.vnics[&frame.vnic].server].machine.server;
        let going = server.standing(frame.vnic).and_then(|it| it.going);
        let seen = self.vnics.get_mut(&frame.vnic).unwrap();
        // What was under way when the vNIC left may come when it is back again.
        let returned = seen.swaps.iter().skip(frame.swap + 1).any(|(_, to)| *to == gateway)
            || going.is_some_and(|way| way.peer == gateway)
            || seen.tried.iter().any(|(swap, to)| *swap > frame.swap && *to == gateway);
        for (other, passed) in seen.passed.iter().filter(|(other, _)| **other != gateway) {
            let mut between = seen.swaps.iter().take(passed + 1).skip(frame.swap + 1);
            assert!(
                between.all(|(planned, _)| *planned) || returned,
                "seed {} at {} us: gateway {gateway} passes a frame of before swap {passed}, gateway \
                 {other} has passed one of after it: vNIC {} {:?}\n{}",
                self.seed,
                self.now_us,
                frame.vnic,
                seen.swaps,
                self.log.join("\n")
            );
        }
        let passed = seen.passed.entry(gateway).or_default();
        *passed = frame.swap.max(*passed);
        seen.frames += 1;
    }

    fn send_frames(&mut self) {
        let ids: Vec<VnicId> = self.vnics.keys().copied().collect();
        for vnic in ids {
            let server = self.vnics[&vnic].server;
            let host = &self.servers[server];
            if self.now_us < host.down_until_us || self.now_us < host.worker_stalls_until_us {
                continue;
            }
            let Some(way) = host.machine.ways.get(&vnic).copied() else { continue };
            let swap = self.vnics[&vnic].swaps.len() - 1;
            self.send(
                true,
                server,
                way.peer,
                Message::Frame(Frame { vnic, uplink: way.uplink, swap }),
            );
        }
    }

    /// Frames from outside have at most one way in, but for a planned move.
    fn check_inward(&self) {
        for (id, seen) in &self.vnics {
            let open = (0..self.gateways.len()).filter(|gateway| {
                let word = self.word(*gateway, *id);
                word.inward && !word.leaving
            });
            let calm = self.now_us > seen.planned_us + 400_000 || seen.planned_us == 0;
            assert!(
                !calm || open.clone().count() <= 1,
                "seed {} at {} us: vNIC {id} has several ways in: {:?}\n{}",
                self.seed,
                self.now_us,
                open.collect::<Vec<_>>(),
                self.log.join("\n")
            );
        }
    }

    /// One seed.
    pub(super) fn run(mut self) {
        let steps = (FAULTS_END_US + BOUND_US) / STEP_US;
        for step in 0..steps {
            self.now_us = step * STEP_US;
            if self.faults && self.now_us < FAULTS_END_US && self.random.one_in(80) {
                self.trouble();
            }
            if self.now_us == FAULTS_END_US {
                self.lossy.clear();
                (0..self.gateways.len()).for_each(|at| self.set_state(at, State::Alive));
            }
            self.step();
        }
        let before: Vec<u64> = self.vnics.values().map(|seen| seen.frames).collect();
        for step in steps..steps + 80 {
            self.now_us = step * STEP_US;
            self.step();
        }
        for ((id, seen), before) in self.vnics.iter().zip(before) {
            let standing = self.servers[seen.server].machine.server.standing(*id).unwrap();
            assert!(
                standing.confirmed && standing.going.is_none() && seen.frames > before + 10,
                "seed {}: vNIC {id} is not attached: {standing:?}\n{}\n{:?}\n{:?}",
                self.seed,
                self.log.join("\n"),
                self.servers[seen.server].machine.server,
                self.gateways.iter().map(|it| &it.machine.gateway).collect::<Vec<_>>()
            );
        }
    }

    fn step(&mut self) {
        self.deliver();
        (0..self.gateways.len()).for_each(|at| self.run_gateway(at));
        (0..self.servers.len()).for_each(|at| self.run_server(at));
        if self.now_us.is_multiple_of(1_000) {
            self.send_frames();
        }
        self.check_inward();
    }
}
