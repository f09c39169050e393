//! What limits, leases and full ports are the cause of.
//!
//! A vNIC that is held back has one limit that binds it, and the causes exclude each other: its own
//! policy's, in bits or in packets, its server's grant's, a full uplink, or else the lease as the shares
//! gave it. No limit is told to be raised while its server's own port is full: that would not help.

use super::{
    Found, Who,
    reasons::{Family, frames, grown},
};
use crate::{
    explain::Case,
    look::minus,
    notes::{Limit, is_at, of_percent, up_limit},
    sight::{held_percent, is_at_port, is_short, port_held_percent},
    text::{enough, rate},
};
use wireonce_desired::{Direction, Uplink, bandwidth};
use wireonce_ledger::{Stage, status::VnicShareStatus};
use wireonce_placement::{Command, Way};

/// An uplink or port is full from here on.
const FULL_PERCENT: u64 = 90;

/// The vNIC's own policy limits it.
pub(super) fn own_limit(case: &Case<'_>) -> Option<Found> {
    let (_, how_long) = held(case)?;
    let limit @ Limit::Bits(_, limit_bps) = limited(case)? else { return None };
    let policy = case.vnic.policy.as_deref()?;
    let what =
        format!("held back {how_long} by the limit of its policy {policy:?}, {}", rate(limit_bps));
    let found = Found::proved(shaper(case), what, Who::Virtualisation);
    Some(raising(case, Direction::Up, found, &limit.doubled(policy)))
}

/// The vNIC's own policy limits it in packets.
pub(super) fn packet_limit(case: &Case<'_>) -> Option<Found> {
    let limit @ Limit::Packets(_, per_s) = limited(case)? else { return None };
    let look = case.server.as_ref()?;
    let (now, before) = look.vnic(&case.vnic.name)?;
    let (share, old) = (now.share?, before.and_then(|old| old.share));
    let policy = case.vnic.policy.as_deref()?;
    let mut what = format!(
        "held back {} by the limit of its policy {policy:?} in packets per second, {per_s}",
        how_long(look, share, old)
    );
    if let Some(sent) =
        old.and_then(|old| look.per_second(share.served_packets, old.served_packets))
    {
        what += &format!(": it sent {sent} packets per second; more bandwidth would not help");
    }
    let found = Found::proved(shaper(case), what, Who::Virtualisation);
    Some(raising(case, Direction::Up, found, &limit.doubled(policy)))
}

/// Which limit of its policy holds it back.
fn limited(case: &Case<'_>) -> Option<Limit> {
    up_limit(&case.view, case.server.as_ref()?, case.vnic)
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
        let found = Found::proved(shaper(case), what, Who::Virtualisation);
        raising(case, Direction::Up, found, &grant_limit_of(pool, server, Way::Up, limit))
    })
}

/// Its home carries no more, or has leased all that it carries.
pub(super) fn uplink_full(case: &Case<'_>) -> Option<Found> {
    let (_, how_long) = held_by_lease(case)?;
    if grant_limit(case).is_some() || !is_home_full(case, Direction::Up) {
        return None;
    }
    let home = case.home?;
    let (carries_bps, usable_bps) = home_load(case, Direction::Up)?;
    let (server, lease_bps) = (&case.vnic.host, lease(case)?);
    let what = format!(
        "held back {how_long} by a full uplink: {} carried {} of {}, of which {server} has a lease of {}",
        home.name,
        rate(carries_bps),
        rate(usable_bps),
        rate(lease_bps)
    );
    let found = Found::proved(format!("{} at {}", home.name, home.host), what, Who::Virtualisation);
    let spare_bps = usable_bps.saturating_sub(carries_bps);
    Some(found.command(&elsewhere(case, Direction::Up, spare_bps)))
}

/// Its server's lease holds it back, and neither a limit nor a full uplink explains that.
pub(super) fn server_lease(case: &Case<'_>) -> Option<Found> {
    let (share, how_long) = held_by_lease(case)?;
    if grant_limit(case).is_some() || is_home_full(case, Direction::Up) {
        return None;
    }
    let server = &case.vnic.host;
    let through = case.home.map_or(String::new(), |home| format!(" through {}", home.name));
    let mut what = format!("held back {how_long} by what {server} may send{through}: its ");
    what += &match lease(case) {
        Some(lease_bps) => format!("lease is {}", rate(lease_bps)),
        None => format!("part of that is {}, and no lease is reported", rate(share.rate_bps)),
    };
    let found = Found::proved(shaper(case), what, Who::Virtualisation);
    Some(found.command(&Command::GrantUse))
}

