//! Saving what came of a large TCP segment when a part of it was lost on the way.
//!
//! A 64 KB frame crosses the fabric in some 45 datagrams. Had its sender cut it, one lost
//! datagram would cost one or two of its segments. So the receiver cuts it, but only round
//! the hole:
//!
//! ```text
//! | headers | seg 0 | seg 1 | seg 2 | seg 3 | seg 4 | seg 5 |      as it was sent
//! | headers | seg 0 | seg 1 | se#### ##g 3 | seg 4 | seg 5 |       #: lost
//!
//! | headers | seg 0 | seg 1 |            keeps CWR, loses FIN and PSH
//! | headers | seg 4 | seg 5 |            IPv4 id + 4, sequence number + 4 sizes, loses CWR
//! ```
//!
//! Each run of segments that are whole becomes a frame of its own, again large if it has
//! more than one: cut, it gives exactly those segments that the whole frame would have
//! given ([`crate::segment`]). Nothing of a hole is ever in one.
//!
//! Only TCP is cut here, whose receiver puts the stream together by sequence numbers. Its
//! offload is checked against its headers first, and what comes out is checked by its
//! receiver like any other frame.

use crate::checksum::{Sum, pseudo_header};
use crate::headers::chunk;
use crate::segment::{CWR, FIN, IpHeader, PSH, TCP_HEADERS_MAX, put, to_u16};
use crate::{FrameRef, Gso, Headers, Layer4, Offload, OffloadError};
use std::iter;

/// A range of a frame's bytes that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived<'a> {
    /// Where in the frame it begins.
    pub at: usize,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What was saved of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Saved {
    /// Frames that were made.
    pub frames: u32,
    /// Wire segments in them.
    pub segments: u32,
    /// Wire segments of the frame that are in none of them.
    pub lost_segments: u32,
}

/// Nothing can be saved of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SalvageError {
    /// The frame is not to be cut, so that it is of no use without its hole.
    #[error("the frame asks for no segmentation; only a large TCP segment can lose a part")]
    Whole,
    /// The hole is in the headers, which every piece needs.
    #[error("the frame's headers are lost")]
    Headers,
    /// The offload contradicts the headers.
    #[error(transparent)]
    Offload(#[from] OffloadError),
}

/// Makes frames of what `arrived` of a frame of `frame_len` bytes, and hands them to `each`
/// in order. The ranges are in order and do not overlap; the first begins with the frame.
///
/// # Errors
/// See [`SalvageError`]; `each` was not called then.
pub fn salvage<'a>(
    offload: &Offload,
    frame_len: usize,
    arrived: impl IntoIterator<Item = Arrived<'a>>,
    each: &mut impl FnMut(&FrameRef<'_>),
) -> Result<Saved, SalvageError> {
    let gso = offload.gso.ok_or(SalvageError::Whole)?;
    let mut arrived = arrived.into_iter();
    let first = arrived.next().filter(|first| first.at == 0).ok_or(SalvageError::Headers)?;
    let mut torn = Torn::new(offload, gso, frame_len, first.bytes)?;
    let mut saved = Saved::default();
    for range in iter::once(first).chain(arrived) {
        let Some(run) = torn.run_in(&range) else { continue };
        saved.frames += 1;
        saved.segments += run.end - run.first;
        let offload = torn.write_head(&run);
        let head = torn.head.get(..torn.header_len).unwrap_or_default();
        each(&FrameRef::new(&[head, run.payload], offload));
    }
    saved.lost_segments = torn.segments.saturating_sub(saved.segments);
    Ok(saved)
}

/// Segments that follow each other and arrived whole.
struct Run<'a> {
    /// The first of them.
    first: u32,
    /// The one behind the last.
    end: u32,
    /// Payload bytes before them.
    sent: usize,
    payload: &'a [u8],
}

/// A frame with a hole: its headers and its measures.
struct Torn {
    /// The headers, rewritten for each run.
    head: [u8; TCP_HEADERS_MAX],
    header_len: usize,
    payload_len: usize,
    /// Payload bytes of a segment, not 0.
    size: usize,
    /// Segments of the whole frame.
    segments: u32,
    offload: Offload,
    gso: Gso,
    l4_offset: usize,
    ip: IpHeader,
    /// The pseudo-header without length.
    pseudo: Sum,
    sequence: u32,
    flags: u8,
}

