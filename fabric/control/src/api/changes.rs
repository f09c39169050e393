//! Several objects at once: apply, export, moves, ends, and what pools are used for.

use super::{
    Shared,
    answers::{Body, Failed, base},
    blocking, now,
    objects::{How, HowLong},
    who::Who,
};
use crate::{
    change::{Answer, Base, Change, Edit, Move, lasting},
    refusal::{Gate, Refusal},
};
use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, header},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use utoipa::ToSchema;
use wireonce_desired::{Direction, Kind, PoolUse, export as export_house, read};

/// Puts all objects of a document, TOML or JSON, or none. What is not in it stays. `If-Match` names
/// the revision of the export that it was made from: if an object changed since, it is refused.
#[utoipa::path(post, path = "/v1/apply", params(How, ("If-Match" = Option<String>, Header, description =
    "the ETag of the export")), request_body(content = String, description =
    "tables as in a file for `wireonce apply`; JSON with `Content-Type: application/json`"),
    responses((status = 200, body = Answer), (status = 202, body = Answer), (status = "4XX", body =
    super::answers::ErrorBody)))]
pub(super) async fn apply(
    State(shared): State<Shared>,
    Who(caller): Who,
    Query(how): Query<How>,
    headers: HeaderMap,
    text: String,
) -> Result<Answer, Failed> {
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes().to_vec());
    let based_on = match base(&headers)? {
        Base::Any => None,
        Base::Version(revision) => Some(revision),
        Base::Absent => return Err(absent().into()),
    };
    let is_json = kind.is_some_and(|kind| kind.starts_with(b"application/json"));
    let done = move || {
        let objects = if is_json { from_json(&text) } else { from_toml(&text) }?;
        let change = Change::put_all(objects).because(how.reason).based_on(based_on);
        shared.controller.change(&caller, &change, how.dry_run, now())
    };
    Ok(blocking(done).await?)
}

fn from_toml(text: &str) -> Result<Vec<wireonce_desired::Object>, Refusal> {
    read::toml(text).map_err(|wrong| Refusal::wrong(Gate::Text, wrong))
}

fn from_json(text: &str) -> Result<Vec<wireonce_desired::Object>, Refusal> {
    let value = serde_json::from_str(text).map_err(|error| {
        Refusal::new(Gate::Text, "the document", format!("not JSON: {error}"), "mend it")
    })?;
    read::json(value).map_err(|wrong| Refusal::wrong(Gate::Text, wrong))
}

fn absent() -> Refusal {
    let remedy = "send it for one object, or `If-Match` with the ETag of an export";
    let problem = "a document is of many objects";
    Refusal::new(Gate::Text, "header If-None-Match", problem, remedy)
}

/// The whole house as TOML. What was changed for a time stands in it as it will be again. The ETag, and
/// the first line, say of which revision it is: `If-Match` of `/v1/apply` takes it.
#[utoipa::path(get, path = "/v1/export", responses((status = 200, body = String, headers(("ETag" =
    String)))))]
pub(super) async fn export(
    State(shared): State<Shared>,
    Who(_): Who,
) -> Result<impl IntoResponse, Failed> {
    let state = blocking(move || shared.controller.state()).await?;
    let (revision, mut text) = (state.changed(), String::new());
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# revision {revision}");
    for (grant, timer) in &state.timers {
        let (title, until) = (Kind::Grant.title(grant), timer.until);
        let _ = writeln!(text, "# {title} has other terms until {until}: here is what comes back");
    }
    text += &export_house(&lasting(&state));
    let tag = format!("\"{revision}\"");
    Ok(([(header::CONTENT_TYPE, "application/toml".to_owned()), (header::ETAG, tag)], text))
}

/// Moves a reservation from one server's grant to another's.
#[utoipa::path(post, path = "/v1/grants/move", params(HowLong), request_body = Move,
    responses((status = 200, body = Answer), (status = 202, body = Answer), (status = "4XX", body =
    super::answers::ErrorBody)))]
pub(super) async fn shift(
    State(shared): State<Shared>,
    Who(caller): Who,
    Query(how): Query<HowLong>,
    Body(what): Body<Move>,
) -> Result<Answer, Failed> {
    let change = Change::one(Edit::Move(what)).because(how.reason).lasting(how.for_s);
    let done = move || shared.controller.change(&caller, &change, how.dry_run, now());
    Ok(blocking(done).await?)
}

/// Grants by name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Grants {
    /// `POOL/SERVER`, each.
    grants: Vec<String>,
}

/// Ends timed changes of grants now: what was before comes back.
#[utoipa::path(post, path = "/v1/grants/end", params(How), request_body = Grants,
    responses((status = 200, body = Answer), (status = "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn end(
    State(shared): State<Shared>,
    Who(caller): Who,
    Query(how): Query<How>,
    Body(Grants { grants }): Body<Grants>,
) -> Result<Answer, Failed> {
    let edits = grants.into_iter().map(Edit::End).collect();
    let change = Change { edits, ..Change::default() }.because(how.reason);
    let done = move || shared.controller.change(&caller, &change, how.dry_run, now());
    Ok(blocking(done).await?)
}

/// What each pool can carry, and what of it is promised to whom.
#[utoipa::path(get, path = "/v1/pools/use", responses((status = 200, body = Vec<PoolUse>)))]
pub(super) async fn pool_use(
    State(shared): State<Shared>,
    Who(_): Who,
) -> Result<Json<Vec<PoolUse>>, Failed> {
    let state = blocking(move || shared.controller.state()).await?;
    let house = &state.house;
    let both = |pool| Direction::BOTH.map(|direction| PoolUse::of(house, pool, direction));
    Ok(Json(house.names(Kind::Pool).flat_map(both).collect()))
}
