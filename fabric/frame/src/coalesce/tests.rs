use super::*;
use crate::sample::Sample;
use crate::{ChecksumRequest, FrameRef, checksum::complete, segment::cut};
use proptest::prelude::*;

/// A frame as it came: bytes, and whether its checksum is open.
#[derive(Debug, Clone)]
struct Came {
    bytes: Vec<u8>,
    request: Option<ChecksumRequest>,
}

impl Came {
    fn new(sample: Sample, open: bool) -> Self {
        let (bytes, request) = sample.clone().build_open();
        if open {
            return Self { bytes, request: Some(request) };
        }
        Self { bytes: sample.build(), request: None }
    }

    fn offload(&self) -> Offload {
        Offload { checksum: self.request, ..Offload::default() }
    }

    /// As it is to be on the wire.
    fn finished(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if let Some(request) = self.request {
            complete(&mut bytes, request).unwrap();
        }
        bytes
    }

    fn flow(&self) -> Option<Flow> {
        let headers = Headers::parse(&self.bytes, self.bytes.len()).unwrap();
        Flow::of(&headers, &self.bytes, self.bytes.len(), &self.offload())
    }

    fn piece(&self) -> Option<Piece> {
        self.flow()?.piece
    }
}

/// A train and its bytes.
struct Joined {
    train: Train,
    bytes: Vec<u8>,
    header_len: usize,
}

impl Joined {
    fn begin(came: &Came) -> Option<Self> {
        let piece = came.piece()?;
        let train = Train::begin(&piece, &came.bytes)?;
        Some(Self { train, bytes: came.bytes.clone(), header_len: piece.header_len() })
    }

    fn follow(&mut self, came: &Came) -> bool {
        let Some(piece) = came.piece() else { return false };
        let payload = &came.bytes[piece.header_len()..];
        let first_len = usize::from(self.train.first.payload_len);
        let first = &self.bytes[self.header_len..][..first_len];
        // In two parts, as the fabric may hand it over.
        let (a, b) = payload.split_at(payload.len() / 2);
        let taken = self.train.follow(&piece, &came.bytes, [a, b].into_iter(), first);
        if taken {
            self.bytes.extend(payload);
        }
        taken
    }

    /// What a kernel makes of it.
    fn cut(mut self) -> Vec<Vec<u8>> {
        let vnet = self.train.finish(&mut self.bytes[14..]);
        let (_, size) = JoinKind::of_vnet(&vnet).unwrap();
        let parts = [&self.bytes[..]];
        let frame = FrameRef::new(&parts, Offload::default());
        let mut frames = Vec::new();
        cut(&frame, size, &mut Vec::new(), &mut |bytes| frames.push(bytes.to_vec())).unwrap();
        frames
    }
}

/// Joins what can be joined, cuts it again. Returns the frames and how many were taken in.
fn there_and_back(frames: &[Came]) -> (Vec<Vec<u8>>, usize) {
    let mut out = Vec::new();
    let mut taken = 0;
    let mut open: Option<Joined> = None;
    let mut close = |open: &mut Option<Joined>| match open.take() {
        Some(joined) if joined.train.segments() > 1 => out.extend(joined.cut()),
        Some(joined) => out.push(joined.bytes),
        None => {}
    };
    for came in frames {
        if open.as_mut().is_some_and(|joined| joined.follow(came)) {
            taken += 1;
            continue;
        }
        close(&mut open);
        // What travels alone has its checksum completed by the kernel.
        let alone = Came { bytes: came.finished(), request: None };
        open = Joined::begin(came);
        if open.is_none() {
            let mut single = Some(Joined {
                train: Train::begin(&udp(0, 9).piece().unwrap(), &udp(0, 9).bytes).unwrap(),
                bytes: alone.bytes,
                header_len: 0,
            });
            close(&mut single);
        }
    }
    close(&mut open);
    (out, taken)
}

/// A datagram of the flow, with this id.
fn udp(id: u16, payload_len: usize) -> Came {
    Came::new(Sample::udp4().ipv4_id(id).payload(vec![0xa5; payload_len]), false)
}

/// A segment of the flow that begins at this sequence number.
fn tcp(sequence: u32, payload_len: usize) -> Sample {
    Sample::tcp6().tcp(sequence, ACK, vec![1; 12]).payload(vec![0x5a; payload_len])
}

