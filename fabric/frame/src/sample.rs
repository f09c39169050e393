//! Frames for tests, examples and measurements: well formed unless told otherwise.

use crate::checksum::{Sum, complete, field_offset};
use crate::headers::{ethertype, protocol};
use crate::{ChecksumRequest, ETHERNET_HEADER_LEN, MacAddr};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// MAC address of the sender of a sample.
pub const SAMPLE_SOURCE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
/// MAC address of the receiver of a sample.
pub const SAMPLE_DESTINATION: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);

/// A frame under construction.
#[derive(Debug, Clone)]
pub struct Sample {
    destination: MacAddr,
    source: MacAddr,
    tags: Vec<(u16, u16)>,
    addresses: (IpAddr, IpAddr),
    protocol: u8,
    traffic_class: u8,
    hop_limit: u8,
    id: u16,
    fragment: u16,
    ip_options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    ports: (u16, u16),
    sequence: u32,
    tcp_flags: u8,
    tcp_options: Vec<u8>,
    payload: Vec<u8>,
}

impl Sample {
    /// TCP over IPv4, ACK set.
    #[must_use]
    pub fn tcp4() -> Self {
        Self::new(v4(), protocol::TCP)
    }

    /// TCP over IPv6, ACK set.
    #[must_use]
    pub fn tcp6() -> Self {
        Self::new(v6(), protocol::TCP)
    }

    /// UDP over IPv4.
    #[must_use]
    pub fn udp4() -> Self {
        Self::new(v4(), protocol::UDP)
    }

    /// UDP over IPv6.
    #[must_use]
    pub fn udp6() -> Self {
        Self::new(v6(), protocol::UDP)
    }

    /// ICMPv6: `message` is the type, the code, two bytes for the checksum, and the rest.
    #[must_use]
    pub fn icmp6(message: Vec<u8>) -> Self {
        Self::new(v6(), protocol::ICMPV6).hop_limit(255).payload(message)
    }

    /// ICMP: `message` is the type, the code, the checksum, and the rest.
    #[must_use]
    pub fn icmp4(message: Vec<u8>) -> Self {
        Self::new(v4(), protocol::ICMP).payload(message)
    }

    fn new(addresses: (IpAddr, IpAddr), protocol: u8) -> Self {
        Self {
            destination: SAMPLE_DESTINATION,
            source: SAMPLE_SOURCE,
            tags: Vec::new(),
            addresses,
            protocol,
            traffic_class: 0,
            hop_limit: 64,
            id: 0x1234,
            fragment: 0,
            ip_options: Vec::new(),
            extensions: Vec::new(),
            ports: (40_000, 80),
            sequence: 1000,
            tcp_flags: 0x10,
            tcp_options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Sets both MAC addresses.
    #[must_use]
    pub fn macs(mut self, source: MacAddr, destination: MacAddr) -> Self {
        (self.source, self.destination) = (source, destination);
        self
    }

    /// Adds a VLAN tag inside those that are there.
    #[must_use]
    pub fn tag(mut self, ethertype: u16, tci: u16) -> Self {
        self.tags.push((ethertype, tci));
        self
    }

    /// Sets both IP addresses.
    ///
    /// # Panics
    /// If they are of different families.
    #[must_use]
    pub fn ips(mut self, source: IpAddr, destination: IpAddr) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "one family per packet");
        self.addresses = (source, destination);
        self
    }

    /// Sets the TOS byte or traffic class.
    #[must_use]
    pub fn traffic_class(mut self, class: u8) -> Self {
        self.traffic_class = class;
        self
    }

    /// Sets the time to live or hop limit.
    #[must_use]
    pub fn hop_limit(mut self, hop_limit: u8) -> Self {
        self.hop_limit = hop_limit;
        self
    }

    /// Sets the IP protocol number; what is neither TCP nor UDP has no header but its payload.
    #[must_use]
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets IPv4's identification.
    #[must_use]
    pub fn ipv4_id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Sets IPv4's fragment field: 0x2000 is "more fragments", the rest the offset / 8.
    #[must_use]
    pub fn ipv4_fragment(mut self, fragment: u16) -> Self {
        self.fragment = fragment;
        self
    }

    /// Sets IPv4's options; pad them to 32 bits.
    #[must_use]
    pub fn ipv4_options(mut self, options: Vec<u8>) -> Self {
        self.ip_options = options;
        self
    }

    /// Adds an IPv6 extension header of this protocol number; its first byte,
    /// the next header, is set by [`Self::build`].
    #[must_use]
    pub fn extension(mut self, protocol: u8, header: Vec<u8>) -> Self {
        self.extensions.push((protocol, header));
        self
    }

    /// Sets both ports.
    #[must_use]
    pub fn ports(mut self, source: u16, destination: u16) -> Self {
        self.ports = (source, destination);
        self
    }

    /// Sets TCP's sequence number, flags and options; pad the options to 32 bits.
    #[must_use]
    pub fn tcp(mut self, sequence: u32, flags: u8, options: Vec<u8>) -> Self {
        (self.sequence, self.tcp_flags, self.tcp_options) = (sequence, flags, options);
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: Vec<u8>) -> Self {
        self.payload = payload;
        self
    }

