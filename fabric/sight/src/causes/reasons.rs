//! Which drop reasons belong to which station.

use wireonce_ledger::DropReason as R;

/// The guest's ring: what could not be taken from it as a frame.
pub(crate) const RING: &[R] = &[R::BadChain, R::FrameShort, R::BadOffload, R::PortDown];
/// The port guard.
pub(crate) const GUARD: &[R] = &[
    R::FrameLong,
    R::SourceMac,
    R::SourceIp,
    R::ArpSpoof,
    R::NdSpoof,
    R::DhcpServer,
    R::RouterAdvertisement,
    R::LinkControl,
    R::VlanTag,
    R::BadHeaders,
    R::Storm,
];
/// Those of the guard that are a rule about what a guest may send.
pub(crate) const RULES: &[R] = &[
    R::SourceMac,
    R::SourceIp,
    R::ArpSpoof,
    R::NdSpoof,
    R::DhcpServer,
    R::RouterAdvertisement,
    R::LinkControl,
    R::VlanTag,
    R::BadHeaders,
];
/// The vNIC's queue.
pub(crate) const SHAPER: &[R] = &[R::Shaped];
/// Where a frame goes.
pub(crate) const ROUTE: &[R] = &[
    R::NoRoute,
    R::Reflected,
    R::NoSession,
    R::FabricBusy,
    R::SendFailed,
    R::HandoverFull,
    R::AnsweredHere,
    R::HomeLost,
];
/// Between the hosts.
pub(crate) const LINK: &[R] = &[R::LostInFabric, R::FateUnknown];
/// Not at home there, or not any more.
pub(crate) const HOME: &[R] = &[R::HomeLost, R::StaleHome];
/// The gateway's own hand.
pub(crate) const POLICE: &[R] = &[R::OverLease, R::OverPacketLimit];
/// It had no lease for so many bits, or a limit.
pub(crate) const OVER_LEASE: &[R] = &[R::OverLease];
/// It has a limit in packets.
pub(crate) const OVER_PACKET_LIMIT: &[R] = &[R::OverPacketLimit];
/// The uplink's queue.
pub(crate) const EGRESS: &[R] = &[R::UplinkBusy];
/// The port itself.
pub(crate) const UPLINK: &[R] = &[R::UplinkFailed];
/// The guest's receive ring.
pub(crate) const GUEST_RX: &[R] = &[R::NoRxBuffers, R::RxBufferSmall];

/// "5 source-mac, 3 storm"
pub(crate) fn list(drops: &[(&'static str, wireonce_ledger::Amount)]) -> String {
    let words = drops.iter().map(|(reason, amount)| format!("{} {reason}", amount.frames));
    words.collect::<Vec<_>>().join(", ")
}

/// All together.
pub(crate) fn frames(drops: &[(&'static str, wireonce_ledger::Amount)]) -> u64 {
    drops.iter().map(|(_, amount)| amount.frames).sum()
}
