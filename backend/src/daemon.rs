//! The backend as a whole: workers, fabric sessions, vhost-user sockets.
//!
//! ```text
//!   supervisor thread ── a protocol thread per VMM ──┐ mail
//!   agent thread ─────── sessions, hellos, path MTU ─┤
//!   status server ────── snapshots ──────────────────┴─▶ worker threads
//! ```

use crate::{
    feature_names::feature_names,
    homes::Homes,
    shares::{Shares, SharesThread, VnicUse},
    vhost_user::{DeviceConfig, DeviceError, DeviceStatus, SocketMode, Supervisor},
    worker::{self, NewTables, Worker, WorkerConfig},
};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, mpsc::Sender},
    time::Instant,
};
use wireonce_config::{Config, Vnic};
use wireonce_directory::{Directory, PeerNumbers};
use wireonce_home::Way;
use wireonce_host::{Applied, ApplyError, Daemon, FabricHost, HostError, workers::Workers};
use wireonce_ledger::{
    Account, Stage, Status,
    status::{LedgerRow, MoveHeldStatus, VnicHomeStatus, VnicShareStatus, VnicState, VnicStatus},
};
use wireonce_link::{
    FabricError,
    random::{NoRandom, Random, SystemRandom},
};
use wireonce_wire::Endpoint;

/// Why a backend did not start.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The fabric side.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// Keys, sessions or the control socket.
    #[error(transparent)]
    Host(#[from] HostError),
    /// What the next life has to know cannot be kept.
    #[error("{0}")]
    State(String),
    /// A vNIC's socket.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The system refused a thread or a descriptor.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A running backend.
#[derive(Debug)]
pub struct Backend {
    pub(crate) config: Arc<Config>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) supervisor: Supervisor,
    pub(crate) shares: Shares,
    shares_thread: SharesThread,
    pub(crate) homes: Homes,
    pub(crate) host: FabricHost,
    pub(crate) workers: Workers<Worker>,
    /// Names of what is gone and still has accounts, by endpoint.
    pub(crate) names: HashMap<u64, String>,
    /// Sessions that were refused on sockets that are gone.
    pub(crate) refusals: BTreeMap<&'static str, u64>,
    started: Instant,
}

impl Backend {
    /// Starts everything that `config` asks of a server. Should a worker fail later, it
    /// says so on `failed`: stop the backend then.
    ///
    /// # Errors
    /// [`BackendError`]; nothing is left running then.
    pub fn start(config: &Arc<Config>, failed: &Sender<String>) -> Result<Self, BackendError> {
        let directory = Arc::new(Directory::new(config));
        let started = Instant::now();
        let numbers = PeerNumbers::in_order(config);
        let shares = Shares::new(config, &numbers, life()?);
        let mut homes = Homes::new(config, started);
        if let Some(refusal) = homes.refusal(config) {
            return Err(BackendError::State(refusal));
        }
        homes.start(config, &numbers, &shares);
        let count = config.host.workers.max(1);
        let mut tables =
            NewTables::for_workers(&directory, &shares, &homes.cells, count.into()).into_iter();
        let workers = Workers::start("worker", count, failed, |seat| {
            let fabric = FabricHost::worker_config(config, seat.number, worker::FABRIC_TOKEN_KIND);
            let tables = tables.next().unwrap_or_default();
            let settings = WorkerConfig { fabric, tables, clock: started };
            move || Worker::new(&settings, seat).map_err(BackendError::from)
        })?;
        let (ears, inbox) = shares.ears(workers.postman());
        let host = FabricHost::start(config, Box::new(homes.ears(ears)), started)?;
        homes.set_agent(host.agent());
        let shares_thread = shares
            .start(inbox, host.agent(), started)
            .map_err(|source| BackendError::System { action: "start the shares thread", source })?;
        let system = |source| {
            let action = "start the vhost-user supervisor";
            BackendError::System { action, source }
        };
        let supervisor = Supervisor::spawn().map_err(system)?;
        let backend = Self {
            config: Arc::clone(config),
            directory,
            supervisor,
            shares,
            shares_thread,
            homes,
            host,
            workers,
            names: HashMap::new(),
            refusals: BTreeMap::new(),
            started,
        };
        for (vnic, _) in config.local_vnics() {
            backend.connect(vnic.id, Supervisor::prepare(device_config(vnic))?)?;
        }
        Ok(backend)
    }

