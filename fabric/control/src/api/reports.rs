//! Reports: a host's agent brings one, everybody may read it.

use super::{
    Shared,
    answers::Failed,
    blocking, now_us,
    who::{Anyone, Who},
};
use crate::{
    caller::Role,
    refusal::{Gate, Refusal},
    reports::REPORT_LEN_MAX,
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use wireonce_desired::Kind;
use wireonce_ledger::HostReport;

/// When to report again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Next {
    /// After so many seconds.
    next_in_s: u64,
}

/// A host's newest report.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Reported {
    /// The host.
    host: String,
    /// It came so many milliseconds ago.
    age_ms: u64,
    /// The host was asked to report again after so many seconds.
    next_in_s: u64,
    /// What it said: tag, refusal, certificate's end, and the daemon's status.
    #[schema(value_type = Value)]
    report: Value,
}

/// Takes what a host says of itself, at most 4 MiB; fields that this version does not know are
/// skipped. The answer says when to report again.
#[utoipa::path(put, path = "/v1/hosts/{host}/report", params(("host" = String, Path)),
    request_body = Value, responses((status = 200, body = Next), (status = "4XX", body =
    super::answers::ErrorBody)))]
pub(super) async fn put(
    State(shared): State<Shared>,
    Anyone(caller, _): Anyone,
    Path(host): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Next>, Failed> {
    if caller.role == Role::Host {
        caller.need_host(&host)?;
    } else {
        caller.need_admin("the report of a host")?;
    }
    let body = body.map_err(|rejection| Failed(unread(&rejection)))?;
    let taken = blocking(move || {
        let state = shared.controller.state()?;
        let house = &state.house;
        if house.host_kind(&host).is_none() {
            state.find(Kind::Server, &host)?;
        }
        let report = read(&host, &body)?;
        let is_known = |name: &str| house.host_kind(name).is_some();
        let reports = shared.controller.reports();
        reports.take(&host, report, body.len(), is_known, now_us()).map_err(|full| {
            let text = full.to_string();
            let (problem, remedy) = text.split_once("; ").unwrap_or((&text, ""));
            Refusal::new(Gate::Store, "the report", problem, remedy)
        })
    });
    Ok(Json(Next { next_in_s: taken.await? }))
}

/// What a host said last. Nothing is known for one interval after the controller's start.
#[utoipa::path(get, path = "/v1/hosts/{host}/report", params(("host" = String, Path)),
    responses((status = 200, body = Reported), (status = 404, body = super::answers::ErrorBody)))]
pub(super) async fn show(
    State(shared): State<Shared>,
    Who(_): Who,
    Path(host): Path<String>,
) -> Result<Json<Reported>, Failed> {
    let found = blocking(move || {
        let state = shared.controller.state()?;
        if state.house.host_kind(&host).is_none() {
            state.find(Kind::Server, &host)?;
        }
        let Some(reports) = shared.controller.reports().of(&host) else {
            let remedy = "look whether its daemon runs and reaches the controller";
            let problem = "has not reported since the controller started";
            return Err(Refusal::new(Gate::Missing, format!("host {host:?}"), problem, remedy));
        };
        let age_ms = reports.age_us(now_us()) / 1_000;
        let next_in_s = reports.newest.next_in_s;
        let report = serde_json::to_value(&*reports.newest.report).unwrap_or_default();
        Ok(Reported { host, age_ms, next_in_s, report })
    });
    Ok(Json(found.await?))
}

fn read(host: &str, body: &[u8]) -> Result<HostReport, Refusal> {
    let report: HostReport = serde_json::from_slice(body).map_err(|error| {
        let remedy =
            "send tag, refused, certificate_until_s and status as `wireonce status --json` has it";
        Refusal::new(Gate::Text, "the report", format!("cannot be read: {error}"), remedy)
    })?;
    let named = &report.status.host;
    if !named.is_empty() && named != host {
        let shown: String = named.chars().take(64).collect();
        let problem = format!("is of {shown:?}, and came as that of {host:?}");
        let remedy = "report under the name in the host's own [host]";
        return Err(Refusal::new(Gate::Text, "the report", problem, remedy));
    }
    Ok(report)
}

fn unread(rejection: &BytesRejection) -> Refusal {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let problem = format!("is more than {REPORT_LEN_MAX} bytes");
        return Refusal::new(Gate::Text, "the report", problem, "leave out what is not needed");
    }
    let problem = rejection.body_text().replace(char::is_control, " ");
    Refusal::new(Gate::Text, "the report", problem, "send it again")
}
