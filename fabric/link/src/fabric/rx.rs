//! The receiving half of one path.
//!
//! A datagram passes, in this order: is its number new (before any cryptography)?
//! Does it open? Only then is its number marked, and its blocks are read. Numbers
//! below the unpacker's edge are final: one that arrives later is late, dropped,
//! and reported to the sender as lost, so that both ends count the same.
//!
//! A frame that goes on in the next buffer is not copied: its path *borrows* the buffers
//! that it lies in until the rest has come, a few at most.

use crate::{
    OpeningKey, Session,
    evidence::Evidence,
    replay::{Position, ReplayWindow},
};
use std::ops::Range;
use wireonce_ring::{BufferGroup, BufferId};
use wireonce_wire::{
    BlockHeader, DATAGRAM_HEADER_LEN, Datagram, DatagramHeader, PathIndex, Unpacker,
};

/// Number of a path's first datagram.
const FIRST_NUMBER: u64 = 1;
/// New numbers after which a report is due at once: well before the window, and with
/// it the evidence, has moved on.
const REPORT_AFTER_PACKETS: u64 = 1024;
/// A report is due this long after the first datagram that it is about.
const REPORT_AFTER_US: u64 = 5_000;

/// Buffers that a path may borrow: a frame lies in two, or in three if trains come in
/// pieces. What is in more is copied.
const BORROWED_MAX: usize = 4;

/// The receive buffers that are ours for now.
pub(crate) trait Buffers {
    /// All of a buffer.
    fn bytes(&self, buffer: BufferId) -> &[u8];
    /// The first `len` bytes of a buffer; none if it is not ours.
    fn bytes_mut(&mut self, buffer: BufferId, len: usize) -> &mut [u8];
}

impl Buffers for BufferGroup {
    fn bytes(&self, buffer: BufferId) -> &[u8] {
        Self::bytes(self, buffer)
    }

    fn bytes_mut(&mut self, buffer: BufferId, len: usize) -> &mut [u8] {
        self.received(buffer, len).unwrap_or_default()
    }
}

/// What a path counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RxCounters {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    pub(crate) auth_failed: u64,
    pub(crate) duplicates: u64,
    pub(crate) late: u64,
    pub(crate) too_old: u64,
}

/// A datagram that passed the checks, inside its receive buffer.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) buffer: BufferId,
    pub(crate) packet_number: u64,
    pub(crate) first_block: u16,
    pub(crate) payload: Range<usize>,
}

impl Opened {
    fn datagram<'b>(&self, buffers: &'b impl Buffers) -> Datagram<'b> {
        Datagram {
            packet_number: self.packet_number,
            first_block: self.first_block,
            payload: buffers.bytes(self.buffer).get(self.payload.clone()).unwrap_or_default(),
        }
    }
}

/// One path, receiving.
#[derive(Debug)]
pub(crate) struct RxPath {
    key: Option<OpeningKey>,
    window: ReplayWindow,
    unpacker: Unpacker,
    /// Datagrams of earlier buffers with the bytes of a frame that is not whole yet.
    lent: Vec<Opened>,
    report_at_us: Option<u64>,
    /// The sender has asked for the next one.
    asked: bool,
    /// The edge at the last report.
    reported_edge: u64,
    pub(crate) counters: RxCounters,
}

impl RxPath {
    pub(crate) fn new(session: &Session, index: PathIndex, local_worker: u8) -> Option<Self> {
        let key = if session.sealed {
            Some(session.opening_key(index.worker(), local_worker, index.path())?)
        } else {
            None
        };
        Some(Self {
            key,
            window: ReplayWindow::new(),
            unpacker: Unpacker::new(FIRST_NUMBER),
            lent: Vec::new(),
            report_at_us: None,
            asked: false,
            reported_edge: FIRST_NUMBER,
            counters: RxCounters::default(),
        })
    }

    /// Checks and opens the datagram in `bytes[at]` of a buffer, in place.
    pub(crate) fn open(
        &mut self,
        (buffer, bytes): (BufferId, &mut [u8]),
        at: Range<usize>,
        header: &DatagramHeader,
    ) -> Option<Opened> {
        let number = header.packet_number;
        match self.window.check(number) {
            Position::New => {}
            Position::Duplicate => {
                self.counters.duplicates += 1;
                return None;
            }
            Position::TooOld => {
                self.counters.too_old += 1;
                return None;
            }
        }
        let datagram = bytes.get_mut(at.clone())?;
        let len = datagram.len();
        let (head, rest) = datagram.split_first_chunk_mut::<DATAGRAM_HEADER_LEN>()?;
        let payload_len = match &self.key {
            Some(key) => {
                let Ok(len) = key.open(number, head, rest) else {
                    self.counters.auth_failed += 1;
                    return None;
                };
                len
            }
            None => rest.len(),
        };
        if number < self.unpacker.edge() {
            self.counters.late += 1;
            self.unpacker.note_late();
            return None;
        }
        self.window.mark(number);
        self.counters.datagrams += 1;
        self.counters.bytes += len as u64;
        let start = at.start + DATAGRAM_HEADER_LEN;
        Some(Opened {
            buffer,
            packet_number: number,
            first_block: header.first_block,
            payload: start..start + payload_len,
        })
    }

