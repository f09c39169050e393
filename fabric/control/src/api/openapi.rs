//! The description of the API, made from the code.

use super::{changes, members, objects, placing, reports, requests, sight, texts, trail, who};
use axum::Json;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "wireonce control",
        description = "The desired state of an installation, changed by two teams within their \
                       rights. Every error says the thing, what is wrong, what would be right and, \
                       if it is a matter of right, which role can do it."
    ),
    paths(
        who::whoami,
        objects::list,
        objects::show,
        objects::put,
        objects::remove,
        changes::apply,
        changes::export,
        members::hosts,
        texts::host_text,
        members::renew,
        members::revoke,
        members::join,
        members::invite,
        members::invitations,
        members::forget,
        members::person,
        members::people,
        members::revoke_person,
        changes::shift,
        changes::end,
        changes::pool_use,
        reports::put,
        reports::show,
        sight::now,
        sight::advice,
        sight::explanation,
        placing::rehome,
        placing::drain_uplink,
        placing::undrain_uplink,
        placing::uplink_progress,
        placing::drain_gateway,
        placing::undrain_gateway,
        placing::gateway_progress,
        placing::drain_server,
        placing::plan,
        placing::carry_out,
        requests::list,
        requests::show,
        requests::answer,
        requests::withdraw,
        trail::audit,
        trail::watch,
        trail::backup,
    ),
    components(schemas(
        wireonce_desired::Host,
        wireonce_desired::Pool,
        wireonce_desired::Uplink,
        wireonce_desired::Network,
        wireonce_desired::Policy,
        wireonce_desired::Vnic,
        wireonce_desired::Budget,
        wireonce_desired::Grant,
    ))
)]
struct Description;

/// OpenAPI 3.1.
pub(super) async fn description() -> Json<utoipa::openapi::OpenApi> {
    Json(Description::openapi())
}
