use super::*;
use crate::sample::Sample;
use crate::{Gso, GsoKind};
use proptest::prelude::*;

/// Cuts `frame`, given in parts that end at `cuts`.
fn cut(frame: &[u8], cuts: &[usize], offload: Offload) -> Vec<Vec<u8>> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut % (frame.len() + 1)).collect();
    ends.push(frame.len());
    ends.sort_unstable();
    let mut from = 0;
    let mut parts = Vec::new();
    for end in ends {
        parts.push(&frame[from..end]);
        from = end;
    }
    let mut scratch = vec![0xee; 7];
    let mut segments = Vec::new();
    let count = segment(&FrameRef::new(&parts, offload), &mut scratch, &mut |bytes: &[u8]| {
        segments.push(bytes.to_vec());
    })
    .unwrap();
    assert_eq!(usize::try_from(count).unwrap(), segments.len());
    segments
}

fn large(sample: Sample, kind: GsoKind, size: u16) -> (Vec<u8>, Offload) {
    let (frame, request) = sample.build_open();
    let gso = Some(Gso { kind, size, ecn: false });
    (frame, Offload { checksum: Some(request), checksum_valid: false, gso })
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// An independent sum over one 16-bit word after the other: 0xffff where right.
fn naive_sum(words: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for pair in words.concat().chunks(2) {
        sum += u32::from(pair[0]) * 256 + u32::from(*pair.get(1).unwrap_or(&0));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    u16::try_from(sum).unwrap()
}

/// What an independent receiver makes of an untagged segment.
struct Received {
    sequence: u32,
    flags: u8,
    id: u16,
    payload: Vec<u8>,
}

/// A receiver with its own idea of the formats: fixed offsets, nothing of this crate.
fn receive(frame: &[u8]) -> Received {
    let v4 = be16(frame, 12) == 0x0800;
    let (ip_len, total, addresses) = if v4 {
        let ip_len = usize::from(frame[14] & 15) * 4;
        assert_eq!(naive_sum(&[&frame[14..14 + ip_len]]), 0xffff, "IPv4 header checksum");
        (ip_len, usize::from(be16(frame, 16)), &frame[26..34])
    } else {
        (40, usize::from(be16(frame, 18)) + 40, &frame[22..54])
    };
    assert_eq!(14 + total, frame.len(), "IP length");
    let tcp = &frame[14 + ip_len..];
    let len = u16::try_from(tcp.len()).unwrap().to_be_bytes();
    assert_eq!(naive_sum(&[addresses, &[0, 6], &len, tcp]), 0xffff, "TCP checksum");
    Received {
        sequence: be32(tcp, 4),
        flags: tcp[13],
        id: be16(frame, 18),
        payload: tcp[usize::from(tcp[12] >> 4) * 4..].to_vec(),
    }
}

proptest! {
    #[test]
    fn a_receiver_reassembles_what_was_cut(
        v4 in any::<bool>(),
        payload in prop::collection::vec(any::<u8>(), 0..6000),
        size in 8u16..1500,
        sequence in any::<u32>(),
        flags in any::<u8>(),
        option_words in 0usize..10,
        ip_option_words in 0usize..10,
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let sample = if v4 {
            Sample::tcp4().ipv4_options(vec![1; ip_option_words * 4])
        } else {
            Sample::tcp6()
        };
        let sample = sample.tcp(sequence, flags, vec![1; option_words * 4]);
        let kind = if v4 { GsoKind::TcpV4 } else { GsoKind::TcpV6 };
        let (frame, offload) = large(sample.payload(payload.clone()), kind, size);
        let segments = cut(&frame, &cuts, offload);

        let headers = Headers::parse(&frame, frame.len()).unwrap();
        let count = segment_count(frame.len(), &offload, &headers);
        prop_assert_eq!(usize::try_from(count).unwrap(), segments.len());
        let bytes: usize = segments.iter().map(|segment| segment.len().max(60) + 24).sum();
        prop_assert_eq!(wire_cost(frame.len(), &offload, &headers).bytes, bytes as u64);

        let mut stream = Vec::new();
        let last = segments.len() - 1;
        for (at, segment) in segments.iter().enumerate() {
            let received = receive(segment);
            let sent = u32::try_from(stream.len()).unwrap();
            prop_assert_eq!(received.sequence, sequence.wrapping_add(sent));
            if v4 {
                prop_assert_eq!(received.id, 0x1234 + u16::try_from(at).unwrap());
            }
            let mut expected = flags;
            if at != last {
                expected &= !(FIN | PSH);
                prop_assert_eq!(received.payload.len(), usize::from(size));
            }
            if at != 0 {
                expected &= !CWR;
            }
            prop_assert_eq!(received.flags, expected);
            stream.extend(received.payload);
        }
        prop_assert_eq!(stream, payload);
    }

    #[test]
    fn any_frame_and_any_offload_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        base in 0..3,
        start in any::<u16>(),
        offset in any::<u8>(),
        size in 1u16..400,
        cut in any::<bool>(),
    ) {
        let frame = match base {
            0 => bytes,
            1 => Sample::tcp4().payload(bytes).build(),
            _ => Sample::udp6().payload(bytes).build(),
        };
        let kind = GsoKind::TcpV4;
        let offload = Offload {
            checksum: Some(crate::ChecksumRequest { start, offset }),
            checksum_valid: false,
            gso: cut.then_some(Gso { kind, size, ecn: false }),
        };
        let parts = [frame.as_slice()];
        let _ = segment(&FrameRef::new(&parts, offload), &mut Vec::new(), &mut |_: &[u8]| {});
    }
}

#[test]
fn tags_are_repeated_in_each_segment() {
    let sample = Sample::tcp4().tag(0x88a8, 7).tag(0x8100, 9).payload(vec![5; 2500]);
    let (frame, offload) = large(sample, GsoKind::TcpV4, 1000);
    let segments = cut(&frame, &[], offload);
    assert_eq!(segments.len(), 3);
    for segment in segments {
        assert_eq!(segment[..22], frame[..22]);
        assert_eq!(crate::checksum::verify(&segment), Some(true));
    }
}

#[test]
fn the_longest_headers_are_repeated_whole() {
    let sample = Sample::tcp4()
        .tag(0x88a8, 7)
        .tag(0x8100, 9)
        .ipv4_options(vec![1; 40])
        .tcp(1, 0x18, vec![3; 40])
        .payload(vec![5; 300]);
    let (frame, offload) = large(sample, GsoKind::TcpV4, 100);
    let segments = cut(&frame, &[], offload);
    assert_eq!(segments.len(), 3);
    assert!(segments.iter().all(|s| s.len() == 142 + 100 && s[102..142] == [3; 40]));
}

#[test]
fn the_ipv4_id_wraps() {
    let sample = Sample::tcp4().payload(vec![5; 30]);
    let (mut frame, offload) = large(sample, GsoKind::TcpV4, 10);
    frame[18..20].copy_from_slice(&[0xff, 0xff]);
    let ids: Vec<_> = cut(&frame, &[], offload).iter().map(|s| be16(s, 18)).collect();
    assert_eq!(ids, [0xffff, 0, 1]);
}

#[test]
fn a_frame_that_is_not_cut_comes_out_finished() {
    let (frame, request) = Sample::udp6().payload(vec![1, 2, 3]).build_open();
    let offload = Offload { checksum: Some(request), ..Offload::default() };
    let segments = cut(&frame, &[9, 20], offload);
    assert_eq!(segments, [Sample::udp6().payload(vec![1, 2, 3]).build()]);
}

#[test]
fn what_is_not_tcp_is_not_cut() {
    let (frame, offload) = large(Sample::udp4().payload(vec![0; 99]), GsoKind::TcpV4, 10);
    let parts = [frame.as_slice()];
    let result =
        segment(&FrameRef::new(&parts, offload), &mut Vec::new(), &mut |_: &[u8]| unreachable!());
    assert_eq!(result, Err(SegmentError::NotTcp));
}

#[test]
fn a_small_frame_is_one_segment_that_is_padded_on_the_wire() {
    let frame = Sample::udp4().build();
    let headers = Headers::parse(&frame, frame.len()).unwrap();
    let cost = wire_cost(frame.len(), &Offload::default(), &headers);
    assert!(frame.len() < 60);
    assert_eq!(cost, WireCost { segments: 1, bytes: 84 });
    assert_eq!(cost.bits(), 672);
}
