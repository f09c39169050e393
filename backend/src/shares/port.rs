//! The sending side of this server's fabric port, divided among its vNICs. Pure.
//!
//! ```text
//!   port_up, 98 % ─┬─ vNIC    wants: what its home's lease lets it send, and what it sends to
//!                  ├─ vNIC           VMs of other servers
//!                  └─ ..      reservation, shares: its policy's, and its part of the server's grant
//! ```
//! One claim for each vNIC, whatever it sends and to whom: the worker gives it one bucket for all that
//! crosses the port, beside the one of its home, and a frame goes when both have credit. What is
//! divided is in force at once, cuts before raises, so that the rates never add up to more than there is.
//!
//! **What a vNIC wants** is what it sent since the last tick and a tenth more. If something waited for the port
//! it is more than it may, but towards the home no more than the lease lets through: whoever is held back
//! there leaves the rest to others. If the home's lease holds it back, it is what the lease allows, so that a
//! larger lease is of use at once. The lease's own demand ([`super::core`]) is what was sent, unless the *lease* was
//! short: so what it grants beyond the port goes back to the gateway within two ticks.

use super::{
    core::TICK_US,
    port_share::{PortMeter, fabric_bits},
    vnic::VnicShare,
};
use std::sync::Arc;
use wireonce_shares::{Demand, Terms, VnicNode, share_out};

/// A server that has sent nothing for so long is idle.
const IDLE_AFTER_US: u64 = 100_000;
/// Shorter times than this say little of a rate.
const METER_MIN_US: u64 = 1_000;
/// Below so many bits on an uplink's wire, what they were on the fabric's says nothing of others.
const RATIO_BITS_MIN: u64 = 8_000;

/// The sending side of the port.
#[derive(Debug)]
pub(super) struct Port {
    usable_bps: u64,
    vnics: Vec<PortVnic>,
    read_us: u64,
    busy_us: Option<u64>,
    sent_bps: u64,
}

/// One vNIC of this server.
#[derive(Debug)]
struct PortVnic {
    terms: Terms,
    share: Arc<VnicShare>,
    seen: PortMeter,
    /// Bits on the uplink's wire that were seen.
    served_bits: u64,
    /// What it sends to its home, and a tenth more; bursts are remembered for some ticks.
    home_bps: u64,
    /// The same to VMs of other servers.
    others_bps: u64,
    /// Bits on the fabric's wire for bits on the uplink's.
    ratio: (u64, u64),
    wants: Demand,
}

impl Port {
    /// A port of which `usable_bps` may be used by these vNICs.
    pub(super) fn new(usable_bps: u64, vnics: Vec<(Terms, Arc<VnicShare>)>, now_us: u64) -> Self {
        let vnics = vnics.into_iter().map(|(terms, share)| PortVnic::new(terms, share)).collect();
        let mut port = Self { usable_bps, vnics, read_us: now_us, busy_us: None, sent_bps: 0 };
        port.divide();
        port
    }

    /// Another configuration. What is known of vNICs that stay, stays.
    pub(super) fn change(&mut self, usable_bps: u64, vnics: Vec<(Terms, Arc<VnicShare>)>) {
        let mut before = std::mem::take(&mut self.vnics);
        let vnic = |(terms, share): (Terms, Arc<VnicShare>)| match before
            .iter()
            .position(|it| Arc::ptr_eq(&it.share, &share))
        {
            Some(at) => PortVnic { terms, ..before.swap_remove(at) },
            None => PortVnic::new(terms, share),
        };
        self.vnics = vnics.into_iter().map(vnic).collect();
        self.usable_bps = usable_bps;
        self.divide();
    }

    /// Nobody divides the port any more.
    pub(super) fn open(&self) {
        self.vnics.iter().for_each(|vnic| vnic.share.port.open());
    }

