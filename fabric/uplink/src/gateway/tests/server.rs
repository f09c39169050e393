//! The fabric half of a server, driven by hand.

use super::bed::Bed;
use crate::{sample::vnic, worker::FABRIC_TOKEN_KIND};
use std::{
    sync::mpsc::{self, Sender},
    time::Instant,
};
use wireonce_frame::{Offload, SliceSource, ecn::Ecn};
use wireonce_host::{FabricHost, SessionListener};
use wireonce_ledger::{Amount, DropReason};
use wireonce_link::{Fabric, Inbound, Outbound, PeerId, SessionEvent};
use wireonce_ring::{Ring, Wait};
use wireonce_wire::{Endpoint, UplinkId};

/// The first uplink, home of the first vNIC.
pub(super) const UPLINK: Endpoint = Endpoint::Uplink(UplinkId(7));
const GATEWAY: PeerId = PeerId(0);

/// A frame that the gateway sent.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) source: Endpoint,
    pub(super) destination: Endpoint,
    pub(super) offload: Offload,
    pub(super) bytes: Vec<u8>,
}

/// A server whose guests' frames the tests write and read.
pub(super) struct Server {
    ring: Ring,
    fabric: Fabric,
    events: mpsc::Receiver<SessionEvent>,
    pub(super) received: Vec<Arrival>,
    started: Instant,
    _host: FabricHost,
}

struct Tell(Sender<SessionEvent>);

impl SessionListener for Tell {
    fn session(&self, event: SessionEvent) {
        let _ = self.0.send(event);
    }

    fn message(&self, _: PeerId, _: u8, _: &[u8]) {}

    fn hello(&self, _: PeerId, _: u64, _: Option<u64>) {}

    fn tick(&self, _: u64) -> Option<u64> {
        None
    }
}

impl Server {
    /// Starts in the namespace of the calling thread.
    pub(super) fn start(bed: &Bed) -> Self {
        let config = bed.config(1);
        let mut ring = Ring::new().unwrap();
        let settings = FabricHost::worker_config(&config, 0, FABRIC_TOKEN_KIND);
        let fabric = Fabric::new(&mut ring, &settings).unwrap();
        let (tell, events) = mpsc::channel();
        let host = FabricHost::start(&config, Box::new(Tell(tell)), Instant::now()).unwrap();
        let started = Instant::now();
        Self { ring, fabric, events, received: Vec::new(), started, _host: host }
    }

    pub(super) fn turn(&mut self) {
        let mut completions = Vec::new();
        self.ring.enter(Wait::AtMostUs(5_000), &mut completions).unwrap();
        let now_us = u64::try_from(self.started.elapsed().as_micros()).unwrap();
        while let Ok(event) = self.events.try_recv() {
            self.fabric.apply(event);
        }
        let Self { ring, fabric, received, .. } = self;
        let mut sink = |inbound: Inbound<'_>| {
            let mut bytes = vec![0; inbound.frame.frame_len()];
            inbound.frame.copy_at(0, &mut bytes);
            let (source, destination, frame) =
                (inbound.source(), inbound.destination(), inbound.frame);
            received.push(Arrival { source, destination, offload: frame.offload, bytes });
        };
        for completion in &completions {
            fabric.handle(ring, completion, now_us, &mut sink).unwrap();
        }
        fabric.tick(now_us, &mut sink);
        fabric.flush(ring, now_us).unwrap();
        let _ = fabric.outcomes().count();
    }

    pub(super) fn is_up(&self) -> bool {
        self.fabric.is_up(GATEWAY)
    }

    pub(super) fn wait_until_up(&mut self) {
        for _ in 0..2_000 {
            if self.is_up() {
                return;
            }
            self.turn();
        }
        panic!("no session with the gateway");
    }

    /// Sends a frame of the vNIC `from` to the first uplink.
    pub(super) fn send(&mut self, from: u64, bytes: &[u8]) {
        self.send_with(from, UPLINK, bytes, Offload::default()).unwrap();
    }

    pub(super) fn send_with(
        &mut self,
        from: u64,
        destination: Endpoint,
        bytes: &[u8],
        offload: Offload,
    ) -> Result<(), DropReason> {
        let block = Outbound {
            source: Endpoint::Vnic(vnic(from)),
            destination,
            offload,
            flow_hash: u32::from(bytes[35]) * 0x0101_0101,
            ecn: Ecn::NotEct,
            account: from,
            amount: Amount::frame(bytes.len(), 1),
        };
        self.fabric.send(GATEWAY, &block, &mut SliceSource::new(bytes), 0)?;
        self.turn();
        Ok(())
    }

    /// The next frame from the gateway.
    pub(super) fn receive(&mut self) -> Arrival {
        for _ in 0..2_000 {
            if !self.received.is_empty() {
                return self.received.remove(0);
            }
            self.turn();
        }
        panic!("nothing came from the gateway");
    }
}
