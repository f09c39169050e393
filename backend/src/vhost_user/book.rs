//! The rings of one session: from what the front-end said to what the worker
//! must do.
//!
//! ```text
//!             size, addresses, kick, features with VERSION_1: all known
//!   stopped ---------------------------------------------------------> running
//!      ^        ring_started(config, memory, kick, call, enabled)         |
//!      |                                                                  |
//!      +------------------------------------------------------------------+
//!        GET_VRING_BASE: ring_stopped() -> base; addresses, kick, call forgotten
//! ```
//! The front-ends send the parts in different orders (see `docs/vhost-user.md`),
//! so a ring starts when the last part arrives, whichever it is; only the call
//! descriptor may come later. Size and base survive a stop, the rest must be
//! given again. A kick that is replaced while the ring runs is a stop and a
//! start at the same index.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vm_memory::GuestMemoryBackend;

use super::events::{PortEvents, RingStart};
use super::features::{PROTOCOL_FEATURES_BIT, VERSION_1_BIT};
use super::judge::RunningRings;
use super::status::{Board, RingStatus};
use crate::virtqueue::{GuestMemory, RingConfig};

/// Guest-physical addresses of a ring's three parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

/// The rings, features and memory of one session.
#[derive(Debug)]
pub(super) struct Book {
    events: Arc<dyn PortEvents>,
    board: Arc<Board>,
    rings: Vec<Ring>,
    features: Option<u64>,
    memory: Arc<GuestMemory>,
}

#[derive(Debug, Default)]
struct Ring {
    size: Option<u16>,
    addresses: Option<Addresses>,
    base: u16,
    kick: Option<OwnedFd>,
    call: Option<OwnedFd>,
    err: Option<OwnedFd>,
    enabled: bool,
    /// The daemon considers the ring started: a kick was given.
    ready: bool,
    running: bool,
    /// The worker refused it; not tried again before a stop or a new kick.
    failed: bool,
}

impl Book {
    pub(super) fn new(events: Arc<dyn PortEvents>, board: Arc<Board>, rings: u16) -> Self {
        let rings = std::iter::repeat_with(Ring::default).take(usize::from(rings)).collect();
        Self { events, board, rings, features: None, memory: Arc::new(GuestMemory::default()) }
    }

    /// Which rings run, one bit each.
    pub(super) fn running(&self) -> RunningRings {
        let set = self.rings.iter().enumerate().filter(|(_, ring)| ring.running);
        set.fold(0, |mask, (index, _)| mask | 1 << index)
    }

    pub(super) fn set_size(&mut self, index: u16, size: u16) {
        self.change(index, |ring| ring.size = Some(size));
    }

    pub(super) fn set_addresses(&mut self, index: u16, addresses: Addresses) {
        self.change(index, |ring| ring.addresses = Some(addresses));
    }

    pub(super) fn set_base(&mut self, index: u16, base: u16) {
        self.change(index, |ring| ring.base = base);
    }

    /// What GET_VRING_BASE answers: where the worker stopped, or what was set.
    pub(super) fn base(&self, index: u16) -> u16 {
        self.rings.get(usize::from(index)).map_or(0, |ring| ring.base)
    }

    pub(super) fn set_err(&mut self, index: u16, err: Option<OwnedFd>) {
        self.change(index, |ring| ring.err = err);
    }

    pub(super) fn set_enabled(&mut self, index: u16, enabled: bool) {
        let Some(ring) = self.rings.get_mut(usize::from(index)) else { return };
        let changed = ring.enabled != enabled;
        ring.enabled = enabled;
        if ring.running && changed {
            self.events.ring_enabled(index, enabled);
        }
        self.show(index);
    }

    pub(super) fn set_kick(&mut self, index: u16, kick: Option<OwnedFd>) {
        self.stop(index);
        self.change(index, |ring| {
            ring.kick = kick;
            ring.failed = false;
        });
    }

