//! The receiving side: from a buffer of datagrams to frames, and the messages that
//! the link sends itself.

use super::{
    ECT_PATH_BIT, FabricConfig, Inbound, PATH_NUMBERS,
    peers::tx_slot,
    rx::{Buffers, Opened, RxPath},
    unproved::{PathName, Unproved},
};
use crate::{
    PeerId, Session,
    evidence::Evidence,
    socket::{Arrival, RECEIVE_LAYOUT},
};
use rustc_hash::FxHashMap;
use std::{ops::Range, sync::Arc};
use wireonce_frame::{
    FrameRef, HEAD_LEN,
    ecn::{self, Ecn},
};
use wireonce_ledger::DropReason;
use wireonce_ring::{BufferId, ReceivedMsg};
use wireonce_wire::{BlockHeader, DatagramHeader, Endpoint, Kind, PathIndex};

/// First byte of a link message that carries evidence.
const EVIDENCE_KIND: u8 = 1;
/// First byte of a link message that asks for evidence.
const PROBE_KIND: u8 = 2;
/// Bytes before the evidence: kind, receiving worker, two reserved, path index.
const EVIDENCE_PREFIX_LEN: usize = 8;
/// The message that asks for evidence about the path that it comes on.
pub(super) const PROBE: [u8; 8] = [PROBE_KIND, 0, 0, 0, 0, 0, 0, 0];
/// Bytes that the incomplete frames and early datagrams of one session may take: some thirty
/// paths at their worst. A peer has up to a thousand, and may have been broken into.
const SESSION_BUFFERS_MAX: usize = 16 << 20;
/// Paths may borrow one receive buffer of so many: the others are for what arrives.
const BORROWED_SHARE: usize = 4;
/// Longest message of a link.
const LINK_MESSAGE_LEN_MAX: usize = 4096;

/// A session, receiving.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) session: Arc<Session>,
    /// By sender's worker and path; made when the first datagram has been authenticated.
    pub(super) paths: Vec<Option<Box<RxPath>>>,
    /// Bytes that its paths hold.
    buffers_len: usize,
}

impl Receiving {
    /// Frees what idle paths hold. Returns whether the rest is within bounds.
    fn shrink(&mut self) -> bool {
        self.paths.iter_mut().flatten().for_each(|path| path.shrink());
        self.buffers_len = self.paths.iter().flatten().map(|path| path.buffers_len()).sum();
        self.buffers_len <= SESSION_BUFFERS_MAX
    }
}

/// What peers send us.
#[derive(Debug)]
pub(super) struct Receiver {
    worker: u8,
    /// By our own session index, which every datagram names. Whoever sends chooses what is
    /// looked up, but not what is in it.
    pub(super) sessions: FxHashMap<u32, Receiving>,
    unproved: Unproved,
    run: Run,
    /// Buffers that paths have borrowed, and how many they may.
    borrowed: usize,
    borrowed_max: usize,
    /// Buffers that nobody needs any more.
    free: Vec<BufferId>,
    /// No hole is final before, by its age; none there is if it is [`u64::MAX`].
    hole_at_us: u64,
    /// Messages of links, until the buffer is done: who sent them, and what.
    link_messages: Vec<(PeerId, Vec<u8>)>,
    /// Datagrams of no session that we know.
    pub(super) strangers: u64,
    /// Datagrams whose header says nothing sensible.
    pub(super) malformed: u64,
    /// Datagrams of a session that we know, on a path that it does not have.
    pub(super) unknown_paths: u64,
    /// Datagrams on a path that nobody has used, which did not open.
    pub(super) forged_paths: u64,
    /// Datagrams on a path that nobody has used, which were not looked at, because too
    /// many before had not opened.
    pub(super) limited_paths: u64,
    /// Frames whose outer congestion mark could not be passed on (RFC 6040).
    pub(super) congestion_drops: u64,
}

/// The datagrams of one path that follow each other in a buffer, number by number.
#[derive(Debug, Default)]
struct Run {
    /// Whose: session index and slot.
    of: Option<PathName>,
    /// The path as datagrams name it.
    index: Option<PathIndex>,
    datagrams: Vec<Opened>,
}

impl Run {
    /// True if the datagram belongs to the run. One that comes out of order begins
    /// another: whether it is late can be said only after all before it were read.
    fn continues(&self, of: PathName, packet_number: u64) -> bool {
        let follows = self
            .datagrams
            .last()
            .is_none_or(|last| last.packet_number.checked_add(1) == Some(packet_number));
        self.of == Some(of) && follows
    }
}

/// A report to be sent.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) peer: PeerId,
    /// Which of its workers.
    pub(super) worker: u8,
    pub(super) message: Vec<u8>,
    /// The sender has asked for it.
    pub(super) asked: bool,
}

