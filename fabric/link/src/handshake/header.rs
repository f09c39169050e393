//! The 16-byte header as the control socket uses it.
//!
//! The layout is the data sockets' ([`DatagramHeader`]), with two differences. The
//! version is not always that of the wire: a handshake's messages have the handshake's, a
//! control message that of its session. And a control datagram has no blocks, no worker
//! and no path, so those fields have one allowed value each, and every other is refused.

use crate::aead::HEADER_LEN;
use wireonce_wire::{DatagramHeader, NO_BLOCK, PathIndex, VERSION};

pub(crate) use wireonce_wire::Kind;

/// The fields that vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Of the handshake for `Initiation` and `Response`, of the session for `Control`;
    /// 0 to 15.
    pub(crate) version: u8,
    pub(crate) kind: Kind,
    pub(crate) epoch: u8,
    /// The receiver's session index; zero in an initiation.
    pub(crate) index: u32,
    pub(crate) packet_number: u64,
}

impl Header {
    pub(crate) fn emit(self) -> [u8; HEADER_LEN] {
        // Indexes are made with at most as many bits as there are.
        let path = PathIndex::new(self.index, 0, 0).unwrap_or(PathIndex::from_bits(0));
        let header = DatagramHeader {
            kind: self.kind,
            epoch: self.epoch,
            first_block: NO_BLOCK,
            path,
            packet_number: self.packet_number,
        };
        with_version(self.version, header.emit())
    }

    /// The header and what it was read from; `None` for anything that [`Self::emit`]
    /// would not write.
    pub(crate) fn parse(datagram: &[u8]) -> Option<(Self, &[u8; HEADER_LEN])> {
        let bytes = datagram.first_chunk::<HEADER_LEN>()?;
        let header = DatagramHeader::parse(&with_version(VERSION, *bytes)).ok()?.0;
        let DatagramHeader { kind, epoch, first_block, path, packet_number } = header;
        let canonical = first_block == NO_BLOCK && path.worker() == 0 && path.path() == 0;
        let (version, index) = (bytes[0] >> 4, path.session());
        canonical.then_some((Self { version, kind, epoch, index, packet_number }, bytes))
    }
}

fn with_version(version: u8, mut bytes: [u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
    bytes[0] = version << 4 | bytes[0] & 0xf;
    bytes
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
                None => prop_assert!(!canonical),
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

    #[test]
    fn the_layout_is_the_documented_one() {
        let header = Header {
            version: 3,
            kind: Kind::Response,
            epoch: 9,
            index: 0x1_2345,
            packet_number: 0x0807_0605_0403_0201,
        };
        let expected = [0x33, 9, 0xff, 0xff, 0x00, 0x50, 0x34, 0x12, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(header.emit(), expected);
    }
}
