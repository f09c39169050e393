//! Frames that wait for their vNIC's share of an uplink: by flow, round robin by bytes.
//!
//! ```text
//!   frame ─▶ flow 0 ═╗
//!            flow 1 ═╬═ a quantum each, then the next ─▶ bucket ─▶ link
//!            ...     ═╝
//! ```
//! One bulk flow does not delay the others by more than a quantum each. Bounded: who comes
//! when it is full makes room at the cost of the longest flow.

use crate::codel::Codel;
use std::collections::VecDeque;
use wireonce_frame::{Offload, ecn::Ecn, segment::WireCost};
use wireonce_ledger::Amount;

/// What a frame takes besides itself.
const OVERHEAD: usize = 128;
/// Flows that are kept apart; more share queues.
const FLOWS: usize = 32;
/// Bytes that a flow may send before the next has its turn: a frame of usual size.
const QUANTUM: i64 = 1_600;

/// A frame that waits.
#[derive(Debug)]
pub struct Held {
    /// The whole frame.
    pub bytes: Vec<u8>,
    /// Work left to the last hop.
    pub offload: Offload,
    /// Frames of one flow have one hash.
    pub flow_hash: u32,
    /// ECN field of its IP header, as it came.
    pub ecn: Ecn,
    /// As it is booked.
    pub amount: Amount,
    /// What it costs on the wire.
    pub cost: WireCost,
    /// When it began to wait, in microseconds.
    pub since_us: u64,
}

impl Held {
    /// Bytes of memory that a frame of `len` bytes takes while it waits.
    #[must_use]
    pub fn room_for(len: usize) -> usize {
        len + OVERHEAD
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn room(&self) -> usize {
        Self::room_for(self.bytes.len())
    }
}

#[derive(Debug, Default)]
struct Flow {
    frames: VecDeque<Held>,
    bytes: usize,
    /// Bytes that it may send in this turn; below zero what it sent in advance.
    credit: i64,
    codel: Codel,
}

/// The frames of one vNIC.
#[derive(Debug)]
pub struct Queue {
    bytes_max: usize,
    flows: Vec<Flow>,
    turn: usize,
    bytes: usize,
    frames: usize,
}

impl Queue {
    /// An empty one for so many bytes, those included that [`Held::room_for`] adds.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let flows = std::iter::repeat_with(Flow::default).take(FLOWS).collect();
        Self { bytes_max, flows, turn: 0, bytes: 0, frames: 0 }
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// What waits, in bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Flows with frames that wait.
    #[must_use]
    pub fn active_flows(&self) -> usize {
        self.flows.iter().filter(|flow| !flow.frames.is_empty()).count()
    }

    /// True if a frame of `len` bytes has room. One has always room in an empty queue.
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        self.frames == 0 || self.has_room_beyond(len, 0)
    }

    /// True if a frame of `len` bytes has room in a queue that is `beyond` bytes larger.
    #[must_use]
    pub fn has_room_beyond(&self, len: usize, beyond: usize) -> bool {
        self.bytes + Held::room_for(len) <= self.bytes_max + beyond
    }

    /// True while so little waits that who was stopped may go on.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.bytes <= self.bytes_max / 2
    }

    /// Queues a frame, whether it has room or not.
    pub fn push(&mut self, frame: Held) {
        let at = frame.flow_hash as usize % FLOWS;
        let Some(flow) = self.flows.get_mut(at) else { return };
        self.bytes += frame.room();
        self.frames += 1;
        flow.bytes += frame.room();
        flow.frames.push_back(frame);
    }

    /// The next frame to send, which stays.
    pub fn front(&mut self) -> Option<&mut Held> {
        if self.frames == 0 {
            return None;
        }
        // Ends: each round gives a quantum to a flow that has a frame.
        loop {
            let flow = self.flows.get_mut(self.turn)?;
            if !flow.frames.is_empty() && flow.credit > 0 {
                break;
            }
            if flow.frames.len() == self.frames {
                // Nobody else waits, so nobody is to have a turn.
                flow.credit = QUANTUM;
                break;
            }
            // A flow that has nothing saves nothing.
            flow.credit = if flow.frames.is_empty() { 0 } else { flow.credit + QUANTUM };
            if flow.credit <= 0 {
                self.turn = (self.turn + 1) % FLOWS;
            }
        }
        self.flows.get_mut(self.turn)?.frames.front_mut()
    }

    /// Takes the frame that [`Self::front`] showed.
    pub fn pop(&mut self) -> Option<Held> {
        let at = self.turn;
        let frame = self.take_first(at)?;
        if let Some(flow) = self.flows.get_mut(at) {
            flow.credit -= i64::try_from(frame.bytes.len()).unwrap_or(i64::MAX / 2);
            if flow.credit <= 0 {
                self.turn = (at + 1) % FLOWS;
            }
        }
        Some(frame)
    }

    /// Is the frame that [`Self::front`] showed to be dropped, because its flow does not slow
    /// down?
    pub fn front_is_late(&mut self, now_us: u64) -> bool {
        let Some(flow) = self.flows.get_mut(self.turn) else { return false };
        let Some(front) = flow.frames.front() else { return false };
        let waited_us = now_us.saturating_sub(front.since_us);
        flow.codel.drops(waited_us, flow.frames.len() == 1, now_us)
    }

    /// Takes the first frame of the longest flow, to make room.
    pub fn evict(&mut self) -> Option<Held> {
        let flows = self.flows.iter().enumerate();
        let (longest, _) = flows.max_by_key(|(_, flow)| flow.bytes)?;
        self.take_first(longest)
    }

    fn take_first(&mut self, at: usize) -> Option<Held> {
        let flow = self.flows.get_mut(at)?;
        let frame = flow.frames.pop_front()?;
        flow.bytes -= frame.room();
        self.bytes -= frame.room();
        self.frames -= 1;
        Some(frame)
    }
}
