//! What an operator can see of a device, and the log that a VMM cannot flood.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::refusal::Refusal;

/// Log lines of one device in each window.
const LINES_PER_WINDOW: u32 = 10;
const WINDOW_US: u64 = 5_000_000;

/// One device now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceStatus {
    /// The vNIC.
    pub name: String,
    /// Whether a VMM is connected.
    pub connected: bool,
    /// The VMM's process id, 0 if unknown.
    pub peer_pid: i32,
    /// Connections so far, the present one included.
    pub sessions: u64,
    /// Virtio features that the driver acknowledged.
    pub features: u64,
    /// Every ring of the device.
    pub rings: Vec<RingStatus>,
    /// Regions of guest memory that are mapped.
    pub memory_regions: usize,
    /// Whether all of them are sealed against shrinking. If not, the VMM can take memory
    /// away from under its own rings, which then stop.
    pub memory_sealed: bool,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// Sessions that were closed because of what the VMM did, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
}

/// One ring now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingStatus {
    /// A worker serves it.
    pub running: bool,
    /// Frames may pass.
    pub enabled: bool,
}

/// The live status of one device, shared by its threads.
#[derive(Debug)]
pub(super) struct Board {
    name: String,
    status: Mutex<DeviceStatus>,
    limit: Mutex<LogLimit>,
    start: Instant,
    /// A VMM has the socket: set when it is accepted, cleared when we or it hung up,
    /// which is before its threads have ended.
    attached: AtomicBool,
}

impl Board {
    pub(super) fn new(name: &str, rings: u16) -> Self {
        let status = DeviceStatus {
            name: name.to_owned(),
            rings: vec![RingStatus::default(); usize::from(rings)],
            ..DeviceStatus::default()
        };
        Self {
            name: name.to_owned(),
            status: Mutex::new(status),
            limit: Mutex::new(LogLimit::default()),
            start: Instant::now(),
            attached: AtomicBool::new(false),
        }
    }

    pub(super) fn snapshot(&self) -> DeviceStatus {
        self.status().clone()
    }

    pub(super) fn attach(&self, attached: bool) {
        self.attached.store(attached, Ordering::Release);
    }

    /// Another VMM came. Nothing to say when the first has hung up: a VMM that was
    /// refused comes back faster than its old session's threads end.
    pub(super) fn another_came(&self) {
        if self.attached.load(Ordering::Acquire) {
            self.trouble(
                "another VMM is attached; one VMM at a time: the new one waits for its end",
            );
        }
    }

    pub(super) fn connected(&self, peer_pid: i32) {
        let mut status = self.status();
        status.connected = true;
        status.peer_pid = peer_pid;
        status.sessions = status.sessions.wrapping_add(1);
        status.memory_sealed = true;
    }

    pub(super) fn disconnected(&self) {
        let mut status = self.status();
        status.connected = false;
        status.peer_pid = 0;
        status.features = 0;
        status.memory_regions = 0;
        status.memory_sealed = false;
        status.rings.iter_mut().for_each(|ring| *ring = RingStatus::default());
    }

    pub(super) fn features(&self, features: u64) {
        self.status().features = features;
    }

    pub(super) fn memory_regions(&self, regions: usize) {
        self.status().memory_regions = regions;
    }

    pub(super) fn memory_unsealed(&self) {
        self.status().memory_sealed = false;
    }

    pub(super) fn ring(&self, index: u16, ring: RingStatus) {
        if let Some(slot) = self.status().rings.get_mut(usize::from(index)) {
            *slot = ring;
        }
    }

    /// Counts a refusal and writes one line; `details` is empty or begins with a colon.
    pub(super) fn refused(&self, refusal: Refusal, details: &str) {
        *self.status().refusals.entry(refusal.name()).or_default() += 1;
        self.trouble(&format!("the VMM's session is closed: {refusal}{details}"));
    }

    /// Remembers what went wrong and writes at most ten lines in five seconds.
    pub(super) fn trouble(&self, what: &str) {
        self.status().last_error = Some(what.to_owned());
        let now_us = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let verdict = self.limit.lock().unwrap_or_else(PoisonError::into_inner).ask(now_us);
        if let Some(suppressed) = verdict {
            tracing::warn!(vnic = %self.name, suppressed, "{what}");
        }
    }

    /// Remembers what is being waited for, without a line in the log.
    pub(super) fn waiting(&self, what: String) {
        self.status().last_error = Some(what);
    }

    fn status(&self) -> MutexGuard<'_, DeviceStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ten lines in five seconds.
#[derive(Debug, Default)]
struct LogLimit {
    window_start_us: u64,
    lines: u32,
    suppressed: u64,
}

impl LogLimit {
    /// Whether a line may be written now, and how many were not since the last.
    fn ask(&mut self, now_us: u64) -> Option<u64> {
        if now_us.saturating_sub(self.window_start_us) >= WINDOW_US {
            self.window_start_us = now_us;
            self.lines = 0;
        }
        if self.lines >= LINES_PER_WINDOW {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_is_limited_and_says_what_it_left_out() {
        let mut limit = LogLimit::default();
        let written = (0..100).filter(|i| limit.ask(1_000 + i).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(limit.ask(1_000 + WINDOW_US), Some(90));
        assert_eq!(limit.ask(1_001 + WINDOW_US), Some(0));
    }

    #[test]
    fn refusals_are_counted_by_name() {
        let board = Board::new("v", 2);
        board.refused(Refusal::Unknown(99), "");
        board.refused(Refusal::Unknown(98), "");
        board.refused(Refusal::Truncated, "");
        let status = board.snapshot();
        assert_eq!(status.refusals.get("unknown-message"), Some(&2));
        assert_eq!(status.refusals.get("truncated"), Some(&1));
        assert!(status.last_error.unwrap().contains("inside a message"));
    }
}
