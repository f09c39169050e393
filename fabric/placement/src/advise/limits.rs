//! Limits of grants that hold a server back, and the port that no grant can widen.
//!
//! ```text
//!   wants ─▶ limit of its grant ─▶ fabric port ─▶ uplinks of the pool
//!            raised, if there is    full: borrowing   what nobody uses
//!            something behind it    cannot help       may be borrowed
//! ```

use super::{Advice, GrantUse, bits, rate};
use crate::{
    command::{Command, Way},
    house::Rates,
    rebalance::Limits,
};

/// Commands move whole steps of so many bits a second.
const STEP_BPS: u64 = 10_000_000;

/// Each starved server may use what its pool has to spare; what one is given, is given once. A limit
/// needs no room and nobody's leave: whoever reserves what is lent gets it back within two ticks.
///
/// Where all are limited and the limits fit into the pool together, they divide it: nobody can crowd out
/// another. If a raise would end that, a move is told, which takes the limits along.
pub(super) fn raised(grants: &[GrantUse], way: Way, limits: &Limits) -> Vec<Advice> {
    let mut starved: Vec<_> = grants.iter().filter(|it| it.short_bps(way) > 0).collect();
    starved.sort_by_key(|it| std::cmp::Reverse(it.short_bps(way)));
    let mut given: Vec<(&str, u64)> = Vec::new();
    // What a server can spare is moved once.
    let mut moved_from: Vec<(&str, &str)> = Vec::new();
    let mut advice = Vec::new();
    for to in starved {
        let same_pool = || grants.iter().filter(|it| it.pool == to.pool);
        let used_bps = same_pool().map(|it| it.used_bps(way)).fold(0, u64::saturating_add);
        let gone_bps = given.iter().filter(|(pool, _)| *pool == to.pool).map(|(_, bps)| bps);
        let gone_bps = gone_bps.fold(used_bps, |sum, bps| sum.saturating_add(*bps));
        let spare_bps = way.of(to.pool_usable).saturating_sub(gone_bps);
        let amount_bps = to.short_bps(way).min(spare_bps) / STEP_BPS * STEP_BPS;
        if amount_bps < limits.gain_min_bps {
            continue;
        }
        let (server, word) = (&to.server, way.word());
        let mut evidence = format!(
            "{server} wants {} {word} of pool {} and may use {}; the pool has {} to spare",
            bits(way.of(to.wants)),
            to.pool,
            bits(way.of(to.limit)),
            bits(spare_bps),
        );
        let others = same_pool().filter(|it| it.server != to.server && it.unused_bps(way) > 0);
        let other = others.max_by_key(|it| it.unused_bps(way));
        if let Some(other) = other {
            let (reserved, wants) = (way.of(other.reservation), way.of(other.wants));
            let (reserved, wants) = (bits(reserved), bits(wants));
            evidence += &format!(": {} reserves {reserved} and wants {wants}", other.server);
        }
        let port_bps = to.useful_bps(way);
        if port_bps < way.of(to.wants) {
            evidence += &format!("; its own fabric port carries {} of that", bits(port_bps));
        }
        if let Some(until) = &to.until {
            evidence += &agreed(to, until);
            advice.push(Advice { evidence, command: None });
            continue;
        }
        given.push((&to.pool, amount_bps));
        let limits_bps = same_pool().map(|it| way.of(it.limit)).fold(0, u64::saturating_add);
        let usable_bps = way.of(to.pool_usable);
        let divides =
            limits_bps <= usable_bps && limits_bps.saturating_add(amount_bps) > usable_bps;
        let is_new = |it: &&GrantUse| !moved_from.contains(&(&it.pool, &it.server));
        let from = other.filter(|_| divides).filter(is_new);
        let command = from.and_then(|from| {
            let amount_bps = amount_bps.min(from.movable_bps(way)) / STEP_BPS * STEP_BPS;
            (amount_bps >= limits.gain_min_bps).then(|| {
                moved_from.push((&from.pool, &from.server));
                moved(from, to, way, amount_bps)
            })
        });
        let raise = || Command::GrantLimit {
            pool: to.pool.clone(),
            server: to.server.clone(),
            way,
            limit: rate(way.of(to.limit).saturating_add(amount_bps)),
        };
        let command = command.unwrap_or_else(raise).to_string();
        advice.push(Advice { evidence, command: Some(command) });
    }
    advice
}

/// No grant helps a server whose own port carries no more.
pub(super) fn port_full(it: &GrantUse, way: Way) -> Advice {
    let GrantUse { pool, server, .. } = it;
    let mut evidence =
        format!("{server} wants {} {} of pool {pool}", bits(way.of(it.wants)), way.word());
    if way.of(it.limit) < u64::MAX {
        evidence += &format!(" and may use {}", bits(way.of(it.limit)));
    }
    evidence += &format!(
        "; its own fabric port carries {} of that and is full: borrowing cannot help; give {server} a \
         faster port, or move a VM to another server",
        bits(it.useful_bps(way))
    );
    Advice { evidence, command: None }
}

fn moved(from: &GrantUse, to: &GrantUse, way: Way, amount_bps: u64) -> Command {
    Command::GrantMove {
        pool: from.pool.clone(),
        from: from.server.clone(),
        to: to.server.clone(),
        way,
        amount: rate(amount_bps),
    }
}

/// Why the limit cannot be changed now.
fn agreed(to: &GrantUse, until: &str) -> String {
    let end = Command::GrantEnd { pool: to.pool.clone(), server: to.server.clone() };
    format!(
        "; that was agreed until {until} and cannot be changed before; `{end}` ends it now, and what \
         was before comes back"
    )
}

impl Way {
    fn of(self, rates: Rates) -> u64 {
        match self {
            Self::Up => rates.up_bps,
            Self::Down => rates.down_bps,
        }
    }
}

impl GrantUse {
    /// Whether its own port holds it back, and not, or hardly, its grant.
    pub(super) fn is_port_full(&self, way: Way, limits: &Limits) -> bool {
        let lost_bps = way.of(self.wants).saturating_sub(self.useful_bps(way));
        lost_bps >= limits.gain_min_bps && self.short_bps(way) < limits.gain_min_bps
    }

    /// What it could use if no grant limited it.
    fn useful_bps(&self, way: Way) -> u64 {
        let most_bps = way.of(self.wants_here).saturating_add(way.of(self.port_left));
        way.of(self.wants).min(most_bps)
    }

    /// How much its limit holds it back.
    fn short_bps(&self, way: Way) -> u64 {
        self.useful_bps(way).saturating_sub(way.of(self.limit))
    }

    fn used_bps(&self, way: Way) -> u64 {
        self.useful_bps(way).min(way.of(self.limit))
    }

    /// What is promised to it, and not wanted.
    fn unused_bps(&self, way: Way) -> u64 {
        way.of(self.reservation).saturating_sub(way.of(self.wants))
    }

    /// What of that can be moved to another.
    fn movable_bps(&self, way: Way) -> u64 {
        if self.until.is_some() {
            return 0;
        }
        let kept_bps = way.of(self.wants).max(way.of(self.promised));
        way.of(self.reservation).saturating_sub(kept_bps)
    }
}
