//! `move`: homes that move as planned, under load: what is lost, what comes twice, and how soon it is done.
//!
//! The bed is that of `failover`; both ends send some 30 Mbit/s of numbered datagrams to each other. No
//! peer does this: there are goals only.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use wireonce_qemu_tests::capture::now_us;
use wireonce_qemu_tests::{Error, Result};

use super::{Plan, Suite};
use crate::bench::Bench;
use crate::case::{Case, Contender, Fact, Figure, Goal, Rival, Sample, Times};
use crate::home_bed::{GATEWAYS, HomeBed, SERVER};
use crate::io_error;
use crate::numbered::Beat;

/// This suite.
pub const SUITE: Suite =
    Suite { name: "move", about: "homes that move as planned, under load", cases };

/// What is done in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// The tables want the vNIC elsewhere.
    Rehome,
    /// SIGTERM for its gateway.
    Drain,
}

#[derive(Debug, Clone, Copy)]
struct Setup {
    name: &'static str,
    tag: &'static str,
    work: Work,
    vnics: u16,
    /// In each round.
    moves: usize,
}

const SETUPS: [Setup; 3] = [
    Setup { name: "move vNIC under load", tag: "mov1", work: Work::Rehome, vnics: 1, moves: 5 },
    Setup { name: "move gateway drained", tag: "movd", work: Work::Drain, vnics: 1, moves: 3 },
    Setup { name: "move 1,000 vNICs", tag: "movm", work: Work::Rehome, vnics: 1_000, moves: 2 },
];

/// Moves of a round that only shows that it works.
const QUICK_MOVES: usize = 1;
/// Between two moves, and before the first one.
const BETWEEN: Duration = Duration::from_millis(150);
/// A gateway that is back is heard, and hears, after this: hellos are 50 ms apart.
const SETTLE: Duration = Duration::from_millis(400);
/// Hosts take a configuration in any order: the server first, last, between.
const ORDERS: [[usize; 3]; 3] = [[1, 2, 0], [0, 2, 1], [2, 0, 1]];

const NOTE: &str = "profile `default`; four datagrams of 1,000 bytes a millisecond each way; the way of \
    a change is a file and SIGHUP; what is polled is polled each 10 ms and costs time itself";

fn cases(_bench: &Bench) -> Vec<Plan> {
    let plan = |setup: Setup| Plan::new(setup.name, move |bench| case(bench, setup));
    SETUPS.into_iter().map(plan).collect()
}

/// Lists of a round's events.
const LOST: usize = 0;
const TWICE: usize = 1;
const FIRST: usize = 2;
const PAUSE: usize = 3;
const DONE: usize = 4;

fn case(bench: &Bench, setup: Setup) -> Result<Case> {
    let none = Some(Goal::AtMost(0.0));
    let done = match setup.work {
        Work::Rehome => "all confirmed, p50",
        Work::Drain => "gateway ended, p50",
    };
    let figures = [
        (Figure::of("lost", "frames", LOST, 1.0), none),
        (Figure::of("came twice", "frames", TWICE, 1.0), none),
        (Figure::of("first frame there, p50", "ms", FIRST, 0.5), None),
        (Figure::of("first frame there, longest", "ms", FIRST, 1.0), None),
        (Figure::of("longest pause", "ms", PAUSE, 1.0), None),
        (Figure::of(done, "ms", DONE, 0.5), None),
    ];
    let (figures, goals) = figures.into_iter().unzip();
    let bed = HomeBed::start(bench, setup.tag, "default", setup.vnics)?;
    let moves = if bench.is_quick() { QUICK_MOVES } else { setup.moves };
    let ours = Moves { bed, setup: Setup { moves, ..setup }, number: 0 };
    let peer = Rival::none("no peer moves a VM to another server's uplink", goals);
    Ok(Case::new("", "", ours).figures(figures).against(peer).note(NOTE))
}

#[derive(Debug)]
struct Moves {
    bed: HomeBed,
    setup: Setup,
    /// Of the next move.
    number: usize,
}

