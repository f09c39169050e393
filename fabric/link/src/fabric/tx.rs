//! The sending half of one path.
//!
//! ```text
//!   put() ─▶ packer: the open train ─▶ full trains, sealed ─▶ socket
//!                                      └ wait here, in order, while the socket is full
//! ```
//!
//! A path is a number space of its own: its packets are numbered from 1, its key
//! is its own, and what it carries is remembered in [`Fates`] until the receiver's
//! evidence tells whether it arrived.

use super::{Outbound, paths::Asked, room::Full};
use crate::{
    KeyLimits, SealError, SealingKey, Session,
    aead::blocks_of,
    evidence::{Evidence, Fate, Fates},
    socket::{Destination, FabricSocket, Sent},
};
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};
use wireonce_frame::{FrameSource, ecn::Ecn};
use wireonce_ledger::Amount;
use wireonce_wire::{Geometry, Packer, PathIndex, Train, TrainPool};

/// Full trains that may wait for a full socket before senders are told to stop.
const QUEUED_TRAINS_MAX: usize = 8;

/// Blocks of the cipher that one more frame may cost, beside what the open train holds:
/// twice the longest of both, with what their datagrams add.
const UNSEALED_BLOCKS_MAX: u64 = 1 << 14;

/// A path without news of what it sent asks for it after this long.
const PROBE_AFTER_US: u64 = 20_000;
/// Longest interval between such questions, when nobody answers.
const PROBE_AFTER_MAX_US: u64 = 1_000_000;

/// What a path counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TxCounters {
    pub(crate) trains: u64,
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    pub(crate) busy: u64,
    pub(crate) starved: u64,
    pub(crate) failed_trains: u64,
    /// Datagrams that the receiver says it never got.
    pub(crate) lost: u64,
}

/// One path, sending.
#[derive(Debug)]
pub(crate) struct TxPath {
    packer: Packer,
    key: Option<SealingKey>,
    session: Arc<Session>,
    limits: KeyLimits,
    /// What the key has sealed, in blocks.
    sealed_blocks: u64,
    fates: Fates,
    waiting: VecDeque<Train>,
    to: Destination,
    /// Which of the worker's sockets it uses.
    pub(crate) socket: usize,
    ecn: Ecn,
    probe_at_us: Option<u64>,
    probe_after_us: u64,
    /// Questions without answers.
    pub(crate) asked: Asked,
    /// What the receiver has said of all numbers below it.
    reported_to: u64,
    pub(crate) counters: TxCounters,
}

/// What identifies a path inside a session, on the sender's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TxPathName {
    pub(crate) local_worker: u8,
    pub(crate) remote_worker: u8,
    /// Path number; [`super::ECT_PATH_BIT`] is set for ECN-capable frames.
    pub(crate) path: u8,
}

impl TxPath {
    pub(crate) fn new(
        session: &Arc<Session>,
        name: TxPathName,
        limits: KeyLimits,
        geometry: Geometry,
        to: Destination,
        socket: usize,
    ) -> Option<Self> {
        let index = PathIndex::new(session.remote_index, name.local_worker, name.path)?;
        let key = if session.sealed {
            Some(session.sealing_key(name.local_worker, name.remote_worker, name.path)?)
        } else {
            None
        };
        let ecn = if name.path & super::ECT_PATH_BIT == 0 { Ecn::NotEct } else { Ecn::Ect0 };
        Some(Self {
            packer: Packer::new(index, session.epoch, geometry, 1),
            key,
            session: Arc::clone(session),
            limits,
            sealed_blocks: 0,
            fates: Fates::new(),
            waiting: VecDeque::new(),
            to,
            socket,
            ecn,
            probe_at_us: None,
            probe_after_us: PROBE_AFTER_US,
            asked: Asked::default(),
            reported_to: 0,
            counters: TxCounters::default(),
        })
    }

