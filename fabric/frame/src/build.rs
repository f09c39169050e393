//! Frames that we send ourselves: answers for known vNICs at the port, the
//! announcements that move a MAC to a new uplink, and questions to an uplink's next hop.
//!
//! Each is at least 60 bytes long, the shortest Ethernet frame without its check
//! sequence, zeros at its end. None has a VLAN tag.

use crate::checksum::complete;
use crate::headers::{ethertype, protocol};
use crate::{ChecksumRequest, ETHERNET_HEADER_LEN, MacAddr};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Shortest Ethernet frame, without the frame check sequence.
pub const FRAME_LEN_MIN: usize = 60;

/// Length of a neighbour advertisement with its link-layer address option.
pub const ADVERTISEMENT_LEN: usize = ETHERNET_HEADER_LEN + 40 + 32;

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const REVERSE_REQUEST: u8 = 3;

const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// An address of a network: what an answer or an announcement tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<A> {
    /// The IP address.
    pub ip: A,
    /// The MAC address that has it.
    pub mac: MacAddr,
}

/// The ARP reply that `owner`'s own station would give to `asker`.
#[must_use]
pub fn arp_reply(owner: Binding<Ipv4Addr>, asker: Binding<Ipv4Addr>) -> [u8; FRAME_LEN_MIN] {
    arp(ethertype::ARP, asker.mac, REPLY, owner, asker)
}

/// Tells all stations where `owner`'s address is now: an ARP announcement, which
/// is a broadcast request for one's own address (RFC 5227, section 3).
#[must_use]
pub fn gratuitous_arp(owner: Binding<Ipv4Addr>) -> [u8; FRAME_LEN_MIN] {
    let target = Binding { ip: owner.ip, mac: MacAddr::default() };
    arp(ethertype::ARP, MacAddr::BROADCAST, REQUEST, owner, target)
}

/// Asks who has `target`, as a station that has no address of its own: an ARP probe (RFC 5227,
/// section 2.1.1). `to`: the station that is expected to answer; `None` asks all.
#[must_use]
pub fn arp_probe(own: MacAddr, target: Ipv4Addr, to: Option<MacAddr>) -> [u8; FRAME_LEN_MIN] {
    let sender = Binding { ip: Ipv4Addr::UNSPECIFIED, mac: own };
    let target = Binding { ip: target, mac: MacAddr::default() };
    arp(ethertype::ARP, to.unwrap_or(MacAddr::BROADCAST), REQUEST, sender, target)
}

/// Tells all switches where `mac` is now, without any IP address: a reverse ARP
/// request for oneself (RFC 903), as hypervisors send after a migration.
#[must_use]
pub fn rarp_announce(mac: MacAddr) -> [u8; FRAME_LEN_MIN] {
    let own = Binding { ip: Ipv4Addr::UNSPECIFIED, mac };
    arp(ethertype::RARP, MacAddr::BROADCAST, REVERSE_REQUEST, own, own)
}

/// Tells all nodes where `owner`'s address is now: an unsolicited neighbour
/// advertisement that overrides what they know (RFC 4861, section 7.2.6).
/// `router`: nodes that use it as a router would else stop doing so.
#[must_use]
pub fn unsolicited_advertisement(
    owner: Binding<Ipv6Addr>,
    router: bool,
) -> [u8; ADVERTISEMENT_LEN] {
    advertisement(owner, ALL_NODES, router_flag(router) | OVERRIDE)
}

/// The advertisement that `owner`'s own station would give to `asker`'s
/// solicitation (RFC 4861, section 7.2.4).
#[must_use]
pub fn advertisement_reply(
    owner: Binding<Ipv6Addr>,
    asker: Binding<Ipv6Addr>,
    router: bool,
) -> [u8; ADVERTISEMENT_LEN] {
    advertisement(owner, asker, router_flag(router) | SOLICITED | OVERRIDE)
}

/// The advertisement that tells `prober` that the address which it is about to
/// take is `owner`'s (RFC 4862, section 5.4.4): to all nodes, for the prober has
/// no address, yet in a frame for the prober alone.
#[must_use]
pub fn advertisement_of_duplicate(
    owner: Binding<Ipv6Addr>,
    prober: MacAddr,
    router: bool,
) -> [u8; ADVERTISEMENT_LEN] {
    let prober = Binding { ip: ALL_NODES.ip, mac: prober };
    advertisement(owner, prober, router_flag(router) | OVERRIDE)
}

