//! Uplinks, and what is known of the network outside them.

use crate::writer::{Writer, flag, label};
use prometheus_client::registry::Unit;
use std::fmt;
use wireonce_ledger::Status;

/// All of it.
pub(crate) fn uplinks(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let labels = |at: usize| {
        let uplink = &status.uplinks[at];
        vec![label("uplink", &uplink.name), label("interface", &uplink.interface)]
    };
    let all = 0..status.uplinks.len();
    let carriers = all.clone().map(|at| (labels(at), flag(status.uplinks[at].carrier)));
    page.gauges("uplink_carrier", "1 while the interface has a link", None, carriers)?;
    let designated = all.clone().map(|at| (labels(at), flag(status.uplinks[at].designated)));
    let help = "1 while it lets broadcast from outside in, for at least one network";
    page.gauges("uplink_designated", help, None, designated)?;
    let attached = all.clone().map(|at| (labels(at), status.uplinks[at].attached as f64));
    let help = "vNICs that are attached to the uplink";
    page.gauges("uplink_attached_vnics", help, None, attached)?;
    let states = ["alive", "draining", "sick", "gone"];
    let health = all.clone().flat_map(|at| {
        states.into_iter().map(move |state| {
            let mut labels = labels(at);
            labels.push(label("state", state));
            (labels, flag(status.uplinks[at].health == state))
        })
    });
    page.gauges("uplink_health", "1 for how the uplink is", None, health)?;
    let capacity = all.clone().flat_map(|at| {
        let uplink = &status.uplinks[at];
        [("up", uplink.up_bps), ("down", uplink.down_bps)].into_iter().filter_map(
            move |(direction, bps)| {
                let mut labels = labels(at);
                labels.push(label("direction", direction));
                Some((labels, bps? as f64))
            },
        )
    });
    let unit = Unit::Other("bits_per_second".to_owned());
    let help = "What the uplink can carry; absent: it is not shaped";
    page.gauges("uplink_capacity", help, Some(&unit), capacity)?;
    let drops = all.map(|at| (labels(at), status.uplinks[at].kernel_drops));
    let help = "Frames that the kernel dropped before they could be read";
    page.counters("uplink_kernel_dropped_frames", help, None, drops)?;
    outside(page, status)
}

/// What is known of the network outside the uplinks.
fn outside(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let vlan = |vlan: Option<u16>| vlan.map_or("untagged".to_owned(), |vlan| vlan.to_string());
    let pairs = status.outside.iter().map(|pair| {
        let labels = vec![
            label("uplink", &pair.uplink),
            label("other", &pair.other),
            label("vlan", &vlan(pair.vlan)),
            label("state", &pair.state),
        ];
        (labels, 1.0)
    });
    let help = "1 for the state in which two uplinks of a pool are joined outside";
    page.gauges("outside_pair_state", help, None, pairs)?;
    let hops = status.uplinks.iter().filter_map(|uplink| {
        let hop = uplink.next_hop.as_ref()?;
        let labels = vec![label("uplink", &uplink.name), label("next_hop", &hop.address)];
        Some((labels, flag(hop.state != "silent")))
    });
    page.gauges("uplink_next_hop_answers", "0 while the next hop is silent", None, hops)?;
    let members = status.uplinks.iter().flat_map(|uplink| {
        uplink.members.iter().map(|member| {
            let labels = vec![label("uplink", &uplink.name), label("member", &member.interface)];
            (labels, flag(member.carrier))
        })
    });
    let help = "1 while a port of the uplink's bond has a link";
    page.gauges("uplink_member_carrier", help, None, members)
}
