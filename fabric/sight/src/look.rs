//! Two statuses of one daemon, and what happened between them.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use wireonce_ledger::{
    Amount, Stage, Status,
    status::{
        DownStatus, LedgerRow, LinkStatus, ShareStatus, UplinkStatus, VnicShareStatus, VnicStatus,
    },
};

/// Bytes that a wire carries around a frame: preamble, FCS, gap.
const AROUND: u64 = 24;
/// Bytes of headers that each segment of a large frame has again: Ethernet, IPv4, TCP with
/// timestamps.
const HEADERS: u64 = 66;

/// A rate for each direction, where it is known, in bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Both {
    /// Towards the outside.
    pub up_bps: Option<u64>,
    /// From the outside.
    pub down_bps: Option<u64>,
}

impl Both {
    /// The sum; unknown parts count nothing, two unknowns stay unknown.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let add = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        Self {
            up_bps: add(self.up_bps, other.up_bps),
            down_bps: add(self.down_bps, other.down_bps),
        }
    }
}

/// What happened at one stage between two statuses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flow<'s> {
    /// What came.
    pub input: Amount,
    /// What left towards the next stage.
    pub output: Amount,
    /// What was dropped, by reason; only those that grew.
    pub drops: BTreeMap<&'s str, Amount>,
    /// Frames that are there now: neither out nor dropped.
    pub open_frames: i64,
}

impl Flow<'_> {
    /// All drops together.
    #[must_use]
    pub fn dropped(&self) -> Amount {
        let mut sum = Amount::ZERO;
        self.drops.values().for_each(|amount| sum += *amount);
        sum
    }
}

/// What a vNIC gets from outside through one uplink, as it is and as it was.
#[derive(Debug, Clone, Copy)]
pub struct Down<'s> {
    /// As it is.
    pub now: &'s DownStatus,
    before: Option<&'s DownStatus>,
}

impl Down<'_> {
    /// In the words of what a vNIC may send, which mean the same here.
    #[must_use]
    pub fn share(&self) -> VnicShareStatus {
        share_of(self.now)
    }

    /// As it was.
    #[must_use]
    pub fn share_before(&self) -> Option<VnicShareStatus> {
        self.before.map(share_of)
    }

    /// Frames that were marked as having met congestion.
    #[must_use]
    pub fn marked_frames(&self) -> u64 {
        self.before.map_or(0, |old| self.now.marked_frames.saturating_sub(old.marked_frames))
    }
}

fn share_of(it: &DownStatus) -> VnicShareStatus {
    VnicShareStatus {
        rate_bps: it.rate_bps,
        demand_bps: it.demand_bps,
        held: it.held,
        held_us: it.held_us,
        queued_bytes: it.queued_bytes,
        served_bits: it.served_bits,
        served_packets: it.served_packets,
        limit_packets_per_s: it.limit_packets_per_s,
        packets_held: it.packets_held,
        packets_held_us: it.packets_held_us,
        // A gateway does not divide a server's port.
        ..VnicShareStatus::default()
    }
}

/// A daemon between two of its statuses.
#[derive(Debug, Clone)]
pub struct Look<'s> {
    /// The later one.
    pub now: &'s Status,
    before: Option<&'s Status>,
    rows: HashMap<(&'s str, Stage), Flow<'s>>,
    downs: HashMap<&'s str, Vec<Down<'s>>>,
}

impl<'s> Look<'s> {
    /// Without an earlier status of the same life there are no differences, only what is.
    #[must_use]
    pub fn new(now: &'s Status, before: Option<&'s Status>) -> Self {
        let before = before.filter(|before| now.sampled_at_us > before.sampled_at_us);
        let rows = before.map(|before| rows(now, before)).unwrap_or_default();
        Self { now, before, rows, downs: downs(now, before) }
    }

    /// Microseconds between the two, on the daemon's own clock; 0: there is no earlier one.
    #[must_use]
    pub fn elapsed_us(&self) -> u64 {
        self.before.map_or(0, |before| self.now.sampled_at_us.saturating_sub(before.sampled_at_us))
    }

