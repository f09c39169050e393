//! What a frame claims about its sender above layer 2: ARP, IPv4, IPv6, DHCP,
//! neighbour discovery. The rules and their reasons are in the parent's text.

use super::super::PortPolicy;
use wireonce_frame::headers::chunk;
use wireonce_frame::{Fragment, Headers, Layer4, MacAddr};
use wireonce_ledger::DropReason;

const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCPV6_CLIENT: u16 = 546;
const DHCPV6_SERVER: u16 = 547;

/// ICMP types (RFC 792, RFC 1256).
mod icmp {
    pub(super) const REDIRECT: u8 = 5;
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 9;
}

/// ICMPv6 types (RFC 4861, RFC 2710, RFC 3810, RFC 2894).
mod icmpv6 {
    pub(super) const LISTENER_REPORT: u8 = 131;
    pub(super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub(super) const REDIRECT: u8 = 137;
    pub(super) const ROUTER_RENUMBERING: u8 = 138;
    pub(super) const LISTENER_REPORT_V2: u8 = 143;
}

#[inline]
pub(super) fn check_ipv4(
    policy: &PortPolicy,
    headers: &Headers,
    head: &[u8],
) -> Result<(), DropReason> {
    let (source, destination) = headers.ipv4_addresses(head).ok_or(DropReason::BadHeaders)?;
    if !policy.addresses.allows_v4(source) {
        let asks_for_address = source == 0
            && destination == u32::MAX
            && !policy.addresses.is_closed_v4()
            && headers.layer4 == Layer4::Udp
            && headers.fragment == Fragment::Whole
            && (headers.source_port, headers.destination_port) == (DHCP_CLIENT, DHCP_SERVER);
        if !asks_for_address {
            return Err(DropReason::SourceIp);
        }
    }
    match headers.layer4 {
        Layer4::Udp => check_dhcp(policy, headers, DHCP_SERVER, DHCP_CLIENT),
        Layer4::Icmp if !policy.allow_router_advertisement => {
            match head.get(headers.l4_offset()).ok_or(DropReason::BadHeaders)? {
                &icmp::REDIRECT | &icmp::ROUTER_ADVERTISEMENT => {
                    Err(DropReason::RouterAdvertisement)
                }
                _ => Ok(()),
            }
        }
        Layer4::Hidden if policy.judges_layer3() => Err(DropReason::BadHeaders),
        _ => Ok(()),
    }
}

#[inline]
pub(super) fn check_ipv6(
    policy: &PortPolicy,
    headers: &Headers,
    head: &[u8],
) -> Result<(), DropReason> {
    let (source, destination) = headers.ipv6_addresses(head).ok_or(DropReason::BadHeaders)?;
    let starts_up = || source == 0 && is_start_up(policy, headers, head, destination);
    if !policy.owns_v6(source) && !starts_up() {
        return Err(DropReason::SourceIp);
    }
    match headers.layer4 {
        Layer4::Udp => check_dhcp(policy, headers, DHCPV6_SERVER, DHCPV6_CLIENT),
        Layer4::Icmpv6 => check_discovery(policy, headers, head, source),
        Layer4::Hidden if policy.judges_layer3() => Err(DropReason::BadHeaders),
        _ => Ok(()),
    }
}

/// Whether an IPv6 packet without source address is one that a station sends
/// before it has one.
fn is_start_up(policy: &PortPolicy, headers: &Headers, head: &[u8], destination: u128) -> bool {
    let message = head.get(headers.l4_offset()).copied().unwrap_or(0);
    !policy.addresses.is_closed_v6()
        && destination >> 112 == 0xff02
        && headers.layer4 == Layer4::Icmpv6
        && matches!(
            message,
            icmpv6::LISTENER_REPORT
                | icmpv6::LISTENER_REPORT_V2
                | icmpv6::ROUTER_SOLICITATION
                | icmpv6::NEIGHBOUR_SOLICITATION
        )
}

#[inline]
fn check_dhcp(
    policy: &PortPolicy,
    headers: &Headers,
    server: u16,
    client: u16,
) -> Result<(), DropReason> {
    let serves = headers.destination_port == client || headers.source_port == server;
    if serves && !policy.allow_dhcp_server { Err(DropReason::DhcpServer) } else { Ok(()) }
}

/// Neighbour discovery (RFC 4861, section 4).
fn check_discovery(
    policy: &PortPolicy,
    headers: &Headers,
    head: &[u8],
    source: u128,
) -> Result<(), DropReason> {
    let at = headers.l4_offset();
    let message = *head.get(at).ok_or(DropReason::BadHeaders)?;
    let routes = matches!(
        message,
        icmpv6::ROUTER_ADVERTISEMENT | icmpv6::REDIRECT | icmpv6::ROUTER_RENUMBERING
    );
    if routes && !policy.allow_router_advertisement {
        return Err(DropReason::RouterAdvertisement);
    }
    let fixed_len = match message {
        icmpv6::ROUTER_SOLICITATION => 8,
        icmpv6::ROUTER_ADVERTISEMENT => 16,
        icmpv6::NEIGHBOUR_SOLICITATION | icmpv6::NEIGHBOUR_ADVERTISEMENT => 24,
        // A redirect's option has the MAC of the router that it recommends.
        _ => return Ok(()),
    };
    let end = usize::try_from(headers.ip_end).unwrap_or(usize::MAX);
    if headers.fragment != Fragment::Whole || at + fixed_len > end {
        return Err(DropReason::BadHeaders);
    }
    let claims_target = message == icmpv6::NEIGHBOUR_ADVERTISEMENT
        || (message == icmpv6::NEIGHBOUR_SOLICITATION && source == 0);
    if claims_target {
        let target = chunk::<16>(head, at + 8).ok_or(DropReason::BadHeaders)?;
        if !policy.owns_v6(u128::from_be_bytes(*target)) {
            return Err(DropReason::NdSpoof);
        }
    }
    // A router's advertisement may be longer than the head: prefixes, name servers.
    check_options(policy.mac, head, at + fixed_len, end, routes)
}

/// Source and target link-layer address options must have the vNIC's MAC.
fn check_options(
    mac: MacAddr,
    head: &[u8],
    from: usize,
    end: usize,
    may_be_long: bool,
) -> Result<(), DropReason> {
    const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
    const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
    let mut at = from;
    // At most 16 times: each option has 8 bytes or more, the head 128.
    while at < end {
        let Some(&[kind, eights, a, b, c, d, e, f]) = chunk::<8>(head, at) else {
            return if may_be_long { Ok(()) } else { Err(DropReason::BadHeaders) };
        };
        let next = at + usize::from(eights) * 8;
        if eights == 0 || next > end {
            return Err(DropReason::BadHeaders);
        }
        let is_address = matches!(kind, SOURCE_LINK_LAYER_ADDRESS | TARGET_LINK_LAYER_ADDRESS);
        if is_address && mac != MacAddr([a, b, c, d, e, f]) {
            return Err(DropReason::NdSpoof);
        }
        at = next;
    }
    Ok(())
}

/// The fields of an ARP packet for Ethernet and IPv4 (RFC 826).
struct Arp {
    operation: u16,
    sender_mac: MacAddr,
    sender_ip: u32,
    target_mac: MacAddr,
    target_ip: u32,
}

const ARP_REQUEST: u16 = 1;
const RARP_REQUEST: u16 = 3;

impl Arp {
    fn read(headers: &Headers, head: &[u8]) -> Option<Self> {
        const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
        let at = headers.l3_offset();
        if *chunk::<6>(head, at)? != ETHERNET_IPV4 {
            return None;
        }
        Some(Self {
            operation: u16::from_be_bytes(*chunk(head, at + 6)?),
            sender_mac: MacAddr(*chunk(head, at + 8)?),
            sender_ip: u32::from_be_bytes(*chunk(head, at + 14)?),
            target_mac: MacAddr(*chunk(head, at + 18)?),
            target_ip: u32::from_be_bytes(*chunk(head, at + 24)?),
        })
    }
}

pub(super) fn check_arp(
    policy: &PortPolicy,
    headers: &Headers,
    head: &[u8],
) -> Result<(), DropReason> {
    let arp = Arp::read(headers, head).ok_or(DropReason::BadHeaders)?;
    let is_probe = arp.operation == ARP_REQUEST && arp.sender_ip == 0;
    let claimed = if is_probe { arp.target_ip } else { arp.sender_ip };
    if arp.sender_mac != policy.mac || !policy.addresses.allows_v4(claimed) {
        return Err(DropReason::ArpSpoof);
    }
    Ok(())
}

/// Reverse ARP: only a station's question for itself, by which it announces its
/// MAC after a migration (RFC 903).
pub(super) fn check_rarp(
    policy: &PortPolicy,
    headers: &Headers,
    head: &[u8],
) -> Result<(), DropReason> {
    let arp = Arp::read(headers, head).ok_or(DropReason::BadHeaders)?;
    let own = arp.sender_mac == policy.mac && arp.target_mac == policy.mac;
    let address = arp.sender_ip == 0 || policy.addresses.allows_v4(arp.sender_ip);
    if arp.operation != RARP_REQUEST || !own || !address {
        return Err(DropReason::ArpSpoof);
    }
    Ok(())
}
