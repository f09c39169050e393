//! The first check of a handshake message: a MAC keyed with the receiver's public key.
//!
//! Public keys are no secrets, so this proves nothing about the sender. It makes a
//! stranger who does not know whom he talks to cost one hash instead of a curve
//! operation, and keeps the port silent to scans (WireGuard's `mac1`).

use crate::key::PublicKey;
use ring::{digest, hmac};

/// Bytes of the MAC.
pub(crate) const MAC_LEN: usize = 32;

const LABEL: &[u8] = b"wireonce mac v1";

/// Makes and checks the MACs of messages to one host.
#[derive(Debug, Clone)]
pub(crate) struct MacKey(hmac::Key);

impl MacKey {
    /// For messages to the host with this key.
    pub(crate) fn to(receiver: &PublicKey) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(LABEL);
        context.update(receiver.as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, context.finish().as_ref()))
    }

    /// The MAC of `header` and `body`.
    pub(crate) fn sign(&self, header: &[u8], body: &[u8]) -> [u8; MAC_LEN] {
        let mut mac = [0; MAC_LEN];
        for (to, from) in mac.iter_mut().zip(self.tag(header, body).as_ref()) {
            *to = *from;
        }
        mac
    }

    /// Whether `mac` is that of `header` and `body`.
    pub(crate) fn verifies(&self, header: &[u8], body: &[u8], mac: &[u8; MAC_LEN]) -> bool {
        // Nothing secret is compared, so time does not matter.
        self.sign(header, body) == *mac
    }

    fn tag(&self, header: &[u8], body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(header);
        context.update(body);
        context.sign()
    }
}