fn follows(first: &Came, second: &Came) -> bool {
    Joined::begin(first).is_some_and(|mut joined| joined.follow(second))
}

#[test]
fn datagrams_are_joined_until_a_shorter_one_and_come_back_as_they_were() {
    let frames = [udp(9, 100), udp(10, 100), udp(11, 60)];
    let mut joined = Joined::begin(&frames[0]).unwrap();
    assert!(joined.follow(&frames[1]));
    assert!(joined.follow(&frames[2]));
    assert!(!joined.follow(&udp(12, 60)), "the last one was shorter");
    let bytes: Vec<_> = frames.iter().map(|came| came.bytes.clone()).collect();
    assert_eq!(joined.cut(), bytes);
}

#[test]
fn the_header_says_what_a_kernel_needs_to_know() {
    let mut joined = Joined::begin(&udp(9, 100)).unwrap();
    assert!(joined.follow(&udp(10, 100)));
    let vnet = joined.train.finish(&mut joined.bytes[14..]);
    assert_eq!(vnet, [1, 5, 42, 0, 100, 0, 34, 0, 6, 0, 0, 0]);
    let headers = Headers::parse(&joined.bytes, joined.bytes.len()).unwrap();
    assert_eq!(usize::try_from(headers.ip_end), Ok(joined.bytes.len()));

    let mut joined = Joined::begin(&Came::new(tcp(1, 100), true)).unwrap();
    assert!(joined.follow(&Came::new(tcp(101, 100), true)));
    let vnet = joined.train.finish(&mut joined.bytes[14..]);
    assert_eq!(vnet, [1, 4, 86, 0, 100, 0, 54, 0, 16, 0, 0, 0]);
}

#[test]
fn ids_go_up_by_one_or_mean_nothing() {
    assert!(follows(&udp(0xffff, 40), &udp(0, 40)), "they wrap");
    assert!(!follows(&udp(9, 40), &udp(9, 40)));
    assert!(!follows(&udp(9, 40), &udp(11, 40)));
    let atomic = |id| {
        let sample = Sample::udp4().ipv4_id(id).ipv4_fragment(0x4000);
        Came::new(sample.payload(vec![1; 40]), false)
    };
    assert!(follows(&atomic(0), &atomic(0)), "RFC 6864");
    assert!(follows(&atomic(9), &atomic(700)), "RFC 6864");
    assert!(!follows(&udp(0, 40), &atomic(1)), "DF differs");
}

#[test]
fn a_datagram_without_a_checksum_is_never_joined() {
    for sample in [Sample::udp4(), Sample::udp6()] {
        let mut came = Came::new(sample.payload(vec![1; 40]), false);
        let at = came.piece().unwrap().header_len() - 2;
        came.bytes[at..at + 2].fill(0);
        assert_eq!(came.piece(), None);
        assert!(came.flow().is_some(), "it still belongs to its flow");
    }
}

#[test]
fn a_wrong_checksum_is_not_mended() {
    let good = |id| udp(id, 40);
    for at in [24, 40, 60] {
        let mut bad = good(2);
        bad.bytes[at] ^= 1;
        assert!(!follows(&good(1), &bad), "second, byte {at}");
        let mut bad = good(1);
        bad.bytes[at] ^= 1;
        assert!(!follows(&bad, &good(2)), "first, byte {at}");
    }
    let mut open = Came::new(Sample::udp4().payload(vec![1; 40]), true);
    let next =
        Came { bytes: Sample::udp4().ipv4_id(0x1235).payload(vec![1; 40]).build(), ..udp(0, 9) };
    assert!(follows(&open, &next), "open and complete ones may be mixed");
    open.bytes[41] ^= 1;
    assert!(!follows(&open, &next), "an open one without the pseudo-header's sum");
}