    /// Reads the meters and divides anew, if it is time.
    pub(super) fn tick(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.read_us);
        // What was sent in a moment says little of a rate; but who wakes the thread is served.
        if self.busy_us.is_some() && passed_us < TICK_US * 9 / 10 {
            return;
        }
        self.read_us = now_us;
        let (mut busy, mut bits) = (false, 0_u64);
        for vnic in &mut self.vnics {
            let (was_busy, sent_bits) = vnic.read(passed_us, now_us);
            busy |= was_busy;
            bits = bits.saturating_add(sent_bits);
        }
        self.sent_bps = rate_bps(bits, passed_us);
        if busy {
            self.busy_us = Some(now_us);
        } else if self.busy_us.is_some_and(|us| now_us.saturating_sub(us) >= IDLE_AFTER_US) {
            self.busy_us = None;
        }
        self.divide();
    }

    /// When [`Self::tick`] has something to do; `None`: when a worker wakes the thread.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.busy_us.map(|_| self.read_us.saturating_add(TICK_US))
    }

    /// A demand, but no more than the port can send.
    pub(super) fn cap(&self, demand: Demand) -> Demand {
        Demand::Bps(demand.ceiling_bps().min(self.usable_bps))
    }

    /// What went out in the last tick.
    pub(super) fn sent_bps(&self) -> u64 {
        self.sent_bps
    }

    /// What all want together; unbounded: more than there is.
    pub(super) fn demand(&self) -> Demand {
        let wanted = self.vnics.iter().map(|vnic| vnic.wants.ceiling_bps());
        let wanted_bps = wanted.fold(0, u64::saturating_add);
        match wanted_bps <= self.usable_bps {
            true => Demand::Bps(wanted_bps),
            false => Demand::Unbounded,
        }
    }

    fn divide(&mut self) {
        let nodes: Vec<VnicNode> = self.vnics.iter().map(PortVnic::node).collect();
        let rates = share_out(self.usable_bps, &nodes, true);
        let mut raised = Vec::new();
        for (vnic, bps) in self.vnics.iter().zip(rates) {
            match vnic.share.port.rate_bps() {
                Some(now_bps) if now_bps >= bps => vnic.share.port.allow(bps),
                _ => raised.push((vnic, bps)),
            }
        }
        raised.into_iter().for_each(|(vnic, bps)| vnic.share.port.allow(bps));
    }
}

impl PortVnic {
    fn new(terms: Terms, share: Arc<VnicShare>) -> Self {
        let seen = share.port.read();
        Self {
            terms,
            seen,
            served_bits: share.served_bits(),
            share,
            home_bps: 0,
            others_bps: 0,
            ratio: (fabric_bits(1_500), 1_524 * 8),
            wants: Demand::Bps(0),
        }
    }

    /// Reads its meter after `passed_us`. Returns whether anything moved, and the bits that did.
    fn read(&mut self, passed_us: u64, now_us: u64) -> (bool, u64) {
        let now = self.share.port.read();
        let home_bits = now.home_bits.wrapping_sub(self.seen.home_bits);
        let others_bits = now.others_bits.wrapping_sub(self.seen.others_bits);
        let served_bits = self.share.served_bits();
        let uplink_bits = served_bits.wrapping_sub(self.served_bits);
        (self.seen, self.served_bits) = (now, served_bits);
        if uplink_bits >= RATIO_BITS_MIN && home_bits > 0 {
            self.ratio = (home_bits, uplink_bits);
        }
        let grown = |bits: u64| rate_bps(bits, passed_us.max(METER_MIN_US)) / 10 * 11;
        self.home_bps = grown(home_bits).max(self.home_bps / 8 * 7);
        self.others_bps = grown(others_bits).max(self.others_bps / 8 * 7);
        let waits = now.home_waits || now.others_wait;
        if waits {
            self.share.port.note_held(passed_us.min(TICK_US));
        }
        self.wants = self.wanted(now, now_us);
        let bits = home_bits.saturating_add(others_bits);
        (waits || bits > 0, bits)
    }

    fn wanted(&self, now: PortMeter, now_us: u64) -> Demand {
        let lease_bps = self.lease_bps(now_us);
        let home_bps = match now.home_waits || self.share.wants_more() {
            true => lease_bps,
            false => self.home_bps.min(lease_bps),
        };
        let others_bps = if now.others_wait { u64::MAX } else { self.others_bps };
        match home_bps.saturating_add(others_bps) {
            bps if bps >= Demand::Unbounded.ceiling_bps() => Demand::Unbounded,
            bps => Demand::Bps(bps),
        }
    }

    /// What its home's lease lets through, in bits on the fabric's wire. A little more, so that of two
    /// buckets that are about the same the lease's is the one that holds it back.
    fn lease_bps(&self, now_us: u64) -> u64 {
        let (fabric, uplink) = self.ratio;
        let allowed_bps = u128::from(self.share.allowed_bps(now_us));
        let bps = allowed_bps * u128::from(fabric) / u128::from(uplink.max(1));
        u64::try_from(bps + bps / 128).unwrap_or(u64::MAX)
    }

    fn node(&self) -> VnicNode {
        let reservation_bps = self.terms.reservation_bps.max(self.share.port.reserved_bps());
        // What was promised are bits on an uplink's wire, which are a little more here.
        let reservation_bps = reservation_bps / 8 * 9;
        let terms = Terms { reservation_bps, shares: self.terms.shares, ..Terms::default() };
        VnicNode { terms, demand: self.wants }
    }
}

fn rate_bps(bits: u64, passed_us: u64) -> u64 {
    let bps = u128::from(bits) * 1_000_000 / u128::from(passed_us.max(1));
    u64::try_from(bps).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
