//! Work that a frame's sender left to whoever sends it on: a checksum to
//! complete, a large TCP segment to cut (virtio 1.2, section 5.1.6).
//!
//! What a guest, a kernel or a peer says about its frame is a claim. It is
//! compared with the frame's own headers, and what travels on is rebuilt from
//! those: `csum_start` must be where the transport header is, `hdr_len` is
//! never looked at, and a wrong claim drops the frame at its source instead of
//! at some reader that trusts it (CVE-2024-11614).
//!
//! ```text
//! guest TX  --from_vnet------>  Offload  --check--> fabric --check-->  Offload  --to_vnet-->  guest RX
//! kernel    --from_kernel---->  (the same on both sides)                        --to_vnet-->  kernel
//! ```

use crate::checksum::field_offset;
use crate::headers::HeaderError;
use crate::{ETHERNET_HEADER_LEN, Ethernet, FRAME_LEN_MAX, Fragment, Headers, Layer3, Layer4};

/// Length of the virtio-net header of a modern device (virtio 1.2, 5.1.6:
/// `num_buffers` is always there once `VIRTIO_F_VERSION_1` is negotiated).
pub const VNET_HEADER_LEN: usize = 12;

/// Length of the header without `num_buffers`: AF_PACKET's `PACKET_VNET_HDR`
/// and a TAP's default. The first ten bytes of the long one, in the byte order
/// of the machine; all machines that we support are little-endian.
pub const VNET_HEADER_LEN_LEGACY: usize = 10;

/// Smallest `gso_size` that is accepted. It bounds what one frame can cost at
/// 8,192 segments, and is what a Linux sender goes down to: an MSS of 48 bytes
/// with 40 bytes of options.
pub const GSO_SIZE_MIN: u16 = 8;

// Linux `include/uapi/linux/virtio_net.h`; virtio 1.2, 5.1.6.
pub(crate) const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
pub(crate) const GSO_TCPV4: u8 = 1;
pub(crate) const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;

/// A checksum that the sender left open: the ones' complement sum from `start`
/// to the end of the frame belongs at `start + offset`, whose two bytes hold
/// the pseudo-header's sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChecksumRequest {
    /// First byte of the frame that is summed.
    pub start: u16,
    /// Where the sum goes, from `start` on: 16 for TCP, 6 for UDP.
    pub offset: u8,
}

/// What kind of large segment a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
}

/// A frame that must be cut into segments of `size` payload bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// Which headers are repeated.
    pub kind: GsoKind,
    /// TCP payload bytes of each segment but the last; never 0.
    pub size: u16,
    /// The TCP segment carries CWR, which only the first piece may keep.
    pub ecn: bool,
}

/// The offload state of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// A checksum still to be completed.
    pub checksum: Option<ChecksumRequest>,
    /// The checksum was verified by somebody we trust; never set from a guest.
    pub checksum_valid: bool,
    /// A large segment still to be cut.
    pub gso: Option<Gso>,
}

/// The offload features of one direction: the `CSUM`, `HOST_*` bits for what a
/// guest may leave to us, the `GUEST_*` bits for what we may leave to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OffloadFeatures {
    /// A checksum may be left open.
    pub csum: bool,
    /// A large TCP segment over IPv4 may be left uncut.
    pub tso4: bool,
    /// A large TCP segment over IPv6 may be left uncut.
    pub tso6: bool,
    /// A large segment may carry CWR.
    pub ecn: bool,
}

impl OffloadFeatures {
    /// All of them: what a Linux kernel's sockets take.
    pub const ALL: Self = Self { csum: true, tso4: true, tso6: true, ecn: true };
}

/// What must be done to a frame before a receiver can take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing: hand it over with [`Offload::to_vnet`].
    Nothing,
    /// Complete the checksum: [`crate::segment::finish_checksum`].
    Checksum,
    /// Cut it: [`crate::segment::segment`].
    Segment,
}

