//! Which vNICs may use an uplink now: words that workers read for each frame, without a lock.
//!
//! ```text
//!   agent thread ── wireonce_home::Gateway ── word, fence ──▶ Cell ──▶ worker: egress, server_of
//!                                                              ◀────── worker: heard_elsewhere
//! ```
//! A vNIC without a cell is where the tables say. The fence is read before the word: whoever raises a
//! fence has taken away before what must not pass by it.

use rustc_hash::FxHashMap;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};
use wireonce_directory::{Host, VnicEntry};
use wireonce_home::Word;
use wireonce_ledger::DropReason;
use wireonce_wire::{UplinkId, VnicId};

const EGRESS: u32 = 1;
const INWARD: u32 = 2;
const LEASED: u32 = 4;
const LEAVING: u32 = 8;
/// What switches had sent here before they heard the announcement comes within this time, beside it or
/// behind it: they have more than one processor, and more than one way.
const UNDER_WAY_US: u64 = 10_000;

/// Until when what is leased to one server's vNICs may pass, in microseconds of the gateway's clock.
#[derive(Debug, Default)]
pub struct Fence(AtomicU64);

impl Fence {
    /// It may until then.
    pub(crate) fn set(&self, until_us: u64) {
        self.0.store(until_us, Ordering::Release);
    }
}

/// One vNIC at one uplink.
#[derive(Debug)]
pub struct Cell {
    word: AtomicU32,
    /// After it has left: when somebody else was heard to have it; 0 before.
    announced_us: AtomicU64,
    /// While it is being prepared: a frame of it has left here, so switches outside know it here.
    used: AtomicBool,
    fence: Arc<Fence>,
}

impl Cell {
    /// Nothing passes yet.
    pub(crate) fn new(fence: Arc<Fence>) -> Self {
        let (announced_us, used) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { word: AtomicU32::new(0), announced_us, used, fence }
    }

    /// Whether that is its fence.
    pub(crate) fn is_behind(&self, fence: &Arc<Fence>) -> bool {
        Arc::ptr_eq(&self.fence, fence)
    }

    /// From now on it is like this.
    pub(crate) fn show(&self, word: Word) {
        let bit = |is: bool, bit| if is { bit } else { 0 };
        let bits = bit(word.egress, EGRESS)
            | bit(word.inward, INWARD)
            | bit(word.leased, LEASED)
            | bit(word.leaving, LEAVING);
        let before = self.word.load(Ordering::Relaxed);
        if before & LEAVING == 0 {
            self.announced_us.store(0, Ordering::Release);
        }
        if bits & EGRESS == 0 {
            self.used.store(false, Ordering::Release);
        }
        self.word.store(bits, Ordering::Release);
    }

    /// Whether it has left, and all that was sent here before somebody else was heard to have it has come.
    fn is_gone(&self, word: u32, now_us: u64) -> bool {
        let announced_us = self.announced_us.load(Ordering::Acquire);
        word & LEAVING != 0
            && announced_us != 0
            && now_us > announced_us.saturating_add(UNDER_WAY_US)
    }

    /// What holds at `now_us`, if the fence lets it.
    fn word(&self, now_us: u64) -> Result<u32, DropReason> {
        let until_us = self.fence.0.load(Ordering::Acquire);
        let word = self.word.load(Ordering::Acquire);
        if word & LEASED != 0 && now_us > until_us { Err(DropReason::HomeLost) } else { Ok(word) }
    }
}

/// The cells of all vNICs that may be attached to this gateway's uplinks.
#[derive(Debug, Default)]
pub struct Attached {
    cells: FxHashMap<(VnicId, UplinkId), Arc<Cell>>,
}

impl Attached {
    /// With these cells.
    pub(crate) fn new(cells: FxHashMap<(VnicId, UplinkId), Arc<Cell>>) -> Self {
        Self { cells }
    }

    /// The cell of a vNIC at an uplink.
    pub(crate) fn cell(&self, vnic: VnicId, uplink: UplinkId) -> Option<&Arc<Cell>> {
        self.cells.get(&(vnic, uplink))
    }

