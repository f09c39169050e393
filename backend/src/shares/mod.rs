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
//! If the server's fabric port is divided (`port`), it does that in the same tick.
//! Without that and without an uplink that has `up` it sleeps for good. Another configuration changes homes in place,
//! so that leases stay. Why: decision 14.

mod core;
mod inflow;
mod port;
mod port_share;
mod receiving;
mod vnic;

pub(crate) use inflow::Inflows;
pub(crate) use port_share::{Toward, fabric_bits};
pub(crate) use vnic::{Allowance, VnicShare, VnicUse, WaitsFor};
pub(crate) use wireonce_host::Waker;

use self::{
    core::{Home, HomeVnic, IDLE_US, Tabled},
    port::Port,
    receiving::Receiving,
};
use rustc_hash::FxHashMap;
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use wireonce_config::{
    Config, Direction, FabricPort, GrantSplit, Holder, Uplink, UplinkPlace, Vnic,
};
use wireonce_directory::PeerNumbers;
use wireonce_host::{BANDWIDTH_CHANNEL, SessionListener};
use wireonce_ledger::status::{FabricPortStatus, ShareStatus};
use wireonce_link::{AgentHandle, PeerId, SessionEvent};
use wireonce_shares::{Demand, LeaseMessage, Message, ReportMessage, Terms, lease::starter_bps};
use wireonce_wire::{UplinkId, VnicId};

/// What workers and status server need of the shares thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shares {
    /// One for each local vNIC whose home is shaped, or was.
    pub(crate) vnics: Arc<FxHashMap<VnicId, Arc<VnicShare>>>,
    pub(crate) waker: Arc<Waker>,
    homes: Arc<Mutex<Vec<Home>>>,
    /// The sending side of this server's fabric port, if it is divided.
    port: Arc<Mutex<Option<Port>>>,
    /// And the receiving side.
    receiving: Arc<Mutex<Option<Receiving>>>,
    /// Whose leases count.
    gateways: Gateways,
    /// The terms of this server's vNICs.
    terms: Arc<FxHashMap<VnicId, Terms>>,
    /// A number that tells this process from its earlier lives.
    life: u64,
    /// Those whose home is not shaped any more. Before workers know of the new one, they would
    /// send what waits to the old one, at any rate.
    opening: Vec<(Arc<VnicShare>, Allowance)>,
}

/// The gateways of homes that are shaped.
type Gateways = Arc<RwLock<Vec<PeerId>>>;

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
    news: mpsc::Sender<News>,
    waker: Arc<Waker>,
    gateways: Gateways,
}

impl<L> Ears<L> {
    /// Anybody may send us leases; only a home's gateway wakes the thread.
    fn is_gateway(&self, peer: PeerId) -> bool {
        self.gateways.read().unwrap_or_else(PoisonError::into_inner).contains(&peer)
    }
}

impl<L: SessionListener> SessionListener for Ears<L> {
    fn session(&self, event: SessionEvent) {
        if let SessionEvent::Up(session) = &event
            && self.is_gateway(session.peer)
        {
            let _ = self.news.send(News::Up(session.peer));
            self.waker.unpark();
        }
        self.workers.session(event);
    }

    fn message(&self, peer: PeerId, channel: u8, payload: &[u8]) {
        if channel != BANDWIDTH_CHANNEL {
            return self.workers.message(peer, channel, payload);
        }
        if !self.is_gateway(peer) {
            return;
        }
        if let Some(Message::Lease(lease)) = Message::parse(payload) {
            let _ = self.news.send(News::Lease(peer, lease));
            self.waker.unpark();
        }
    }

    fn hello(&self, peer: PeerId, now_us: u64, echoed_us: Option<u64>) {
        self.workers.hello(peer, now_us, echoed_us);
    }

    fn tick(&self, now_us: u64) -> Option<u64> {
        self.workers.tick(now_us)
    }
}

impl Shares {
    /// The homes that `config` gives this host's vNICs, as far as they are shaped.
    pub(crate) fn new(config: &Config, numbers: &PeerNumbers, life: u64) -> Self {
        let mut shares = Self { life, ..Self::default() };
        shares.change(config, numbers, &FxHashMap::default(), 0);
        // Nobody sends anything yet.
        shares.tables_are_taken();
        shares
    }

