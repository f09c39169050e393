//! One uplink, upwards: who wants how much, who is promised what. Pure.
//!
//! A report is answered with a lease. What a server wants counts while its reports come; of
//! one that is silent or idle the share is lent to others, but for its starter.

use wireonce_config::{Config, Direction, Holder, Uplink};
use wireonce_link::PeerId;
use wireonce_shares::{
    Demand, LeaseMessage, LeaseTiming, Lessor, Report, ReportMessage, ServerIndex, Terms, VnicNode,
    lease::starter_bps, share_out,
};

/// A server that has not reported for so long wants nothing.
const SILENT_US: u64 = 60_000;
/// All shares are computed anew at most once in this time for each 16 servers.
const COMPUTE_US: u64 = 1_000;

/// The promises of one uplink.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) uplink: u32,
    usable_bps: u64,
    servers: Vec<Server>,
    lessor: Lessor,
    computed_us: Option<u64>,
}

#[derive(Debug)]
struct Server {
    peer: PeerId,
    terms: Terms,
    starter_bps: u64,
    life: Option<u64>,
    demand: Demand,
    /// When it reported last.
    heard_us: Option<u64>,
    served_bits: u64,
}

/// What one server has, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) peer: PeerId,
    pub(super) promised_bps: u64,
    pub(super) starter_bps: u64,
    pub(super) demand: Demand,
    pub(super) served_bits: u64,
}

impl Desk {
    /// The desk of an uplink that is shaped; `None` for others. Servers are numbered in the
    /// order of [`Config::servers_on`], without this host.
    pub(super) fn new(
        config: &Config,
        uplink: &Uplink,
        first_epoch: u64,
        now_us: u64,
    ) -> Option<Self> {
        let usable_bps = uplink.usable_bps(Direction::Up)?;
        let holders = config.servers_on(uplink);
        let starter_bps = starter_bps(usable_bps, holders.len());
        let server = |holder: &Holder| {
            let Holder::Peer(peer) = holder else { return None };
            let terms = config.terms_on(uplink, holder, Direction::Up);
            Some(Server {
                peer: PeerId(peer.index),
                terms,
                starter_bps: terms.limited(starter_bps),
                life: None,
                demand: Demand::Bps(0),
                heard_us: None,
                served_bits: 0,
            })
        };
        let servers: Vec<Server> = holders.iter().filter_map(server).collect();
        let starters: Vec<u64> = servers.iter().map(|server| server.starter_bps).collect();
        let timing = LeaseTiming::default();
        let lessor = Lessor::new(usable_bps, &starters, timing, first_epoch, now_us);
        let uplink = uplink.id.0;
        Some(Self { uplink, usable_bps, servers, lessor, computed_us: None })
    }

    /// A report came from `peer`; the lease that answers it.
    pub(super) fn report(
        &mut self,
        peer: PeerId,
        message: &ReportMessage,
        now_us: u64,
    ) -> Option<LeaseMessage> {
        let at = self.servers.iter().position(|server| server.peer == peer)?;
        let index = ServerIndex(at);
        let server = self.servers.get_mut(at)?;
        if server.life != Some(message.life) {
            server.life = Some(message.life);
            self.lessor.reattach(index);
        }
        server.demand = message.demand;
        server.heard_us = Some(now_us);
        server.served_bits = message.served_bits;
        let starter_bps = server.starter_bps;
        let Report { sent_us, obeyed } = message.report;
        self.lessor.hear(index, Report { sent_us, obeyed }, now_us);
        self.compute(now_us);
        let lease = self.lessor.lease(index, now_us)?;
        Some(LeaseMessage { uplink: self.uplink, life: message.life, lease, starter_bps })
    }

    /// The most that each server may be sending now, in their order.
    pub(super) fn standings(&self, now_us: u64) -> impl Iterator<Item = Standing> + '_ {
        let standing = move |(at, server): (usize, &Server)| Standing {
            peer: server.peer,
            promised_bps: self.lessor.promised_bps(ServerIndex(at), now_us),
            starter_bps: server.starter_bps,
            demand: server.demand_at(now_us),
            served_bits: server.served_bits,
        };
        self.servers.iter().enumerate().map(standing)
    }

    /// True while promises may expire.
    pub(super) fn is_busy(&self, now_us: u64) -> bool {
        let started = now_us < 2 * SILENT_US;
        let recent = |us: u64| now_us.saturating_sub(us) < 2 * SILENT_US;
        started || self.servers.iter().any(|server| server.heard_us.is_some_and(recent))
    }

    /// Divides the uplink anew.
    fn compute(&mut self, now_us: u64) {
        let servers = u64::try_from(self.servers.len()).unwrap_or(u64::MAX);
        let every_us = COMPUTE_US.saturating_mul(servers / 16);
        if self.computed_us.is_some_and(|us| now_us < us.saturating_add(every_us)) {
            return;
        }
        self.computed_us = Some(now_us);
        let node = |server: &Server| server.node(now_us);
        let nodes: Vec<VnicNode> = self.servers.iter().map(node).collect();
        for (at, target_bps) in share_out(self.usable_bps, &nodes, false).into_iter().enumerate() {
            self.lessor.set_target(ServerIndex(at), target_bps);
        }
    }
}

impl Server {
    fn demand_at(&self, now_us: u64) -> Demand {
        let silent = self.heard_us.is_none_or(|us| now_us.saturating_sub(us) >= SILENT_US);
        if silent { Demand::Bps(0) } else { self.demand }
    }

    /// What it claims. Its starter is its own in any case, so it is counted as a claim.
    fn node(&self, now_us: u64) -> VnicNode {
        let starter = Demand::Bps(self.starter_bps);
        let reservation_bps = self.terms.reservation_bps.max(self.starter_bps);
        let terms = Terms { reservation_bps, ..self.terms };
        match self.demand_at(now_us) {
            Demand::Bps(0) => {
                let limit_bps = Some(self.starter_bps);
                VnicNode { terms: Terms { limit_bps, ..terms }, demand: starter }
            }
            Demand::Bps(bps) if bps < self.starter_bps => VnicNode { terms, demand: starter },
            demand => VnicNode { terms, demand },
        }
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
