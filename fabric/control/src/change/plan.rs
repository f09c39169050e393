//! From a change to what has to be written, through the gates.

use super::{
    Action, Allowed, AuditEntry, Change, Request, State, Timer,
    draft::Draft,
    heard,
    request::{self, Beyond},
    state::{CHANGED, HOUSE},
    timers,
};
use crate::{
    caller::{Caller, Role},
    placing::{self, Settled, Sight},
    refusal::{Gate, Refusal},
    store::{Compare, Op, Revision},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;
use wireonce_desired::{
    Difference, Direction, House, Kind, Moment, Object, ObjectDifference, PoolUse, Wrong,
    bandwidth, rules,
};
use wireonce_sight::View;

/// In what standing a change is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing<'r> {
    /// The request that it was, now approved: budgets do not bind it.
    pub request: Option<&'r Request>,
    /// What is seen of the house; without it homes are given by reservations alone.
    pub sight: Option<&'r Sight>,
    /// What hosts said last; without it nothing is said of those that refuse their texts.
    pub view: Option<View<'r>>,
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Answer {
    /// Everything was like that already.
    Unchanged {
        /// What else there is to know.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notes: Vec<String>,
    },
    /// It is so now.
    Applied {
        /// The revision that made it so; 0 if it was only tried.
        revision: Revision,
        /// What changed.
        difference: Difference,
        /// What else there is to know.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notes: Vec<String>,
    },
    /// It is beyond the budget, and waits for the network team.
    Requested {
        /// The number of the request; 0 if it was only tried.
        request: u64,
        /// What would change.
        difference: Difference,
        /// Why it is a request.
        why: String,
    },
}

impl Answer {
    /// Everything was like that already, and there is no more to it.
    #[must_use]
    pub fn unchanged() -> Self {
        Self::Unchanged { notes: Vec::new() }
    }
}

/// Comparisons and writes that carry out a change, and what to answer when they are done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What must not have changed since.
    pub compares: Vec<Compare>,
    /// What to write; nothing if the change changes nothing.
    pub ops: Vec<Op>,
    /// What to answer.
    pub answer: Answer,
}

/// Looks at a change as `caller` asks for it at `now`.
///
/// # Errors
/// The first gate that refuses it.
pub fn plan(
    state: &State,
    caller: &Caller,
    change: &Change,
    standing: Standing<'_>,
    now: Moment,
) -> Allowed<Plan> {
    check_words("the change", "reason", change.reason.as_deref())?;
    if let Some(revision) = change.based_on {
        state.check_based_on(revision)?;
    }
    let mut draft = Draft::new(state, caller, standing.sight, now);
    for edit in timers::timed(change, now)?.iter() {
        draft.edit(edit)?;
    }
    let asking = standing.request.map_or(caller, |request| &request.by);
    let asked = Difference::between(&state.house, &draft.house);
    let settled = give_homes(state, &mut draft.house, &asked, standing.sight);
    let difference = Difference::between(&state.house, &draft.house);
    if settled.is_ok() {
        if difference.is_empty() && draft.timers == state.timers {
            let answer = Answer::Unchanged { notes: draft.notes };
            return Ok(Plan { compares: vec![], ops: vec![], answer });
        }
        check_together(&draft.house, &difference)?;
    }
    // Who may not do it hears that first, and not that there is no room.
    let given = settled.as_ref().map(|settled| settled.placed.clone()).unwrap_or_default();
    check_right(asking, &difference, &given)?;
    let settled = settled?;
    check_room(&draft.house, &draft.timers)?;
    placing::admit(state, &draft.house, &difference)?;
    draft.moved = placing::pace(state, &draft.house, &difference, now)?;
    if asking.effective().is_bound_by_budgets()
        && standing.request.is_none()
        && let Some(over) = timers::beyond_budget(state, &draft.house, &draft.timers)
    {
        let beyond = Beyond { change, difference, why: &over, view: standing.view };
        return request::ask(state, caller, beyond, now);
    }
    let request = standing.request.map(|request| request.number);
    let why = Why { reason: change.reason.as_ref(), request, given: &given };
    let compares = vec![unchanged(state)];
    let unserved = |view| heard::unserved(&view, &state.house, &draft.house);
    let mut notes = std::mem::take(&mut draft.notes);
    notes.extend(settled.notes);
    notes.extend(standing.view.map(unserved).unwrap_or_default());
    let ops = draft.ops(&difference, &why)?;
    Ok(Plan { compares, ops, answer: Answer::Applied { revision: 0, difference, notes } })
}

