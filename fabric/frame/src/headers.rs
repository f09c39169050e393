//! One pass over a frame's first bytes.
//!
//! ```text
//! | dst MAC | src MAC | 0-2 VLAN tags | ethertype | IPv4 or IPv6 | extension headers | TCP, UDP, ICMP | ...
//! 0                                             l3_offset                           l4_offset         header_len
//! ```
//!
//! Everything else in this crate and the port guard work on the [`Headers`] that
//! [`Headers::parse`] returns, so that no two places can read a frame differently:
//! filters were bypassed in the field because two parsers disagreed (CVE-2020-35498,
//! CVE-2023-1668), or because VLAN 0 tags and LLC/SNAP hid the packet
//! (CVE-2021-27853, CVE-2021-27861).
//!
//! Three outcomes: an error where lengths contradict each other (no receiver can
//! make sense of the packet); [`Layer4::Hidden`] where the packet may be fine but
//! its transport header is not within the copied head (a filter must decide
//! whether it can pass what it cannot see); and parsed headers.

use crate::{ETHERNET_HEADER_LEN, HEAD_LEN, MacAddr};

/// Ethertypes that the data path knows.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// Reverse ARP; today only an announcement after a VM's migration.
    pub const RARP: u16 = 0x8035;
    /// A customer VLAN tag (IEEE 802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// A service VLAN tag (IEEE 802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// A service VLAN tag of older equipment.
    pub const OLD_SERVICE_VLAN: u16 = 0x9100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// MAC control: PAUSE (IEEE 802.3x).
    pub const MAC_CONTROL: u16 = 0x8808;
    /// Slow protocols: LACP (IEEE 802.3ad).
    pub const SLOW_PROTOCOLS: u16 = 0x8809;
    /// Local experiments (IEEE 802, 9.2.3); here the probes between the uplinks of a pool.
    pub const PROBE: u16 = 0x88b5;
    /// LLDP (IEEE 802.1AB).
    pub const LLDP: u16 = 0x88cc;
    /// The smallest ethertype; below it the field is an IEEE 802.3 length.
    pub const MIN: u16 = 0x0600;
}

/// IP protocol numbers that the data path knows.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
}

/// VLAN tags that are looked through; more are refused.
pub const VLAN_TAGS_MAX: u8 = 2;

/// Bytes of one VLAN tag.
pub const VLAN_TAG_LEN: usize = 4;

/// IPv6 extension headers that are looked through; a longer chain is
/// [`Layer4::Hidden`]. RFC 8200 orders at most seven before the upper layer.
const EXTENSIONS_MAX: usize = 8;

/// Bytes of a TCP header without options.
const TCP_LEN_MIN: usize = 20;

/// Why a frame's headers make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Shorter than an Ethernet header.
    #[error("the frame is shorter than an Ethernet header and its VLAN tags")]
    FrameShort,
    /// More VLAN tags than are looked through.
    #[error("the frame has more than two VLAN tags")]
    VlanDepth,
    /// The IP header is cut off, or its version contradicts the ethertype.
    #[error("the IP header is cut off or of another version than the ethertype says")]
    IpHeader,
    /// The IP header's lengths contradict each other or the frame's.
    #[error("the IP header's length fields do not fit the frame")]
    IpLength,
    /// A transport or extension header does not fit the packet.
    #[error("a transport or extension header is longer than the packet")]
    Transport,
}

/// A frame's layer-2 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ethernet {
    /// Whom the frame is for.
    pub destination: MacAddr,
    /// Who says that it sent it.
    pub source: MacAddr,
    /// The ethertype behind the VLAN tags, or an IEEE 802.3 length.
    pub ethertype: u16,
    /// How many VLAN tags there are: 0 to 2.
    pub tags: u8,
}

impl Ethernet {
    /// Reads the addresses and the ethertype, through up to two VLAN tags.
    ///
    /// # Errors
    /// [`HeaderError::FrameShort`], [`HeaderError::VlanDepth`].
    #[inline]
    pub fn parse(head: &[u8]) -> Result<Self, HeaderError> {
        // Copied as a whole: an address put together from single bytes costs each
        // later comparison a stalled load.
        let destination = MacAddr(*chunk(head, 0).ok_or(HeaderError::FrameShort)?);
        let source = MacAddr(*chunk(head, 6).ok_or(HeaderError::FrameShort)?);
        let mut ethertype = u16_at(head, 12).ok_or(HeaderError::FrameShort)?;
        let mut tags = 0;
        while is_vlan(ethertype) {
            if tags == VLAN_TAGS_MAX {
                return Err(HeaderError::VlanDepth);
            }
            tags += 1;
            let at = ETHERNET_HEADER_LEN - 2 + VLAN_TAG_LEN * usize::from(tags);
            ethertype = u16_at(head, at).ok_or(HeaderError::FrameShort)?;
        }
        Ok(Self { destination, source, ethertype, tags })
    }

