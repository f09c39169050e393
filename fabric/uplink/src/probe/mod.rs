//! Uplinks of a pool hear each other on the outside network (decision 20).
//!
//! ```text
//!              probe, each second and VLAN, sealed for each gateway of the pool
//!   uplink A ═════════════════════════ outside ═════════════════════════▶ uplink B
//!      │                                                                     │
//!   gateway A ◀──────── fabric: how our uplinks are, whom we hear ───────▶ gateway B
//!
//!   workers ── what came in ──▶ [`gate`] ──▶ thread ([`runner`]) ──▶ [`desk`] ([`pool`], [`turn`])
//!      ▲                                       │                        │ frame, keys, heard,
//!      └───────── frames to send ──────────────┘                        │ verdict, election, news
//!      └───────── who is designated, what is held: atomics ◀────────────┘
//! ```
//! Everything but the runner is pure, with the clock as an argument. A probe that comes in is taken out
//! before anything is decided about forwarding, and never enters the fabric.

mod desk;
pub mod election;
pub mod frame;
mod gate;
pub mod heard;
pub mod keys;
pub mod news;
mod pool;
mod runner;
mod status;
#[cfg(test)]
mod tests;
mod turn;
pub mod verdict;
mod view;

pub(crate) use desk::Emission;
pub(crate) use gate::Gate;
pub(crate) use runner::{Probes, ProbesThread};
