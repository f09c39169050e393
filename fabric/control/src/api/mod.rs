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
mod placing;
mod reports;
mod requests;
mod routes;
mod server;
mod sight;
mod texts;
mod tls;
mod trail;
mod who;

pub(crate) use answers::ErrorBody;
pub use members::{HostItem, Made};
pub use server::{Running, start};
pub use sight::EXPLAIN_S_MAX;

use crate::{Controller, refusal::Refusal, settings::Settings, store::Revision};
use std::{
    sync::{Arc, OnceLock},
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{Semaphore, watch},
    task,
};
use wireonce_desired::Moment;

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