/// Asks who has `target` (RFC 4861, section 7.2.2), from the link-local address of the station `own`.
/// `to`: the station that is expected to answer; `None` asks all that might.
#[must_use]
pub fn neighbour_solicitation(
    own: MacAddr,
    target: Ipv6Addr,
    to: Option<MacAddr>,
) -> [u8; ADVERTISEMENT_LEN] {
    let [.., d, e, f] = target.octets();
    // The solicited-node group of the address (RFC 4291, section 2.7.1), in its own MAC group.
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, d, e, f]);
    let group = Binding { ip: group, mac: MacAddr([0x33, 0x33, 0xff, d, e, f]) };
    let to = to.map_or(group, |mac| Binding { ip: target, mac });
    let sender = Binding { ip: link_local(own), mac: own };
    discovery(sender, to, [NEIGHBOUR_SOLICITATION, SOURCE_LINK_LAYER_ADDRESS], 0, target)
}

/// The link-local address that follows from a MAC address (RFC 4291, appendix A).
#[must_use]
pub fn link_local(MacAddr([a, b, c, d, e, f]): MacAddr) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

const ALL_NODES: Binding<Ipv6Addr> = Binding {
    ip: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
    mac: MacAddr([0x33, 0x33, 0, 0, 0, 1]),
};

fn router_flag(router: bool) -> u8 {
    if router { ROUTER } else { 0 }
}

fn arp(
    ethertype: u16,
    destination: MacAddr,
    operation: u8,
    sender: Binding<Ipv4Addr>,
    target: Binding<Ipv4Addr>,
) -> [u8; FRAME_LEN_MIN] {
    let mut frame = [0; FRAME_LEN_MIN];
    let mut out = Out { rest: &mut frame };
    out.put(destination.0).put(sender.mac.0).put(ethertype.to_be_bytes());
    // Ethernet (1) and IPv4 (0x0800), addresses of 6 and 4 bytes.
    out.put([0, 1, 8, 0, 6, 4, 0, operation]);
    out.put(sender.mac.0).put(sender.ip.octets());
    out.put(target.mac.0).put(target.ip.octets());
    frame
}

fn advertisement(
    owner: Binding<Ipv6Addr>,
    to: Binding<Ipv6Addr>,
    flags: u8,
) -> [u8; ADVERTISEMENT_LEN] {
    let kinds = [NEIGHBOUR_ADVERTISEMENT, TARGET_LINK_LAYER_ADDRESS];
    discovery(owner, to, kinds, flags, owner.ip)
}

/// A message of neighbour discovery about `target`, of this type and with this option, which has
/// the sender's MAC address.
fn discovery(
    owner: Binding<Ipv6Addr>,
    to: Binding<Ipv6Addr>,
    [message, option]: [u8; 2],
    flags: u8,
    target: Ipv6Addr,
) -> [u8; ADVERTISEMENT_LEN] {
    let mut frame = [0; ADVERTISEMENT_LEN];
    let mut out = Out { rest: &mut frame };
    out.put(to.mac.0).put(owner.mac.0).put(ethertype::IPV6.to_be_bytes());
    out.put([0x60, 0, 0, 0, 0, 32, protocol::ICMPV6, 255]);
    out.put(owner.ip.octets()).put(to.ip.octets());
    // The checksum's place holds the pseudo-header's sum until it is completed.
    let pseudo = crate::checksum::Sum::default()
        .with(&owner.ip.octets())
        .with(&to.ip.octets())
        .with_u16(u16::from(protocol::ICMPV6))
        .with_u16(32)
        .value();
    out.put([message, 0]).put(pseudo.to_be_bytes());
    out.put([flags, 0, 0, 0]).put(target.octets());
    out.put([option, 1]).put(owner.mac.0);
    // Cannot fail: the field is 2 bytes behind the message's start.
    let _ = complete(&mut frame, ChecksumRequest { start: 54, offset: 2 });
    frame
}

/// Writes fields one behind the other into a frame that has room for them.
struct Out<'a> {
    rest: &'a mut [u8],
}

