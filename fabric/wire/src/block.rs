//! The 24 bytes before a block's payload.
//!
//! ```text
//!   0                                                              8
//!  +---------------------------------------------------------------+
//!  |                     destination (endpoint)                    |
//!  +---------------------------------------------------------------+
//!  |                     source (endpoint)                         |
//!  +---------------+-------+-------+---------------+---------------+
//!  |    len_low    | flags |cs_off |  csum_start   |   gso_size    |
//!  +---------------+-------+-------+---------------+---------------+
//! ```
//!
//! Little endian. There is one way to write each block: a field that means
//! nothing is zero, and fields that contradict each other are an error, so that
//! nothing can hide in a header. What a header says of its frame (is there TCP
//! where the checksum is asked for?) is for the frame's reader to check.

use crate::Endpoint;
use wireonce_frame::{ChecksumRequest, FRAME_LEN_MAX, Gso, GsoKind, Offload};

/// Bytes of a block header.
pub const BLOCK_HEADER_LEN: usize = 24;

/// Longest payload of a block for [`Endpoint::Link`], in bytes.
pub const LINK_BLOCK_LEN_MAX: usize = 4096;

const LEN_BIT_16: u8 = 0x01;
const CHECKSUM_REQUESTED: u8 = 0x02;
const CHECKSUM_VALID: u8 = 0x04;
const GSO_ECN: u8 = 0x08;
const GSO_KIND: u8 = 0x30;
const GSO_TCP_V4: u8 = 0x10;
const GSO_TCP_V6: u8 = 0x20;
const RESERVED: u8 = 0xc0;

/// The header of a block: whose frame it is, how long, and what is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// Who gets the frame.
    pub destination: Endpoint,
    /// Who sent it; a vNIC or an uplink, or [`Endpoint::Link`] to the link.
    pub source: Endpoint,
    /// Bytes of payload, 1 to [`FRAME_LEN_MAX`] (link: [`LINK_BLOCK_LEN_MAX`]).
    pub len: u32,
    /// Work that the frame's sender left to others.
    pub offload: Offload,
}

/// Twenty-four bytes are not a block header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Length zero: no block but padding to the datagram's end.
    #[error("a block of length 0 is padding")]
    Empty,
    /// The payload is longer than a block may be.
    #[error(
        "a block of {0} bytes; a frame has at most {FRAME_LEN_MAX}, a link message {LINK_BLOCK_LEN_MAX}"
    )]
    Long(u32),
    /// A flag that must be zero is not.
    #[error("reserved flags {0:#04x}; they must be zero")]
    Reserved(u8),
    /// The destination has the form of no endpoint.
    #[error("destination {0:#018x} is no endpoint")]
    Destination(u64),
    /// The source has the form of no endpoint, or of one that sends nothing there.
    #[error("source {0:#018x} is no vNIC or uplink (or, to the link, not the link)")]
    Source(u64),
    /// Checksum fields that are unused and not zero, that lie outside the frame,
    /// or an open checksum that is also said to be valid.
    #[error("checksum fields that are unused and not zero, outside the frame, or contradictory")]
    Checksum,
    /// Segmentation of unknown kind, without a size, or a size or ECN without a kind.
    #[error("segmentation of unknown kind, without a size, or a size or ECN without a kind")]
    Gso,
    /// A message to the link with offload fields.
    #[error("a block to the link has offload fields; they must be zero")]
    LinkOffload,
}

