//! `victim`: what a flooding or hostile guest does to its neighbour on the same worker.
//!
//! ```text
//!   flood     ══╗
//!   neighbour ══╬══ one backend, one worker          frames stay on the host
//!   echo      ══╝
//! ```
//! The neighbour sends bulk at a steady pace, far below what a worker can do, and asks the echo
//! for an answer 5000 times a second. The flood sends as fast as its ring takes it. All three are
//! driven by one polling thread on the load's processor, without a guest's own delays. The figures
//! are those beside the flood, by those of the same neighbour alone.

use std::thread;
use std::time::{Duration, Instant};

use wireonce_qemu_tests::cluster::{Cluster, Plan as ClusterPlan, VmPlan};
use wireonce_qemu_tests::{Error, Result};

use super::{Plan, Suite};
use crate::bench::{Bench, pin_process};
use crate::case::{Case, Contender, Fact, Figure, Goal, Rival, Sample, Times};
use crate::cpu::processes_us;
use crate::driver::Port;
use crate::frames::{Flow, Mix, build};
use crate::machine::pin_this_thread;
use crate::stats::percentile;
use crate::suite::vm_vm::ipv4;

/// This suite.
pub const SUITE: Suite =
    Suite { name: "victim", about: "a neighbour on the worker that a guest floods", cases };

const BULK_LEN: u16 = 1450;
/// 100,000 frames of 1450 bytes a second: 1.16 Gb/s.
const BULK_EVERY: Duration = Duration::from_micros(10);
const ASK_EVERY: Duration = Duration::from_micros(200);
/// Frames of the flood, and of overdue bulk, per turn of the thread.
const BATCH: u16 = 32;
/// Where a request's number is in its frame, behind the UDP header.
const NUMBER_AT: usize = 42;
/// A frame of this length is a request or its answer.
const ASK_LEN: u16 = 64;

/// What the flood consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    /// Nothing: the neighbour is alone.
    None,
    /// Good frames to the neighbour's peer.
    Small,
    /// Frames with a false source MAC.
    Rejected,
    /// Descriptors that lead out of the guest's memory.
    BadChains,
}

fn cases(_bench: &Bench) -> Vec<Plan> {
    let floods = [
        (Flood::Small, "victim of 64 B frames"),
        (Flood::Rejected, "victim of rejected frames"),
        (Flood::BadChains, "victim of bad chains"),
    ];
    floods
        .into_iter()
        .map(|(flood, name)| Plan::new(name, move |bench| case(bench, flood)))
        .collect()
}

fn case(bench: &Bench, flood: Flood) -> Result<Case> {
    let figures = vec![
        Figure::new("bulk", "Gb/s"),
        Figure::new("p50", "us"),
        Figure::new("p99", "us"),
        Figure::new("p99.9", "us"),
    ];
    let goals = [Some(Goal::RatioAtLeast(0.9)), None, Some(Goal::RatioAtMost(2.0)), None];
    let beside = Bed::start(bench, flood)?;
    let mut rival = Rival::ours(bench, "the same alone", &[], || Bed::start(bench, Flood::None))?;
    rival.goals = goals.to_vec();
    Ok(Case::new("", "", beside).figures(figures).against(rival))
}

fn vms() -> [VmPlan; 3] {
    [("flood", 11), ("neighbour", 12), ("echo", 13)]
        .map(|(name, number)| VmPlan::new(name, 0, number))
}

#[derive(Debug)]
struct Bed {
    // The ports end before the backend.
    ports: Ports,
    _cluster: Cluster,
    pid: u32,
    flood: Flood,
    load_cpu: u32,
}

