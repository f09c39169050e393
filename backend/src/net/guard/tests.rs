//! For each rule: the frame that it is about, its drop's name, and the nearest
//! frame that passes.

use super::*;
use crate::net::AddressSet;
use ipnet::IpNet;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wireonce_frame::HeaderError;
use wireonce_frame::build::{self, Binding};
use wireonce_frame::checksum::complete;
use wireonce_frame::sample::{SAMPLE_DESTINATION, SAMPLE_SOURCE, Sample};

const MAC: MacAddr = SAMPLE_SOURCE;
const OTHER: MacAddr = SAMPLE_DESTINATION;
const OWN4: &str = "192.0.2.1";
const OTHER4: &str = "192.0.2.2";
const OWN6: &str = "2001:db8::1";
const OTHER6: &str = "2001:db8::2";
const OWN_LINK_LOCAL: &str = "fe80::5054:ff:fe00:1";
const SOLICITED_NODE: &str = "ff02::1:ff00:1";

fn set(nets: &[&str]) -> AddressSet {
    nets.iter().map(|net| net.parse::<IpNet>().unwrap()).collect()
}

/// A port with one address of each family.
fn port() -> PortPolicy {
    PortPolicy::strict(MAC, set(&["192.0.2.1/32", "2001:db8::1/128"]), 1500)
}

fn port_with(nets: &[&str]) -> PortPolicy {
    PortPolicy { addresses: set(nets), ..port() }
}

fn trunk() -> PortPolicy {
    PortPolicy { trunk: true, ..port() }
}

fn router() -> PortPolicy {
    PortPolicy { allow_router_advertisement: true, ..port() }
}

fn dhcp_server() -> PortPolicy {
    PortPolicy { allow_dhcp_server: true, ..port() }
}

/// A port that may do everything that layer 3 has.
fn free() -> PortPolicy {
    PortPolicy {
        addresses: AddressSet::any(),
        allow_dhcp_server: true,
        allow_router_advertisement: true,
        ..port()
    }
}

fn egress(policy: &PortPolicy, frame: &[u8]) -> Result<(), DropReason> {
    let headers = Headers::parse(frame, frame.len())?;
    check_egress(policy, &headers, &frame[..frame.len().min(128)])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn from(sample: Sample, source: &str) -> Vec<u8> {
    let destination = if ip(source).is_ipv4() { OTHER4 } else { OTHER6 };
    sample.ips(ip(source), ip(destination)).build()
}

fn ethernet(destination: [u8; 6], ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = [destination, MAC.0].concat();
    frame.extend(ethertype.to_be_bytes());
    frame.extend(body);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An ICMPv6 message from `source` to `destination`.
fn icmp6(source: &str, destination: &str, message: &[u8]) -> Vec<u8> {
    Sample::icmp6(message.to_vec()).ips(ip(source), ip(destination)).build()
}

/// A solicitation (135) or advertisement (136) for `target` with options.
fn discovery(kind: u8, target: &str, options: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0], v6(target).octets().as_slice(), options].concat()
}

fn mac_option(kind: u8, mac: MacAddr) -> Vec<u8> {
    [&[kind, 1], mac.0.as_slice()].concat()
}

fn arp(operation: u8, sender: (MacAddr, &str), target: &str) -> Vec<u8> {
    let four = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, operation];
    body.extend(sender.0.0);
    body.extend(four(sender.1));
    body.extend([0; 6]);
    body.extend(four(target));
    ethernet(MacAddr::BROADCAST.0, ethertype::ARP, &body)
}

#[track_caller]
fn passes(policy: &PortPolicy, frame: &[u8]) {
    assert_eq!(egress(policy, frame), Ok(()));
}

#[track_caller]
fn drops(policy: &PortPolicy, frame: &[u8], reason: DropReason) {
    assert_eq!(egress(policy, frame), Err(reason));
}

#[test]
fn source_mac_must_be_own() {
    passes(&port(), &Sample::udp4().build());
    for source in [OTHER, MacAddr::BROADCAST, MacAddr::default()] {
        let frame = Sample::udp4().macs(source, OTHER).build();
        drops(&port(), &frame, DropReason::SourceMac);
        drops(&free(), &frame, DropReason::SourceMac);
    }
}

