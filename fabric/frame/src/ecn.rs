//! Explicit congestion notification of tunnelled packets (RFC 3168, RFC 6040).
//!
//! A train's datagrams carry the ECN field of the frames within; a switch of the
//! fabric may mark them. Where the frame leaves the fabric the mark must get into
//! the frame's own IP header, or the guest never learns of the congestion. The
//! received frame lies in receive buffers that are only read, so the few frames
//! that change get a new head in a buffer of the caller's: [`carry_over`].

use crate::{FrameRef, HEAD_LEN, Headers, Layer3};

/// The two ECN bits of an IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ecn {
    /// The transport does not take part (0b00).
    #[default]
    NotEct,
    /// ECN-capable, L4S or experimental (0b01).
    Ect1,
    /// ECN-capable (0b10).
    Ect0,
    /// Congestion experienced (0b11).
    Ce,
}

impl Ecn {
    /// The low two bits of a TOS byte or traffic class.
    #[inline]
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The two bits.
    #[inline]
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::NotEct => 0,
            Self::Ect1 => 1,
            Self::Ect0 => 2,
            Self::Ce => 3,
        }
    }
}

/// The frame met congestion, and its transport would not understand a mark: it
/// must be dropped (RFC 6040, figure 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame without ECN arrived in a datagram marked with congestion")]
pub struct EcnDrop;

/// What the inner header must say when the tunnel's header said `outer`: the
/// table of RFC 6040, figure 4.
///
/// # Errors
/// [`EcnDrop`] where congestion was met and the inner transport has no ECN.
#[inline]
pub fn combine(outer: Ecn, inner: Ecn) -> Result<Ecn, EcnDrop> {
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => Err(EcnDrop),
        (Ecn::Ect0 | Ecn::Ect1, Ecn::Ce) => Ok(Ecn::Ce),
        (Ecn::Ect0, Ecn::Ect1) => Ok(Ecn::Ect1),
        (inner, _) => Ok(inner),
    }
}

/// The ECN field of an IP packet; `None` where the frame is not IP.
#[inline]
#[must_use]
pub fn read(headers: &Headers, head: &[u8]) -> Option<Ecn> {
    let at = headers.l3_offset();
    let class = match headers.layer3 {
        Layer3::Ipv4 => *head.get(at + 1)?,
        Layer3::Ipv6 => *head.get(at + 1)? >> 4,
        Layer3::Arp | Layer3::Other => return None,
    };
    Some(Ecn::from_bits(class))
}

/// Writes the ECN field of an IP packet and corrects the IPv4 header checksum.
/// False where the frame is not IP.
pub fn write(headers: &Headers, head: &mut [u8], ecn: Ecn) -> bool {
    let at = headers.l3_offset();
    match headers.layer3 {
        Layer3::Ipv4 => head
            .get_mut(at..at + 12)
            .and_then(|ip| ip.first_chunk_mut())
            .map(|ip| write_ipv4(ip, ecn))
            .is_some(),
        Layer3::Ipv6 => {
            head.get_mut(at + 1).map(|byte| *byte = *byte & !0x30 | ecn.bits() << 4).is_some()
        }
        Layer3::Arp | Layer3::Other => false,
    }
}

fn write_ipv4(ip: &mut [u8; 12], ecn: Ecn) {
    let [version, class, .., c0, c1] = ip;
    let old = u16::from_be_bytes([*version, *class]);
    *class = *class & !3 | ecn.bits();
    let new = u16::from_be_bytes([*version, *class]);
    // RFC 1624, equation 3: HC' = ~(~HC + ~m + m').
    let mut sum = u32::from(!u16::from_be_bytes([*c0, *c1])) + u32::from(!old) + u32::from(new);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    [*c0, *c1] = (!((sum & 0xffff) as u16)).to_be_bytes();
}

