//! What vNICs and servers may use of uplinks, want of them, and wait for: in wire bits.

use crate::writer::{Writer, flag, label};
use prometheus_client::registry::Unit;
use std::fmt;
use wireonce_ledger::{
    Status,
    status::{DownStatus, ShareStatus, VnicShareStatus, VnicStatus},
};

/// All of it.
pub(crate) fn bandwidth(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    upward(page, status)?;
    packet_limits(page, status)?;
    fabric_port(page, status)?;
    leases(page, status)?;
    downward(page, status)
}

fn bits() -> Unit {
    Unit::Other("bits_per_second".to_owned())
}

/// What vNICs may send to their homes, where that is shaped: at servers.
fn upward(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let shared = || {
        let of = |vnic: &VnicStatus| Some((vec![label("vnic", &vnic.name)], vnic.share?));
        status.vnics.iter().filter_map(of)
    };
    type Of = fn(&VnicShareStatus) -> Option<f64>;
    let bits = bits();
    let gauges: [(&str, &str, Option<&Unit>, Of); 4] = [
        ("vnic_share", "What the vNIC may send to its home now", Some(&bits), |it| {
            Some(it.rate_bps as f64)
        }),
        ("vnic_demand", "What it would send; absent: more than it may", Some(&bits), |it| {
            it.demand_bps.map(|bps| bps as f64)
        }),
        ("vnic_held", "1 while something of it has to wait", None, |it| Some(flag(it.held))),
        ("vnic_waiting", "What of it waits", Some(&Unit::Bytes), |it| Some(it.queued_bytes as f64)),
    ];
    for (name, help, unit, of) in gauges {
        let samples = shared().filter_map(|(labels, share)| Some((labels, of(&share)?)));
        page.gauges(name, help, unit, samples)?;
    }
    let held = shared().map(|(labels, share)| (labels, share.held_us as f64 / 1e6));
    let help = "For how long something of it had to wait";
    page.counters("vnic_held", help, Some(&Unit::Seconds), held)?;
    let wire = shared().map(|(labels, share)| (labels, share.served_bits / 8));
    let help = "Wire bytes that the vNIC sent to a home that is shaped";
    page.counters("vnic_wire", help, Some(&Unit::Bytes), wire)
}

/// Limits in packets of vNICs upwards: at servers.
fn packet_limits(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let limited = || {
        status.vnics.iter().filter_map(|vnic| {
            let share = vnic.share?;
            let limit = share.limit_packets_per_s?;
            Some((vec![label("vnic", &vnic.name)], share, limit))
        })
    };
    let unit = Unit::Other("packets_per_second".to_owned());
    let limits = limited().map(|(labels, _, limit)| (labels, f64::from(limit)));
    let help = "Packets that the vNIC may send to its home; absent: any number";
    page.gauges("vnic_packet_limit", help, Some(&unit), limits)?;
    let held = limited().map(|(labels, share, _)| (labels, flag(share.packets_held)));
    let help = "1 while something waits for the limit in packets";
    page.gauges("vnic_packet_limit_held", help, None, held)?;
    let sent = status
        .vnics
        .iter()
        .filter_map(|vnic| Some((vec![label("vnic", &vnic.name)], vnic.share?.served_packets)));
    let help = "Packets that the vNIC sent to a home that is shaped";
    page.counters("vnic_wire_packets", help, None, sent)
}

/// The fabric port of a server, where it is divided, and what its vNICs have of it.
fn fabric_port(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let rate = bits();
    let port = status.fabric_port.iter();
    let carries = port.clone().flat_map(|port| {
        let ways = [("up", port.up_bps), ("down", port.down_bps)];
        ways.into_iter().filter_map(|(way, bps)| Some((vec![label("direction", way)], bps? as f64)))
    });
    page.gauges("fabric_port_capacity", "What the fabric port carries", Some(&rate), carries)?;
    let told = port.flat_map(|port| {
        port.told_bps.iter().map(|(uplink, bps)| (vec![label("uplink", uplink)], *bps as f64))
    });
    let help = "What the uplink was told that it may send to this server";
    page.gauges("fabric_port_told", help, Some(&rate), told)?;
    let divided = || {
        status.vnics.iter().filter_map(|vnic| {
            let share = vnic.share?;
            Some((vec![label("vnic", &vnic.name)], share, share.port_rate_bps?))
        })
    };
    let rates = divided().map(|(labels, _, bps)| (labels, bps as f64));
    let help = "What the vNIC may send through the fabric port";
    page.gauges("vnic_port_rate", help, Some(&rate), rates)?;
    let held = divided().map(|(labels, share, _)| (labels, flag(share.port_held)));
    page.gauges("vnic_port_held", "1 while something waits for the fabric port", None, held)?;
    let waited = divided().map(|(labels, share, _)| (labels, share.port_held_us as f64 / 1e6));
    let help = "How long something waited for the fabric port";
    page.counters("vnic_port_held", help, Some(&Unit::Seconds), waited)
}

