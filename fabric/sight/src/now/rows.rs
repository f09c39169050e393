//! One row each.

use super::{
    Drops, GrantDown, GrantRow, Heard, HostRow, Looks, Party, PoolRow, UplinkRow, VnicRow,
};
use crate::{
    look::{Both, Look, minus},
    sight::{
        Downward, Wants, held_percent, is_at_packet_limit, is_at_port, is_short, port_held_percent,
        wants,
    },
    view::View,
};
use std::{cmp::Reverse, collections::BTreeSet};
use wireonce_desired::{Direction, Host, Kind, Uplink, Vnic, bandwidth};
use wireonce_ledger::status::VnicState;

fn heard(view: &View<'_>, host: &str) -> Heard {
    Heard { silent_ms: view.silent_us(host).map(|us| us / 1_000), old: view.is_old(host) }
}

fn both(of: impl Fn(Direction) -> Option<u64>) -> Both {
    Both { up_bps: of(Direction::Up), down_bps: of(Direction::Down) }
}

pub(super) fn vnic_row(
    view: &View<'_>,
    looks: &Looks<'_>,
    drops: &Drops<'_>,
    vnic: &Vnic,
) -> VnicRow {
    let mut row = VnicRow {
        name: vnic.name.clone(),
        server: vnic.host.clone(),
        heard: heard(view, &vnic.host),
        home: vnic.home.clone(),
        limit: both(|way| view.limit(vnic, way)),
        limit_packets_per_s: view.packet_limit(vnic, Direction::Up),
        down: Downward::of(gateways(view, looks, view.pool_of(vnic)), vnic),
        drops: drops.get(vnic.name.as_str()).cloned().unwrap_or_default(),
        ..VnicRow::default()
    };
    let Some(look) = looks.get(vnic.host.as_str()) else { return row };
    let Some((now, before)) = look.vnic(&vnic.name) else { return row };
    row.state = Some(state(now.state).to_owned());
    row.home_now = now.home.as_ref().and_then(|home| home.now.clone());
    row.rate = Both {
        up_bps: before.and_then(|old| look.wire_bps(minus(now.tx, old.tx))),
        down_bps: before.and_then(|old| look.wire_bps(minus(now.rx, old.rx))),
    };
    row.wants = wants(look, vnic);
    if let Some(share) = now.share {
        let old = before.and_then(|old| old.share);
        row.share_bps = Some(share.rate_bps);
        row.held = is_short(look, share, old);
        row.held_percent = held_percent(look, share, old);
        row.packets_held = is_at_packet_limit(look, share, old);
        row.port_held_percent = port_held_percent(look, share, old);
        row.port_held = is_at_port(look, share, old);
        row.backlog_bytes = share.queued_bytes;
    }
    row
}

/// What is heard of the gateways of a pool, each once.
fn gateways<'l, 's>(
    view: &View<'s>,
    looks: &'l Looks<'s>,
    pool: Option<&str>,
) -> impl Iterator<Item = &'l Look<'s>> {
    let uplinks = view.house.uplinks().filter(move |it| Some(it.pool.as_str()) == pool);
    let hosts: BTreeSet<&str> = uplinks.map(|it| it.host.as_str()).collect();
    hosts.into_iter().filter_map(|host| looks.get(host))
}

fn state(state: VnicState) -> &'static str {
    match state {
        VnicState::Down => "down",
        VnicState::Connected => "connected",
        VnicState::Running => "running",
    }
}

