//! Who leaves first when the port is full: servers by what they were promised.
//!
//! ```text
//!   frame ─▶ policed ─▶ the port has room ────────────────────────────────▶ port
//!                   └─▶ its server's queue ─▶ within what it has reserved ─▶ port, as it gets room
//!                                         └─▶ the others: deficit round robin ─▶
//! ```
//! It is there for an uplink that carries less than its `up` says. Leases hold servers to their
//! parts of `up`; here they get the same parts of what the port really takes, and what they have
//! reserved before all the rest. Only a port that is shaped has queues, and only while it is full.
//! What has no room is dropped from the server that has the most waiting for what it was promised.

use crate::{driver::Booking, forward::Out, shares::Police};
use std::collections::VecDeque;
use wireonce_frame::{FrameRef, Offload};
use wireonce_link::PeerId;

/// Bytes that may wait for one port of a worker, [`OVERHEAD`] for each frame included.
const BYTES_MAX: usize = 4 << 20;
/// What a frame takes besides itself.
const OVERHEAD: usize = 128;
/// Bytes that all servers together may send in a round.
const ROUND: u128 = 128 << 10;
/// Bytes that a server may at least: who was promised nothing starves not.
const QUANTUM_MIN: i64 = 64;

/// A frame that waits for the port.
#[derive(Debug)]
pub(super) struct Leaving {
    bytes: Vec<u8>,
    offload: Offload,
    pub(super) out: Out,
    pub(super) booking: Booking,
}

/// The frames that wait for one port.
#[derive(Debug, Default)]
pub(super) struct Egress {
    servers: Vec<Server>,
    turn: usize,
    /// Whose reservation is looked at first.
    first: usize,
    bytes: usize,
}

/// Those of one server. It is there while any wait.
#[derive(Debug)]
struct Server {
    peer: PeerId,
    frames: VecDeque<Leaving>,
    bytes: usize,
    /// Bytes that it may send in this turn; below zero what it sent in advance.
    credit: i64,
}

impl Leaving {
    pub(super) fn new(frame: &FrameRef<'_>, out: Out, booking: Booking) -> Self {
        let mut bytes = Vec::with_capacity(frame.frame_len());
        frame.parts_from(0).for_each(|part| bytes.extend_from_slice(part));
        Self { bytes, offload: frame.offload, out, booking }
    }

    /// Hands the frame to `use_frame`.
    pub(super) fn with_frame<R>(&self, use_frame: impl FnOnce(&FrameRef<'_>) -> R) -> R {
        let parts = [&self.bytes[..]];
        use_frame(&FrameRef::new(&parts, self.offload))
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn room(&self) -> usize {
        self.len() + OVERHEAD
    }
}

impl Egress {
    pub(super) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Queues a frame of `peer`. What has no room goes to `dropped`.
    pub(super) fn push(
        &mut self,
        peer: PeerId,
        frame: Leaving,
        police: Option<&Police>,
        dropped: &mut impl FnMut(Leaving),
    ) {
        self.bytes += frame.room();
        let server = match self.servers.iter_mut().find(|server| server.peer == peer) {
            Some(server) => server,
            None => {
                let (frames, bytes, credit) = (VecDeque::new(), 0, 0);
                self.servers.push(Server { peer, frames, bytes, credit });
                let Some(last) = self.servers.last_mut() else { return };
                last
            }
        };
        server.bytes += frame.room();
        server.frames.push_back(frame);
        while self.bytes > BYTES_MAX
            && let Some(longest) = self.longest(police)
            && let Some(frame) = self.take_from(longest)
        {
            dropped(frame);
        }
    }

    /// The next frame that goes, if `has_room` for it. `police` counts what is reserved.
    pub(super) fn next(
        &mut self,
        police: Option<&Police>,
        now_us: u64,
        has_room: impl Fn(&Leaving) -> bool,
    ) -> Option<Leaving> {
        let count = self.servers.len();
        if !self.servers.iter().all(|server| server.frames.front().is_some_and(&has_room)) {
            // Nobody is overtaken because his frame is the larger one.
            return None;
        }
        self.first = self.first.wrapping_add(1);
        for step in 0..count {
            let at = self.first.wrapping_add(step) % count;
            let server = self.servers.get(at)?;
            let bits = server.frames.front()?.out.cost.bits();
            if police.is_some_and(|it| it.is_reserved(server.peer, bits, now_us)) {
                return self.take_from(at);
            }
        }
        let all: u128 = self.servers.iter().map(|server| promised_bps(police, server)).sum();
        // Ends: each round gives a quantum to each.
        loop {
            self.turn %= count.max(1);
            let server = self.servers.get_mut(self.turn)?;
            if server.credit > 0 {
                break;
            }
            let part = promised_bps(police, server) * ROUND;
            let part = part.checked_div(all).and_then(|part| i64::try_from(part).ok());
            server.credit += part.unwrap_or(0).max(QUANTUM_MIN);
            if server.credit <= 0 {
                self.turn += 1;
            }
        }
        let at = self.turn;
        let server = self.servers.get_mut(at)?;
        let len = server.frames.front().map_or(0, Leaving::len);
        server.credit -= i64::try_from(len).unwrap_or(i64::MAX / 2);
        if server.credit <= 0 {
            self.turn += 1;
        }
        self.take_from(at)
    }

    /// The port ends: all that waits, in no order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Leaving> {
        self.bytes = 0;
        self.servers.drain(..).flat_map(|server| server.frames)
    }

    /// The server with the most bytes for what it was promised.
    fn longest(&self, police: Option<&Police>) -> Option<usize> {
        let load = |server: &Server| {
            let promised = promised_bps(police, server).max(1);
            (server.bytes as u128) * (1 << 64) / promised
        };
        let servers = self.servers.iter().enumerate();
        servers.max_by_key(|(_, server)| load(server)).map(|(at, _)| at)
    }

    fn take_from(&mut self, at: usize) -> Option<Leaving> {
        let server = self.servers.get_mut(at)?;
        let frame = server.frames.pop_front()?;
        server.bytes -= frame.room();
        self.bytes -= frame.room();
        if server.frames.is_empty() {
            self.servers.remove(at);
            if self.turn > at {
                self.turn -= 1;
            }
        }
        Some(frame)
    }
}

/// Without police, since a moment ago, all are alike.
fn promised_bps(police: Option<&Police>, server: &Server) -> u128 {
    police.map_or(1, |police| police.promised_bps(server.peer).into())
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
