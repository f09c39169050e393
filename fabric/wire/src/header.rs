//! The 16 bytes before a datagram's payload.
//!
//! ```text
//!   0       1       2               4
//!  +---+---+-------+---------------+-------------------------------+
//!  |ver|knd| epoch |  first_block  |  session:20  worker:8  path:4 |
//!  +---+---+-------+---------------+-------------------------------+
//!  |                     packet_number                             |
//!  +---------------------------------------------------------------+
//! ```
//!
//! Little endian. The link authenticates all of it, so a field that is wrong
//! here is either a stranger's or a bug.

/// The version of the wire format that this crate speaks.
pub const VERSION: u8 = 1;

/// Bytes of a datagram header.
pub const DATAGRAM_HEADER_LEN: usize = 16;

/// The `first_block` of a datagram in which no block starts.
pub const NO_BLOCK: u16 = 0xffff;

/// Where `first_block` stands in the header: the packer fills it in later.
pub(crate) const FIRST_BLOCK_AT: usize = 2;

/// What a datagram carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Blocks.
    Data,
    /// Control messages: hellos, leases, demand.
    Control,
    /// First message of the handshake.
    Initiation,
    /// Second message of the handshake.
    Response,
}

impl Kind {
    fn to_bits(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Control => 1,
            Self::Initiation => 2,
            Self::Response => 3,
        }
    }

    fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Data),
            1 => Some(Self::Control),
            2 => Some(Self::Initiation),
            3 => Some(Self::Response),
            _ => None,
        }
    }
}

/// The receiver's name for the path that a datagram came by: its session with
/// the peer, the peer's worker and that worker's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathIndex {
    session: u32,
    worker: u8,
    path: u8,
}

impl PathIndex {
    /// The highest session number: 20 bits.
    pub const SESSION_MAX: u32 = (1 << 20) - 1;
    /// The highest path number: 4 bits.
    pub const PATH_MAX: u8 = (1 << 4) - 1;

    /// The index of these three, if session and path fit in their bits.
    #[must_use]
    pub fn new(session: u32, worker: u8, path: u8) -> Option<Self> {
        (session <= Self::SESSION_MAX && path <= Self::PATH_MAX).then_some(Self {
            session,
            worker,
            path,
        })
    }

    /// The receiver's number of its session with the peer.
    #[must_use]
    pub fn session(self) -> u32 {
        self.session
    }

    /// The worker of the peer that sends.
    #[must_use]
    pub fn worker(self) -> u8 {
        self.worker
    }

    /// The path of that worker.
    #[must_use]
    pub fn path(self) -> u8 {
        self.path
    }

    /// The wire form.
    #[must_use]
    pub fn to_bits(self) -> u32 {
        self.session << 12 | u32::from(self.worker) << 4 | u32::from(self.path)
    }

    /// The index with wire form `bits`: every value is one.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        let [low, middle, ..] = bits.to_le_bytes();
        Self { session: bits >> 12, worker: middle << 4 | low >> 4, path: low & Self::PATH_MAX }
    }
}

/// The header of every datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramHeader {
    /// What the datagram carries.
    pub kind: Kind,
    /// Low 8 bits of the key's epoch.
    pub epoch: u8,
    /// Offset, from the payload's first byte, of the first block that starts in
    /// this datagram; [`NO_BLOCK`] if none does.
    pub first_block: u16,
    /// The receiver's name for the path.
    pub path: PathIndex,
    /// Number of the datagram on its path, counted from the session's start.
    pub packet_number: u64,
}

/// The first bytes of a datagram are not a header of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("a datagram of {0} bytes is shorter than its header of {DATAGRAM_HEADER_LEN}")]
    Short(usize),
    /// Another version of the wire format.
    #[error("datagram of wire version {0}; this side speaks {VERSION}")]
    Version(u8),
    /// A kind that this version does not know.
    #[error("datagram of kind {0}; the kinds are 0 to 3")]
    Kind(u8),
}

