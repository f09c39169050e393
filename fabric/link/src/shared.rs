//! Keys that two hosts have in common without a word between them.
//!
//! ```text
//!   static key here ──┐
//!                     ├─ X25519 ─▶ HKDF-SHA-256 (label, both public keys) ─▶ HMAC-SHA-256
//!   public key there ─┘
//! ```
//!
//! Each side knows the other's public key from the configuration, so both come to the same
//! key by themselves, whatever is up or down between them. It seals what leaves the fabric
//! (probes on the outside network) and never a datagram, and neither it nor what it was made
//! of can be read from here.

use crate::key::{KEY_LEN, PublicKey, StaticKey};
use ring::{hkdf, hmac};
use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of a seal: HMAC-SHA-256, cut to its first half (RFC 2104, section 5).
pub const SEAL_LEN: usize = 16;

/// A key that this host and one other can derive, for one purpose.
#[derive(Clone)]
pub struct SharedKey(hmac::Key);

impl SharedKey {
    /// The seal of `bytes`.
    #[must_use]
    pub fn seal(&self, bytes: &[u8]) -> [u8; SEAL_LEN] {
        let tag = hmac::sign(&self.0, bytes);
        tag.as_ref().first_chunk().copied().unwrap_or([0; SEAL_LEN])
    }

    /// Whether `seal` is that of `bytes`. Takes as long for each wrong one.
    #[must_use]
    pub fn verifies(&self, bytes: &[u8], seal: &[u8; SEAL_LEN]) -> bool {
        let differing =
            self.seal(bytes).iter().zip(seal).fold(0, |so_far, (a, b)| so_far | (a ^ b));
        std::hint::black_box(differing) == 0
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey")
    }
}

impl StaticKey {
    /// The key that this host and the one with the public key `other` share for the purpose
    /// `label`: HKDF (RFC 5869) of their X25519 (RFC 7748), bound to both public keys. The
    /// other may be this host itself. `None` if `other` is a point with which everybody
    /// would come to the same key (RFC 7748, section 6.1).
    #[must_use]
    pub fn shared_with(&self, other: &PublicKey, label: &str) -> Option<SharedKey> {
        let secret = self.agree(other)?;
        let (mine, theirs) = (self.public(), *other);
        let (first, second) = (mine.min(theirs), mine.max(theirs));
        let about: [&[u8]; 3] = [label.as_bytes(), first.as_bytes(), second.as_bytes()];
        let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret.as_ref());
        let key = pseudorandom.expand(&about, hmac::HMAC_SHA256).ok()?;
        Some(SharedKey(key.into()))
    }

    /// X25519 of our private key and `other`.
    fn agree(&self, other: &PublicKey) -> Option<Zeroizing<[u8; KEY_LEN]>> {
        let mut curve = DefaultResolver.resolve_dh(&DHChoice::Curve25519)?;
        curve.set(self.private());
        let mut secret = Zeroizing::new([0; KEY_LEN]);
        curve.dh(other.as_bytes(), secret.as_mut()).ok()?;
        secret.iter().any(|byte| *byte != 0).then_some(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "wireonce test";

    fn pair() -> (StaticKey, StaticKey) {
        (StaticKey::generate().unwrap(), StaticKey::generate().unwrap())
    }

    #[test]
    fn both_sides_come_to_the_same_key_and_nobody_else_does() {
        let ((a, b), (c, _)) = (pair(), pair());
        let at_a = a.shared_with(&b.public(), LABEL).unwrap();
        let at_b = b.shared_with(&a.public(), LABEL).unwrap();
        let seal = at_a.seal(b"hello");
        assert!(at_b.verifies(b"hello", &seal));
        assert!(!at_b.verifies(b"hellO", &seal));
        for other in [
            c.shared_with(&b.public(), LABEL).unwrap(),
            a.shared_with(&c.public(), LABEL).unwrap(),
            a.shared_with(&b.public(), "another purpose").unwrap(),
            a.shared_with(&a.public(), LABEL).unwrap(),
        ] {
            assert!(!other.verifies(b"hello", &seal));
        }
    }

    #[test]
    fn any_changed_bit_of_a_seal_is_refused() {
        let (a, b) = pair();
        let key = a.shared_with(&b.public(), LABEL).unwrap();
        let seal = key.seal(b"hello");
        for bit in 0..SEAL_LEN * 8 {
            let mut wrong = seal;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verifies(b"hello", &wrong), "bit {bit}");
        }
    }

    #[test]
    fn a_public_key_with_which_everybody_agrees_is_refused() {
        let (a, _) = pair();
        for low_order in [[0; KEY_LEN], {
            let mut one = [0; KEY_LEN];
            one[0] = 1;
            one
        }] {
            assert!(a.shared_with(&PublicKey::from_bytes(low_order), LABEL).is_none());
        }
    }

    #[test]
    fn nothing_of_the_key_is_shown() {
        let (a, b) = pair();
        let key = a.shared_with(&b.public(), LABEL).unwrap();
        assert_eq!(format!("{key:?}"), "SharedKey");
    }
}
