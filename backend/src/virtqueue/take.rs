//! Chains that are answered as they are taken.
//!
//! A device that only reads a chain, and is done with it before it publishes, has nothing
//! to remember of it: the used element says "length 0" from the start. The driver sees it,
//! as always, with the next [`SplitRing::publish`]. So there are no chains in flight, and
//! none of what is kept for those.
//!
//! The same goes for a frame that fits in one buffer: it is written, and its used element
//! staged, before another chain is looked at.
//!
//! All this only while no popped chain is in flight.

use super::{
    chain::Chain,
    split::{Pop, RingError, SplitRing},
};

impl SplitRing {
    /// Takes the next chain that [`Self::available`] saw, puts its buffers into `chain`,
    /// and stages its used element.
    ///
    /// # Errors
    /// [`RingError`] if the head is not in the table.
    #[inline]
    pub(super) fn take(&mut self, chain: &mut Chain) -> Result<Pop, RingError> {
        debug_assert_eq!(self.in_flight(), 0, "nothing was popped");
        let Some((head, first)) = self.next_entry()? else { return Ok(Pop::Empty) };
        self.areas.used_element(self.next_used).store(head, 0);
        self.next_avail = self.next_avail.wrapping_add(1);
        self.next_used = self.next_avail;
        chain.begin(&self.memory, head);
        match self.append_chain(first, chain) {
            Ok(()) => Ok(Pop::Chain),
            Err(fault) => {
                self.last_fault = Some(fault);
                self.bad_chains += 1;
                Ok(Pop::Bad)
            }
        }
    }

    /// Writes `parts`, `len` bytes together, to the next chain that [`Self::available`]
    /// saw, and stages its used element: if that chain is one buffer with room for them.
    /// Else returns false, and nothing was taken.
    ///
    /// # Errors
    /// [`RingError`] if the head is not in the table.
    #[inline]
    pub(super) fn put<'p>(
        &mut self,
        parts: impl Iterator<Item = &'p [u8]>,
        len: u32,
    ) -> Result<bool, RingError> {
        debug_assert_eq!(self.in_flight(), 0, "nothing was popped");
        let Some((head, first)) = self.next_entry()? else { return Ok(false) };
        let room = self.hints.only_segment(&self.memory, &first);
        let Some(room) = room.filter(|_| first.is_writable() && first.len >= len) else {
            return Ok(false);
        };
        self.hints.count_one();
        let mut at = 0;
        for part in parts {
            // SAFETY: `self.memory` keeps the memory of the segment mapped.
            at += unsafe { room.copy_from(at, part) };
        }
        self.areas.used_element(self.next_used).store(head, len);
        self.next_avail = self.next_avail.wrapping_add(1);
        self.next_used = self.next_avail;
        Ok(true)
    }

    /// Leaves the chain taken last in the ring, to be taken again. What is published
    /// already cannot be left.
    pub(super) fn untake(&mut self) {
        if self.next_used != self.published_used {
            self.next_avail = self.next_avail.wrapping_sub(1);
            self.next_used = self.next_avail;
            self.ahead.went_back_to(self.next_avail);
        }
    }
}
