//! What limits, leases and full ports are the cause of.
//!
//! A vNIC that is held back has one limit that binds it, and the causes exclude each other: its own
//! policy's, in bits or in packets, its server's grant's, a full uplink, or else the lease as the shares gave it.

use super::{
    Found, Who,
    reasons::{self, frames},
};
use crate::{
    explain::{Case, grown},
    look::minus,
    sight::{held_percent, is_at_packet_limit, is_short},
    text::{enough, rate},
};
use wireonce_desired::{Direction, bandwidth};
use wireonce_ledger::{Stage, status::VnicShareStatus};

/// What is so near to a limit is at it: rates are measured, and limits are rounded down.
const AT_PERCENT: u64 = 97;
/// An uplink or port is full from here on.
const FULL_PERCENT: u64 = 90;

/// The vNIC's own policy limits it.
pub(super) fn own_limit(case: &Case<'_>) -> Option<Found> {
    let (share, how_long) = held(case)?;
    let limit = case.view.limit(case.vnic, Direction::Up)?;
    let policy = case.vnic.policy.as_deref()?;
    is_at(share.rate_bps, limit).then(|| {
        let what =
            format!("held back {how_long} by the limit of its policy {policy:?}, {}", rate(limit));
        let command =
            format!("wireonce policy set {policy} up.limit={}", enough(limit.saturating_mul(2)));
        Found::proved(shaper(case), what, Who::Virtualisation).command(command)
    })
}

/// The vNIC's own policy limits it in packets.
pub(super) fn packet_limit(case: &Case<'_>) -> Option<Found> {
    let look = case.server.as_ref()?;
    let (now, before) = look.vnic(&case.vnic.name)?;
    let (share, old) = (now.share?, before.and_then(|old| old.share));
    if !is_at_packet_limit(look, share, old) {
        return None;
    }
    let limit = share.limit_packets_per_s?;
    let policy = case.vnic.policy.as_deref()?;
    let mut what = format!(
        "held back {} by the limit of its policy {policy:?} in packets per second, {limit}",
        how_long(look, share, old)
    );
    if let Some(sent) =
        old.and_then(|old| look.per_second(share.served_packets, old.served_packets))
    {
        what += &format!(": it sent {sent} packets per second; more bandwidth would not help");
    }
    let command = format!(
        "wireonce policy set {policy} up.limit_packets_per_s={}",
        limit.saturating_mul(2).min(bandwidth::LIMIT_PACKETS_PER_S_MAX)
    );
    Some(Found::proved(shaper(case), what, Who::Virtualisation).command(command))
}

/// Its server may not use more of the pool.
pub(super) fn grant_limit(case: &Case<'_>) -> Option<Found> {
    let (_, how_long) = held_by_lease(case)?;
    let (pool, server) = (case.view.pool_of(case.vnic)?, case.vnic.host.as_str());
    let limit = case.view.grant_limit(pool, server, Direction::Up)?;
    is_at(lease(case)?, limit).then(|| {
        let what = format!(
            "held back {how_long} by the limit of {server}'s grant in pool {pool}, {}",
            rate(limit)
        );
        let command = format!(
            "wireonce grant set {pool}/{server} up.limit={}",
            enough(limit.saturating_mul(2))
        );
        Found::proved(shaper(case), what, Who::Virtualisation).command(command)
    })
}

/// Its home carries no more, or has leased all that it carries.
pub(super) fn uplink_full(case: &Case<'_>) -> Option<Found> {
    let (_, how_long) = held_by_lease(case)?;
    if grant_limit(case).is_some() || !is_uplink_full(case) {
        return None;
    }
    let home = case.home?;
    let (carries_bps, usable_bps) = home_load(case)?;
    let (server, lease_bps) = (&case.vnic.host, lease(case)?);
    let what = format!(
        "held back {how_long} by a full uplink: {} carried {} of {}, of which {server} has a lease of {}",
        home.name,
        rate(carries_bps),
        rate(usable_bps),
        rate(lease_bps)
    );
    let found = Found::proved(format!("{} at {}", home.name, home.host), what, Who::Virtualisation);
    Some(match emptier(case, usable_bps.saturating_sub(carries_bps)) {
        Some(other) => found.command(format!("wireonce vnic move {} --to {other}", case.vnic.name)),
        None => found.command("wireonce grant use"),
    })
}