    /// The frame with all checksums right.
    #[must_use]
    pub fn build(self) -> Vec<u8> {
        let icmp4 = self.protocol == protocol::ICMP;
        let has_field = field_offset(self.protocol).is_some() || icmp4;
        let (mut frame, mut request) = self.build_open();
        if icmp4 {
            request.offset = 2;
        }
        if has_field {
            // A payload too short for the field is as the test wanted it.
            let _ = complete(&mut frame, request);
        }
        frame
    }

    /// The frame with an open checksum: its field holds the pseudo-header's sum.
    #[must_use]
    pub fn build_open(self) -> (Vec<u8>, ChecksumRequest) {
        let mut frame = [self.destination.0, self.source.0].concat();
        for (ethertype, tci) in &self.tags {
            frame.extend(ethertype.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        let mut l4 = self.transport();
        let start = ETHERNET_HEADER_LEN + 4 * self.tags.len() + self.ip_len();
        let offset = field_offset(self.protocol).unwrap_or(0);
        if offset > 0 {
            let pseudo = self.pseudo_sum(l4.len()).to_be_bytes();
            let at = usize::from(offset);
            if let Some(field) = l4.get_mut(at..at + 2) {
                field.copy_from_slice(&pseudo);
            }
        }
        match self.addresses {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.push_ipv4(&mut frame, source, destination, l4.len());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.push_ipv6(&mut frame, source, destination, l4.len());
            }
            _ => {}
        }
        frame.extend(l4);
        (frame, ChecksumRequest { start: to_u16(start), offset })
    }

    fn ip_len(&self) -> usize {
        let extensions: usize = self.extensions.iter().map(|(_, header)| header.len()).sum();
        if self.addresses.0.is_ipv4() { 20 + self.ip_options.len() } else { 40 + extensions }
    }

    fn transport(&self) -> Vec<u8> {
        let mut l4 = Vec::new();
        if matches!(self.protocol, protocol::TCP | protocol::UDP) {
            l4.extend(self.ports.0.to_be_bytes());
            l4.extend(self.ports.1.to_be_bytes());
        }
        if self.protocol == protocol::TCP {
            l4.extend(self.sequence.to_be_bytes());
            l4.extend([0, 0, 0, 7]);
            let words = u8::try_from(5 + self.tcp_options.len() / 4).unwrap_or(15);
            l4.extend([words << 4, self.tcp_flags, 0xff, 0xff, 0, 0, 0, 0]);
            l4.extend(&self.tcp_options);
        } else if self.protocol == protocol::UDP {
            l4.extend(to_u16(8 + self.payload.len()).to_be_bytes());
            l4.extend([0, 0]);
        }
        l4.extend(&self.payload);
        l4
    }

    fn pseudo_sum(&self, len: usize) -> u16 {
        let sum = match self.addresses {
            (IpAddr::V4(a), IpAddr::V4(b)) => Sum::default().with(&a.octets()).with(&b.octets()),
            (IpAddr::V6(a), IpAddr::V6(b)) => Sum::default().with(&a.octets()).with(&b.octets()),
            _ => Sum::default(),
        };
        sum.with_u16(u16::from(self.protocol)).with_u32(u32::try_from(len).unwrap_or(0)).value()
    }

    fn push_ipv4(&self, frame: &mut Vec<u8>, source: Ipv4Addr, to: Ipv4Addr, l4_len: usize) {
        frame.extend(ethertype::IPV4.to_be_bytes());
        let len = self.ip_len();
        let mut ip = vec![0x40 | u8::try_from(len / 4).unwrap_or(5), self.traffic_class];
        ip.extend(to_u16(len + l4_len).to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.hop_limit, self.protocol, 0, 0]);
        ip.extend(source.octets());
        ip.extend(to.octets());
        ip.extend(&self.ip_options);
        let sum = Sum::default().with(&ip).checksum();
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend(ip);
    }

    fn push_ipv6(&self, frame: &mut Vec<u8>, source: Ipv6Addr, to: Ipv6Addr, l4_len: usize) {
        frame.extend(ethertype::IPV6.to_be_bytes());
        let class = self.traffic_class;
        frame.extend([0x60 | class >> 4, class << 4, 0, 0]);
        frame.extend(to_u16(self.ip_len() - 40 + l4_len).to_be_bytes());
        frame.extend([self.extensions.first().map_or(self.protocol, |(number, _)| *number)]);
        frame.push(self.hop_limit);
        frame.extend(source.octets());
        frame.extend(to.octets());
        for (at, (_, header)) in self.extensions.iter().enumerate() {
            let next = self.extensions.get(at + 1).map_or(self.protocol, |(number, _)| *number);
            frame.push(next);
            frame.extend(header.iter().skip(1));
        }
    }
}

fn v4() -> (IpAddr, IpAddr) {
    (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(192, 0, 2, 2).into())
}

fn v6() -> (IpAddr, IpAddr) {
    let host = |n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).into();
    (host(1), host(2))
}

fn to_u16(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}
