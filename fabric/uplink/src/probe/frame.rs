//! A probe on the outside network, byte for byte. Pure.
//!
//! Behind the Ethernet header (broadcast, from the uplink's own MAC, ethertype 0x88B5, which IEEE
//! 802 gives to local experiments), little endian:
//!
//! ```text
//!  0  version   1   1
//!  1  state     1   how the sender's uplink is: 0 alive, 1 draining, 2 sick, 3 gone
//!  2  VLAN      2   that it was sent on; 0 is untagged
//!  4  uplink    4   who sends
//!  8  life      8   when the sender's process began: wall clock, microseconds
//! 16  number    8   counts all probes of this uplink in this life
//! 24  heard     1   how many uplinks follow
//! 25  seals     1   how many seals follow those
//! 26  heard         4 each: whom the sender hears on this VLAN
//!     seals         20 each: for whom (4 bytes of the public key), and 16 bytes of HMAC-SHA-256
//! ```
//! A seal is over everything before the seals, the Ethernet header left out: switches may change that.
//! What follows the seals is padding.

use crate::health::HealthState;
use wireonce_frame::{ETHERNET_HEADER_LEN, MacAddr, build::FRAME_LEN_MIN, headers::ethertype};
use wireonce_link::{PublicKey, SEAL_LEN};
use wireonce_wire::UplinkId;

/// Most uplinks that a probe says it hears.
pub const HEARD_MAX: usize = 64;
/// Most gateways that can verify a probe, the sender's own included: the frame stays below the
/// smallest MTU.
pub const SEALS_MAX: usize = 48;

const VERSION: u8 = 1;
const FIXED_LEN: usize = 26;
const NAME_LEN: usize = 4;
const VLAN_MAX: u16 = 4094;

/// What a probe says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Who sends.
    pub uplink: UplinkId,
    /// How its uplink is.
    pub state: HealthState,
    /// The VLAN that it was sent on; `None` is untagged.
    pub vlan: Option<u16>,
    /// When the sender's process began: wall clock, microseconds.
    pub life: u64,
    /// Counts upwards within a life.
    pub number: u64,
    /// Whom the sender hears on this VLAN; at most [`HEARD_MAX`].
    pub heard: Vec<UplinkId>,
}

/// Whom a seal is for: the first bytes of a gateway's public key.
pub type SealName = [u8; NAME_LEN];

/// The name of the gateway with this public key.
#[must_use]
pub fn seal_name(key: &PublicKey) -> SealName {
    let [a, b, c, d, ..] = *key.as_bytes();
    [a, b, c, d]
}

/// Whether a frame from outside is a probe: of a frame to a group, one compare.
#[must_use]
pub fn is_probe(frame: &[u8]) -> bool {
    const TYPE: [u8; 2] = ethertype::PROBE.to_be_bytes();
    frame.first().is_some_and(|first| first & 1 == 1) && frame.get(12..14) == Some(&TYPE[..])
}

impl Probe {
    /// The frame from `source`, with what `seal` makes of the bytes that are sealed; at most
    /// [`SEALS_MAX`] seals.
    #[must_use]
    pub fn emit(
        &self,
        source: MacAddr,
        seal: impl FnOnce(&[u8]) -> Vec<(SealName, [u8; SEAL_LEN])>,
        seals: usize,
    ) -> Vec<u8> {
        let heard = self.heard.get(..HEARD_MAX).unwrap_or(&self.heard);
        let seals = seals.min(SEALS_MAX);
        let mut frame = [MacAddr::BROADCAST.0, source.0].concat();
        frame.extend(ethertype::PROBE.to_be_bytes());
        frame.extend([VERSION, state_number(self.state)]);
        frame.extend(self.vlan.unwrap_or(0).to_le_bytes());
        frame.extend(self.uplink.0.to_le_bytes());
        frame.extend(self.life.to_le_bytes());
        frame.extend(self.number.to_le_bytes());
        frame.extend([count(heard.len()), count(seals)]);
        heard.iter().for_each(|uplink| frame.extend(uplink.0.to_le_bytes()));
        let made = seal(frame.get(ETHERNET_HEADER_LEN..).unwrap_or_default());
        for (name, seal) in made.iter().take(seals) {
            frame.extend(name);
            frame.extend(seal);
        }
        frame.resize(frame.len().max(FRAME_LEN_MIN), 0);
        frame
    }
}

