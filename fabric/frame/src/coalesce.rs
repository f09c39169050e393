//! Joining small frames of one flow into one that a kernel or a NIC cuts again.
//!
//! ```text
//! | headers | payload 0 |   | headers | payload 1 |   | headers | payload 2 |
//!                          \          |           /
//!               | headers | payload 0 | payload 1 | payload 2 |  + virtio-net header:
//!                                                  checksum open, gso_size = len of payload 0
//! ```
//!
//! A frame follows a [`Train`] only if cutting the train gives back the frame as it came,
//! byte for byte, its open checksum completed. What cutting writes anew is therefore
//! checked before it is given up:
//!
//! | field | must be |
//! |---|---|
//! | MACs, ethertype, TOS, TTL, DF, addresses, ports; IPv6 flow label | those of the first frame |
//! | TCP acknowledgment, window, urgent pointer, options, reserved bits | those of the first frame |
//! | TCP sequence number | where the frame before ended |
//! | TCP flags | ACK; PSH too in the last one |
//! | payload | as long as the first one's; shorter in the last one |
//! | IPv4 id | one more than in the frame before, unless DF is set |
//! | IPv4 header checksum, TCP or UDP checksum | right; UDP without a checksum is never joined |
//!
//! The one thing that may change is the id of a datagram with DF: nobody may read it (RFC
//! 6864, section 4.1), and cutting numbers it on from the first one's. Senders without a
//! connection give all of them 0.
//!
//! The kernel's own GRO has the same rules for what must be equal (Linux
//! `net/ipv4/tcp_offload.c`, `udp_offload.c`, `af_inet.c`), but lets ECE, CWR and FIN in.

use crate::checksum::{Sum, nonzero};
use crate::headers::{chunk, protocol};
use crate::segment::UDP_LEN;
use crate::{
    ETHERNET_HEADER_LEN, Fragment, HEAD_LEN, Headers, Layer3, Layer4, Offload, VNET_HEADER_LEN,
    flow_hash,
    offload::{GSO_SIZE_MIN, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM},
};
use std::ops::Range;

/// Frames that one train holds at most: what the kernel's UDP GRO joins.
pub const SEGMENTS_MAX: u16 = 64;

/// Longest IP packet (without IPv6's jumbograms).
const PACKET_LEN_MAX: usize = 65_535;

/// `VIRTIO_NET_HDR_GSO_UDP_L4`: UDP datagrams. Linux knows it since 6.2.
const GSO_UDP_L4: u8 = 5;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// The flow of a frame, and whether the frame may be joined with others of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// [`flow_hash`] of the frame.
    pub hash: u32,
    /// What there is to join.
    pub piece: Option<Piece>,
}

impl Flow {
    /// The flow of the frame that begins with `head`; `None` if it belongs to no flow, or
    /// (fragments) to several.
    #[inline]
    #[must_use]
    pub fn of(headers: &Headers, head: &[u8], frame_len: usize, offload: &Offload) -> Option<Self> {
        let transport = matches!(headers.layer4, Layer4::Tcp | Layer4::Udp);
        if !transport || headers.fragment != Fragment::Whole {
            return None;
        }
        let piece = Piece::of(headers, head, frame_len, offload);
        Some(Self { hash: flow_hash(headers, head), piece })
    }
}

/// Which frames are joined: ports may refuse one kind and take the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// TCP segments (TSO).
    Tcp,
    /// UDP datagrams (USO).
    Udp,
}

impl JoinKind {
    /// The kind of a virtio-net header of [`Train::finish`], and its segments' size in bytes.
    #[must_use]
    pub fn of_vnet(vnet: &[u8]) -> Option<(Self, u16)> {
        let [_, gso_type, _, _, size_low, size_high] = *vnet.first_chunk::<6>()?;
        let kind = match gso_type {
            GSO_UDP_L4 => Self::Udp,
            GSO_TCPV4 | GSO_TCPV6 => Self::Tcp,
            _ => return None,
        };
        Some((kind, u16::from_le_bytes([size_low, size_high])))
    }
}

