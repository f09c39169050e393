//! What each end tells the other inside the encrypted part of its handshake message.

use crate::session::{INDEX_MAX, PATHS_MAX};

/// Bytes of an offer.
pub(crate) const OFFER_LEN: usize = 54;

/// Bytes of fresh randomness from each end.
pub(crate) const RANDOM_LEN: usize = 32;

/// Data is encrypted on this session.
const FLAG_SEALED: u8 = 1;

/// No path carries less: IPv6's minimum MTU of 1,280 less 48 bytes of headers.
pub(crate) const DATAGRAM_LEN_FLOOR: u16 = 1_232;

/// One end's terms. Byte layout, little endian:
///
/// ```text
///  0  timestamp_us       8   sender's wall clock; rises with every initiation
///  8  version_min        1   wire versions that the sender speaks
///  9  version_max        1
/// 10  version            1   the one that the responder chose; 0 in an initiation
/// 11  flags              1   bit 0: data is encrypted; others are zero
/// 12  index              4   sender's session index, below 2^20
/// 16  epoch              1   proposed by the initiator, settled by the responder
/// 17  workers            1   of the sender, at least 1
/// 18  paths              1   1 to 8
/// 19  zero               1
/// 20  datagram_len_max   2   longest UDP payload that the sender can receive
/// 22  random            32
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) timestamp_us: u64,
    pub(crate) version_min: u8,
    pub(crate) version_max: u8,
    pub(crate) version: u8,
    pub(crate) sealed: bool,
    pub(crate) index: u32,
    pub(crate) epoch: u8,
    pub(crate) workers: u8,
    pub(crate) paths: u8,
    pub(crate) datagram_len_max: u16,
    pub(crate) random: [u8; RANDOM_LEN],
}

impl Offer {
    pub(crate) fn emit(&self) -> [u8; OFFER_LEN] {
        let mut bytes = [0; OFFER_LEN];
        bytes[..8].copy_from_slice(&self.timestamp_us.to_le_bytes());
        bytes[8] = self.version_min;
        bytes[9] = self.version_max;
        bytes[10] = self.version;
        bytes[11] = if self.sealed { FLAG_SEALED } else { 0 };
        bytes[12..16].copy_from_slice(&self.index.to_le_bytes());
        bytes[16] = self.epoch;
        bytes[17] = self.workers;
        bytes[18] = self.paths;
        bytes[20..22].copy_from_slice(&self.datagram_len_max.to_le_bytes());
        bytes[22..].copy_from_slice(&self.random);
        bytes
    }

    /// The offer in `bytes`; `None` where a field has a value that no version allows.
    pub(crate) fn parse(bytes: &[u8; OFFER_LEN]) -> Option<Self> {
        let (timestamp_us, rest) = bytes.split_first_chunk()?;
        let (fields, rest) = rest.split_first_chunk()?;
        let [version_min, version_max, version, flags] = *fields;
        let (index, rest) = rest.split_first_chunk()?;
        let (fields, rest) = rest.split_first_chunk()?;
        let [epoch, workers, paths, zero] = *fields;
        let (datagram_len_max, random) = rest.split_first_chunk()?;
        let offer = Self {
            timestamp_us: u64::from_le_bytes(*timestamp_us),
            version_min,
            version_max,
            version,
            sealed: flags == FLAG_SEALED,
            index: u32::from_le_bytes(*index),
            epoch,
            workers,
            paths,
            datagram_len_max: u16::from_le_bytes(*datagram_len_max),
            random: random.try_into().ok()?,
        };
        let sane = flags & !FLAG_SEALED == 0
            && zero == 0
            && version_min >= 1
            && version_min <= version_max
            && offer.index <= INDEX_MAX
            && workers >= 1
            && (1..=PATHS_MAX).contains(&paths)
            && offer.datagram_len_max >= DATAGRAM_LEN_FLOOR;
        sane.then_some(offer)
    }

    /// The highest wire version that both ends speak.
    pub(crate) fn common_version(&self, other: &Self) -> Option<u8> {
        let version = self.version_max.min(other.version_max);
        (version >= self.version_min.max(other.version_min)).then_some(version)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn offer() -> Offer {
        Offer {
            timestamp_us: 1_700_000_000_000_000,
            version_min: 1,
            version_max: 2,
            version: 0,
            sealed: true,
            index: 0xf_1234,
            epoch: 3,
            workers: 4,
            paths: 2,
            datagram_len_max: 8_972,
            random: [5; RANDOM_LEN],
        }
    }

    proptest! {
        #[test]
        fn what_parses_emits_the_same_bytes(at in 0..OFFER_LEN, value: u8) {
            let mut bytes = offer().emit();
            bytes[at] = value;
            if let Some(parsed) = Offer::parse(&bytes) {
                prop_assert_eq!(parsed.emit(), bytes);
            }
        }
    }

    #[test]
    fn offers_out_of_bounds_are_refused() {
        assert_eq!(Offer::parse(&offer().emit()), Some(offer()));
        let bad = [
            Offer { version_min: 0, ..offer() },
            Offer { version_min: 3, ..offer() },
            Offer { index: INDEX_MAX + 1, ..offer() },
            Offer { workers: 0, ..offer() },
            Offer { paths: 0, ..offer() },
            Offer { paths: PATHS_MAX + 1, ..offer() },
            Offer { datagram_len_max: DATAGRAM_LEN_FLOOR - 1, ..offer() },
        ];
        for offer in bad {
            assert_eq!(Offer::parse(&offer.emit()), None, "{offer:?}");
        }
        for (at, value) in [(11, 2), (19, 1)] {
            let mut bytes = offer().emit();
            bytes[at] = value;
            assert_eq!(Offer::parse(&bytes), None, "byte {at}");
        }
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        let speaks = |version_min, version_max| Offer { version_min, version_max, ..offer() };
        for (mine, theirs, common) in [
            ((1, 1), (1, 1), Some(1)),
            ((1, 3), (2, 5), Some(3)),
            ((4, 9), (1, 4), Some(4)),
            ((1, 2), (3, 4), None),
        ] {
            let (mine, theirs) = (speaks(mine.0, mine.1), speaks(theirs.0, theirs.1));
            assert_eq!(mine.common_version(&theirs), common);
            assert_eq!(theirs.common_version(&mine), common);
        }
    }
}
