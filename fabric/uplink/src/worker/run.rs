//! The loop of one worker.

use super::{
    port::UplinkPort,
    snapshot::{Snapshot, UplinkSnapshot},
    tables::NewTables,
    ways::{Inwards, Outwards},
};
use crate::{
    GatewayError,
    attached::Attached,
    books::{Books, Owner},
    down::Down,
    driver::FanoutGroup,
    probe::{Emission, Gate},
    shares::Police,
    storm::OutsideStorm,
    sys,
};
use rustc_hash::FxHashMap;
use std::{collections::VecDeque, fs::File, io::Read, os::fd::AsRawFd, sync::Arc, time::Instant};
use wireonce_config::{Port as ConfiguredPort, Uplink};
use wireonce_directory::Directory;
use wireonce_host::workers::{Inbox, Mail, Reply, Seat, Side, Spin, Work};
use wireonce_ledger::Stage;
use wireonce_link::{Fabric, FabricConfig};
use wireonce_ring::{Completion, Ring, RingError, Token, Wait};
use wireonce_wire::{UplinkId, VnicId};

/// Token kinds of this loop; the fabric's two start at [`FABRIC_TOKEN_KIND`].
const MAIL: u8 = 1;
const LINK_EVENTS: u8 = 2;
pub(super) const RECEIVE: u8 = 3;
pub(super) const TRANSMIT: u8 = 4;
/// First of the fabric's token kinds.
pub(crate) const FABRIC_TOKEN_KIND: u8 = 8;

/// The token of a send names the uplink above this many bits, the slot below.
pub(super) const SLOT_BITS: u32 = 16;
/// Frames for one uplink that may wait before the kernel is entered for them, in the
/// middle of a turn.
const WAITING_MAX: usize = 256;
/// After this time with what the fabric received, the uplinks have their turn.
const FABRIC_TURN_US: u64 = 100;
/// Time between two looks at what changes without an event.
const REFRESH_US: u64 = 1_000_000;

/// What a worker needs to start.
#[derive(Debug)]
pub(crate) struct WorkerConfig {
    pub(crate) fabric: FabricConfig,
    pub(crate) directory: Arc<Directory>,
    pub(crate) attached: Arc<Attached>,
    /// This host's uplinks.
    pub(crate) uplinks: Vec<LocalUplink>,
    /// Carriers are looked at so often: the kernel's word of one that comes and goes is up to a second late.
    pub(crate) carrier_look_us: u64,
    /// The clock of this process: microseconds since then.
    pub(crate) clock: Instant,
}

/// One uplink of this host.
#[derive(Debug, Clone)]
pub(crate) struct LocalUplink {
    pub(crate) uplink: Arc<Uplink>,
    pub(crate) port: ConfiguredPort,
    /// What the outside may send to everybody, through all workers together.
    pub(crate) storm: Arc<OutsideStorm>,
    /// What the workers share it by; `None` for the only worker.
    pub(crate) group: Option<Arc<FanoutGroup>>,
    /// What frames from servers have to pass; `None`: it is not shaped.
    pub(crate) police: Option<Arc<Police>>,
    /// What frames from outside have to wait for; `None`: it is not shaped downwards.
    pub(crate) down: Option<Arc<Down>>,
    /// Who lets broadcast in, and where probes go.
    pub(crate) gate: Arc<Gate>,
}

/// What a worker of the gateway can be asked, besides what every worker can.
#[derive(Debug)]
pub(crate) enum Command {
    /// Open an uplink that the next tables will name.
    Open(Box<LocalUplink>, Reply<Result<(), GatewayError>>),
    /// No tables will name what was opened.
    Abandon(Reply<()>),
    /// Forward by these tables.
    Tables(Box<NewTables>, Reply<()>),
    /// The vNIC is behind the uplink since now.
    Announce(UplinkId, VnicId),
    /// Send these frames of our own.
    Emit(Vec<Emission>),
}

