//! Frames into trains.
//!
//! A packer writes the blocks of one path back to back. Its state is one write
//! position in one open train:
//!
//! ```text
//!  datagram n-1        datagram n (current)
//!  [hdr|#########|tag][hdr|####             |tag]
//!                              ^ at         ^ end
//! ```
//!
//! A datagram is opened when the first byte for it comes, never before, so that
//! a closed train holds no empty datagram. Its header is complete at once but
//! for `first_block`, which is filled in when a block starts.

use crate::{
    BLOCK_HEADER_LEN, BlockHeader, DATAGRAM_HEADER_LEN, DatagramHeader, Endpoint, Geometry, Kind,
    NO_BLOCK, PathIndex, Train, TrainPool, block::len_max, header::FIRST_BLOCK_AT,
};
use std::collections::VecDeque;
use wireonce_frame::{FrameSource, Offload, SliceSource};

/// The packet numbers that one block lies in, both included: it arrives exactly
/// if all of them do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The datagram with the block's header.
    pub first: u64,
    /// The datagram with its last byte.
    pub last: u64,
}

impl Span {
    /// The span of a block that was not packed, because nothing can carry it.
    pub const NONE: Self = Self { first: u64::MAX, last: 0 };

    /// True for [`Self::NONE`].
    #[must_use]
    pub fn is_none(self) -> bool {
        self.first > self.last
    }
}

/// Packs the blocks of one path.
#[derive(Debug)]
pub struct Packer {
    path: PathIndex,
    epoch: u8,
    geometry: Geometry,
    /// Number of the next datagram to be opened.
    next_packet_number: u64,
    open: Option<Train>,
    /// Where the next byte goes in the open train.
    at: usize,
    /// Where the current datagram's payload ends.
    end: usize,
    /// Where the current datagram's header starts.
    start: usize,
    /// No block starts in the current datagram yet.
    unnamed: bool,
}

impl Packer {
    /// A packer for `path`, whose first datagram gets `first_packet_number`.
    #[must_use]
    pub fn new(path: PathIndex, epoch: u8, geometry: Geometry, first_packet_number: u64) -> Self {
        Self {
            path,
            epoch,
            geometry,
            next_packet_number: first_packet_number,
            open: None,
            at: 0,
            end: 0,
            start: 0,
            unnamed: false,
        }
    }

    /// Appends one frame as a block and moves the trains that it fills to `full`.
    ///
    /// Never fails: the caller asks [`Self::trains_needed`] and the pool's room
    /// before. A frame that no block can carry (empty, or longer than
    /// [`wireonce_frame::FRAME_LEN_MAX`]) is left out: its span is [`Span::NONE`].
    /// `source_ep` is a vNIC or an uplink, `destination` not the link: anything
    /// else the receiver refuses, together with the blocks behind it.
    pub fn put<S: FrameSource + ?Sized>(
        &mut self,
        destination: Endpoint,
        source_ep: Endpoint,
        offload: Offload,
        frame: &mut S,
        pool: &mut TrainPool,
        full: &mut VecDeque<Train>,
    ) -> Span {
        let frame_len = frame.frame_len();
        let len = match u32::try_from(frame_len) {
            Ok(len) if frame_len != 0 && frame_len <= len_max(destination) => len,
            _ => return Span::NONE,
        };
        let header = BlockHeader { destination, source: source_ep, len, offload };
        self.append(&header.emit(), frame_len, frame, pool, full)
    }

    /// Appends a message to the link: like [`Self::put`], at most
    /// [`crate::LINK_BLOCK_LEN_MAX`] bytes.
    pub fn put_link(
        &mut self,
        payload: &[u8],
        pool: &mut TrainPool,
        full: &mut VecDeque<Train>,
    ) -> Span {
        let mut frame = SliceSource::new(payload);
        self.put(Endpoint::Link, Endpoint::Link, Offload::default(), &mut frame, pool, full)
    }

    /// Ends the open train, if there is one. Its last datagram is as short as its
    /// bytes allow; the next block opens a new train.
    pub fn close(&mut self) -> Option<Train> {
        let mut train = self.open.take()?;
        let tag_end = self.at + self.geometry.tag_len();
        train.buffer[self.at..tag_end].fill(0);
        train.len = tag_end;
        (self.at, self.end) = (0, 0);
        Some(train)
    }

    /// Goes on with another epoch, from `first_packet_number`. The train that was
    /// open belongs to the old one and is returned.
    #[must_use = "the train that was open must still be sent"]
    pub fn set_epoch(&mut self, epoch: u8, first_packet_number: u64) -> Option<Train> {
        let train = self.close();
        self.epoch = epoch;
        self.next_packet_number = first_packet_number;
        train
    }

