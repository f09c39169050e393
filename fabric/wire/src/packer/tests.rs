use super::*;
use crate::{TAG_LEN, UDP_PAYLOAD_MAX, VnicId};
use wireonce_frame::FRAME_LEN_MAX;

struct Bench {
    packer: Packer,
    pool: TrainPool,
    full: VecDeque<Train>,
}

impl Bench {
    fn new(datagram_len: usize, tag_len: usize) -> Self {
        let geometry = Geometry::new(datagram_len, tag_len).unwrap();
        let path = PathIndex::new(1, 2, 3).unwrap();
        Self {
            packer: Packer::new(path, 5, geometry, 100),
            pool: TrainPool::new(8),
            full: VecDeque::new(),
        }
    }

    fn put(&mut self, frame: &[u8]) -> Span {
        let [to, from] = [7, 9].map(|id| Endpoint::Vnic(VnicId::new(id).unwrap()));
        let mut frame = SliceSource::new(frame);
        self.packer.put(to, from, Offload::default(), &mut frame, &mut self.pool, &mut self.full)
    }

    fn close(&mut self) -> Train {
        self.packer.close().unwrap()
    }
}

fn headers(train: &mut Train) -> Vec<DatagramHeader> {
    train.datagrams().map(|d| DatagramHeader::parse(d.header).unwrap().0).collect()
}

#[test]
fn one_small_frame_makes_one_short_datagram() {
    let mut bench = Bench::new(1400, TAG_LEN);
    assert_eq!(bench.put(&[0xaa; 60]), Span { first: 100, last: 100 });
    assert!(bench.packer.is_open());
    let mut train = bench.close();
    assert!(!bench.packer.is_open());
    assert_eq!(train.bytes().len(), 16 + 24 + 60 + 16);
    assert_eq!(
        (train.count(), train.first_packet_number(), train.last_packet_number()),
        (1, 100, 100)
    );
    let datagram = train.datagrams().next().unwrap();
    assert_eq!(datagram.packet_number, 100);
    assert_eq!(datagram.payload[24..], [0xaa; 60]);
    assert_eq!(datagram.tag, [0; 16]);
    let header = headers(&mut train)[0];
    assert_eq!((header.epoch, header.first_block, header.kind), (5, 0, Kind::Data));
    assert_eq!(header.path, PathIndex::new(1, 2, 3).unwrap());
    assert!(bench.packer.close().is_none());
}

#[test]
fn a_block_runs_on_over_datagrams_and_trains() {
    let mut bench = Bench::new(1400, 0);
    let per_train = u64::try_from(bench.packer.geometry().datagrams_per_train()).unwrap();
    assert_eq!(per_train, 46);
    let span = bench.put(&[1; FRAME_LEN_MAX]);
    assert_eq!((span.first, span.last), (100, 147));
    let span = bench.put(&[2; 10]);
    assert_eq!((span.first, span.last), (147, 147));
    assert_eq!(bench.full.len(), 1);
    let mut first = bench.full.pop_front().unwrap();
    let found = headers(&mut first);
    assert_eq!(found.len(), 46);
    assert_eq!(found[0].first_block, 0);
    assert!(found[1..].iter().all(|h| h.first_block == NO_BLOCK));
    assert!(found.iter().zip(100..).all(|(h, number)| h.packet_number == number));
    let mut second = bench.close();
    let found = headers(&mut second);
    let end = FRAME_LEN_MAX + 24 - 47 * 1384;
    assert_eq!(usize::from(found[1].first_block), end);
    assert_eq!(second.bytes().len(), 1400 + 16 + end + 24 + 10);
}

#[test]
fn a_header_does_not_straddle_and_the_pad_is_zero_in_a_used_buffer() {
    let mut bench = Bench::new(512, TAG_LEN);
    // Dirty the only buffer from end to end.
    let mut dirty = bench.pool.get(bench.packer.geometry(), 0);
    dirty.buffer.fill(0xee);
    bench.pool.put(dirty);
    // The payload has 480 bytes: 24 + 433 leave 23, one too few for a header.
    bench.put(&[1; 433]);
    let span = bench.put(&[2; 5]);
    assert_eq!((span.first, span.last), (101, 101));
    let mut train = bench.close();
    let datagrams: Vec<_> = train.datagrams().collect();
    assert_eq!(datagrams[0].payload[457..], [0; 23]);
    assert_eq!(datagrams[0].tag, [0; 16]);
    assert_eq!(datagrams[1].tag, [0; 16]);
    assert!(!train.bytes().contains(&0xee));
}