#[test]
fn source_ip_must_be_own() {
    for (sample, own, other) in
        [(Sample::tcp4(), OWN4, OTHER4), (Sample::tcp6(), OWN6, "2001:db8::3")]
    {
        passes(&port(), &from(sample.clone(), own));
        drops(&port(), &from(sample.clone(), other), DropReason::SourceIp);
        passes(&free(), &from(sample, other));
    }
    passes(&port_with(&["192.0.2.0/24"]), &from(Sample::udp4(), "192.0.2.77"));
    passes(&port(), &from(Sample::udp6(), OWN_LINK_LOCAL));
    drops(&port(), &from(Sample::udp6(), "fe80::1"), DropReason::SourceIp);
    passes(&port_with(&["2001:db8::1/128", "fe80::/64"]), &from(Sample::udp6(), "fe80::1"));
}

#[test]
fn source_ip_is_checked_in_later_fragments_and_unknown_protocols() {
    let later = |source| from(Sample::udp4().ipv4_fragment(5), source);
    passes(&port(), &later(OWN4));
    drops(&port(), &later(OTHER4), DropReason::SourceIp);
    // IP protocol 0 was once a wildcard in a switch's flow cache (CVE-2023-1668).
    for protocol in [0, 47, 132, 255] {
        let sample = Sample::udp4().protocol(protocol).payload(vec![0; 8]);
        passes(&port(), &from(sample.clone(), OWN4));
        drops(&port(), &from(sample, OTHER4), DropReason::SourceIp);
    }
}

#[test]
fn a_family_without_address_is_closed() {
    let v4_only = port_with(&["192.0.2.1/32"]);
    passes(&v4_only, &from(Sample::udp4(), OWN4));
    drops(&v4_only, &from(Sample::udp6(), OWN_LINK_LOCAL), DropReason::SourceIp);
    let dad = icmp6("::", SOLICITED_NODE, &discovery(135, OWN_LINK_LOCAL, &[]));
    drops(&v4_only, &dad, DropReason::SourceIp);

    let v6_only = port_with(&["2001:db8::1/128"]);
    passes(&v6_only, &from(Sample::udp6(), OWN6));
    drops(&v6_only, &from(Sample::udp4(), OWN4), DropReason::SourceIp);
    drops(&v6_only, &arp(1, (MAC, "0.0.0.0"), OWN4), DropReason::ArpSpoof);
    drops(&v6_only, &dhcp_discover().build(), DropReason::SourceIp);
}

fn dhcp_discover() -> Sample {
    Sample::udp4().ports(68, 67).ips(ip("0.0.0.0"), ip("255.255.255.255")).payload(vec![1; 240])
}

#[test]
fn source_ip_zero_is_for_dhcp_clients_alone() {
    passes(&port(), &dhcp_discover().build());
    for other in [
        dhcp_discover().ports(68, 68),
        dhcp_discover().ports(1000, 67),
        dhcp_discover().ips(ip("0.0.0.0"), ip(OTHER4)),
        dhcp_discover().ipv4_fragment(0x2000),
        dhcp_discover().protocol(6),
    ] {
        drops(&port(), &other.build(), DropReason::SourceIp);
    }
}

#[test]
fn source_ip_unspecified_is_for_start_up_alone() {
    let report = |kind| icmp6("::", "ff02::16", &[kind, 0, 0, 0, 0, 0, 0, 1]);
    for kind in [131, 133, 143] {
        passes(&port(), &report(kind));
    }
    passes(&port(), &icmp6("::", SOLICITED_NODE, &discovery(135, OWN6, &[])));
    for frame in [
        report(128),
        icmp6("::", OTHER6, &discovery(135, OWN6, &[])),
        icmp6("::", "ff02::1", &discovery(136, OWN6, &[])),
        from(Sample::udp6(), "::"),
    ] {
        drops(&port(), &frame, DropReason::SourceIp);
    }
    // The hop-by-hop header of a listener report is looked through.
    let alert = vec![0, 0, 5, 2, 0, 0, 1, 0];
    let report = Sample::icmp6(vec![143, 0, 0, 0, 0, 0, 0, 1])
        .ips(ip("::"), ip("ff02::16"))
        .extension(0, alert);
    passes(&port(), &report.build());
}

