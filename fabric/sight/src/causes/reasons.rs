//! What each drop reason means for whoever asks why a vNIC gets no more: the one list of them.
//!
//! [`meaning`] has to name every reason there is, or this does not compile. A reason belongs to one
//! family, which says at which station it stands and which cause tells of it; what no cause tells of,
//! `dropped` does, with who acts and how sure that is.

use super::{Sure, Who};
use crate::look::Flow;
use wireonce_ledger::{Amount, DropReason as R};

/// What belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// The guest's ring: what could not be taken from it as a frame, or put into it.
    Ring,
    /// It has no room.
    RxRing,
    /// The guest's driver does not run.
    Stopped,
    /// A rule about what a guest may send.
    Rule,
    /// Longer than the network takes.
    Mtu,
    /// More broadcast than it may send.
    Storm,
    /// Nothing was lost: it was answered in the guest's name.
    Answered,
    /// The vNIC's queue.
    Shaper,
    /// Where a frame goes, and whether anybody is there.
    Route,
    /// No session with the other host.
    Session,
    /// Between the hosts.
    Link,
    /// Not at home there, or not any more.
    Home,
    /// It had no lease for so many bits, or a limit.
    OverLease,
    /// It has a limit in packets.
    OverPackets,
    /// The uplink's queue.
    Egress,
    /// The port itself.
    Uplink,
    /// What a host does not believe of another.
    Distrust,
    /// What comes in from outside and belongs to nobody here, or is not let in: most of it is usual.
    Outside,
    /// What came in from outside and should have gone on.
    Inward,
}

/// What a drop reason means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meaning {
    /// Where it belongs.
    pub(crate) family: Family,
    /// How sure it is that [`Self::act`] helps.
    pub(crate) sure: Sure,
    /// Who acts.
    pub(crate) who: Who,
    /// What settles it, or what to do.
    pub(crate) act: &'static str,
}

/// What a reason means. Every reason is here by name.
pub(crate) fn meaning(reason: R) -> Meaning {
    use Family as F;
    use Sure::{Likely, Unknown};
    use Who::{GuestOwner, Network, Virtualisation};
    let is = |family, sure, who, act| Meaning { family, sure, who, act };
    match reason {
        R::BadChain | R::BadOffload | R::FrameShort => is(
            F::Ring,
            Likely,
            GuestOwner,
            "another version of the guest's virtio driver, or another driver, sends what is in order",
        ),
        R::NoRxBuffers | R::RxBufferSmall => {
            is(F::RxRing, Likely, GuestOwner, "a guest that takes its frames faster loses none")
        }
        R::PortDown => is(
            F::Stopped,
            Likely,
            GuestOwner,
            "look in the guest whether the driver runs, and its queues are enabled",
        ),
        R::SourceMac
        | R::SourceIp
        | R::ArpSpoof
        | R::NdSpoof
        | R::DhcpServer
        | R::RouterAdvertisement
        | R::LinkControl
        | R::ProbeForged
        | R::VlanTag
        | R::BadHeaders => is(
            F::Rule,
            Likely,
            GuestOwner,
            "capture in the guest what it sends, and compare with docs/port-guard.md",
        ),
        R::FrameLong => is(F::Mtu, Likely, GuestOwner, "set the network's MTU on both ends"),
        R::Storm => is(
            F::Storm,
            Likely,
            GuestOwner,
            "find who sends so much broadcast; the limit protects all others",
        ),
        R::AnsweredHere => is(F::Answered, Unknown, GuestOwner, "nothing is to be done"),
        R::Shaped => is(F::Shaper, Likely, Virtualisation, "a larger share loses less"),
        R::NoRoute => is(
            F::Route,
            Likely,
            GuestOwner,
            "ask whether its network has an uplink, or anybody with that address: frames to a MAC \
             address that nobody here has leave only there",
        ),
        R::Reflected => is(
            F::Route,
            Likely,
            GuestOwner,
            "the guest sends to its own MAC address: look at its neighbour table, and at bridges in it",
        ),
        R::FabricBusy => is(
            F::Route,
            Likely,
            Virtualisation,
            "look at the processors of this host and of the other one, and at its fabric port: one of \
             them takes no more",
        ),
        R::SendFailed => is(
            F::Route,
            Unknown,
            Virtualisation,
            "the host's own log says which error the socket gave",
        ),
        R::HandoverFull => is(
            F::Route,
            Likely,
            Virtualisation,
            "a worker of this host has more to do than one processor does: look at its processors",
        ),
        R::Stopped => is(
            F::Route,
            Likely,
            Virtualisation,
            "a daemon ended, or a vNIC or uplink was taken away: the audit trail and the host's log \
             say when",
        ),
        R::NoSession => is(F::Session, Likely, Network, "look at the way between the two hosts"),
        R::LostInFabric | R::FateUnknown => {
            is(F::Link, Likely, Network, "look at the ports on the way between the two hosts")
        }
        R::HomeLost | R::StaleHome => is(
            F::Home,
            Likely,
            Network,
            "more than a few are no swap but a link that comes and goes",
        ),
        R::OverLease => is(
            F::OverLease,
            Likely,
            Virtualisation,
            "a server that keeps to its lease loses nothing",
        ),
        R::OverPacketLimit => is(
            F::OverPackets,
            Likely,
            Virtualisation,
            "a server that keeps to the vNIC's limit loses nothing",
        ),
        R::UplinkBusy => {
            is(F::Egress, Likely, Network, "less is sent there, or the port takes more")
        }
        R::UplinkFailed => is(F::Uplink, Likely, Network, "look at the interface of the uplink"),
        R::SourceNotOwned | R::NetworkMismatch | R::UnknownDestination => is(
            F::Distrust,
            Likely,
            Virtualisation,
            "the two hosts do not serve one state of the house: it ends when both are up to date",
        ),
        R::BadBlock => is(
            F::Distrust,
            Unknown,
            Virtualisation,
            "the two hosts are not of one version, or one of them cannot be trusted",
        ),
        R::CongestionMark => is(
            F::Inward,
            Likely,
            Network,
            "a router of the fabric is congested; a guest that uses ECN slows down without a loss",
        ),
        R::DestinationMac | R::Reflection | R::NotDesignated | R::UnknownVlan | R::UnknownMac => {
            is(
                F::Outside,
                Likely,
                Network,
                "look where the network outside has learned the vNIC's MAC address",
            )
        }
        R::OutsideLoop => is(
            F::Inward,
            Likely,
            Network,
            "there is a loop outside: broadcast is held back until it is gone",
        ),
        R::OutsideStorm => {
            is(F::Inward, Likely, Network, "find who sends so much broadcast outside")
        }
        R::KernelDrop => is(
            F::Inward,
            Likely,
            Network,
            "the gateway is slower than what comes: look at its processors and workers",
        ),
    }
}

/// The drops of these families.
pub(crate) fn grown(flow: &Flow<'_>, families: &[Family]) -> Vec<(&'static str, Amount)> {
    let reasons = R::ALL.iter().filter(|reason| families.contains(&meaning(**reason).family));
    reasons.filter_map(|reason| Some((reason.name(), *flow.drops.get(reason.name())?))).collect()
}

/// "5 source-mac, 3 storm"
pub(crate) fn list(drops: &[(&'static str, Amount)]) -> String {
    let words = drops.iter().map(|(reason, amount)| format!("{} {reason}", amount.frames));
    words.collect::<Vec<_>>().join(", ")
}

/// All together.
pub(crate) fn frames(drops: &[(&'static str, Amount)]) -> u64 {
    drops.iter().map(|(_, amount)| amount.frames).sum()
}
