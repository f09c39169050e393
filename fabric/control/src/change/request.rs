//! Requests: changes beyond the budget, kept until the network team answers.

use super::{
    Action, Allowed, Answer, AuditEntry, Base, Change, Edit, OPEN_REQUESTS_MAX, Plan, REQUESTS_MAX,
    Standing, State,
    heard::{ServerUse, measured},
    plan::{check_words, evidence, json, plan, take_counters, touched, unchanged},
    state::HOUSE,
    timers,
};
use crate::{
    caller::Caller,
    refusal::{Gate, Refusal},
    store::Op,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wireonce_desired::{Difference, Direction, Grant, Kind, Moment, Object, PoolUse, Rate};
use wireonce_sight::View;

/// A change that waits for an answer, or has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Request {
    /// Its number.
    pub number: u64,
    /// When it was asked for.
    pub at: Moment,
    /// By whom.
    pub by: Caller,
    /// Why, as they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it is a request.
    pub why: String,
    /// What is asked for.
    #[schema(value_type = Object)]
    pub change: Change,
    /// What would change.
    pub difference: Difference,
    /// How the pools stood when it was asked for.
    pub evidence: Vec<PoolUse>,
    /// What servers used and wanted of them then.
    #[serde(default)]
    pub measured: Vec<ServerUse>,
    /// Whether it was answered.
    pub state: RequestState,
}

/// Whether a request was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum RequestState {
    /// It waits.
    Open,
    /// It was approved, and carried out.
    Approved(Decision),
    /// It was denied.
    Denied(Decision),
    /// Who asked took it back.
    Withdrawn(Decision),
}

/// Who answered a request, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// When.
    pub at: Moment,
    /// Who.
    pub by: Caller,
    /// What they said to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
    /// What no grant of it may reserve, or have as its limit, more than.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Rate>,
    /// When its grants end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Moment>,
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Whether it is a yes.
    #[serde(default)]
    pub approve: bool,
    /// What to say to it; a no needs one.
    #[serde(default)]
    pub word: Option<String>,
    /// No grant that it raises may reserve more than this, or have a higher limit, in either direction.
    #[serde(default)]
    pub ceiling: Option<Rate>,
    /// When its grants end, and what was before comes back.
    #[serde(default)]
    pub end: Option<Moment>,
    /// The same in seconds from the answer, by the controller's clock.
    #[serde(default)]
    pub for_s: Option<u64>,
}

impl Request {
    /// The key that keeps it.
    #[must_use]
    pub fn key(number: u64) -> String {
        format!("request/{number:010}")
    }

    /// Whether it waits.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == RequestState::Open
    }
}

/// A change that is beyond the budget.
pub(super) struct Beyond<'b> {
    /// As it was asked for.
    pub(super) change: &'b Change,
    /// What would change.
    pub(super) difference: Difference,
    /// Why it is beyond.
    pub(super) why: &'b str,
    /// What hosts said last.
    pub(super) view: Option<View<'b>>,
}

/// Keeps a change for the network team, or finds that it waits already: who asks again, as a program
/// does every few minutes, has not asked for more.
pub(super) fn ask(
    state: &State,
    caller: &Caller,
    beyond: Beyond<'_>,
    now: Moment,
) -> Allowed<Plan> {
    let Beyond { change, difference, why, view } = beyond;
    let change = pinned(state, change, &difference);
    let is_same = |it: &&Request| {
        it.is_open() && it.by.effective() == caller.effective() && it.change.does_as(&change)
    };
    if let Some(same) = state.requests.values().find(is_same) {
        let answer = Answer::Requested { request: same.number, difference, why: why.to_owned() };
        return Ok(Plan { compares: vec![], ops: vec![], answer });
    }
    if state.requests.values().filter(|request| request.is_open()).count() >= OPEN_REQUESTS_MAX {
        let problem = format!("{OPEN_REQUESTS_MAX} requests wait for an answer already, and {why}");
        let remedy = "have some answered, or withdraw some with `wireonce request withdraw`";
        let refusal = Refusal::new(Gate::Admission, "the change", problem, remedy);
        return Err(refusal.who("network"));
    }
    let mut counters = state.counters.clone();
    let number = counters.request;
    counters.request += 1;
    let pools = touched(&difference);
    let request = Request {
        number,
        at: now,
        by: caller.clone(),
        reason: change.reason.clone(),
        why: why.to_owned(),
        evidence: evidence(&state.house, &pools),
        measured: view.map(|view| measured(&view, &pools)).unwrap_or_default(),
        difference: difference.clone(),
        change,
        state: RequestState::Open,
    };
    let entry = entry(&mut counters.audit, &request, Action::Requested, caller, now);
    let mut ops = vec![
        Op::put(Request::key(number), json(&request)?),
        Op::put(AuditEntry::key(entry.number), json(&entry)?),
        Op::put(HOUSE, json(&counters)?),
    ];
    ops.extend(forgotten(state).map(|number| Op::delete(Request::key(number))));
    let answer = Answer::Requested { request: number, difference, why: why.to_owned() };
    Ok(Plan { compares: vec![unchanged(state)], ops, answer })
}

