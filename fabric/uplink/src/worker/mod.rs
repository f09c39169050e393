//! The gateway's io_uring loop: fabric to uplinks, uplinks to fabric.
//!
//! ```text
//!             ┌─────────────────────── one turn ───────────────────────┐
//!  trains ──▶ │ enter ─▶ judge ─▶ book ─▶ copy behind a vnet header ───┼─▶ uplink
//!  uplink ──▶ │       ─▶ judge ─▶ book ─▶ block in the open train ─────┼─▶ trains
//!  timers ──▶ │       ─▶ announcements, carrier, kernel drop counts    │
//!             └────────────────────────────────────────────────────────┘
//! ```
//!
//! Every worker has every uplink: it sends on a socket of its own, and receives its
//! share of the flows. So a server may send a flow to whichever worker its hash
//! names, and workers share nothing. Frames for an uplink go to the kernel in
//! batches, with the ring's next `enter`; what waits for the kernel is bounded.

mod change;
mod downward;
mod egress;
mod full;
mod port;
mod run;
mod snapshot;
mod tables;
mod ways;

pub(crate) use run::{Command, FABRIC_TOKEN_KIND, LocalUplink, Worker, WorkerConfig};
pub(crate) use snapshot::{Snapshot, UplinkSnapshot};
pub(crate) use tables::{NewRights, NewTables, news};
