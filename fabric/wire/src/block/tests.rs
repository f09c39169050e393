use super::*;
use crate::{UplinkId, Vni, VnicId};
use proptest::prelude::*;

fn vnic(id: u64) -> Endpoint {
    Endpoint::Vnic(VnicId::new(id).unwrap())
}

fn header(len: u32, offload: Offload) -> BlockHeader {
    BlockHeader { destination: vnic(7), source: vnic(9), len, offload }
}

fn any_offload() -> impl Strategy<Value = Offload> {
    let checksum = proptest::option::of((0u16..2000, any::<u8>()));
    let kind = prop_oneof![Just(GsoKind::TcpV4), Just(GsoKind::TcpV6)];
    let gso = proptest::option::of((kind, 1u16.., any::<bool>()));
    (checksum, any::<bool>(), gso).prop_map(|(checksum, valid, gso)| Offload {
        checksum: checksum.map(|(start, offset)| ChecksumRequest { start, offset }),
        checksum_valid: valid && checksum.is_none(),
        gso: gso.map(|(kind, size, ecn)| Gso { kind, size, ecn }),
    })
}

fn any_header() -> impl Strategy<Value = BlockHeader> {
    let to = prop_oneof![
        (1..=VnicId::MAX).prop_map(vnic),
        any::<u32>().prop_map(|id| Endpoint::Uplink(UplinkId(id))),
        (0..=Vni::MAX).prop_map(|vni| Endpoint::Network(Vni::new(vni).unwrap())),
    ];
    let from = prop_oneof![
        (1..=VnicId::MAX).prop_map(vnic),
        any::<u32>().prop_map(|id| Endpoint::Uplink(UplinkId(id))),
    ];
    let len = 2300..=u32::try_from(FRAME_LEN_MAX).unwrap();
    (to, from, len, any_offload()).prop_map(|(destination, source, len, offload)| BlockHeader {
        destination,
        source,
        len,
        offload,
    })
}

proptest! {
    #[test]
    fn a_header_round_trips(header in any_header()) {
        prop_assert_eq!(BlockHeader::parse(&header.emit()), Ok(header));
    }

    #[test]
    fn bytes_are_a_header_only_if_emitting_it_gives_them(
        header in any_header(), at in 0..BLOCK_HEADER_LEN, byte in any::<u8>(),
    ) {
        let mut bytes = header.emit();
        bytes[at] = byte;
        if let Ok(header) = BlockHeader::parse(&bytes) {
            prop_assert_eq!(header.emit(), bytes);
        }
    }

    #[test]
    fn any_offload_at_all_is_emitted_as_a_header(
        start in any::<u16>(), offset in any::<u8>(), valid in any::<bool>(),
        size in any::<u16>(), len in 1..=65_557u32,
    ) {
        let offload = Offload {
            checksum: Some(ChecksumRequest { start, offset }),
            checksum_valid: valid,
            gso: Some(Gso { kind: GsoKind::TcpV6, size, ecn: true }),
        };
        prop_assert!(BlockHeader::parse(&header(len, offload).emit()).is_ok());
    }
}

/// Parses the header of a plain 100-byte block with some bytes changed.
fn parse_with(changes: &[(usize, u8)]) -> Result<BlockHeader, BlockError> {
    let mut bytes = header(100, Offload::default()).emit();
    for &(at, byte) in changes {
        bytes[at] = byte;
    }
    BlockHeader::parse(&bytes)
}

const LEN: usize = 16;
const FLAGS: usize = 18;
const CS_OFFSET: usize = 19;
const CS_START: usize = 20;
const GSO_SIZE: usize = 22;

#[test]
fn the_layout_is_the_documented_one() {
    let offload = Offload {
        checksum: Some(ChecksumRequest { start: 0x0822, offset: 16 }),
        checksum_valid: false,
        gso: Some(Gso { kind: GsoKind::TcpV6, size: 0x05a8, ecn: true }),
    };
    let header = BlockHeader {
        destination: Endpoint::Uplink(UplinkId(0x0403_0201)),
        source: vnic(0x0807_0605_0403_0201),
        len: 0x1_0003,
        offload,
    };
    let expected =
        [1, 2, 3, 4, 0, 0, 0, 0x40, 1, 2, 3, 4, 5, 6, 7, 8, 3, 0, 0x2b, 16, 0x22, 0x08, 0xa8, 0x05];
    assert_eq!(header.emit(), expected);
}

