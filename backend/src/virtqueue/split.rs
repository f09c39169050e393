//! The device's view of one split virtqueue.

use std::sync::{Arc, atomic::Ordering};

use virtio_bindings::bindings::{
    virtio_config::VIRTIO_F_VERSION_1,
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};

use super::{
    RingConfig,
    ahead::Ahead,
    areas::Areas,
    chain::{Chain, ChainFault},
    memory::MappedMemory,
    shared::Descriptor,
    walk::{Hints, Walk},
};

/// Largest ring (virtio 1.2, 2.7).
pub const RING_SIZE_MAX: u16 = 32_768;

/// One of a ring's three areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingArea {
    /// Where chains are described.
    DescriptorTable,
    /// Where the driver offers chains.
    AvailRing,
    /// Where the device returns them.
    UsedRing,
}

impl std::fmt::Display for RingArea {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::DescriptorTable => "descriptor table",
            Self::AvailRing => "available ring",
            Self::UsedRing => "used ring",
        })
    }
}

/// Why a ring cannot start or cannot go on. Such a ring is stopped for good; the
/// guest must reset the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Not a power of two from 1 to [`RING_SIZE_MAX`].
    #[error("the ring size {0} is not a power of two between 1 and {RING_SIZE_MAX}")]
    Size(u16),
    /// An area begins at an odd place.
    #[error("the {area} at {address:#x} is not aligned to {align} bytes")]
    Alignment {
        /// Which area.
        area: RingArea,
        /// Guest-physical address.
        address: u64,
        /// What the specification asks for, in bytes.
        align: usize,
    },
    /// An area is not inside one memory region.
    #[error("the {area} at {address:#x}, {len} bytes, is not inside one memory region")]
    Unmapped {
        /// Which area.
        area: RingArea,
        /// Guest-physical address.
        address: u64,
        /// Its length in bytes.
        len: usize,
    },
    /// The driver is a legacy one.
    #[error("the driver did not accept VIRTIO_F_VERSION_1; legacy drivers are not served")]
    NoVersion1,
    /// The driver offers more than fits in the ring.
    #[error("the available index jumped to {avail}: over {size} entries after used index {used}")]
    AvailJump {
        /// The driver's index.
        avail: u16,
        /// Our used index.
        used: u16,
        /// Entries in the ring.
        size: u16,
    },
    /// A head that is not in the table.
    #[error("descriptor {head} was made available in a ring of {size}")]
    HeadOutOfRange {
        /// The index that the guest gave.
        head: u16,
        /// Entries in the ring.
        size: u16,
    },
    /// A head that was not returned yet.
    #[error("descriptor {head} was made available again while it was in use")]
    HeadInFlight {
        /// The index that the guest gave.
        head: u16,
    },
    /// The VMM took the guest's memory away.
    #[error("guest memory disappeared: the VMM shrank or lost the file behind it")]
    MemoryLost,
}

/// What [`SplitRing::pop`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pop {
    /// Nothing, as of the last [`SplitRing::available`].
    Empty,
    /// A chain; complete its head.
    Chain,
    /// A malformed chain, which goes back to the guest by itself, in its turn
    /// and with length 0. [`SplitRing::last_fault`] says what was wrong.
    Bad,
}

/// A head between `pop` and `complete`.
#[derive(Debug, Clone, Copy, Default)]
struct Popped {
    head: u16,
    /// Returned with length 0 as soon as all earlier ones are.
    rejected: bool,
}

