//! Trains: the contiguous buffers that one UDP_SEGMENT send carries.
//!
//! ```text
//!  |<-- datagram_len -->|<-- datagram_len -->|<-- short ->|
//!  [hdr|  payload  |tag][hdr|  payload  |tag][hdr|..  |tag]
//! ```

use crate::header::DATAGRAM_HEADER_LEN;
use std::fmt;

/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;

/// Most datagrams in a train: the limit of UDP_SEGMENT before Linux 6.9.
pub const TRAIN_DATAGRAMS_MAX: usize = 64;

/// Most bytes in a train: what a UDP datagram over IPv4 holds (65,535 - 20 - 8).
pub const UDP_PAYLOAD_MAX: usize = 65_507;

/// Shortest datagram that a path may be set to, in bytes. An IPv4 host must take
/// 576 (RFC 791), and much less would make trains of nothing but headers.
pub const DATAGRAM_LEN_MIN: usize = 512;

/// The shape of a path's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    datagram_len: usize,
    tag_len: usize,
}

/// A path cannot have datagrams of this shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// The datagram length is out of range.
    #[error("datagrams of {0} bytes; they have {DATAGRAM_LEN_MIN} to {UDP_PAYLOAD_MAX}")]
    DatagramLen(usize),
    /// The tag length is neither 0 nor [`TAG_LEN`].
    #[error("tags of {0} bytes; they have {TAG_LEN}, or 0 without encryption")]
    TagLen(usize),
}

impl Geometry {
    /// Datagrams of `datagram_len` bytes of UDP payload, header and tag
    /// included, the last `tag_len` of which are left to the tag.
    ///
    /// # Errors
    ///
    /// If a length is out of range.
    pub fn new(datagram_len: usize, tag_len: usize) -> Result<Self, GeometryError> {
        if !(DATAGRAM_LEN_MIN..=UDP_PAYLOAD_MAX).contains(&datagram_len) {
            return Err(GeometryError::DatagramLen(datagram_len));
        }
        if tag_len != 0 && tag_len != TAG_LEN {
            return Err(GeometryError::TagLen(tag_len));
        }
        Ok(Self { datagram_len, tag_len })
    }

    /// Bytes of a whole datagram: header, payload and tag.
    #[must_use]
    pub fn datagram_len(self) -> usize {
        self.datagram_len
    }

    /// Bytes of the tag: 0 or [`TAG_LEN`].
    #[must_use]
    pub fn tag_len(self) -> usize {
        self.tag_len
    }

    /// Bytes of a datagram between header and tag.
    #[must_use]
    pub fn payload_len(self) -> usize {
        self.datagram_len - DATAGRAM_HEADER_LEN - self.tag_len
    }

    /// Datagrams of a full train.
    #[must_use]
    pub fn datagrams_per_train(self) -> usize {
        TRAIN_DATAGRAMS_MAX.min(UDP_PAYLOAD_MAX / self.datagram_len)
    }
}

/// A train: datagrams back to back, of equal length but for the last.
pub struct Train {
    pub(crate) buffer: Box<[u8]>,
    /// Bytes in use.
    pub(crate) len: usize,
    pub(crate) geometry: Geometry,
    pub(crate) first_packet_number: u64,
    pub(crate) count: usize,
}

/// One datagram of a train, in the parts that sealing it takes.
#[derive(Debug)]
pub struct DatagramMut<'t> {
    /// The header: the associated data.
    pub header: &'t [u8; DATAGRAM_HEADER_LEN],
    /// The packet number that the header carries: the nonce.
    pub packet_number: u64,
    /// The payload, to be sealed in place.
    pub payload: &'t mut [u8],
    /// Where the tag goes; empty without encryption.
    pub tag: &'t mut [u8],
}

