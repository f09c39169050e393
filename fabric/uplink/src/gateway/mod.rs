//! The gateway as a whole: workers, fabric sessions, uplinks.
//!
//! ```text
//!   agent thread ──── sessions, hellos, path MTU ─┐ mail
//!   status server ─── snapshots ──────────────────┴─▶ worker threads ◀──▶ uplinks
//! ```

mod change;

#[cfg(test)]
mod tests;

use crate::{
    books::{Books, Owner},
    down::{DownThread, Downwards},
    driver::DriverError,
    health::{Cause, Health},
    homes::{Bandwidth, Homes},
    presence::Presence,
    probe::{Probes, ProbesThread},
    shares::{Shares, SharesThread},
    storm::OutsideStorm,
    worker::{FABRIC_TOKEN_KIND, LocalUplink, Snapshot, UplinkSnapshot, Worker, WorkerConfig},
};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, mpsc::Sender},
    thread,
    time::{Duration, Instant},
};
use wireonce_config::{Config, Driver, Failover, Port, Uplink};
use wireonce_directory::{Directory, PeerNumbers};
use wireonce_host::{Applied, ApplyError, Daemon, FabricHost, HostError, workers::Workers};
use wireonce_ledger::{
    Account, Amount, Stage, Status,
    status::{LedgerRow, UplinkStatus},
};
use wireonce_link::{FabricError, StaticKey};
use wireonce_ring::RingError;
use wireonce_wire::{Endpoint, UplinkId};

/// A gateway that ends waits so long for vNICs to go elsewhere.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);
/// And looks so often whether they have.
const LEAVE_POLL: Duration = Duration::from_millis(2);

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// There is nothing to be a gateway of.
    #[error(
        "{origin}: host `{host}` has no uplink; give an [[uplink]] `host = \"{host}\"`, a `driver` \
         and an `interface`"
    )]
    NoUplinks {
        /// The configuration file.
        origin: String,
        /// This host.
        host: String,
    },
    /// An uplink's port.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The fabric side of a worker.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// Keys, sessions or the control socket.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A worker's ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Uplinks have come and gone too often.
    #[error("65,536 uplinks were opened since the gateway started; restart it")]
    Places,
    /// The system refused a thread or a descriptor.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    config: Arc<Config>,
    directory: Arc<Directory>,
    shares: Shares,
    shares_thread: SharesThread,
    downwards: Downwards,
    down_thread: DownThread,
    /// How the uplinks are.
    health: Health,
    homes: Homes,
    probes: Probes,
    probes_thread: ProbesThread,
    host: FabricHost,
    workers: Workers<Worker>,
    /// What the outside may send to everybody, for each uplink.
    storms: BTreeMap<UplinkId, Arc<OutsideStorm>>,
    /// Names of what is gone and still has accounts, by endpoint.
    names: HashMap<u64, String>,
    started: Instant,
}

/// What the operator wants of each uplink is part of its health.
fn note_draining(config: &Config, health: &Health) {
    for (uplink, _) in config.local_uplinks() {
        let note = if uplink.draining { Health::set } else { Health::clear };
        note(health, uplink.id, Cause::Draining);
    }
}