/// One split virtqueue, its areas resolved to host pointers once.
///
/// The module's documentation draws the indices. Since chains complete in order,
/// entry `i` of the available ring is answered in entry `i` of the used ring.
#[derive(Debug)]
pub struct SplitRing {
    pub(super) areas: Areas,
    pub(super) memory: Arc<MappedMemory>,
    pub(super) hints: Hints,
    size: u16,
    pub(super) event_idx: bool,
    indirect: bool,
    /// The driver's index as last read; entries before it may be popped.
    seen_avail: u16,
    /// What is known of the entries from `next_avail` on.
    pub(super) ahead: Ahead,
    pub(super) next_avail: u16,
    /// Entries before it are completed, published or not.
    pub(super) next_used: u16,
    /// The used index as the driver sees it.
    pub(super) published_used: u16,
    /// `published_used` when notification was last decided.
    pub(super) notified_used: Option<u16>,
    /// What was popped at each position of the ring.
    popped: Box<[Popped]>,
    /// One bit a descriptor: it is the head of a popped, uncompleted chain.
    in_flight: Box<[u64]>,
    corrected_base: Option<u16>,
    broken: Option<RingError>,
    pub(super) last_fault: Option<ChainFault>,
    pub(super) bad_chains: u64,
}

// SAFETY: the pointers in `areas` lead into `memory`, which is Send; nothing
// else is tied to a thread. (Not Sync: one worker owns a ring.)
unsafe impl Send for SplitRing {}

impl SplitRing {
    /// Checks `config` and resolves it in `memory`.
    ///
    /// A ring goes on where its used index stands. Completion is in order, so
    /// that is always right, while front-ends have passed the driver's index
    /// (which loses all posted buffers) or a stale one after a reconnect.
    /// [`Self::corrected_base`] reports that.
    ///
    /// # Errors
    /// [`RingError`] if the size, an alignment or an area is wrong, the driver is
    /// a legacy one, or the memory is lost already.
    pub fn new(memory: Arc<MappedMemory>, config: &RingConfig) -> Result<Self, RingError> {
        let size = config.size;
        if !size.is_power_of_two() || size > RING_SIZE_MAX {
            return Err(RingError::Size(size));
        }
        let has = |bit: u32| config.features & (1u64 << bit) != 0;
        if !has(VIRTIO_F_VERSION_1) {
            return Err(RingError::NoVersion1);
        }
        let areas = Areas::resolve(&memory, config)?;
        let used = areas.used_idx().load(Ordering::Acquire);
        if memory.is_poisoned() {
            return Err(RingError::MemoryLost);
        }
        Ok(Self {
            areas,
            memory,
            hints: Hints::default(),
            size,
            event_idx: has(VIRTIO_RING_F_EVENT_IDX),
            indirect: has(VIRTIO_RING_F_INDIRECT_DESC),
            seen_avail: used,
            ahead: Ahead::default(),
            next_avail: used,
            next_used: used,
            published_used: used,
            notified_used: None,
            popped: vec![Popped::default(); size.into()].into(),
            in_flight: vec![0; usize::from(size).div_ceil(64)].into(),
            corrected_base: (config.base != used).then_some(config.base),
            broken: None,
            last_fault: None,
            bad_chains: 0,
        })
    }

    /// Entries in the ring.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Index of the next available entry to pop. Once nothing is in flight this
    /// is what GET_VRING_BASE answers; [`Self::stop`] sees to that.
    #[must_use]
    pub fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// The front-end's base, if it was not the used index and so was not used.
    #[must_use]
    pub fn corrected_base(&self) -> Option<u16> {
        self.corrected_base
    }

    /// Popped chains that are not completed.
    #[must_use]
    pub fn in_flight(&self) -> u16 {
        self.next_avail.wrapping_sub(self.next_used)
    }

    /// Malformed chains returned so far.
    #[must_use]
    pub fn bad_chains(&self) -> u64 {
        self.bad_chains
    }

    /// Descriptors that were looked at since the last call, those of malformed
    /// chains included: what this ring costs beyond its frames.
    pub fn take_walked(&mut self) -> u32 {
        self.hints.take_walked()
    }

    /// What was wrong with the last malformed chain.
    #[must_use]
    pub fn last_fault(&self) -> Option<ChainFault> {
        self.last_fault
    }

