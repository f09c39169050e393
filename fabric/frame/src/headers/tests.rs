use super::*;
use crate::sample::{SAMPLE_DESTINATION, SAMPLE_SOURCE, Sample};
use proptest::prelude::*;

fn parse(frame: &[u8]) -> Result<Headers, HeaderError> {
    Headers::parse(frame, frame.len())
}

/// An IPv6 extension header of `blocks` times eight bytes.
fn options(blocks: u8) -> Vec<u8> {
    let mut header = vec![0; usize::from(blocks) * 8];
    header[1] = blocks - 1;
    header
}

fn fragment_header(offset_flags: u16) -> Vec<u8> {
    let [high, low] = offset_flags.to_be_bytes();
    vec![0, 0, high, low, 0, 0, 0, 9]
}

#[test]
fn plain_packets_have_all_their_fields() {
    let options = vec![1; 12];
    let table = [
        (Sample::tcp4().tcp(1, 0x18, options.clone()), Layer3::Ipv4, Layer4::Tcp, 34),
        (Sample::tcp6().tcp(1, 0x18, options), Layer3::Ipv6, Layer4::Tcp, 54),
        (Sample::udp4(), Layer3::Ipv4, Layer4::Udp, 34),
        (Sample::udp6(), Layer3::Ipv6, Layer4::Udp, 54),
        (Sample::icmp4(vec![8, 0, 0, 0]), Layer3::Ipv4, Layer4::Icmp, 34),
        (Sample::icmp6(vec![128, 0, 0, 0]), Layer3::Ipv6, Layer4::Icmpv6, 54),
        (Sample::udp4().protocol(58).payload(vec![134]), Layer3::Ipv4, Layer4::Other, 34),
    ];
    for (sample, layer3, layer4, l4_offset) in table {
        let frame = sample.build();
        let headers = parse(&frame).unwrap();
        assert_eq!(headers.ethernet.source, SAMPLE_SOURCE);
        assert_eq!(headers.ethernet.destination, SAMPLE_DESTINATION);
        assert_eq!((headers.layer3, headers.layer4), (layer3, layer4));
        assert_eq!(headers.l4_offset(), l4_offset);
        assert_eq!(headers.fragment, Fragment::Whole);
        assert_eq!(usize::try_from(headers.ip_end).unwrap(), frame.len());
        match layer4 {
            Layer4::Tcp => {
                assert_eq!((headers.source_port, headers.destination_port), (40_000, 80));
                assert_eq!((headers.tcp_len, headers.tcp_flags), (32, 0x18));
                assert_eq!(headers.header_len(), l4_offset + 32);
            }
            Layer4::Udp => assert_eq!(headers.source_port, 40_000),
            _ => assert_eq!(headers.source_port, 0),
        }
    }
}

#[test]
fn two_vlan_tags_are_looked_through_and_a_third_is_refused() {
    let one = Sample::tcp4().tag(0x8100, 1);
    let two = Sample::tcp4().tag(0x88a8, 1).tag(0x8100, 2);
    let three = two.clone().tag(0x9100, 0);
    for (sample, tags) in [(one, 1), (two, 2)] {
        let headers = parse(&sample.build()).unwrap();
        assert_eq!(headers.ethernet.tags, tags);
        assert_eq!(headers.layer4, Layer4::Tcp);
        assert_eq!(headers.l4_offset(), 34 + 4 * usize::from(tags));
    }
    assert_eq!(parse(&three.build()), Err(HeaderError::VlanDepth));
}

#[test]
fn what_is_not_ip_passes_as_other() {
    for ethertype in [0x88b5u16, 0x0026, ethertype::LLDP] {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        let headers = parse(&frame).unwrap();
        assert_eq!((headers.layer3, headers.layer4), (Layer3::Other, Layer4::None));
        assert_eq!(headers.ethernet.ethertype, ethertype);
        assert_eq!(headers.ip_end, 60);
    }
}

#[test]
fn padding_is_not_part_of_the_packet() {
    let mut frame = Sample::udp4().build();
    let end = frame.len();
    frame.resize(60, 0);
    assert_eq!(usize::try_from(parse(&frame).unwrap().ip_end).unwrap(), end);
}

