//! Large TCP segments of which a part is lost: what comes out is part of what they would
//! have been cut to, and exactly the part that arrived.

use crate::harness::{Carried, Frame, Receiver, Stream, any_geometry, send_frames};
use proptest::{prelude::*, sample::Index};
use std::ops::Range;
use wireonce_frame::{FrameRef, Gso, GsoKind, Headers, Offload, sample::Sample, segment::segment};
use wireonce_wire::{
    BLOCK_HEADER_LEN, BlockHeader, Endpoint, Geometry, HOLE_AGE_US, HOLES_MAX, VnicId,
};

/// A TCP frame of `payload` bytes that is to be cut at `size`; whole if it is too short.
fn tcp(n: usize, v4: bool, payload: usize, size: u16) -> Frame {
    let seed = u8::try_from(n % 255).unwrap();
    let payload: Vec<u8> = (0..payload).map(|at| seed ^ u8::try_from(at % 251).unwrap()).collect();
    let is_large = payload.len() > usize::from(size);
    let sample = if v4 { Sample::tcp4() } else { Sample::tcp6() };
    let sample = sample.tcp(u32::MAX - 9000, 0x99, vec![1; n % 10 * 4]);
    let (bytes, request) = sample.ports(u16::from(seed), 80).payload(payload).build_open();
    let kind = if v4 { GsoKind::TcpV4 } else { GsoKind::TcpV6 };
    let gso = is_large.then_some(Gso { kind, size, ecn: n.is_multiple_of(2) });
    let offload = Offload { checksum: Some(request), checksum_valid: false, gso };
    let vnic = |id| Endpoint::Vnic(VnicId::new(id).unwrap());
    let len = u32::try_from(bytes.len()).unwrap();
    let header =
        BlockHeader { destination: vnic(u64::from(seed) + 1), source: vnic(77), len, offload };
    Frame { header, bytes }
}

/// What a wire carries of frames: to whom, and each segment.
type Wire = Vec<(Endpoint, Vec<u8>)>;

fn cut(frame: &Frame) -> Wire {
    let mut wire = Wire::new();
    let parts = [&frame.bytes[..]];
    segment(
        &FrameRef::new(&parts, frame.header.offload),
        &mut Vec::new(),
        &mut |bytes: &[u8]| {
            wire.push((frame.header.destination, bytes.to_vec()));
        },
    )
    .unwrap();
    wire
}

fn cut_all(frames: &[Frame]) -> Wire {
    frames.iter().flat_map(cut).collect()
}

/// For each frame, the datagrams that it is in and which of its bytes are there: found by
/// reading the stream from the start, as rule 1 of `docs/wire.md` has it.
fn places(stream: &Stream) -> Vec<Vec<(u64, Range<usize>)>> {
    let (mut at, mut offset) = (0, 0);
    let room = |at: usize, offset: usize| stream.datagrams[at].payload.len() - offset;
    let place = |(frame, span): &(Frame, wireonce_wire::Span)| {
        if room(at, offset) < BLOCK_HEADER_LEN {
            (at, offset) = (at + 1, 0);
        }
        assert_eq!(stream.datagrams[at].packet_number, span.first);
        offset += BLOCK_HEADER_LEN;
        let (mut done, mut places) = (0, Vec::new());
        loop {
            let len = room(at, offset).min(frame.bytes.len() - done);
            places.push((stream.datagrams[at].packet_number, done..done + len));
            (done, offset) = (done + len, offset + len);
            if done == frame.bytes.len() {
                assert_eq!(stream.datagrams[at].packet_number, span.last);
                return places;
            }
            (at, offset) = (at + 1, 0);
        }
    };
    stream.frames.iter().map(place).collect()
}

