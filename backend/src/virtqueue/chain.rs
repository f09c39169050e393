//! A descriptor chain as host segments, and the copies in and out of it.
//!
//! A [`Chain`] is filled by the ring and used over and over. It keeps the memory
//! generation that its segments lead into alive, so a chain that is left behind
//! can delay the unmapping of old memory, but never point into nothing.

use std::sync::Arc;

use super::memory::{HostSegment, MappedMemory};

/// Longest chain, in descriptors and in host segments. QEMU's limit, and that of
/// `writev`; a Linux guest uses at most 19 for one frame.
pub const CHAIN_SEGMENTS_MAX: usize = 1024;

/// Segments that the vectors of a new chain have room for. They grow with the
/// guest's use up to their bound and then never again.
const SEGMENTS_START: usize = 32;

/// Why a chain is malformed. It is returned to the guest unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// `next` leaves the table.
    #[error("descriptor {next} follows in a table of {size}")]
    NextOutOfRange {
        /// The index that the guest gave.
        next: u16,
        /// Entries in the table.
        size: u32,
    },
    /// A loop, or longer than we serve.
    #[error("the chain loops or has over {CHAIN_SEGMENTS_MAX} descriptors or segments")]
    TooLong,
    /// `INDIRECT` without the feature.
    #[error("an indirect table, which the driver did not negotiate")]
    IndirectNotNegotiated,
    /// A table inside a table.
    #[error("an indirect table inside an indirect table")]
    NestedIndirect,
    /// `INDIRECT` and `NEXT` in one descriptor.
    #[error("an indirect descriptor with a successor")]
    IndirectWithNext,
    /// The table has no entry, or part of one.
    #[error("an indirect table of {0} bytes, which is not a positive multiple of 16")]
    IndirectLen(u32),
    /// A buffer to read after one to write.
    #[error("a readable descriptor after a writable one")]
    ReadableAfterWritable,
    /// A buffer or table is outside the guest's memory.
    #[error(transparent)]
    Unmapped(#[from] super::memory::Unmapped),
    /// The lengths add up to 4 GiB or more.
    #[error("the chain is longer than 2^32 - 1 bytes")]
    TotalLen,
    /// What the chain is for needs other buffers than it has.
    #[error("the chain has no buffer of the needed direction")]
    NoBuffer,
}

/// The segments of one direction.
#[derive(Debug)]
struct Segments {
    list: Vec<HostSegment>,
    /// One chain has less than 2^32 bytes, several together may have more.
    len: u64,
}

impl Segments {
    fn new() -> Self {
        Self { list: Vec::with_capacity(SEGMENTS_START), len: 0 }
    }

    #[inline]
    fn truncate(&mut self, mark: (usize, u64)) {
        self.list.truncate(mark.0);
        self.len = mark.1;
    }

    #[inline]
    fn mark(&self) -> (usize, u64) {
        (self.list.len(), self.len)
    }
}

/// Where a chain ended, to cut it back there.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChainMark {
    readable: (usize, u64),
    writable: (usize, u64),
}

/// The buffers of a popped chain, readable and writable apart. Reusable.
#[derive(Debug)]
pub struct Chain {
    readable: Segments,
    writable: Segments,
    head: u16,
    memory: Option<Arc<MappedMemory>>,
}

// SAFETY: the pointers lead into `memory`, which is Send itself.
unsafe impl Send for Chain {}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Chain {
    /// A chain without buffers.
    #[must_use]
    pub fn new() -> Self {
        Self { readable: Segments::new(), writable: Segments::new(), head: 0, memory: None }
    }

    /// Index of the first descriptor, to be given to
    /// [`SplitRing::complete`](super::SplitRing::complete).
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Bytes that the guest gave us to read.
    #[must_use]
    pub fn readable_len(&self) -> u32 {
        u32::try_from(self.readable.len).unwrap_or(u32::MAX)
    }

    /// Bytes that the guest gave us to write.
    #[must_use]
    pub fn writable_len(&self) -> u32 {
        u32::try_from(self.writable.len).unwrap_or(u32::MAX)
    }