#[test]
fn arp_spoof_is_any_sender_but_oneself() {
    for operation in [1, 2] {
        passes(&port(), &arp(operation, (MAC, OWN4), OTHER4));
        drops(&port(), &arp(operation, (OTHER, OWN4), OTHER4), DropReason::ArpSpoof);
        drops(&port(), &arp(operation, (MAC, OTHER4), OTHER4), DropReason::ArpSpoof);
    }
    passes(&port(), &arp(1, (MAC, OWN4), OWN4));
    drops(&port(), &arp(1, (MAC, OTHER4), OTHER4), DropReason::ArpSpoof);
    passes(&free(), &arp(2, (MAC, OTHER4), OWN4));
    drops(&free(), &arp(2, (OTHER, OTHER4), OWN4), DropReason::ArpSpoof);
}

#[test]
fn arp_spoof_is_a_probe_for_the_address_of_another() {
    passes(&port(), &arp(1, (MAC, "0.0.0.0"), OWN4));
    drops(&port(), &arp(1, (MAC, "0.0.0.0"), OTHER4), DropReason::ArpSpoof);
    drops(&port(), &arp(2, (MAC, "0.0.0.0"), OWN4), DropReason::ArpSpoof);
    passes(&free(), &arp(1, (MAC, "0.0.0.0"), OTHER4));
}

#[test]
fn arp_spoof_is_a_reverse_arp_for_another() {
    let own = build::rarp_announce(MAC);
    passes(&port(), &own);
    let with = |at: usize, value: u8| {
        let mut frame = own;
        frame[at] = value;
        frame
    };
    drops(&port(), &with(27, 9), DropReason::ArpSpoof);
    drops(&port(), &with(37, 9), DropReason::ArpSpoof);
    drops(&port(), &with(21, 4), DropReason::ArpSpoof);
    drops(&port(), &with(31, 9), DropReason::ArpSpoof);
}

#[test]
fn bad_headers_is_an_arp_packet_of_other_sizes() {
    let good = arp(1, (MAC, OWN4), OTHER4);
    passes(&port(), &good);
    for at in 14..20 {
        let mut frame = good.clone();
        frame[at] ^= 1;
        drops(&port(), &frame, DropReason::BadHeaders);
    }
    for len in 14..42 {
        drops(&port(), &good[..len], DropReason::BadHeaders);
    }
}

#[test]
fn nd_spoof_is_an_advertisement_for_the_address_of_another() {
    for target in [OWN6, OWN_LINK_LOCAL] {
        let own = discovery(136, target, &mac_option(2, MAC));
        passes(&port(), &icmp6(OWN6, OTHER6, &own));
    }
    // Its source is own, and its target is not (CVE-2023-5366).
    let lie = discovery(136, OTHER6, &mac_option(2, MAC));
    drops(&port(), &icmp6(OWN6, OTHER6, &lie), DropReason::NdSpoof);
    passes(&free(), &icmp6(OWN6, OTHER6, &lie));
    let tagged = Sample::icmp6(lie).ips(ip(OWN6), ip(OTHER6)).tag(0x8100, 3);
    drops(&trunk(), &tagged.build(), DropReason::NdSpoof);
}

#[test]
fn nd_spoof_is_a_probe_for_the_address_of_another() {
    passes(&port(), &icmp6("::", SOLICITED_NODE, &discovery(135, OWN_LINK_LOCAL, &[])));
    let lie = icmp6("::", SOLICITED_NODE, &discovery(135, OTHER6, &[]));
    drops(&port(), &lie, DropReason::NdSpoof);
    // A question for another's address is what solicitations are for.
    let question = discovery(135, OTHER6, &mac_option(1, MAC));
    passes(&port(), &icmp6(OWN6, "ff02::1:ff00:2", &question));
}

#[test]
fn nd_spoof_is_an_option_with_the_mac_of_another() {
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    for kind in [1, 2] {
        for policy in [port(), free()] {
            let with = |mac| {
                let options = [nonce.to_vec(), mac_option(kind, mac)].concat();
                icmp6(OWN6, OTHER6, &discovery(135, OTHER6, &options))
            };
            passes(&policy, &with(MAC));
            drops(&policy, &with(OTHER), DropReason::NdSpoof);
        }
    }
    let router_solicitation = |mac| {
        icmp6(OWN6, "ff02::2", &[vec![133, 0, 0, 0, 0, 0, 0, 0], mac_option(1, mac)].concat())
    };
    passes(&port(), &router_solicitation(MAC));
    drops(&port(), &router_solicitation(OTHER), DropReason::NdSpoof);
}

