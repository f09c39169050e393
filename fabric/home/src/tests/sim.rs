//! The house.

use crate::{
    Answers, Claims, Epochs, Gateway, GatewayOutput, Server, ServerOutput, State, StateReport,
    States, Tabled, Timing, Way, Why, Wish, Word,
};
use std::collections::{BTreeMap, VecDeque};
use wireonce_wire::{UplinkId, VnicId};

const STEP_US: u64 = 250;
const FAULTS_END_US: u64 = 2_000_000;
/// After the last fault everything is in order within this time.
const BOUND_US: u64 = 600_000;
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
    pub(super) faults: bool,
    /// What happened to homes, for whoever reads of a failure.
    log: Vec<String>,
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
        let mut random = Random(seed);
        let servers = usize::try_from(1 + random.below(2)).unwrap();
        let gateways = usize::try_from(2 + random.below(2)).unwrap();
        let each = 1 + random.below(3);
        let mut house = Self {
            seed,
            loss_percent: random.below(30),
            now_us: 0,
            servers: Vec::new(),
            gateways: Vec::new(),
            vnics: BTreeMap::new(),
            homes: BTreeMap::new(),
            under_way: Vec::new(),
            cuts: BTreeMap::new(),
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
            let side = ServerSide {
                server: Server::new(Timing::FAST, 1_000, Epochs::after(0, 1_000), clock.at(0)),
                ways: BTreeMap::new(),
                written: Epochs::after(0, 1_000).end(),
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
        let lost = self.now_us < cut_us || (bad && self.random.below(100) < self.loss_percent);
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

    fn run_server(&mut self, at: usize) {
        let now_us = self.now_us;
        let host = &mut self.servers[at];
        if now_us < host.agent_stalls_until_us || now_us < host.down_until_us {
            return;
        }
        let local_us = host.clock.at(now_us);
        for (gateway, message) in std::mem::take(&mut host.inbox) {
            let side = &mut self.servers[at].machine;
            match message {
                Message::Hello(number, heard) => {
                    let echoed_us = self.servers[at].links[gateway].take(number, heard);
                    self.servers[at].machine.server.hello(local_us, gateway, echoed_us);
                    // A server answers at once.
                    self.servers[at].links[gateway].next_us = now_us;
                }
                Message::Answers(answers) => {
                    side.server.answers(local_us, gateway, &answers);
                }
                Message::States(states) => side.server.states(local_us, gateway, &states),
                Message::Claims(_) | Message::Frame(_) => {}
            }
        }
        let host = &mut self.servers[at];
        if local_us >= host.next_tick_us {
            host.next_tick_us = host.machine.server.tick(local_us);
        }
        self.drain_server(at);
        for gateway in 0..self.gateways.len() {
            if now_us >= self.servers[at].links[gateway].next_us {
                self.servers[at].links[gateway].next_us = now_us + HELLO_US;
                let hello = self.servers[at].links[gateway].hello(local_us);
                self.send(true, at, gateway, hello);
            }
        }
    }

    fn drain_server(&mut self, at: usize) {
        while let Some(output) = self.servers[at].machine.server.poll_output() {
            match output {
                ServerOutput::Send(gateway, claims) => {
                    let claims = Claims::parse(&claims.emit()).unwrap();
                    self.send(true, at, gateway, Message::Claims(claims));
                }
                ServerOutput::Use(id, way, why) => {
                    self.servers[at].machine.ways.insert(id, way);
                    let last = self.vnics[&id].swaps.last().map(|(_, gateway)| *gateway);
                    // A life may begin where the one before ended.
                    let stays = last == Some(way.peer);
                    let lost = matches!(why, Why::Start | Why::Silent | Why::Unheard);
                    let planned = stays || !lost;
                    let now_us = self.now_us;
                    self.log.push(format!(
                        "{now_us}: vNIC {id} goes to {} ({})",
                        way.peer,
                        why.name()
                    ));
                    let seen = self.vnics.get_mut(&id).unwrap();
                    seen.swaps.push((planned, way.peer));
                    if !lost {
                        seen.planned_us = self.now_us;
                    }
                }
            }
        }
        let ids: Vec<VnicId> = self.of(at).collect();
        for id in ids {
            let epoch = self.servers[at].machine.server.standing(id).map_or(0, |it| it.epoch);
            let seen = self.vnics.get_mut(&id).unwrap();
            // A target that was given up has the newest one, so only what is used counts.
            if epoch > 0 {
                let at = self.servers[at].machine.server.standing(id).unwrap();
                if at.going.is_none() && at.at.is_some() {
                    assert!(epoch >= seen.epoch, "seed {}: epoch fell", self.seed);
                    seen.epoch = epoch;
                }
            }
        }
    }

    fn run_gateway(&mut self, at: usize) {
        let now_us = self.now_us;
        let host = &mut self.gateways[at];
        if now_us < host.down_until_us {
            return;
        }
        let local_us = host.clock.at(now_us);
        if now_us >= host.agent_stalls_until_us {
            for (server, message) in std::mem::take(&mut host.inbox) {
                match message {
                    Message::Hello(number, heard) => {
                        let echoed_us = self.gateways[at].links[server].take(number, heard);
                        if let Some(us) = echoed_us {
                            self.gateways[at].machine.gateway.echo(local_us, server, us);
                        }
                    }
                    Message::Claims(claims) => {
                        self.gateways[at].machine.gateway.claims(local_us, server, &claims);
                    }
                    _ => {}
                }
            }
            let host = &mut self.gateways[at];
            if local_us >= host.next_tick_us {
                host.next_tick_us =
                    host.machine.gateway.tick(local_us).min(local_us + 2 * HELLO_US);
            }
            self.drain_gateway(at);
            for server in 0..self.servers.len() {
                if now_us >= self.gateways[at].links[server].next_us {
                    self.gateways[at].links[server].next_us = now_us + HELLO_US;
                    let hello = self.gateways[at].links[server].hello(local_us);
                    self.send(false, server, at, hello);
                }
            }
        }
        if now_us >= self.gateways[at].worker_stalls_until_us {
            for frame in std::mem::take(&mut self.gateways[at].frames) {
                self.pass(at, frame);
            }
        }
    }

    fn drain_gateway(&mut self, at: usize) {
        while let Some(output) = self.gateways[at].machine.gateway.poll_output() {
            match output {
                GatewayOutput::Show(id, uplink, word) => {
                    self.gateways[at].machine.words.insert((id, uplink), word);
                }
                GatewayOutput::Fence(server, until_us) => {
                    self.gateways[at].machine.fences.insert(server, until_us);
                }
                GatewayOutput::Answer(server, answers) => {
                    let answers = Answers::parse(&answers.emit()).unwrap();
                    self.send(false, server, at, Message::Answers(answers));
                }
                GatewayOutput::Tell(server, states) => {
                    let states = States::parse(&states.emit()).unwrap();
                    self.send(false, server, at, Message::States(states));
                }
                GatewayOutput::Announce(..) => {}
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
            || going.is_some_and(|way| way.peer == gateway);
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

    fn trouble(&mut self) {
        let now_us = self.now_us;
        let servers = self.servers.len() as u64;
        let gateways = self.gateways.len() as u64;
        let server = usize::try_from(self.random.below(servers)).unwrap();
        let gateway = usize::try_from(self.random.below(gateways)).unwrap();
        match self.random.below(12) {
            0 => {
                let to_gateway = self.random.one_in(2);
                let until_us = now_us + self.random.below(400_000);
                self.cuts.insert((to_gateway, server, gateway), until_us.min(FAULTS_END_US));
            }
            1 => {
                let until_us = now_us + self.random.below(400_000);
                for to_gateway in [false, true] {
                    self.cuts.insert((to_gateway, server, gateway), until_us.min(FAULTS_END_US));
                }
            }
            2 | 3 => self.gateways[gateway].agent_stalls_until_us = self.stall(),
            4 => self.gateways[gateway].worker_stalls_until_us = self.stall(),
            5 => self.servers[server].agent_stalls_until_us = self.stall(),
            6 => self.servers[server].worker_stalls_until_us = self.stall(),
            7 => {
                let until_us = self.stall();
                self.gateways[gateway].agent_stalls_until_us = until_us;
                self.gateways[gateway].worker_stalls_until_us = until_us;
            }
            8 => self.restart_gateway(gateway),
            9 if self.random.one_in(2) => self.restart_server(server),
            10 => {
                let states = [State::Alive, State::Draining, State::Sick, State::Gone];
                let state = states[usize::try_from(self.random.below(4)).unwrap()];
                self.set_state(gateway, state);
            }
            11 => {
                let ids: Vec<VnicId> = self.of(server).collect();
                let id = ids[usize::try_from(self.random.below(ids.len() as u64)).unwrap()];
                self.homes.insert(id, gateway);
                (0..self.gateways.len()).for_each(|at| self.give_tables(at));
                self.wish_all(server);
            }
            _ => {}
        }
    }

    fn stall(&mut self) -> u64 {
        self.now_us + 5_000 + self.random.below(45_000)
    }

    fn set_state(&mut self, gateway: usize, state: State) {
        // Whatever moves for it is planned.
        for seen in self.vnics.values_mut() {
            seen.planned_us = self.now_us;
        }
        let host = &mut self.gateways[gateway];
        host.machine.state = state;
        let report = StateReport { uplink: uplink_of(gateway), state };
        host.machine.gateway.states(host.clock.at(self.now_us), vec![report]);
        self.drain_gateway(gateway);
    }

    fn restart_gateway(&mut self, at: usize) {
        self.log.push(format!("{}: gateway {at} restarts", self.now_us));
        let clock = self.gateways[at].clock;
        let side = self.gateway_side(clock);
        let servers = self.servers.len();
        let life = self.gateways[at].life + 1;
        self.gateways[at] = host(&mut self.random, servers, side, clock);
        self.gateways[at].life = life;
        self.gateways[at].down_until_us = self.now_us + self.random.below(100_000);
        for server in 0..servers {
            self.servers[server].links[at] = Link { next_us: self.now_us, ..Link::default() };
            // Hellos of a session that is over do not open.
            self.servers[server].inbox.retain(|(gateway, _)| *gateway != at);
            self.servers[server].machine.server.session(at);
        }
        self.under_way.retain(|(_, to_gateway, _, gateway, message)| {
            *gateway != at || (*to_gateway && matches!(message, Message::Frame(_)))
        });
        self.give_tables(at);
    }

    fn restart_server(&mut self, at: usize) {
        self.log.push(format!("{}: server {at} restarts", self.now_us));
        let clock = self.servers[at].clock;
        let gateways = self.gateways.len();
        let down_us = self.random.below(100_000);
        // Its wall clock may have gone back.
        let epochs = Epochs::after(self.servers[at].machine.written, self.random.below(10_000));
        let life = self.servers[at].life + 1;
        // So may the number of its life, but no life has that of another.
        let claimed_life = 1_000 * life - if self.random.one_in(4) { 1_500 - life } else { 0 };
        let begins_us = clock.at(self.now_us + down_us);
        let side = ServerSide {
            server: Server::new(Timing::FAST, claimed_life, epochs, begins_us),
            ways: BTreeMap::new(),
            written: epochs.end(),
        };
        self.servers[at] = host(&mut self.random, gateways, side, clock);
        self.servers[at].life = life;
        self.servers[at].down_until_us = self.now_us + down_us;
        for gateway in 0..gateways {
            self.gateways[gateway].links[at] = Link { next_us: self.now_us, ..Link::default() };
            self.gateways[gateway].inbox.retain(|(server, _)| *server != at);
        }
        self.under_way.retain(|(_, to_gateway, server, _, message)| {
            *server != at || (*to_gateway && matches!(message, Message::Frame(_)))
        });
        self.wish_all(at);
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

    /// For single steps: no faults but those that are made.
    pub(super) fn calm(seed: u64) -> Self {
        Self { faults: false, ..Self::new(seed) }
    }

    /// Lets time pass.
    pub(super) fn pass_time(&mut self, us: u64) {
        let until_us = self.now_us + us;
        while self.now_us < until_us {
            self.step();
            self.now_us += STEP_US;
        }
    }

    pub(super) fn first_vnic(&self) -> (VnicId, usize, usize) {
        let (id, seen) = self.vnics.first_key_value().unwrap();
        (*id, seen.server, self.homes[id])
    }

    pub(super) fn at(&self, id: VnicId) -> Option<usize> {
        let server = self.vnics[&id].server;
        self.servers[server].machine.server.standing(id)?.at.map(|way| way.peer)
    }

    pub(super) fn swaps(&self, id: VnicId) -> u64 {
        let server = self.vnics[&id].server;
        self.servers[server].machine.server.standing(id).map_or(0, |it| it.swaps)
    }

    pub(super) fn frames(&self, id: VnicId) -> u64 {
        self.vnics[&id].frames
    }

    pub(super) fn kill_gateway(&mut self, at: usize) {
        self.gateways[at].down_until_us = u64::MAX;
    }

    /// Cuts one direction or both, for ever.
    pub(super) fn cut(&mut self, server: usize, gateway: usize, to_gateway: bool) {
        self.cuts.insert((to_gateway, server, gateway), u64::MAX);
    }

    pub(super) fn count(&self) -> (usize, usize) {
        (self.servers.len(), self.gateways.len())
    }

    pub(super) fn move_home(&mut self, id: VnicId, to: usize) {
        self.homes.insert(id, to);
        (0..self.gateways.len()).for_each(|at| self.give_tables(at));
        self.wish_all(self.vnics[&id].server);
    }

    /// A gateway as a whole does nothing for a while.
    pub(super) fn stop_hearing(&mut self, at: usize, us: u64) {
        let until_us = self.now_us + us;
        self.gateways[at].agent_stalls_until_us = until_us;
        self.gateways[at].worker_stalls_until_us = until_us;
    }

    pub(super) fn stall_server(&mut self, at: usize, us: u64) {
        self.servers[at].agent_stalls_until_us = self.now_us + us;
    }
}