    pub(super) fn set_call(&mut self, index: u16, call: Option<OwnedFd>) {
        let Some(ring) = self.rings.get_mut(usize::from(index)) else { return };
        if ring.running {
            self.events.ring_call(index, call.as_ref().and_then(duplicate));
        }
        ring.call = call;
    }

    /// The daemon's own idea of started: set with the first kick, cleared by
    /// GET_VRING_BASE.
    pub(super) fn set_ready(&mut self, index: u16, ready: bool) {
        if !ready {
            self.stop(index);
        }
        self.change(index, |ring| {
            ring.ready = ready;
            if !ready {
                ring.addresses = None;
                ring.failed = false;
            }
        });
    }

    /// SET_FEATURES passed.
    pub(super) fn acknowledge(&mut self, features: u64) {
        if self.features == Some(features) {
            return;
        }
        self.features = Some(features);
        self.board.features(features);
        if features & VERSION_1_BIT == 0 {
            self.board.trouble(
                "the guest's driver is a legacy one (no VERSION_1) and gets no traffic: \
                 use a virtio 1.0 driver, or disable-legacy=on in QEMU",
            );
            return;
        }
        self.events.features_acked(features & !PROTOCOL_FEATURES_BIT);
        for index in (0u16..).take(self.rings.len()) {
            self.start_if_complete(index);
        }
    }

    /// The memory table changed. The old one is unmapped when this returns,
    /// unless the worker breaks its promise.
    pub(super) fn replace_memory(&mut self, memory: Arc<GuestMemory>) {
        self.board.memory_regions(memory.iter().count());
        self.memory = Arc::clone(&memory);
        if self.running() != 0 {
            self.events.memory_replaced(memory);
        }
    }

    fn change(&mut self, index: u16, change: impl FnOnce(&mut Ring)) {
        if let Some(ring) = self.rings.get_mut(usize::from(index)) {
            change(ring);
            self.start_if_complete(index);
        }
    }

    fn start_if_complete(&mut self, index: u16) {
        let Some(ring) = self.rings.get_mut(usize::from(index)) else { return };
        let Some((config, kick)) = ring.complete(self.features) else { return };
        let start = RingStart {
            index,
            config,
            memory: Arc::clone(&self.memory),
            kick: Some(kick),
            call: ring.call.as_ref().and_then(duplicate),
            err: ring.err.as_ref().and_then(duplicate),
            enabled: ring.enabled,
        };
        match self.events.ring_started(start) {
            Ok(()) => ring.running = true,
            Err(error) => {
                ring.failed = true;
                self.board.trouble(&format!("ring {index} does not start: {error}"));
            }
        }
        self.show(index);
    }

    fn stop(&mut self, index: u16) {
        let Some(ring) = self.rings.get_mut(usize::from(index)) else { return };
        if ring.running {
            ring.base = self.events.ring_stopped(index);
            ring.running = false;
            self.show(index);
        }
    }

    fn show(&self, index: u16) {
        if let Some(ring) = self.rings.get(usize::from(index)) {
            let status = RingStatus { running: ring.running, enabled: ring.enabled };
            self.board.ring(index, status);
        }
    }
}

impl Ring {
    /// The ring's configuration and its kick, if it may start now.
    fn complete(&self, features: Option<u64>) -> Option<(RingConfig, OwnedFd)> {
        let features = features.filter(|features| features & VERSION_1_BIT != 0)?;
        if self.running || self.failed || !self.ready {
            return None;
        }
        let addresses = self.addresses?;
        let config = RingConfig {
            size: self.size?,
            descriptor_table: addresses.descriptors,
            avail_ring: addresses.available,
            used_ring: addresses.used,
            base: self.base,
            features: features & !PROTOCOL_FEATURES_BIT,
        };
        Some((config, duplicate(self.kick.as_ref()?)?))
    }
}

/// Another descriptor of the same event; `None` when the process has too many.
fn duplicate(descriptor: &OwnedFd) -> Option<OwnedFd> {
    descriptor.try_clone().ok()
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