#[test]
fn bad_headers_is_neighbour_discovery_that_cannot_be_judged() {
    let own = mac_option(1, MAC);
    let question = |options: &[u8]| icmp6(OWN6, OTHER6, &discovery(135, OTHER6, options));
    passes(&port(), &question(&own));
    drops(&port(), &question(&[1, 0, 0, 0, 0, 0, 0, 0]), DropReason::BadHeaders);
    drops(&port(), &question(&[14, 9, 0, 0, 0, 0, 0, 0]), DropReason::BadHeaders);
    drops(&port(), &question(&[1, 1, 0, 0]), DropReason::BadHeaders);
    drops(&port(), &icmp6(OWN6, OTHER6, &[135, 0, 0, 0, 0, 0, 0, 0]), DropReason::BadHeaders);
    // An option within the packet and beyond the head.
    let long = [vec![14, 7], vec![0; 54], own].concat();
    drops(&port(), &question(&long), DropReason::BadHeaders);
    // In a fragment (RFC 6980).
    let fragment = Sample::icmp6(discovery(135, OTHER6, &mac_option(1, MAC)))
        .ips(ip(OWN6), ip(OTHER6))
        .extension(44, vec![0, 0, 0, 1, 0, 0, 0, 1]);
    drops(&port(), &fragment.build(), DropReason::BadHeaders);
}

#[test]
fn dhcp_server_replies_are_dropped_unless_allowed() {
    let table = [
        (Sample::udp4().ports(67, 68), OWN4),
        (Sample::udp4().ports(1234, 68), OWN4),
        (Sample::udp4().ports(67, 67), OWN4),
        (Sample::udp6().ports(547, 546), OWN6),
        (Sample::udp6().ports(1234, 546), OWN_LINK_LOCAL),
        (Sample::udp6().ports(547, 547), OWN6),
        (Sample::udp4().ports(67, 68).ipv4_fragment(0x2000).payload(vec![0; 64]), OWN4),
        (Sample::udp6().ports(547, 546).extension(60, vec![0; 8]), OWN6),
    ];
    for (sample, source) in table {
        let frame = from(sample.clone(), source);
        drops(&port(), &frame, DropReason::DhcpServer);
        passes(&dhcp_server(), &frame);
        passes(&port(), &from(sample.ports(1234, 1235), source));
    }
    passes(&port(), &from(Sample::udp4().ports(68, 67), OWN4));
    passes(&port(), &from(Sample::udp6().ports(546, 547), OWN_LINK_LOCAL));
    passes(&port(), &from(Sample::tcp4().ports(67, 68), OWN4));
}

#[test]
fn router_advertisements_and_redirects_are_dropped_unless_allowed() {
    let advertisement = [vec![134, 0, 0, 0, 64, 0, 7, 8], vec![0; 8], mac_option(1, MAC)].concat();
    let redirect = [vec![137, 0, 0, 0, 0, 0, 0, 0], vec![0; 32]].concat();
    let renumbering = vec![138, 0, 0, 0, 0, 0, 0, 0];
    for message in [&advertisement, &redirect, &renumbering] {
        let sample = Sample::icmp6(message.clone()).ips(ip(OWN_LINK_LOCAL), ip("ff02::1"));
        for hidden in [
            sample.clone(),
            sample.clone().extension(0, vec![0; 8]),
            sample.clone().extension(60, vec![0; 8]).extension(60, vec![0; 8]),
            sample.clone().extension(51, vec![0; 8]),
        ] {
            let frame = hidden.build();
            drops(&port(), &frame, DropReason::RouterAdvertisement);
            passes(&router(), &frame);
        }
        let tagged = sample.clone().tag(0x88a8, 0).tag(0x8100, 0).build();
        drops(&trunk(), &tagged, DropReason::RouterAdvertisement);
        let any = PortPolicy { addresses: AddressSet::any(), ..port() };
        drops(&any, &sample.build(), DropReason::RouterAdvertisement);
    }
    for kind in [5, 9] {
        let frame = from(Sample::icmp4(vec![kind, 0, 0, 0, 0, 0, 0, 0]), OWN4);
        drops(&port(), &frame, DropReason::RouterAdvertisement);
        passes(&router(), &frame);
    }
    passes(&port(), &from(Sample::icmp4(vec![8, 0, 0, 0, 0, 0, 0, 0]), OWN4));
    passes(&port(), &icmp6(OWN6, OTHER6, &[128, 0, 0, 0, 0, 0, 0, 0]));
}