/// Its server's lease holds it back, and neither a limit nor a full uplink explains that.
pub(super) fn server_lease(case: &Case<'_>) -> Option<Found> {
    let (_, how_long) = held_by_lease(case)?;
    if grant_limit(case).is_some() || is_uplink_full(case) {
        return None;
    }
    let (home, server) = (case.home?, &case.vnic.host);
    let lease_bps = lease(case)?;
    let what = format!(
        "held back {how_long} by what {server} may send through {}: its lease is {}",
        home.name,
        rate(lease_bps)
    );
    Some(Found::proved(shaper(case), what, Who::Virtualisation).command("wireonce grant use"))
}

/// The fabric port of its server is full.
pub(super) fn port_full(case: &Case<'_>) -> Option<Found> {
    let look = case.server.as_ref()?;
    let mut hosts = case.view.house.hosts();
    let (_, host) = hosts.find(|(_, host)| host.name == case.vnic.host)?;
    let used = look.port();
    let ways = [("sends", used.up_bps, host.port_up), ("receives", used.down_bps, host.port_down)];
    let full = ways.into_iter().find_map(|(word, used, port)| {
        let (used_bps, port_bps) = (used?, port?.bps());
        (of_percent(used_bps, port_bps) >= FULL_PERCENT).then_some((word, used_bps, port_bps))
    });
    let (word, used_bps, port_bps) = full?;
    let what = format!(
        "{} {word} {} through its fabric port of {}: borrowing another uplink cannot help",
        host.name,
        rate(used_bps),
        rate(port_bps)
    );
    let test = "compare with the counters of the switch's port, which see other traffic, too";
    Some(Found::likely(format!("fabric port of {}", host.name), what, Who::Virtualisation, test))
}

/// Frames waited too long for the vNIC's share, and others stood behind them.
pub(super) fn shaper_drops(case: &Case<'_>) -> Option<Found> {
    let drops = case.dropped(Stage::GuestTx, reasons::SHAPER);
    let what = format!(
        "{} frames to its home waited too long for its share and were dropped, because the guest \
         sends to other vNICs, too, and those must not wait",
        frames(&drops)
    );
    (!drops.is_empty()).then(|| Found::proved(shaper(case), what, Who::Virtualisation))
}

/// From outside came more for it than its share downwards carries, for too long.
pub(super) fn down_share(case: &Case<'_>) -> Option<Found> {
    let mut flows = case.at_gateways(Stage::UplinkRx);
    let (gateway, count) = flows.find_map(|(gateway, flow)| {
        let count = frames(&grown(flow, reasons::SHAPER));
        (count > 0).then_some((gateway, count))
    })?;
    let shares = || case.gateways.get(gateway).into_iter().flat_map(|it| it.down(&case.vnic.name));
    let place = format!("queue at {gateway}");
    if let Some(limit) = shares().filter(|it| it.packets_held).find_map(|it| it.limit_packets_per_s)
    {
        let what = format!(
            "{count} frames from outside waited too long at {gateway} and were dropped: more came \
             than the limit of its policy downwards in packets per second, {limit}"
        );
        return Some(Found::proved(place, what, Who::Virtualisation));
    }
    let may_bps: u64 = shares().map(|it| it.rate_bps).fold(0, u64::saturating_add);
    let mut what = format!(
        "{count} frames from outside waited too long at {gateway} and were dropped: more came than \
         its share downwards, {}",
        rate(may_bps)
    );
    if let Some(limit) = case.view.limit(case.vnic, Direction::Down) {
        what += &format!("; the limit of its policy is {}", rate(limit));
    }
    Some(Found::proved(place, what, Who::Virtualisation))
}

/// The gateway dropped what was over the lease.
pub(super) fn over_lease(case: &Case<'_>) -> Option<Found> {
    let (gateway, count) = at_gateways(case, reasons::OVER_LEASE)?;
    let server = &case.vnic.host;
    let what = format!(
        "{count} frames were over what {gateway} had leased to {server}, or over the vNIC's limit: \
         {server} does not keep to it"
    );
    let found = Found::proved(format!("police at {gateway}"), what, Who::Virtualisation);
    Some(found)
}

/// The gateway dropped what was over the vNIC's limit in packets.
pub(super) fn over_packet_limit(case: &Case<'_>) -> Option<Found> {
    let (gateway, count) = at_gateways(case, reasons::OVER_PACKET_LIMIT)?;
    let server = &case.vnic.host;
    let what = format!(
        "{count} frames were over the limit of its policy in packets per second: {server} does not \
         keep to it"
    );
    Some(Found::proved(format!("police at {gateway}"), what, Who::Virtualisation))
}

