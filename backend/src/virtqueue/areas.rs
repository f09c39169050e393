//! The three areas of a split ring, resolved to host pointers once
//! (virtio 1.2, sections 2.7.5, 2.7.6 and 2.7.8).
//!
//! ```text
//! descriptor table   size x { address u64, len u32, flags u16, next u16 }
//! available ring     flags u16, idx u16, size x u16, used_event u16
//! used ring          flags u16, idx u16, size x { id u32, len u32 }, avail_event u16
//! ```

use super::{
    RingConfig, RingError,
    memory::MappedMemory,
    shared::{DESCRIPTOR_LEN, SharedArray, SharedDescriptor, SharedU16, SharedUsedElement},
    split::RingArea,
};

/// Flags and index before the elements of the available and the used ring.
const RING_HEADER_LEN: usize = 4;
/// Where the index is.
const RING_IDX_OFFSET: usize = 2;
const AVAIL_ELEMENT_LEN: usize = 2;
const USED_ELEMENT_LEN: usize = 8;
/// `used_event` or `avail_event` after the elements.
const RING_EVENT_LEN: usize = 2;

/// Pointers to everything that driver and device share in a ring. Valid while
/// the memory they were resolved in is mapped.
#[derive(Debug)]
pub(super) struct Areas {
    descriptors: SharedArray<SharedDescriptor>,
    avail_flags: SharedArray<SharedU16>,
    avail_idx: SharedArray<SharedU16>,
    avail_ring: SharedArray<SharedU16>,
    used_event: SharedArray<SharedU16>,
    used_flags: SharedArray<SharedU16>,
    used_idx: SharedArray<SharedU16>,
    used_ring: SharedArray<SharedUsedElement>,
    avail_event: SharedArray<SharedU16>,
}

impl Areas {
    /// Finds the areas of `config`, whose size the caller checked. The result
    /// must not outlive `memory`.
    pub(super) fn resolve(memory: &MappedMemory, config: &RingConfig) -> Result<Self, RingError> {
        let mask = config.size - 1;
        let size = usize::from(config.size);
        let table_len = size * DESCRIPTOR_LEN;
        let avail_elements = size * AVAIL_ELEMENT_LEN;
        let avail_len = RING_HEADER_LEN + avail_elements + RING_EVENT_LEN;
        let used_elements = size * USED_ELEMENT_LEN;
        let used_len = RING_HEADER_LEN + used_elements + RING_EVENT_LEN;

        let table = find(memory, RingArea::DescriptorTable, config.descriptor_table, table_len)?;
        let avail = find(memory, RingArea::AvailRing, config.avail_ring, avail_len)?;
        let used = find(memory, RingArea::UsedRing, config.used_ring, used_len)?;
        Ok(Self {
            descriptors: table.array(0, mask),
            avail_flags: avail.array(0, 0),
            avail_idx: avail.array(RING_IDX_OFFSET, 0),
            avail_ring: avail.array(RING_HEADER_LEN, mask),
            used_event: avail.array(RING_HEADER_LEN + avail_elements, 0),
            used_flags: used.array(0, 0),
            used_idx: used.array(RING_IDX_OFFSET, 0),
            used_ring: used.array(RING_HEADER_LEN, mask),
            avail_event: used.array(RING_HEADER_LEN + used_elements, 0),
        })
    }

    #[inline]
    pub(super) fn descriptors(&self) -> &SharedArray<SharedDescriptor> {
        &self.descriptors
    }

    #[inline]
    pub(super) fn avail_flags(&self) -> &SharedU16 {
        self.avail_flags.at(0)
    }

    #[inline]
    pub(super) fn avail_idx(&self) -> &SharedU16 {
        self.avail_idx.at(0)
    }

    #[inline]
    pub(super) fn avail_entry(&self, index: u16) -> &SharedU16 {
        self.avail_ring.at(index)
    }

    #[inline]
    pub(super) fn used_event(&self) -> &SharedU16 {
        self.used_event.at(0)
    }

    #[inline]
    pub(super) fn used_flags(&self) -> &SharedU16 {
        self.used_flags.at(0)
    }

    #[inline]
    pub(super) fn used_idx(&self) -> &SharedU16 {
        self.used_idx.at(0)
    }

    #[inline]
    pub(super) fn used_element(&self, index: u16) -> &SharedUsedElement {
        self.used_ring.at(index)
    }

    #[inline]
    pub(super) fn avail_event(&self) -> &SharedU16 {
        self.avail_event.at(0)
    }
}

/// An area in this process: aligned as the specification asks, `len` bytes.
struct HostArea {
    start: *const u8,
    len: usize,
}

fn find(
    memory: &MappedMemory,
    area: RingArea,
    address: u64,
    len: usize,
) -> Result<HostArea, RingError> {
    let align = match area {
        RingArea::DescriptorTable => 16,
        RingArea::AvailRing => 2,
        RingArea::UsedRing => 4,
    };
    let unmapped = RingError::Unmapped { area, address, len };
    let segment = memory.contiguous(address, len).ok_or(unmapped)?;
    let start = segment.as_ptr().cast_const();
    // A front-end may map a region at an odd guest address; our accesses depend
    // on the host's alignment, the guest's on its own.
    let host_aligned = start.addr().is_multiple_of(align);
    let guest_aligned = usize::try_from(address).is_ok_and(|a| a.is_multiple_of(align));
    if !host_aligned || !guest_aligned {
        return Err(RingError::Alignment { area, address, align });
    }
    Ok(HostArea { start, len })
}

impl HostArea {
    /// The `mask + 1` elements at `offset`.
    fn array<T>(&self, offset: usize, mask: u16) -> SharedArray<T> {
        let end = offset + (usize::from(mask) + 1) * size_of::<T>();
        let first = self.start.wrapping_add(offset).cast::<T>();
        assert!(end <= self.len && first.is_aligned(), "an area is laid out as above");
        // SAFETY: in range and aligned by the assertion, mapped and writable while
        // the memory lives (the contract of `resolve`), and only used with the
        // atomic types of `shared`.
        unsafe { SharedArray::new(first, mask) }
    }
}
