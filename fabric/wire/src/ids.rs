//! The identifiers that stand in blocks.

use std::fmt;

/// A vNIC: 1 to 2^62 - 1, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VnicId(u64);

impl VnicId {
    /// The highest id.
    pub const MAX: u64 = (1 << 62) - 1;

    /// `id` as a vNIC id, if it is one.
    #[must_use]
    pub fn new(id: u64) -> Option<Self> {
        (1..=Self::MAX).contains(&id).then_some(Self(id))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for VnicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An uplink: unique among all gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UplinkId(pub u32);

/// A layer-2 segment: 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    /// The highest network number.
    pub const MAX: u32 = (1 << 24) - 1;

    /// `vni` as a network number, if it fits in 24 bits.
    #[must_use]
    pub fn new(vni: u32) -> Option<Self> {
        (vni <= Self::MAX).then_some(Self(vni))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Where a block comes from or goes to. On the wire: 64 bits, of which the top
/// two name the kind; all bits zero is the link itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The link between the two workers: loss evidence and probes.
    Link,
    /// One vNIC.
    Vnic(VnicId),
    /// One uplink of a gateway.
    Uplink(UplinkId),
    /// Every vNIC of a network on the receiving host (head-end replication).
    Network(Vni),
}

const KIND_SHIFT: u32 = 62;
const KIND_UPLINK: u64 = 1;
const KIND_NETWORK: u64 = 2;

impl Endpoint {
    /// The wire form.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        match self {
            Self::Link => 0,
            Self::Vnic(id) => id.get(),
            Self::Uplink(id) => KIND_UPLINK << KIND_SHIFT | u64::from(id.0),
            Self::Network(vni) => KIND_NETWORK << KIND_SHIFT | u64::from(vni.get()),
        }
    }

    /// The endpoint that `bits` names; `None` where no endpoint has that form.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let number = bits & VnicId::MAX;
        match bits >> KIND_SHIFT {
            0 if number == 0 => Some(Self::Link),
            0 => VnicId::new(number).map(Self::Vnic),
            KIND_UPLINK => u32::try_from(number).ok().map(|id| Self::Uplink(UplinkId(id))),
            KIND_NETWORK => u32::try_from(number).ok().and_then(Vni::new).map(Self::Network),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_round_trip() {
        let all = [
            Endpoint::Link,
            Endpoint::Vnic(VnicId(1)),
            Endpoint::Vnic(VnicId(VnicId::MAX)),
            Endpoint::Uplink(UplinkId(u32::MAX)),
            Endpoint::Network(Vni(Vni::MAX)),
        ];
        for endpoint in all {
            assert_eq!(Endpoint::from_bits(endpoint.to_bits()), Some(endpoint));
        }
    }

    #[test]
    fn unknown_kinds_and_wide_numbers_are_refused() {
        assert_eq!(Endpoint::from_bits(3 << 62), None);
        assert_eq!(Endpoint::from_bits(1 << 62 | 1 << 32), None);
        assert_eq!(Endpoint::from_bits(2 << 62 | 1 << 24), None);
    }
}