impl Bed {
    fn start(bench: &Bench, flood: Flood) -> Result<Self> {
        let tag = if flood == Flood::None { "alone" } else { "victim" };
        let plan = ClusterPlan { gateways: 0, vms: vms().to_vec(), ..ClusterPlan::new(tag, 1) };
        let mut cluster = Cluster::build(plan, &bench.binary)?;
        cluster.start()?;
        let pid = cluster.daemon_pid(0).unwrap_or_default();
        pin_process(pid, bench.cores().device)?;
        let connect = |vm: &VmPlan| Port::connect(&cluster.vnic_socket(&vm.name));
        let [a, b, c] = vms();
        let mut ports = Ports {
            flood: connect(&a)?,
            neighbour: connect(&b)?,
            echo: connect(&c)?,
            bulk: build(&flow(&b, &c), Mix::Fixed(BULK_LEN)),
            ask: build(&flow(&b, &c), Mix::Fixed(ASK_LEN)),
            answer: build(&flow(&c, &b), Mix::Fixed(ASK_LEN)),
        };
        ports.prepare(flood, &flow(&a, &c))?;
        Ok(Self { ports, _cluster: cluster, pid, flood, load_cpu: bench.cores().load })
    }
}

fn flow(from: &VmPlan, to: &VmPlan) -> Flow {
    Flow {
        source_mac: from.mac_bytes(),
        destination_mac: to.mac_bytes(),
        source: ipv4(from),
        destination: ipv4(to),
    }
}

impl Contender for Bed {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let Self { ports, pid, flood, load_cpu, .. } = self;
        let seen = thread::scope(|scope| {
            let polling = scope.spawn(|| {
                let _where_it_may_run = pin_this_thread(*load_cpu);
                ports.run(*flood, times, *pid)
            });
            polling.join().unwrap_or_else(|_| Err(Error::Unexpected("the driver ended".to_owned())))
        })?;
        seen.sample()
    }
}

/// The three guests.
#[derive(Debug)]
struct Ports {
    flood: Port,
    neighbour: Port,
    echo: Port,
    bulk: Vec<u8>,
    ask: Vec<u8>,
    answer: Vec<u8>,
}

/// What the polling thread saw in its window.
#[derive(Debug, Default)]
struct Seen {
    seconds: f64,
    cpu_us: f64,
    bulk_sent: u64,
    bulk_received: u64,
    asked: u64,
    round_trips_us: Vec<f64>,
    flooded: u64,
}

impl Seen {
    fn sample(&self) -> Result<Sample> {
        let share = |share| percentile(&self.round_trips_us, share);
        let (Some(p50), Some(p99), Some(p999)) = (share(0.5), share(0.99), share(0.999)) else {
            return Err(Error::Unexpected("no request was answered".to_owned()));
        };
        let bits = self.bulk_received as f64 * f64::from(BULK_LEN) * 8.0;
        let answered = self.round_trips_us.len() as f64 / self.asked.max(1) as f64;
        let frames = self.bulk_received + self.flooded + 2 * self.asked;
        Ok(Sample {
            values: vec![bits / self.seconds / 1e9, p50, p99, p999],
            cpu_us_per_frame: (frames > 0).then(|| self.cpu_us / frames as f64),
            facts: vec![
                Fact::new("flood", self.flooded as f64 / self.seconds / 1e6, "Mpps"),
                Fact::new("bulk offered", self.bulk_sent as f64 / self.seconds / 1e6, "Mpps"),
                Fact::new("requests answered", answered * 100.0, "%"),
            ],
            events: Vec::new(),
        })
    }
}

impl Ports {
    fn prepare(&mut self, flood: Flood, flow: &Flow) -> Result<()> {
        match flood {
            Flood::None => Ok(()),
            Flood::Small => self.flood.prepare(&build(flow, Mix::Fixed(60))),
            Flood::Rejected => {
                let false_mac = [0x02, 0, 0, 0, 0, 0x66];
                self.flood.prepare(&build(&Flow { source_mac: false_mac, ..*flow }, Mix::Fixed(60)))
            }
            Flood::BadChains => self.flood.prepare_bad(),
        }
    }

    /// Polls through the warm-up and the window.
    fn run(&mut self, flood: Flood, times: Times, pid: u32) -> Result<Seen> {
        let started = Instant::now();
        let begin = started + times.warm_up;
        let end = begin + times.window;
        let mut seen = Seen::default();
        let mut clock = Clock { started, bulk: 0, asked: 0, measuring: false };
        let mut cpu_before_us = 0.0;
        loop {
            let now = Instant::now();
            if !clock.measuring && now >= begin {
                (seen, clock.measuring) = (Seen::default(), true);
                cpu_before_us = processes_us(&[pid]);
            }
            if now >= end {
                break;
            }
            self.turn(flood, now, &mut clock, &mut seen)?;
        }
        seen.cpu_us = processes_us(&[pid]) - cpu_before_us;
        seen.seconds = times.window.as_secs_f64();
        Ok(seen)
    }

