//! The machine: what it is, whether it is idle, and how far its cores are from each other.
//!
//! On a virtual machine the host may move the processors about: a cache line's round trip between
//! two of them is then 60-90 ns in one minute and 400 ns in the next, and the rate of every ring
//! changes with it by a factor of two. So it is probed before and after what is measured.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// Which processor does what; the same for us and for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// Runs the device: backends, switches.
    pub device: u32,
    /// Runs the load: front-ends, receivers.
    pub load: u32,
}

impl Default for Cores {
    fn default() -> Self {
        Self { device: 0, load: 1 }
    }
}

/// Where the sides of a path run, each with all that works for it; `None` leaves it to the
/// scheduler. The same for us and for a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sides {
    /// The processor of the side that begins: guests and the device beside them.
    pub near: Option<u32>,
    /// The processor of the other side.
    pub far: Option<u32>,
}

impl Sides {
    /// Wherever the scheduler puts them.
    pub const ANYWHERE: Self = Self { near: None, far: None };

    /// A processor for each side.
    #[must_use]
    pub fn apart(cores: Cores) -> Self {
        Self { near: Some(cores.device), far: Some(cores.load) }
    }
}

/// What the figures were measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors that may be used.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Memory, in mebibytes.
    pub memory_mib: u64,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = field(&read("/proc/cpuinfo"), "model name").unwrap_or_default();
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        Self {
            cpu,
            cores: thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mib: kib / 1024,
        }
    }

    /// One line for people.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self { cpu, cores, kernel, memory_mib } = self;
        format!("{cores} cores of {cpu}, {} GiB, Linux {kernel}", memory_mib.div_ceil(1024))
    }
}

/// The value of the first `name : value` line.
fn field(text: &str, name: &str) -> Option<String> {
    let value = |line: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    };
    text.lines().find_map(value)
}

/// How busy the machine is over `window`: 0 is idle, 1 is all processors busy.
#[must_use]
pub fn busy_share(window: Duration) -> f64 {
    let before = Ticks::now();
    thread::sleep(window);
    Ticks::now().busy_since(before)
}

/// Waits until the machine is idle, at most `limit`. Returns whether it is.
#[must_use]
pub fn wait_idle(limit: Duration) -> bool {
    const WINDOW: Duration = Duration::from_millis(150);
    /// An idle kernel has its own small chores.
    const IDLE_BELOW: f64 = 0.06;
    let deadline = Instant::now() + limit;
    loop {
        if busy_share(WINDOW) < IDLE_BELOW {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
    }
}

/// Time of all processors together, in clock ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default()).unwrap_or_default()
    }

    /// The first line: user nice system idle iowait irq softirq steal guest guest_nice; the last
    /// two are in the first two already.
    pub(crate) fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.split_whitespace().skip(1).take(8);
        let fields: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
        let idle = fields.get(3)? + fields.get(4)?;
        Some(Self { idle, all: fields.iter().sum() })
    }

    /// All but idle, since the machine started.
    pub(crate) fn busy(self) -> u64 {
        self.all.saturating_sub(self.idle)
    }

    fn busy_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        let idle = self.idle.saturating_sub(before.idle).min(all);
        if all == 0 { 0.0 } else { (all - idle) as f64 / all as f64 }
    }
}

/// How far two processors are from each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    /// The round trip of one cache line, in nanoseconds.
    pub round_trip_ns: f64,
}

impl Distance {
    /// More than a factor of this is another place, not noise.
    const FLIP: f64 = 1.8;

    /// Has the host moved the processors between the two probes?
    #[must_use]
    pub fn flipped(self, later: Self) -> bool {
        let (a, b) = (self.round_trip_ns, later.round_trip_ns);
        a.max(b) > Self::FLIP * a.min(b)
    }
}

