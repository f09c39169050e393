//! The receiving side of this server's fabric port, divided among the uplinks that send to it. Pure.
//!
//! ```text
//!   port_down, 96 % ── less what comes from other servers' VMs ──┬─ uplink   wants what comes from it, and a
//!                                                                ├─ uplink   tenth more; or, if that is what it
//!                                                                └─ ..       was told, more than it may
//!                                          `this much, together` ──▶ gateway
//! ```
//! A gateway takes it as a limit of all that its uplink sends to this server's vNICs, beside the grant's.
//! It is told again in each tick while anything comes, and each second else; after three seconds of
//! silence it knows of no limit.
//!
//! What an uplink would send nobody here can see: only that it sends as much as it may. So each has a
//! little in any case, lent to nobody, and who uses that up has his part at the next tick.

use super::{
    core::{IDLE_US, TICK_US},
    inflow::{Inflow, Inflows},
};
use std::sync::Arc;
use wireonce_config::{Config, Direction, GrantSplit, Holder, Uplink, UplinkPlace};
use wireonce_directory::PeerNumbers;
use wireonce_host::Waker;
use wireonce_link::PeerId;
use wireonce_shares::{Demand, ReceiveMessage, Terms, VnicNode, lease::starter_bps, share_out};
use wireonce_wire::{UplinkId, VnicId};

/// A server that has received nothing for so long is idle.
const IDLE_AFTER_US: u64 = 100_000;
/// Shorter times than this say little of a rate.
const METER_MIN_US: u64 = 1_000;
/// Below so many bits on an uplink's wire, what they were on the fabric's says nothing of others.
const RATIO_BITS_MIN: u64 = 8_000;

/// The receiving side of the port.
#[derive(Debug)]
pub(super) struct Receiving {
    usable_bps: u64,
    life: u64,
    sources: Vec<Source>,
    /// This server's vNICs, where they are attached, and their terms downwards.
    vnics: Vec<(VnicId, Option<UplinkId>, Terms)>,
    inflows: Arc<Inflows>,
    others: Meter,
    read_us: u64,
    told_us: Option<u64>,
    busy_us: Option<u64>,
}

/// An uplink whose frames may come.
#[derive(Debug)]
struct Source {
    uplink: UplinkId,
    name: String,
    gateway: PeerId,
    /// What the server has of its pool: here, what those of its vNICs bring that are here.
    grant: Option<GrantSplit>,
    meter: Meter,
    /// Bits on the uplink's wire for bits on the fabric's.
    ratio: (u64, u64),
    /// What it was told last, in bits on its wire.
    told_bps: u64,
}

/// What came, and how fast.
#[derive(Debug, Default)]
struct Meter {
    inflow: Arc<Inflow>,
    seen: (u64, u64),
    /// And a tenth more; bursts are remembered for some ticks.
    bps: u64,
}

impl Receiving {
    /// The port of this host, if its receiving side is divided; what is known `before` stays.
    pub(super) fn new(
        config: &Config,
        numbers: &PeerNumbers,
        life: u64,
        before: Option<&Self>,
        waker: &Arc<Waker>,
    ) -> Option<Self> {
        let usable_bps = config.fabric_port.usable_bps(Direction::Down)?;
        let uplinks =
            || config.uplinks.iter().filter_map(|it| Some((it, sends(config, numbers, it)?)));
        let counted = before.map(|it| it.inflows.as_ref());
        let inflows = Inflows::new(uplinks().map(|(it, _)| it.id), counted, waker);
        let source = |(uplink, gateway): (&Arc<Uplink>, PeerId)| {
            let inflow = inflows.uplink(uplink.id).cloned().unwrap_or_default();
            let known = before.and_then(|it| it.sources.iter().find(|it| it.uplink == uplink.id));
            Source {
                uplink: uplink.id,
                name: uplink.name.clone(),
                gateway,
                grant: config.grant_split(&uplink.pool, &Holder::Local, Direction::Down),
                meter: Meter::new(inflow),
                ratio: (12, 13),
                told_bps: known.map_or(u64::MAX, |it| it.told_bps),
            }
        };
        let vnics = config.local_vnics().map(|(vnic, _)| {
            let known = before.and_then(|it| it.vnics.iter().find(|(id, ..)| *id == vnic.id));
            let at = known.and_then(|(_, at, _)| *at);
            let at = at.or_else(|| vnic.home.as_ref().map(|home| home.id));
            (vnic.id, at, vnic.terms(Direction::Down))
        });
        Some(Self {
            usable_bps,
            life,
            sources: uplinks().map(source).collect(),
            vnics: vnics.collect(),
            others: Meter::new(Arc::clone(inflows.others())),
            inflows: Arc::new(inflows),
            read_us: before.map_or(0, |it| it.read_us),
            told_us: None,
            busy_us: before.and_then(|it| it.busy_us),
        })
    }

    /// Where workers count.
    pub(super) fn inflows(&self) -> &Arc<Inflows> {
        &self.inflows
    }

    /// A vNIC uses another uplink from now on.
    pub(super) fn rehome(&mut self, vnic: VnicId, uplink: UplinkId) {
        if let Some((_, at, _)) = self.vnics.iter_mut().find(|(id, ..)| *id == vnic) {
            *at = Some(uplink);
        }
    }