    /// Bytes of the header with its VLAN tags: where layer 3 begins.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        ETHERNET_HEADER_LEN + VLAN_TAG_LEN * usize::from(self.tags)
    }
}

/// What stands behind the Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer3 {
    /// Something that is neither IP nor ARP.
    Other,
    /// ARP.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What stands behind the IP header and its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer4 {
    /// No transport header: not an IP packet, or not its first fragment.
    None,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of IPv4.
    Icmp,
    /// ICMPv6 in IPv6.
    Icmpv6,
    /// Another protocol.
    Other,
    /// The transport header is not within the copied head: a chain of extension
    /// headers is too long, or a first fragment too short (RFC 1858, RFC 7112).
    Hidden,
}

/// Whether an IP packet is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// A whole packet.
    Whole,
    /// The first fragment; it has the transport header. An IPv6 "atomic"
    /// fragment (RFC 6946) counts as one.
    First,
    /// A later fragment.
    Later,
}

/// Where a frame's headers are and what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Layer 2.
    pub ethernet: Ethernet,
    /// The kind of layer 3; it begins at [`Ethernet::header_len`].
    pub layer3: Layer3,
    /// The kind of layer 4.
    pub layer4: Layer4,
    /// Whether the IP packet is whole.
    pub fragment: Fragment,
    /// An IPv6 routing header is there, so that the destination of the
    /// pseudo-header may not be that of the IPv6 header.
    pub routing: bool,
    /// The IP protocol number behind the extension headers; 0 where not IP.
    pub protocol: u8,
    /// First byte of the transport header; equal to [`Ethernet::header_len`]
    /// where not IP.
    pub l4_offset: u8,
    /// Bytes of the TCP header with its options; 0 where not TCP.
    pub tcp_len: u8,
    /// The low eight TCP flags; 0 where not TCP.
    pub tcp_flags: u8,
    /// TCP or UDP source port; 0 where there is none.
    pub source_port: u16,
    /// TCP or UDP destination port; 0 where there is none.
    pub destination_port: u16,
    /// End of the IP packet as an offset in the frame; what follows is padding.
    /// The frame's length where not IP.
    pub ip_end: u32,
}

impl Headers {
    /// Reads the headers of a frame of `frame_len` bytes from `head`, its first
    /// `min(frame_len, HEAD_LEN)` bytes. What is longer is not looked at.
    ///
    /// # Errors
    /// Lengths contradict each other; see [`HeaderError`].
    // Called, it costs a copy of the result, whose wide loads stall on the narrow
    // stores before them.
    #[inline(always)]
    pub fn parse(head: &[u8], frame_len: usize) -> Result<Self, HeaderError> {
        let head = head.get(..HEAD_LEN).unwrap_or(head);
        let ethernet = Ethernet::parse(head)?;
        let at = ethernet.header_len();
        let packet = match ethernet.ethertype {
            ethertype::IPV4 => Packet::parse_ipv4(head, at, frame_len)?,
            ethertype::IPV6 => Packet::parse_ipv6(head, at, frame_len)?,
            ethertype::ARP => Packet::opaque(Layer3::Arp, at, frame_len),
            _ => Packet::opaque(Layer3::Other, at, frame_len),
        };
        let layer4 = packet.layer4(head)?;
        let l4_offset = usize::from(packet.l4_offset);
        let (source_port, destination_port) = match layer4 {
            Layer4::Tcp | Layer4::Udp => ports(head, l4_offset),
            _ => (0, 0),
        };
        let (tcp_len, tcp_flags) = match layer4 {
            Layer4::Tcp => tcp_len_and_flags(head, l4_offset),
            _ => (0, 0),
        };
        Ok(Self {
            ethernet,
            layer3: packet.layer3,
            layer4,
            fragment: packet.fragment,
            routing: packet.routing,
            protocol: packet.protocol,
            l4_offset: packet.l4_offset,
            tcp_len,
            tcp_flags,
            source_port,
            destination_port,
            ip_end: u32::try_from(packet.end).unwrap_or(u32::MAX),
        })
    }