/// The fabric port of its server is full.
pub(super) fn port_full(case: &Case<'_>) -> Option<Found> {
    if let Some((share, how_long)) = at_port(case) {
        let server = &case.vnic.host;
        let mut what = format!("held back {how_long} by {server}'s own fabric port");
        if let Some(port_bps) = share.port_rate_bps {
            what += &format!(", through which it may send {}", rate(port_bps));
        }
        what += ": borrowing another uplink cannot help";
        let place = format!("fabric port of {server}");
        return Some(Found::proved(place, what, Who::Virtualisation));
    }
    let ways = [("sends", Direction::Up), ("receives", Direction::Down)];
    let full = ways.into_iter().find_map(|(word, way)| Some((word, full_port(case, way)?)));
    let (word, (used_bps, port_bps)) = full?;
    let server = &case.vnic.host;
    let what = format!(
        "{server} {word} {} through its fabric port of {}: borrowing another uplink cannot help",
        rate(used_bps),
        rate(port_bps)
    );
    let test = "compare with the counters of the switch's port, which see other traffic, too";
    Some(Found::likely(format!("fabric port of {server}"), what, Who::Virtualisation, test))
}

/// The share of a vNIC that waited for its server's fabric port, and for how long.
fn at_port(case: &Case<'_>) -> Option<(VnicShareStatus, String)> {
    let look = case.server.as_ref()?;
    let (now, before) = look.vnic(&case.vnic.name)?;
    let (share, old) = (now.share?, before.and_then(|old| old.share));
    let how_long = match port_held_percent(look, share, old) {
        Some(percent) => format!("{percent} % of the time"),
        None => "now".to_owned(),
    };
    is_at_port(look, share, old).then_some((share, how_long))
}

/// What crosses the fabric port of its server in a direction, and what that carries, if it is full.
fn full_port(case: &Case<'_>, way: Direction) -> Option<(u64, u64)> {
    let mut hosts = case.view.house.hosts();
    let (_, host) = hosts.find(|(_, host)| host.name == case.vnic.host)?;
    let used = case.server.as_ref()?.port();
    let (used_bps, port) = match way {
        Direction::Up => (used.up_bps?, host.port_up?),
        Direction::Down => (used.down_bps?, host.port_down?),
    };
    (of_percent(used_bps, port.bps()) >= FULL_PERCENT).then_some((used_bps, port.bps()))
}

/// With the command that raises a limit, unless the port behind that limit is full.
pub(super) fn raising(case: &Case<'_>, way: Direction, found: Found, command: &Command) -> Found {
    // What stays on the machine does not cross the port.
    let is_here =
        case.home.is_some_and(|home| case.view.on_one_machine(&case.vnic.host, &home.host));
    match full_port(case, way).filter(|_| !is_here) {
        None => found.command(command),
        Some((used_bps, port_bps)) => found.and(&format!(
            "; {}'s own fabric port is full, too, {} of {}: a higher limit cannot help",
            case.vnic.host,
            rate(used_bps),
            rate(port_bps)
        )),
    }
}

/// Gives a server twice as much.
pub(super) fn grant_limit_of(pool: &str, server: &str, way: Way, limit_bps: u64) -> Command {
    let (pool, server) = (pool.to_owned(), server.to_owned());
    Command::GrantLimit { pool, server, way, limit: enough(limit_bps.saturating_mul(2)) }
}

/// Frames waited too long for the vNIC's share, and others stood behind them.
pub(super) fn shaper_drops(case: &Case<'_>) -> Option<Found> {
    let drops = case.dropped(Stage::GuestTx, &[Family::Shaper]);
    let what = format!(
        "{} frames to its home waited too long for its share and were dropped, because the guest \
         sends to other vNICs, too, and those must not wait",
        frames(&drops)
    );
    (!drops.is_empty()).then(|| Found::proved(shaper(case), what, Who::Virtualisation))
}