/// Carries the mark of the datagram that brought `frame` over to the frame.
///
/// `Ok(None)`: the frame is right as it is. `Ok(Some(n))`: `buffer` holds the
/// frame's first `n` bytes as they must be; the rest is
/// [`FrameRef::parts_from`] of `n`.
///
/// # Errors
/// [`EcnDrop`]: drop the frame. What is not IP, or has headers that make no
/// sense, is never dropped or changed here.
pub fn carry_over(
    frame: &FrameRef<'_>,
    outer: Ecn,
    buffer: &mut [u8; HEAD_LEN],
) -> Result<Option<usize>, EcnDrop> {
    if matches!(outer, Ecn::NotEct | Ecn::Ect0) {
        // Never changes the inner field: the common case costs nothing.
        return Ok(None);
    }
    let len = frame.copy_at(0, buffer);
    let Some(head) = buffer.get_mut(..len) else { return Ok(None) };
    let Ok(headers) = Headers::parse(head, frame.frame_len()) else { return Ok(None) };
    let Some(inner) = read(&headers, head) else { return Ok(None) };
    let combined = combine(outer, inner)?;
    if combined == inner {
        return Ok(None);
    }
    Ok(write(&headers, head, combined).then_some(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::{Sum, verify};
    use crate::{Offload, sample::Sample};

    const ALL: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];

    #[test]
    fn the_table_of_rfc_6040() {
        use Ecn::{Ce, Ect0, Ect1, NotEct};
        let table = [
            (NotEct, [Ok(NotEct), Ok(NotEct), Ok(NotEct), Err(EcnDrop)]),
            (Ect0, [Ok(Ect0), Ok(Ect0), Ok(Ect1), Ok(Ce)]),
            (Ect1, [Ok(Ect1), Ok(Ect1), Ok(Ect1), Ok(Ce)]),
            (Ce, [Ok(Ce), Ok(Ce), Ok(Ce), Ok(Ce)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in [NotEct, Ect0, Ect1, Ce].into_iter().zip(row) {
                assert_eq!(combine(outer, inner), expected, "inner {inner:?}, outer {outer:?}");
            }
        }
    }

    #[test]
    fn written_bits_are_read_and_checksums_stay_right() {
        for sample in [Sample::udp4(), Sample::udp6(), Sample::udp4().tag(0x8100, 1)] {
            for from in ALL {
                for to in ALL {
                    let class = 0xb8 | from.bits();
                    let mut frame = sample.clone().traffic_class(class).build();
                    let headers = Headers::parse(&frame, frame.len()).unwrap();
                    assert_eq!(read(&headers, &frame), Some(from));
                    assert!(write(&headers, &mut frame, to));
                    let expected = sample.clone().traffic_class(0xb8 | to.bits()).build();
                    assert_eq!(frame, expected, "{from:?} to {to:?}");
                    assert_eq!(verify(&frame), Some(true));
                }
            }
        }
    }

    #[test]
    fn the_checksum_is_corrected_whatever_it_was() {
        let plain = Sample::udp4().traffic_class(Ecn::Ect0.bits()).build();
        let headers = Headers::parse(&plain, plain.len()).unwrap();
        for id in 0..=u16::MAX {
            let mut frame = plain.clone();
            frame[18..20].copy_from_slice(&id.to_be_bytes());
            frame[24..26].fill(0);
            let sum = Sum::default().with(&frame[14..34]).checksum();
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            assert!(write(&headers, &mut frame, Ecn::Ce));
            assert_eq!(Sum::default().with(&frame[14..34]).checksum(), 0, "id {id:#06x}");
        }
    }

    #[test]
    fn a_mark_reaches_a_frame_in_parts() {
        for sample in [Sample::tcp4(), Sample::tcp6()] {
            let sample = sample.payload(vec![7; 300]);
            let frame = sample.clone().traffic_class(Ecn::Ect0.bits()).build();
            let parts: [&[u8]; 3] = [&frame[..5], &frame[5..200], &frame[200..]];
            let gathered = FrameRef::new(&parts, Offload::default());
            let mut buffer = [0; HEAD_LEN];
            let n = carry_over(&gathered, Ecn::Ce, &mut buffer).unwrap().unwrap();
            let mut marked = buffer[..n].to_vec();
            gathered.parts_from(n).for_each(|part| marked.extend(part));
            assert_eq!(marked, sample.traffic_class(Ecn::Ce.bits()).build());
        }
    }

    #[test]
    fn frames_without_ecn_are_dropped_on_congestion_and_only_then() {
        let frame = Sample::udp4().build();
        let parts: [&[u8]; 1] = [&frame];
        let plain = FrameRef::new(&parts, Offload::default());
        let mut buffer = [0; HEAD_LEN];
        assert_eq!(carry_over(&plain, Ecn::Ce, &mut buffer), Err(EcnDrop));
        for outer in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1] {
            assert_eq!(carry_over(&plain, outer, &mut buffer), Ok(None));
        }
        let arp: [&[u8]; 1] = [&[0; 60]];
        let arp = FrameRef::new(&arp, Offload::default());
        assert_eq!(carry_over(&arp, Ecn::Ce, &mut buffer), Ok(None));
    }
}
