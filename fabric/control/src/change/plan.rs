//! From a change to what has to be written, through the gates.

use super::{
    Action, Allowed, AuditEntry, Base, Change, Edit, Move, Request, State, TIMERS_MAX, Timer, heard,
    request, state::HOUSE, timers,
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
    Difference, Direction, Grant, House, Kind, Moment, Object, ObjectDifference, PoolUse, Rate,
    Wrong, bandwidth, rules,
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
    Unchanged,
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
    let mut draft = Draft::new(state, caller, standing.sight, now);
    for edit in &change.edits {
        draft.edit(edit)?;
    }
    let asking = standing.request.map_or(caller, |request| &request.by);
    let asked = Difference::between(&state.house, &draft.house);
    let settled = give_homes(state, &mut draft.house, &asked, standing.sight);
    let difference = Difference::between(&state.house, &draft.house);
    if settled.is_ok() {
        if difference.is_empty() && draft.timers == state.timers {
            return Ok(Plan { compares: vec![], ops: vec![], answer: Answer::Unchanged });
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
        return request::ask(state, caller, change, &draft.house, difference, &over, now);
    }
    let request = standing.request.map(|request| request.number);
    let why = Why { reason: change.reason.as_ref(), request, given: &given };
    let compares = vec![unchanged(state)];
    let unserved = |view| heard::unserved(&view, &state.house, &draft.house);
    let mut notes = settled.notes;
    notes.extend(standing.view.map(unserved).unwrap_or_default());
    let ops = draft.ops(&difference, &why)?;
    Ok(Plan { compares, ops, answer: Answer::Applied { revision: 0, difference, notes } })
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

/// The house as it would be, while the edits are made one by one.
struct Draft<'s> {
    state: &'s State,
    caller: &'s Caller,
    sight: Option<&'s Sight>,
    now: Moment,
    house: House,
    timers: BTreeMap<String, Timer>,
    /// The times of the last moves of those that move now.
    moved: BTreeMap<String, Vec<Moment>>,
    /// Ids that were given to new objects.
    vnic_ids: BTreeSet<u64>,
    uplink_ids: BTreeSet<u64>,
    counters: super::Counters,
}

impl<'s> Draft<'s> {
    fn new(state: &'s State, caller: &'s Caller, sight: Option<&'s Sight>, now: Moment) -> Self {
        Self {
            state,
            caller,
            sight,
            now,
            house: state.house.clone(),
            timers: state.timers.clone(),
            moved: BTreeMap::new(),
            vnic_ids: BTreeSet::new(),
            uplink_ids: BTreeSet::new(),
            counters: state.counters.clone(),
        }
    }

    fn edit(&mut self, edit: &Edit) -> Allowed<()> {
        match edit {
            Edit::Put(object, base) => self.put(object.clone(), *base),
            Edit::Delete(kind, name, base) => self.delete(*kind, name, *base),
            Edit::Move(what) => self.shift(what),
            Edit::End(name) => self.end(name),
            Edit::Rehome(what) => {
                let vnic = placing::rehomed(self.state, &self.house, what, self.sight)?;
                self.put(vnic, Base::Any)
            }
            Edit::Drain(kind, name, draining) => {
                let object = placing::drained(self.state, *kind, name, *draining)?;
                self.put(object, Base::Any)
            }
            Edit::Since(revision) => self.since(*revision),
        }
    }

    fn put(&mut self, mut object: Object, base: Base) -> Allowed<()> {
        rules::check_alone(&object).map_err(|wrong| Refusal::wrong(Gate::Text, wrong))?;
        let (kind, name) = (object.kind(), object.name());
        self.check_base(kind, &name, base)?;
        self.settle_id(&mut object)?;
        if self.house.get(kind, &name) == Some(&object) {
            return Ok(());
        }
        if let Object::Grant(grant) = &object {
            self.check_not_timed(&name)?;
            if let Some(until) = grant.until {
                self.start_timer(&name, until)?;
            }
        }
        self.house.put(object);
        Ok(())
    }

    fn delete(&mut self, kind: Kind, name: &str, base: Base) -> Allowed<()> {
        self.state.find(kind, name)?;
        self.check_base(kind, name, base)?;
        if kind == Kind::Grant {
            self.check_not_timed(name)?;
        }
        self.house.remove(kind, name);
        Ok(())
    }

    fn shift(&mut self, what: &Move) -> Allowed<()> {
        let Move { pool, from, to, rate, directions, until } = what;
        let wrong = |gate, thing: String, problem: &str, remedy: &str| {
            Err(Refusal::new(gate, thing, problem, remedy))
        };
        if from == to {
            let remedy = "name two servers";
            return wrong(
                Gate::Text,
                format!("server {from:?}"),
                "is both `from` and `to`",
                remedy,
            );
        }
        if *rate == Rate::ZERO || directions.is_empty() {
            let remedy = "give a rate above 0bit, and `up`, `down` or both";
            return wrong(Gate::Text, "the move".to_owned(), "moves nothing", remedy);
        }
        let (from_name, to_name) = (Grant::name_of(pool, from), Grant::name_of(pool, to));
        let Object::Grant(mut giver) = self.state.find(Kind::Grant, &from_name)?.clone() else {
            return Ok(());
        };
        let taker = self.house.grant(&to_name).cloned();
        let mut taker = taker.unwrap_or_else(|| Grant::empty(pool, to));
        for direction in directions {
            if giver.give(*direction, *rate).is_none() {
                let has = giver.reservation(*direction);
                let word = direction.word();
                let problem = format!("reserves {has} {word}, and {rate} cannot be taken from it");
                let remedy = format!("move at most {has}, or take it from another server");
                return wrong(Gate::House, Kind::Grant.title(&from_name), &problem, &remedy);
            }
            taker.take(*direction, *rate);
        }
        giver.until = *until;
        taker.until = *until;
        self.put(Object::Grant(giver), Base::Any)?;
        self.put(Object::Grant(taker), Base::Any)
    }

    fn end(&mut self, name: &str) -> Allowed<()> {
        let Some(timer) = self.timers.remove(name) else {
            self.state.find(Kind::Grant, name)?;
            let title = Kind::Grant.title(name);
            let remedy = "`wireonce grant set` changes it for good";
            return Err(Refusal::new(Gate::Conflict, title, "does not end by itself", remedy));
        };
        timers::restore(&mut self.house, name, &timer);
        Ok(())
    }

    /// A plan is carried out on the house that it was made for, or made again.
    fn since(&self, revision: Revision) -> Allowed<()> {
        let now = self.state.house_version;
        if revision == now {
            return Ok(());
        }
        let problem =
            format!("was made for revision {revision}, and the house has revision {now} now");
        let remedy = "have it made again, and look at it again";
        Err(Refusal::new(Gate::Conflict, "the plan", problem, remedy))
    }

    /// A change that ends by itself, of an object that has none.
    fn start_timer(&mut self, name: &str, until: Moment) -> Allowed<()> {
        let title = Kind::Grant.title(name);
        if until <= self.now {
            let problem = format!("{until} has passed (it is {})", self.now);
            let wrong = Wrong::new(title, problem, "give a time to come").at("until");
            return Err(Refusal::wrong(Gate::Text, wrong));
        }
        if self.timers.len() >= TIMERS_MAX {
            let problem = format!("{TIMERS_MAX} grants end by themselves already");
            let remedy = "wait for one to end, or end one with `wireonce grant end`";
            return Err(Refusal::new(Gate::Admission, title, problem, remedy));
        }
        let before = self.house.grant(name).cloned();
        let timer = Timer { until, before, by: self.caller.clone(), request: None };
        self.timers.insert(name.to_owned(), timer);
        Ok(())
    }

    /// What will be put back must not be changed under it: what was lent would be kept.
    fn check_not_timed(&self, name: &str) -> Allowed<()> {
        let Some(timer) = self.timers.get(name) else { return Ok(()) };
        let problem = format!("ends at {} by itself and cannot be changed until then", timer.until);
        let remedy = format!("end it now with `wireonce grant end {name}`, then change it");
        Err(Refusal::new(Gate::Conflict, Kind::Grant.title(name), problem, remedy))
    }

    fn check_base(&self, kind: Kind, name: &str, base: Base) -> Allowed<()> {
        let version = self.state.version(kind, name);
        let problem = match base {
            Base::Any => return Ok(()),
            Base::Version(based) if based == version => return Ok(()),
            Base::Absent if version == 0 => return Ok(()),
            Base::Version(based) if version == 0 => {
                format!("the change is based on version {based}, and it is gone since")
            }
            Base::Version(based) => {
                format!("the change is based on version {based}, and it has version {version} now")
            }
            Base::Absent => format!("it exists already, with version {version}"),
        };
        let remedy =
            format!("look at it with `wireonce {kind} show {name}`, and change what is so");
        Err(Refusal::new(Gate::Conflict, kind.title(name), problem, remedy))
    }

    /// An id stays with its object, and is never given again.
    fn settle_id(&mut self, object: &mut Object) -> Allowed<()> {
        let title = object.title();
        match object {
            Object::Vnic(vnic) => {
                let old = self.house.vnic(&vnic.name).and_then(|old| old.id);
                let taken = [&self.state.vnic_ids, &self.vnic_ids];
                let next = &mut self.counters.vnic;
                let id = settle(&title, vnic.id, old, &taken, next)?;
                self.vnic_ids.insert(id);
                vnic.id = Some(id);
            }
            Object::Uplink(uplink) => {
                let old = self.house.uplink(&uplink.name).and_then(|old| old.id).map(u64::from);
                let taken = [&self.state.uplink_ids, &self.uplink_ids];
                let next = &mut self.counters.uplink;
                let id = settle(&title, uplink.id.map(u64::from), old, &taken, next)?;
                self.uplink_ids.insert(id);
                uplink.id = u32::try_from(id).ok();
            }
            _ => {}
        }
        Ok(())
    }

    /// What makes the draft so.
    fn ops(mut self, difference: &Difference, why: &Why<'_>) -> Allowed<Vec<Op>> {
        let mut ops = Vec::new();
        for changed in &difference.objects {
            let (kind, name) = (changed.kind, changed.name.as_str());
            let (before, after) = (self.state.house.get(kind, name), self.house.get(kind, name));
            let key = State::object_key(kind, name);
            ops.push(match after {
                Some(object) => Op::put(key, json(object)?),
                None => Op::delete(key),
            });
            let stated = match after {
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

/// The id of an object: the one that it has, the one that was asked for, or a new one.
fn settle(
    title: &str,
    asked: Option<u64>,
    old: Option<u64>,
    taken: &[&BTreeSet<u64>; 2],
    next: &mut u64,
) -> Allowed<u64> {
    let is_taken = |id: u64| taken.iter().any(|ids| ids.contains(&id));
    let refuse = |problem: String, remedy: &str| {
        let wrong = Wrong::new(title, problem, remedy).at("id");
        Err(Refusal::wrong(Gate::House, wrong))
    };
    match (asked, old) {
        (None, Some(old)) => Ok(old),
        (Some(asked), Some(old)) if asked == old => Ok(old),
        (Some(_), Some(old)) => refuse(
            format!("it has the id {old}, and an id never changes"),
            "leave `id` out, or remove the object and make a new one",
        ),
        (Some(asked), None) if is_taken(asked) => refuse(
            format!("{asked} is or was the id of another, and no id is used twice"),
            "leave `id` out: the controller gives a new one",
        ),
        (Some(asked), None) => Ok(asked),
        (None, None) => {
            while is_taken(*next) {
                *next = next.saturating_add(1);
            }
            Ok(*next)
        }
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
    for (end, later) in timers::futures(house, timers) {
        bandwidth::check(&later).map_err(|wrong| {
            let problem = format!("once a timed change ends at {end}, {}", wrong.problem);
            no_room(Wrong { problem, ..wrong })
        })?;
    }
    Ok(())
}

/// How the pools stand that a change touches.
pub(super) fn evidence(house: &House, difference: &Difference) -> Vec<PoolUse> {
    let grants = difference.objects.iter().filter(|object| object.kind == Kind::Grant);
    let pools: BTreeSet<&str> =
        grants.filter_map(|object| object.name.split_once('/')).map(|(pool, _)| pool).collect();
    let both = |pool| Direction::BOTH.map(|direction| PoolUse::of(house, pool, direction));
    pools.into_iter().flat_map(both).collect()
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