    /// Another configuration, while vNICs use the uplinks `in_use`, or else their tables' homes. Leases
    /// stay where uplink and gateway do. Workers are to use [`Self::vnics`] from now on.
    pub(crate) fn change(
        &mut self,
        config: &Config,
        numbers: &PeerNumbers,
        in_use: &FxHashMap<VnicId, UplinkId>,
        now_us: u64,
    ) {
        let mut homes = lock(&self.homes);
        let mut before = std::mem::take(&mut *homes);
        let mut vnics = FxHashMap::default();
        let mut grants = Grants::default();
        for uplink in &config.uplinks {
            let Some((gateway, usable_bps)) = shaped_by(uplink, numbers) else { continue };
            let wanted = config.local_vnics().any(|(vnic, _)| vnic.may_attach(uplink));
            // Who is still there sends at what it may until it has left.
            if !wanted && !in_use.values().any(|used| *used == uplink.id) {
                continue;
            }
            let at_home = home_vnics(config, uplink, in_use, &self.vnics, &mut vnics);
            let mut tabled = || Tabled {
                uplink: Arc::clone(uplink),
                grant: grants.of(config, &uplink.pool),
                starter_bps: starter_bps(usable_bps, config.servers_on(uplink).len()),
                wanted,
            };
            let stays = |home: &Home| home.uplink.id == uplink.id && home.gateway == gateway;
            let mut home = match before.iter().position(stays) {
                Some(at) => before.swap_remove(at),
                None => Home::new(gateway, self.life, tabled()),
            };
            home.change(tabled(), at_home, now_us);
            homes.push(home);
        }
        *self.gateways.write().unwrap_or_else(PoisonError::into_inner) =
            homes.iter().map(|home| home.gateway).collect();
        drop(homes);
        self.opening = keep_unshaped(config, &self.vnics, &mut vnics);
        self.change_port(config, &vnics, now_us);
        let mut receiving = lock(&self.receiving);
        let before = receiving.take();
        *receiving = Receiving::new(config, numbers, self.life, before.as_ref(), &self.waker);
        drop(receiving);
        let terms = config.local_vnics().map(|(vnic, _)| (vnic.id, vnic.terms(Direction::Up)));
        self.terms = Arc::new(terms.collect());
        self.vnics = Arc::new(vnics);
        self.waker.unpark();
    }

    /// The fabric port is divided among these vNICs from now on, or not at all.
    fn change_port(&self, config: &Config, vnics: &FxHashMap<VnicId, Arc<VnicShare>>, now_us: u64) {
        let mut port = lock(&self.port);
        let Some(usable_bps) = config.fabric_port.usable_bps(Direction::Up) else {
            if let Some(port) = port.take() {
                port.open();
            }
            return;
        };
        let member =
            |vnic: &Arc<Vnic>| Some((vnic.terms(Direction::Up), Arc::clone(vnics.get(&vnic.id)?)));
        let members = config.local_vnics().filter_map(|(vnic, _)| member(vnic)).collect();
        match port.as_mut() {
            Some(port) => port.change(usable_bps, members),
            None => *port = Some(Port::new(usable_bps, members, now_us)),
        }
    }

    /// A vNIC uses another uplink from now on: what it may send comes from there.
    pub(crate) fn rehome(&self, vnic: VnicId, uplink: UplinkId, now_us: u64) {
        if let Some(receiving) = lock(&self.receiving).as_mut() {
            receiving.rehome(vnic, uplink);
        }
        let Some(share) = self.vnics.get(&vnic) else { return };
        let terms = self.terms.get(&vnic).copied().unwrap_or_default();
        let mut homes = lock(&self.homes);
        let is_there = |home: &Home| home.uplink.id == uplink && home.has(share);
        if homes.iter().any(is_there) {
            return;
        }
        homes.iter_mut().for_each(|home| home.leave(share, now_us));
        match homes.iter_mut().find(|home| home.uplink.id == uplink) {
            Some(home) => home.join(HomeVnic::new(vnic, terms, Arc::clone(share)), now_us),
            None => share.allow(WIDE, 0),
        }
        homes.retain(Home::is_needed);
        drop(homes);
        self.waker.unpark();
    }