#[test]
fn nd_spoof_is_a_routers_advertisement_with_the_mac_of_another() {
    let with = |options: Vec<u8>| {
        let message = [vec![134, 0, 0, 0, 64, 0, 7, 8], vec![0; 8], options].concat();
        icmp6(OWN_LINK_LOCAL, "ff02::1", &message)
    };
    drops(&router(), &with(mac_option(1, OTHER)), DropReason::NdSpoof);
    // Many prefixes and name servers make it longer than the head.
    let prefixes = [vec![3, 4], vec![0; 30]].concat().repeat(4);
    passes(&router(), &with([mac_option(1, MAC), prefixes].concat()));
}

#[test]
fn bad_headers_is_a_transport_header_out_of_sight() {
    let long = |sample: Sample| sample.extension(60, [vec![0, 9], vec![0; 78]].concat());
    let frame = from(long(Sample::udp6().ports(547, 546)), OWN6);
    drops(&port(), &frame, DropReason::BadHeaders);
    drops(&dhcp_server(), &frame, DropReason::BadHeaders);
    passes(&free(), &frame);
    // A first fragment that leaves the ICMPv6 header to the second (RFC 7112).
    let mut tiny = Sample::icmp6(vec![134, 0, 0, 0])
        .ips(ip(OWN6), ip("ff02::1"))
        .extension(44, vec![0, 0, 0, 1, 0, 0, 0, 1])
        .extension(60, vec![0; 16])
        .build();
    tiny.truncate(54 + 16);
    tiny[19] = 16;
    drops(&port(), &tiny, DropReason::BadHeaders);
    passes(&free(), &tiny);
}

#[test]
fn bad_headers_is_snap() {
    // 802.3 length, then LLC/SNAP with IPv6's ethertype (CVE-2021-27861).
    for length in [0u16, 8, 46, 1500, 0x05ff] {
        let snap = ethernet(OTHER.0, length, &[0xaa, 0xaa, 3, 0, 0, 0, 0x86, 0xdd, 0x60]);
        drops(&port(), &snap, DropReason::BadHeaders);
        passes(&free(), &snap);
        // IS-IS.
        passes(&port(), &ethernet(OTHER.0, length, &[0xfe, 0xfe, 3]));
    }
    // An ethertype: what follows is not LLC.
    passes(&port(), &ethernet(OTHER.0, 0x0600, &[0xaa, 0xaa, 3]));
}

#[test]
fn a_guest_sends_no_probes_of_gateways_on_any_port() {
    for policy in [port(), trunk(), free()] {
        for destination in [MacAddr::BROADCAST.0, OTHER.0] {
            drops(&policy, &ethernet(destination, 0x88b5, &[1; 60]), DropReason::ProbeForged);
            passes(&policy, &ethernet(destination, 0x88b6, &[1; 60]));
        }
    }
    let tagged = ethernet(MacAddr::BROADCAST.0, 0x8100, &[0, 1, 0x88, 0xb5]);
    drops(&trunk(), &tagged, DropReason::ProbeForged);
}

#[test]
fn link_control_is_dropped_both_ways_even_on_a_trunk() {
    let bridges = (0..16).chain(0x20..0x30).map(|last| [0x01, 0x80, 0xc2, 0, 0, last]);
    let cisco = [[1, 0, 0x0c, 0xcc, 0xcc, 0xcc], [1, 0, 0x0c, 0xcc, 0xcc, 0xcd]];
    let by_address = bridges.chain(cisco).map(|address| (address, 0x88b5));
    let by_type = [0x8808, 0x8809, 0x88cc].map(|kind| (OTHER.0, kind));
    for (destination, kind) in by_address.chain(by_type) {
        let frame = ethernet(destination, kind, &[]);
        for policy in [port(), trunk(), free()] {
            drops(&policy, &frame, DropReason::LinkControl);
            assert_eq!(ingress(&policy, frame.clone()), Err(DropReason::LinkControl));
        }
    }
    let tagged = Sample::udp4().macs(MAC, MacAddr([1, 0x80, 0xc2, 0, 0, 0])).tag(0x8100, 1);
    drops(&trunk(), &tagged.build(), DropReason::LinkControl);
    let tagged_pause = ethernet(OTHER.0, 0x8100, &[0, 1, 0x88, 0x08]);
    drops(&trunk(), &tagged_pause, DropReason::LinkControl);
    for good in [
        [0x01, 0x80, 0xc2, 0, 0, 0x10],
        [0x01, 0x80, 0xc2, 0, 1, 0],
        [0x01, 0, 0x0c, 0xcc, 0xcc, 0xce],
        [0x01, 0, 0x5e, 0, 0, 1],
    ] {
        passes(&port(), &ethernet(good, 0x88b6, &[]));
    }
}