#[test]
fn a_sum_of_zero_is_written_as_ones_and_joined() {
    let mut payload = vec![1; 40];
    payload[..2].fill(0);
    let sample = |id, payload: &[u8]| Sample::udp4().ipv4_id(id).payload(payload.to_vec());
    let bytes = sample(1, &payload).build();
    // What the checksum lacks to all ones goes into the payload.
    payload[..2].copy_from_slice(&bytes[40..42]);
    let frames = [1, 2].map(|id| Came::new(sample(id, &payload), false));
    assert_eq!(frames[0].bytes[40..42], [0xff, 0xff]);
    let mut joined = Joined::begin(&frames[0]).unwrap();
    assert!(joined.follow(&frames[1]));
    assert_eq!(joined.cut(), frames.map(|came| came.bytes));
}

#[test]
fn tcp_segments_follow_only_where_the_stream_goes_on() {
    let came = |sample| Came::new(sample, true);
    let first = came(tcp(1000, 500));
    assert!(follows(&first, &came(tcp(1500, 500))));
    assert!(follows(&first, &came(tcp(1500, 1))), "shorter, and then no more");
    assert!(!follows(&first, &came(tcp(1500, 501))));
    assert!(!follows(&first, &came(tcp(1501, 500))), "a hole");
    assert!(!follows(&first, &came(tcp(1000, 500))), "a retransmission");
    assert!(!follows(&first, &came(tcp(1500, 0))), "an acknowledgment alone");
    let other_options = tcp(1500, 500).tcp(1500, ACK, vec![2; 12]);
    assert!(!follows(&first, &came(other_options)));
    let mut other_window = came(tcp(1500, 500));
    other_window.bytes[54 + 14] ^= 1;
    assert!(!follows(&first, &other_window));
    let mut other_acknowledgment = came(tcp(1500, 500));
    other_acknowledgment.bytes[54 + 11] ^= 1;
    assert!(!follows(&first, &other_acknowledgment));
    assert!(follows(&came(tcp(u32::MAX - 99, 500)), &came(tcp(400, 500))), "it wraps");
}

#[test]
fn push_ends_a_train_and_other_flags_are_not_joined() {
    let flags = |sequence, flags| Came::new(tcp(sequence, 500).tcp(sequence, flags, vec![]), false);
    let mut joined = Joined::begin(&flags(0, ACK)).unwrap();
    assert!(joined.follow(&flags(500, ACK | PSH)));
    assert!(!joined.follow(&flags(1000, ACK)));
    let pieces = joined.cut();
    assert_eq!(pieces, [flags(0, ACK).bytes, flags(500, ACK | PSH).bytes]);
    assert!(Joined::begin(&flags(0, ACK | PSH)).is_none());
    for flag in [0x01, 0x02, 0x04, 0x20, 0x40, 0x80] {
        assert!(!follows(&flags(0, ACK), &flags(500, ACK | flag)), "{flag:#x}");
    }
    assert!(!follows(&flags(0, ACK), &flags(500, 0)), "no ACK");
}

