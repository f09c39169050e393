//! The 16-byte header as the control socket uses it.
//!
//! Same layout as on the data sockets; a control datagram has no blocks and no
//! worker, so those fields have one allowed value each, and every other is refused.

use crate::aead::HEADER_LEN;
use crate::session::INDEX_MAX;

/// Says that a datagram holds no block.
const NO_BLOCK: u16 = u16::MAX;

/// The path index is session (20 bits), worker (8), path (4).
const INDEX_SHIFT: u32 = 12;

/// What a datagram on the control socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Control = 1,
    Initiation = 2,
    Response = 3,
}

/// The fields that vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Of the handshake for `Initiation` and `Response`, of the session for `Control`.
    pub(crate) version: u8,
    pub(crate) kind: Kind,
    pub(crate) epoch: u8,
    /// The receiver's session index; zero in an initiation.
    pub(crate) index: u32,
    pub(crate) packet_number: u64,
}

impl Header {
    pub(crate) fn emit(self) -> [u8; HEADER_LEN] {
        let kind = match self.kind {
            Kind::Control => 1,
            Kind::Initiation => 2,
            Kind::Response => 3,
        };
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = self.version << 4 | kind;
        bytes[1] = self.epoch;
        bytes[2..4].copy_from_slice(&NO_BLOCK.to_le_bytes());
        bytes[4..8].copy_from_slice(&(self.index << INDEX_SHIFT).to_le_bytes());
        bytes[8..].copy_from_slice(&self.packet_number.to_le_bytes());
        bytes
    }

    /// The header and what follows it; `None` for anything that [`Self::emit`]
    /// would not write.
    pub(crate) fn parse(datagram: &[u8]) -> Option<(Self, &[u8; HEADER_LEN])> {
        let bytes = datagram.first_chunk::<HEADER_LEN>()?;
        let [first, epoch, b0, b1, i0, i1, i2, i3, packet_number @ ..] = *bytes;
        let kind = match first & 0xf {
            1 => Kind::Control,
            2 => Kind::Initiation,
            3 => Kind::Response,
            _ => return None,
        };
        let path_index = u32::from_le_bytes([i0, i1, i2, i3]);
        let index = path_index >> INDEX_SHIFT;
        let canonical =
            u16::from_le_bytes([b0, b1]) == NO_BLOCK && index << INDEX_SHIFT == path_index;
        let header = Self {
            version: first >> 4,
            kind,
            epoch,
            index,
            packet_number: u64::from_le_bytes(packet_number),
        };
        (canonical && index <= INDEX_MAX).then_some((header, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_parses_emits_the_same_bytes(mut bytes: [u8; HEADER_LEN], canonical: bool) {
            if canonical {
                bytes[0] = (bytes[0] & 0xf0) | (bytes[0] % 4);
                bytes[2..4].fill(0xff);
                bytes[4] = 0;
                bytes[5] &= 0xf0;
            }
            match Header::parse(&bytes) {
                Some((header, _)) => prop_assert_eq!(header.emit(), bytes),
                None => prop_assert!(!canonical || bytes[0] & 0xf == 0),
            }
        }
    }

    #[test]
    fn short_datagrams_have_no_header() {
        let header =
            Header { version: 1, kind: Kind::Control, epoch: 9, index: 7, packet_number: 3 };
        let bytes = header.emit();
        for len in 0..HEADER_LEN {
            assert_eq!(Header::parse(&bytes[..len]), None);
        }
        assert_eq!(Header::parse(&bytes), Some((header, &bytes)));
    }
}
