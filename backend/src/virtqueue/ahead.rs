//! Entries of the available ring, loaded some time before they are popped.
//!
//! A head, its descriptor and its buffer lie in three places, each of which the
//! driver's processor wrote last: fetched one after the other, every chain would
//! wait three times for another processor's cache. So up to [`AHEAD_MAX`] entries
//! are loaded together, in two passes, and their buffers are asked for:
//!
//! ```text
//!   heads ──▶ (prefetch descriptors) ──▶ descriptors ──▶ (prefetch buffers) ──▶ pop
//! ```
//!
//! Head and descriptor are read once, here, and judged on this copy when they are
//! popped. A prefetch reads nothing: it cannot fault, and decides nothing.

use std::sync::atomic::Ordering;

use super::{areas::Areas, memory::MappedMemory, shared::Descriptor, walk::Hints};

/// Entries that are loaded together: enough to hide the way to the other
/// processor's cache, few enough that their buffers stay in ours.
const AHEAD_MAX: u16 = 32;

/// The loaded entries: those of the indices `from..to`, modulo 2^16.
#[derive(Debug)]
pub(super) struct Ahead {
    entries: [(u16, Descriptor); AHEAD_MAX as usize],
    from: u16,
    to: u16,
}

impl Default for Ahead {
    fn default() -> Self {
        let none = (0, Descriptor::default());
        Self { entries: [none; AHEAD_MAX as usize], from: 0, to: 0 }
    }
}

impl Ahead {
    /// Head and descriptor of entry `index`, if they are loaded.
    #[inline]
    pub(super) fn get(&self, index: u16) -> Option<(u16, Descriptor)> {
        let offset = index.wrapping_sub(self.from);
        if offset >= self.to.wrapping_sub(self.from) {
            return None;
        }
        self.entries.get(usize::from(offset)).copied()
    }

    /// Loads entries from `index` on, `pending` at most, and returns the first.
    ///
    /// # Errors
    /// The first entry is no descriptor of a table of `size`: the head that it is.
    /// A later one of that kind is found when it is the first.
    #[inline]
    pub(super) fn load(
        &mut self,
        index: u16,
        pending: u16,
        size: u16,
        areas: &Areas,
        memory: &MappedMemory,
        hints: &mut Hints,
    ) -> Result<(u16, Descriptor), u16> {
        let mut loaded = 0;
        for (entry, at) in self.entries.iter_mut().zip(0..pending) {
            let head = areas.avail_entry(index.wrapping_add(at)).load(Ordering::Relaxed);
            if head >= size {
                if at == 0 {
                    return Err(head);
                }
                break;
            }
            entry.0 = head;
            areas.descriptors().prefetch(head);
            loaded += 1;
        }
        for (head, descriptor) in self.entries.iter_mut().take(loaded) {
            *descriptor = areas.descriptors().at(*head).load();
            hints.prefetch(memory, descriptor);
        }
        self.from = index;
        self.to = index.wrapping_add(u16::try_from(loaded).unwrap_or(0));
        Ok(self.entries[0])
    }

    /// Popping goes on at `index`, which was popped before. What is not loaded any
    /// more is loaded again.
    #[inline]
    pub(super) fn went_back_to(&mut self, index: u16) {
        if self.get(index).is_none() {
            (self.from, self.to) = (index, index);
        }
    }
}
