//! The formats between the hosts: datagrams and the blocks inside them.
//!
//! `docs/wire.md` has the byte layout with drawings. Nothing here does I/O or
//! cryptography; a datagram's payload is clear text when it gets here.
#![forbid(unsafe_code)]

pub mod ids;

pub use ids::{Endpoint, UplinkId, Vni, VnicId};
