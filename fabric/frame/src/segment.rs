//! Cutting a large TCP segment, or datagrams that were joined, into frames that fit
//! the wire.
//!
//! The guest's 64 KB frame crosses the whole path in one piece. Only the last
//! hop cuts it, and only where it must: a guest without `GUEST_TSO`, a port
//! without the offload. [`segment`] does in software what a NIC does:
//!
//! ```text
//! | Ethernet | IP | TCP | payload 0 | payload 1 | payload 2 |
//!      |                  |
//!      v  copied          v  `size` bytes each, the last one shorter
//! | Ethernet | IP | TCP | payload 0 |     first: keeps CWR, loses FIN and PSH
//! | Ethernet | IP | TCP | payload 1 |     IPv4 id + 1, sequence number + size
//! | Ethernet | IP | TCP | payload 2 |     last: keeps FIN and PSH, loses CWR
//! ```
//!
//! UDP (`VIRTIO_NET_HDR_GSO_UDP_L4`) is cut in the same way: each segment has the UDP
//! header with its own length. Only what [`crate::coalesce`] joined comes in this shape.
//!
//! The sums over the header fields that stay the same are taken once; a segment
//! adds its length, its sequence number, its flags and its payload.

use crate::checksum::{OutOfFrame, Sum, complete, nonzero, pseudo_header};
use crate::headers::{HeaderError, chunk};
use crate::{
    FrameRef, HEAD_LEN, Headers, Layer3, Layer4, Offload, WIRE_FRAME_LEN_MIN, WIRE_OVERHEAD_LEN,
};

/// Longest headers of a TCP frame: two VLAN tags, IPv4 with all options, TCP
/// with all options. An IPv6 chain ends within the head, before the TCP header.
pub(crate) const TCP_HEADERS_MAX: usize = HEAD_LEN + 60;

/// Bytes of a UDP header.
pub(crate) const UDP_LEN: usize = 8;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const CWR: u8 = 0x80;

/// The frame cannot be made ready for a wire. It never happens to a frame whose
/// offload passed [`Offload::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The headers make no sense.
    #[error("the frame to cut has wrong headers: {0}")]
    Headers(#[from] HeaderError),
    /// Not a TCP packet.
    #[error("the frame to cut is no TCP packet")]
    NotTcp,
    /// Neither a TCP nor a UDP packet.
    #[error("the frame to cut is neither a TCP nor a UDP packet")]
    Uncuttable,
    /// The open checksum is not within the frame.
    #[error(transparent)]
    Checksum(#[from] OutOfFrame),
}

/// What a frame costs on a wire once it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireCost {
    /// Frames.
    pub segments: u32,
    /// Their bytes, at least [`WIRE_FRAME_LEN_MIN`] each, with the headers of each and
    /// [`WIRE_OVERHEAD_LEN`] each.
    pub bytes: u64,
}

/// How many frames a wire carries for a frame of `frame_len` bytes: 1 unless it
/// is to be cut.
#[inline]
#[must_use]
pub fn segment_count(frame_len: usize, offload: &Offload, headers: &Headers) -> u32 {
    let Some(gso) = offload.gso else { return 1 };
    let payload_len = frame_len.saturating_sub(headers.header_len());
    let count = payload_len.div_ceil(usize::from(gso.size).max(1)).max(1);
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The wire cost of a frame of `frame_len` bytes: what shapers, leases and policing charge.
/// Short frames are padded to what a wire carries.
#[inline]
#[must_use]
pub fn wire_cost(frame_len: usize, offload: &Offload, headers: &Headers) -> WireCost {
    WireCost::of(
        frame_len,
        segment_count(frame_len, offload, headers),
        offload,
        headers.header_len(),
    )
}

impl WireCost {
    /// One frame of the smallest size.
    pub const SHORTEST: Self =
        Self { segments: 1, bytes: (WIRE_FRAME_LEN_MIN + WIRE_OVERHEAD_LEN) as u64 };

    /// [`wire_cost`] of a frame that is `segments` frames with headers of `header_len` bytes.
    #[inline]
    #[must_use]
    pub fn of(frame_len: usize, segments: u32, offload: &Offload, header_len: usize) -> Self {
        let size = offload.gso.map_or(0, |gso| usize::from(gso.size));
        let padded = |len: usize| (len.max(WIRE_FRAME_LEN_MIN) + WIRE_OVERHEAD_LEN) as u64;
        let whole = u64::from(segments.saturating_sub(1));
        let cut_off = usize::try_from(whole).unwrap_or(usize::MAX).saturating_mul(size);
        let last_len = frame_len.saturating_sub(cut_off);
        Self { segments, bytes: whole * padded(header_len + size) + padded(last_len) }
    }

    /// In bits, as rates are.
    #[inline]
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.bytes * 8
    }
}

