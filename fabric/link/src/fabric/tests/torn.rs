//! A large TCP segment that loses a datagram, from the socket's buffer to the sink.

use super::*;
use wireonce_frame::{FrameRef, Gso, GsoKind, checksum::verify, sample::Sample, segment::segment};
use wireonce_wire::HOLE_AGE_US;

/// A frame of 20 segments, and what is left to do with it.
fn large() -> (Vec<u8>, Offload) {
    let payload = (0..18_000_u32).map(|at| u8::try_from(at % 253).unwrap()).collect();
    let (frame, request) = Sample::tcp4().tcp(1, 0x18, vec![]).payload(payload).build_open();
    let gso = Some(Gso { kind: GsoKind::TcpV4, size: 900, ecn: false });
    (frame, Offload { checksum: Some(request), checksum_valid: false, gso })
}

fn cut(frame: &FrameRef<'_>) -> Vec<Vec<u8>> {
    let mut segments = Vec::new();
    segment(frame, &mut Vec::new(), &mut |bytes: &[u8]| segments.push(bytes.to_vec())).unwrap();
    segments
}

/// What comes out of the timers, cut.
fn tick(receiver: &mut Receiver, now_us: u64) -> Vec<Vec<u8>> {
    let mut segments = Vec::new();
    receiver.tick(now_us, &mut |inbound: Inbound<'_>| {
        assert_eq!(usize::try_from(inbound.header.len).unwrap(), inbound.frame.frame_len());
        segments.extend(cut(&inbound.frame));
    });
    segments
}

#[test]
fn what_is_whole_of_a_torn_frame_comes_when_its_hole_is_final_and_not_before() {
    let [a, b] = sessions();
    let (frame, offload) = large();
    let whole = cut(&FrameRef::new(&[&frame], offload));
    let mut sender = Sender::new(&pair_again(&a), 0, 0);
    let mut datagrams = sender.datagrams_with(std::slice::from_ref(&frame), offload);
    let mut receiver = receiver(&b);
    let lost = datagrams.remove(7);
    assert_eq!(receive(&mut receiver, &datagrams, 50), [] as [Vec<u8>; 0]);
    assert_eq!(receiver.next_hole_us(), Some(50 + HOLE_AGE_US));
    assert_eq!(tick(&mut receiver, 49 + HOLE_AGE_US), [] as [Vec<u8>; 0]);
    let came = tick(&mut receiver, 50 + HOLE_AGE_US);
    assert!(came.iter().all(|segment| verify(segment) == Some(true)));
    // The lost one has parts of two segments.
    assert!(came == [&whole[..7], &whole[9..]].concat(), "{}", came.len());
    assert_eq!(receiver.next_hole_us(), None);

    let path = receiver.sessions[&b.local_index].paths[0].as_ref().unwrap();
    let stats = path.unpack_stats();
    assert_eq!((stats.torn_frames, stats.salvaged_frames, stats.broken_frames), (1, 2, 0));
    assert_eq!((stats.salvaged_segments, stats.lost_segments), (18, 2));
    // It is too late now, and changes nothing but how long the next hole is waited for.
    assert_eq!(receive(&mut receiver, &[lost], 2_000), [] as [Vec<u8>; 0]);
    let datagrams = sender.datagrams_with(&[frame], offload);
    receive(&mut receiver, &datagrams[1..], 3_000);
    assert_eq!(receiver.next_hole_us(), Some(3_000 + HOLE_AGE_US));
}

#[test]
fn a_torn_frame_is_lost_to_its_sender() {
    let [a, b] = sessions();
    let (frame, offload) = large();
    let mut sender = Sender::new(&pair_again(&a), 0, 0);
    let mut datagrams = sender.datagrams_with(&[frame], offload);
    let mut receiver = receiver(&b);
    datagrams.remove(7);
    receive(&mut receiver, &datagrams, 0);
    assert_eq!(tick(&mut receiver, HOLE_AGE_US).len(), 18);
    let path = receiver.sessions.get_mut(&b.local_index).unwrap().paths[0].as_mut().unwrap();
    path.want_report(HOLE_AGE_US, true);
    let evidence = path.report(HOLE_AGE_US).unwrap();
    let mut fates = crate::evidence::Fates::new();
    let count = u64::try_from(datagrams.len()).unwrap() + 1;
    assert_eq!(fates.sent(1..=count, 9, Amount::frame(18_054, 20)), None);
    let mut booked = Vec::new();
    fates.resolve(&evidence, &mut |account, amount, fate| booked.push((account, amount, fate)));
    assert_eq!(booked, [(9, Amount::frame(18_054, 20), Fate::Lost)]);
}
