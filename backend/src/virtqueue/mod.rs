//! The ring hot path: the only place that touches guest memory.

mod config;

pub use config::{GuestMemory, RingConfig};
