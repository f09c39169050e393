//! Names of what a worker has under way in its ring.

use wireonce_ring::Token;

/// The mailbox's bell.
pub(super) const MAIL: u8 = 1;
/// A guest's kick.
pub(super) const KICK: u8 = 2;
/// An interrupt for a guest.
pub(super) const INTERRUPT: u8 = 3;
/// A broken ring's signal to its VMM, after which nothing follows.
pub(super) const BROKEN: u8 = 4;
/// First of the fabric's two kinds.
pub(crate) const FABRIC_TOKEN_KIND: u8 = 8;

/// Rings of one port that a token can name.
const RINGS_MAX: usize = 32;

/// Of ring `ring` of port `port`. The generation tells it from a ring of the same
/// number that was there before.
pub(super) fn ring_token(kind: u8, port: usize, ring: u16, generation: u16) -> Token {
    let index = u32::try_from(port * RINGS_MAX + usize::from(ring)).unwrap_or(u32::MAX);
    Token { kind, generation, index }
}

/// The port and ring that a token names.
pub(super) fn ring_of(token: Token) -> (usize, u16) {
    let index = token.index as usize;
    (index / RINGS_MAX, u16::try_from(index % RINGS_MAX).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_ring() {
        for (port, ring) in [(0, 0), (0, 31), (7, 16), (65_535, 1)] {
            assert_eq!(ring_of(ring_token(KICK, port, ring, 3)), (port, ring));
        }
    }
}
