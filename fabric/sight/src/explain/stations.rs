//! The stations of both ways.
//!
//! ```text
//! out:  guest ring ─▶ guard ─▶ shaper ─▶ route ─▶ link ═▶ police ─▶ egress ─▶ uplink
//!                                            │       ╚═▶ other vNICs, at their servers
//!                                            └─▶ other vNICs of this server
//! back: uplink ─▶ link ═▶ guest ring
//! ```
//! `guest-tx` is one account of the ledger; its drops say which of the first four stations a frame
//! came to. What a server receives from the fabric is booked on its source: so it is known what of one
//! vNIC came to another server, and not which vNIC there got it; and between link and guest ring on the
//! way back nothing is known of one vNIC.

use super::{Case, Station};
use crate::{
    causes::reasons::{Family, grown},
    look::{Flow, minus},
    sight::{Downward, held_percent, is_at_packet_limit, port_held_percent},
    text,
};
use wireonce_ledger::{Amount, Stage};

/// What could not be taken as a frame.
const RING: &[Family] = &[Family::Ring, Family::RxRing, Family::Stopped];
/// The port guard.
const GUARD: &[Family] = &[Family::Rule, Family::Mtu, Family::Storm];
/// The vNIC's queue.
const SHAPER: &[Family] = &[Family::Shaper];
/// Where a frame goes.
const ROUTE: &[Family] = &[
    Family::Answered,
    Family::Route,
    Family::Session,
    Family::Link,
    Family::Home,
    Family::OverLease,
    Family::OverPackets,
    Family::Egress,
    Family::Uplink,
    Family::Distrust,
    Family::Outside,
    Family::Inward,
];
/// The gateway's own hand.
const POLICE: &[Family] = &[Family::OverLease, Family::OverPackets];
/// The uplink's queue.
const EGRESS: &[Family] = &[Family::Egress];

/// From the guest.
pub(super) fn out(case: &Case<'_>) -> Vec<Station> {
    let server = case.vnic.host.as_str();
    let mut stations = Vec::new();
    let sent = case.at_server(Stage::GuestTx);
    let mut left = sent.map(|flow| flow.input);
    for (name, found) in [("guest ring", RING), ("guard", GUARD)] {
        let station = passing(name, server, left, sent, found);
        left = station.went;
        stations.push(station);
    }
    if case.server.is_none() {
        return stations;
    }
    let mut shaper = passing("shaper", server, left, sent, SHAPER);
    let route_drops = sent.map(|flow| sum(flow, ROUTE));
    // What waits has neither gone on nor been dropped.
    shaper.went = sent.zip(route_drops).map(|(flow, drops)| {
        let mut went = flow.output;
        went += drops;
        went
    });
    (shaper.waits, shaper.note) = shaping(case);
    let route = passing("route", server, shaper.went, sent, ROUTE);
    stations.extend([shaper, route]);
    stations.extend(neighbours_here(case));
    if let Some(flow) = case.at_server(Stage::FabricTx) {
        stations.push(whole("link", server, flow));
    }
    let others = case.at_others().filter(|(_, flow)| flow.input.frames > 0);
    stations.extend(others.map(|(other, flow)| whole("other vNICs", other, flow)));
    for (gateway, flow) in case.at_gateways(Stage::UplinkTx) {
        let arrived = case.at_gateways(Stage::FabricRx).find(|(name, _)| *name == gateway);
        let mut police = passing("police", gateway, Some(flow.input), Some(flow), POLICE);
        if let Some((_, arrived)) = arrived {
            police.came = Some(arrived.input);
            police.drops.extend(arrived.drops.iter().map(|(why, n)| ((*why).to_owned(), n.frames)));
        }
        let mut egress = passing("egress", gateway, police.went, Some(flow), EGRESS);
        egress.waits = (flow.open_frames > 0).then(|| format!("{} frames", flow.open_frames));
        let name = format!("uplink {}", uplink_at(case, gateway));
        let mut uplink = whole(&name, gateway, flow);
        uplink.came = egress.went;
        uplink.waits = None;
        for station in [&police, &egress] {
            uplink.drops.retain(|reason, _| !station.drops.contains_key(reason));
        }
        stations.extend([police, egress, uplink]);
    }
    stations
}

