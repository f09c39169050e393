//! Cost of what is done per frame, in nanoseconds: `cargo run --release -p wireonce-frame --example speed`.
//!
//! Each figure is the median of 15 runs. Compare figures of one run only: the
//! machine's speed differs from minute to minute.

use std::{hint::black_box, time::Instant};
use wireonce_frame::checksum::Sum;
use wireonce_frame::sample::Sample;
use wireonce_frame::segment::segment;
use wireonce_frame::{
    FrameRef, Gso, GsoKind, Headers, Offload, OffloadFeatures, VNET_HEADER_LEN, flow_hash,
};

const RUNS: usize = 15;
const MTU: u16 = 1500;

/// Median nanoseconds of one call of `work`, over `calls` calls in a run.
fn median_ns(calls: u32, mut work: impl FnMut(usize)) -> f64 {
    let mut runs: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            for call in 0..calls {
                work(call as usize);
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[RUNS / 2]
}

fn main() {
    // Frames of different flows in turn, so that no branch or load is constant.
    for (name, sample) in [
        ("UDP/IPv4", Sample::udp4()),
        ("TCP/IPv4", Sample::tcp4()),
        ("UDP/IPv6", Sample::udp6()),
        ("TCP/IPv6", Sample::tcp6()),
    ] {
        let sample = sample.payload(vec![0; 22]);
        let frames: Vec<_> = (0..64).map(|n| sample.clone().ports(n, 80).build()).collect();
        let frame = |call: usize| black_box(frames[call % 64].as_slice());
        let alone = median_ns(200_000, |call| {
            black_box(frame(call).len());
        });
        let parse = median_ns(200_000, |call| {
            let frame = frame(call);
            let Ok(headers) = Headers::parse(frame, frame.len()) else { return };
            black_box(headers.l4_offset() + usize::from(headers.source_port));
        });
        let offload = median_ns(200_000, |call| {
            let frame = frame(call);
            let Ok(headers) = Headers::parse(frame, frame.len()) else { return };
            let vnet = black_box([0; VNET_HEADER_LEN]);
            let all = OffloadFeatures::ALL;
            let offload = Offload::from_vnet_parsed(&vnet, &headers, frame.len(), all, MTU);
            black_box(offload.is_ok_and(|offload| offload.gso.is_none()));
        });
        let hash = median_ns(200_000, |call| {
            let frame = frame(call);
            let Ok(headers) = Headers::parse(frame, frame.len()) else { return };
            black_box(flow_hash(&headers, frame));
        });
        println!(
            "{name}: loop alone {alone:.1} ns; parse {parse:.1}; with offload {offload:.1}; with \
             hash {hash:.1}"
        );
    }

    let bytes = vec![0x5a; 65_536];
    for len in [64, 1460, 65_536] {
        let ns = median_ns(5000, |_| {
            black_box(Sum::default().with(black_box(&bytes[..len])).value());
        });
        println!("checksum of {len} B: {ns:.1} ns, {:.1} GB/s", len as f64 / ns);
    }

    let (frame, request) = Sample::tcp4().payload(vec![0x5a; 64_000]).build_open();
    let gso = Some(Gso { kind: GsoKind::TcpV4, size: 1448, ecn: false });
    let offload = Offload { checksum: Some(request), checksum_valid: false, gso };
    let parts: Vec<&[u8]> = frame.chunks(1400).collect();
    let mut scratch = Vec::new();
    let ns = median_ns(500, |_| {
        let frame = FrameRef::new(black_box(&parts), offload);
        let done = segment(&frame, &mut scratch, &mut |bytes: &[u8]| {
            black_box(bytes);
        });
        black_box(&done);
    });
    let gbps = frame.len() as f64 * 8.0 / ns;
    println!("cut 64 KB into 45 segments: {:.1} us, {gbps:.1} Gb/s", ns / 1000.0);
}
