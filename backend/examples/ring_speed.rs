//! Frames per second that one thread takes out of a transmit ring, against the
//! iterator of `virtio-queue`.
//!
//! A driver thread fills the ring as fast as it can, as a poll-mode driver in a
//! guest would: it writes each frame, offers it, and watches the used index. The
//! device thread copies header and first bytes of each frame and returns it.
//! Both spin, so this needs two idle processors. Cases are interleaved; figures
//! are medians. The time of one cache line's round trip is printed with them,
//! because all figures move with it.
//!
//! Without rounds only the device's own cost is measured, on one processor: the
//! ring is filled, then served with the clock running, best of many turns.
//!
//! ```text
//! cargo run --release -p wireonce-backend --example ring_speed [rounds]
//! ```

use std::{
    error::Error,
    hint::spin_loop,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use virtio_bindings::bindings::{
    virtio_config::{VIRTIO_F_IN_ORDER, VIRTIO_F_VERSION_1},
    virtio_ring::VIRTIO_RING_F_EVENT_IDX,
};
use virtio_queue::{Queue, QueueOwnedT as _, QueueT as _};
use vm_memory::{
    Bytes as _, GuestAddress, GuestMemoryBackend as _, VolatileMemory as _, VolatileSlice,
};
use wireonce_backend::virtqueue::{
    Delivered, GuestMemory, MappedMemory, Next, RingConfig, RxRing, TxFrame, TxRing,
};
use wireonce_frame::{FrameRef, FrameSource as _, Offload};

const SIZE: u16 = 256;
const AVAIL: u64 = 0x2000;
const USED: u64 = 0x4000;
const BUFFERS: u64 = 0x1_0000;
const BUFFER_LEN: u64 = 2048;
const MEMORY_LEN: usize = 0x10_0000;
/// A round is long enough for a stable rate and short enough to interleave.
const ROUND: Duration = Duration::from_millis(500);
/// Frames that the driver offers with one store of its index.
const BURST: u16 = 32;

type AnyError = Box<dyn Error + Send + Sync>;

#[derive(Debug, Clone, Copy)]
enum Case {
    Tx { batch: u32, frame_len: u32 },
    TxIterator { frame_len: u32 },
    Rx { frame_len: u32 },
}

impl Case {
    /// Length of each buffer that the driver offers, and whether we write it.
    fn buffer(self) -> Result<(u32, bool), AnyError> {
        Ok(match self {
            Self::Tx { frame_len, .. } | Self::TxIterator { frame_len } => (frame_len + 12, false),
            Self::Rx { .. } => (u32::try_from(BUFFER_LEN)?, true),
        })
    }
}

fn main() -> Result<(), AnyError> {
    alone()?;
    let rounds = std::env::args().nth(1).map_or(Ok(0), |text| text.parse::<usize>())?;
    if rounds == 0 {
        return Ok(());
    }
    let cases = [
        Case::Tx { batch: 32, frame_len: 64 },
        Case::Tx { batch: 64, frame_len: 64 },
        Case::TxIterator { frame_len: 64 },
        Case::Tx { batch: 64, frame_len: 1450 },
        Case::TxIterator { frame_len: 1450 },
        Case::Rx { frame_len: 64 },
        Case::Rx { frame_len: 1450 },
    ];
    let mut rates = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        println!("cache line round trip {:.0} ns", round_trip_ns());
        for (case, rates) in cases.iter().zip(&mut rates) {
            rates.push(measure(*case)?);
        }
    }
    for (case, rates) in cases.iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        let at = |n: usize| rates.get(n).copied().unwrap_or(0.0) / 1e6;
        let last = rates.len().saturating_sub(1);
        println!("{case:?}: {:.2} Mpps ({:.2}-{:.2})", at(last / 2), at(0), at(last));
    }
    Ok(())
}

/// Frames per second in one round of `case`.
fn measure(case: Case) -> Result<f64, AnyError> {
    let (len, writable) = case.buffer()?;
    let memory = guest(len, writable)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (for_driver, seen) = (Arc::clone(&memory), Arc::clone(&stop));
    let touched = if writable { 0 } else { usize::try_from(len)? };
    let driver = std::thread::spawn(move || drive(&for_driver, touched, &seen));
    let start = Instant::now();
    let frames = match case {
        Case::Tx { batch, .. } => serve_tx(&memory, batch, start)?,
        Case::TxIterator { .. } => serve_iterator(&memory, start)?,
        Case::Rx { frame_len } => serve_rx(&memory, frame_len, start)?,
    };
    let elapsed = start.elapsed();
    stop.store(true, Ordering::Relaxed);
    driver.join().map_err(|_| "the driver thread panicked")??;
    let frames = f64::from(u32::try_from(frames)?);
    Ok(frames / elapsed.as_secs_f64())
}

