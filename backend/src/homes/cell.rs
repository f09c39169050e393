//! Where a vNIC's frames for the outside go: one word that its worker reads for each.

use std::sync::atomic::{AtomicU64, Ordering};
use wireonce_directory::Route;
use wireonce_ledger::DropReason;
use wireonce_link::PeerId;
use wireonce_wire::{Endpoint, UplinkId};

/// The word: number of the gateway and one above 32 bits, id of the uplink below; 0 for nowhere.
#[derive(Debug, Default)]
pub(crate) struct HomeCell(AtomicU64);

impl HomeCell {
    /// Frames go this way from now on.
    pub(super) fn set(&self, gateway: PeerId, uplink: UplinkId) {
        let number = u64::try_from(gateway.0 + 1).unwrap_or(0);
        self.0.store(number << 32 | u64::from(uplink.0), Ordering::Release);
    }

    /// Where a frame goes now.
    #[inline]
    pub(crate) fn route(&self) -> Route {
        let word = self.0.load(Ordering::Acquire);
        let number = usize::try_from(word >> 32).unwrap_or(0);
        let Some(gateway) = number.checked_sub(1) else {
            return Route::Drop(DropReason::HomeLost);
        };
        let uplink = UplinkId(u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0));
        Route::Peer(PeerId(gateway), Endpoint::Uplink(uplink))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_leads_where_it_was_set_to_and_at_first_nowhere() {
        let cell = HomeCell::default();
        assert_eq!(cell.route(), Route::Drop(DropReason::HomeLost));
        cell.set(PeerId(0), UplinkId(u32::MAX));
        assert_eq!(cell.route(), Route::Peer(PeerId(0), Endpoint::Uplink(UplinkId(u32::MAX))));
        cell.set(PeerId(4_095), UplinkId(1));
        assert_eq!(cell.route(), Route::Peer(PeerId(4_095), Endpoint::Uplink(UplinkId(1))));
    }
}
