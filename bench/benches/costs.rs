//! What a frame costs in instructions, step by step: `cargo bench -p wireonce-bench`.
//!
//! A shared machine cannot time what takes some tens of nanoseconds, but callgrind
//! counts the same instructions every time. Each case does its step for [`FRAMES`]
//! frames (or says otherwise), so a figure divided by that is the cost of one.
//! Wants `valgrind` and `gungraun-runner` of the version in `Cargo.lock`.

#![expect(
    unused_qualifications,
    missing_docs,
    reason = "gungraun's macros write the code that lacks it"
)]

use std::{collections::VecDeque, hint::black_box, sync::Arc};

use gungraun::{library_benchmark, library_benchmark_group, main};
use virtio_bindings::bindings::virtio_config::{VIRTIO_F_IN_ORDER, VIRTIO_F_VERSION_1};
use vm_memory::{Bytes as _, GuestAddress};
use wireonce_backend::{
    net::{AddressSet, PortPolicy, admit},
    virtqueue::{Delivered, GuestMemory, MappedMemory, Next, RingConfig, RxRing, TxFrame, TxRing},
};
use wireonce_frame::{
    FrameRef, FrameSource as _, Headers, Offload, OffloadFeatures, SliceSource,
    sample::{SAMPLE_SOURCE, Sample},
};
use wireonce_link::{OpeningKey, SealingKey};
use wireonce_wire::{
    DATAGRAM_HEADER_LEN, Datagram, DatagramHeader, Endpoint, Geometry, Packer, PathIndex, Train,
    TrainPool, Unpacker, VnicId,
};

/// Frames of one case.
const FRAMES: u16 = 256;
const AVAIL: u64 = 0x2000;
const USED: u64 = 0x4000;
const BUFFERS: u64 = 0x1_0000;
const BUFFER_LEN: u64 = 2048;
const MEMORY_LEN: usize = 0x10_0000;
/// A fabric of 1500 bytes over IPv4.
const DATAGRAM_LEN: usize = 1472;

/// A UDP frame of `len` bytes.
fn frame_of(len: usize) -> Vec<u8> {
    let empty = Sample::udp4().build().len();
    Sample::udp4().payload(vec![7; len - empty]).build()
}

/// Guest memory whose ring offers [`FRAMES`] buffers: `frame` in each, or nothing.
fn guest(frame: Option<&[u8]>) -> Arc<MappedMemory> {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_LEN)]).expect("memory");
    let write = |bytes: &[u8], at: u64| {
        memory.write_slice(bytes, GuestAddress(at)).expect("inside the memory");
    };
    for index in 0..FRAMES {
        let (at, buffer) = (u64::from(index) * 16, BUFFERS + u64::from(index) * BUFFER_LEN);
        let len = frame.map_or(BUFFER_LEN, |frame| frame.len() as u64 + 12);
        write(&buffer.to_le_bytes(), at);
        write(&u32::try_from(len).expect("short").to_le_bytes(), at + 8);
        write(&(u16::from(frame.is_none()) * 2).to_le_bytes(), at + 12);
        write(&index.to_le_bytes(), AVAIL + 4 + u64::from(index) * 2);
        frame.inspect(|frame| write(frame, buffer + 12));
    }
    // The driver watches the used index and wants no interrupts.
    write(&1_u16.to_le_bytes(), AVAIL);
    write(&FRAMES.to_le_bytes(), AVAIL + 2);
    Arc::new(MappedMemory::new(Arc::new(memory)).expect("mapped"))
}

fn config() -> RingConfig {
    RingConfig {
        size: FRAMES,
        descriptor_table: 0,
        avail_ring: AVAIL,
        used_ring: USED,
        base: 0,
        features: 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_F_IN_ORDER,
    }
}

fn transmit_ring(len: usize) -> (TxRing, TxFrame, Vec<u8>) {
    let ring = TxRing::new(guest(Some(&frame_of(len))), &config()).expect("a ring");
    (ring, TxFrame::new(), vec![0; 2048])
}

#[library_benchmark]
#[bench::of_64_bytes(transmit_ring(64))]
#[bench::of_1450_bytes(transmit_ring(1450))]
fn ring_pop((mut ring, mut frame, mut body): (TxRing, TxFrame, Vec<u8>)) -> Vec<u8> {
    while ring.next(&mut frame).expect("a good ring") == Next::Frame {
        let len = frame.frame_len();
        frame.read(&mut body[..len]);
    }
    ring.publish_and_notify();
    body
}

fn receive_ring(len: usize) -> (RxRing, Vec<u8>) {
    (RxRing::new(guest(None), &config()).expect("a ring"), frame_of(len))
}

#[library_benchmark]
#[bench::of_64_bytes(receive_ring(64))]
#[bench::of_1450_bytes(receive_ring(1450))]
fn ring_push((mut ring, bytes): (RxRing, Vec<u8>)) -> bool {
    let parts = [&bytes[..]];
    let frame = FrameRef::new(&parts, Offload::default());
    while matches!(ring.deliver([0; 12], &frame), Ok(Delivered::Yes { .. })) {}
    ring.publish_and_notify()
}

