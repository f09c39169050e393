//! What a worker does with its mail: rings start and stop, memory is replaced, VMMs
//! come and go.
//!
//! A protocol thread waits for the answer, and its VMM with it: once a ring's stop is
//! answered, nothing here touches the ring or its guest's memory again.

use super::{
    Command, Worker,
    tokens::{BROKEN, INTERRUPT, KICK, ring_token},
};
use crate::{
    vhost_user::RingStart,
    virtqueue::{GuestMemory, MappedMemory},
};
use std::sync::Arc;
use tracing::warn;
use wireonce_host::workers::Mail;
use wireonce_ledger::DropReason;
use wireonce_ring::RingError;
use wireonce_wire::VnicId;

/// Commands that are read before frames have their turn again.
const MAIL_MAX: usize = 256;

impl Worker {
    /// Reads the mail. False if the worker is to end.
    pub(super) fn read_mail(&mut self) -> Result<bool, RingError> {
        for _ in 0..MAIL_MAX {
            let Some(mail) = self.inbox.next() else {
                self.more_mail = false;
                return Ok(true);
            };
            match mail {
                Mail::Session(event) => self.fabric.apply(event),
                Mail::Snapshot(reply) => {
                    let _ = reply.send(self.snapshot());
                }
                Mail::Own(command) => self.obey(command)?,
                Mail::Stop => {
                    self.ports.iter_mut().for_each(|port| port.give_up_shaped(DropReason::Stopped));
                    return Ok(false);
                }
            }
        }
        // Colleagues that hand frames over can write as fast as we read.
        self.more_mail = true;
        Ok(true)
    }

    /// Does what a command says. Whoever waits for the answer may have given up.
    fn obey(&mut self, command: Command) -> Result<(), RingError> {
        match command {
            Command::RingStart(vnic, start, reply) => {
                let _ = reply.send(self.start_ring(vnic, *start)?);
            }
            Command::RingStop(vnic, index, reply) => {
                let _ = reply.send(self.stop_ring(vnic, index)?);
            }
            Command::RingEnabled(vnic, index, enabled, reply) => {
                if let Some(common) = self.port(vnic).and_then(|p| p.common_mut(index)) {
                    common.enabled = enabled;
                }
                let _ = reply.send(());
            }
            Command::RingCall(vnic, index, call, reply) => {
                if let Some(common) = self.port(vnic).and_then(|p| p.common_mut(index)) {
                    common.set_call(call);
                }
                let _ = reply.send(());
            }
            Command::Connected(vnic) => {
                if let Some(port) = self.port(vnic) {
                    port.connected = true;
                }
            }
            Command::Features(vnic, features, reply) => {
                if let Some(port) = self.port(vnic) {
                    port.set_features(features);
                }
                let _ = reply.send(());
            }
            Command::Memory(vnic, memory, reply) => {
                self.replace_memory(vnic, memory)?;
                let _ = reply.send(());
            }
            Command::Announce(vnic, reply) => {
                self.announce(vnic, self.now_us());
                let _ = reply.send(());
            }
            Command::Disconnected(vnic, reply) => {
                self.disconnect(vnic)?;
                let _ = reply.send(());
            }
            Command::Tables(tables, reply) => {
                self.take_tables(*tables)?;
                let _ = reply.send(());
            }
            Command::Handover(frame) => {
                let (_, _, mut inward) = self.split();
                inward.take_handover(&frame);
            }
        }
        Ok(())
    }

    pub(super) fn start_ring(
        &mut self,
        vnic: VnicId,
        start: RingStart,
    ) -> Result<Result<(), String>, RingError> {
        let Some(&index) = self.by_vnic.get(&vnic) else {
            return Ok(Err(format!("vNIC {vnic} is not served here")));
        };
        // A ring that is started again was replaced without a stop.
        self.stop_ring(vnic, start.index)?;
        let ring = start.index;
        let started = self.ports[index].start_ring(start);
        if let Ok((pair, Some(generation))) = started
            && let Some(queue) = self.ports[index].tx[pair].as_ref()
        {
            let token = ring_token(KICK, index, ring, generation);
            self.ring.poll_multi(queue.common.kick_fd(), token)?;
        }
        Ok(started.map(|_| ()))
    }

    pub(super) fn stop_ring(&mut self, vnic: VnicId, ring: u16) -> Result<u16, RingError> {
        let Some(&index) = self.by_vnic.get(&vnic) else { return Ok(0) };
        let generation = self.ports[index].common_mut(ring).map(|common| common.generation);
        if let Some(generation) = generation {
            self.forget_ring(index, ring, generation)?;
        }
        // Of the ring that broke and is gone already.
        self.ring.cancel(ring_token(BROKEN, index, ring, 0))?;
        self.frame.clear();
        Ok(self.ports[index].stop_ring(ring).unwrap_or(0))
    }

    /// Moves a port's rings to another memory table. What cannot move is stopped.
    pub(super) fn replace_memory(
        &mut self,
        vnic: VnicId,
        memory: Arc<GuestMemory>,
    ) -> Result<(), RingError> {
        let Some(&index) = self.by_vnic.get(&vnic) else { return Ok(()) };
        let mapped = MappedMemory::new(memory);
        if let Err(error) = &mapped {
            warn!(vnic = self.ports[index].vnic.name, %error, "cannot use the guest's memory");
        }
        let mapped = mapped.ok().map(Arc::new);
        for ring in 0..self.ports[index].ring_count() {
            let moved = mapped.as_ref().is_some_and(|m| self.ports[index].move_ring(ring, m));
            if !moved {
                self.stop_ring(vnic, ring)?;
            }
        }
        self.frame.clear();
        Ok(())
    }

    pub(super) fn disconnect(&mut self, vnic: VnicId) -> Result<(), RingError> {
        let Some(&index) = self.by_vnic.get(&vnic) else { return Ok(()) };
        for ring in 0..self.ports[index].ring_count() {
            self.stop_ring(vnic, ring)?;
        }
        self.ports[index].disconnect();
        Ok(())
    }

    /// Ends what the kernel still does for a ring: a poll for its kicks, and a signal
    /// that its VMM holds up, and with it a thread of the kernel.
    pub(super) fn forget_ring(
        &mut self,
        port: usize,
        ring: u16,
        generation: u16,
    ) -> Result<(), RingError> {
        if ring % 2 == 1 {
            self.ring.cancel(ring_token(KICK, port, ring, generation))?;
        }
        self.ring.cancel(ring_token(INTERRUPT, port, ring, generation))
    }
}
