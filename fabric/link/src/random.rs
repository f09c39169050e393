//! Where random bytes come from: the operating system, or a seed in tests.
//!
//! Ephemeral handshake keys never come through here: they are always the
//! operating system's, so even a stuck source cannot repeat a session's keys.

use std::fmt;

/// A source of random bytes.
pub trait Random: Send {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// [`NoRandom`] when the source is not available; nothing is sent then.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoRandom>;

    /// A number below `bound`, or zero when `bound` is zero. Not for keys: it is
    /// slightly biased, and zero when the source fails.
    fn below(&mut self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        match self.fill(&mut bytes) {
            Ok(()) => u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or(0),
            Err(NoRandom) => 0,
        }
    }
}

/// The source gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandom;

/// The operating system's source.
#[derive(Clone)]
pub struct SystemRandom(ring::rand::SystemRandom);

impl SystemRandom {
    /// The source.
    #[must_use]
    pub fn new() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SystemRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemRandom")
    }
}

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoRandom> {
        ring::rand::SecureRandom::fill(&self.0, bytes).map_err(|_| NoRandom)
    }
}

/// A seeded source for tests (`SplitMix64`): the same seed, the same bytes.
#[cfg(test)]
#[derive(Debug, Clone)]
pub(crate) struct Seeded(pub(crate) u64);

#[cfg(test)]
impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoRandom> {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}
