//! The loop of one worker and what it does with its mail.

use super::{
    cost::{FABRIC_TURN_NS, FLOOD_MAX_NS, QUANTUM_NS, frame_ns},
    deliver,
    inward::{Inward, worker_of},
    local::Arena,
    mailbox::{Command, Inbox, Mailbox},
    port::Port,
    spin::Spin,
    transmit::{self, Outward},
};
use crate::{
    net::{Neighbour, Neighbours},
    vhost_user::RingStart,
    virtqueue::{GuestMemory, MappedMemory, RingError, TxFrame},
};
use rustc_hash::FxHashMap;
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Instant,
};
use tracing::warn;
use wireonce_directory::{Directory, Host};
use wireonce_ledger::{Account, DropReason};
use wireonce_link::{Fabric, FabricConfig, FabricError, Fate};
use wireonce_ring::{Completion, Ring, RingError as UringError, Token, Wait};
use wireonce_wire::VnicId;

/// Token kinds of this loop; the fabric's two start at [`FABRIC_TOKEN_KIND`].
const MAIL: u8 = 1;
const KICK: u8 = 2;
const INTERRUPT: u8 = 3;
/// A broken ring's signal to its VMM, after which nothing follows.
const BROKEN: u8 = 4;
pub(crate) const FABRIC_TOKEN_KIND: u8 = 8;

/// Rounds over the ready ports before the fabric is looked at again.
const ROUNDS_MAX: usize = 4;
/// Commands that are read before frames have their turn again.
const MAIL_MAX: usize = 256;
/// Rings of one port that a token can name.
const RINGS_MAX: usize = 32;

/// What a worker needs to start.
#[derive(Debug)]
pub(crate) struct WorkerConfig {
    pub(crate) fabric: FabricConfig,
    pub(crate) directory: Arc<Directory>,
    /// How many workers this process has.
    pub(crate) workers: usize,
}

/// One worker.
pub(crate) struct Worker {
    ring: Ring,
    inbox: Inbox,
    pub(super) fabric: Fabric,
    directory: Arc<Directory>,
    neighbours: Neighbours,
    pub(super) ports: Vec<Port>,
    by_vnic: FxHashMap<VnicId, usize>,
    pub(super) sources: FxHashMap<u64, Account>,
    colleagues: Vec<Mailbox>,
    arena: Arena,
    frame: TxFrame,
    scratch: Vec<u8>,
    broken: Vec<(usize, u16, RingError)>,
    /// What the fabric received and has not had its turn.
    arrived: VecDeque<Completion>,
    flood_credit_ns: i64,
    /// A socket that was full has room.
    room: bool,
    /// There are more commands than one turn may read.
    more_mail: bool,
    /// Where the next round starts, so that no port is always first.
    next_port: usize,
    spin: Spin,
    started: Instant,
}

/// Starts a worker's thread. Returns when it is ready, or with why it is not.
pub(crate) fn start(
    config: WorkerConfig,
    inbox: Inbox,
    colleagues: Vec<Mailbox>,
) -> Result<JoinHandle<()>, FabricError> {
    let (ready, result) = mpsc::sync_channel(1);
    let number = config.fabric.worker;
    let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        let mut worker = match Worker::new(&config, inbox, colleagues) {
            Ok(worker) => worker,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let _ = ready.send(Ok(()));
        if let Err(error) = worker.run() {
            tracing::error!(worker = number, %error, "the worker's ring failed; restart needed");
            std::process::abort();
        }
    });
    let gone = || FabricError::Ring(UringError::Create(io::ErrorKind::Other.into()));
    let thread = thread.map_err(|error| FabricError::Ring(UringError::Create(error)))?;
    result.recv().map_err(|_| gone())??;
    Ok(thread)
}

