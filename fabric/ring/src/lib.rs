//! One io_uring per worker thread, behind a safe interface.
//!
//! ```text
//!   worker thread                                 kernel
//!   ─────────────                                 ──────
//!   poll_multi(fd, token) ──────── armed once ──▶ kick eventfds, mailbox, tap
//!   recv_msg_multi(fd, group) ──── armed once ──▶ fabric sockets, packet sockets
//!   send(fd, bytes, token) ─────── queued ──────▶ frames to an uplink, a batch an enter
//!
//!   enter(Wait) ◀───────────────── completions ── one system call for all of the above
//! ```
//!
//! The ring is created by the thread that uses it and never leaves it
//! (`SINGLE_ISSUER`, `DEFER_TASKRUN`: completions are made only when that thread
//! asks, so there is no interrupt in the middle of a batch). While the worker
//! spins, [`Ring::enter`] costs no system call unless there is something to
//! submit or the kernel has flagged work.
//!
//! What the kernel may touch is owned here: a send's bytes live in the ring until
//! its completion hands them back, receive buffers live in a [`BufferGroup`] whose
//! memory the ring keeps until it is gone itself.

mod buffers;
mod datagram;
mod ring;
#[cfg(test)]
mod tests;
mod token;

pub use buffers::{BufferGroup, BufferId};
pub use datagram::{MsgLayout, ReceivedMsg};
pub use ring::{Completion, Ring, RingError, Wait};
pub use token::Token;
