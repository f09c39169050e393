//! The driver's side of a ring, written byte by byte, so that a test can also do
//! what no driver should. Every ring starts at 0xfff0, to wrap soon.

use std::sync::{Arc, atomic::Ordering};

use virtio_bindings::bindings::{
    virtio_config::VIRTIO_F_VERSION_1,
    virtio_net::VIRTIO_NET_F_MRG_RXBUF,
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use crate::virtqueue::{GuestMemory, MappedMemory, RingConfig, SplitRing};

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

pub(crate) const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
pub(crate) const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
pub(crate) const INDIRECT_DESC: u64 = 1 << VIRTIO_RING_F_INDIRECT_DESC;
pub(crate) const MRG_RXBUF: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF;

/// First index of every ring.
pub(crate) const START: u16 = 0xfff0;

/// Buffers go here: two adjacent regions, and nothing behind them.
pub(crate) const LOW: u64 = 0x10_0000;
pub(crate) const LOW_LEN: u64 = 0x10_0000;
pub(crate) const HIGH: u64 = LOW + LOW_LEN;
pub(crate) const HIGH_LEN: u64 = 0x8_0000;
pub(crate) const END: u64 = HIGH + HIGH_LEN;

const TABLE: u64 = 0;
const AVAIL: u64 = 0x8_0000;
const USED: u64 = 0xa_0000;

pub(crate) struct Driver {
    pub(crate) memory: Arc<GuestMemory>,
    pub(crate) config: RingConfig,
    avail: u16,
    used_seen: u16,
}

impl Driver {
    pub(crate) fn new(size: u16) -> Self {
        Self::with_features(size, INDIRECT_DESC | EVENT_IDX)
    }

    pub(crate) fn with_features(size: u16, features: u64) -> Self {
        let regions = [
            (GuestAddress(0), 0x10_0000),
            (GuestAddress(LOW), usize::try_from(LOW_LEN).unwrap()),
            (GuestAddress(HIGH), usize::try_from(HIGH_LEN).unwrap()),
        ];
        let memory = Arc::new(GuestMemory::from_ranges(&regions).unwrap());
        let config = RingConfig {
            size,
            descriptor_table: TABLE,
            avail_ring: AVAIL,
            used_ring: USED,
            base: START,
            features: features | VERSION_1,
        };
        let driver = Self { memory, config, avail: START, used_seen: START };
        driver.write_u16(AVAIL + 2, START);
        driver.write_u16(USED + 2, START);
        driver
    }

    pub(crate) fn mapped(&self) -> Arc<MappedMemory> {
        Arc::new(MappedMemory::new(Arc::clone(&self.memory)).unwrap())
    }

    pub(crate) fn ring(&self) -> SplitRing {
        SplitRing::new(self.mapped(), &self.config).unwrap()
    }

    /// The reference implementation on the same ring.
    pub(crate) fn queue(&self) -> Queue {
        let mut queue = Queue::new(self.config.size).unwrap();
        queue.try_set_desc_table_address(GuestAddress(TABLE)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(AVAIL)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(USED)).unwrap();
        queue.set_event_idx(self.config.features & EVENT_IDX != 0);
        queue.set_next_avail(START);
        queue.set_next_used(START);
        queue.set_ready(true);
        assert!(queue.is_valid(&*self.memory));
        queue
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub(crate) fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    pub(crate) fn write_u16(&self, address: u64, value: u16) {
        self.memory.store(value.to_le(), GuestAddress(address), Ordering::Release).unwrap();
    }

    pub(crate) fn read_u16(&self, address: u64) -> u16 {
        u16::from_le(self.memory.load(GuestAddress(address), Ordering::Acquire).unwrap())
    }

    /// Writes one descriptor anywhere.
    pub(crate) fn write_descriptor(&self, at: u64, buffer: (u64, u32), flags: u16, next: u16) {
        self.write(at, &buffer.0.to_le_bytes());
        self.write(at + 8, &buffer.1.to_le_bytes());
        self.write(at + 12, &flags.to_le_bytes());
        self.write(at + 14, &next.to_le_bytes());
    }

    /// Writes entry `index` of the ring's table.
    pub(crate) fn descriptor(&self, index: u16, buffer: (u64, u32), flags: u16, next: u16) {
        self.write_descriptor(TABLE + u64::from(index) * 16, buffer, flags, next);
    }

    /// Writes a chain of `buffers`, each with its flags, to consecutive entries
    /// from `head` on, and offers it.
    pub(crate) fn offer_chain(&mut self, head: u16, buffers: &[(u64, u32, u16)]) {
        for (index, (address, len, flags)) in (head..).zip(buffers) {
            let last = usize::from(index - head) + 1 == buffers.len();
            let flags = if last { *flags } else { *flags | NEXT };
            self.descriptor(index, (*address, *len), flags, index + 1);
        }
        self.offer(head);
    }

    /// Puts `head` into the available ring.
    pub(crate) fn offer(&mut self, head: u16) {
        let slot = self.avail % self.config.size;
        self.write_u16(AVAIL + 4 + u64::from(slot) * 2, head);
        self.avail = self.avail.wrapping_add(1);
        self.set_avail_idx(self.avail);
    }

    /// Replaces what the available ring says at position `index`.
    pub(crate) fn overwrite_avail(&self, index: u16, head: u16) {
        let slot = index % self.config.size;
        self.write_u16(AVAIL + 4 + u64::from(slot) * 2, head);
    }

    pub(crate) fn set_avail_idx(&self, index: u16) {
        self.write_u16(AVAIL + 2, index);
    }

    pub(crate) fn set_avail_flags(&self, flags: u16) {
        self.write_u16(AVAIL, flags);
    }

    pub(crate) fn set_used_event(&self, event: u16) {
        self.write_u16(AVAIL + 4 + u64::from(self.config.size) * 2, event);
    }

    pub(crate) fn avail_event(&self) -> u16 {
        self.read_u16(USED + 4 + u64::from(self.config.size) * 8)
    }

    pub(crate) fn used_flags(&self) -> u16 {
        self.read_u16(USED)
    }

    pub(crate) fn used_idx(&self) -> u16 {
        self.read_u16(USED + 2)
    }

    pub(crate) fn set_used_idx(&self, index: u16) {
        self.write_u16(USED + 2, index);
    }

    /// What was returned since the last call: head and length.
    pub(crate) fn take_used(&mut self) -> Vec<(u32, u32)> {
        let idx = self.used_idx();
        let mut used = Vec::new();
        while self.used_seen != idx {
            let slot = self.used_seen % self.config.size;
            let bytes = self.read(USED + 4 + u64::from(slot) * 8, 8);
            let (id, len) = bytes.split_at(4);
            let word = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap());
            used.push((word(id), word(len)));
            self.used_seen = self.used_seen.wrapping_add(1);
        }
        used
    }

    /// All of the guest's memory.
    pub(crate) fn dump(&self) -> Vec<u8> {
        self.read(0, usize::try_from(END).unwrap())
    }
}