/// A frame that may be joined, by what can be told without its neighbours: untagged, TCP or
/// UDP over an IP header without options or extensions, with a payload and nothing behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    layer3: Layer3,
    kind: JoinKind,
    l4_offset: u8,
    header_len: u8,
    payload_len: u16,
    /// PSH, after which nothing follows.
    last: bool,
    /// The checksum is left to whoever sends it on.
    open: bool,
}

impl Piece {
    #[inline]
    fn of(headers: &Headers, head: &[u8], frame_len: usize, offload: &Offload) -> Option<Self> {
        let ip_len = match headers.layer3 {
            Layer3::Ipv4 => 20,
            Layer3::Ipv6 => 40,
            Layer3::Arp | Layer3::Other => return None,
        };
        let l4_offset = headers.l4_offset();
        let exact = usize::try_from(headers.ip_end) == Ok(frame_len);
        if l4_offset != ETHERNET_HEADER_LEN + ip_len || !exact || offload.gso.is_some() {
            return None;
        }
        let open = offload.checksum.is_some();
        let (kind, header_len, last) = match headers.layer4 {
            Layer4::Udp => {
                let len = u16_at(head, l4_offset + 4)?;
                let checksum = u16_at(head, l4_offset + 6)?;
                if usize::from(len) != frame_len - l4_offset || checksum == 0 {
                    return None;
                }
                (JoinKind::Udp, l4_offset + UDP_LEN, false)
            }
            Layer4::Tcp if headers.tcp_flags & !PSH == ACK => {
                (JoinKind::Tcp, headers.header_len(), headers.tcp_flags & PSH != 0)
            }
            _ => return None,
        };
        let payload_len = u16::try_from(frame_len.checked_sub(header_len)?).ok()?;
        (payload_len > 0 && header_len <= head.len()).then_some(Self {
            layer3: headers.layer3,
            kind,
            l4_offset: u8::try_from(l4_offset).ok()?,
            header_len: u8::try_from(header_len).ok()?,
            payload_len,
            last,
            open,
        })
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> JoinKind {
        self.kind
    }

    /// Bytes before the payload.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.header_len.into()
    }

    fn l4_offset(&self) -> usize {
        self.l4_offset.into()
    }

    /// Bytes from the transport header on.
    fn l4_len(&self) -> usize {
        self.header_len() - self.l4_offset() + usize::from(self.payload_len)
    }

    /// The fields up to the ports that frames of one train share.
    fn shared(&self) -> &'static [Range<usize>] {
        match self.layer3 {
            // To the TOS; flags and fragment offset, TTL, protocol; addresses, ports.
            Layer3::Ipv4 => &[0..16, 20..24, 26..38],
            // To the flow label; next header, hop limit, addresses, ports.
            _ => &[0..18, 20..58],
        }
    }
}

/// Frames that are being joined: what is known of their headers. The bytes are with whoever
/// queues them.
#[derive(Debug, Clone)]
pub struct Train {
    first: Piece,
    /// The first frame's headers.
    head: [u8; HEAD_LEN],
    /// Pseudo-header's sum without the length.
    pseudo: Sum,
    ip_id: u16,
    dont_fragment: bool,
    sequence: u32,
    /// The first frame's checksums were found right.
    first_is_right: bool,
    segments: u16,
    payload_len: usize,
    /// The last frame had PSH.
    push: bool,
    full: bool,
}

