//! One uplink, downwards: who gets how much, by what came since the last look. Pure.
//!
//! ```text
//!   uplink, 96 % of `down` ─▶ servers, by their grants ─▶ their vNICs, by their policies
//!                             └ at most what their fabric ports can receive, as they say
//! ```
//! What a vNIC wants is what went to it since the last tick and a tenth more, or, if something
//! had to wait for its rate, more than it may have. The gateway is the sender itself: what it divides
//! is in force at once, cuts before raises, so that the rates never add up to more than there is.
//!
//! Of its grant a server has here what those of its vNICs bring that are here ([`GrantSplit`]).

use super::share::VnicDown;
use crate::bond::Part;
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use wireonce_config::{Config, Direction, GrantSplit, Holder, Peer, Uplink, VnicPlace};
use wireonce_directory::PeerNumbers;
use wireonce_link::PeerId;
use wireonce_shares::{Demand, GrantNode, ReceiveMessage, Terms, VnicNode, share_out};
use wireonce_wire::VnicId;

/// Time between two looks at the meters.
pub(super) const TICK_US: u64 = 5_000;
/// A vNIC that has to wait is given more before that, but not more often than this.
pub(super) const HURRY_US: u64 = 1_000;
/// What a server said that it can receive counts for so long; it says it each second at least.
const RECEIVES_US: u64 = 3_000_000;
/// An uplink that has carried nothing for so long is idle.
const IDLE_AFTER_US: u64 = 100_000;

/// One uplink that is shaped downwards.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) uplink: Arc<Uplink>,
    /// What is usable while all members of a bond are there.
    whole_bps: u64,
    usable_bps: u64,
    servers: Vec<Server>,
    /// Which of them has a vNIC.
    owners: FxHashMap<VnicId, usize>,
    read_us: u64,
    divided_us: u64,
    busy_us: Option<u64>,
}

#[derive(Debug)]
struct Server {
    name: String,
    peer: Option<PeerId>,
    grant: Option<GrantSplit>,
    /// Those of its vNICs that are here.
    here: BTreeSet<VnicId>,
    /// What it has by both.
    terms: Terms,
    /// What it said that it can receive.
    receives: Option<Receives>,
    vnics: Vec<Member>,
}

/// What a server's fabric port has room for, as it said.
#[derive(Debug, Clone, Copy)]
struct Receives {
    life: u64,
    sent_us: u64,
    max_bps: u64,
    heard_us: u64,
}

/// One vNIC behind a server.
#[derive(Debug)]
struct Member {
    id: VnicId,
    name: String,
    /// The uplink is its home.
    at_home: bool,
    terms: Terms,
    share: Arc<VnicDown>,
    served_bits: u64,
    demand: Demand,
}

/// One vNIC at the uplink, for people.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    pub(super) id: VnicId,
    pub(super) name: &'a str,
    pub(super) server: &'a str,
    pub(super) at_home: bool,
    pub(super) share: &'a VnicDown,
}

impl Desk {
    /// The desk of an uplink that is shaped, of which `part` is there, and on which the vNICs `here` are;
    /// `None` for others. `share` says where a vNIC is counted.
    pub(super) fn new(
        config: &Config,
        numbers: &PeerNumbers,
        uplink: &Arc<Uplink>,
        part: Part,
        here: &BTreeSet<VnicId>,
        share: impl FnMut(VnicId) -> Arc<VnicDown>,
    ) -> Option<Self> {
        let whole_bps = uplink.usable_bps(Direction::Down)?;
        let servers = servers(config, numbers, uplink, here, share);
        let vnics = |(at, server): (usize, &Server)| {
            server.vnics.iter().map(|vnic| (vnic.id, at)).collect::<Vec<_>>()
        };
        Some(Self {
            uplink: Arc::clone(uplink),
            whole_bps,
            usable_bps: part.of(whole_bps),
            owners: servers.iter().enumerate().flat_map(vnics).collect(),
            servers,
            read_us: 0,
            divided_us: 0,
            busy_us: None,
        })
    }

    /// Another part of the capacity is there. Rates follow at the next tick.
    pub(super) fn set_part(&mut self, part: Part) {
        self.usable_bps = part.of(self.whole_bps);
    }

    /// vNICs came here, or have left. Rates follow at the next tick.
    pub(super) fn move_vnics(&mut self, moves: impl Iterator<Item = (VnicId, bool)>) {
        let mut touched = BTreeSet::new();
        for (vnic, here) in moves {
            let Some(at) = self.owners.get(&vnic) else { continue };
            let Some(server) = self.servers.get_mut(*at) else { continue };
            let news = if here { server.here.insert(vnic) } else { server.here.remove(&vnic) };
            if news {
                touched.insert(*at);
            }
        }
        for at in touched {
            self.servers.get_mut(at).into_iter().for_each(Server::set_terms);
        }
    }

