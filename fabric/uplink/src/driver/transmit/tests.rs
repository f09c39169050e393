use super::*;
use proptest::prelude::*;
use std::fs::File;
use wireonce_frame::{Headers, Offload, checksum, sample::Sample, segment::cut};
use wireonce_wire::VnicId;

#[test]
fn the_tag_stands_behind_the_addresses_wherever_the_parts_end() {
    let whole: Vec<u8> = (0..40).collect();
    let mut expected = vec![0; VNET_LEN];
    expected.extend(&whole[..12]);
    expected.extend([0x81, 0, 0, 7]);
    expected.extend(&whole[12..]);
    for cut in 0..=40 {
        let parts = [&whole[..cut], &[], &whole[cut..]];
        let frame = FrameRef::new(&parts, Offload::default());
        let mut bytes = Vec::new();
        compose(&mut bytes, [0; VNET_HEADER_LEN], Some(7), &frame);
        assert_eq!(bytes, expected, "cut at {cut}");
    }
}

#[test]
fn untagged_frames_go_out_as_they_are() {
    let parts: [&[u8]; 2] = [b"abc", b"def"];
    let mut bytes = Vec::new();
    let vnet = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    compose(&mut bytes, vnet, None, &FrameRef::new(&parts, Offload::default()));
    assert_eq!(bytes, b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0aabcdef");
}

/// Nothing is ever written: the tests look at what waits.
fn transmit() -> Transmit {
    let nowhere = File::open("/dev/null").unwrap();
    Transmit::new(nowhere.into(), Means::Write, Token::new(1, 0))
}

/// A frame as a gateway has it: whose, on which VLAN, its bytes.
#[derive(Debug, Clone, PartialEq)]
struct Case {
    owner: Owner,
    vlan: Option<u16>,
    bytes: Vec<u8>,
}

impl Case {
    fn new(sample: Sample) -> Self {
        Self { owner: owner(1), vlan: None, bytes: sample.build() }
    }

    fn flow(&self) -> Option<Flow> {
        let headers = Headers::parse(&self.bytes, self.bytes.len()).unwrap();
        Flow::of(&headers, &self.bytes, self.bytes.len(), &Offload::default())
    }

    fn queue(&self, transmit: &mut Transmit) {
        // In parts, as the fabric hands it over.
        let (a, b) = self.bytes.split_at(self.bytes.len() / 2);
        let parts = [a, b];
        let frame = FrameRef::new(&parts, Offload::default());
        let amount = Amount::frame(self.bytes.len(), 1);
        let booking = Booking { owner: self.owner, amount };
        transmit.queue([0; VNET_HEADER_LEN], self.vlan, self.flow(), &frame, booking).unwrap();
    }
}

fn owner(id: u64) -> Owner {
    Owner::vnic(VnicId::new(id).unwrap())
}

fn datagram(port: u16, id: u16, payload: &[u8]) -> Sample {
    Sample::udp4().ports(port, 9).ipv4_id(id).payload(payload.to_vec())
}

/// What a kernel puts on the wire of all that waits, in its order.
fn on_the_wire(transmit: &mut Transmit) -> Vec<Case> {
    transmit.coalescer.close_all(&mut transmit.waiting);
    let mut wire = Vec::new();
    for (slot, bytes) in &transmit.waiting {
        let slot = transmit.slots[usize::from(*slot)].unwrap();
        let (vnet, tagged) = bytes.split_at(VNET_LEN);
        let parts = [tagged];
        let frame = FrameRef::new(&parts, Offload::default());
        let before = wire.len();
        let mut each = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let (vlan, start) = vlan::untag(&mut bytes);
            let bytes = bytes.split_off(start);
            wire.push(Case { owner: slot.booking.owner, vlan, bytes });
        };
        if let Some((kind, size)) = JoinKind::of_vnet(vnet) {
            assert_eq!(slot.joined, Some(kind));
            let headers = Headers::parse(tagged, tagged.len()).unwrap();
            assert_eq!(usize::from(vnet[6]), headers.l4_offset(), "csum_start");
            cut(&frame, size, &mut Vec::new(), &mut each).unwrap();
        } else {
            assert_eq!(slot.joined, None);
            each(tagged);
        }
        let carried = &wire[before..];
        let bytes: u64 = carried.iter().map(|case| case.bytes.len() as u64).sum();
        let count = carried.len() as u64;
        assert_eq!(slot.booking.amount, Amount { frames: count, segments: count, bytes });
    }
    wire
}