impl Train {
    /// A train of one frame, to see who follows. `None` if nobody can.
    #[must_use]
    pub fn begin(piece: &Piece, head: &[u8]) -> Option<Self> {
        if piece.last || piece.payload_len < GSO_SIZE_MIN {
            return None;
        }
        let header = head.get(..piece.header_len())?;
        let mut copy = [0; HEAD_LEN];
        copy.get_mut(..header.len())?.copy_from_slice(header);
        let protocol = match piece.kind {
            JoinKind::Tcp => protocol::TCP,
            JoinKind::Udp => protocol::UDP,
        };
        let addresses: &[u8] = match piece.layer3 {
            Layer3::Ipv4 => chunk::<8>(header, 26)?,
            _ => chunk::<32>(header, 22)?,
        };
        Some(Self {
            first: *piece,
            head: copy,
            pseudo: Sum::default().with(addresses).with_u16(protocol.into()),
            ip_id: u16_at(header, 18)?,
            dont_fragment: header.get(20)? & 0x40 != 0,
            sequence: u32::from_be_bytes(*chunk(header, piece.l4_offset() + 4)?),
            first_is_right: false,
            segments: 1,
            payload_len: piece.payload_len.into(),
            push: false,
            full: false,
        })
    }

    /// Takes the frame that begins with `head` into the train if it may follow. The caller
    /// then appends its payload to that of the others. `first` begins with the payload of the
    /// train's first frame: its checksum is verified only once somebody follows.
    #[must_use]
    pub fn follow<'p>(
        &mut self,
        piece: &Piece,
        head: &[u8],
        payload: impl Iterator<Item = &'p [u8]>,
        first: &[u8],
    ) -> bool {
        let payload_len = self.payload_len + usize::from(piece.payload_len);
        let packet_len = self.first.header_len() - ETHERNET_HEADER_LEN + payload_len;
        if self.full
            || piece.payload_len > self.first.payload_len
            || packet_len > PACKET_LEN_MAX
            || !self.continues(piece, head)
            || !self.is_right(piece, head, payload)
        {
            return false;
        }
        if !self.first_is_right {
            let first = first.get(..self.first.payload_len.into()).unwrap_or_default();
            self.first_is_right = self.is_right(&self.first, &self.head, std::iter::once(first));
            if !self.first_is_right {
                self.full = true;
                return false;
            }
        }
        self.payload_len = payload_len;
        self.segments += 1;
        self.push = piece.last;
        self.full = self.segments == SEGMENTS_MAX
            || piece.last
            || piece.payload_len < self.first.payload_len;
        true
    }

    /// How many frames are in it.
    #[must_use]
    pub fn segments(&self) -> u16 {
        self.segments
    }

    /// Nobody can follow any more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Makes one frame of the train: `packet` is the first frame from its IP header on, with
    /// the payload of all others behind it. Returns the virtio-net header for it, as for a
    /// frame without VLAN tag. Not for a train of one frame.
    #[must_use]
    pub fn finish(&self, packet: &mut [u8]) -> [u8; VNET_HEADER_LEN] {
        let first = &self.first;
        let start = first.l4_offset;
        let l4_at = first.l4_offset() - ETHERNET_HEADER_LEN;
        let l4_len = first.l4_len() - usize::from(first.payload_len) + self.payload_len;
        // Never longer than the longest packet.
        let l4_len = u16::try_from(l4_len).unwrap_or(u16::MAX);
        let (gso_type, offset) = match (first.kind, first.layer3) {
            (JoinKind::Udp, _) => (GSO_UDP_L4, 6),
            (JoinKind::Tcp, Layer3::Ipv4) => (GSO_TCPV4, 16),
            (JoinKind::Tcp, _) => (GSO_TCPV6, 16),
        };
        if first.layer3 == Layer3::Ipv4 {
            let total = l4_len.saturating_add(20);
            put(packet, 2, total.to_be_bytes());
            put(packet, 10, [0, 0]);
            let sum = Sum::default().with(packet.get(..20).unwrap_or_default()).checksum();
            put(packet, 10, sum.to_be_bytes());
        } else {
            put(packet, 4, l4_len.to_be_bytes());
        }
        match first.kind {
            JoinKind::Udp => put(packet, l4_at + 4, l4_len.to_be_bytes()),
            JoinKind::Tcp => put(packet, l4_at + 13, [if self.push { ACK | PSH } else { ACK }]),
        }
        let open = self.pseudo.with_u16(l4_len).value();
        put(packet, l4_at + usize::from(offset), open.to_be_bytes());

        let [size_low, size_high] = first.payload_len.to_le_bytes();
        let header_len = first.header_len;
        [NEEDS_CSUM, gso_type, header_len, 0, size_low, size_high, start, 0, offset, 0, 0, 0]
    }

    /// The headers are those that cutting would write, checksums left aside.
    fn continues(&self, piece: &Piece, head: &[u8]) -> bool {
        let first = &self.first;
        let same_shape = (piece.layer3, piece.kind, piece.header_len)
            == (first.layer3, first.kind, first.header_len);
        let same = |range: Range<usize>| {
            let field = self.head.get(range.clone());
            field.is_some() && field == head.get(range)
        };
        if !same_shape || !first.shared().iter().all(|range| same(range.clone())) {
            return false;
        }
        let id = self.ip_id.wrapping_add(self.segments);
        let id_follows = self.dont_fragment || u16_at(head, 18) == Some(id);
        if first.layer3 == Layer3::Ipv4 && !id_follows {
            return false;
        }
        if first.kind == JoinKind::Udp {
            return true;
        }
        let l4 = first.l4_offset();
        // At most 64 KB: it fits.
        let sent = u32::try_from(self.payload_len).unwrap_or(u32::MAX);
        let sequence = self.sequence.wrapping_add(sent).to_be_bytes();
        // Acknowledgment, data offset and reserved bits; window; urgent pointer, options.
        chunk::<4>(head, l4 + 4) == Some(&sequence)
            && same(l4 + 8..l4 + 13)
            && same(l4 + 14..l4 + 16)
            && same(l4 + 18..first.header_len())
    }

    /// The checksums of a frame of this flow are those that cutting would write; an open one
    /// holds the pseudo-header's sum.
    fn is_right<'p>(
        &self,
        piece: &Piece,
        head: &[u8],
        payload: impl Iterator<Item = &'p [u8]>,
    ) -> bool {
        ipv4_is_right(piece, head) && self.transport_is_right(piece, head, payload) == Some(true)
    }

    fn transport_is_right<'p>(
        &self,
        piece: &Piece,
        head: &[u8],
        payload: impl Iterator<Item = &'p [u8]>,
    ) -> Option<bool> {
        let l4 = head.get(piece.l4_offset()..piece.header_len())?;
        let pseudo = self.pseudo.with_u16(u16::try_from(piece.l4_len()).ok()?);
        let at = match piece.kind {
            JoinKind::Udp => 6,
            JoinKind::Tcp => 16,
        };
        let field = u16_at(l4, at)?;
        if piece.open {
            return Some(field == pseudo.value());
        }
        let header = pseudo.with(l4.get(..at)?).with(l4.get(at + 2..)?);
        let sum = payload.fold(header, Sum::with).checksum();
        Some(field == if piece.kind == JoinKind::Udp { nonzero(sum) } else { sum })
    }
}

/// The IPv4 header checksum is right; IPv6 has none.
fn ipv4_is_right(piece: &Piece, head: &[u8]) -> bool {
    if piece.layer3 != Layer3::Ipv4 {
        return true;
    }
    let Some(ip) = chunk::<20>(head, ETHERNET_HEADER_LEN) else { return false };
    let sum = Sum::default().with(&ip[..10]).with(&ip[12..]).checksum();
    ip[10..12] == sum.to_be_bytes()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    chunk::<2>(bytes, at).map(|two| u16::from_be_bytes(*two))
}

/// Writes `value` at `at`, if there is room.
fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(field) = bytes.get_mut(at..at + N) {
        field.copy_from_slice(&value);
    }
}

#[cfg(test)]
mod tests;
