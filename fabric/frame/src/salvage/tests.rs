use super::*;
use crate::checksum::verify;
use crate::headers::ethertype;
use crate::sample::Sample;
use crate::segment::segment;
use crate::{GsoKind, Layer3};
use proptest::prelude::*;
use std::{ops::Range, slice};

fn large(sample: Sample, size: u16, ecn: bool) -> (Vec<u8>, Offload) {
    let (frame, request) = sample.build_open();
    let headers = Headers::parse(&frame, frame.len()).unwrap();
    let kind = if headers.layer3 == Layer3::Ipv4 { GsoKind::TcpV4 } else { GsoKind::TcpV6 };
    let gso = Some(Gso { kind, size, ecn });
    (frame, Offload { checksum: Some(request), checksum_valid: false, gso })
}

/// What a wire would have carried of the frame.
fn cut(frame: &FrameRef<'_>) -> Vec<Vec<u8>> {
    let mut segments = Vec::new();
    segment(frame, &mut Vec::new(), &mut |bytes: &[u8]| segments.push(bytes.to_vec())).unwrap();
    segments
}

/// The ranges of `frame` that are not in `holes`, which are in order.
fn arrived<'a>(frame: &'a [u8], holes: &[Range<usize>]) -> Vec<Arrived<'a>> {
    let mut at = 0;
    let mut ranges = Vec::new();
    for hole in holes.iter().chain([&(frame.len()..frame.len())]) {
        if hole.start > at {
            ranges.push(Arrived { at, bytes: &frame[at..hole.start] });
        }
        at = at.max(hole.end);
    }
    ranges
}

/// The pieces of a frame, each with its offload.
type Pieces = Vec<(Vec<u8>, Offload)>;

fn save(
    frame: &[u8],
    offload: &Offload,
    holes: &[Range<usize>],
) -> Result<(Saved, Pieces), SalvageError> {
    let mut pieces = Pieces::new();
    let ranges = arrived(frame, holes);
    let saved = salvage(offload, frame.len(), ranges, &mut |piece| {
        pieces.push((piece.parts().concat(), piece.offload));
    })?;
    Ok((saved, pieces))
}

