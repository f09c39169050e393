//! CPU time: of processes, and of everybody else.
//!
//! Read from `/proc/PID/task/*/schedstat`, in nanoseconds. On a kernel that does not account
//! interrupts apart (`CONFIG_IRQ_TIME_ACCOUNTING` off, as on most virtual machines) the work of
//! softirqs is charged to the thread that they interrupt: a sender pays for the receive path of
//! a veth there. What is left over runs in `ksoftirqd`, whose time [`softirq_threads_us`] gives.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::machine::Ticks;

/// CPU time that all threads of the processes had until now, in microseconds. Threads that ended
/// are not in it.
#[must_use]
pub fn processes_us(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| process_us(*pid)).sum()
}

fn process_us(pid: u32) -> f64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    tasks.flatten().filter_map(|task| schedstat_us(&task.path().join("schedstat"))).sum()
}

/// CPU time that one thread of this process had until now, in microseconds; zero if it ended.
#[must_use]
pub fn thread_us(id: i32) -> f64 {
    schedstat_us(Path::new(&format!("/proc/self/task/{id}/schedstat"))).unwrap_or(0.0)
}

fn schedstat_us(path: &Path) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let ns: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(ns as f64 / 1e3)
}

/// CPU time of the kernel's softirq threads until now, in microseconds.
#[must_use]
pub fn softirq_threads_us() -> f64 {
    let softirq = |process: &&Process| process.name.starts_with("ksoftirqd/");
    processes().iter().filter(softirq).map(|process| process_us(process.pid)).sum()
}

/// A process as far as its time is of interest.
#[derive(Debug, Clone, PartialEq)]
struct Process {
    pid: u32,
    parent: u32,
    name: String,
    /// CPU time of its own and of children that it waited for, in clock ticks.
    ticks: u64,
}

/// Processes that are alive.
fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(process).collect()
}

fn process(pid: u32) -> Option<Process> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name, in brackets, may hold anything: fields are counted from its end (proc(5)).
fn parse_stat(pid: u32, stat: &str) -> Option<Process> {
    let (head, fields) = stat.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let parent = fields.split(' ').nth(1)?.parse().ok()?;
    // utime, stime, cutime, cstime.
    let times = fields.split(' ').skip(11).take(4);
    let ticks = times.map_while(|field| field.parse::<u64>().ok()).sum();
    Some(Process { pid, parent, name, ticks })
}

/// CPU time of everybody else. Two counts, each of which may say too much, and the smaller one
/// is believed: what the processors did, less what this process, its descendants and the kernel's
/// threads did (it has the softirqs that ran while a processor was idle); and what all other
/// processes and the children that they waited for had (it has all that a child had that
/// ended, also from before).
#[derive(Debug)]
pub struct Strangers {
    busy_us: f64,
    ours_us: f64,
    others: HashMap<u32, u64>,
    since: Instant,
}

impl Strangers {
    /// Starts the count.
    #[must_use]
    pub fn watch() -> Self {
        // The clock first: what happens while the others are counted is within its time.
        let since = Instant::now();
        Self { busy_us: busy_us(), ours_us: ours_us(), others: others(), since }
    }

    /// Their part of what all processors could have done since then: 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        let time_us = self.time_us();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        share(time_us, self.since.elapsed().as_secs_f64() * 1e6 * processors as f64)
    }

    /// CPU time that strangers had since then, in microseconds: to a few clock ticks.
    #[must_use]
    pub fn time_us(&self) -> f64 {
        let busy_us = busy_us() - self.busy_us;
        let not_ours_us = (busy_us - (ours_us() - self.ours_us)).max(0.0);
        not_ours_us.min(growth(&self.others, &others()) as f64 * TICK_US)
    }
}

/// Counts are of whole ticks, so within a short time they may be more than that had.
fn share(time_us: f64, all_us: f64) -> f64 {
    if all_us > 0.0 { (time_us / all_us).clamp(0.0, 1.0) } else { 0.0 }
}

