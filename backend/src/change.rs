//! Another configuration for a backend that runs.
//!
//! ```text
//!   compare, look at the machine ─▶ number new peers ─▶ make new sockets
//!        │                             │                   │ what fails so far is undone,
//!        └─────────────────────────────┴───────────────────┘ and nobody has noticed
//!   end what VMMs were told otherwise ─▶ tables ─▶ let VMMs in ─▶ call new peers, leave old ones
//! ```
//! A vNIC of which only tables speak (its home, its rights) keeps its VMM's connection.

use crate::{
    daemon::{Backend, device_config},
    vhost_user::{DeviceError, Prepared, Supervisor},
    worker::{self, Command, NewTables, PortHandle},
};
use std::{collections::HashSet, path::Path, sync::Arc};
use tracing::warn;
use wireonce_config::{Change, Config, Serves, Vnic, VnicPlace};
use wireonce_directory::{Directory, PeerNumbers};
use wireonce_host::{Applied, ApplyError};
use wireonce_wire::{Endpoint, VnicId};

impl Backend {
    /// See [`wireonce_host::Daemon::apply`].
    pub(crate) fn change_to(&mut self, config: &Arc<Config>) -> Result<Applied, ApplyError> {
        let change = config.change_from(&self.config)?;
        config.check_change(&change, &self.config, Serves::Vnics)?;
        if let Some(refusal) = self.homes.refusal(config) {
            return Err(ApplyError::Refused(refusal));
        }
        let peers = self.host.begin_peers(&change)?;
        let sockets = match make_sockets(&change) {
            Ok(sockets) => sockets,
            Err(error) => {
                self.host.abandon_peers(peers);
                return Err(ApplyError::Refused(error.to_string()));
            }
        };
        self.disconnect_vnics(&change);
        self.remember_names(&change);
        self.use_tables(config, peers.numbers());
        if change.is_empty() {
            // The operator has nothing to say but that everything be as the file has it.
            self.homes.go_home();
        }
        let troubles = self.connect_vnics(config, sockets);
        self.host.commit_peers(peers);
        self.config = Arc::clone(config);
        Ok(Applied { changes: change.lines(), troubles })
    }

    /// Ends the connection of each VMM whose vNIC is gone or not what it was told.
    fn disconnect_vnics(&mut self, change: &Change) {
        for vnic in change.vnics_to_disconnect() {
            match self.supervisor.remove(&vnic.name) {
                Ok(last) => {
                    for (reason, count) in last.refusals {
                        *self.refusals.entry(reason).or_default() += count;
                    }
                }
                // Its socket could not be made when it came.
                Err(error) => warn!(vnic = vnic.name, %error, "was not served"),
            }
        }
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
        self.homes.change(config, numbers, &mut self.shares);
        let (homes, workers) = (&self.homes.cells, self.workers.count());
        let tables = NewTables::for_workers(&directory, &self.shares, homes, workers);
        let mut tables = tables.into_iter();
        let answers =
            self.workers.ask_all(|_, reply| Some(Command::Tables(Box::new(tables.next()?), reply)));
        for (worker, _) in answers.iter().filter(|(_, answer)| answer.is_none()) {
            warn!(worker, "does not answer; it takes the new tables when it does");
        }
        self.shares.tables_are_taken();
        // The last hold on the old ones is this one: to free them takes a while.
        self.directory = directory;
    }

    /// Lets VMMs in. Returns what could not be done; it is tried again with the next
    /// configuration, be it the same.
    fn connect_vnics(&self, config: &Config, made: Vec<(VnicId, Prepared)>) -> Vec<String> {
        for (vnic, prepared) in made {
            if let Err(error) = self.connect(vnic, prepared) {
                warn!(%vnic, %error, "once more");
            }
        }
        let unserved = |vnic: &&Arc<Vnic>| !self.supervisor.serves(&vnic.name);
        let connect =
            |vnic: &Arc<Vnic>| self.connect(vnic.id, Supervisor::prepare(device_config(vnic))?);
        let vnics = config.local_vnics().map(|(vnic, _)| vnic).filter(unserved);
        vnics.map(connect).filter_map(Result::err).map(|error| error.to_string()).collect()
    }

    /// Serves the vNIC on a socket that is there.
    pub(crate) fn connect(&self, vnic: VnicId, prepared: Prepared) -> Result<(), DeviceError> {
        let number = worker::worker_of(vnic, self.workers.count());
        let mailbox = number.and_then(|number| self.workers.mailbox(number));
        let Some(mailbox) = mailbox else { return Ok(()) };
        self.supervisor.start(prepared, Arc::new(PortHandle::new(vnic, mailbox.clone())))
    }
}

/// The sockets of the vNICs that come. Where one that goes has the path, there is none yet.
fn make_sockets(change: &Change) -> Result<Vec<(VnicId, Prepared)>, DeviceError> {
    let taken: HashSet<&Path> = change.vnics_to_disconnect().filter_map(|it| path(it)).collect();
    let free = |vnic: &&Arc<Vnic>| path(vnic).is_some_and(|path| !taken.contains(path));
    let make = |vnic: &Arc<Vnic>| Ok((vnic.id, Supervisor::prepare(device_config(vnic))?));
    change.vnics_to_connect().filter(free).map(make).collect()
}

fn path(vnic: &Vnic) -> Option<&Path> {
    match &vnic.place {
        VnicPlace::Local(socket) => Some(&socket.path),
        VnicPlace::Peer(_) => None,
    }
}