impl Gateway {
    /// Opens this host's uplinks and starts to carry frames. Should a worker fail
    /// later, it says so on `failed`: stop the gateway then.
    ///
    /// # Errors
    /// [`GatewayError`]; nothing is left running then.
    pub fn start(config: &Arc<Config>, failed: &Sender<String>) -> Result<Self, GatewayError> {
        // With a controller they may come at any time.
        if config.local_uplinks().next().is_none() && config.control.is_none() {
            let (origin, host) = (config.origin.clone(), config.host.name.clone());
            return Err(GatewayError::NoUplinks { origin, host });
        }
        let count = config.host.workers.max(1);
        let started = Instant::now();
        let numbers = PeerNumbers::in_order(config);
        let presence = Presence::default();
        let shares = Shares::new(config, &numbers, &presence, 0);
        let downwards = Downwards::new(config, &numbers, &presence, 0);
        let health = Health::default();
        note_draining(config, &health);
        let bandwidth = Bandwidth { presence, shares: shares.clone(), desks: downwards.desks() };
        let homes = Homes::new(&health, bandwidth.clone(), started);
        let key = StaticKey::load(&config.host.private_key_file).map_err(HostError::from)?;
        let (probes, probes_inbox) = Probes::new(config, &numbers, key, &health);
        let local = |(uplink, port): (&Arc<Uplink>, &Port)| LocalUplink {
            police: shares.police(uplink.id),
            down: downwards.of(uplink.id),
            ..Self::local_uplink(config, uplink, port, probes.gate(config, uplink), count.into())
        };
        let uplinks: Vec<LocalUplink> = config.local_uplinks().map(local).collect();
        let directory = Arc::new(Directory::new(config));
        let attached = homes.change(config, &numbers);
        let workers = Workers::start("gateway", count, failed, |seat| {
            let settings = WorkerConfig {
                fabric: FabricHost::worker_config(config, seat.number, FABRIC_TOKEN_KIND),
                directory: Arc::clone(&directory),
                attached: Arc::clone(&attached),
                uplinks: uplinks.clone(),
                carrier_look_us: carrier_look_us(config.fabric.failover),
                clock: started,
            };
            move || Worker::new(&settings, seat)
        })?;
        let (ears, inbox) = Shares::ears(workers.postman(), downwards.receivers(started));
        if let Some(announcer) = workers.mailbox(0) {
            homes.set_announcer(announcer.clone());
        }
        let host = FabricHost::start(config, Box::new(probes.ears(homes.ears(ears))), started)?;
        homes.set_agent(host.agent());
        let shares_thread = shares
            .start(inbox, host.agent(), started)
            .map_err(|source| GatewayError::System { action: "start the shares thread", source })?;
        let down_thread = downwards.start(started).map_err(|source| {
            let action = "start the thread that divides bandwidth downwards";
            GatewayError::System { action, source }
        })?;
        let part_changed = move |uplink, part| bandwidth.part_changed(uplink, part);
        let first = workers.mailbox(0).cloned();
        let first = first.ok_or(HostError::Workers(count))?;
        let probes_thread = probes
            .start(probes_inbox, host.agent(), first, started, part_changed)
            .map_err(|source| GatewayError::System { action: "start the probes thread", source })?;
        let storms = uplinks.iter().map(|it| (it.uplink.id, Arc::clone(&it.storm))).collect();
        Ok(Self {
            config: Arc::clone(config),
            directory,
            shares,
            shares_thread,
            downwards,
            down_thread,
            health,
            homes,
            probes,
            probes_thread,
            host,
            workers,
            storms,
            names: HashMap::new(),
            started,
        })
    }

    /// This process's clock.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Lets vNICs that can go elsewhere go, and says goodbye for the uplinks.
    fn send_away(&self) {
        let set = |cause| {
            for (uplink, _) in self.config.local_uplinks() {
                self.health.set(uplink.id, cause);
            }
        };
        set(Cause::GoneSoon);
        let deadline = Instant::now() + LEAVE_LIMIT;
        while self.homes.movable() > 0 && Instant::now() < deadline {
            thread::sleep(LEAVE_POLL);
        }
        set(Cause::Stopping);
    }

    /// The name and number of an account.
    fn account_name(&self, owner: Owner) -> (String, u64) {
        let gone = || self.names.get(&owner.bits()).cloned();
        match owner.endpoint() {
            Some(Endpoint::Vnic(id)) => {
                let name = self.directory.vnic(id).map(|entry| entry.vnic.name.clone());
                (name.or_else(gone).unwrap_or_default(), id.get())
            }
            Some(Endpoint::Uplink(id)) => {
                let name = self.directory.uplink(id).map(|entry| entry.uplink.name.clone());
                (name.or_else(gone).unwrap_or_default(), id.0.into())
            }
            _ => ("not owned".to_owned(), 0),
        }
    }

    /// For at least one network, and now.
    fn lets_broadcast_in(&self, uplink: &Uplink) -> bool {
        let mut outsides = self.config.networks.iter().filter_map(|it| it.outside.as_ref());
        outsides.any(|outside| outside.pool == uplink.pool) && self.probes.is_designated(uplink.id)
    }

