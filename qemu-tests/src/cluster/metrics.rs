//! Scrapes of daemons and of the controller, as Prometheus makes them.

use super::{Cluster, LIMIT, control::no_controller};
use crate::error::Result;
use crate::netns::Netns;

/// Where each of them answers, in its own namespace.
pub(super) const METRICS_ADDRESS: &str = "127.0.0.1:9464";

impl Cluster {
    /// What the daemon of one host answers to a scrape.
    ///
    /// # Errors
    /// It does not answer; or the plan has no metrics.
    pub fn scrape(&self, index: usize) -> Result<String> {
        scrape(&self.host(index)?.netns)
    }

    /// What the controller answers to a scrape.
    ///
    /// # Errors
    /// As [`Self::scrape`]; or the plan has no controller.
    pub fn scrape_controller(&self) -> Result<String> {
        scrape(&self.control.as_ref().ok_or_else(no_controller)?.netns)
    }
}

fn scrape(netns: &Netns) -> Result<String> {
    netns.sh(&format!("busybox wget -q -O - http://{METRICS_ADDRESS}/metrics"), LIMIT)
}
