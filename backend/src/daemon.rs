//! The backend as a whole: workers, fabric sessions, vhost-user sockets.
//!
//! ```text
//!   supervisor thread ── a protocol thread per VMM ──┐ mail
//!   agent thread ─────── sessions, hellos, path MTU ─┤
//!   status server ────── snapshots ──────────────────┴─▶ worker threads
//! ```

use crate::{
    feature_names::feature_names,
    shares::{Shares, SharesThread, VnicUse},
    vhost_user::{DeviceConfig, DeviceError, DeviceStatus, SocketMode, Supervisor},
    worker::{self, PortHandle, Worker, WorkerConfig},
};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, mpsc::Sender},
    time::Instant,
};
use wireonce_config::{Config, Vnic};
use wireonce_directory::Directory;
use wireonce_host::{FabricHost, HostError, workers::Workers};
use wireonce_ledger::{
    Account, Daemon, Stage, Status,
    status::{LedgerRow, VnicShareStatus, VnicState, VnicStatus},
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
    config: Arc<Config>,
    directory: Arc<Directory>,
    supervisor: Supervisor,
    shares: Shares,
    shares_thread: Option<SharesThread>,
    host: FabricHost,
    workers: Workers<Worker>,
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
        let shares = Shares::new(config, life()?);
        let count = config.host.workers.max(1);
        let workers = Workers::start("worker", count, failed, |seat| {
            let fabric = FabricHost::worker_config(config, seat.number, worker::FABRIC_TOKEN_KIND);
            let settings = WorkerConfig {
                fabric,
                directory: Arc::clone(&directory),
                shares: shares.clone(),
                clock: started,
            };
            move || Worker::new(&settings, seat).map_err(BackendError::from)
        })?;
        let (ears, inbox) = shares.ears(workers.postman());
        let host = FabricHost::start(config, Box::new(ears))?;
        let shares_thread = shares
            .start(inbox, host.agent(), started)
            .map_err(|source| BackendError::System { action: "start the shares thread", source })?;
        let system = |source| {
            let action = "start the vhost-user supervisor";
            BackendError::System { action, source }
        };
        let supervisor = Supervisor::spawn().map_err(system)?;
        for (vnic, _) in config.local_vnics() {
            let mailbox = worker::worker_of(vnic.id, workers.count())
                .and_then(|number| workers.mailbox(number));
            let Some(mailbox) = mailbox else { continue };
            let events = Arc::new(PortHandle::new(vnic.id, mailbox.clone()));
            supervisor.add(device_config(vnic), events)?;
        }
        Ok(Self {
            config: Arc::clone(config),
            directory,
            supervisor,
            shares,
            shares_thread,
            host,
            workers,
            started,
        })
    }

    /// The name of what an account is for.
    fn account_name(&self, bits: u64) -> (String, u64) {
        match Endpoint::from_bits(bits) {
            Some(Endpoint::Vnic(id)) => {
                let name = self.directory.vnic(id).map(|entry| entry.vnic.name.clone());
                (name.unwrap_or_else(|| "unknown vNIC".to_owned()), id.get())
            }
            Some(Endpoint::Uplink(id)) => {
                let name = self.directory.uplink(id).map(|entry| entry.uplink.name.clone());
                (name.unwrap_or_else(|| "unknown uplink".to_owned()), id.0.into())
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
            for port in &snapshot.ports {
                broken_rings += port.broken_rings;
                let Some(entry) = self.directory.vnic(port.vnic) else { continue };
                let device = devices.get(&entry.vnic.name);
                status.vnics.push(vnic_status(&entry.vnic, port, device));
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
        let sum = |count: fn(&worker::Snapshot) -> u64| snapshots.iter().map(count).sum();
        status.counters.insert("guest_kicks".to_owned(), sum(|s| s.signals.kicks));
        status.counters.insert("guest_calls".to_owned(), sum(|s| s.signals.calls));
        for device in devices.into_values() {
            for (reason, count) in device.refusals {
                *status.counters.entry(format!("vhost_user_{reason}")).or_default() += count;
            }
        }
        status
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

fn device_config(vnic: &Vnic) -> DeviceConfig {
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
    VnicShareStatus {
        rate_bps: share.rate_bps,
        demand_bps: (share.demand_bps != u64::MAX).then_some(share.demand_bps),
        held: share.held,
        queued_bytes: share.queued_bytes,
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
    }
}
