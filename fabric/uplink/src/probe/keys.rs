//! Whose probes can be believed: one key for each pair of gateways, from their pinned static keys.
//!
//! No message is needed to agree on one, so gateways that hear each other only outside know each
//! other all the same. A gateway seals its probes for itself, too: an uplink that hears its own
//! probe must not take somebody's word for it.

use super::frame::{Probe, Received, SEALS_MAX, SealName, seal_name};
use wireonce_frame::MacAddr;
use wireonce_link::{PublicKey, SEAL_LEN, SharedKey, StaticKey};

/// What the keys are for.
const LABEL: &str = "wireonce outside probe";
/// What an uplink's own MAC address is made from.
const MAC_LABEL: &str = "wireonce outside probe address";

/// The key with one gateway.
#[derive(Debug, Clone)]
struct Entry {
    whose: PublicKey,
    name: SealName,
    key: SharedKey,
}

/// The keys with the gateways of one pool, this one included.
#[derive(Debug, Clone)]
pub struct Keys {
    own_key: PublicKey,
    own: SealName,
    entries: Vec<Entry>,
}

impl Keys {
    /// The keys of the gateway with the key `own` with those that have `others`: the first 47 of
    /// them, each once. [`Self::left_out`] says whether that are all.
    #[must_use]
    pub fn new(own: &StaticKey, others: impl IntoIterator<Item = PublicKey>) -> Self {
        let own_key = own.public();
        let mut keys = Self { own_key, own: seal_name(&own_key), entries: Vec::new() };
        for whose in std::iter::once(own.public()).chain(others) {
            let known = keys.entries.iter().any(|entry| entry.whose == whose);
            if known || keys.entries.len() >= SEALS_MAX {
                continue;
            }
            // A key with which everybody agrees is nobody's: such a gateway is not believed.
            if let Some(key) = own.shared_with(&whose, LABEL) {
                keys.entries.push(Entry { whose, name: seal_name(&whose), key });
            }
        }
        keys
    }

    /// The public key of this gateway.
    #[must_use]
    pub fn own_key(&self) -> &PublicKey {
        &self.own_key
    }

    /// Whether no probe of `gateway` can be believed, nor ours by it.
    #[must_use]
    pub fn left_out(&self, gateway: &PublicKey) -> bool {
        self.entries.iter().all(|entry| entry.whose != *gateway)
    }

    /// The frame of `probe`, sealed for all.
    #[must_use]
    pub fn emit(&self, probe: &Probe, source: MacAddr) -> Vec<u8> {
        let seal_all = |bytes: &[u8]| -> Vec<(SealName, [u8; SEAL_LEN])> {
            self.entries.iter().map(|entry| (entry.name, entry.key.seal(bytes))).collect()
        };
        probe.emit(source, seal_all, self.entries.len())
    }

    /// Whether the gateway with the key `whose` sent what came. One verification, but for seals
    /// whose names are alike by chance.
    #[must_use]
    pub fn believe(&self, whose: &PublicKey, received: &Received<'_>) -> bool {
        let entry = self.entries.iter().find(|entry| entry.whose == *whose);
        entry.is_some_and(|entry| {
            received
                .seals_for(self.own)
                .take(2)
                .any(|seal| entry.key.verifies(received.sealed, seal))
        })
    }
}

/// The MAC address that a gateway's own frames on an uplink have: of its own, since frames for the
/// port's address are the kernel's and never come to us. Always the same for the same key and uplink.
#[must_use]
pub fn own_mac(key: &StaticKey, uplink: u32) -> MacAddr {
    const LOCAL: u8 = 2;
    let with_itself = key.shared_with(&key.public(), MAC_LABEL);
    let [_, b, c, d, e, f, ..] =
        with_itself.map_or([0; SEAL_LEN], |made| made.seal(&uplink.to_le_bytes()));
    MacAddr([LOCAL, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::HealthState;
    use wireonce_wire::UplinkId;

    const SOURCE: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn probe() -> Probe {
        let state = HealthState::Alive;
        let heard = vec![UplinkId(2)];
        Probe { uplink: UplinkId(1), state, vlan: Some(20), life: 5, number: 7, heard }
    }

    #[test]
    fn each_gateway_of_the_pool_believes_a_probe_and_no_other_does() {
        let [a, b, c, stranger] = [(); 4].map(|()| StaticKey::generate().unwrap());
        let at = |own: &StaticKey, others: [&StaticKey; 2]| {
            Keys::new(own, others.into_iter().map(StaticKey::public))
        };
        let frame = at(&a, [&b, &c]).emit(&probe(), SOURCE);
        let received = Received::parse(&frame).unwrap();
        assert!(at(&b, [&a, &c]).believe(&a.public(), &received));
        assert!(at(&c, [&a, &b]).believe(&a.public(), &received));
        assert!(at(&a, [&b, &c]).believe(&a.public(), &received), "itself, if it comes back");
        assert!(!at(&b, [&a, &c]).believe(&c.public(), &received), "in another's name");
        assert!(!at(&stranger, [&a, &b]).believe(&a.public(), &received));
        // The stranger knows all public keys and seals for b in a's name.
        let forged = at(&stranger, [&b, &c]).emit(&probe(), SOURCE);
        let forged = Received::parse(&forged).unwrap();
        assert!(!at(&b, [&a, &c]).believe(&a.public(), &forged));
    }

    #[test]
    fn any_changed_bit_of_what_is_said_is_noticed() {
        let [a, b] = [(); 2].map(|()| StaticKey::generate().unwrap());
        let frame = Keys::new(&a, [b.public()]).emit(&probe(), SOURCE);
        let keys = Keys::new(&b, [a.public()]);
        let sealed = Received::parse(&frame).unwrap().sealed.len();
        for bit in 14 * 8..(14 + sealed) * 8 {
            let mut wrong = frame.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let believed = Received::parse(&wrong).is_some_and(|it| keys.believe(&a.public(), &it));
            assert!(!believed, "bit {bit}");
        }
    }

    #[test]
    fn gateways_beyond_the_limit_are_left_out_and_said_to_be() {
        let own = StaticKey::generate().unwrap();
        let others: Vec<PublicKey> =
            (0..50).map(|_| StaticKey::generate().unwrap().public()).collect();
        let keys = Keys::new(&own, others.iter().copied());
        let left_out = others.iter().filter(|key| keys.left_out(key)).count();
        assert_eq!(left_out, 3);
        assert!(!keys.left_out(&own.public()));
    }

    #[test]
    fn a_gateway_s_own_addresses_are_local_unicast_and_stay() {
        let [a, b] = [(); 2].map(|()| StaticKey::generate().unwrap());
        let mac = own_mac(&a, 1);
        assert!(mac.is_unicast() && mac.0[0] == 2, "{mac}");
        assert_eq!(own_mac(&a, 1), mac);
        assert_ne!(own_mac(&a, 2), mac);
        assert_ne!(own_mac(&b, 1), mac);
    }
}