#[test]
fn a_flow_that_waits_is_one_frame_and_is_booked_as_all_of_them() {
    let mut transmit = transmit();
    let cases: Vec<_> = (0..20).map(|n| Case::new(datagram(1, n, &[7; 22]))).collect();
    cases.iter().for_each(|case| case.queue(&mut transmit));
    assert_eq!(transmit.in_flight(), 1);
    let counters = transmit.joined();
    assert_eq!((counters.frames, counters.trains), (19, 1));
    assert_eq!(on_the_wire(&mut transmit), cases);
}

#[test]
fn a_train_outgrows_a_small_buffer() {
    let mut transmit = transmit();
    let cases: Vec<_> =
        (0..60).map(|n: u16| Case::new(datagram(1, n, &[n.to_le_bytes()[0]; 1_400]))).collect();
    cases.iter().for_each(|case| case.queue(&mut transmit));
    assert_eq!(transmit.in_flight(), 2, "46 of them are an IP packet");
    assert_eq!(on_the_wire(&mut transmit), cases);
    let waits: usize = transmit.waiting.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(transmit.bytes_in_flight, waits);
}

#[test]
fn flows_owners_and_vlans_are_kept_apart() {
    let base = || Case::new(datagram(1, 1, &[7; 22]));
    let next = || Case::new(datagram(1, 2, &[7; 22]));
    let joined = |second: Case| {
        let mut transmit = transmit();
        base().queue(&mut transmit);
        second.queue(&mut transmit);
        transmit.in_flight() == 1
    };
    assert!(joined(next()));
    assert!(!joined(Case { owner: owner(2), ..next() }));
    assert!(!joined(Case { vlan: Some(5), ..next() }));
    assert!(!joined(Case::new(datagram(2, 2, &[7; 22]))));
}

#[test]
fn what_belongs_to_no_flow_keeps_its_place_among_all() {
    let fragment = Sample::udp4().ipv4_fragment(0x2000).payload(vec![1; 24]);
    let arp = Case {
        bytes: [[2; 12].to_vec(), vec![8, 6], vec![0; 46]].concat(),
        ..Case::new(Sample::udp4())
    };
    for between in [Case::new(fragment), arp] {
        let mut transmit = transmit();
        let cases =
            [Case::new(datagram(1, 1, &[7; 22])), between, Case::new(datagram(1, 2, &[7; 22]))];
        cases.iter().for_each(|case| case.queue(&mut transmit));
        assert_eq!(transmit.in_flight(), 3);
        assert_eq!(on_the_wire(&mut transmit), cases);
    }
}

#[test]
fn a_frame_of_the_flow_that_cannot_be_joined_is_not_overtaken() {
    let mut transmit = transmit();
    let mut unsummed = datagram(1, 2, &[7; 22]).build();
    unsummed[40..42].fill(0);
    let cases = [
        Case::new(datagram(1, 1, &[7; 22])),
        Case { bytes: unsummed, ..Case::new(Sample::udp4()) },
        Case::new(datagram(1, 3, &[7; 22])),
        Case::new(datagram(1, 4, &[7; 22])),
    ];
    cases.iter().for_each(|case| case.queue(&mut transmit));
    assert_eq!(transmit.in_flight(), 3);
    assert_eq!(on_the_wire(&mut transmit), cases);
}

#[test]
fn a_kind_that_the_kernel_refuses_is_made_no_more() {
    let mut transmit = transmit();
    let pair = |transmit: &mut Transmit| {
        (1..3).for_each(|n| Case::new(datagram(1, n, &[7; 22])).queue(transmit));
    };
    pair(&mut transmit);
    // Another one that is under way when the first comes back.
    transmit.coalescer.close_all(&mut transmit.waiting);
    pair(&mut transmit);
    let refused = transmit.refuse_waiting();
    assert_eq!(refused.len(), 2);
    for sent in refused {
        assert_eq!(sent.joined, Some(JoinKind::Udp));
        assert_eq!(sent.booking.amount.frames, 2);
        let SentOutcome::OffloadRefused(bytes) = sent.outcome else { panic!("{sent:?}") };
        assert_eq!(JoinKind::of_vnet(&bytes), Some((JoinKind::Udp, 22)));
    }
    pair(&mut transmit);
    assert_eq!(transmit.in_flight(), 2, "each for itself now");
    assert_eq!(transmit.joined().refused, 1);
    let segment = |n: u32| Sample::tcp4().tcp(n * 50, 0x10, vec![]).payload(vec![1; 50]);
    let tcp = |n: u16| Case::new(segment(n.into()).ipv4_id(n));
    (0..2).for_each(|n| tcp(n).queue(&mut transmit));
    assert_eq!(transmit.in_flight(), 3, "TCP is still joined");
}