#[test]
fn every_shared_field_must_be_the_same() {
    for (sample, fields) in [
        // MACs, TOS, TTL, addresses, ports.
        (Sample::udp4(), &[0, 6, 15, 22, 26, 30, 34, 36][..]),
        // MACs, class, flow label, hop limit, addresses, ports.
        (Sample::udp6(), &[0, 6, 15, 17, 21, 22, 38, 54, 56][..]),
    ] {
        let came = |id| Came::new(sample.clone().ipv4_id(id).payload(vec![1; 40]), true);
        assert!(follows(&came(1), &came(2)));
        for &at in fields {
            let mut other = came(2);
            other.bytes[at] ^= 1;
            // With checksums that are right for it, so that they are not the reason.
            let headers = Headers::parse(&other.bytes, other.bytes.len()).unwrap();
            let pseudo = crate::checksum::pseudo_header(&headers, &other.bytes).unwrap();
            let sum = pseudo.with_u16(48).value().to_be_bytes();
            let l4 = headers.l4_offset();
            other.bytes[l4 + 6..l4 + 8].copy_from_slice(&sum);
            if headers.layer3 == Layer3::Ipv4 {
                other.bytes[24..26].fill(0);
                let sum = Sum::default().with(&other.bytes[14..34]).checksum();
                other.bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            assert!(other.piece().is_some() && !follows(&came(1), &other), "byte {at}");
        }
    }
}

#[test]
fn what_cutting_cannot_restore_is_no_piece() {
    let body = vec![1; 40];
    let padded = {
        let mut came = udp(1, 10);
        came.bytes.resize(60, 0);
        came
    };
    let mut padded_tcp = Came::new(Sample::tcp4().payload(vec![1; 2]), false);
    padded_tcp.bytes.resize(60, 0);
    let mut short_udp = udp(1, 40);
    short_udp.bytes[39] -= 2;
    let complete = |sample: Sample| Came::new(sample.payload(body.clone()), false);
    for (what, came) in [
        ("padding", padded),
        ("padding behind TCP", padded_tcp),
        ("a UDP length that ends before the packet", short_udp),
        ("an IPv4 option", complete(Sample::udp4().ipv4_options(vec![1; 4]))),
        ("an extension header", complete(Sample::udp6().extension(60, vec![0; 8]))),
        ("a tag", complete(Sample::udp4().tag(0x8100, 5))),
        ("a fragment", complete(Sample::udp4().ipv4_fragment(0x2000))),
        ("ICMP", Came::new(Sample::icmp4(vec![8, 0, 0, 0, 1, 2]), false)),
        ("no payload", udp(1, 0)),
    ] {
        assert_eq!(came.piece(), None, "{what}");
    }
    let mut large = udp(1, 40).offload();
    large.gso = Some(crate::Gso { kind: crate::GsoKind::TcpV4, size: 8, ecn: false });
    let bytes = Came::new(tcp(1, 40), true).bytes;
    let headers = Headers::parse(&bytes, bytes.len()).unwrap();
    assert_eq!(Flow::of(&headers, &bytes, bytes.len(), &large).unwrap().piece, None);
}

#[test]
fn a_train_has_its_bounds() {
    let mut small = Joined::begin(&udp(0, 8)).unwrap();
    let taken = (1..100).take_while(|&id| small.follow(&udp(id, 8))).count();
    assert_eq!(taken, usize::from(SEGMENTS_MAX) - 1);
    let mut long = Joined::begin(&udp(0, 1472)).unwrap();
    let taken = (1..100).take_while(|&id| long.follow(&udp(id, 1472))).count();
    assert_eq!(taken, 43);
    assert!(long.bytes.len() - 14 <= PACKET_LEN_MAX);
    assert_eq!(long.cut().len(), 44);
    assert!(Joined::begin(&udp(0, 7)).is_none(), "too small for segmentation");
}

/// One frame of one of a few flows, near what joins but often not quite.
fn any_frame() -> impl Strategy<Value = (u8, Came)> {
    let what = (0u8..4, 0..4usize, any::<bool>(), 0..8u8, any::<bool>(), any::<u8>());
    what.prop_map(|(flow, len, open, odd, df, fill)| {
        let payload = vec![fill; [1200, 1200, 33, 9][len]];
        let mut sample = match flow {
            0 | 1 => Sample::udp4().ports(1 + u16::from(flow), 2),
            2 => Sample::udp6(),
            _ => Sample::tcp4().tcp(7, ACK, vec![]),
        };
        sample = match odd {
            0 => sample.traffic_class(1),
            1 => sample.hop_limit(9),
            2 => sample.tag(0x8100, 4),
            _ => sample,
        };
        if df {
            sample = sample.ipv4_fragment(0x4000);
        }
        (flow, Came::new(sample.payload(payload), open))
    })
}

/// The frames of one flow in sequence: ids and sequence numbers go on, mostly.
fn in_sequence(frames: Vec<(u8, Came)>, jumps: &[bool]) -> Vec<Came> {
    let (mut id, mut sequence) = (0xfffb_u16, 0xffff_f000_u32);
    let renumber = |(at, (_, mut came)): (usize, (u8, Came))| {
        let Some(piece) = came.piece() else { return came };
        let jump = jumps.get(at).copied().unwrap_or_default();
        if piece.layer3 == Layer3::Ipv4 {
            id = id.wrapping_add(1 + u16::from(jump));
            came.bytes[18..20].copy_from_slice(&id.to_be_bytes());
            came.bytes[24..26].fill(0);
            let sum = Sum::default().with(&came.bytes[14..34]).checksum();
            came.bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        if piece.kind == JoinKind::Tcp {
            came.bytes[38..42].copy_from_slice(&sequence.to_be_bytes());
            sequence = sequence.wrapping_add(piece.payload_len.into()).wrapping_add(jump.into());
            if came.request.is_none() {
                let len = u16::try_from(piece.l4_len()).unwrap();
                let train = Train::begin(&piece, &came.bytes).unwrap();
                came.bytes[50..52]
                    .copy_from_slice(&train.pseudo.with_u16(len).value().to_be_bytes());
                let request = ChecksumRequest { start: 34, offset: 16 };
                complete(&mut came.bytes, request).unwrap();
            }
        }
        came
    };
    frames.into_iter().enumerate().map(renumber).collect()
}

/// Without what the id of a datagram with DF changes.
fn without_free_ids(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes[12..14] == [8, 0] && bytes[20] & 0x40 != 0 {
        bytes[18..20].fill(0);
        bytes[24..26].fill(0);
    }
    bytes
}

proptest! {
    /// One train after the other, as in a port that knows one flow at a time.
    #[test]
    fn joining_and_cutting_gives_back_what_came(
        frames in prop::collection::vec(any_frame(), 1..40),
        one_flow in any::<bool>(),
        jumps in prop::collection::vec(prop::bool::weighted(0.1), 40),
    ) {
        let wanted = frames[0].0;
        let frames: Vec<_> = frames.into_iter().filter(|(flow, _)| !one_flow || *flow == wanted).collect();
        let frames = in_sequence(frames, &jumps);
        let (back, _) = there_and_back(&frames);
        let came: Vec<_> = frames.iter().map(|came| came.finished()).collect();
        let finish = |bytes: &Vec<u8>| {
            // A frame that travels alone may still be open.
            without_free_ids(bytes.clone())
        };
        let back: Vec<_> = back.iter().zip(&frames).map(|(bytes, came)| {
            let open = came.request.filter(|_| *bytes == came.bytes);
            let mut bytes = bytes.clone();
            if let Some(request) = open {
                complete(&mut bytes, request).unwrap();
            }
            finish(&bytes)
        }).collect();
        let came: Vec<_> = came.iter().map(finish).collect();
        prop_assert_eq!(back, came);
    }

    /// Ids go up by one and nothing else differs: all are joined and come back exactly.
    #[test]
    fn a_flow_in_sequence_is_joined_whole(
        kind in 0..4,
        count in 2u16..=44,
        size in 8usize..1400,
        last in 1usize..1400,
        open in any::<bool>(),
        fill in any::<u8>(),
        start in any::<u16>(),
    ) {
        let last = last.min(size);
        let frames: Vec<Came> = (0..count).map(|n| {
            let sequence = 77 + u32::from(n) * u32::try_from(size).unwrap();
            let sample = match kind {
                0 => Sample::udp4(),
                1 => Sample::udp6(),
                2 => Sample::tcp4().tcp(sequence, ACK, vec![1; 12]),
                _ => Sample::tcp6().tcp(sequence, ACK, vec![1; 20]),
            };
            let len = if n + 1 == count { last } else { size };
            Came::new(sample.ipv4_id(start.wrapping_add(n)).payload(vec![fill; len]), open)
        }).collect();
        let (back, taken) = there_and_back(&frames);
        prop_assert_eq!(taken, usize::from(count) - 1);
        let came: Vec<_> = frames.iter().map(Came::finished).collect();
        prop_assert_eq!(back, came);
    }

    #[test]
    fn any_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 14..200),
        base in 0..3,
        at in any::<usize>(),
    ) {
        let mut frame = match base {
            0 => bytes,
            1 => Sample::tcp4().payload(bytes).build(),
            _ => Sample::udp6().payload(bytes).build(),
        };
        let at = at % frame.len();
        frame[at] ^= 0x41;
        let Ok(headers) = Headers::parse(&frame, frame.len()) else { return Ok(()) };
        let flow = Flow::of(&headers, &frame, frame.len(), &Offload::default());
        let Some(piece) = flow.and_then(|flow| flow.piece) else { return Ok(()) };
        let Some(mut train) = Train::begin(&piece, &frame) else { return Ok(()) };
        let _ = train.follow(&piece, &frame, [&frame[..9]].into_iter(), &frame[..3]);
        let _ = train.finish(&mut frame[14..]);
    }
}
