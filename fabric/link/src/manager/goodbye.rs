//! The control message that says "I give up this session".
//!
//! Body, little endian, sealed with the session's control key:
//!
//! ```text
//!  0  kind        1   2
//!  1  reason      1   1 nothing to send for long, 2 stopping
//!  2  length      2   of the whole UDP payload, tag included
//!  4  zeros       4
//! ```
//!
//! It is not answered. Three copies are sent, with numbers of their own; if all are lost,
//! the peer finds out by the silence, as it does when a host dies.

use crate::aead::{HEADER_LEN, TAG_LEN};

const KIND_GOODBYE: u8 = 2;
const BODY_LEN: usize = 8;
const GOODBYE_LEN: u16 = 40;
const _: () = assert!(GOODBYE_LEN as usize == HEADER_LEN + BODY_LEN + TAG_LEN);

/// Copies of each goodbye.
pub(super) const COPIES: usize = 3;

/// Why a host gives up its sessions with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// No frame went either way for long.
    Idle,
    /// The process ends.
    Stopping,
}

impl Goodbye {
    /// The clear payload.
    pub(super) fn emit(self) -> Vec<u8> {
        let reason = match self {
            Self::Idle => 1,
            Self::Stopping => 2,
        };
        let [l0, l1] = GOODBYE_LEN.to_le_bytes();
        vec![KIND_GOODBYE, reason, l0, l1, 0, 0, 0, 0]
    }

    /// The goodbye in the clear `payload`; `None` for anything else.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        [Self::Idle, Self::Stopping].into_iter().find(|goodbye| goodbye.emit() == payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::hello::Hello;

    #[test]
    fn a_goodbye_has_one_form_and_is_no_hello() {
        for goodbye in [Goodbye::Idle, Goodbye::Stopping] {
            let bytes = goodbye.emit();
            assert_eq!(bytes.len(), BODY_LEN);
            assert_eq!(Goodbye::parse(&bytes), Some(goodbye));
            assert_eq!(Hello::parse(&bytes), None);
            for at in 0..BODY_LEN {
                let mut other = bytes.clone();
                other[at] ^= 0x10;
                assert_eq!(Goodbye::parse(&other), None, "byte {at}");
                assert_eq!(Goodbye::parse(&bytes[..at]), None);
            }
            assert_eq!(Goodbye::parse(&[&bytes[..], &[0]].concat()), None);
        }
    }
}
