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
use wireonce_wire::Vni;

/// True if `source`, the source MAC of a frame from outside, is one of our own
/// vNICs of that network.
#[must_use]
pub fn is_reflection(directory: &Directory, network: Vni, source: MacAddr) -> bool {
    directory.lookup(network, source).is_some()
}