/// [`save`] with one hole.
fn save_but(
    frame: &[u8],
    offload: &Offload,
    hole: Range<usize>,
) -> Result<(Saved, Pieces), SalvageError> {
    save(frame, offload, slice::from_ref(&hole))
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let shape = (any::<bool>(), 0..10usize, 0..3u8, any::<bool>());
    let tcp = (any::<u32>(), any::<u8>(), 0..10usize);
    (shape, tcp, any::<u16>(), prop::collection::vec(any::<u8>(), 1..9000)).prop_map(
        |((v4, ip_words, tags, extended), (sequence, flags, words), id, payload)| {
            let mut sample = match (v4, extended) {
                (true, _) => Sample::tcp4().ipv4_options(vec![1; ip_words * 4]).ipv4_id(id),
                (false, true) => Sample::tcp6().extension(60, vec![0; 8]),
                (false, false) => Sample::tcp6(),
            };
            for _ in 0..tags {
                sample = sample.tag(ethertype::VLAN, 7);
            }
            sample.tcp(sequence, flags, vec![1; words * 4]).payload(payload)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_saved_is_what_the_whole_frame_would_have_been_cut_to(
        sample in any_sample(),
        size in 8u16..1500,
        ecn in any::<bool>(),
        holes in prop::collection::vec((any::<usize>(), 1usize..3000), 0..5),
    ) {
        let (frame, offload) = large(sample, size, ecn);
        let headers = Headers::parse(&frame, frame.len()).unwrap();
        let header_len = headers.header_len();
        let place = |(at, len): &(usize, usize)| {
            let at = header_len + at % (frame.len() - header_len);
            at..(at + len).min(frame.len())
        };
        let mut holes: Vec<_> = holes.iter().map(place).collect();
        holes.sort_by_key(|hole| hole.start);
        // Lost bytes are not what they were.
        let mut seen = frame.clone();
        holes.iter().for_each(|hole| seen[hole.clone()].fill(0xdd));
        let (saved, pieces) = save(&seen, &offload, &holes).unwrap();

        let whole = cut(&FrameRef::new(&[&frame], offload));
        let size = usize::from(size);
        let is_whole = |index: &usize| {
            let from = header_len + index * size;
            let to = (from + size).min(frame.len());
            holes.iter().all(|hole| hole.end <= from || hole.start >= to)
        };
        let expected: Vec<_> =
            (0..whole.len()).filter(is_whole).map(|index| whole[index].clone()).collect();
        let mut got = Vec::new();
        for (bytes, offload) in &pieces {
            let parts = [&bytes[..]];
            let piece = FrameRef::new(&parts, *offload);
            prop_assert!(offload.check(bytes, bytes.len(), u16::MAX).is_ok());
            let segments = cut(&piece);
            prop_assert_eq!(offload.gso.is_some(), segments.len() > 1);
            prop_assert_eq!(offload.gso.is_some_and(|gso| gso.ecn),
                ecn && got.is_empty() && segments.len() > 1 && is_whole(&0));
            got.extend(segments);
        }
        prop_assert!(got.iter().all(|segment| verify(segment) == Some(true)));
        prop_assert!(got == expected, "{} of {} segments", got.len(), expected.len());
        let lost = whole.len() - expected.len();
        prop_assert_eq!(usize::try_from(saved.segments).unwrap(), expected.len());
        prop_assert_eq!(usize::try_from(saved.lost_segments).unwrap(), lost);
        prop_assert_eq!(usize::try_from(saved.frames).unwrap(), pieces.len());
        prop_assert!(pieces.len() <= holes.len() + 1);
    }

    #[test]
    fn ranges_that_make_no_sense_do_no_harm(
        sample in any_sample(),
        size in any::<u16>(),
        claimed in 0usize..70_000,
        ranges in prop::collection::vec((0usize..70_000, 0usize..9000), 0..5),
    ) {
        let (frame, offload) = large(sample, size, false);
        let ranges = ranges.iter().map(|&(at, len)| Arrived {
            at,
            bytes: &frame[..len.min(frame.len())],
        });
        let first = Arrived { at: 0, bytes: &frame };
        let _ = salvage(&offload, claimed, ranges.clone(), &mut |_| {});
        let _ = salvage(&offload, frame.len(), iter::once(first).chain(ranges), &mut |_| {});
    }
}

/// A frame of ten segments of 100 bytes and one of 50, and where its payload begins.
fn eleven() -> (Vec<u8>, Offload, usize) {
    let flags = CWR | FIN | PSH | 0x10;
    let sample = Sample::tcp4().tcp(u32::MAX - 150, flags, vec![]).ipv4_id(0xfffe);
    let (frame, offload) = large(sample.payload(vec![3; 1050]), 100, true);
    (frame, offload, 54)
}

#[test]
fn the_runs_on_both_sides_of_a_hole_become_frames() {
    let (frame, offload, start) = eleven();
    // Touches segments 3 and 4.
    let (saved, pieces) = save_but(&frame, &offload, start + 399..start + 401).unwrap();
    assert_eq!(saved, Saved { frames: 2, segments: 9, lost_segments: 2 });
    let [(before, first), (behind, last)] = &pieces[..] else { panic!("{}", pieces.len()) };
    assert_eq!((before.len(), behind.len()), (start + 300, start + 550));
    let flags = |bytes: &[u8]| bytes[34 + 13];
    assert_eq!((flags(before), flags(behind)), (CWR | 0x10, FIN | PSH | 0x10));
    let ecn = |offload: &Offload| offload.gso.map(|gso| (gso.size, gso.ecn));
    assert_eq!((ecn(first), ecn(last)), (Some((100, true)), Some((100, false))));
    // Identification and sequence number go round.
    assert_eq!(behind[18..20], [0, 3]);
    assert_eq!(behind[38..42], (500 - 151_u32).to_be_bytes());
}

#[test]
fn a_single_segment_asks_only_for_its_checksum() {
    let (frame, offload, start) = eleven();
    let holes = [start + 100..start + 900, start + 1000..start + 1001];
    let (saved, pieces) = save(&frame, &offload, &holes).unwrap();
    assert_eq!(saved, Saved { frames: 2, segments: 2, lost_segments: 9 });
    for (bytes, piece) in pieces {
        assert_eq!((piece.gso, piece.checksum), (None, offload.checksum));
        assert_eq!(bytes.len(), start + 100);
        let mut scratch = Vec::new();
        let frame = &[&bytes[..]];
        let done = crate::segment::finish_checksum(&FrameRef::new(frame, piece), &mut scratch);
        assert_eq!(verify(done.unwrap()), Some(true));
    }
}

#[test]
fn a_hole_that_leaves_no_segment_whole_leaves_nothing() {
    let (frame, offload, start) = eleven();
    let (saved, pieces) = save_but(&frame, &offload, start + 99..start + 1001).unwrap();
    assert_eq!((saved, pieces.len()), (Saved { lost_segments: 11, ..Saved::default() }, 0));
}

#[test]
fn what_cannot_be_saved_is_refused() {
    let (frame, offload, start) = eleven();
    let fails =
        |offload: &Offload, hole: Range<usize>| save_but(&frame, offload, hole).unwrap_err();
    let hole = start + 200..start + 300;
    assert_eq!(fails(&offload, 0..1), SalvageError::Headers);
    assert_eq!(fails(&offload, start - 20..start), SalvageError::Headers);
    assert_eq!(fails(&offload, start - 1..start), SalvageError::Headers);
    let whole = Offload { gso: None, ..offload };
    assert_eq!(fails(&whole, hole.clone()), SalvageError::Whole);
    let closed = Offload { checksum: None, ..offload };
    assert_eq!(
        fails(&closed, hole.clone()),
        SalvageError::Offload(OffloadError::GsoWithoutChecksum)
    );
    let kind = Some(Gso { kind: GsoKind::TcpV6, size: 100, ecn: false });
    let other = Offload { gso: kind, ..offload };
    assert_eq!(fails(&other, hole.clone()), SalvageError::Offload(OffloadError::GsoProtocol));
    let tiny = Some(Gso { kind: GsoKind::TcpV4, size: 7, ecn: false });
    let tiny = Offload { gso: tiny, ..offload };
    assert!(matches!(
        fails(&tiny, hole),
        SalvageError::Offload(OffloadError::GsoSize { size: 7, .. })
    ));
}

#[test]
fn options_that_are_lost_lose_the_frame() {
    let sample = Sample::tcp4().tcp(1, 0x10, vec![1; 40]).payload(vec![0; 500]);
    let (frame, offload) = large(sample, 100, false);
    let lost = save_but(&frame, &offload, 60..61).unwrap_err();
    assert!(matches!(lost, SalvageError::Headers | SalvageError::Offload(_)), "{lost}");
    let lost = save_but(&frame, &offload, 93..94).unwrap_err();
    assert_eq!(lost, SalvageError::Headers);
    assert!(save_but(&frame, &offload, 94..95).is_ok());
}
