//! The gateway: uplink drivers, reflection filter, announcements, and its worker loop.

pub mod announce;
pub mod attached;
pub mod bond;
pub mod books;
mod down;
pub mod driver;
pub mod forward;
mod gateway;
pub mod health;
mod homes;
pub mod link_control;
pub mod next_hop;
mod presence;
pub mod probe;
pub mod reflection;
#[cfg(test)]
pub(crate) mod sample;
mod shares;
pub mod storm;
mod sys;
mod worker;

pub use gateway::{Gateway, GatewayError};
#[cfg(test)]
pub(crate) mod testbed;
