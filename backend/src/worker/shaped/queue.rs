//! Frames that wait for their vNIC's share of an uplink: by flow, round robin by bytes.
//!
//! ```text
//!   frame ─▶ flow 0 ═╗
//!            flow 1 ═╬═ a quantum each, then the next ─▶ bucket ─▶ link
//!            ...     ═╝
//! ```
//! One bulk flow does not delay the others by more than a quantum each. Bounded: who comes
//! when it is full makes room at the cost of the longest flow.

use super::codel::Codel;
use std::collections::VecDeque;
use wireonce_frame::{Offload, ecn::Ecn, segment::WireCost};
use wireonce_ledger::Amount;

/// Bytes that may wait for one vNIC's share, [`OVERHEAD`] for each frame included.
pub(super) const BYTES_MAX: usize = 256 << 10;
/// Beyond that, for copies of broadcasts, which are few and small.
const COPIES_MAX: usize = 16 << 10;
/// What a frame takes besides itself.
const OVERHEAD: usize = 128;
/// Flows that are kept apart; more share queues.
const FLOWS: usize = 32;
/// Bytes that a flow may send before the next has its turn: a frame of usual size.
const QUANTUM: i64 = 1_600;

/// A frame that waits.
#[derive(Debug)]
pub(in crate::worker) struct Held {
    pub(in crate::worker) bytes: Vec<u8>,
    pub(in crate::worker) offload: Offload,
    pub(in crate::worker) flow_hash: u32,
    pub(in crate::worker) ecn: Ecn,
    pub(in crate::worker) amount: Amount,
    pub(in crate::worker) cost: WireCost,
    /// When it began to wait.
    pub(in crate::worker) since_us: u64,
}

impl Held {
    fn room(&self) -> usize {
        self.bytes.len() + OVERHEAD
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
pub(super) struct Queue {
    flows: Vec<Flow>,
    turn: usize,
    bytes: usize,
    frames: usize,
}

impl Queue {
    pub(super) fn new() -> Self {
        let flows = std::iter::repeat_with(Flow::default).take(FLOWS).collect();
        Self { flows, turn: 0, bytes: 0, frames: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if a frame of `len` bytes has room. One has always room in an empty queue.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.frames == 0 || self.bytes + len + OVERHEAD <= BYTES_MAX
    }

    /// True if a copy of a broadcast of `len` bytes has room, in a queue that may be full.
    pub(super) fn has_room_for_copy(&self, len: usize) -> bool {
        self.bytes + len + OVERHEAD <= BYTES_MAX + COPIES_MAX
    }

    /// True while so little waits that a guest that was stopped may go on.
    pub(super) fn is_low(&self) -> bool {
        self.bytes <= BYTES_MAX / 2
    }

    pub(super) fn push(&mut self, frame: Held) {
        let at = frame.flow_hash as usize % FLOWS;
        let Some(flow) = self.flows.get_mut(at) else { return };
        self.bytes += frame.room();
        self.frames += 1;
        flow.bytes += frame.room();
        flow.frames.push_back(frame);
    }

    /// The next frame to send, which stays.
    pub(super) fn front(&mut self) -> Option<&mut Held> {
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
    pub(super) fn pop(&mut self) -> Option<Held> {
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
    pub(super) fn front_is_late(&mut self, now_us: u64) -> bool {
        let Some(flow) = self.flows.get_mut(self.turn) else { return false };
        let Some(front) = flow.frames.front() else { return false };
        let waited_us = now_us.saturating_sub(front.since_us);
        flow.codel.drops(waited_us, flow.frames.len() == 1, now_us)
    }

    /// Takes the first frame of the longest flow, to make room.
    pub(super) fn evict(&mut self) -> Option<Held> {
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