    /// Reads the blocks of datagrams that [`Self::open`] passed. Those that the path
    /// borrows from now on are of the run's buffer, if `may_borrow`, and of those that it has
    /// borrowed before; all others are done with.
    pub(crate) fn feed(
        &mut self,
        buffers: &impl Buffers,
        run: &[Opened],
        may_borrow: bool,
        now_us: u64,
        sink: &mut impl FnMut(&BlockHeader, &[&[u8]]),
    ) {
        let mut all: Vec<Datagram<'_>> = Vec::with_capacity(self.lent.len() + run.len());
        all.extend(self.lent.iter().chain(run).map(|opened| opened.datagram(buffers)));
        let (lent, new) = all.split_at(self.lent.len());
        let wanted = self.unpacker.feed_lent(lent, new, now_us, sink);
        let done = all.len().saturating_sub(wanted);
        let new_from = self.lent.len().min(done);
        self.lent.drain(..new_from);
        self.lent.extend_from_slice(run.get(done - new_from..).unwrap_or_default());
        if wanted > 0 && !(may_borrow && self.borrowed().count() <= BORROWED_MAX) {
            self.unpacker.keep_lent(all.get(done..).unwrap_or_default());
            self.lent.clear();
        }
    }

    /// The buffers that the path borrows, each once.
    pub(crate) fn borrowed(&self) -> impl Iterator<Item = BufferId> + '_ {
        // Datagrams of one buffer stand together.
        self.lent.chunk_by(|a, b| a.buffer == b.buffer).filter_map(|of| Some(of.first()?.buffer))
    }

    /// Bytes that the path holds.
    pub(crate) fn buffers_len(&self) -> usize {
        self.unpacker.buffers_len()
    }

    /// Frees the buffers that are not in use.
    pub(crate) fn shrink(&mut self) {
        self.unpacker.shrink();
    }

    /// Gives up what is incomplete, and frees all buffers.
    pub(crate) fn abandon(&mut self, sink: &mut impl FnMut(&BlockHeader, &[&[u8]])) {
        self.unpacker.abandon(sink);
        self.lent.clear();
    }

    /// Gives up holes that are too old.
    pub(crate) fn tick(&mut self, now_us: u64, sink: &mut impl FnMut(&BlockHeader, &[&[u8]])) {
        self.unpacker.tick(now_us, sink);
    }

    /// Frames came in, or the sender asks: a report must follow in time. A lost report
    /// needs no repetition, because a sender without news asks.
    pub(crate) fn want_report(&mut self, now_us: u64, asked: bool) {
        let many = self.unpacker.edge() - self.reported_edge >= REPORT_AFTER_PACKETS;
        let due = if asked || many { now_us } else { now_us + REPORT_AFTER_US };
        self.asked |= asked;
        self.report_at_us = Some(self.report_at_us.map_or(due, |at| at.min(due)));
    }

    /// The report, if one is due.
    pub(crate) fn report(&mut self, now_us: u64) -> Option<Evidence> {
        self.report_at_us.filter(|at| *at <= now_us)?;
        self.reported_edge = self.unpacker.edge();
        self.report_at_us = None;
        Evidence::about(&self.window, FIRST_NUMBER, self.reported_edge)
    }

    /// Whether the sender has asked for the report.
    pub(crate) fn take_asked(&mut self) -> bool {
        std::mem::take(&mut self.asked)
    }

    /// When [`Self::tick`] has something to do.
    pub(crate) fn next_hole_us(&self) -> Option<u64> {
        self.unpacker.next_deadline_us()
    }

    /// When [`Self::report`] has something to do.
    pub(crate) fn next_report_us(&self) -> Option<u64> {
        self.report_at_us
    }

    /// Counters of the block parser.
    pub(crate) fn unpack_stats(&self) -> wireonce_wire::UnpackStats {
        self.unpacker.stats()
    }
}
