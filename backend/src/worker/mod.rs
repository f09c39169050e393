//! The io_uring loop: kick, ring, guard, link, and back.
//!
//! ```text
//!            ┌──────────────── one turn of the loop ────────────────┐
//!  kicks ──▶ │ enter ─▶ mail ─▶ fabric in ─▶ guests out ─▶ fabric out │ ──▶ trains
//!  datagrams │            │         │            │                    │ ──▶ interrupts
//!            │            ▼         ▼            ▼                    │
//!            │        start and   deliver     deficit round robin     │
//!            │        stop rings              over the ready queues   │
//!            └───────────────────────────────────────────────────────┘
//! ```
//!
//! A worker shares nothing. What others want of it comes by mail: rings to serve,
//! sessions to use, counters to copy. Each port has a credit of CPU time per round,
//! charged for every chain, rejected ones included, so that a guest that floods
//! costs its neighbours their fair share and no more. While there is work the
//! worker does not sleep and guests need not kick; a little later it asks for kicks
//! and sleeps in its ring.

mod cost;
mod deliver;
mod handle;
mod inward;
mod local;
mod mailbox;
mod port;
mod run;
mod snapshot;
mod spin;
mod transmit;

pub(crate) use handle::PortHandle;
pub(crate) use inward::worker_of;
pub(crate) use mailbox::{Command, Mailbox, mailbox};
pub(crate) use run::{FABRIC_TOKEN_KIND, Worker, WorkerConfig, start};
pub(crate) use snapshot::{PortSnapshot, Snapshot};
