//! A lost datagram costs exactly the frames that lie in it.

use crate::harness::{Receiver, Stream, any_geometry, any_lens, same, send};
use proptest::prelude::*;
use wireonce_wire::Geometry;

/// Streams that differ in what a datagram may carry: many frames, one, a piece.
fn streams() -> Vec<Stream> {
    let mixed: Vec<_> = (0..60).map(|n| 1 + n * n * 37 % 2600).collect();
    let small = vec![64; 80];
    let long = [65_557, 3, 20_000, 40, 40, 9000];
    let mut streams = Vec::new();
    for geometry in [(512, 0), (1232, 16), (1472, 0), (8972, 16)] {
        let geometry = Geometry::new(geometry.0, geometry.1).unwrap();
        streams.push(send(geometry, &mixed, |n| n % 7 == 6));
        streams.push(send(geometry, &mixed, |_| false));
        streams.push(send(geometry, &small, |n| n % 20 == 19));
        streams.push(send(geometry, &long, |n| n == 3));
    }
    streams
}

/// What comes out when the datagrams `lost` do not come, in runs of `run_len`.
fn receive(stream: &Stream, lost: &[u64], run_len: usize) -> Receiver {
    let mut receiver = Receiver::new();
    let came: Vec<_> =
        stream.datagrams.iter().filter(|d| !lost.contains(&d.packet_number)).collect();
    for run in came.chunks(run_len) {
        receiver.feed(run.iter().copied(), 0);
    }
    receiver
}

#[test]
fn a_loss_at_any_position_costs_exactly_the_frames_in_it() {
    for stream in streams() {
        for lost in 0..u64::try_from(stream.datagrams.len()).unwrap() {
            for run_len in [1, 5, 64] {
                let (got, stats) = receive(&stream, &[lost], run_len).finish();
                same(&got, &stream.survivors(&[lost])).unwrap();
                assert_eq!((stats.bad_blocks, stats.bad_offsets), (0, 0));
                assert!(stats.lost_datagrams <= 1 && stats.broken_frames <= 1);
            }
        }
    }
}

#[test]
fn a_loss_of_two_neighbours_costs_exactly_the_frames_in_them() {
    for stream in streams() {
        for first in 0..u64::try_from(stream.datagrams.len()).unwrap() {
            let lost = [first, first + 1];
            let (got, _) = receive(&stream, &lost, 10).finish();
            same(&got, &stream.survivors(&lost)).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_losses_cost_exactly_the_frames_in_them(
        geometry in any_geometry(),
        lens in any_lens(60),
        closes in proptest::collection::vec(any::<bool>(), 60),
        odds in 1u64..20,
        seed in any::<u64>(),
        run_len in 1usize..70,
    ) {
        let stream = send(geometry, &lens, |n| closes[n]);
        let numbers = stream.datagrams.iter().map(|d| d.packet_number);
        let dice = |n: u64| (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let lost: Vec<_> = numbers.filter(|&n| dice(n).is_multiple_of(odds)).collect();
        let (got, stats) = receive(&stream, &lost, run_len).finish();
        same(&got, &stream.survivors(&lost))?;
        prop_assert_eq!((stats.bad_blocks, stats.bad_offsets, stats.late), (0, 0, 0));
    }
}