/// Makes wire frames of `frame` and hands each to `each`, in order: cut if it
/// asks for segmentation, and with all checksums complete. `scratch` is reused
/// from call to call. Returns how many there were.
///
/// # Errors
/// See [`SegmentError`]; `each` was not called then.
pub fn segment(
    frame: &FrameRef<'_>,
    scratch: &mut Vec<u8>,
    each: &mut impl FnMut(&[u8]),
) -> Result<u32, SegmentError> {
    let Some(gso) = frame.offload.gso else {
        each(finish_checksum(frame, scratch)?);
        return Ok(1);
    };
    let mut head = [0; TCP_HEADERS_MAX];
    let (head, headers) = parse(frame, &mut head)?;
    if headers.layer4 != Layer4::Tcp {
        return Err(SegmentError::NotTcp);
    }
    cut_at(frame, head, &headers, gso.size, scratch, each)
}

/// Cuts a TCP or UDP frame into pieces of `size` payload bytes, whatever its offload says:
/// what a kernel does with a frame that [`crate::coalesce`] joined. Otherwise as [`segment`].
///
/// # Errors
/// See [`SegmentError`]; `each` was not called then.
pub fn cut(
    frame: &FrameRef<'_>,
    size: u16,
    scratch: &mut Vec<u8>,
    each: &mut impl FnMut(&[u8]),
) -> Result<u32, SegmentError> {
    let mut head = [0; TCP_HEADERS_MAX];
    let (head, headers) = parse(frame, &mut head)?;
    cut_at(frame, head, &headers, size, scratch, each)
}

fn parse<'h>(
    frame: &FrameRef<'_>,
    room: &'h mut [u8; TCP_HEADERS_MAX],
) -> Result<(&'h [u8], Headers), SegmentError> {
    let copied = frame.copy_at(0, room);
    let head = room.get(..copied).unwrap_or_default();
    Ok((head, Headers::parse(head, frame.frame_len())?))
}

fn cut_at(
    frame: &FrameRef<'_>,
    head: &[u8],
    headers: &Headers,
    size: u16,
    scratch: &mut Vec<u8>,
    each: &mut impl FnMut(&[u8]),
) -> Result<u32, SegmentError> {
    let header_len = match headers.layer4 {
        Layer4::Udp => headers.l4_offset() + UDP_LEN,
        _ => headers.header_len(),
    };
    let header = head.get(..header_len).ok_or(SegmentError::Uncuttable)?;
    let template = Template::new(headers, header).ok_or(SegmentError::Uncuttable)?;

    let step = size.max(1);
    let size = usize::from(step);
    let mut left = frame.frame_len().saturating_sub(header_len);
    let mut payload = Gather { parts: frame.parts_from(header_len), part: &[] };
    scratch.clear();
    scratch.extend_from_slice(header);
    scratch.resize(header_len + size.min(left), 0);
    let mut at = Place { index: 0, sent: 0, last: false };
    loop {
        let len = size.min(left);
        left -= len;
        at.last = left == 0;
        scratch.truncate(header_len + len);
        payload.read(scratch.get_mut(header_len..).unwrap_or_default());
        template.apply(scratch, &at);
        each(scratch);
        at.index += 1;
        at.sent = at.sent.wrapping_add(u32::from(step));
        if at.last {
            return Ok(at.index);
        }
    }
}

/// The whole frame in `scratch`, its open checksum complete. Not for a frame
/// that is to be cut.
///
/// # Errors
/// [`SegmentError::Checksum`]: the checksum field is not within the frame.
pub fn finish_checksum<'s>(
    frame: &FrameRef<'_>,
    scratch: &'s mut Vec<u8>,
) -> Result<&'s [u8], SegmentError> {
    scratch.clear();
    for part in frame.parts() {
        scratch.extend_from_slice(part);
    }
    if let Some(request) = frame.offload.checksum {
        complete(scratch, request)?;
    }
    Ok(scratch)
}

/// Which segment is being made.
struct Place {
    /// Its number, from 0.
    index: u32,
    /// Payload bytes before it.
    sent: u32,
    /// It is the last one.
    last: bool,
}

/// The fields that change from segment to segment, and the sums of the rest.
struct Template {
    ip: IpHeader,
    l4_offset: usize,
    transport: Transport,
}

/// The IP header's part of a [`Template`].
pub(crate) struct IpHeader {
    offset: usize,
    layer3: Layer3,
    id: u16,
    /// The IPv4 header without length, id and checksum.
    sum: Sum,
}

/// The transport header's part of a [`Template`].
enum Transport {
    Tcp {
        sequence: u32,
        data_offset: u8,
        flags: u8,
        /// Pseudo-header without length, TCP header without sequence number, flags
        /// and checksum.
        sum: Sum,
    },
    Udp {
        /// Pseudo-header without length, and the ports.
        sum: Sum,
    },
}

impl Template {
    fn new(headers: &Headers, header: &[u8]) -> Option<Self> {
        Some(Self {
            ip: IpHeader::new(headers, header)?,
            l4_offset: headers.l4_offset(),
            transport: Transport::new(headers, header)?,
        })
    }

