//! The shares thread: what this server's vNICs may send through uplinks that are shaped.
//!
//! ```text
//!   workers ── meters ──▶ ┌───────────────┐ ── reports, every 5 ms ──▶ gateway
//!   workers ◀── rates ─── │ shares thread │
//!              (atomics)  └───────────────┘ ◀── leases ── agent thread ── gateway
//! ```
//! It ticks while anybody sends; else it sleeps for a second at a time, and a worker with a frame
//! wakes it. A tick that comes late costs nothing but time: rates are counted over the time
//! that passed, and leases hold for ten ticks. Workers look at a lease's expiry themselves.
//!
//! Without an uplink that has `up` there is no such thread. Why: decision 14.

mod core;
mod vnic;

#[cfg(test)]
pub(crate) use vnic::Allowance;
pub(crate) use vnic::{VnicShare, VnicUse, Waker};

use self::core::{Home, HomeVnic, IDLE_US};
use rustc_hash::FxHashMap;
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use wireonce_config::{Config, Direction, Holder, Uplink, UplinkPlace};
use wireonce_host::{BANDWIDTH_CHANNEL, SessionListener};
use wireonce_ledger::status::ShareStatus;
use wireonce_link::{AgentHandle, PeerId, SessionEvent};
use wireonce_shares::{Demand, LeaseMessage, Message, lease::starter_bps};
use wireonce_wire::VnicId;

/// What workers and status server need of the shares thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shares {
    /// One for each local vNIC whose home is shaped.
    pub(crate) vnics: Arc<FxHashMap<VnicId, Arc<VnicShare>>>,
    pub(crate) waker: Arc<Waker>,
    homes: Arc<Mutex<Vec<Home>>>,
}

/// The running thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct SharesThread {
    news: mpsc::Sender<News>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told.
#[derive(Debug)]
enum News {
    Lease(PeerId, LeaseMessage),
    Up(PeerId),
    Stop,
}

/// Hears of sessions and leases on the agent's thread, and hands on.
#[derive(Debug)]
pub(crate) struct Ears<L> {
    pub(crate) workers: L,
    news: Option<mpsc::Sender<News>>,
    waker: Arc<Waker>,
}

impl<L: SessionListener> SessionListener for Ears<L> {
    fn session(&self, event: SessionEvent) {
        if let (Some(news), SessionEvent::Up(session)) = (&self.news, &event) {
            let _ = news.send(News::Up(session.peer));
            self.waker.unpark();
        }
        self.workers.session(event);
    }

    fn message(&self, peer: PeerId, channel: u8, payload: &[u8]) {
        let Some(news) = self.news.as_ref().filter(|_| channel == BANDWIDTH_CHANNEL) else {
            return;
        };
        if let Some(Message::Lease(lease)) = Message::parse(payload) {
            let _ = news.send(News::Lease(peer, lease));
            self.waker.unpark();
        }
    }
}

impl Shares {
    /// The homes that `config` gives this host's vNICs, as far as they are shaped.
    pub(crate) fn new(config: &Config, life: u64) -> Self {
        let mut shares = FxHashMap::default();
        let mut homes = Vec::new();
        for uplink in &config.uplinks {
            let (Some(usable_bps), UplinkPlace::Peer(gateway)) =
                (uplink.usable_bps(Direction::Up), &uplink.place)
            else {
                continue;
            };
            let vnics: Vec<HomeVnic> = home_vnics(config, uplink, &mut shares);
            if vnics.is_empty() {
                continue;
            }
            let terms = config.terms_on(uplink, &Holder::Local, Direction::Up);
            let starter_bps = starter_bps(usable_bps, config.servers_on(uplink).len());
            let gateway = PeerId(gateway.index);
            let uplink = Arc::clone(uplink);
            homes.push(Home::new(uplink, gateway, life, terms, starter_bps, vnics));
        }
        Self { vnics: Arc::new(shares), waker: Arc::default(), homes: Arc::new(Mutex::new(homes)) }
    }

    /// For whoever hears of sessions, and the thread's mail.
    pub(crate) fn ears<L>(&self, workers: L) -> (Ears<L>, Inbox) {
        let (news, inbox) = mpsc::channel();
        let needed = !self.vnics.is_empty();
        let ears =
            Ears { workers, news: needed.then(|| news.clone()), waker: Arc::clone(&self.waker) };
        (ears, Inbox { news, inbox })
    }

