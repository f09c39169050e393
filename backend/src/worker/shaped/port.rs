//! The vNIC's part of its server's fabric port: one bucket for all that it sends to other hosts.

use crate::shares::{Toward, VnicShare, fabric_bits};
use wireonce_queue::burst_bits;
use wireonce_shares::Bucket;

/// What cannot wait may be so far in advance of the rate.
const ADVANCE_US: u64 = 5_000;

/// Whether frames may cross the port.
#[derive(Debug, Default)]
pub(super) struct PortGate {
    /// While the port is divided.
    bucket: Option<Bucket>,
    /// What is first in line waits for it, and is for these.
    waiting: Option<Toward>,
}

impl PortGate {
    /// Takes the rate that holds now, and says whether a frame may go.
    #[inline]
    pub(super) fn is_ready(&mut self, share: &VnicShare, now_us: u64) -> bool {
        let Some(rate_bps) = share.port.rate_bps() else {
            if self.is_divided() {
                *self = Self::default();
            }
            return true;
        };
        let full = || Bucket::new(rate_bps, burst_bits(rate_bps), now_us);
        let bucket = self.bucket.get_or_insert_with(full);
        if rate_bps != bucket.rate() {
            bucket.set(rate_bps, burst_bits(rate_bps), now_us);
        }
        let is_ready = bucket.is_ready(now_us);
        if is_ready {
            self.waiting = None;
        }
        is_ready
    }

    /// What is first in line has to wait.
    pub(super) fn wait(&mut self, toward: Toward) {
        self.waiting = Some(toward);
    }

    /// A frame that cannot wait may go though nothing is left.
    pub(super) fn may_advance(&self, now_us: u64) -> bool {
        self.next_us().is_none_or(|us| us <= now_us.saturating_add(ADVANCE_US))
    }

    /// A frame of `len` bytes crossed it.
    #[inline]
    pub(super) fn charge(&mut self, share: &VnicShare, toward: Toward, len: usize, now_us: u64) {
        if let Some(bucket) = &mut self.bucket {
            let bits = fabric_bits(len);
            bucket.charge(bits, now_us);
            share.port.served(toward, bits);
        }
    }

    /// What waited for it still has to: the thread that divides the port hears of it.
    pub(super) fn still_waits(&mut self, share: &VnicShare, now_us: u64) -> bool {
        let Some(toward) = self.waiting else { return false };
        let waits = !self.is_ready(share, now_us);
        if waits {
            share.port.hold(toward);
        }
        waits
    }

    /// Something waits for it.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.is_some()
    }

    /// The port is divided, as far as this worker has seen.
    pub(super) fn is_divided(&self) -> bool {
        self.bucket.is_some()
    }

    /// When it has credit again; `None` while it is not divided.
    pub(super) fn next_us(&self) -> Option<u64> {
        let bucket = self.bucket.as_ref()?;
        Some(bucket.next_us().unwrap_or(u64::MAX))
    }
}
