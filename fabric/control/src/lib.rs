//! The controller: one desired state, kept, changed by two teams within their rights,
//! and served to agents.
//!
//! ```text
//!  verbs, scripts ──HTTP──> api ──> controller ──> change (pure) ──> store
//!                                        │
//!  agents <──long poll── rendered text <─┘
//! ```
//! Asynchronous code stays inside `api`; the arithmetic of changes is pure and has the
//! clock as an argument. Nothing here is ever in the way of a frame.
#![forbid(unsafe_code)]

pub mod api;
pub mod caller;
pub mod change;
pub mod client;
pub mod controller;
pub mod pki;
pub mod placing;
pub mod refusal;
pub mod reports;
pub mod settings;
mod status;
pub mod store;

pub use caller::{Caller, Role};
pub use controller::Controller;
pub use refusal::{Gate, Refusal};
pub use reports::Reports;
pub use settings::Settings;
