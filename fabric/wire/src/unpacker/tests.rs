//! Hand-made datagrams; `tests/` has the round trips and the model.

use super::*;
use crate::{Endpoint, VnicId};
use wireonce_frame::Offload;

/// The blocks that a sink got: payload and number of parts.
type Got = Vec<(Vec<u8>, usize)>;

fn block(payload: &[u8]) -> Vec<u8> {
    let [destination, source] = [7, 9].map(|id| Endpoint::Vnic(VnicId::new(id).unwrap()));
    let len = u32::try_from(payload.len()).unwrap();
    let header = BlockHeader { destination, source, len, offload: Offload::default() };
    [&header.emit()[..], payload].concat()
}

fn datagram(packet_number: u64, first_block: u16, payload: &[u8]) -> Datagram<'_> {
    Datagram { packet_number, first_block, payload }
}

/// Feeds one run and returns what came out.
fn feed(unpacker: &mut Unpacker, run: &[Datagram<'_>], now_us: u64) -> Got {
    let mut got = Got::new();
    unpacker.feed(run, now_us, &mut |_, parts| got.push((parts.concat(), parts.len())));
    got
}

fn tick(unpacker: &mut Unpacker, now_us: u64) -> Got {
    let mut got = Got::new();
    unpacker.tick(now_us, &mut |_, parts| got.push((parts.concat(), parts.len())));
    got
}

/// A block of `len` payload bytes and how it looks cut after `first` bytes.
fn cut(len: usize, first: usize) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let payload: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let bytes = block(&payload);
    (payload, bytes[..first].to_vec(), bytes[first..].to_vec())
}

#[test]
fn a_frame_inside_a_run_is_gathered_without_a_copy() {
    let (payload, a, b) = cut(100, 60);
    let mut unpacker = Unpacker::new(5);
    let run = [datagram(5, 0, &a), datagram(6, NO_BLOCK, &b)];
    assert_eq!(feed(&mut unpacker, &run, 0), [(payload, 2)]);
    assert_eq!((unpacker.edge(), unpacker.buffers_len()), (7, 0));
}

#[test]
fn a_frame_over_two_runs_has_only_its_first_part_copied() {
    let (payload, a, b) = cut(100, 60);
    let mut unpacker = Unpacker::new(0);
    assert_eq!(feed(&mut unpacker, &[datagram(0, 0, &a)], 0), []);
    assert_eq!(unpacker.edge(), 1);
    let tail = [&b[..], &block(b"next")].concat();
    let offset = u16::try_from(b.len()).unwrap();
    let got = feed(&mut unpacker, &[datagram(1, offset, &tail)], 0);
    assert_eq!(got, [(payload, 2), (b"next".to_vec(), 1)]);
    assert_eq!(unpacker.stats().blocks, 2);
}

#[test]
fn a_frame_in_more_parts_than_a_gather_list_has_is_copied() {
    let (payload, a, b) = cut(200, 24 + 100);
    let parts: Vec<_> = b.chunks(1).collect();
    let mut run = vec![datagram(0, 0, &a)];
    run.extend(parts.iter().zip(1..).map(|(part, number)| datagram(number, NO_BLOCK, part)));
    let mut unpacker = Unpacker::new(0);
    assert_eq!(feed(&mut unpacker, &run, 0), [(payload.clone(), 1)]);
    // The same with the start kept from an earlier run.
    let mut unpacker = Unpacker::new(0);
    assert_eq!(feed(&mut unpacker, &run[..3], 0), []);
    assert_eq!(feed(&mut unpacker, &run[3..], 0), [(payload.clone(), 1)]);
    // With the most parts that fit there is no copy.
    let mut unpacker = Unpacker::new(0);
    let long = [datagram(0, 0, &a[..])];
    let (head, rest) = b.split_at(b.len() - 64);
    let mut run = long.to_vec();
    run.extend(rest.chunks(1).zip(2..).map(|(part, number)| datagram(number, NO_BLOCK, part)));
    run.insert(1, datagram(1, NO_BLOCK, head));
    assert_eq!(feed(&mut unpacker, &run, 0), [(payload, GATHER_PARTS_MAX)]);
    assert_eq!(unpacker.buffers_len(), 0);
}

