//! Copies of datagrams that came before the one that is due.
//!
//! ```text
//!   edge                                  at most 256 datagrams
//!    |    hole      held     hole  held   and 512 KB of buffers
//!    v  . . . . . [41][42]  . . . [45]
//! ```
//!
//! The buffers of datagrams that were taken out are used again; together with
//! those in use they never exceed the bound, whatever sizes the peer sends.

use crate::Datagram;
use std::collections::VecDeque;

/// Datagrams beyond a hole that make it final: a datagram that takes another way comes some
/// 0.2 ms late, and at 10 Gb/s so many come meanwhile.
pub const HELD_DATAGRAMS_MAX: usize = 256;

/// Bytes of buffers for held datagrams, used and spare.
pub const HELD_BYTES_MAX: usize = 512 * 1024;

/// One held datagram. `buffer` may be longer than the payload.
#[derive(Debug)]
pub(crate) struct Copied {
    packet_number: u64,
    first_block: u16,
    arrived_us: u64,
    buffer: Box<[u8]>,
    len: usize,
}

impl Copied {
    pub(crate) fn datagram(&self) -> Datagram<'_> {
        Datagram {
            packet_number: self.packet_number,
            first_block: self.first_block,
            payload: self.buffer.get(..self.len).unwrap_or_default(),
        }
    }
}

/// What became of a datagram that was to be held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It is held.
    Held,
    /// One with its number is held already.
    Duplicate,
    /// There is no room for it.
    NoRoom,
}

/// The held datagrams of one path, by packet number.
#[derive(Debug, Default)]
pub(crate) struct Held {
    copies: VecDeque<Copied>,
    spare: Vec<Box<[u8]>>,
    /// Bytes of all buffers, in `copies` and in `spare`.
    bytes: usize,
}

impl Held {
    pub(crate) fn len(&self) -> usize {
        self.copies.len()
    }

    /// Bytes of all buffers, used and spare.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The lowest packet number held.
    pub(crate) fn first(&self) -> Option<u64> {
        self.copies.front().map(|copied| copied.packet_number)
    }

    /// When the first of the held datagrams came: since then the lowest hole is known.
    pub(crate) fn oldest_us(&self) -> Option<u64> {
        self.copies.iter().map(|copied| copied.arrived_us).min()
    }

    /// Copies `datagram`, if there is room.
    pub(crate) fn hold(&mut self, datagram: &Datagram<'_>, now_us: u64) -> Hold {
        let packet_number = datagram.packet_number;
        let at = match self.copies.binary_search_by_key(&packet_number, |c| c.packet_number) {
            Ok(_) => return Hold::Duplicate,
            Err(at) => at,
        };
        if self.copies.len() >= HELD_DATAGRAMS_MAX {
            return Hold::NoRoom;
        }
        let len = datagram.payload.len();
        let Some(mut buffer) = self.buffer(len) else { return Hold::NoRoom };
        if let Some(room) = buffer.get_mut(..len) {
            room.copy_from_slice(datagram.payload);
        }
        let first_block = datagram.first_block;
        let copied = Copied { packet_number, first_block, arrived_us: now_us, buffer, len };
        self.copies.insert(at, copied);
        Hold::Held
    }

    /// Takes out the datagram with `packet_number`, if it is the lowest one.
    pub(crate) fn take(&mut self, packet_number: u64) -> Option<Copied> {
        if self.first()? == packet_number { self.copies.pop_front() } else { None }
    }

    /// Keeps the buffer of a datagram that was taken out for the next one.
    pub(crate) fn recycle(&mut self, copied: Copied) {
        self.spare.push(copied.buffer);
    }

    /// Frees the spare buffers.
    pub(crate) fn shrink(&mut self) {
        self.spare = Vec::new();
        self.bytes = self.copies.iter().map(|copied| copied.buffer.len()).sum();
        self.copies.shrink_to_fit();
    }

    /// A buffer of at least `len` bytes: a spare one, or a new one if the bound allows it.
    fn buffer(&mut self, len: usize) -> Option<Box<[u8]>> {
        if let Some(buffer) = self.spare.pop() {
            if buffer.len() >= len {
                return Some(buffer);
            }
            self.bytes -= buffer.len();
        }
        while self.bytes + len > HELD_BYTES_MAX {
            self.bytes -= self.spare.pop()?.len();
        }
        self.bytes += len;
        Some(vec![0; len].into_boxed_slice())
    }
}