    /// Goes on with datagrams of another shape, in a new train. The train that
    /// was open is returned.
    #[must_use = "the train that was open must still be sent"]
    pub fn set_geometry(&mut self, geometry: Geometry) -> Option<Train> {
        let train = self.close();
        self.geometry = geometry;
        train
    }

    /// The shape of the datagrams.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// True if a train has bytes that wait to be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The number that the next datagram to be opened gets.
    #[must_use]
    pub fn next_packet_number(&self) -> u64 {
        self.next_packet_number
    }

    /// How many trains a block of `frame_len` bytes would take from the pool.
    #[must_use]
    pub fn trains_needed(&self, frame_len: usize) -> usize {
        let room = self.end - self.at;
        let here = if room < BLOCK_HEADER_LEN { 0 } else { room };
        let beyond = (BLOCK_HEADER_LEN + frame_len).saturating_sub(here);
        let datagrams = beyond.div_ceil(self.geometry.payload_len());
        let per_train = self.geometry.datagrams_per_train();
        let left = self.open.as_ref().map_or(0, |train| per_train - train.count);
        datagrams.saturating_sub(left).div_ceil(per_train)
    }

    fn append<S: FrameSource + ?Sized>(
        &mut self,
        header: &[u8; BLOCK_HEADER_LEN],
        frame_len: usize,
        frame: &mut S,
        pool: &mut TrainPool,
        full: &mut VecDeque<Train>,
    ) -> Span {
        if self.end - self.at < BLOCK_HEADER_LEN {
            self.next_datagram(pool, full);
        }
        self.name_block();
        self.write(header);
        let first = self.next_packet_number.wrapping_sub(1);
        let mut left = frame_len;
        loop {
            left -= self.read(frame, left);
            if left == 0 {
                break;
            }
            self.next_datagram(pool, full);
        }
        let last = self.next_packet_number.wrapping_sub(1);
        if self.end - self.at < BLOCK_HEADER_LEN && self.is_last_datagram() {
            full.extend(self.close());
        }
        Span { first, last }
    }

    /// The first block that starts in a datagram is the one its header names.
    #[inline]
    fn name_block(&mut self) {
        if !self.unnamed {
            return;
        }
        self.unnamed = false;
        let offset = self.at - self.start - DATAGRAM_HEADER_LEN;
        // A payload is shorter than 65,507 bytes, so the offset always fits.
        let offset = u16::try_from(offset).unwrap_or(NO_BLOCK);
        if let Some(train) = &mut self.open {
            let at = self.start + FIRST_BLOCK_AT;
            train.buffer[at..at + 2].copy_from_slice(&offset.to_le_bytes());
        }
    }

    #[inline]
    fn write(&mut self, bytes: &[u8; BLOCK_HEADER_LEN]) {
        if let Some(train) = &mut self.open {
            train.buffer[self.at..self.at + BLOCK_HEADER_LEN].copy_from_slice(bytes);
            self.at += BLOCK_HEADER_LEN;
        }
    }

    /// Copies up to `left` bytes of `frame` to the current datagram.
    #[inline]
    fn read<S: FrameSource + ?Sized>(&mut self, frame: &mut S, left: usize) -> usize {
        let len = left.min(self.end - self.at);
        if len != 0
            && let Some(train) = &mut self.open
        {
            frame.read(&mut train.buffer[self.at..self.at + len]);
            self.at += len;
        }
        len
    }

    /// Ends the current datagram, if any, and opens the next: in the open train,
    /// or in a new one.
    fn next_datagram(&mut self, pool: &mut TrainPool, full: &mut VecDeque<Train>) {
        if self.is_last_datagram() {
            full.extend(self.close());
        }
        let geometry = self.geometry;
        let next_packet_number = self.next_packet_number;
        let train = self.open.get_or_insert_with(|| pool.get(geometry, next_packet_number));
        self.start = train.count * geometry.datagram_len();
        // The buffer is an old one: the tail of the datagram before, too short for
        // a block header, and the place of its tag are zeroed.
        train.buffer[self.at..self.start].fill(0);
        self.at = self.start + DATAGRAM_HEADER_LEN;
        self.end = self.at + geometry.payload_len();
        let header = DatagramHeader {
            kind: Kind::Data,
            epoch: self.epoch,
            first_block: NO_BLOCK,
            path: self.path,
            packet_number: next_packet_number,
        };
        train.buffer[self.start..self.at].copy_from_slice(&header.emit());
        train.count += 1;
        self.unnamed = true;
        self.next_packet_number = next_packet_number.wrapping_add(1);
    }

    /// True if the open train has no room for one more datagram.
    fn is_last_datagram(&self) -> bool {
        self.open.as_ref().is_some_and(|t| t.count >= self.geometry.datagrams_per_train())
    }
}

#[cfg(test)]
mod tests;