    /// What happened at a stage of a vNIC or uplink; `None`: nothing was ever counted there, or
    /// there is no earlier status.
    #[must_use]
    pub fn flow(&self, name: &'s str, stage: Stage) -> Option<&Flow<'s>> {
        self.rows.get(&(name, stage))
    }

    /// All that happened.
    pub fn flows(&self) -> impl Iterator<Item = (&'s str, Stage, &Flow<'s>)> {
        self.rows.iter().map(|((name, stage), flow)| (*name, *stage, flow))
    }

    /// A counter's growth in a second; `None` without an earlier status.
    #[must_use]
    pub fn per_second(&self, now: u64, before: u64) -> Option<u64> {
        let elapsed_us = u128::from(self.elapsed_us());
        let grown = u128::from(now.saturating_sub(before)) * 1_000_000;
        u64::try_from(grown.checked_div(elapsed_us)?).ok()
    }

    /// The rate of an amount on a wire, in bits a second.
    #[must_use]
    pub fn wire_bps(&self, amount: Amount) -> Option<u64> {
        self.per_second(wire_bits(amount), 0)
    }

    /// How much of the time `us` is, in percent.
    #[must_use]
    pub fn percent(&self, us: u64) -> Option<u64> {
        us.saturating_mul(100).checked_div(self.elapsed_us()).map(|percent| percent.min(100))
    }

    /// A vNIC as it is and as it was.
    #[must_use]
    pub fn vnic(&self, name: &str) -> Option<(&'s VnicStatus, Option<&'s VnicStatus>)> {
        let find = |status: &'s Status| status.vnics.iter().find(|vnic| vnic.name == name);
        Some((find(self.now)?, self.before.and_then(find)))
    }

    /// An uplink as it is and as it was.
    #[must_use]
    pub fn uplink(&self, name: &str) -> Option<(&'s UplinkStatus, Option<&'s UplinkStatus>)> {
        let find = |status: &'s Status| status.uplinks.iter().find(|uplink| uplink.name == name);
        Some((find(self.now)?, self.before.and_then(find)))
    }

    /// A link as it is and as it was.
    #[must_use]
    pub fn link(&self, peer: &str) -> Option<(&'s LinkStatus, Option<&'s LinkStatus>)> {
        let find = |status: &'s Status| status.links.iter().find(|link| link.peer == peer);
        Some((find(self.now)?, self.before.and_then(find)))
    }

    /// What a server has of an uplink, and what it sends through it, in wire bits a second.
    #[must_use]
    pub fn share(&self, uplink: &str, server: &str) -> Option<(&'s ShareStatus, Option<u64>)> {
        let find = |status: &'s Status| {
            status.shares.iter().find(|it| it.uplink == uplink && it.server == server)
        };
        let share = find(self.now)?;
        let before = self.before.and_then(find);
        let rate = before.and_then(|old| self.per_second(share.served_bits, old.served_bits));
        Some((share, rate))
    }

    /// What a vNIC gets from outside through this gateway's uplinks, where that is shaped.
    pub fn down(&self, vnic: &str) -> impl Iterator<Item = Down<'s>> {
        self.downs.get(vnic).into_iter().flatten().copied()
    }

    /// What crosses this host's fabric port, as far as wireonce sends and receives it: datagrams
    /// with their headers.
    #[must_use]
    pub fn port(&self) -> Both {
        // UDP, IPv4, Ethernet and what is around a frame.
        let wire = |bytes: u64, datagrams: u64| bytes.saturating_add(datagrams.saturating_mul(66));
        let sent = |status: &Status| sum(status, |it| wire(it.sent_bytes, it.sent_datagrams));
        let received =
            |status: &Status| sum(status, |it| wire(it.received_bytes, it.received_datagrams));
        let rate = |of: &dyn Fn(&Status) -> u64| {
            let bytes = of(self.now).saturating_sub(of(self.before?));
            self.per_second(bytes.saturating_mul(8), 0)
        };
        Both { up_bps: rate(&sent), down_bps: rate(&received) }
    }
}

fn sum(status: &Status, of: impl Fn(&LinkStatus) -> u64) -> u64 {
    status.links.iter().map(of).fold(0, u64::saturating_add)
}

/// What a wire carries of an amount, in bits. Headers of segments are those of TCP over IPv4.
#[must_use]
pub fn wire_bits(amount: Amount) -> u64 {
    let copies = amount.segments.saturating_sub(amount.frames);
    let around = amount.segments.saturating_mul(AROUND);
    let bytes = amount.bytes.saturating_add(copies.saturating_mul(HEADERS)).saturating_add(around);
    bytes.saturating_mul(8)
}

