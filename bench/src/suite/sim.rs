//! `sim`: the real allocation, lease and placement code over houses of up to 10,000 servers.
//!
//! Nothing is sent: what is measured is the time that one thread takes to decide, and, in simulated
//! time, how fast the leases follow. One round is one seed.

use std::hint::black_box;
use std::time::Instant;

use wireonce_placement::{Limits, breaches, place, rebalance};
use wireonce_qemu_tests::{Error, Result};
use wireonce_shares::Divider;

use super::{Plan, Suite};
use crate::bench::Bench;
use crate::case::{Case, Contender, Fact, Figure, Goal, Rival, Sample, Times};
use crate::sim::house::{Size, UPLINK_BPS, house, move_in, trees};
use crate::sim::{Random, leases};

/// This suite.
pub const SUITE: Suite =
    Suite { name: "sim", about: "deciding for houses of up to 10,000 servers", cases };

const SIZES: [Size; 3] = [
    Size { servers: 100, uplinks: 10, vnics: 1_000 },
    Size { servers: 1_000, uplinks: 100, vnics: 10_000 },
    Size { servers: 10_000, uplinks: 1_000, vnics: 100_000 },
];
/// Of an uplink's capacity, what is leased.
const USABLE_PERCENT: u64 = 99;
/// Times that the short one is repeated, the fastest counts: a stall of the machine is not ours.
const TRIES: usize = 5;

fn cases(_bench: &Bench) -> Vec<Plan> {
    let plan = |size: Size| {
        let Size { servers, uplinks, vnics } = size;
        let name = format!("sim {servers} servers, {uplinks} uplinks, {vnics} vNICs");
        Plan::new(&name, move |_| Ok(case(size)))
    };
    SIZES.into_iter().map(plan).collect()
}

fn case(size: Size) -> Case {
    let allocate_ms = if size.vnics > 10_000 { 4.0 } else { 0.5 };
    let goals = [Goal::AtMost(allocate_ms), Goal::AtMost(25.0)];
    let peer = Rival::absent("none", "no peer decides this", &goals);
    let figures = vec![
        Figure::new("allocate", "ms"),
        Figure::new("converged, p99", "ms, simulated"),
        Figure::new("place", "ms"),
        Figure::new("rebalance", "ms"),
    ];
    Case::new("", "", Simulation { size, seed: 0 })
        .figures(figures)
        .against(peer)
        .of_size(size.vnics as u64)
}

#[derive(Debug)]
struct Simulation {
    size: Size,
    seed: u64,
}

impl Contender for Simulation {
    fn round(&mut self, _: Times) -> Result<Sample> {
        self.seed += 1;
        let random = &mut Random(self.seed);
        let mut house = house(self.size, random);
        let (placed, place_ms) = timed(|| place(&house));
        let placement = placed.map_err(|error| Error::Unexpected(error.to_string()))?;
        move_in(&mut house, &placement);
        let (_, admit_ms) = timed(|| black_box(breaches(&house)));
        let (plan, rebalance_ms) = timed(|| rebalance(&house, &Limits::default()));

        let trees = trees(&house);
        let usable_bps = UPLINK_BPS / 100 * USABLE_PERCENT;
        let (mut with, mut servers, mut vnics) = (Divider::default(), Vec::new(), Vec::new());
        let mut allocate = || {
            for tree in &trees {
                tree.allocate_with(&mut with, usable_bps, &mut servers);
                for (grant, given) in tree.grants.iter().zip(&servers) {
                    grant.divide_with(&mut with, *given, &mut vnics);
                    black_box(&vnics);
                }
            }
        };
        let tries = (0..TRIES).map(|_| timed(&mut allocate).1);
        let allocate_ms = tries.fold(f64::INFINITY, f64::min);

        let outcomes: Vec<_> =
            trees.iter().map(|tree| leases::run(tree, usable_bps, random)).collect();
        let violations: u64 = outcomes.iter().map(|it| it.violations).sum();
        if violations > 0 {
            let text = format!("seed {}: leases were over capacity {violations} times", self.seed);
            return Err(Error::Unexpected(text));
        }
        let mut converged: Vec<_> = outcomes.iter().map(|it| it.converged_us).collect();
        converged.sort_unstable();
        let p99_us = converged.get(converged.len() * 99 / 100).copied().unwrap_or(0);
        let used: Vec<_> = outcomes.iter().filter_map(|it| it.utilisation).collect();
        let utilisation = used.iter().sum::<f64>() / used.len().max(1) as f64;
        let messages: u64 = outcomes.iter().map(|it| it.messages).sum();
        let more = plan.after_bps.saturating_sub(plan.before_bps);
        Ok(Sample {
            values: vec![allocate_ms, p99_us as f64 / 1e3, place_ms, rebalance_ms],
            cpu_us_per_frame: None,
            facts: vec![
                Fact::new("full uplinks used", utilisation * 100.0, "%"),
                Fact::new("messages", messages as f64 / leases::seconds(), "a second"),
                Fact::new("admission looks at all of it in", admit_ms, "ms"),
                Fact::new("moves planned", plan.moves.len() as f64, ""),
                Fact::new("they add", more as f64 / 1e9, "Gbit/s"),
            ],
            events: Vec::new(),
        })
    }
}

/// What `work` gives, and how many milliseconds it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed().as_secs_f64() * 1e3)
}