    /// First byte of layer 3.
    #[inline]
    #[must_use]
    pub fn l3_offset(&self) -> usize {
        self.ethernet.header_len()
    }

    /// First byte of the transport header.
    #[inline]
    #[must_use]
    pub fn l4_offset(&self) -> usize {
        usize::from(self.l4_offset)
    }

    /// Bytes of all headers of a TCP frame: what each segment of it repeats. Up
    /// to 142, so the end of the TCP options may lie beyond the copied head.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.l4_offset() + usize::from(self.tcp_len)
    }

    /// Length limit of the frame in a network whose IP packets have at most
    /// `mtu` bytes.
    #[inline]
    #[must_use]
    pub fn frame_len_max(&self, mtu: u16) -> usize {
        self.l3_offset() + usize::from(mtu)
    }

    /// Source and destination of an IPv4 packet.
    #[inline]
    #[must_use]
    pub fn ipv4_addresses(&self, head: &[u8]) -> Option<(u32, u32)> {
        if self.layer3 != Layer3::Ipv4 {
            return None;
        }
        let at = self.l3_offset() + 12;
        let [a, b, c, d, e, f, g, h] = *chunk::<8>(head, at)?;
        Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
    }

    /// Source and destination of an IPv6 packet.
    #[inline]
    #[must_use]
    pub fn ipv6_addresses(&self, head: &[u8]) -> Option<(u128, u128)> {
        if self.layer3 != Layer3::Ipv6 {
            return None;
        }
        let at = self.l3_offset() + 8;
        let source = u128::from_be_bytes(*chunk::<16>(head, at)?);
        let destination = u128::from_be_bytes(*chunk::<16>(head, at + 16)?);
        Some((source, destination))
    }
}

/// What the IP header and its extensions say.
struct Packet {
    layer3: Layer3,
    fragment: Fragment,
    routing: bool,
    protocol: u8,
    l4_offset: u8,
    /// The chain of extension headers goes on where it cannot be seen.
    hidden: bool,
    end: usize,
}

impl Packet {
    /// Something without a transport header.
    #[inline]
    fn opaque(layer3: Layer3, at: usize, end: usize) -> Self {
        Self {
            layer3,
            fragment: Fragment::Whole,
            routing: false,
            protocol: 0,
            l4_offset: offset_u8(at),
            hidden: false,
            end,
        }
    }

    #[inline]
    fn parse_ipv4(head: &[u8], at: usize, frame_len: usize) -> Result<Self, HeaderError> {
        let ip = chunk::<20>(head, at).ok_or(HeaderError::IpHeader)?;
        let [version_ihl, _, l0, l1, _, _, f0, f1, _, protocol, ..] = *ip;
        if version_ihl >> 4 != 4 {
            return Err(HeaderError::IpHeader);
        }
        let header_len = usize::from(version_ihl & 0xf) * 4;
        let total_len = usize::from(u16::from_be_bytes([l0, l1]));
        let end = at + total_len;
        if header_len < 20 || total_len < header_len || end > frame_len {
            return Err(HeaderError::IpLength);
        }
        let fragment = match u16::from_be_bytes([f0, f1]) & 0x3fff {
            0 => Fragment::Whole,
            0x2000 => Fragment::First,
            _ => Fragment::Later,
        };
        let whole = Self::opaque(Layer3::Ipv4, at + header_len, end);
        Ok(Self { fragment, protocol, ..whole })
    }

    #[inline]
    fn parse_ipv6(head: &[u8], at: usize, frame_len: usize) -> Result<Self, HeaderError> {
        let ip = chunk::<40>(head, at).ok_or(HeaderError::IpHeader)?;
        let [version, _, _, _, l0, l1, next, ..] = *ip;
        if version >> 4 != 6 {
            return Err(HeaderError::IpHeader);
        }
        let end = at + 40 + usize::from(u16::from_be_bytes([l0, l1]));
        if end > frame_len {
            return Err(HeaderError::IpLength);
        }
        let packet = Self { protocol: next, ..Self::opaque(Layer3::Ipv6, at + 40, end) };
        if is_extension(next) { packet.skip_extensions(head) } else { Ok(packet) }
    }

