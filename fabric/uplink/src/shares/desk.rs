//! One uplink, upwards: who wants how much, who is promised what. Pure.
//!
//! A report is answered with a lease. What a server wants counts while its reports come; of
//! one that is silent or idle the share is lent to others, but for its starter.
//!
//! Who counts are the servers that may come here by the tables, and those that are here by their
//! attachments: a server keeps what shapes it until its last vNIC has left, whatever the tables want
//! by then. Of its grant it has here what the vNICs bring that are here ([`GrantSplit`]).

use crate::bond::Part;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use wireonce_config::{Config, Direction, GrantSplit, Holder, Uplink, VnicPlace};
use wireonce_directory::PeerNumbers;
use wireonce_link::PeerId;
use wireonce_shares::{
    Demand, LeaseMessage, LeaseTiming, Lessor, Report, ReportMessage, ServerIndex, Terms, VnicNode,
    lease::starter_bps, share_out,
};
use wireonce_wire::VnicId;

/// A server that has not reported for so long wants nothing.
const SILENT_US: u64 = 60_000;
/// A server that reports more often is heard, and answered as often as this.
const ANSWER_US: u64 = 1_000;
/// After shares were computed, this many times as long passes before they are again: the desk takes 4 %
/// of its thread for that at most.
const PAUSES: u64 = 25;

/// The promises of one uplink.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) uplink: u32,
    /// What is usable while all members of a bond are there.
    whole_bps: u64,
    part: Part,
    usable_bps: u64,
    /// Servers by the tables: each with a vNIC in the pool.
    known: BTreeMap<PeerId, Known>,
    /// And the server of each such vNIC.
    owners: FxHashMap<VnicId, PeerId>,
    /// How many servers may come here by the tables.
    tabled: usize,
    /// Those that may use the uplink now, and those whose promises run out.
    servers: Vec<Server>,
    lessor: Lessor,
    computed_us: Option<u64>,
    /// How long that takes.
    cost_us: u64,
}

/// What the tables say of a server, and who of its vNICs is here.
#[derive(Debug)]
struct Known {
    name: String,
    /// The uplink is a home or standby of one of its vNICs.
    tabled: bool,
    grant: Option<GrantSplit>,
    here: BTreeSet<VnicId>,
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
    /// It has nobody here any more, and none who may come.
    gone: bool,
}

/// What one server has, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing<'a> {
    pub(super) peer: PeerId,
    pub(super) name: &'a str,
    /// vNICs that are here.
    pub(super) vnics: u64,
    pub(super) promised_bps: u64,
    pub(super) reservation_bps: u64,
    pub(super) starter_bps: u64,
    pub(super) demand: Demand,
    pub(super) served_bits: u64,
}