impl DatagramHeader {
    /// Reads the header at the front of `datagram` and returns what follows it.
    ///
    /// # Errors
    ///
    /// If the bytes are too few, or name another version or an unknown kind.
    #[inline]
    pub fn parse(datagram: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let Some((head, rest)) = datagram.split_first_chunk::<DATAGRAM_HEADER_LEN>() else {
            return Err(HeaderError::Short(datagram.len()));
        };
        let [first, epoch, f0, f1, i0, i1, i2, i3, n0, n1, n2, n3, n4, n5, n6, n7] = *head;
        let version = first >> 4;
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let kind = Kind::from_bits(first & 0xf).ok_or(HeaderError::Kind(first & 0xf))?;
        let header = Self {
            kind,
            epoch,
            first_block: u16::from_le_bytes([f0, f1]),
            path: PathIndex::from_bits(u32::from_le_bytes([i0, i1, i2, i3])),
            packet_number: u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]),
        };
        Ok((header, rest))
    }

    /// The wire form.
    #[inline]
    #[must_use]
    pub fn emit(&self) -> [u8; DATAGRAM_HEADER_LEN] {
        let [f0, f1] = self.first_block.to_le_bytes();
        let [i0, i1, i2, i3] = self.path.to_bits().to_le_bytes();
        let [n0, n1, n2, n3, n4, n5, n6, n7] = self.packet_number.to_le_bytes();
        let first = VERSION << 4 | self.kind.to_bits();
        [first, self.epoch, f0, f1, i0, i1, i2, i3, n0, n1, n2, n3, n4, n5, n6, n7]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_header() -> impl Strategy<Value = DatagramHeader> {
        (0u8..4, any::<u8>(), any::<u16>(), any::<u32>(), any::<u64>()).prop_map(
            |(kind, epoch, first_block, path, packet_number)| DatagramHeader {
                kind: Kind::from_bits(kind).unwrap(),
                epoch,
                first_block,
                path: PathIndex::from_bits(path),
                packet_number,
            },
        )
    }

    proptest! {
        #[test]
        fn a_header_round_trips(header in any_header(), rest in any::<[u8; 5]>()) {
            let mut bytes = header.emit().to_vec();
            bytes.extend(rest);
            prop_assert_eq!(DatagramHeader::parse(&bytes), Ok((header, &rest[..])));
        }

        #[test]
        fn sixteen_bytes_are_a_header_only_if_emitting_it_gives_them(bytes in any::<[u8; 16]>()) {
            if let Ok((header, rest)) = DatagramHeader::parse(&bytes) {
                prop_assert_eq!(header.emit(), bytes);
                prop_assert!(rest.is_empty());
            }
        }

        #[test]
        fn a_path_index_round_trips(bits in any::<u32>()) {
            let path = PathIndex::from_bits(bits);
            prop_assert_eq!(path.to_bits(), bits);
            prop_assert_eq!(
                PathIndex::new(path.session(), path.worker(), path.path()), Some(path)
            );
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = [0x10; DATAGRAM_HEADER_LEN];
        for len in 0..bytes.len() {
            assert_eq!(DatagramHeader::parse(&bytes[..len]), Err(HeaderError::Short(len)));
        }
        assert!(DatagramHeader::parse(&bytes).is_ok());
    }

    #[test]
    fn other_versions_and_kinds_are_refused() {
        let mut bytes = [0; DATAGRAM_HEADER_LEN];
        for first in 0..=u8::MAX {
            bytes[0] = first;
            let expected = match (first >> 4, first & 0xf) {
                (VERSION, 0..=3) => None,
                (VERSION, kind) => Some(HeaderError::Kind(kind)),
                (version, _) => Some(HeaderError::Version(version)),
            };
            assert_eq!(DatagramHeader::parse(&bytes).err(), expected);
        }
    }

    #[test]
    fn a_path_index_has_20_8_and_4_bits() {
        let path = PathIndex::new(0xabcde, 0x12, 0x7).unwrap();
        assert_eq!(path.to_bits(), 0xabcd_e127);
        assert_eq!(PathIndex::new(1 << 20, 0, 0), None);
        assert_eq!(PathIndex::new(0, 0, 16), None);
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let header = DatagramHeader {
            kind: Kind::Control,
            epoch: 0x22,
            first_block: 0x0403,
            path: PathIndex::from_bits(0x0807_0605),
            packet_number: 0x100f_0e0d_0c0b_0a09,
        };
        let expected = [0x11, 0x22, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        assert_eq!(header.emit(), expected);
    }
}
