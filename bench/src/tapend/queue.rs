//! The driver's side of one split ring (virtio 1.2, section 2.7). Each descriptor has a buffer of
//! its own; a chain is one descriptor long.

use std::sync::atomic::{Ordering, fence};

use vm_memory::{Bytes, MmapRegion, VolatileMemory, VolatileSlice};
use vmm_sys_util::eventfd::EventFd;
use wireonce_qemu_tests::{Error, Result};

/// Descriptors of a ring.
pub(super) const SIZE: u16 = 256;
/// A super-frame of 65,550 bytes with its header, and whole pages.
pub(super) const BUFFER_LEN: usize = 17 * PAGE;
/// Bytes of a ring and its buffers.
pub(super) const QUEUE_LEN: usize = RINGS_LEN + SIZE as usize * BUFFER_LEN;

const PAGE: usize = 4096;
/// Descriptor table, available ring, used ring: a page each.
const RINGS_LEN: usize = 3 * PAGE;
const AVAILABLE: usize = PAGE;
const USED: usize = 2 * PAGE;

/// In a descriptor: the device writes here.
const DESCRIPTOR_F_WRITE: u16 = 2;
/// In the available ring's flags: no interrupts, please.
const AVAILABLE_F_NO_INTERRUPT: u16 = 1;
/// In the used ring's flags: no kicks, please.
const USED_F_NO_NOTIFY: u16 = 1;

/// Who writes into the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The device: frames for the driver.
    Receive,
    /// The driver.
    Transmit,
}

/// One ring and its buffers.
#[derive(Debug)]
pub(super) struct Queue {
    role: Role,
    /// Where it begins in the shared memory.
    at: usize,
    /// The guest's physical address of the shared memory.
    guest_address: u64,
    /// The device is told of new chains by this.
    pub(super) kick: EventFd,
    /// The device tells of used ones by this.
    pub(super) call: EventFd,
    next_available: u16,
    published: u16,
    next_used: u16,
    /// Transmit buffers that nobody has; the last one used is the first one taken, while it is hot.
    free: Vec<u16>,
}

/// Addresses of a ring's parts in the guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

impl Queue {
    /// A ring at `at` of the memory that begins at `guest_address`; all receive buffers are the
    /// device's from the start.
    pub(super) fn new(
        memory: &MmapRegion,
        role: Role,
        at: usize,
        guest_address: u64,
    ) -> Result<Self> {
        let event =
            || EventFd::new(libc::EFD_NONBLOCK).map_err(crate::io_error("a ring's event counter"));
        let free = if role == Role::Transmit { (0..SIZE).collect() } else { Vec::new() };
        let mut queue = Self {
            role,
            at,
            guest_address,
            kick: event()?,
            call: event()?,
            next_available: 0,
            published: 0,
            next_used: 0,
            free,
        };
        queue.disable_calls(memory)?;
        if role == Role::Receive {
            for id in 0..SIZE {
                queue.post(memory, id, BUFFER_LEN)?;
            }
            queue.publish(memory)?;
        }
        Ok(queue)
    }

    /// Where its parts are in the guest.
    pub(super) fn parts(&self) -> Parts {
        Parts {
            descriptors: self.guest(0),
            available: self.guest(AVAILABLE),
            used: self.guest(USED),
        }
    }

