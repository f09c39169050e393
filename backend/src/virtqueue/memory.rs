//! Guest-physical addresses to host pointers.
//!
//! The front-end's memory table is flattened once per generation into a sorted
//! table of `(guest start, length, host pointer)`. A lookup first tries the
//! region of the last hit, which a guest's buffers rarely leave.

use std::sync::Arc;

use vm_memory::{
    Address as _, GuestMemoryBackend as _, GuestMemoryRegion as _, MemoryRegionAddress,
};

use super::{
    GuestMemory,
    sigbus::{Registration, SigbusError},
};

/// Why a memory table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A region has no host mapping.
    #[error("the guest memory region at {start:#x} has no address in this process")]
    NoHostAddress {
        /// Guest-physical start of the region.
        start: u64,
    },
    /// The memory could not be protected against a VMM that takes it away.
    #[error(transparent)]
    Sigbus(#[from] SigbusError),
}

/// Part of a buffer is in no region of the memory table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("guest address {0:#x} is in no memory region")]
pub struct Unmapped(pub u64);

/// A run of guest memory that is contiguous in this process. The bytes may
/// change at any time, so only raw copies and atomics go there, no references.
#[derive(Debug, Clone, Copy)]
pub struct HostSegment {
    ptr: *mut u8,
    len: usize,
}

impl HostSegment {
    /// First byte of the run.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if the run has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(super) fn truncated(self, len_max: usize) -> Self {
        Self { len: self.len.min(len_max), ..self }
    }

    /// Copies from `offset` on to `dst`, as much as both sides have; returns the
    /// number of bytes.
    ///
    /// # Safety
    /// The memory that the segment was translated from is still mapped.
    #[inline]
    pub(super) unsafe fn copy_to(&self, offset: usize, dst: &mut [u8]) -> usize {
        let n = self.len.saturating_sub(offset).min(dst.len());
        let from = self.ptr.wrapping_add(offset).cast_const();
        // SAFETY: `offset + n` is within the segment, `n` within `dst`, and `dst`
        // is private memory, so the two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from, dst.as_mut_ptr(), n) };
        n
    }

    /// Copies `src` to `offset` and on, as much as both sides have; returns the
    /// number of bytes.
    ///
    /// # Safety
    /// The memory that the segment was translated from is still mapped.
    #[inline]
    pub(super) unsafe fn copy_from(&self, offset: usize, src: &[u8]) -> usize {
        let n = self.len.saturating_sub(offset).min(src.len());
        let to = self.ptr.wrapping_add(offset);
        // SAFETY: `offset + n` is within the segment, `n` within `src`, and `src`
        // is private memory, so the two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(src.as_ptr(), to, n) };
        n
    }
}

/// Where the last lookup hit; each user keeps its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegionHint(usize);

#[derive(Debug)]
struct Region {
    start: u64,
    len: usize,
    host: *mut u8,
}

impl Region {
    #[inline]
    fn run_at(&self, address: u64) -> Option<HostSegment> {
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        let len = self.len.checked_sub(offset).filter(|len| *len > 0)?;
        Some(HostSegment { ptr: self.host.wrapping_add(offset), len })
    }
}

/// One generation of a guest's memory, kept mapped, flattened for lookups and
/// protected against SIGBUS.
#[derive(Debug)]
pub struct MappedMemory {
    regions: Box<[Region]>,
    // Dropped before `memory`, so that no registered range is unmapped.
    registration: Registration,
    memory: Arc<GuestMemory>,
}

// SAFETY: the pointers lead into the mappings of `memory`, which is Send and
// Sync itself; nothing here depends on the thread.
unsafe impl Send for MappedMemory {}
// SAFETY: shared access only reads the table; the guest memory behind the
// pointers is accessed by atomics and raw copies, which expect other writers.
unsafe impl Sync for MappedMemory {}

impl MappedMemory {
    /// True if this is `memory`, flattened.
    #[must_use]
    pub fn is_of(&self, memory: &Arc<GuestMemory>) -> bool {
        Arc::ptr_eq(&self.memory, memory)
    }