    /// Whether a frame of a vNIC may leave through `uplink`.
    ///
    /// # Errors
    /// [`DropReason::StaleHome`], [`DropReason::HomeLost`].
    pub fn egress(
        &self,
        entry: &VnicEntry,
        uplink: UplinkId,
        now_us: u64,
    ) -> Result<(), DropReason> {
        let Some(cell) = self.cells.get(&(entry.vnic.id, uplink)) else {
            return if is_home(entry, uplink) { Ok(()) } else { Err(DropReason::StaleHome) };
        };
        let word = cell.word(now_us)?;
        if word & EGRESS == 0 {
            return Err(DropReason::StaleHome);
        }
        if is_prepared(word) && !cell.used.load(Ordering::Relaxed) {
            // The answer may come before the word that the vNIC is here.
            cell.used.store(true, Ordering::Release);
        }
        if word & LEAVING != 0 && cell.announced_us.load(Ordering::Relaxed) != 0 {
            // It was under way when the new home was announced: switches outside know the vNIC here
            // again, until they hear of it elsewhere once more.
            cell.announced_us.store(0, Ordering::Release);
        }
        Ok(())
    }

    /// Which server, if any, gets unicast for a vNIC from `uplink`.
    ///
    /// # Errors
    /// [`DropReason::NotDesignated`]: another uplink lets it in. [`DropReason::HomeLost`].
    pub fn server_of(
        &self,
        entry: &VnicEntry,
        uplink: UplinkId,
        now_us: u64,
    ) -> Result<Host, DropReason> {
        let lets_in = match self.cells.get(&(entry.vnic.id, uplink)) {
            None => is_home(entry, uplink),
            Some(cell) => {
                let word = cell.word(now_us)?;
                let answered = is_prepared(word) && cell.used.load(Ordering::Acquire);
                (word & INWARD != 0 && !cell.is_gone(word, now_us)) || answered
            }
        };
        if lets_in { Ok(entry.host) } else { Err(DropReason::NotDesignated) }
    }

    /// A frame came in through `uplink` with the vNIC's own address as its source. If it has left this
    /// uplink, those outside know now where it is.
    pub fn heard_elsewhere(&self, vnic: VnicId, uplink: UplinkId, now_us: u64) {
        if let Some(cell) = self.cells.get(&(vnic, uplink))
            && cell.word.load(Ordering::Acquire) & LEAVING != 0
        {
            // The first time counts, until a late frame leaves here again.
            let (order, or) = (Ordering::AcqRel, Ordering::Relaxed);
            let _ = cell.announced_us.compare_exchange(0, now_us.max(1), order, or);
        }
    }

    /// Whether the vNIC is to be announced behind `uplink`.
    #[must_use]
    pub fn is_here(&self, entry: &VnicEntry, uplink: UplinkId) -> bool {
        self.cells.get(&(entry.vnic.id, uplink)).map_or_else(
            || is_home(entry, uplink),
            |cell| cell.word.load(Ordering::Acquire) & (INWARD | LEAVING) == INWARD,
        )
    }
}

/// Its frames may leave, and the server has not said yet that they do.
fn is_prepared(word: u32) -> bool {
    word & (EGRESS | INWARD | LEAVING) == EGRESS
}

