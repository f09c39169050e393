//! The house as a change would make it, while its edits are made one by one.

use super::{Allowed, Base, Counters, Edit, Move, State, TIMERS_MAX, Timer, timers};
use crate::{
    caller::Caller,
    placing::{self, Sight},
    refusal::{Gate, Refusal},
    store::Revision,
};
use std::collections::{BTreeMap, BTreeSet};
use wireonce_desired::{Grant, House, Kind, Moment, Object, Rate, Wrong, rules};

/// The house as it would be, while the edits are made one by one.
pub(super) struct Draft<'s> {
    pub(super) state: &'s State,
    pub(super) caller: &'s Caller,
    pub(super) sight: Option<&'s Sight>,
    pub(super) now: Moment,
    pub(super) house: House,
    pub(super) timers: BTreeMap<String, Timer>,
    /// The times of the last moves of those that move now.
    pub(super) moved: BTreeMap<String, Vec<Moment>>,
    /// Ids that were given to new objects.
    pub(super) vnic_ids: BTreeSet<u64>,
    pub(super) uplink_ids: BTreeSet<u64>,
    pub(super) counters: Counters,
    /// What whoever asked should know.
    pub(super) notes: Vec<String>,
}

impl<'s> Draft<'s> {
    pub(super) fn new(
        state: &'s State,
        caller: &'s Caller,
        sight: Option<&'s Sight>,
        now: Moment,
    ) -> Self {
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
            notes: Vec::new(),
        }
    }

    pub(super) fn edit(&mut self, edit: &Edit) -> Allowed<()> {
        match edit {
            Edit::Put(object, Base::Any) if self.comes_back(object) => Ok(()),
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

    /// A document has the terms that last. While others are lent for a time, it changes nothing: what
    /// it says comes back by itself.
    fn comes_back(&mut self, object: &Object) -> bool {
        let Object::Grant(grant) = object else { return false };
        let Some(timer) = self.timers.get(&object.name()) else { return false };
        if timer.before.as_ref() != Some(grant) {
            return false;
        }
        self.notes.push(format!(
            "{}: {} changed it for a time, until {}; the terms that are given here come back then",
            object.title(),
            timer.by.user,
            timer.until
        ));
        true
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
            let limit = giver.terms(*direction).and_then(|terms| terms.limit);
            if limit == Some(Rate::LIMIT_MIN) {
                let title = Kind::Grant.title(&from_name);
                let (least, word) = (Rate::LIMIT_MIN, direction.word());
                self.notes.push(format!(
                    "{title} keeps a limit of {least} {word}, the least there is: its vNICs get no \
                     more than that until it is given some again"
                ));
            }
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
