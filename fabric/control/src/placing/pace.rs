//! How often a vNIC's home may change, kept beside it in the store.
//!
//! Each change of the desired home of a vNIC that has one is a voluntary move, whatever verb made it.

use crate::{
    change::{Allowed, State},
    refusal::{Gate, Refusal},
};
use std::collections::BTreeMap;
use wireonce_desired::{Difference, House, Kind, Moment};
use wireonce_placement::pace::{MOVES_MAX, Pace, WINDOW_US};

const SECOND_US: u64 = 1_000_000;

/// The times of the last moves of those that this change moves, this one among them.
///
/// # Errors
/// One of them has moved too often lately.
pub(crate) fn pace(
    state: &State,
    house: &House,
    difference: &Difference,
    now: Moment,
) -> Allowed<BTreeMap<String, Vec<Moment>>> {
    let mut moved = BTreeMap::new();
    let vnics = difference.objects.iter().filter(|object| object.kind == Kind::Vnic);
    for name in vnics.map(|object| object.name.as_str()) {
        let before = state.house.vnic(name).and_then(|vnic| vnic.home.as_ref());
        let after = house.vnic(name).and_then(|vnic| vnic.home.as_ref());
        if before.is_none() || after.is_none() || before == after {
            continue;
        }
        let mut times = recent(state, name, now);
        let until = of(&times).refused_until_us(&(), now.0.saturating_mul(SECOND_US));
        if let Some(until) = until.map(|until_us| Moment(until_us.div_ceil(SECOND_US))) {
            return Err(too_often(name, until, now));
        }
        times.push(now);
        moved.insert(name.to_owned(), times);
    }
    Ok(moved)
}

/// Whether a vNIC may be moved without anybody asking: it rests after each move.
pub(super) fn may_move(state: &State, vnic: &str, now: Moment) -> bool {
    of(&recent(state, vnic, now)).may_move(&(), now.0.saturating_mul(SECOND_US))
}

/// The moves that still count. A clock that was set back by far must not bind anybody for
/// long: what lies ahead by more than the window is forgotten.
fn recent(state: &State, vnic: &str, now: Moment) -> Vec<Moment> {
    let window_s = WINDOW_US / SECOND_US;
    let known = state.moved.get(vnic).map_or(&[][..], Vec::as_slice);
    let counts = |at: &&Moment| {
        now.0 < at.0.saturating_add(window_s) && at.0 < now.0.saturating_add(window_s)
    };
    known.iter().filter(counts).copied().collect()
}

fn of(times: &[Moment]) -> Pace<()> {
    let mut pace = Pace::default();
    times.iter().for_each(|at| pace.moved((), at.0.saturating_mul(SECOND_US)));
    pace
}

fn too_often(vnic: &str, until: Moment, now: Moment) -> Refusal {
    let wait_s = until.0.saturating_sub(now.0);
    let problem = format!(
        "has moved {MOVES_MAX} times within {} s, and switches take an address that moves more often \
         for a loop",
        WINDOW_US / SECOND_US
    );
    let remedy = format!("it may move again at {until}, in {wait_s} s");
    let title = Kind::Vnic.title(vnic);
    let wrong = wireonce_desired::Wrong::new(title, problem, remedy).at("home");
    Refusal::wrong(Gate::Conflict, wrong)
}
