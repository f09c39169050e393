//! What is out of balance, and the command that cures it.
//!
//! Each advice is one sentence of evidence, in figures, and one command; or the sentence alone,
//! where no command can help. Only what is worth doing is said ([`Limits`]).

use crate::{
    house::{House, Rates, VnicIndex},
    rebalance::{Held, Limits, Move, Plan, rebalance},
};
use wireonce_shares::Rate;

/// Commands move whole steps of so many bits a second.
const STEP_BPS: u64 = 10_000_000;

/// What a server may use of a pool, and uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantUse {
    /// The pool's name.
    pub pool: String,
    /// What may be promised of the pool's uplinks together.
    pub pool_usable: Rates,
    /// The server's name.
    pub server: String,
    /// What is promised to it.
    pub reservation: Rates,
    /// What it may use at most; [`Rates::UNLIMITED`] if nobody limited it.
    pub limit: Rates,
    /// What its vNICs would use.
    pub wants: Rates,
    /// What the policies of its vNICs reserve: it cannot reserve less.
    pub promised: Rates,
}

/// One thing that is out of balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What is seen, in figures.
    pub evidence: String,
    /// What cures it; `None` if no command does, as the evidence says.
    pub command: Option<String>,
}

/// Looks for imbalances: limits of grants that hold a server back while its pool has bandwidth that
/// nobody uses, then vNICs whose home is full while another uplink is not.
#[must_use]
pub fn advise(house: &House, grants: &[GrantUse], limits: &Limits) -> Vec<Advice> {
    let mut advice = Vec::new();
    for way in [Way::Up, Way::Down] {
        advice.extend(raised_limits(grants, way, limits));
    }
    let Plan { moves, held, .. } = rebalance(house, limits);
    advice.extend(moves.iter().map(|it| move_home(house, it)));
    advice.extend(held.iter().filter_map(|(at, short, why)| no_help(house, *at, *short, *why)));
    advice
}

/// One direction.
#[derive(Debug, Clone, Copy)]
enum Way {
    Up,
    Down,
}

impl Way {
    fn of(self, rates: Rates) -> u64 {
        match self {
            Self::Up => rates.up_bps,
            Self::Down => rates.down_bps,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Each starved server may use what its pool has to spare; what one is given, is given once. A limit
/// needs no room and nobody's leave: whoever reserves what is lent gets it back within two ticks.
///
/// Where all are limited and the limits fit into the pool together, they divide it: nobody can crowd out
/// another. If a raise would end that, a move is told, which takes the limits along.
fn raised_limits(grants: &[GrantUse], way: Way, limits: &Limits) -> Vec<Advice> {
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
        given.push((&to.pool, amount_bps));
        let (pool, server, word) = (&to.pool, &to.server, way.word());
        let mut evidence = format!(
            "{server} wants {} {word} of pool {pool} and may use {}; the pool has {} to spare",
            bits(way.of(to.wants)),
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
        let limit = rate(way.of(to.limit).saturating_add(amount_bps));
        let raise = format!("wireonce grant set {pool}/{server} {word}.limit={limit}");
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
                move_grant(from, to, way, amount_bps)
            })
        });
        advice.push(Advice { evidence, command: Some(command.unwrap_or(raise)) });
    }
    advice
}

fn move_grant(from: &GrantUse, to: &GrantUse, way: Way, amount_bps: u64) -> String {
    let GrantUse { pool, server: giver, .. } = from;
    let direction = match way {
        Way::Up => "",
        Way::Down => " --direction down",
    };
    let (taker, amount) = (&to.server, rate(amount_bps));
    format!("wireonce grant move --pool {pool} --from {giver} --to {taker} {amount}{direction}")
}

impl GrantUse {
    /// How much its limit holds it back.
    fn short_bps(&self, way: Way) -> u64 {
        way.of(self.wants).saturating_sub(way.of(self.limit))
    }

    fn used_bps(&self, way: Way) -> u64 {
        way.of(self.wants).min(way.of(self.limit))
    }

    /// What is promised to it, and not wanted.
    fn unused_bps(&self, way: Way) -> u64 {
        way.of(self.reservation).saturating_sub(way.of(self.wants))
    }

    /// What of that can be moved to another.
    fn movable_bps(&self, way: Way) -> u64 {
        let kept_bps = way.of(self.wants).max(way.of(self.promised));
        way.of(self.reservation).saturating_sub(kept_bps)
    }
}

fn move_home(house: &House, it: &Move) -> Advice {
    let vnic = &house.vnics[it.vnic.0];
    let (from, to) = (house.uplink(it.from), house.uplink(it.to));
    let mut evidence = format!(
        "{} is short of bandwidth at its home {}; at {} it would have {} more",
        vnic.name,
        from.name,
        to.name,
        show(it.gain)
    );
    if it.fabric != Rates::default() {
        let cores = format!("{}.{:02}", it.millicores / 1_000, it.millicores % 1_000 / 10);
        evidence += &format!(" (price: {} across the fabric, {cores} cores", show(it.fabric));
        if let Some(gateway) = it.depends_on {
            evidence += &format!(", and it depends on {}", house.gateways[gateway.0].name);
        }
        evidence += ")";
    }
    let command = format!("wireonce vnic move {} --to {}", vnic.name, to.name);
    Advice { evidence, command: Some(command) }
}

fn no_help(house: &House, at: VnicIndex, short: Rates, why: Held) -> Option<Advice> {
    let vnic = &house.vnics[at.0];
    let server = &house.server_of(at).name;
    let reason = match why {
        Held::ServerPort => {
            format!(
                "the fabric port of {server} is full: borrowing cannot help; give {server} \
                     a faster port or move the VM"
            )
        }
        Held::Pool => {
            "its pool has nothing to spare: add an uplink, or lower what others may use".to_owned()
        }
        Held::Promises => "there is bandwidth, but using it would leave a reservation without a \
                           standby: add an uplink or lower a reservation"
            .to_owned(),
        Held::Rests => {
            "it has moved lately and rests, so that switches do not take it for a loop".to_owned()
        }
        Held::TooLittle => return None,
    };
    let evidence = format!("{} is short of {}; {reason}", vnic.name, show(short));
    Some(Advice { evidence, command: None })
}

/// Both directions, for people.
fn show(rates: Rates) -> String {
    match (rates.up_bps, rates.down_bps) {
        (up, down) if up == down => format!("{} both ways", bits(up)),
        (up, 0) => format!("{} up", bits(up)),
        (0, down) => format!("{} down", bits(down)),
        (up, down) => format!("{} up and {} down", bits(up), bits(down)),
    }
}

fn bits(bps: u64) -> String {
    if bps == u64::MAX { "any rate".to_owned() } else { rate(bps) }
}

/// As commands take it: "2Gbit", "1500Mbit". What is below a Mbit/s of a larger rate is left out.
fn rate(bps: u64) -> String {
    let whole_bps = if bps >= 1_000_000 { bps / 1_000_000 * 1_000_000 } else { bps };
    Rate(whole_bps).to_string()
}

#[cfg(test)]
mod tests;
