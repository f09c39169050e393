//! `sealed`: what AES-256-GCM costs: ours with it against ours without.

use wireonce_qemu_tests::Result;

use super::bulk;
use super::encap::{Ours, Setup};
use super::{Plan, Suite};
use crate::bench::Bench;
use crate::case::{Case, Goal, Rival};

/// This suite.
pub const SUITE: Suite =
    Suite { name: "sealed", about: "with AES-256-GCM against clear text", cases };

fn cases(_bench: &Bench) -> Vec<Plan> {
    let plan = |(bytes, goal): (u16, f64)| {
        Plan::new(&format!("sealed encap {bytes} B"), move |bench| encap(bench, bytes, goal))
    };
    let mut plans: Vec<_> = [(64, 0.7), (1450, 0.5)].into_iter().map(plan).collect();
    plans.push(Plan::new("sealed bulk 1 flow out", bulk::sealed));
    plans
}

fn encap(bench: &Bench, bytes: u16, goal: f64) -> Result<Case> {
    let clear = Setup::clear(bytes, false);
    let sealed = Ours::start(bench, Setup { encrypted: true, ..clear })?;
    let rival = Rival::ours(bench, "ours, encryption off", &[Goal::RatioAtLeast(goal)], || {
        Ours::start(bench, clear)
    })?;
    Ok(Case::new("", clear.unit(), sealed).against(rival))
}
