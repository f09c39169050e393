//! Frames that stay in this process: from one port to another.
//!
//! They are copied out of the sender's memory into an arena while the sender has
//! its turn, and delivered right after it, so that no two guests' rings are ever
//! open at the same time.

use wireonce_frame::Offload;
use wireonce_wire::VnicId;

/// Bytes that a turn may collect before it has to end.
const ARENA_LEN: usize = 1 << 20;

/// A frame by itself, for another worker.
#[derive(Debug)]
pub(crate) struct LocalFrame {
    /// The port that gets it.
    pub(crate) to: VnicId,
    /// Work that is still to be done.
    pub(crate) offload: Offload,
    /// The frame.
    pub(crate) bytes: Vec<u8>,
}

/// A frame in the arena.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parked {
    pub(super) to: VnicId,
    pub(super) offload: Offload,
    start: usize,
    end: usize,
}

/// Frames of one turn.
#[derive(Debug, Default)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    frames: Vec<Parked>,
}

impl Arena {
    /// True while another frame has room.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < ARENA_LEN
    }

    /// Room for a frame of `len` bytes, to be filled by the caller and then sent with
    /// [`Self::park`].
    pub(super) fn reserve(&mut self, len: usize) -> (usize, &mut [u8]) {
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        (start, &mut self.bytes[start..])
    }

    /// Sends the reserved frame that starts at `start` to a port.
    pub(super) fn park(&mut self, to: VnicId, offload: Offload, start: usize) {
        let end = self.bytes.len();
        self.frames.push(Parked { to, offload, start, end });
    }

    /// Hands every frame to `each` and empties the arena.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Parked, &[u8])) {
        for frame in self.frames.drain(..) {
            each(frame, self.bytes.get(frame.start..frame.end).unwrap_or_default());
        }
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_and_in_order() {
        let mut arena = Arena::default();
        let to = VnicId::new(7).unwrap();
        for byte in 1..=3_u8 {
            let (start, room) = arena.reserve(usize::from(byte) * 10);
            room.fill(byte);
            arena.park(to, Offload::default(), start);
        }
        let mut seen = Vec::new();
        arena.drain(|_, bytes| seen.push((bytes.len(), bytes[0])));
        assert_eq!(seen, [(10, 1), (20, 2), (30, 3)]);
        arena.drain(|_, _| panic!("the arena is empty"));
    }
}
