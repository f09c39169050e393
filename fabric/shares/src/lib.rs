//! Bandwidth: who gets how much of an uplink, and the leases that make it safe.
//!
//! Pure: no I/O, no clock, no threads. Time and demand are arguments, rates are whole bits a
//! second, and all arithmetic is on integers, so that nothing drifts and a seed repeats a run.
//!
//! ```text
//!              demand                                  rate, epoch, expiry
//!   server ───────────────▶ share_out ─────▶ Lessor ───────────────────────▶ Lessee at the server
//!   server ───────────────▶   who gets what    what may be promised now        │ share_out
//!                                                                              ▼ among its vNICs
//! ```
//!
//! | who divides | what | with |
//! |---|---|---|
//! | a gateway, upwards (`fabric/uplink/src/shares/desk.rs`) | what is usable of an uplink, among servers | [`share_out`], then [`Lessor`] |
//! | a server, upwards (`backend/src/shares/core.rs`) | a lease, among its vNICs | [`share_out`]; [`GrantNode::demand_bps`] for what it reports |
//! | a gateway, downwards (`fabric/uplink/src/down/desk.rs`) | what is usable, among servers, and each part among its vNICs | [`share_out`] twice, [`GrantNode::demand_bps`] |
//! | the simulation of large houses (`bench/src/sim`) | an uplink among servers | [`Tree::allocate`] |
//!
//! **No daemon runs [`Tree::allocate`]**: it gives what is wanted and keeps the rest; [`share_out`] gives the rest
//! away as headroom. Where servers want all there is, both give the same, and never does anybody
//! have less by `share_out`: `fabric/uplink/src/shares/desk_tree_tests.rs` compares a gateway's desk with
//! the tree. The simulation has neither headroom nor the desk's pause between two divisions.
//!
//! | module | idea |
//! |---|---|
//! | [`message`] | reports and leases between hosts |
//! | [`rate`] | rates as people write them |
//! | [`terms`] | reservation, shares, limit: what a grant or a vNIC is given |
//! | [`fill`](mod@fill) | one level: divide a capacity among claims |
//! | [`tree`] | uplink, grants, vNICs: level by level |
//! | [`lease`] | promises that expire, and never add up to more than there is |
//! | [`bucket`] | how much may be sent now, at a rate that may change |
//!
//! Why it is done this way: `docs/decisions/0010-shares-and-leases.md`.
#![forbid(unsafe_code)]

pub mod bucket;
pub mod fill;
pub mod lease;
pub mod message;
pub mod rate;
#[cfg(test)]
mod reference;
pub mod terms;
pub mod tree;

pub use bucket::Bucket;
pub use fill::{Claim, Filler, fill};
pub use lease::{Lease, LeaseTiming, Lessee, Lessor, Report, ServerIndex};
pub use message::{LeaseMessage, Message, ReceiveMessage, ReportMessage};
pub use rate::{Rate, RateError};
pub use terms::{Demand, Terms, TermsError};
pub use tree::{Divider, GrantNode, Tree, VnicNode, share_out};
