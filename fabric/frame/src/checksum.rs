//! The Internet checksum (RFC 1071) over gather lists.
//!
//! The ones' complement sum does not depend on byte order, so [`Sum`] adds
//! machine words as they lie in memory and turns the result round once, at the
//! end. A part of odd length shifts all that follows by one byte; its sum is
//! then added with its bytes exchanged.

use crate::{
    ChecksumRequest, Fragment, Headers, Layer3, Layer4, headers::chunk, headers::protocol,
};

/// A running ones' complement sum.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    /// Sum of 16-bit words in memory order, not folded.
    total: u64,
    /// The bytes so far were odd in number.
    odd: bool,
}

impl Sum {
    /// With `bytes` behind what is already summed.
    #[inline]
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let part = fold(sum_words(bytes));
        let part = if self.odd { part.swap_bytes() } else { part };
        Self { total: self.total + u64::from(part), odd: self.odd ^ (bytes.len() % 2 == 1) }
    }

    /// With a 16-bit number in network byte order, on an even boundary.
    #[inline]
    #[must_use]
    pub fn with_u16(self, number: u16) -> Self {
        Self { total: self.total + u64::from(number.to_be()), odd: self.odd }
    }

    /// With a 32-bit number in network byte order, on an even boundary.
    #[inline]
    #[must_use]
    pub fn with_u32(self, number: u32) -> Self {
        Self { total: self.total + u64::from(number.to_be()), odd: self.odd }
    }

    /// The sum, folded to 16 bits, as it stands in a field that holds a
    /// pseudo-header's sum.
    #[inline]
    #[must_use]
    pub fn value(self) -> u16 {
        u16::from_be(fold(self.total))
    }

    /// The checksum: the sum's complement.
    #[inline]
    #[must_use]
    pub fn checksum(self) -> u16 {
        !self.value()
    }
}

/// The pseudo-header of TCP, UDP or ICMPv6 without the length (RFC 9293 3.1,
/// RFC 8200 8.1), which differs from segment to segment: add it with
/// [`Sum::with_u32`]. `None` where `headers` are not those of an IP packet.
#[must_use]
pub fn pseudo_header(headers: &Headers, head: &[u8]) -> Option<Sum> {
    let at = headers.l3_offset();
    let addresses: &[u8] = match headers.layer3 {
        Layer3::Ipv4 => chunk::<8>(head, at + 12)?,
        Layer3::Ipv6 => chunk::<32>(head, at + 8)?,
        Layer3::Arp | Layer3::Other => return None,
    };
    Some(Sum::default().with(addresses).with_u16(u16::from(headers.protocol)))
}

/// The request names bytes that the frame does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the checksum request points beyond the frame's end")]
pub struct OutOfFrame;

/// Completes an open checksum in a whole frame. A result of 0 is written as
/// 0xffff, its equal in ones' complement, because 0 means "none" in UDP (RFC 768).
///
/// # Errors
/// [`OutOfFrame`]; the frame is unchanged then.
pub fn complete(frame: &mut [u8], request: ChecksumRequest) -> Result<(), OutOfFrame> {
    let covered = frame.get_mut(usize::from(request.start)..).ok_or(OutOfFrame)?;
    let sum = Sum::default().with(covered).checksum();
    let at = usize::from(request.offset);
    let field = covered.get_mut(at..at + 2).ok_or(OutOfFrame)?;
    field.copy_from_slice(&nonzero(sum).to_be_bytes());
    Ok(())
}

/// A checksum that is not 0, which in UDP is none (RFC 768).
#[inline]
pub(crate) fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// Whether the IPv4 header checksum and the TCP, UDP or ICMP checksum of a
/// whole frame are right. `None` where there is none to check: not IP, a
/// fragment, another protocol, or a UDP packet over IPv4 without checksum.
#[must_use]
pub fn verify(frame: &[u8]) -> Option<bool> {
    let headers = Headers::parse(frame, frame.len()).ok()?;
    let end = usize::try_from(headers.ip_end).ok()?;
    let l4 = frame.get(headers.l4_offset()..end)?;
    if headers.layer3 == Layer3::Ipv4 {
        let ip = frame.get(headers.l3_offset()..headers.l4_offset())?;
        if Sum::default().with(ip).checksum() != 0 {
            return Some(false);
        }
    }
    if headers.fragment != Fragment::Whole {
        return None;
    }
    let pseudo = match headers.layer4 {
        Layer4::Udp if headers.layer3 == Layer3::Ipv4 && l4.get(6..8)? == [0, 0] => return None,
        Layer4::Tcp | Layer4::Udp | Layer4::Icmpv6 => {
            pseudo_header(&headers, frame)?.with_u32(u32::try_from(l4.len()).ok()?)
        }
        Layer4::Icmp => Sum::default(),
        Layer4::None | Layer4::Other | Layer4::Hidden => return None,
    };
    Some(pseudo.with(l4).checksum() == 0)
}

/// Where the checksum field is in the transport header, for the protocols whose
/// checksum may be left open.
#[inline]
#[must_use]
pub fn field_offset(protocol: u8) -> Option<u8> {
    match protocol {
        protocol::TCP => Some(16),
        protocol::UDP => Some(6),
        protocol::ICMPV6 => Some(2),
        _ => None,
    }
}