/// A probe that came, and what is needed to believe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received<'f> {
    /// What it says, if it is true.
    pub probe: Probe,
    /// What the seals are over.
    pub sealed: &'f [u8],
    seals: &'f [u8],
}

impl<'f> Received<'f> {
    /// Takes a frame apart; `None` if it is not a probe of this version, whole.
    #[must_use]
    pub fn parse(frame: &'f [u8]) -> Option<Self> {
        let body = frame.get(ETHERNET_HEADER_LEN..).filter(|_| is_probe(frame))?;
        let (fixed, rest) = body.split_first_chunk::<FIXED_LEN>()?;
        let [VERSION, state, v0, v1, u0, u1, u2, u3, rest_of_fixed @ ..] = *fixed else {
            return None;
        };
        let (life, numbers) = rest_of_fixed.split_first_chunk::<8>()?;
        let (number, counts) = numbers.split_first_chunk::<8>()?;
        let [heard, seals] = *counts.first_chunk::<2>()?;
        let (heard, seals) = (usize::from(heard), usize::from(seals));
        let vlan = u16::from_le_bytes([v0, v1]);
        if heard > HEARD_MAX || seals > SEALS_MAX || vlan > VLAN_MAX {
            return None;
        }
        let (heard, rest) = rest.split_at_checked(heard * 4)?;
        let seals = rest.get(..seals * (NAME_LEN + SEAL_LEN))?;
        let id = |bytes: &[u8]| bytes.first_chunk().map(|id| UplinkId(u32::from_le_bytes(*id)));
        Some(Self {
            probe: Probe {
                uplink: UplinkId(u32::from_le_bytes([u0, u1, u2, u3])),
                state: state_of(state)?,
                vlan: (vlan != 0).then_some(vlan),
                life: u64::from_le_bytes(*life),
                number: u64::from_le_bytes(*number),
                heard: heard.chunks_exact(4).filter_map(id).collect(),
            },
            sealed: body.get(..FIXED_LEN + heard.len())?,
            seals,
        })
    }

    /// The seals for the gateway called `name`; more than one only by chance or malice.
    pub fn seals_for(&self, name: SealName) -> impl Iterator<Item = &'f [u8; SEAL_LEN]> {
        self.seals.chunks_exact(NAME_LEN + SEAL_LEN).filter_map(move |entry| {
            let (whom, seal) = entry.split_first_chunk::<NAME_LEN>()?;
            seal.first_chunk().filter(|_| *whom == name)
        })
    }
}

/// How states are numbered, here and in what gateways tell each other over the fabric.
pub(super) fn state_number(state: HealthState) -> u8 {
    match state {
        HealthState::Alive => 0,
        HealthState::Draining => 1,
        HealthState::Sick => 2,
        HealthState::Gone => 3,
    }
}

/// The state with this number.
pub(super) fn state_of(number: u8) -> Option<HealthState> {
    match number {
        0 => Some(HealthState::Alive),
        1 => Some(HealthState::Draining),
        2 => Some(HealthState::Sick),
        3 => Some(HealthState::Gone),
        _ => None,
    }
}