impl Out<'_> {
    fn put<const N: usize>(&mut self, field: [u8; N]) -> &mut Self {
        if let Some((now, later)) = std::mem::take(&mut self.rest).split_first_chunk_mut::<N>() {
            *now = field;
            self.rest = later;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Headers, Layer3, Layer4, checksum::verify};

    const OWNER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const ASKER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    #[test]
    fn an_arp_reply_has_the_bytes_of_rfc_826() {
        let owner = Binding { ip: Ipv4Addr::new(10, 0, 0, 1), mac: OWNER };
        let asker = Binding { ip: Ipv4Addr::new(10, 0, 0, 2), mac: ASKER };
        let mut expected = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 6];
        expected.extend([0, 1, 8, 0, 6, 4, 0, 2]);
        expected.extend([2, 0, 0, 0, 0, 1, 10, 0, 0, 1]);
        expected.extend([2, 0, 0, 0, 0, 2, 10, 0, 0, 2]);
        expected.resize(60, 0);
        assert_eq!(arp_reply(owner, asker).to_vec(), expected);
    }

    #[test]
    fn announcements_are_broadcast_from_the_owner() {
        let ip = Ipv4Addr::new(10, 0, 0, 1);
        let garp = gratuitous_arp(Binding { ip, mac: OWNER });
        let rarp = rarp_announce(OWNER);
        for (frame, kind, operation) in
            [(garp, ethertype::ARP, REQUEST), (rarp, ethertype::RARP, REVERSE_REQUEST)]
        {
            let headers = Headers::parse(&frame, frame.len()).unwrap();
            assert_eq!(headers.ethernet.destination, MacAddr::BROADCAST);
            assert_eq!(headers.ethernet.source, OWNER);
            assert_eq!(headers.ethernet.ethertype, kind);
            assert_eq!(frame[21], operation);
            assert_eq!(frame[22..28], OWNER.0);
        }
        assert_eq!(garp[28..32], ip.octets(), "sender");
        assert_eq!(garp[38..42], ip.octets(), "target");
        assert_eq!(rarp[32..38], OWNER.0, "asks for itself");
    }

    #[test]
    fn an_arp_probe_has_no_sender_address() {
        let target = Ipv4Addr::new(10, 0, 0, 1);
        for (to, mac) in [(None, MacAddr::BROADCAST), (Some(ASKER), ASKER)] {
            let frame = arp_probe(OWNER, target, to);
            assert_eq!(frame[..12], [mac.0, OWNER.0].concat());
            assert_eq!(frame[20..22], [0, REQUEST]);
            assert_eq!(frame[22..32], [2, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
            assert_eq!(frame[32..42], [0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
        }
    }

    #[test]
    fn a_solicitation_verifies_and_goes_to_the_group_of_its_target_or_to_one_station() {
        let target: Ipv6Addr = "2001:db8::12:3456".parse().unwrap();
        let group: Ipv6Addr = "ff02::1:ff12:3456".parse().unwrap();
        let own: Ipv6Addr = "fe80::ff:fe00:1".parse().unwrap();
        let mac = MacAddr([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        for (to, mac, ip) in [(None, mac, group), (Some(ASKER), ASKER, target)] {
            let frame = neighbour_solicitation(OWNER, target, to);
            let headers = Headers::parse(&frame, frame.len()).unwrap();
            assert_eq!(verify(&frame), Some(true));
            assert_eq!(headers.ethernet.destination, mac);
            assert_eq!(headers.ipv6_addresses(&frame), Some((own.to_bits(), ip.to_bits())));
            assert_eq!((frame[21], frame[54]), (255, NEIGHBOUR_SOLICITATION));
            assert_eq!(frame[62..78], target.octets());
            assert_eq!(frame[78..86], [1, 1, 2, 0, 0, 0, 0, 1], "option");
        }
    }

    #[test]
    fn advertisements_verify_and_have_their_flags() {
        let ip = |n| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n);
        let owner = Binding { ip: ip(1), mac: OWNER };
        let asker = Binding { ip: ip(2), mac: ASKER };
        let multicast = ALL_NODES.mac;
        for (frame, mac, to, flags) in [
            (unsolicited_advertisement(owner, false), multicast, ALL_NODES.ip, 0x20),
            (unsolicited_advertisement(owner, true), multicast, ALL_NODES.ip, 0xa0),
            (advertisement_reply(owner, asker, false), ASKER, ip(2), 0x60),
            (advertisement_reply(owner, asker, true), ASKER, ip(2), 0xe0),
            (advertisement_of_duplicate(owner, ASKER, false), ASKER, ALL_NODES.ip, 0x20),
        ] {
            let headers = Headers::parse(&frame, frame.len()).unwrap();
            assert_eq!((headers.layer3, headers.layer4), (Layer3::Ipv6, Layer4::Icmpv6));
            assert_eq!(verify(&frame), Some(true));
            assert_eq!(headers.ethernet.destination, mac);
            let addresses = headers.ipv6_addresses(&frame);
            assert_eq!(addresses, Some((ip(1).to_bits(), to.to_bits())));
            assert_eq!(frame[21], 255, "hop limit");
            assert_eq!(frame[54], NEIGHBOUR_ADVERTISEMENT);
            assert_eq!(frame[58], flags);
            assert_eq!(frame[62..78], ip(1).octets(), "target");
            assert_eq!(frame[78..86], [2, 1, 2, 0, 0, 0, 0, 1], "option");
        }
    }
}