/// The uplink's own queue was full.
pub(super) fn gateway_queue(case: &Case<'_>) -> Option<Found> {
    let (gateway, count) = at_gateways(case, reasons::EGRESS)?;
    let what = format!(
        "{count} frames found the uplink's queue full: more is sent to it than its interface takes"
    );
    Some(Found::proved(format!("egress at {gateway}"), what, Who::Network))
}

/// Whether the vNIC was held back.
pub(super) fn is_held(case: &Case<'_>) -> bool {
    held(case).is_some() || packet_limit(case).is_some()
}

/// The share of a vNIC that was short of bandwidth in the interval, and for how long.
fn held(case: &Case<'_>) -> Option<(VnicShareStatus, String)> {
    let look = case.server.as_ref()?;
    let (now, before) = look.vnic(&case.vnic.name)?;
    let (share, old) = (now.share?, before.and_then(|old| old.share));
    is_short(look, share, old).then(|| (share, how_long(look, share, old)))
}

fn how_long(
    look: &crate::Look<'_>,
    share: VnicShareStatus,
    before: Option<VnicShareStatus>,
) -> String {
    match held_percent(look, share, before) {
        Some(percent) => format!("{percent} % of the time"),
        None => "now".to_owned(),
    }
}

/// The same, if it is not its own limit.
fn held_by_lease(case: &Case<'_>) -> Option<(VnicShareStatus, String)> {
    held(case).filter(|_| own_limit(case).is_none())
}

/// What its server may send through its home: as the gateway says, or else the server.
fn lease(case: &Case<'_>) -> Option<u64> {
    let home = &case.home?.name;
    let of = |look: &crate::Look<'_>| {
        let (share, _) = look.share(home, &case.vnic.host)?;
        Some(share.lease_bps.unwrap_or(share.starter_bps))
    };
    case.gateway().and_then(of).or_else(|| of(case.server.as_ref()?))
}

/// What its home carries now, and could.
fn home_load(case: &Case<'_>) -> Option<(u64, u64)> {
    let home = case.home?;
    let usable = home.capacity(Direction::Up)?.percent(bandwidth::USABLE_UP_PERCENT).bps();
    let look = case.gateway()?;
    let (now, before) = look.uplink(&home.name)?;
    Some((look.wire_bps(minus(now.outward, before?.outward))?, usable))
}

fn is_uplink_full(case: &Case<'_>) -> bool {
    home_load(case).is_some_and(|(carries, usable)| of_percent(carries, usable) >= FULL_PERCENT)
}

/// The uplink of the pool with the most to spare, if that is more than its home has.
fn emptier<'c>(case: &Case<'c>, than_bps: u64) -> Option<&'c str> {
    let home = case.home?;
    let others =
        case.view.house.uplinks().filter(|it| it.pool == home.pool && it.name != home.name);
    let spare = others.filter_map(|it| {
        let look = case.gateways.get(it.host.as_str())?;
        let (now, before) = look.uplink(&it.name).filter(|(now, _)| now.carrier)?;
        let carries = look.wire_bps(minus(now.outward, before?.outward))?;
        let usable = it.capacity(Direction::Up)?.percent(bandwidth::USABLE_UP_PERCENT).bps();
        Some((usable.saturating_sub(carries), it.name.as_str()))
    });
    let (spare_bps, name) = spare.max()?;
    (spare_bps > than_bps.saturating_mul(2)).then_some(name)
}

/// Drops of the vNIC at the first gateway that has some.
fn at_gateways<'c>(
    case: &Case<'c>,
    reasons: &[wireonce_ledger::DropReason],
) -> Option<(&'c str, u64)> {
    let mut flows = case.at_gateways(Stage::UplinkTx);
    flows.find_map(|(gateway, flow)| {
        let count = frames(&grown(flow, reasons));
        (count > 0).then_some((gateway, count))
    })
}

fn shaper(case: &Case<'_>) -> String {
    format!("shaper on {}", case.vnic.host)
}

fn is_at(bps: u64, limit_bps: u64) -> bool {
    of_percent(bps, limit_bps) >= AT_PERCENT
}

fn of_percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part).saturating_mul(100).checked_div(u128::from(whole));
    percent.and_then(|percent| u64::try_from(percent).ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