impl BlockHeader {
    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`BlockError::Empty`] for padding; any other error for bytes that are not
    /// the wire form of a header.
    // Called, it costs a copy of the result, whose wide loads stall on the narrow
    // stores before them.
    #[inline(always)]
    pub fn parse(bytes: &[u8; BLOCK_HEADER_LEN]) -> Result<Self, BlockError> {
        let [words @ .., l0, l1, flags, offset, s0, s1, g0, g1] = *bytes;
        let [d0, d1, d2, d3, d4, d5, d6, d7, o0, o1, o2, o3, o4, o5, o6, o7] = words;
        let len = u32::from_le_bytes([l0, l1, flags & LEN_BIT_16, 0]);
        let start = u16::from_le_bytes([s0, s1]);
        let gso_size = u16::from_le_bytes([g0, g1]);
        if len == 0 {
            return Err(BlockError::Empty);
        }
        if flags & RESERVED != 0 {
            return Err(BlockError::Reserved(flags & RESERVED));
        }
        let (destination, source) = parse_endpoints(
            u64::from_le_bytes([d0, d1, d2, d3, d4, d5, d6, d7]),
            u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
        )?;
        let offload = Offload {
            checksum: parse_checksum(flags, start, offset, len)?,
            checksum_valid: flags & CHECKSUM_VALID != 0,
            gso: parse_gso(flags, gso_size)?,
        };
        if len_usize(len) > len_max(destination) {
            return Err(BlockError::Long(len));
        }
        if destination == Endpoint::Link && offload != Offload::default() {
            return Err(BlockError::LinkOffload);
        }
        Ok(Self { destination, source, len, offload })
    }

    /// The wire form.
    ///
    /// An offload that no frame can have is left out, because its header would
    /// cost the blocks behind it: a segment size of 0, a checksum outside the
    /// frame, and "valid" of a checksum that is still open. The frame's own
    /// receiver then judges it by its bytes.
    #[inline]
    #[must_use]
    pub fn emit(&self) -> [u8; BLOCK_HEADER_LEN] {
        let [l0, l1, l2, _] = self.len.to_le_bytes();
        let mut flags = l2 & LEN_BIT_16;
        let mut request = ChecksumRequest { start: 0, offset: 0 };
        match self.offload.checksum {
            Some(open) if lies_inside(open, self.len) => {
                flags |= CHECKSUM_REQUESTED;
                request = open;
            }
            _ if self.offload.checksum_valid => flags |= CHECKSUM_VALID,
            _ => {}
        }
        let mut gso_size = 0;
        if let Some(gso) = self.offload.gso.filter(|gso| gso.size != 0) {
            gso_size = gso.size;
            flags |= match gso.kind {
                GsoKind::TcpV4 => GSO_TCP_V4,
                GsoKind::TcpV6 => GSO_TCP_V6,
            };
            flags |= if gso.ecn { GSO_ECN } else { 0 };
        }
        let [s0, s1] = request.start.to_le_bytes();
        let [g0, g1] = gso_size.to_le_bytes();
        let mut bytes = [0; BLOCK_HEADER_LEN];
        bytes[..8].copy_from_slice(&self.destination.to_bits().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.source.to_bits().to_le_bytes());
        bytes[16..].copy_from_slice(&[l0, l1, flags, request.offset, s0, s1, g0, g1]);
        bytes
    }
}

/// The longest payload, in bytes, of a block to `destination`.
pub(crate) fn len_max(destination: Endpoint) -> usize {
    if destination == Endpoint::Link { LINK_BLOCK_LEN_MAX } else { FRAME_LEN_MAX }
}

/// A block's length as an index. It has 17 bits, so it fits everywhere.
#[inline]
pub(crate) fn len_usize(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// A network is a destination only, and the link talks to itself only.
#[inline]
fn parse_endpoints(destination: u64, source: u64) -> Result<(Endpoint, Endpoint), BlockError> {
    let to = Endpoint::from_bits(destination).ok_or(BlockError::Destination(destination))?;
    let from = Endpoint::from_bits(source).ok_or(BlockError::Source(source))?;
    let allowed = match from {
        Endpoint::Link => to == Endpoint::Link,
        Endpoint::Vnic(_) | Endpoint::Uplink(_) => to != Endpoint::Link,
        Endpoint::Network(_) => false,
    };
    if allowed { Ok((to, from)) } else { Err(BlockError::Source(source)) }
}

#[inline]
fn parse_checksum(
    flags: u8,
    start: u16,
    offset: u8,
    len: u32,
) -> Result<Option<ChecksumRequest>, BlockError> {
    if flags & CHECKSUM_REQUESTED == 0 {
        let unused = start == 0 && offset == 0;
        return if unused { Ok(None) } else { Err(BlockError::Checksum) };
    }
    let request = ChecksumRequest { start, offset };
    let contradicts = flags & CHECKSUM_VALID != 0 || !lies_inside(request, len);
    if contradicts { Err(BlockError::Checksum) } else { Ok(Some(request)) }
}

/// True if the two bytes of the checksum lie inside a frame of `len` bytes.
#[inline]
fn lies_inside(request: ChecksumRequest, len: u32) -> bool {
    u32::from(request.start) + u32::from(request.offset) + 2 <= len
}

#[inline]
fn parse_gso(flags: u8, size: u16) -> Result<Option<Gso>, BlockError> {
    let kind = match flags & GSO_KIND {
        0 if size == 0 && flags & GSO_ECN == 0 => return Ok(None),
        GSO_TCP_V4 if size != 0 => GsoKind::TcpV4,
        GSO_TCP_V6 if size != 0 => GsoKind::TcpV6,
        _ => return Err(BlockError::Gso),
    };
    Ok(Some(Gso { kind, size, ecn: flags & GSO_ECN != 0 }))
}

#[cfg(test)]
mod tests;
