//! Frames that wait for buffers of a guest.
//!
//! ```text
//!   frame ─▶ nobody waits, and the ring has a buffer ──────────────▶ ring
//!        └─▶ lane of its sender ═╗
//!            lane of its sender ═╬═ round robin by bytes ─▶ ring, when the guest has posted more
//!            lane of its sender ═╝
//! ```
//! Frames come in bursts longer than a ring: those that a peer sent while the kernel ran
//! others on our processor. What was paid for, by the sender, the fabric, the keys, is
//! better copied once more than dropped.
//!
//! A guest's ring is shared by all who send to it. If it cannot keep up, somebody's frames
//! are dropped: of the lane that has most. So who floods a guest loses his own frames, and
//! others who send it a little lose none and wait for one round of the lanes.
//!
//! Bounded: [`BYTES_MAX`] for a ring, and if the guest posts nothing for [`STALL_US`], all
//! is dropped and nothing waits until it does.

use std::collections::VecDeque;
use wireonce_frame::{FrameRef, Offload};
use wireonce_ledger::Amount;

/// Bytes that wait for one ring, [`OVERHEAD`] for each frame included.
const BYTES_MAX: usize = 256 << 10;
/// What a frame takes besides itself.
const OVERHEAD: usize = 32;
/// Senders whose frames are kept apart; more share lanes.
const LANES: usize = 16;
/// Bytes that a lane may send before the next has its turn.
const QUANTUM: i64 = 2_048;
/// Frames that make room for one that comes.
const EVICTIONS_MAX: usize = 32;
/// A guest that posts no buffer for so long is not waited for.
const STALL_US: u64 = 5_000;
/// Memory in front of a lane's first frame that is not worth reclaiming.
const SLACK: usize = 16 << 10;

/// The frames that wait for one ring.
#[derive(Debug)]
pub(super) struct Waiting {
    lanes: [Lane; LANES],
    bytes: usize,
    /// The lane whose turn it is.
    turn: usize,
    /// When the guest last had a buffer, or the first frame began to wait.
    since_us: u64,
}

/// The frames of one sender, or of a few.
#[derive(Debug, Default)]
struct Lane {
    frames: VecDeque<Held>,
    data: Vec<u8>,
    /// Where in `data` the first frame starts.
    start: usize,
    /// What is booked for its frames.
    bytes: usize,
    /// Bytes that it may still send in its turn; below zero what a large frame overdrew.
    credit: i64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    offload: Offload,
    amount: Amount,
    len: usize,
}

/// A frame whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offload: Offload,
    pub(super) amount: Amount,
}

impl Waiting {
    pub(super) fn new(now_us: u64) -> Self {
        Self { lanes: Default::default(), bytes: 0, turn: 0, since_us: now_us }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Copies `frame`, whose first bytes are `head`, behind those of the same sender. Frames
    /// that are dropped for want of room go to `lost`: this one, or others in its place.
    pub(super) fn push(
        &mut self,
        frame: &FrameRef<'_>,
        head: &[u8],
        amount: Amount,
        mut lost: impl FnMut(Amount),
    ) {
        let own = lane_of(head);
        let size = frame.frame_len() + OVERHEAD;
        let mut evictions = 0;
        while self.bytes + size > BYTES_MAX {
            let longest = (0..LANES).max_by_key(|lane| self.lanes[*lane].bytes).unwrap_or(own);
            let is_own = self.lanes[longest].bytes <= self.lanes[own].bytes + size;
            if is_own || evictions == EVICTIONS_MAX {
                return lost(amount);
            }
            let Some(gone) = self.lanes[longest].pop_back() else { return lost(amount) };
            self.bytes -= gone.len + OVERHEAD;
            lost(gone.amount);
            evictions += 1;
        }
        self.bytes += size;
        self.lanes[own].push(frame, amount);
    }

    /// The frame whose turn it is; it stays until [`Self::pop`].
    pub(super) fn front(&mut self) -> Option<Next<'_>> {
        if self.is_empty() {
            return None;
        }
        // Ends: some lane has frames, and earns credit each time it is passed.
        while self.lanes[self.turn].frames.is_empty() || self.lanes[self.turn].credit <= 0 {
            self.turn = (self.turn + 1) % LANES;
            let lane = &mut self.lanes[self.turn];
            lane.credit = if lane.frames.is_empty() { 0 } else { lane.credit + QUANTUM };
        }
        let lane = &self.lanes[self.turn];
        let held = lane.frames.front()?;
        let bytes = lane.data.get(lane.start..lane.start + held.len)?;
        Some(Next { bytes, offload: held.offload, amount: held.amount })
    }

    /// The guest has the frame of [`Self::front`], or it is dropped.
    pub(super) fn pop(&mut self, now_us: u64) {
        self.since_us = now_us;
        if let Some(gone) = self.lanes[self.turn].pop_front() {
            self.bytes -= gone.len + OVERHEAD;
        }
    }

    /// Whether the guest has posted nothing for too long.
    pub(super) fn is_stalled(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.since_us) >= STALL_US
    }

    /// All that waits.
    pub(super) fn amount(&self) -> Amount {
        let mut all = Amount::ZERO;
        for held in self.lanes.iter().flat_map(|lane| &lane.frames) {
            all += held.amount;
        }
        all
    }
}

impl Lane {
    fn push(&mut self, frame: &FrameRef<'_>, amount: Amount) {
        let len = frame.frame_len();
        for part in frame.parts() {
            self.data.extend_from_slice(part);
        }
        self.frames.push_back(Held { offload: frame.offload, amount, len });
        self.bytes += len + OVERHEAD;
    }