    /// Where workers count what comes in, if anybody wants to know.
    pub(crate) fn inflows(&self) -> Option<Arc<Inflows>> {
        lock(&self.receiving).as_ref().map(|it| Arc::clone(it.inflows()))
    }

    /// The workers have the tables that go with the last change.
    pub(crate) fn tables_are_taken(&mut self) {
        for (share, allowance) in self.opening.drain(..) {
            share.allow(allowance, 0);
        }
    }

    /// For whoever hears of sessions, and the thread's mail.
    pub(crate) fn ears<L>(&self, workers: L) -> (Ears<L>, Inbox) {
        let (news, inbox) = mpsc::channel();
        let waker = Arc::clone(&self.waker);
        let gateways = Arc::clone(&self.gateways);
        let ears = Ears { workers, news: news.clone(), waker, gateways };
        (ears, Inbox { news, inbox })
    }

    /// Starts the thread. While no home is shaped it sleeps.
    pub(crate) fn start(
        &self,
        inbox: Inbox,
        agent: AgentHandle,
        clock: Instant,
    ) -> io::Result<SharesThread> {
        let Inbox { news, inbox } = inbox;
        let worker = Thread {
            homes: Arc::clone(&self.homes),
            port: Arc::clone(&self.port),
            receiving: Arc::clone(&self.receiving),
            waker: Arc::clone(&self.waker),
            inbox,
            agent,
            clock,
        };
        let thread = thread::Builder::new().name("shares".into()).spawn(move || worker.run())?;
        Ok(SharesThread { news, waker: Arc::clone(&self.waker), thread: Some(thread) })
    }

    /// This server's fabric port, if it is divided.
    pub(crate) fn port_status(&self, config: &Config) -> Option<FabricPortStatus> {
        let FabricPort { up_bps, down_bps } = config.fabric_port;
        let port = lock(&self.port);
        let (sent_bps, demand) = match port.as_ref() {
            Some(port) => (port.sent_bps(), port.demand()),
            None => (0, Demand::Bps(0)),
        };
        let demand_bps = match demand {
            Demand::Bps(bps) => Some(bps),
            Demand::Unbounded => None,
        };
        drop(port);
        let receiving = lock(&self.receiving);
        let told = receiving.iter().flat_map(Receiving::told);
        (up_bps.is_some() || down_bps.is_some()).then(|| FabricPortStatus {
            up_bps,
            down_bps,
            sent_bps,
            demand_bps,
            received_from_vms_bps: receiving.as_ref().map_or(0, Receiving::others_bps),
            told_bps: told.map(|(uplink, bps)| (uplink.to_owned(), bps)).collect(),
        })
    }

