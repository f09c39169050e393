//! A frame's headers in one line, for logs and failing tests.

use crate::{Fragment, HeaderError, Headers, Layer3, Layer4};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// One line about a frame, made when it is displayed.
#[derive(Debug, Clone, Copy)]
pub struct Description<'a> {
    head: &'a [u8],
    frame_len: usize,
    headers: Result<Headers, HeaderError>,
}

/// Describes the frame of `frame_len` bytes that begins with `head`:
///
/// `52:54:00:00:00:01 > 52:54:00:00:00:02, 1 tag, 192.0.2.1:40000 > 192.0.2.2:80, TCP, 54 B`
#[must_use]
pub fn describe(head: &[u8], frame_len: usize) -> Description<'_> {
    Description { head, frame_len, headers: Headers::parse(head, frame_len) }
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers = match &self.headers {
            Ok(headers) => headers,
            Err(error) => return write!(f, "{} B: {error}", self.frame_len),
        };
        let ethernet = headers.ethernet;
        write!(f, "{} > {}", ethernet.source, ethernet.destination)?;
        match ethernet.tags {
            0 => {}
            1 => write!(f, ", 1 tag")?,
            tags => write!(f, ", {tags} tags")?,
        }
        self.write_addresses(f, headers)?;
        match headers.layer3 {
            Layer3::Other => write!(f, ", ethertype {:#06x}", ethernet.ethertype)?,
            Layer3::Arp => write!(f, ", ARP")?,
            Layer3::Ipv4 | Layer3::Ipv6 => self.write_protocol(f, headers)?,
        }
        write!(f, ", {} B", self.frame_len)
    }
}

impl Description<'_> {
    fn write_addresses(&self, f: &mut fmt::Formatter<'_>, headers: &Headers) -> fmt::Result {
        let (from, to) = (headers.source_port, headers.destination_port);
        let has_ports = matches!(headers.layer4, Layer4::Tcp | Layer4::Udp);
        if let Some((source, destination)) = headers.ipv4_addresses(self.head) {
            let (source, destination) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
            return match has_ports {
                true => write!(f, ", {source}:{from} > {destination}:{to}"),
                false => write!(f, ", {source} > {destination}"),
            };
        }
        if let Some((source, destination)) = headers.ipv6_addresses(self.head) {
            let (source, destination) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
            return match has_ports {
                true => write!(f, ", [{source}]:{from} > [{destination}]:{to}"),
                false => write!(f, ", {source} > {destination}"),
            };
        }
        Ok(())
    }

    fn write_protocol(&self, f: &mut fmt::Formatter<'_>, headers: &Headers) -> fmt::Result {
        match headers.layer4 {
            Layer4::Tcp => write!(f, ", TCP")?,
            Layer4::Udp => write!(f, ", UDP")?,
            Layer4::Icmp | Layer4::Icmpv6 => {
                let name = if headers.layer4 == Layer4::Icmp { "ICMP" } else { "ICMPv6" };
                let kind = self.head.get(headers.l4_offset()).copied().unwrap_or(0);
                write!(f, ", {name} {kind}")?;
            }
            Layer4::Other | Layer4::None => write!(f, ", protocol {}", headers.protocol)?,
            Layer4::Hidden => write!(f, ", transport header out of sight")?,
        }
        match headers.fragment {
            Fragment::Whole => Ok(()),
            Fragment::First => write!(f, ", first fragment"),
            Fragment::Later => write!(f, ", later fragment"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn one_line_says_what_a_frame_is() {
        let long = [vec![0, 14], vec![0; 118]].concat();
        let macs = "52:54:00:00:00:01 > 52:54:00:00:00:02";
        for (frame, rest) in [
            (
                Sample::tcp4().tag(0x8100, 1).build(),
                ", 1 tag, 192.0.2.1:40000 > 192.0.2.2:80, TCP, 58 B",
            ),
            (Sample::udp6().build(), ", [2001:db8::1]:40000 > [2001:db8::2]:80, UDP, 62 B"),
            (
                Sample::icmp6(vec![135, 0, 0, 0]).build(),
                ", 2001:db8::1 > 2001:db8::2, ICMPv6 135, 58 B",
            ),
            (
                Sample::udp4().ipv4_fragment(1).build(),
                ", 192.0.2.1 > 192.0.2.2, protocol 17, later fragment, 42 B",
            ),
            (
                Sample::udp6().extension(60, long).build(),
                ", 2001:db8::1 > 2001:db8::2, transport header out of sight, 182 B",
            ),
        ] {
            assert_eq!(describe(&frame, frame.len()).to_string(), format!("{macs}{rest}"));
        }
        let other = describe(&[0x22; 60], 60).to_string();
        assert_eq!(other, "22:22:22:22:22:22 > 22:22:22:22:22:22, ethertype 0x2222, 60 B");
        let short = describe(&[1, 2, 3], 3).to_string();
        assert_eq!(short, "3 B: the frame is shorter than an Ethernet header and its VLAN tags");
    }
}