impl Worker {
    fn new(
        config: &WorkerConfig,
        inbox: Inbox,
        colleagues: Vec<Mailbox>,
    ) -> Result<Self, FabricError> {
        let mut ring = Ring::new()?;
        let fabric = Fabric::new(&mut ring, &config.fabric)?;
        ring.poll_multi(inbox.bell_fd(), Token::new(MAIL, 0))?;
        let mine =
            |id: VnicId| worker_of(id, config.workers) == Some(usize::from(config.fabric.worker));
        let mut ports = Vec::new();
        let mut by_vnic = FxHashMap::default();
        for entry in config.directory.vnics() {
            if entry.host == Host::Local && mine(entry.vnic.id) {
                by_vnic.insert(entry.vnic.id, ports.len());
                ports.push(Port::new(&entry.vnic));
            }
        }
        let mut neighbours = Neighbours::default();
        for (vni, address, vnic) in config.directory.addresses() {
            let router = vnic.allow.router_advertisement;
            neighbours.insert(vni, address, Neighbour { mac: vnic.mac, router });
        }
        Ok(Self {
            ring,
            inbox,
            fabric,
            directory: Arc::clone(&config.directory),
            neighbours,
            ports,
            by_vnic,
            sources: FxHashMap::default(),
            colleagues,
            arena: Arena::default(),
            frame: TxFrame::new(),
            scratch: Vec::new(),
            broken: Vec::new(),
            arrived: VecDeque::new(),
            flood_credit_ns: FLOOD_MAX_NS,
            room: false,
            more_mail: false,
            next_port: 0,
            spin: Spin::default(),
            started: Instant::now(),
        })
    }

