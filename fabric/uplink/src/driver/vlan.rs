//! 802.1Q tags: off on the way in, on on the way out, and what that does to the
//! offsets in the virtio-net header.

use wireonce_frame::VNET_HEADER_LEN;

/// Stands for a tag that is not an 802.1Q one, so that no network's VLAN equals it:
/// 4095 is reserved (IEEE 802.1Q, table 9-2).
pub const FOREIGN_TAG: u16 = 4095;

/// Bytes of a tag.
pub(super) const TAG_LEN: u8 = 4;
/// Bytes of the two MAC addresses, behind which the tag stands.
pub(super) const MACS_LEN: usize = 12;

const TPID_8021Q: u16 = 0x8100;
const TPID_8021AD: u16 = 0x88a8;
const VID_MASK: u16 = 0x0fff;

/// The VLAN of a tag; a priority tag (VID 0) is none.
pub(super) fn vlan_of(tpid: u16, tci: u16) -> Option<u16> {
    match (tpid, tci & VID_MASK) {
        (TPID_8021Q, 0) => None,
        (TPID_8021Q, vid) => Some(vid),
        _ => Some(FOREIGN_TAG),
    }
}

/// The tag of `vlan`, with priority 0.
pub(super) fn tag(vlan: u16) -> [u8; TAG_LEN as usize] {
    let [a, b] = TPID_8021Q.to_be_bytes();
    let [c, d] = (vlan & VID_MASK).to_be_bytes();
    [a, b, c, d]
}

/// Takes the outer tag out of `frame`, whose first four bytes are then waste.
/// Returns the VLAN and where the frame begins now.
pub(super) fn untag(frame: &mut [u8]) -> (Option<u16>, usize) {
    let Some(fields) = frame.get(MACS_LEN..).and_then(|rest| rest.first_chunk::<4>()) else {
        return (None, 0);
    };
    let tpid = u16::from_be_bytes([fields[0], fields[1]]);
    if tpid != TPID_8021Q && tpid != TPID_8021AD {
        return (None, 0);
    }
    let vlan = vlan_of(tpid, u16::from_be_bytes([fields[2], fields[3]]));
    frame.copy_within(..MACS_LEN, usize::from(TAG_LEN));
    (vlan, usize::from(TAG_LEN))
}

/// Moves `hdr_len` and `csum_start` by the length of a tag that was put in.
pub(super) fn shift_in(vnet: &mut [u8; VNET_HEADER_LEN]) {
    shift(vnet, |offset| offset.saturating_add(TAG_LEN.into()));
}

/// Moves `hdr_len` and `csum_start` by the length of a tag that was taken out.
pub(super) fn shift_out(vnet: &mut [u8; VNET_HEADER_LEN]) {
    shift(vnet, |offset| offset.saturating_sub(TAG_LEN.into()));
}

fn shift(vnet: &mut [u8; VNET_HEADER_LEN], by: impl Fn(u16) -> u16) {
    const NEEDS_CSUM: u8 = 1;
    let moved = |at: usize| by(u16::from_le_bytes([vnet[at], vnet[at + 1]])).to_le_bytes();
    let (hdr_len, csum_start) = (moved(2), moved(6));
    if vnet[2..4] != [0, 0] {
        vnet[2..4].copy_from_slice(&hdr_len);
    }
    if vnet[0] & NEEDS_CSUM != 0 {
        vnet[6..8].copy_from_slice(&csum_start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_in_and_comes_out_again() {
        let mut frame: Vec<u8> = (0..12).collect();
        frame.extend(tag(100));
        frame.extend([8, 0, 77]);
        let (vlan, at) = untag(&mut frame);
        assert_eq!(vlan, Some(100));
        assert_eq!(&frame[at..], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 8, 0, 77]);
    }

    #[test]
    fn priority_tags_are_no_vlan_and_other_tags_are_no_known_one() {
        assert_eq!(vlan_of(0x8100, 0xe000), None);
        assert_eq!(vlan_of(0x8100, 0xe00a), Some(10));
        assert_eq!(vlan_of(0x88a8, 10), Some(FOREIGN_TAG));
    }

    #[test]
    fn untagged_and_short_frames_stay() {
        let mut short = vec![0; 15];
        assert_eq!(untag(&mut short), (None, 0));
        let mut plain = vec![8; 60];
        assert_eq!(untag(&mut plain), (None, 0));
        assert_eq!(plain, vec![8; 60]);
    }

    #[test]
    fn offsets_move_with_the_tag_but_only_those_that_mean_something() {
        let before = [1, 1, 66, 0, 0x78, 5, 34, 0, 16, 0, 0, 0];
        let mut vnet = before;
        shift_in(&mut vnet);
        assert_eq!((vnet[2], vnet[6]), (70, 38));
        shift_out(&mut vnet);
        assert_eq!(vnet, before);
        let mut nothing_open = [0; 12];
        shift_in(&mut nothing_open);
        assert_eq!(nothing_open, [0; 12]);
    }
}