/// Guest memory with one descriptor and one buffer an entry.
fn guest(len: u32, writable: bool) -> Result<Arc<GuestMemory>, AnyError> {
    let memory = Arc::new(GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_LEN)])?);
    for index in 0..SIZE {
        let at = GuestAddress(u64::from(index) * 16);
        memory.write_obj(BUFFERS + u64::from(index) * BUFFER_LEN, at)?;
        memory.write_obj(len, GuestAddress(at.0 + 8))?;
        memory.write_obj(u16::from(writable) * 2, GuestAddress(at.0 + 12))?;
        memory.write_obj(index, GuestAddress(AVAIL + 4 + u64::from(index) * 2))?;
    }
    // The driver watches the used index and wants no interrupts.
    memory.write_obj(1u16, GuestAddress(AVAIL))?;
    Ok(memory)
}

/// Nanoseconds per frame of the device alone.
fn alone() -> Result<(), AnyError> {
    const TURNS: u16 = 4000;
    for frame_len in [64, 1450] {
        let (memory, bytes) = (guest(frame_len + 12, false)?, vec![7; usize::try_from(frame_len)?]);
        let mut tx = TxRing::new(Arc::new(MappedMemory::new(Arc::clone(&memory))?), &config())?;
        let (mut frame, mut body) = (TxFrame::new(), vec![0; 2048]);
        let best = best_of(TURNS, &memory, || {
            while tx.next(&mut frame)? == Next::Frame {
                let len = frame.frame_len();
                frame.read(body.get_mut(..len).unwrap_or_default());
            }
            tx.publish_and_notify();
            Ok(())
        })?;
        println!("alone: transmit {frame_len} B: {best:.1} ns a frame");

        let memory = guest(u32::try_from(BUFFER_LEN)?, true)?;
        let mut rx = RxRing::new(Arc::new(MappedMemory::new(Arc::clone(&memory))?), &config())?;
        let parts = [&bytes[..]];
        let frame = FrameRef::new(&parts, Offload::default());
        let best = best_of(TURNS, &memory, || {
            while matches!(rx.deliver([0; 12], &frame)?, Delivered::Yes { .. }) {}
            rx.publish_and_notify();
            Ok(())
        })?;
        println!("alone: receive {frame_len} B: {best:.1} ns a frame");
    }
    Ok(())
}

/// Offers the whole ring `turns` times and times `serve`; the best, per frame.
fn best_of(
    turns: u16,
    memory: &GuestMemory,
    mut serve: impl FnMut() -> Result<(), AnyError>,
) -> Result<f64, AnyError> {
    let mut best = f64::INFINITY;
    for turn in 1..=turns {
        memory.write_obj(turn.wrapping_mul(SIZE), GuestAddress(AVAIL + 2))?;
        let start = Instant::now();
        serve()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(SIZE));
    }
    Ok(best)
}

fn config() -> RingConfig {
    RingConfig {
        size: SIZE,
        descriptor_table: 0,
        avail_ring: AVAIL,
        used_ring: USED,
        base: 0,
        features: 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_F_IN_ORDER,
    }
}

fn serve_tx(memory: &Arc<GuestMemory>, batch: u32, start: Instant) -> Result<u64, AnyError> {
    let mapped = Arc::new(MappedMemory::new(Arc::clone(memory))?);
    let mut ring = TxRing::new(mapped, &config())?;
    let (mut frame, mut frames, mut sum) = (TxFrame::new(), 0, 0);
    let mut body = vec![0; 2048];
    while start.elapsed() < ROUND {
        for _ in 0..64 {
            let mut served = 0;
            while served < batch && ring.next(&mut frame)? == Next::Frame {
                let len = frame.frame_len();
                frame.read(body.get_mut(..len).unwrap_or_default());
                sum += u64::from(body.first().copied().unwrap_or(0));
                served += 1;
            }
            frames += u64::from(served);
            if served > 0 {
                ring.publish_and_notify();
            }
        }
    }
    std::hint::black_box(sum);
    Ok(frames)
}

