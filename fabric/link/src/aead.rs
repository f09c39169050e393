//! AES-256-GCM for datagrams: the only module that knows which crypto library seals them.
//!
//! The nonce is four zero bytes and the packet number, little endian. A key seals
//! each packet number at most once: keys come from [`crate::Session`], which hands
//! each one out a single time, and whoever holds it counts upwards.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// Bytes of the authentication tag at a datagram's end.
pub const TAG_LEN: usize = 16;

/// Bytes of the header in front, which is authenticated but not encrypted.
pub const HEADER_LEN: usize = 16;

/// What one key may seal, in blocks of the cipher: 16 bytes, and one more for each
/// datagram.
///
/// Nonces count upwards and never repeat, so the bound of 2^32 calls that NIST
/// SP 800-38D sets for random nonces (section 8.3) does not apply. What does is the
/// birthday bound of the cipher's blocks. RFC 9001 (section 6.6, appendix B.1) allows
/// an attacker an advantage of 2^-57, which is 2^35 blocks, and words it in packets:
/// 2^28 of 2 KB, 2^23 of 64 KB. Our datagrams have any length between, so the blocks
/// themselves are counted: 512 GiB, 44 s of a path at 100 Gbit/s. The other bound, 2^52
/// forgeries for one key, is out of reach in the six minutes that a session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyLimits {
    /// From here on a new session is asked for.
    pub rekey_blocks: u64,
    /// From here on no frame is sealed.
    pub frame_blocks: u64,
    /// From here on nothing is: what is between is for messages of the link, so that
    /// the fate of the last frames becomes known.
    pub stop_blocks: u64,
}

impl Default for KeyLimits {
    fn default() -> Self {
        Self { rekey_blocks: 1 << 34, frame_blocks: (1 << 35) - (1 << 23), stop_blocks: 1 << 35 }
    }
}

/// What sealing a datagram of `payload_len` bytes costs of [`KeyLimits`].
#[must_use]
pub fn blocks_of(payload_len: usize) -> u64 {
    payload_len.div_ceil(16) as u64 + 1
}

/// No key seals this packet number or a higher one. A rekey is due far earlier.
pub const PACKET_NUMBER_LIMIT: u64 = 1 << 60;

/// Why nothing was sealed. The payload must not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not sealed: packet number {packet_number} or the length is beyond what one key may seal")]
pub struct SealError {
    /// The number that was asked for.
    pub packet_number: u64,
}

/// Why nothing was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than a tag.
    #[error("shorter than an authentication tag")]
    Short,
    /// Forged, corrupted, or sealed with another key.
    #[error("the authentication tag does not verify")]
    Forged,
}

/// Seals what one sender sends on one path.
#[derive(Debug)]
pub struct SealingKey(LessSafeKey);

/// Opens what one sender sends on one path.
#[derive(Debug)]
pub struct OpeningKey(LessSafeKey);

impl SealingKey {
    /// A key of these bytes; `None` only if the crypto library fails. Whoever makes one
    /// answers for it that nobody else seals with them: links take theirs from
    /// [`crate::Session`].
    #[must_use]
    pub fn new(key: &[u8; KEY_LEN]) -> Option<Self> {
        schedule(key).map(Self)
    }

    /// Encrypts `payload` in place and writes its tag, which also covers `header`.
    ///
    /// The caller never passes the same packet number twice.
    ///
    /// # Errors
    /// The packet number is not below [`PACKET_NUMBER_LIMIT`], or the payload is
    /// longer than the cipher allows. The payload is still clear then.
    #[inline]
    pub fn seal(
        &self,
        packet_number: u64,
        header: &[u8; HEADER_LEN],
        payload: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), SealError> {
        if packet_number >= PACKET_NUMBER_LIMIT {
            return Err(SealError { packet_number });
        }
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce(packet_number), Aad::from(header), payload)
            .map_err(|_| SealError { packet_number })?;
        *tag = sealed.as_ref().try_into().map_err(|_| SealError { packet_number })?;
        Ok(())
    }
}

impl OpeningKey {
    /// A key of these bytes; `None` only if the crypto library fails.
    #[must_use]
    pub fn new(key: &[u8; KEY_LEN]) -> Option<Self> {
        schedule(key).map(Self)
    }

    /// Decrypts in place and returns the payload's length, which is that of the
    /// input less [`TAG_LEN`].
    ///
    /// # Errors
    /// See [`OpenError`]. The buffer's contents are of no use then.
    #[inline]
    pub fn open(
        &self,
        packet_number: u64,
        header: &[u8; HEADER_LEN],
        payload_and_tag: &mut [u8],
    ) -> Result<usize, OpenError> {
        if payload_and_tag.len() < TAG_LEN {
            return Err(OpenError::Short);
        }
        self.0
            .open_in_place(nonce(packet_number), Aad::from(header), payload_and_tag)
            .map(|payload| payload.len())
            .map_err(|_| OpenError::Forged)
    }
}

fn schedule(key: &[u8; KEY_LEN]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new)
}

fn nonce(packet_number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&packet_number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: [u8; HEADER_LEN] = *b"0123456789abcdef";

    fn sealed(packet_number: u64, payload: &[u8]) -> Vec<u8> {
        let key = SealingKey::new(&[7; KEY_LEN]).unwrap();
        let mut bytes = payload.to_vec();
        let mut tag = [0; TAG_LEN];
        key.seal(packet_number, &HEADER, &mut bytes, &mut tag).unwrap();
        bytes.extend_from_slice(&tag);
        bytes
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(
            number in 0..PACKET_NUMBER_LIMIT,
            payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = sealed(number, &payload);
            let key = OpeningKey::new(&[7; KEY_LEN]).unwrap();
            let len = key.open(number, &HEADER, &mut bytes).unwrap();
            prop_assert_eq!(&bytes[..len], &payload[..]);
        }

        #[test]
        fn every_changed_bit_is_noticed(
            number in 0..PACKET_NUMBER_LIMIT,
            payload in proptest::collection::vec(any::<u8>(), 0..100),
            at in any::<prop::sample::Index>(),
            bit in 0..8u32,
        ) {
            let mut bytes = sealed(number, &payload);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let key = OpeningKey::new(&[7; KEY_LEN]).unwrap();
            prop_assert_eq!(key.open(number, &HEADER, &mut bytes), Err(OpenError::Forged));
        }
    }

    #[test]
    fn another_header_number_or_key_does_not_open() {
        let bytes = sealed(5, b"payload");
        let key = OpeningKey::new(&[7; KEY_LEN]).unwrap();
        let other = OpeningKey::new(&[8; KEY_LEN]).unwrap();
        let mut header = HEADER;
        header[3] ^= 1;
        assert_eq!(key.open(5, &header, &mut bytes.clone()), Err(OpenError::Forged));
        assert_eq!(key.open(6, &HEADER, &mut bytes.clone()), Err(OpenError::Forged));
        assert_eq!(other.open(5, &HEADER, &mut bytes.clone()), Err(OpenError::Forged));
        assert_eq!(key.open(5, &HEADER, &mut [0; TAG_LEN - 1]), Err(OpenError::Short));
    }

    #[test]
    fn numbers_beyond_the_limit_are_not_sealed() {
        let key = SealingKey::new(&[7; KEY_LEN]).unwrap();
        let mut tag = [0; TAG_LEN];
        let refused = key.seal(PACKET_NUMBER_LIMIT, &HEADER, &mut [1, 2], &mut tag);
        assert_eq!(refused, Err(SealError { packet_number: PACKET_NUMBER_LIMIT }));
    }
}
