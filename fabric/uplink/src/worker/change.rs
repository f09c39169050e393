//! Other tables and other uplinks for a worker that runs.
//!
//! ```text
//!   Open ─▶ a place with an open port, which no table names yet ──┬─ Abandon ─▶ closed
//!                                                                 └─ Tables ──▶ in use
//!   Tables: an uplink that is not there any more: takes nothing from outside ─▶ what is
//!           queued goes out ─▶ last completions ─▶ its place is empty
//! ```
//! Books stay, and so does what a closed port has counted. A place is not used again:
//! what the kernel says late names the place.

use super::{LocalUplink, NewTables, Worker, downward::Downward, port::UplinkPort};
use crate::{
    GatewayError,
    driver::{Access, Driver, Port},
};
use wireonce_config::Driver as DriverKind;
use wireonce_ring::{RingError, Token};

use super::run::{RECEIVE, SLOT_BITS, TRANSMIT};

impl Worker {
    /// Opens an uplink in a place of its own, where no table names it yet.
    pub(super) fn open_uplink(&mut self, local: LocalUplink) -> Result<(), GatewayError> {
        let LocalUplink { uplink, port, storm, group, police, down, gate } = local;
        let number = u16::try_from(self.uplinks.len()).map_err(|_| GatewayError::Places)?;
        let port = Port {
            access: match port.driver {
                DriverKind::Packet => Access::Packet,
                DriverKind::Tap => Access::Tap,
            },
            interface: port.interface.clone(),
            group,
            receive: Token::new(RECEIVE, number.into()),
            transmit: Token::new(TRANSMIT, u32::from(number) << SLOT_BITS),
        };
        let driver = Driver::open(port, &mut self.ring)?;
        self.opened.push(self.uplinks.len());
        let mut port = UplinkPort::new(uplink, driver, storm, gate, self.announces);
        port.police = police;
        port.down = Downward::new(down);
        self.uplinks.push(Some(port));
        // Its carrier is looked at soon.
        self.next_refresh_us = 0;
        Ok(())
    }

    /// Closes what was opened and is not to be used after all.
    pub(super) fn abandon_opened(&mut self) -> Result<(), RingError> {
        for place in std::mem::take(&mut self.opened) {
            self.begin_closing(place)?;
        }
        Ok(())
    }

    /// Uses `new` from the next frame on, with the uplinks that were opened for it.
    pub(super) fn take_tables(&mut self, new: NewTables, now_us: u64) -> Result<(), RingError> {
        for place in std::mem::take(&mut self.opened) {
            let Some(port) = self.uplinks.get(place).and_then(Option::as_ref) else { continue };
            if let Some(before) = self.by_id.insert(port.uplink.id, place) {
                self.begin_closing(before)?;
            }
        }
        let gone: Vec<_> = self
            .by_id
            .extract_if(|id, _| !new.uplinks.contains_key(id))
            .map(|(_, place)| place)
            .collect();
        for place in gone {
            self.begin_closing(place)?;
        }
        for (id, place) in &self.by_id {
            let port = self.uplinks.get_mut(*place).and_then(Option::as_mut);
            if let Some((port, rights)) = port.zip(new.uplinks.get(id)) {
                port.change(rights.clone());
                port.tell_news(&new, now_us);
            }
        }
        self.directory = new.directory;
        self.attached = new.attached;
        self.next_refresh_us = 0;
        Ok(())
    }

    fn begin_closing(&mut self, place: usize) -> Result<(), RingError> {
        let Self { uplinks, ring, books, closing, .. } = self;
        let Some(port) = uplinks.get_mut(place).and_then(Option::as_mut) else { return Ok(()) };
        port.begin_closing(ring, books)?;
        *closing += 1;
        Ok(())
    }

    /// Empties the places of uplinks with which the kernel is done.
    pub(super) fn finish_closing(&mut self) {
        if self.closing == 0 {
            return;
        }
        for place in &mut self.uplinks {
            if let Some(port) = place.take_if(|port| port.is_closed()) {
                self.closed.push(port.snapshot());
                port.driver.release(&mut self.ring);
                self.closing -= 1;
            }
        }
    }
}
