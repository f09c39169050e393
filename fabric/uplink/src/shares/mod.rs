//! The network team's half of bandwidth: leases, and policing of those who do not obey them.
//!
//! ```text
//!   server ── report ──▶ agent thread ──▶ ┌───────────────┐
//!   server ◀── lease ─── agent thread ◀── │ shares thread │── rates (atomics) ──▶ Police
//!                                         └───────────────┘                        │
//!   server ══ frames ══▶ worker ─▶ judged ─▶ policed? ─▶ uplink    `over-..` ◀─────┘
//! ```
//! The thread sleeps while nobody reports. Another configuration changes the desks in place, so
//! that no promise is forgotten, and gives workers new meters.

mod desk;
mod police;

pub(crate) use police::Police;

use crate::{
    bond::Part,
    down::Receivers,
    presence::{Move, Presence},
};
use desk::{Desk, Standing};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use wireonce_config::{Config, Direction, Uplink, VnicPlace};
use wireonce_directory::PeerNumbers;
use wireonce_host::{BANDWIDTH_CHANNEL, SessionListener};
use wireonce_ledger::status::ShareStatus;
use wireonce_link::{AgentHandle, PeerId, SessionEvent};
use wireonce_shares::{Demand, Message, ReportMessage};
use wireonce_wire::UplinkId;

/// While promises may expire, meters are set anew in this time.
const TICK_US: u64 = 5_000;
const TICK: Duration = Duration::from_micros(TICK_US);
/// And else only looked at now and then.
const IDLE: Duration = Duration::from_secs(10);
/// Reports that wait for the thread; each says all, and the next comes in 5 ms.
const REPORTS_MAX: usize = 4_096;

/// One uplink that is shaped.
#[derive(Debug)]
struct Counter {
    desk: Desk,
    police: Arc<Police>,
}

/// The shaped uplinks of this gateway.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shares {
    counters: Arc<Mutex<Vec<Counter>>>,
    /// Who is on them now, and what of them is there.
    presence: Presence,
}

/// The running thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct SharesThread {
    news: mpsc::SyncSender<News>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum News {
    Report(PeerId, ReportMessage),
    Changed,
    Stop,
}

/// Hears of sessions and reports on the agent's thread, and hands on.
#[derive(Debug)]
pub(crate) struct Ears<L> {
    workers: L,
    news: mpsc::SyncSender<News>,
    receivers: Receivers,
}

impl<L: SessionListener> SessionListener for Ears<L> {
    fn session(&self, event: SessionEvent) {
        self.workers.session(event);
    }

    fn message(&self, peer: PeerId, channel: u8, payload: &[u8]) {
        if channel != BANDWIDTH_CHANNEL {
            return self.workers.message(peer, channel, payload);
        }
        match Message::parse(payload) {
            Some(Message::Report(report)) => {
                // If there are too many, the next one will do.
                let _ = self.news.try_send(News::Report(peer, report));
            }
            Some(Message::Receive(message)) => self.receivers.hear(peer, &message),
            Some(Message::Lease(_)) | None => {}
        }
    }

    fn hello(&self, peer: PeerId, now_us: u64, echoed_us: Option<u64>) {
        self.workers.hello(peer, now_us, echoed_us);
    }

    fn tick(&self, now_us: u64) -> Option<u64> {
        self.workers.tick(now_us)
    }
}

/// The mail of a thread that is not started yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    news: mpsc::SyncSender<News>,
    inbox: mpsc::Receiver<News>,
}

impl Shares {
    /// Promises and meters of this host's uplinks, as far as they are shaped.
    pub(crate) fn new(
        config: &Config,
        numbers: &PeerNumbers,
        presence: &Presence,
        now_us: u64,
    ) -> Self {
        let shares = Self { presence: presence.clone(), ..Self::default() };
        shares.change(config, numbers, now_us);
        shares
    }

