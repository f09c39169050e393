//! What a worker of the backend can be asked, besides what every worker can.

use super::{NewTables, local::LocalFrame};
use crate::{vhost_user::RingStart, virtqueue::GuestMemory};
use std::{os::fd::OwnedFd, sync::Arc};
use wireonce_host::workers::Reply;
use wireonce_wire::VnicId;

/// Frames on their way from one worker to another; more are dropped.
pub(super) const HANDOVER_MAX: usize = 1024;

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
    /// The VMM wants the vNIC announced.
    Announce(VnicId, Reply<()>),
    /// The VMM is gone.
    Disconnected(VnicId, Reply<()>),
    /// Forward by these tables.
    Tables(Box<NewTables>, Reply<()>),
    /// A frame from a port of another worker.
    Handover(Box<LocalFrame>),
}
