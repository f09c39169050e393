//! The receiver's side: what to report. When, is the path's business.

use super::{Evidence, GAPS_MAX};
use crate::replay::ReplayWindow;

/// Makes the reports on one path of one session.
///
/// A report costs a datagram, and datagrams are reported on. So only datagrams that
/// carry frames, or that ask, may make one due: otherwise two idle ends would
/// answer each other for ever.
#[derive(Debug, Clone)]
pub struct EvidenceBuilder {
    first: u64,
    /// Everything below was covered by a report.
    reported_to: u64,
}

impl EvidenceBuilder {
    /// For a path whose first datagram has the number `first`.
    #[must_use]
    pub fn new(first: u64) -> Self {
        Self { first, reported_to: first }
    }

    /// The report for now: everything final since the last one, and as much before
    /// it as there is room for. `edge` is one more than the last number that the
    /// unpacker has gone past. `None`: nothing that was received is final.
    ///
    /// To be called again at once while [`Self::behind`]. Nothing is left out if
    /// reports are made more often than the window of 4,096 numbers turns over.
    #[must_use]
    pub fn build(&mut self, window: &ReplayWindow, edge: u64) -> Option<Evidence> {
        let edge = edge.min(window.edge());
        let lowest = window.lowest().max(self.first);
        let news_from = self.reported_to.max(lowest).min(edge);
        let to = end_of_report(window, news_from, edge);
        let from = start_of_report(window, lowest, news_from, to);
        let mut evidence = Evidence::new(from..to)?;
        for missing in window.missing(from..to) {
            if !evidence.push(&missing) {
                // Cannot be: the range was cut to what fits. A gap that is left out
                // would be a false "arrived", so rather nothing.
                return None;
            }
        }
        self.reported_to = self.reported_to.max(to);
        Some(evidence)
    }

    /// Whether the last report had no room for everything up to `edge`.
    #[must_use]
    pub fn behind(&self, window: &ReplayWindow, edge: u64) -> bool {
        self.reported_to < edge.min(window.edge())
    }
}

/// The news from `from` on that fit into one report end here.
fn end_of_report(window: &ReplayWindow, from: u64, edge: u64) -> u64 {
    let too_many = window.missing(from..edge).nth(GAPS_MAX);
    too_many.map_or(edge, |gap| gap.start)
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
