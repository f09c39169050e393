//! Datagrams into frames.
//!
//! Datagrams are parsed strictly in the order of their packet numbers, all of
//! them below [`Unpacker::edge`] being done with. In the common case the run that
//! one receive call brought starts at the edge and has no hole, and each frame
//! is handed over as a gather list into the run itself:
//!
//! ```text
//!  run       |H A  B . . .|H . . . . . |H . B C D . .|
//!  sink(A)       ^
//!  sink(B)         ^-----^  ^---------^  ^--^            3 parts, no copy
//!  lent or kept                                 ^----^   D goes on in the next run
//! ```
//!
//! - A frame that the run does not finish is *lent* by the caller, who leaves the
//!   bytes where they are and brings them again with the next run
//!   ([`Unpacker::feed_lent`]), or *kept*: copied to the one buffer for that.
//! - Datagrams beyond a hole are copied and *held* until the hole is filled, or
//!   final: 256 datagrams or 512 KB beyond it have come, or 1 ms has passed, or less
//!   (see [`patience`]). Then the edge moves on. A large TCP segment goes on behind
//!   the hole, and what came of it is handed over in smaller ones (see [`torn`]); any
//!   other kept frame is given up, and parsing goes on at the next datagram's first
//!   block.
//! - What contradicts itself costs the peer its own frames and nothing else: the
//!   kept frame is dropped, the same search follows.
//!
//! One unpacker holds at most [`UNPACKER_BUFFERS_MAX`] bytes in buffers; an idle
//! one that was shrunk has none.

mod patience;
mod torn;

use crate::{
    BLOCK_HEADER_LEN, BlockError, BlockHeader, HELD_BYTES_MAX, HELD_DATAGRAMS_MAX, NO_BLOCK,
    block::len_usize,
    held::{Held, Hold},
};
use patience::Patience;
use std::{mem, slice};
use torn::Hole;
use wireonce_frame::FRAME_LEN_MAX;

pub use patience::{HOLE_AGE_MIN_US, HOLE_AGE_US};
pub use torn::HOLES_MAX;

/// Most parts of a gather list. A UDP_GRO receive has at most 64 datagrams, and
/// one part may be kept from the run before; a frame with more parts is copied.
pub const GATHER_PARTS_MAX: usize = 66;

/// Most bytes that the buffers of one [`Unpacker`] take: one kept frame, and the
/// held datagrams.
pub const UNPACKER_BUFFERS_MAX: usize = FRAME_LEN_MAX + HELD_BYTES_MAX;

/// One authenticated datagram of a receive buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'b> {
    /// The packet number in its header.
    pub packet_number: u64,
    /// The offset of the first block in its header.
    pub first_block: u16,
    /// The payload in clear text, without header and tag.
    pub payload: &'b [u8],
}

/// What an [`Unpacker`] has seen since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnpackStats {
    /// Blocks handed over.
    pub blocks: u64,
    /// Block headers that are none.
    pub bad_blocks: u64,
    /// Datagrams whose first block is not where the one before said.
    pub bad_offsets: u64,
    /// Frames given up after their start had come.
    pub broken_frames: u64,
    /// Frames of which a part was lost and others were handed over.
    pub torn_frames: u64,
    /// The frames that these parts became; they are blocks, too.
    pub salvaged_frames: u64,
    /// Wire segments in them.
    pub salvaged_segments: u64,
    /// Wire segments of torn frames that were lost.
    pub lost_segments: u64,
    /// Datagrams that were copied because they came early.
    pub held_datagrams: u64,
    /// Datagrams that were given up.
    pub lost_datagrams: u64,
    /// Times that parsing began anew at a datagram's first block.
    pub resyncs: u64,
    /// Datagrams ignored: below the edge when their turn came, or held already.
    pub late: u64,
}

/// Unpacks the datagrams of one path of one worker of one peer.
#[derive(Debug)]
pub struct Unpacker {
    edge: u64,
    /// False after a loss or an error, until a first block is found.
    in_step: bool,
    /// The block that goes on in the datagram at the edge; its bytes so far are
    /// in `kept`, or with the caller. Nothing is held while the caller has them.
    pending: Option<Pending>,
    kept: Vec<u8>,
    /// What is lost of that block, in order, at most [`HOLES_MAX`].
    holes: Vec<Hole>,
    held: Held,
    patience: Patience,
    stats: UnpackStats,
}