#[test]
fn vlan_tags_are_dropped_both_ways_unless_on_a_trunk() {
    for kind in [0x8100, 0x88a8, 0x9100] {
        // VLAN 0, a priority tag, is one too (CVE-2021-27853).
        for tci in [0, 0xe000, 5] {
            let frame = Sample::udp4().tag(kind, tci).build();
            let twice = Sample::udp4().tag(kind, tci).tag(0x8100, 7).build();
            for frame in [frame, twice] {
                drops(&port(), &frame, DropReason::VlanTag);
                assert_eq!(ingress(&port(), frame.clone()), Err(DropReason::VlanTag));
                passes(&trunk(), &frame);
                assert_eq!(ingress(&trunk(), frame), Ok(()));
            }
        }
    }
    let three = Sample::udp4().tag(0x8100, 1).tag(0x8100, 2).tag(0x8100, 3).build();
    drops(&trunk(), &three, DropReason::VlanTag);
}

#[test]
fn a_trunk_is_judged_inside_its_tags() {
    for tags in 1..=2 {
        let tagged = |sample: Sample| (0..tags).fold(sample, |s, vlan| s.tag(0x8100, vlan));
        passes(&trunk(), &from(tagged(Sample::udp4()), OWN4));
        drops(&trunk(), &from(tagged(Sample::udp4()), OTHER4), DropReason::SourceIp);
        drops(&trunk(), &from(tagged(Sample::udp6()), OTHER6), DropReason::SourceIp);
        let dhcp = from(tagged(Sample::udp4().ports(67, 68)), OWN4);
        drops(&trunk(), &dhcp, DropReason::DhcpServer);
    }
}

#[test]
fn each_header_error_has_a_name() {
    for (error, reason) in [
        (HeaderError::FrameShort, DropReason::FrameShort),
        (HeaderError::VlanDepth, DropReason::VlanTag),
        (HeaderError::IpHeader, DropReason::BadHeaders),
        (HeaderError::IpLength, DropReason::BadHeaders),
        (HeaderError::Transport, DropReason::BadHeaders),
    ] {
        assert_eq!(DropReason::from(error), reason);
    }
}

/// `frame` as it comes back from `OTHER` to the port, its group address kept.
fn ingress(policy: &PortPolicy, mut frame: Vec<u8>) -> Result<(), DropReason> {
    if frame[0] & 1 == 0 {
        frame[..6].copy_from_slice(&MAC.0);
    }
    frame[6..12].copy_from_slice(&OTHER.0);
    check_ingress(policy, &frame)
}

#[test]
fn destination_mac_must_be_own_or_a_group() {
    let to = |destination| Sample::udp4().macs(OTHER, destination).build();
    for group in [MAC, MacAddr::BROADCAST, MacAddr([0x33, 0x33, 0, 0, 0, 1])] {
        assert_eq!(check_ingress(&port(), &to(group)), Ok(()));
    }
    for other in [MacAddr([2, 0, 0, 0, 0, 9]), MacAddr::default()] {
        assert_eq!(check_ingress(&port(), &to(other)), Err(DropReason::DestinationMac));
    }
}

#[test]
fn reflection_is_what_comes_back_with_ones_own_source() {
    let frame = Sample::udp4().macs(MAC, MacAddr::BROADCAST).build();
    assert_eq!(check_ingress(&port(), &frame), Err(DropReason::Reflection));
    assert_eq!(ingress(&port(), frame), Ok(()));
}

#[test]
fn what_comes_from_outside_is_not_judged_above_layer_2() {
    let advertisement = [vec![134, 0, 0, 0, 64, 0, 7, 8], vec![0; 8]].concat();
    assert_eq!(ingress(&port(), icmp6("fe80::1", "ff02::1", &advertisement)), Ok(()));
    assert_eq!(ingress(&port(), Sample::udp4().ports(67, 68).build()), Ok(()));
    for len in 0..14 {
        let frame = Sample::udp4().build();
        assert_eq!(check_ingress(&port(), &frame[..len]), Err(DropReason::FrameShort));
    }
}

