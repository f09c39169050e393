//! The thread that probes the outside, and what the rest of the gateway has of it.
//!
//! It sleeps until something comes in or a second is over. Frames go out through the first worker,
//! which has all ports; what comes in, any worker hands on ([`Gate`]).

use super::{
    desk::{Desk, Line, Output},
    gate::{Designated, Event, Gate, Unheard},
    keys::own_mac,
    view,
};
use crate::{
    bond::{self, Part},
    health::Health,
    worker::{Command, Worker},
};
use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tracing::{info, warn};
use wireonce_config::{Config, Uplink};
use wireonce_directory::PeerNumbers;
use wireonce_host::{OUTSIDE_CHANNEL, SessionListener, workers::Mailbox};
use wireonce_ledger::{
    Status,
    status::{MemberStatus, NextHopStatus},
};
use wireonce_link::{AgentHandle, PeerId, SessionEvent, StaticKey};
use wireonce_wire::UplinkId;

/// Events that wait for the thread; what is beyond is said again a second later, or counted.
const EVENTS_MAX: usize = 4_096;
/// The least probes a second that an uplink hands on, and as many more for each uplink of its pool.
const PROBES_PER_S: u32 = 100;
/// Where the kernel says what a bond is.
const SYS: &str = "/sys/class/net";
/// Bonds, and whatever has no event, are looked at so often.
const LOOK: Duration = Duration::from_secs(1);
/// Batches of frames that may wait for the worker.
const BATCHES_MAX: usize = 64;
/// VLANs that are named in one line of the log.
const VLANS_NAMED: usize = 8;

/// The probes of a gateway. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Probes {
    desk: Arc<Mutex<Desk>>,
    gates: Arc<Mutex<BTreeMap<UplinkId, Arc<Gate>>>>,
    key: StaticKey,
    events: mpsc::SyncSender<Event>,
    unheard: Arc<Unheard>,
}

/// The mail of a thread that is not started yet.
#[derive(Debug)]
pub(crate) struct Inbox(mpsc::Receiver<Event>);

/// The running thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ProbesThread {
    events: mpsc::SyncSender<Event>,
    thread: Option<JoinHandle<()>>,
}

/// Hears of sessions and of other gateways on the agent's thread, and hands on.
#[derive(Debug)]
pub(crate) struct Ears<L> {
    next: L,
    events: mpsc::SyncSender<Event>,
}

impl<L: SessionListener> SessionListener for Ears<L> {
    fn session(&self, event: SessionEvent) {
        let news = match &event {
            SessionEvent::Up(session) => Some((session.peer, true)),
            SessionEvent::Down(peer) | SessionEvent::Gone(peer) | SessionEvent::Idle(peer, _) => {
                Some((*peer, false))
            }
            _ => None,
        };
        if let Some((peer, up)) = news {
            // If there is no room, what the gateway says each second tells as much.
            let _ = self.events.try_send(Event::Session(peer, up));
        }
        self.next.session(event);
    }

    fn message(&self, peer: PeerId, channel: u8, payload: &[u8]) {
        if channel == OUTSIDE_CHANNEL {
            // If there is no room, the next second will do.
            let _ = self.events.try_send(Event::News(peer, payload.to_vec()));
        } else {
            self.next.message(peer, channel, payload);
        }
    }

    fn hello(&self, peer: PeerId, now_us: u64, echoed_us: Option<u64>) {
        self.next.hello(peer, now_us, echoed_us);
    }

    fn tick(&self, now_us: u64) -> Option<u64> {
        self.next.tick(now_us)
    }
}

impl Probes {
    /// The pools of this host, with its `key`. Nothing is sent before [`Self::start`].
    pub(crate) fn new(
        config: &Config,
        numbers: &PeerNumbers,
        key: StaticKey,
        health: &Health,
    ) -> (Self, Inbox) {
        let (events, inbox) = mpsc::sync_channel(EVENTS_MAX);
        let wake = events.clone();
        // If there is no room, the thread is awake.
        health.listen(move |_| drop(wake.try_send(Event::Changed)));
        let probes = Self {
            desk: Arc::new(Mutex::new(Desk::new(wall_clock_us(), health.clone()))),
            gates: Arc::default(),
            key,
            events,
            unheard: Arc::default(),
        };
        probes.change(config, numbers, 0);
        (probes, Inbox(inbox))
    }