#[test]
fn length_zero_is_padding() {
    assert_eq!(BlockHeader::parse(&[0; BLOCK_HEADER_LEN]), Err(BlockError::Empty));
    assert_eq!(parse_with(&[(LEN, 0)]), Err(BlockError::Empty));
}

#[test]
fn a_length_beyond_the_longest_frame_is_refused() {
    let longest = header(65_557, Offload::default());
    assert_eq!(BlockHeader::parse(&longest.emit()), Ok(longest));
    let longer = header(65_558, Offload::default());
    assert_eq!(BlockHeader::parse(&longer.emit()), Err(BlockError::Long(65_558)));
    let top = header((1 << 17) - 1, Offload::default());
    assert_eq!(BlockHeader::parse(&top.emit()), Err(BlockError::Long(131_071)));
}

#[test]
fn reserved_flags_are_refused() {
    for flag in [0x40, 0x80, 0xc0] {
        assert_eq!(parse_with(&[(FLAGS, flag)]), Err(BlockError::Reserved(flag)));
    }
}

#[test]
fn unused_checksum_fields_must_be_zero() {
    for at in [CS_OFFSET, CS_START, CS_START + 1] {
        assert_eq!(parse_with(&[(at, 1)]), Err(BlockError::Checksum));
        assert_eq!(parse_with(&[(at, 1), (FLAGS, CHECKSUM_VALID)]), Err(BlockError::Checksum));
    }
}

#[test]
fn a_checksum_must_lie_inside_the_frame() {
    let request = |start| parse_with(&[(FLAGS, 0x02), (CS_START, start), (CS_OFFSET, 16)]);
    assert!(request(82).is_ok());
    assert_eq!(request(83), Err(BlockError::Checksum));
    let far = [(FLAGS, 0x02), (CS_START, 0xff), (CS_START + 1, 0xff), (CS_OFFSET, 0xff)];
    assert_eq!(parse_with(&far), Err(BlockError::Checksum));
}

#[test]
fn an_open_checksum_is_not_valid() {
    let both = [(FLAGS, CHECKSUM_REQUESTED | CHECKSUM_VALID), (CS_START, 34), (CS_OFFSET, 16)];
    assert_eq!(parse_with(&both), Err(BlockError::Checksum));
}

#[test]
fn segmentation_needs_kind_and_size() {
    assert!(parse_with(&[(FLAGS, 0x10), (GSO_SIZE, 1)]).is_ok());
    assert!(parse_with(&[(FLAGS, 0x28), (GSO_SIZE + 1, 1)]).is_ok());
    for (flags, size) in
        [(0x10, 0), (0x20, 0), (0x00, 1), (0x30, 1), (0x30, 0), (0x08, 0), (0x08, 1)]
    {
        let parsed = parse_with(&[(FLAGS, flags), (GSO_SIZE, size)]);
        assert_eq!(parsed, Err(BlockError::Gso), "flags {flags:#x}, size {size}");
    }
}

#[test]
fn endpoints_that_cannot_be_there_are_refused() {
    let nobody = u64::MAX;
    let network = Endpoint::Network(Vni::new(3).unwrap());
    let cases = [
        (nobody, vnic(9).to_bits(), BlockError::Destination(nobody)),
        (vnic(7).to_bits(), nobody, BlockError::Source(nobody)),
        (vnic(7).to_bits(), network.to_bits(), BlockError::Source(network.to_bits())),
        (vnic(7).to_bits(), 0, BlockError::Source(0)),
        (0, vnic(9).to_bits(), BlockError::Source(vnic(9).to_bits())),
    ];
    for (destination, source, error) in cases {
        let mut bytes = header(100, Offload::default()).emit();
        bytes[..8].copy_from_slice(&destination.to_le_bytes());
        bytes[8..16].copy_from_slice(&source.to_le_bytes());
        assert_eq!(BlockHeader::parse(&bytes), Err(error));
    }
}

#[test]
fn a_link_block_is_short_and_has_no_offload() {
    let link = |len, offload| {
        BlockHeader { destination: Endpoint::Link, source: Endpoint::Link, len, offload }.emit()
    };
    assert!(BlockHeader::parse(&link(4096, Offload::default())).is_ok());
    let long = BlockHeader::parse(&link(4097, Offload::default()));
    assert_eq!(long, Err(BlockError::Long(4097)));
    let valid = Offload { checksum_valid: true, ..Offload::default() };
    assert_eq!(BlockHeader::parse(&link(10, valid)), Err(BlockError::LinkOffload));
}
