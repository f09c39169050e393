//! The receiver's side: when to report, and what.

use super::{Evidence, GAPS_MAX};
use crate::replay::ReplayWindow;

/// A report that nothing followed is said again so many times, in case it was lost.
const REPEATS: u32 = 2;

/// Makes the reports on one path of one session.
///
/// A report costs a datagram, and datagrams are reported on: so only those that
/// carry more than reports make one due. Otherwise two idle ends would answer each
/// other for ever.
#[derive(Debug, Clone)]
pub struct EvidenceBuilder {
    every_us: u64,
    /// Everything below was covered by a report.
    reported_to: u64,
    /// Something worth reporting came since the last report.
    traffic: bool,
    repeats_left: u32,
    next_us: u64,
}

impl EvidenceBuilder {
    /// At most one report per `every_us`, except where one has no room for all gaps.
    #[must_use]
    pub fn new(every_us: u64) -> Self {
        Self { every_us, reported_to: 0, traffic: false, repeats_left: 0, next_us: 0 }
    }

    /// A datagram came that carries frames, or a probe: its sender waits for a report.
    pub fn traffic(&mut self) {
        self.traffic = true;
    }

    /// When a report is due, if the edge is where it is now.
    #[must_use]
    pub fn due_us(&self) -> Option<u64> {
        (self.traffic || self.repeats_left > 0).then_some(self.next_us)
    }

    /// The report for now: everything final since the last one, and as much before
    /// it as there is room for. `edge` is one more than the last number that the
    /// unpacker has gone past. `None`: nothing was received that is final.
    ///
    /// Call again at once while [`Self::behind`]. To leave nothing out, reports must
    /// be made more often than the window of 4,096 numbers turns over.
    #[must_use]
    pub fn build(&mut self, now_us: u64, window: &ReplayWindow, edge: u64) -> Option<Evidence> {
        let edge = edge.min(window.edge());
        let fresh = edge > self.reported_to;
        self.repeats_left =
            if self.traffic { REPEATS } else { self.repeats_left.saturating_sub(1) };
        self.traffic = false;
        self.next_us = now_us.saturating_add(self.every_us);

        let lowest = window.lowest();
        let news_from = self.reported_to.max(lowest);
        let to = self.end_of_report(window, news_from, edge);
        let from = start_of_report(window, lowest, news_from.min(to), to);
        let mut evidence = Evidence::new(from..to)?;
        for missing in window.missing(from..to) {
            if !evidence.push(&missing) {
                // Cannot be: the range was cut to what fits. A gap that is left out
                // would be a false "arrived", so rather nothing.
                return None;
            }
        }
        if fresh {
            self.reported_to = to;
        }
        Some(evidence)
    }

    /// Whether the last report had no room for everything up to `edge`.
    #[must_use]
    pub fn behind(&self, window: &ReplayWindow, edge: u64) -> bool {
        self.reported_to < edge.min(window.edge())
    }

    /// The news from `from` on that fit into one report end here.
    fn end_of_report(&self, window: &ReplayWindow, from: u64, edge: u64) -> u64 {
        let too_many = window.missing(from..edge).nth(GAPS_MAX);
        too_many.map_or(edge, |gap| gap.start)
    }
}

/// As far before `news_from` as the gaps up to `to` leave room.
fn start_of_report(window: &ReplayWindow, lowest: u64, news_from: u64, to: u64) -> u64 {
    let total = window.missing(lowest..to).count();
    match total.checked_sub(GAPS_MAX + 1) {
        None => lowest,
        // One more than the last gap that has no room; never cut into the news.
        Some(last) => {
            window.missing(lowest..to).nth(last).map_or(lowest, |gap| gap.end.min(news_from))
        }
    }
}