/// What somebody writes, others read in their terminals.
pub(crate) fn check_words(thing: &str, key: &str, words: Option<&str>) -> Allowed<()> {
    rules::check_text(thing, key, words).map_err(|wrong| Refusal::wrong(Gate::Text, wrong))
}

/// Homes and standbys that were left out, or have to go.
fn give_homes(
    state: &State,
    house: &mut House,
    asked: &Difference,
    sight: Option<&Sight>,
) -> Allowed<Settled> {
    let vnics = asked.objects.iter().filter(|object| object.kind == Kind::Vnic);
    let asked = vnics.map(|object| object.name.clone()).collect();
    let blind = Sight::default();
    placing::settle(state, house, &asked, sight.unwrap_or(&blind))
}

/// The second gate. What only differs in grants and budgets, no daemon's reader is asked about.
fn check_together(house: &House, difference: &Difference) -> Allowed<()> {
    let is_terms = |kind| matches!(kind, Kind::Grant | Kind::Budget);
    let done = if difference.objects.iter().all(|object| is_terms(object.kind)) {
        let places = difference.objects.iter().map(|object| (object.kind, object.name.as_str()));
        rules::check_these(house, places)
    } else {
        rules::check_together(house)
    };
    done.map_err(|wrong| Refusal::wrong(Gate::House, wrong))
}

/// Why a change is made, for the audit trail.
struct Why<'w> {
    reason: Option<&'w String>,
    request: Option<u64>,
    /// The vNICs that nobody asked to change.
    given: &'w BTreeSet<String>,
}

/// That nobody changed the house since it was read.
pub(crate) fn unchanged(state: &State) -> Compare {
    Compare { key: HOUSE.to_owned(), version: state.house_version }
}

impl Draft<'_> {
    /// What makes the draft so.
    fn ops(mut self, difference: &Difference, why: &Why<'_>) -> Allowed<Vec<Op>> {
        let mut ops = Vec::new();
        if !difference.is_empty() {
            ops.push(Op::put(CHANGED, b"1".to_vec()));
        }
        for changed in &difference.objects {
            let (kind, name) = (changed.kind, changed.name.as_str());
            let (before, after) = (self.state.house.get(kind, name), self.house.get(kind, name));
            let key = State::object_key(kind, name);
            ops.push(match after {
                Some(object) => Op::put(key, json(object)?),
                None => Op::delete(key),
            });
            let ended = self.state.timers.get(name).filter(|_| !self.timers.contains_key(name));
            let stated = match after {
                _ if kind == Kind::Grant && ended.is_some() => {
                    ended.map(|timer| format!("the change by {} ended", timer.by.user))
                }
                Some(Object::Grant(grant)) => grant.reason.clone(),
                Some(Object::Vnic(vnic)) if why.given.contains(&vnic.name) => {
                    Some("placed by the controller".to_owned())
                }
                _ => None,
            };
            let entry = AuditEntry {
                number: self.counters.audit,
                at: self.now,
                by: self.caller.clone(),
                action: match (before, after) {
                    (None, _) => Action::Added,
                    (_, None) => Action::Removed,
                    _ => Action::Changed,
                },
                kind: Some(kind),
                name: name.to_owned(),
                before: before.and_then(|object| serde_json::to_value(object).ok()),
                after: after.and_then(|object| serde_json::to_value(object).ok()),
                reason: why.reason.cloned().or(stated),
                request: why.request,
            };
            ops.push(Op::put(AuditEntry::key(entry.number), json(&entry)?));
            self.counters.audit += 1;
            if let (Kind::Vnic, None) = (kind, after)
                && self.state.moved.contains_key(name)
            {
                ops.push(Op::delete(format!("moved/{name}")));
            }
        }
        for (name, times) in &self.moved {
            ops.push(Op::put(format!("moved/{name}"), json(times)?));
        }
        for (name, timer) in &mut self.timers {
            if self.state.timers.get(name) != Some(timer) {
                timer.request = why.request;
                ops.push(Op::put(format!("timer/{name}"), json(timer)?));
            }
        }
        let ended = self.state.timers.keys().filter(|name| !self.timers.contains_key(*name));
        ops.extend(ended.map(|name| Op::delete(format!("timer/{name}"))));
        let used = |kind: &str, ids: &BTreeSet<u64>, had: &BTreeSet<u64>| -> Vec<Op> {
            let new = ids.difference(had);
            new.map(|id| Op::put(format!("used/{kind}/{id}"), b"1".to_vec())).collect()
        };
        ops.extend(used("vnic", &self.vnic_ids, &self.state.vnic_ids));
        ops.extend(used("uplink", &self.uplink_ids, &self.state.uplink_ids));
        ops.push(Op::put(HOUSE, json(&self.counters)?));
        Ok(ops)
    }
}

