//! What a desk tells about itself.

use super::desk::{Counters, Desk};
use wireonce_ledger::status::{MemberStatus, NextHopStatus, OutsidePairStatus};
use wireonce_wire::UplinkId;

impl Desk {
    /// How the uplinks are joined, pair by pair and VLAN by VLAN; an uplink that hears itself is a
    /// pair with itself.
    pub(crate) fn pairs(&self) -> Vec<OutsidePairStatus> {
        let mut rows = Vec::new();
        for pool in &self.pools {
            let row = |own, other, vlan, verdict: super::verdict::Verdict| OutsidePairStatus {
                uplink: pool.name_of(own),
                other: pool.name_of(other),
                vlan,
                state: verdict.name().to_owned(),
                look: verdict.advice().map(str::to_owned),
            };
            for own in pool.own.iter().filter(|own| own.held_until_us.is_some()) {
                rows.push(row(own.id, own.id, None, super::verdict::Verdict::Loop));
            }
            let pairs = pool.verdicts.iter();
            rows.extend(
                pairs.map(|(pair, verdict)| row(pair.own, pair.other, pair.vlan, *verdict)),
            );
        }
        rows
    }

    /// The next hop of an uplink, if it has one that is asked.
    pub(crate) fn next_hop(&self, uplink: UplinkId) -> Option<NextHopStatus> {
        let mut own = self.pools.iter().flat_map(|pool| &pool.own);
        let (hop, vlan) = own.find(|own| own.id == uplink)?.next_hop.as_ref()?;
        Some(NextHopStatus {
            address: hop.address().to_string(),
            vlan: *vlan,
            state: hop.state().name().to_owned(),
        })
    }

    /// The ports of an uplink that is a bond.
    pub(crate) fn members(&self, uplink: UplinkId) -> Vec<MemberStatus> {
        let mut own = self.pools.iter().flat_map(|pool| &pool.own);
        let bond = own.find(|own| own.id == uplink).and_then(|own| own.bond.as_ref());
        let member = |member: &crate::bond::Member| MemberStatus {
            interface: member.name.clone(),
            carrier: member.carrier,
            speed_mbps: member.speed_mbps,
        };
        bond.map(|bond| bond.members.iter().map(member).collect()).unwrap_or_default()
    }

    /// What was counted, by name; nothing where no probe was ever sent or heard.
    pub(crate) fn counted(&self) -> Vec<(&'static str, u64)> {
        let Counters {
            sent,
            heard,
            unreadable,
            foreign,
            unauthentic,
            replayed,
            twice,
            crossed,
            own,
            full,
        } = self.counters;
        if self.counters == Counters::default() {
            return Vec::new();
        }
        vec![
            ("probe_sent", sent),
            ("probe_heard", heard),
            ("probe_unreadable", unreadable),
            ("probe_foreign", foreign),
            ("probe_unauthentic", unauthentic),
            ("probe_replayed", replayed),
            ("probe_twice", twice),
            ("probe_crossed_vlan", crossed),
            ("probe_own_heard", own),
            ("probe_not_followed", full),
        ]
    }
}
