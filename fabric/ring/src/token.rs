//! What a completion is for.

/// Names an operation: what kind it is, which of that kind, and in which life of
/// it, so that a completion that comes after its port was replaced is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// The worker's own numbering of kinds; 0 to 127.
    pub kind: u8,
    /// Increases each time `index` is used anew.
    pub generation: u16,
    /// Which one of its kind.
    pub index: u32,
}

/// The bit that marks the ring's own slots (sends); [`Token::kind`] stays below.
pub(crate) const SLOT_BIT: u64 = 1 << 63;
/// Completions that nobody waits for, such as those of cancellations.
pub(crate) const IGNORED: u64 = u64::MAX;

impl Token {
    /// A token of the first generation.
    #[must_use]
    pub fn new(kind: u8, index: u32) -> Self {
        Self { kind, generation: 0, index }
    }

    pub(crate) fn to_user_data(self) -> u64 {
        debug_assert!(self.kind < 128);
        u64::from(self.kind & 0x7f) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn from_user_data(bits: u64) -> Self {
        let bytes = bits.to_be_bytes();
        Self {
            kind: bytes[0],
            generation: u16::from_be_bytes([bytes[2], bytes[3]]),
            index: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }
}
