//! When open trains are sent.
//!
//! A send costs as much as a hundred small frames, and its receiver a wake-up. So the
//! frames of many turns share trains, for as long as guests send many. But where few
//! come, somebody waits for an answer: those go at the end of their turn.

/// Longest that open trains wait for more frames. A busy guest's frame waits in its
/// ring for about as long.
const HOLD_US: u64 = 50;

/// So many frames within [`HOLD_US`], and more are on their way: a guest whose ring is
/// found empty is only a little slower than we are.
const MANY: usize = 64;

/// Whether open trains wait.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Chains taken since trains were sent.
    chains: usize,
    /// When they were.
    since_us: u64,
}

impl Hold {
    /// At the end of a turn that took `chains` from the guests: are the trains to be sent?
    pub(super) fn is_over(&mut self, chains: usize, now_us: u64) -> bool {
        self.chains += chains;
        let few = chains == 0 && self.chains < MANY;
        let over = few || now_us.saturating_sub(self.since_us) >= HOLD_US;
        if over {
            *self = Self { chains: 0, since_us: now_us };
        }
        over
    }

    /// True while trains wait: the worker must not sleep.
    pub(super) fn is_on(&self) -> bool {
        self.chains > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_goes_at_once() {
        let mut hold = Hold::default();
        assert!(hold.is_over(1, 1_000));
        assert!(!hold.is_on());
    }

    #[test]
    fn few_frames_go_as_soon_as_no_more_come() {
        let mut hold = Hold { chains: 0, since_us: 1_000 };
        assert!(!hold.is_over(3, 1_001));
        assert!(hold.is_on());
        assert!(hold.is_over(0, 1_002));
        assert!(!hold.is_on());
    }

    #[test]
    fn many_frames_wait_for_more_but_not_for_long() {
        let mut hold = Hold { chains: 0, since_us: 1_000 };
        assert!(!hold.is_over(MANY, 1_001));
        assert!(!hold.is_over(0, 1_000 + HOLD_US - 1));
        assert!(hold.is_on());
        assert!(hold.is_over(0, 1_000 + HOLD_US));
    }
}
