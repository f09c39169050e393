//! The vhost-user net backend: what runs beside the VMs.
//!
//! | folder | what it does |
//! |---|---|
//! | `vhost_user/` | speaks the protocol with the VMM, through the rust-vmm crates |
//! | `virtqueue/` | the ring hot path; the only place that touches guest memory |
//! | `net/` | virtio-net header, offloads, port guard |
//! | `homes/` | which uplink each vNIC is attached to |
//! | `shares/` | what the vNICs may send to uplinks that are shaped |
//! | `worker/` | the io_uring loop: kick, ring, guard, link, and back |

mod change;
mod daemon;
mod feature_names;
#[forbid(unsafe_code)]
mod homes;
#[forbid(unsafe_code)]
pub mod net;
#[forbid(unsafe_code)]
mod shares;
pub mod vhost_user;
pub mod virtqueue;
#[forbid(unsafe_code)]
mod worker;

pub use daemon::{Backend, BackendError};