impl Desk {
    /// The desk of an uplink that is shaped, and on which the vNICs `here` are; `None` for others.
    pub(super) fn new(
        config: &Config,
        numbers: &PeerNumbers,
        uplink: &Uplink,
        here: &BTreeSet<VnicId>,
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
            known: BTreeMap::new(),
            owners: FxHashMap::default(),
            tabled: 0,
            servers: Vec::new(),
            lessor,
            computed_us: None,
            cost_us: 0,
        };
        desk.change(config, numbers, uplink, here);
        Some(desk)
    }

    /// Another configuration. Promises stay as they are until they are acknowledged or expire:
    /// who has less now is cut first, who has more is raised when that has paid for it.
    pub(super) fn change(
        &mut self,
        config: &Config,
        numbers: &PeerNumbers,
        uplink: &Uplink,
        here: &BTreeSet<VnicId>,
    ) {
        let Some(usable_bps) = uplink.usable_bps(Direction::Up) else { return };
        self.whole_bps = usable_bps;
        self.set_part(self.part);
        self.tabled = config.servers_on(uplink).len();
        (self.known, self.owners) = known(config, numbers, uplink, here);
        self.set_all();
    }

    /// vNICs came here, or have left. Returns the servers for which that makes a difference.
    pub(super) fn move_vnics(
        &mut self,
        moves: impl Iterator<Item = (VnicId, bool)>,
    ) -> Vec<PeerId> {
        let mut moved = BTreeSet::new();
        let mut others_too = false;
        for (vnic, here) in moves {
            let Some(peer) = self.owners.get(&vnic) else { continue };
            let Some(known) = self.known.get_mut(peer) else { continue };
            let counted = known.counts();
            let news = if here { known.here.insert(vnic) } else { known.here.remove(&vnic) };
            if news {
                moved.insert(*peer);
                others_too |= counted != known.counts();
            }
        }
        if others_too {
            self.set_all();
            return self.servers.iter().map(|server| server.peer).collect();
        }
        let starter_bps = self.starter_bps();
        moved.iter().for_each(|peer| self.set(*peer, starter_bps));
        moved.into_iter().collect()
    }

    /// Who has something here, and on which terms.
    fn set_all(&mut self) {
        let starter_bps = self.starter_bps();
        for (at, server) in self.servers.iter_mut().enumerate() {
            if !self.known.get(&server.peer).is_some_and(Known::counts) {
                server.leave();
                self.lessor.set_starter(ServerIndex(at), 0);
            }
        }
        let counts = self.known.iter().filter(|(_, known)| known.counts());
        let peers: Vec<PeerId> = counts.map(|(peer, _)| *peer).collect();
        peers.into_iter().for_each(|peer| self.set(peer, starter_bps));
    }

    fn set(&mut self, peer: PeerId, starter_bps: u64) {
        let Some(known) = self.known.get(&peer) else { return };
        let terms = known.terms();
        let starter_bps = known.most(&terms).limited(starter_bps);
        match self.servers.iter().position(|server| server.peer == peer) {
            Some(at) => {
                if let Some(server) = self.servers.get_mut(at) {
                    (server.terms, server.starter_bps, server.gone) = (terms, starter_bps, false);
                }
                self.lessor.set_starter(ServerIndex(at), starter_bps);
            }
            None => {
                self.servers.push(Server::new(peer, &known.name, terms, starter_bps));
                self.lessor.add(starter_bps);
            }
        }
    }

    /// What each server may always send, before its own limit.
    fn starter_bps(&self) -> u64 {
        let others = self.known.values().filter(|known| known.counts() && !known.tabled).count();
        starter_bps(self.whole_bps, self.tabled + others)
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
            vnics: self.known.get(&server.peer).map_or(0, |known| known.here.len() as u64),
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

    /// The report that came at `now_us` is answered at `after_us`. If shares were computed for it, that is
    /// what it costs; one that took much longer was a stall, perhaps: it counts double what is known.
    pub(super) fn note_cost(&mut self, now_us: u64, after_us: u64) {
        if self.computed_us == Some(now_us) {
            let took_us = after_us.saturating_sub(now_us).max(1);
            self.cost_us = took_us.min(self.cost_us.max(1) * 2);
        }
    }

    /// Divides the uplink anew.
    fn compute(&mut self, now_us: u64) {
        let every_us = self.cost_us.saturating_mul(PAUSES);
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

/// The servers with vNICs in the uplink's pool, and whose each of those is.
fn known(
    config: &Config,
    numbers: &PeerNumbers,
    uplink: &Uplink,
    here: &BTreeSet<VnicId>,
) -> (BTreeMap<PeerId, Known>, FxHashMap<VnicId, PeerId>) {
    let mut known: BTreeMap<PeerId, Known> = BTreeMap::new();
    let mut owners = FxHashMap::default();
    for vnic in config.vnics.iter().filter(|vnic| vnic.is_in_pool(uplink)) {
        let VnicPlace::Peer(peer) = &vnic.place else { continue };
        let Some(id) = numbers.get(peer) else { continue };
        owners.insert(vnic.id, id);
        let server = known.entry(id).or_insert_with(|| Known::new(&peer.name));
        server.tabled |= vnic.may_attach(uplink);
        if here.contains(&vnic.id) {
            server.here.insert(vnic.id);
        }
    }
    for (holder, grant) in config.grant_splits(&uplink.pool, Direction::Up) {
        if let Holder::Peer(peer) = &holder
            && let Some(server) = numbers.get(peer).and_then(|id| known.get_mut(&id))
        {
            server.grant = Some(grant);
        }
    }
    (known, owners)
}

impl Known {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), tabled: false, grant: None, here: BTreeSet::new() }
    }

    /// It has something here, or may come here at any time.
    fn counts(&self) -> bool {
        self.tabled || !self.here.is_empty()
    }

    /// What it may use now.
    fn terms(&self) -> Terms {
        self.grant.as_ref().map_or_else(Terms::default, |it| it.of(self.here.iter().copied()))
    }

    /// What limits its starter. One that has nobody here may come with all its vNICs: it has to begin with
    /// something before it is known with how many it came.
    fn most(&self, terms: &Terms) -> Terms {
        match &self.grant {
            Some(grant) if self.here.is_empty() => grant.whole(),
            _ => *terms,
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

    /// It has nothing here any more: what it was promised runs out.
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