/// Answers a request. An approval is the change itself, and passes all gates but the
/// budget, against the house of now.
///
/// # Errors
/// There is no such request, it has an answer, the caller may not answer it, or the
/// change does not pass.
pub fn decide(
    state: &State,
    caller: &Caller,
    number: u64,
    verdict: &Verdict,
    view: Option<View<'_>>,
    now: Moment,
) -> Allowed<Plan> {
    let thing = format!("request {number}");
    let role = caller.effective();
    if !role.may_decide() {
        let problem = format!("the role `{role}` may not answer requests");
        let remedy = "ask the network team";
        return Err(Refusal::new(Gate::Right, thing, problem, remedy).who("network"));
    }
    let request = open(state, number)?;
    let Verdict { approve, word, ceiling, end, for_s } = verdict.clone();
    let end = earlier(end, for_s.map(|seconds| now.after(seconds)));
    let word = word.filter(|word| !word.trim().is_empty());
    check_words(&thing, "word", word.as_deref())?;
    if !approve && word.is_none() {
        let remedy = "say why, for those who asked";
        return Err(Refusal::new(Gate::Text, thing, "is denied without a word", remedy));
    }
    let decision = Decision { at: now, by: caller.clone(), word, ceiling, end };
    if approve {
        approve_it(state, caller, request, decision, view, now)
    } else {
        close(state, request, Action::Denied, decision)
    }
}

fn approve_it(
    state: &State,
    caller: &Caller,
    request: &Request,
    decision: Decision,
    view: Option<View<'_>>,
    now: Moment,
) -> Allowed<Plan> {
    let change = bounded(state, request, &decision)?;
    let standing = Standing { request: Some(request), sight: None, view };
    let mut planned = plan(state, caller, &change, standing, now)?;
    let mut counters = take_counters(&mut planned.ops, state);
    let entry = AuditEntry {
        reason: decision.word.clone(),
        ..entry(&mut counters.audit, request, Action::Approved, caller, now)
    };
    let answered = Request { state: RequestState::Approved(decision), ..request.clone() };
    planned.ops.push(Op::put(Request::key(request.number), json(&answered)?));
    planned.ops.push(Op::put(AuditEntry::key(entry.number), json(&entry)?));
    planned.ops.push(Op::put(HOUSE, json(&counters)?));
    planned.compares = vec![unchanged(state)];
    if matches!(planned.answer, Answer::Unchanged { .. }) {
        planned.answer =
            Answer::Applied { revision: 0, difference: Difference::default(), notes: vec![] };
    }
    Ok(planned)
}

/// Takes a request back.
///
/// # Errors
/// There is no such request, it has an answer, or somebody else made it.
pub fn withdraw(
    state: &State,
    caller: &Caller,
    number: u64,
    reason: Option<String>,
    now: Moment,
) -> Allowed<Plan> {
    let request = open(state, number)?;
    let thing = format!("request {number}");
    check_words(&thing, "reason", reason.as_deref())?;
    let by = &request.by;
    if (&by.user, by.effective()) != (&caller.user, caller.effective()) {
        let problem = format!("was made by {by}, and you are {caller}");
        let remedy = format!("have {} withdraw it, or have it denied", by.user);
        return Err(Refusal::new(Gate::Right, thing, problem, remedy).who("network"));
    }
    let decision = Decision { at: now, by: caller.clone(), word: reason, ceiling: None, end: None };
    close(state, request, Action::Withdrawn, decision)
}

/// A request that waits.
fn open(state: &State, number: u64) -> Allowed<&Request> {
    let thing = format!("request {number}");
    let Some(request) = state.requests.get(&number) else {
        let remedy = "`wireonce request list` shows those that there are";
        return Err(Refusal::new(Gate::Missing, thing, "does not exist", remedy));
    };
    let (decision, how) = match &request.state {
        RequestState::Open => return Ok(request),
        RequestState::Approved(decision) => (decision, "approved"),
        RequestState::Denied(decision) => (decision, "denied"),
        RequestState::Withdrawn(decision) => (decision, "withdrawn"),
    };
    let problem = format!("was {how} by {} at {}", decision.by.user, decision.at);
    Err(Refusal::new(Gate::Conflict, thing, problem, "let them ask anew"))
}

/// Ends a request that changes nothing.
fn close(state: &State, request: &Request, how: Action, decision: Decision) -> Allowed<Plan> {
    let mut counters = state.counters.clone();
    let entry = AuditEntry {
        reason: decision.word.clone(),
        ..entry(&mut counters.audit, request, how, &decision.by, decision.at)
    };
    let state_now = match how {
        Action::Withdrawn => RequestState::Withdrawn(decision),
        _ => RequestState::Denied(decision),
    };
    let answered = Request { state: state_now, ..request.clone() };
    let ops = vec![
        Op::put(Request::key(request.number), json(&answered)?),
        Op::put(AuditEntry::key(entry.number), json(&entry)?),
        Op::put(HOUSE, json(&counters)?),
    ];
    let answer = Answer::Applied { revision: 0, difference: Difference::default(), notes: vec![] };
    Ok(Plan { compares: vec![unchanged(state)], ops, answer })
}

