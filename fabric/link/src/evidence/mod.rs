//! Loss evidence: the receiver tells the sender which packet numbers arrived, so
//! that a lost datagram's frames are booked to their vNICs.
//!
//! ```text
//!  sender                                              receiver
//!  Fates: number span -> vNIC, amount                  ReplayWindow, edge
//!    sent() ────────────── datagrams ────────────────────> mark()
//!    resolve() <────────── Evidence [from, to), missing ── about()
//! ```
//!
//! A report covers `[from, to)`: numbers that are all *final*, because the unpacker
//! has gone past them. A datagram that comes later than that is refused as too old
//! and must not be marked, or the same number would be told first as lost and then
//! as arrived. Every report covers the whole replay window, so that a lost report
//! costs nothing while the window has not moved past what it said; what no report
//! ever covers has an unknown fate.
//!
//! Encoding of a report, little endian:
//!
//! ```text
//!  0  from   8
//!  8  span   2   to - from, 1 to 4,096
//! 10  count  2   of gaps, at most 64; or 65,535
//! 12  count times: offset 2 (from `from`), length 2; rising, apart from each other
//!     or, instead of more than 64 gaps, span bits: bit i of byte j stands for
//!     `from + 8 j + i`, 1 for missing; the last byte's spare bits are 0
//! ```

mod fates;

pub use fates::{FATES_MAX, Fate, Fates};

use crate::replay::{ReplayWindow, WINDOW};
use std::ops::Range;

/// The most gaps that a report lists; more are told bit by bit.
const LISTED_MAX: usize = 64;

/// The longest encoded report, in bytes: one bit for each number of the window.
pub const EVIDENCE_LEN_MAX: usize = HEAD_LEN + 512;

const HEAD_LEN: usize = 12;
const GAP_LEN: usize = 4;
/// Stands for the count of gaps where bits follow.
const BITS: u16 = u16::MAX;

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
    gaps: Vec<Gap>,
}

impl Evidence {
    /// A report on `numbers` of which none is missing yet. `None` when empty, or
    /// longer than the replay window.
    #[must_use]
    pub fn new(numbers: Range<u64>) -> Option<Self> {
        let span = numbers.end.checked_sub(numbers.start)?;
        let span = u16::try_from(span).ok().filter(|span| valid_span(*span))?;
        Some(Self { from: numbers.start, span, gaps: Vec::new() })
    }

    /// What `window` knows of the numbers from `first` on, below `edge`: one more than
    /// the last number that the unpacker has gone past. `None`: nothing that was
    /// received is final.
    #[must_use]
    pub fn about(window: &ReplayWindow, first: u64, edge: u64) -> Option<Self> {
        let numbers = window.lowest().max(first)..edge.min(window.edge());
        let mut evidence = Self::new(numbers.clone())?;
        for missing in window.missing(numbers) {
            // Always fits; a gap that is left out would be a false "arrived", so rather
            // nothing.
            if !evidence.push(&missing) {
                return None;
            }
        }
        Some(evidence)
    }

    /// Adds a run of missing numbers, in rising order. `false`: it is not inside, or
    /// not apart from the one before.
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
        self.gaps.iter().map(|gap| {
            let start = self.from.saturating_add(gap.offset.into());
            start..start.saturating_add(gap.len.into())
        })
    }

    /// Appends the encoded report.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.from.to_le_bytes());
        bytes.extend_from_slice(&self.span.to_le_bytes());
        if self.gaps.len() > LISTED_MAX {
            bytes.extend_from_slice(&BITS.to_le_bytes());
            bytes.extend_from_slice(&self.bits());
            return;
        }
        let count = u16::try_from(self.gaps.len()).unwrap_or(0);
        bytes.extend_from_slice(&count.to_le_bytes());
        for gap in &self.gaps {
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
        let mut evidence = Self { from, span, gaps: Vec::new() };
        let count = u16::from_le_bytes([c0, c1]);
        if count == BITS {
            return evidence.read_bits(gaps).map(|()| evidence);
        }
        let count = usize::from(count);
        if count > LISTED_MAX || gaps.len() != count * GAP_LEN {
            return Err(EvidenceError("its length contradicts its number of gaps"));
        }
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
        let apart = self.gaps.last().is_none_or(|before| gap.offset > before.offset + before.len);
        let inside =
            gap.len > 0 && gap.offset.checked_add(gap.len).is_some_and(|end| end <= self.span);
        if apart && inside {
            self.gaps.push(gap);
        }
        apart && inside
    }

    fn bits(&self) -> Vec<u8> {
        let mut bits = vec![0; usize::from(self.span).div_ceil(8)];
        for at in self.gaps.iter().flat_map(|gap| gap.offset..gap.offset + gap.len) {
            if let Some(byte) = bits.get_mut(usize::from(at / 8)) {
                *byte |= 1 << (at % 8);
            }
        }
        bits
    }

    fn read_bits(&mut self, bits: &[u8]) -> Result<(), EvidenceError> {
        if bits.len() != usize::from(self.span).div_ceil(8) {
            return Err(EvidenceError("its length contradicts its range"));
        }
        let mut open: Option<Gap> = None;
        for at in 0..self.span {
            let byte = bits.get(usize::from(at / 8)).copied().unwrap_or(0);
            let missing = byte >> (at % 8) & 1 == 1;
            open = match (open, missing) {
                (None, true) => Some(Gap { offset: at, len: 1 }),
                (Some(gap), true) => Some(Gap { len: gap.len + 1, ..gap }),
                (Some(gap), false) => {
                    self.gaps.push(gap);
                    None
                }
                (None, false) => None,
            };
        }
        self.gaps.extend(open);
        // One report has one form.
        if self.gaps.len() <= LISTED_MAX || self.bits() != bits {
            return Err(EvidenceError("bits for few gaps, or behind the end"));
        }
        Ok(())
    }
}

fn valid_span(span: u16) -> bool {
    span > 0 && u64::from(span) <= WINDOW
}

#[cfg(test)]
mod tests;
