//! Datagrams twice, and not in order.

use crate::harness::{Carried, Receiver, Stream, same, send};
use proptest::prelude::*;
use wireonce_wire::{Geometry, HELD_DATAGRAMS_MAX};

fn streams() -> Vec<Stream> {
    streams_of(80)
}

fn streams_of(frames: usize) -> Vec<Stream> {
    let mixed: Vec<_> = (0..frames).map(|n| 1 + n * n * 37 % 2600).collect();
    [(512, 0), (1472, 16)]
        .map(|(len, tag)| send(Geometry::new(len, tag).unwrap(), &mixed, |n| n % 9 == 8))
        .into()
}

fn feed_in_runs(receiver: &mut Receiver, order: &[&Carried], run_len: usize) {
    for run in order.chunks(run_len) {
        receiver.feed(run.iter().copied(), 0);
    }
}

#[test]
fn a_datagram_that_comes_twice_at_any_position_is_used_once() {
    for stream in streams() {
        for twice in 0..stream.datagrams.len() {
            for later in [0, 1, 5] {
                let mut order: Vec<_> = stream.datagrams.iter().collect();
                order.insert((twice + later).min(order.len()), &stream.datagrams[twice]);
                let mut receiver = Receiver::new();
                feed_in_runs(&mut receiver, &order, 7);
                let (got, stats) = receiver.finish();
                same(&got, &stream.survivors(&[])).unwrap();
                assert_eq!((stats.late, stats.lost_datagrams), (1, 0));
            }
        }
    }
}

#[test]
fn a_held_datagram_that_comes_twice_is_used_once() {
    for stream in streams() {
        let mut order: Vec<_> = stream.datagrams.iter().collect();
        order.swap(3, 8);
        order.insert(6, &stream.datagrams[8]);
        let mut receiver = Receiver::new();
        feed_in_runs(&mut receiver, &order, 2);
        let (got, stats) = receiver.finish();
        same(&got, &stream.survivors(&[])).unwrap();
        assert_eq!(stats.late, 1);
    }
}

#[test]
fn a_datagram_that_is_late_at_any_position_costs_nothing() {
    for stream in streams() {
        for late in 0..stream.datagrams.len() {
            for by in [1, 2, 17, HELD_DATAGRAMS_MAX - 1] {
                for run_len in [1, 6, 64] {
                    let mut order: Vec<_> = stream.datagrams.iter().collect();
                    let moved = order.remove(late);
                    order.insert((late + by).min(order.len()), moved);
                    let mut receiver = Receiver::new();
                    feed_in_runs(&mut receiver, &order, run_len);
                    let (got, stats) = receiver.finish();
                    same(&got, &stream.survivors(&[])).unwrap();
                    assert_eq!((stats.lost_datagrams, stats.late, stats.resyncs), (0, 0, 0));
                }
            }
        }
    }
}

#[test]
fn a_datagram_that_is_too_late_is_given_up_for_good() {
    for stream in streams_of(350) {
        let count = stream.datagrams.len();
        assert!(count > HELD_DATAGRAMS_MAX);
        for late in (0..count - HELD_DATAGRAMS_MAX).step_by(9) {
            let mut order: Vec<_> = stream.datagrams.iter().collect();
            let moved = order.remove(late);
            order.insert(late + HELD_DATAGRAMS_MAX, moved);
            let mut receiver = Receiver::new();
            feed_in_runs(&mut receiver, &order, 3);
            let (got, stats) = receiver.finish();
            same(&got, &stream.survivors(&[moved.packet_number])).unwrap();
            assert_eq!((stats.lost_datagrams, stats.late), (1, 1));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Each datagram is up to 30 places late, so no hole sees enough beyond it to be final.
    #[test]
    fn any_small_disorder_costs_nothing(
        delays in proptest::collection::vec(0usize..30, 200),
        run_len in 1usize..70,
    ) {
        for stream in streams() {
            let mut order: Vec<_> = stream.datagrams.iter().enumerate().collect();
            order.sort_by_key(|(at, _)| at + delays[at % delays.len()]);
            let order: Vec<_> = order.into_iter().map(|(_, datagram)| datagram).collect();
            let mut receiver = Receiver::new();
            feed_in_runs(&mut receiver, &order, run_len);
            let (got, stats) = receiver.finish();
            same(&got, &stream.survivors(&[]))?;
            prop_assert_eq!((stats.lost_datagrams, stats.late), (0, 0));
        }
    }
}