    /// Starts the thread, unless no home is shaped.
    pub(crate) fn start(
        &self,
        inbox: Inbox,
        agent: AgentHandle,
        clock: Instant,
    ) -> io::Result<Option<SharesThread>> {
        if self.vnics.is_empty() {
            return Ok(None);
        }
        let Inbox { news, inbox } = inbox;
        let worker = Thread {
            homes: Arc::clone(&self.homes),
            waker: Arc::clone(&self.waker),
            inbox,
            agent,
            clock,
        };
        let thread = thread::Builder::new().name("shares".into()).spawn(move || worker.run())?;
        Ok(Some(SharesThread { news, waker: Arc::clone(&self.waker), thread: Some(thread) }))
    }

    /// What this server has of each shaped uplink.
    pub(crate) fn status(&self, server: &str, now_us: u64) -> Vec<ShareStatus> {
        let homes = lock(&self.homes);
        let status = |home: &Home| {
            let (lease_bps, starter_bps, demand) = home.standing(now_us);
            ShareStatus {
                uplink: home.uplink.name.clone(),
                server: server.to_owned(),
                lease_bps,
                starter_bps,
                demand_bps: match demand {
                    Demand::Bps(bps) => Some(bps),
                    Demand::Unbounded => None,
                },
                served_bits: home.served_bits(),
            }
        };
        homes.iter().map(status).collect()
    }
}

/// The vNICs of this host whose home is `uplink`.
fn home_vnics(
    config: &Config,
    uplink: &Uplink,
    shares: &mut FxHashMap<VnicId, Arc<VnicShare>>,
) -> Vec<HomeVnic> {
    let at_home = config
        .local_vnics()
        .map(|(vnic, _)| vnic)
        .filter(|vnic| vnic.home.as_ref().is_some_and(|home| home.id == uplink.id));
    let home_vnic = |vnic: &Arc<wireonce_config::Vnic>| {
        let share = Arc::new(VnicShare::default());
        shares.insert(vnic.id, Arc::clone(&share));
        HomeVnic::new(vnic.terms(Direction::Up), share)
    };
    at_home.map(home_vnic).collect()
}

/// The mail of a thread that is not started yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    news: mpsc::Sender<News>,
    inbox: mpsc::Receiver<News>,
}

/// What lives on the thread.
struct Thread {
    homes: Arc<Mutex<Vec<Home>>>,
    waker: Arc<Waker>,
    inbox: mpsc::Receiver<News>,
    agent: AgentHandle,
    clock: Instant,
}

impl Thread {
    fn run(self) {
        self.waker.set_thread(thread::current());
        loop {
            if !self.read_news() {
                return;
            }
            let now_us = self.now_us();
            let next_us = self.tick(now_us);
            let wait_us = next_us.saturating_sub(now_us).min(IDLE_US);
            if wait_us > 2 * core::TICK_US {
                self.waker.fall_asleep();
                // A frame that came in between has not woken us.
                let next_us = self.tick(self.now_us());
                if next_us.saturating_sub(self.now_us()) <= 2 * core::TICK_US {
                    continue;
                }
            }
            thread::park_timeout(Duration::from_micros(wait_us.max(1)));
        }
    }

    /// False if the thread is to end.
    fn read_news(&self) -> bool {
        let mut homes = lock(&self.homes);
        // Bounded by what the agent lets peers send.
        while let Ok(news) = self.inbox.try_recv() {
            let now_us = self.now_us();
            match news {
                News::Lease(peer, lease) => {
                    let mine =
                        |home: &&mut Home| home.gateway == peer && home.uplink.id.0 == lease.uplink;
                    if let Some(home) = homes.iter_mut().find(mine) {
                        home.take(&lease, now_us);
                    }
                }
                News::Up(peer) => {
                    homes.iter_mut().filter(|home| home.gateway == peer).for_each(Home::hurry);
                }
                News::Stop => return false,
            }
        }
        true
    }

    /// Returns when there is something to do again.
    fn tick(&self, now_us: u64) -> u64 {
        let mut homes = lock(&self.homes);
        let mut next_us = u64::MAX;
        for home in homes.iter_mut() {
            if let Some(report) = home.tick(now_us) {
                let message = Message::Report(report).emit().to_vec();
                self.agent.send(home.gateway, BANDWIDTH_CHANNEL, message);
            }
            next_us = next_us.min(home.next_us());
        }
        next_us
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Drop for SharesThread {
    fn drop(&mut self) {
        let _ = self.news.send(News::Stop);
        self.waker.unpark();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has ended the process already.
            let _ = thread.join();
        }
    }
}

/// Held by the shares thread for a tick, and by the status server for a look.
fn lock(homes: &Mutex<Vec<Home>>) -> MutexGuard<'_, Vec<Home>> {
    homes.lock().unwrap_or_else(PoisonError::into_inner)
}
