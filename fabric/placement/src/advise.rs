//! What is out of balance, and the command that cures it.
//!
//! Each advice is one sentence of evidence, in figures, and one command; or the sentence alone,
//! where no command can help. Only what is worth doing is said ([`Limits`]).

mod limits;

use crate::{
    command::{Command, Way},
    house::{House, Rates, VnicIndex},
    rebalance::{Held, Limits, Move, Plan, rebalance},
};
use std::collections::BTreeSet;
use wireonce_shares::Rate;

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
    /// Its grant ends by itself at this time, and cannot be changed before.
    pub until: Option<String>,
    /// What its vNICs would use.
    pub wants: Rates,
    /// What of that does not cross its fabric port: the home is on its own machine.
    pub wants_here: Rates,
    /// What its fabric port can carry to this pool, beside all else that crosses it;
    /// [`Rates::UNLIMITED`] if nobody stated what the port carries.
    pub port_left: Rates,
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

/// Looks for imbalances: servers whose own fabric port is full, limits of grants that hold a server
/// back while its pool has bandwidth that nobody uses, then vNICs whose home is full while another
/// uplink is not.
#[must_use]
pub fn advise(house: &House, grants: &[GrantUse], limits: &Limits) -> Vec<Advice> {
    let mut advice = Vec::new();
    let mut full: BTreeSet<&str> = BTreeSet::new();
    for way in [Way::Up, Way::Down] {
        for it in grants.iter().filter(|it| it.is_port_full(way, limits)) {
            full.insert(&it.server);
            advice.push(limits::port_full(it, way));
        }
        advice.extend(limits::raised(grants, way, limits));
    }
    let Plan { moves, held, .. } = rebalance(house, limits);
    advice.extend(moves.iter().map(|it| move_home(house, it)));
    // What is said of the port of a server is not said again of each of its vNICs.
    let is_said = |at: VnicIndex, why| {
        why == Held::ServerPort && full.contains(house.server_of(at).name.as_str())
    };
    let held = held.iter().filter(|(at, _, why)| !is_said(*at, *why));
    advice.extend(held.filter_map(|(at, short, why)| no_help(house, *at, *short, *why)));
    advice
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
    let command = Command::VnicMove { vnic: vnic.name.clone(), to: to.name.clone() };
    Advice { evidence, command: Some(command.to_string()) }
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
