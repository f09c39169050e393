//! What others want of a worker: session news, a copy of its counters, its end.

use super::snapshot::Snapshot;
use crate::sys;
use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, RawFd},
    sync::{Arc, mpsc},
    time::Duration,
};
use wireonce_link::SessionEvent;

/// Longest that a caller waits for a worker that is stuck.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// What a worker can be asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// News of a fabric session.
    Session(SessionEvent),
    /// Copy the counters.
    Snapshot(mpsc::SyncSender<Snapshot>),
    /// End.
    Stop,
}

/// The sending end.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    commands: mpsc::Sender<Command>,
    bell: Arc<File>,
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    commands: mpsc::Receiver<Command>,
    bell: Arc<File>,
}

/// A new mailbox.
pub(crate) fn mailbox() -> io::Result<(Mailbox, Inbox)> {
    let (sender, receiver) = mpsc::channel();
    let bell = Arc::new(sys::event_fd()?);
    let mailbox = Mailbox { commands: sender, bell: Arc::clone(&bell) };
    Ok((mailbox, Inbox { commands: receiver, bell }))
}

impl Mailbox {
    /// Leaves a command. One for a worker that has ended is lost.
    pub(crate) fn post(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // Fails only when the counter is full, and then the worker is awake.
            let _ = (&*self.bell).write(&1_u64.to_ne_bytes());
        }
    }

    /// Asks for the counters; `None` if the worker is gone or stuck.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.post(Command::Snapshot(reply));
        answer.recv_timeout(REPLY_TIMEOUT).ok()
    }
}

impl Inbox {
    /// The descriptor that becomes readable with every command.
    pub(super) fn bell_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// The next command.
    pub(super) fn next(&self) -> Option<Command> {
        self.commands.try_recv().ok()
    }
}
