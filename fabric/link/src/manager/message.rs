//! Messages of those above: bandwidth reports and leases. The link does not know what they say.
//!
//! Body, little endian, sealed with the session's control key:
//!
//! ```text
//!  0  kind        1   3
//!  1  channel     1   whom it is for at the receiver
//!  2  length      2   of the whole UDP payload, tag included
//!  4  payload         at most 1,024 bytes
//! ```
//!
//! They are not acknowledged and not repeated: each says the whole state of something, and
//! the next one says it again. Their packet numbers are apart from the hellos', from
//! [`NUMBER_FIRST`] on, with a replay window of their own: a hello tells which of the last
//! 64 hellos were heard, and may not run out of bits because of other messages.

use super::{Manager, Output, gray::CHANNEL};
use crate::aead::{HEADER_LEN, PACKET_NUMBER_LIMIT, TAG_LEN};
use crate::random::Random;
use crate::session::PeerId;

const KIND_MESSAGE: u8 = 3;
const FIXED_LEN: usize = 4;

/// Longest payload, in bytes.
pub const MESSAGE_LEN_MAX: usize = 1_024;

/// Packet number of the first message of a session.
pub(super) const NUMBER_FIRST: u64 = PACKET_NUMBER_LIMIT / 2;

/// Messages that a peer may send us: so many at once, and one more in each so many
/// microseconds. Eight uplinks between two hosts need 1,600 a second.
const BURST: u64 = 256;
const EVERY_US: u64 = 250;

/// A message that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) channel: u8,
    pub(super) payload: Vec<u8>,
}

impl Note {
    /// The clear payload; `None` if it is too long.
    pub(super) fn emit(channel: u8, payload: &[u8]) -> Option<Vec<u8>> {
        if payload.len() > MESSAGE_LEN_MAX {
            return None;
        }
        let len = HEADER_LEN + FIXED_LEN + payload.len() + TAG_LEN;
        let [l0, l1] = u16::try_from(len).ok()?.to_le_bytes();
        Some([&[KIND_MESSAGE, channel, l0, l1], payload].concat())
    }

    /// The message in the clear `bytes`; `None` for anything else.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (fixed, payload) = bytes.split_first_chunk::<FIXED_LEN>()?;
        let [kind, channel, l0, l1] = *fixed;
        let len = usize::from(u16::from_le_bytes([l0, l1]));
        let sane = kind == KIND_MESSAGE
            && payload.len() <= MESSAGE_LEN_MAX
            && len == HEADER_LEN + bytes.len() + TAG_LEN;
        sane.then(|| Self { channel, payload: payload.to_vec() })
    }
}

/// What a peer may still send.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meter {
    /// Until when the messages so far are paid for.
    paid_us: u64,
}

impl Meter {
    /// One more message: is it within the limit?
    pub(super) fn admits(&mut self, now_us: u64) -> bool {
        let from_us = self.paid_us.max(now_us);
        let admits = from_us.saturating_sub(now_us) <= (BURST - 1) * EVERY_US;
        if admits {
            self.paid_us = from_us.saturating_add(EVERY_US);
        }
        admits
    }
}

impl<R: Random> Manager<R> {
    /// Sends a message on the session that is in use. Without one, or if it is longer than
    /// [`MESSAGE_LEN_MAX`], it is not sent.
    pub fn send_message(&mut self, id: PeerId, channel: u8, payload: &[u8]) {
        let Some(peer) = self.peers.get_mut(id.0).filter(|peer| peer.up) else { return };
        let to = peer.address;
        let bytes = peer.current().and_then(|live| live.note(Note::emit(channel, payload)?));
        if let Some(bytes) = bytes {
            peer.counters.messages_sent += 1;
            self.outputs.push_back(Output::Send { to, bytes });
        }
    }

    /// An authentic message came.
    pub(super) fn heard_message(&mut self, now_us: u64, id: PeerId, note: Note) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        if !peer.messages.admits(now_us) {
            peer.counters.messages_limited += 1;
            return;
        }
        peer.counters.messages_heard += 1;
        let Note { channel, payload } = note;
        if channel == CHANNEL {
            return self.heard_trouble(now_us, id, &payload);
        }
        self.outputs.push_back(Output::Message { peer: id, channel, payload });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::{goodbye::Goodbye, hello::Hello};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_emitted_parses(
            channel: u8, payload in proptest::collection::vec(any::<u8>(), 0..MESSAGE_LEN_MAX + 1),
        ) {
            let bytes = Note::emit(channel, &payload).unwrap();
            prop_assert_eq!(Hello::parse(&bytes), None);
            prop_assert_eq!(Goodbye::parse(&bytes), None);
            prop_assert_eq!(Note::parse(&bytes[..bytes.len() - 1]), None);
            prop_assert_eq!(Note::parse(&bytes), Some(Note { channel, payload }));
        }

        #[test]
        fn what_parses_emits_the_same_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if bytes.len() >= FIXED_LEN {
                let len = u16::try_from(bytes.len() + 32).unwrap();
                bytes[0] = KIND_MESSAGE;
                bytes[2..4].copy_from_slice(&len.to_le_bytes());
            }
            match Note::parse(&bytes) {
                Some(note) => {
                    prop_assert_eq!(Note::emit(note.channel, &note.payload), Some(bytes));
                }
                None => prop_assert!(bytes.len() < FIXED_LEN),
            }
        }
    }

    #[test]
    fn a_long_payload_is_not_sent() {
        assert_eq!(Note::emit(1, &[0; MESSAGE_LEN_MAX + 1]), None);
    }

    #[test]
    fn a_peer_may_send_a_burst_and_then_at_a_rate() {
        let mut meter = Meter::default();
        let at_once = (0..1_000).filter(|_| meter.admits(7)).count();
        assert_eq!(at_once, 256);
        let later = (8..1_000_008).filter(|now_us| meter.admits(*now_us)).count();
        assert!((3_999..=4_001).contains(&later), "{later}");
    }
}