    /// Which uplink a vNIC of this host uses.
    fn home_status(&self, vnic: &Vnic, now_us: u64) -> Option<VnicHomeStatus> {
        let home = vnic.home.as_ref()?;
        let name = |way: Way| {
            let entry = self.directory.uplink(way.uplink);
            entry.map_or_else(|| way.uplink.0.to_string(), |entry| entry.uplink.name.clone())
        };
        let standing = self.homes.standing(vnic.id)?;
        Some(VnicHomeStatus {
            desired: home.name.clone(),
            now: standing.at.map(name),
            confirmed: standing.confirmed,
            going: standing.going.map(name),
            epoch: standing.epoch,
            why: standing.why.name().to_owned(),
            moved_ago_us: standing.at.map(|_| now_us.saturating_sub(standing.moved_us)),
            swaps: standing.swaps,
            held: standing.held.map(|held| MoveHeldStatus {
                to: name(held.way),
                why: held.why.name().to_owned(),
                for_us: held.until_us.saturating_sub(now_us),
            }),
        })
    }

    /// The name of what an account is for.
    fn account_name(&self, bits: u64) -> (String, u64) {
        let gone = || self.names.get(&bits).cloned();
        match Endpoint::from_bits(bits) {
            Some(Endpoint::Vnic(id)) => {
                let name = self.directory.vnic(id).map(|entry| entry.vnic.name.clone());
                (name.or_else(gone).unwrap_or_else(|| "unknown vNIC".to_owned()), id.get())
            }
            Some(Endpoint::Uplink(id)) => {
                let name = self.directory.uplink(id).map(|entry| entry.uplink.name.clone());
                (name.or_else(gone).unwrap_or_else(|| "unknown uplink".to_owned()), id.0.into())
            }
            _ => ("not a port".to_owned(), bits),
        }
    }
}

impl Daemon for Backend {
    fn status(&self) -> Status {
        let snapshots = self.workers.snapshots();
        let fabric: Vec<_> = snapshots.iter().map(|snapshot| &snapshot.fabric).collect();
        let sampled_at_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(0);
        let mut status = Status {
            role: "backend".to_owned(),
            host: self.config.host.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            sampled_at_us,
            encryption: self.host.encryption().to_owned(),
            links: self.host.links(&fabric),
            shares: self.shares.status(&self.config.host.name, sampled_at_us),
            fabric_port: self.shares.port_status(&self.config),
            ..Status::default()
        };
        let devices = self.supervisor.status().into_iter();
        let devices: BTreeMap<_, _> = devices.map(|it| (it.name.clone(), it)).collect();
        let mut sources: BTreeMap<u64, Account> = BTreeMap::new();
        let mut broken_rings = 0;
        for snapshot in &snapshots {
            for (bits, account) in &snapshot.sources {
                sources.entry(*bits).or_default().merge(account);
            }
            for gone in &snapshot.retired {
                broken_rings += gone.broken_rings;
                let (name, id) = self.account_name(Endpoint::Vnic(gone.vnic).to_bits());
                for (stage, account) in &gone.accounts {
                    status.ledger.push(LedgerRow::new(&name, id, *stage, account));
                }
            }
            for port in &snapshot.ports {
                broken_rings += port.broken_rings;
                let Some(entry) = self.directory.vnic(port.vnic) else { continue };
                let device = devices.get(&entry.vnic.name);
                let mut vnic = vnic_status(&entry.vnic, port, device);
                vnic.home = self.home_status(&entry.vnic, sampled_at_us);
                status.vnics.push(vnic);
                for (stage, account) in &port.accounts {
                    let row = LedgerRow::new(&entry.vnic.name, port.vnic.get(), *stage, account);
                    status.ledger.push(row);
                }
            }
        }
        for (bits, account) in &sources {
            let (name, id) = self.account_name(*bits);
            status.ledger.push(LedgerRow::new(&name, id, Stage::FabricRx, account));
        }
        status.counters = self.host.counters(&fabric);
        status.counters.insert("broken_rings".to_owned(), broken_rings);
        status.counters.insert("failover_stalls".to_owned(), self.homes.stalls());
        let sum = |count: fn(&worker::Snapshot) -> u64| snapshots.iter().map(count).sum();
        status.counters.insert("guest_kicks".to_owned(), sum(|s| s.signals.kicks));
        status.counters.insert("guest_calls".to_owned(), sum(|s| s.signals.calls));
        let gone = self.refusals.iter().map(|(reason, count)| (*reason, *count));
        let refusals = devices.into_values().flat_map(|device| device.refusals);
        for (reason, count) in refusals.chain(gone) {
            *status.counters.entry(format!("vhost_user_{reason}")).or_default() += count;
        }
        status
    }