#[test]
fn contradicting_ip_headers_are_refused() {
    let set = |sample: Sample, at: usize, value: u8| {
        let mut frame = sample.build();
        frame[at] = value;
        parse(&frame)
    };
    assert_eq!(set(Sample::udp4(), 14, 0x65), Err(HeaderError::IpHeader));
    assert_eq!(set(Sample::udp4(), 14, 0x44), Err(HeaderError::IpLength));
    assert_eq!(set(Sample::udp4(), 16, 0xff), Err(HeaderError::IpLength), "longer than the frame");
    assert_eq!(set(Sample::udp4(), 17, 19), Err(HeaderError::IpLength), "shorter than its header");
    assert_eq!(set(Sample::udp4(), 17, 27), Err(HeaderError::Transport), "UDP cut off");
    assert_eq!(set(Sample::udp6(), 14, 0x40), Err(HeaderError::IpHeader));
    assert_eq!(set(Sample::udp6(), 18, 0xff), Err(HeaderError::IpLength));
    assert_eq!(set(Sample::udp6(), 19, 7), Err(HeaderError::Transport));
    assert_eq!(set(Sample::tcp4(), 14 + 20 + 12, 0x40), Err(HeaderError::Transport));
    assert_eq!(set(Sample::tcp4(), 14 + 20 + 12, 0x60), Err(HeaderError::Transport));
}

