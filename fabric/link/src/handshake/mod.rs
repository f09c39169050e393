//! The two messages by which two hosts make a session: Noise IK over UDP.
//!
//! ```text
//!  Initiation: header(16) mac(32) Noise message 1: e, es, s, ss, offer   182 bytes
//!  Response:   header(16) mac(32) Noise message 2: e, ee, se, offer      134 bytes
//! ```
//!
//! Each end knows the other's static key from its configuration. IK was chosen
//! because the initiator knows whom it calls, one round trip is enough, and the
//! initiator's identity is hidden from listeners. `25519_ChaChaPoly_BLAKE2s` was
//! chosen because it is fast and constant-time without any CPU instruction set,
//! and is what WireGuard has had reviewed for years; it runs once in two minutes,
//! so its speed does not matter. Data uses AES-256-GCM, where hardware helps.
//!
//! The header of these messages is not secret and not part of Noise's hash. Each of its
//! fields has one allowed value (the response's index is the one that the
//! initiation carried), so that no bit of a message can change unnoticed.
//! Supported versions stand in both encrypted offers, hence in the handshake hash:
//! the highest common one cannot be talked down.

pub(crate) mod header;
pub(crate) mod limiter;
mod mac;
pub(crate) mod offer;
#[cfg(test)]
mod tests;

pub(crate) use mac::MacKey;

use crate::aead::HEADER_LEN;
use crate::key::{PublicKey, StaticKey};
use crate::session::SessionSecret;
use header::{Header, Kind};
use mac::MAC_LEN;
use offer::{OFFER_LEN, Offer, RANDOM_LEN};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

const NOISE: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";

/// Hashed into the handshake: two programs that both speak the pattern but not our
/// protocol cannot complete it.
const PROLOGUE: &[u8] = b"wireonce fabric link, handshake version 1";

/// In the header of both messages. Raised only when the handshake itself changes.
pub(crate) const HANDSHAKE_VERSION: u8 = 1;

/// Bytes of an initiation.
pub const INITIATION_LEN: usize = HEADER_LEN + MAC_LEN + NOISE_1_LEN;

/// Bytes of a response: less than the initiation's, so that nothing is amplified.
pub const RESPONSE_LEN: usize = HEADER_LEN + MAC_LEN + NOISE_2_LEN;

const NOISE_1_LEN: usize = 32 + (32 + 16) + (OFFER_LEN + 16);
const NOISE_2_LEN: usize = 32 + (OFFER_LEN + 16);

/// Why a handshake message led to nothing. All are met with silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// Length, header or offer is not what this version writes.
    #[error("malformed")]
    Malformed,
    /// The sender does not know our public key.
    #[error("bad MAC")]
    Mac,
    /// Not for us, or not from whom it claims.
    #[error("does not decrypt")]
    Crypto,
    /// The crypto library or its random source failed.
    #[error("no randomness or no cipher")]
    Local,
}

/// An initiation that waits for its response.
pub(crate) struct Initiator {
    noise: HandshakeState,
    offer: Offer,
}

/// What the initiator has once the response is there, or the responder once it
/// has answered.
pub(crate) struct Agreement {
    pub(crate) local: Offer,
    pub(crate) remote: Offer,
    pub(crate) secret: SessionSecret,
}

/// An initiation that was decrypted and waits for its answer.
pub(crate) struct Responder {
    noise: HandshakeState,
    pub(crate) initiator: PublicKey,
    pub(crate) offer: Offer,
}

impl Initiator {
    /// Begins a handshake; the bytes are the initiation.
    pub(crate) fn start(
        local: &StaticKey,
        remote: &PublicKey,
        remote_mac: &MacKey,
        offer: Offer,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let mut noise = builder(local)?
            .remote_public_key(remote.as_bytes())
            .and_then(Builder::build_initiator)
            .map_err(|_| HandshakeError::Local)?;
        let bytes = write(&mut noise, Kind::Initiation, 0, remote_mac, &offer, NOISE_1_LEN)?;
        Ok((Self { noise, offer }, bytes))
    }

    /// The session index that the response must name.
    pub(crate) fn index(&self) -> u32 {
        self.offer.index
    }

    /// Reads the response. A forged one leaves the handshake as it was.
    pub(crate) fn finish(
        &mut self,
        local_mac: &MacKey,
        datagram: &[u8],
    ) -> Result<Agreement, HandshakeError> {
        let (header, body) = open::<RESPONSE_LEN>(datagram, Kind::Response, local_mac)?;
        if header.index != self.offer.index {
            return Err(HandshakeError::Malformed);
        }
        let remote = read(&mut self.noise, body)?;
        let secret = secret(&mut self.noise, &self.offer.random, &remote.random)?;
        Ok(Agreement { local: self.offer.clone(), remote, secret })
    }
}

