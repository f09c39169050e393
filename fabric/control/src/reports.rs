//! What hosts say of themselves: the two newest reports of each, in memory.
//!
//! ```text
//! PUT /v1/hosts/NAME/report ──▶ take ──▶ newest ──▶ before ──▶ forgotten
//!                                │
//!                                └─▶ when to come again: all together 20 MB a second at most
//! ```
//! Nothing of it is stored, and nothing depends on it but sight and demand: a controller that
//! starts anew knows nothing for one interval. Hosts that are not in the house have no reports,
//! and all reports together have a bound, so no host can fill the controller's memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use wireonce_ledger::report::{Arrival, HostReport, HostReports};

/// Longest report that is taken, bytes of JSON.
pub const REPORT_LEN_MAX: usize = 4 << 20;
/// What all hosts together may send, bytes a second.
const TOGETHER_PER_S: usize = 20_000_000;
/// Seconds between two reports of a host.
const NEXT_MIN_S: u64 = 1;
/// And at most.
const NEXT_MAX_S: u64 = 60;
/// What all reports that are kept may have together, bytes of JSON.
const KEPT_LEN_MAX: usize = 1 << 30;

/// The reports of all hosts. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Reports {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    hosts: BTreeMap<String, Host>,
    /// The sum of the lengths of all that is kept.
    len: usize,
}

#[derive(Debug)]
struct Host {
    reports: HostReports,
    newest_len: usize,
    before_len: usize,
}

/// There are too many large reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "all hosts' reports together are over {KEPT_LEN_MAX} bytes; use a second house for some of them"
)]
pub struct Full;

impl Reports {
    /// Takes a report of `len` bytes from `host`, which is in the house, and says after how
    /// many seconds the next one is due. Hosts that `is_known` does not know are forgotten.
    ///
    /// # Errors
    /// [`Full`]; the host's older reports stay.
    pub fn take(
        &self,
        host: &str,
        report: HostReport,
        len: usize,
        is_known: impl Fn(&str) -> bool,
        now_us: u64,
    ) -> Result<u64, Full> {
        let mut kept = self.kept();
        kept.forget(|name| !is_known(name));
        kept.make_room(host, len)?;
        let before = kept.hosts.remove(host);
        let before_len = before.as_ref().map_or(0, |host| host.newest_len);
        let next_in_s = next_in_s(kept.newest_len().saturating_add(len));
        let newest = Arrival { at_us: now_us, next_in_s, report: Arc::new(report) };
        let before = before.map(|host| host.reports.newest);
        let reports = HostReports { newest, before };
        kept.hosts.insert(host.to_owned(), Host { reports, newest_len: len, before_len });
        kept.count();
        Ok(next_in_s)
    }

    /// What a host said; `None`: nothing since the controller started.
    #[must_use]
    pub fn of(&self, host: &str) -> Option<HostReports> {
        self.kept().hosts.get(host).map(|host| host.reports.clone())
    }

    /// What all hosts said, by name. Reports are shared, not copied.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, HostReports> {
        let kept = self.kept();
        kept.hosts.iter().map(|(name, host)| (name.clone(), host.reports.clone())).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget(&mut self, is_gone: impl Fn(&str) -> bool) {
        self.hosts.retain(|name, _| !is_gone(name));
        self.count();
    }

    /// Makes room for a report of `host`: the second newest reports of others go, the oldest first.
    fn make_room(&mut self, host: &str, len: usize) -> Result<(), Full> {
        let own = self.hosts.get(host).map_or(0, |host| host.before_len);
        let others = |kept: &Self| kept.len.saturating_sub(own).saturating_add(len);
        while others(self) > KEPT_LEN_MAX {
            let seconds = self
                .hosts
                .iter_mut()
                .filter(|(name, it)| it.reports.before.is_some() && name.as_str() != host);
            let at_us = |it: &Host| it.reports.before.as_ref().map_or(0, |before| before.at_us);
            let Some((_, oldest)) = seconds.min_by_key(|(_, it)| at_us(it)) else {
                return Err(Full);
            };
            oldest.reports.before = None;
            oldest.before_len = 0;
            self.count();
        }
        Ok(())
    }

    fn newest_len(&self) -> usize {
        self.hosts.values().map(|host| host.newest_len).sum()
    }

    fn count(&mut self) {
        self.len = self.hosts.values().map(|host| host.newest_len + host.before_len).sum();
    }
}

/// So many seconds apart all hosts, whose reports are `len` bytes together, send no more than
/// they may.
fn next_in_s(len: usize) -> u64 {
    u64::try_from(len.div_ceil(TOGETHER_PER_S)).unwrap_or(NEXT_MAX_S).clamp(NEXT_MIN_S, NEXT_MAX_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_ledger::Status;

    fn report(uptime_s: u64) -> HostReport {
        HostReport { status: Status { uptime_s, ..Status::default() }, ..HostReport::default() }
    }

    fn take(reports: &Reports, host: &str, uptime_s: u64, len: usize) -> Result<u64, Full> {
        reports.take(host, report(uptime_s), len, |_| true, uptime_s)
    }

    #[test]
    fn the_two_newest_are_kept_with_the_time_when_they_came() {
        let reports = Reports::default();
        let taken: Vec<_> = (1..=3).map(|at| take(&reports, "a", at, 10)).collect();
        assert_eq!(taken, [Ok(1), Ok(1), Ok(1)]);
        let kept = reports.of("a").unwrap();
        assert_eq!((kept.newest.at_us, kept.newest.report.status.uptime_s), (3, 3));
        assert_eq!(kept.before.map(|before| before.at_us), Some(2));
        assert_eq!(reports.of("b"), None);
    }

    #[test]
    fn who_is_not_in_the_house_any_more_is_forgotten() {
        let reports = Reports::default();
        take(&reports, "a", 1, 10).unwrap();
        reports.take("b", report(1), 10, |name| name == "b", 1).unwrap();
        assert_eq!(reports.all().into_keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn all_together_bring_twenty_megabytes_a_second_at_most() {
        let reports = Reports::default();
        assert_eq!(take(&reports, "host-0", 1, 2_000_000), Ok(1));
        let next = |at: u64| take(&reports, &format!("host-{at}"), 1, 2_000_000).unwrap();
        assert_eq!((1..10).map(next).max(), Some(1), "ten bring 20 MB");
        assert_eq!(next(10), 2);
        assert_eq!((11..400).map(next).max(), Some(40));
        assert_eq!(next_in_s(usize::MAX), 60);
        assert_eq!(next_in_s(0), 1);
    }

    #[test]
    fn what_is_kept_has_a_bound_and_the_oldest_seconds_go_first() {
        let reports = Reports::default();
        let quarter = KEPT_LEN_MAX / 4;
        for (host, at) in [("a", 1), ("a", 2), ("b", 3), ("b", 4)] {
            take(&reports, host, at, quarter).unwrap();
        }
        take(&reports, "c", 5, quarter).unwrap();
        assert_eq!(reports.of("a").unwrap().before, None);
        assert!(reports.of("b").unwrap().before.is_some());
        take(&reports, "d", 6, quarter).unwrap();
        assert_eq!(reports.of("b").unwrap().before, None);
        assert_eq!(take(&reports, "e", 7, quarter), Err(Full));
        assert_eq!(reports.of("d").unwrap().newest.at_us, 6, "others stay");
    }
}