fn guarded() -> (PortPolicy, Vec<u8>) {
    (PortPolicy::strict(SAMPLE_SOURCE, AddressSet::any(), 1500), frame_of(64))
}

#[library_benchmark]
#[bench::of_64_bytes(guarded())]
fn guard((policy, frame): (PortPolicy, Vec<u8>)) -> usize {
    let pass = |frame: &[u8]| {
        let headers = Headers::parse(frame, frame.len()).ok()?;
        admit(&policy, &[0; 12], &headers, frame, frame.len(), OffloadFeatures::ALL).ok()
    };
    (0..FRAMES).filter(|_| pass(black_box(&frame)).is_some()).count()
}

struct Packing {
    packer: Packer,
    pool: TrainPool,
    full: VecDeque<Train>,
    frame: Vec<u8>,
}

fn packing(len: usize) -> Packing {
    let mut pool = TrainPool::new(64);
    let geometry = Geometry::new(DATAGRAM_LEN, 16).expect("a shape");
    // Buffers as they are after the first round: allocated.
    let spare: Vec<_> = (0..8).map(|_| pool.get(geometry, 0)).collect();
    spare.into_iter().for_each(|train| pool.put(train));
    let index = PathIndex::new(1, 0, 0).expect("a path");
    let packer = Packer::new(index, 0, geometry, 1);
    Packing { packer, pool, full: VecDeque::with_capacity(64), frame: frame_of(len) }
}

fn endpoint(id: u64) -> Endpoint {
    Endpoint::Vnic(VnicId::new(id).expect("an id"))
}

fn pack(mut to: Packing) -> Packing {
    let (destination, source) = (endpoint(1), endpoint(2));
    for _ in 0..FRAMES {
        let Packing { packer, pool, full, frame } = &mut to;
        let mut frame = SliceSource::new(frame);
        packer.put(destination, source, Offload::default(), &mut frame, pool, full);
    }
    to.full.extend(to.packer.close());
    to
}

#[library_benchmark]
#[bench::of_64_bytes(packing(64))]
#[bench::of_1450_bytes(packing(1450))]
fn block_pack(to: Packing) -> Packing {
    pack(to)
}

fn packed(len: usize) -> (Vec<u8>, Unpacker) {
    let done = pack(packing(len));
    // One train: what one receive brings.
    (done.full.front().expect("a train").bytes().to_vec(), Unpacker::new(1))
}

#[library_benchmark]
#[bench::of_64_bytes(packed(64))]
#[bench::train_of_1450_bytes(packed(1450))]
fn block_unpack((train, mut unpacker): (Vec<u8>, Unpacker)) -> usize {
    let datagrams: Vec<_> = train
        .chunks(DATAGRAM_LEN)
        .filter_map(|bytes| {
            let (header, _) = DatagramHeader::parse(bytes).ok()?;
            let payload = &bytes[DATAGRAM_HEADER_LEN..bytes.len() - 16];
            let DatagramHeader { packet_number, first_block, .. } = header;
            Some(Datagram { packet_number, first_block, payload })
        })
        .collect();
    let mut len = 0;
    unpacker.feed(&datagrams, 0, &mut |_, parts| {
        len += parts.iter().map(|part| part.len()).sum::<usize>();
    });
    len
}

fn sealing() -> (SealingKey, Vec<u8>) {
    (SealingKey::new(&[7; 32]).expect("a key"), vec![7; DATAGRAM_LEN - DATAGRAM_HEADER_LEN])
}

// One datagram.
#[library_benchmark]
#[bench::of_1472_bytes(sealing())]
fn seal((key, mut datagram): (SealingKey, Vec<u8>)) -> Vec<u8> {
    let (payload, tag) = datagram.split_last_chunk_mut().expect("longer than a tag");
    key.seal(1, &[0; DATAGRAM_HEADER_LEN], payload, tag).expect("sealed");
    datagram
}

fn opening() -> (OpeningKey, Vec<u8>) {
    (OpeningKey::new(&[7; 32]).expect("a key"), seal_one())
}

fn seal_one() -> Vec<u8> {
    let (key, mut datagram) = sealing();
    let (payload, tag) = datagram.split_last_chunk_mut().expect("longer than a tag");
    key.seal(1, &[0; DATAGRAM_HEADER_LEN], payload, tag).expect("sealed");
    datagram
}

// One datagram.
#[library_benchmark]
#[bench::of_1472_bytes(opening())]
fn open((key, mut datagram): (OpeningKey, Vec<u8>)) -> usize {
    key.open(1, &[0; DATAGRAM_HEADER_LEN], &mut datagram).expect("opened")
}

library_benchmark_group!(name = ring; benchmarks = ring_pop, ring_push, guard);
library_benchmark_group!(name = wire; benchmarks = block_pack, block_unpack, seal, open);
main!(library_benchmark_groups = ring, wire);