    /// Reads the meters and divides, if it is time. Returns what is to be told to whom.
    pub(super) fn tick(&mut self, now_us: u64) -> Vec<(PeerId, ReceiveMessage)> {
        let passed_us = now_us.saturating_sub(self.read_us);
        if self.busy_us.is_some() && passed_us < TICK_US * 9 / 10 {
            return Vec::new();
        }
        self.read_us = now_us;
        let mut bits = self.others.read(passed_us).0;
        for source in &mut self.sources {
            bits = bits.saturating_add(source.read(passed_us));
        }
        if bits > 0 {
            self.busy_us = Some(now_us);
        } else if self.busy_us.is_some_and(|us| now_us.saturating_sub(us) >= IDLE_AFTER_US) {
            self.busy_us = None;
        }
        self.divide();
        let every_us = if self.busy_us.is_some() { TICK_US } else { IDLE_US };
        let due_us = self.told_us.map_or(0, |us| us.saturating_add(every_us / 10 * 9));
        if now_us < due_us {
            return Vec::new();
        }
        self.told_us = Some(now_us);
        let message = |source: &Source| ReceiveMessage {
            uplink: source.uplink.0,
            life: self.life,
            sent_us: now_us,
            max_bps: source.told_bps,
        };
        self.sources.iter().map(|source| (source.gateway, message(source))).collect()
    }

    /// When [`Self::tick`] has something to do, unless a worker wakes the thread.
    pub(super) fn next_us(&self) -> u64 {
        match self.told_us {
            None => 0,
            Some(_) if self.busy_us.is_some() => self.read_us.saturating_add(TICK_US),
            Some(told_us) => told_us.saturating_add(IDLE_US),
        }
    }

    /// What comes from other servers' VMs.
    pub(super) fn others_bps(&self) -> u64 {
        self.others.bps
    }

    /// What each uplink was told, in bits a second on its wire.
    pub(super) fn told(&self) -> impl Iterator<Item = (&str, u64)> {
        self.sources.iter().map(|source| (source.name.as_str(), source.told_bps))
    }

    fn divide(&mut self) {
        // What other servers' VMs send is not for us to divide; but it does not take all.
        let least_bps = self.usable_bps / 20;
        let left_bps = self.usable_bps.saturating_sub(self.others.bps).max(least_bps);
        let starter_bps = starter_bps(left_bps, self.sources.len());
        let node = |source: &Source| source.node(&self.vnics, starter_bps);
        let nodes: Vec<VnicNode> = self.sources.iter().map(node).collect();
        for (source, bps) in self.sources.iter_mut().zip(share_out(left_bps, &nodes, true)) {
            source.told_bps = scaled(bps, source.ratio);
        }
    }
}

impl Source {
    fn read(&mut self, passed_us: u64) -> u64 {
        let (fabric_bits, wire_bits) = self.meter.read(passed_us);
        if wire_bits >= RATIO_BITS_MIN && fabric_bits > 0 {
            self.ratio = (wire_bits, fabric_bits);
        }
        fabric_bits
    }

    fn node(&self, vnics: &[(VnicId, Option<UplinkId>, Terms)], starter_bps: u64) -> VnicNode {
        let here = || vnics.iter().filter(|(_, at, _)| *at == Some(self.uplink));
        let shares = here().map(|(.., terms)| terms.shares).fold(0, u32::saturating_add);
        let reserved = here().map(|(.., terms)| terms.reservation_bps);
        let granted = self.grant.as_ref().map(|grant| grant.of(here().map(|(id, ..)| *id)));
        let granted_bps = granted.map_or(0, |terms| terms.reservation_bps);
        let reserved_bps = reserved.fold(0, u64::saturating_add).max(granted_bps);
        let (wire, fabric) = self.ratio;
        let reservation_bps = scaled(reserved_bps, (fabric, wire)).max(starter_bps);
        let at_most_bps = scaled(self.told_bps, (fabric, wire));
        // What it sends is a tenth less than `bps`: it uses what it was told, or nearly so.
        let demand = match self.meter.bps >= at_most_bps {
            true => Demand::Unbounded,
            false => Demand::Bps(self.meter.bps.max(starter_bps)),
        };
        VnicNode { terms: Terms { reservation_bps, shares, ..Terms::default() }, demand }
    }
}

impl Meter {
    fn new(inflow: Arc<Inflow>) -> Self {
        let seen = inflow.read();
        Self { inflow, seen, bps: 0 }
    }

    /// Bits that came since, on the fabric's wire and on an uplink's.
    fn read(&mut self, passed_us: u64) -> (u64, u64) {
        let now = self.inflow.read();
        let fabric_bits = now.0.wrapping_sub(self.seen.0);
        let wire_bits = now.1.wrapping_sub(self.seen.1);
        self.seen = now;
        let bps = u128::from(fabric_bits) * 1_100_000 / u128::from(passed_us.max(METER_MIN_US));
        self.bps = u64::try_from(bps).unwrap_or(u64::MAX).max(self.bps / 8 * 7);
        (fabric_bits, wire_bits)
    }
}

/// The gateway of an uplink that divides what it sends, and may send to a vNIC of this host.
fn sends(config: &Config, numbers: &PeerNumbers, uplink: &Uplink) -> Option<PeerId> {
    let UplinkPlace::Peer(gateway) = &uplink.place else { return None };
    uplink.down_bps?;
    let attaches = config.local_vnics().any(|(vnic, _)| vnic.may_attach(uplink));
    numbers.get(gateway).filter(|_| attaches)
}

fn scaled(bps: u64, (to, from): (u64, u64)) -> u64 {
    if bps == u64::MAX {
        return bps;
    }
    let bps = u128::from(bps) * u128::from(to) / u128::from(from.max(1));
    u64::try_from(bps).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "receiving_tests.rs"]
mod tests;
