//! What a daemon counts, for Prometheus.
//!
//! ```text
//!   Daemon::status() ─▶ Status ───────────▶ render ─────────┐
//!   Controller::status() ─▶ ControlStatus ─▶ render_control ─┴▶ text ◀── GET /metrics ── Prometheus
//! ```
//! There is no registry beside the ledger: each scrape renders a status as it is then, so a metric
//! cannot disagree with `wireonce status`. `docs/metrics.md` lists them.
#![forbid(unsafe_code)]

mod bandwidth;
mod control;
mod render;
mod server;
mod uplinks;
mod writer;

pub use control::render_control;
pub use render::render;
pub use server::{CONTENT_TYPE, Server};