    /// Reads the readable buffers from the first byte on.
    #[must_use]
    pub fn reader(&self) -> ChainReader<'_> {
        ChainReader { chain: self, cursor: Cursor::default() }
    }

    /// Writes the writable buffers from the first byte on.
    #[must_use]
    pub fn writer(&self) -> ChainWriter<'_> {
        ChainWriter { chain: self, cursor: Cursor::default() }
    }

    /// Forgets the buffers and lets go of the memory they are in.
    pub fn clear(&mut self) {
        self.empty();
        self.memory = None;
    }

    /// Forgets the buffers.
    #[inline]
    fn empty(&mut self) {
        self.readable.truncate((0, 0));
        self.writable.truncate((0, 0));
    }

    /// Starts the chain of `head` in `memory`, in place of what was there.
    #[inline]
    pub(super) fn begin(&mut self, memory: &Arc<MappedMemory>, head: u16) {
        self.empty();
        self.head = head;
        if !self.memory.as_ref().is_some_and(|held| Arc::ptr_eq(held, memory)) {
            self.memory = Some(Arc::clone(memory));
        }
    }

    /// Where the chain ends now.
    #[inline]
    pub(super) fn mark(&self) -> ChainMark {
        ChainMark { readable: self.readable.mark(), writable: self.writable.mark() }
    }

    /// Cuts off what was added after `mark`.
    #[inline]
    pub(super) fn truncate(&mut self, mark: ChainMark) {
        self.readable.truncate(mark.readable);
        self.writable.truncate(mark.writable);
    }

    /// Segments of the writable part.
    #[inline]
    pub(super) fn writable_segments(&self) -> usize {
        self.writable.list.len()
    }

    /// Adds `segment`.
    #[inline]
    pub(super) fn push(&mut self, segment: HostSegment, writable: bool) {
        let side = if writable { &mut self.writable } else { &mut self.readable };
        side.len += segment.len() as u64;
        side.list.push(segment);
    }

    /// Copies from the readable part at `cursor` to `dst` and moves the cursor;
    /// returns the number of bytes, less than `dst.len()` only at the end.
    #[inline]
    pub(super) fn read_at(&self, cursor: &mut Cursor, dst: &mut [u8]) -> usize {
        let mut done = 0;
        while let (Some(segment), Some(rest)) =
            (self.readable.list.get(cursor.segment), dst.get_mut(done..).filter(|r| !r.is_empty()))
        {
            // SAFETY: `self.memory` keeps the memory of all segments mapped.
            let n = unsafe { segment.copy_to(cursor.offset, rest) };
            cursor.advance(n, segment.len());
            done += n;
        }
        done
    }

    /// Copies `src` to the writable part at `cursor` and moves the cursor;
    /// returns the number of bytes, less than `src.len()` only at the end.
    #[inline]
    pub(super) fn write_at(&self, cursor: &mut Cursor, src: &[u8]) -> usize {
        let mut done = 0;
        while let (Some(segment), Some(rest)) =
            (self.writable.list.get(cursor.segment), src.get(done..).filter(|r| !r.is_empty()))
        {
            // SAFETY: `self.memory` keeps the memory of all segments mapped.
            let n = unsafe { segment.copy_from(cursor.offset, rest) };
            cursor.advance(n, segment.len());
            done += n;
        }
        done
    }
}

/// A position in the segments of one direction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    segment: usize,
    offset: usize,
    position: u32,
}

impl Cursor {
    /// Moves `n` bytes on inside a segment of `segment_len` bytes, or past it.
    #[inline]
    fn advance(&mut self, n: usize, segment_len: usize) {
        self.offset += n;
        // A chain adds up to less than 2^32 bytes, and so does a frame.
        self.position = self.position.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        if self.offset >= segment_len {
            self.segment += 1;
            self.offset = 0;
        }
    }
}

/// Copies out of guest memory, front to back, each byte once.
#[derive(Debug)]
pub struct ChainReader<'c> {
    chain: &'c Chain,
    cursor: Cursor,
}

impl ChainReader<'_> {
    /// Copies the next bytes to `dst`; returns how many, less than `dst.len()`
    /// only at the chain's end.
    pub fn read(&mut self, dst: &mut [u8]) -> usize {
        self.chain.read_at(&mut self.cursor, dst)
    }

    /// Bytes that are left.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.chain.readable_len() - self.cursor.position
    }
}

/// Copies into guest memory, front to back.
#[derive(Debug)]
pub struct ChainWriter<'c> {
    chain: &'c Chain,
    cursor: Cursor,
}

impl ChainWriter<'_> {
    /// Copies `src` to the next bytes; returns how many, less than `src.len()`
    /// only at the chain's end.
    pub fn write(&mut self, src: &[u8]) -> usize {
        self.chain.write_at(&mut self.cursor, src)
    }

    /// Passes over the next `len` bytes, for a header that
    /// [`Self::write_first`] fills in later; returns how many there were.
    pub fn skip(&mut self, len: usize) -> usize {
        let mut done = 0;
        while let Some(segment) = self.chain.writable.list.get(self.cursor.segment) {
            let n = (segment.len() - self.cursor.offset).min(len - done);
            if n == 0 {
                break;
            }
            self.cursor.advance(n, segment.len());
            done += n;
        }
        done
    }

    /// Copies `src` to the chain's first bytes, wherever the writer is.
    pub fn write_first(&self, src: &[u8]) -> usize {
        self.chain.write_at(&mut Cursor::default(), src)
    }

    /// Bytes that are left.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.chain.writable_len() - self.cursor.position
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> u32 {
        self.cursor.position
    }
}
