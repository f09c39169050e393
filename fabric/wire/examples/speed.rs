//! Prints what packing and unpacking cost per frame:
//! `cargo run --release -p wireonce-wire --example speed`
//!
//! One datagram shape, two frame sizes, no system calls. Each figure is the
//! median of some rounds; the copy alone is printed beside it to compare with.
//! A 65,000-byte frame always runs on into the next train, so that unpacking it
//! copies the part of it that came first.

use std::{collections::VecDeque, hint::black_box, time::Instant};
use wireonce_frame::{FRAME_LEN_MAX, Offload, SliceSource};
use wireonce_wire::{
    Datagram, DatagramHeader, Endpoint, Geometry, Packer, PathIndex, TAG_LEN, Train, TrainPool,
    Unpacker, VnicId,
};

const ROUNDS: usize = 31;
const DATAGRAM_LEN: usize = 1472;

/// Runs `round` and returns the median of its times, in ns per frame.
fn median_ns(frames: usize, mut round: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_secs_f64() * 1e9 / f64::from(u32::try_from(frames).unwrap_or(1))
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

struct Sender {
    packer: Packer,
    pool: TrainPool,
    full: VecDeque<Train>,
    ends: [Endpoint; 2],
}

impl Sender {
    fn new() -> Option<Self> {
        let geometry = Geometry::new(DATAGRAM_LEN, TAG_LEN).ok()?;
        let path = PathIndex::new(1, 2, 3)?;
        Some(Self {
            packer: Packer::new(path, 0, geometry, 0),
            pool: TrainPool::new(64),
            full: VecDeque::with_capacity(64),
            ends: [Endpoint::Vnic(VnicId::new(1)?), Endpoint::Vnic(VnicId::new(2)?)],
        })
    }

    fn put(&mut self, frame: &[u8]) {
        let [to, from] = self.ends;
        let offload = Offload::default();
        let mut source = SliceSource::new(frame);
        black_box(self.packer.put(to, from, offload, &mut source, &mut self.pool, &mut self.full));
    }

    fn drop_full(&mut self) {
        self.full.drain(..).for_each(|train| self.pool.put(train));
    }
}

fn pack_ns(frame: &[u8], frames: usize) -> Option<f64> {
    let mut sender = Sender::new()?;
    Some(median_ns(frames, || {
        for _ in 0..frames {
            sender.put(black_box(frame));
            sender.drop_full();
        }
    }))
}

/// Unpacks `frames` frames that lie ready in trains, one run a train.
fn unpack_ns(frame: &[u8], frames: usize) -> Option<f64> {
    let mut sender = Sender::new()?;
    (0..frames).for_each(|_| sender.put(frame));
    sender.full.extend(sender.packer.close());
    let mut trains: Vec<_> = sender.full.drain(..).collect();
    let runs: Vec<Vec<Datagram<'_>>> = trains.iter_mut().map(run_of).collect();
    let mut got = 0;
    let ns = median_ns(frames, || {
        let mut unpacker = Unpacker::new(0);
        for run in &runs {
            unpacker.feed(run, 0, &mut |header, parts| {
                got += 1;
                black_box((header, parts));
            });
        }
    });
    assert_eq!(got, ROUNDS * frames);
    Some(ns)
}

fn run_of(train: &mut Train) -> Vec<Datagram<'_>> {
    let datagrams = train.datagrams().filter_map(|d| {
        let (header, _) = DatagramHeader::parse(d.header).ok()?;
        let DatagramHeader { packet_number, first_block, .. } = header;
        Some(Datagram { packet_number, first_block, payload: d.payload })
    });
    datagrams.collect()
}

/// The copy of a frame into a buffer of a train's size, and nothing else.
fn copy_ns(frame: &[u8], frames: usize) -> f64 {
    let mut buffer = vec![0; FRAME_LEN_MAX];
    median_ns(frames, || {
        for _ in 0..frames {
            let end = frame.len();
            black_box(&mut buffer[..end]).copy_from_slice(black_box(frame));
        }
    })
}

fn main() -> Result<(), &'static str> {
    table().ok_or("the datagram shape is out of range")
}

fn table() -> Option<()> {
    println!("{:>8} {:>12} {:>12} {:>12}", "frame B", "copy ns", "pack ns", "unpack ns");
    for (len, frames) in [(64, 200_000), (1500, 20_000), (65_000, 60)] {
        let frame = vec![0x5a; len];
        let (copy, pack, unpack) =
            (copy_ns(&frame, frames), pack_ns(&frame, frames)?, unpack_ns(&frame, frames)?);
        println!("{len:>8} {copy:>12.1} {pack:>12.1} {unpack:>12.1}");
    }
    Some(())
}
