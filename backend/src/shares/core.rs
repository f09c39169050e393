//! One uplink as a server uses it: meter, demand, report; lease, split, allowances. Pure.
//!
//! What a vNIC wants is what it sent since the last tick and a tenth more, or, if it was held
//! back, more than it may. Who is held back by its limit in packets could not use more, and wants
//! no more than it sends. A burst counts for some ticks, so that a vNIC that sends now and
//! then is not given away between two of its bursts.

use super::vnic::{Allowance, Meter, VnicShare};
use std::sync::Arc;
use wireonce_config::{GrantSplit, Uplink};
use wireonce_link::PeerId;
use wireonce_shares::{
    Demand, GrantNode, LeaseMessage, LeaseTiming, Lessee, ReportMessage, Terms, VnicNode, share_out,
};
use wireonce_wire::VnicId;

/// Time between two reports of a server that sends.
pub(super) const TICK_US: u64 = 5_000;
/// Time between two reports of a server that does not.
pub(super) const IDLE_US: u64 = 1_000_000;
/// A server that has sent nothing for so long is idle.
const IDLE_AFTER_US: u64 = 100_000;
/// Shorter times than this say little of a rate.
const METER_MIN_US: u64 = 1_000;

/// An uplink that vNICs of this server use, or may have to.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) uplink: Arc<Uplink>,
    pub(super) gateway: PeerId,
    life: u64,
    /// What this server has of the pool.
    grant: Option<Arc<GrantSplit>>,
    /// What those of its vNICs that are here bring of it: what it may use.
    terms: Terms,
    /// The tables name it for a vNIC. Else it is there until the last one has left it.
    wanted: bool,
    vnics: Vec<HomeVnic>,
    lessee: Lessee,
    /// When the meters were read last.
    read_us: u64,
    reported_us: Option<u64>,
    busy_us: Option<u64>,
    served_bits: u64,
    packets: u64,
}

/// One vNIC with this home.
#[derive(Debug)]
pub(super) struct HomeVnic {
    id: VnicId,
    terms: Terms,
    share: Arc<VnicShare>,
    seen: Meter,
    demand: Demand,
}

impl HomeVnic {
    pub(super) fn new(id: VnicId, terms: Terms, share: Arc<VnicShare>) -> Self {
        // What it has counted before is not this home's.
        let seen = share.read();
        Self { id, terms, share, seen, demand: Demand::Bps(0) }
    }

    /// Reads its meter after `passed_us`. Returns what it sent since.
    fn read(&mut self, passed_us: u64) -> Meter {
        let now = self.share.read();
        let bits = now.served_bits.wrapping_sub(self.seen.served_bits);
        let packets = now.packets.wrapping_sub(self.seen.packets);
        self.seen = now;
        let sent_bps = u128::from(bits) * 1_100_000 / u128::from(passed_us.max(METER_MIN_US));
        let sent_bps = u64::try_from(sent_bps).unwrap_or(u64::MAX);
        let before_bps = match self.demand {
            Demand::Bps(bps) => bps,
            // It is known what it sends: what it may.
            Demand::Unbounded => 0,
        };
        // A tick that comes late, or ends a long sleep, counts as one tick.
        let tick_us = passed_us.min(TICK_US);
        if now.held || now.packets_held {
            self.share.note_held(tick_us);
        }
        if now.packets_held {
            self.share.note_packets_held(tick_us);
        }
        self.demand = match now.held {
            true => Demand::Unbounded,
            false => Demand::Bps(sent_bps.max(before_bps / 8 * 7)),
        };
        Meter { served_bits: bits, packets, ..now }
    }
}

/// What the tables say of a home.
#[derive(Debug)]
pub(super) struct Tabled {
    pub(super) uplink: Arc<Uplink>,
    pub(super) grant: Option<Arc<GrantSplit>>,
    pub(super) starter_bps: u64,
    /// They name it for a vNIC.
    pub(super) wanted: bool,
}