    /// True while the path takes another frame.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < QUEUED_TRAINS_MAX && !self.is_used_up()
    }

    /// True while the path takes another message of the link itself.
    pub(crate) fn has_room_for_link(&self) -> bool {
        self.waiting.len() < QUEUED_TRAINS_MAX && self.may_seal(self.limits.stop_blocks)
    }

    /// True if the path's key may seal no more frames: only another session helps.
    pub(crate) fn is_used_up(&self) -> bool {
        !self.may_seal(self.limits.frame_blocks)
    }

    /// Whether one more frame, and all before it, may be sealed without passing `limit`.
    fn may_seal(&self, limit: u64) -> bool {
        self.sealed_blocks.saturating_add(UNSEALED_BLOCKS_MAX) <= limit
    }

    /// Appends a frame to the open train and remembers it for the books. Returns what
    /// had to be forgotten for it: account and amount of frames of unknown fate.
    pub(crate) fn put<S: FrameSource + ?Sized>(
        &mut self,
        block: &Outbound,
        frame: &mut S,
        pool: &mut TrainPool,
        now_us: u64,
    ) -> Option<(u64, Amount)> {
        let before = self.waiting.len();
        let span = self.packer.put(
            block.destination,
            block.source,
            block.offload,
            frame,
            pool,
            &mut self.waiting,
        );
        let forgotten = self.fates.sent(span.first..=span.last, block.account, block.amount);
        self.seal_from(before);
        self.probe_at_us.get_or_insert(now_us + self.probe_after_us);
        forgotten
    }

    /// Appends a message of the link itself.
    pub(crate) fn put_link(&mut self, payload: &[u8], pool: &mut TrainPool) {
        let before = self.waiting.len();
        self.packer.put_link(payload, pool, &mut self.waiting);
        self.seal_from(before);
    }

    /// Ends the open train and sends what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// [`Full`]: why not all went.
    pub(crate) fn flush(
        &mut self,
        socket: &FabricSocket,
        pool: &mut TrainPool,
    ) -> Result<(), Full> {
        let before = self.waiting.len();
        if let Some(train) = self.packer.close() {
            self.waiting.push_back(train);
            self.seal_from(before);
        }
        self.send_waiting(socket, pool)
    }

    /// Sends full trains; the open one stays open.
    ///
    /// # Errors
    /// [`Full`]: why not all went.
    pub(crate) fn send_waiting(
        &mut self,
        socket: &FabricSocket,
        pool: &mut TrainPool,
    ) -> Result<(), Full> {
        while let Some(train) = self.waiting.front() {
            match socket.send(&self.to, train.bytes(), train.datagram_len(), self.ecn) {
                Sent::Yes => {
                    self.counters.trains += 1;
                    self.counters.datagrams += train.count() as u64;
                    self.counters.bytes += train.bytes().len() as u64;
                }
                Sent::Busy => {
                    self.counters.busy += 1;
                    return Err(Full::Socket);
                }
                Sent::Starved => {
                    self.counters.starved += 1;
                    return Err(Full::Memory);
                }
                // Its packet numbers are never received, so the receiver's evidence
                // books its frames as lost.
                Sent::Failed(_) => self.counters.failed_trains += 1,
            }
            if let Some(train) = self.waiting.pop_front() {
                pool.put(train);
            }
        }
        Ok(())
    }

    /// True if [`Self::flush`] would have something to do.
    pub(crate) fn has_work(&self) -> bool {
        self.packer.is_open() || !self.waiting.is_empty()
    }

    /// Datagrams are of another size from the next train on.
    pub(crate) fn set_geometry(&mut self, geometry: Geometry) {
        let before = self.waiting.len();
        if let Some(train) = self.packer.set_geometry(geometry) {
            self.waiting.push_back(train);
            self.seal_from(before);
        }
    }

    /// Books what the receiver says of earlier frames.
    pub(crate) fn resolve(
        &mut self,
        evidence: &Evidence,
        now_us: u64,
        each: &mut impl FnMut(u64, Amount, Fate),
    ) {
        self.fates.resolve(evidence, each);
        let news = self.reported_to..;
        let lost = evidence.missing().map(|gap| gap.end.saturating_sub(gap.start.max(news.start)));
        self.counters.lost += lost.sum::<u64>();
        self.reported_to = self.reported_to.max(evidence.to());
        self.asked.answer(now_us);
        self.probe_after_us = PROBE_AFTER_US;
        self.probe_at_us = (!self.fates.is_empty()).then_some(now_us + self.probe_after_us);
    }

    /// The session is gone, or the peer is silent: nobody will say what became of the
    /// rest. What was not sent yet never is, for it would come after its frames were
    /// booked. Its packet numbers are used up.
    pub(crate) fn abandon(
        &mut self,
        pool: &mut TrainPool,
        each: &mut impl FnMut(u64, Amount, Fate),
    ) {
        self.waiting.extend(self.packer.close());
        self.waiting.drain(..).for_each(|train| pool.put(train));
        self.fates.abandon(each);
        self.probe_at_us = None;
    }

    /// When [`Self::probe_due`] wants to be asked again.
    pub(crate) fn probe_at_us(&self) -> Option<u64> {
        self.probe_at_us
    }

    /// Wants to be asked for a probe then, whether or not frames wait.
    pub(crate) fn ask_at(&mut self, at_us: u64) {
        self.probe_at_us = Some(self.probe_at_us.map_or(at_us, |us| us.min(at_us)));
    }

    /// True if frames wait for evidence that does not come: the last datagrams may
    /// be lost, which the receiver cannot know before it sees a later number.
    pub(crate) fn probe_due(&mut self, now_us: u64) -> bool {
        match self.probe_at_us {
            Some(at) if at <= now_us => {
                let echoes = self.session.data.echoes.load(Ordering::Relaxed);
                self.asked.ask(now_us, echoes);
                self.probe_after_us = (self.probe_after_us * 2).min(PROBE_AFTER_MAX_US);
                self.probe_at_us = Some(now_us + self.probe_after_us);
                true
            }
            _ => false,
        }
    }

    /// Seals the trains from position `first` on. What cannot be sealed is not sent, and
    /// nothing behind it: the receiver's evidence books it as lost. It is beyond the key's
    /// last packet number, so [`Self::may_seal`] comes first by far.
    fn seal_from(&mut self, first: usize) {
        let Some(key) = &self.key else { return };
        let mut trains = self.waiting.iter_mut().enumerate().skip(first);
        let refused = trains.find_map(|(at, train)| {
            seal(key, train, &mut self.sealed_blocks).is_err().then_some(at)
        });
        if let Some(at) = refused {
            self.counters.failed_trains += (self.waiting.len() - at) as u64;
            self.waiting.truncate(at);
        }
        if self.sealed_blocks >= self.limits.rekey_blocks {
            self.session.ask_rekey();
        }
    }
}

/// Seals the datagrams of `train`, and adds what that cost to `blocks`.
fn seal(key: &SealingKey, train: &mut Train, blocks: &mut u64) -> Result<(), SealError> {
    for datagram in train.datagrams() {
        let Some(tag) = datagram.tag.first_chunk_mut() else { continue };
        *blocks += blocks_of(datagram.payload.len());
        key.seal(datagram.packet_number, datagram.header, datagram.payload, tag)?;
    }
    Ok(())
}