/// Segments that must come out if the datagrams in `lost` never come.
fn survivors(stream: &Stream, lost: &[u64]) -> Wire {
    let mut wire = Wire::new();
    for ((frame, _), places) in stream.frames.iter().zip(places(stream)) {
        let segments = cut(frame);
        let is_lost = |number: &u64| lost.contains(number);
        let Some(gso) = frame.header.offload.gso else {
            if !places.iter().any(|(number, _)| is_lost(number)) {
                wire.extend(segments);
            }
            continue;
        };
        let header_len = Headers::parse(&frame.bytes, frame.bytes.len()).unwrap().header_len();
        // Neighbours make one hole. What is behind the first hole counts only if the end
        // proves it, and if the holes are not too many.
        let lost_places: Vec<_> =
            places.iter().enumerate().filter(|(_, (number, _))| is_lost(number)).collect();
        let holes = lost_places.chunk_by(|(a, _), (b, _)| a + 1 == *b).count();
        let is_proved = !is_lost(&places.last().unwrap().0) && holes <= HOLES_MAX;
        let first_hole = lost_places.first().map_or(usize::MAX, |(_, (_, range))| range.start);
        let is_there = |range: Range<usize>| {
            let touches = |other: &Range<usize>| other.start < range.end && range.start < other.end;
            (is_proved || range.end <= first_hole)
                && !places.iter().any(|(number, other)| is_lost(number) && touches(other))
        };
        if is_lost(&places[0].0) || !is_there(0..header_len) {
            continue;
        }
        for (n, segment) in segments.into_iter().enumerate() {
            let from = header_len + n * usize::from(gso.size);
            if is_there(from..(from + usize::from(gso.size)).min(frame.bytes.len())) {
                wire.push(segment);
            }
        }
    }
    wire
}

/// What comes out when the datagrams `lost` do not come, in runs of `run_len`.
fn receive(stream: &Stream, lost: &[u64], run_len: usize) -> Receiver {
    let mut receiver = Receiver::new();
    let came: Vec<_> =
        stream.datagrams.iter().filter(|d| !lost.contains(&d.packet_number)).collect();
    for run in came.chunks(run_len) {
        receiver.feed(run.iter().copied(), 0);
    }
    // Without another datagram nobody knows that the last one is lost: the link asks.
    let packet_number = u64::try_from(stream.datagrams.len()).unwrap();
    receiver.feed([&Carried { packet_number, first_block: 0, payload: vec![0; 24] }], 0);
    receiver
}

/// Three frames of 64 KB, one behind the other, between small ones.
fn bulk() -> Stream {
    let geometry = Geometry::new(1472, 16).unwrap();
    let lens = [40, 65_000, 64_000, 65_160, 200];
    let shapes = [0, 1, 2, 3, 4].map(|n| (n != 2, lens[n], 1448));
    send_frames(geometry, frames(&shapes), |n| n == 2)
}

#[test]
fn a_lost_datagram_costs_the_segments_in_it() {
    let stream = bulk();
    let all = cut_all(&stream.survivors(&[])).len();
    let starts = stream.frames.iter().map(|(_, span)| span.first).collect::<Vec<_>>();
    for lost in 0..u64::try_from(stream.datagrams.len()).unwrap() {
        for run_len in [1, 5, 64] {
            let (got, stats) = receive(&stream, &[lost], run_len).finish();
            let got = cut_all(&got);
            assert!(got == survivors(&stream, &[lost]), "{lost}");
            assert!(starts.contains(&lost) || got.len() >= all - 3, "{lost}: {}", got.len());
            assert_eq!((stats.bad_blocks, stats.bad_offsets), (0, 0));
            assert!(stats.broken_frames + stats.torn_frames <= 2);
        }
    }
}

#[test]
fn holes_in_one_frame_are_counted_and_too_many_end_it() {
    let stream = bulk();
    let first = stream.frames[1].1.first;
    for holes in 1..=20 {
        let lost: Vec<_> = (1..=holes).map(|hole| first + hole * 2).collect();
        let (got, stats) = receive(&stream, &lost, 9).finish();
        assert!(cut_all(&got) == survivors(&stream, &lost), "{holes}");
        let pieces = if holes <= 16 { holes + 1 } else { 1 };
        // A single datagram between two holes has no whole segment.
        assert!(stats.torn_frames == 1 && stats.salvaged_frames <= pieces, "{stats:?}");
        let segments = stats.salvaged_segments + stats.lost_segments;
        assert_eq!(segments, 65_000_u64.div_ceil(1448));
    }
}