/// Measures the round trip of a cache line between two processors: the least mean of several
/// batches, so that one interruption does not count. `None` if a thread cannot be pinned there, or
/// not one batch was done in time.
#[must_use]
pub fn probe_distance(cores: Cores) -> Option<Distance> {
    let line = Arc::new(AtomicU32::new(0));
    let echo_line = Arc::clone(&line);
    let echo = thread::spawn(move || {
        let pinned = pin_this_thread(cores.load);
        // It answers even if it is not pinned: the other side waits for it.
        answer(&echo_line);
        pinned
    });
    let ask = thread::spawn(move || {
        let pinned = pin_this_thread(cores.device);
        let best = ask(&line);
        line.store(END, Ordering::Release);
        best.filter(|_| pinned)
    });
    let round_trip_ns = ask.join().ok()?;
    let pinned = echo.join().ok()?;
    round_trip_ns.filter(|_| pinned).map(|round_trip_ns| Distance { round_trip_ns })
}

/// Ends the probe. Questions are odd and answers even, so it is neither before its time.
const END: u32 = u32::MAX;

/// The least mean time of a question and its answer, in nanoseconds.
fn ask(line: &AtomicU32) -> Option<f64> {
    const BATCHES: u32 = 12;
    const TRIPS: u32 = 1_000;
    const LIMIT: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + LIMIT;
    let mut best: Option<f64> = None;
    for batch in 0..BATCHES {
        let started = Instant::now();
        for trip in 0..TRIPS {
            let question = (batch * TRIPS + trip) * 2 + 1;
            line.store(question, Ordering::Release);
            wait_for(line, |value| value == question + 1);
        }
        let ns = started.elapsed().as_secs_f64() * 1e9 / f64::from(TRIPS);
        best = Some(best.map_or(ns, |best| best.min(ns)));
        if Instant::now() >= deadline {
            break;
        }
    }
    best
}

fn answer(line: &AtomicU32) {
    loop {
        let question = wait_for(line, |value| value % 2 == 1);
        if question == END {
            return;
        }
        line.store(question + 1, Ordering::Release);
    }
}

/// Spins until the line has a wanted value; gives the processor away now and then, in case both threads
/// share one.
fn wait_for(line: &AtomicU32, wanted: impl Fn(u32) -> bool) -> u32 {
    let mut spins = 0u32;
    loop {
        let value = line.load(Ordering::Acquire);
        if wanted(value) {
            return value;
        }
        std::hint::spin_loop();
        spins += 1;
        if spins > 5_000 {
            thread::yield_now();
            spins = 0;
        }
    }
}

/// Keeps the calling thread on processor `cpu`. Returns whether that worked.
#[must_use]
pub fn pin_this_thread(cpu: u32) -> bool {
    let Ok(cpu) = usize::try_from(cpu) else { return false };
    if cpu >= CpuSet::MAX_CPU {
        return false;
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_disk_is_idle() {
        let before = Ticks::parse("cpu  10 0 10 70 10 0 0 0 5 5\ncpu0 1").unwrap();
        assert_eq!(before, Ticks { idle: 80, all: 100 });
        let after = Ticks::parse("cpu  20 0 20 120 40 0 0 0 5 5").unwrap();
        assert!((after.busy_since(before) - 0.2).abs() < 1e-9);
    }

    #[test]
    fn only_a_large_change_of_distance_is_a_flip() {
        let near = Distance { round_trip_ns: 70.0 };
        assert!(!near.flipped(Distance { round_trip_ns: 95.0 }));
        assert!(near.flipped(Distance { round_trip_ns: 400.0 }));
        assert!(Distance { round_trip_ns: 400.0 }.flipped(near));
    }

    #[test]
    fn a_distance_is_measured_between_processors_that_exist() {
        let seen = probe_distance(Cores { device: 0, load: 0 }).unwrap();
        assert!(seen.round_trip_ns > 0.0);
        assert_eq!(probe_distance(Cores { device: 0, load: 100_000 }), None);
    }

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let here = Machine::here();
        assert!(!here.kernel.is_empty() && here.memory_mib > 0 && here.cores > 0, "{here:?}");
    }
}