    /// Another configuration. Workers are to police by it from now on ([`Self::police`]).
    pub(crate) fn change(&self, config: &Config, numbers: &PeerNumbers, now_us: u64) {
        let first_epoch = first_epoch();
        let mut counters = lock(&self.counters);
        let mut before = std::mem::take(&mut *counters);
        let desk = |uplink: &Arc<Uplink>| {
            let here = self.presence.vnics(uplink.id);
            let known = before.iter().position(|counter| counter.desk.uplink == uplink.id.0);
            let Some(at) = known.filter(|_| uplink.usable_bps(Direction::Up).is_some()) else {
                return (Desk::new(config, numbers, uplink, &here, first_epoch, now_us), None);
            };
            let Counter { mut desk, police } = before.swap_remove(at);
            desk.change(config, numbers, uplink, &here);
            (Some(desk), Some(police))
        };
        let desks = config.local_uplinks().map(|(uplink, _)| uplink);
        let desks: Vec<_> = desks.map(desk).zip(config.local_uplinks()).collect();
        for ((desk, before), (uplink, _)) in desks {
            let Some(desk) = desk else { continue };
            let mut desk = desk;
            desk.set_part(self.presence.part(uplink.id));
            let police = police_of(config, numbers, uplink, &desk, before.as_deref(), now_us);
            let police = Arc::new(police);
            desk.sweep(now_us);
            counters.push(Counter { desk, police });
        }
    }

    /// Another part of what `uplink` carries is there. What is promised follows at the next
    /// report; promises beyond it run out.
    pub(crate) fn part_changed(&self, uplink: UplinkId, part: Part) {
        let mut counters = lock(&self.counters);
        let counter = counters.iter_mut().find(|counter| counter.desk.uplink == uplink.0);
        if let Some(counter) = counter {
            counter.desk.set_part(part);
        }
    }

    /// vNICs came to uplinks, or have left them. Meters have it when this returns.
    pub(crate) fn moved(&self, moves: &[Move], now_us: u64) {
        for Counter { desk, police } in lock(&self.counters).iter_mut() {
            let uplink = desk.uplink;
            let mine = moves.iter().filter(|it| it.uplink.0 == uplink);
            let touched = desk.move_vnics(mine.map(|it| (it.vnic, it.here)));
            set_terms(desk, police, now_us, |peer| touched.contains(&peer));
        }
    }

    /// What `uplink` can carry towards the outside now; `None`: it is not shaped.
    pub(crate) fn up_bps(&self, uplink: &Uplink) -> Option<u64> {
        uplink.up_bps.map(|bps| self.presence.part(uplink.id).of(bps))
    }

    /// What frames for an uplink have to pass; `None` if it is not shaped.
    pub(crate) fn police(&self, uplink: UplinkId) -> Option<Arc<Police>> {
        let counters = lock(&self.counters);
        let counter = counters.iter().find(|counter| counter.desk.uplink == uplink.0)?;
        Some(Arc::clone(&counter.police))
    }

    /// For whoever hears of sessions, and the thread's mail.
    pub(crate) fn ears<L>(workers: L, receivers: Receivers) -> (Ears<L>, Inbox) {
        let (news, inbox) = mpsc::sync_channel(REPORTS_MAX);
        (Ears { workers, news: news.clone(), receivers }, Inbox { news, inbox })
    }

    /// Starts the thread. While no uplink is shaped it has nothing to do.
    pub(crate) fn start(
        &self,
        inbox: Inbox,
        agent: AgentHandle,
        clock: Instant,
    ) -> io::Result<SharesThread> {
        let Inbox { news, inbox } = inbox;
        let worker = Thread { counters: Arc::clone(&self.counters), inbox, agent, clock };
        let thread = thread::Builder::new().name("shares".into()).spawn(move || worker.run())?;
        Ok(SharesThread { news, thread: Some(thread) })
    }

    /// What each server has of each shaped uplink.
    pub(crate) fn status(&self, config: &Config, now_us: u64) -> Vec<ShareStatus> {
        let counters = lock(&self.counters);
        let mut all = Vec::new();
        for counter in counters.iter() {
            let uplink = config.uplinks.iter().find(|uplink| uplink.id.0 == counter.desk.uplink);
            let uplink = uplink.map_or(String::new(), |uplink| uplink.name.clone());
            for standing in counter.desk.standings(now_us) {
                let Standing { name, promised_bps, starter_bps, demand, served_bits, .. } =
                    standing;
                all.push(ShareStatus {
                    uplink: uplink.clone(),
                    server: name.to_owned(),
                    lease_bps: (promised_bps > starter_bps).then_some(promised_bps),
                    starter_bps,
                    demand_bps: match demand {
                        Demand::Bps(bps) => Some(bps),
                        Demand::Unbounded => None,
                    },
                    served_bits,
                });
            }
        }
        all
    }
}

