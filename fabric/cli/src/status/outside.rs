//! What is known of the network outside, as tables.

use crate::output::Table;
use std::collections::BTreeMap;
use wireonce_ledger::{Status, status::OutsidePairStatus};

/// VLANs that are named in one row.
const VLANS_NAMED: usize = 8;

/// The routers behind uplinks that are asked whether they answer.
pub(super) fn next_hops(now: &Status) -> String {
    let mut table = Table::new(["NEXT HOP OF", "ADDRESS", "VLAN", "STATE"]);
    for uplink in &now.uplinks {
        if let Some(hop) = &uplink.next_hop {
            let (address, state) = (hop.address.clone(), hop.state.clone());
            table.row([uplink.name.clone(), address, vlan(hop.vlan), state]);
        }
    }
    table.render()
}

/// The ports of bonds.
pub(super) fn members(now: &Status) -> String {
    let mut table = Table::new(["BOND", "MEMBER", "CARRIER", "SPEED"]);
    for uplink in &now.uplinks {
        for member in &uplink.members {
            table.row([
                uplink.name.clone(),
                member.interface.clone(),
                if member.carrier { "yes" } else { "NO" }.to_owned(),
                member.speed_mbps.map_or("-".to_owned(), |mbps| format!("{mbps} Mb/s")),
            ]);
        }
    }
    table.render()
}

/// How uplinks are joined outside: one row for each pair and state, with its VLANs.
pub(super) fn pairs(now: &Status) -> String {
    let mut rows: BTreeMap<(&str, &str, &str), Vec<&OutsidePairStatus>> = BTreeMap::new();
    for pair in &now.outside {
        rows.entry((&pair.uplink, &pair.other, &pair.state)).or_default().push(pair);
    }
    let mut table = Table::new(["OUTSIDE", "OTHER", "STATE", "VLANS", "LOOK AT"]);
    for ((uplink, other, state), pairs) in rows {
        let named: Vec<String> = pairs.iter().take(VLANS_NAMED).map(|it| vlan(it.vlan)).collect();
        let vlans = match pairs.len().saturating_sub(VLANS_NAMED) {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        };
        let look = pairs.iter().find_map(|pair| pair.look.clone()).unwrap_or_default();
        table.row([uplink.to_owned(), other.to_owned(), state.to_owned(), vlans, look]);
    }
    table.render()
}

fn vlan(vlan: Option<u16>) -> String {
    vlan.map_or("untagged".to_owned(), |vlan| vlan.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_ledger::status::{MemberStatus, NextHopStatus, UplinkStatus};

    fn pair(other: &str, vlan: Option<u16>, state: &str, look: Option<&str>) -> OutsidePairStatus {
        OutsidePairStatus {
            uplink: "east-1".to_owned(),
            other: other.to_owned(),
            vlan,
            state: state.to_owned(),
            look: look.map(str::to_owned),
        }
    }

    #[test]
    fn vlans_in_the_same_state_are_one_row_and_what_is_wrong_says_where_to_look() {
        let mut outside: Vec<_> =
            (1..=10).map(|vlan| pair("east-2", Some(vlan), "joined", None)).collect();
        outside.push(pair("east-2", None, "vlan-missing", Some("look at the trunks")));
        let page = pairs(&Status { outside, ..Status::default() });
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines.len(), 3, "{page}");
        assert!(lines[1].contains("1, 2, 3, 4, 5, 6, 7, 8 and 2 more"), "{page}");
        assert!(lines[2].contains("untagged") && lines[2].contains("look at the trunks"), "{page}");
    }

    #[test]
    fn next_hops_and_members_are_shown_and_nothing_where_there_are_none() {
        let hop = NextHopStatus {
            address: "192.0.2.1".to_owned(),
            vlan: Some(20),
            state: "silent".to_owned(),
        };
        let member = |interface: &str, carrier, speed_mbps| MemberStatus {
            interface: interface.to_owned(),
            carrier,
            speed_mbps,
        };
        let uplink = UplinkStatus {
            name: "east-1".to_owned(),
            next_hop: Some(hop),
            members: vec![member("eth1", true, Some(10_000)), member("eth2", false, None)],
            ..UplinkStatus::default()
        };
        let now = Status { uplinks: vec![uplink], ..Status::default() };
        assert!(next_hops(&now).contains("192.0.2.1"), "{}", next_hops(&now));
        assert!(members(&now).contains("10000 Mb/s"), "{}", members(&now));
        assert!(members(&now).contains("NO"), "{}", members(&now));
        let none = Status::default();
        assert_eq!((next_hops(&none), members(&none), pairs(&none)), Default::default());
    }
}
