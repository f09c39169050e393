//! Promises that expire, and never add up to more than there is.
//!
//! A gateway leases the capacity of an uplink to servers: a rate, an epoch, an expiry. A server
//! obeys the newest lease that it has, until it expires; without one it may send its *starter*,
//! which is never lent to anybody else. Messages may be lost, doubled, late and out of order,
//! either side may crash, and clocks differ and drift.
//!
//! ```text
//!   server                                    gateway
//!     │ report: my time 100, epoch 7 obeyed      │
//!     ├──────────────────────────────────────────▶ received at 5_000
//!     │                                          │   what others may still send is known;
//!     │          lease: epoch 8, rate, answers 100   the rest is promised
//!     ◀──────────────────────────────────────────┤   in force until 5_000 + valid + margin,
//!     │ in force until my time 100 + valid       │   at the latest
//!     │ report: my time 105, epoch 8 obeyed      │
//!     ├──────────────────────────────────────────▶   epoch 7 is not obeyed any more
//! ```
//! The expiry is counted from the *report* that a lease answers: the server sent it before the
//! gateway received it, so the server's time is up before the gateway's, however long the
//! lease was on its way. No clock is compared with another; the margin is for their drift.
//!
//! What a server may be obeying is the largest of its unexpired promises from the acknowledged
//! one on. A new promise is at most what the capacity leaves beside the others': so a raise waits until the cut that
//! pays for it is acknowledged or expired, and nobody has to remember which cut paid for what.
//!
//! A gateway that has just started knows nothing of earlier promises: until they have expired
//! it promises starters only.

use std::ops::RangeInclusive;

/// Epochs above this are not believed: a server that names one does not use up the epochs of
/// the others.
const EPOCH_BELIEVED_MAX: u64 = 1 << 62;

/// What each of `servers` may always send of `usable_bps`: together a twentieth of it.
#[must_use]
pub fn starter_bps(usable_bps: u64, servers: usize) -> u64 {
    let servers = u64::try_from(servers).unwrap_or(u64::MAX).max(1);
    usable_bps / 20 / servers
}

/// Position of a server among those of an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerIndex(pub usize);

/// How long leases hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTiming {
    /// From the report that it answers until it expires, in microseconds of the server's clock.
    pub valid_us: u64,
    /// How much longer the gateway counts with it: more than two clocks drift apart meanwhile.
    pub margin_us: u64,
}

impl Default for LeaseTiming {
    /// 50 ms, and 10 ms for drift: a clock that is wrong by a fifth.
    fn default() -> Self {
        Self { valid_us: 50_000, margin_us: 10_000 }
    }
}

/// What a server tells the gateway, each tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The server's time when it was sent, in microseconds.
    pub sent_us: u64,
    /// Epoch of the newest lease that the server has had; 0 if none.
    pub obeyed: u64,
}

/// What the gateway answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Newer leases have larger epochs.
    pub epoch: u64,
    /// What the server may send, in bits a second.
    pub rate_bps: u64,
    /// [`Report::sent_us`] of the report that it answers.
    pub answers_us: u64,
}

/// The server's end.
#[derive(Debug, Clone)]
pub struct Lessee {
    starter_bps: u64,
    timing: LeaseTiming,
    lease: Option<Lease>,
    /// Time of the first and of the last report.
    sent_us: Option<(u64, u64)>,
}

impl Lessee {
    /// A server that has no lease yet, and may send `starter_bps` without any.
    #[must_use]
    pub fn new(starter_bps: u64, timing: LeaseTiming) -> Self {
        Self { starter_bps, timing, lease: None, sent_us: None }
    }

    /// The gateway says what may be sent without a lease.
    pub fn set_starter(&mut self, starter_bps: u64) {
        self.starter_bps = starter_bps;
    }

    /// What may be sent without a lease, in bits a second.
    #[must_use]
    pub fn starter_bps(&self) -> u64 {
        self.starter_bps
    }

    /// The lease in force, with its expiry on the server's clock.
    #[must_use]
    pub fn lease(&self, now_us: u64) -> Option<(Lease, u64)> {
        let lease = self.lease?;
        let expires_us = lease.answers_us.saturating_add(self.timing.valid_us);
        (now_us < expires_us).then_some((lease, expires_us))
    }

