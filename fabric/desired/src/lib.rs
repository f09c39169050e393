//! The desired state of a whole installation.
//!
//! ```text
//!  TOML, JSON ──read──> objects ──> House ──rules──> holds together, or one error
//!                                     │ ╲
//!                            render   │  ╲ difference of two houses
//!                                     v
//!              the tables of one host's file, read by wireonce-config
//! ```
//! A *house* is all objects of one installation, each of a kind and with a name. Here is
//! what they look like and what must be true of them; who may change them, and where they
//! are kept, is `wireonce-control`'s. Nothing here does I/O or reads a clock.
#![forbid(unsafe_code)]

pub mod bandwidth;
mod difference;
mod house;
mod kind;
mod object;
mod rate;
pub mod read;
mod render;
pub mod rules;
mod until;
mod wrong;

#[cfg(test)]
mod tests;

pub use bandwidth::PoolUse;
pub use difference::{ChangeKind, Difference, FieldDifference, ObjectDifference};
pub use house::House;
pub use kind::{Kind, Team};
pub use object::{
    Budget, Direction, Grant, Host, Network, Object, Offload, Policy, Pool, Rebalance, Terms,
    Uplink, Vnic,
};
pub use rate::{Rate, RateError};
pub use render::{export, render};
pub use until::Moment;
pub use wrong::Wrong;
