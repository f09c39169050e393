//! Which uplink lets a frame from outside in, so that it comes in once.
//!
//! ```text
//!   broadcast ──┬─▶ uplink A (designated) ──▶ every server of the network
//!               └─▶ uplink B              ──▶ drop
//!   unicast to vNIC 1, ──┬─▶ uplink A           ──▶ drop
//!   flooded by a switch  └─▶ uplink B (its home) ──▶ vNIC 1     ([`crate::attached`])
//! ```

use wireonce_config::Network;
use wireonce_wire::UplinkId;

/// True if `uplink` lets broadcast and multicast from outside into `network`.
#[must_use]
pub fn lets_groups_in(network: &Network, uplink: UplinkId) -> bool {
    network.outside.as_ref().is_some_and(|outside| outside.designated.id == uplink)
}
