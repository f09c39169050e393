//! `latency`: request and response in frames of 64 bytes (UDP) from TAP to TAP, idle and beside bulk.
//!
//! ```text
//!   ours:  asker ─ TAP ══ TAP end ══ backend ── fabric ── gateway ══ TAP ─ echo
//!   peer:  asker ─ TAP ══ copier ══ TAP ─ bridge ─ VXLAN ── fabric ── VXLAN ─ echo
//! ```
//! Beside bulk, another vNIC of the same server sends TCP
//! through the same backend (or bridge) to the same far end as fast as it can.

use std::fmt::Debug;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::{Error, Result};

use super::{Plan, Suite};
use crate::bench::Bench;
use crate::case::{Case, Contender, Fact, Figure, Goal, Rival, Sample, Times};
use crate::machine::Sides;
use crate::peer::vxlan::{self, Vxlan};
use crate::round_trip::{Asker, Echo};
use crate::tap_bed::{Setup, TapBed};
use crate::tcp::{self, Load, Server};

/// This suite.
pub const SUITE: Suite =
    Suite { name: "latency", about: "request and response from TAP to TAP", cases };

/// TCP is at its rate after this.
const BULK_LEAD: Duration = Duration::from_millis(400);

/// What else goes on, and in which rhythm is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The next request follows the answer at once.
    Busy,
    /// One request a millisecond: everybody has gone to sleep in between.
    Asleep,
    /// As `Busy`, beside TCP of a neighbour.
    BesideBulk,
}

fn cases(bench: &Bench) -> Vec<Plan> {
    let mut plans = Vec::new();
    for (pinned, sides) in [("", Sides::ANYWHERE), (super::PINNED, Sides::apart(bench.cores()))] {
        for (name, mode) in [
            ("latency idle", Mode::Busy),
            ("latency one a ms", Mode::Asleep),
            ("latency beside bulk", Mode::BesideBulk),
        ] {
            let name = format!("{name}{pinned}");
            plans.push(Plan::new(&name, move |bench| case(bench, mode, sides)));
        }
    }
    plans
}

fn case(bench: &Bench, mode: Mode, sides: Sides) -> Result<Case> {
    let ends = 1 + u8::from(mode == Mode::BesideBulk);
    let setup = Setup { ends, ..Setup::default() };
    let ours = Talk::start(bench, TapBed::start(bench, "latency", setup, sides)?, sides, mode)?;
    let p99 = match mode {
        Mode::BesideBulk => Goal::AtMost(5000.0),
        Mode::Busy | Mode::Asleep => Goal::RatioAtMost(1.5),
    };
    let goals = [Goal::RatioAtMost(1.0), p99];
    let peer = Rival::start(bench, vxlan::TAP_NAME, &goals, || {
        let mut vxlan = Vxlan::start("latencyvx", &setup.offloads())?;
        for _ in 0..ends {
            vxlan.add_end(sides.near)?;
        }
        Talk::start(bench, vxlan, sides, mode)
    });
    let mut figures =
        vec![Figure::new("p50", "us"), Figure::new("p99", "us"), Figure::new("p99.9", "us")];
    if mode == Mode::BesideBulk {
        figures.push(Figure::new("bulk", "Gb/s"));
    }
    let case = Case::new("", "us", ours).figures(figures).against(peer);
    Ok(match mode {
        Mode::BesideBulk => case.note("the neighbour's TCP has no limit of its own"),
        Mode::Busy | Mode::Asleep => case,
    })
}

/// A path with TAP ends and a far end.
trait Path: Debug {
    fn end(&self, number: usize) -> &Netns;
    fn far(&self) -> Result<&Netns>;
    fn far_address(&self) -> IpAddr;
    /// Adds what is known about a failure.
    fn explain<T>(&self, result: Result<T>) -> Result<T>;
}

impl Path for TapBed {
    fn end(&self, number: usize) -> &Netns {
        self.end(number)
    }

    fn far(&self) -> Result<&Netns> {
        self.far()
    }

    fn far_address(&self) -> IpAddr {
        self.far_address()
    }

    fn explain<T>(&self, result: Result<T>) -> Result<T> {
        self.explain(result)
    }
}

impl Path for Vxlan {
    fn end(&self, number: usize) -> &Netns {
        self.end(number)
    }

    fn far(&self) -> Result<&Netns> {
        Ok(self.far())
    }

    fn far_address(&self) -> IpAddr {
        Self::far_address()
    }

    fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result
    }
}

/// Somebody who asks over a path.
#[derive(Debug)]
struct Talk<P> {
    echo: Echo,
    _server: Server,
    path: P,
    sides: Sides,
    mode: Mode,
}

impl<P: Path> Talk<P> {
    fn start(bench: &Bench, path: P, sides: Sides, mode: Mode) -> Result<Self> {
        let echo = Echo::start(path.far()?, path.far_address(), sides.far)?;
        let server = Server::start(path.far()?, sides.far, bench.dir())?;
        Ok(Self { echo, _server: server, path, sides, mode })
    }

    fn ask(&self, times: Times) -> Result<Sample> {
        let gap = match self.mode {
            Mode::Asleep => Duration::from_millis(1),
            Mode::Busy | Mode::BesideBulk => Duration::ZERO,
        };
        let asker = Asker { netns: self.path.end(0), cpu: self.sides.near, gap };
        let seen = asker.udp(self.echo.address, times)?;
        let facts = vec![
            Fact::new("answers", seen.us.len() as f64, ""),
            Fact::new("lost", f64::from(seen.lost), ""),
        ];
        Ok(Sample {
            values: seen.quantiles()?.to_vec(),
            cpu_us_per_frame: None,
            facts,
            events: Vec::new(),
        })
    }

    /// Asks while the neighbour sends.
    fn ask_beside_bulk(&self, times: Times) -> Result<Sample> {
        let neighbour = self.path.end(1);
        let load = Load { to: self.path.far_address(), flows: 1, reverse: false };
        let window = BULK_LEAD + times.warm_up + times.window + BULK_LEAD;
        let cpu = self.sides.near;
        thread::scope(|scope| {
            let bulk =
                scope.spawn(move || tcp::send(neighbour, cpu, load, Times { window, ..times }));
            thread::sleep(BULK_LEAD);
            let sample = self.ask(times);
            let gone = |_| Err(Error::Unexpected("a thread panicked".to_owned()));
            let bulk = bulk.join().unwrap_or_else(gone)?;
            let mut sample = sample?;
            sample.values.push(bulk.bps / 1e9);
            Ok(sample)
        })
    }
}

impl<P: Path> Contender for Talk<P> {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let sample = match self.mode {
            Mode::BesideBulk => self.ask_beside_bulk(times),
            Mode::Busy | Mode::Asleep => self.ask(times),
        };
        self.path.explain(sample)
    }
}
