use super::*;
use crate::sample::Sample;
use proptest::prelude::*;

const MTU: u16 = 1500;

/// A virtio-net header as a guest writes it.
#[derive(Clone, Copy)]
struct Vnet {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Vnet {
    const PLAIN: Self =
        Self { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

    fn checksum(start: u16, offset: u16) -> Self {
        Self { flags: 1, csum_start: start, csum_offset: offset, ..Self::PLAIN }
    }

    fn gso(kind: u8, size: u16, start: u16) -> Self {
        Self { gso_type: kind, gso_size: size, ..Self::checksum(start, 16) }
    }

    fn bytes(self) -> [u8; VNET_HEADER_LEN] {
        let mut bytes = [0; VNET_HEADER_LEN];
        (bytes[0], bytes[1]) = (self.flags, self.gso_type);
        bytes[2..4].copy_from_slice(&self.hdr_len.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.csum_start.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.csum_offset.to_le_bytes());
        bytes
    }
}

fn from_vnet(vnet: Vnet, frame: &[u8]) -> Result<Offload, OffloadError> {
    let head = frame.get(..crate::HEAD_LEN).unwrap_or(frame);
    let header = vnet.bytes();
    let result = Offload::from_vnet(&header, head, frame.len(), OffloadFeatures::ALL, MTU);
    if let Ok(headers) = Headers::parse(head, frame.len()) {
        let all = OffloadFeatures::ALL;
        let parsed = Offload::from_vnet_parsed(&header, &headers, frame.len(), all, MTU);
        assert_eq!(parsed, result, "both ways in judge alike");
    }
    result
}

fn tcp4(payload: usize) -> Vec<u8> {
    Sample::tcp4().payload(vec![0; payload]).build_open().0
}

fn tcp6(payload: usize) -> Vec<u8> {
    Sample::tcp6().payload(vec![0; payload]).build_open().0
}

#[test]
fn a_plain_frame_asks_for_nothing() {
    for frame in [tcp4(0), tcp4(1460), tcp6(1440), vec![0xff; 14]] {
        assert_eq!(from_vnet(Vnet::PLAIN, &frame), Ok(Offload::default()));
    }
}

#[test]
fn what_a_guest_says_of_validity_and_hdr_len_is_not_looked_at() {
    let vnet = Vnet { flags: 2 | 4, hdr_len: 0xffff, ..Vnet::PLAIN };
    assert_eq!(from_vnet(vnet, &tcp4(9)), Ok(Offload::default()));
    let vnet = Vnet { hdr_len: 0xffff, ..Vnet::gso(GSO_TCPV4, 1000, 34) };
    assert!(from_vnet(vnet, &tcp4(3000)).is_ok());
}

#[test]
fn an_open_checksum_is_accepted_where_the_headers_have_it() {
    let table = [
        (Sample::tcp4(), 34, 16),
        (Sample::tcp4().ipv4_options(vec![1; 8]).tag(0x8100, 1), 46, 16),
        (Sample::udp4(), 34, 6),
        (Sample::tcp6(), 54, 16),
        (Sample::udp6().extension(60, vec![0; 8]), 62, 6),
        (Sample::icmp6(vec![128, 0, 0, 0]), 54, 2),
    ];
    for (sample, start, offset) in table {
        let (frame, request) = sample.build_open();
        let offload = from_vnet(Vnet::checksum(start, offset), &frame).unwrap();
        assert_eq!(offload.checksum, Some(request));
        assert_eq!(offload.check(&frame, frame.len(), MTU), Ok(()));
    }
}

#[test]
fn csum_start_anywhere_else_is_refused() {
    let frame = tcp4(200);
    for start in [0, 33, 35, 54, 250, 0x7fff, u16::MAX] {
        let expected = OffloadError::ChecksumPlace { start, offset: 16 };
        assert_eq!(from_vnet(Vnet::checksum(start, 16), &frame), Err(expected));
    }
    for offset in [0, 6, 15, 17, 255, 256 + 16, u16::MAX] {
        let expected = OffloadError::ChecksumPlace { start: 34, offset };
        assert_eq!(from_vnet(Vnet::checksum(34, offset), &frame), Err(expected));
    }
}

#[test]
fn a_checksum_is_refused_where_no_transport_header_can_have_it() {
    let arp = crate::build::rarp_announce(crate::MacAddr::default()).to_vec();
    let fragments = [0x2000, 0x0005]
        .map(|f| Sample::udp4().ipv4_fragment(f).payload(vec![0; 16]).build_open().0);
    let sctp = Sample::udp4().protocol(132).payload(vec![0; 40]).build();
    let hidden = Sample::udp6().extension(60, [vec![0, 15], vec![0; 126]].concat()).build();
    for frame in [&arp, &fragments[0], &fragments[1], &sctp, &hidden] {
        let result = from_vnet(Vnet::checksum(34, 6), frame);
        assert_eq!(result, Err(OffloadError::ChecksumProtocol));
    }
    let cut = &tcp4(0)[..50];
    let expected = Err(OffloadError::Headers(HeaderError::IpLength));
    assert_eq!(from_vnet(Vnet::checksum(34, 16), cut), expected);
}

#[test]
fn large_segments_are_accepted_where_the_headers_allow_them() {
    for (frame, kind, size, start) in [
        (tcp4(60_000), GSO_TCPV4, 1460, 34),
        (tcp6(60_000), GSO_TCPV6, 1440, 54),
        (tcp4(60_000), GSO_TCPV4 | GSO_ECN, 8, 34),
    ] {
        let offload = from_vnet(Vnet::gso(kind, size, start), &frame).unwrap();
        let gso = offload.gso.unwrap();
        assert_eq!((gso.size, gso.ecn), (size, kind & GSO_ECN != 0));
        assert_eq!(offload.check(&frame, frame.len(), MTU), Ok(()));
    }
}

#[test]
fn gso_size_is_bounded_by_the_mtu_and_from_below() {
    for (frame, kind, start, limit) in
        [(tcp4(9000), GSO_TCPV4, 34, 1460), (tcp6(9000), GSO_TCPV6, 54, 1440)]
    {
        for size in [0, 1, 7, u16::try_from(limit).unwrap() + 1, 9000, u16::MAX] {
            let result = from_vnet(Vnet::gso(kind, size, start), &frame);
            assert_eq!(result, Err(OffloadError::GsoSize { size, limit }));
        }
    }
    let options = Sample::tcp4().tcp(1, 0x10, vec![1; 12]).payload(vec![0; 9000]).build();
    let result = from_vnet(Vnet::gso(GSO_TCPV4, 1460, 34), &options);
    assert_eq!(result, Err(OffloadError::GsoSize { size: 1460, limit: 1448 }));
}

#[test]
fn gso_of_other_kinds_is_refused() {
    let udp = Sample::udp4().payload(vec![0; 9000]).build();
    // UFO, USO, unknown, and ECN alone.
    for kind in [2, 3, 5, 7, 0x7f, GSO_ECN, 0x85] {
        let vnet = Vnet { csum_offset: 6, ..Vnet::gso(kind, 1000, 34) };
        assert_eq!(from_vnet(vnet, &udp), Err(OffloadError::GsoType(kind)));
    }
}

#[test]
fn gso_that_contradicts_its_headers_is_refused() {
    let vnet = |kind, start| Vnet::gso(kind, 1000, start);
    let expected = Err(OffloadError::GsoProtocol);
    assert_eq!(from_vnet(vnet(GSO_TCPV6, 34), &tcp4(3000)), expected, "version");
    assert_eq!(from_vnet(vnet(GSO_TCPV4, 54), &tcp6(3000)), expected, "version");
    let (udp, _) = Sample::udp4().payload(vec![0; 3000]).build_open();
    let vnet_udp = Vnet { csum_offset: 6, ..vnet(GSO_TCPV4, 34) };
    assert_eq!(from_vnet(vnet_udp, &udp), expected, "protocol");
    let mut padded = tcp4(3000);
    padded.push(0);
    assert_eq!(from_vnet(vnet(GSO_TCPV4, 34), &padded), expected, "padding");
    let routed = Sample::tcp6().extension(43, vec![0; 8]).payload(vec![0; 3000]).build();
    assert_eq!(from_vnet(vnet(GSO_TCPV6, 62), &routed), expected, "routing header");
    let no_csum = Vnet { flags: 0, ..vnet(GSO_TCPV4, 34) };
    assert_eq!(from_vnet(no_csum, &tcp4(3000)), Err(OffloadError::GsoWithoutChecksum));
    let fragment = Sample::tcp4().ipv4_fragment(0x2000).payload(vec![0; 3000]).build();
    let expected = Err(OffloadError::ChecksumProtocol);
    assert_eq!(from_vnet(vnet(GSO_TCPV4, 34), &fragment), expected);
}

#[test]
fn what_was_not_negotiated_is_refused() {
    let none = OffloadFeatures::default();
    let csum = OffloadFeatures { csum: true, ..none };
    let tso = OffloadFeatures { csum: true, tso4: true, tso6: true, ecn: false };
    let (v4, v6) = (tcp4(3000), tcp6(3000));
    for (vnet, frame, features, name) in [
        (Vnet::checksum(34, 16), &v4, none, "NEEDS_CSUM"),
        (Vnet::gso(GSO_TCPV4, 1000, 34), &v4, csum, "GSO_TCPV4"),
        (Vnet::gso(GSO_TCPV6, 1000, 54), &v6, csum, "GSO_TCPV6"),
        (Vnet::gso(GSO_TCPV4 | GSO_ECN, 1000, 34), &v4, tso, "GSO_ECN"),
    ] {
        let result = Offload::from_vnet(&vnet.bytes(), frame, frame.len(), features, MTU);
        assert_eq!(result, Err(OffloadError::NotNegotiated(name)));
    }
}

#[test]
fn a_large_segment_that_fits_in_one_is_not_cut() {
    for payload in [0, 1, 999, 1000] {
        let offload = from_vnet(Vnet::gso(GSO_TCPV4, 1000, 34), &tcp4(payload)).unwrap();
        assert_eq!(offload.gso, None);
        assert!(offload.checksum.is_some());
    }
    let offload = from_vnet(Vnet::gso(GSO_TCPV4, 1000, 34), &tcp4(1001)).unwrap();
    assert!(offload.gso.is_some());
}

#[test]
fn the_mtu_bounds_a_frame_that_is_not_cut() {
    let long = |len, limit| Err(OffloadError::FrameLong { len, limit });
    assert_eq!(from_vnet(Vnet::PLAIN, &tcp4(1461)), long(1515, 1514));
    assert_eq!(from_vnet(Vnet::checksum(34, 16), &tcp4(1461)), long(1515, 1514));
    assert_eq!(from_vnet(Vnet::PLAIN, &vec![0; 65_000]), long(65_000, 1514));
    let tagged = |payload| Sample::tcp4().tag(0x8100, 1).payload(vec![0; payload]).build();
    assert!(from_vnet(Vnet::PLAIN, &tagged(1460)).is_ok());
    assert_eq!(from_vnet(Vnet::PLAIN, &tagged(1461)), long(1519, 1518));
    for len in 0..14 {
        let result = from_vnet(Vnet::PLAIN, &vec![0; len]);
        assert_eq!(result, Err(OffloadError::FrameShort(len)));
    }
}

#[test]
fn a_block_with_a_bad_offload_is_refused() {
    let frame = tcp4(3000);
    let good = from_vnet(Vnet::gso(GSO_TCPV4, 1000, 34), &frame).unwrap();
    let request = good.checksum.unwrap();
    let gso = good.gso.unwrap();
    for bad in [
        Offload { checksum: Some(ChecksumRequest { start: 9000, ..request }), ..good },
        Offload { checksum: Some(ChecksumRequest { offset: 6, ..request }), ..good },
        Offload { checksum: None, ..good },
        Offload { gso: None, ..good },
        Offload { gso: Some(Gso { size: 0, ..gso }), ..good },
        Offload { gso: Some(Gso { size: 9000, ..gso }), ..good },
        Offload { gso: Some(Gso { kind: GsoKind::TcpV6, ..gso }), ..good },
    ] {
        assert!(bad.check(&frame, frame.len(), MTU).is_err(), "{bad:?}");
    }
    // Short enough to pass if only its length were looked at.
    let frame = tcp4(100);
    let misplaced =
        Offload { checksum: Some(ChecksumRequest { start: 35, ..request }), ..Offload::default() };
    let unsummed = Offload { gso: Some(Gso { size: 50, ..gso }), ..Offload::default() };
    assert!(matches!(
        misplaced.check(&frame, frame.len(), MTU),
        Err(OffloadError::ChecksumPlace { .. })
    ));
    let result = unsummed.check(&frame, frame.len(), MTU);
    assert_eq!(result, Err(OffloadError::GsoWithoutChecksum));
    let good = Offload { checksum: Some(request), ..unsummed };
    assert_eq!(good.check(&frame, frame.len(), MTU), Ok(()));
}

#[test]
fn only_acknowledged_work_is_promised_to_a_receiver() {
    let all = OffloadFeatures::ALL;
    let none = OffloadFeatures::default();
    let frame = Sample::tcp4().tcp(1, 0x10, vec![1; 12]).payload(vec![0; 3000]).build_open().0;
    let sent = Vnet { hdr_len: 34 + 32, ..Vnet::gso(GSO_TCPV4 | GSO_ECN, 1000, 34) };
    let large = from_vnet(sent, &frame).unwrap();
    assert_eq!(large.work_for(all), Work::Nothing);
    assert_eq!(large.to_vnet(&frame, all), sent.bytes(), "round trip, hdr_len filled in");
    for less in [
        none,
        OffloadFeatures { csum: false, ..all },
        OffloadFeatures { tso4: false, ..all },
        OffloadFeatures { ecn: false, ..all },
    ] {
        assert_eq!(large.work_for(less), Work::Segment);
        assert_eq!(large.to_vnet(&frame, less)[1], 0, "no gso_type");
    }
    let open = Offload { gso: None, ..large };
    assert_eq!(open.work_for(all), Work::Nothing);
    assert_eq!(open.work_for(none), Work::Checksum);
    let expected = Vnet { hdr_len: 34 + 18, ..Vnet::checksum(34, 16) };
    assert_eq!(open.to_vnet(&frame, all), expected.bytes());
    assert_eq!(open.to_vnet(&frame, none), [0; 12]);
    let valid = Offload { checksum_valid: true, ..Offload::default() };
    assert_eq!(valid.work_for(none), Work::Nothing);
    assert_eq!(valid.to_vnet(&frame, all)[0], DATA_VALID);
    assert_eq!(valid.to_vnet(&frame, none), [0; 12]);
}

#[test]
fn the_kernel_is_believed_about_validity_and_nothing_else() {
    let frame = tcp4(10);
    let kernel = |vnet: Vnet, frame: &[u8]| {
        let header = *vnet.bytes().first_chunk().unwrap();
        Offload::from_kernel(&header, frame, frame.len(), MTU)
    };
    let valid = Vnet { flags: DATA_VALID, ..Vnet::PLAIN };
    assert!(kernel(valid, &frame).unwrap().checksum_valid);
    assert!(!kernel(Vnet::PLAIN, &frame).unwrap().checksum_valid);
    assert!(kernel(Vnet::checksum(35, 16), &frame).is_err());
    assert!(kernel(Vnet::gso(5, 1000, 34), &frame).is_err(), "USO");
}

proptest! {
    #[test]
    fn what_is_accepted_can_be_carried_out(
        header in any::<[u8; VNET_HEADER_LEN]>(),
        gso_type in prop::sample::select(vec![0u8, 1, 4, 0x81, 3]),
        start in prop::sample::select(vec![34u16, 54, 62, 0]),
        offset in prop::sample::select(vec![16u16, 6, 2]),
        size in 0u16..2000,
        payload in 0usize..4000,
        shape in 0..4,
        flip in prop::option::of((0usize..60, any::<u8>())),
    ) {
        let payload = vec![0x55; payload];
        let mut frame = match shape {
            0 => Sample::tcp4().payload(payload).build_open().0,
            1 => Sample::tcp6().payload(payload).build_open().0,
            2 => Sample::udp4().payload(payload).build_open().0,
            _ => Sample::tcp6().extension(60, vec![0; 8]).payload(payload).build_open().0,
        };
        if let Some((at, value)) = flip
            && let Some(byte) = frame.get_mut(at)
        {
            *byte = value;
        }
        let vnet = Vnet { gso_type, gso_size: size, csum_start: start, csum_offset: offset,
            flags: header[0], hdr_len: 0 };
        if let Ok(offload) = from_vnet(vnet, &frame) {
            prop_assert_eq!(offload.check(&frame, frame.len(), MTU), Ok(()));
            let parts = [frame.as_slice()];
            let frame_ref = crate::FrameRef::new(&parts, offload);
            let mut longest = 0;
            let done = crate::segment::segment(&frame_ref, &mut Vec::new(), &mut |s: &[u8]| {
                longest = longest.max(s.len());
            });
            prop_assert!(done.is_ok());
            prop_assert!(longest <= usize::from(MTU) + 22, "{} bytes", longest);
        }
    }

    #[test]
    fn random_headers_and_frames_never_panic(
        header in any::<[u8; VNET_HEADER_LEN]>(),
        frame in prop::collection::vec(any::<u8>(), 0..200),
        frame_len in 0usize..100_000,
        mtu in any::<u16>(),
    ) {
        let frame_len = frame_len.max(frame.len());
        let all = OffloadFeatures::ALL;
        let _ = Offload::from_vnet(&header, &frame, frame_len, all, mtu);
    }
}
