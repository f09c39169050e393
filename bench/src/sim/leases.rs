//! One uplink's lease loop in simulated time: servers report each tick, the gateway answers each
//! report, messages take their time. Half of the demands change at once; how long until everybody
//! has the share that follows?
//!
//! Beside the figures it checks, at every event, that what servers may send together is never more
//! than what the uplink carries.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use wireonce_shares::{Demand, Lease, LeaseTiming, Lessee, Lessor, Report, ServerIndex, Tree};

use super::Random;
use super::house::wanted_bps;

/// Between two reports of a server.
pub const TICK_US: u64 = 5_000;
/// When demands change.
const CHANGE_US: u64 = 300_000;
const END_US: u64 = 500_000;
/// Share of the usable capacity that starters have together.
const STARTERS_PERCENT: u64 = 5;

/// What one uplink's loop gave.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// From the change until every server's lease stayed within 2 % of its share.
    pub converged_us: u64,
    /// Of the usable capacity, at the end, what is leased to servers that want it; `None` if they
    /// want less than there is.
    pub utilisation: Option<f64>,
    /// Reports and leases.
    pub messages: u64,
    /// Instants at which servers might have sent more than there is.
    pub violations: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Tick(usize),
    Report(usize, u64, u64),
    Lease(usize, u64, u64, u64),
    Change,
}

struct Loop<'a> {
    tree: Tree,
    usable_bps: u64,
    lessor: Lessor,
    lessees: Vec<Lessee>,
    /// The demands as the gateway knows them.
    known: Tree,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    random: &'a mut Random,
    outcome: Outcome,
    /// The last instant at which somebody was off his share.
    off_us: u64,
    shares: Vec<u64>,
}

/// Runs the loop of one uplink.
#[must_use]
pub fn run(tree: &Tree, usable_bps: u64, random: &mut Random) -> Outcome {
    let servers = tree.grants.len();
    if servers == 0 {
        return Outcome::default();
    }
    let timing = LeaseTiming::default();
    let starter_bps = usable_bps * STARTERS_PERCENT / 100 / servers as u64;
    let mut tree = tree.clone();
    tree.grants.iter_mut().for_each(|grant| grant.starter_bps = starter_bps);
    let mut lessor = Lessor::new(usable_bps, &vec![starter_bps; servers], timing, 1, 0);
    for (at, share) in tree.allocate(usable_bps).into_iter().enumerate() {
        lessor.set_target(ServerIndex(at), share);
    }
    let mut events = BinaryHeap::new();
    for at in 0..servers {
        events.push(Reverse((random.below(TICK_US), at as u64, Event::Tick(at))));
    }
    events.push(Reverse((CHANGE_US, 0, Event::Change)));
    let mut state = Loop {
        usable_bps,
        lessor,
        lessees: vec![Lessee::new(starter_bps, timing); servers],
        known: tree.clone(),
        shares: tree.allocate(usable_bps),
        tree,
        events,
        number: servers as u64,
        random,
        outcome: Outcome::default(),
        off_us: CHANGE_US,
    };
    while let Some(Reverse((now_us, _, event))) = state.events.pop() {
        if now_us > END_US {
            break;
        }
        state.step(now_us, event);
    }
    state.finish()
}