#[test]
fn a_reordered_datagram_waits_for_the_hole_to_fill() {
    let (a, b, c) = (block(b"a"), block(b"b"), block(b"c"));
    let mut unpacker = Unpacker::new(0);
    let got = feed(&mut unpacker, &[datagram(0, 0, &a), datagram(2, 0, &c)], 10);
    assert_eq!(got, [(b"a".to_vec(), 1)]);
    assert_eq!(unpacker.next_deadline_us(), Some(10 + HOLE_AGE_US));
    assert_eq!(tick(&mut unpacker, 9 + HOLE_AGE_US), []);
    let got = feed(&mut unpacker, &[datagram(1, 0, &b)], 9 + HOLE_AGE_US);
    assert_eq!(got, [(b"b".to_vec(), 1), (b"c".to_vec(), 1)]);
    assert_eq!(unpacker.next_deadline_us(), None);
    let stats = unpacker.stats();
    assert_eq!((stats.held_datagrams, stats.lost_datagrams, stats.resyncs), (1, 0, 0));
}

#[test]
fn each_hole_is_given_up_at_its_own_age() {
    let (a, b) = (block(b"a"), block(b"b"));
    let mut unpacker = Unpacker::new(0);
    assert_eq!(feed(&mut unpacker, &[datagram(1, 0, &a)], 0), []);
    assert_eq!(feed(&mut unpacker, &[datagram(3, 0, &b)], 600), []);
    assert_eq!(tick(&mut unpacker, HOLE_AGE_US), [(b"a".to_vec(), 1)]);
    assert_eq!(unpacker.edge(), 2);
    assert_eq!(unpacker.next_deadline_us(), Some(600 + HOLE_AGE_US / 8 * 7));
    assert_eq!(tick(&mut unpacker, 600 + HOLE_AGE_US / 8 * 7), [(b"b".to_vec(), 1)]);
    let stats = unpacker.stats();
    assert_eq!((unpacker.edge(), stats.lost_datagrams, stats.resyncs), (4, 2, 2));
}

#[test]
fn so_many_datagrams_beyond_a_hole_make_it_final() {
    const MOST: u64 = HELD_DATAGRAMS_MAX as u64;
    let bytes = block(b"x");
    let mut unpacker = Unpacker::new(0);
    let beyond: Vec<_> = (1..=MOST).map(|number| datagram(number, 0, &bytes)).collect();
    let (last, before) = beyond.split_last().unwrap();
    assert_eq!(feed(&mut unpacker, before, 0), []);
    assert_eq!(feed(&mut unpacker, &[*last], 0).len(), HELD_DATAGRAMS_MAX);
    assert_eq!((unpacker.edge(), unpacker.stats().lost_datagrams), (MOST + 1, 1));
    assert_eq!(feed(&mut unpacker, &[datagram(0, 0, &bytes)], 0), []);
    assert_eq!(unpacker.stats().late, 1);
}

#[test]
fn held_bytes_make_a_hole_final_too() {
    let big = block(&[1; 60_000]);
    let mut unpacker = Unpacker::new(0);
    let run: Vec<_> = (1..=9).map(|number| datagram(number, 0, &big)).collect();
    assert_eq!(HELD_BYTES_MAX / big.len(), 8);
    assert_eq!(feed(&mut unpacker, &run[..8], 0), []);
    assert_eq!(unpacker.buffers_len(), 8 * big.len());
    // The ninth does not fit, the hole is given up, and now it is the ninth's turn.
    assert_eq!(feed(&mut unpacker, &run[8..], 0).len(), 9);
    assert_eq!(unpacker.edge(), 10);
}

#[test]
fn a_datagram_below_what_is_held_is_not_lost_for_want_of_room() {
    let big = block(&[1; 60_000]);
    let mut unpacker = Unpacker::new(0);
    let run: Vec<_> = (5..=12).chain([3]).map(|number| datagram(number, 0, &big)).collect();
    assert_eq!(feed(&mut unpacker, &run, 0).len(), 1);
    assert_eq!((unpacker.edge(), unpacker.stats().late), (4, 0));
    assert_eq!(tick(&mut unpacker, HOLE_AGE_US).len(), 8);
}