/// Frames of all shapes that the guard distinguishes, all of which pass.
fn good_frames() -> Vec<Vec<u8>> {
    vec![
        from(Sample::tcp4(), OWN4),
        from(Sample::tcp6(), OWN6),
        dhcp_discover().build(),
        arp(1, (MAC, OWN4), OTHER4),
        build::rarp_announce(MAC).to_vec(),
        icmp6("::", SOLICITED_NODE, &discovery(135, OWN6, &[])),
        icmp6(OWN6, OTHER6, &discovery(136, OWN6, &mac_option(2, MAC))),
        from(Sample::udp6().extension(0, vec![0; 8]).extension(43, vec![0; 8]), OWN6),
        from(Sample::udp4().ipv4_fragment(7), OWN4),
    ]
}

#[test]
fn a_frame_cut_anywhere_is_dropped() {
    for frame in good_frames() {
        passes(&port(), &frame);
        let ip_end = Headers::parse(&frame, frame.len()).unwrap().ip_end;
        let needed = match u16::from_be_bytes([frame[12], frame[13]]) {
            ethertype::ARP | ethertype::RARP => 42,
            _ => usize::try_from(ip_end).unwrap(),
        };
        for len in 0..needed {
            assert!(egress(&port(), &frame[..len]).is_err(), "{len} of {frame:02x?}");
        }
    }
}

/// What must hold of any untagged frame that passed, by fixed offsets.
fn claims_only_what_is_own(frame: &[u8]) -> bool {
    let own4 = OWN4.parse::<Ipv4Addr>().unwrap().octets();
    let own6 = [v6(OWN6).octets(), v6(OWN_LINK_LOCAL).octets(), [0; 16]];
    let layer3 = match u16::from_be_bytes([frame[12], frame[13]]) {
        0x0800 => frame[26..30] == own4 || (frame[26..34] == [0, 0, 0, 0, 255, 255, 255, 255]),
        0x86dd => own6.iter().any(|own| frame[22..38] == *own),
        0x0806 => frame[22..28] == MAC.0 && (frame[28..32] == own4 || frame[28..32] == [0; 4]),
        _ => true,
    };
    let advertises = frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 136;
    frame[6..12] == MAC.0 && layer3 && (!advertises || own6.iter().any(|o| frame[62..78] == *o))
}

proptest! {
    #[test]
    fn a_changed_frame_that_passes_claims_only_what_is_own(
        at in any::<prop::sample::Index>(),
        changes in prop::collection::vec((0usize..110, any::<u8>()), 1..4),
    ) {
        let frames = good_frames();
        let mut frame = frames[at.index(frames.len())].clone();
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        if egress(&port(), &frame).is_ok() {
            prop_assert!(claims_only_what_is_own(&frame), "{:02x?}", frame);
        }
        let _ = egress(&free(), &frame);
        let _ = egress(&trunk(), &frame);
        let _ = check_ingress(&port(), &frame);
    }

    #[test]
    fn random_frames_never_panic(
        kind in prop::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x8035, 0x8100, 40]),
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Some(field) = bytes.get_mut(6..14) {
            field[..6].copy_from_slice(&MAC.0);
            field[6..].copy_from_slice(&kind.to_be_bytes());
        }
        for policy in [port(), trunk(), router(), free()] {
            let _ = egress(&policy, &bytes);
            let _ = check_ingress(&policy, &bytes);
        }
    }
}

#[test]
fn what_the_host_itself_announces_for_a_vnic_would_pass_its_guard() {
    let own4 = Binding { ip: OWN4.parse().unwrap(), mac: MAC };
    let own6 = Binding { ip: v6(OWN6), mac: MAC };
    passes(&port(), &build::gratuitous_arp(own4));
    passes(&port(), &build::unsolicited_advertisement(own6, false));
}

#[test]
fn an_open_checksum_does_not_matter_to_the_guard() {
    let (mut frame, request) = Sample::udp4().build_open();
    passes(&port(), &frame);
    complete(&mut frame, request).unwrap();
    passes(&port(), &frame);
}
