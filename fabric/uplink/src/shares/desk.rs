//! One uplink, upwards: who wants how much, who is promised what. Pure.
//!
//! A report is answered with a lease. What a server wants counts while its reports come; of
//! one that is silent or idle the share is lent to others, but for its starter.

use crate::bond::Part;
use wireonce_config::{Config, Direction, Holder, Uplink};
use wireonce_directory::PeerNumbers;
use wireonce_link::PeerId;
use wireonce_shares::{
    Demand, LeaseMessage, LeaseTiming, Lessor, Report, ReportMessage, ServerIndex, Terms, VnicNode,
    lease::starter_bps, share_out,
};

/// A server that has not reported for so long wants nothing.
const SILENT_US: u64 = 60_000;
/// A server that reports more often is heard, and answered as often as this.
const ANSWER_US: u64 = 1_000;
/// All shares are computed anew at most once in this time for each 16 servers.
const COMPUTE_US: u64 = 1_000;

/// The promises of one uplink.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) uplink: u32,
    /// What is usable while all members of a bond are there.
    whole_bps: u64,
    part: Part,
    usable_bps: u64,
    servers: Vec<Server>,
    lessor: Lessor,
    computed_us: Option<u64>,
}

#[derive(Debug)]
struct Server {
    peer: PeerId,
    name: String,
    terms: Terms,
    starter_bps: u64,
    life: Option<u64>,
    demand: Demand,
    /// When it reported last.
    heard_us: Option<u64>,
    /// When it was answered last.
    answered_us: Option<u64>,
    served_bits: u64,
    /// It has nobody at home here any more.
    gone: bool,
}

/// What one server has, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing<'a> {
    pub(super) peer: PeerId,
    pub(super) name: &'a str,
    pub(super) promised_bps: u64,
    pub(super) reservation_bps: u64,
    pub(super) starter_bps: u64,
    pub(super) demand: Demand,
    pub(super) served_bits: u64,
}

impl Desk {
    /// The desk of an uplink that is shaped; `None` for others.
    pub(super) fn new(
        config: &Config,
        numbers: &PeerNumbers,
        uplink: &Uplink,
        first_epoch: u64,
        now_us: u64,
    ) -> Option<Self> {
        let usable_bps = uplink.usable_bps(Direction::Up)?;
        let lessor = Lessor::new(usable_bps, &[], LeaseTiming::default(), first_epoch, now_us);
        let mut desk = Self {
            uplink: uplink.id.0,
            whole_bps: usable_bps,
            part: Part::WHOLE,
            usable_bps,
            servers: Vec::new(),
            lessor,
            computed_us: None,
        };
        desk.change(config, numbers, uplink);
        Some(desk)
    }

    /// Another configuration. Promises stay as they are until they are acknowledged or expire:
    /// who has less now is cut first, who has more is raised when that has paid for it.
    pub(super) fn change(&mut self, config: &Config, numbers: &PeerNumbers, uplink: &Uplink) {
        let Some(usable_bps) = uplink.usable_bps(Direction::Up) else { return };
        self.whole_bps = usable_bps;
        self.set_part(self.part);
        let holders = config.servers_on(uplink);
        let starter_bps = starter_bps(usable_bps, holders.len());
        for (at, server) in self.servers.iter_mut().enumerate() {
            server.leave();
            self.lessor.set_starter(ServerIndex(at), 0);
        }
        for holder in &holders {
            let Holder::Peer(peer) = holder else { continue };
            let Some(id) = numbers.get(peer) else { continue };
            let terms = config.terms_on(uplink, holder, Direction::Up);
            let starter_bps = terms.limited(starter_bps);
            if let Some(at) = self.servers.iter().position(|server| server.peer == id) {
                let server = &mut self.servers[at];
                (server.terms, server.starter_bps, server.gone) = (terms, starter_bps, false);
                self.lessor.set_starter(ServerIndex(at), starter_bps);
            } else {
                self.servers.push(Server::new(id, &peer.name, terms, starter_bps));
                self.lessor.add(starter_bps);
            }
        }
    }

    /// Only a part of the capacity is there: some members of a bond have no link. Starters stay.
    pub(super) fn set_part(&mut self, part: Part) {
        self.part = part;
        self.usable_bps = part.of(self.whole_bps);
        self.lessor.set_usable(self.usable_bps);
        self.computed_us = None;
    }

    /// Forgets servers that left, when what they were promised has run out.
    pub(super) fn sweep(&mut self, now_us: u64) {
        let Self { servers, lessor, .. } = self;
        for at in (0..servers.len()).rev() {
            let index = ServerIndex(at);
            if servers[at].gone && lessor.promised_bps(index, now_us) == 0 {
                servers.remove(at);
                lessor.remove(index);
            }
        }
    }

    /// A report came from `peer`; the lease that answers it, unless one just has: who reports
    /// without a pause would keep us from all others. What it acknowledges counts in any case.
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
        if server.answered_us.is_some_and(|us| now_us < us.saturating_add(ANSWER_US)) {
            return None;
        }
        server.answered_us = Some(now_us);
        self.compute(now_us);
        let lease = self.lessor.lease(index, now_us)?;
        Some(LeaseMessage { uplink: self.uplink, life: message.life, lease, starter_bps })
    }

    /// The most that a server may be sending now.
    pub(super) fn promised_bps(&self, peer: PeerId, now_us: u64) -> u64 {
        let at = self.servers.iter().position(|server| server.peer == peer);
        at.map_or(0, |at| self.lessor.promised_bps(ServerIndex(at), now_us))
    }

    /// The most that each server may be sending now, in their order.
    pub(super) fn standings(&self, now_us: u64) -> impl Iterator<Item = Standing<'_>> {
        self.servers.iter().enumerate().map(move |(at, server)| Standing {
            peer: server.peer,
            name: &server.name,
            promised_bps: self.lessor.promised_bps(ServerIndex(at), now_us),
            reservation_bps: server.terms.reservation_bps,
            starter_bps: server.starter_bps,
            demand: server.demand_at(now_us),
            served_bits: server.served_bits,
        })
    }

    /// True while promises may expire.
    pub(super) fn is_busy(&self, now_us: u64) -> bool {
        let recent = |us: u64| now_us.saturating_sub(us) < 2 * SILENT_US;
        self.lessor.is_unsure(now_us)
            || self.servers.iter().any(|server| server.heard_us.is_some_and(recent))
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
    fn new(peer: PeerId, name: &str, terms: Terms, starter_bps: u64) -> Self {
        Self {
            peer,
            name: name.to_owned(),
            terms,
            starter_bps,
            life: None,
            demand: Demand::Bps(0),
            heard_us: None,
            answered_us: None,
            served_bits: 0,
            gone: false,
        }
    }

    /// It has nobody at home here any more: what it was promised runs out.
    fn leave(&mut self) {
        self.terms = Terms { reservation_bps: 0, limit_bps: Some(0), ..self.terms };
        self.starter_bps = 0;
        self.gone = true;
    }

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

#[cfg(test)]
#[path = "desk_tree_tests.rs"]
mod tree_tests;
