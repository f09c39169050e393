//! Nothing lost: everything arrives, once, in order, unchanged.

use crate::harness::{Receiver, any_geometry, any_lens, same, send};
use proptest::{prelude::*, sample::Index};
use std::collections::VecDeque;
use wireonce_frame::{Offload, SliceSource};
use wireonce_wire::{
    DATAGRAM_HEADER_LEN, Endpoint, Geometry, LINK_BLOCK_LEN_MAX, Packer, PathIndex, TrainPool,
    VnicId,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn frames_round_trip_over_any_trains_and_runs(
        geometry in any_geometry(),
        lens in any_lens(60),
        closes in proptest::collection::vec(any::<bool>(), 60),
        runs in proptest::collection::vec(1usize..70, 1..20),
    ) {
        let stream = send(geometry, &lens, |n| closes[n]);
        let mut receiver = Receiver::new();
        let mut rest = &stream.datagrams[..];
        for len in runs.iter().cycle() {
            let (run, behind) = rest.split_at((*len).min(rest.len()));
            receiver.feed(run, 0);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(receiver.unpacker.edge(), stream.datagrams.last().unwrap().packet_number + 1);
        let (got, stats) = receiver.finish();
        same(&got, &stream.survivors(&[]))?;
        prop_assert_eq!(stats.blocks, u64::try_from(got.len()).unwrap());
        let faults = [stats.bad_blocks, stats.bad_offsets, stats.broken_frames, stats.resyncs];
        prop_assert_eq!(faults, [0; 4]);
        prop_assert_eq!([stats.held_datagrams, stats.lost_datagrams, stats.late], [0; 3]);
    }

    #[test]
    fn link_blocks_travel_between_frames(
        geometry in any_geometry(),
        messages in proptest::collection::vec(1usize..=LINK_BLOCK_LEN_MAX, 1..8),
        at in any::<Index>(),
    ) {
        let mut packer = Packer::new(PathIndex::from_bits(0), 0, geometry, 0);
        let (mut pool, mut full) = (TrainPool::new(8), VecDeque::new());
        let ends = [1, 2].map(|id| Endpoint::Vnic(VnicId::new(id).unwrap()));
        let frame_at = at.index(messages.len());
        let mut expected = Vec::new();
        for (n, &len) in messages.iter().enumerate() {
            let bytes = vec![u8::try_from(n).unwrap(); len];
            packer.put_link(&bytes, &mut pool, &mut full);
            expected.push((Endpoint::Link, bytes));
            if n == frame_at {
                let bytes = vec![0xff; 3000];
                let mut frame = SliceSource::new(&bytes);
                let none = Offload::default();
                packer.put(ends[0], ends[1], none, &mut frame, &mut pool, &mut full);
                expected.push((ends[0], bytes));
            }
        }
        full.extend(packer.close());
        let mut unpacker = wireonce_wire::Unpacker::new(0);
        let mut got = Vec::new();
        for train in &mut full {
            let run: Vec<_> = train.datagrams().map(|d| {
                let (header, _) = wireonce_wire::DatagramHeader::parse(d.header).unwrap();
                wireonce_wire::Datagram {
                    packet_number: d.packet_number,
                    first_block: header.first_block,
                    payload: d.payload,
                }
            }).collect();
            unpacker.feed(&run, 0, &mut |h, parts| got.push((h.destination, parts.concat())));
        }
        prop_assert!(got == expected);
    }

    /// Every buffer was once full of 0xee; whatever is sent now has none of it.
    #[test]
    fn a_used_buffer_leaks_nothing(
        geometry in any_geometry(),
        lens in any_lens(40),
        closes in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let ends = [1, 2].map(|id| Endpoint::Vnic(VnicId::new(id).unwrap()));
        let mut packer = Packer::new(PathIndex::from_bits(0), 0, geometry, 0);
        let (mut pool, mut full) = (TrainPool::new(4), VecDeque::new());
        let put = |packer: &mut Packer, byte, len, pool: &mut _, full: &mut _| {
            let bytes = vec![byte; len];
            let mut frame = SliceSource::new(&bytes);
            packer.put(ends[0], ends[1], Offload::default(), &mut frame, pool, full)
        };
        for _ in 0..8 {
            put(&mut packer, 0xee, 60_000, &mut pool, &mut full);
        }
        full.extend(packer.close());
        full.drain(..).for_each(|train| pool.put(train));
        // Numbers from 0 on, so that no header has the byte either.
        prop_assert!(packer.set_epoch(0, 0).is_none());
        for (&len, &close) in lens.iter().zip(&closes) {
            let len = if len % 256 == 0xee || len / 256 % 256 == 0xee { len + 300 } else { len };
            put(&mut packer, 0x11, len.min(65_000), &mut pool, &mut full);
            if close {
                full.extend(packer.close());
            }
            for mut train in full.drain(..) {
                for datagram in train.datagrams() {
                    prop_assert!(datagram.tag.iter().all(|byte| *byte == 0));
                    prop_assert!(!datagram.payload.contains(&0xee));
                }
                pool.put(train);
            }
        }
    }
}

#[test]
fn every_length_round_trips_at_every_offset_of_a_small_datagram() {
    let geometry = Geometry::new(512, 0).unwrap();
    let payload_len = 512 - DATAGRAM_HEADER_LEN;
    for first in 1..payload_len + 30 {
        let lens = [first, 1, payload_len, 2 * payload_len - 24, 7];
        let stream = send(geometry, &lens, |_| false);
        let mut receiver = Receiver::new();
        for datagram in &stream.datagrams {
            receiver.feed([datagram], 0);
        }
        let (got, stats) = receiver.finish();
        same(&got, &stream.survivors(&[])).unwrap();
        assert_eq!((stats.bad_blocks, stats.bad_offsets), (0, 0));
    }
}
