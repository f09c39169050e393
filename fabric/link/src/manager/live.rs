//! One session as the manager sees it: its control keys, numbers and hellos.

use super::goodbye::Goodbye;
use super::gray::Judge;
use super::hello::{HELLO_LEN_MIN, Hello};
use super::message::{NUMBER_FIRST, Note};
use super::mtu::MtuSearch;
use crate::aead::{HEADER_LEN, OpeningKey, SealingKey, TAG_LEN};
use crate::handshake::header::{Header, Kind};
use crate::replay::{Position, ReplayWindow};
use crate::session::Session;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Our hellos whose arrival is still of interest: as many as an echo can name.
const SENT_MAX: usize = 64;

/// A hello counts as missed when so many later ones were heard.
const LATER_HEARD: u64 = 3;

/// Why a control message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Forged,
    Repeated,
    Unknown,
}

/// What a control datagram said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// And whether no later message of the peer was heard before it.
    Hello(Hello, bool),
    Goodbye(Goodbye),
    Note(Note),
}

/// What a hello told about ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Echo {
    /// The peer heard one that it had not heard before.
    pub(super) progressed: bool,
    /// When the newest that it heard was sent.
    pub(super) sent_us: Option<u64>,
    pub(super) rtt_us: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    number: u64,
    len: u16,
    at_us: u64,
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) session: Arc<Session>,
    /// Responder only: nothing was heard on it yet, so nothing is sent on it.
    pub(super) pending: bool,
    pub(super) created_us: u64,
    /// When we last heard anything on it, at first when it was made.
    pub(super) heard_us: u64,
    sealing: SealingKey,
    opening: OpeningKey,
    window: ReplayWindow,
    /// Of messages of those above: number less [`NUMBER_FIRST`].
    notes: ReplayWindow,
    /// When the highest number was heard.
    edge_us: u64,
    next_number: u64,
    next_note: u64,
    sent: VecDeque<Sent>,
    /// One more than the highest of our numbers that the peer heard.
    echoed: u64,
}

impl Live {
    pub(super) fn new(session: Arc<Session>, pending: bool, now_us: u64) -> Option<Self> {
        let (sealing, opening) = session.control_keys()?;
        Some(Self {
            session,
            pending,
            created_us: now_us,
            heard_us: now_us,
            sealing,
            opening,
            window: ReplayWindow::new(),
            notes: ReplayWindow::new(),
            edge_us: now_us,
            next_number: 0,
            next_note: 0,
            sent: VecDeque::with_capacity(SENT_MAX),
            echoed: 0,
        })
    }