/// To the guest.
pub(super) fn back(case: &Case<'_>) -> Vec<Station> {
    let mut stations = Vec::new();
    for (gateway, flow) in case.at_gateways(Stage::UplinkRx) {
        let uplink = uplink_at(case, gateway);
        let mut station = whole(&format!("uplink {uplink}"), gateway, flow);
        if let Some(down) = Downward::of(case.gateways.get(gateway).into_iter(), case.vnic) {
            let mut note = format!("may come at {}", text::rate(down.rate_bps));
            note += &packets(down.limit_packets_per_s);
            if let Some(percent) = down.held_percent.filter(|percent| *percent > 0) {
                note += &format!(", held back {percent} % of the time");
                if down.packets_held {
                    note += " by packets per second";
                }
            }
            if down.marked_frames > 0 {
                note += &format!(", {} frames marked (ECN)", down.marked_frames);
            }
            station.note = Some(note);
            if down.queued_bytes > 0 {
                station.waits = Some(format!("{} bytes", down.queued_bytes));
            }
        }
        stations.push(station);
        if let Some((_, flow)) =
            case.at_gateways(Stage::FabricTx).find(|(name, _)| *name == gateway)
        {
            stations.push(whole("link", gateway, flow));
        }
    }
    if let Some(flow) = case.at_server(Stage::GuestRx) {
        stations.push(whole("guest ring", &case.vnic.host, flow));
    }
    stations
}

/// What other vNICs of its server got of it.
fn neighbours_here(case: &Case<'_>) -> Option<Station> {
    let sent = case.at_server(Stage::GuestTx)?.output;
    let fabric = case.at_server(Stage::FabricTx).map_or(Amount::ZERO, |flow| flow.input);
    let passed = Some(minus(sent, fabric)).filter(|amount| amount.frames > 0)?;
    Some(Station {
        name: "other vNICs".to_owned(),
        host: case.vnic.host.clone(),
        came: Some(passed),
        went: Some(passed),
        ..Station::default()
    })
}

/// What waits for the vNIC's share, and what it may send.
fn shaping(case: &Case<'_>) -> (Option<String>, Option<String>) {
    let Some(look) = &case.server else { return (None, None) };
    let Some((now, before)) = look.vnic(&case.vnic.name) else { return (None, None) };
    let Some(share) = now.share else {
        return (None, Some("its home is not shaped".to_owned()));
    };
    let waits = (share.queued_bytes > 0).then(|| format!("{} bytes", share.queued_bytes));
    let mut note = format!("may send {}", text::rate(share.rate_bps));
    note += &packets(share.limit_packets_per_s);
    let old = before.and_then(|old| old.share);
    let percent = held_percent(look, share, old);
    if let Some(percent) = percent.filter(|percent| *percent > 0) {
        note += &format!(", held back {percent} % of the time");
        if is_at_packet_limit(look, share, old) {
            note += " by packets per second";
        }
    }
    let port = port_held_percent(look, share, old).filter(|percent| *percent > 0);
    if let Some(percent) = port {
        note += &format!(", waits for the server's fabric port {percent} % of the time");
    }
    (waits, Some(note))
}

/// What there is to add of a limit in packets.
fn packets(limit_per_s: Option<u32>) -> String {
    limit_per_s.map_or_else(String::new, |limit| format!(" and {limit} packets per second"))
}

/// The uplink of a gateway that the vNIC is at home at, or the first one.
fn uplink_at<'c>(case: &Case<'c>, gateway: &str) -> &'c str {
    let home = case.home.filter(|home| home.host == gateway);
    let any = case.view.house.uplinks().find(|uplink| uplink.host == gateway);
    home.or(any).map_or("?", |uplink| &uplink.name)
}

/// A station that is a whole account.
fn whole(name: &str, host: &str, flow: &Flow<'_>) -> Station {
    Station {
        name: name.to_owned(),
        host: host.to_owned(),
        came: Some(flow.input),
        went: Some(flow.output),
        waits: (flow.open_frames > 0).then(|| format!("{} frames", flow.open_frames)),
        drops: flow.drops.iter().map(|(why, amount)| ((*why).to_owned(), amount.frames)).collect(),
        note: None,
    }
}

/// A station that is a part of an account: what came less its drops goes on.
fn passing(
    name: &str,
    host: &str,
    came: Option<Amount>,
    flow: Option<&Flow<'_>>,
    families: &[Family],
) -> Station {
    let drops = flow.map(|flow| grown(flow, families)).unwrap_or_default();
    Station {
        name: name.to_owned(),
        host: host.to_owned(),
        came,
        went: came.map(|came| drops.iter().fold(came, |left, (_, amount)| minus(left, *amount))),
        waits: None,
        drops: drops.into_iter().map(|(why, amount)| (why.to_owned(), amount.frames)).collect(),
        note: flow.is_none().then(|| "nothing was counted".to_owned()),
    }
}

fn sum(flow: &Flow<'_>, families: &[Family]) -> Amount {
    let mut sum = Amount::ZERO;
    grown(flow, families).into_iter().for_each(|(_, amount)| sum += amount);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes::reasons::meaning;
    use wireonce_ledger::DropReason;

    #[test]
    fn whatever_a_server_drops_on_the_way_out_stands_at_one_station() {
        for reason in DropReason::ALL {
            let family = meaning(*reason).family;
            let stations = [RING, GUARD, SHAPER, ROUTE];
            let found = stations.iter().filter(|station| station.contains(&family)).count();
            assert_eq!(found, 1, "{} of {family:?}", reason.name());
        }
    }
}
