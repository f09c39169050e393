//! Moves, drains, and plans for pools.

use super::{
    Shared,
    answers::{Body, Failed},
    blocking, now,
    objects::How,
    who::Who,
};
use crate::{
    change::{Answer, Change, Edit, Rehome},
    placing::{Progress, Proposal},
    store::Revision,
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wireonce_desired::Kind;

/// Where a vNIC goes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    /// The uplink that is to be its home.
    to: String,
}

/// Moves a vNIC to another home; its standbys are given anew.
#[utoipa::path(post, path = "/v1/vnics/{name}/move", params(("name" = String, Path), How),
    request_body = Target, responses((status = 200, body = Answer), (status = "4XX", body =
    super::answers::ErrorBody)))]
pub(super) async fn rehome(
    State(shared): State<Shared>,
    Who(caller): Who,
    Path(vnic): Path<String>,
    Query(how): Query<How>,
    Body(Target { to }): Body<Target>,
) -> Result<Answer, Failed> {
    let change = Change::one(Edit::Rehome(Rehome { vnic, to })).because(how.reason);
    let done = move || shared.controller.change(&caller, &change, how.dry_run, now());
    Ok(blocking(done).await?)
}

/// Has a drain begin or end.
async fn drains(
    shared: Shared,
    Who(caller): Who,
    (kind, name): (Kind, String),
    draining: bool,
    how: How,
) -> Result<Answer, Failed> {
    let change = Change::one(Edit::Drain(kind, name, draining)).because(how.reason);
    let done = move || shared.controller.change(&caller, &change, how.dry_run, now());
    Ok(blocking(done).await?)
}

/// Empties an uplink: nothing new goes there, and all vNICs that are there get another home, or
/// nothing is changed.
#[utoipa::path(post, path = "/v1/uplinks/{name}/drain", params(("name" = String, Path), How),
    responses((status = 200, body = Answer), (status = "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn drain_uplink(
    State(shared): State<Shared>,
    who: Who,
    Path(name): Path<String>,
    Query(how): Query<How>,
) -> Result<Answer, Failed> {
    drains(shared, who, (Kind::Uplink, name), true, how).await
}

/// Has an uplink take vNICs again. Nobody comes back by itself.
#[utoipa::path(post, path = "/v1/uplinks/{name}/undrain", params(("name" = String, Path), How),
    responses((status = 200, body = Answer), (status = "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn undrain_uplink(
    State(shared): State<Shared>,
    who: Who,
    Path(name): Path<String>,
    Query(how): Query<How>,
) -> Result<Answer, Failed> {
    drains(shared, who, (Kind::Uplink, name), false, how).await
}

/// Empties all uplinks of a gateway, as that of one uplink.
#[utoipa::path(post, path = "/v1/gateways/{name}/drain", params(("name" = String, Path), How),
    responses((status = 200, body = Answer), (status = "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn drain_gateway(
    State(shared): State<Shared>,
    who: Who,
    Path(name): Path<String>,
    Query(how): Query<How>,
) -> Result<Answer, Failed> {
    drains(shared, who, (Kind::Gateway, name), true, how).await
}

/// Has a gateway's uplinks take vNICs again, but for those that drain themselves.
#[utoipa::path(post, path = "/v1/gateways/{name}/undrain", params(("name" = String, Path), How),
    responses((status = 200, body = Answer), (status = "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn undrain_gateway(
    State(shared): State<Shared>,
    who: Who,
    Path(name): Path<String>,
    Query(how): Query<How>,
) -> Result<Answer, Failed> {
    drains(shared, who, (Kind::Gateway, name), false, how).await
}

/// Is refused, with the reason: a server's VMs are moved by whoever runs them.
#[utoipa::path(post, path = "/v1/servers/{name}/drain", params(("name" = String, Path), How),
    responses((status = "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn drain_server(
    State(shared): State<Shared>,
    who: Who,
    Path(name): Path<String>,
    Query(how): Query<How>,
) -> Result<Answer, Failed> {
    drains(shared, who, (Kind::Server, name), true, how).await
}

/// How far the drain of an uplink, or the end of one, is: which hosts have still to take it, and
/// who is still there.
#[utoipa::path(get, path = "/v1/uplinks/{name}/drain", params(("name" = String, Path)),
    responses((status = 200, body = Progress), (status = 404, body = super::answers::ErrorBody)))]
pub(super) async fn uplink_progress(
    State(shared): State<Shared>,
    Who(_): Who,
    Path(name): Path<String>,
) -> Result<Json<Progress>, Failed> {
    let progress = move || shared.controller.progress(Kind::Uplink, &name);
    Ok(Json(blocking(progress).await?))
}

/// The same of all uplinks of a gateway.
#[utoipa::path(get, path = "/v1/gateways/{name}/drain", params(("name" = String, Path)),
    responses((status = 200, body = Progress), (status = 404, body = super::answers::ErrorBody)))]
pub(super) async fn gateway_progress(
    State(shared): State<Shared>,
    Who(_): Who,
    Path(name): Path<String>,
) -> Result<Json<Progress>, Failed> {
    let progress = move || shared.controller.progress(Kind::Gateway, &name);
    Ok(Json(blocking(progress).await?))
}

/// Which moves would have more bandwidth of a pool used, at what price, and who is not helped.
#[utoipa::path(get, path = "/v1/pools/{name}/rebalance", params(("name" = String, Path)),
    responses((status = 200, body = Proposal), (status = 404, body = super::answers::ErrorBody)))]
pub(super) async fn plan(
    State(shared): State<Shared>,
    Who(_): Who,
    Path(pool): Path<String>,
) -> Result<Json<Proposal>, Failed> {
    let plan = move || shared.controller.propose(&pool, now());
    Ok(Json(blocking(plan).await?))
}

/// A plan as it was shown, to be carried out.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Agreed {
    /// The revision of the house that it was made for.
    revision: Revision,
    /// The moves.
    moves: Vec<Rehome>,
}

/// Carries out a plan: all of it, and only on the house that it was made for.
#[utoipa::path(post, path = "/v1/pools/{name}/rebalance", params(("name" = String, Path), How),
    request_body = Agreed, responses((status = 200, body = Answer), (status = "4XX", body =
    super::answers::ErrorBody)))]
pub(super) async fn carry_out(
    State(shared): State<Shared>,
    Who(caller): Who,
    Path(pool): Path<String>,
    Query(how): Query<How>,
    Body(Agreed { revision, moves }): Body<Agreed>,
) -> Result<Answer, Failed> {
    let since = Edit::Since(revision);
    let edits = std::iter::once(since).chain(moves.into_iter().map(Edit::Rehome)).collect();
    let change = Change { edits, ..Change::default() }.because(how.reason);
    let done = move || {
        shared.controller.state()?.find(Kind::Pool, &pool)?;
        shared.controller.change(&caller, &change, how.dry_run, now())
    };
    Ok(blocking(done).await?)
}
