//! Requests: list, show, answer.

use super::{
    Shared,
    answers::{Body, Failed},
    blocking,
    members::Why,
    now,
    who::Who,
};
use crate::{
    change::{Answer, Request, Verdict},
    refusal::{Gate, Refusal},
};
use axum::{
    Json,
    extract::{Path, Query, State},
};

/// All requests that are kept, the newest first.
#[utoipa::path(get, path = "/v1/requests", responses((status = 200, body = Vec<Request>)))]
pub(super) async fn list(
    State(shared): State<Shared>,
    Who(_): Who,
) -> Result<Json<Vec<Request>>, Failed> {
    let state = blocking(move || shared.controller.state()).await?;
    Ok(Json(state.requests.values().rev().cloned().collect()))
}

/// One request.
#[utoipa::path(get, path = "/v1/requests/{number}", params(("number" = u64, Path)),
    responses((status = 200, body = Request), (status = 404, body = super::answers::ErrorBody)))]
pub(super) async fn show(
    State(shared): State<Shared>,
    Who(_): Who,
    Path(number): Path<String>,
) -> Result<Json<Request>, Failed> {
    let state = blocking(move || shared.controller.state()).await?;
    let number = numbered(&number)?;
    let found = state.requests.get(&number).cloned();
    found.map(Json).ok_or_else(|| Failed(missing(&number.to_string())))
}

/// Approves or denies a request.
#[utoipa::path(post, path = "/v1/requests/{number}", params(("number" = u64, Path)),
    request_body = Verdict, responses((status = 200, body = Answer), (status = "4XX", body =
    super::answers::ErrorBody)))]
pub(super) async fn answer(
    State(shared): State<Shared>,
    Who(caller): Who,
    Path(number): Path<String>,
    Body(verdict): Body<Verdict>,
) -> Result<Answer, Failed> {
    let number = numbered(&number)?;
    Ok(blocking(move || shared.controller.decide(&caller, number, &verdict, now())).await?)
}

/// Takes a request back; only who made it can.
#[utoipa::path(post, path = "/v1/requests/{number}/withdraw", params(("number" = u64, Path), Why),
    responses((status = 200, body = Answer), (status = "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn withdraw(
    State(shared): State<Shared>,
    Who(caller): Who,
    Path(number): Path<String>,
    Query(Why { reason }): Query<Why>,
) -> Result<Answer, Failed> {
    let number = numbered(&number)?;
    let done = move || shared.controller.withdraw(&caller, number, reason.as_deref(), now());
    Ok(blocking(done).await?)
}

fn numbered(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| missing(&text.chars().take(20).collect::<String>()))
}

fn missing(number: &str) -> Refusal {
    let remedy = "`wireonce request list` shows those that there are";
    Refusal::new(Gate::Missing, format!("request {number}"), "does not exist", remedy)
}
