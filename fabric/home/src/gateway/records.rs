//! One vNIC at one uplink.

use super::Word;
use crate::{Claim, Phase};

/// How far it is. Within one epoch it only goes forward, but for a void one, which may be claimed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// Its lease ran out, or its server is another process.
    Void,
    Prepared,
    Attached,
    /// What is under way still passes.
    Leaving,
    /// Frames are let in.
    Lingering,
    Over,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) peer: usize,
    pub(super) epoch: u64,
    pub(super) leased: bool,
    stand: Stand,
    /// When it lets nothing in any more.
    until_us: Option<u64>,
}

impl Record {
    pub(super) fn nothing(peer: usize, epoch: u64) -> Self {
        Self { peer, epoch, leased: false, stand: Stand::Void, until_us: None }
    }

    pub(super) fn is_left(&self) -> bool {
        self.stand.is_left()
    }

    /// It is to be claimed again.
    pub(super) fn is_void(&self) -> bool {
        self.stand == Stand::Void
    }

    pub(super) fn word(&self) -> Word {
        let (egress, inward, leaving) = match self.stand {
            Stand::Void | Stand::Over => return Word::default(),
            Stand::Prepared => (true, false, false),
            Stand::Attached => (true, true, false),
            Stand::Leaving => (true, true, true),
            Stand::Lingering => (false, true, true),
        };
        Word { egress, inward, leased: self.leased, leaving }
    }

    /// Takes a claim that is not stale. True if the vNIC is here from now on, and was not before.
    pub(super) fn claim(&mut self, now_us: u64, claim: &Claim, linger_until_us: u64) -> bool {
        let before = self.stand;
        match claim.phase {
            Phase::Prepare => {
                if claim.epoch > self.epoch || before == Stand::Void {
                    self.stand = Stand::Prepared;
                }
            }
            Phase::Attach => self.stand = Stand::Attached,
            // It speaks of an attachment that is not this one.
            Phase::Leave | Phase::Detach if claim.epoch < self.epoch => return false,
            Phase::Leave => self.leave(linger_until_us),
            Phase::Detach => {
                self.leave(linger_until_us);
                let over = self.until_us.is_none_or(|until_us| now_us >= until_us);
                self.stand = if over { Stand::Over } else { Stand::Lingering };
            }
        }
        self.leased = claim.leased;
        let news = before != Stand::Attached || claim.epoch != self.epoch;
        self.epoch = claim.epoch;
        if claim.phase <= Phase::Attach {
            self.until_us = None;
        }
        claim.phase == Phase::Attach && news
    }

    /// The vNIC is elsewhere.
    pub(super) fn leave(&mut self, linger_until_us: u64) {
        match self.stand {
            Stand::Attached => {
                self.stand = Stand::Leaving;
                self.until_us = Some(linger_until_us);
            }
            // It let nothing in.
            Stand::Prepared | Stand::Void => {
                self.stand = Stand::Over;
                self.until_us = None;
            }
            Stand::Leaving | Stand::Lingering | Stand::Over => {}
        }
    }

    pub(super) fn void(&mut self) {
        // What was left stays left: nobody may claim that epoch again.
        self.stand = if self.stand.is_left() { Stand::Over } else { Stand::Void };
        self.until_us = None;
    }

    pub(super) fn lingers_until_us(&self) -> Option<u64> {
        self.until_us
    }

    pub(super) fn end(&mut self) {
        (self.stand, self.until_us) = (Stand::Over, None);
    }
}