/// One move that was made.
#[derive(Debug, Clone, Copy)]
struct Move {
    /// The word was given.
    at_us: u64,
    to: usize,
    done_us: u64,
}

impl Contender for Moves {
    fn round(&mut self, _times: Times) -> Result<Sample> {
        let before = self.bed.drops()?;
        let watch = self.bed.watch(Beat::LOAD)?;
        sleep(BETWEEN);
        let moves: Result<Vec<Move>> = (0..self.setup.moves).map(|_| self.next()).collect();
        let moves = moves?;
        let stories = watch.end()?;
        let (out, inward) = (&stories.out, &stories.inward);
        let ms = |from_us: u64, until_us: u64| until_us.saturating_sub(from_us) as f64 / 1e3;
        let first = |it: &Move| out.first_by(it.to, it.at_us).map(|us| ms(it.at_us, us));
        let pause = |it: &Move| out.gap_ms(it.at_us, it.done_us);
        let own = moves.iter().map(|it| out.pause_ms(it.at_us, it.done_us)).fold(0.0, f64::max);
        let lost = out.lost_us().len() + inward.lost_us().len();
        let twice = out.twice() + inward.twice();
        let mut facts = vec![
            Fact::new("sent", (out.sent() + inward.sent()) as f64, "frames"),
            Fact::new("the sender's own longest pause", own, "ms"),
        ];
        facts.extend(self.bed.drops()?.since(&before));
        Ok(Sample {
            events: vec![
                vec![lost as f64],
                vec![twice as f64],
                moves.iter().filter_map(first).collect(),
                moves.iter().map(pause).collect(),
                moves.iter().map(|it| ms(it.at_us, it.done_us)).collect(),
            ],
            facts,
            ..Sample::default()
        })
    }
}

impl Moves {
    fn next(&mut self) -> Result<Move> {
        let home = self.bed.home()?;
        let to = 1 - home.min(1);
        let made = match self.setup.work {
            Work::Rehome => self.rehome(to)?,
            Work::Drain => self.drain(home, to)?,
        };
        self.number += 1;
        sleep(BETWEEN);
        Ok(made)
    }

    /// Another file for everybody, in one order or another; what counts is the word to the server.
    fn rehome(&mut self, to: usize) -> Result<Move> {
        self.bed.cluster.write_plan(|plan| {
            for vm in &mut plan.vms {
                (vm.home, vm.standbys) = (to, vec![1 - to.min(1)]);
            }
        })?;
        let order = ORDERS.get(self.number % ORDERS.len()).copied().unwrap_or_default();
        let mut at_us = 0;
        let mut done_us = 0;
        for host in order {
            if host == SERVER {
                at_us = self.hang_up()?;
                self.bed.wait_all_at(to)?;
                done_us = now_us();
            } else {
                self.bed.cluster.reload(host)?;
            }
        }
        Ok(Move { at_us, to, done_us })
    }

    /// SIGHUP for the server. Returns when.
    fn hang_up(&self) -> Result<u64> {
        let pid = self.bed.cluster.daemon_pid(SERVER).and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::Unexpected("there is no server".to_owned()))?;
        let at_us = now_us();
        kill_process(pid, Signal::HUP)
            .map_err(|error| io_error("cannot tell the server")(error.into()))?;
        Ok(at_us)
    }

    fn drain(&mut self, home: usize, to: usize) -> Result<Move> {
        let gateway = GATEWAYS.get(home).copied().unwrap_or_default();
        let at_us = now_us();
        if !self.bed.cluster.stop_daemon(gateway)? {
            return Err(Error::Unexpected("the gateway failed as it ended".to_owned()));
        }
        let done_us = now_us();
        self.bed.wait_all_at(to)?;
        self.bed.cluster.start_daemon(gateway)?;
        self.bed.wait_link_of(home)?;
        sleep(SETTLE);
        Ok(Move { at_us, to, done_us })
    }
}