/// Meters of all vNICs that may be attached to `uplink`, wanted there or not; those from `before` go on.
fn police_of(
    config: &Config,
    numbers: &PeerNumbers,
    uplink: &Uplink,
    desk: &Desk,
    before: Option<&Police>,
    now_us: u64,
) -> Police {
    let mut police = Police::default();
    for vnic in &config.vnics {
        if let (true, VnicPlace::Peer(peer)) = (vnic.is_in_pool(uplink), &vnic.place)
            && let Some(peer) = numbers.get(peer)
        {
            police.add(before, vnic.id, peer, &vnic.terms(Direction::Up));
        }
    }
    set_terms(desk, &police, now_us, |_| true);
    police
}

/// What the desk says of some servers holds from now on.
fn set_terms(desk: &Desk, police: &Police, now_us: u64, whose: impl Fn(PeerId) -> bool) {
    for standing in desk.standings(now_us).filter(|standing| whose(standing.peer)) {
        police.set_vnics(standing.peer, standing.vnics);
        police.reserve(standing.peer, standing.reservation_bps, now_us);
        police.set_rate(standing.peer, standing.promised_bps, now_us);
    }
}

fn set_rates(desk: &Desk, police: &Police, now_us: u64) {
    for standing in desk.standings(now_us) {
        police.set_rate(standing.peer, standing.promised_bps, now_us);
    }
}

/// The wall clock in microseconds: later lives have larger epochs, since none gives a million a
/// second. A clock that went back costs a tick (see [`wireonce_shares::Lessor::hear`]).
fn first_epoch() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    passed.map_or(1, |passed| u64::try_from(passed.as_micros()).unwrap_or(1))
}

/// What lives on the thread.
struct Thread {
    counters: Arc<Mutex<Vec<Counter>>>,
    inbox: mpsc::Receiver<News>,
    agent: AgentHandle,
    clock: Instant,
}

impl Thread {
    fn run(self) {
        let mut wait = TICK;
        let mut looked_us = 0;
        loop {
            match self.inbox.recv_timeout(wait) {
                Ok(News::Report(peer, report)) => self.answer(peer, &report),
                Ok(News::Changed) => looked_us = 0,
                Ok(News::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            let now_us = self.now_us();
            if now_us.saturating_sub(looked_us) < TICK_US {
                wait = TICK;
                continue;
            }
            looked_us = now_us;
            let mut counters = lock(&self.counters);
            let mut busy = false;
            for counter in counters.iter_mut() {
                // Whoever is forgotten has nothing left at its meter.
                set_rates(&counter.desk, &counter.police, now_us);
                counter.desk.sweep(now_us);
                busy |= counter.desk.is_busy(now_us);
            }
            wait = if busy { TICK } else { IDLE };
        }
    }

    fn answer(&self, peer: PeerId, report: &ReportMessage) {
        let now_us = self.now_us();
        let mut counters = lock(&self.counters);
        let counter = counters.iter_mut().find(|counter| counter.desk.uplink == report.uplink);
        let Some(counter) = counter else { return };
        let Some(lease) = counter.desk.report(peer, report, now_us) else { return };
        counter.desk.note_cost(now_us, self.now_us());
        // Before the server knows of a raise, its meter does.
        counter.police.set_rate(peer, counter.desk.promised_bps(peer, now_us), now_us);
        self.agent.send(peer, BANDWIDTH_CHANNEL, Message::Lease(lease).emit().to_vec());
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl SharesThread {
    /// There are other meters: they are looked at soon.
    pub(crate) fn changed(&self) {
        // If there are too many reports, they wake it, too.
        let _ = self.news.try_send(News::Changed);
    }
}

impl Drop for SharesThread {
    fn drop(&mut self) {
        // Full only of reports, which the thread is reading.
        let _ = self.news.send(News::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has ended the process already.
            let _ = thread.join();
        }
    }
}

/// Held by the shares thread for a report, and by the status server for a look.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
