//! Chains that are answered as they are taken.
//!
//! A device that only reads a chain, and is done with it before it publishes, has nothing
//! to remember of it: the used element says "length 0" from the start. The driver sees it,
//! as always, with the next [`SplitRing::publish`]. So there are no chains in flight, and
//! none of what is kept for those.
//!
//! A ring is used this way or with [`SplitRing::pop`], never both.

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