    /// Looks at the driver's index and says how many chains can be popped. Call
    /// it once per batch: the index shares a cache line with the driver.
    ///
    /// # Errors
    /// [`RingError`] if the driver's index is impossible, the guest's memory is
    /// lost, or the ring was broken before.
    #[inline]
    pub fn available(&mut self) -> Result<u16, RingError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        if self.memory.is_poisoned() {
            return Err(self.break_with(RingError::MemoryLost));
        }
        // Acquire: what the driver wrote before its index is seen after it.
        let avail = self.areas.avail_idx().load(Ordering::Acquire);
        let pending = avail.wrapping_sub(self.next_avail);
        // An entry is the driver's again only when it sees it used.
        let outstanding = self.next_avail.wrapping_sub(self.published_used);
        if pending > self.size.saturating_sub(outstanding) {
            let used = self.published_used;
            return Err(self.break_with(RingError::AvailJump { avail, used, size: self.size }));
        }
        self.seen_avail = avail;
        Ok(pending)
    }

    /// Takes the next chain that [`Self::available`] saw and puts its buffers
    /// into `chain`.
    ///
    /// # Errors
    /// [`RingError`] if the head is not in the table or in flight already.
    #[inline]
    pub fn pop(&mut self, chain: &mut Chain) -> Result<Pop, RingError> {
        let Some((head, first)) = self.pop_entry()? else { return Ok(Pop::Empty) };
        chain.begin(&self.memory, head);
        Ok(self.append_popped(first, chain))
    }

    /// Like [`Self::pop`], but adds the buffers after those in `chain`, which
    /// keeps its head. A malformed chain adds none.
    #[inline]
    pub(super) fn pop_more(&mut self, chain: &mut Chain) -> Result<Pop, RingError> {
        let Some((_, first)) = self.pop_entry()? else { return Ok(Pop::Empty) };
        Ok(self.append_popped(first, chain))
    }

    /// Gives back the last `n` popped chains that are not completed, to be popped
    /// again. What their buffers hold is the guest's no more than before.
    pub fn undo_pop(&mut self, n: u16) {
        for _ in 0..n.min(self.in_flight()) {
            self.next_avail = self.next_avail.wrapping_sub(1);
            let head = self.popped_at(self.next_avail).head;
            self.set_in_flight(head, false);
        }
        self.ahead.went_back_to(self.next_avail);
    }

    /// Stages the used element of the oldest chain in flight, whose head is
    /// `head`: chains complete in the order in which they were popped. `written`
    /// is the number of bytes written to it. The driver sees it after
    /// [`Self::publish`].
    #[inline]
    pub fn complete(&mut self, head: u16, written: u32) {
        let in_order = self.in_flight() > 0 && self.popped_at(self.next_used).head == head;
        debug_assert!(in_order, "chains complete in order");
        if in_order {
            self.stage(written);
            self.stage_rejected();
        }
    }

    /// Shows the driver all staged elements with one store of the used index.
    #[inline]
    pub fn publish(&mut self) {
        if self.next_used == self.published_used {
            return;
        }
        // Release: what we wrote before is seen by a driver that sees the index.
        self.areas.used_idx().store(self.next_used, Ordering::Release);
        // A driver left unnotified for 2^16 entries: the last decision is too old
        // to compare with.
        let step = self.next_used.wrapping_sub(self.published_used);
        if self.notified_used.is_some_and(|old| self.next_used.wrapping_sub(old) < step) {
            self.notified_used = None;
        }
        self.published_used = self.next_used;
    }

    /// Ends the service: gives back what is in flight, publishes what is staged,
    /// and says where a successor goes on (the answer to GET_VRING_BASE).
    pub fn stop(&mut self) -> u16 {
        self.undo_pop(self.in_flight());
        self.publish();
        self.next_avail
    }

    /// Head of the chain popped last.
    #[inline]
    pub(super) fn last_popped(&self) -> u16 {
        self.popped_at(self.next_avail.wrapping_sub(1)).head
    }

    /// Marks the chain popped last as malformed for its user's reasons.
    pub(super) fn reject_last(&mut self, fault: ChainFault) {
        if self.in_flight() > 0 {
            let last = self.next_avail.wrapping_sub(1);
            self.popped_mut(last).rejected = true;
            self.last_fault = Some(fault);
            self.stage_rejected();
        }
    }

    /// The next head, checked and marked in flight, and its descriptor.
    #[inline]
    fn pop_entry(&mut self) -> Result<Option<(u16, Descriptor)>, RingError> {
        let Some(entry) = self.next_entry()? else { return Ok(None) };
        if self.set_in_flight(entry.0, true) {
            return Err(self.break_with(RingError::HeadInFlight { head: entry.0 }));
        }
        *self.popped_mut(self.next_avail) = Popped { head: entry.0, rejected: false };
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(entry))
    }

    /// The next head, checked, and its descriptor.
    #[inline]
    pub(super) fn next_entry(&mut self) -> Result<Option<(u16, Descriptor)>, RingError> {
        match self.ahead.get(self.next_avail) {
            Some(entry) => Ok(Some(entry)),
            None if self.next_avail == self.seen_avail => Ok(None),
            None => self.look_ahead().map(Some),
        }
    }

    /// Loads the next entries that [`Self::available`] saw; returns the first.
    fn look_ahead(&mut self) -> Result<(u16, Descriptor), RingError> {
        let pending = self.seen_avail.wrapping_sub(self.next_avail);
        let Self { ahead, areas, memory, hints, next_avail, size, .. } = self;
        ahead
            .load(*next_avail, pending, *size, areas, memory, hints)
            .map_err(|head| self.break_with(RingError::HeadOutOfRange { head, size: self.size }))
    }

    #[inline]
    fn append_popped(&mut self, first: Descriptor, chain: &mut Chain) -> Pop {
        match self.append_chain(first, chain) {
            Ok(()) => Pop::Chain,
            Err(fault) => {
                self.reject_last(fault);
                Pop::Bad
            }
        }
    }

    /// Adds the buffers of the chain that begins with `first`; a malformed chain adds none.
    #[inline]
    pub(super) fn append_chain(
        &mut self,
        first: Descriptor,
        chain: &mut Chain,
    ) -> Result<(), ChainFault> {
        if let Some(segment) = self.hints.only_segment(&self.memory, &first) {
            self.hints.count_one();
            chain.push(segment, first.is_writable());
            return Ok(());
        }
        self.walk_chain(first, chain)
    }

    fn walk_chain(&mut self, first: Descriptor, chain: &mut Chain) -> Result<(), ChainFault> {
        let end = chain.mark();
        let walk = Walk {
            memory: &self.memory,
            table: self.areas.descriptors(),
            size: self.size,
            indirect_negotiated: self.indirect,
            hints: &mut self.hints,
        };
        walk.append(first, chain).inspect_err(|_| chain.truncate(end))
    }

    #[inline]
    fn stage(&mut self, written: u32) {
        let head = self.popped_at(self.next_used).head;
        self.areas.used_element(self.next_used).store(head, written);
        self.set_in_flight(head, false);
        self.next_used = self.next_used.wrapping_add(1);
    }

    #[inline]
    fn stage_rejected(&mut self) {
        while self.in_flight() > 0 && self.popped_at(self.next_used).rejected {
            self.bad_chains += 1;
            self.stage(0);
        }
    }

    /// Nothing is popped from now on.
    #[cold]
    fn break_with(&mut self, error: RingError) -> RingError {
        self.broken = Some(error);
        self.seen_avail = self.next_avail;
        self.ahead = Ahead::default();
        error
    }

    /// Sets or clears the bit of `head` and says what it was.
    #[inline]
    fn set_in_flight(&mut self, head: u16, value: bool) -> bool {
        let bit = 1u64 << (head % 64);
        // `head` is below the size, so the word exists.
        let Some(word) = self.in_flight.get_mut(usize::from(head / 64)) else { return true };
        let was = *word & bit != 0;
        *word = if value { *word | bit } else { *word & !bit };
        was
    }

    #[inline]
    fn popped_at(&self, index: u16) -> Popped {
        let slot = usize::from(index & (self.size - 1));
        // The masked index is below the size, so the entry exists.
        self.popped.get(slot).copied().unwrap_or_default()
    }

    #[inline]
    fn popped_mut(&mut self, index: u16) -> &mut Popped {
        let slot = usize::from(index & (self.size - 1));
        &mut self.popped[slot]
    }
}