    /// The number of the next message.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// A hello of `len` bytes, or of the shortest length if that is longer, which says that
    /// we need one each `every_us`.
    pub(super) fn hello(&mut self, now_us: u64, every_us: u32, len: u16) -> Option<Vec<u8>> {
        let number = self.next_number;
        let len = len.max(u16::try_from(HELLO_LEN_MIN).unwrap_or(u16::MAX));
        let hold_us = now_us.saturating_sub(self.edge_us);
        let payload = Hello::about(&self.window, hold_us, every_us).emit(len);
        let bytes = self.seal(number, payload)?;
        self.next_number += 1;
        if self.sent.len() >= SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent { number, len, at_us: now_us });
        Some(bytes)
    }

    /// The datagram that ends the session.
    pub(super) fn goodbye(&mut self, goodbye: Goodbye) -> Option<Vec<u8>> {
        let bytes = self.seal(self.next_number, goodbye.emit())?;
        self.next_number += 1;
        Some(bytes)
    }

    /// A datagram with a message of those above, given as its clear payload.
    pub(super) fn note(&mut self, payload: Vec<u8>) -> Option<Vec<u8>> {
        let bytes = self.seal(NUMBER_FIRST.checked_add(self.next_note)?, payload)?;
        self.next_note += 1;
        Some(bytes)
    }

    /// A control datagram with a number that none before had.
    fn seal(&mut self, number: u64, mut payload: Vec<u8>) -> Option<Vec<u8>> {
        let header = Header {
            version: self.session.version,
            kind: Kind::Control,
            epoch: self.session.epoch,
            index: self.session.remote_index,
            packet_number: number,
        }
        .emit();
        let mut tag = [0; TAG_LEN];
        self.sealing.seal(number, &header, &mut payload, &mut tag).ok()?;
        Some([&header[..], &payload[..], &tag[..]].concat())
    }

    /// What was sent before a silence proves nothing about the path after it, even if
    /// the peer still tells that it came.
    pub(super) fn forget_sent(&mut self) {
        self.sent.clear();
    }

    /// Opens a control datagram: check the window, verify, mark.
    pub(super) fn open(
        &mut self,
        now_us: u64,
        header: Header,
        datagram: &mut [u8],
    ) -> Result<Message, Refused> {
        if header.version != self.session.version || header.epoch != self.session.epoch {
            return Err(Refused::Forged);
        }
        if let Some(number) = header.packet_number.checked_sub(NUMBER_FIRST) {
            return self.open_note(now_us, number, header.packet_number, datagram);
        }
        if self.window.check(header.packet_number) != Position::New {
            return Err(Refused::Repeated);
        }
        let (bytes, sealed) =
            datagram.split_first_chunk_mut::<HEADER_LEN>().ok_or(Refused::Forged)?;
        let len =
            self.opening.open(header.packet_number, bytes, sealed).map_err(|_| Refused::Forged)?;
        self.heard_us = now_us;
        let newest = header.packet_number >= self.window.edge();
        if newest {
            self.edge_us = now_us;
        }
        self.window.mark(header.packet_number);
        let payload = sealed.get(..len).unwrap_or_default();
        let hello = Hello::parse(payload).map(|hello| Message::Hello(hello, newest));
        hello.or_else(|| Goodbye::parse(payload).map(Message::Goodbye)).ok_or(Refused::Unknown)
    }

    /// Opens a message of those above, whose `number` is counted by itself.
    fn open_note(
        &mut self,
        now_us: u64,
        number: u64,
        packet_number: u64,
        datagram: &mut [u8],
    ) -> Result<Message, Refused> {
        if self.notes.check(number) != Position::New {
            return Err(Refused::Repeated);
        }
        let (bytes, sealed) =
            datagram.split_first_chunk_mut::<HEADER_LEN>().ok_or(Refused::Forged)?;
        let len = self.opening.open(packet_number, bytes, sealed).map_err(|_| Refused::Forged)?;
        self.heard_us = now_us;
        self.notes.mark(number);
        let payload = sealed.get(..len).unwrap_or_default();
        Note::parse(payload).map(Message::Note).ok_or(Refused::Unknown)
    }

    /// Books which of our hellos the peer heard.
    pub(super) fn echo(
        &mut self,
        now_us: u64,
        hello: &Hello,
        mtu: &mut MtuSearch,
        judge: &mut Judge,
    ) -> Echo {
        let mut echo = Echo::default();
        if hello.heard > self.next_number || hello.heard < self.echoed {
            // Overtaken by a later hello, or nonsense.
            return echo;
        }
        echo.progressed = hello.heard > self.echoed;
        self.echoed = hello.heard;
        if echo.progressed {
            self.session.data.echoes.fetch_add(1, Ordering::Relaxed);
        }
        // Whether a longer one arrives says something of its length only.
        let mut short = |sent: &Sent, is_lost| {
            if usize::from(sent.len) <= HELLO_LEN_MIN {
                mtu.short(is_lost);
                judge.count(now_us, is_lost);
            }
        };
        self.sent.iter().for_each(|sent| match hello.heard_number(sent.number) {
            Some(true) => short(sent, false),
            Some(false) if sent.number + LATER_HEARD < hello.heard => short(sent, true),
            _ => {}
        });
        self.sent.retain(|sent| match hello.heard_number(sent.number) {
            Some(true) => {
                mtu.arrived(sent.len);
                if sent.number + 1 == hello.heard {
                    echo.sent_us = Some(sent.at_us);
                    let passed_us = now_us.saturating_sub(sent.at_us);
                    echo.rtt_us = Some(passed_us.saturating_sub(hello.hold_us.into()));
                }
                false
            }
            Some(false) if sent.number + LATER_HEARD < hello.heard => {
                mtu.missed(sent.len);
                false
            }
            _ => true,
        });
        echo
    }
}
