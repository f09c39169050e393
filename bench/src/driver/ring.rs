//! The driver's side of one split ring (virtio 1.2, 2.7), in memory that the device maps too.

use std::sync::atomic::{Ordering, fence};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use wireonce_qemu_tests::{Error, Result};

/// Entries of a ring.
pub(super) const SIZE: u16 = 256;
/// Bytes of each buffer.
pub(super) const BUFFER_LEN: u32 = 2048;

/// The device may write the buffer.
pub(super) const WRITE: u16 = 2;
/// Avail flags: no interrupts, please. Used flags: no kicks, please.
const QUIET: u16 = 1;

/// Where the parts of a ring are, from the begin of the memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) table: u64,
    pub(super) avail: u64,
    pub(super) used: u64,
    pub(super) buffers: u64,
}

impl Layout {
    /// A layout with table and rings from `rings` on and buffers from `buffers` on.
    pub(super) const fn new(rings: u64, buffers: u64) -> Self {
        Self { table: rings, avail: rings + 0x2000, used: rings + 0x3000, buffers }
    }

    /// The buffer of descriptor `slot`.
    pub(super) fn buffer(&self, slot: u16) -> u64 {
        self.buffers + u64::from(slot % SIZE) * u64::from(BUFFER_LEN)
    }
}

/// A ring whose descriptor `i` always has buffer `i`.
#[derive(Debug)]
pub(super) struct Ring {
    memory: GuestMemoryMmap,
    layout: Layout,
    avail: u16,
    used: u16,
}

/// One chain that the device has returned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    pub(super) slot: u16,
    pub(super) len: u32,
}

impl Ring {
    /// A ring with nothing offered; interrupts are not wanted.
    pub(super) fn new(memory: GuestMemoryMmap, layout: Layout, flags: u16) -> Result<Self> {
        let ring = Self { memory, layout, avail: 0, used: 0 };
        for slot in 0..SIZE {
            ring.describe(slot, ring.layout.buffer(slot), BUFFER_LEN, flags)?;
        }
        ring.store(layout.avail, QUIET)?;
        Ok(ring)
    }

    /// Writes descriptor `slot`: where its buffer is, how long, and whether the device may write.
    pub(super) fn describe(&self, slot: u16, buffer: u64, len: u32, flags: u16) -> Result<()> {
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&buffer.to_le_bytes());
        entry[8..12].copy_from_slice(&len.to_le_bytes());
        entry[12..14].copy_from_slice(&flags.to_le_bytes());
        self.write(self.layout.table + u64::from(slot % SIZE) * 16, &entry)
    }

    /// Writes the beginning of the buffer of `slot`.
    pub(super) fn fill(&self, slot: u16, bytes: &[u8]) -> Result<()> {
        self.write(self.layout.buffer(slot), bytes)
    }

    /// Reads the beginning of the buffer of `slot`.
    pub(super) fn look(&self, slot: u16, bytes: &mut [u8]) -> Result<()> {
        let at = GuestAddress(self.layout.buffer(slot));
        self.memory.read_slice(bytes, at).map_err(memory_error)
    }

    /// How many more chains can be offered.
    pub(super) fn room(&self) -> u16 {
        SIZE - self.avail.wrapping_sub(self.used)
    }

    /// The slot that is offered next, if slots are offered in turn.
    pub(super) fn next_slot(&self) -> u16 {
        self.avail % SIZE
    }

    /// Puts `slot` into the available ring; the device sees it at [`Self::publish`].
    pub(super) fn offer(&mut self, slot: u16) -> Result<()> {
        let at = self.layout.avail + 4 + u64::from(self.avail % SIZE) * 2;
        self.store(at, slot % SIZE)?;
        self.avail = self.avail.wrapping_add(1);
        Ok(())
    }

    /// Shows the device all that was offered. Returns whether it wants a kick.
    pub(super) fn publish(&self) -> Result<bool> {
        self.store(self.layout.avail + 2, self.avail)?;
        // The index must be seen before its flag is read, or both sides sleep (virtio 1.2, 2.7.13).
        fence(Ordering::SeqCst);
        Ok(self.load(self.layout.used)? & QUIET == 0)
    }

    /// The next chain that the device has returned, if there is one.
    pub(super) fn take(&mut self) -> Result<Option<Used>> {
        if self.load(self.layout.used + 2)? == self.used {
            return Ok(None);
        }
        let at = self.layout.used + 4 + u64::from(self.used % SIZE) * 8;
        let id: u32 =
            self.memory.load(GuestAddress(at), Ordering::Relaxed).map_err(memory_error)?;
        let len: u32 =
            self.memory.load(GuestAddress(at + 4), Ordering::Relaxed).map_err(memory_error)?;
        self.used = self.used.wrapping_add(1);
        let slot = u16::try_from(u32::from_le(id)).ok().filter(|slot| *slot < SIZE);
        let slot = slot.ok_or_else(|| Error::Unexpected(format!("the device returned {id}")))?;
        Ok(Some(Used { slot, len: u32::from_le(len) }))
    }

    /// Forgets all that was returned; for a ring that is offered in turn and returned in order.
    pub(super) fn take_all(&mut self) -> Result<u16> {
        let now = self.load(self.layout.used + 2)?;
        let count = now.wrapping_sub(self.used);
        self.used = now;
        Ok(count)
    }

    fn load(&self, at: u64) -> Result<u16> {
        let value: u16 =
            self.memory.load(GuestAddress(at), Ordering::Acquire).map_err(memory_error)?;
        Ok(u16::from_le(value))
    }

    fn store(&self, at: u64, value: u16) -> Result<()> {
        self.memory.store(value.to_le(), GuestAddress(at), Ordering::Release).map_err(memory_error)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.memory.write_slice(bytes, GuestAddress(at)).map_err(memory_error)
    }
}

fn memory_error(error: impl std::fmt::Display) -> Error {
    Error::Unexpected(format!("the guest's memory: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> (Ring, Layout) {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x40_0000)]).unwrap();
        let layout = Layout::new(0, 0x10_0000);
        (Ring::new(memory, layout, 0).unwrap(), layout)
    }

    /// What a device does: returns `count` chains with slot and length.
    fn return_all(ring: &Ring, layout: Layout, slots: &[(u32, u32)]) {
        for (at, (slot, len)) in (0..).zip(slots) {
            let element = layout.used + 4 + at * 8;
            ring.memory.store(slot.to_le(), GuestAddress(element), Ordering::Relaxed).unwrap();
            ring.memory.store(len.to_le(), GuestAddress(element + 4), Ordering::Relaxed).unwrap();
        }
        let count = u16::try_from(slots.len()).unwrap();
        ring.store(layout.used + 2, count).unwrap();
    }

    #[test]
    fn what_is_offered_takes_room_until_it_is_returned() {
        let (mut ring, layout) = ring();
        for _ in 0..SIZE {
            ring.offer(ring.next_slot()).unwrap();
        }
        assert_eq!(ring.room(), 0);
        assert!(ring.publish().unwrap(), "a device that says nothing wants kicks");
        return_all(&ring, layout, &[(0, 0), (1, 0)]);
        assert_eq!((ring.take_all().unwrap(), ring.room()), (2, 2));
    }

    #[test]
    fn a_returned_chain_has_its_slot_and_length_and_a_false_slot_is_refused() {
        let (mut ring, layout) = ring();
        return_all(&ring, layout, &[(7, 76), (u32::from(SIZE), 1)]);
        let used = ring.take().unwrap().unwrap();
        assert_eq!((used.slot, used.len), (7, 76));
        assert!(ring.take().is_err());
    }
}