    /// Flattens and protects `memory`.
    ///
    /// # Errors
    /// [`MemoryError`] if a region has no host address, or the process protects
    /// as many mappings as it can.
    pub fn new(memory: Arc<GuestMemory>) -> Result<Self, MemoryError> {
        let mut regions = Vec::with_capacity(memory.num_regions());
        for region in memory.iter().filter(|region| region.len() > 0) {
            let start = region.start_addr().raw_value();
            let host = region
                .get_host_address(MemoryRegionAddress(0))
                .map_err(|_| MemoryError::NoHostAddress { start })?;
            let len = region.size();
            regions.push(Region { start, len, host });
        }
        regions.sort_by_key(|region| region.start);
        let mappings: Vec<_> =
            regions.iter().map(|r| (r.host.expose_provenance(), r.len)).collect();
        let registration = Registration::new(&mappings)?;
        Ok(Self { regions: regions.into(), registration, memory })
    }

    /// True once an access failed because the VMM took memory away. From then
    /// on the lost region reads as zeros; whatever depends on it must stop.
    #[inline]
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.registration.is_poisoned()
    }

    /// The host runs that hold `len` bytes from guest address `address` on, in
    /// order; a buffer may straddle adjacent regions. A length of 0 gives none,
    /// whatever the address. The last item is an error if some byte is in no
    /// region; then the runs before it must not be used.
    #[must_use]
    pub fn translate(&self, address: u64, len: usize) -> Translation<'_> {
        Translation { memory: self, hint: RegionHint::default(), address: Some(address), left: len }
    }

    /// [`Self::translate`] with the caller's own memory of the last hit.
    #[inline]
    pub(super) fn translate_from(
        &self,
        hint: RegionHint,
        address: u64,
        len: usize,
    ) -> Translation<'_> {
        Translation { memory: self, hint, address: Some(address), left: len }
    }

    /// The one run that holds all `len` bytes from `address` on.
    pub(super) fn contiguous(&self, address: u64, len: usize) -> Option<HostSegment> {
        let run = self.run_at(&mut RegionHint::default(), address)?;
        (run.len >= len).then_some(run.truncated(len))
    }

    /// Copies `dst.len()` bytes from guest address `address` on, once.
    #[inline]
    pub(super) fn copy_out(
        &self,
        hint: &mut RegionHint,
        address: u64,
        dst: &mut [u8],
    ) -> Result<(), Unmapped> {
        let mut runs = self.translate_from(*hint, address, dst.len());
        let mut rest = dst;
        for run in runs.by_ref() {
            let run = run?;
            // SAFETY: the run was translated from this memory, which is alive.
            let n = unsafe { run.copy_to(0, rest) };
            rest = rest.get_mut(n..).unwrap_or_default();
        }
        *hint = runs.hint;
        Ok(())
    }

    /// The run at `address` if it is in the region that `hint` names.
    #[inline]
    pub(super) fn run_near(&self, hint: RegionHint, address: u64) -> Option<HostSegment> {
        self.regions.get(hint.0)?.run_at(address)
    }

    #[inline]
    fn run_at(&self, hint: &mut RegionHint, address: u64) -> Option<HostSegment> {
        if let Some(run) = self.run_near(*hint, address) {
            return Some(run);
        }
        let after = self.regions.partition_point(|region| region.start <= address);
        let index = after.checked_sub(1)?;
        let run = self.regions.get(index)?.run_at(address)?;
        hint.0 = index;
        Some(run)
    }
}

/// Iterator over the host runs of one guest buffer.
#[derive(Debug)]
pub struct Translation<'m> {
    memory: &'m MappedMemory,
    hint: RegionHint,
    /// `None` once the buffer ran over the end of the address space.
    address: Option<u64>,
    left: usize,
}

impl Translation<'_> {
    /// Where the last lookup hit.
    #[inline]
    pub(super) fn hint(&self) -> RegionHint {
        self.hint
    }
}

impl Iterator for Translation<'_> {
    type Item = Result<HostSegment, Unmapped>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let address = self.address;
        let run = address.and_then(|address| self.memory.run_at(&mut self.hint, address));
        let Some(run) = run.map(|run| run.truncated(self.left)) else {
            self.left = 0;
            return Some(Err(Unmapped(address.unwrap_or(u64::MAX))));
        };
        self.left -= run.len;
        self.address = address.and_then(|a| a.checked_add(u64::try_from(run.len).ok()?));
        Some(Ok(run))
    }
}
