//! Cost of judging one frame of a guest, headers, guard and offload together:
//! `cargo run --release -p wireonce-backend --example admit_speed`.
//!
//! Each figure is the median of 15 runs. Compare figures of one run only: the
//! machine's speed differs from minute to minute.

use std::{hint::black_box, time::Instant};
use wireonce_backend::net::{AddressSet, PortPolicy, admit};
use wireonce_frame::sample::{SAMPLE_SOURCE, Sample};
use wireonce_frame::{OffloadFeatures, StormLimit, StormMeter};

const RUNS: usize = 15;
const CALLS: u32 = 200_000;

/// Median nanoseconds of one call of `work`.
fn median_ns(mut work: impl FnMut(usize)) -> f64 {
    let mut runs: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            for call in 0..CALLS {
                work(call as usize);
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[RUNS / 2]
}

fn main() {
    let addresses: AddressSet =
        ["192.0.2.1/32", "2001:db8::1/128"].iter().filter_map(|net| net.parse().ok()).collect();
    let strict = PortPolicy::strict(SAMPLE_SOURCE, addresses, 1500);
    let any = PortPolicy { addresses: AddressSet::any(), ..strict.clone() };
    let mut storm = StormMeter::new(StormLimit::default(), StormLimit::default(), 0);
    for (name, sample) in [
        ("UDP/IPv4", Sample::udp4()),
        ("TCP/IPv4", Sample::tcp4()),
        ("UDP/IPv6", Sample::udp6()),
        ("TCP/IPv6", Sample::tcp6()),
    ] {
        let sample = sample.payload(vec![0; 22]);
        let frames: Vec<_> = (0..64).map(|n| sample.clone().ports(n, 80).build()).collect();
        let mut judge = |policy: &PortPolicy| {
            median_ns(|call| {
                let frame = black_box(frames[call % 64].as_slice());
                let vnet = black_box(&[0; 12]);
                let features = OffloadFeatures::ALL;
                if let Ok(admitted) = admit(black_box(policy), vnet, frame, frame.len(), features)
                    && storm.admits(admitted.headers.ethernet.destination, 1, 0)
                {
                    black_box(admitted.headers.l4_offset());
                }
            })
        };
        let alone = median_ns(|call| {
            black_box(black_box(frames[call % 64].as_slice()).len());
            black_box(&[0; 12]);
            black_box(&strict);
        });
        let (strict, any) = (judge(&strict), judge(&any));
        println!(
            "{name}: loop alone {alone:.1} ns; own addresses {strict:.1}; any address {any:.1}"
        );
    }
}