pub(super) fn uplink_row(
    view: &View<'_>,
    looks: &Looks<'_>,
    drops: &Drops<'_>,
    vnics: &[VnicRow],
    uplink: &Uplink,
) -> UplinkRow {
    let at_home = || view.house.vnics().filter(|it| it.home.as_ref() == Some(&uplink.name));
    let reserved = |way| {
        let policies = at_home().filter_map(|it| view.house.policy(it.policy.as_deref()?));
        policies.map(|policy| policy.reservation(way).bps()).fold(0, u64::saturating_add)
    };
    let uses = |row: &&VnicRow| row.home_now.as_ref().or(row.home.as_ref()) == Some(&uplink.name);
    let mut row = UplinkRow {
        name: uplink.name.clone(),
        gateway: uplink.host.clone(),
        pool: uplink.pool.clone(),
        heard: heard(view, &uplink.host),
        state: "unknown".to_owned(),
        capacity: both(|way| uplink.capacity(way).map(|rate| rate.bps())),
        promised: both(|way| Some(reserved(way))),
        attached: vnics.iter().filter(uses).count().try_into().unwrap_or(u64::MAX),
        drops: drops.get(uplink.name.as_str()).cloned().unwrap_or_default(),
        ..UplinkRow::default()
    };
    let Some(look) = looks.get(uplink.host.as_str()) else { return row };
    let Some((now, before)) = look.uplink(&uplink.name) else { return row };
    row.state = match now.health.as_str() {
        "" if now.carrier => "alive".to_owned(),
        "" => "gone".to_owned(),
        health => health.to_owned(),
    };
    row.causes = now.causes.clone();
    if !now.health.is_empty() {
        row.attached = now.attached;
    }
    row.carrier = Some(now.carrier);
    row.rate = Both {
        up_bps: before.and_then(|old| look.wire_bps(minus(now.outward, old.outward))),
        down_bps: before.and_then(|old| look.wire_bps(minus(now.inward, old.inward))),
    };
    let leases = look.now.shares.iter().filter(|share| share.uplink == uplink.name);
    let lease =
        |share: &wireonce_ledger::status::ShareStatus| share.lease_bps.unwrap_or(share.starter_bps);
    row.leased_bps = leases.map(lease).reduce(u64::saturating_add);
    row
}

pub(super) fn host_row(
    view: &View<'_>,
    looks: &Looks<'_>,
    vnics: &[VnicRow],
    kind: Kind,
    host: &Host,
) -> HostRow {
    let (text, why) = view.text(&host.name);
    let report = view.reports(&host.name).map(|reports| &reports.newest.report);
    let mut row = HostRow {
        name: host.name.clone(),
        kind: kind.word().to_owned(),
        text,
        why,
        heard: heard(view, &host.name),
        certificate_until_s: report.and_then(|report| report.certificate_until_s),
        version: report.map(|report| report.status.version.clone()).unwrap_or_default(),
        port: Both {
            up_bps: host.port_up.map(|rate| rate.bps()),
            down_bps: host.port_down.map(|rate| rate.bps()),
        },
        ..HostRow::default()
    };
    let look = looks.get(host.name.as_str());
    row.port_used = look.map(|look| look.port()).unwrap_or_default();
    if kind == Kind::Gateway {
        let uplinks = view.house.uplinks().filter(|uplink| uplink.host == host.name);
        let carried = uplinks.filter_map(|uplink| {
            let (now, before) = look?.uplink(&uplink.name)?;
            let before = before?;
            Some(Both {
                up_bps: look?.wire_bps(minus(now.outward, before.outward)),
                down_bps: look?.wire_bps(minus(now.inward, before.inward)),
            })
        });
        row.rate = carried.fold(Both::default(), Both::plus);
        return row;
    }
    let own = || vnics.iter().filter(|vnic| vnic.server == host.name);
    row.rate = own().map(|vnic| vnic.rate).fold(Both::default(), Both::plus);
    row.wants = own().filter_map(|vnic| vnic.wants).reduce(Wants::plus);
    row.held = own().any(|vnic| vnic.held);
    row.grants = (view.house.pools())
        .map(|pool| grant_row(view, looks, vnics, &pool.name, &host.name))
        .filter(|row| row.lease_bps.is_some() || row.wants.is_some() || row.has_terms())
        .collect();
    row
}

impl GrantRow {
    fn has_terms(&self) -> bool {
        let said = [self.reservation.up_bps, self.reservation.down_bps];
        let limits = [self.limit.up_bps, self.limit.down_bps];
        said.iter().flatten().any(|bps| *bps > 0) || limits.iter().any(Option::is_some)
    }
}