/// Evidence that a peer sent, and the path that it is about.
#[derive(Debug)]
pub(super) struct News {
    pub(super) peer: PeerId,
    pub(super) remote_index: u32,
    pub(super) remote_worker: u8,
    pub(super) path: u8,
    pub(super) evidence: Evidence,
}

impl Receiver {
    pub(super) fn new(config: &FabricConfig) -> Self {
        Self {
            worker: config.worker,
            sessions: FxHashMap::default(),
            unproved: Unproved::default(),
            run: Run::default(),
            borrowed: 0,
            borrowed_max: usize::from(config.receive_buffers) / BORROWED_SHARE,
            free: Vec::new(),
            hole_at_us: u64::MAX,
            link_messages: Vec::new(),
            strangers: 0,
            malformed: 0,
            unknown_paths: 0,
            forged_paths: 0,
            limited_paths: 0,
            congestion_drops: 0,
        }
    }

    pub(super) fn open_session(&mut self, session: Arc<Session>) {
        let slots = usize::from(session.remote_workers) * PATH_NUMBERS;
        let paths = std::iter::repeat_with(|| None).take(slots).collect();
        let receiving = Receiving { session, paths, buffers_len: 0 };
        let before = self.sessions.insert(receiving.session.local_index, receiving);
        self.take_back(before.iter());
    }

    pub(super) fn retire(&mut self, peer: PeerId, generation: u64) {
        self.give_up(|session| session.peer == peer && session.generation == generation);
    }