/// Why an offload request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OffloadError {
    /// Shorter than an Ethernet header.
    #[error("the frame has {0} bytes; an Ethernet header alone has 14")]
    FrameShort(usize),
    /// Longer than the network's MTU allows, and no segmentation is asked for.
    #[error("the frame has {len} bytes; the network's MTU allows {limit}")]
    FrameLong {
        /// Bytes of the frame.
        len: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// The headers make no sense, so the request cannot be checked.
    #[error("offload asked for on a frame whose headers are wrong: {0}")]
    Headers(#[from] HeaderError),
    /// The header asks for what was not negotiated.
    #[error("the virtio-net header asks for {0}, which was not negotiated")]
    NotNegotiated(&'static str),
    /// No whole TCP, UDP or ICMPv6 packet, so no checksum can be open.
    #[error("a checksum is left open in a frame that is no whole TCP, UDP or ICMPv6 packet")]
    ChecksumProtocol,
    /// The request points elsewhere than the headers do.
    #[error("the open checksum is at {start}+{offset}, not where the transport header has it")]
    ChecksumPlace {
        /// Where the sum begins, says the request.
        start: u16,
        /// Where the sum goes, from there on.
        offset: u16,
    },
    /// A kind of large segment that we do not know, or do not offer.
    #[error("unknown gso_type {0:#04x}; TCPv4 (1) and TCPv6 (4) are known")]
    GsoType(u8),
    /// Segmentation without `NEEDS_CSUM` (virtio 1.2, 5.1.6.2.1 requires it).
    #[error("segmentation asked for without an open checksum")]
    GsoWithoutChecksum,
    /// The kind contradicts the frame's headers.
    #[error("segmentation asked for on a frame that is no whole TCP packet of that IP version")]
    GsoProtocol,
    /// The segments would be empty, tiny, or longer than the MTU.
    #[error("gso_size is {size}; with these headers and MTU it may be 8 to {limit}")]
    GsoSize {
        /// What was asked for.
        size: u16,
        /// What the MTU leaves for the payload.
        limit: usize,
    },
}

impl Offload {
    /// The offload that a guest's virtio-net header asks for.
    ///
    /// `header` and `head` are copies that the guest can no longer change;
    /// `head` is the frame's first `min(frame_len, HEAD_LEN)` bytes. `mtu` is
    /// the network's: bytes of an IP packet. A frame that asks for segmentation
    /// and fits in one segment needs none. The guest's `DATA_VALID`, `hdr_len`
    /// and `num_buffers` are not looked at.
    ///
    /// # Errors
    /// See [`OffloadError`].
    pub fn from_vnet(
        header: &[u8; VNET_HEADER_LEN],
        head: &[u8],
        frame_len: usize,
        negotiated: OffloadFeatures,
        mtu: u16,
    ) -> Result<Self, OffloadError> {
        let claim = Claim::read(header);
        if claim.is_plain() {
            check_len(head, frame_len, mtu)?;
            return Ok(Self::default());
        }
        let headers = Headers::parse(head, frame_len)?;
        claim.judge(&headers, frame_len, negotiated, mtu)
    }

    /// [`Self::from_vnet`] for a frame whose headers have been parsed already.
    ///
    /// # Errors
    /// See [`OffloadError`].
    #[inline]
    pub fn from_vnet_parsed(
        header: &[u8; VNET_HEADER_LEN],
        headers: &Headers,
        frame_len: usize,
        negotiated: OffloadFeatures,
        mtu: u16,
    ) -> Result<Self, OffloadError> {
        Claim::read(header).judge(headers, frame_len, negotiated, mtu)
    }

    /// The offload of a frame from this host's kernel (AF_PACKET, TAP), checked
    /// in the same way; its `DATA_VALID` is believed.
    ///
    /// # Errors
    /// See [`OffloadError`].
    pub fn from_kernel(
        header: &[u8; VNET_HEADER_LEN_LEGACY],
        head: &[u8],
        frame_len: usize,
        mtu: u16,
    ) -> Result<Self, OffloadError> {
        let [a, b, c, d, e, f, g, h, i, j] = *header;
        let long = [a, b, c, d, e, f, g, h, i, j, 0, 0];
        let mut offload = Self::from_vnet(&long, head, frame_len, OffloadFeatures::ALL, mtu)?;
        offload.checksum_valid = a & DATA_VALID != 0;
        Ok(offload)
    }

    /// Checks an offload that came with a block from the fabric against its
    /// frame: its sender is authenticated, and may still have been broken into.
    ///
    /// # Errors
    /// See [`OffloadError`].
    #[inline]
    pub fn check(&self, head: &[u8], frame_len: usize, mtu: u16) -> Result<(), OffloadError> {
        if self.checksum.is_none() && self.gso.is_none() {
            return check_len(head, frame_len, mtu);
        }
        self.check_parsed(&Headers::parse(head, frame_len)?, frame_len, mtu)
    }

    /// [`Self::check`] for a frame whose headers have been parsed already.
    ///
    /// # Errors
    /// See [`OffloadError`].
    pub fn check_parsed(
        &self,
        headers: &Headers,
        frame_len: usize,
        mtu: u16,
    ) -> Result<(), OffloadError> {
        if let Some(request) = self.checksum {
            check_checksum(request, headers)?;
        }
        let Some(gso) = self.gso else {
            return within(frame_len, headers.frame_len_max(mtu));
        };
        if self.checksum.is_none() {
            return Err(OffloadError::GsoWithoutChecksum);
        }
        check_gso(gso, headers, frame_len, mtu)
    }

    /// What must be done to the frame before a receiver with `features` can take it.
    #[inline]
    #[must_use]
    pub fn work_for(&self, features: OffloadFeatures) -> Work {
        match self.gso {
            Some(gso) if !features.csum || !gso.allowed_by(features) => Work::Segment,
            None if self.checksum.is_some() && !features.csum => Work::Checksum,
            _ => Work::Nothing,
        }
    }

    /// The virtio-net header for a receiver that has negotiated `features`;
    /// `num_buffers` is zero, for the ring to fill. The first
    /// [`VNET_HEADER_LEN_LEGACY`] bytes serve a kernel socket.
    ///
    /// Right only where [`Self::work_for`] is [`Work::Nothing`]: what the
    /// receiver did not negotiate is left out, never promised.
    #[must_use]
    pub fn to_vnet(&self, head: &[u8], features: OffloadFeatures) -> [u8; VNET_HEADER_LEN] {
        let mut header = [0; VNET_HEADER_LEN];
        let Some(request) = self.checksum.filter(|_| features.csum) else {
            if self.checksum.is_none() && self.checksum_valid && features.csum {
                header[0] = DATA_VALID;
            }
            return header;
        };
        header[0] = NEEDS_CSUM;
        let mut hdr_len = request.start.saturating_add(u16::from(request.offset) + 2);
        if let Some(gso) = self.gso.filter(|gso| gso.allowed_by(features)) {
            let ecn = if gso.ecn { GSO_ECN } else { 0 };
            header[1] = ecn | if gso.kind == GsoKind::TcpV4 { GSO_TCPV4 } else { GSO_TCPV6 };
            header[4..6].copy_from_slice(&gso.size.to_le_bytes());
            let data_offset = head.get(usize::from(request.start) + 12).map_or(5, |byte| byte >> 4);
            hdr_len = request.start.saturating_add(u16::from(data_offset) * 4);
        }
        header[2..4].copy_from_slice(&hdr_len.to_le_bytes());
        header[6..8].copy_from_slice(&request.start.to_le_bytes());
        header[8..10].copy_from_slice(&u16::from(request.offset).to_le_bytes());
        header
    }
}

impl Gso {
    fn allowed_by(self, features: OffloadFeatures) -> bool {
        let kind = match self.kind {
            GsoKind::TcpV4 => features.tso4,
            GsoKind::TcpV6 => features.tso6,
        };
        kind && (features.ecn || !self.ecn)
    }
}

/// The fields of a virtio-net header that are looked at.
#[derive(Debug, Clone, Copy)]
struct Claim {
    needs_csum: bool,
    gso_type: u8,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Claim {
    #[inline]
    fn read(header: &[u8; VNET_HEADER_LEN]) -> Self {
        let [flags, gso_type, _, _, g0, g1, s0, s1, o0, o1, _, _] = *header;
        Self {
            needs_csum: flags & NEEDS_CSUM != 0,
            gso_type,
            gso_size: u16::from_le_bytes([g0, g1]),
            csum_start: u16::from_le_bytes([s0, s1]),
            csum_offset: u16::from_le_bytes([o0, o1]),
        }
    }

    #[inline]
    fn is_plain(self) -> bool {
        !self.needs_csum && self.gso_type == GSO_NONE
    }

    #[inline]
    fn judge(
        self,
        headers: &Headers,
        frame_len: usize,
        negotiated: OffloadFeatures,
        mtu: u16,
    ) -> Result<Offload, OffloadError> {
        if self.is_plain() {
            within(frame_len, headers.frame_len_max(mtu))?;
            return Ok(Offload::default());
        }
        let mut offload = Offload {
            checksum: self.checksum(negotiated)?,
            checksum_valid: false,
            gso: self.gso(negotiated)?,
        };
        offload.check_parsed(headers, frame_len, mtu)?;
        let payload_len = frame_len.saturating_sub(headers.header_len());
        offload.gso = offload.gso.filter(|gso| payload_len > usize::from(gso.size));
        Ok(offload)
    }

    fn checksum(
        self,
        negotiated: OffloadFeatures,
    ) -> Result<Option<ChecksumRequest>, OffloadError> {
        if !self.needs_csum {
            return Ok(None);
        }
        if !negotiated.csum {
            return Err(OffloadError::NotNegotiated("NEEDS_CSUM"));
        }
        let Ok(offset) = u8::try_from(self.csum_offset) else {
            let (start, offset) = (self.csum_start, self.csum_offset);
            return Err(OffloadError::ChecksumPlace { start, offset });
        };
        Ok(Some(ChecksumRequest { start: self.csum_start, offset }))
    }

    fn gso(self, negotiated: OffloadFeatures) -> Result<Option<Gso>, OffloadError> {
        let ecn = self.gso_type & GSO_ECN != 0;
        let (kind, allowed, name) = match self.gso_type & !GSO_ECN {
            GSO_NONE if !ecn => return Ok(None),
            GSO_TCPV4 => (GsoKind::TcpV4, negotiated.tso4, "GSO_TCPV4"),
            GSO_TCPV6 => (GsoKind::TcpV6, negotiated.tso6, "GSO_TCPV6"),
            _ => return Err(OffloadError::GsoType(self.gso_type)),
        };
        if !allowed {
            return Err(OffloadError::NotNegotiated(name));
        }
        if ecn && !negotiated.ecn {
            return Err(OffloadError::NotNegotiated("GSO_ECN"));
        }
        Ok(Some(Gso { kind, size: self.gso_size, ecn }))
    }
}

#[inline]
fn within(len: usize, limit: usize) -> Result<(), OffloadError> {
    if len > limit { Err(OffloadError::FrameLong { len, limit }) } else { Ok(()) }
}

/// The length of a frame without offload. Its VLAN tags are counted only where
/// they decide.
#[inline]
fn check_len(head: &[u8], frame_len: usize, mtu: u16) -> Result<(), OffloadError> {
    if frame_len < ETHERNET_HEADER_LEN {
        return Err(OffloadError::FrameShort(frame_len));
    }
    let limit = ETHERNET_HEADER_LEN + usize::from(mtu);
    if frame_len <= limit {
        return Ok(());
    }
    within(frame_len, Ethernet::parse(head)?.header_len() + usize::from(mtu))
}

fn check_checksum(request: ChecksumRequest, headers: &Headers) -> Result<(), OffloadError> {
    let known = matches!(headers.layer4, Layer4::Tcp | Layer4::Udp | Layer4::Icmpv6);
    let Some(offset) = field_offset(headers.protocol).filter(|_| known) else {
        return Err(OffloadError::ChecksumProtocol);
    };
    if headers.fragment != Fragment::Whole {
        return Err(OffloadError::ChecksumProtocol);
    }
    // `Headers` holds that the transport header is within the packet, and the
    // packet within the frame; so is the field.
    if usize::from(request.start) != headers.l4_offset() || request.offset != offset {
        let (start, offset) = (request.start, u16::from(request.offset));
        return Err(OffloadError::ChecksumPlace { start, offset });
    }
    Ok(())
}

fn check_gso(gso: Gso, headers: &Headers, frame_len: usize, mtu: u16) -> Result<(), OffloadError> {
    let layer3 = match gso.kind {
        GsoKind::TcpV4 => Layer3::Ipv4,
        GsoKind::TcpV6 => Layer3::Ipv6,
    };
    // Padding would be cut into segments as if it were payload; a routing header
    // hides the destination that the segments' checksums must cover.
    let exact = usize::try_from(headers.ip_end) == Ok(frame_len);
    let whole = headers.fragment == Fragment::Whole && exact && !headers.routing;
    if headers.layer3 != layer3 || headers.layer4 != Layer4::Tcp || !whole {
        return Err(OffloadError::GsoProtocol);
    }
    within(frame_len, FRAME_LEN_MAX)?;
    let limit = headers.frame_len_max(mtu).saturating_sub(headers.header_len());
    if gso.size < GSO_SIZE_MIN || usize::from(gso.size) > limit {
        return Err(OffloadError::GsoSize { size: gso.size, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
