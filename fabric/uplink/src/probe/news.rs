//! What gateways of a pool tell each other over the fabric: how their uplinks are, and whom they
//! hear that does not hear them. Pure.
//!
//! In the control session of the host pair, so it is authentic. Each message says the whole state,
//! once a second and at each change. Little endian:
//!
//! ```text
//!  0  version   1   1
//!  1  uplinks   1   how many follow
//!  2  one-way   1   how many follow those
//!  3  life      8   when the sender's process began: wall clock, microseconds
//! 11  uplinks       5 each: id, state
//!     one-way       10 each: the receiver's uplink that is heard, the sender's that hears it, VLAN
//! ```

use super::frame::{state_number, state_of};
use crate::health::HealthState;
use wireonce_wire::UplinkId;

/// Most uplinks in one message.
pub const UPLINKS_MAX: usize = 64;
/// Most lines about those that are heard and do not hear.
pub const ONE_WAY_MAX: usize = 64;

const VERSION: u8 = 1;
const FIXED_LEN: usize = 11;
const UPLINK_LEN: usize = 5;
const ONE_WAY_LEN: usize = 10;

/// Who is heard, and does not hear who hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OneWay {
    /// The receiver's uplink, which is heard.
    pub heard: UplinkId,
    /// The sender's uplink, which hears it.
    pub by: UplinkId,
    /// On this VLAN.
    pub vlan: Option<u16>,
}

/// One gateway's news.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// When the sender's process began: wall clock, microseconds.
    pub life: u64,
    /// How its uplinks are.
    pub uplinks: Vec<(UplinkId, HealthState)>,
    /// What is heard one way.
    pub one_way: Vec<OneWay>,
}

impl News {
    /// The message; what is beyond the limits is left out.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let uplinks = self.uplinks.get(..UPLINKS_MAX).unwrap_or(&self.uplinks);
        let one_way = self.one_way.get(..ONE_WAY_MAX).unwrap_or(&self.one_way);
        let count = |items: usize| u8::try_from(items).unwrap_or(u8::MAX);
        let mut bytes = vec![VERSION, count(uplinks.len()), count(one_way.len())];
        bytes.extend(self.life.to_le_bytes());
        for (uplink, state) in uplinks {
            bytes.extend(uplink.0.to_le_bytes());
            bytes.push(state_number(*state));
        }
        for line in one_way {
            bytes.extend(line.heard.0.to_le_bytes());
            bytes.extend(line.by.0.to_le_bytes());
            bytes.extend(line.vlan.unwrap_or(0).to_le_bytes());
        }
        bytes
    }

    /// The message in `bytes`; `None` for anything else.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (fixed, rest) = bytes.split_first_chunk::<FIXED_LEN>()?;
        let [VERSION, uplinks, one_way, life @ ..] = *fixed else { return None };
        let (uplinks, one_way) = (usize::from(uplinks), usize::from(one_way));
        if uplinks > UPLINKS_MAX || one_way > ONE_WAY_MAX {
            return None;
        }
        let (uplinks, rest) = rest.split_at_checked(uplinks * UPLINK_LEN)?;
        if rest.len() != one_way * ONE_WAY_LEN {
            return None;
        }
        Some(Self {
            life: u64::from_le_bytes(life),
            uplinks: uplinks.chunks_exact(UPLINK_LEN).map(uplink).collect::<Option<_>>()?,
            one_way: rest.chunks_exact(ONE_WAY_LEN).filter_map(line).collect(),
        })
    }
}

fn uplink(bytes: &[u8]) -> Option<(UplinkId, HealthState)> {
    let (id, state) = bytes.split_first_chunk::<4>()?;
    Some((UplinkId(u32::from_le_bytes(*id)), state_of(*state.first()?)?))
}

fn line(bytes: &[u8]) -> Option<OneWay> {
    let (heard, rest) = bytes.split_first_chunk::<4>()?;
    let (by, rest) = rest.split_first_chunk::<4>()?;
    let vlan = u16::from_le_bytes(*rest.first_chunk::<2>()?);
    Some(OneWay {
        heard: UplinkId(u32::from_le_bytes(*heard)),
        by: UplinkId(u32::from_le_bytes(*by)),
        vlan: (vlan != 0).then_some(vlan),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn news() -> impl Strategy<Value = News> {
        let uplink =
            (any::<u32>(), 0_u8..4).prop_map(|(id, s)| (UplinkId(id), state_of(s).unwrap()));
        let line = (any::<u32>(), any::<u32>(), proptest::option::of(1_u16..)).prop_map(
            |(heard, by, vlan)| OneWay { heard: UplinkId(heard), by: UplinkId(by), vlan },
        );
        let uplinks = proptest::collection::vec(uplink, 0..UPLINKS_MAX + 1);
        let one_way = proptest::collection::vec(line, 0..ONE_WAY_MAX + 1);
        (any::<u64>(), uplinks, one_way).prop_map(|(life, uplinks, one_way)| News {
            life,
            uplinks,
            one_way,
        })
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_and_fits_a_message(news in news()) {
            let bytes = news.emit();
            prop_assert!(bytes.len() <= 1_024, "{}", bytes.len());
            prop_assert_eq!(News::parse(&bytes[..bytes.len() - 1]), None);
            prop_assert_eq!(News::parse(&bytes), Some(news));
        }

        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(news) = News::parse(&bytes) {
                prop_assert_eq!(news.emit(), bytes);
            }
        }
    }
}