    /// The report to send now.
    pub fn report(&mut self, now_us: u64) -> Report {
        let (first_us, last_us) = self.sent_us.unwrap_or((now_us, now_us));
        let sent_us = last_us.max(now_us);
        self.sent_us = Some((first_us, sent_us));
        Report { sent_us, obeyed: self.lease.map_or(0, |lease| lease.epoch) }
    }

    /// Takes a lease, unless it is older than the one that is obeyed, or answers a report that
    /// this server did not send in this life: an earlier life may have obeyed a newer one, and
    /// said so.
    /// Returns whether it did.
    pub fn take(&mut self, lease: Lease) -> bool {
        let newer = self.lease.is_none_or(|held| held.epoch < lease.epoch);
        let asked = |(first_us, last_us)| (first_us..=last_us).contains(&lease.answers_us);
        let taken = newer && self.sent_us.is_some_and(asked);
        if taken {
            self.lease = Some(lease);
        }
        taken
    }

    /// What may be sent now, in bits a second.
    #[must_use]
    pub fn rate_bps(&self, now_us: u64) -> u64 {
        let expires_us = |lease: &Lease| lease.answers_us.saturating_add(self.timing.valid_us);
        let lease = self.lease.filter(|lease| now_us < expires_us(lease));
        lease.map_or(self.starter_bps, |lease| lease.rate_bps)
    }
}

/// The gateway's end: one direction of one uplink.
#[derive(Debug, Clone)]
pub struct Lessor {
    usable_bps: u64,
    timing: LeaseTiming,
    servers: Vec<Server>,
    first_epoch: u64,
    /// Promises of an earlier life may be in force until then.
    unknown_until_us: u64,
}

#[derive(Debug, Clone, Default)]
struct Server {
    /// Epochs only order what one server hears; were they common to all, one server's forged
    /// epoch would be every server's.
    next_epoch: u64,
    starter_bps: u64,
    target_bps: u64,
    /// Those that the server may be obeying, oldest first.
    promises: Vec<Promise>,
    /// The newest report: its own time, and ours when it came.
    heard: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Promise {
    epoch: u64,
    rate_bps: u64,
    until_us: u64,
}

impl Server {
    fn new(starter_bps: u64, next_epoch: u64) -> Self {
        Self { next_epoch, starter_bps, ..Self::default() }
    }

    /// The most that it may be sending now.
    fn committed_bps(&self, now_us: u64) -> u64 {
        let in_force = self.promises.iter().filter(|promise| now_us < promise.until_us);
        in_force.map(|promise| promise.rate_bps).max().unwrap_or(0).max(self.starter_bps)
    }
}

impl Lessor {
    /// A gateway that starts at `now_us` and may promise `usable_bps`. `starters_bps` has one
    /// rate for each server. `first_epoch` is larger than every epoch of its earlier lives, and
    /// not 0.
    #[must_use]
    pub fn new(
        usable_bps: u64,
        starters_bps: &[u64],
        timing: LeaseTiming,
        first_epoch: u64,
        now_us: u64,
    ) -> Self {
        let first_epoch = first_epoch.max(1);
        let server = |starter_bps: &u64| Server::new(*starter_bps, first_epoch);
        Self {
            usable_bps,
            timing,
            servers: starters_bps.iter().map(server).collect(),
            first_epoch,
            unknown_until_us: now_us
                .saturating_add(timing.valid_us)
                .saturating_add(timing.margin_us),
        }
    }

    /// The uplink can carry so much from now on. Less than before is in force when the cuts have
    /// been acknowledged, or the promises have expired; until then servers may send what was promised.
    pub fn set_usable(&mut self, usable_bps: u64) {
        self.usable_bps = usable_bps;
    }

    /// What the server is to have, as soon as it can be promised.
    pub fn set_target(&mut self, server: ServerIndex, target_bps: u64) {
        if let Some(server) = self.servers.get_mut(server.0) {
            server.target_bps = target_bps;
        }
    }

    /// One more server, which may send `starter_bps` without a lease.
    pub fn add(&mut self, starter_bps: u64) -> ServerIndex {
        self.servers.push(Server::new(starter_bps, self.first_epoch));
        ServerIndex(self.servers.len() - 1)
    }