    /// Another configuration.
    pub(crate) fn change(&self, config: &Config, numbers: &PeerNumbers, now_us: u64) {
        let gates: BTreeMap<UplinkId, Arc<Gate>> =
            config.local_uplinks().map(|(it, _)| (it.id, self.gate(config, it))).collect();
        let pools = view::pools(config, numbers, &self.key);
        lock(&self.desk).change(pools, |uplink| gates.get(&uplink).map(Arc::clone), now_us);
        *lock(&self.gates) = gates;
        // If there is no room, the thread is awake.
        let _ = self.events.try_send(Event::Changed);
    }

    /// The gate of an uplink of this host; the same one as long as it stays in its pool.
    pub(crate) fn gate(&self, config: &Config, uplink: &Uplink) -> Arc<Gate> {
        let mut gates = lock(&self.gates);
        let pool = &uplink.pool;
        let neighbour = gates.values().find(|gate| gate.designated().is_of(pool));
        let designated = neighbour.map_or_else(
            || Arc::new(Designated::new(pool, view::configured(config, pool))),
            |gate| Arc::clone(gate.designated()),
        );
        let members = u32::try_from(config.uplinks_of(&uplink.pool).count()).unwrap_or(u32::MAX);
        let probes_per_s = PROBES_PER_S.saturating_mul(members);
        if let Some(gate) = gates.get(&uplink.id)
            && Arc::ptr_eq(gate.designated(), &designated)
        {
            gate.limit_to(probes_per_s);
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate::new(
            uplink.id,
            designated,
            own_mac(&self.key, uplink.id.0),
            self.events.clone(),
            Arc::clone(&self.unheard),
            probes_per_s,
        ));
        gates.insert(uplink.id, Arc::clone(&gate));
        gate
    }

    /// For whoever hears of sessions.
    pub(crate) fn ears<L>(&self, next: L) -> Ears<L> {
        Ears { next, events: self.events.clone() }
    }

    /// Starts the thread. `part_changed` hears when another part of an uplink's capacity is there.
    pub(crate) fn start(
        &self,
        inbox: Inbox,
        agent: AgentHandle,
        worker: Mailbox<Worker>,
        clock: Instant,
        part_changed: impl Fn(UplinkId, Part) + Send + 'static,
    ) -> io::Result<ProbesThread> {
        let desk = Arc::clone(&self.desk);
        let part_changed = Box::new(part_changed);
        let thread = Thread { desk, inbox: inbox.0, agent, worker, clock, part_changed };
        let thread = thread::Builder::new().name("probes".into()).spawn(move || thread.run())?;
        Ok(ProbesThread { events: self.events.clone(), thread: Some(thread) })
    }

    /// Adds to a status what this knows: pairs and counters.
    pub(crate) fn tell(&self, status: &mut Status) {
        let desk = lock(&self.desk);
        status.outside = desk.pairs();
        let counted = desk.counted();
        let limited = self.unheard.limited.load(Ordering::Relaxed);
        let limited = (limited > 0).then_some(("probe_limited", limited));
        for (name, count) in counted.into_iter().chain(limited) {
            status.counters.insert(name.to_owned(), count);
        }
    }

    /// The next hop of an uplink, and the ports of its bond.
    pub(crate) fn of_uplink(&self, uplink: UplinkId) -> (Option<NextHopStatus>, Vec<MemberStatus>) {
        let desk = lock(&self.desk);
        (desk.next_hop(uplink), desk.members(uplink))
    }

    /// Whether an uplink lets broadcast in, as far as the pool is concerned.
    pub(crate) fn is_designated(&self, uplink: UplinkId) -> bool {
        lock(&self.gates).get(&uplink).is_some_and(|gate| gate.designated().get() == uplink)
    }
}

/// What lives on the thread.
struct Thread {
    desk: Arc<Mutex<Desk>>,
    inbox: mpsc::Receiver<Event>,
    agent: AgentHandle,
    worker: Mailbox<Worker>,
    clock: Instant,
    part_changed: Box<dyn Fn(UplinkId, Part) + Send>,
}