fn serve_rx(memory: &Arc<GuestMemory>, frame_len: u32, start: Instant) -> Result<u64, AnyError> {
    let mapped = Arc::new(MappedMemory::new(Arc::clone(memory))?);
    let mut ring = RxRing::new(mapped, &config())?;
    let bytes = vec![7; usize::try_from(frame_len)?];
    let parts = [&bytes[..]];
    let frame = FrameRef::new(&parts, Offload::default());
    let mut frames = 0;
    while start.elapsed() < ROUND {
        for _ in 0..64 {
            for _ in 0..32 {
                let delivered = ring.deliver([0; 12], &frame)?;
                if !matches!(delivered, Delivered::Yes { .. }) {
                    break;
                }
                frames += 1;
            }
            ring.publish_and_notify();
        }
    }
    Ok(frames)
}

/// The same service, written as the rust-vmm devices write it.
fn serve_iterator(memory: &GuestMemory, start: Instant) -> Result<u64, AnyError> {
    let mut queue = Queue::new(SIZE)?;
    queue.try_set_desc_table_address(GuestAddress(0))?;
    queue.try_set_avail_ring_address(GuestAddress(AVAIL))?;
    queue.try_set_used_ring_address(GuestAddress(USED))?;
    queue.set_event_idx(config().features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0);
    queue.set_ready(true);
    let (mut frames, mut sum) = (0, 0);
    let mut buffer = vec![0u8; 4096];
    while start.elapsed() < ROUND {
        for _ in 0..64 {
            let mut heads = [(0, 0); SIZE as usize];
            let mut served = 0;
            for (mut chain, slot) in queue.iter(memory)?.zip(&mut heads) {
                let descriptor = chain.next().ok_or("an empty chain")?;
                let len = usize::try_from(descriptor.len())?;
                let dst = buffer.get_mut(..len).ok_or("a long frame")?;
                memory.read_slice(dst, descriptor.addr())?;
                sum += u64::from(dst.first().copied().unwrap_or(0));
                *slot = (chain.head_index(), 0);
                served += 1;
            }
            for (head, len) in heads.iter().take(served) {
                queue.add_used(memory, *head, *len)?;
            }
            frames += u64::try_from(served)?;
            if served > 0 {
                queue.needs_notification(memory)?;
            }
        }
    }
    std::hint::black_box(sum);
    Ok(frames)
}

/// The guest: offers every buffer, and each again once it is returned.
fn drive(memory: &GuestMemory, touched: usize, stop: &AtomicBool) -> Result<(), AnyError> {
    let all = memory.get_slice(GuestAddress(0), MEMORY_LEN)?;
    let at = |address: u64| usize::try_from(address).unwrap_or(usize::MAX);
    let avail_idx = all.get_atomic_ref::<AtomicU16>(at(AVAIL + 2))?;
    let used_idx = all.get_atomic_ref::<AtomicU16>(at(USED + 2))?;
    let frame = vec![0x55; touched];
    let mut next: u16 = 0;
    while !stop.load(Ordering::Relaxed) {
        let free = SIZE.wrapping_sub(next.wrapping_sub(used_idx.load(Ordering::Acquire)));
        if free < BURST {
            spin_loop();
            continue;
        }
        for _ in 0..BURST {
            touch(&all, next % SIZE, &frame)?;
            next = next.wrapping_add(1);
        }
        avail_idx.store(next, Ordering::Release);
    }
    Ok(())
}

fn touch(all: &VolatileSlice<'_>, index: u16, frame: &[u8]) -> Result<(), AnyError> {
    if !frame.is_empty() {
        let at = usize::try_from(BUFFERS + u64::from(index) * BUFFER_LEN)?;
        all.subslice(at, frame.len())?.copy_from(frame);
    }
    Ok(())
}

/// Nanoseconds for one cache line to go to another processor and back.
fn round_trip_ns() -> f64 {
    const TRIPS: u32 = 100_000;
    let line = Arc::new(AtomicU64::new(0));
    let other = Arc::clone(&line);
    let wait_for = |line: &AtomicU64, value: u64| {
        while line.load(Ordering::Acquire) != value {
            spin_loop();
        }
    };
    let echo = std::thread::spawn(move || {
        for trip in 0..u64::from(TRIPS) {
            wait_for(&other, trip * 2 + 1);
            other.store(trip * 2 + 2, Ordering::Release);
        }
    });
    let start = Instant::now();
    for trip in 0..u64::from(TRIPS) {
        line.store(trip * 2 + 1, Ordering::Release);
        wait_for(&line, trip * 2 + 2);
    }
    let elapsed = start.elapsed();
    // The echo thread only counts and stores; it cannot fail.
    drop(echo.join());
    elapsed.as_secs_f64() * 1e9 / f64::from(TRIPS)
}
