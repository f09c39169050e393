//! Messages to a worker: what the protocol threads, the session agent and the
//! status server ask of it. A worker is never called; it reads its mailbox between
//! two batches, woken through its ring.

use crate::{
    vhost_user::RingStart,
    virtqueue::GuestMemory,
    worker::{local::LocalFrame, snapshot::Snapshot},
};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use wireonce_link::SessionEvent;
use wireonce_wire::VnicId;

/// Longest that a protocol thread waits for a worker. A worker answers within a
/// batch; this only bounds the wait for one that is stuck.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Frames on their way from other workers; more are dropped.
const HANDOVER_MAX: usize = 1024;

/// What a worker can be asked. What a VMM can ask without end has an answer, which is
/// waited for: so no VMM has more than one command in the mailbox.
#[derive(Debug)]
pub(crate) enum Command {
    /// Serve a ring.
    RingStart(VnicId, Box<RingStart>, Reply<Result<(), String>>),
    /// Let go of a ring, and say where it stands.
    RingStop(VnicId, u16, Reply<u16>),
    /// The VMM enabled or disabled a ring.
    RingEnabled(VnicId, u16, bool, Reply<()>),
    /// A ring's interrupt was replaced.
    RingCall(VnicId, u16, Option<OwnedFd>, Reply<()>),
    /// A VMM connected.
    Connected(VnicId),
    /// The driver acknowledged these features.
    Features(VnicId, u64, Reply<()>),
    /// The memory table changed.
    Memory(VnicId, Arc<GuestMemory>, Reply<()>),
    /// The VMM is gone.
    Disconnected(VnicId, Reply<()>),
    /// News of a fabric session.
    Session(SessionEvent),
    /// A frame from a port of another worker.
    Handover(Box<LocalFrame>),
    /// Copy the counters.
    Snapshot(Reply<Snapshot>),
    /// End.
    Stop,
}

/// Where the answer to a command goes.
pub(crate) type Reply<T> = mpsc::SyncSender<T>;

/// The sending end of a worker's mailbox.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    commands: mpsc::Sender<Command>,
    bell: Arc<EventFd>,
    handovers: Arc<AtomicUsize>,
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    commands: mpsc::Receiver<Command>,
    bell: Arc<EventFd>,
    handovers: Arc<AtomicUsize>,
}

/// A new mailbox.
pub(crate) fn mailbox() -> io::Result<(Mailbox, Inbox)> {
    let (sender, receiver) = mpsc::channel();
    let bell = Arc::new(EventFd::new(EFD_NONBLOCK)?);
    let handovers = Arc::new(AtomicUsize::new(0));
    let mailbox =
        Mailbox { commands: sender, bell: Arc::clone(&bell), handovers: Arc::clone(&handovers) };
    Ok((mailbox, Inbox { commands: receiver, bell, handovers }))
}

impl Mailbox {
    /// Leaves a command. One for a worker that has ended is lost.
    pub(crate) fn post(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // Fails only when the counter is full, and then the worker is awake.
            let _ = self.bell.write(1);
        }
    }

    /// Leaves a command and waits for its answer; `None` if the worker is gone or stuck.
    pub(crate) fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Option<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.post(command(reply));
        answer.recv_timeout(REPLY_TIMEOUT).ok()
    }

    /// Hands a frame over; false if too many are on their way.
    pub(crate) fn hand_over(&self, frame: LocalFrame) -> bool {
        if self.handovers.fetch_add(1, Ordering::Relaxed) >= HANDOVER_MAX {
            self.handovers.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.post(Command::Handover(Box::new(frame)));
        true
    }
}

impl Inbox {
    /// The descriptor that becomes readable with every command.
    pub(crate) fn bell_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// The next command.
    pub(crate) fn next(&self) -> Option<Command> {
        let command = self.commands.try_recv().ok()?;
        if matches!(command, Command::Handover(_)) {
            self.handovers.fetch_sub(1, Ordering::Relaxed);
        }
        Some(command)
    }
}
