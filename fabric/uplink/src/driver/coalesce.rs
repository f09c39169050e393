//! The trains that a port has open: which waiting frame the next one of a flow is appended to.
//!
//! ```text
//!   waiting:  A ── B ── A' ── C         A' joined A: appended to A's bytes, booked with A
//!             ▲         │
//!   trains:   A  B  C   └ place 0       closed: headers rewritten, nobody follows any more
//! ```
//!
//! Order within a flow never changes: a frame that cannot follow its flow's train closes
//! it, and one whose flow cannot be told (fragments, ARP) closes all. Frames of different
//! flows may change places, as behind the kernel's own GRO.

use super::vlan;
use crate::{books::Owner, sys::VNET_LEN};
use wireonce_frame::{
    ETHERNET_HEADER_LEN, FrameRef, HEAD_LEN,
    coalesce::{Flow, JoinKind, Piece, Train},
};

/// Flows that are joined at a time; each frame is compared with so many. Sixteen flows that
/// take turns go 2.4 times as fast with 32 as with 8, which joins none of them; one flow goes
/// as fast with both.
const TRAINS_MAX: usize = 32;

/// What joining has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct JoinCounters {
    /// Frames that were appended to another one.
    pub(super) frames: u64,
    /// Frames that others were appended to.
    pub(super) trains: u64,
    /// Bytes of the headers of those that were appended.
    pub(super) header_bytes: u64,
    /// Times that the kernel refused a train, and its kind was switched off.
    pub(super) refused: u64,
}

/// The open trains of a port.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    trains: Vec<Open>,
    no_tcp: bool,
    no_udp: bool,
    pub(super) counters: JoinCounters,
}

#[derive(Debug)]
struct Open {
    key: Key,
    /// Which of the waiting frames it is.
    place: usize,
    train: Train,
}

/// Whose flow on which VLAN: what is not the same is never joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    hash: u32,
    owner: Owner,
    vlan: Option<u16>,
}

/// A frame that is about to be queued.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'f> {
    pub(super) flow: Option<Flow>,
    pub(super) owner: Owner,
    pub(super) vlan: Option<u16>,
    pub(super) frame: &'f FrameRef<'f>,
}

impl Arrival<'_> {
    fn key(&self, flow: Flow) -> Key {
        Key { hash: flow.hash, owner: self.owner, vlan: self.vlan }
    }
}

/// A waiting frame: its slot and its bytes, from the virtio-net header on.
pub(super) type Waiting = (u16, Vec<u8>);

/// Where the payload of an arriving frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    /// Behind this one of the waiting frames.
    pub(super) place: usize,
    /// Bytes of the arriving frame before its payload.
    pub(super) header_len: usize,
}

impl Coalescer {
    /// Where the arriving frame's payload is to be appended; `None`: queue it as it is, and
    /// then [`Self::open`] a train for it.
    pub(super) fn join(&mut self, arrival: &Arrival<'_>, waiting: &mut [Waiting]) -> Option<Seat> {
        if self.trains.is_empty() {
            return None;
        }
        let Some(flow) = arrival.flow else {
            self.close_all(waiting);
            return None;
        };
        let key = arrival.key(flow);
        let at = self.trains.iter().position(|open| open.key == key)?;
        let open = self.trains.get_mut(at)?;
        let seat = flow.piece.and_then(|piece| open.take(&piece, arrival, waiting));
        if let Some(seat) = seat {
            self.counters.frames += 1;
            self.counters.header_bytes += seat.header_len as u64;
            self.counters.trains += u64::from(open.train.segments() == 2);
        }
        if seat.is_none() || open.train.is_full() {
            self.trains.swap_remove(at).close(waiting);
        }
        seat
    }

    /// Opens a train for the frame that was queued at `place`, if others may follow it.
    pub(super) fn open(&mut self, arrival: &Arrival<'_>, place: usize, waiting: &mut [Waiting]) {
        let Some((flow, piece)) = arrival.flow.and_then(|flow| Some((flow, flow.piece?))) else {
            return;
        };
        if self.is_off(piece.kind()) {
            return;
        }
        let mut room = [0; HEAD_LEN];
        let Some(train) = Train::begin(&piece, arrival.frame.head(&mut room)) else { return };
        if self.trains.len() == TRAINS_MAX
            && let Some(oldest) = (0..TRAINS_MAX).min_by_key(|&at| self.trains[at].place)
        {
            self.trains.swap_remove(oldest).close(waiting);
        }
        self.trains.push(Open { key: arrival.key(flow), place, train });
    }

    /// Makes all trains ready to be sent. Nobody follows any more.
    pub(super) fn close_all(&mut self, waiting: &mut [Waiting]) {
        for open in self.trains.drain(..) {
            open.close(waiting);
        }
    }

    /// The kernel refused a train: none of its kind is made any more.
    pub(super) fn refuse(&mut self, kind: JoinKind) {
        // Several may have been under way.
        if self.is_off(kind) {
            return;
        }
        self.counters.refused += 1;
        match kind {
            JoinKind::Tcp => self.no_tcp = true,
            JoinKind::Udp => self.no_udp = true,
        }
    }

    fn is_off(&self, kind: JoinKind) -> bool {
        match kind {
            JoinKind::Tcp => self.no_tcp,
            JoinKind::Udp => self.no_udp,
        }
    }
}

impl Open {
    fn take(&mut self, piece: &Piece, arrival: &Arrival<'_>, waiting: &[Waiting]) -> Option<Seat> {
        let header_len = piece.header_len();
        let (_, bytes) = waiting.get(self.place)?;
        // The first frame has headers of the same length, or nobody follows it.
        let first = bytes.get(self.frame_at() + header_len..)?;
        let mut room = [0; HEAD_LEN];
        let head = arrival.frame.head(&mut room);
        let payload = arrival.frame.parts_from(header_len);
        let follows = self.train.follow(piece, head, payload, first);
        follows.then_some(Seat { place: self.place, header_len })
    }

    /// Rewrites the headers of what has become one frame. Those alone: the payload may
    /// still be on its way.
    fn close(self, waiting: &mut [Waiting]) {
        if self.train.segments() == 1 {
            return;
        }
        let packet_at = self.frame_at() + ETHERNET_HEADER_LEN;
        let Some((_, bytes)) = waiting.get_mut(self.place) else { return };
        let Some(packet) = bytes.get_mut(packet_at..) else { return };
        let mut vnet = self.train.finish(packet);
        if self.key.vlan.is_some() {
            vlan::shift_in(&mut vnet);
        }
        if let (Some(to), Some(header)) = (bytes.get_mut(..VNET_LEN), vnet.get(..VNET_LEN)) {
            to.copy_from_slice(header);
        }
    }

    /// Where the frame begins, less what its tag moves: its Ethernet header ends as far
    /// behind as that of an untagged one.
    fn frame_at(&self) -> usize {
        VNET_LEN + if self.key.vlan.is_some() { usize::from(vlan::TAG_LEN) } else { 0 }
    }
}