#[test]
fn a_hole_of_another_length_is_found_out() {
    // A datagram behind the hole that is too short or too long, and an end that is not where
    // the length says.
    let stream = bulk();
    let span = stream.frames[1].1;
    let lost = span.first + 5;
    for (liar, change) in [(span.first + 9, -1), (span.first + 9, 1), (span.last, 0)] {
        let mut datagrams = stream.datagrams.clone();
        let place = usize::try_from(liar).unwrap();
        match change {
            0 => datagrams[place].first_block -= 1,
            1 => datagrams[place].payload.push(0),
            _ => drop(datagrams[place].payload.pop()),
        }
        let lied = Stream { frames: stream.frames.clone(), datagrams };
        let (got, stats) = receive(&lied, &[lost], 64).finish();
        let to = stream.frames[1].0.header.destination;
        assert!(got.iter().all(|frame| frame.header.destination != to));
        assert_eq!((stats.torn_frames, stats.bad_offsets), (0, 1), "{liar} {change}");
    }
}

/// Frames: IPv4 or IPv6, bytes of payload, segment size.
fn any_shapes() -> impl Strategy<Value = Vec<(bool, usize, u16)>> {
    let size = prop_oneof![Just(1448_u16), Just(1398), 8..9000_u16];
    let len = prop_oneof![2 => 1..200_usize, 1 => 1000..9000_usize, 2 => 20_000..65_000_usize];
    proptest::collection::vec((any::<bool>(), len, size), 1..12)
}

fn frames(shapes: &[(bool, usize, u16)]) -> impl Iterator<Item = Frame> {
    shapes.iter().enumerate().map(|(n, &(v4, len, size))| tcp(n, v4, len, size))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_losses_cost_exactly_the_segments_in_them(
        geometry in any_geometry(),
        shapes in any_shapes(),
        closes in proptest::collection::vec(any::<bool>(), 12),
        odds in 1u64..80,
        seed in any::<u64>(),
        run_len in 1usize..70,
    ) {
        let stream = send_frames(geometry, frames(&shapes), |n| closes[n]);
        let numbers = stream.datagrams.iter().map(|d| d.packet_number);
        let dice = |n: u64| (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let lost: Vec<_> = numbers.filter(|&n| dice(n).is_multiple_of(odds)).collect();
        let (got, stats) = receive(&stream, &lost, run_len).finish();
        let (got, expected) = (cut_all(&got), survivors(&stream, &lost));
        prop_assert_eq!(got.len(), expected.len());
        prop_assert!(got == expected);
        prop_assert_eq!((stats.bad_blocks, stats.bad_offsets, stats.late), (0, 0, 0));
    }

    #[test]
    fn without_loss_nothing_is_cut(
        geometry in any_geometry(),
        shapes in any_shapes(),
        run_len in 1usize..70,
    ) {
        let stream = send_frames(geometry, frames(&shapes), |n| n % 3 == 0);
        let (got, stats) = receive(&stream, &[], run_len).finish();
        prop_assert!(got == stream.survivors(&[]));
        prop_assert_eq!((stats.torn_frames, stats.salvaged_frames), (0, 0));
    }

    /// Lost, late, twice, at any time: each segment that comes out is one that was sent, and
    /// they come in the order in which they were sent.
    #[test]
    fn whatever_happens_on_the_way_no_byte_of_a_hole_comes_out(
        geometry in any_geometry(),
        shapes in any_shapes(),
        fates in proptest::collection::vec((0u8..20, 0usize..300, 0u64..60), 50),
        twice in any::<Index>(),
        run_len in 1usize..70,
    ) {
        let stream = send_frames(geometry, frames(&shapes), |n| n % 4 == 0);
        let fate = |at: usize| fates[at * 31 % fates.len()];
        let place = |at: usize| if fate(at).0 == 1 { at + fate(at).1 } else { at };
        let mut order: Vec<(usize, &Carried)> =
            stream.datagrams.iter().enumerate().filter(|(at, _)| fate(*at).0 != 0).collect();
        order.extend(stream.datagrams.get(twice.index(stream.datagrams.len())).map(|d| (9, d)));
        order.sort_by_key(|(at, _)| place(*at));
        let mut receiver = Receiver::new();
        let mut now_us = 0;
        for run in order.chunks(run_len) {
            now_us += fate(run[0].0).2 * HOLE_AGE_US / 100;
            receiver.feed(run.iter().map(|(_, datagram)| *datagram), now_us);
        }
        let (got, _) = receiver.finish();
        let sent = cut_all(&stream.survivors(&[]));
        let mut sent = sent.iter();
        for segment in cut_all(&got) {
            prop_assert!(sent.any(|other| *other == segment));
        }
    }
}
