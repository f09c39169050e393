//! What a port does with a frame before it goes on: the virtio-net header, the
//! port guard, the storm limit, and answers for known neighbours.
//!
//! ```text
//! guest TX ring --copy--> header, head --parse, admit--> Headers, Offload --> storm --> neighbours --> lookup, shaper, link
//!                                         | guard                                    |
//!                                         v                                          v
//!                                    drop by name                          answer to the guest's RX ring
//!
//! link, neighbour --> check_ingress --> guest RX ring
//! ```
//!
//! Everything here is a pure function of the copied head and the port's policy.
//! No decision is remembered: what was decided for one frame cannot be wrong for
//! the next (a cache wider than its decision let packets bypass other switches:
//! CVE-2020-35498).

pub mod guard;
pub mod neighbours;
pub mod policy;

pub use guard::{check_egress, check_ingress};
pub use neighbours::{Neighbour, Neighbours};
pub use policy::{AddressSet, PortPolicy};

use wireonce_frame::{Headers, Offload, OffloadFeatures, VNET_HEADER_LEN};
use wireonce_ledger::DropReason;

/// Judges a frame from the guest: port guard, offload, length. Returns the work that
/// the frame leaves to us, checked and rebuilt.
///
/// `vnet` and `head` are copies that the guest can no longer change; `head` is
/// the frame's first `min(frame_len, HEAD_LEN)` bytes, which `headers` were parsed from,
/// and the same bytes must be sent. `negotiated` are the features that the guest
/// acknowledged.
///
/// # Errors
/// The name under which the frame is dropped.
// The headers are lent, not returned with the rest: a copy of them costs as much as
// half of the guard.
#[inline]
pub fn admit(
    policy: &PortPolicy,
    vnet: &[u8; VNET_HEADER_LEN],
    headers: &Headers,
    head: &[u8],
    frame_len: usize,
    negotiated: OffloadFeatures,
) -> Result<Offload, DropReason> {
    check_egress(policy, headers, head)?;
    let offload = Offload::from_vnet_parsed(vnet, headers, frame_len, negotiated, policy.mtu)?;
    Ok(offload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_frame::sample::{SAMPLE_SOURCE, Sample};

    fn admit_with(vnet: [u8; 12], frame: &[u8]) -> Result<Offload, DropReason> {
        let policy = PortPolicy::strict(SAMPLE_SOURCE, AddressSet::any(), 1500);
        let headers = Headers::parse(frame, frame.len())?;
        admit(&policy, &vnet, &headers, frame, frame.len(), OffloadFeatures::ALL)
    }

    #[test]
    fn each_kind_of_bad_frame_has_its_name() {
        let plain = [0; 12];
        let good = Sample::udp4().build();
        assert!(admit_with(plain, &good).is_ok());
        assert_eq!(admit_with(plain, &good[..13]), Err(DropReason::FrameShort));
        assert_eq!(admit_with(plain, &good[..41]), Err(DropReason::BadHeaders));
        let long = Sample::udp4().payload(vec![0; 1473]).build();
        assert_eq!(admit_with(plain, &long), Err(DropReason::FrameLong));
        let full = Sample::udp4().payload(vec![0; 1472]).build();
        assert!(admit_with(plain, &full).is_ok());
        let bad_csum = [1, 0, 0, 0, 0, 0, 35, 0, 6, 0, 0, 0];
        assert_eq!(admit_with(bad_csum, &good), Err(DropReason::BadOffload));
        let csum = [1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0];
        assert!(admit_with(csum, &good).unwrap().checksum.is_some());
        let tagged = Sample::udp4().tag(0x8100, 1).tag(0x8100, 1).tag(0x8100, 1).build();
        assert_eq!(admit_with(plain, &tagged), Err(DropReason::VlanTag));
    }
}