/// The ticks of all processes that are neither of this run nor the kernel's.
fn others() -> HashMap<u32, u64> {
    let all = processes();
    let ours = [descendants(&all, std::process::id()), descendants(&all, 2)].concat();
    let others = all.iter().filter(|process| !ours.contains(&process.pid));
    others.map(|process| (process.pid, process.ticks)).collect()
}

/// Ticks that were added between two looks; a process that is new has all of its.
fn growth(before: &HashMap<u32, u64>, after: &HashMap<u32, u64>) -> u64 {
    let since = |(pid, ticks): (&u32, &u64)| {
        ticks.saturating_sub(before.get(pid).copied().unwrap_or_default())
    };
    after.iter().map(since).sum()
}

/// Length of a clock tick as `/proc` counts them (USER_HZ, 100 on all of Linux), in microseconds.
const TICK_US: f64 = 10_000.0;

/// Time in which some processor was busy, stolen time included.
fn busy_us() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    Ticks::parse(&stat).map_or(0.0, |ticks| ticks.busy() as f64 * TICK_US)
}

/// CPU time of this process, of its descendants, of children that it has outlived, and of the
/// kernel's threads, which work for those who are measured.
fn ours_us() -> f64 {
    let all = processes();
    let mut pids = descendants(&all, std::process::id());
    pids.extend(descendants(&all, 2));
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    processes_us(&pids) + outlived_ticks(&stat).unwrap_or(0) as f64 * TICK_US
}

/// Time of children that were waited for: `cutime` and `cstime` (proc(5)).
fn outlived_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(13).map_while(|field| field.parse::<u64>().ok());
    Some(fields.next()? + fields.next()?)
}

/// `root` and all that descend from it.
fn descendants(all: &[Process], root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|child| child.parent == parent).map(|child| child.pid));
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_this_process_is_its_own() {
        let own = [std::process::id()];
        let before = processes_us(&own);
        let mut sum = 0u64;
        while processes_us(&own) < before + 2_000.0 {
            sum = std::hint::black_box(sum + 1);
        }
        let strangers = Strangers::watch();
        let (busy, ours) = (strangers.busy_us, strangers.ours_us);
        assert!(ours >= before + 2_000.0 && busy > 0.0, "{strangers:?}");
    }

    #[test]
    fn a_name_with_brackets_does_not_hide_the_parent() {
        let seen = parse_stat(7, "7 (a) R (b)) S 42 7 7 0").unwrap();
        assert_eq!(seen, Process { pid: 7, parent: 42, name: "a) R (b)".to_owned(), ticks: 0 });
    }

    #[test]
    fn children_that_ended_are_counted() {
        let stat = "7 (a b) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 700 8000 20 0 1 0 5";
        assert_eq!(outlived_ticks(stat), Some(8700));
    }

    #[test]
    fn what_others_and_their_children_did_is_what_grew() {
        let stat = "7 (a b) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 700 8000 20 0 1 0 5";
        assert_eq!(parse_stat(7, stat).unwrap().ticks, 8810);
        let before = HashMap::from([(1, 100), (2, 10), (3, 7)]);
        let after = HashMap::from([(1, 130), (2, 10), (4, 5)]);
        assert_eq!(growth(&before, &after), 35, "3 is gone, 4 is new");
    }

    #[test]
    fn strangers_never_have_more_than_all() {
        let shares = [share(TICK_US, 2_000.0), share(500.0, 2_000.0), share(1.0, 0.0)];
        assert_eq!(shares, [1.0, 0.25, 0.0]);
    }

    #[test]
    fn grandchildren_descend_too() {
        let process = |pid, parent| Process { pid, parent, name: String::new(), ticks: 0 };
        let all = [process(9, 5), process(5, 3), process(3, 1), process(4, 1)];
        assert_eq!(descendants(&all, 3), [3, 5, 9]);
    }
}