/// A block whose end has not come yet.
#[derive(Debug, Clone, Copy)]
struct Pending {
    header: BlockHeader,
    /// Bytes still to come; never 0.
    need: usize,
    /// Payload bytes of the datagram that it starts in.
    datagram_len: usize,
    /// Where its bytes so far are, if not in `kept`.
    lent: Option<Lent>,
}

/// Bytes of a block that are in datagrams which the caller still has.
#[derive(Debug, Clone, Copy)]
struct Lent {
    /// The last so many datagrams of those that were fed.
    datagrams: usize,
    /// Offset of the block's payload in the first of them.
    offset: usize,
}

/// Where the first bytes of a block are that crosses a datagram's end.
#[derive(Clone, Copy)]
enum Head<'r, 'b> {
    /// In these datagrams, from an offset in the first of them on.
    At(&'r [Datagram<'b>], usize),
    /// In `kept`.
    Kept,
}

impl<'r, 'b> Head<'r, 'b> {
    /// The parts that are not in `kept`.
    fn parts(self) -> impl Iterator<Item = &'b [u8]> + use<'r, 'b> {
        let (datagrams, mut offset) = match self {
            Self::At(datagrams, offset) => (datagrams, offset),
            Self::Kept => (&[][..], 0),
        };
        let from = move |datagram: &Datagram<'b>| {
            datagram.payload.get(mem::take(&mut offset)..).unwrap_or_default()
        };
        datagrams.iter().map(from)
    }
}

/// A datagram and the offset in it at which a block header may start.
type Place<'r, 'b> = (&'r Datagram<'b>, usize);

impl Unpacker {
    /// An unpacker that waits for `first_packet_number`.
    #[must_use]
    pub fn new(first_packet_number: u64) -> Self {
        Self {
            edge: first_packet_number,
            in_step: true,
            pending: None,
            kept: Vec::new(),
            holes: Vec::new(),
            held: Held::default(),
            patience: Patience::default(),
            stats: UnpackStats::default(),
        }
    }

    /// All packet numbers below this one are final: delivered or given up.
    #[must_use]
    pub fn edge(&self) -> u64 {
        self.edge
    }

    /// Takes the datagrams of one receive buffer, in the order of their arrival,
    /// each of them authenticated and not seen before. Hands complete blocks to
    /// `sink` in the order in which they were sent, each with its payload as a
    /// gather list, and gives up holes that are final at `now_us`.
    ///
    /// Datagrams below the edge are ignored and counted.
    pub fn feed<'b>(
        &mut self,
        run: &[Datagram<'b>],
        now_us: u64,
        sink: &mut impl FnMut(&BlockHeader, &[&[u8]]),
    ) {
        let mut rest = run;
        while let Some((next, behind)) = rest.split_first() {
            if next.packet_number < self.edge {
                self.stats.late += 1;
                rest = behind;
            } else if next.packet_number == self.edge {
                if let Some(since_us) = self.held.oldest_us() {
                    self.patience.filled_after(now_us.saturating_sub(since_us));
                }
                let (due, behind) = rest.split_at(self.due(rest));
                self.parse_and_keep(due, sink);
                self.move_edge(due.len());
                self.release(sink);
                rest = behind;
            } else if self.hold(next, now_us, sink) {
                rest = behind;
            }
        }
        self.tick(now_us, sink);
    }

