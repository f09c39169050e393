//! Loss evidence: the receiver tells the sender which packet numbers arrived, so
//! that a lost datagram's frames are booked to their vNICs.
//!
//! ```text
//!  sender                                              receiver
//!  Fates: number span -> vNIC, amount                  ReplayWindow, edge
//!    sent() ────────────── datagrams ────────────────────> mark()
//!    resolve() <────────── Evidence [from, to), missing ── EvidenceBuilder
//! ```
//!
//! A report covers `[from, to)`: numbers that are all *final*, because the unpacker
//! has gone past them. A datagram that comes later than that is refused as too old
//! and must not be marked, or the same number would be told first as lost and then
//! as arrived. Reports overlap as far back as they have room, so that a lost
//! report costs nothing; what no report ever covers has an unknown fate.
//!
//! Encoding of a report, little endian:
//!
//! ```text
//!  0  from   8
//!  8  span   2   to - from, 1 to 4,096
//! 10  count  2   of gaps, at most 64
//! 12  count times: offset 2 (from `from`), length 2; rising, apart from each other
//! ```

mod builder;
mod fates;

pub use builder::EvidenceBuilder;
pub use fates::{FATES_MAX, Fate, Fates};

use crate::replay::WINDOW;
use std::ops::Range;

/// The most gaps in one report.
pub const GAPS_MAX: usize = 64;

/// The longest encoded report, in bytes.
pub const EVIDENCE_LEN_MAX: usize = HEAD_LEN + GAPS_MAX * GAP_LEN;

const HEAD_LEN: usize = 12;
const GAP_LEN: usize = 4;

/// Why bytes are not a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a loss report: {0}")]
pub struct EvidenceError(&'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Gap {
    offset: u16,
    len: u16,
}

/// A report: which of `[from, to)` did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    from: u64,
    span: u16,
    count: usize,
    gaps: [Gap; GAPS_MAX],
}

impl Evidence {
    /// A report on `numbers` of which none is missing yet. `None` when empty, or
    /// longer than the replay window.
    #[must_use]
    pub fn new(numbers: Range<u64>) -> Option<Self> {
        let span = numbers.end.checked_sub(numbers.start)?;
        let span = u16::try_from(span).ok().filter(|span| valid_span(*span))?;
        Some(Self { from: numbers.start, span, count: 0, gaps: [Gap::default(); GAPS_MAX] })
    }

    /// Adds a run of missing numbers, in rising order. `false`: it does not fit, is
    /// not inside, or is not apart from the one before.
    #[must_use]
    pub fn push(&mut self, missing: &Range<u64>) -> bool {
        self.gap(missing).is_some_and(|gap| self.push_gap(gap))
    }

    /// The first number that the report covers.
    #[must_use]
    pub fn from(&self) -> u64 {
        self.from
    }

    /// One more than the last number that the report covers.
    #[must_use]
    pub fn to(&self) -> u64 {
        // Construction has checked that it does not overflow.
        self.from.saturating_add(self.span.into())
    }

    /// The runs that did not arrive, rising.
    pub fn missing(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.gaps.iter().take(self.count).map(|gap| {
            let start = self.from.saturating_add(gap.offset.into());
            start..start.saturating_add(gap.len.into())
        })
    }

    /// Appends the encoded report.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.from.to_le_bytes());
        bytes.extend_from_slice(&self.span.to_le_bytes());
        let count = u16::try_from(self.count).unwrap_or(0);
        bytes.extend_from_slice(&count.to_le_bytes());
        for gap in self.gaps.iter().take(self.count) {
            bytes.extend_from_slice(&gap.offset.to_le_bytes());
            bytes.extend_from_slice(&gap.len.to_le_bytes());
        }
    }

    /// The report in `bytes`, all of them.
    ///
    /// # Errors
    /// Anything that [`Self::encode`] would not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let (from, rest) = bytes.split_first_chunk().ok_or(EvidenceError("too short"))?;
        let (head, gaps) = rest.split_first_chunk().ok_or(EvidenceError("too short"))?;
        let [s0, s1, c0, c1] = *head;
        let from = u64::from_le_bytes(*from);
        let span = u16::from_le_bytes([s0, s1]);
        if !valid_span(span) || from.checked_add(span.into()).is_none() {
            return Err(EvidenceError("it covers nothing, or more than the replay window"));
        }
        let count = usize::from(u16::from_le_bytes([c0, c1]));
        if count > GAPS_MAX || gaps.len() != count * GAP_LEN {
            return Err(EvidenceError("its length contradicts its number of gaps"));
        }
        let mut evidence = Self { from, span, count: 0, gaps: [Gap::default(); GAPS_MAX] };
        let (gaps, _) = gaps.as_chunks::<GAP_LEN>();
        for &[o0, o1, l0, l1] in gaps {
            let offset = u16::from_le_bytes([o0, o1]);
            let len = u16::from_le_bytes([l0, l1]);
            if !evidence.push_gap(Gap { offset, len }) {
                return Err(EvidenceError("its gaps overlap, touch, or leave its range"));
            }
        }
        Ok(evidence)
    }

    fn gap(&self, missing: &Range<u64>) -> Option<Gap> {
        let offset = u16::try_from(missing.start.checked_sub(self.from)?).ok()?;
        let len = u16::try_from(missing.end.checked_sub(missing.start)?).ok()?;
        Some(Gap { offset, len })
    }

    fn push_gap(&mut self, gap: Gap) -> bool {
        let before = self.count.checked_sub(1).and_then(|last| self.gaps.get(last));
        let apart = before.is_none_or(|before| gap.offset > before.offset + before.len);
        let inside =
            gap.len > 0 && gap.offset.checked_add(gap.len).is_some_and(|end| end <= self.span);
        match self.gaps.get_mut(self.count) {
            Some(slot) if apart && inside => {
                *slot = gap;
                self.count += 1;
                true
            }
            _ => false,
        }
    }
}

fn valid_span(span: u16) -> bool {
    span > 0 && u64::from(span) <= WINDOW
}

#[cfg(test)]
mod tests;
