//! What a host's agent sends to the controller, and what the controller has of it.
//!
//! ```text
//! daemon ── Status ──┐
//! agent ── tag, ─────┴──▶ HostReport ── PUT /v1/hosts/NAME/report ──▶ the two newest ──▶ rates
//! ```
//! Fields that an older version does not send have their defaults, those that a newer one
//! sends are skipped, so hosts and controller need not be of one version.

use crate::Status;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A host at one moment: its daemon, and what its agent did with the desired state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostReport {
    /// The tag of the text that the daemon serves; `None`: it serves none of the controller's.
    pub tag: Option<String>,
    /// Why the newest text is not served, if it was refused.
    pub refused: Option<String>,
    /// When the host's certificate ends: seconds since 1970.
    pub certificate_until_s: Option<u64>,
    /// What the daemon says of itself.
    pub status: Status,
}

/// What the controller answers to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// The next report is due after so many seconds.
    pub next_in_s: u64,
}

/// A report with what the controller knows of its arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// When it came: monotonic microseconds of the controller.
    pub at_us: u64,
    /// In how many seconds the host was asked to come again.
    pub next_in_s: u64,
    /// What it said.
    pub report: Arc<HostReport>,
}

/// The two newest reports of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostReports {
    /// The last one.
    pub newest: Arrival,
    /// The one before it.
    pub before: Option<Arrival>,
}

impl HostReports {
    /// How long nothing came, in microseconds.
    #[must_use]
    pub fn age_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.newest.at_us)
    }

    /// The status before the newest one, if both are of one life of the daemon: only then is a
    /// difference of their counters a rate.
    #[must_use]
    pub fn status_before(&self) -> Option<&Status> {
        let before = self.before.as_ref()?;
        let (old, new) = (&before.report.status, &self.newest.report.status);
        let passed_us = self.newest.at_us.saturating_sub(before.at_us);
        old.precedes(new, passed_us).then_some(old)
    }
}

impl Status {
    /// Whether `new`, which came `passed_us` later, is of the same life of a daemon, and later. Versions
    /// that do not give their lives are told apart by their clocks: who started anew in between has
    /// run for less than that.
    #[must_use]
    pub fn precedes(&self, new: &Self, passed_us: u64) -> bool {
        let is_later = new.sampled_at_us > self.sampled_at_us && new.role == self.role;
        if new.life != 0 || self.life != 0 {
            return is_later && new.life == self.life;
        }
        is_later && new.sampled_at_us >= passed_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(at_us: u64, sampled_at_us: u64, life: u64) -> Arrival {
        let status = Status { sampled_at_us, life, ..Status::default() };
        let report = HostReport { status, ..HostReport::default() };
        Arrival { at_us, next_in_s: 1, report: Arc::new(report) }
    }

    fn is_difference(before: Arrival, newest: Arrival) -> bool {
        HostReports { newest, before: Some(before) }.status_before().is_some()
    }

    #[test]
    fn a_report_survives_the_wire_and_versions() {
        let report = HostReport {
            tag: Some("ab".to_owned()),
            certificate_until_s: Some(7),
            status: Status { host: "server-a".to_owned(), ..Status::default() },
            ..HostReport::default()
        };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<HostReport>(&text).unwrap(), report);
        let newer = "{\"tag\":\"ab\",\"new\":[1],\"status\":{\"host\":\"server-a\",\"new\":{}}}";
        let read: HostReport = serde_json::from_str(newer).unwrap();
        assert_eq!(read, HostReport { certificate_until_s: None, ..report });
        assert_eq!(serde_json::from_str::<HostReport>("{}").unwrap(), HostReport::default());
    }

    #[test]
    fn only_reports_of_one_life_have_a_difference() {
        let second = 1_000_000;
        assert!(is_difference(arrival(0, 5 * second, 9), arrival(second, 6 * second, 9)));
        assert!(!is_difference(arrival(0, second, 9), arrival(5 * second, 2 * second, 8)));
        assert!(!is_difference(arrival(0, 5 * second, 9), arrival(second, 5 * second, 9)));
    }

    #[test]
    fn lives_of_older_versions_are_told_apart_by_their_clocks() {
        let second = 1_000_000;
        assert!(is_difference(arrival(0, 9 * second, 0), arrival(second, 10 * second, 0)));
        // It ran for a second, started anew and has run for two.
        assert!(!is_difference(arrival(0, second, 0), arrival(60 * second, 2 * second, 0)));
    }
}
