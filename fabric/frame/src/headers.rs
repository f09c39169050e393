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
        let bytes = head.first_chunk::<ETHERNET_HEADER_LEN>().ok_or(HeaderError::FrameShort)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, e0, e1] = *bytes;
        let mut ethernet = Self {
            destination: MacAddr([d0, d1, d2, d3, d4, d5]),
            source: MacAddr([s0, s1, s2, s3, s4, s5]),
            ethertype: u16::from_be_bytes([e0, e1]),
            tags: 0,
        };
        while is_vlan(ethernet.ethertype) {
            if ethernet.tags == VLAN_TAGS_MAX {
                return Err(HeaderError::VlanDepth);
            }
            ethernet.tags += 1;
            ethernet.ethertype =
                u16_at(head, ethernet.header_len() - 2).ok_or(HeaderError::FrameShort)?;
        }
        Ok(ethernet)
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
    #[inline]
    pub fn parse(head: &[u8], frame_len: usize) -> Result<Self, HeaderError> {
        let head = head.get(..HEAD_LEN).unwrap_or(head);
        let ethernet = Ethernet::parse(head)?;
        let l3_offset = ethernet.header_len();
        let mut headers = Self {
            ethernet,
            layer3: Layer3::Other,
            layer4: Layer4::None,
            fragment: Fragment::Whole,
            routing: false,
            protocol: 0,
            // At most 14 + 2 * 4.
            l4_offset: offset_u8(l3_offset),
            tcp_len: 0,
            tcp_flags: 0,
            source_port: 0,
            destination_port: 0,
            ip_end: u32::try_from(frame_len).unwrap_or(u32::MAX),
        };
        match ethernet.ethertype {
            ethertype::IPV4 => headers.parse_ipv4(head, frame_len)?,
            ethertype::IPV6 => headers.parse_ipv6(head, frame_len)?,
            ethertype::ARP => headers.layer3 = Layer3::Arp,
            _ => {}
        }
        Ok(headers)
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

    #[inline]
    fn parse_ipv4(&mut self, head: &[u8], frame_len: usize) -> Result<(), HeaderError> {
        let at = self.l3_offset();
        let ip = chunk::<20>(head, at).ok_or(HeaderError::IpHeader)?;
        let [version_ihl, _, l0, l1, _, _, f0, f1, _, protocol, ..] = *ip;
        if version_ihl >> 4 != 4 {
            return Err(HeaderError::IpHeader);
        }
        let header_len = usize::from(version_ihl & 0xf) * 4;
        let total_len = usize::from(u16::from_be_bytes([l0, l1]));
        if header_len < 20 || total_len < header_len || at + total_len > frame_len {
            return Err(HeaderError::IpLength);
        }
        self.layer3 = Layer3::Ipv4;
        self.protocol = protocol;
        self.l4_offset = offset_u8(at + header_len);
        let end = at + total_len;
        self.ip_end = u32::try_from(end).unwrap_or(u32::MAX);
        let fragment = u16::from_be_bytes([f0, f1]);
        if fragment & 0x1fff != 0 {
            self.fragment = Fragment::Later;
            return Ok(());
        }
        if fragment & 0x2000 != 0 {
            self.fragment = Fragment::First;
        }
        self.parse_transport(head, end)
    }

    fn parse_ipv6(&mut self, head: &[u8], frame_len: usize) -> Result<(), HeaderError> {
        let at = self.l3_offset();
        let ip = chunk::<40>(head, at).ok_or(HeaderError::IpHeader)?;
        let [version, _, _, _, l0, l1, next, ..] = *ip;
        if version >> 4 != 6 {
            return Err(HeaderError::IpHeader);
        }
        let end = at + 40 + usize::from(u16::from_be_bytes([l0, l1]));
        if end > frame_len {
            return Err(HeaderError::IpLength);
        }
        self.layer3 = Layer3::Ipv6;
        self.protocol = next;
        self.l4_offset = offset_u8(at + 40);
        self.ip_end = u32::try_from(end).unwrap_or(u32::MAX);
        if is_extension(next) && !self.skip_extensions(head, end)? {
            return Ok(());
        }
        self.parse_transport(head, end)
    }

    /// Walks to the transport header. False where there is none to be seen.
    fn skip_extensions(&mut self, head: &[u8], end: usize) -> Result<bool, HeaderError> {
        let mut at = self.l4_offset();
        for _ in 0..EXTENSIONS_MAX {
            if at + 8 > end {
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
            if at > end {
                return self.cut_short();
            }
            // Within the head or, at most, past its end by one extension header;
            // only the former is used.
            if at > HEAD_LEN {
                break;
            }
            self.l4_offset = offset_u8(at);
            if self.fragment == Fragment::Later {
                return Ok(false);
            }
            if !is_extension(next) {
                return Ok(true);
            }
        }
        self.layer4 = Layer4::Hidden;
        Ok(false)
    }

    /// The packet ends within a header: malformed, unless it is a fragment.
    fn cut_short(&mut self) -> Result<bool, HeaderError> {
        if self.fragment == Fragment::Whole {
            return Err(HeaderError::Transport);
        }
        self.layer4 = Layer4::Hidden;
        Ok(false)
    }

    #[inline]
    fn parse_transport(&mut self, head: &[u8], end: usize) -> Result<(), HeaderError> {
        let at = self.l4_offset();
        let (layer4, len) = match (self.protocol, self.layer3) {
            (protocol::TCP, _) => (Layer4::Tcp, 20),
            (protocol::UDP, _) => (Layer4::Udp, 8),
            (protocol::ICMP, Layer3::Ipv4) => (Layer4::Icmp, 4),
            (protocol::ICMPV6, Layer3::Ipv6) => (Layer4::Icmpv6, 4),
            _ => (Layer4::Other, 0),
        };
        if at + len > end {
            return self.cut_short().map(drop);
        }
        if at + len > head.len() {
            self.layer4 = Layer4::Hidden;
            return Ok(());
        }
        self.layer4 = layer4;
        if layer4 == Layer4::Tcp || layer4 == Layer4::Udp {
            let [s0, s1, d0, d1] = *chunk::<4>(head, at).ok_or(HeaderError::Transport)?;
            self.source_port = u16::from_be_bytes([s0, s1]);
            self.destination_port = u16::from_be_bytes([d0, d1]);
        }
        if layer4 == Layer4::Tcp {
            let [data_offset, flags] = *chunk::<2>(head, at + 12).ok_or(HeaderError::Transport)?;
            self.tcp_len = (data_offset >> 4) * 4;
            self.tcp_flags = flags;
            let too_long = at + usize::from(self.tcp_len) > end;
            if self.tcp_len < 20 || (too_long && self.fragment == Fragment::Whole) {
                return Err(HeaderError::Transport);
            }
        }
        Ok(())
    }
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
