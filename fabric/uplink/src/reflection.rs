//! Our own frames, coming back.
//!
//! All uplinks of a pool sit on one outside layer 2. What a vNIC broadcasts through
//! its home comes back in through every other uplink of the pool, though every
//! server has had its copy through the fabric already; and a switch that does not
//! know a destination floods even unicast. Such a frame has the source MAC of one of
//! our own vNICs, which outside nobody else has a right to: it is dropped. This is
//! what makes the pool loop-free without a spanning tree.

use wireonce_directory::Directory;
use wireonce_frame::MacAddr;
use wireonce_wire::{Vni, VnicId};

/// Our own vNIC of that network whose address is `source`, the source MAC of a frame from outside.
#[must_use]
pub fn reflected(directory: &Directory, network: Vni, source: MacAddr) -> Option<VnicId> {
    directory.lookup(network, source).map(|entry| entry.vnic.id)
}
