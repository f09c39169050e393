//! Frames that two neighbours on one cable exchange: they never cross a gateway.
//!
//! A spanning tree BPDU of a guest can err-disable the switch port of the uplink,
//! and failover would carry it to the next one; an LACP or LLDP frame from outside
//! would tell a guest about a cable that it is not on. Dropped in both directions.

use wireonce_frame::{Ethernet, MacAddr, headers::ethertype};

/// 01-80-C2-00-00-00 to 0F: bridges do not forward them (IEEE 802.1Q, table 8-1).
const BRIDGE_GROUP: [u8; 5] = [0x01, 0x80, 0xc2, 0x00, 0x00];
/// CDP, VTP, UDLD, PAgP and other protocols of Cisco.
const CISCO_GROUP: [u8; 5] = [0x01, 0x00, 0x0c, 0xcc, 0xcc];
/// The last bytes of [`CISCO_GROUP`] that are in use: CDP and its relatives, and PVST+.
const CISCO_LAST: [u8; 2] = [0xcc, 0xcd];

/// True for BPDUs, PAUSE, LACP, LLDP, 802.1X, CDP and their relatives.
#[must_use]
pub fn is_link_control(ethernet: &Ethernet) -> bool {
    let by_type = matches!(
        ethernet.ethertype,
        ethertype::MAC_CONTROL | ethertype::SLOW_PROTOCOLS | ethertype::LLDP
    );
    by_type || is_link_group(ethernet.destination)
}

fn is_link_group(MacAddr([a, b, c, d, e, last]): MacAddr) -> bool {
    match [a, b, c, d, e] {
        BRIDGE_GROUP => last <= 0x0f,
        CISCO_GROUP => CISCO_LAST.contains(&last),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(destination: &str, ethertype: u16) -> Ethernet {
        let source = MacAddr([2, 0, 0, 0, 0, 1]);
        Ethernet { destination: destination.parse().unwrap(), source, ethertype, tags: 0 }
    }

    #[test]
    fn neighbour_protocols_are_recognised() {
        for (destination, ethertype) in [
            ("01:80:c2:00:00:00", 38),     // BPDU: the field is a length
            ("01:80:c2:00:00:0f", 0x0800), // last of the range
            ("01:00:0c:cc:cc:cc", 0x0100), // CDP
            ("01:00:0c:cc:cc:cd", 0x0032), // PVST+
            ("52:54:00:00:00:01", 0x8808), // PAUSE to a unicast address
            ("52:54:00:00:00:01", 0x8809), // LACP
            ("52:54:00:00:00:01", 0x88cc), // LLDP
        ] {
            assert!(is_link_control(&to(destination, ethertype)), "{destination} {ethertype:#x}");
        }
    }

    #[test]
    fn other_multicast_passes() {
        for destination in ["01:80:c2:00:00:10", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"] {
            assert!(!is_link_control(&to(destination, 0x0800)), "{destination}");
        }
    }
}
