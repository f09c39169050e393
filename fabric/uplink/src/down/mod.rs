//! Bandwidth downwards: what comes from outside goes to servers at rates.
//!
//! ```text
//!   uplink ─▶ worker: judged ─▶ nothing waits, and there is credit ─────────────────▶ link
//!                           └─▶ its vNIC's queue, by flow ─▶ CoDel, ECN ─▶ credit ──▶ link
//!                                 │ meters (atomics)                        ▲ rates (atomics)
//!                                 └──────────▶ thread, every 5 ms ──────────┘
//! ```
//! The gateway is the sender itself, so there are no leases: the thread divides 96 % of the uplink's
//! `down` by the demands of the last tick. Each worker queues what it receives; **all workers
//! of the gateway take from one credit for each vNIC** ([`wireonce_queue::Credit`]), so its rate holds
//! whichever of them the kernel gives its flows to, and those that wait have their turns. A limit in
//! packets is a second such credit; who waits for it has no need of more bandwidth.
//!
//! A server may say how much its fabric port can receive of an uplink: a limit beside that of its grant.
//!
//! Broadcast and multicast are not queued: they have their storm limit, and the 4 % that are kept
//! back. Without an uplink that has `down` the thread sleeps for good, and no frame pays.

mod desk;
mod share;

#[cfg(test)]
pub(crate) use share::GATEWAY_BYTES_MAX;
pub(crate) use share::{Store, VNIC_BYTES_MAX, VnicDown, WaitsFor};

use crate::{
    bond::Part,
    presence::{Move, Presence},
};
use desk::{Desk, HURRY_US, Standing, TICK_US};
use rustc_hash::FxHashMap;
use share::VnicUse;
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use wireonce_config::{Config, Uplink};
use wireonce_directory::PeerNumbers;
use wireonce_host::Waker;
use wireonce_ledger::status::DownStatus;
use wireonce_link::PeerId;
use wireonce_shares::ReceiveMessage;
use wireonce_wire::{UplinkId, VnicId};

/// One uplink, as its workers have it.
#[derive(Debug)]
pub(crate) struct Down {
    pub(crate) vnics: FxHashMap<VnicId, Arc<VnicDown>>,
    pub(crate) waker: Arc<Waker>,
}

/// The uplinks of this gateway that are shaped downwards.
#[derive(Debug, Clone, Default)]
pub(crate) struct Downwards {
    desks: Desks,
    presence: Presence,
    uplinks: BTreeMap<UplinkId, Arc<Down>>,
    store: Arc<Store>,
    waker: Arc<Waker>,
}

/// Where what there is is divided.
#[derive(Debug, Clone, Default)]
pub(crate) struct Desks(Arc<Mutex<Vec<Desk>>>);

/// Hears what servers can receive.
#[derive(Debug, Clone)]
pub(crate) struct Receivers {
    desks: Desks,
    clock: Instant,
}

impl Receivers {
    /// A server says what it can receive from one uplink. It counts from the next tick on.
    pub(crate) fn hear(&self, server: PeerId, message: &ReceiveMessage) {
        let now_us = u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut desks = self.desks.lock();
        if let Some(desk) = desks.iter_mut().find(|desk| desk.uplink.id.0 == message.uplink) {
            desk.hear(server, message, now_us);
        }
    }
}