    /// The server is gone, and those behind it move up by one. It is for the caller to know that no
    /// promise to it is in force.
    pub fn remove(&mut self, server: ServerIndex) {
        if server.0 < self.servers.len() {
            self.servers.remove(server.0);
        }
    }

    /// What the server may send without a lease is another rate from now on.
    pub fn set_starter(&mut self, server: ServerIndex, starter_bps: u64) {
        if let Some(server) = self.servers.get_mut(server.0) {
            server.starter_bps = starter_bps;
        }
    }

    /// The server has started anew, and its clock with it, perhaps.
    pub fn reattach(&mut self, server: ServerIndex) {
        if let Some(server) = self.servers.get_mut(server.0) {
            server.heard = None;
        }
    }

    /// A report came.
    pub fn hear(&mut self, server: ServerIndex, report: Report, now_us: u64) {
        let Some(server) = self.servers.get_mut(server.0) else { return };
        let issued = 1..=server.next_epoch.saturating_sub(1);
        server.forget(report.obeyed, &issued);
        // An earlier life gave it: the next one has to be newer, or the server never takes it.
        if (server.next_epoch..EPOCH_BELIEVED_MAX).contains(&report.obeyed) {
            server.next_epoch = report.obeyed + 1;
        }
        if server.heard.is_none_or(|(sent_us, _)| sent_us < report.sent_us) {
            server.heard = Some((report.sent_us, now_us));
        }
    }

    /// The lease that answers the server's newest report; `None` if there is none that a lease
    /// could still answer.
    pub fn lease(&mut self, server: ServerIndex, now_us: u64) -> Option<Lease> {
        let others_bps = self.committed_without(server, now_us);
        let known = now_us >= self.unknown_until_us;
        let to = self.servers.get_mut(server.0)?;
        let (answers_us, heard_us) = to.heard?;
        if now_us >= heard_us.saturating_add(self.timing.valid_us) {
            return None;
        }
        let room_bps = if known { self.usable_bps.saturating_sub(others_bps) } else { 0 };
        let rate_bps = to.target_bps.min(room_bps).max(to.starter_bps);
        let until_us =
            heard_us.saturating_add(self.timing.valid_us).saturating_add(self.timing.margin_us);
        let epoch = to.next_epoch;
        to.next_epoch += 1;
        to.promises.retain(|promise| now_us < promise.until_us);
        match to.promises.last_mut() {
            // The same again: whichever of the two is obeyed, it is the same rate.
            Some(last) if last.rate_bps == rate_bps => {
                last.epoch = epoch;
                last.until_us = last.until_us.max(until_us);
            }
            _ => to.promises.push(Promise { epoch, rate_bps, until_us }),
        }
        Some(Lease { epoch, rate_bps, answers_us })
    }

    /// The most that one server may be sending now: what the gateway polices it to.
    #[must_use]
    pub fn promised_bps(&self, server: ServerIndex, now_us: u64) -> u64 {
        if now_us < self.unknown_until_us {
            return self.usable_bps;
        }
        self.servers.get(server.0).map_or(0, |server| server.committed_bps(now_us))
    }

    /// True while promises of an earlier life may be in force.
    #[must_use]
    pub fn is_unsure(&self, now_us: u64) -> bool {
        now_us < self.unknown_until_us
    }

    /// The most that all servers together may be sending now.
    #[must_use]
    pub fn committed_bps(&self, now_us: u64) -> u64 {
        let each = self.servers.iter().map(|server| server.committed_bps(now_us));
        each.fold(0, u64::saturating_add)
    }

    fn committed_without(&self, server: ServerIndex, now_us: u64) -> u64 {
        let others = self.servers.iter().enumerate().filter(|(index, _)| *index != server.0);
        others.map(|(_, other)| other.committed_bps(now_us)).fold(0, u64::saturating_add)
    }
}

impl Server {
    /// The server obeys `epoch` or a newer one: what is older is no longer in force. An epoch
    /// that we never issued, in this life, says nothing.
    fn forget(&mut self, epoch: u64, issued: &RangeInclusive<u64>) {
        if issued.contains(&epoch) {
            self.promises.retain(|promise| promise.epoch >= epoch);
        }
    }
}

#[cfg(test)]
mod tests;
