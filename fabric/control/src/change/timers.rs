//! Changes that end by themselves, and what the house will be when they have.

use super::{Allowed, Change, Edit, Plan, Standing, State, Timer, plan};
use crate::{
    caller::Caller,
    refusal::{Gate, Refusal},
};
use std::{borrow::Cow, collections::BTreeMap, convert::Infallible};
use wireonce_desired::{Direction, House, Kind, Moment, Object, Rate, Wrong, bandwidth};
use wireonce_sight::View;

/// When the next change ends by itself.
#[must_use]
pub fn next_end(state: &State) -> Option<Moment> {
    state.timers.values().map(|timer| timer.until).min()
}

/// What has to be put back at `now`, all of it that is due, as the controller's own
/// change; `None` if nothing is due.
///
/// # Errors
/// What was before does not fit any more. That cannot be as long as only this code
/// writes: every change is checked against the house after each end.
pub fn plan_ended(state: &State, view: Option<View<'_>>, now: Moment) -> Allowed<Option<Plan>> {
    let due: Vec<(&String, &Timer)> =
        state.timers.iter().filter(|(_, timer)| timer.until <= now).collect();
    if due.is_empty() {
        return Ok(None);
    }
    let edits = due.iter().map(|(name, _)| Edit::End((*name).clone())).collect();
    let change = Change { edits, ..Change::default() };
    let standing = Standing { view, ..Standing::default() };
    plan(state, &Caller::control(), &change, standing, now).map(Some)
}

/// The edits of a change, with the end of its grants if it is for a time.
pub(super) fn timed(change: &Change, now: Moment) -> Allowed<Cow<'_, [Edit]>> {
    let Some(for_s) = change.for_s else { return Ok(Cow::Borrowed(&change.edits)) };
    let no = |problem: &str, remedy: &str| {
        let wrong = Wrong::new("the change", problem, remedy).at("for_s");
        Err(Refusal::wrong(Gate::Text, wrong))
    };
    let mut edits = change.edits.clone();
    let ends: Vec<&mut Option<Moment>> = edits.iter_mut().filter_map(end_of).collect();
    if for_s == 0 {
        return no("is no time", "give a second at least, or leave it out");
    }
    if ends.is_empty() {
        return no("only grants end by themselves", "leave it out");
    }
    if ends.iter().any(|end| end.is_some()) {
        return no("there is a time when it ends already", "give `for_s` or `until`");
    }
    ends.into_iter().for_each(|end| *end = Some(now.after(for_s)));
    Ok(Cow::Owned(edits))
}

/// When what an edit does ends by itself, if it can.
pub(super) fn end_of(edit: &mut Edit) -> Option<&mut Option<Moment>> {
    match edit {
        Edit::Put(Object::Grant(grant), _) => Some(&mut grant.until),
        Edit::Move(what) => Some(&mut what.until),
        _ => None,
    }
}

/// The house as it will be when all that was changed for a time has ended: what a document of it has
/// to say, whenever it is applied.
#[must_use]
pub fn lasting(state: &State) -> House {
    let mut house = state.house.clone();
    for (name, timer) in &state.timers {
        restore(&mut house, name, timer);
    }
    house
}

/// Puts back what was before.
pub(super) fn restore(house: &mut House, name: &str, timer: &Timer) {
    match &timer.before {
        Some(before) => {
            house.put(Object::Grant(before.clone()));
        }
        None => {
            house.remove(Kind::Grant, name);
        }
    }
}

/// Has `look` see the house after each end that is still to come, in the order of time. The house is
/// copied once, whatever number of ends there are.
pub(super) fn each_future<E>(
    house: &House,
    timers: &BTreeMap<String, Timer>,
    mut look: impl FnMut(Moment, &House) -> Result<(), E>,
) -> Result<(), E> {
    if timers.is_empty() {
        return Ok(());
    }
    let mut ends: BTreeMap<Moment, Vec<(&String, &Timer)>> = BTreeMap::new();
    for (name, timer) in timers {
        ends.entry(timer.until).or_default().push((name, timer));
    }
    let mut later = house.clone();
    for (end, due) in ends {
        for (name, timer) in due {
            restore(&mut later, name, timer);
        }
        look(end, &later)?;
    }
    Ok(())
}

/// What grants reserve, by pool and direction, from a moment on.
type Sums = BTreeMap<(String, Direction), Rate>;

/// What grants reserve now, and from each end on that is still to come.
fn sums(house: &House, timers: &BTreeMap<String, Timer>) -> Vec<(Moment, Sums)> {
    let of = |house: &House| -> Sums {
        let both = |pool: &str| {
            Direction::BOTH
                .map(|way| ((pool.to_owned(), way), bandwidth::reserved(house, pool, way)))
        };
        house.names(Kind::Pool).flat_map(both).collect()
    };
    // Whatever else there is has no say in it, and is much.
    let house = house.only(&[Kind::Pool, Kind::Grant]);
    let mut times = vec![(Moment(0), of(&house))];
    let done: Result<(), Infallible> = each_future(&house, timers, |end, later| {
        times.push((end, of(later)));
        Ok(())
    });
    done.unwrap_or_else(|never| match never {});
    times
}

/// The first pool in which the grants would reserve more than the budget, and more than
/// they do without the change; now, or after an end that is still to come.
pub(super) fn beyond_budget(
    state: &State,
    house: &House,
    timers: &BTreeMap<String, Timer>,
) -> Option<String> {
    let (before, after) = (sums(&state.house, &state.timers), sums(house, timers));
    let mut moments: Vec<Moment> = before.iter().chain(&after).map(|(at, _)| *at).collect();
    moments.sort_unstable();
    moments.dedup();
    for moment in moments {
        let (old, new) = (at(&before, moment)?, at(&after, moment)?);
        for (place, will) in new {
            let (pool, direction) = place;
            let was = old.get(place).copied().unwrap_or(Rate::ZERO);
            let budget = bandwidth::budget(house, pool, *direction);
            if *will > budget.max(was) {
                return Some(over(pool, *direction, budget, was, *will));
            }
        }
    }
    None
}

/// The sums at a moment: the last that began before it.
fn at(times: &[(Moment, Sums)], moment: Moment) -> Option<&Sums> {
    times.iter().rev().find(|(begin, _)| *begin <= moment).map(|(_, sums)| sums)
}

fn over(pool: &str, direction: Direction, budget: Rate, was: Rate, will: Rate) -> String {
    let word = direction.word();
    format!(
        "the grants of pool {pool:?} would reserve {will} {word} (now {was}), and the budget is \
         {budget}"
    )
}
