//! When to interrupt the driver, and when to ask it for kicks
//! (virtio 1.2, sections 2.7.7 and 2.7.10).

use std::sync::atomic::{Ordering, fence};

use super::split::SplitRing;

/// In `avail.flags`: the driver wants no interrupts.
const AVAIL_F_NO_INTERRUPT: u16 = 1;
/// In `used.flags`: the device wants no kicks.
const USED_F_NO_NOTIFY: u16 = 1;

/// True if the index went past `event` on its way from `old` to `new`, all
/// modulo 2^16: the other side asked to hear of entry `event`, and it is among
/// the entries `old..new`.
#[inline]
pub(super) fn passed_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

impl SplitRing {
    /// Whether the driver wants an interrupt for what was published since the
    /// last call; ask once per batch, after [`Self::publish`].
    ///
    /// The first batch after a start always notifies: a predecessor may have
    /// died between its last used entry and the interrupt for it, and the driver
    /// would wait for that one for ever.
    pub fn needs_notification(&mut self) -> bool {
        let new = self.published_used;
        let old = self.notified_used.replace(new);
        if old == Some(new) {
            return false;
        }
        // The driver writes its wish and then reads our index; we wrote our index
        // and now read its wish. Without a full fence on both sides each could
        // miss the other's write.
        fence(Ordering::SeqCst);
        if !self.event_idx {
            return self.areas.avail_flags().load(Ordering::Relaxed) & AVAIL_F_NO_INTERRUPT == 0;
        }
        let event = self.areas.used_event().load(Ordering::Relaxed);
        old.is_none_or(|old| passed_event(event, new, old))
    }

    /// Tells the driver not to kick. With `EVENT_IDX` there is nothing to write:
    /// the driver kicks once, when it passes the event, and not again until the
    /// event moves.
    pub fn disable_kicks(&mut self) {
        if !self.event_idx {
            self.areas.used_flags().store(USED_F_NO_NOTIFY, Ordering::Relaxed);
        }
    }

    /// Asks the driver to kick when it makes the next chain available. True if
    /// one is available already, for which no kick may come: serve it first.
    pub fn enable_kicks(&mut self) -> bool {
        if self.event_idx {
            self.areas.avail_event().store(self.next_avail, Ordering::Relaxed);
        } else {
            self.areas.used_flags().store(0, Ordering::Relaxed);
        }
        // As above: our wish first, then the driver's index.
        fence(Ordering::SeqCst);
        self.areas.avail_idx().load(Ordering::Acquire) != self.next_avail
    }
}

#[cfg(test)]
mod tests {
    use super::passed_event;

    #[test]
    fn event_is_passed_once_whatever_the_wrap() {
        for base in [0u16, 0x7fff, 0xfff0, 0xffff] {
            let at = |n: u16| base.wrapping_add(n);
            assert!(passed_event(at(0), at(1), at(0)));
            assert!(passed_event(at(4), at(5), at(0)));
            assert!(!passed_event(at(5), at(5), at(0)), "not reached");
            assert!(!passed_event(at(0), at(5), at(1)), "passed before");
        }
    }
}
