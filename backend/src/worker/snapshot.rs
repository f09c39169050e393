//! What a worker tells about itself: a copy of its counters, made between two batches.

use super::{
    Worker,
    port::{Books, Port},
    tables::Retired,
};
use crate::shares::VnicUse;
use rustc_hash::FxHashMap;
use wireonce_ledger::{Account, Stage};
use wireonce_link::FabricSnapshot;
use wireonce_wire::VnicId;

/// A worker's counters at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) ports: Vec<PortSnapshot>,
    /// What is left of vNICs that were served here.
    pub(crate) retired: Vec<RetiredSnapshot>,
    /// Accounts of what came from the fabric, by source endpoint bits.
    pub(crate) sources: Vec<(u64, Account)>,
    pub(crate) fabric: FabricSnapshot,
    pub(crate) signals: Signals,
}

/// How often guests and worker had to wake each other.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signals {
    /// Wake-ups by guests; several kicks before one is looked at are one.
    pub(crate) kicks: u64,
    /// Interrupts to guests.
    pub(crate) calls: u64,
}

/// One vNIC's state and counters.
#[derive(Debug)]
pub(crate) struct PortSnapshot {
    pub(crate) vnic: VnicId,
    pub(crate) connected: bool,
    pub(crate) running: bool,
    pub(crate) features: u64,
    pub(crate) pairs_running: usize,
    pub(crate) broken_rings: u64,
    /// What it may send to its home; `None` if that is not shaped.
    pub(crate) share: Option<VnicUse>,
    pub(crate) accounts: Vec<(Stage, Account)>,
}

/// The counters of a vNIC that is gone.
#[derive(Debug)]
pub(crate) struct RetiredSnapshot {
    pub(crate) vnic: VnicId,
    pub(crate) broken_rings: u64,
    pub(crate) accounts: Vec<(Stage, Account)>,
}

impl Worker {
    pub(super) fn snapshot(&self) -> Snapshot {
        let now_us = self.now_us();
        Snapshot {
            ports: self
                .by_vnic
                .values()
                .map(|index| port_snapshot(&self.ports[*index], now_us))
                .collect(),
            retired: self.retired.iter().map(retired_snapshot).collect(),
            sources: sources(&self.sources),
            fabric: self.fabric.snapshot(),
            signals: self.signals,
        }
    }
}

fn port_snapshot(port: &Port, now_us: u64) -> PortSnapshot {
    PortSnapshot {
        vnic: port.vnic.id,
        connected: port.connected,
        running: port.is_running(),
        features: port.features,
        pairs_running: port.tx.iter().flatten().filter(|queue| queue.common.enabled).count(),
        broken_rings: port.broken_rings,
        share: port.shaped.as_ref().map(|shaped| shaped.in_use(now_us)),
        accounts: accounts(&port.books),
    }
}

fn retired_snapshot((vnic, retired): (&VnicId, &Retired)) -> RetiredSnapshot {
    let Retired { books, broken_rings } = retired;
    RetiredSnapshot { vnic: *vnic, broken_rings: *broken_rings, accounts: accounts(books) }
}

fn accounts(books: &Books) -> Vec<(Stage, Account)> {
    vec![
        (Stage::GuestTx, books.guest_tx.clone()),
        (Stage::FabricTx, books.fabric_tx.clone()),
        (Stage::GuestRx, books.guest_rx.clone()),
    ]
}

fn sources(accounts: &FxHashMap<u64, Account>) -> Vec<(u64, Account)> {
    accounts.iter().map(|(source, account)| (*source, account.clone())).collect()
}
