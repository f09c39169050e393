//! What holds of this gateway's uplinks at the moment, whatever the tables say: who is attached to them,
//! and which part of a bond is there.
//!
//! ```text
//!   attachments (agent thread) ── moves ──┐
//!   bonds (probes' thread) ──── parts ────┴─▶ Presence ◀── desks that divide bandwidth
//! ```
//! It outlives configurations: a vNIC is attached where it is until it has left, also if the tables want
//! it elsewhere by then.

use crate::bond::Part;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use wireonce_wire::{UplinkId, VnicId};

/// All clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Presence(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    vnics: BTreeMap<UplinkId, BTreeSet<VnicId>>,
    /// Of uplinks of which not all is there.
    parts: BTreeMap<UplinkId, Part>,
}

/// A vNIC that came to an uplink, or has left it with all that was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) vnic: VnicId,
    pub(crate) uplink: UplinkId,
    pub(crate) here: bool,
}

impl Presence {
    /// The vNICs that may use an uplink now, or may still have something under way there.
    pub(crate) fn vnics(&self, uplink: UplinkId) -> BTreeSet<VnicId> {
        self.lock().vnics.get(&uplink).cloned().unwrap_or_default()
    }

    /// What of an uplink's capacity is there.
    pub(crate) fn part(&self, uplink: UplinkId) -> Part {
        self.lock().parts.get(&uplink).copied().unwrap_or(Part::WHOLE)
    }

    pub(crate) fn note(&self, moves: &[Move]) {
        let mut book = self.lock();
        for Move { vnic, uplink, here } in moves {
            let vnics = book.vnics.entry(*uplink).or_default();
            if *here {
                vnics.insert(*vnic);
            } else {
                vnics.remove(vnic);
            }
        }
        book.vnics.retain(|_, vnics| !vnics.is_empty());
    }

    pub(crate) fn set_part(&self, uplink: UplinkId, part: Part) {
        self.lock().parts.insert(uplink, part);
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