    /// Gives up all sessions with a peer.
    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        self.give_up(|session| session.peer == peer);
    }

    fn give_up(&mut self, ends: impl Fn(&Session) -> bool) {
        let Self { sessions, unproved, .. } = self;
        let gone = |_: &u32, Receiving { session, .. }: &mut Receiving| ends(session);
        let gone: Vec<_> = sessions.extract_if(gone).collect();
        gone.iter().for_each(|(index, _)| unproved.forget(*index));
        self.take_back(gone.iter().map(|(_, receiving)| receiving));
    }

    /// Takes back what the paths of a session that is gone have borrowed.
    fn take_back<'s>(&mut self, gone: impl Iterator<Item = &'s Receiving>) {
        let before = self.free.len();
        let paths = gone.flat_map(|receiving| receiving.paths.iter().flatten());
        self.free.extend(paths.flat_map(|path| path.borrowed()));
        self.borrowed -= self.free.len() - before;
    }

    /// Buffers that were given to [`Self::receive`] and that nobody needs any more.
    pub(super) fn free(&mut self) -> impl Iterator<Item = BufferId> + '_ {
        self.free.drain(..)
    }

    /// Takes apart the first `len` bytes of a buffer, which one receive has filled. The
    /// buffer is ours until [`Self::free`] has it.
    pub(super) fn receive(
        &mut self,
        buffers: &mut impl Buffers,
        (buffer, len): (BufferId, usize),
        now_us: u64,
        sink: &mut impl FnMut(Inbound<'_>),
    ) {
        let Some(msg) = ReceivedMsg::parse(buffers.bytes_mut(buffer, len), RECEIVE_LAYOUT) else {
            self.free.push(buffer);
            return;
        };
        let arrival = Arrival::of(&msg);
        let mut start = RECEIVE_LAYOUT.payload_offset();
        let end = start + msg.payload.len();
        while start < end {
            let at = start..end.min(start + arrival.datagram_len);
            start = at.end;
            let bytes = buffers.bytes_mut(buffer, len);
            let Some((header, of)) = bytes.get(at.clone()).and_then(|d| self.sort(d)) else {
                continue;
            };
            if !self.run.continues(of, header.packet_number) {
                self.feed(buffers, false, arrival.ecn, now_us, sink);
                self.run.of = Some(of);
                self.run.index = Some(header.path);
            }
            let bytes = buffers.bytes_mut(buffer, len);
            self.open(of, (buffer, bytes), at, &header, now_us);
        }
        // The last path may borrow the buffer; nobody else then has a part of it.
        let borrowed = self.feed(buffers, true, arrival.ecn, now_us, sink);
        self.run.of = None;
        if !borrowed {
            self.free.push(buffer);
        }
    }

    /// Runs the timers: frames behind holes that are given up go to `sink`.
    pub(super) fn tick(&mut self, now_us: u64, sink: &mut impl FnMut(Inbound<'_>)) {
        self.hole_at_us = u64::MAX;
        for receiving in self.sessions.values_mut() {
            let peer = receiving.session.peer;
            for path in receiving.paths.iter_mut().flatten() {
                let mut blocks = Blocks::new(peer, Ecn::NotEct, &mut self.link_messages);
                let before = path.buffers_len();
                path.tick(now_us, &mut |header, parts| blocks.take(header, parts, sink));
                receiving.buffers_len = (receiving.buffers_len + path.buffers_len()) - before;
                blocks.note(path, now_us);
                self.hole_at_us = self.hole_at_us.min(path.next_hole_us().unwrap_or(u64::MAX));
            }
        }
    }

    /// Reports that are due, into `reports`.
    pub(super) fn reports(&mut self, now_us: u64, reports: &mut Vec<Report>) {
        for (index, receiving) in &mut self.sessions {
            for (slot, path) in receiving.paths.iter_mut().enumerate() {
                let Some(path) = path else { continue };
                let Some(evidence) = path.report(now_us) else { continue };
                let asked = path.take_asked();
                let Ok(worker) = u8::try_from(slot / PATH_NUMBERS) else { continue };
                let number = u8::try_from(slot % PATH_NUMBERS).unwrap_or(0);
                let Some(about) = PathIndex::new(*index, worker, number) else { continue };
                let mut message = vec![EVIDENCE_KIND, self.worker, 0, 0];
                message.extend_from_slice(&about.to_bits().to_le_bytes());
                evidence.encode(&mut message);
                let peer = receiving.session.peer;
                reports.push(Report { peer, worker, message, asked });
            }
        }
    }

    /// Link messages that came in: questions are noted, evidence goes to `news`.
    pub(super) fn read_link_messages(&mut self, news: &mut Vec<News>) {
        for (peer, message) in self.link_messages.drain(..) {
            let Some((prefix, body)) = message.split_first_chunk::<EVIDENCE_PREFIX_LEN>() else {
                continue;
            };
            let [kind, remote_worker, _, _, index @ ..] = *prefix;
            if kind != EVIDENCE_KIND {
                continue;
            }
            let about = PathIndex::from_bits(u32::from_le_bytes(index));
            if about.worker() != self.worker {
                continue;
            }
            let Ok(evidence) = Evidence::decode(body) else {
                self.malformed += 1;
                continue;
            };
            news.push(News {
                peer,
                remote_index: about.session(),
                remote_worker,
                path: about.path(),
                evidence,
            });
        }
    }

    /// When a report is due.
    pub(super) fn next_report_us(&self) -> Option<u64> {
        let paths = self.sessions.values().flat_map(|receiving| receiving.paths.iter().flatten());
        paths.filter_map(|path| path.next_report_us()).min()
    }

    /// When [`Self::tick`] may have a hole to give up. The hole may have been filled since.
    pub(super) fn next_hole_us(&self) -> Option<u64> {
        (self.hole_at_us != u64::MAX).then_some(self.hole_at_us)
    }

    /// Finds the session and path of a datagram, by its clear header alone.
    fn sort(&mut self, datagram: &[u8]) -> Option<(DatagramHeader, PathName)> {
        let Ok((header, _)) = DatagramHeader::parse(datagram) else {
            self.malformed += 1;
            return None;
        };
        if header.kind != Kind::Data {
            self.malformed += 1;
            return None;
        }
        let index = header.path;
        if let Some(of) = self.run.of
            && self.run.index == Some(index)
        {
            return Some((header, of));
        }
        let Some(receiving) = self.sessions.get(&index.session()) else {
            self.strangers += 1;
            return None;
        };
        let slot = tx_slot(index.worker(), index.path());
        let number = index.path() & !ECT_PATH_BIT;
        if slot >= receiving.paths.len() || number >= receiving.session.paths {
            self.unknown_paths += 1;
            return None;
        }
        Some((header, (index.session(), slot)))
    }

    /// Checks and opens one datagram. A path gets its state only when a datagram has
    /// proved that it comes from the peer.
    fn open(
        &mut self,
        of: PathName,
        (buffer, bytes): (BufferId, &mut [u8]),
        at: Range<usize>,
        header: &DatagramHeader,
        now_us: u64,
    ) {
        let Some(receiving) = self.sessions.get_mut(&of.0) else { return };
        let Some(place) = receiving.paths.get_mut(of.1) else { return };
        if let Some(path) = place {
            self.run.datagrams.extend(path.open((buffer, bytes), at, header));
            return;
        }
        let derive = || RxPath::new(&receiving.session, header.path, self.worker);
        let Some(mut path) = self.unproved.take(of, now_us, derive) else {
            self.limited_paths += 1;
            return;
        };
        if let Some(opened) = path.open((buffer, bytes), at, header) {
            self.unproved.proved();
            *place = Some(path);
            self.run.datagrams.push(opened);
        } else {
            self.unproved.keep(of, path);
            self.forged_paths += 1;
        }
    }

    /// Hands the blocks of the run on. Returns whether the path has borrowed the run's
    /// buffer, which it may only if it `is_last` there.
    fn feed(
        &mut self,
        buffers: &impl Buffers,
        is_last: bool,
        mark: Ecn,
        now_us: u64,
        sink: &mut impl FnMut(Inbound<'_>),
    ) -> bool {
        let Some((session, slot)) = self.run.of else { return false };
        let Some(&Opened { buffer, .. }) = self.run.datagrams.first() else { return false };
        let mut borrowed = false;
        if let Some(receiving) = self.sessions.get_mut(&session)
            && let Some(path) = receiving.paths.get_mut(slot).and_then(Option::as_mut)
        {
            let peer = receiving.session.peer;
            let mut blocks = Blocks::new(peer, mark, &mut self.link_messages);
            let before = path.buffers_len();
            let lent: Vec<_> = path.borrowed().collect();
            let may_borrow = is_last && self.borrowed < self.borrowed_max;
            path.feed(buffers, &self.run.datagrams, may_borrow, now_us, &mut |header, parts| {
                blocks.take(header, parts, sink);
            });
            self.hole_at_us = self.hole_at_us.min(path.next_hole_us().unwrap_or(u64::MAX));
            let done = lent.iter().filter(|lent| path.borrowed().all(|id| id != **lent));
            let free_before = self.free.len();
            self.free.extend(done);
            borrowed = path.borrowed().any(|id| id == buffer);
            self.borrowed += usize::from(borrowed);
            self.borrowed -= self.free.len() - free_before;
            receiving.buffers_len = (receiving.buffers_len + path.buffers_len()) - before;
            if receiving.buffers_len > SESSION_BUFFERS_MAX
                && !receiving.shrink()
                && let Some(path) = receiving.paths.get_mut(slot).and_then(Option::as_mut)
            {
                let before = path.buffers_len();
                let free_before = self.free.len();
                self.free.extend(path.borrowed().filter(|id| *id != buffer));
                self.borrowed -= self.free.len() - free_before + usize::from(borrowed);
                borrowed = false;
                path.abandon(&mut |header, parts| blocks.take(header, parts, sink));
                receiving.buffers_len = (receiving.buffers_len + path.buffers_len()) - before;
            }
            if let Some(path) = receiving.paths.get_mut(slot).and_then(Option::as_mut) {
                blocks.note(path, now_us);
            }
            if blocks.frames > 0 {
                receiving.session.mark_used();
            }
            self.congestion_drops += blocks.congestion_drops;
        }
        self.run.datagrams.clear();
        borrowed
    }
}

/// Sorts blocks into frames and messages of the link.
struct Blocks<'m> {
    peer: PeerId,
    mark: Ecn,
    messages: &'m mut Vec<(PeerId, Vec<u8>)>,
    frames: u64,
    asked: bool,
    congestion_drops: u64,
}

impl<'m> Blocks<'m> {
    fn new(peer: PeerId, mark: Ecn, messages: &'m mut Vec<(PeerId, Vec<u8>)>) -> Self {
        Self { peer, mark, messages, frames: 0, asked: false, congestion_drops: 0 }
    }

    fn take(&mut self, header: &BlockHeader, parts: &[&[u8]], sink: &mut impl FnMut(Inbound<'_>)) {
        if header.destination == Endpoint::Link {
            self.take_message(parts);
            return;
        }
        self.frames += 1;
        let mut inbound = |frame, refused| {
            sink(Inbound { peer: self.peer, header, frame, refused });
        };
        let frame = FrameRef::new(parts, header.offload);
        if self.mark != Ecn::Ce {
            inbound(frame, None);
            return;
        }
        // A router was congested: the mark goes into the inner header (RFC 6040, 4.2).
        let mut head = [0; HEAD_LEN];
        match ecn::carry_over(&frame, self.mark, &mut head) {
            Ok(None) => inbound(frame, None),
            Ok(Some(len)) => {
                let mut marked: Vec<&[u8]> = vec![&head[..len]];
                marked.extend(frame.parts_from(len));
                inbound(FrameRef::new(&marked, header.offload), None);
            }
            Err(_) => {
                self.congestion_drops += 1;
                inbound(frame, Some(DropReason::CongestionMark));
            }
        }
    }

    fn take_message(&mut self, parts: &[&[u8]]) {
        let message = parts.concat();
        if message.len() > LINK_MESSAGE_LEN_MAX {
            return;
        }
        match message.first() {
            Some(&PROBE_KIND) => self.asked = true,
            _ => self.messages.push((self.peer, message)),
        }
    }

    /// Frames and questions want a report; the reports themselves do not.
    fn note(&self, path: &mut RxPath, now_us: u64) {
        if self.frames > 0 || self.asked {
            path.want_report(now_us, self.asked);
        }
    }
}
