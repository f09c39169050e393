//! What a port allows: the part of a vNIC's desired state that the guard needs.

use ipnet::IpNet;
use wireonce_frame::MacAddr;

/// The IP addresses that a vNIC may use as its own.
///
/// Empty: any address of both families. Otherwise a family of which no address
/// is given is closed, so that a vNIC with an IPv4 address alone has no IPv6 at
/// all, not even link-local (the rule of OVN's `port_security`). With an IPv6
/// address given, the link-local address that follows from the MAC (modified
/// EUI-64, RFC 4291 appendix A) is allowed too; guests that choose theirs in
/// another way (RFC 7217, RFC 8981) need it, or `fe80::/64`, in the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressSet {
    v4: Vec<Masked<u32>>,
    v6: Vec<Masked<u128>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Masked<T> {
    network: T,
    mask: T,
}

impl AddressSet {
    /// Any address of both families.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// True where addresses are not judged.
    #[inline]
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// True where IPv4 is closed.
    #[inline]
    #[must_use]
    pub fn is_closed_v4(&self) -> bool {
        self.v4.is_empty() && !self.v6.is_empty()
    }

    /// True where IPv6 is closed.
    #[inline]
    #[must_use]
    pub fn is_closed_v6(&self) -> bool {
        self.v6.is_empty() && !self.v4.is_empty()
    }

    /// Whether an IPv4 address may be used.
    #[inline]
    #[must_use]
    pub fn allows_v4(&self, address: u32) -> bool {
        self.is_any() || self.v4.iter().any(|net| address & net.mask == net.network)
    }

    /// Whether an IPv6 address may be used; link-local addresses are no exception here.
    #[inline]
    #[must_use]
    pub fn allows_v6(&self, address: u128) -> bool {
        self.is_any() || self.v6.iter().any(|net| address & net.mask == net.network)
    }
}

impl FromIterator<IpNet> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let mut set = Self::default();
        for net in nets {
            match net {
                IpNet::V4(net) => set.v4.push(Masked {
                    network: net.network().to_bits(),
                    mask: net.netmask().to_bits(),
                }),
                IpNet::V6(net) => set.v6.push(Masked {
                    network: net.network().to_bits(),
                    mask: net.netmask().to_bits(),
                }),
            }
        }
        set
    }
}

/// What one port allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPolicy {
    /// The vNIC's MAC address: the only source, and the only unicast destination.
    pub mac: MacAddr,
    /// The addresses that it may use as its own.
    pub addresses: AddressSet,
    /// The guest may send and receive frames with VLAN tags.
    pub trunk: bool,
    /// The guest may answer DHCP and DHCPv6 clients.
    pub allow_dhcp_server: bool,
    /// The guest may act as a router: router advertisements and redirects.
    pub allow_router_advertisement: bool,
    /// Longest IP packet of the network, in bytes.
    pub mtu: u16,
}

impl PortPolicy {
    /// The policy without any permission.
    #[must_use]
    pub fn strict(mac: MacAddr, addresses: AddressSet, mtu: u16) -> Self {
        Self {
            mac,
            addresses,
            trunk: false,
            allow_dhcp_server: false,
            allow_router_advertisement: false,
            mtu,
        }
    }

    /// The link-local IPv6 address that follows from the MAC address.
    #[must_use]
    pub fn link_local(&self) -> u128 {
        let [a, b, c, d, e, f] = self.mac.0;
        let interface = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        0xfe80 << 112 | u128::from(interface)
    }

    /// Whether the vNIC may use an IPv6 address, its link-local one included.
    #[inline]
    #[must_use]
    pub fn owns_v6(&self, address: u128) -> bool {
        let closed = self.addresses.is_closed_v6();
        self.addresses.allows_v6(address) || (!closed && address == self.link_local())
    }

    /// False where the port may do all that layer 3 has, so that a packet whose
    /// upper layer cannot be seen needs no verdict.
    #[inline]
    #[must_use]
    pub fn judges_layer3(&self) -> bool {
        !self.addresses.is_any() || !self.allow_dhcp_server || !self.allow_router_advertisement
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn set(nets: &[&str]) -> AddressSet {
        nets.iter().map(|net| net.parse::<IpNet>().unwrap()).collect()
    }

    fn policy(nets: &[&str]) -> PortPolicy {
        PortPolicy::strict(MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]), set(nets), 1500)
    }

    fn v6(text: &str) -> u128 {
        text.parse::<Ipv6Addr>().unwrap().to_bits()
    }

    #[test]
    fn prefixes_and_hosts_match() {
        let set = set(&["10.0.0.1/32", "10.1.2.3/16", "2001:db8::/64"]);
        assert!(set.allows_v4(0x0a00_0001));
        assert!(!set.allows_v4(0x0a00_0002));
        assert!(set.allows_v4(0x0a01_ffff), "host bits of a prefix do not matter");
        assert!(set.allows_v6(v6("2001:db8::9")));
        assert!(!set.allows_v6(v6("2001:db8:0:1::9")));
    }

    #[test]
    fn a_prefix_of_no_bits_is_the_whole_family() {
        let set = set(&["0.0.0.0/0"]);
        assert!(set.allows_v4(0) && set.allows_v4(u32::MAX));
        assert!(set.is_closed_v6() && !set.is_closed_v4());
    }

    #[test]
    fn a_family_without_address_is_closed() {
        let v4_only = policy(&["10.0.0.1/32"]);
        assert!(v4_only.addresses.is_closed_v6());
        assert!(!v4_only.owns_v6(v4_only.link_local()));
        let v6_only = policy(&["2001:db8::1/128"]);
        assert!(v6_only.addresses.is_closed_v4());
        assert!(!v6_only.addresses.allows_v4(1));
        assert!(v6_only.owns_v6(v6_only.link_local()));
        let any = policy(&[]);
        assert!(!any.addresses.is_closed_v4() && !any.addresses.is_closed_v6());
        assert!(any.addresses.allows_v4(1) && any.owns_v6(1));
    }

    #[test]
    fn the_link_local_address_follows_from_the_mac() {
        assert_eq!(policy(&[]).link_local(), v6("fe80::5054:ff:fe12:3456"));
    }
}