    /// Like [`Self::feed`], for a caller who can leave the bytes of earlier datagrams where
    /// they are. Returns how many of the last datagrams of `lent` and `run` together hold
    /// the bytes of a frame that is not whole yet: these are `lent` with the next call,
    /// whichever it is, unless [`Self::keep_lent`] copied them.
    ///
    /// Without a hole nothing is copied. With one, `lent` is copied, and none is lent.
    pub fn feed_lent<'b>(
        &mut self,
        lent: &[Datagram<'b>],
        run: &[Datagram<'b>],
        now_us: u64,
        sink: &mut impl FnMut(&BlockHeader, &[&[u8]]),
    ) -> usize {
        if self.held.len() > 0 || self.due(run) < run.len() {
            self.keep_lent(lent);
            self.feed(run, now_us, sink);
            return 0;
        }
        self.parse(lent, run, sink);
        self.move_edge(run.len());
        self.lent()
    }

    /// Copies what [`Self::feed_lent`] asked to be lent: it need not be any more.
    pub fn keep_lent(&mut self, lent: &[Datagram<'_>]) {
        let Some(Lent { offset, .. }) = self.take_lent(lent) else { return };
        Head::At(lent, offset).parts().for_each(|part| self.keep(part));
    }

    /// Gives up the holes that are final at `now_us`.
    pub fn tick(&mut self, now_us: u64, sink: &mut impl FnMut(&BlockHeader, &[&[u8]])) {
        while let Some(first) = self.held.first()
            && self.next_deadline_us().is_some_and(|deadline_us| deadline_us <= now_us)
        {
            self.give_up(first, sink);
        }
        debug_assert!(self.buffers_len() <= UNPACKER_BUFFERS_MAX);
    }

    /// When [`Self::tick`] has something to do next, if nothing else comes.
    #[must_use]
    pub fn next_deadline_us(&self) -> Option<u64> {
        Some(self.held.oldest_us()?.saturating_add(self.patience.us()))
    }

    /// A datagram came that had been given up: holes get the longest time again.
    pub fn note_late(&mut self) {
        self.patience.too_short();
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> UnpackStats {
        self.stats
    }

    /// Bytes of all buffers, used or not: at most [`UNPACKER_BUFFERS_MAX`].
    #[must_use]
    pub fn buffers_len(&self) -> usize {
        self.kept.capacity() + self.held.bytes()
    }

    /// Frees the buffers that are not in use: for a path that has gone quiet.
    pub fn shrink(&mut self) {
        if self.pending.is_none() {
            self.kept = Vec::new();
            self.holes = Vec::new();
        }
        self.held.shrink();
    }

    /// Gives up everything that is incomplete, and frees the buffers: for when all
    /// paths together hold too much.
    pub fn abandon(&mut self, sink: &mut impl FnMut(&BlockHeader, &[&[u8]])) {
        while let Some(first) = self.held.first() {
            self.give_up(first, sink);
        }
        if self.pending.take().is_some() {
            self.holes.clear();
            self.stats.broken_frames += 1;
            self.in_step = false;
        }
        self.shrink();
    }

    /// How many datagrams at the front of `run` have consecutive numbers from the
    /// edge on. Stops short of a number that is held: it comes from there.
    fn due(&self, run: &[Datagram<'_>]) -> usize {
        let held = self.held.first();
        let mut number = self.edge;
        let mut count = 0;
        for datagram in run {
            if datagram.packet_number != number || held == Some(number) {
                break;
            }
            number = number.wrapping_add(1);
            count += 1;
        }
        count
    }

    /// How many datagrams are to be lent with the next run.
    fn lent(&self) -> usize {
        self.pending.and_then(|pending| pending.lent).map_or(0, |lent| lent.datagrams)
    }

    /// Notes that the bytes of the block under way are in nobody's hands but ours. A
    /// caller who lends anything but what was asked for costs the peer this block.
    fn take_lent(&mut self, lent: &[Datagram<'_>]) -> Option<Lent> {
        let expected = self.pending.as_mut()?.lent.take()?;
        if expected.datagrams == lent.len() {
            return Some(expected);
        }
        self.pending = None;
        self.in_step = false;
        self.stats.broken_frames += 1;
        None
    }

    fn move_edge(&mut self, datagrams: usize) {
        let datagrams = u64::try_from(datagrams).unwrap_or(u64::MAX);
        self.edge = self.edge.saturating_add(datagrams);
    }

    /// Holds a datagram from beyond a hole. False if it must be looked at again,
    /// because the hole had to be given up for it.
    fn hold(
        &mut self,
        datagram: &Datagram<'_>,
        now_us: u64,
        sink: &mut impl FnMut(&BlockHeader, &[&[u8]]),
    ) -> bool {
        let held = self.held.hold(datagram, now_us);
        let first = self.held.first().unwrap_or(datagram.packet_number);
        match held {
            Hold::Held => self.stats.held_datagrams += 1,
            Hold::Duplicate => self.stats.late += 1,
            Hold::NoRoom => {
                self.give_up(first.min(datagram.packet_number), sink);
                return false;
            }
        }
        if self.held.len() >= HELD_DATAGRAMS_MAX {
            self.give_up(first, sink);
        }
        true
    }

    /// Gives up all numbers from the edge to `next`, which is not before it.
    fn give_up(&mut self, next: u64, sink: &mut impl FnMut(&BlockHeader, &[&[u8]])) {
        let lost = next.saturating_sub(self.edge);
        self.stats.lost_datagrams = self.stats.lost_datagrams.saturating_add(lost);
        self.patience.in_vain();
        self.tear(lost, sink);
        self.edge = next;
        self.release(sink);
    }

    /// Parses what is held from the edge on, up to the next hole.
    fn release(&mut self, sink: &mut impl FnMut(&BlockHeader, &[&[u8]])) {
        while let Some(copied) = self.held.take(self.edge) {
            self.parse_and_keep(&[copied.datagram()], sink);
            self.move_edge(1);
            self.held.recycle(copied);
        }
    }

    /// Parses datagrams with consecutive numbers from the edge on, whose bytes will be
    /// elsewhere afterwards.
    fn parse_and_keep(
        &mut self,
        run: &[Datagram<'_>],
        sink: &mut impl FnMut(&BlockHeader, &[&[u8]]),
    ) {
        self.parse(&[], run, sink);
        let before = run.len().saturating_sub(self.lent());
        self.keep_lent(run.get(before..).unwrap_or_default());
    }

    /// Parses datagrams with consecutive numbers from the edge on. The block under way
    /// begins in `lent`, or in `kept`.
    fn parse<'b>(
        &mut self,
        lent: &[Datagram<'b>],
        run: &[Datagram<'b>],
        sink: &mut impl FnMut(&BlockHeader, &[&[u8]]),
    ) {
        let mut rest = run;
        let lent_at = self.take_lent(lent);
        let head = lent_at.map_or(Head::Kept, |at| Head::At(lent, at.offset));
        let mut place = match self.pending.take() {
            Some(pending) if !self.holes.is_empty() => self.cross_torn(pending, &mut rest, sink),
            Some(pending) => self.cross(pending, head, &mut rest, sink),
            None => self.enter_next(&mut rest),
        };
        while let Some((datagram, offset)) = place {
            place = match self.blocks(datagram, offset, sink) {
                Some((pending, offset)) => {
                    let head = Head::At(slice::from_ref(datagram), offset);
                    self.cross(pending, head, &mut rest, sink)
                }
                None => self.enter_next(&mut rest),
            };
        }
    }

    /// Hands over the blocks that start at `offset` and lie inside `datagram`.
    /// Returns the block that does not, with the offset of its payload.
    #[inline]
    fn blocks(
        &mut self,
        datagram: &Datagram<'_>,
        offset: usize,
        sink: &mut impl FnMut(&BlockHeader, &[&[u8]]),
    ) -> Option<(Pending, usize)> {
        let mut rest = datagram.payload.get(offset..)?;
        // Too few bytes for a header are padding.
        while let Some((bytes, behind)) = rest.split_first_chunk::<BLOCK_HEADER_LEN>() {
            let header = match BlockHeader::parse(bytes) {
                Ok(header) => header,
                Err(error) => {
                    self.bad_header(error, bytes);
                    return None;
                }
            };
            let len = len_usize(header.len);
            let Some((payload, behind)) = behind.split_at_checked(len) else {
                let need = len - behind.len();
                let offset = datagram.payload.len() - behind.len();
                let datagram_len = datagram.payload.len();
                return Some((Pending { header, need, datagram_len, lent: None }, offset));
            };
            self.stats.blocks += 1;
            sink(&header, &[payload]);
            rest = behind;
        }
        None
    }

    /// Length 0 is padding to the datagram's end, and then all is zero; anything
    /// else is no header, and the rest of the datagram has no meaning.
    #[cold]
    fn bad_header(&mut self, error: BlockError, bytes: &[u8; BLOCK_HEADER_LEN]) {
        if error == BlockError::Empty && *bytes == [0; BLOCK_HEADER_LEN] {
            return;
        }
        self.stats.bad_blocks += 1;
        self.in_step = false;
    }

    /// The first place in `rest` where a block starts, no block being under way.
    fn enter_next<'r, 'b>(&mut self, rest: &mut &'r [Datagram<'b>]) -> Option<Place<'r, 'b>> {
        loop {
            let (datagram, behind) = rest.split_first()?;
            *rest = behind;
            if datagram.first_block == NO_BLOCK {
                continue;
            }
            let offset = usize::from(datagram.first_block);
            let has_room = has_room(datagram, offset);
            if !has_room || (self.in_step && offset != 0) {
                self.stats.bad_offsets += 1;
                self.in_step = false;
            }
            if !has_room {
                continue;
            }
            if !self.in_step {
                self.stats.resyncs += 1;
                self.in_step = true;
            }
            return Some((datagram, offset));
        }
    }

    /// Goes on with a block that continues in `rest`: hands it over, leaves it for
    /// the next run, or drops it. Returns where the next block starts.
    fn cross<'r, 'b>(
        &mut self,
        pending: Pending,
        head: Head<'_, 'b>,
        rest: &mut &'r [Datagram<'b>],
        sink: &mut impl FnMut(&BlockHeader, &[&[u8]]),
    ) -> Option<Place<'r, 'b>> {
        let run = *rest;
        let mut need = pending.need;
        for (at, datagram) in run.iter().enumerate() {
            let ends = need <= datagram.payload.len();
            let starts = datagram.first_block != NO_BLOCK;
            if starts && !(usize::from(datagram.first_block) == need && has_room(datagram, need)) {
                *rest = run.get(at..).unwrap_or_default();
                self.drop_broken();
                return self.enter_next(rest);
            }
            if ends {
                let (through, behind) = run.split_at(at + 1);
                *rest = behind;
                self.hand_over(&pending.header, head, through, need, sink);
                return if starts { Some((datagram, need)) } else { self.enter_next(rest) };
            }
            need -= datagram.payload.len();
        }
        *rest = &[];
        let lent = match head {
            Head::At(before, offset) => Some(Lent { datagrams: before.len() + run.len(), offset }),
            Head::Kept => {
                run.iter().for_each(|datagram| self.keep(datagram.payload));
                None
            }
        };
        self.pending = Some(Pending { need, lent, ..pending });
        None
    }

    /// Hands over a block of which `head` is the start, and the datagrams
    /// `through` the rest: all of their payloads, but only `end` bytes of the last.
    fn hand_over<'b>(
        &mut self,
        header: &BlockHeader,
        head: Head<'_, 'b>,
        through: &[Datagram<'b>],
        end: usize,
        sink: &mut impl FnMut(&BlockHeader, &[&[u8]]),
    ) {
        self.stats.blocks += 1;
        let Some((last, whole)) = through.split_last() else { return };
        let rest = || whole.iter().map(|datagram| datagram.payload).chain([prefix(last, end)]);
        let before = match head {
            Head::At(datagrams, _) => datagrams.len(),
            Head::Kept => 1,
        };
        if before + through.len() > GATHER_PARTS_MAX {
            head.parts().chain(rest()).for_each(|part| self.keep(part));
            sink(header, &[&self.kept]);
        } else {
            let mut parts: [&[u8]; GATHER_PARTS_MAX] = [&[]; GATHER_PARTS_MAX];
            let kept = matches!(head, Head::Kept).then_some(&self.kept[..]);
            let all = kept.into_iter().chain(head.parts()).chain(rest());
            parts.iter_mut().zip(all).for_each(|(place, part)| *place = part);
            sink(header, &parts[..before + through.len()]);
        }
        self.kept.clear();
    }

    fn drop_broken(&mut self) {
        self.kept.clear();
        self.in_step = false;
        self.stats.broken_frames += 1;
        self.stats.bad_offsets += 1;
    }

    /// Copies a part of a block. The buffer has room for the longest block.
    fn keep(&mut self, part: &[u8]) {
        if self.kept.capacity() == 0 {
            self.kept.reserve_exact(FRAME_LEN_MAX);
        }
        let room = self.kept.capacity() - self.kept.len();
        self.kept.extend_from_slice(part.get(..room).unwrap_or(part));
    }
}

/// True if a block header at `offset` would lie inside `datagram`.
fn has_room(datagram: &Datagram<'_>, offset: usize) -> bool {
    offset + BLOCK_HEADER_LEN <= datagram.payload.len()
}

/// The first `end` bytes of a payload that has as many.
fn prefix<'b>(datagram: &Datagram<'b>, end: usize) -> &'b [u8] {
    datagram.payload.get(..end).unwrap_or(datagram.payload)
}

#[cfg(test)]
mod tests;