    /// Goes on where `before` was: what is known of demands stays. Rates follow at once.
    pub(super) fn go_on(&mut self, before: Option<&Self>, now_us: u64) {
        let known: HashMap<VnicId, &Member> =
            before.iter().flat_map(|desk| desk.members()).map(|it| (it.id, it)).collect();
        for member in self.servers.iter_mut().flat_map(|server| &mut server.vnics) {
            if let Some(before) = known.get(&member.id) {
                (member.served_bits, member.demand) = (before.served_bits, before.demand);
            }
        }
        if let Some(before) = before {
            (self.read_us, self.busy_us) = (before.read_us, before.busy_us);
            for server in &mut self.servers {
                let known = before.servers.iter().find(|it| it.peer == server.peer);
                server.receives = known.and_then(|it| it.receives);
            }
        }
        for member in self.members() {
            member.share.limit_packets(member.terms.limit_packets_per_s, now_us);
        }
        self.divide(now_us);
    }

    /// A server says what it can receive. Words that were overtaken by newer ones do not count.
    pub(super) fn hear(&mut self, server: PeerId, message: &ReceiveMessage, now_us: u64) {
        let known = self.servers.iter_mut().find(|it| it.peer == Some(server));
        let Some(server) = known else { return };
        let ReceiveMessage { uplink: _, life, sent_us, max_bps } = *message;
        let overtaken = |it: Receives| it.life == life && it.sent_us > sent_us;
        if !server.receives.is_some_and(overtaken) {
            server.receives = Some(Receives { life, sent_us, max_bps, heard_us: now_us });
        }
    }

    /// Reads the meters and divides, if it is time.
    pub(super) fn tick(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.read_us);
        // What was sent in a moment says little of a rate; but who waits is seen.
        let whole = !self.is_busy() || passed_us >= TICK_US * 9 / 10;
        if !whole && now_us.saturating_sub(self.divided_us) < HURRY_US {
            return;
        }
        // What woke us has come just now.
        let passed_us = if self.is_busy() { passed_us } else { HURRY_US };
        let mut busy = false;
        for member in self.servers.iter_mut().flat_map(|server| &mut server.vnics) {
            busy |= if whole { member.read(passed_us) } else { member.look() };
        }
        if whole {
            self.read_us = now_us;
        }
        if busy {
            self.busy_us = Some(now_us);
        } else if self.busy_us.is_some_and(|us| now_us.saturating_sub(us) >= IDLE_AFTER_US) {
            self.busy_us = None;
        }
        self.divide(now_us);
    }

    /// True while frames come, or have come lately.
    pub(super) fn is_busy(&self) -> bool {
        self.busy_us.is_some()
    }

    /// True if a frame came that no tick has seen.
    pub(super) fn has_news(&self) -> bool {
        self.members().any(|it| it.share.has_waited() || it.share.served_bits() != it.served_bits)
    }

    /// All vNICs that may have something here.
    pub(super) fn standings(&self) -> impl Iterator<Item = Standing<'_>> {
        self.servers.iter().flat_map(|server| {
            server.vnics.iter().map(|member| Standing {
                id: member.id,
                name: &member.name,
                server: &server.name,
                at_home: member.at_home,
                share: &member.share,
            })
        })
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.servers.iter().flat_map(|server| &server.vnics)
    }

    /// Divides what there is among all who want something, and tells the workers.
    fn divide(&mut self, now_us: u64) {
        self.divided_us = now_us;
        let awake: Vec<(&Server, Vec<&Member>)> = self
            .servers
            .iter()
            .map(|server| (server, server.vnics.iter().filter(|it| it.wants()).collect()))
            .filter(|(_, members): &(_, Vec<_>)| !members.is_empty())
            .collect();
        let grants: Vec<GrantNode> =
            awake.iter().map(|(server, members)| grant(server.terms_at(now_us), members)).collect();
        let node = |grant: &GrantNode| VnicNode {
            terms: grant.terms,
            demand: Demand::Bps(grant.demand_bps().max(1)),
        };
        let nodes: Vec<VnicNode> = grants.iter().map(node).collect();
        let rates = share_out(self.usable_bps, &nodes, false);
        let mut raised = Vec::new();
        for (((_, members), grant), server_bps) in awake.iter().zip(&grants).zip(rates) {
            for (member, bps) in members.iter().zip(share_out(server_bps, &grant.vnics, false)) {
                if bps > member.share.credit.rate() {
                    raised.push((*member, bps));
                } else {
                    member.share.credit.set_rate(bps, now_us);
                }
            }
        }
        for member in self.members().filter(|it| !it.wants()) {
            if member.share.credit.rate() > 0 {
                member.share.credit.set_rate(0, now_us);
            }
        }
        raised.into_iter().for_each(|(member, bps)| member.share.credit.set_rate(bps, now_us));
    }
}

