//! Plans for a pool: which moves would have more bandwidth used, at what price.

use super::{
    Numbered, Sight,
    pace::may_move,
    words::{names, rate},
};
use crate::{
    change::{Allowed, State},
    store::Revision,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wireonce_desired::{Kind, Moment, Rate};
use wireonce_placement::{Held, Limits, Move, PoolId, Rates, VnicIndex, rebalance};

/// A rate for each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Way {
    /// Towards the outside.
    pub up: Rate,
    /// From the outside.
    pub down: Rate,
}

/// One move of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedMove {
    /// The vNIC.
    pub vnic: String,
    /// Its home now.
    pub from: String,
    /// Its home then.
    pub to: String,
    /// What it gets more.
    #[serde(default)]
    pub gain: Way,
    /// The price: what crosses the fabric then and did not before.
    #[serde(default)]
    pub fabric: Way,
    /// The price: processor time of that on both hosts, in thousandths of a core.
    #[serde(default)]
    pub millicores: u64,
    /// The price: the gateway that it depends on then and did not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<String>,
}

/// A vNIC that is short and stays so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kept {
    /// The vNIC.
    pub vnic: String,
    /// By how much.
    pub short: Way,
    /// Why no move helps.
    pub why: String,
}

/// Moves for a pool, in the order in which they are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proposal {
    /// The pool.
    pub pool: String,
    /// The revision of the house that it was made for: it is carried out on that house only.
    pub revision: Revision,
    /// The moves.
    pub moves: Vec<PlannedMove>,
    /// Who is not helped.
    #[serde(default)]
    pub kept: Vec<Kept>,
    /// What else there is to know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What would be moved in a pool now.
///
/// # Errors
/// There is no such pool.
pub(crate) fn propose(state: &State, pool: &str, sight: &Sight, now: Moment) -> Allowed<Proposal> {
    state.find(Kind::Pool, pool)?;
    let (moves, held, known) = planned(state, pool, sight, now);
    let kept = held.iter().map(|(at, short, why)| Kept {
        vnic: known.house.vnics[at.0].name.clone(),
        short: way(*short),
        why: said(*why).to_owned(),
    });
    let mut notes = Vec::new();
    let silent = silent(state, pool, sight);
    if !silent.is_empty() {
        notes.push(format!(
            "there is no fresh report of {}: what their vNICs want is not known, and taken for what \
             is promised to them",
            names(silent)
        ));
    }
    Ok(Proposal {
        pool: pool.to_owned(),
        revision: state.house_version,
        moves: moves.iter().map(|it| shown(&known, it)).collect(),
        kept: kept.collect(),
        notes,
    })
}

/// The servers of a pool's vNICs that have not reported.
pub(super) fn silent<'s>(state: &'s State, pool: &str, sight: &'s Sight) -> Vec<&'s str> {
    let vnics = state.house.vnics();
    let on_pool = vnics.filter(|vnic| state.house.pool_of(vnic) == Some(pool));
    let mut silent: Vec<&str> = on_pool
        .map(|vnic| vnic.host.as_str())
        .filter(|host| sight.silent.contains(*host))
        .collect();
    silent.sort_unstable();
    silent.dedup();
    silent
}

type Short = (VnicIndex, Rates, Held);

/// The plan for one pool by number, and the house that it is for.
pub(super) fn planned<'s>(
    state: &'s State,
    pool: &str,
    sight: &Sight,
    now: Moment,
) -> (Vec<Move>, Vec<Short>, Numbered<'s>) {
    let mut known = Numbered::of(&state.house, sight);
    let Some(id) = pool_id(&known, state, pool) else { return (Vec::new(), Vec::new(), known) };
    let dead: Vec<bool> = known.house.uplinks.iter().map(|uplink| !uplink.alive).collect();
    for vnic in &mut known.house.vnics {
        // Who has lost his home is at a standby, and nobody knows what he gets there.
        let is_lost = vnic.home.is_some_and(|home| dead[home.0]);
        vnic.may_move = vnic.pool == id && !is_lost && may_move(state, &vnic.name, now);
    }
    let plan = rebalance(&known.house, &Limits::default());
    let mut held = plan.held;
    held.retain(|(at, ..)| known.house.vnics[at.0].pool == id);
    (plan.moves, held, known)
}

fn pool_id(known: &Numbered<'_>, state: &State, pool: &str) -> Option<PoolId> {
    let member = state.house.uplinks().find(|uplink| uplink.pool == pool)?;
    known.uplink(&member.name).map(|at| known.house.uplink(at).pool)
}

pub(super) fn shown(known: &Numbered<'_>, it: &Move) -> PlannedMove {
    let house = &known.house;
    PlannedMove {
        vnic: house.vnics[it.vnic.0].name.clone(),
        from: known.name(it.from).to_owned(),
        to: known.name(it.to).to_owned(),
        gain: way(it.gain),
        fabric: way(it.fabric),
        millicores: it.millicores,
        depends_on: it.depends_on.map(|gateway| house.gateways[gateway.0].name.clone()),
    }
}

fn way(rates: Rates) -> Way {
    Way { up: rate(rates.up_bps), down: rate(rates.down_bps) }
}

fn said(why: Held) -> &'static str {
    match why {
        Held::ServerPort => "its server's own fabric port is full: borrowing cannot help",
        Held::Pool => "no uplink of its pool has bandwidth to spare",
        Held::Rests => "it moved lately, or has lost its home, and is not to be moved now",
        Held::Promises => "there is bandwidth, but a promise would not survive a loss then",
        Held::TooLittle => "a move would gain too little",
    }
}