/// Whether the caller's role owns what differs, but for the vNICs to which the controller gave
/// another place: they have to go where there is one, whoever's port drains.
fn check_right(caller: &Caller, difference: &Difference, given: &BTreeSet<String>) -> Allowed<()> {
    let role = caller.effective();
    let is_given = |it: &ObjectDifference| it.kind == Kind::Vnic && given.contains(&it.name);
    let mut asked = difference.objects.iter().filter(|object| !is_given(object));
    let Some(refused) = asked.find(|object| !role.may_change(object.kind)) else {
        return Ok(());
    };
    let kind = refused.kind;
    let owner = kind.owner().word();
    let problem = format!("the role `{role}` may not change {}", kind.plural());
    let remedy = match role {
        Role::Viewer => "ask the team that owns it".to_owned(),
        _ => format!("leave it as it is, or ask the {owner} team"),
    };
    Err(Refusal::new(Gate::Right, kind.title(&refused.name), problem, remedy).who(owner))
}

/// Whether there is room, now and whenever a timed change will have ended.
fn check_room(house: &House, timers: &BTreeMap<String, Timer>) -> Allowed<()> {
    let no_room = |wrong| {
        let refusal = Refusal::wrong(Gate::Admission, wrong);
        match refusal.thing.starts_with("[[pool]]") || refusal.thing.starts_with("[[budget]]") {
            true => refusal.who("network"),
            false => refusal,
        }
    };
    bandwidth::check(house).map_err(no_room)?;
    timers::each_future(house, timers, |end, later| {
        bandwidth::check(later).map_err(|wrong| {
            let problem = format!("once a timed change ends at {end}, {}", wrong.problem);
            no_room(Wrong { problem, ..wrong })
        })
    })
}

/// The pools whose grants a change touches.
pub(super) fn touched(difference: &Difference) -> BTreeSet<&str> {
    let grants = difference.objects.iter().filter(|object| object.kind == Kind::Grant);
    grants.filter_map(|object| object.name.split_once('/')).map(|(pool, _)| pool).collect()
}

/// How pools stand.
pub(super) fn evidence(house: &House, pools: &BTreeSet<&str>) -> Vec<PoolUse> {
    let both = |pool| Direction::BOTH.map(|direction| PoolUse::of(house, pool, direction));
    pools.iter().copied().flat_map(both).collect()
}

/// Takes the counters out of what is to be written, so that more can be written with them.
pub(crate) fn take_counters(ops: &mut Vec<Op>, state: &State) -> super::Counters {
    let value = |op: &Op| match op {
        Op::Put { key, value, .. } if key == HOUSE => serde_json::from_slice(value).ok(),
        _ => None,
    };
    let counters = ops.iter().rev().find_map(value);
    ops.retain(|op| !matches!(op, Op::Put { key, .. } if key == HOUSE));
    counters.unwrap_or_else(|| state.counters.clone())
}

pub(crate) fn json<T: Serialize>(value: &T) -> Allowed<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| {
        Refusal::new(
            Gate::Store,
            "the change",
            format!("cannot be written: {error}"),
            "report this",
        )
    })
}
