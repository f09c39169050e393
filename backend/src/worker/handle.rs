//! A vNIC's rings as its protocol thread sees them: every event becomes a message
//! to the worker that serves the vNIC.

use super::{Command, Worker};
use crate::{
    vhost_user::{PortEvents, RingStart},
    virtqueue::GuestMemory,
};
use std::{os::fd::OwnedFd, sync::Arc};
use wireonce_host::workers::Mailbox;
use wireonce_wire::VnicId;

/// One vNIC at one worker.
#[derive(Debug)]
pub(crate) struct PortHandle {
    vnic: VnicId,
    worker: Mailbox<Worker>,
}

impl PortHandle {
    pub(crate) fn new(vnic: VnicId, worker: Mailbox<Worker>) -> Self {
        Self { vnic, worker }
    }
}

impl PortEvents for PortHandle {
    fn connected(&self) {
        self.worker.post(Command::Connected(self.vnic));
    }

    fn features_acked(&self, features: u64) {
        self.worker.ask(|reply| Command::Features(self.vnic, features, reply));
    }

    fn ring_started(&self, start: RingStart) -> Result<(), String> {
        self.worker
            .ask(|reply| Command::RingStart(self.vnic, Box::new(start), reply))
            .unwrap_or_else(|| Err("the worker does not answer".to_owned()))
    }

    fn ring_stopped(&self, index: u16) -> u16 {
        // Without an answer any base will do: a ring goes on at its used index.
        self.worker.ask(|reply| Command::RingStop(self.vnic, index, reply)).unwrap_or(0)
    }

    fn ring_enabled(&self, index: u16, enabled: bool) {
        self.worker.ask(|reply| Command::RingEnabled(self.vnic, index, enabled, reply));
    }

    fn ring_call(&self, index: u16, call: Option<OwnedFd>) {
        self.worker.ask(|reply| Command::RingCall(self.vnic, index, call, reply));
    }

    fn memory_replaced(&self, memory: Arc<GuestMemory>) {
        self.worker.ask(|reply| Command::Memory(self.vnic, memory, reply));
    }

    fn announce(&self) {
        self.worker.ask(|reply| Command::Announce(self.vnic, reply));
    }

    fn disconnected(&self) {
        self.worker.ask(|reply| Command::Disconnected(self.vnic, reply));
    }
}
