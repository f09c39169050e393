//! The sender's side: what was in which datagrams, until its fate is known.

use super::Evidence;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use wireonce_ledger::{Account, Amount, DropReason};

/// Entries of one path: at 48 bytes each, 1.5 MB when a receiver is silent while
/// small frames go out at full rate. Memory grows only as far as it is used.
pub const FATES_MAX: usize = 32_768;

/// How far back [`Fates::sent`] looks for an entry to add to: small frames of
/// several vNICs that share a datagram.
const MERGE_BACK: usize = 8;

/// What became of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// Every datagram that carried a part of them arrived.
    Arrived,
    /// At least one did not.
    Lost,
    /// No report tells.
    Unknown,
}

impl Fate {
    /// Books it for `amount`, which `account` has as input since it was sent.
    pub fn book(self, account: &mut Account, amount: Amount) {
        match self {
            Self::Arrived => account.output += amount,
            Self::Lost => account.drop(DropReason::LostInFabric, amount),
            Self::Unknown => account.drop(DropReason::FateUnknown, amount),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    first: u64,
    last: u64,
    vnic: u64,
    amount: Amount,
}

/// What reports said about the oldest entry while it was not wholly covered.
#[derive(Debug, Clone, Copy, Default)]
struct Partial {
    /// Covered without a hole up to here; zero: nothing yet.
    seen_to: u64,
    lost: bool,
}

/// The frames in flight on one path of one session, oldest first.
#[derive(Debug, Clone)]
pub struct Fates {
    entries: VecDeque<Entry>,
    capacity: usize,
    oldest: Partial,
}

impl Default for Fates {
    fn default() -> Self {
        Self::new()
    }
}

impl Fates {
    /// Remembers at most [`FATES_MAX`] entries.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(FATES_MAX)
    }

    /// Remembers at most `capacity` entries, at least one.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { entries: VecDeque::new(), capacity: capacity.max(1), oldest: Partial::default() }
    }

    /// Frames of `vnic` went out in the datagrams `span`. Spans come in the order
    /// of sending: each begins where the one before ended, or later.
    ///
    /// When there is no room, the oldest entry is returned: its fate is unknown.
    #[must_use = "what is returned is to be booked as unknown"]
    pub fn sent(
        &mut self,
        span: RangeInclusive<u64>,
        vnic: u64,
        amount: Amount,
    ) -> Option<(u64, Amount)> {
        let (first, last) = span.into_inner();
        debug_assert!(self.entries.back().is_none_or(|entry| {
            entry.last <= first || (entry.first, entry.last) == (first, last)
        }));
        // Mostly the frame before was the same vNIC's, in the same datagram.
        if let Some(entry) = self.entries.back_mut()
            && (entry.first, entry.last, entry.vnic) == (first, last, vnic)
        {
            entry.amount += amount;
            return None;
        }
        let newest = self.entries.iter_mut().rev().take(MERGE_BACK);
        let mut same_span = newest.take_while(|entry| (entry.first, entry.last) == (first, last));
        if let Some(entry) = same_span.find(|entry| entry.vnic == vnic) {
            entry.amount += amount;
            return None;
        }
        let surplus = if self.entries.len() >= self.capacity { self.pop() } else { None };
        self.entries.push_back(Entry { first, last, vnic, amount });
        surplus.map(|entry| (entry.vnic, entry.amount))
    }

    /// Takes a report: calls `book` for everything whose fate it decides.
    pub fn resolve(&mut self, evidence: &Evidence, book: &mut impl FnMut(u64, Amount, Fate)) {
        let mut gaps = evidence.missing().peekable();
        while let Some(&entry) = self.entries.front()
            && entry.first < evidence.to()
        {
            while gaps.next_if(|gap| gap.end <= entry.first).is_some() {}
            // The gap is needed again for the next entry.
            let lost = gaps.peek().is_some_and(|gap| gap.start <= entry.last);
            self.oldest.lost |= lost;
            let seen_to = self.oldest.seen_to.max(entry.first);
            let covered = evidence.from() <= seen_to;
            if entry.last >= evidence.to() {
                // Its end is not final yet. No later entry is touched either.
                if covered {
                    self.oldest.seen_to = seen_to.max(evidence.to());
                }
                return;
            }
            let fate = match (self.oldest.lost, covered) {
                (true, _) => Fate::Lost,
                (false, true) => Fate::Arrived,
                (false, false) => Fate::Unknown,
            };
            self.pop();
            book(entry.vnic, entry.amount, fate);
        }
    }

    /// The session is over: everything still open has an unknown fate.
    pub fn abandon(&mut self, book: &mut impl FnMut(u64, Amount, Fate)) {
        while let Some(entry) = self.pop() {
            book(entry.vnic, entry.amount, Fate::Unknown);
        }
    }

    /// The number of the oldest datagram whose fate is open. If it does not change
    /// for long, a probe is due: the last datagrams before a pause may be lost, and
    /// only a later one shows it.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.first)
    }

    /// Whether nothing is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn pop(&mut self) -> Option<Entry> {
        self.oldest = Partial::default();
        self.entries.pop_front()
    }
}
