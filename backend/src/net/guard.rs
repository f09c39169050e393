//! The port guard: what a guest may send, and what reaches it.
//!
//! Deny by default, a name for each drop. The rules, in the order in which they
//! are asked; `docs/port-guard.md` has them as a table for operators.
//!
//! # Own MAC only
//! The source MAC is the vNIC's (`source-mac`). Locations come from the desired
//! state, so a forged source could not steal traffic inside; outside, the
//! physical switches would learn it. Towards the guest, unicast frames must be
//! for its MAC (`destination-mac`), and must not be its own (`reflection`): a
//! guest that hears its own DAD probe gives up its address.
//!
//! # No link control
//! Frames to 01-80-C2-00-00-00..0F, which bridges never forward (IEEE 802.1Q,
//! table 8-1: BPDU, PAUSE, LACP, LLDP, 802.1X); to ..20..2F (GVRP, MVRP), which
//! would add VLANs to a switch port; to Cisco's CDP, VTP and PVST+ addresses; and
//! PAUSE, slow protocol and LLDP ethertypes wherever they go (`link-control`). One
//! BPDU of a guest can make a switch shut the uplink down, and failover would
//! carry it to the next.
//!
//! # No probes of gateways
//! Frames of ethertype 0x88B5, with which gateways find out how the outside network is joined
//! (`probe-forged`). They are sealed, so a guest's would convince nobody; it has no part in them all
//! the same.
//!
//! # No VLAN tags, unless a trunk
//! Neither way (`vlan-tag`); priority tags (VLAN 0) count, because receivers
//! disagree about them (CVE-2021-27853). On a trunk all other rules look through
//! up to two tags.
//!
//! # Own IP addresses only
//! Sources are the vNIC's addresses (`source-ip`), where it has some; see
//! [`AddressSet`](super::AddressSet) for closed families. What a station needs
//! before it has an address is allowed: DHCP from 0.0.0.0:68 to the broadcast
//! address, port 67; and from `::` to link-local multicast groups neighbour
//! solicitations for its own addresses (DAD, RFC 4862), router solicitations
//! (RFC 4861) and multicast listener reports (RFC 3590).
//!
//! # Own ARP and neighbour discovery claims only
//! ARP: the sender's MAC is the vNIC's and its IP address is own; in a probe
//! (sender 0.0.0.0, RFC 5227) the target is, for a probe for another's address
//! would make a station that is just starting give that address up (`arp-spoof`).
//! ND: all link-layer address options have the vNIC's MAC, an advertisement's
//! *target* is own (CVE-2023-5366), and so is the target of a DAD probe
//! (`nd-spoof`). ND in fragments is refused (`bad-headers`; RFC 6980).
//!
//! # No DHCP server, no router, unless allowed
//! UDP to a DHCP client's port (68, 546) or from a server's (67, 547)
//! (`dhcp-server`); router advertisements, redirects and router renumbering of
//! ICMPv6, router advertisements and redirects of ICMP (`router-advertisement`).
//! By ports and types alone: clients do not look at much more.
//!
//! # Nothing that hides from these rules
//! Headers that contradict each other; a transport header that is not within the
//! copied head, behind a long chain of extension headers or in a later fragment
//! (RFC 7113); IP behind LLC/SNAP (CVE-2021-27861) (`bad-headers`). A port that
//! may do everything is not asked.
//!
//! *Not* judged: TCP and UDP ports in general (this is no firewall), MLD and IGMP
//! queries, the contents of DHCP messages, and tunnels that a guest builds inside
//! its own packets.

mod claims;

use super::PortPolicy;
use wireonce_frame::headers::{chunk, ethertype};
use wireonce_frame::{Ethernet, Headers, Layer3, MacAddr};
use wireonce_ledger::DropReason;

/// Judges a frame from the guest. `head` is what `headers` were parsed from.
///
/// # Errors
/// The name under which the frame is dropped.
#[inline]
pub fn check_egress(policy: &PortPolicy, headers: &Headers, head: &[u8]) -> Result<(), DropReason> {
    if headers.ethernet.source != policy.mac {
        return Err(DropReason::SourceMac);
    }
    check_layer2(policy, &headers.ethernet)?;
    match headers.layer3 {
        Layer3::Ipv4 => claims::check_ipv4(policy, headers, head),
        Layer3::Ipv6 => claims::check_ipv6(policy, headers, head),
        Layer3::Arp => claims::check_arp(policy, headers, head),
        Layer3::Other => check_other(policy, headers, head),
    }
}

/// Judges a frame for the guest by its layer 2 alone: what is above was judged
/// where it came in, or comes from outside, where routers and DHCP servers are.
///
/// # Errors
/// The name under which the frame is dropped.
#[inline]
pub fn check_ingress(policy: &PortPolicy, head: &[u8]) -> Result<(), DropReason> {
    let ethernet = Ethernet::parse(head)?;
    if ethernet.destination != policy.mac && !ethernet.destination.is_group() {
        return Err(DropReason::DestinationMac);
    }
    if ethernet.source == policy.mac {
        return Err(DropReason::Reflection);
    }
    check_layer2(policy, &ethernet)
}

#[inline]
fn check_layer2(policy: &PortPolicy, ethernet: &Ethernet) -> Result<(), DropReason> {
    if is_link_control(ethernet) {
        return Err(DropReason::LinkControl);
    }
    if ethernet.tags > 0 && !policy.trunk {
        return Err(DropReason::VlanTag);
    }
    Ok(())
}

#[inline]
fn is_link_control(ethernet: &Ethernet) -> bool {
    let by_address = ethernet.destination.is_group() && is_control_address(ethernet.destination);
    let by_type = matches!(
        ethernet.ethertype,
        ethertype::MAC_CONTROL | ethertype::SLOW_PROTOCOLS | ethertype::LLDP
    );
    by_address || by_type
}

/// Group addresses that belong to bridges and switches.
fn is_control_address(address: MacAddr) -> bool {
    match address.0 {
        // IEEE 802.1Q: reserved (00-0F), and registration of VLANs and groups (20-2F).
        [0x01, 0x80, 0xc2, 0, 0, last] => matches!(last & 0xf0, 0x00 | 0x20),
        // Cisco: CDP, VTP, DTP, PAgP, UDLD (cc); PVST+ (cd).
        [0x01, 0x00, 0x0c, 0xcc, 0xcc, last] => matches!(last, 0xcc | 0xcd),
        _ => false,
    }
}

/// What is neither IP nor ARP.
fn check_other(policy: &PortPolicy, headers: &Headers, head: &[u8]) -> Result<(), DropReason> {
    const SNAP: [u8; 2] = [0xaa, 0xaa];
    match headers.ethernet.ethertype {
        ethertype::RARP => claims::check_rarp(policy, headers, head),
        ethertype::PROBE => Err(DropReason::ProbeForged),
        // An IEEE 802.3 length: LLC follows. SNAP can hold any ethertype once more.
        length if length < ethertype::MIN && policy.judges_layer3() => {
            match chunk::<2>(head, headers.l3_offset()) {
                Some(&SNAP) | None => Err(DropReason::BadHeaders),
                Some(_) => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
