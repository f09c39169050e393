//! The hello: the control message that says "I live, and this is what I heard of you".
//!
//! Body, little endian, sealed with the session's control key:
//!
//! ```text
//!  0  kind        1   1
//!  1  zero        1
//!  2  length      2   of the whole UDP payload, padding and tag included
//!  4  hold_us     4   from hearing `heard` to sending this
//!  8  heard       8   one more than the highest number heard; 0 for none
//! 16  heard_bits  8   bit i: number `heard - 1 - i` was heard
//! 24  every_us    4   the sender needs a hello in this time; not 0
//! 28  zeros           up to the length
//! ```
//!
//! The bits make every hello an acknowledgement of the last 64, whichever were
//! lost: a probe of a longer datagram needs no message of its own.

use crate::aead::{HEADER_LEN, TAG_LEN};
use crate::replay::ReplayWindow;

const KIND_HELLO: u8 = 1;
const BODY_LEN: usize = 28;

/// The shortest hello datagram, in bytes.
pub(super) const HELLO_LEN_MIN: usize = HEADER_LEN + BODY_LEN + TAG_LEN;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) hold_us: u32,
    pub(super) heard: u64,
    pub(super) heard_bits: u64,
    pub(super) every_us: u32,
}

impl Hello {
    /// What to say about the numbers in `window`.
    pub(super) fn about(window: &ReplayWindow, hold_us: u64, every_us: u32) -> Self {
        let heard = window.edge();
        let bits = (0..64u32).filter(|&back| {
            let number = heard.checked_sub(1 + u64::from(back));
            number.and_then(|number| window.received(number)) == Some(true)
        });
        Self {
            hold_us: u32::try_from(hold_us).unwrap_or(u32::MAX),
            heard,
            heard_bits: bits.fold(0, |bits, back| bits | 1 << back),
            every_us,
        }
    }

    /// Whether our message `number` was heard; `None` when this hello cannot tell.
    pub(super) fn heard_number(&self, number: u64) -> Option<bool> {
        let back = self.heard.checked_sub(1)?.checked_sub(number)?;
        (back < 64).then(|| self.heard_bits >> back & 1 == 1)
    }

    /// The clear payload of a datagram of `datagram_len` bytes.
    pub(super) fn emit(&self, datagram_len: u16) -> Vec<u8> {
        let len = usize::from(datagram_len).max(HELLO_LEN_MIN) - HEADER_LEN - TAG_LEN;
        let mut bytes = vec![0; len];
        bytes[0] = KIND_HELLO;
        bytes[2..4].copy_from_slice(&datagram_len.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.hold_us.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.heard.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.heard_bits.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.every_us.to_le_bytes());
        bytes
    }

    /// The hello in the clear `payload`; `None` for anything else.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let (body, padding) = payload.split_first_chunk::<BODY_LEN>()?;
        let (fields, rest) = body.split_first_chunk()?;
        let [kind, zero, l0, l1, h0, h1, h2, h3] = *fields;
        let (heard, rest) = rest.split_first_chunk()?;
        let (heard_bits, every_us) = rest.split_first_chunk()?;
        let every_us = u32::from_le_bytes(every_us.try_into().ok()?);
        let len = usize::from(u16::from_le_bytes([l0, l1]));
        let sane = kind == KIND_HELLO
            && zero == 0
            && every_us > 0
            && len == payload.len() + HEADER_LEN + TAG_LEN
            && padding.iter().all(|&byte| byte == 0);
        sane.then_some(Self {
            hold_us: u32::from_le_bytes([h0, h1, h2, h3]),
            heard: u64::from_le_bytes(*heard),
            heard_bits: u64::from_le_bytes(*heard_bits),
            every_us,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_emitted_parses(
            hold_us: u32, heard: u64, heard_bits: u64, every_us in 1u32.., len in 60u16..9_000,
        ) {
            let hello = Hello { hold_us, heard, heard_bits, every_us };
            let bytes = hello.emit(len);
            prop_assert_eq!(bytes.len() + HEADER_LEN + TAG_LEN, usize::from(len));
            prop_assert_eq!(Hello::parse(&bytes), Some(hello));
            prop_assert_eq!(Hello::parse(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn what_parses_emits_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut bytes = bytes;
            let len = u16::try_from(bytes.len() + 32).unwrap();
            if bytes.len() >= BODY_LEN {
                bytes[..2].copy_from_slice(&[KIND_HELLO, 0]);
                bytes[2..4].copy_from_slice(&len.to_le_bytes());
                bytes[BODY_LEN..].fill(0);
                bytes[24] |= 1;
            }
            match Hello::parse(&bytes) {
                Some(hello) => prop_assert_eq!(hello.emit(len), bytes),
                None => prop_assert!(bytes.len() < BODY_LEN),
            }
        }

        #[test]
        fn the_bits_tell_exactly_what_the_window_heard(
            numbers in proptest::collection::vec(0u64..200, 0..150),
        ) {
            let mut window = ReplayWindow::new();
            for number in numbers {
                window.mark(number);
            }
            let hello = Hello::about(&window, 0, 1);
            for number in 0..250 {
                let known = number < window.edge() && number + 64 >= window.edge();
                prop_assert_eq!(
                    hello.heard_number(number),
                    known.then(|| window.received(number) == Some(true))
                );
            }
        }
    }
}