    fn uplink_status(&self, uplink: &Uplink, port: &Port, snapshots: &[Snapshot]) -> UplinkStatus {
        let mine = || snapshots.iter().flat_map(|s| &s.uplinks).filter(|u| u.id == uplink.id);
        let (next_hop, members) = self.probes.of_uplink(uplink.id);
        let (mut inward, mut outward) = (Amount::ZERO, Amount::ZERO);
        for snapshot in mine() {
            inward += snapshot.inward;
            outward += snapshot.outward;
        }
        UplinkStatus {
            id: uplink.id.0,
            name: uplink.name.clone(),
            driver: match port.driver {
                Driver::Packet => "packet".to_owned(),
                Driver::Tap => "tap".to_owned(),
            },
            interface: port.interface.clone(),
            carrier: mine().any(|snapshot| snapshot.carrier),
            designated: self.lets_broadcast_in(uplink),
            inward,
            up_bps: self.shares.up_bps(uplink),
            down_bps: self.downwards.down_bps(uplink),
            outward,
            next_hop,
            members,
            kernel_drops: mine().map(|snapshot| snapshot.counters.kernel_drops).sum(),
            health: self.health.state(uplink.id).name().to_owned(),
            causes: self.health.causes(uplink.id).iter().map(|it| it.name().to_owned()).collect(),
            attached: self.homes.attached(uplink.id) as u64,
        }
    }
}

impl Daemon for Gateway {
    fn status(&self) -> Status {
        let snapshots = self.workers.snapshots();
        let fabric: Vec<_> = snapshots.iter().map(|snapshot| &snapshot.fabric).collect();
        let mut books = Books::default();
        for snapshot in &snapshots {
            books.merge(&snapshot.books);
        }
        let mut accounts: Vec<(Owner, Stage, &Account)> = books.accounts().collect();
        accounts.sort_by_key(|(owner, stage, _)| (owner.bits(), stage.index()));
        let row = |(owner, stage, account): (Owner, Stage, &Account)| {
            let (name, id) = self.account_name(owner);
            LedgerRow::new(&name, id, stage, account)
        };
        let mut counters = self.host.counters(&fabric);
        count_uplinks(&mut counters, snapshots.iter().flat_map(|snapshot| &snapshot.uplinks));
        let elapsed = self.started.elapsed();
        let sampled_at_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let mut status = Status {
            role: "gateway".to_owned(),
            host: self.config.host.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            sampled_at_us,
            shares: self.shares.status(&self.config, sampled_at_us),
            down: self.downwards.status(),
            encryption: self.host.encryption().to_owned(),
            links: self.host.links(&fabric),
            uplinks: self
                .config
                .local_uplinks()
                .map(|(uplink, port)| self.uplink_status(uplink, port, &snapshots))
                .collect(),
            ledger: accounts.into_iter().map(row).collect(),
            counters,
            ..Status::default()
        };
        self.probes.tell(&mut status);
        status
    }

    fn apply(&mut self, config: &Arc<Config>) -> Result<Applied, ApplyError> {
        self.change_to(config)
    }

    fn stop(self) {
        self.send_away();
        // Peers hear no more hellos first, then the workers end.
        drop(self.probes_thread);
        self.host.stop();
        drop(self.shares_thread);
        drop(self.down_thread);
        drop(self.workers);
    }
}

fn count_uplinks<'s>(
    counters: &mut BTreeMap<String, u64>,
    uplinks: impl Iterator<Item = &'s UplinkSnapshot>,
) {
    let mut add = |name: &str, count: u64| {
        *counters.entry(name.to_owned()).or_default() += count;
    };
    for uplink in uplinks {
        add("uplink_announcements", uplink.announcements);
        add("uplink_software_segmented", uplink.software_segmented);
        add("uplink_frames_joined", uplink.counters.frames_joined);
        add("uplink_super_frames", uplink.counters.super_frames);
        add("uplink_joined_header_bytes", uplink.counters.joined_header_bytes);
        add("uplink_joining_refused", uplink.counters.joining_refused);
        add("uplink_receive_errors", uplink.counters.receive_errors);
        add("uplink_reopened", uplink.counters.reopened);
        add("uplink_unreadable", uplink.counters.unreadable);
    }
}

/// A lost carrier is to be found well within the time that a lost gateway takes.
fn carrier_look_us(failover: Failover) -> u64 {
    match failover {
        Failover::Fast => 10_000,
        Failover::Default => 50_000,
    }
}