    fn run(&mut self) -> Result<(), UringError> {
        let mut completions = Vec::new();
        let mut wait = Wait::Poll;
        loop {
            self.ring.enter(wait, &mut completions)?;
            let now_us = self.now_us();
            let mut worked = !completions.is_empty();
            self.refill_credits();
            let mut mail = self.more_mail;
            for completion in completions.drain(..) {
                mail |= completion.token.kind == MAIL;
                self.handle(completion)?;
            }
            worked |= self.serve_fabric(now_us)?;
            if mail && !self.read_mail()? {
                return Ok(());
            }
            self.tick(now_us);
            worked |= self.serve_guests(now_us);
            self.fabric.flush(&mut self.ring, now_us)?;
            self.unblock();
            self.publish();
            self.book_outcomes();
            self.stop_broken()?;
            self.interrupt()?;
            if worked {
                self.spin.worked(now_us);
            }
            wait = self.next_wait(now_us);
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// What a turn may use of what is not charged by the round.
    fn refill_credits(&mut self) {
        self.flood_credit_ns = (self.flood_credit_ns + QUANTUM_NS).min(FLOOD_MAX_NS);
        for port in &mut self.ports {
            port.rx_credit_ns = QUANTUM_NS;
        }
    }

    fn handle(&mut self, completion: Completion) -> Result<(), UringError> {
        match completion.token.kind {
            MAIL => {
                if !completion.more {
                    self.ring.poll_multi(self.inbox.bell_fd(), completion.token)?;
                }
                Ok(())
            }
            KICK => self.kicked(&completion),
            INTERRUPT => {
                self.interrupted(completion.token);
                Ok(())
            }
            BROKEN => Ok(()),
            _ => {
                self.arrived.push_back(completion);
                Ok(())
            }
        }
    }

    /// Takes in what the fabric received, until the guests must have their turn: a
    /// buffer is up to a thousand small frames. Returns whether there was anything.
    fn serve_fabric(&mut self, now_us: u64) -> Result<bool, UringError> {
        let mut spent_ns = 0;
        let mut worked = false;
        while spent_ns < FABRIC_TURN_NS
            && let Some(completion) = self.arrived.pop_front()
        {
            let (fabric, ring, mut inward) = self.split();
            fabric.handle(ring, &completion, now_us, &mut |inbound| inward.take(&inbound))?;
            // Opening costs about twice a copy, whoever sent the datagrams.
            let len = usize::try_from(completion.result).unwrap_or(0);
            spent_ns += inward.cost_ns + 2 * frame_ns(len);
            self.room |= completion.token.kind != FABRIC_TOKEN_KIND;
            // A ring of 256 buffers is full after one of ours.
            self.publish();
            worked = true;
        }
        Ok(worked)
    }

    /// If a socket had room again, and what waited for it went out: blocked queues may
    /// try, whatever the other sockets do.
    fn unblock(&mut self) {
        if !std::mem::take(&mut self.room) {
            return;
        }
        for queue in self.ports.iter_mut().flat_map(|port| port.tx.iter_mut().flatten()) {
            queue.blocked = false;
        }
    }

    /// A guest has put frames into a ring.
    fn kicked(&mut self, completion: &Completion) -> Result<(), UringError> {
        let (port, ring) = ring_of(completion.token);
        let queue = self
            .ports
            .get_mut(port)
            .and_then(|port| port.tx.get_mut(usize::from(ring / 2))?.as_mut())
            .filter(|queue| queue.common.generation == completion.token.generation);
        // A kick of a ring that was stopped since is nobody's.
        let Some(queue) = queue else { return Ok(()) };
        queue.ready = true;
        queue.ring.ring_mut().disable_kicks();
        // We cancel only polls of rings that are gone, so this one ended by itself.
        if !completion.more {
            self.ring.poll_multi(queue.common.kick_fd(), completion.token)?;
        }
        Ok(())
    }

    /// Signals every guest that has something new to see.
    fn interrupt(&mut self) -> Result<(), UringError> {
        for (index, port) in self.ports.iter_mut().enumerate() {
            for ring in 0..port.ring_count() {
                let Some(common) = port.common_mut(ring) else { continue };
                let Some(fd) = common.take_interrupt() else { continue };
                let token = ring_token(INTERRUPT, index, ring, common.generation);
                self.ring.signal(fd, token)?;
            }
        }
        Ok(())
    }

    fn interrupted(&mut self, token: Token) {
        let (port, ring) = ring_of(token);
        let common = self.ports.get_mut(port).and_then(|port| port.common_mut(ring));
        if let Some(common) = common.filter(|common| common.generation == token.generation) {
            common.interrupted();
        }
    }

    fn tick(&mut self, now_us: u64) {
        let (fabric, _, mut inward) = self.split();
        fabric.tick(now_us, &mut |inbound| inward.take(&inbound));
    }

    /// Rounds over the ports with frames to send. Returns whether there were any.
    fn serve_guests(&mut self, now_us: u64) -> bool {
        let mut worked = false;
        for _ in 0..ROUNDS_MAX {
            let mut any = false;
            for step in 0..self.ports.len() {
                let index = (self.next_port + step) % self.ports.len();
                any |= self.serve_port(index, now_us);
            }
            self.next_port = self.next_port.wrapping_add(1);
            worked |= any;
            if !any {
                break;
            }
        }
        worked
    }

    /// Gives one port its turn. Returns whether it had anything.
    fn serve_port(&mut self, index: usize, now_us: u64) -> bool {
        let pairs = {
            let port = &mut self.ports[index];
            let any_ready = port.tx.iter().flatten().any(|q| q.ready && !q.blocked);
            if !any_ready {
                return false;
            }
            // A debt from the last turn is paid off first.
            port.credit_ns = (port.credit_ns + QUANTUM_NS).min(QUANTUM_NS);
            port.tx.len()
        };
        let mut worked = false;
        let first = self.ports[index].next_pair;
        for pair in (first..pairs).chain(0..first) {
            // Whom the credit did not reach is first the next time.
            if self.ports[index].credit_ns <= 0 {
                break;
            }
            self.ports[index].next_pair = (pair + 1) % pairs;
            let ready = |port: &Port| port.tx[pair].as_ref().is_some_and(|q| q.ready && !q.blocked);
            if !ready(&self.ports[index]) {
                continue;
            }
            let mut out = Outward {
                fabric: &mut self.fabric,
                directory: &self.directory,
                neighbours: &self.neighbours,
                arena: &mut self.arena,
                frame: &mut self.frame,
                scratch: &mut self.scratch,
                now_us,
            };
            match transmit::turn(&mut self.ports[index], pair, &mut out) {
                Ok(turn) => {
                    worked |= turn.chains > 0;
                    if let Some(queue) = self.ports[index].tx[pair].as_mut() {
                        queue.blocked = turn.blocked;
                        queue.ready = !turn.empty;
                    }
                }
                Err(error) => {
                    let ring = u16::try_from(pair * 2 + 1).unwrap_or(u16::MAX);
                    self.broken.push((index, ring, error));
                    if let Some(queue) = self.ports[index].tx[pair].as_mut() {
                        queue.ready = false;
                    }
                }
            }
            // The sender pays for the last hop, too.
            let cost_ns = self.deliver_local();
            self.ports[index].credit_ns -= cost_ns;
        }
        worked
    }

    /// Returns the CPU time that it took, in nanoseconds.
    fn deliver_local(&mut self) -> i64 {
        let mut arena = std::mem::take(&mut self.arena);
        let (_, _, mut inward) = self.split();
        inward.take_local(&mut arena);
        let cost_ns = inward.cost_ns;
        self.arena = arena;
        cost_ns
    }

    fn publish(&mut self) {
        for port in &mut self.ports {
            deliver::publish(port);
        }
    }

    /// Books what peers say about frames that were sent earlier.
    fn book_outcomes(&mut self) {
        for outcome in self.fabric.outcomes() {
            let port = VnicId::new(outcome.account).and_then(|id| self.by_vnic.get(&id));
            let Some(port) = port.and_then(|index| self.ports.get_mut(*index)) else { continue };
            let account = &mut port.books.fabric_tx;
            match outcome.fate {
                Fate::Arrived => account.output += outcome.amount,
                Fate::Lost => account.drop(DropReason::LostInFabric, outcome.amount),
                Fate::Unknown => account.drop(DropReason::FateUnknown, outcome.amount),
            }
        }
    }

    /// Stops rings that broke, and only those.
    fn stop_broken(&mut self) -> Result<(), UringError> {
        for (index, ring, error) in std::mem::take(&mut self.broken) {
            let Some(port) = self.ports.get_mut(index) else { continue };
            port.broken_rings += 1;
            // A guest can break its ring as often as it can reset its device.
            if port.broken_rings.is_power_of_two() {
                let count = port.broken_rings;
                warn!(vnic = port.vnic.name, ring, count, %error, "stopped a broken ring");
            }
            if let Some(common) = port.common_mut(ring) {
                let generation = common.generation;
                if let Some(fd) = common.err_fd() {
                    self.ring.signal(fd, ring_token(BROKEN, index, ring, 0))?;
                }
                self.forget_ring(index, ring, generation)?;
            }
            self.ports[index].stop_ring(ring);
        }
        Ok(())
    }

    /// Looks again at once while there is work, else arms kicks and sleeps.
    fn next_wait(&mut self, now_us: u64) -> Wait {
        let full = self.fabric.is_full();
        let mut ready = false;
        for queue in self.ports.iter_mut().flat_map(|port| port.tx.iter_mut().flatten()) {
            // A blocked queue is tried again when a socket has room.
            queue.blocked &= full;
            if queue.blocked {
                continue;
            }
            if !queue.ready && self.spin.is_hot(now_us) {
                queue.ready = queue.ring.ring_mut().available().is_ok_and(|n| n > 0);
            }
            ready |= queue.ready;
        }
        let waiting = self.more_mail || !self.arrived.is_empty();
        if ready || waiting || self.spin.is_hot(now_us) {
            return Wait::Poll;
        }
        for queue in self.ports.iter_mut().flat_map(|port| port.tx.iter_mut().flatten()) {
            if !queue.blocked {
                queue.ready = queue.ring.ring_mut().enable_kicks();
                ready |= queue.ready;
            }
        }
        match self.fabric.next_deadline_us() {
            _ if ready => Wait::Poll,
            Some(at) => Wait::AtMostUs(at.saturating_sub(now_us).max(1)),
            None => Wait::Forever,
        }
    }

    /// Reads the mail. False if the worker is to end.
    fn read_mail(&mut self) -> Result<bool, UringError> {
        for _ in 0..MAIL_MAX {
            let Some(command) = self.inbox.next() else {
                self.more_mail = false;
                return Ok(true);
            };
            match command {
                Command::RingStart(vnic, start, reply) => {
                    let result = self.start_ring(vnic, *start)?;
                    let _ = reply.send(result);
                }
                Command::RingStop(vnic, index, reply) => {
                    let _ = reply.send(self.stop_ring(vnic, index)?);
                }
                Command::RingEnabled(vnic, index, enabled) => {
                    if let Some(common) = self.port(vnic).and_then(|p| p.common_mut(index)) {
                        common.enabled = enabled;
                    }
                }
                Command::RingCall(vnic, index, call) => {
                    if let Some(common) = self.port(vnic).and_then(|p| p.common_mut(index)) {
                        common.set_call(call);
                    }
                }
                Command::Connected(vnic) => {
                    if let Some(port) = self.port(vnic) {
                        port.connected = true;
                    }
                }
                Command::Features(vnic, features) => {
                    if let Some(port) = self.port(vnic) {
                        port.set_features(features);
                    }
                }
                Command::Memory(vnic, memory, reply) => {
                    self.replace_memory(vnic, memory)?;
                    let _ = reply.send(());
                }
                Command::Disconnected(vnic, reply) => {
                    self.disconnect(vnic)?;
                    let _ = reply.send(());
                }
                Command::Session(event) => self.fabric.apply(event),
                Command::Handover(frame) => {
                    let (_, _, mut inward) = self.split();
                    inward.take_handover(&frame);
                }
                Command::Snapshot(reply) => {
                    let _ = reply.send(self.snapshot());
                }
                Command::Stop => return Ok(false),
            }
        }
        // Colleagues that hand frames over can write as fast as we read.
        self.more_mail = true;
        Ok(true)
    }

    fn start_ring(
        &mut self,
        vnic: VnicId,
        start: RingStart,
    ) -> Result<Result<(), String>, UringError> {
        let Some(&index) = self.by_vnic.get(&vnic) else {
            return Ok(Err(format!("vNIC {vnic} is not served here")));
        };
        // A ring that is started again was replaced without a stop.
        self.stop_ring(vnic, start.index)?;
        let ring = start.index;
        let started = self.ports[index].start_ring(start);
        if let Ok((pair, Some(generation))) = started
            && let Some(queue) = self.ports[index].tx[pair].as_ref()
        {
            let token = ring_token(KICK, index, ring, generation);
            self.ring.poll_multi(queue.common.kick_fd(), token)?;
        }
        Ok(started.map(|_| ()))
    }

    fn stop_ring(&mut self, vnic: VnicId, ring: u16) -> Result<u16, UringError> {
        let Some(&index) = self.by_vnic.get(&vnic) else { return Ok(0) };
        let generation = self.ports[index].common_mut(ring).map(|common| common.generation);
        if let Some(generation) = generation {
            self.forget_ring(index, ring, generation)?;
        }
        // Of the ring that broke and is gone already.
        self.ring.cancel(ring_token(BROKEN, index, ring, 0))?;
        self.frame.clear();
        Ok(self.ports[index].stop_ring(ring).unwrap_or(0))
    }

    /// Moves a port's rings to another memory table. What cannot move is stopped.
    fn replace_memory(&mut self, vnic: VnicId, memory: Arc<GuestMemory>) -> Result<(), UringError> {
        let Some(&index) = self.by_vnic.get(&vnic) else { return Ok(()) };
        let mapped = MappedMemory::new(memory);
        if let Err(error) = &mapped {
            warn!(vnic = self.ports[index].vnic.name, %error, "cannot use the guest's memory");
        }
        let mapped = mapped.ok().map(Arc::new);
        for ring in 0..self.ports[index].ring_count() {
            let moved = mapped.as_ref().is_some_and(|m| self.ports[index].move_ring(ring, m));
            if !moved {
                self.stop_ring(vnic, ring)?;
            }
        }
        self.frame.clear();
        Ok(())
    }

    fn disconnect(&mut self, vnic: VnicId) -> Result<(), UringError> {
        let Some(&index) = self.by_vnic.get(&vnic) else { return Ok(()) };
        for ring in 0..self.ports[index].ring_count() {
            self.stop_ring(vnic, ring)?;
        }
        self.ports[index].disconnect();
        Ok(())
    }

    /// Ends what the kernel still does for a ring: a poll for its kicks, and a signal
    /// that its VMM holds up, and with it a thread of the kernel.
    fn forget_ring(&mut self, port: usize, ring: u16, generation: u16) -> Result<(), UringError> {
        if ring % 2 == 1 {
            self.ring.cancel(ring_token(KICK, port, ring, generation))?;
        }
        self.ring.cancel(ring_token(INTERRUPT, port, ring, generation))
    }

    fn port(&mut self, vnic: VnicId) -> Option<&mut Port> {
        self.ports.get_mut(*self.by_vnic.get(&vnic)?)
    }

    /// The parts that the way in needs, borrowed apart.
    fn split(&mut self) -> (&mut Fabric, &mut Ring, Inward<'_>) {
        let inward = Inward {
            directory: &self.directory,
            ports: &mut self.ports,
            by_vnic: &self.by_vnic,
            sources: &mut self.sources,
            colleagues: &self.colleagues,
            scratch: &mut self.scratch,
            broken: &mut self.broken,
            flood_credit_ns: &mut self.flood_credit_ns,
            cost_ns: 0,
        };
        (&mut self.fabric, &mut self.ring, inward)
    }
}

fn ring_token(kind: u8, port: usize, ring: u16, generation: u16) -> Token {
    let index = u32::try_from(port * RINGS_MAX + usize::from(ring)).unwrap_or(u32::MAX);
    Token { kind, generation, index }
}

/// The port and ring that a token names.
fn ring_of(token: Token) -> (usize, u16) {
    let index = token.index as usize;
    (index / RINGS_MAX, u16::try_from(index % RINGS_MAX).unwrap_or(0))
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