/// The gateway dropped what was over the lease.
pub(super) fn over_lease(case: &Case<'_>) -> Option<Found> {
    let (gateway, count) = at_gateways(case, Family::OverLease)?;
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
    let (gateway, count) = at_gateways(case, Family::OverPackets)?;
    let server = &case.vnic.host;
    let what = format!(
        "{count} frames were over the limit of its policy in packets per second: {server} does not \
         keep to it"
    );
    Some(Found::proved(format!("police at {gateway}"), what, Who::Virtualisation))
}

/// The uplink's own queue was full.
pub(super) fn gateway_queue(case: &Case<'_>) -> Option<Found> {
    let (gateway, count) = at_gateways(case, Family::Egress)?;
    let what = format!(
        "{count} frames found the uplink's queue full: more is sent to it than its interface takes"
    );
    Some(Found::proved(format!("egress at {gateway}"), what, Who::Network))
}

/// Whether the vNIC was held back on its way out.
pub(super) fn is_held(case: &Case<'_>) -> bool {
    held(case).is_some() || packet_limit(case).is_some() || at_port(case).is_some()
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

/// What its home carries now in a direction, and could.
pub(super) fn home_load(case: &Case<'_>, way: Direction) -> Option<(u64, u64)> {
    let home = case.home?;
    load(case, home, way)
}

/// What an uplink of its pool carries now in a direction, and could.
fn load(case: &Case<'_>, uplink: &Uplink, way: Direction) -> Option<(u64, u64)> {
    let look = case.gateways.get(uplink.host.as_str())?;
    let (now, before) = look.uplink(&uplink.name)?;
    let (amount, percent) = match way {
        Direction::Up => (minus(now.outward, before?.outward), bandwidth::USABLE_UP_PERCENT),
        Direction::Down => (minus(now.inward, before?.inward), bandwidth::USABLE_DOWN_PERCENT),
    };
    let usable_bps = uplink.capacity(way)?.percent(percent).bps();
    Some((look.wire_bps(amount)?, usable_bps))
}

/// Whether its home carries all that it can in a direction.
pub(super) fn is_home_full(case: &Case<'_>, way: Direction) -> bool {
    let load = home_load(case, way);
    load.is_some_and(|(carries, usable)| of_percent(carries, usable) >= FULL_PERCENT)
}

/// To the uplink of the pool with the most to spare in a direction, if that is much more than its home
/// has; or else a look at who has what.
pub(super) fn elsewhere(case: &Case<'_>, way: Direction, home_spare_bps: u64) -> Command {
    let others = case.view.house.uplinks().filter(|it| is_better(case, it));
    let spare = others.filter_map(|it| {
        let (carries_bps, usable_bps) = load(case, it, way)?;
        Some((usable_bps.saturating_sub(carries_bps), it.name.as_str()))
    });
    match spare.max().filter(|(spare_bps, _)| *spare_bps > home_spare_bps.saturating_mul(2)) {
        Some((_, to)) => Command::VnicMove { vnic: case.vnic.name.clone(), to: to.to_owned() },
        None => Command::GrantUse,
    }
}

/// Whether it could go to an uplink, and would stay: none that drains, is left by others, or lies
/// behind a link that is not fit.
fn is_better(case: &Case<'_>, uplink: &Uplink) -> bool {
    let is_other = |home: &Uplink| uplink.pool == home.pool && uplink.name != home.name;
    let look = case.gateways.get(uplink.host.as_str());
    let seen = look.and_then(|look| look.uplink(&uplink.name));
    let is_alive = seen.is_some_and(|(now, _)| now.carrier && matches!(&*now.health, "" | "alive"));
    case.home.is_some_and(is_other)
        && is_alive
        && !case.view.house.is_draining(uplink)
        && !case.leaves_homes_at(&uplink.host)
}

/// Drops of the vNIC at the first gateway that has some.
fn at_gateways<'c>(case: &Case<'c>, family: Family) -> Option<(&'c str, u64)> {
    let mut flows = case.at_gateways(Stage::UplinkTx);
    flows.find_map(|(gateway, flow)| {
        let count = frames(&grown(flow, &[family]));
        (count > 0).then_some((gateway, count))
    })
}

fn shaper(case: &Case<'_>) -> String {
    format!("shaper on {}", case.vnic.host)
}

#[cfg(test)]
mod tests;