/// One worker.
pub(crate) struct Worker {
    pub(super) ring: Ring,
    inbox: Inbox<Self>,
    /// Readable whenever an interface changes.
    link_events: File,
    fabric: Fabric,
    pub(super) directory: Arc<Directory>,
    pub(super) attached: Arc<Attached>,
    /// A place is not used again: tokens of the ring name it.
    pub(super) uplinks: Vec<Option<UplinkPort>>,
    pub(super) by_id: FxHashMap<UplinkId, usize>,
    /// Places that no table names yet.
    pub(super) opened: Vec<usize>,
    /// Places that are to be empty.
    pub(super) closing: usize,
    /// What is left of uplinks that were closed.
    pub(super) closed: Vec<UplinkSnapshot>,
    /// This worker announces vNICs outside.
    pub(super) announces: bool,
    pub(super) books: Books,
    /// What the fabric received and has not had its turn.
    arrived: VecDeque<Completion>,
    /// Completions that came while others were dealt with.
    later: Vec<Completion>,
    spin: Spin,
    started: Instant,
    pub(super) next_refresh_us: u64,
    carrier_look_us: u64,
    /// Never, where another worker does it.
    next_carrier_us: u64,
}

impl Work for Worker {
    type Command = Command;
    type Snapshot = Snapshot;

    fn run(&mut self) -> Result<(), RingError> {
        let mut completions = Vec::new();
        let mut wait = Wait::Poll;
        loop {
            completions.append(&mut self.later);
            self.ring.enter(wait, &mut completions)?;
            let now_us = self.now_us();
            let mut worked = None;
            let mut mail = false;
            for completion in completions.drain(..) {
                mail |= completion.token.kind == MAIL;
                worked = side_of(&completion).or(worked);
                self.handle(completion, now_us)?;
            }
            self.serve_fabric(now_us)?;
            if mail && !self.read_mail(now_us)? {
                return Ok(());
            }
            if self.receive_more(now_us) {
                worked = Some(Side::Ports);
            }
            self.run_timers(now_us);
            self.release_waiting(now_us);
            self.submit()?;
            self.fabric.flush(&mut self.ring, now_us)?;
            self.book_outcomes();
            self.finish_closing();
            self.spin.looked(now_us, worked);
            wait = self.next_wait(now_us);
        }
    }
}

impl Worker {
    /// The worker that sits at `seat`.
    pub(crate) fn new(config: &WorkerConfig, seat: Seat<Self>) -> Result<Self, GatewayError> {
        let inbox = seat.inbox;
        let system = |action| move |source| GatewayError::System { action, source };
        let mut ring = Ring::new()?;
        let fabric = Fabric::new(&mut ring, &config.fabric)?;
        ring.poll_multi(inbox.bell_fd(), Token::new(MAIL, 0))?;
        let link_events = sys::link_events().map_err(system("listen for interface changes"))?;
        ring.poll_multi(link_events.as_raw_fd(), Token::new(LINK_EVENTS, 0))?;
        let mut worker = Self {
            ring,
            inbox,
            link_events,
            fabric,
            directory: Arc::clone(&config.directory),
            attached: Arc::clone(&config.attached),
            uplinks: Vec::new(),
            by_id: FxHashMap::default(),
            opened: Vec::new(),
            closing: 0,
            closed: Vec::new(),
            announces: config.fabric.worker == 0,
            books: Books::default(),
            arrived: VecDeque::new(),
            later: Vec::new(),
            spin: Spin::default(),
            started: config.clock,
            next_refresh_us: 0,
            carrier_look_us: config.carrier_look_us,
            next_carrier_us: if config.fabric.worker == 0 { 0 } else { u64::MAX },
        };
        for uplink in &config.uplinks {
            worker.by_id.insert(uplink.uplink.id, worker.uplinks.len());
            worker.open_uplink(uplink.clone())?;
        }
        worker.opened.clear();
        Ok(worker)
    }

    fn now_us(&self) -> u64 {
        micros(self.started)
    }

    fn handle(&mut self, completion: Completion, now_us: u64) -> Result<(), RingError> {
        match completion.token.kind {
            MAIL if completion.more => Ok(()),
            MAIL => self.ring.poll_multi(self.inbox.bell_fd(), completion.token),
            LINK_EVENTS => self.link_event(&completion),
            RECEIVE => self.receive(&completion, now_us),
            TRANSMIT => {
                self.finish(completion);
                Ok(())
            }
            _ => {
                self.arrived.push_back(completion);
                Ok(())
            }
        }
    }

