//! One uplink, downwards: who gets how much, by what came since the last look. Pure.
//!
//! ```text
//!   uplink, 96 % of `down` ─▶ servers, by their grants ─▶ their vNICs, by their policies
//!                             └ at most what their fabric ports can receive, as they say
//! ```
//! What a vNIC wants is what went to it since the last tick and a tenth more, or, if something
//! had to wait for its rate, more than it may have. The gateway is the sender itself: what it divides
//! is in force at once, cuts before raises, so that the rates never add up to more than there is.

use super::share::VnicDown;
use std::{collections::HashMap, sync::Arc};
use wireonce_config::{Config, Direction, Holder, Uplink, VnicPlace};
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
    usable_bps: u64,
    servers: Vec<Server>,
    read_us: u64,
    divided_us: u64,
    busy_us: Option<u64>,
}

#[derive(Debug)]
struct Server {
    name: String,
    peer: Option<PeerId>,
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
    /// The desk of an uplink that is shaped; `None` for others. `share` says where a vNIC
    /// is counted.
    pub(super) fn new(
        config: &Config,
        numbers: &PeerNumbers,
        uplink: &Arc<Uplink>,
        share: impl FnMut(VnicId) -> Arc<VnicDown>,
    ) -> Option<Self> {
        let usable_bps = uplink.usable_bps(Direction::Down)?;
        let servers = servers(config, numbers, uplink, share);
        let uplink = Arc::clone(uplink);
        Some(Self { uplink, usable_bps, servers, read_us: 0, divided_us: 0, busy_us: None })
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
    mut share: impl FnMut(VnicId) -> Arc<VnicDown>,
) -> Vec<Server> {
    let at_home = config.servers_on(uplink);
    let mut servers: Vec<Server> = Vec::with_capacity(config.peers.len());
    for peer in &config.peers {
        let holder = Holder::Peer(Arc::clone(peer));
        let mut terms = config.terms_on(uplink, &holder, Direction::Down);
        if !at_home.contains(&holder) {
            // What it has reserved is at its homes.
            terms.reservation_bps = 0;
        }
        let (name, peer) = (peer.name.clone(), numbers.get(peer));
        servers.push(Server { name, peer, terms, receives: None, vnics: Vec::new() });
    }
    for vnic in &config.vnics {
        let VnicPlace::Peer(peer) = &vnic.place else { continue };
        let outside = vnic.network.outside.as_ref();
        if outside.is_none_or(|outside| outside.pool != uplink.pool) {
            continue;
        }
        let Some(server) = servers.get_mut(peer.index) else { continue };
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
    servers
}

impl Server {
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
