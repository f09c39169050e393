//! What lies in guest memory and is written by the guest while we read it.
//!
//! Each field is an atomic that is loaded once into a private value. Relaxed
//! loads of aligned integers are plain moves; what they buy is that neither the
//! compiler nor a later line of code can read a field twice and see two values.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// The descriptor continues at `next`.
const DESCRIPTOR_F_NEXT: u16 = 1;
/// The device writes to the buffer.
const DESCRIPTOR_F_WRITE: u16 = 2;
/// The buffer is a table of descriptors.
const DESCRIPTOR_F_INDIRECT: u16 = 4;

/// Bytes of one descriptor.
pub(super) const DESCRIPTOR_LEN: usize = 16;

/// An array of atomics in guest memory, a power of two long. Every index is
/// masked, so no index can leave the array.
#[derive(Debug)]
pub(super) struct SharedArray<T> {
    first: *const T,
    mask: u16,
}

impl<T> SharedArray<T> {
    /// The array of `mask + 1` elements that starts at `first`.
    ///
    /// # Safety
    /// For as long as the array is used, `first` is aligned for `T` and leads to
    /// `mask + 1` elements of mapped, writable memory. `mask + 1` is a power of
    /// two. `T` is made of atomic integers only.
    pub(super) unsafe fn new(first: *const T, mask: u16) -> Self {
        Self { first, mask }
    }

    /// The element at `index` modulo the length.
    #[inline]
    pub(super) fn at(&self, index: u16) -> &T {
        let element = self.first.wrapping_add(usize::from(index & self.mask));
        // SAFETY: the masked index is within the array, which is mapped and
        // aligned by the contract of `new`; atomics may change under a reference.
        unsafe { &*element }
    }

    /// Asks the processor to fetch the element at `index` modulo the length.
    #[inline]
    pub(super) fn prefetch(&self, index: u16) {
        prefetch(self.first.wrapping_add(usize::from(index & self.mask)).cast());
    }
}

/// Asks the processor to fetch the cache line at `address`. A hint: any address
/// will do, mapped or not.
#[inline]
pub(super) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch accesses nothing that a program could see, and faults
        // at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _hint_only = address;
}

/// An aligned 16-bit field, little-endian.
#[repr(transparent)]
#[derive(Debug)]
pub(super) struct SharedU16(AtomicU16);

impl SharedU16 {
    #[inline]
    pub(super) fn load(&self, order: Ordering) -> u16 {
        u16::from_le(self.0.load(order))
    }

    #[inline]
    pub(super) fn store(&self, value: u16, order: Ordering) {
        self.0.store(value.to_le(), order);
    }
}

/// A descriptor in the ring's own table (virtio 1.2, 2.7.5).
#[repr(C)]
#[derive(Debug)]
pub(super) struct SharedDescriptor {
    address: AtomicU64,
    /// Length (4 bytes), flags (2) and next (2).
    rest: AtomicU64,
}

impl SharedDescriptor {
    /// The private copy, each byte read once.
    #[inline]
    pub(super) fn load(&self) -> Descriptor {
        let address = self.address.load(Ordering::Relaxed).to_ne_bytes();
        let rest = self.rest.load(Ordering::Relaxed).to_ne_bytes();
        Descriptor::from_bytes(address, rest)
    }
}

/// An element of the used ring (virtio 1.2, 2.7.8). Only 4-byte aligned.
#[repr(C)]
#[derive(Debug)]
pub(super) struct SharedUsedElement {
    id: AtomicU32,
    len: AtomicU32,
}

impl SharedUsedElement {
    /// Becomes visible to the driver with the next store of the used index.
    #[inline]
    pub(super) fn store(&self, head: u16, written: u32) {
        self.id.store(u32::from(head).to_le(), Ordering::Relaxed);
        self.len.store(written.to_le(), Ordering::Relaxed);
    }
}

/// A private copy of one descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) address: u64,
    pub(super) len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    /// Reads the 16 bytes of an indirect table's entry.
    #[inline]
    pub(super) fn from_table_entry(bytes: [u8; DESCRIPTOR_LEN]) -> Self {
        let [a0, a1, a2, a3, a4, a5, a6, a7, rest @ ..] = bytes;
        Self::from_bytes([a0, a1, a2, a3, a4, a5, a6, a7], rest)
    }

    #[inline]
    fn from_bytes(address: [u8; 8], rest: [u8; 8]) -> Self {
        let [l0, l1, l2, l3, f0, f1, n0, n1] = rest;
        Self {
            address: u64::from_le_bytes(address),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u16::from_le_bytes([f0, f1]),
            next: u16::from_le_bytes([n0, n1]),
        }
    }

    /// Index of the descriptor that follows.
    #[inline]
    pub(super) fn next(&self) -> Option<u16> {
        (self.flags & DESCRIPTOR_F_NEXT != 0).then_some(self.next)
    }

    /// The device may write to the buffer, and not read it.
    #[inline]
    pub(super) fn is_writable(&self) -> bool {
        self.flags & DESCRIPTOR_F_WRITE != 0
    }

    /// The buffer holds more descriptors.
    #[inline]
    pub(super) fn is_indirect(&self) -> bool {
        self.flags & DESCRIPTOR_F_INDIRECT != 0
    }
}