#[test]
fn extension_headers_are_looked_through() {
    let sample = Sample::udp6()
        .extension(0, options(1))
        .extension(60, options(2))
        .extension(43, options(1))
        .extension(51, vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let headers = parse(&sample.build()).unwrap();
    assert_eq!(headers.layer4, Layer4::Udp);
    assert_eq!(headers.l4_offset(), 54 + 8 + 16 + 8 + 12);
    assert_eq!(headers.destination_port, 80);
    assert!(headers.routing);
    assert_eq!(headers.fragment, Fragment::Whole);
}

#[test]
fn a_chain_beyond_the_head_is_hidden_not_refused() {
    for (sample, why) in [
        (Sample::udp6().extension(60, options(9)), "the UDP header is beyond the head"),
        (Sample::tcp6().extension(60, options(8)), "the TCP header is cut off by it"),
        (Sample::udp6().extension(60, options(200)), "one long header"),
        ((0..9).fold(Sample::udp6(), |s, _| s.extension(60, options(1))), "too many"),
    ] {
        assert_eq!(parse(&sample.build()).unwrap().layer4, Layer4::Hidden, "{why}");
    }
    let eight = (0..8).fold(Sample::udp6(), |s, _| s.extension(60, options(1)));
    assert_eq!(parse(&eight.build()).unwrap().layer4, Layer4::Udp);
}

#[test]
fn a_chain_beyond_the_packet_is_refused() {
    let mut header = options(1);
    header[1] = 7;
    let frame = Sample::udp6().extension(60, header).build();
    assert_eq!(parse(&frame), Err(HeaderError::Transport));
    // The frame's padding is not part of the packet.
    let mut frame = Sample::udp6().extension(60, options(1)).build();
    frame[19] = 4;
    assert_eq!(parse(&frame), Err(HeaderError::Transport));
}

#[test]
fn a_packet_may_end_with_its_ip_header_or_its_chain() {
    let nothing = |sample: Sample| sample.protocol(59);
    for sample in [Sample::udp4(), Sample::udp6(), Sample::udp6().extension(60, options(1))] {
        let headers = parse(&nothing(sample).build()).unwrap();
        assert_eq!((headers.layer4, headers.protocol), (Layer4::Other, 59));
    }
    // Up to the head's last byte.
    let sample = Sample::udp6().extension(60, options(9)).tag(0x8100, 1);
    let headers = parse(&nothing(sample).payload(vec![0; 9]).build()).unwrap();
    assert_eq!((headers.layer4, headers.l4_offset()), (Layer4::Hidden, 58));
    let sample = Sample::udp6().extension(60, options(8)).extension(51, vec![0; 8]);
    let headers = parse(&nothing(sample).payload(vec![0; 9]).build()).unwrap();
    assert_eq!((headers.layer4, headers.l4_offset()), (Layer4::Other, 126));
}

#[test]
fn addresses_are_those_of_the_packet() {
    let v4 = Sample::udp4().tag(0x8100, 1).build();
    let headers = parse(&v4).unwrap();
    assert_eq!(headers.ipv4_addresses(&v4), Some((0xc000_0201, 0xc000_0202)));
    assert_eq!(headers.ipv6_addresses(&v4), None);
    assert_eq!(headers.ipv4_addresses(&v4[..37]), None);
    let v6 = Sample::udp6().build();
    let headers = parse(&v6).unwrap();
    let prefix = 0x2001_0db8 << 96;
    assert_eq!(headers.ipv6_addresses(&v6), Some((prefix | 1, prefix | 2)));
    assert_eq!(headers.ipv4_addresses(&v6), None);
    assert_eq!(headers.ipv6_addresses(&v6[..53]), None);
}

#[test]
fn fragments_show_their_transport_header_only_in_the_first() {
    let first4 = Sample::udp4().ipv4_fragment(0x2000).payload(vec![0; 8]);
    let later4 = Sample::udp4().ipv4_fragment(0x2001);
    let first6 = Sample::udp6().extension(44, fragment_header(1));
    let later6 = Sample::udp6().extension(44, fragment_header(8));
    let atomic6 = Sample::udp6().extension(44, fragment_header(0));
    for (sample, fragment, layer4, port) in [
        (first4, Fragment::First, Layer4::Udp, 80),
        (later4, Fragment::Later, Layer4::None, 0),
        (first6, Fragment::First, Layer4::Udp, 80),
        (later6, Fragment::Later, Layer4::None, 0),
        (atomic6, Fragment::First, Layer4::Udp, 80),
    ] {
        let headers = parse(&sample.build()).unwrap();
        assert_eq!((headers.fragment, headers.layer4), (fragment, layer4));
        assert_eq!(headers.destination_port, port);
    }
}

#[test]
fn a_first_fragment_without_its_transport_header_is_hidden() {
    let tiny4 = Sample::tcp4().protocol(6).ipv4_fragment(0x2000);
    let mut frame = tiny4.build();
    frame.truncate(34 + 8);
    frame[17] = 28;
    assert_eq!(parse(&frame).unwrap().layer4, Layer4::Hidden);

    let mut frame = Sample::udp6().extension(44, fragment_header(1)).build();
    frame.truncate(54 + 8 + 4);
    frame[19] = 12;
    assert_eq!(parse(&frame).unwrap().layer4, Layer4::Hidden);

    // The chain itself goes on in the second fragment.
    let mut frame =
        Sample::udp6().extension(44, fragment_header(1)).extension(60, options(2)).build();
    frame.truncate(54 + 8 + 8);
    frame[19] = 16;
    assert_eq!(parse(&frame).unwrap().layer4, Layer4::Hidden);
}

/// One frame of each shape that the parser distinguishes.
fn all_shapes() -> Vec<Vec<u8>> {
    let base = [
        Sample::tcp4().tcp(1, 2, vec![1; 40]).ipv4_options(vec![1; 40]),
        Sample::tcp6().tcp(1, 2, vec![1; 20]),
        Sample::udp4(),
        Sample::udp6().extension(0, options(1)).extension(44, fragment_header(1)),
        Sample::udp6().extension(43, options(3)).extension(51, options(1)),
        Sample::icmp6(vec![135, 0, 0, 0, 0, 0, 0, 0]),
        Sample::udp4().ipv4_fragment(0x2000),
        Sample::udp4().ipv4_fragment(9),
    ];
    let tagged = base.iter().map(|sample| sample.clone().tag(0x88a8, 7).tag(0x8100, 1).build());
    tagged.chain(base.iter().map(|sample| sample.clone().build())).collect()
}

#[test]
fn a_frame_cut_anywhere_in_its_headers_is_refused() {
    for frame in all_shapes() {
        let whole = parse(&frame).unwrap();
        for len in 0..frame.len() {
            // The IP length no longer fits, so a cut is never taken for a whole packet.
            assert!(Headers::parse(&frame[..len], len).is_err(), "{len} of {whole:?}");
        }
    }
}

#[test]
fn a_head_cut_anywhere_never_yields_other_ports() {
    for frame in all_shapes() {
        let whole = parse(&frame).unwrap();
        for len in 0..frame.len() {
            if let Ok(cut) = Headers::parse(&frame[..len], frame.len()) {
                let hidden = cut.layer4 == Layer4::Hidden && cut.source_port == 0;
                assert!(hidden || cut == whole, "{len} of {whole:?}: {cut:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        frame_len in 0usize..70_000,
        ethertype in prop::sample::select(vec![0x0800u16, 0x86dd, 0x8100, 0x88a8, 0x0806]),
    ) {
        let mut bytes = bytes;
        if let Some(field) = bytes.get_mut(12..14) {
            field.copy_from_slice(&ethertype.to_be_bytes());
        }
        if let Ok(headers) = Headers::parse(&bytes, frame_len.max(bytes.len())) {
            prop_assert!(headers.l3_offset() <= headers.l4_offset());
            prop_assert!(headers.l4_offset() <= HEAD_LEN);
            let end = usize::try_from(headers.ip_end).unwrap();
            prop_assert!(end <= frame_len.max(bytes.len()));
            if headers.layer4 == Layer4::Tcp && headers.fragment == Fragment::Whole {
                prop_assert!(headers.header_len() <= end);
            }
        }
    }

    #[test]
    fn a_changed_byte_never_panics(shape in 0usize..16, at in 0usize..200, value in any::<u8>()) {
        let shapes = all_shapes();
        let mut frame = shapes[shape].clone();
        let at = at % frame.len();
        frame[at] = value;
        let _ = parse(&frame);
    }
}