#[test]
fn a_datagram_that_no_buffer_could_hold_ends_the_hole_at_once() {
    let huge = block(b"x").repeat(30_000);
    assert!(huge.len() > HELD_BYTES_MAX);
    let mut unpacker = Unpacker::new(0);
    assert_eq!(feed(&mut unpacker, &[datagram(9, 0, &huge)], 0).len(), 30_000);
    assert_eq!(unpacker.edge(), 10);
}

#[test]
fn a_hole_inside_a_frame_costs_that_frame() {
    let (_, a, b) = cut(100, 60);
    let next = block(b"next");
    let mut unpacker = Unpacker::new(0);
    let tail = [&b[..], &next].concat();
    let offset = u16::try_from(b.len()).unwrap();
    let run = [datagram(0, 0, &a), datagram(2, offset, &tail)];
    assert_eq!(feed(&mut unpacker, &run, 0), []);
    assert_eq!(tick(&mut unpacker, HOLE_AGE_US), [(b"next".to_vec(), 1)]);
    let stats = unpacker.stats();
    assert_eq!((stats.broken_frames, stats.resyncs, stats.bad_offsets), (1, 1, 0));
}

#[test]
fn an_offset_that_contradicts_the_running_frame_drops_it() {
    let (_, a, b) = cut(100, 60);
    let next = block(b"next");
    // Too early, too late, and in the middle of a frame that fills the datagram.
    for skew in [-1_i64, 1] {
        let tail = [&b[..], &[0; 2], &next].concat();
        let offset = u16::try_from(i64::try_from(b.len()).unwrap() + skew).unwrap();
        let mut unpacker = Unpacker::new(0);
        feed(&mut unpacker, &[datagram(0, 0, &a), datagram(1, offset, &tail)], 0);
        let stats = unpacker.stats();
        assert_eq!((stats.broken_frames, stats.bad_offsets), (1, 1), "{skew}");
    }
    let mut unpacker = Unpacker::new(0);
    let run = [datagram(0, 0, &a), datagram(1, 0, &next)];
    assert_eq!(feed(&mut unpacker, &run, 0), [(b"next".to_vec(), 1)]);
    assert_eq!(unpacker.stats().broken_frames, 1);
}

#[test]
fn an_offset_without_room_for_a_header_is_bad() {
    let next = block(b"next");
    let short = &next[..23];
    for (offset, payload) in [(0, short), (5, &next[..]), (0xfffe, &next[..]), (0, &[][..])] {
        let mut unpacker = Unpacker::new(0);
        let run = [datagram(0, offset, payload), datagram(1, 0, &next)];
        assert_eq!(feed(&mut unpacker, &run, 0), [(b"next".to_vec(), 1)]);
        assert_eq!((unpacker.stats().bad_offsets, unpacker.stats().resyncs), (1, 1));
    }
}

#[test]
fn a_frame_may_end_where_its_datagram_ends_but_nothing_starts_there() {
    let (payload, a, b) = cut(100, 60);
    let end = u16::try_from(b.len()).unwrap();
    let mut unpacker = Unpacker::new(0);
    assert_eq!(
        feed(&mut unpacker, &[datagram(0, 0, &a), datagram(1, NO_BLOCK, &b)], 0),
        [(payload, 2)]
    );
    assert_eq!(feed(&mut unpacker, &[datagram(2, 0, &a), datagram(3, end, &b)], 0), []);
    assert_eq!(unpacker.stats().broken_frames, 1);
}

#[test]
fn padding_ends_a_datagram() {
    let one = block(b"one");
    let padded = [&one[..], &[0; 24], &one].concat();
    let tail = [&one[..], &[0; 23]].concat();
    let mut unpacker = Unpacker::new(0);
    let run = [datagram(0, 0, &padded), datagram(1, 0, &tail), datagram(2, 0, &one)];
    assert_eq!(feed(&mut unpacker, &run, 0).len(), 3);
    let stats = unpacker.stats();
    assert_eq!((stats.bad_blocks, stats.bad_offsets, stats.resyncs), (0, 0, 0));
}

#[test]
fn a_bad_header_costs_the_rest_of_its_datagram() {
    let one = block(b"one");
    let mut bad = one.clone();
    bad[18] = 0x80;
    let mut empty = one.clone();
    empty[16] = 0;
    for bad in [bad, empty] {
        let first = [&one[..], &bad, &one].concat();
        // What the bad block may have meant to continue is skipped.
        let second = [&[0xff; 7][..], &one].concat();
        let mut unpacker = Unpacker::new(0);
        let run = [datagram(0, 0, &first), datagram(1, NO_BLOCK, &one), datagram(2, 7, &second)];
        assert_eq!(feed(&mut unpacker, &run, 0).len(), 2);
        let stats = unpacker.stats();
        assert_eq!((stats.bad_blocks, stats.resyncs, stats.bad_offsets), (1, 1, 0));
    }
}