impl Train {
    /// The datagrams, in the order of their packet numbers.
    pub fn datagrams(&mut self) -> impl Iterator<Item = DatagramMut<'_>> {
        let tag_len = self.geometry.tag_len;
        let numbers = self.first_packet_number..;
        let used = self.buffer.get_mut(..self.len).unwrap_or_default();
        let chunks = used.chunks_mut(self.geometry.datagram_len);
        numbers.zip(chunks).filter_map(move |(packet_number, chunk)| {
            let (header, rest) = chunk.split_first_chunk_mut::<DATAGRAM_HEADER_LEN>()?;
            let (payload, tag) = rest.split_at_mut_checked(rest.len().checked_sub(tag_len)?)?;
            Some(DatagramMut { header, packet_number, payload, tag })
        })
    }

    /// All bytes: the payload of the UDP_SEGMENT send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// Bytes of each datagram but the last: the segment size of the send.
    #[must_use]
    pub fn datagram_len(&self) -> usize {
        self.geometry.datagram_len
    }

    /// How many datagrams the train has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The packet number of the first datagram.
    #[must_use]
    pub fn first_packet_number(&self) -> u64 {
        self.first_packet_number
    }

    /// The packet number of the last datagram.
    #[must_use]
    pub fn last_packet_number(&self) -> u64 {
        let count = u64::try_from(self.count).unwrap_or(u64::MAX);
        self.first_packet_number.wrapping_add(count).wrapping_sub(1)
    }
}

impl fmt::Debug for Train {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Train")
            .field("first_packet_number", &self.first_packet_number)
            .field("count", &self.count)
            .field("len", &self.len)
            .field("geometry", &self.geometry)
            .finish_non_exhaustive()
    }
}

/// Buffers of trains, used again and again.
///
/// `limit` is what the owner means to have in use at a time; it asks
/// [`Self::room`] before it packs, because packing itself never fails.
pub struct TrainPool {
    spare: Vec<Box<[u8]>>,
    limit: usize,
    in_use: usize,
}

impl TrainPool {
    /// A pool of `limit` trains. Buffers are made when first needed.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { spare: Vec::new(), limit, in_use: 0 }
    }

    /// How many more trains may be taken before the limit is reached.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.in_use)
    }

    /// How many trains are out of the pool.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// An empty train, even beyond the limit. Its buffer may hold old bytes; the
    /// packer overwrites or zeroes what it sends.
    #[must_use]
    pub fn get(&mut self, geometry: Geometry, first_packet_number: u64) -> Train {
        self.in_use += 1;
        let new = || vec![0; UDP_PAYLOAD_MAX].into_boxed_slice();
        let buffer = self.spare.pop().unwrap_or_else(new);
        Train { buffer, len: 0, geometry, first_packet_number, count: 0 }
    }

    /// Takes a train back. Beyond the limit its buffer is freed.
    pub fn put(&mut self, train: Train) {
        self.in_use = self.in_use.saturating_sub(1);
        if self.spare.len() < self.limit {
            self.spare.push(train.buffer);
        }
    }

    /// Frees the buffers that are not in use.
    pub fn shrink(&mut self) {
        self.spare = Vec::new();
    }
}

impl fmt::Debug for TrainPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainPool")
            .field("spare", &self.spare.len())
            .field("limit", &self.limit)
            .field("in_use", &self.in_use)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_geometry_has_its_bounds() {
        assert!(Geometry::new(DATAGRAM_LEN_MIN, 0).is_ok());
        assert!(Geometry::new(UDP_PAYLOAD_MAX, TAG_LEN).is_ok());
        for len in [0, DATAGRAM_LEN_MIN - 1, UDP_PAYLOAD_MAX + 1, usize::MAX] {
            assert_eq!(Geometry::new(len, 0), Err(GeometryError::DatagramLen(len)));
        }
        for tag in [1, 12, 17] {
            assert_eq!(Geometry::new(1400, tag), Err(GeometryError::TagLen(tag)));
        }
    }

    #[test]
    fn a_train_fits_in_one_send() {
        for len in DATAGRAM_LEN_MIN..=UDP_PAYLOAD_MAX {
            let geometry = Geometry::new(len, TAG_LEN).unwrap();
            let count = geometry.datagrams_per_train();
            assert!((1..=TRAIN_DATAGRAMS_MAX).contains(&count));
            assert!(count * len <= UDP_PAYLOAD_MAX);
            assert!(count == TRAIN_DATAGRAMS_MAX || (count + 1) * len > UDP_PAYLOAD_MAX);
        }
    }

    #[test]
    fn a_pool_keeps_no_more_than_its_limit() {
        let geometry = Geometry::new(1400, 0).unwrap();
        let mut pool = TrainPool::new(2);
        let trains: Vec<_> = (0..3).map(|n| pool.get(geometry, n)).collect();
        assert_eq!((pool.room(), pool.in_use()), (0, 3));
        for train in trains {
            pool.put(train);
        }
        assert_eq!((pool.room(), pool.in_use(), pool.spare.len()), (2, 0, 2));
        pool.shrink();
        assert_eq!(pool.spare.len(), 0);
    }
}
