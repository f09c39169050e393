//! Another configuration for a gateway that runs.
//!
//! ```text
//!   compare, look at the machine ─▶ number new peers ─▶ each worker opens new uplinks
//!        │                             │                   │ what fails so far is undone,
//!        └─────────────────────────────┴───────────────────┘ and nobody has noticed
//!   tables, and announcements of who is at home here now ─▶ call new peers, leave old ones
//!      └▶ uplinks that are gone: what is queued goes out, then they are closed
//! ```

use super::{Gateway, note_draining};
use crate::{
    probe::Gate,
    storm::OutsideStorm,
    worker::{Command, LocalUplink, NewRights, NewTables, news},
};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tracing::warn;
use wireonce_config::{Change, Config, Port, Serves, Uplink};
use wireonce_directory::{Directory, PeerNumbers};
use wireonce_host::{Applied, ApplyError};
use wireonce_wire::Endpoint;

/// How long an uplink that is gone may take for what is queued.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// How often it is looked at.
const DRAIN_POLL: Duration = Duration::from_millis(5);

impl Gateway {
    /// See [`wireonce_host::Daemon::apply`].
    pub(super) fn change_to(&mut self, config: &Arc<Config>) -> Result<Applied, ApplyError> {
        let change = config.change_from(&self.config)?;
        config.check_change(&change, &self.config, Serves::Uplinks)?;
        let peers = self.host.begin_peers(&change)?;
        if let Err(refused) = self.open_uplinks(config, &change) {
            self.workers.ask_all(|_, reply| Some(Command::Abandon(reply)));
            self.host.abandon_peers(peers);
            return Err(ApplyError::Refused(refused));
        }
        self.remember_names(&change);
        self.use_tables(config, peers.numbers());
        self.host.commit_peers(peers);
        self.config = Arc::clone(config);
        Ok(Applied { changes: change.lines(), troubles: self.drain() })
    }

    /// What each worker needs of an uplink.
    pub(super) fn local_uplink(
        config: &Config,
        uplink: &Arc<Uplink>,
        port: &Port,
        gate: Arc<Gate>,
        workers: usize,
    ) -> LocalUplink {
        LocalUplink {
            uplink: Arc::clone(uplink),
            port: port.clone(),
            storm: Arc::new(OutsideStorm::new(config, uplink)),
            group: (workers > 1).then(Arc::default),
            // Its tables will say.
            police: None,
            down: None,
            gate,
        }
    }

    fn open_uplinks(&mut self, config: &Config, change: &Change) -> Result<(), String> {
        for (uplink, port) in change.uplinks_to_open() {
            let gate = self.probes.gate(config, uplink);
            let local = Self::local_uplink(config, uplink, port, gate, self.workers.count());
            let answers = self
                .workers
                .ask_all(|_, reply| Some(Command::Open(Box::new(local.clone()), reply)));
            for (worker, answer) in answers {
                let name = &uplink.name;
                match answer {
                    Some(Ok(())) => {}
                    Some(Err(error)) => return Err(format!("uplink {name:?}: {error}")),
                    None => {
                        return Err(format!("uplink {name:?}: worker {worker} does not answer"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Accounts outlive what they are for, so its name does, too.
    fn remember_names(&mut self, change: &Change) {
        for vnic in &change.vnics.removed {
            self.names.insert(Endpoint::Vnic(vnic.id).to_bits(), vnic.name.clone());
        }
        for uplink in &change.uplinks.removed {
            self.names.insert(Endpoint::Uplink(uplink.id).to_bits(), uplink.name.clone());
        }
    }

    fn use_tables(&mut self, config: &Config, numbers: &PeerNumbers) {
        let directory = Arc::new(Directory::numbered(config, numbers));
        for (uplink, _) in config.local_uplinks() {
            let storm = self.storms.get(&uplink.id).filter(|storm| storm.fits(config, uplink));
            if storm.is_none() {
                self.storms.insert(uplink.id, Arc::new(OutsideStorm::new(config, uplink)));
            }
        }
        note_draining(config, &self.health);
        self.shares.change(config, numbers, self.now_us());
        self.shares_thread.changed();
        self.downwards.change(config, numbers, self.now_us());
        self.probes.change(config, numbers, self.now_us());
        let rights = |(uplink, _): (&Arc<Uplink>, &Port)| {
            let storm = Arc::clone(self.storms.get(&uplink.id)?);
            let (police, down) = (self.shares.police(uplink.id), self.downwards.of(uplink.id));
            let gate = self.probes.gate(config, uplink);
            let uplink = Arc::clone(uplink);
            Some((uplink.id, NewRights { uplink, storm, police, down, gate }))
        };
        let tables = NewTables {
            directory: Arc::clone(&directory),
            attached: self.homes.change(config, numbers),
            uplinks: config.local_uplinks().filter_map(rights).collect(),
            news: news(&self.directory, &directory),
        };
        self.storms.retain(|id, _| tables.uplinks.contains_key(id));
        let answers =
            self.workers.ask_all(|_, reply| Some(Command::Tables(Box::new(tables.clone()), reply)));
        for (worker, _) in answers.iter().filter(|(_, answer)| answer.is_none()) {
            warn!(worker, "does not answer; it takes the new tables when it does");
        }
        // The last hold on the old ones is this one: to free them takes a while.
        self.directory = directory;
    }

    /// Waits until uplinks that are gone are closed. Returns what is wrong if they are not.
    fn drain(&self) -> Vec<String> {
        let deadline = Instant::now() + DRAIN_LIMIT;
        loop {
            let left: usize = self.workers.snapshots().iter().map(|worker| worker.closing).sum();
            if left == 0 {
                return Vec::new();
            }
            if Instant::now() >= deadline {
                return vec!["an uplink that is gone still has frames in the kernel".to_owned()];
            }
            thread::sleep(DRAIN_POLL);
        }
    }
}
