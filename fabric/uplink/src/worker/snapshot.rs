//! What a worker tells about itself: a copy of its counters, made between two turns.

use crate::{books::Books, driver::DriverCounters};
use wireonce_ledger::Amount;
use wireonce_link::FabricSnapshot;
use wireonce_wire::UplinkId;

/// A worker's counters at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Those that are closed, too: an id may be there several times.
    pub(crate) uplinks: Vec<UplinkSnapshot>,
    /// Uplinks that are not closed yet, though no table names them.
    pub(crate) closing: usize,
    pub(crate) books: Books,
    pub(crate) fabric: FabricSnapshot,
}

/// One worker's share of an uplink.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UplinkSnapshot {
    pub(crate) id: UplinkId,
    pub(crate) carrier: bool,
    /// What went from outside to the fabric, copies included.
    pub(crate) inward: Amount,
    /// What went from the fabric to the wire, and announcements.
    pub(crate) outward: Amount,
    pub(crate) counters: DriverCounters,
    /// Frames that the port refused whole and that were cut or completed here.
    pub(crate) software_segmented: u64,
    /// Announcement frames that were handed to the port.
    pub(crate) announcements: u64,
}