impl Torn {
    /// Reads the headers at the start of `start`, the frame's first bytes.
    fn new(
        offload: &Offload,
        gso: Gso,
        frame_len: usize,
        start: &[u8],
    ) -> Result<Self, SalvageError> {
        let headers = Headers::parse(start, frame_len).map_err(OffloadError::from)?;
        if headers.layer4 == Layer4::Hidden {
            return Err(SalvageError::Headers);
        }
        // The network's MTU is the receiver's to check, of the frames that are made.
        offload.check_parsed(&headers, frame_len, u16::MAX)?;
        Self::read(offload, gso, frame_len, start, &headers).ok_or(SalvageError::Headers)
    }

    /// `None` if the headers have not arrived whole.
    fn read(
        offload: &Offload,
        gso: Gso,
        frame_len: usize,
        start: &[u8],
        headers: &Headers,
    ) -> Option<Self> {
        let header_len = headers.header_len();
        let header = start.get(..header_len)?;
        let mut head = [0; TCP_HEADERS_MAX];
        head.get_mut(..header_len)?.copy_from_slice(header);
        let payload_len = frame_len.checked_sub(header_len)?;
        let size = usize::from(gso.size).max(1);
        let [_, _, _, _, s0, s1, s2, s3, ..] = *chunk::<20>(header, headers.l4_offset())?;
        Some(Self {
            head,
            header_len,
            payload_len,
            size,
            segments: u32::try_from(payload_len.div_ceil(size)).ok()?,
            offload: *offload,
            gso,
            l4_offset: headers.l4_offset(),
            ip: IpHeader::new(headers, header)?,
            pseudo: pseudo_header(headers, header)?,
            sequence: u32::from_be_bytes([s0, s1, s2, s3]),
            flags: headers.tcp_flags,
        })
    }

    /// The segments that lie wholly in `range`.
    fn run_in<'a>(&self, range: &Arrived<'a>) -> Option<Run<'a>> {
        let payload = range.bytes.get(self.header_len.saturating_sub(range.at)..)?;
        let from = range.at.saturating_sub(self.header_len);
        let to = from + payload.len();
        let first = from.div_ceil(self.size);
        // The last one is shorter.
        let (end, sent_end) = if to >= self.payload_len {
            (self.payload_len.div_ceil(self.size), self.payload_len)
        } else {
            (to / self.size, to - to % self.size)
        };
        let sent = first * self.size;
        if first >= end {
            return None;
        }
        Some(Run {
            first: u32::try_from(first).ok()?,
            end: u32::try_from(end).ok()?,
            sent,
            payload: payload.get(sent - from..sent_end - from)?,
        })
    }

    /// Makes the headers those of `run`, and says what is left to do with it.
    fn write_head(&mut self, run: &Run<'_>) -> Offload {
        let frame_len = self.header_len + run.payload.len();
        self.ip.apply(&mut self.head, frame_len, run.first);
        let mut flags = self.flags;
        if run.first > 0 {
            flags &= !CWR;
        }
        if run.end < self.segments {
            flags &= !(FIN | PSH);
        }
        // A run is no longer than the frame was, whose payload has less than 4 GiB.
        let sent = u32::try_from(run.sent).unwrap_or(u32::MAX);
        let sequence = self.sequence.wrapping_add(sent);
        let open = self.pseudo.with_u16(to_u16(frame_len - self.l4_offset)).value();
        put(&mut self.head, self.l4_offset + 4, sequence.to_be_bytes());
        put(&mut self.head, self.l4_offset + 13, [flags]);
        put(&mut self.head, self.l4_offset + 16, open.to_be_bytes());
        let gso = Gso { ecn: self.gso.ecn && run.first == 0, ..self.gso };
        Offload { gso: (run.end - run.first > 1).then_some(gso), ..self.offload }
    }
}

#[cfg(test)]
mod tests;