/// The difference of two amounts that only grow.
#[must_use]
pub fn minus(now: Amount, before: Amount) -> Amount {
    Amount {
        frames: now.frames.saturating_sub(before.frames),
        segments: now.segments.saturating_sub(before.segments),
        bytes: now.bytes.saturating_sub(before.bytes),
    }
}

/// By vNIC.
fn downs<'s>(now: &'s Status, before: Option<&'s Status>) -> HashMap<&'s str, Vec<Down<'s>>> {
    let key = |it: &'s DownStatus| (it.uplink.as_str(), it.vnic.as_str());
    let before: HashMap<_, _> =
        before.into_iter().flat_map(|it| &it.down).map(|it| (key(it), it)).collect();
    let mut downs: HashMap<&str, Vec<Down<'s>>> = HashMap::new();
    for now in &now.down {
        let before = before.get(&key(now)).copied();
        downs.entry(&now.vnic).or_default().push(Down { now, before });
    }
    downs
}

/// By name and stage. Accounts of one that came back stand twice, and are added up.
fn rows<'s>(now: &'s Status, before: &'s Status) -> HashMap<(&'s str, Stage), Flow<'s>> {
    let mut flows: HashMap<_, Flow<'s>> = HashMap::new();
    let mut old: HashMap<_, Vec<&LedgerRow>> = HashMap::new();
    for row in &before.ledger {
        old.entry((row.name.as_str(), row.id, row.stage)).or_default().push(row);
    }
    for row in &now.ledger {
        let rows = old.get_mut(&(row.name.as_str(), row.id, row.stage));
        let old = rows.filter(|rows| !rows.is_empty()).map(|rows| rows.remove(0));
        let flow = flows.entry((row.name.as_str(), row.stage)).or_default();
        flow.input += minus(row.input, old.map_or(Amount::ZERO, |old| old.input));
        flow.output += minus(row.output, old.map_or(Amount::ZERO, |old| old.output));
        flow.open_frames = flow.open_frames.saturating_add(row.open_frames);
        for (reason, amount) in &row.drops {
            let before = old.and_then(|old| old.drops.get(reason)).copied();
            let grown = minus(*amount, before.unwrap_or_default());
            if grown.frames > 0 || grown.segments > 0 {
                *flow.drops.entry(reason.as_str()).or_default() += grown;
            }
        }
    }
    flows
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_ledger::{Account, DropReason};

    fn status(at_us: u64, frames: u64, dropped: u64) -> Status {
        let mut account = Account::default();
        let amount = |n: u64| Amount { frames: n, segments: n, bytes: 976 * n };
        account.input += amount(frames);
        account.output += amount(frames - dropped);
        account.drop(DropReason::SourceMac, amount(dropped));
        let ledger = vec![LedgerRow::new("vm-a", 1, Stage::GuestTx, &account)];
        Status { sampled_at_us: at_us, ledger, ..Status::default() }
    }

    #[test]
    fn differences_are_those_of_the_interval() {
        let (before, now) = (status(1_000_000, 100, 10), status(3_000_000, 1_100, 10));
        let look = Look::new(&now, Some(&before));
        let flow = look.flow("vm-a", Stage::GuestTx).unwrap();
        assert_eq!((flow.input.frames, flow.output.frames), (1_000, 1_000));
        assert!(flow.drops.is_empty(), "what was dropped before is not of now");
        // 1,000 frames of 1,000 bytes with what is around them in two seconds.
        assert_eq!(look.wire_bps(flow.input), Some(4_000_000));
        assert_eq!(look.percent(1_000_000), Some(50));
    }

    #[test]
    fn without_an_earlier_status_there_are_no_rates() {
        let now = status(3_000_000, 100, 0);
        let look = Look::new(&now, None);
        assert_eq!(look.flow("vm-a", Stage::GuestTx), None);
        assert_eq!((look.wire_bps(Amount::frame(100, 1)), look.percent(5)), (None, None));
    }

    #[test]
    fn segments_of_a_large_frame_have_headers_of_their_own() {
        let large = Amount { frames: 1, segments: 3, bytes: 4_000 };
        assert_eq!(wire_bits(large), (4_000 + 2 * 66 + 3 * 24) * 8);
    }
}