/// The change as it was seen: what is changed by others until the answer, is not overwritten by it.
/// What it would not change is not kept: else every document would be another request, as soon as
/// anything in it changed.
fn pinned(state: &State, change: &Change, difference: &Difference) -> Change {
    let differs = |kind: Kind, name: &str| {
        difference.objects.iter().any(|it| it.kind == kind && it.name == name)
    };
    let pin = |edit: &Edit| match edit.clone() {
        Edit::Put(object, _) if !differs(object.kind(), &object.name()) => None,
        Edit::Put(object, Base::Any) => {
            let base = match state.version(object.kind(), &object.name()) {
                0 => Base::Absent,
                version => Base::Version(version),
            };
            Some(Edit::Put(object, base))
        }
        Edit::Delete(kind, name, Base::Any) => {
            let version = state.version(kind, &name);
            Some(Edit::Delete(kind, name, Base::Version(version)))
        }
        other => Some(other),
    };
    let edits = change.edits.iter().filter_map(pin).collect();
    Change { edits, reason: change.reason.clone(), for_s: change.for_s, based_on: None }
}

/// The change with what the answer bounds: grants that it raises, and until when. A time that it was
/// asked for begins with the answer.
fn bounded(state: &State, request: &Request, decision: &Decision) -> Allowed<Change> {
    let mut change = request.change.clone();
    let lasts = change.for_s.take().map(|seconds| decision.at.after(seconds));
    for edit in &mut change.edits {
        if let Some(ceiling) = decision.ceiling {
            cut(state, edit, ceiling)?;
        }
        if let Some(end) = timers::end_of(edit) {
            let asked = end.or(lasts);
            *end = match asked {
                Some(asked) if asked <= decision.at => Some(decision.end.ok_or_else(|| {
                    let thing = format!("request {}", request.number);
                    let problem = format!("was to end at {asked}, and that has passed");
                    let remedy = "approve it with another end (`--for 2h`), or deny it";
                    Refusal::new(Gate::Conflict, thing, problem, remedy)
                })?),
                asked => earlier(asked, decision.end),
            };
        }
    }
    Ok(change)
}

/// What an edit raises is raised to the ceiling at most.
fn cut(state: &State, edit: &mut Edit, ceiling: Rate) -> Allowed<()> {
    match edit {
        Edit::Put(Object::Grant(grant), _) => {
            let before = state.house.grant(&Grant::name_of(&grant.pool, &grant.server));
            for direction in Direction::BOTH {
                cut_grant(grant, before, direction, ceiling);
            }
            Ok(())
        }
        Edit::Move(_) => {
            let remedy = "approve it without a ceiling, or deny it";
            let problem = "moves a reservation, which a ceiling cannot cut in part";
            Err(Refusal::new(Gate::Text, "the request", problem, remedy))
        }
        _ => Ok(()),
    }
}

/// Neither its reservation nor its limit is raised beyond the ceiling. What it has already stays, and
/// who has no limit and asks for none gets none.
fn cut_grant(grant: &mut Grant, before: Option<&Grant>, direction: Direction, ceiling: Rate) {
    let has = before.map_or(Rate::ZERO, |before| before.reservation(direction));
    let (asked, most) = (grant.reservation(direction), ceiling.max(has));
    if asked > most {
        grant.set_reservation(direction, most);
    }
    let limit = match (before.and_then(|before| before.limit(direction)), grant.limit(direction)) {
        (Some(has), Some(asked)) if asked > has => asked.min(most.max(has)),
        (Some(has), None) => most.max(has),
        (None, Some(limit)) if asked > has => limit.min(most),
        _ => return,
    };
    grant.set_limit(direction, limit);
}

fn earlier(a: Option<Moment>, b: Option<Moment>) -> Option<Moment> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// The oldest answered requests, if there are too many.
fn forgotten(state: &State) -> impl Iterator<Item = u64> {
    let excess = (state.requests.len() + 1).saturating_sub(REQUESTS_MAX);
    state.requests.values().filter(|r| !r.is_open()).map(|r| r.number).take(excess)
}

/// A line of the audit trail about a request.
fn entry(
    next: &mut u64,
    request: &Request,
    action: Action,
    caller: &Caller,
    now: Moment,
) -> AuditEntry {
    let number = *next;
    *next += 1;
    AuditEntry {
        number,
        at: now,
        by: caller.clone(),
        action,
        kind: None,
        name: request.number.to_string(),
        before: None,
        after: None,
        reason: request.reason.clone(),
        request: Some(request.number),
    }
}
