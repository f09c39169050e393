//! The controller itself: state from the store, changes into it.
//!
//! Several controllers may share one store. Each change is planned on what was read, and
//! planned again if somebody else was faster; who was based on an older version then gets
//! a conflict, and everybody else the house of now.

use crate::{
    api::now_us,
    caller::Caller,
    change::{
        self, Allowed, Answer, AuditEntry, AuditFilter, Change, Plan, Standing, State, Verdict,
        next_end, plan_ended,
    },
    pki::Given,
    placing::{self, Auto, Progress, Proposal, Said, Sight, Tags},
    refusal::{Gate, Refusal},
    reports::Reports,
    store::{Event, Outcome, Range, Restored, Revision, Store},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use wireonce_desired::{House, Kind, Moment, Object};
use wireonce_ledger::report::HostReports;
use wireonce_sight::View;

/// How often a change is planned anew because somebody else was faster.
const TRIES: usize = 16;
/// Lines of the audit trail that are read at a time.
const AUDIT_PAGE_LEN: u64 = 1_000;

/// The desired state, and who may change it how.
#[derive(Debug, Clone)]
pub struct Controller {
    store: Arc<dyn Store>,
    state: Arc<Mutex<Option<Arc<State>>>>,
    reports: Reports,
    tags: Arc<Mutex<Tags>>,
    auto: Arc<Mutex<Auto>>,
}

impl Controller {
    /// A controller on what `store` holds.
    ///
    /// # Errors
    /// The store cannot be read, or holds what this version does not understand.
    pub fn new(store: Arc<dyn Store>) -> Allowed<Self> {
        let (state, reports) = (Arc::default(), Reports::default());
        let controller = Self { store, state, reports, tags: Arc::default(), auto: Arc::default() };
        controller.state()?;
        Ok(controller)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What hosts say of themselves.
    #[must_use]
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// The house as it is. If the store cannot be read, as it was last read.
    ///
    /// # Errors
    /// It was never read.
    pub fn state(&self) -> Allowed<Arc<State>> {
        let known = self.known();
        match self.fresh(known.as_ref()) {
            Ok(fresh) => Ok(fresh),
            Err(refusal) => {
                tracing::warn!(%refusal, "the house is shown as it was last read");
                known.ok_or(refusal)
            }
        }
    }

    /// Carries out a change, or only tries it.
    ///
    /// # Errors
    /// The first gate that refuses it, or the store. Nothing was changed.
    pub fn change(
        &self,
        caller: &Caller,
        change: &Change,
        dry_run: bool,
        now: Moment,
    ) -> Allowed<Answer> {
        let reports = self.reports.all();
        let plan = |state: &State| {
            let view = view(&state.house, &reports);
            let sight = Sight::of(&view);
            let standing = Standing { request: None, sight: Some(&sight), view: Some(view) };
            change::plan(state, caller, change, standing, now)
        };
        self.carry_out(dry_run, |state| plan(state).map(Some))
            .map(|answer| answer.unwrap_or_else(Answer::unchanged))
    }

    /// Answers a request.
    ///
    /// # Errors
    /// It cannot be answered so, or the store refuses. Nothing was changed.
    pub fn decide(
        &self,
        caller: &Caller,
        number: u64,
        verdict: &Verdict,
        now: Moment,
    ) -> Allowed<Answer> {
        let reports = self.reports.all();
        let plan = |state: &State| {
            let view = Some(view(&state.house, &reports));
            change::decide(state, caller, number, verdict, view, now)
        };
        self.carry_out(false, |state| plan(state).map(Some))
            .map(|answer| answer.unwrap_or_else(Answer::unchanged))
    }

    /// Takes a request back.
    ///
    /// # Errors
    /// It cannot be taken back by `caller`, or the store refuses. Nothing was changed.
    pub fn withdraw(
        &self,
        caller: &Caller,
        number: u64,
        reason: Option<&str>,
        now: Moment,
    ) -> Allowed<Answer> {
        let reason = reason.map(str::to_owned);
        let plan = |state: &State| change::withdraw(state, caller, number, reason.clone(), now);
        self.carry_out(false, |state| plan(state).map(Some))
            .map(|answer| answer.unwrap_or_else(Answer::unchanged))
    }

    /// Puts back what was to end by `now`, and says when the next change will end.
    ///
    /// # Errors
    /// The store refuses; it is tried again at the next call.
    pub fn tick(&self, now: Moment) -> Allowed<Option<Moment>> {
        let reports = self.reports.all();
        let plan = |state: &State| plan_ended(state, Some(view(&state.house, &reports)), now);
        if let Some(answer) = self.carry_out(false, plan)? {
            tracing::info!(?answer, "timed changes ended");
        }
        self.store.expire(now.0)?;
        Ok(next_end(&*self.state()?))
    }

    /// What is seen of the house.
    fn sight(&self, house: &House) -> Sight {
        Sight::of(&view(house, &self.reports.all()))
    }

    /// What would be moved in a pool now.
    ///
    /// # Errors
    /// There is no such pool, or the house was never read.
    pub fn propose(&self, pool: &str, now: Moment) -> Allowed<Proposal> {
        let state = self.state()?;
        placing::propose(&state, pool, &self.sight(&state.house), now)
    }

    /// How far the drain, or its end, of an uplink or of a gateway's uplinks is.
    ///
    /// # Errors
    /// There is none of that name, or the house was never read.
    pub fn progress(&self, kind: Kind, name: &str) -> Allowed<Progress> {
        let state = self.state()?;
        let draining = match state.find(kind, name)? {
            Object::Gateway(host) => host.draining,
            Object::Uplink(uplink) => state.house.is_draining(uplink),
            _ => false,
        };
        let uplinks = placing::uplinks_of(&state.house, kind, name);
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        let said = |host: &str| self.reports.of(host).map(|it| Said::of(&it.newest.report));
        Ok(placing::progress(&state, &uplinks, draining, &mut tags, said))
    }

    /// One round of those pools that the controller rebalances by itself; the answers of what
    /// was changed.
    ///
    /// # Errors
    /// The store refuses, or the house changed meanwhile; it is looked at again in the next round.
    pub fn rebalance(&self, now: Moment) -> Allowed<Vec<Answer>> {
        let state = self.state()?;
        let sight = self.sight(&state.house);
        let mut auto = self.auto.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = auto.round(&state, &sight, now);
        drop(auto);
        let control = Caller::control();
        // One plan is for one house: the second pool waits for the next round.
        changes.iter().take(1).map(|change| self.change(&control, change, false, now)).collect()
    }

    /// The audit trail from the line after `after`, at most `limit` lines.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn audit(&self, after: u64, limit: usize) -> Allowed<Vec<AuditEntry>> {
        self.audit_of(&AuditFilter::default(), Some(after), limit)
    }

    /// The last `count` lines of the audit trail.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn recent_audit(&self, count: u64) -> Allowed<Vec<AuditEntry>> {
        let limit = usize::try_from(count).unwrap_or(usize::MAX);
        self.audit_of(&AuditFilter::default(), None, limit)
    }

    /// Those lines of the audit trail that `filter` has, the oldest first, at most `limit`: the first
    /// after the line `after`, or the last ones.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn audit_of(
        &self,
        filter: &AuditFilter,
        after: Option<u64>,
        limit: usize,
    ) -> Allowed<Vec<AuditEntry>> {
        let mut found = Vec::new();
        if let Some(mut after) = after {
            // Page by page towards the end.
            while found.len() < limit {
                let page = self.audit_page(after)?;
                let Some(last) = page.last() else { break };
                after = last.number;
                found.extend(page.into_iter().filter(|line| filter.has(line)));
            }
            found.truncate(limit);
            return Ok(found);
        }
        let mut end = self.state()?.counters.audit;
        // Page by page towards the beginning.
        while end > 1 && found.len() < limit {
            let begin = end.saturating_sub(AUDIT_PAGE_LEN).max(1);
            let page = self.audit_page(begin.saturating_sub(1))?;
            let page = page.into_iter().filter(|line| line.number < end && filter.has(line));
            found = page.chain(found).collect();
            end = begin;
        }
        Ok(found.split_off(found.len().saturating_sub(limit)))
    }

    /// At most so many lines as a page has, after the line `after`.
    fn audit_page(&self, after: u64) -> Allowed<Vec<AuditEntry>> {
        let key = AuditEntry::key(after);
        let limit = usize::try_from(AUDIT_PAGE_LEN).unwrap_or(usize::MAX);
        let (_, found) =
            self.store.ranges(&[Range { prefix: "audit/", after: Some(&key), limit }])?;
        let read = |entry: crate::store::Entry| serde_json::from_slice(&entry.value).ok();
        Ok(found.into_iter().flatten().filter_map(read).collect())
    }

    /// What changed after a revision, of objects and requests.
    ///
    /// # Errors
    /// It is forgotten, or the store cannot be read.
    pub fn events(&self, after: Revision) -> Allowed<Vec<Event>> {
        let mut events = self.store.events("", after)?;
        events.retain(|e| e.key.starts_with("object/") || e.key.starts_with("request/"));
        Ok(events)
    }

    /// Plans, writes, and plans anew if somebody else was faster.
    fn carry_out(
        &self,
        dry_run: bool,
        plan: impl Fn(&State) -> Allowed<Option<Plan>>,
    ) -> Allowed<Option<Answer>> {
        for _ in 0..TRIES {
            let state = self.fresh(self.known().as_ref())?;
            let Some(Plan { compares, ops, answer }) = plan(&state)? else { return Ok(None) };
            if ops.is_empty() {
                return Ok(Some(answer));
            }
            if dry_run {
                return Ok(Some(untaken(answer)));
            }
            if let Outcome::Done(revision) = self.store.txn(&compares, &ops)? {
                return Ok(Some(match answer {
                    Answer::Applied { difference, notes, .. } => {
                        Answer::Applied { revision, difference, notes }
                    }
                    other => other,
                }));
            }
        }
        let problem = format!("others changed the house {TRIES} times meanwhile");
        Err(Refusal::new(Gate::Conflict, "the change", problem, "try again"))
    }

    /// Writes what `plan` says, planned anew if somebody else was faster, and returns its answer.
    ///
    /// # Errors
    /// What the plan says against it, or the store. Nothing was changed.
    pub fn commit<T>(&self, plan: impl Fn(&State) -> Allowed<Given<T>>) -> Allowed<T> {
        for _ in 0..TRIES {
            let state = self.fresh(self.known().as_ref())?;
            let (ops, answer) = plan(&state)?;
            if let Outcome::Done(_) = self.store.txn(&[change::unchanged(&state)], &ops)? {
                return Ok(answer);
            }
        }
        let problem = format!("others changed the house {TRIES} times meanwhile");
        Err(Refusal::new(Gate::Conflict, "the change", problem, "try again"))
    }

    /// Has the audit trail say that all of it came from a backup.
    ///
    /// # Errors
    /// The store refuses.
    pub fn note_restored(&self, by: &Caller, restored: Restored, now: Moment) -> Allowed<()> {
        self.commit(|state| change::plan_restored(state, by, restored, now))
    }

    fn known(&self) -> Option<Arc<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known if it is of now, or else what the store has.
    fn fresh(&self, known: Option<&Arc<State>>) -> Allowed<Arc<State>> {
        let (_, found) = self.store.ranges(&[Range { limit: 1, ..Range::all("house") }])?;
        let version = found.iter().flatten().next().map_or(0, |entry| entry.version);
        if let Some(known) = known.filter(|known| known.house_version == version) {
            return Ok(Arc::clone(known));
        }
        let fresh = match known {
            Some(known) => known.followed(&*self.store)?,
            None => State::read(&*self.store)?,
        };
        let fresh = Arc::new(fresh);
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Waits until something changed after a revision, at most this long.
    #[must_use]
    pub fn wait(&self, after: Revision, patience: Duration) -> Revision {
        self.store.wait(after, patience)
    }
}

/// The house with what is heard of it. Whether hosts are behind is not asked: they are, a moment
/// after each change.
fn view<'v>(house: &'v House, reports: &'v BTreeMap<String, HostReports>) -> View<'v> {
    static NO_TAGS: BTreeMap<String, String> = BTreeMap::new();
    View { house, reports, tags: &NO_TAGS, now_us: now_us() }
}

/// A number that a trial would have got is not given.
fn untaken(answer: Answer) -> Answer {
    match answer {
        Answer::Requested { difference, why, .. } => {
            Answer::Requested { request: 0, difference, why }
        }
        other => other,
    }
}