    /// The first `len` bytes of buffer `id`.
    pub(super) fn buffer<'a>(
        &self,
        memory: &'a MmapRegion,
        id: u16,
        len: usize,
    ) -> Result<VolatileSlice<'a>> {
        let at = self.at + buffer_offset(id);
        memory.get_slice(at, len.min(BUFFER_LEN)).map_err(outside)
    }

    /// A transmit buffer that nobody has; `None` if the device has them all.
    pub(super) fn take_free(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// Puts a transmit buffer back that was not posted.
    pub(super) fn put_free(&mut self, id: u16) {
        self.free.push(id);
    }

    /// Has the device all transmit buffers?
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Hands `len` bytes of buffer `id` to the device; [`Self::publish`] shows it.
    pub(super) fn post(&mut self, memory: &MmapRegion, id: u16, len: usize) -> Result<()> {
        let flags = if self.role == Role::Receive { DESCRIPTOR_F_WRITE } else { 0 };
        let address = self.guest(buffer_offset(id));
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let at = self.at + usize::from(id) * 16;
        store(memory, at, address)?;
        store(memory, at + 8, len)?;
        store(memory, at + 12, flags)?;
        let slot = usize::from(self.next_available % SIZE);
        store(memory, self.at + AVAILABLE + 4 + slot * 2, id)?;
        self.next_available = self.next_available.wrapping_add(1);
        Ok(())
    }

    /// Shows the device all that was posted, and kicks it if it wants that.
    pub(super) fn publish(&mut self, memory: &MmapRegion) -> Result<()> {
        if self.published == self.next_available {
            return Ok(());
        }
        self.published = self.next_available;
        let index = self.at + AVAILABLE + 2;
        ring(memory).store(self.published, index, Ordering::Release).map_err(outside)?;
        // The index first, then its wish: it writes and reads them the other way round.
        fence(Ordering::SeqCst);
        let wish: u16 = load(memory, self.at + USED)?;
        if wish & USED_F_NO_NOTIFY == 0 {
            self.kick.write(1).map_err(crate::io_error("a kick"))?;
        }
        Ok(())
    }

    /// The next used buffer and how many bytes the device wrote there.
    pub(super) fn next_used(&mut self, memory: &MmapRegion) -> Result<Option<(u16, usize)>> {
        if !self.has_used(memory)? {
            return Ok(None);
        }
        let at = self.at + USED + 4 + usize::from(self.next_used % SIZE) * 8;
        let id: u32 = load(memory, at)?;
        let len: u32 = load(memory, at + 4)?;
        self.next_used = self.next_used.wrapping_add(1);
        let id = u16::try_from(id).ok().filter(|id| *id < SIZE);
        let id = id.ok_or_else(|| {
            Error::Unexpected("the backend used a descriptor that there is not".to_owned())
        })?;
        Ok(Some((id, usize::try_from(len).unwrap_or(usize::MAX))))
    }

    /// Has the device used something that was not taken yet?
    pub(super) fn has_used(&self, memory: &MmapRegion) -> Result<bool> {
        let index: u16 =
            ring(memory).load(self.at + USED + 2, Ordering::Acquire).map_err(outside)?;
        Ok(index != self.next_used)
    }

    /// Asks for an interrupt. True if something is used already, for which none may come.
    pub(super) fn enable_calls(&self, memory: &MmapRegion) -> Result<bool> {
        store(memory, self.at + AVAILABLE, 0_u16)?;
        fence(Ordering::SeqCst);
        self.has_used(memory)
    }

    /// Wants no interrupts.
    pub(super) fn disable_calls(&self, memory: &MmapRegion) -> Result<()> {
        store(memory, self.at + AVAILABLE, AVAILABLE_F_NO_INTERRUPT)
    }

    fn guest(&self, offset: usize) -> u64 {
        self.guest_address + (self.at + offset) as u64
    }
}

fn buffer_offset(id: u16) -> usize {
    RINGS_LEN + usize::from(id) * BUFFER_LEN
}

fn store<T: vm_memory::AtomicAccess>(memory: &MmapRegion, at: usize, value: T) -> Result<()> {
    ring(memory).store(value, at, Ordering::Relaxed).map_err(outside)
}

fn load<T: vm_memory::AtomicAccess>(memory: &MmapRegion, at: usize) -> Result<T> {
    ring(memory).load(at, Ordering::Relaxed).map_err(outside)
}

fn ring(memory: &MmapRegion) -> VolatileSlice<'_> {
    memory.as_volatile_slice()
}

fn outside(error: impl std::fmt::Display) -> Error {
    Error::Unexpected(format!("a ring is outside its memory: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_posted_can_be_used_and_is_kicked_for_unless_unwanted() {
        let memory = MmapRegion::new(QUEUE_LEN).unwrap();
        let mut queue = Queue::new(&memory, Role::Transmit, 0, 1 << 30).unwrap();
        let id = queue.take_free().unwrap();
        queue.post(&memory, id, 60).unwrap();
        queue.publish(&memory).unwrap();
        assert_eq!(queue.kick.read().unwrap(), 1);
        assert_eq!(load::<u16>(&memory, AVAILABLE + 4).unwrap(), id);
        assert_eq!(
            load::<u64>(&memory, usize::from(id) * 16).unwrap(),
            queue.guest(buffer_offset(id))
        );

        // The device uses it, and wants no kicks from now on.
        assert_eq!(queue.next_used(&memory).unwrap(), None);
        store(&memory, USED, USED_F_NO_NOTIFY).unwrap();
        store(&memory, USED + 4, u32::from(id)).unwrap();
        store(&memory, USED + 2, 1_u16).unwrap();
        assert_eq!(queue.next_used(&memory).unwrap(), Some((id, 0)));
        queue.post(&memory, id, 60).unwrap();
        queue.publish(&memory).unwrap();
        assert!(queue.kick.read().is_err());
    }

    #[test]
    fn a_device_that_uses_what_there_is_not_is_found_out() {
        let memory = MmapRegion::new(QUEUE_LEN).unwrap();
        let mut queue = Queue::new(&memory, Role::Receive, 0, 0).unwrap();
        store(&memory, USED + 4, u32::from(SIZE)).unwrap();
        store(&memory, USED + 2, 1_u16).unwrap();
        assert!(queue.next_used(&memory).is_err());
    }
}