fn grant(terms: Terms, members: &[&Member]) -> GrantNode {
    let vnic = |member: &&Member| VnicNode { terms: member.terms, demand: member.demand };
    GrantNode { terms, starter_bps: 0, vnics: members.iter().map(vnic).collect() }
}

/// The servers with a vNIC that frames may come for through `uplink`: all of its pool, since a
/// vNIC may be attached to any of its uplinks.
fn servers(
    config: &Config,
    numbers: &PeerNumbers,
    uplink: &Uplink,
    here: &BTreeSet<VnicId>,
    mut share: impl FnMut(VnicId) -> Arc<VnicDown>,
) -> Vec<Server> {
    let server = |peer: &Arc<Peer>| Server::new(&peer.name, numbers.get(peer));
    let mut servers: Vec<Server> = config.peers.iter().map(server).collect();
    for (holder, grant) in config.grant_splits(&uplink.pool, Direction::Down) {
        if let Holder::Peer(peer) = &holder
            && let Some(server) = servers.get_mut(peer.index)
        {
            server.grant = Some(grant);
        }
    }
    for vnic in &config.vnics {
        let VnicPlace::Peer(peer) = &vnic.place else { continue };
        let server = servers.get_mut(peer.index).filter(|_| vnic.is_in_pool(uplink));
        let Some(server) = server else { continue };
        if here.contains(&vnic.id) {
            server.here.insert(vnic.id);
        }
        server.vnics.push(Member {
            id: vnic.id,
            name: vnic.name.clone(),
            at_home: vnic.home.as_ref().is_some_and(|home| home.id == uplink.id),
            terms: vnic.terms(Direction::Down),
            share: share(vnic.id),
            served_bits: 0,
            demand: Demand::Bps(0),
        });
    }
    servers.retain(|server| !server.vnics.is_empty());
    servers.iter_mut().for_each(Server::set_terms);
    servers
}

impl Server {
    fn new(name: &str, peer: Option<PeerId>) -> Self {
        let (grant, here, terms) = (None, BTreeSet::new(), Terms::default());
        Self { name: name.to_owned(), peer, grant, here, terms, receives: None, vnics: Vec::new() }
    }

    fn set_terms(&mut self) {
        let Some(grant) = &self.grant else { return };
        self.terms = grant.of(self.here.iter().copied());
        if self.here.is_empty() {
            // Nothing comes for it any more, but what waits has to go.
            self.terms.limit_bps = grant.whole().limit_bps;
        }
    }

    /// Its grant's terms, within what its port can receive.
    fn terms_at(&self, now_us: u64) -> Terms {
        let fresh = |it: &Receives| now_us.saturating_sub(it.heard_us) < RECEIVES_US;
        let Some(Receives { max_bps, .. }) = self.receives.filter(fresh) else {
            return self.terms;
        };
        let reservation_bps = self.terms.reservation_bps.min(max_bps);
        Terms { reservation_bps, limit_bps: Some(self.terms.limited(max_bps)), ..self.terms }
    }
}

impl Member {
    fn wants(&self) -> bool {
        self.demand != Demand::Bps(0)
    }

    /// Between two ticks only who waits is seen.
    fn look(&mut self) -> bool {
        let held = self.share.is_held();
        if held {
            self.set_demand(Demand::Unbounded);
        }
        held
    }

    /// Reads its meter after `passed_us`. Returns whether anything came.
    fn read(&mut self, passed_us: u64) -> bool {
        let now = self.share.read(passed_us);
        let bits = now.served_bits.wrapping_sub(self.served_bits);
        if bits == 0 && !now.waited && !self.wants() {
            return false;
        }
        // Whoever waits wants something, though nothing may have gone in this time.
        let least_bps = u64::from(now.waited);
        self.served_bits = now.served_bits;
        let sent_bps = u128::from(bits) * 1_100_000 / u128::from(passed_us.max(1));
        let sent_bps = u64::try_from(sent_bps).unwrap_or(u64::MAX);
        let before_bps = match self.demand {
            Demand::Bps(bps) => bps,
            // It is known what it has: what it may.
            Demand::Unbounded => 0,
        };
        self.set_demand(match now.held {
            true => Demand::Unbounded,
            false => Demand::Bps(sent_bps.max(before_bps / 8 * 7).max(least_bps)),
        });
        now.waited || bits > 0
    }

    fn set_demand(&mut self, demand: Demand) {
        self.demand = demand;
        self.share.wants(match demand {
            Demand::Bps(bps) => bps,
            Demand::Unbounded => u64::MAX,
        });
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
