//! Why a frame was dropped: one name, one counter, one line of explanation.

use serde::{Deserialize, Serialize};
use wireonce_frame::{HeaderError, OffloadError};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a frame was dropped. The name is the same wherever one is shown.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum DropReason {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl DropReason {
            /// All reasons, in the order of [`Self::index`].
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in the status.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for people.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }

            /// Position in [`Self::ALL`].
            #[must_use]
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    // The guest's descriptor chain and virtio-net header.
    /// The descriptor chain was malformed: a loop, an address outside the guest's memory, a bad order.
    BadChain = "bad-chain",
    /// The chain was too short for a virtio-net header and an Ethernet header.
    FrameShort = "frame-short",
    /// The frame was longer than the network's MTU allows and no segmentation was asked for.
    FrameLong = "frame-long",
    /// The virtio-net header asked for something that its frame or the negotiated features do not allow.
    BadOffload = "bad-offload",

    // The port guard.
    /// The source MAC was not the vNIC's.
    SourceMac = "source-mac",
    /// The source IP address was not one of the vNIC's.
    SourceIp = "source-ip",
    /// An ARP packet claimed an address that is not the vNIC's.
    ArpSpoof = "arp-spoof",
    /// A neighbour discovery packet claimed an address that is not the vNIC's.
    NdSpoof = "nd-spoof",
    /// A DHCP server's reply from a vNIC that may not be a DHCP server.
    DhcpServer = "dhcp-server",
    /// A router advertisement or redirect from a vNIC that may not route.
    RouterAdvertisement = "router-advertisement",
    /// A link-local control protocol of bridges: 01-80-C2-00-00-00 to 0F (BPDU, LACP, LLDP, PAUSE), or CDP.
    LinkControl = "link-control",
    /// A frame of ethertype 88B5: the gateways' own probes on the outside network, in which a vNIC has no part.
    ProbeForged = "probe-forged",
    /// A VLAN tag on a port that is not a trunk.
    VlanTag = "vlan-tag",
    /// Headers too short or too contradictory to judge.
    BadHeaders = "bad-headers",
    /// The vNIC sent more broadcast or multicast than its storm limit allows.
    Storm = "storm",

    // Forwarding.
    /// The destination is neither a vNIC of the network nor reachable through an uplink.
    NoRoute = "no-route",
    /// The destination MAC is that of the sender itself.
    Reflected = "reflected",
    /// The destination's host is not connected: no authenticated session with it.
    NoSession = "no-session",
    /// The destination's host has no room for more trains; the socket does not take them.
    FabricBusy = "fabric-busy",
    /// The socket refused a train for good.
    SendFailed = "send-failed",
    /// It did not arrive whole, says the receiver. Of a large TCP segment the rest may have gone on.
    LostInFabric = "lost-in-fabric",
    /// The receiver restarted or fell silent before it said what arrived.
    FateUnknown = "fate-unknown",
    /// The hand-over to another worker of this process was full.
    HandoverFull = "handover-full",

    /// An ARP request or neighbour solicitation that was answered at the port, so that nobody else needs to hear it.
    AnsweredHere = "answered-here",

    // From the fabric.
    /// A block whose source does not belong to the peer that sent it.
    SourceNotOwned = "source-not-owned",
    /// A router of the fabric marked congestion, and the frame cannot carry the mark on: RFC 6040 has it dropped.
    CongestionMark = "congestion-mark",
    /// A block for an endpoint that is not on this host.
    UnknownDestination = "unknown-destination",
    /// Source and destination are not in the same network.
    NetworkMismatch = "network-mismatch",
    /// A block whose header or offload contradicts its frame.
    BadBlock = "bad-block",

    // Into the guest.
    /// A frame for a MAC that is neither a group address nor the vNIC's.
    DestinationMac = "destination-mac",
    /// The guest's driver is not running.
    PortDown = "port-down",
    /// The guest had no free receive buffers for 5 ms, or too many frames wait for some: the sender of most of them loses.
    NoRxBuffers = "no-rx-buffers",
    /// The guest's receive buffer is smaller than the frame, and it cannot merge buffers.
    RxBufferSmall = "rx-buffer-small",

    // Bandwidth.
    /// More waits for the vNIC's share of its uplink than may wait, or for too long: at its server towards the home, at the gateway from outside.
    Shaped = "shaped",
    /// The server sent more through the uplink than the gateway had leased it, or the vNIC more bits than its limit.
    OverLease = "over-lease",
    /// The vNIC sent more packets a second than its limit, and its server did not hold it back.
    OverPacketLimit = "over-packet-limit",
    /// The daemon ended, or the uplink was closed, while the frame waited for its turn.
    Stopped = "stopped",

    // Homes.
    /// The gateway's lease for the server ran out: it may be elsewhere already. At the server: the vNIC is attached nowhere yet.
    HomeLost = "home-lost",
    /// The vNIC is attached to another uplink: the frame was under way to the one that it has left.
    StaleHome = "stale-home",

    // At the uplink.
    /// The uplink's queue was full.
    UplinkBusy = "uplink-busy",
    /// The uplink refused the frame.
    UplinkFailed = "uplink-failed",
    /// A frame came in from outside with the source MAC of one of our own vNICs.
    Reflection = "reflection",
    /// Broadcast or multicast from outside on an uplink that is not the designated one.
    NotDesignated = "not-designated",
    /// Broadcast or multicast at an uplink that hears its own probes come back: there is a loop outside.
    OutsideLoop = "outside-loop",
    /// More broadcast or multicast came in from outside than the uplink's storm limit lets into a network.
    OutsideStorm = "outside-storm",
    /// A frame from outside on a VLAN that no network uses.
    UnknownVlan = "unknown-vlan",
    /// A frame from outside for a MAC that no vNIC of the network has.
    UnknownMac = "unknown-mac",
    /// The kernel dropped it before we could read it.
    KernelDrop = "kernel-drop",
}

impl From<HeaderError> for DropReason {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::FrameShort => Self::FrameShort,
            HeaderError::VlanDepth => Self::VlanTag,
            HeaderError::IpHeader | HeaderError::IpLength | HeaderError::Transport => {
                Self::BadHeaders
            }
        }
    }
}

impl From<OffloadError> for DropReason {
    fn from(error: OffloadError) -> Self {
        match error {
            OffloadError::FrameShort(_) => Self::FrameShort,
            OffloadError::FrameLong { .. } => Self::FrameLong,
            _ => Self::BadOffload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_explained() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
        for (at, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at);
            assert!(reason.explanation().ends_with('.'), "{}", reason.name());
        }
    }
}