#[test]
fn duplicates_and_the_past_are_ignored() {
    let one = block(b"one");
    let mut unpacker = Unpacker::new(7);
    assert_eq!(feed(&mut unpacker, &[datagram(6, 0, &one)], 0), []);
    let run = [datagram(9, 0, &one), datagram(9, 0, &one)];
    assert_eq!(feed(&mut unpacker, &run, 0), []);
    let run = [datagram(7, 0, &one), datagram(8, 0, &one), datagram(9, 0, &one)];
    assert_eq!(feed(&mut unpacker, &run, 0).len(), 3);
    assert_eq!((unpacker.edge(), unpacker.stats().late), (10, 3));
}

#[test]
fn the_highest_packet_numbers_do_not_overflow() {
    let one = block(b"one");
    let mut unpacker = Unpacker::new(0);
    assert_eq!(feed(&mut unpacker, &[datagram(u64::MAX, 0, &one)], 0), []);
    assert_eq!(tick(&mut unpacker, u64::MAX).len(), 1);
    assert_eq!(unpacker.edge(), u64::MAX);
    feed(&mut unpacker, &[datagram(u64::MAX, 0, &one), datagram(0, 0, &one)], 0);
    assert_eq!(unpacker.edge(), u64::MAX);
}

#[test]
fn a_quiet_path_gives_its_buffers_back() {
    let (payload, a, b) = cut(100, 60);
    let mut unpacker = Unpacker::new(0);
    feed(&mut unpacker, &[datagram(1, NO_BLOCK, &b)], 0);
    unpacker.shrink();
    assert_eq!(unpacker.buffers_len(), b.len());
    feed(&mut unpacker, &[datagram(0, 0, &a)], 0);
    feed(&mut unpacker, &[datagram(2, 0, &a)], 0);
    unpacker.shrink();
    assert_eq!(unpacker.buffers_len(), FRAME_LEN_MAX);
    assert_eq!(feed(&mut unpacker, &[datagram(3, NO_BLOCK, &b)], 0), [(payload, 2)]);
    unpacker.shrink();
    assert_eq!(unpacker.buffers_len(), 0);
    assert!(size_of::<Unpacker>() <= 384, "{}", size_of::<Unpacker>());
}

#[test]
fn an_abandoned_path_holds_nothing_and_goes_on_at_the_next_block() {
    let (payload, a, b) = cut(100, 60);
    let mut unpacker = Unpacker::new(0);
    feed(&mut unpacker, &[datagram(0, 0, &a), datagram(3, 0, &a)], 0);
    assert!(unpacker.buffers_len() > 0);
    unpacker.abandon(&mut |_, _| panic!("nothing is whole"));
    assert_eq!((unpacker.buffers_len(), unpacker.edge()), (0, 4));
    assert_eq!(unpacker.stats().broken_frames, 2);
    let run = [datagram(4, NO_BLOCK, &b), datagram(5, 0, &a), datagram(6, NO_BLOCK, &b)];
    assert_eq!(feed(&mut unpacker, &run, 0), [(payload, 2)]);
}

#[test]
fn hostile_sizes_do_not_grow_the_buffers() {
    // All sizes, never the edge: each wants a buffer that no spare one fits.
    let huge = vec![0xaa; 65_507];
    let mut unpacker = Unpacker::new(0);
    let mut number = 1;
    for round in 0..3000_usize {
        let len = round * 2654435761 % 65_507;
        number += 1 + u64::from(round % 3 == 0);
        let run = [datagram(number, 0xfff0, &huge[..len])];
        unpacker.feed(&run, u64::try_from(round * 40).unwrap(), &mut |_, _| ());
        assert!(unpacker.buffers_len() <= UNPACKER_BUFFERS_MAX);
        assert!(unpacker.held.len() < HELD_DATAGRAMS_MAX);
    }
    assert!(unpacker.stats().held_datagrams > 2000);
}
