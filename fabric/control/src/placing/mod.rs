//! Where vNICs leave the fabric: homes that are given, moves, drains, and the room for all of it.
//!
//! ```text
//!  desired house ─┐
//!  reports ─ Sight┴─> Numbered ─> placement ─┬─> homes that were left out, or have to go
//!                                            ├─> admission: what no loss may break
//!                                            └─> plans for a pool, by hand or by itself
//! ```
//! The arithmetic is `wireonce-placement`'s; here it is asked about the house that a change would make,
//! and its answers become changes and refusals. A drain is no verb of its own to it: whoever is at home
//! on something that drains is placed elsewhere, in the transaction that made it drain, however that
//! was written. Why: `docs/decisions/0018-moves-and-drains.md`.

mod admission;
mod auto;
mod homes;
mod moves;
mod pace;
mod progress;
mod rebalance;
mod words;

pub(crate) use admission::admit;
pub(crate) use auto::Auto;
pub(crate) use homes::{Settled, settle};
pub(crate) use moves::{drained, rehomed};
pub(crate) use pace::pace;
pub use progress::{Progress, Waiting};
pub use rebalance::{Kept, PlannedMove, Proposal, Way};
use wireonce_sight::Numbered;
pub use wireonce_sight::Sight;

pub(crate) use progress::{Said, Tags, progress, uplinks_of};
pub(crate) use rebalance::propose;
