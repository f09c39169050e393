//! Which uplink lets a frame from outside in, so that it comes in once.
//!
//! ```text
//!   broadcast ──┬─▶ uplink A (designated) ──▶ every server of the network
//!               └─▶ uplink B              ──▶ drop
//!   unicast to vNIC 1, ──┬─▶ uplink A           ──▶ drop
//!   flooded by a switch  └─▶ uplink B (its home) ──▶ vNIC 1
//! ```

//! Which one is designated is not only configured: see [`crate::probe`].

use wireonce_config::Vnic;
use wireonce_wire::UplinkId;

/// True if `uplink` lets frames from outside through to `vnic`: only its home does.
#[must_use]
pub fn lets_unicast_in(vnic: &Vnic, uplink: UplinkId) -> bool {
    vnic.home.as_ref().is_some_and(|home| home.id == uplink)
}