impl Home {
    /// A home that nobody uses yet.
    pub(super) fn new(gateway: PeerId, life: u64, tabled: Tabled) -> Self {
        let Tabled { uplink, grant, starter_bps, wanted } = tabled;
        Self {
            uplink,
            gateway,
            life,
            grant,
            terms: Terms::default(),
            wanted,
            vnics: Vec::new(),
            lessee: Lessee::new(starter_bps, LeaseTiming::default()),
            read_us: 0,
            reported_us: None,
            busy_us: None,
            served_bits: 0,
            packets: 0,
        }
    }

    /// Another configuration, and the vNICs that use it now. The lease stays, and so does what is known of
    /// vNICs that stay.
    pub(super) fn change(&mut self, tabled: Tabled, vnics: Vec<HomeVnic>, now_us: u64) {
        let Tabled { uplink, grant, starter_bps, wanted } = tabled;
        // A larger one is for the gateway to give.
        self.lessee.set_starter(starter_bps.min(self.lessee.starter_bps()));
        let mut before = std::mem::take(&mut self.vnics);
        let vnic = |vnic: HomeVnic| {
            let same = |it: &HomeVnic| Arc::ptr_eq(&it.share, &vnic.share);
            match before.iter().position(same) {
                Some(at) => HomeVnic { terms: vnic.terms, ..before.swap_remove(at) },
                None => vnic,
            }
        };
        self.vnics = vnics.into_iter().map(vnic).collect();
        (self.uplink, self.grant, self.wanted) = (uplink, grant, wanted);
        self.others_are_here(now_us);
    }

    /// As if the server had that here, whoever is here.
    #[cfg(test)]
    pub(super) fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// Whether anybody uses it, or may have to.
    pub(super) fn is_needed(&self) -> bool {
        self.wanted || !self.vnics.is_empty()
    }

    /// Whether a vNIC with this share uses it.
    pub(super) fn has(&self, share: &Arc<VnicShare>) -> bool {
        self.vnics.iter().any(|vnic| Arc::ptr_eq(&vnic.share, share))
    }

    /// A vNIC uses another one now.
    pub(super) fn leave(&mut self, share: &Arc<VnicShare>, now_us: u64) {
        if self.has(share) {
            share.port.reserve(0);
            self.vnics.retain(|vnic| !Arc::ptr_eq(&vnic.share, share));
            self.others_are_here(now_us);
        }
    }

    /// A vNIC uses this one now.
    pub(super) fn join(&mut self, vnic: HomeVnic, now_us: u64) {
        self.vnics.push(vnic);
        self.others_are_here(now_us);
    }

    /// Terms follow who is here, and the gateway hears soon what they want.
    fn others_are_here(&mut self, now_us: u64) {
        let here = self.vnics.iter().map(|vnic| vnic.id);
        self.terms = self.grant.as_ref().map_or_else(Terms::default, |grant| grant.of(here));
        self.hurry();
        self.split(now_us);
    }

    /// Reads the meters, splits what there is anew, and returns the report, if one is due.
    pub(super) fn tick(&mut self, now_us: u64) -> Option<ReportMessage> {
        let passed_us = now_us.saturating_sub(self.read_us);
        let was_idle = self.busy_us.is_none();
        // Whoever wakes the thread early does not make a tick: what was sent in a moment says
        // little of a rate, and what is remembered would fade by the call.
        if !was_idle && passed_us < TICK_US * 9 / 10 {
            return self.reported_us.is_none().then(|| self.make_report(now_us));
        }
        self.read_us = now_us;
        let mut busy = false;
        for vnic in &mut self.vnics {
            let meter = vnic.read(passed_us);
            self.served_bits = self.served_bits.wrapping_add(meter.served_bits);
            self.packets = self.packets.wrapping_add(meter.packets);
            busy |= meter.held || meter.packets_held || meter.packets > 0;
        }
        if busy {
            self.busy_us = Some(now_us);
        }
        let idle_us = self.busy_us.map(|us| now_us.saturating_sub(us));
        if idle_us.is_some_and(|us| us >= IDLE_AFTER_US) {
            self.busy_us = None;
        }
        self.split(now_us);
        let wakes = was_idle && self.busy_us.is_some();
        let every_us = if self.busy_us.is_some() { TICK_US } else { IDLE_US };
        // A tick that comes a little early is as good as one that comes late.
        let due_us = self.reported_us.map_or(0, |us| us.saturating_add(every_us * 9 / 10));
        if !wakes && now_us < due_us {
            return None;
        }
        Some(self.make_report(now_us))
    }

