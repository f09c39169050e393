//! Provided receive buffers: one mapping that holds the kernel's ring of
//! descriptors and the buffers behind it.
//!
//! A buffer is either with the kernel or with us. [`BufferGroup::received`] gives
//! access only to a buffer that a completion handed over and that was not
//! recycled since, so no buffer is ever read while the kernel may write to it.

use crate::RingError;
use io_uring::{IoUring, types::BufRingEntry};
use std::{
    ptr::NonNull,
    slice,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

/// A buffer of one group, as a completion names it.
pub type BufferId = u16;

/// Receive buffers of equal length that the kernel picks from.
#[derive(Debug)]
pub struct BufferGroup {
    memory: Arc<Mapping>,
    id: u16,
    count: u16,
    buffer_len: usize,
    tail: u16,
    /// True for buffers that a completion handed to us.
    ours: Vec<bool>,
    taken: u16,
}

impl BufferGroup {
    /// Maps `count` buffers (a power of two, at most 32,768) of `buffer_len` bytes
    /// and registers them with `uring` as group `id`.
    pub(crate) fn register(
        uring: &IoUring,
        id: u16,
        count: u16,
        buffer_len: usize,
    ) -> Result<Self, RingError> {
        let bad = RingError::BufferGroup { count, buffer_len };
        if !count.is_power_of_two() || count > 1 << 15 || u32::try_from(buffer_len).is_err() {
            return Err(bad);
        }
        let entries_len = usize::from(count) * size_of::<BufRingEntry>();
        let len = usize::from(count)
            .checked_mul(buffer_len)
            .and_then(|len| len.checked_add(entries_len))
            .ok_or(bad)?;
        let memory = Arc::new(Mapping::new(len)?);
        // SAFETY: the mapping starts with `count` entries, is page aligned, and the ring
        // keeps it (see `Ring::add_buffer_group`) until the ring itself is gone.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(
                memory.base.as_ptr().addr() as u64,
                count,
                id,
                0,
            )
        }
        .map_err(|source| RingError::Register { what: "a provided buffer ring", source })?;
        let ours = vec![true; usize::from(count)];
        let mut group = Self { memory, id, count, buffer_len, tail: 0, ours, taken: count };
        for buffer in 0..count {
            group.recycle(buffer);
        }
        Ok(group)
    }

    pub(crate) fn memory(&self) -> Arc<Mapping> {
        Arc::clone(&self.memory)
    }

    /// The group's number in the ring.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }

    /// How many buffers there are.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Length of each buffer in bytes.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        self.buffer_len
    }

    /// Buffers that are with us and not with the kernel.
    #[must_use]
    pub fn taken(&self) -> u16 {
        self.taken
    }

    /// Notes that a completion handed `buffer` over.
    pub fn take(&mut self, buffer: BufferId) {
        if let Some(ours) = self.ours.get_mut(usize::from(buffer))
            && !*ours
        {
            *ours = true;
            self.taken += 1;
        }
    }

    /// The first `len` bytes of a buffer that was taken; `None` if the kernel has it.
    pub fn received(&mut self, buffer: BufferId, len: usize) -> Option<&mut [u8]> {
        if !self.ours.get(usize::from(buffer)).copied().unwrap_or(false) {
            return None;
        }
        let start = self.buffer_offset(buffer);
        let len = len.min(self.buffer_len);
        // SAFETY: the buffer lies inside the mapping, which `count` and `buffer_len` sized.
        let start = unsafe { self.memory.base.add(start) };
        // SAFETY: the kernel does not write to a buffer that we have taken, the mapping was
        // made zeroed, and `&mut self` keeps every other reference to this group away.
        Some(unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) })
    }

    /// All of a buffer that was taken, to be read only; nothing of one that the kernel has.
    #[must_use]
    pub fn bytes(&self, buffer: BufferId) -> &[u8] {
        if !self.ours.get(usize::from(buffer)).copied().unwrap_or(false) {
            return &[];
        }
        // SAFETY: the buffer lies inside the mapping, which `count` and `buffer_len` sized.
        let start = unsafe { self.memory.base.add(self.buffer_offset(buffer)) };
        // SAFETY: the kernel does not write to a buffer that we have taken, the mapping was
        // made zeroed, and who would write needs `&mut self`.
        unsafe { slice::from_raw_parts(start.as_ptr(), self.buffer_len) }
    }

    /// Gives a buffer back to the kernel. Recycling one that is not ours does nothing.
    pub fn recycle(&mut self, buffer: BufferId) {
        let start = self.buffer_offset(buffer);
        let Some(ours) = self.ours.get_mut(usize::from(buffer)) else { return };
        if !std::mem::replace(ours, false) {
            return;
        }
        self.taken -= 1;
        let slot = usize::from(self.tail & (self.count - 1));
        let entries = self.memory.base.cast::<BufRingEntry>();
        // SAFETY: `slot < count` entries stand at the start of the mapping.
        let entry = unsafe { entries.add(slot) };
        // SAFETY: as above. The kernel reads an entry only after the tail has passed it.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr((self.memory.base.as_ptr().addr() + start) as u64);
        entry.set_len(u32::try_from(self.buffer_len).unwrap_or(u32::MAX));
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the mapping starts with the first entry, in which the tail overlays `resv`.
        let tail = unsafe { BufRingEntry::tail(entries.as_ptr()) };
        // SAFETY: the field is two aligned bytes that both sides only access atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn buffer_offset(&self, buffer: BufferId) -> usize {
        usize::from(self.count) * size_of::<BufRingEntry>() + usize::from(buffer) * self.buffer_len
    }
}

/// Anonymous memory, zeroed, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory; who may touch which part is decided by
// `BufferGroup`, of which there is one for each mapping.
unsafe impl Send for Mapping {}
// SAFETY: as above; a shared reference gives no access to the bytes.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(len: usize) -> Result<Self, RingError> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(RingError::Memory { len, source: std::io::Error::last_os_error() });
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| RingError::Memory {
            len,
            source: std::io::ErrorKind::OutOfMemory.into(),
        })?;
        Ok(Self { base, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody has a reference into it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