impl Responder {
    /// Checks that `datagram` is an initiation from someone who knows our public
    /// key: one hash.
    pub(crate) fn check(local_mac: &MacKey, datagram: &[u8]) -> Result<(), HandshakeError> {
        open::<INITIATION_LEN>(datagram, Kind::Initiation, local_mac).map(|_| ())
    }

    /// Decrypts an initiation: two curve operations. Who the initiator is, is proved
    /// by this only up to replay; that it lives, by its first message on the session.
    pub(crate) fn read(
        local: &StaticKey,
        local_mac: &MacKey,
        datagram: &[u8],
    ) -> Result<Self, HandshakeError> {
        let (_, body) = open::<INITIATION_LEN>(datagram, Kind::Initiation, local_mac)?;
        let mut noise = builder(local)?.build_responder().map_err(|_| HandshakeError::Local)?;
        let offer = read(&mut noise, body)?;
        let initiator = noise
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .map(PublicKey::from_bytes)
            .ok_or(HandshakeError::Crypto)?;
        Ok(Self { noise, initiator, offer })
    }

    /// Answers; the bytes are the response.
    pub(crate) fn answer(
        mut self,
        initiator_mac: &MacKey,
        offer: Offer,
    ) -> Result<(Agreement, Vec<u8>), HandshakeError> {
        let index = self.offer.index;
        let bytes =
            write(&mut self.noise, Kind::Response, index, initiator_mac, &offer, NOISE_2_LEN)?;
        let secret = secret(&mut self.noise, &self.offer.random, &offer.random)?;
        Ok((Agreement { local: offer, remote: self.offer, secret }, bytes))
    }
}

fn builder(local: &StaticKey) -> Result<Builder<'_>, HandshakeError> {
    let params = NOISE.parse().map_err(|_| HandshakeError::Local)?;
    Builder::new(params)
        .prologue(PROLOGUE)
        .and_then(|builder| builder.local_private_key(local.private()))
        .map_err(|_| HandshakeError::Local)
}

fn handshake_header(kind: Kind, index: u32) -> Header {
    Header { version: HANDSHAKE_VERSION, kind, epoch: 0, index, packet_number: 0 }
}

fn write(
    noise: &mut HandshakeState,
    kind: Kind,
    index: u32,
    mac: &MacKey,
    offer: &Offer,
    noise_len: usize,
) -> Result<Vec<u8>, HandshakeError> {
    let header = handshake_header(kind, index).emit();
    let mut body = vec![0; noise_len];
    let written =
        noise.write_message(&offer.emit(), &mut body).map_err(|_| HandshakeError::Local)?;
    if written != noise_len {
        return Err(HandshakeError::Local);
    }
    let mac = mac.sign(&header, &body);
    Ok([&header[..], &mac[..], &body[..]].concat())
}

/// Length, header and MAC; the rest is for Noise.
fn open<'a, const LEN: usize>(
    datagram: &'a [u8],
    kind: Kind,
    mac_key: &MacKey,
) -> Result<(Header, &'a [u8]), HandshakeError> {
    let datagram = <&[u8; LEN]>::try_from(datagram).map_err(|_| HandshakeError::Malformed)?;
    let (header, header_bytes) = Header::parse(datagram).ok_or(HandshakeError::Malformed)?;
    let index = if kind == Kind::Initiation { 0 } else { header.index };
    if header != handshake_header(kind, index) {
        return Err(HandshakeError::Malformed);
    }
    let rest = datagram.get(HEADER_LEN..).unwrap_or_default();
    let (mac, body) = rest.split_first_chunk::<MAC_LEN>().ok_or(HandshakeError::Malformed)?;
    if mac_key.verifies(header_bytes, body, mac) {
        Ok((header, body))
    } else {
        Err(HandshakeError::Mac)
    }
}

fn read(noise: &mut HandshakeState, body: &[u8]) -> Result<Offer, HandshakeError> {
    let mut payload = [0; OFFER_LEN];
    let len = noise.read_message(body, &mut payload).map_err(|_| HandshakeError::Crypto)?;
    if len != OFFER_LEN {
        return Err(HandshakeError::Malformed);
    }
    Offer::parse(&payload).ok_or(HandshakeError::Malformed)
}

/// Both halves of Noise's split and both ends' randomness, bound to the transcript.
fn secret(
    noise: &mut HandshakeState,
    initiator_random: &[u8; RANDOM_LEN],
    responder_random: &[u8; RANDOM_LEN],
) -> Result<SessionSecret, HandshakeError> {
    let (first, second) = noise.dangerously_get_raw_split();
    let (first, second) = (Zeroizing::new(first), Zeroizing::new(second));
    let parts: [&[u8]; 4] = [first.as_ref(), second.as_ref(), initiator_random, responder_random];
    let mut secrets = Zeroizing::new([0; 2 * 32 + 2 * RANDOM_LEN]);
    for (to, from) in secrets.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    SessionSecret::mix(noise.get_handshake_hash(), secrets.as_ref()).ok_or(HandshakeError::Local)
}
