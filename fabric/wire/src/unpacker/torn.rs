//! Blocks with a hole in them.
//!
//! ```text
//!  datagram   41          42          43          44
//!            |hA aaaaaaa| : lost    : |aaaaaaaaaa|aaaa hB bbb|      a hole has the bytes of
//!  kept         aaaaaaa                aaaaaaaaaa aaaa              as many full datagrams
//!  holes               ^at, len
//! ```
//!
//! A sender fills every datagram in which a block goes on, and only a train's last datagram
//! may be shorter, which ends a block (rule 4 of `docs/wire.md`). So the datagrams of a block
//! are as long as its first one, and lost numbers say how many bytes are missing. That is an
//! assumption about the peer until the block's end proves it: it must be where the length in
//! the block's header and the offset in the datagram's both have it. What is behind a hole
//! and was not proved is dropped. What is before it needs no proof.
//!
//! From a frame with holes [`salvage`] makes smaller whole ones, which are handed over as if
//! the peer had sent them so.

use super::{Datagram, Pending, Place, Unpacker, has_room, prefix};
use crate::{BLOCK_HEADER_LEN, BlockHeader, NO_BLOCK, block::len_usize};
use wireonce_frame::salvage::{Arrived, salvage};

/// Most holes of a block; one with more is dropped.
pub const HOLES_MAX: usize = 16;

/// Bytes of a block that are lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hole {
    /// Where in the block's payload they were.
    at: usize,
    len: usize,
}

impl Unpacker {
    /// Leaves `lost` datagrams out of what is under way: a hole in the block, if it goes on
    /// behind them and a part of it may be of use.
    pub(super) fn tear(&mut self, lost: u64, sink: &mut impl FnMut(&BlockHeader, &[&[u8]])) {
        let Some(mut pending) = self.pending.take() else {
            self.in_step = false;
            return;
        };
        let at = len_usize(pending.header.len).saturating_sub(pending.need);
        let lost = usize::try_from(lost).unwrap_or(usize::MAX);
        let len = lost.saturating_mul(pending.datagram_len);
        let is_large = pending.header.offload.gso.is_some();
        if is_large && len < pending.need && self.holes.len() < HOLES_MAX {
            self.holes.push(Hole { at, len });
            pending.need -= len;
            self.pending = Some(pending);
            return;
        }
        // It ended in the hole: nothing proves what is behind an earlier one.
        let proved = self.holes.first().map_or(at, |hole| hole.at);
        self.kept.truncate(proved);
        self.holes.clear();
        self.save(&pending.header, sink);
        self.in_step = false;
    }

    /// Goes on with a block that has a hole, as [`Unpacker::cross`] does with others.
    #[cold]
    pub(super) fn cross_torn<'r, 'b>(
        &mut self,
        mut pending: Pending,
        rest: &mut &'r [Datagram<'b>],
        sink: &mut impl FnMut(&BlockHeader, &[&[u8]]),
    ) -> Option<Place<'r, 'b>> {
        while let Some((datagram, behind)) = rest.split_first() {
            if !pending.agrees(datagram) {
                self.holes.clear();
                self.drop_broken();
                return self.enter_next(rest);
            }
            *rest = behind;
            if pending.need <= datagram.payload.len() {
                self.keep(prefix(datagram, pending.need));
                self.save(&pending.header, sink);
                let starts = datagram.first_block != NO_BLOCK;
                return if starts { Some((datagram, pending.need)) } else { self.enter_next(rest) };
            }
            self.keep(datagram.payload);
            pending.need -= datagram.payload.len();
        }
        self.pending = Some(pending);
        None
    }

    /// Hands over what is of use in the kept bytes of a block, and forgets them.
    fn save(&mut self, header: &BlockHeader, sink: &mut impl FnMut(&BlockHeader, &[&[u8]])) {
        let ranges = ranges(&self.kept, &self.holes);
        let saved = salvage(&header.offload, len_usize(header.len), ranges, &mut |piece| {
            // No piece is longer than the frame that it is of.
            let len = u32::try_from(piece.frame_len()).unwrap_or(header.len);
            sink(&BlockHeader { len, offload: piece.offload, ..*header }, piece.parts());
        });
        self.kept.clear();
        self.holes.clear();
        match saved {
            Ok(saved) if saved.frames > 0 => {
                self.stats.blocks += u64::from(saved.frames);
                self.stats.torn_frames += 1;
                self.stats.salvaged_frames += u64::from(saved.frames);
                self.stats.salvaged_segments += u64::from(saved.segments);
                self.stats.lost_segments += u64::from(saved.lost_segments);
            }
            _ => self.stats.broken_frames += 1,
        }
    }
}

impl Pending {
    /// Whether a datagram behind a hole is what it must be if the hole is as long as it is
    /// believed to be.
    fn agrees(&self, datagram: &Datagram<'_>) -> bool {
        let len = datagram.payload.len();
        let none = datagram.first_block == NO_BLOCK;
        if self.need > len {
            return none && len == self.datagram_len;
        }
        let padding = datagram.payload.get(self.need..).unwrap_or_default();
        let ends = if none {
            padding.len() < BLOCK_HEADER_LEN && padding.iter().all(|byte| *byte == 0)
        } else {
            usize::from(datagram.first_block) == self.need && has_room(datagram, self.need)
        };
        ends && len <= self.datagram_len
    }
}

/// The ranges of a block that arrived: `kept` has their bytes back to back.
fn ranges<'k>(kept: &'k [u8], holes: &'k [Hole]) -> impl Iterator<Item = Arrived<'k>> {
    let (mut rest, mut at) = (kept, 0);
    let ends = holes.iter().map(|hole| (hole.at, hole.len)).chain([(usize::MAX, 0)]);
    ends.map(move |(end, len)| {
        let (bytes, behind) = rest.split_at(rest.len().min(end - at));
        let range = Arrived { at, bytes };
        (rest, at) = (behind, end.saturating_add(len));
        range
    })
}