/// Sum of the 16-bit words of `bytes` as they lie in memory; an odd last byte
/// counts as if a zero followed it.
#[inline]
fn sum_words(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut lanes = [0u64; 8];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let (pairs, rest) = rest.as_chunks::<2>();
    for pair in pairs {
        total += u64::from(u16::from_ne_bytes(*pair));
    }
    if let [last] = rest {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    total
}

/// Adds the carries until 16 bits are left.
#[inline]
fn fold(total: u64) -> u16 {
    let total = (total & 0xffff_ffff) + (total >> 32);
    // At most 0x1_ffff_fffe now, so at most 0x1_fffe next, and 0xffff in the end.
    let total = (total & 0xffff) + ((total >> 16) & 0xffff) + (total >> 32);
    let total = (total & 0xffff) + (total >> 16);
    (total & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use proptest::prelude::*;

    /// RFC 1071, section 1, word by word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    /// 0 and 0xffff are the same number in ones' complement.
    fn same(a: u16, b: u16) -> bool {
        a == b || (a == 0 && b == 0xffff) || (a == 0xffff && b == 0)
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().with(&bytes).value(), 0xddf2);
        assert_eq!(Sum::default().with(&bytes).checksum(), !0xddf2);
    }

    #[test]
    fn a_long_run_of_ones_does_not_overflow() {
        let bytes = vec![0xff; 1 << 20];
        assert_eq!(Sum::default().with(&bytes).value(), 0xffff);
    }

    #[test]
    fn folding_keeps_the_number_and_fits() {
        for high in [0, 1, 0xffff, 0x1_0000, 0xfffe_ffff, 0xffff_0000, 0xffff_fffe, 0xffff_ffff] {
            for low in [0, 1, 0xffff, 0x1_0000, 0xfffe_ffff, 0xffff_0000, 0xffff_ffff] {
                let total = high << 32 | low;
                // 2^16 is 1 modulo 65,535.
                assert_eq!(u64::from(fold(total)) % 0xffff, total % 0xffff, "{total:#x}");
                assert_eq!(fold(total) == 0, total == 0, "{total:#x}");
            }
        }
    }

    #[test]
    fn what_has_no_checksum_is_not_verified() {
        let mut unchecked = Sample::udp4().build();
        unchecked[40..42].fill(0);
        assert_eq!(verify(&unchecked), None, "optional over IPv4");
        let mut unchecked = Sample::udp6().build();
        unchecked[60..62].fill(0);
        assert_eq!(verify(&unchecked), Some(false), "not over IPv6");
        assert_eq!(verify(&Sample::udp4().ipv4_fragment(4).build()), None);
        assert_eq!(verify(&Sample::udp4().protocol(132).build()), None);
        assert_eq!(verify(&[0; 60]), None);
        let mut bad_ip = Sample::udp4().build();
        bad_ip[22] ^= 1;
        assert_eq!(verify(&bad_ip), Some(false), "the IPv4 header");
        assert_eq!(verify(&Sample::icmp4(vec![8, 0, 0, 0, 1, 2]).build()), Some(true));
    }

    proptest! {
        #[test]
        fn parts_sum_like_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            cuts in prop::collection::vec(0usize..400, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut sum = Sum::default();
            let mut from = 0;
            for cut in cuts {
                sum = sum.with(&bytes[from..cut]);
                from = cut;
            }
            prop_assert!(same(sum.value(), naive(&bytes)));
        }

        #[test]
        fn a_completed_frame_verifies(
            len in 0usize..300,
            fill in any::<u8>(),
            kind in 0..4,
        ) {
            let sample = match kind {
                0 => Sample::tcp4(),
                1 => Sample::tcp6(),
                2 => Sample::udp4(),
                _ => Sample::udp6(),
            };
            let (mut frame, request) = sample.payload(vec![fill; len]).build_open();
            complete(&mut frame, request).unwrap();
            prop_assert_eq!(verify(&frame), Some(true));
            let last = frame.len() - 1;
            frame[last] ^= 0x10;
            prop_assert_eq!(verify(&frame), Some(false));
        }
    }

    #[test]
    fn a_udp_checksum_of_zero_is_sent_as_ones() {
        // Choose the payload so that the sum is 0xffff.
        let (frame, request) = Sample::udp4().payload(vec![0, 0]).build_open();
        let start = usize::from(request.start);
        let sum = naive(&frame[start..]);
        let (mut frame, request) =
            Sample::udp4().payload((!sum).to_be_bytes().to_vec()).build_open();
        complete(&mut frame, request).unwrap();
        assert_eq!(&frame[start + 6..start + 8], &[0xff, 0xff]);
        assert_eq!(verify(&frame), Some(true));
    }

    #[test]
    fn a_request_beyond_the_frame_changes_nothing() {
        let frame = Sample::udp4().build();
        for (start, offset) in [(u16::MAX, 6), (u16::try_from(frame.len() - 7).unwrap(), 6)] {
            let mut copy = frame.clone();
            assert_eq!(complete(&mut copy, ChecksumRequest { start, offset }), Err(OutOfFrame));
            assert_eq!(copy, frame);
        }
    }
}
