//! Which flow a frame belongs to, as a number: for fair queues and for spreading
//! flows over paths and workers.
//!
//! One direction of a flow has one hash; the other direction has another, for
//! nothing here needs both in one place. All fragments of a packet have the hash
//! of its addresses, so that they keep one path. What is not IP has the hash of
//! its MAC addresses.

use crate::{Fragment, Headers, Layer3, headers::chunk};

// Odd numbers with about half of their bits set, from the digits of pi.
const KEY_A: u64 = 0x243f_6a88_85a3_08d3;
const KEY_B: u64 = 0x1319_8a2e_0370_7345;
const KEY_C: u64 = 0xa409_3822_299f_31d1;

/// The hash of the frame's flow. Not keyed: whoever chooses his own ports can
/// choose his own bucket, and harms only his own flows.
#[inline]
#[must_use]
pub fn flow_hash(headers: &Headers, head: &[u8]) -> u32 {
    let addresses = match headers.layer3 {
        Layer3::Ipv4 => ipv4(headers, head),
        Layer3::Ipv6 => ipv6(headers, head),
        Layer3::Arp | Layer3::Other => None,
    };
    let Some(addresses) = addresses else { return macs(headers) };
    let mut ports = 0;
    // The ports are 0 where there are none.
    if headers.fragment == Fragment::Whole {
        ports = u64::from(headers.source_port) << 16 | u64::from(headers.destination_port);
        ports |= u64::from(headers.protocol) << 32;
    }
    finish(mix(addresses ^ KEY_C, ports ^ KEY_B))
}

#[inline]
fn ipv4(headers: &Headers, head: &[u8]) -> Option<u64> {
    let addresses = chunk::<8>(head, headers.l3_offset() + 12)?;
    Some(mix(u64::from_ne_bytes(*addresses), KEY_A))
}

#[inline]
fn ipv6(headers: &Headers, head: &[u8]) -> Option<u64> {
    let addresses = chunk::<32>(head, headers.l3_offset() + 8)?;
    let [a, b, c, d] = addresses.as_chunks::<8>().0 else { return None };
    let source = mix(u64::from_ne_bytes(*a) ^ KEY_A, u64::from_ne_bytes(*b) ^ KEY_B);
    let destination = mix(u64::from_ne_bytes(*c) ^ KEY_B, u64::from_ne_bytes(*d) ^ KEY_C);
    Some(mix(source ^ KEY_A, destination ^ KEY_C))
}

fn macs(headers: &Headers) -> u32 {
    let [a, b, c, d, e, f] = headers.ethernet.source.0;
    let source = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    let [a, b, c, d, e, f] = headers.ethernet.destination.0;
    let destination = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    finish(mix(source ^ KEY_A, destination ^ KEY_B))
}

/// The two halves of the 128-bit product, folded: each output bit depends on
/// all bits of both numbers.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let (low, high) = a.carrying_mul(b, 0);
    low ^ high
}

#[inline]
fn finish(hash: u64) -> u32 {
    ((hash ^ (hash >> 32)) & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    fn hash(frame: &[u8]) -> u32 {
        flow_hash(&Headers::parse(frame, frame.len()).unwrap(), frame)
    }

    #[test]
    fn the_payload_does_not_matter_and_the_tuple_does() {
        for sample in [Sample::tcp4, Sample::tcp6, Sample::udp4, Sample::udp6] {
            let one = hash(&sample().build());
            assert_eq!(one, hash(&sample().payload(vec![1; 99]).build()));
            assert_eq!(one, hash(&sample().tag(0x8100, 5).build()), "tags are looked through");
            assert_ne!(one, hash(&sample().ports(1, 81).build()));
        }
        let ports = |sample: Sample| hash(&sample.ports(53, 53).build());
        assert_ne!(ports(Sample::tcp4()), ports(Sample::udp4()), "the protocol counts");
    }

    #[test]
    fn fragments_of_a_packet_stay_together() {
        let first = Sample::udp4().ipv4_fragment(0x2000).payload(vec![0; 64]).build();
        let later = Sample::udp4().ipv4_fragment(8).payload(vec![9; 64]).build();
        let whole = Sample::udp4().build();
        assert_eq!(hash(&first), hash(&later));
        assert_ne!(hash(&first), hash(&whole));
    }

    #[test]
    fn what_is_not_ip_goes_by_its_macs() {
        let mut frame = vec![0x11; 60];
        let one = hash(&frame);
        frame[30] = 0;
        assert_eq!(one, hash(&frame));
        frame[11] = 0;
        assert_ne!(one, hash(&frame));
    }

    #[test]
    fn flows_spread_over_buckets() {
        let mut buckets = [0u32; 16];
        for port in 0..4096 {
            let frame = Sample::udp4().ports(port, 80).build();
            buckets[usize::try_from(hash(&frame) % 16).unwrap()] += 1;
        }
        // 256 each on average; six standard deviations are 93.
        assert!(buckets.iter().all(|&n| (163..349).contains(&n)), "{buckets:?}");
    }
}