/// Whether the tables say that it is there.
fn is_home(entry: &VnicEntry, uplink: UplinkId) -> bool {
    entry.vnic.home.as_ref().is_some_and(|home| home.id == uplink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{SERVER_A, UP_A, UP_B, directory, vnic};

    const HERE: Word = Word { egress: true, inward: true, leased: true, leaving: false };
    const LEFT: Word = Word { egress: false, inward: true, leased: true, leaving: true };

    fn attached() -> (Attached, Arc<Cell>, Arc<Fence>) {
        let fence = Arc::new(Fence::default());
        let cell = Arc::new(Cell::new(Arc::clone(&fence)));
        let cells = [((vnic(1), UP_B), Arc::clone(&cell))].into_iter().collect();
        (Attached::new(cells), cell, fence)
    }

    #[test]
    fn a_late_frame_through_the_old_home_lets_its_answers_in_there_until_it_is_announced_again() {
        let directory = directory();
        let entry = directory.vnic(vnic(1)).unwrap();
        let (attached, cell, fence) = attached();
        fence.set(100_000);
        cell.show(Word { egress: true, leaving: true, ..HERE });
        attached.heard_elsewhere(vnic(1), UP_B, 100);
        let (until_us, after_us) = (100 + UNDER_WAY_US, 101 + UNDER_WAY_US);
        assert!(attached.server_of(entry, UP_B, until_us).is_ok(), "it was under way");
        let elsewhere = Err(DropReason::NotDesignated);
        assert_eq!(attached.server_of(entry, UP_B, after_us), elsewhere);
        assert_eq!(attached.egress(entry, UP_B, after_us), Ok(()));
        assert!(attached.server_of(entry, UP_B, after_us).is_ok(), "switches have learned it here");
        attached.heard_elsewhere(vnic(1), UP_B, 100);
        assert_eq!(attached.server_of(entry, UP_B, after_us), elsewhere);
    }

    #[test]
    fn attachments_count_and_the_tables_where_there_are_none() {
        let directory = directory();
        let entry = directory.vnic(vnic(1)).unwrap();
        let (attached, cell, fence) = attached();
        assert_eq!(attached.egress(entry, UP_A, 0), Ok(()), "its home by the tables");
        assert_eq!(attached.egress(entry, UP_B, 0), Err(DropReason::StaleHome));
        assert_eq!(attached.server_of(entry, UP_B, 0), Err(DropReason::NotDesignated));
        cell.show(HERE);
        fence.set(100);
        assert_eq!(attached.egress(entry, UP_B, 100), Ok(()));
        assert_eq!(attached.server_of(entry, UP_B, 100), Ok(Host::Peer(SERVER_A)));
        assert!(attached.is_here(entry, UP_B));
    }

    #[test]
    fn nothing_passes_a_fence_that_is_over_in_either_direction() {
        let directory = directory();
        let entry = directory.vnic(vnic(1)).unwrap();
        let (attached, cell, fence) = attached();
        cell.show(HERE);
        fence.set(100);
        assert_eq!(attached.egress(entry, UP_B, 101), Err(DropReason::HomeLost));
        assert_eq!(attached.server_of(entry, UP_B, 101), Err(DropReason::HomeLost));
        cell.show(Word { leased: false, ..HERE });
        assert_eq!(attached.egress(entry, UP_B, 101), Ok(()), "who goes nowhere needs no fence");
    }

    #[test]
    fn a_home_that_is_prepared_lets_in_what_answers_a_frame_that_left_there() {
        let directory = directory();
        let entry = directory.vnic(vnic(1)).unwrap();
        let (attached, cell, fence) = attached();
        fence.set(100);
        cell.show(Word { inward: false, ..HERE });
        let not_yet = Err(DropReason::NotDesignated);
        assert_eq!(attached.server_of(entry, UP_B, 0), not_yet, "the old home lets it in");
        assert_eq!(attached.egress(entry, UP_B, 0), Ok(()));
        assert!(attached.server_of(entry, UP_B, 0).is_ok());
        cell.show(Word::default());
        cell.show(Word { inward: false, ..HERE });
        assert_eq!(attached.server_of(entry, UP_B, 0), not_yet, "another move");
    }

    #[test]
    fn who_has_left_lets_frames_in_until_he_is_announced_elsewhere() {
        let directory = directory();
        let entry = directory.vnic(vnic(1)).unwrap();
        let (attached, cell, fence) = attached();
        fence.set(100_000);
        cell.show(HERE);
        attached.heard_elsewhere(vnic(1), UP_B, 100);
        assert!(attached.server_of(entry, UP_B, 0).is_ok(), "a stranger may say so, too");
        cell.show(Word { egress: true, ..LEFT });
        cell.show(LEFT);
        assert_eq!(attached.egress(entry, UP_B, 0), Err(DropReason::StaleHome));
        assert!(attached.server_of(entry, UP_B, 0).is_ok());
        attached.heard_elsewhere(vnic(1), UP_B, 100);
        let after_us = 101 + UNDER_WAY_US;
        assert_eq!(attached.server_of(entry, UP_B, after_us), Err(DropReason::NotDesignated));
        cell.show(HERE);
        assert!(attached.server_of(entry, UP_B, 0).is_ok(), "it has come back");
    }
}