impl Thread {
    fn run(self) {
        let mut looked: Option<Instant> = None;
        loop {
            if looked.is_none_or(|at| at.elapsed() >= LOOK) {
                looked = Some(Instant::now());
                self.look_at_bonds();
            }
            let now_us = self.now_us();
            let due_us = lock(&self.desk).next_due_us();
            let wait = due_us.map_or(LOOK, |due_us| {
                Duration::from_micros(due_us.saturating_sub(now_us)).min(LOOK)
            });
            let first = match self.inbox.recv_timeout(wait) {
                Ok(event) => Some(event),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            let output = {
                let mut desk = lock(&self.desk);
                // What has come counts before silences do: a stall of ours is none of theirs.
                let rest = self.inbox.try_iter().take(EVENTS_MAX);
                for event in first.into_iter().chain(rest) {
                    if !self.take(&mut desk, event) {
                        return;
                    }
                }
                let now_us = self.now_us();
                if desk.next_due_us().is_some_and(|due_us| due_us <= now_us) {
                    desk.tick(now_us);
                }
                desk.take_output()
            };
            self.carry_out(output);
        }
    }

    /// False if the thread is to end.
    fn take(&self, desk: &mut Desk, event: Event) -> bool {
        let now_us = self.now_us();
        match event {
            Event::Probe { at, vlan, frame } => desk.probe(at, vlan, &frame, now_us),
            Event::Answer { at, vlan, frame } => desk.answer(at, vlan, &frame, now_us),
            Event::Carrier(uplink, carrier) => desk.carrier(uplink, carrier, now_us),
            Event::News(peer, payload) => desk.news(peer, &payload, now_us),
            Event::Session(peer, up) => desk.session(peer, up, now_us),
            Event::Changed => desk.health_changed(now_us),
            Event::Stop => return false,
        }
        true
    }

    fn look_at_bonds(&self) {
        let interfaces = lock(&self.desk).interfaces();
        let bonds: Vec<_> = interfaces
            .into_iter()
            .map(|(uplink, interface)| (uplink, bond::read(Path::new(SYS), &interface)))
            .collect();
        let mut desk = lock(&self.desk);
        bonds.into_iter().for_each(|(uplink, bond)| desk.bond(uplink, bond));
    }

    fn carry_out(&self, output: Output) {
        let Output { frames, messages, lines, parts } = output;
        lines.iter().for_each(log);
        if !frames.is_empty() {
            // A worker that is so far behind sends none of them; the next ones are a second away.
            let _ = self.worker.try_post(Command::Emit(frames), BATCHES_MAX);
        }
        for (peer, message) in messages {
            self.agent.want(peer);
            self.agent.send(peer, OUTSIDE_CHANNEL, message);
        }
        for (uplink, part) in parts {
            (self.part_changed)(uplink, part);
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Drop for ProbesThread {
    fn drop(&mut self) {
        // Full only of what the thread is reading.
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has ended the process already.
            let _ = thread.join();
        }
    }
}

fn log(line: &Line) {
    match line {
        Line::Pair { uplink, other, vlans, verdict } => {
            let (vlans, state) = (name_vlans(vlans), verdict.name());
            match verdict.advice() {
                Some(look) => warn!(uplink, other, vlans, state, look, "outside"),
                None => info!(uplink, other, vlans, state, "outside"),
            }
        }
        Line::Designated { pool, before, now } => {
            warn!(pool, before, now, "another uplink lets broadcast in from outside");
        }
        Line::Loop { uplink, held: true } => warn!(
            uplink,
            "the uplink hears its own probes: there is a loop outside; broadcast is held back"
        ),
        Line::Loop { uplink, held: false } => {
            info!(uplink, "no loop outside any more; broadcast goes on");
        }
        Line::NextHop { uplink, address, state } => {
            let state = state.name();
            info!(uplink, %address, state, "next hop");
        }
        Line::Bond { uplink, live, all } => info!(uplink, live, all, "members of the bond"),
    }
}

/// Such as `untagged, 20, 30 and 98 more`.
fn name_vlans(vlans: &[Option<u16>]) -> String {
    let name = |vlan: &Option<u16>| vlan.map_or("untagged".to_owned(), |vlan| vlan.to_string());
    let named: Vec<String> = vlans.iter().take(VLANS_NAMED).map(name).collect();
    match vlans.len().saturating_sub(VLANS_NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Microseconds since 1970: later lives have larger ones, unless the clock went back.
fn wall_clock_us() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    passed.map_or(1, |passed| u64::try_from(passed.as_micros()).unwrap_or(1))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