#[test]
fn a_header_may_take_the_last_bytes_of_a_datagram() {
    let mut bench = Bench::new(512, TAG_LEN);
    bench.put(&[1; 480 - 24 - 24]);
    let span = bench.put(&[2; 5]);
    assert_eq!((span.first, span.last), (100, 101));
    let found = headers(&mut bench.close());
    assert_eq!((found[0].first_block, found[1].first_block), (0, NO_BLOCK));
}

#[test]
fn a_train_is_full_as_soon_as_no_block_fits() {
    let mut bench = Bench::new(512, 0);
    let payload = bench.packer.geometry().payload_len();
    for room_left in [0, 23] {
        bench.put(&vec![1; 64 * payload - 24 - room_left]);
        assert_eq!(bench.full.len(), 1, "room {room_left}");
        assert!(!bench.packer.is_open());
        let train = bench.full.pop_front().unwrap();
        assert_eq!((train.count(), train.bytes().len()), (64, 64 * 512 - room_left));
        bench.pool.put(train);
    }
    bench.put(&vec![1; 64 * payload - 24 - 24]);
    assert!(bench.full.is_empty() && bench.packer.is_open());
}

#[test]
fn frames_that_no_block_can_carry_are_left_out() {
    let mut bench = Bench::new(1400, 0);
    assert!(bench.put(&[]).is_none());
    assert!(bench.put(&[0; FRAME_LEN_MAX + 1]).is_none());
    assert!(bench.packer.put_link(&[0; 4097], &mut bench.pool, &mut bench.full).is_none());
    assert!(!bench.packer.is_open());
    assert_eq!(bench.packer.next_packet_number(), 100);
}

#[test]
fn epoch_and_geometry_change_between_trains() {
    let mut bench = Bench::new(1400, 0);
    bench.put(&[1; 60]);
    assert_eq!(bench.packer.set_epoch(6, 0).unwrap().count(), 1);
    bench.put(&[1; 60]);
    let small = Geometry::new(1200, TAG_LEN).unwrap();
    let mut old = bench.packer.set_geometry(small).unwrap();
    assert_eq!((old.datagram_len(), headers(&mut old)[0].epoch), (1400, 6));
    bench.put(&[1; 60]);
    let mut new = bench.close();
    assert_eq!((new.datagram_len(), new.first_packet_number()), (1200, 1));
    assert_eq!(headers(&mut new)[0].packet_number, 1);
}

#[test]
fn trains_needed_is_exact() {
    for (datagram_len, tag_len) in [(512, 0), (1400, 16), (8972, 16), (UDP_PAYLOAD_MAX, 0)] {
        let mut bench = Bench::new(datagram_len, tag_len);
        for step in 0..2000_usize {
            let len = 1 + step * 7919 % FRAME_LEN_MAX;
            let needed = bench.packer.trains_needed(len);
            let before = bench.pool.in_use();
            bench.put(&vec![1; len]);
            assert_eq!(bench.pool.in_use() - before, needed, "{datagram_len}, {step}");
            for train in bench.full.drain(..) {
                bench.pool.put(train);
            }
            if step % 5 == 0 {
                bench.packer.close().into_iter().for_each(|train| bench.pool.put(train));
            }
        }
    }
}

#[test]
fn packet_numbers_at_the_top_do_not_panic() {
    let mut bench = Bench::new(512, 0);
    assert!(bench.packer.set_epoch(0, u64::MAX).is_none());
    let span = bench.put(&[1; 600]);
    assert_eq!((span.first, span.last), (u64::MAX, 0));
    assert_eq!(bench.close().last_packet_number(), 0);
}