    fn apply(&mut self, config: &Arc<Config>) -> Result<Applied, ApplyError> {
        self.change_to(config)
    }

    fn stop(self) {
        // VMMs first: they are told by their sockets, while the workers still answer.
        self.supervisor.stop();
        drop(self.shares_thread);
        self.host.stop();
        drop(self.workers);
    }
}

/// A number that tells this process from its earlier lives.
fn life() -> Result<u64, BackendError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|NoRandom| BackendError::System {
        action: "get random bytes",
        source: io::Error::other("the system has none"),
    })?;
    Ok(u64::from_le_bytes(bytes))
}

pub(crate) fn device_config(vnic: &Vnic) -> DeviceConfig {
    let (path, mode) = match &vnic.place {
        wireonce_config::VnicPlace::Local(socket) => {
            let mode = match socket.mode {
                wireonce_config::SocketMode::Listen => SocketMode::Listen,
                wireonce_config::SocketMode::Connect => SocketMode::Connect,
            };
            (socket.path.clone(), mode)
        }
        wireonce_config::VnicPlace::Peer(_) => (std::path::PathBuf::new(), SocketMode::Listen),
    };
    DeviceConfig {
        mtu: vnic.network.mtu,
        queue_pairs: vnic.queue_pairs,
        offer_guest_tso: vnic.guest_tso,
        require_sealed_memory: vnic.require_sealed_memory,
        ..DeviceConfig::new(vnic.name.clone(), path, mode, vnic.mac.0)
    }
}

fn share_status(share: VnicUse) -> VnicShareStatus {
    // Where no uplink is shaped the port is all that there is.
    let is_wide = share.rate_bps >= u64::MAX - 1;
    VnicShareStatus {
        rate_bps: share.port_rate_bps.filter(|_| is_wide).unwrap_or(share.rate_bps),
        demand_bps: (share.demand_bps != u64::MAX).then_some(share.demand_bps),
        held: share.held,
        held_us: share.held_us,
        queued_bytes: share.queued_bytes,
        served_bits: share.served_bits,
        served_packets: share.served_packets,
        limit_packets_per_s: share.limit_packets_per_s,
        packets_held: share.packets_held,
        packets_held_us: share.packets_held_us,
        port_rate_bps: share.port_rate_bps,
        port_held: share.port_held,
        port_held_us: share.port_held_us,
    }
}

fn vnic_status(
    vnic: &Vnic,
    port: &worker::PortSnapshot,
    device: Option<&DeviceStatus>,
) -> VnicStatus {
    let amounts = |stage: Stage| port.accounts.iter().find(|(s, _)| *s == stage);
    let state = match (port.connected, port.running) {
        (false, _) => VnicState::Down,
        (true, false) => VnicState::Connected,
        (true, true) => VnicState::Running,
    };
    VnicStatus {
        id: vnic.id.get(),
        name: vnic.name.clone(),
        network: vnic.network.name.clone(),
        mac: vnic.mac.to_string(),
        state,
        features: feature_names(port.features),
        queue_pairs: u32::try_from(port.pairs_running).unwrap_or(u32::MAX),
        memory_sealed: device.is_some_and(|it| it.memory_regions > 0 && it.memory_sealed),
        tx: amounts(Stage::GuestTx).map(|(_, account)| account.input).unwrap_or_default(),
        rx: amounts(Stage::GuestRx).map(|(_, account)| account.output).unwrap_or_default(),
        share: port.share.map(share_status),
        home: None,
    }
}