    /// Takes in what the fabric received, until the uplinks must have their turn: a few
    /// buffers of somebody's bulk are a millisecond for another's answer.
    fn serve_fabric(&mut self, now_us: u64) -> Result<(), RingError> {
        while let Some(completion) = self.arrived.pop_front() {
            let Self { ring, fabric, directory, attached, uplinks, by_id, books, .. } = self;
            let mut outwards = Outwards { directory, attached, uplinks, by_id, books, now_us };
            fabric.handle(ring, &completion, now_us, &mut |inbound| outwards.take(&inbound))?;
            self.relieve()?;
            if self.now_us().saturating_sub(now_us) >= FABRIC_TURN_US {
                break;
            }
        }
        Ok(())
    }

    /// An interface changed: look at all of them soon.
    fn link_event(&mut self, completion: &Completion) -> Result<(), RingError> {
        let mut message = [0; 4096];
        // What it says does not matter. An overrun is an error here, and a change, too.
        for _ in 0..64 {
            match self.link_events.read(&mut message) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
        self.next_refresh_us = 0;
        if completion.more {
            return Ok(());
        }
        self.ring.poll_multi(self.link_events.as_raw_fd(), completion.token)
    }

    fn receive(&mut self, completion: &Completion, now_us: u64) -> Result<(), RingError> {
        let Self { ring, fabric, directory, attached, uplinks, books, .. } = self;
        let place = uplinks.get_mut(completion.token.index as usize);
        let Some(port) = place.and_then(Option::as_mut) else { return Ok(()) };
        let (mut inwards, driver) = Inwards::at(port, directory, attached, fabric, books, now_us);
        driver.receive(ring, completion, &mut |received| inwards.take(&received))
    }

    /// Reads on where a driver stopped at its bound. Returns whether one had.
    fn receive_more(&mut self, now_us: u64) -> bool {
        let Self { fabric, directory, attached, uplinks, books, .. } = self;
        let mut worked = false;
        for port in uplinks.iter_mut().flatten().filter(|port| port.driver.has_more()) {
            let (mut inwards, driver) =
                Inwards::at(port, directory, attached, fabric, books, now_us);
            driver.receive_more(&mut |received| inwards.take(&received));
            worked = true;
        }
        worked
    }

    /// Sends what has waited for its vNIC's share and may go now.
    fn release_waiting(&mut self, now_us: u64) {
        let Self { fabric, directory, attached, uplinks, books, .. } = self;
        for port in uplinks.iter_mut().flatten().filter(|port| !port.down.is_empty()) {
            let (mut inwards, _) = Inwards::at(port, directory, attached, fabric, books, now_us);
            inwards.release();
        }
    }

    /// The worker ends: what waits has an end, too.
    fn give_up_waiting(&mut self) {
        for port in self.uplinks.iter_mut().flatten() {
            port.give_up_waiting(&mut self.books);
        }
    }

    fn finish(&mut self, completion: Completion) {
        let index = (completion.token.index >> SLOT_BITS) as usize;
        let Some(port) = self.uplinks.get_mut(index).and_then(Option::as_mut) else { return };
        if let Some(sent) = port.driver.transmit().finish(completion) {
            port.finish(&mut self.books, sent);
        }
    }

    /// Lets the kernel take frames in the middle of a turn, if many wait: one buffer of
    /// small blocks is up to a thousand of them.
    fn relieve(&mut self) -> Result<(), RingError> {
        let waiting = |port: &mut UplinkPort| port.driver.transmit().in_flight() > WAITING_MAX;
        if !self.uplinks.iter_mut().flatten().any(waiting) {
            return Ok(());
        }
        self.submit()?;
        let mut completions = Vec::new();
        self.ring.enter(Wait::Poll, &mut completions)?;
        for completion in completions {
            if completion.token.kind == TRANSMIT {
                self.finish(completion);
            } else {
                self.later.push(completion);
            }
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<(), RingError> {
        let Self { uplinks, books, ring, started, .. } = self;
        for port in uplinks.iter_mut().flatten() {
            if port.has_egress() {
                port.serve_egress(books, micros(*started));
            }
            port.driver.transmit().submit(ring)?;
        }
        Ok(())
    }

    fn run_timers(&mut self, now_us: u64) {
        let Self { ring, fabric, directory, attached, uplinks, by_id, books, .. } = self;
        let mut outwards = Outwards { directory, attached, uplinks, by_id, books, now_us };
        fabric.tick(now_us, &mut |inbound| outwards.take(&inbound));
        if now_us >= self.next_refresh_us {
            self.next_refresh_us = now_us + REFRESH_US;
            for port in uplinks.iter_mut().flatten() {
                port.refresh(ring, books, directory, attached, now_us);
            }
        }
        if now_us >= self.next_carrier_us {
            self.next_carrier_us = now_us + self.carrier_look_us;
            for port in uplinks.iter_mut().flatten() {
                port.look_at_carrier(directory, attached, now_us);
            }
        }
        for port in uplinks.iter_mut().flatten() {
            port.announce(books, directory, attached, now_us);
        }
    }

    /// Books what peers say about frames that were sent earlier.
    fn book_outcomes(&mut self) {
        for outcome in self.fabric.outcomes() {
            let account = self.books.at(Owner::from_bits(outcome.account), Stage::FabricTx);
            outcome.fate.book(account, outcome.amount);
        }
    }

    /// Looks again at once while there is work, else sleeps until the next timer.
    fn next_wait(&mut self, now_us: u64) -> Wait {
        let more = self.uplinks.iter().flatten().any(|port| port.driver.has_more());
        if more || !self.arrived.is_empty() || !self.later.is_empty() {
            return Wait::Poll;
        }
        if self.spin.is_hot(now_us) {
            self.spin.give_way(|| micros(self.started));
            return Wait::Poll;
        }
        let uplinks = self.uplinks.iter().flatten();
        let announcements = uplinks.clone().filter_map(UplinkPort::next_announcement_us);
        let next_us = announcements
            .chain(uplinks.filter_map(|port| port.down.next_us(now_us)))
            .chain(self.fabric.next_deadline_us())
            .fold(self.next_refresh_us.min(self.next_carrier_us), u64::min);
        Wait::AtMostUs(next_us.saturating_sub(now_us).max(1))
    }

    /// Reads the mail. False if the worker is to end.
    fn read_mail(&mut self, now_us: u64) -> Result<bool, RingError> {
        while let Some(mail) = self.inbox.next() {
            match mail {
                Mail::Session(event) => self.fabric.apply(event),
                Mail::Snapshot(reply) => {
                    // Whoever asked may have given up.
                    let _ = reply.try_send(self.snapshot());
                }
                Mail::Own(command) => self.obey(command, now_us)?,
                Mail::Stop => {
                    self.give_up_waiting();
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Does what a command says. Whoever waits for the answer may have given up.
    fn obey(&mut self, command: Command, now_us: u64) -> Result<(), RingError> {
        match command {
            Command::Open(uplink, reply) => {
                let _ = reply.try_send(self.open_uplink(*uplink));
            }
            Command::Abandon(reply) => {
                self.abandon_opened()?;
                let _ = reply.try_send(());
            }
            Command::Announce(uplink, vnic) => {
                let place = self.by_id.get(&uplink);
                let port = place.and_then(|place| self.uplinks.get_mut(*place)?.as_mut());
                if let Some(port) = port {
                    port.announce_now(vnic, now_us);
                }
            }
            Command::Tables(tables, reply) => {
                self.take_tables(*tables, now_us)?;
                let _ = reply.try_send(());
            }
            Command::Emit(emissions) => {
                let Self { uplinks, by_id, books, .. } = self;
                for Emission { uplink, vlan, frame } in emissions {
                    let place = by_id.get(&uplink).and_then(|place| uplinks.get_mut(*place));
                    if let Some(port) = place.and_then(Option::as_mut) {
                        port.emit(books, vlan, &frame);
                    }
                }
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            uplinks: self
                .uplinks
                .iter()
                .flatten()
                .map(UplinkPort::snapshot)
                .chain(self.closed.iter().copied())
                .collect(),
            closing: self.closing,
            books: self.books.clone(),
            fabric: self.fabric.snapshot(),
        }
    }
}

/// Where a frame came from, if the completion is of one that came.
fn side_of(completion: &Completion) -> Option<Side> {
    match completion.token.kind {
        RECEIVE => Some(Side::Ports),
        FABRIC_TOKEN_KIND => Some(Side::Fabric),
        _ => None,
    }
}

/// Microseconds since `started`.
fn micros(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}
