//! Speaks vhost-user with the VMM, through the rust-vmm crates.
//!
//! ```text
//!   supervisor thread (event-manager)      one session at a time for each vNIC
//!   +--------------------------+           +------------------------------------------+
//!   | accept, connect, retry   |--spawn--> | shim thread: session, judge, message     |
//!   | for every vNIC           |           |      |  private socket                   |
//!   +--------------------------+           |      v                                   |
//!                                          | daemon thread: stock vhost-user-backend, |
//!                                          |   zero workers, vring -> book            |
//!                                          +------|-----------------------------------+
//!                                                 v  PortEvents: ring started, stopped, ...
//!                                          worker (io_uring)
//! ```
//!
//! The stock crates break their API at nearly every release and, as they are,
//! close the socket on QEMU's first SET_VRING_ENABLE. So they are used here and
//! nowhere else, behind a shim that checks every message before they see it and
//! supplies what they lack. `docs/vhost-user.md` has the theory, the orders of
//! messages and the offer; `docs/decisions/0003-vhost-user-shim.md` has the why.
//!
//! | file | what it does |
//! |---|---|
//! | `supervisor` | sockets of all vNICs, one thread |
//! | `session` | one VMM: the pump between its socket and the daemon |
//! | `message`, `memory` | shape of messages and memory regions; pure |
//! | `judge` | what is allowed when, what ends in the shim; pure |
//! | `refusal` | every reason to close a session, by name |
//! | `backend`, `vring` | what the daemon sees: a device, rings |
//! | `book` | when a ring starts and stops |
//! | `events` | what the worker is told |
//! | `features` | what is offered |
//! | `socket_file` | the file of a listening socket |
//! | `socket` | system calls; the only unsafe code |

mod backend;
mod book;
mod config;
mod events;
mod features;
mod judge;
mod memory;
mod message;
mod refusal;
mod session;
mod socket;
mod socket_file;
mod status;
mod supervisor;
mod vring;

pub use config::{DeviceConfig, DeviceError, MAX_QUEUE_PAIRS, MAX_QUEUE_SIZE, MIN_MTU, SocketMode};
pub use events::{PortEvents, RingStart};
pub use status::{DeviceStatus, RingStatus};
pub use supervisor::{Prepared, Subscriber, Supervisor};
