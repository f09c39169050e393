//! The two messages alone, without a manager.

use super::offer::tests::offer;
use super::*;

struct Host {
    key: StaticKey,
    mac: MacKey,
}

impl Host {
    fn new() -> Self {
        let key = StaticKey::generate().unwrap();
        let mac = MacKey::to(&key.public());
        Self { key, mac }
    }
}

fn start(from: &Host, to: &Host) -> (Initiator, Vec<u8>) {
    Initiator::start(&from.key, &to.key.public(), &to.mac, offer()).unwrap()
}

fn answer(at: &Host, to: &Host, initiation: &[u8]) -> (Agreement, Vec<u8>) {
    let responder = Responder::read(&at.key, &at.mac, initiation).unwrap();
    let offer = Offer { version: 2, index: 9, random: [6; RANDOM_LEN], ..offer() };
    responder.answer(&to.mac, offer).unwrap()
}

#[test]
fn both_ends_agree_on_offers_and_secret() {
    let (a, b) = (Host::new(), Host::new());
    let (mut initiator, initiation) = start(&a, &b);
    assert_eq!(initiation.len(), INITIATION_LEN);
    assert_eq!(Responder::check(&b.mac, &initiation), Ok(()));
    assert_eq!(Responder::read(&b.key, &b.mac, &initiation).unwrap().initiator, a.key.public());
    let (at_b, response) = answer(&b, &a, &initiation);
    assert_eq!(response.len(), RESPONSE_LEN);
    let at_a = initiator.finish(&a.mac, &response).unwrap();
    assert_eq!((&at_a.local, &at_a.remote), (&at_b.remote, &at_b.local));
    let (hash, other_hash) = ([1; 32], [2; 32]);
    assert!(SessionSecret::mix(&hash, b"x") == SessionSecret::mix(&hash, b"x"));
    assert!(SessionSecret::mix(&hash, b"x") != SessionSecret::mix(&other_hash, b"x"));
    assert!(Some(at_a.secret) == Some(at_b.secret));
}

#[test]
fn every_changed_bit_of_an_initiation_is_noticed() {
    let (a, b) = (Host::new(), Host::new());
    let (_, initiation) = start(&a, &b);
    for at in 0..initiation.len() * 8 {
        let mut bytes = initiation.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        assert!(Responder::check(&b.mac, &bytes).is_err(), "bit {at}");
        // And without the MAC, which everybody can make.
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_LEN>() else { continue };
        let body = &body[MAC_LEN..];
        let signed = [&header[..], &b.mac.sign(header, body), body].concat();
        if at / 8 < HEADER_LEN || at / 8 >= HEADER_LEN + MAC_LEN {
            assert!(Responder::read(&b.key, &b.mac, &signed).is_err(), "bit {at}, signed again");
        }
    }
}

#[test]
fn every_changed_bit_of_a_response_is_noticed_and_spoils_nothing() {
    let (a, b) = (Host::new(), Host::new());
    let (mut initiator, initiation) = start(&a, &b);
    let (_, response) = answer(&b, &a, &initiation);
    for at in 0..response.len() * 8 {
        let mut bytes = response.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        assert!(initiator.finish(&a.mac, &bytes).is_err(), "bit {at}");
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_LEN>() else { continue };
        let body = &body[MAC_LEN..];
        let signed = [&header[..], &a.mac.sign(header, body), body].concat();
        if at / 8 < HEADER_LEN || at / 8 >= HEADER_LEN + MAC_LEN {
            assert!(initiator.finish(&a.mac, &signed).is_err(), "bit {at}, signed again");
        }
    }
    assert!(initiator.finish(&a.mac, &response).is_ok());
}

#[test]
fn messages_of_any_other_length_are_refused() {
    let (a, b) = (Host::new(), Host::new());
    let (mut initiator, initiation) = start(&a, &b);
    let (_, response) = answer(&b, &a, &initiation);
    for len in 0..initiation.len() {
        assert!(Responder::read(&b.key, &b.mac, &initiation[..len]).is_err());
        assert!(initiator.finish(&a.mac, &response[..len.min(RESPONSE_LEN - 1)]).is_err());
    }
    let longer = [&initiation[..], &[0]].concat();
    assert!(Responder::read(&b.key, &b.mac, &longer).is_err());
}

#[test]
fn an_initiation_to_another_host_is_refused() {
    let (a, b, c) = (Host::new(), Host::new(), Host::new());
    let (_, initiation) = start(&a, &c);
    assert_eq!(Responder::check(&b.mac, &initiation), Err(HandshakeError::Mac));
    // Even with the right MAC: it was encrypted to C's key.
    let (_, initiation) = Initiator::start(&a.key, &c.key.public(), &b.mac, offer()).unwrap();
    assert_eq!(Responder::read(&b.key, &b.mac, &initiation).err(), Some(HandshakeError::Crypto));
}

#[test]
fn an_answer_from_anyone_but_the_called_host_is_refused() {
    let (a, b, c) = (Host::new(), Host::new(), Host::new());
    let (mut initiator, _) = start(&a, &b);
    let (_, to_c) = start(&a, &c);
    let (_, from_c) = answer(&c, &a, &to_c);
    assert_eq!(initiator.finish(&a.mac, &from_c).err(), Some(HandshakeError::Crypto));
}
