//! The forwarding tables of a worker, and how others take their place.
//!
//! ```text
//!   daemon ── NewTables, by mail ──▶ between two batches: ports that are gone are emptied,
//!                                    new ones made, the others told of their new rights;
//!                                    then the tables and all that remembers their answers
//! ```
//! A frame meets the tables before or those after, never a part of each: what is still in
//! a guest's ring goes the new way, what is on a train has gone the old one.
//!
//! The ledger outlives the port. The accounts of a vNIC that is gone stay under its id,
//! because evidence about its frames still comes; if the vNIC comes back they go on.

use super::{
    Worker,
    inward::{Pass, worker_of},
    port::{Books, Port},
    shaped::Shaped,
    transmit::Way,
};
use crate::{
    homes::HomeCell,
    net::{Neighbour, Neighbours},
    shares::{Inflows, Shares, VnicShare, Waker},
};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use wireonce_config::Vnic;
use wireonce_directory::{Directory, Host};
use wireonce_ledger::{Amount, DropReason};
use wireonce_ring::RingError;
use wireonce_wire::VnicId;

/// Tables that a worker is to use, made where nobody waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewTables {
    directory: Arc<Directory>,
    neighbours: Arc<Neighbours>,
    /// The vNICs that the worker serves.
    ports: FxHashMap<VnicId, Arc<Vnic>>,
    /// What those vNICs may send whose home is shaped, and who wakes when they do.
    shares: Arc<FxHashMap<VnicId, Arc<VnicShare>>>,
    waker: Arc<Waker>,
    /// Where those that have a home go now; of others the directory says it.
    homes: Arc<FxHashMap<VnicId, Arc<HomeCell>>>,
    /// Where to count what comes in, if anybody wants to know.
    inflows: Option<Arc<Inflows>>,
}

impl NewTables {
    /// For each of `workers` workers, in their order.
    pub(crate) fn for_workers(
        directory: &Arc<Directory>,
        shares: &Shares,
        homes: &Arc<FxHashMap<VnicId, Arc<HomeCell>>>,
        workers: usize,
    ) -> Vec<Self> {
        let mut neighbours = Neighbours::default();
        for (vni, address, vnic) in directory.addresses() {
            let router = vnic.allow.router_advertisement;
            neighbours.insert(vni, address, Neighbour { mac: vnic.mac, router });
        }
        let all = Self {
            directory: Arc::clone(directory),
            neighbours: Arc::new(neighbours),
            ports: FxHashMap::default(),
            shares: Arc::clone(&shares.vnics),
            waker: Arc::clone(&shares.waker),
            homes: Arc::clone(homes),
            inflows: shares.inflows(),
        };
        let mut each = vec![all; workers];
        for entry in directory.vnics().filter(|entry| entry.host == Host::Local) {
            let worker = worker_of(entry.vnic.id, workers);
            if let Some(tables) = worker.and_then(|worker| each.get_mut(worker)) {
                tables.ports.insert(entry.vnic.id, Arc::clone(&entry.vnic));
            }
        }
        each
    }
}

/// The tables in use. They are replaced whole, so that nothing remembers an answer of
/// others.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) directory: Arc<Directory>,
    pub(super) neighbours: Arc<Neighbours>,
    pub(super) inflows: Option<Arc<Inflows>>,
    /// See [`super::Inward`].
    pub(super) last_pass: Option<Pass>,
    /// See [`super::transmit::Outward`].
    pub(super) last_way: Option<Way>,
}

/// What is left of a port whose vNIC is gone.
#[derive(Debug, Default)]
pub(super) struct Retired {
    pub(super) books: Books,
    pub(super) broken_rings: u64,
}

impl Retired {
    /// Books a frame that another worker sent here for the vNIC.
    pub(super) fn refuse(&mut self, bytes: usize) {
        let amount = Amount::frame(bytes, 1);
        self.books.guest_rx.input += amount;
        self.books.guest_rx.drop(DropReason::UnknownDestination, amount);
    }
}

impl Worker {
    /// Uses `new` from the next frame on.
    pub(super) fn take_tables(&mut self, new: NewTables) -> Result<(), RingError> {
        let NewTables { directory, neighbours, ports, shares, waker, homes, inflows } = new;
        let here = self.by_vnic.keys();
        let gone: Vec<VnicId> = here.filter(|id| !ports.contains_key(id)).copied().collect();
        for id in gone {
            self.retire_port(id)?;
        }
        for (id, vnic) in ports {
            match self.by_vnic.get(&id) {
                Some(&index) => self.change_port(index, vnic)?,
                None => self.add_port(&vnic),
            }
        }
        self.tables = Tables { directory, neighbours, inflows, last_pass: None, last_way: None };
        self.take_shares(&shares, &waker);
        for (id, index) in &self.by_vnic {
            self.ports[*index].home = homes.get(id).cloned();
        }
        Ok(())
    }

    /// Shapes the vNICs that have a share. One that has had one keeps what waits; without a share it
    /// has had its last news, that it may send at any rate.
    fn take_shares(&mut self, shares: &FxHashMap<VnicId, Arc<VnicShare>>, waker: &Arc<Waker>) {
        let now_us = self.now_us();
        for (id, index) in &self.by_vnic {
            let Some(share) = shares.get(id) else { continue };
            let port = &mut self.ports[*index];
            match &mut port.shaped {
                Some(shaped) => shaped.use_share(Arc::clone(share)),
                None => {
                    let shaped = Shaped::new(Arc::clone(share), Arc::clone(waker), now_us);
                    port.shaped = Some(Box::new(shaped));
                }
            }
        }
        self.shapes = self.ports.iter().any(|port| port.shaped.is_some());
    }

    fn add_port(&mut self, vnic: &Arc<Vnic>) {
        let id = vnic.id;
        let mut port = Port::new(vnic);
        if let Some(before) = self.retired.remove(&id) {
            port.books = before.books;
            port.broken_rings = before.broken_rings;
        }
        let index = match self.vacant.pop() {
            Some(index) => {
                port.go_on_after(&self.ports[index]);
                self.ports[index] = port;
                index
            }
            None => {
                self.ports.push(port);
                self.ports.len() - 1
            }
        };
        self.by_vnic.insert(id, index);
    }

    /// Gives a port that stays its new rights.
    fn change_port(&mut self, index: usize, vnic: Arc<Vnic>) -> Result<(), RingError> {
        if vnic.queue_pairs != self.ports[index].vnic.queue_pairs {
            // Its VMM has gone before, and will be told the new number.
            self.disconnect(vnic.id)?;
            self.forget_waiting(index);
        }
        self.ports[index].change(vnic);
        Ok(())
    }

    /// Empties the place of a port whose vNIC is not served here any more.
    fn retire_port(&mut self, id: VnicId) -> Result<(), RingError> {
        self.disconnect(id)?;
        let Some(index) = self.by_vnic.remove(&id) else { return Ok(()) };
        self.forget_waiting(index);
        let port = &mut self.ports[index];
        let (books, broken_rings) = port.vacate();
        self.retired.insert(id, Retired { books, broken_rings });
        self.vacant.push(index);
        Ok(())
    }

    /// Nothing waits for the rings of a port any more.
    fn forget_waiting(&mut self, index: usize) {
        self.waiting.retain(|(port, _)| *port != index);
        self.broken.retain(|(port, ..)| *port != index);
    }
}