    fn make_report(&mut self, now_us: u64) -> ReportMessage {
        self.reported_us = Some(now_us);
        ReportMessage {
            uplink: self.uplink.id.0,
            life: self.life,
            report: self.lessee.report(now_us),
            served_bits: self.served_bits,
            demand: self.demand(),
            packets: self.packets,
        }
    }

    /// The gateway answered.
    pub(super) fn take(&mut self, message: &LeaseMessage, now_us: u64) {
        if message.life == self.life {
            let before_bps = self.lessee.rate_bps(now_us);
            if !self.lessee.take(message.lease) {
                return;
            }
            self.lessee.set_starter(message.starter_bps);
            self.split(now_us);
            if self.lessee.rate_bps(now_us) < before_bps / 16 * 15 {
                // Somebody waits to hear that it is obeyed.
                self.hurry();
            }
        }
    }

    /// The gateway can be reached again: report soon.
    pub(super) fn hurry(&mut self) {
        self.reported_us = None;
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn next_us(&self) -> u64 {
        match (self.busy_us, self.reported_us) {
            (_, None) => 0,
            (Some(_), _) => self.read_us.saturating_add(TICK_US),
            (None, Some(reported_us)) => reported_us.saturating_add(IDLE_US),
        }
    }

    /// What is in force now, and what is used: lease, starter, demand.
    pub(super) fn standing(&self, now_us: u64) -> (Option<u64>, u64, Demand) {
        let lease = self.lessee.lease(now_us).map(|(lease, _)| lease.rate_bps);
        (lease, self.lessee.starter_bps(), self.demand())
    }

    pub(super) fn served_bits(&self) -> u64 {
        self.served_bits
    }

    fn nodes(&self) -> Vec<VnicNode> {
        self.vnics.iter().map(|vnic| VnicNode { terms: vnic.terms, demand: vnic.demand }).collect()
    }

    /// What the vNICs want together. Whoever is held back by his own limit wants no more.
    fn demand(&self) -> Demand {
        let grant = GrantNode { terms: self.terms, starter_bps: 0, vnics: self.nodes() };
        let wants_more = |vnic: &&HomeVnic| vnic.demand == Demand::Unbounded;
        let unlimited = self.terms.limit_bps.is_none()
            && self.vnics.iter().filter(wants_more).any(|vnic| vnic.terms.limit_bps.is_none());
        if unlimited { Demand::Unbounded } else { Demand::Bps(grant.demand_bps()) }
    }

    /// Tells each vNIC what it may send, and what of the fabric port is reserved for it by what its
    /// server has reserved here.
    fn split(&self, now_us: u64) {
        let nodes = self.nodes();
        let grant = GrantNode { terms: self.terms, starter_bps: 0, vnics: nodes.clone() };
        let reserved = grant.divide(self.terms.reservation_bps);
        for (vnic, bps) in self.vnics.iter().zip(reserved) {
            vnic.share.port.reserve(bps);
        }
        let later = share_out(self.terms.limited(self.lessee.starter_bps()), &nodes, true);
        let (rate_bps, until_us) = match self.lessee.lease(now_us) {
            Some((lease, until_us)) => (lease.rate_bps, until_us),
            None => (0, 0),
        };
        let rates = share_out(self.terms.limited(rate_bps), &nodes, true);
        for ((vnic, rate_bps), later_bps) in self.vnics.iter().zip(rates).zip(later) {
            let demand_bps = match vnic.demand {
                Demand::Bps(bps) => bps,
                Demand::Unbounded => u64::MAX,
            };
            let limit_packets_per_s = vnic.terms.limit_packets_per_s;
            let allowance = Allowance { rate_bps, until_us, later_bps, limit_packets_per_s };
            vnic.share.allow(allowance, demand_bps);
        }
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