    fn turn(
        &mut self,
        flood: Flood,
        now: Instant,
        clock: &mut Clock,
        seen: &mut Seen,
    ) -> Result<()> {
        if flood != Flood::None {
            let count = self.flood.room()?.min(BATCH);
            self.flood.send_prepared(count)?;
            seen.flooded += u64::from(count);
        }
        self.flood.receive(|_, _| {})?;
        let mut room = self.neighbour.room()?;
        if clock.ask_is_due(now) && room > 0 {
            let number = clock.stamp(now);
            if let Some(field) = self.ask.get_mut(NUMBER_AT..NUMBER_AT + 8) {
                field.copy_from_slice(&number.to_le_bytes());
            }
            self.neighbour.send(&self.ask, self.ask.len())?;
            clock.asked += 1;
            seen.asked += 1;
            room -= 1;
        }
        let due = clock.bulk_due(now).min(room).min(BATCH);
        for _ in 0..due {
            self.neighbour.send(&self.bulk, self.bulk.len())?;
        }
        clock.bulk += u64::from(due);
        seen.bulk_sent += u64::from(due);
        self.answer_all(seen)?;
        self.neighbour.receive(|frame, len| {
            if len == usize::from(ASK_LEN)
                && let Some(asked) = number_of(frame)
            {
                // Not `now`: the thread may have been busy with the others since.
                let trip = clock.stamp(Instant::now()).saturating_sub(asked);
                seen.round_trips_us.push(trip as f64 / 1e3);
            }
        })
    }

    /// The echo counts bulk and answers requests.
    fn answer_all(&mut self, seen: &mut Seen) -> Result<()> {
        let mut numbers = Vec::new();
        self.echo.receive(|frame, len| {
            if len == usize::from(BULK_LEN) {
                seen.bulk_received += 1;
            } else if len == usize::from(ASK_LEN) {
                numbers.extend(number_of(frame));
            }
        })?;
        for number in numbers {
            if self.echo.room()? == 0 {
                continue;
            }
            if let Some(field) = self.answer.get_mut(NUMBER_AT..NUMBER_AT + 8) {
                field.copy_from_slice(&number.to_le_bytes());
            }
            self.echo.send(&self.answer, self.answer.len())?;
        }
        Ok(())
    }
}

fn number_of(frame: &[u8]) -> Option<u64> {
    let field = frame.get(NUMBER_AT..NUMBER_AT + 8)?;
    field.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// What is due when.
#[derive(Debug)]
struct Clock {
    started: Instant,
    bulk: u64,
    asked: u64,
    measuring: bool,
}

impl Clock {
    /// Nanoseconds since the start.
    fn stamp(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }

    fn ask_is_due(&self, now: Instant) -> bool {
        u128::from(self.stamp(now)) >= u128::from(self.asked) * ASK_EVERY.as_nanos()
    }

    /// Frames that the pace allows and that were not sent yet.
    fn bulk_due(&self, now: Instant) -> u16 {
        let allowed = u128::from(self.stamp(now)) / BULK_EVERY.as_nanos();
        u16::try_from(allowed.saturating_sub(u128::from(self.bulk))).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_does_not_forget_what_was_not_sent() {
        let started = Instant::now();
        let mut clock = Clock { started, bulk: 0, asked: 0, measuring: false };
        let later = started + BULK_EVERY * 7;
        assert_eq!(clock.bulk_due(later), 7);
        clock.bulk = 7;
        assert_eq!(clock.bulk_due(later), 0);
        assert!(clock.ask_is_due(started));
        clock.asked = 1;
        assert!(!clock.ask_is_due(later) && clock.ask_is_due(started + ASK_EVERY));
    }
}
