//! Worker threads: how they start, what they are asked, how they end. What a worker
//! does with frames is its daemon's affair.
//!
//! ```text
//!   agent thread ──── Postman ─────┐
//!   status server ─── snapshots ───┼─▶ Mailbox ══ channel, eventfd ══▶ Inbox ─▶ loop
//!   the daemon's own ──────────────┘                                            │
//!   the process's shell ◀───────────────── `failed` ◀───────── its ring failed ─┘
//! ```
//!
//! A worker is never called and shares nothing: others leave commands in its mailbox,
//! and an eventfd that its ring polls wakes it. Commands are rare, so a channel that
//! allocates is good enough; frames come this way only from one worker to another, and
//! in a bounded number ([`Mailbox::try_post`]).
//!
//! **A worker that fails ends the whole process**, in order and with an error, and the
//! service manager starts it again. A worker fails only when the kernel refuses its ring.
//! It cannot be replaced alone: its guests' rings have to be given again, which only
//! their VMMs can do, and do when they attach anew; and its packet numbers went with it,
//! so the sessions need new keys. Carrying on without it would leave some VMs silently
//! dead in a daemon that looks healthy.

mod mailbox;
mod postman;
mod spin;
mod threads;

pub use mailbox::{Inbox, Mail, Mailbox, Reply, mailbox};
pub use postman::Postman;
pub use spin::{Side, Spin};
pub use threads::{Seat, Workers};

use wireonce_ring::RingError;

/// A worker of some kind, made in its own thread.
pub trait Work {
    /// What only this kind can be asked.
    type Command: Send + 'static;
    /// What it tells about itself: a copy of its counters.
    type Snapshot: Send + 'static;

    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// The ring failed. Nothing can be served without it.
    fn run(&mut self) -> Result<(), RingError>;
}
