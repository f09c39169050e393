//! Answers for known neighbours: ARP and neighbour discovery stay at the port.
//!
//! The desired state says which vNIC has which address, so a guest's question
//! for one of them needs no flooding (the idea of RFC 9161). [`Neighbours::answer`]
//! writes what the asked station itself would answer, for the asker alone:
//!
//! | the question | what happens | why |
//! |---|---|---|
//! | broadcast ARP request, or a solicitation to a group, for another's address | answered | |
//! | the same, sent unicast | goes on to the owner | it asks whether the owner is alive (RFC 1122 2.3.2.1, RFC 4861 7.3) |
//! | ARP probe or DAD for the asker's own address; ARP announcement | goes on | others must hear it, and nobody may object |
//! | ARP probe or DAD for another's address | answered: the address is taken | the owner must defend it (RFC 5227 2.4, RFC 4862 5.4.3), and here it is defended while its VM is off |
//! | for an unknown address | goes on | the station may be outside |
//! | with a VLAN tag | goes on | what is inside a trunk's VLANs is not in the desired state |
//!
//! The answer is not a proxy's (RFC 4389): it has the owner's own MAC, so it
//! overrides as the owner's would. Its router flag must be the owner's, else
//! nodes drop the owner from their routers (RFC 4861, 7.2.5).

use super::PortPolicy;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wireonce_frame::build::{self, Binding};
use wireonce_frame::headers::chunk;
use wireonce_frame::{Fragment, Headers, Layer3, Layer4, MacAddr};
use wireonce_wire::Vni;

/// Who has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The vNIC's MAC address.
    pub mac: MacAddr,
    /// The vNIC may route; see [`PortPolicy::allow_router_advertisement`].
    pub router: bool,
}

/// The known addresses of all networks of this host's ports.
#[derive(Debug, Clone, Default)]
pub struct Neighbours {
    table: HashMap<(Vni, IpAddr), Neighbour>,
}

impl Neighbours {
    /// Notes who has `ip` in the network; returns who had it until now.
    pub fn insert(&mut self, vni: Vni, ip: IpAddr, neighbour: Neighbour) -> Option<Neighbour> {
        self.table.insert((vni, ip), neighbour)
    }

    /// Forgets an address; returns who had it.
    pub fn remove(&mut self, vni: Vni, ip: IpAddr) -> Option<Neighbour> {
        self.table.remove(&(vni, ip))
    }

    /// Who has `ip` in the network.
    #[must_use]
    pub fn get(&self, vni: Vni, ip: IpAddr) -> Option<Neighbour> {
        self.table.get(&(vni, ip)).copied()
    }

    /// How many addresses are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True where no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Answers `asker`'s question for a known neighbour: writes the answer, a
    /// frame for the asker, to `out`, and returns true; the question then goes no
    /// further. False, `out` untouched, where there is nothing to answer. The
    /// frame must have passed the port guard, which holds that the sender
    /// addresses in it are the asker's.
    #[inline]
    pub fn answer(
        &self,
        vni: Vni,
        asker: &PortPolicy,
        head: &[u8],
        headers: &Headers,
        out: &mut Vec<u8>,
    ) -> bool {
        if !headers.ethernet.destination.is_group() || headers.ethernet.tags > 0 {
            return false;
        }
        match (headers.layer3, headers.layer4) {
            (Layer3::Arp, _) => self.answer_arp(vni, asker.mac, head, headers, out),
            (Layer3::Ipv6, Layer4::Icmpv6) => {
                self.answer_solicitation(vni, asker.mac, head, headers, out)
            }
            _ => None,
        }
        .is_some()
    }

    fn answer_arp(
        &self,
        vni: Vni,
        asker: MacAddr,
        head: &[u8],
        headers: &Headers,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        const ETHERNET_IPV4_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
        let at = headers.l3_offset();
        let sender = Ipv4Addr::from(*chunk::<4>(head, at + 14)?);
        let target = Ipv4Addr::from(*chunk::<4>(head, at + 24)?);
        if *chunk::<8>(head, at)? != ETHERNET_IPV4_REQUEST || sender == target {
            return None;
        }
        let owner = self.get(vni, target.into()).filter(|owner| owner.mac != asker)?;
        let owner = Binding { ip: target, mac: owner.mac };
        let asker = Binding { ip: sender, mac: asker };
        replace(out, &build::arp_reply(owner, asker));
        Some(())
    }

    fn answer_solicitation(
        &self,
        vni: Vni,
        asker: MacAddr,
        head: &[u8],
        headers: &Headers,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        const NEIGHBOUR_SOLICITATION: [u8; 2] = [135, 0];
        let (ip, icmp) = (headers.l3_offset(), headers.l4_offset());
        let hop_limit = *head.get(ip + 7)?;
        let is_solicitation = *chunk::<2>(head, icmp)? == NEIGHBOUR_SOLICITATION;
        if !is_solicitation || hop_limit != 255 || headers.fragment != Fragment::Whole {
            return None;
        }
        let sender = Ipv6Addr::from(*chunk::<16>(head, ip + 8)?);
        let target = Ipv6Addr::from(*chunk::<16>(head, icmp + 8)?);
        if icmp + 24 > usize::try_from(headers.ip_end).ok()? {
            return None;
        }
        let Neighbour { mac, router } =
            self.get(vni, target.into()).filter(|owner| owner.mac != asker)?;
        let owner = Binding { ip: target, mac };
        let answer = if sender.is_unspecified() {
            build::advertisement_of_duplicate(owner, asker, router)
        } else {
            build::advertisement_reply(owner, Binding { ip: sender, mac: asker }, router)
        };
        replace(out, &answer);
        Some(())
    }
}

fn replace(out: &mut Vec<u8>, frame: &[u8]) {
    out.clear();
    out.extend_from_slice(frame);
}

#[cfg(test)]
mod tests;