    /// Walks to the transport header.
    #[cold]
    fn skip_extensions(mut self, head: &[u8]) -> Result<Self, HeaderError> {
        let mut at = usize::from(self.l4_offset);
        for _ in 0..EXTENSIONS_MAX {
            if at + 8 > self.end {
                return self.cut_short();
            }
            let Some([next, len, f0, f1, ..]) = chunk::<8>(head, at).copied() else { break };
            let extension_len = match self.protocol {
                protocol::FRAGMENT => 8,
                protocol::AUTHENTICATION => (usize::from(len) + 2) * 4,
                _ => (usize::from(len) + 1) * 8,
            };
            if self.protocol == protocol::FRAGMENT {
                let later = u16::from_be_bytes([f0, f1]) >> 3 != 0;
                self.fragment = if later { Fragment::Later } else { Fragment::First };
            }
            self.routing |= self.protocol == protocol::ROUTING;
            self.protocol = next;
            at += extension_len;
            if at > self.end {
                return self.cut_short();
            }
            if at > HEAD_LEN {
                break;
            }
            self.l4_offset = offset_u8(at);
            if self.fragment == Fragment::Later || !is_extension(next) {
                return Ok(self);
            }
        }
        self.hidden = true;
        Ok(self)
    }

    /// The packet ends within a header: malformed, unless it is a fragment.
    fn cut_short(self) -> Result<Self, HeaderError> {
        match self.fragment {
            Fragment::Whole => Err(HeaderError::Transport),
            Fragment::First | Fragment::Later => Ok(Self { hidden: true, ..self }),
        }
    }

    /// Which transport header there is to see, checked to be whole.
    #[inline]
    fn layer4(&self, head: &[u8]) -> Result<Layer4, HeaderError> {
        let (layer4, len) = match (self.layer3, self.protocol) {
            _ if self.hidden => return Ok(Layer4::Hidden),
            _ if self.fragment == Fragment::Later => return Ok(Layer4::None),
            (Layer3::Arp | Layer3::Other, _) => return Ok(Layer4::None),
            (_, protocol::TCP) => (Layer4::Tcp, TCP_LEN_MIN),
            (_, protocol::UDP) => (Layer4::Udp, 8),
            (Layer3::Ipv4, protocol::ICMP) => (Layer4::Icmp, 4),
            (Layer3::Ipv6, protocol::ICMPV6) => (Layer4::Icmpv6, 4),
            _ => return Ok(Layer4::Other),
        };
        let at = usize::from(self.l4_offset);
        let whole = self.fragment == Fragment::Whole;
        if at + len > self.end {
            // A first fragment may leave its transport header to the second.
            return if whole { Err(HeaderError::Transport) } else { Ok(Layer4::Hidden) };
        }
        if at + len > head.len() {
            return Ok(Layer4::Hidden);
        }
        if layer4 == Layer4::Tcp {
            let tcp_len = usize::from(tcp_len_and_flags(head, at).0);
            if tcp_len < TCP_LEN_MIN || (whole && at + tcp_len > self.end) {
                return Err(HeaderError::Transport);
            }
        }
        Ok(layer4)
    }
}

/// Source and destination port of TCP or UDP.
#[inline]
fn ports(head: &[u8], at: usize) -> (u16, u16) {
    (u16_at(head, at).unwrap_or(0), u16_at(head, at + 2).unwrap_or(0))
}

/// The length of a TCP header with its options, and its low eight flags.
#[inline]
fn tcp_len_and_flags(head: &[u8], at: usize) -> (u8, u8) {
    let [data_offset, flags] = u16_at(head, at + 12).unwrap_or(0).to_be_bytes();
    ((data_offset >> 4) * 4, flags)
}

#[inline]
fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, ethertype::VLAN | ethertype::SERVICE_VLAN | ethertype::OLD_SERVICE_VLAN)
}

#[inline]
fn is_extension(next: u8) -> bool {
    matches!(
        next,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
    )
}

/// An offset within the head, which has 128 bytes.
#[inline]
fn offset_u8(offset: usize) -> u8 {
    u8::try_from(offset).unwrap_or(u8::MAX)
}

/// The `N` bytes of `bytes` from `at` on, if there are so many.
#[inline]
#[must_use]
pub fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>()
}

/// The big-endian number at `at`.
#[inline]
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    chunk::<2>(bytes, at).map(|two| u16::from_be_bytes(*two))
}

#[cfg(test)]
mod tests;