/// Counts here are below 256.
fn count(items: usize) -> u8 {
    u8::try_from(items).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOURCE: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn probes() -> impl Strategy<Value = Probe> {
        let heard = proptest::collection::vec(any::<u32>().prop_map(UplinkId), 0..HEARD_MAX + 1);
        let vlan = proptest::option::of(1..=VLAN_MAX);
        (any::<u32>(), 0_u8..4, vlan, any::<u64>(), any::<u64>(), heard).prop_map(
            |(uplink, state, vlan, life, number, heard)| Probe {
                uplink: UplinkId(uplink),
                state: state_of(state).unwrap(),
                vlan,
                life,
                number,
                heard,
            },
        )
    }

    type Seals = Vec<(SealName, [u8; SEAL_LEN])>;

    fn emit(probe: &Probe, seals: &Seals) -> Vec<u8> {
        probe.emit(SOURCE, |_| seals.clone(), seals.len())
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses(
            probe in probes(),
            seals in proptest::collection::vec(any::<(SealName, [u8; SEAL_LEN])>(), 0..SEALS_MAX + 1),
        ) {
            let frame = emit(&probe, &seals);
            prop_assert!(is_probe(&frame));
            prop_assert!((60..=1294).contains(&frame.len()), "{}", frame.len());
            let received = Received::parse(&frame).unwrap();
            for (name, seal) in &seals {
                prop_assert!(received.seals_for(*name).any(|it| it == seal));
            }
            prop_assert_eq!(&frame[14..14 + received.sealed.len()], received.sealed);
            prop_assert_eq!(received.probe, probe);
        }

        #[test]
        fn a_frame_cut_short_is_no_probe_or_lacks_only_padding(probe in probes(), cut in 0_usize..200) {
            let seals = vec![([1; 4], [2; SEAL_LEN])];
            let frame = emit(&probe, &seals);
            let needed = 14 + FIXED_LEN + 4 * probe.heard.len() + 20;
            let cut = cut.min(frame.len());
            prop_assert_eq!(Received::parse(&frame[..cut]).is_some(), cut >= needed);
        }

        #[test]
        fn random_bytes_never_panic_and_what_parses_is_within_the_limits(
            body in proptest::collection::vec(any::<u8>(), 0..400), version in 0_u8..3,
        ) {
            let mut frame = [MacAddr::BROADCAST.0, SOURCE.0].concat();
            frame.extend([0x88, 0xb5, version]);
            frame.extend(body);
            if let Some(received) = Received::parse(&frame) {
                prop_assert_eq!(version, VERSION);
                prop_assert!(received.probe.heard.len() <= HEARD_MAX);
                prop_assert!(received.seals_for([0; 4]).count() <= SEALS_MAX);
            }
        }

        #[test]
        fn any_bytes_at_all_never_panic(frame in proptest::collection::vec(any::<u8>(), 0..80)) {
            let parsed = Received::parse(&frame);
            prop_assert!(parsed.is_none() || is_probe(&frame));
        }
    }

    #[test]
    fn only_frames_to_a_group_of_this_ethertype_are_probes() {
        let frame = |to: u8, kind: [u8; 2]| [&[to, 0, 0, 0, 0, 1], &SOURCE.0[..], &kind].concat();
        assert!(is_probe(&frame(0xff, [0x88, 0xb5])));
        assert!(is_probe(&frame(0x01, [0x88, 0xb5])));
        assert!(!is_probe(&frame(0x02, [0x88, 0xb5])), "unicast is a VM's own affair");
        assert!(!is_probe(&frame(0xff, [0x88, 0xb6])));
        assert!(!is_probe(&frame(0xff, [0x88, 0xb5])[..13]));
    }

    #[test]
    fn more_than_fits_is_left_out() {
        let heard = (0..100).map(UplinkId).collect();
        let state = HealthState::Alive;
        let probe = Probe { uplink: UplinkId(1), state, vlan: None, life: 1, number: 1, heard };
        let seals = vec![([7; 4], [0; SEAL_LEN]); 60];
        let frame = emit(&probe, &seals);
        let received = Received::parse(&frame).unwrap();
        assert_eq!(received.probe.heard.len(), HEARD_MAX);
        assert_eq!(received.seals_for([7; 4]).count(), SEALS_MAX);
    }
}