    /// What this server has of each shaped uplink.
    pub(crate) fn status(&self, server: &str, now_us: u64) -> Vec<ShareStatus> {
        let homes = lock(&self.homes);
        let port = lock(&self.port);
        let status = |home: &Home| {
            let (lease_bps, starter_bps, demand) = home.standing(now_us);
            // As it is reported.
            let demand = port.as_ref().map_or(demand, |port| port.cap(demand));
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

/// Where nothing is shaped.
const ANY: Allowance = Allowance {
    rate_bps: u64::MAX,
    until_us: u64::MAX,
    later_bps: u64::MAX,
    limit_packets_per_s: None,
};

/// The same for a vNIC that may go where it is shaped: workers keep what shapes it.
const WIDE: Allowance = Allowance { rate_bps: u64::MAX - 1, later_bps: u64::MAX - 1, ..ANY };

/// The gateway of an uplink that is shaped, and what may be leased of it.
fn shaped_by(uplink: &Uplink, numbers: &PeerNumbers) -> Option<(PeerId, u64)> {
    let UplinkPlace::Peer(gateway) = &uplink.place else { return None };
    Some((numbers.get(gateway)?, uplink.usable_bps(Direction::Up)?))
}

/// The vNICs of this host that use `uplink`, with the shares that they had `before`.
fn home_vnics(
    config: &Config,
    uplink: &Uplink,
    in_use: &FxHashMap<VnicId, UplinkId>,
    before: &FxHashMap<VnicId, Arc<VnicShare>>,
    shares: &mut FxHashMap<VnicId, Arc<VnicShare>>,
) -> Vec<HomeVnic> {
    let at_home = config.local_vnics().map(|(vnic, _)| vnic).filter(|vnic| {
        let home = vnic.home.as_ref().map(|home| home.id);
        in_use.get(&vnic.id).copied().or(home) == Some(uplink.id)
    });
    let home_vnic = |vnic: &Arc<Vnic>| {
        let share = before.get(&vnic.id).filter(|share| !share.is_open()).cloned();
        let share = share.unwrap_or_default();
        shares.insert(vnic.id, Arc::clone(&share));
        HomeVnic::new(vnic.id, vnic.terms(Direction::Up), share)
    };
    at_home.map(home_vnic).collect()
}

/// What this server has of each pool, divided among its vNICs when it is asked for first.
#[derive(Debug, Default)]
struct Grants<'c>(FxHashMap<&'c str, Option<Arc<GrantSplit>>>);

impl<'c> Grants<'c> {
    fn of(&mut self, config: &Config, pool: &'c str) -> Option<Arc<GrantSplit>> {
        let split = || config.grant_split(pool, &Holder::Local, Direction::Up).map(Arc::new);
        self.0.entry(pool).or_insert_with(split).clone()
    }
}

/// A vNIC whose home was shaped and is not any more keeps its share, which is to be opened, until
/// the next configuration: workers forget it when nothing waits any more. One of which a standby is
/// shaped, or whose frames cross a port that is divided, has a share that holds nothing back.
fn keep_unshaped(
    config: &Config,
    before: &FxHashMap<VnicId, Arc<VnicShare>>,
    shares: &mut FxHashMap<VnicId, Arc<VnicShare>>,
) -> Vec<(Arc<VnicShare>, Allowance)> {
    let mut opening = Vec::new();
    for (vnic, _) in config.local_vnics() {
        if shares.contains_key(&vnic.id) {
            continue;
        }
        let shaped = |uplink: &Arc<Uplink>| uplink.usable_bps(Direction::Up).is_some();
        let had = before.get(&vnic.id).filter(|share| !share.is_open()).cloned();
        if vnic.standbys.iter().any(shaped) || config.fabric_port.up_bps.is_some() {
            let share = had.unwrap_or_default();
            shares.insert(vnic.id, Arc::clone(&share));
            opening.push((share, WIDE));
        } else if let Some(share) = had {
            shares.insert(vnic.id, Arc::clone(&share));
            opening.push((share, ANY));
        }
    }
    opening
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
    port: Arc<Mutex<Option<Port>>>,
    receiving: Arc<Mutex<Option<Receiving>>>,
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
            if next_us == u64::MAX {
                // Nothing is divided: only another configuration brings one.
                thread::park();
                continue;
            }
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
        let mut port = lock(&self.port);
        let mut next_us = u64::MAX;
        for home in homes.iter_mut() {
            if let Some(report) = home.tick(now_us) {
                // A gateway is to keep nothing for us that our port cannot send.
                let demand = port.as_ref().map_or(report.demand, |port| port.cap(report.demand));
                let report = ReportMessage { demand, ..report };
                let message = Message::Report(report).emit().to_vec();
                self.agent.send(home.gateway, BANDWIDTH_CHANNEL, message);
            }
            next_us = next_us.min(home.next_us());
        }
        if let Some(port) = port.as_mut() {
            // After the homes, whose leases say what vNICs may want.
            port.tick(now_us);
            next_us = next_us.min(port.next_us().unwrap_or(now_us.saturating_add(IDLE_US)));
        }
        if let Some(receiving) = lock(&self.receiving).as_mut() {
            for (gateway, message) in receiving.tick(now_us) {
                let message = Message::Receive(message).emit().to_vec();
                self.agent.send(gateway, BANDWIDTH_CHANNEL, message);
            }
            next_us = next_us.min(receiving.next_us());
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

/// Held by the shares thread for a tick, and by the status server for a look. Homes before the port.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