/// What servers may send through uplinks: a server shows its own, a gateway all.
fn leases(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let labels = |it: &ShareStatus| {
        // Both ends of a lease show it: who adds up takes one of the two.
        vec![label("uplink", &it.uplink), label("server", &it.server), label("role", &status.role)]
    };
    type Of = fn(&ShareStatus) -> Option<f64>;
    let gauges: [(&str, &str, Of); 3] = [
        ("lease", "What the server may send through the uplink; absent: the starter holds", |it| {
            it.lease_bps.map(|bps| bps as f64)
        }),
        ("lease_starter", "What it may send without a lease", |it| Some(it.starter_bps as f64)),
        ("lease_demand", "What it would send; absent: more than it may", |it| {
            it.demand_bps.map(|bps| bps as f64)
        }),
    ];
    let bits = bits();
    for (name, help, of) in gauges {
        let samples = status.shares.iter().filter_map(|it| Some((labels(it), of(it)?)));
        page.gauges(name, help, Some(&bits), samples)?;
    }
    let wire = status.shares.iter().map(|it| (labels(it), it.served_bits / 8));
    let help = "Wire bytes that the server says it sent through the uplink";
    page.counters("lease_wire", help, Some(&Unit::Bytes), wire)
}

/// What vNICs get from the outside, where that is shaped: at gateways.
fn downward(page: &mut Writer<'_, '_>, status: &Status) -> fmt::Result {
    let labels = |it: &DownStatus| vec![label("uplink", &it.uplink), label("vnic", &it.vnic)];
    type Of = fn(&DownStatus) -> Option<f64>;
    let unit = bits();
    let gauges: [(&str, &str, Option<&Unit>, Of); 4] = [
        ("down_rate", "What the vNIC may get from the outside", Some(&unit), |it| {
            Some(it.rate_bps as f64)
        }),
        (
            "down_demand",
            "What would come for it; absent: more than it may get",
            Some(&unit),
            |it| it.demand_bps.map(|bps| bps as f64),
        ),
        ("down_held", "1 while something for it has to wait", None, |it| Some(flag(it.held))),
        ("down_waiting", "What waits for it", Some(&Unit::Bytes), |it| {
            Some(it.queued_bytes as f64)
        }),
    ];
    for (name, help, unit, of) in gauges {
        let samples = status.down.iter().filter_map(|it| Some((labels(it), of(it)?)));
        page.gauges(name, help, unit, samples)?;
    }
    let limits =
        status.down.iter().filter_map(|it| Some((labels(it), f64::from(it.limit_packets_per_s?))));
    let unit = Unit::Other("packets_per_second".to_owned());
    let help = "Packets that the vNIC may get from the outside; absent: any number";
    page.gauges("down_packet_limit", help, Some(&unit), limits)?;
    let held = status.down.iter().filter(|it| it.limit_packets_per_s.is_some());
    let held = held.map(|it| (labels(it), flag(it.packets_held)));
    let help = "1 while something for it has to wait for the limit in packets";
    page.gauges("down_packet_limit_held", help, None, held)?;
    let limited = status.down.iter().filter(|it| it.limit_packets_per_s.is_some());
    let packets = limited.map(|it| (labels(it), it.served_packets));
    let help = "Packets that went to it while it had a limit in packets";
    page.counters("down_wire_packets", help, None, packets)?;
    let wire = status.down.iter().map(|it| (labels(it), it.served_bits / 8));
    page.counters("down_wire", "Wire bytes that went to it", Some(&Unit::Bytes), wire)?;
    let dropped = status.down.iter().map(|it| (labels(it), it.dropped_frames));
    let help = "Frames dropped because too much waited, or too long";
    page.counters("down_dropped_frames", help, None, dropped)
}
