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
    /// The server's name.
    pub server: String,
    /// What is promised to it.
    pub reservation: Rates,
    /// What it may use at most; [`Rates::UNLIMITED`] if nobody limited it.
    pub limit: Rates,
    /// What its vNICs would use.
    pub wants: Rates,
}

/// One thing that is out of balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What is seen, in figures.
    pub evidence: String,
    /// What cures it; `None` if no command does, as the evidence says.
    pub command: Option<String>,
}

/// Looks for imbalances: grants that hold one server back while another does not use its own,
/// then vNICs whose home is full while another uplink is not.
#[must_use]
pub fn advise(house: &House, grants: &[GrantUse], limits: &Limits) -> Vec<Advice> {
    let mut advice = grant_moves(grants, limits);
    let Plan { moves, held, .. } = rebalance(house, limits);
    advice.extend(moves.iter().map(|it| move_home(house, it)));
    advice.extend(held.iter().filter_map(|(at, short, why)| no_help(house, *at, *short, *why)));
    advice
}

/// Each starved server is helped by the one with most to spare in its pool; what one gives is
/// given once.
fn grant_moves(grants: &[GrantUse], limits: &Limits) -> Vec<Advice> {
    let mut spare: Vec<_> = grants.iter().map(GrantUse::spare_bps).collect();
    let mut starved: Vec<_> = grants.iter().filter(|it| it.short_bps() > 0).collect();
    starved.sort_by_key(|it| std::cmp::Reverse(it.short_bps()));
    let mut advice = Vec::new();
    for to in starved {
        let same_pool = grants.iter().enumerate().filter(|(_, it)| it.pool == to.pool);
        let others = same_pool.filter(|(_, it)| it.server != to.server);
        let Some((at, from)) = others.max_by_key(|(at, _)| spare[*at]) else { continue };
        let amount_bps = to.short_bps().min(spare[at]) / STEP_BPS * STEP_BPS;
        if amount_bps < limits.gain_min_bps {
            continue;
        }
        spare[at] -= amount_bps;
        let (pool, from_name, to_name) = (&from.pool, &from.server, &to.server);
        let evidence = format!(
            "{to_name} wants {} of pool {pool} and may use {}; {from_name} may use {} and wants {}",
            show(to.wants),
            show(to.limit),
            show(from.limit),
            show(from.wants),
        );
        let command = format!(
            "wireonce grant move --pool {pool} --from {from_name} --to {to_name} {}",
            rate(amount_bps)
        );
        advice.push(Advice { evidence, command: Some(command) });
    }
    advice
}

impl GrantUse {
    /// How much its limit holds it back, in the direction where that is more.
    fn short_bps(&self) -> u64 {
        let short = self.wants.minus(self.limit);
        short.up_bps.max(short.down_bps)
    }

    /// How much it can give away and still has, in both directions, what it wants. Only what was
    /// promised can be given.
    fn spare_bps(&self) -> u64 {
        let spare = self.limit.minus(self.wants).min(self.reservation);
        spare.up_bps.min(spare.down_bps)
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