/// A frame of one of some fifty flows of two vNICs, more than are joined at a time;
/// sometimes one that cannot be joined.
fn any_case() -> impl Strategy<Value = (Case, u8)> {
    let what = (0..14u16, 1..3u64, any::<bool>(), 0..12u8, any::<u8>(), 0..3usize);
    what.prop_map(|(port, id, tagged, odd, fill, len)| {
        let payload = vec![fill; [22, 22, 1_000][len]];
        let sample = match port {
            0 => Sample::tcp4().tcp(1, 0x10, vec![1; 12]),
            1 => Sample::udp6(),
            port => Sample::udp4().ports(port, 9),
        };
        let sample = match odd {
            0 => sample.ipv4_fragment(0x2000),
            1 => sample.hop_limit(7),
            2 => sample.tcp(1, 0x18, vec![]),
            _ => sample,
        };
        let vlan = tagged.then_some(20);
        let case = Case { owner: owner(id), vlan, bytes: sample.payload(payload).build() };
        (case, odd)
    })
}

/// IPv4 ids and TCP sequence numbers that go on within each flow, and right checksums.
fn numbered(cases: Vec<(Case, u8)>) -> Vec<Case> {
    let mut next = std::collections::HashMap::new();
    cases
        .into_iter()
        .map(|(mut case, _)| {
            let headers = Headers::parse(&case.bytes, case.bytes.len()).unwrap();
            let key = (case.owner, case.vlan, headers.source_port, headers.layer3 as u8);
            let (id, sequence) = next.entry(key).or_insert((0xfffc_u16, 5_u32));
            if case.bytes[12..14] == [8, 0] {
                case.bytes[18..20].copy_from_slice(&id.to_be_bytes());
                *id = id.wrapping_add(1);
                case.bytes[24..26].fill(0);
                let sum = checksum::Sum::default().with(&case.bytes[14..34]).checksum();
                case.bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            if headers.protocol == 6 {
                let at = headers.l4_offset();
                let before = u32::from_be_bytes(case.bytes[at + 4..at + 8].try_into().unwrap());
                case.bytes[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
                // The checksum follows what changed (RFC 1624).
                let old = u16::from_be_bytes([case.bytes[at + 16], case.bytes[at + 17]]);
                let sum = checksum::Sum::default()
                    .with_u16(!old)
                    .with_u32(!before)
                    .with_u32(*sequence)
                    .checksum();
                case.bytes[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
                let len = case.bytes.len() - headers.header_len();
                *sequence = sequence.wrapping_add(u32::try_from(len).unwrap());
            }
            case
        })
        .collect()
}

proptest! {
    #[test]
    fn each_flow_leaves_byte_for_byte_and_in_its_order(
        cases in prop::collection::vec(any_case(), 1..200),
        turns in prop::collection::vec(prop::bool::weighted(0.03), 200),
    ) {
        let cases = numbered(cases);
        let mut transmit = transmit();
        for (case, turn_ends) in cases.iter().zip(&turns) {
            case.queue(&mut transmit);
            if *turn_ends {
                transmit.coalescer.close_all(&mut transmit.waiting);
            }
        }
        let wire = on_the_wire(&mut transmit);
        prop_assert_eq!(wire.len(), cases.len());
        // Frames without a flow are in everybody's order.
        let key = |case: &Case| case.flow().map(|flow| (flow.hash, case.owner, case.vlan));
        for one in &cases {
            let of = |all: &[Case]| -> Vec<Case> {
                let mine = |case: &&Case| key(case).is_none() || key(case) == key(one);
                all.iter().filter(mine).cloned().collect()
            };
            prop_assert_eq!(of(&wire), of(&cases));
        }
    }
}