/// The running thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct DownThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Downwards {
    pub(crate) fn new(
        config: &Config,
        numbers: &PeerNumbers,
        presence: &Presence,
        now_us: u64,
    ) -> Self {
        let mut downwards = Self { presence: presence.clone(), ..Self::default() };
        downwards.change(config, numbers, now_us);
        downwards
    }

    /// Another configuration. A vNIC keeps its credit, and what is known of it, at each uplink;
    /// what waits for it stays where it is. Workers are to use [`Self::of`] from now on.
    pub(crate) fn change(&mut self, config: &Config, numbers: &PeerNumbers, now_us: u64) {
        let mut desks = self.desks.lock();
        let before = std::mem::take(&mut *desks);
        let mut uplinks = BTreeMap::new();
        for (uplink, _) in config.local_uplinks() {
            let known = self.uplinks.get(&uplink.id);
            let mut vnics = FxHashMap::default();
            let share = |id: VnicId| {
                let share = known.and_then(|down| down.vnics.get(&id)).cloned();
                let new = || Arc::new(VnicDown::new(Arc::clone(&self.store), now_us));
                let share = share.unwrap_or_else(new);
                vnics.insert(id, Arc::clone(&share));
                share
            };
            let (part, here) = (self.presence.part(uplink.id), self.presence.vnics(uplink.id));
            let desk = Desk::new(config, numbers, uplink, part, &here, share);
            let Some(mut desk) = desk else { continue };
            desk.go_on(before.iter().find(|desk| desk.uplink.id == uplink.id), now_us);
            desks.push(desk);
            let down = Down { vnics, waker: Arc::clone(&self.waker) };
            uplinks.insert(uplink.id, Arc::new(down));
        }
        drop(desks);
        self.uplinks = uplinks;
        self.waker.unpark();
    }

    /// For whoever hears of what servers can receive.
    pub(crate) fn receivers(&self, clock: Instant) -> Receivers {
        Receivers { desks: self.desks.clone(), clock }
    }

    /// What frames from an uplink have to wait for; `None` if it is not shaped.
    pub(crate) fn of(&self, uplink: UplinkId) -> Option<Arc<Down>> {
        self.uplinks.get(&uplink).cloned()
    }

    /// For those who know who is attached, and what of a bond is there.
    pub(crate) fn desks(&self) -> Desks {
        self.desks.clone()
    }

    /// What `uplink` carries from the outside now; `None`: it is not shaped.
    pub(crate) fn down_bps(&self, uplink: &Uplink) -> Option<u64> {
        uplink.down_bps.map(|bps| self.presence.part(uplink.id).of(bps))
    }

    /// Starts the thread. While no uplink is shaped it sleeps.
    pub(crate) fn start(&self, clock: Instant) -> io::Result<DownThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Thread {
            desks: self.desks.clone(),
            waker: Arc::clone(&self.waker),
            stop: Arc::clone(&stop),
            clock,
        };
        let thread = thread::Builder::new().name("downwards".into()).spawn(move || worker.run())?;
        Ok(DownThread { stop, thread: Some(thread) })
    }

    /// The vNICs at home at each uplink that is shaped, and those that frames came for.
    pub(crate) fn status(&self) -> Vec<DownStatus> {
        let desks = self.desks.lock();
        let mut all = Vec::new();
        for desk in desks.iter() {
            for Standing { id, name, server, at_home, share } in desk.standings() {
                let VnicUse {
                    rate_bps,
                    demand_bps,
                    held,
                    held_us,
                    packets_held,
                    packets_held_us,
                    marked_frames,
                    queued_bytes,
                    served_bits,
                    served_packets,
                    limit_packets_per_s,
                    dropped_frames,
                } = share.in_use();
                if !at_home && served_bits == 0 && queued_bytes == 0 {
                    continue;
                }
                all.push(DownStatus {
                    uplink: desk.uplink.name.clone(),
                    server: server.to_owned(),
                    vnic: name.to_owned(),
                    vnic_id: id.get(),
                    rate_bps,
                    demand_bps: (demand_bps < u64::MAX).then_some(demand_bps),
                    held,
                    held_us,
                    queued_bytes,
                    served_bits,
                    served_packets,
                    limit_packets_per_s,
                    packets_held,
                    packets_held_us,
                    marked_frames,
                    dropped_frames,
                });
            }
        }
        all
    }
}

impl Desks {
    /// vNICs came to uplinks, or have left them.
    pub(crate) fn moved(&self, moves: &[Move]) {
        for desk in self.lock().iter_mut() {
            let uplink = desk.uplink.id;
            let mine = moves.iter().filter(|it| it.uplink == uplink);
            desk.move_vnics(mine.map(|it| (it.vnic, it.here)));
        }
    }

    /// Another part of what an uplink carries is there.
    pub(crate) fn part_changed(&self, uplink: UplinkId, part: Part) {
        let mut desks = self.lock();
        let desk = desks.iter_mut().find(|desk| desk.uplink.id == uplink);
        if let Some(desk) = desk {
            desk.set_part(part);
        }
    }

    /// Held by the thread for a tick, by the agent's while vNICs move, and by the status server for a look.
    fn lock(&self) -> MutexGuard<'_, Vec<Desk>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What lives on the thread.
struct Thread {
    desks: Desks,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    clock: Instant,
}

impl Thread {
    fn run(self) {
        self.waker.set_thread(thread::current());
        while !self.stop.load(Relaxed) {
            if !self.tick(self.now_us()) {
                self.waker.fall_asleep();
                // A frame that came in between has not woken us.
                if !self.desks.lock().iter().any(Desk::has_news) {
                    thread::park();
                }
                continue;
            }
            // Whoever has to wait wakes us from the second sleep.
            thread::sleep(Duration::from_micros(HURRY_US));
            thread::park_timeout(Duration::from_micros(TICK_US - HURRY_US));
        }
    }

    /// Returns whether there is anything to do soon.
    fn tick(&self, now_us: u64) -> bool {
        let mut busy = false;
        for desk in self.desks.lock().iter_mut() {
            desk.tick(now_us);
            busy |= desk.is_busy();
        }
        busy
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Drop for DownThread {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic in the thread has ended the process already.
            let _ = thread.join();
        }
    }
}
