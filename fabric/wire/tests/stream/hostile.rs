//! A peer with a valid key and bad intentions: no panic, bounded memory, and
//! never more bytes out than came in.

use crate::harness::{Carried, any_lens, send};
use proptest::{prelude::*, sample::Index};
use wireonce_frame::FRAME_LEN_MAX;
use wireonce_wire::{
    BlockHeader, Endpoint, GATHER_PARTS_MAX, Geometry, LINK_BLOCK_LEN_MAX, NO_BLOCK,
    UNPACKER_BUFFERS_MAX, Unpacker, VnicId,
};

/// Feeds runs 100 us apart and checks every rule that holds for any input.
fn check(datagrams: &[Carried], run_len: usize) -> Result<(), TestCaseError> {
    let mut unpacker = Unpacker::new(0);
    let (mut came, mut went) = (0, 0);
    for (run, now_us) in datagrams.chunks(run_len).zip((0..).step_by(100)) {
        let edge = unpacker.edge();
        let run: Vec<_> = run.iter().map(Carried::datagram).collect();
        came += run.iter().map(|d| d.payload.len()).sum::<usize>();
        let mut rules = Ok(());
        unpacker.feed(&run, now_us, &mut |header, parts| {
            went += parts.iter().map(|part| part.len()).sum::<usize>();
            rules = rules.clone().and(check_block(header, parts));
        });
        rules?;
        prop_assert!(unpacker.edge() >= edge);
        prop_assert!(unpacker.buffers_len() <= UNPACKER_BUFFERS_MAX);
        prop_assert!(went <= came);
    }
    unpacker.tick(u64::MAX, &mut |_, parts| {
        went += parts.iter().map(|part| part.len()).sum::<usize>();
    });
    prop_assert!(went <= came);
    prop_assert_eq!(unpacker.next_deadline_us(), None);
    Ok(())
}

fn check_block(header: &BlockHeader, parts: &[&[u8]]) -> Result<(), TestCaseError> {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    prop_assert_eq!(len, usize::try_from(header.len).unwrap());
    prop_assert!((1..=GATHER_PARTS_MAX).contains(&parts.len()));
    let link = header.destination == Endpoint::Link;
    let len_max = if link { LINK_BLOCK_LEN_MAX } else { FRAME_LEN_MAX };
    prop_assert!((1..=len_max).contains(&len));
    prop_assert_eq!(BlockHeader::parse(&header.emit()), Ok(*header));
    Ok(())
}

/// Random bytes, or block headers of random lengths with little behind them.
fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let vnic = Endpoint::Vnic(VnicId::new(5).unwrap());
    let block = (1..=70_000u32, 0usize..60).prop_map(move |(len, behind)| {
        let offload = wireonce_frame::Offload::default();
        let header = BlockHeader { destination: vnic, source: vnic, len, offload };
        [&header.emit()[..], &vec![0x77; behind]].concat()
    });
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        proptest::collection::vec(block, 0..6).prop_map(|blocks| blocks.concat()),
        (0usize..65_507).prop_map(|len| vec![0xaa; len]),
    ]
}

fn any_datagrams() -> impl Strategy<Value = Vec<Carried>> {
    let number = prop_oneof![8 => 0u64..300, 1 => any::<u64>(), 1 => u64::MAX - 3..];
    let first_block = prop_oneof![Just(0), Just(NO_BLOCK), 0u16..300, any::<u16>()];
    let datagram =
        (number, first_block, any_payload()).prop_map(|(packet_number, first_block, payload)| {
            Carried { packet_number, first_block, payload }
        });
    proptest::collection::vec(datagram, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_datagrams_at_all_keep_the_rules(datagrams in any_datagrams(), run_len in 1usize..90) {
        check(&datagrams, run_len)?;
    }

    #[test]
    fn consecutive_nonsense_keeps_the_rules(datagrams in any_datagrams(), run_len in 1usize..90) {
        let mut datagrams = datagrams;
        for (datagram, number) in datagrams.iter_mut().zip(0..) {
            datagram.packet_number = number;
        }
        check(&datagrams, run_len)?;
    }

    #[test]
    fn a_real_stream_with_changed_bytes_keeps_the_rules(
        lens in any_lens(40),
        changes in proptest::collection::vec((any::<Index>(), any::<Index>(), any::<u8>()), 1..20),
        offsets in proptest::collection::vec((any::<Index>(), any::<u16>()), 0..4),
        run_len in 1usize..70,
    ) {
        let mut datagrams = send(Geometry::new(1232, 16).unwrap(), &lens, |_| false).datagrams;
        for (datagram, at, byte) in changes {
            let payload = &mut datagram.get_mut(&mut datagrams).payload;
            *at.get_mut(payload) = byte;
        }
        for (datagram, first_block) in offsets {
            datagram.get_mut(&mut datagrams).first_block = first_block;
        }
        check(&datagrams, run_len)?;
    }
}

/// The worst for memory: a kept frame of the longest kind, then holes for ever.
#[test]
fn fragments_that_never_end_stay_within_the_bound() {
    let vnic = Endpoint::Vnic(VnicId::new(5).unwrap());
    let len = u32::try_from(FRAME_LEN_MAX).unwrap();
    let offload = wireonce_frame::Offload::default();
    let header = BlockHeader { destination: vnic, source: vnic, len, offload }.emit();
    let mut datagrams = Vec::new();
    let mut number = 0;
    for round in 0..200 {
        let start = [&header[..], &vec![1; 60_000]].concat();
        datagrams.push(Carried { packet_number: number, first_block: 0, payload: start });
        for beyond in 0..70 {
            let payload = vec![2; (round * 331 + beyond * 97) % 9000];
            let packet_number = number + 2 + 2 * u64::try_from(beyond).unwrap();
            datagrams.push(Carried { packet_number, first_block: NO_BLOCK, payload });
        }
        number += 142;
    }
    for run_len in [1, 13, 64] {
        check(&datagrams, run_len).unwrap();
    }
}
