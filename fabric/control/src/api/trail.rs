//! What was changed, what is changing, and a copy of all of it.

use super::{
    Shared,
    answers::Failed,
    blocking,
    who::{Anyone, Peer, Who, identify},
};
use crate::{
    change::{AuditEntry, AuditFilter},
    refusal::{Gate, Refusal},
    store::{self, Revision},
};
use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, header},
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;

/// Most lines of the audit trail in one answer.
const AUDIT_MAX: usize = 10_000;

/// Which lines of the audit trail.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Lines {
    /// Those after this number; left out, the last ones.
    after: Option<u64>,
    /// At most so many; 100 if left out.
    limit: Option<usize>,
    /// Only those about this: `KIND/NAME`, or a name of any kind.
    object: Option<String>,
    /// Only what this person did.
    by: Option<String>,
}

/// The audit trail, the oldest line first.
#[utoipa::path(get, path = "/v1/audit", params(Lines), responses((status = 200, body =
    Vec<AuditEntry>)))]
pub(super) async fn audit(
    State(shared): State<Shared>,
    Who(_): Who,
    Query(lines): Query<Lines>,
) -> Result<Json<Vec<AuditEntry>>, Failed> {
    let limit = lines.limit.unwrap_or(100).min(AUDIT_MAX);
    let filter = AuditFilter { object: lines.object, by: lines.by };
    let found = move || shared.controller.audit_of(&filter, lines.after, limit);
    Ok(Json(blocking(found).await?))
}

/// One change, as watchers are told of it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Change {
    /// The revision that made it.
    pub(crate) revision: Revision,
    /// `object/KIND/NAME` or `request/NUMBER`.
    pub(crate) key: String,
    /// What it is since; left out if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) value: Option<Value>,
}

/// Where to start.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    /// Changes after this revision; left out, those to come.
    after: Option<Revision>,
}

/// Changes as they happen, as server-sent events: `change` with a change, `forgotten` if
/// the watcher fell too far behind and has to read everything anew, `refused` if it may not watch any
/// more. `Last-Event-ID`, which browsers send when they come again, goes before `after`.
#[utoipa::path(get, path = "/v1/watch", params(From, ("Last-Event-ID" = Option<u64>, Header,
    description = "the last event that was seen, as its `id` has it")), responses((status = 200,
    body = Change, content_type = "text/event-stream"), (status = "4XX", body =
    super::answers::ErrorBody)))]
pub(super) async fn watch(
    State(shared): State<Shared>,
    Anyone(caller, peer): Anyone,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Failed> {
    caller.need_person()?;
    let after = last_seen(&headers)?.or(from.after);
    let newest = shared.controller.wait(0, Duration::ZERO);
    if let Some(after) = after.filter(|after| *after > newest) {
        let problem = format!("revision {after} is still to come, and {newest} is the newest");
        let remedy = "read everything anew, then watch from there: this may be another store";
        return Err(Refusal::new(Gate::Conflict, "the watch", problem, remedy).into());
    }
    let Ok(permit) = Arc::clone(&shared.watchers).try_acquire_owned() else {
        let remedy = "end one of them, or ask again later";
        return Err(Refusal::new(Gate::Conflict, "the watch", "too many watch", remedy).into());
    };
    let after = after.unwrap_or(newest);
    Ok(Sse::new(changes(shared, peer, after, permit)).keep_alive(KeepAlive::default()))
}

/// What a watcher that comes again has seen already.
fn last_seen(headers: &HeaderMap) -> Result<Option<Revision>, Refusal> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let seen = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    seen.map(Some).ok_or_else(|| {
        let remedy = "send the `id` of an event, or leave it out";
        Refusal::new(Gate::Text, "header Last-Event-ID", "is no revision", remedy)
    })
}

struct Watcher {
    shared: Shared,
    peer: Peer,
    after: Revision,
    ready: VecDeque<Event>,
    is_over: bool,
    _permit: OwnedSemaphorePermit,
}

fn changes(
    shared: Shared,
    peer: Peer,
    after: Revision,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let ready = VecDeque::new();
    let watcher = Watcher { shared, peer, after, ready, is_over: false, _permit: permit };
    stream::unfold(watcher, |mut watcher| async move {
        loop {
            if let Some(event) = watcher.ready.pop_front() {
                return Some((Ok(event), watcher));
            }
            let after = watcher.after;
            if watcher.is_over
                || watcher.shared.revision.wait_for(|revision| *revision > after).await.is_err()
            {
                return None;
            }
            watcher.fetch().await;
        }
    })
}

impl Watcher {
    async fn fetch(&mut self) {
        // They may have been revoked while they waited.
        if let Err(refusal) = identify(&self.shared, &self.peer).await {
            return self.end("refused", &refusal);
        }
        let revision = *self.shared.revision.borrow();
        let (controller, after) = (self.shared.controller.clone(), self.after);
        match blocking(move || controller.events(after)).await {
            Ok(events) => {
                self.after = events.last().map_or(revision, |e| e.revision).max(revision);
                let next = events.iter().skip(1).map(|event| Some(event.revision)).chain([None]);
                let next: Vec<_> = next.collect();
                let shown = events.into_iter().zip(next).filter_map(|(event, next)| {
                    let is_last = next != Some(event.revision);
                    shown(event, is_last)
                });
                self.ready.extend(shown);
            }
            Err(refusal) => self.end("forgotten", &refusal),
        }
    }

    fn end(&mut self, how: &str, refusal: &Refusal) {
        self.ready.push_back(Event::default().event(how).data(refusal.to_string()));
        self.is_over = true;
    }
}

/// A change as an event. Only the last of its revision has an id: who lost the rest of a revision
/// gets all of it again, and misses nothing.
fn shown(event: store::Event, is_last: bool) -> Option<Event> {
    let value = event.value.and_then(|value| serde_json::from_slice(&value).ok());
    let change = Change { revision: event.revision, key: event.key, value };
    let id = change.revision.to_string();
    let shown = Event::default().event("change").json_data(change).ok()?;
    Some(if is_last { shown.id(id) } else { shown })
}

/// All that the controller keeps, for `wireonce control --restore`.
#[utoipa::path(get, path = "/v1/backup", responses((status = 200, body = String), (status = 403,
    body = super::answers::ErrorBody)))]
pub(super) async fn backup(
    State(shared): State<Shared>,
    Who(caller): Who,
) -> Result<impl IntoResponse, Failed> {
    caller.need_admin("the backup")?;
    let text = blocking(move || Ok(store::backup(&**shared.controller.store())?)).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text))
}
