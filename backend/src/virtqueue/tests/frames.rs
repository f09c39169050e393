//! Frames over transmit and receive rings.

use proptest::prelude::*;
use wireonce_frame::{FRAME_LEN_MAX, FrameRef, FrameSource as _, HEAD_LEN, Offload};

use super::driver::{Driver, END, HIGH, INDIRECT_DESC, LOW, MRG_RXBUF, START, WRITE};
use crate::virtqueue::{ChainFault, Delivered, Next, RingError, RxRing, TxFrame, TxRing};

const HEADER: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0xee, 0xee];

fn tx(driver: &Driver) -> TxRing {
    TxRing::new(driver.mapped(), &driver.config).unwrap()
}

fn rx(driver: &Driver) -> RxRing {
    RxRing::new(driver.mapped(), &driver.config).unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

fn len32(bytes: &[u8]) -> u32 {
    bytes.len().try_into().unwrap()
}

/// The header that the guest must find.
fn header_with(buffers: u16) -> Vec<u8> {
    [&HEADER[..10], &buffers.to_le_bytes()].concat()
}

#[test]
fn chain_of_0_to_25_bytes_is_returned_not_wedged() {
    let mut driver = Driver::new(64);
    let mut ring = tx(&driver);
    let mut frame = TxFrame::new();
    for len in 0..=26u16 {
        driver.offer_chain(len, &[(LOW, len.into(), 0)]);
    }
    for _ in 0..=25 {
        assert_eq!(ring.next(&mut frame), Ok(Next::Short));
    }
    assert_eq!(ring.next(&mut frame), Ok(Next::Frame), "26 bytes are a frame");
    assert_eq!(frame.frame_len(), 14);
    assert_eq!(ring.next(&mut frame), Ok(Next::Empty));
    ring.publish_and_notify();
    let expected: Vec<_> = (0..=26).map(|head| (head, 0)).collect();
    assert_eq!(driver.take_used(), expected);
}

#[test]
fn header_in_12_one_byte_descriptors() {
    let mut driver = Driver::new(32);
    let bytes = pattern(12 + 60);
    driver.write(LOW, &bytes);
    let mut buffers: Vec<_> = (0..12).map(|i| (LOW + i, 1, 0)).collect();
    buffers.push((LOW + 12, 60, 0));
    driver.offer_chain(0, &buffers);
    let (mut ring, mut frame) = (tx(&driver), TxFrame::new());
    assert_eq!(ring.next(&mut frame), Ok(Next::Frame));
    assert_eq!(frame.header()[..], bytes[..12]);
    assert_eq!(frame.head(), &bytes[12..]);
}

#[test]
fn header_split_over_regions() {
    let mut driver = Driver::new(8);
    let bytes = pattern(300);
    driver.write(HIGH - 5, &bytes);
    driver.offer_chain(0, &[(HIGH - 5, 300, 0)]);
    let (mut ring, mut frame) = (tx(&driver), TxFrame::new());
    assert_eq!(ring.next(&mut frame), Ok(Next::Frame));
    assert_eq!(frame.header()[..], bytes[..12]);
    let mut read = vec![0; 288];
    frame.read(&mut read);
    assert_eq!(read, bytes[12..]);
}

#[test]
fn longest_frame_is_served_and_a_longer_one_is_returned() {
    let mut driver = Driver::new(8);
    let most = u32::try_from(12 + FRAME_LEN_MAX).unwrap();
    driver.offer_chain(0, &[(LOW, most, 0)]);
    driver.offer_chain(1, &[(LOW, most + 1, 0)]);
    driver.offer_chain(2, &[(LOW, 12 + 14, 0)]);
    let (mut ring, mut frame) = (tx(&driver), TxFrame::new());
    assert_eq!(ring.next(&mut frame), Ok(Next::Frame));
    assert_eq!(frame.frame_len(), FRAME_LEN_MAX);
    assert_eq!(ring.next(&mut frame), Ok(Next::Long));
    assert_eq!(ring.next(&mut frame), Ok(Next::Frame));
    ring.publish_and_notify();
    assert_eq!(driver.take_used(), [(0, 0), (1, 0), (2, 0)]);
}

#[test]
fn bad_chain_between_frames_is_returned_and_service_goes_on() {
    let mut driver = Driver::new(8);
    driver.offer_chain(0, &[(END, 100, 0)]);
    driver.offer_chain(1, &[(LOW, 100, 0)]);
    let (mut ring, mut frame) = (tx(&driver), TxFrame::new());
    assert_eq!(ring.next(&mut frame), Ok(Next::Bad));
    assert_eq!(ring.next(&mut frame), Ok(Next::Frame));
    ring.publish_and_notify();
    assert_eq!(driver.take_used(), [(0, 0), (1, 0)]);
}

#[test]
fn frame_that_is_put_back_comes_again() {
    let mut driver = Driver::new(8);
    driver.offer_chain(5, &[(LOW, 100, 0)]);
    let (mut ring, mut frame) = (tx(&driver), TxFrame::new());
    assert_eq!(ring.next(&mut frame), Ok(Next::Frame));
    ring.put_back();
    assert!(ring.publish_and_notify(), "a ring's first decision is always yes");
    assert_eq!(driver.take_used(), []);
    assert_eq!(ring.next(&mut frame), Ok(Next::Frame));
    ring.publish_and_notify();
    assert_eq!(driver.take_used(), [(5, 0)]);
}

#[test]
fn reading_beyond_the_frame_gives_zeros() {
    let mut driver = Driver::new(8);
    driver.write(LOW, &[7; 1024]);
    driver.offer_chain(0, &[(LOW, 212, 0), (LOW + 212, 100, WRITE)]);
    let (mut ring, mut frame) = (tx(&driver), TxFrame::new());
    assert_eq!(ring.next(&mut frame), Ok(Next::Frame));
    let mut read = [9; 250];
    frame.read(&mut read);
    assert_eq!(read[..200], [7; 200]);
    assert_eq!(read[200..], [0; 50]);
}

#[test]
fn broken_transmit_ring_is_an_error() {
    let mut driver = Driver::new(8);
    driver.offer(8);
    let (mut ring, mut frame) = (tx(&driver), TxFrame::new());
    let error = RingError::HeadOutOfRange { head: 8, size: 8 };
    assert_eq!(ring.next(&mut frame), Err(error));
    assert_eq!(ring.next(&mut frame), Err(error));
}

#[test]
fn single_buffer_delivery_says_one_buffer() {
    let mut driver = Driver::with_features(8, 0);
    driver.write(LOW, &[0x55; 2048]);
    driver.offer_chain(3, &[(LOW, 10, WRITE), (LOW + 100, 1000, WRITE)]);
    let mut ring = rx(&driver);
    let bytes = pattern(60);
    let parts = [&bytes[..7], &[], &bytes[7..]];
    let frame = FrameRef::new(&parts, Offload::default());
    assert_eq!(ring.deliver(HEADER, &frame), Ok(Delivered::Yes { buffers: 1 }));
    assert_eq!(driver.take_used(), [], "not before it is published");
    ring.publish_and_notify();
    assert_eq!(driver.take_used(), [(3, 72)]);
    let written = [header_with(1), bytes].concat();
    assert_eq!(driver.read(LOW, 10), written[..10]);
    assert_eq!(driver.read(LOW + 100, 62), written[10..]);
    // Nothing but header and frame was written.
    assert_eq!(driver.read(LOW + 162, 938), [0x55; 938]);
    assert_eq!(driver.read(LOW + 10, 90), [0x55; 90]);
}

#[test]
fn small_buffer_without_mergeable_is_kept_for_a_smaller_frame() {
    let mut driver = Driver::with_features(8, 0);
    driver.offer_chain(0, &[(LOW, 100, WRITE)]);
    driver.offer_chain(1, &[(LOW, 1000, WRITE)]);
    let mut ring = rx(&driver);
    let bytes = pattern(89);
    let parts = [&bytes[..]];
    let frame = FrameRef::new(&parts, Offload::default());
    assert_eq!(ring.deliver(HEADER, &frame), Ok(Delivered::BufferSmall));
    let parts = [&bytes[..88]];
    let frame = FrameRef::new(&parts, Offload::default());
    assert_eq!(ring.deliver(HEADER, &frame), Ok(Delivered::Yes { buffers: 1 }));
    ring.publish_and_notify();
    assert_eq!(driver.take_used(), [(0, 100)]);
}

#[test]
fn frames_of_a_batch_land_in_their_own_buffers_whatever_those_are() {
    const STEP: u64 = 0x1000;
    let mut driver = Driver::with_features(16, MRG_RXBUF);
    let at = |place: u64| LOW + place * STEP;
    // Whole, cut in two, too small for one frame, not for writing, across a border, whole.
    driver.offer_chain(0, &[(at(0), 2000, WRITE)]);
    driver.offer_chain(1, &[(at(1), 2000, WRITE)]);
    driver.offer_chain(2, &[(at(2), 20, WRITE), (at(2) + 100, 2000, WRITE)]);
    driver.offer_chain(4, &[(at(3), 50, WRITE)]);
    driver.offer_chain(5, &[(at(4), 2000, WRITE)]);
    driver.offer_chain(6, &[(at(5), 2000, 0)]);
    driver.offer_chain(7, &[(HIGH - 30, 2000, WRITE)]);
    driver.offer_chain(8, &[(at(6), 112, WRITE)]);
    let mut ring = rx(&driver);
    let frames: Vec<_> = (0..6_u8).map(|n| vec![n + 1; 100]).collect();
    for (frame, buffers) in frames.iter().zip([1, 1, 1, 2, 1, 1]) {
        let parts = [&frame[..40], &frame[40..]];
        let delivered = ring.deliver(HEADER, &FrameRef::new(&parts, Offload::default()));
        assert_eq!(delivered, Ok(Delivered::Yes { buffers }));
    }
    ring.publish_and_notify();
    let used = [(0, 112), (1, 112), (2, 112), (4, 50), (5, 62), (6, 0), (7, 112), (8, 112)];
    assert_eq!(driver.take_used(), used);
    let written = |n: usize, buffers| [header_with(buffers), frames[n].clone()].concat();
    assert_eq!(driver.read(at(0), 112), written(0, 1));
    assert_eq!(driver.read(at(1), 112), written(1, 1));
    let split = [driver.read(at(2), 20), driver.read(at(2) + 100, 92)].concat();
    assert_eq!(split, written(2, 1));
    let merged = [driver.read(at(3), 50), driver.read(at(4), 62)].concat();
    assert_eq!(merged, written(3, 2));
    assert_eq!(driver.read(HIGH - 30, 112), written(4, 1));
    assert_eq!(driver.read(at(6), 112), written(5, 1));
}

#[test]
fn lack_of_mergeable_buffers_uses_none() {
    let mut driver = Driver::with_features(8, MRG_RXBUF);
    let before = driver.dump();
    for head in 0..3 {
        driver.offer_chain(head, &[(LOW, 100, WRITE)]);
    }
    let mut ring = rx(&driver);
    let bytes = pattern(289);
    let parts = [&bytes[..]];
    let frame = FrameRef::new(&parts, Offload::default());
    assert_eq!(ring.deliver(HEADER, &frame), Ok(Delivered::NoBuffers));
    ring.publish_and_notify();
    assert_eq!(driver.take_used(), []);
    assert_eq!(driver.read(LOW, 4096), before[0x10_0000..0x10_1000], "no byte was written");
    driver.offer_chain(3, &[(LOW, 100, WRITE)]);
    assert_eq!(ring.deliver(HEADER, &frame), Ok(Delivered::Yes { buffers: 4 }));
    ring.publish_and_notify();
    assert_eq!(driver.take_used(), [(0, 100), (1, 100), (2, 100), (3, 1)]);
}

#[test]
fn frame_that_a_full_ring_cannot_hold_is_too_long() {
    let mut driver = Driver::with_features(4, MRG_RXBUF);
    for head in 0..4 {
        driver.offer_chain(head, &[(LOW, 100, WRITE)]);
    }
    let mut ring = rx(&driver);
    let bytes = pattern(400);
    let parts = [&bytes[..]];
    let frame = FrameRef::new(&parts, Offload::default());
    assert_eq!(ring.deliver(HEADER, &frame), Ok(Delivered::BufferSmall));
}

#[test]
fn buffers_of_many_segments_are_not_taken_for_bad_ones() {
    // Chains of 1,000 segments: the fourth would pass a limit of one chain.
    let mut driver = Driver::with_features(4096, MRG_RXBUF);
    for chain in 0..4u16 {
        let buffers: Vec<_> =
            (0..1000).map(|i| (LOW + u64::from(chain) * 1000 + i, 1, WRITE)).collect();
        driver.offer_chain(chain * 1000, &buffers);
    }
    let mut ring = rx(&driver);
    let bytes = pattern(2900);
    let deliver = |ring: &mut RxRing, len: usize| {
        let parts = [&bytes[..len]];
        ring.deliver(HEADER, &FrameRef::new(&parts, Offload::default()))
    };
    assert_eq!(deliver(&mut ring, 2990 + 10 - 12 - 88), Ok(Delivered::Yes { buffers: 3 }));
    ring.publish_and_notify();
    assert_eq!(ring.ring().bad_chains(), 0);
    assert_eq!(driver.take_used(), [(0, 1000), (1000, 1000), (2000, 912)]);
}

#[test]
fn bad_receive_chains_are_returned_and_the_next_is_used() {
    let mut driver = Driver::with_features(8, MRG_RXBUF);
    driver.offer_chain(0, &[(END, 100, WRITE)]);
    driver.offer_chain(1, &[(LOW, 60, WRITE)]);
    driver.offer_chain(2, &[(LOW, 100, 0)]);
    driver.offer_chain(3, &[(0, 0, WRITE)]);
    driver.offer_chain(4, &[(LOW + 100, 60, WRITE)]);
    let mut ring = rx(&driver);
    let bytes = pattern(60);
    let parts = [&bytes[..]];
    let frame = FrameRef::new(&parts, Offload::default());
    assert_eq!(ring.deliver(HEADER, &frame), Ok(Delivered::Yes { buffers: 2 }));
    ring.publish_and_notify();
    assert_eq!(driver.take_used(), [(0, 0), (1, 60), (2, 0), (3, 0), (4, 12)]);
    assert_eq!(ring.ring().bad_chains(), 3);
    assert_eq!(ring.ring().last_fault(), Some(ChainFault::NoBuffer));
    let written = [header_with(2), bytes].concat();
    assert_eq!(driver.read(LOW, 60), written[..60]);
    assert_eq!(driver.read(LOW + 100, 12), written[60..]);
}

#[test]
fn bad_receive_chains_without_end_cost_one_delivery_a_bounded_number() {
    let mut driver = Driver::with_features(64, MRG_RXBUF);
    for head in 0..64 {
        driver.offer_chain(head, &[(END, 100, WRITE)]);
    }
    let mut ring = rx(&driver);
    let frame = FrameRef::new(&[], Offload::default());
    assert_eq!(ring.deliver(HEADER, &frame), Ok(Delivered::BadChain));
    assert_eq!(ring.ring().bad_chains(), 32);
    assert_eq!(ring.deliver(HEADER, &frame), Ok(Delivered::BadChain));
    assert_eq!(ring.deliver(HEADER, &frame), Ok(Delivered::NoBuffers));
    ring.publish_and_notify();
    assert_eq!(driver.take_used(), (0..64).map(|head| (head, 0)).collect::<Vec<_>>());
}

#[test]
fn broken_receive_ring_keeps_nothing() {
    let mut driver = Driver::with_features(8, MRG_RXBUF);
    driver.offer_chain(0, &[(LOW, 20, WRITE)]);
    driver.offer(0);
    let mut ring = rx(&driver);
    let bytes = pattern(60);
    let parts = [&bytes[..]];
    let frame = FrameRef::new(&parts, Offload::default());
    let error = RingError::HeadInFlight { head: 0 };
    assert_eq!(ring.deliver(HEADER, &frame), Err(error));
    assert_eq!(ring.stop(), START, "the base of a successor");
}

proptest! {
    #[test]
    fn transmitted_frame_is_what_the_guest_wrote(
        lens in prop::collection::vec(0u32..3000, 1..20),
        indirect in any::<bool>(),
        reads in prop::collection::vec(1usize..500, 1..8),
    ) {
        let mut driver = Driver::with_features(32, INDIRECT_DESC);
        let total: usize = lens.iter().map(|len| usize::try_from(*len).unwrap()).sum();
        let bytes = pattern(total);
        // Around the border of two regions.
        let mut at = HIGH - u64::try_from(total / 2).unwrap();
        driver.write(at, &bytes);
        let mut buffers = Vec::new();
        for len in &lens {
            buffers.push((at, *len, 0));
            at += u64::from(*len);
        }
        if indirect {
            for (index, (address, len, _)) in (0u16..).zip(&buffers) {
                let last = usize::from(index) + 1 == buffers.len();
                let flags = u16::from(!last);
                driver.write_descriptor(LOW + u64::from(index) * 16, (*address, *len), flags, index + 1);
            }
            driver.offer_chain(9, &[(LOW, u32::try_from(lens.len() * 16).unwrap(), super::driver::INDIRECT)]);
        } else {
            driver.offer_chain(0, &buffers);
        }
        let (mut ring, mut frame) = (tx(&driver), TxFrame::new());
        let next = ring.next(&mut frame).unwrap();
        if total < 26 {
            prop_assert_eq!(next, Next::Short);
        } else {
            prop_assert_eq!(next, Next::Frame);
            prop_assert_eq!(&frame.header()[..], &bytes[..12]);
            let body = &bytes[12..];
            prop_assert_eq!(frame.frame_len(), body.len());
            prop_assert_eq!(frame.head(), &body[..body.len().min(HEAD_LEN)]);
            let (mut read, mut chunks) = (Vec::new(), reads.iter().cycle());
            while read.len() < body.len() {
                let n = (*chunks.next().unwrap()).min(body.len() - read.len());
                let mut part = vec![0; n];
                frame.read(&mut part);
                read.extend(part);
            }
            prop_assert_eq!(read, body);
        }
    }

    #[test]
    fn mergeable_delivery_round_trips(
        frames in prop::collection::vec(prop::collection::vec(0usize..3000, 1..5), 1..20),
        buffer_len in 20u32..2000,
        batch in 1usize..6,
    ) {
        let mut driver = Driver::with_features(256, MRG_RXBUF);
        let buffer = |head: u16| LOW + u64::from(head) * 2048;
        for head in 0..256 {
            driver.offer_chain(head, &[(buffer(head), buffer_len, WRITE)]);
        }
        let mut ring = rx(&driver);
        let mut expected = Vec::new();
        for (number, lens) in frames.iter().enumerate() {
            let total = lens.iter().sum();
            let bytes: Vec<_> = pattern(total).iter().map(|b| b ^ u8::try_from(number).unwrap()).collect();
            let (mut parts, mut rest) = (Vec::new(), &bytes[..]);
            for len in lens {
                let (part, later) = rest.split_at(*len);
                parts.push(part);
                rest = later;
            }
            match ring.deliver(HEADER, &FrameRef::new(&parts, Offload::default())).unwrap() {
                Delivered::Yes { buffers } => {
                    prop_assert_eq!(u32::from(buffers), (12 + len32(&bytes)).div_ceil(buffer_len));
                    expected.push([header_with(buffers), bytes].concat());
                }
                refused => prop_assert!(refused == Delivered::NoBuffers || refused == Delivered::BufferSmall),
            }
            if number % batch == 0 {
                ring.publish_and_notify();
            }
        }
        ring.publish_and_notify();
        // The driver's side: as many buffers as the header of the first says.
        let mut used = driver.take_used().into_iter().map(|(head, len)| {
            let head = u16::try_from(head).unwrap();
            driver.read(buffer(head), usize::try_from(len).unwrap())
        });
        let mut received = Vec::new();
        while let Some(first) = used.next() {
            let buffers = u16::from_le_bytes([first[10], first[11]]);
            let rest = used.by_ref().take(usize::from(buffers) - 1).flatten();
            received.push(first.into_iter().chain(rest).collect::<Vec<_>>());
        }
        prop_assert_eq!(received, expected);
    }
}