    /// Rewrites the headers of the segment in `bytes`.
    fn apply(&self, bytes: &mut [u8], at: &Place) {
        let len = bytes.len();
        self.ip.apply(bytes, len, at.index);
        self.transport.apply(bytes.get_mut(self.l4_offset..).unwrap_or_default(), at);
    }
}

impl IpHeader {
    /// What is to be known of the IP header in `header`, which `headers` describes.
    pub(crate) fn new(headers: &Headers, header: &[u8]) -> Option<Self> {
        let offset = headers.l3_offset();
        let ip = header.get(offset..headers.l4_offset())?;
        let [_, _, _, _, i0, i1, ..] = *chunk::<20>(ip, 0)?;
        Some(Self {
            offset,
            layer3: headers.layer3,
            id: u16::from_be_bytes([i0, i1]),
            sum: Sum::default().with(ip.get(..2)?).with(ip.get(6..10)?).with(ip.get(12..)?),
        })
    }

    /// Rewrites the IP header at the start of `bytes` for segment `index`, or for several from
    /// there on, as a frame of `frame_len` bytes.
    pub(crate) fn apply(&self, bytes: &mut [u8], frame_len: usize, index: u32) {
        let ip_len = to_u16(frame_len.saturating_sub(self.offset));
        if self.layer3 == Layer3::Ipv4 {
            let id = self.id.wrapping_add((index & 0xffff) as u16);
            let sum = self.sum.with_u16(ip_len).with_u16(id).checksum();
            put(bytes, self.offset + 2, ip_len.to_be_bytes());
            put(bytes, self.offset + 4, id.to_be_bytes());
            put(bytes, self.offset + 10, sum.to_be_bytes());
        } else {
            put(bytes, self.offset + 4, ip_len.saturating_sub(40).to_be_bytes());
        }
    }
}

impl Transport {
    fn new(headers: &Headers, header: &[u8]) -> Option<Self> {
        let l4 = header.get(headers.l4_offset()..)?;
        let sum = pseudo_header(headers, header)?.with(l4.get(..4)?);
        match headers.layer4 {
            Layer4::Udp => Some(Self::Udp { sum }),
            Layer4::Tcp => {
                let [_, _, _, _, s0, s1, s2, s3, _, _, _, _, data_offset, flags, ..] =
                    *chunk::<20>(l4, 0)?;
                Some(Self::Tcp {
                    sequence: u32::from_be_bytes([s0, s1, s2, s3]),
                    data_offset,
                    flags,
                    sum: sum.with(l4.get(8..12)?).with(l4.get(14..16)?).with(l4.get(18..)?),
                })
            }
            _ => None,
        }
    }

    /// Rewrites the transport header that `l4`, the segment from there on, begins with.
    fn apply(&self, l4: &mut [u8], at: &Place) {
        let len = to_u16(l4.len());
        match *self {
            Self::Udp { sum } => {
                let payload = l4.get(UDP_LEN..).unwrap_or_default();
                // The length is in the pseudo-header and in the header.
                let sum = sum.with_u16(len).with_u16(len).with(payload).checksum();
                put(l4, 4, len.to_be_bytes());
                put(l4, 6, nonzero(sum).to_be_bytes());
            }
            Self::Tcp { sequence, data_offset, mut flags, sum } => {
                let sequence = sequence.wrapping_add(at.sent);
                if !at.last {
                    flags &= !(FIN | PSH);
                }
                if at.index > 0 {
                    flags &= !CWR;
                }
                let options_end = usize::from(data_offset >> 4) * 4;
                let payload = l4.get(options_end..).unwrap_or_default();
                let sum = sum
                    .with_u16(len)
                    .with_u32(sequence)
                    .with_u16(u16::from_be_bytes([data_offset, flags]))
                    .with(payload)
                    .checksum();
                put(l4, 4, sequence.to_be_bytes());
                put(l4, 13, [flags]);
                put(l4, 16, sum.to_be_bytes());
            }
        }
    }
}

/// Reads a gather list front to back.
struct Gather<'a, I> {
    parts: I,
    part: &'a [u8],
}

impl<'a, I: Iterator<Item = &'a [u8]>> Gather<'a, I> {
    fn read(&mut self, mut dst: &mut [u8]) {
        while !dst.is_empty() {
            if self.part.is_empty() {
                let Some(part) = self.parts.next() else { return };
                self.part = part;
            }
            let n = dst.len().min(self.part.len());
            let (now, later) = self.part.split_at(n);
            let (to, rest) = dst.split_at_mut(n);
            to.copy_from_slice(now);
            (self.part, dst) = (later, rest);
        }
    }
}

/// Writes `value` at `at`, which is within the headers that were copied.
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(field) = bytes.get_mut(at..at + N) {
        field.copy_from_slice(&value);
    }
}

/// A segment's length: at most a header and 65,535 bytes of payload, and no
/// longer than the frame it was cut from.
pub(crate) fn to_u16(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
