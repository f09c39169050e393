//! What a front-end said about a ring before it started it.

/// The guest's memory as the front-end described it. One value is one
/// generation: a changed memory table makes a new value, and whoever holds an
/// `Arc` of the old one keeps it mapped.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;

/// One split virtqueue (virtio 1.2, section 2.7). Addresses are guest-physical.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingConfig {
    /// Entries in the ring; checked to be a power of two, 1 to 32,768, when the ring is mapped.
    pub size: u16,
    /// Descriptor table, 16 bytes an entry.
    pub descriptor_table: u64,
    /// Driver area: the available ring.
    pub avail_ring: u64,
    /// Device area: the used ring.
    pub used_ring: u64,
    /// The base that the front-end set: the next available index to look at.
    pub base: u16,
    /// Feature bits that the driver acknowledged.
    pub features: u64,
}