fn grant_row(
    view: &View<'_>,
    looks: &Looks<'_>,
    vnics: &[VnicRow],
    pool: &str,
    server: &str,
) -> GrantRow {
    let uplinks = || view.house.uplinks().filter(|uplink| uplink.pool == pool);
    // The gateway knows what it promised; if it is silent, the server what it has.
    let shares = uplinks().filter_map(|uplink| {
        let of = |host: &str| looks.get(host)?.share(&uplink.name, server);
        of(&uplink.host).or_else(|| of(server))
    });
    let shares: Vec<_> = shares.collect();
    let lease = shares.iter().map(|(share, _)| share.lease_bps.unwrap_or(share.starter_bps));
    let in_pool = |row: &&VnicRow| {
        let home = row.home_now.as_ref().or(row.home.as_ref());
        row.server == server && home.is_some_and(|home| uplinks().any(|it| it.name == *home))
    };
    let own: Vec<&VnicRow> = vnics.iter().filter(in_pool).collect();
    let used = shares.iter().filter_map(|(_, rate)| *rate).reduce(u64::saturating_add);
    GrantRow {
        pool: pool.to_owned(),
        reservation: both(|way| Some(view.granted(pool, server, way))),
        limit: both(|way| view.grant_limit(pool, server, way)),
        lease_bps: lease.reduce(u64::saturating_add),
        used_bps: used
            .or_else(|| own.iter().filter_map(|row| row.rate.up_bps).reduce(u64::saturating_add)),
        wants: own.iter().filter_map(|row| row.wants).reduce(Wants::plus),
        held: own.iter().any(|row| row.held),
        down: GrantDown {
            used_bps: own
                .iter()
                .filter_map(|row| Some(row.down?.used_bps))
                .reduce(u64::saturating_add),
            wants: own.iter().filter_map(|row| Some(row.down?.wants)).reduce(Wants::plus),
            held: own.iter().any(|row| row.down.is_some_and(|down| down.short)),
        },
    }
}

pub(super) fn pool_row(
    view: &View<'_>,
    hosts: &[HostRow],
    uplinks: &[UplinkRow],
    pool: &str,
) -> PoolRow {
    let house = view.house;
    let mine = uplinks.iter().filter(|row| row.pool == pool);
    let heard = hosts.iter().filter(|host| host.heard.silent_ms.is_some() && !host.heard.old);
    let grants = |of: &HostRow| of.grants.iter().find(|grant| grant.pool == pool).cloned();
    let heard: Vec<(&str, GrantRow)> =
        heard.filter_map(|host| Some((host.name.as_str(), grants(host)?))).collect();
    let wanted = |of: &dyn Fn(&GrantRow) -> Option<Wants>| {
        let all = hosts.iter().filter_map(|host| of(&grants(host)?));
        all.fold(Wants::default(), Wants::plus)
    };
    let up = heard.iter().map(|(server, grant)| {
        let reserved = grant.reservation.up_bps;
        (grant.held, party(server, grant.used_bps, reserved, grant.wants))
    });
    let (starved, surplus) = parted(up);
    let down = heard.iter().map(|(server, grant)| {
        let (down, reserved) = (grant.down, grant.reservation.down_bps);
        (down.held, party(server, down.used_bps, reserved, down.wants))
    });
    let (starved_down, surplus_down) = parted(down);
    PoolRow {
        name: pool.to_owned(),
        usable: both(|way| Some(bandwidth::usable(house, pool, way).bps())),
        reserved: both(|way| Some(bandwidth::reserved(house, pool, way).bps())),
        budget: both(|way| house.budget(pool).map(|budget| budget.rate(way).bps())),
        used: mine.map(|row| row.rate).fold(Both::default(), Both::plus),
        wanted: wanted(&|grant| grant.wants),
        starved,
        surplus,
        wanted_down: wanted(&|grant| grant.down.wants),
        starved_down,
        surplus_down,
    }
}

/// Those who are held back, who lacks most first; and those with a surplus, most first.
fn parted(parties: impl Iterator<Item = (bool, Party)>) -> (Vec<Party>, Vec<Party>) {
    let (starved, others): (Vec<_>, Vec<_>) = parties.partition(|(held, _)| *held);
    let mut starved: Vec<Party> = starved.into_iter().map(|(_, party)| party).collect();
    starved.sort_by_key(|it| Reverse(it.wants));
    let mut surplus: Vec<Party> = others.into_iter().map(|(_, party)| party).collect();
    surplus.retain(|it| it.unused_bps() > 0);
    surplus.sort_by_key(|it| Reverse(it.unused_bps()));
    (starved, surplus)
}

fn party(
    server: &str,
    used_bps: Option<u64>,
    reserved_bps: Option<u64>,
    wants: Option<Wants>,
) -> Party {
    Party {
        server: server.to_owned(),
        used_bps: used_bps.unwrap_or(0),
        reserved_bps: reserved_bps.unwrap_or(0),
        wants: wants.unwrap_or_default(),
    }
}

impl Party {
    /// What is reserved for it, and not wanted.
    #[must_use]
    pub fn unused_bps(&self) -> u64 {
        self.reserved_bps.saturating_sub(self.wants.bps)
    }
}