impl Loop<'_> {
    fn step(&mut self, now_us: u64, event: Event) {
        match event {
            Event::Tick(at) => {
                let Report { sent_us, obeyed } = self.lessees[at].report(now_us);
                self.later(now_us, Event::Report(at, sent_us, obeyed));
                self.push(now_us + TICK_US, Event::Tick(at));
            }
            Event::Report(at, sent_us, obeyed) => self.answer(now_us, at, sent_us, obeyed),
            Event::Lease(at, epoch, rate_bps, answers_us) => {
                self.lessees[at].take(Lease { epoch, rate_bps, answers_us });
            }
            Event::Change => self.change(),
        }
        self.look(now_us);
    }

    fn answer(&mut self, now_us: u64, at: usize, sent_us: u64, obeyed: u64) {
        self.outcome.messages += 1;
        self.lessor.hear(ServerIndex(at), Report { sent_us, obeyed }, now_us);
        if self.known.grants[at] != self.tree.grants[at] {
            self.known.grants[at] = self.tree.grants[at].clone();
            for (at, share) in self.known.allocate(self.usable_bps).into_iter().enumerate() {
                self.lessor.set_target(ServerIndex(at), share);
            }
        }
        if let Some(lease) = self.lessor.lease(ServerIndex(at), now_us) {
            self.outcome.messages += 1;
            let Lease { epoch, rate_bps, answers_us } = lease;
            self.later(now_us, Event::Lease(at, epoch, rate_bps, answers_us));
        }
    }

    /// Half of the servers become busy or idle.
    fn change(&mut self) {
        for grant in &mut self.tree.grants {
            if self.random.one_in(2) {
                let busy = self.random.one_in(2);
                for vnic in &mut grant.vnics {
                    vnic.demand = Demand::Bps(wanted_bps(busy, self.random));
                }
            }
        }
        self.shares = self.tree.allocate(self.usable_bps);
    }

    /// Whether everybody has his share, and nobody can have too much.
    fn look(&mut self, now_us: u64) {
        let rates = self.lessees.iter().map(|lessee| lessee.rate_bps(now_us));
        if rates.clone().sum::<u64>() > self.usable_bps {
            self.outcome.violations += 1;
        }
        let off = rates.zip(&self.shares).any(|(rate, share)| rate.abs_diff(*share) * 50 > *share);
        if off && now_us >= CHANGE_US {
            self.off_us = now_us;
        }
    }

    fn finish(mut self) -> Outcome {
        let wanted: u64 = self.tree.grants.iter().map(|grant| grant.demand_bps()).sum();
        if wanted >= self.usable_bps {
            let useful = self.lessees.iter().zip(&self.tree.grants);
            let useful: u64 =
                useful.map(|(it, grant)| it.rate_bps(END_US).min(grant.demand_bps())).sum();
            self.outcome.utilisation = Some(useful as f64 / self.usable_bps as f64);
        }
        self.outcome.converged_us = self.off_us - CHANGE_US;
        self.outcome
    }

    /// A message: 50 to 400 us on its way, and one in a thousand is lost.
    fn later(&mut self, now_us: u64, event: Event) {
        if !self.random.one_in(1_000) {
            let at_us = now_us + 50 + self.random.below(350);
            self.push(at_us, event);
        }
    }

    fn push(&mut self, at_us: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at_us, self.number, event)));
    }
}

/// Simulated seconds of one loop.
#[must_use]
pub fn seconds() -> f64 {
    END_US as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_shares::{GrantNode, Terms, VnicNode};

    fn tree(servers: u64) -> Tree {
        let vnic = |n| VnicNode { terms: Terms::default(), demand: Demand::Bps(n * 1_000_000_000) };
        let grant = |n| GrantNode {
            terms: Terms::default(),
            vnics: vec![vnic(n), vnic(2)],
            ..GrantNode::default()
        };
        Tree { grants: (0..servers).map(grant).collect() }
    }

    #[test]
    fn a_loop_converges_uses_the_uplink_and_never_promises_too_much() {
        for seed in 0..20 {
            let outcome = run(&tree(10), 10_000_000_000, &mut Random(seed));
            assert_eq!(outcome.violations, 0, "seed {seed}");
            assert!(outcome.converged_us < 100_000, "seed {seed}: {outcome:?}");
            assert!(outcome.utilisation.is_none_or(|it| it > 0.9), "seed {seed}: {outcome:?}");
        }
    }

    #[test]
    fn an_uplink_that_nobody_uses_has_nothing_to_say() {
        assert_eq!(run(&Tree::default(), 1, &mut Random(1)), Outcome::default());
    }
}