    fn pop_front(&mut self) -> Option<Held> {
        let gone = self.frames.pop_front()?;
        self.bytes -= gone.len + OVERHEAD;
        self.credit -= i64::try_from(gone.len).unwrap_or(QUANTUM);
        self.start += gone.len;
        if self.start == self.data.len() {
            self.data.clear();
            self.start = 0;
        } else if self.start > SLACK && self.start > self.data.len() / 2 {
            self.data.drain(..self.start);
            self.start = 0;
        }
        Some(gone)
    }

    fn pop_back(&mut self) -> Option<Held> {
        let gone = self.frames.pop_back()?;
        self.bytes -= gone.len + OVERHEAD;
        self.data.truncate(self.data.len() - gone.len);
        Some(gone)
    }
}

/// By the sender's MAC address, which the guard of its port vouches for.
fn lane_of(head: &[u8]) -> usize {
    let mac = head.get(6..12).unwrap_or_default();
    let number = mac.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
    usize::try_from(mixed).unwrap_or(0) % LANES
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: u8 = 1;
    const OTHER: u8 = 3;

    fn frame_of(sender: u8, len: usize) -> Vec<u8> {
        let mut frame = vec![sender; len];
        frame[..6].fill(0xff);
        frame
    }

    /// Pushes and returns how many frames were lost, by sender's byte unknown: in all.
    fn push(waiting: &mut Waiting, frame: &[u8]) -> u64 {
        let parts = [frame];
        let frame = FrameRef::new(&parts, Offload::default());
        let mut lost = 0;
        let amount = Amount::frame(parts[0].len(), 1);
        waiting.push(&frame, parts[0], amount, |amount| lost += amount.frames);
        lost
    }

    fn take(waiting: &mut Waiting) -> Option<(u8, usize)> {
        let next = waiting.front().map(|next| (next.bytes[11], next.bytes.len()));
        waiting.pop(0);
        next
    }

    #[test]
    fn frames_of_a_sender_stay_whole_and_in_order() {
        let mut waiting = Waiting::new(0);
        for len in 20..400 {
            assert_eq!(push(&mut waiting, &frame_of(FLOOD, len)), 0);
        }
        assert_eq!(waiting.amount().frames, 380);
        for len in 20..400 {
            assert_eq!(take(&mut waiting), Some((FLOOD, len)));
        }
        assert!(waiting.is_empty() && waiting.front().is_none());
    }

    #[test]
    fn a_flood_loses_its_own_frames_and_others_none() {
        assert_ne!(lane_of(&frame_of(FLOOD, 60)), lane_of(&frame_of(OTHER, 60)));
        let mut waiting = Waiting::new(0);
        let mut flooded = 0;
        while push(&mut waiting, &frame_of(FLOOD, 60)) == 0 {
            flooded += 1;
        }
        assert_eq!(flooded, BYTES_MAX / (60 + OVERHEAD));
        // Room is made by frames of the flood.
        assert!(push(&mut waiting, &frame_of(OTHER, 1_450)) > 10);
        assert_eq!(push(&mut waiting, &frame_of(FLOOD, 60)), 1, "and not by those of the other");
        let at = (0..100).find(|_| take(&mut waiting) == Some((OTHER, 1_450)));
        assert!(at.is_some(), "its turn comes after one of the flood's");
    }

    #[test]
    fn senders_have_the_same_share_in_bytes() {
        let mut waiting = Waiting::new(0);
        for _ in 0..60 {
            push(&mut waiting, &frame_of(FLOOD, 1_500));
        }
        for _ in 0..1_000 {
            push(&mut waiting, &frame_of(OTHER, 100));
        }
        let mut bytes = [0_usize; 4];
        for _ in 0..400 {
            let (sender, len) = take(&mut waiting).unwrap();
            bytes[usize::from(sender)] += len;
        }
        let [_, flood, _, other] = bytes;
        assert!(flood.abs_diff(other) <= 5_000, "{flood} {other}");
    }

    #[test]
    fn what_is_booked_is_what_waits() {
        let mut waiting = Waiting::new(0);
        let mut random = 1_u64;
        let (mut came, mut lost, mut went) = (0, 0, 0);
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let sender = u8::try_from(random >> 33 & 7).unwrap();
            let len = 14 + usize::try_from((random >> 40) % 9_000).unwrap();
            if random >> 63 == 0 || random >> 62 & 1 == 1 {
                came += 1;
                lost += push(&mut waiting, &frame_of(sender, len));
            } else {
                went += u64::from(take(&mut waiting).is_some());
            }
            assert!(waiting.bytes <= BYTES_MAX);
            assert_eq!(waiting.bytes, waiting.lanes.iter().map(|lane| lane.bytes).sum::<usize>());
        }
        assert!(lost > 0 && went > 0);
        assert_eq!(came, lost + went + waiting.amount().frames);
    }

    #[test]
    fn a_guest_that_takes_nothing_is_given_up() {
        let mut waiting = Waiting::new(100);
        push(&mut waiting, &frame_of(FLOOD, 60));
        push(&mut waiting, &frame_of(FLOOD, 60));
        assert!(!waiting.is_stalled(100 + STALL_US - 1) && waiting.is_stalled(100 + STALL_US));
        waiting.front();
        waiting.pop(4_000);
        assert!(!waiting.is_stalled(4_000 + STALL_US - 1));
    }
}
