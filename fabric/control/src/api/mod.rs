//! The API: HTTP and JSON on a Unix socket, and over TLS if that is configured, under `/v1`.
//!
//! ```text
//! accept ─ SO_PEERCRED or certificate ─ role ─ handler ─┬─ controller, on a thread that may wait for the disk
//!                                        └─ {"error": {gate, thing, problem, remedy, who}}
//! ```
//! The only asynchronous code of the crate. Reading is for everybody with a role; what
//! may be changed is decided by the gates, not here.

mod answers;
mod changes;
mod members;
mod objects;
mod openapi;
mod placing;
mod reports;
mod requests;
mod server;
mod sight;
mod texts;
mod tls;
mod trail;
mod who;

pub(crate) use answers::ErrorBody;
pub use members::{HostItem, Made};
pub use server::{Running, start};

use crate::{Controller, refusal::Refusal, settings::Settings, store::Revision};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{delete, get, post},
};
use std::{
    sync::{Arc, OnceLock},
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{Semaphore, watch},
    task,
};
use wireonce_desired::Moment;
use wireonce_member::messages::JOIN_LEN_MAX;

/// Largest body of a request, bytes: some 100,000 vNICs.
const BODY_LEN_MAX: usize = 64 << 20;
/// Most who watch at a time.
const WATCHERS_MAX: usize = 64;
/// Most hosts that wait for another text: twice as many as there can be.
const WAITERS_MAX: usize = 4096;
/// Most texts that are made at a time.
const RENDERS_MAX: usize = 2;
/// The header that names the role to act in.
pub(crate) const ACTING_AS: &str = "x-wireonce-as";

/// What handlers share.
#[derive(Debug, Clone)]
struct Shared {
    controller: Controller,
    settings: Arc<Settings>,
    revision: watch::Receiver<Revision>,
    watchers: Arc<Semaphore>,
    /// Hosts that wait for another text.
    waiters: Arc<Semaphore>,
    /// Texts that are made at a time.
    renders: Arc<Semaphore>,
    /// Without `https` nobody gets a certificate.
    gatehouse: Option<Arc<members::Gatehouse>>,
    tags: sight::Tags,
}

/// All paths.
fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/openapi.json", get(openapi::description))
        .route("/v1/whoami", get(who::whoami))
        .route("/v1/apply", post(changes::apply))
        .route("/v1/export", get(changes::export))
        .route("/v1/hosts/{host}/report", reports::route())
        .route("/v1/hosts", get(members::hosts))
        .route("/v1/hosts/{host}/text", get(texts::host_text))
        .route("/v1/hosts/{host}/certificate", post(members::renew))
        .route("/v1/hosts/{host}/revoke", post(members::revoke))
        .route("/v1/join", post(members::join).layer(DefaultBodyLimit::max(JOIN_LEN_MAX)))
        .route("/v1/tokens", get(members::invitations).post(members::invite))
        .route("/v1/tokens/{id}", delete(members::forget))
        .route("/v1/users", get(members::people).post(members::person))
        .route("/v1/users/{name}/revoke", post(members::revoke_person))
        .route("/v1/grants/move", post(changes::shift))
        .route("/v1/grants/end", post(changes::end))
        .route("/v1/now", get(sight::now))
        .route("/v1/advice", get(sight::advice))
        .route("/v1/vnics/{name}/explanation", get(sight::explanation))
        .route("/v1/pools/use", get(changes::pool_use))
        .route("/v1/pools/{pool}/rebalance", get(placing::plan).post(placing::carry_out))
        .route("/v1/vnics/{vnic}/move", post(placing::rehome))
        .route(
            "/v1/uplinks/{uplink}/drain",
            get(placing::uplink_progress).post(placing::drain_uplink),
        )
        .route("/v1/uplinks/{uplink}/undrain", post(placing::undrain_uplink))
        .route(
            "/v1/gateways/{gateway}/drain",
            get(placing::gateway_progress).post(placing::drain_gateway),
        )
        .route("/v1/gateways/{gateway}/undrain", post(placing::undrain_gateway))
        .route("/v1/servers/{server}/drain", post(placing::drain_server))
        .route("/v1/requests", get(requests::list))
        .route("/v1/requests/{number}", get(requests::show).post(requests::answer))
        .route("/v1/requests/{number}/withdraw", post(requests::withdraw))
        .route("/v1/audit", get(trail::audit))
        .route("/v1/watch", get(trail::watch))
        .route("/v1/backup", get(trail::backup))
        .route("/v1/{kind}", get(objects::list))
        .route("/v1/{kind}/{*name}", get(objects::show).put(objects::put).delete(objects::remove))
        .fallback(answers::no_such_path)
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .with_state(shared)
}

/// Runs what may wait for the disk where waiting disturbs nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Refusal::new(
            crate::Gate::Store,
            "the controller",
            "is stopping",
            "try again when it has started",
        )),
    }
}

/// The wall clock.
fn now() -> Moment {
    Moment(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Monotonic microseconds since the controller first asked: the clock of reports.
pub(crate) fn now_us() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
}
