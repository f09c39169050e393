//! Paths on which nothing authentic has come yet.
//!
//! A session has a path for each of the peer's workers, path numbers and ECN classes, and
//! most are never used. What a path needs is made when the first datagram names it, and
//! kept when that datagram turns out to be the peer's:
//!
//! ```text
//!   first datagram of a path ──> derive its key ──> it opens ───> the session's paths
//!                                  ^      │
//!                  at most 64 in 10 ms    └──> it does not ──> kept here, 64 at most
//! ```
//!
//! Session and path stand in clear text in every datagram, so anybody on the way can forge
//! such ones. A key is derived once for all forgeries on one path as long as it is kept
//! here; a forger who names more paths than that meets the limit. Under such a flood a
//! peer's new path may lose its first datagrams, but gets its turn within some
//! milliseconds; paths in use are not concerned.

use super::rx::{RxCounters, RxPath};
use std::collections::VecDeque;

/// Paths that are kept without proof: some 100 KB.
const KEPT_MAX: usize = 64;
/// Keys that are derived in vain in one interval: about 100 us of CPU.
const DERIVED_MAX: u32 = 64;
/// The interval.
const INTERVAL_US: u64 = 10_000;

/// Whose path: our session index, and its slot.
pub(super) type PathName = (u32, usize);

/// The paths of one worker that nobody has proved.
#[derive(Debug, Default)]
pub(super) struct Unproved {
    kept: VecDeque<(PathName, Box<RxPath>)>,
    /// Keys derived in this interval, less those that proved right.
    derived: u32,
    interval_ends_us: u64,
}

impl Unproved {
    /// The path, kept from an earlier try or made by `derive`. `None` if there were too
    /// many forgeries, or the crypto library fails.
    pub(super) fn take(
        &mut self,
        name: PathName,
        now_us: u64,
        derive: impl FnOnce() -> Option<RxPath>,
    ) -> Option<Box<RxPath>> {
        if let Some(at) = self.kept.iter().position(|(kept, _)| *kept == name) {
            return self.kept.remove(at).map(|(_, path)| path);
        }
        if now_us >= self.interval_ends_us {
            self.interval_ends_us = now_us.saturating_add(INTERVAL_US);
            self.derived = 0;
        }
        if self.derived >= DERIVED_MAX {
            return None;
        }
        self.derived += 1;
        derive().map(Box::new)
    }

    /// A datagram proved the path that was taken.
    pub(super) fn proved(&mut self) {
        self.derived = self.derived.saturating_sub(1);
    }

    /// Keeps a path that was taken and that nothing proved.
    pub(super) fn keep(&mut self, name: PathName, mut path: Box<RxPath>) {
        path.counters = RxCounters::default();
        if self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back((name, path));
    }

    /// The session is gone.
    pub(super) fn forget(&mut self, session: u32) {
        self.kept.retain(|((index, _), _)| *index != session);
    }
}
