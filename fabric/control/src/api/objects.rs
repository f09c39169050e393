//! Objects: list, show, put, delete.

use super::{
    Shared,
    answers::{Body, Failed, base},
    blocking, now,
    who::Who,
};
use crate::{
    change::{Answer, Change, Edit},
    refusal::{Gate, Refusal},
    store::Revision,
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use wireonce_desired::{Kind, Object, read};

/// An object with its version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Item {
    /// Its kind.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: String,
    /// The revision of its last change.
    pub(crate) version: Revision,
    /// The object.
    #[schema(value_type = Object)]
    pub(crate) object: Value,
}

/// What all changes may be asked with.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    /// Only say what would change.
    #[serde(default)]
    pub(super) dry_run: bool,
    /// Why, for the audit trail.
    pub(super) reason: Option<String>,
}

/// The same for changes of grants, which may end by themselves.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct HowLong {
    /// Only say what would change.
    #[serde(default)]
    pub(super) dry_run: bool,
    /// Why, for the audit trail.
    pub(super) reason: Option<String>,
    /// Of grants only: what was before comes back so many seconds after this was carried out, by the
    /// controller's clock.
    pub(super) for_s: Option<u64>,
}

/// All objects of a kind.
#[utoipa::path(get, path = "/v1/{kind}", params(("kind" = String, Path, description =
    "servers, gateways, pools, uplinks, networks, policies, vnics, budgets or grants")),
    responses((status = 200, body = Vec<Item>), (status = 404, body = super::answers::ErrorBody)))]
pub(super) async fn list(
    State(shared): State<Shared>,
    Who(_): Who,
    Path(kind): Path<String>,
) -> Result<Json<Vec<Item>>, Failed> {
    let kind = known(&kind)?;
    let state = blocking(move || shared.controller.state()).await?;
    let item = |object: &Object| item(&state, object);
    Ok(Json(state.house.of(kind).map(item).collect()))
}

/// One object; its ETag is its version.
#[utoipa::path(get, path = "/v1/{kind}/{name}", params(("kind" = String, Path), ("name" = String,
    Path, description = "POOL/SERVER for a grant")), responses((status = 200, body = Item, headers(
    ("ETag" = String, description = "its version"))), (status = 404, body = super::answers::ErrorBody)))]
pub(super) async fn show(
    State(shared): State<Shared>,
    Who(_): Who,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Response, Failed> {
    let kind = known(&kind)?;
    let state = blocking(move || shared.controller.state()).await?;
    let found = item(&state, state.find(kind, &name)?);
    let tag = format!("\"{}\"", found.version);
    Ok(([(header::ETAG, tag)], Json(found)).into_response())
}

/// Makes an object or takes the place of the one with its name. `If-Match` names the
/// version that it is based on, `If-None-Match: *` that there is none.
#[utoipa::path(put, path = "/v1/{kind}/{name}", params(("kind" = String, Path), ("name" = String,
    Path), HowLong, ("If-Match" = Option<String>, Header, description = "the version that it is based \
    on"), ("If-None-Match" = Option<String>, Header, description = "`*`: there is none yet")),
    request_body = Object,
    responses((status = 200, body = Answer), (status = 202, body = Answer, description =
    "beyond the budget: it became a request"), (status = "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn put(
    State(shared): State<Shared>,
    Who(caller): Who,
    Path((kind, name)): Path<(String, String)>,
    Query(how): Query<HowLong>,
    headers: HeaderMap,
    Body(mut value): Body<Value>,
) -> Result<Answer, Failed> {
    let kind = known(&kind)?;
    name_it(kind, &name, &mut value);
    let object = read::object(kind, value).map_err(|wrong| Refusal::wrong(Gate::Text, wrong))?;
    if object.name() != name {
        let title = kind.title(&name);
        let problem = format!("the body is about {:?}", object.name());
        let remedy = "give the same name in both, or leave it out of the body";
        return Err(Refusal::new(Gate::Text, title, problem, remedy).into());
    }
    let change = Change::one(Edit::Put(object, base(&headers)?));
    let change = change.because(how.reason).lasting(how.for_s);
    let done = move || shared.controller.change(&caller, &change, how.dry_run, now());
    Ok(blocking(done).await?)
}

/// Removes an object that nothing refers to any more.
#[utoipa::path(delete, path = "/v1/{kind}/{name}", params(("kind" = String, Path), ("name" =
    String, Path), How, ("If-Match" = Option<String>, Header, description = "the version that it is \
    based on"), ("If-None-Match" = Option<String>, Header, description = "`*`: there is none yet")),
    responses((status = 200, body = Answer), (status = "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn remove(
    State(shared): State<Shared>,
    Who(caller): Who,
    Path((kind, name)): Path<(String, String)>,
    Query(how): Query<How>,
    headers: HeaderMap,
) -> Result<Answer, Failed> {
    let change = Change::one(Edit::Delete(known(&kind)?, name, base(&headers)?));
    let change = change.because(how.reason);
    let done = move || shared.controller.change(&caller, &change, how.dry_run, now());
    Ok(blocking(done).await?)
}

fn known(kind: &str) -> Result<Kind, Refusal> {
    kind.parse().map_err(|wrong| Refusal::wrong(Gate::Missing, wrong))
}

fn item(state: &crate::change::State, object: &Object) -> Item {
    let (kind, name) = (object.kind(), object.name());
    let version = state.version(kind, &name);
    Item { kind, name, version, object: serde_json::to_value(object).unwrap_or_default() }
}

/// Fills in what the path says already.
fn name_it(kind: Kind, name: &str, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    let mut fill = |key: &str, text: &str| {
        fields.entry(key).or_insert_with(|| Value::String(text.to_owned()));
    };
    match (kind, name.split_once('/')) {
        (Kind::Grant, Some((pool, server))) => {
            fill("pool", pool);
            fill("server", server);
        }
        (Kind::Budget, _) => fill("pool", name),
        _ => fill("name", name),
    }
}
