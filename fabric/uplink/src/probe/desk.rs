//! One gateway's knowledge of its pools' outside: what came in, what is to be said. Pure, but for
//! the words that others read (health, gates); the clock is an argument.
//!
//! ```text
//!   probes, answers, carriers, news ──▶ Desk ──▶ frames to send, messages to gateways, lines to log
//!                                        └─────▶ health, held, designated
//! ```

use super::{
    frame::Received,
    gate::Gate,
    heard::{Heard, Hearing, Place},
    news::{News, OneWay},
    pool::{Other, Own, Pool},
    verdict::Verdict,
    view::PoolView,
};
use crate::{
    bond::{Bond, Part},
    health::{Cause, Health},
    next_hop::{NextHop, NextHopState},
};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use wireonce_link::PeerId;
use wireonce_wire::UplinkId;

/// Between two probes on one VLAN, as long as there are at most [`VLANS_PER_TURN`].
pub(super) const INTERVAL_US: u64 = 1_000_000;
/// VLANs that a pool's uplinks probe in one interval; more take turns.
pub(super) const VLANS_PER_TURN: usize = 16;
/// A gateway that was not heard for two intervals, and half of one for its phase, is silent.
pub(super) const SILENT_US: u64 = 2 * INTERVAL_US + INTERVAL_US / 2;
/// How long broadcast is held back after a loop was seen.
pub(super) const HOLD_US: u64 = 10 * INTERVAL_US;

/// A frame for an uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Emission {
    pub(crate) uplink: UplinkId,
    pub(crate) vlan: Option<u16>,
    pub(crate) frame: Vec<u8>,
}

/// Something for the log, once per change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// Two uplinks are joined otherwise than before, on these VLANs.
    Pair { uplink: String, other: String, vlans: Vec<Option<u16>>, verdict: Verdict },
    /// Another uplink lets broadcast in.
    Designated { pool: String, before: String, now: String },
    /// An uplink hears itself, or does no more.
    Loop { uplink: String, held: bool },
    /// The next hop is otherwise than before.
    NextHop { uplink: String, address: std::net::IpAddr, state: NextHopState },
    /// A bond has other live members.
    Bond { uplink: String, live: usize, all: usize },
}

/// What is to be done.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) frames: Vec<Emission>,
    pub(crate) messages: Vec<(PeerId, Vec<u8>)>,
    pub(crate) lines: Vec<Line>,
    /// Another part of an uplink's capacity is there.
    pub(crate) parts: Vec<(UplinkId, Part)>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    pub(crate) sent: u64,
    pub(crate) heard: u64,
    /// Not a probe of this version.
    pub(crate) unreadable: u64,
    /// Of an uplink that the pool does not have.
    pub(crate) foreign: u64,
    /// Not sealed by the gateway that has the uplink.
    pub(crate) unauthentic: u64,
    /// Older than what was heard.
    pub(crate) replayed: u64,
    /// The newest one once more.
    pub(crate) twice: u64,
    /// Sent on another VLAN than it came on.
    pub(crate) crossed: u64,
    /// The uplink's own.
    pub(crate) own: u64,
    /// No room to follow the sender.
    pub(crate) full: u64,
}

/// What a peer has said over the fabric.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// The session is up.
    pub(super) up: bool,
    /// It sends news: one that never did is of an older version.
    pub(super) speaks: bool,
    /// When its process began, as it says; 0 if it did not.
    pub(super) life: u64,
    /// Who of us is heard and does not hear, and when it said so.
    pub(super) one_way: (u64, Vec<OneWay>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Desk {
    /// When this process began: wall clock, microseconds.
    pub(super) life: u64,
    pub(super) health: Health,
    pub(super) pools: Vec<Pool>,
    pub(super) heard: Heard,
    pub(super) peers: FxHashMap<PeerId, Peer>,
    pub(super) counters: Counters,
    pub(super) output: Output,
    /// Our uplinks are otherwise than the gateways were told.
    pub(super) untold: bool,
}

impl Desk {
    /// A desk without pools.
    pub(crate) fn new(life: u64, health: Health) -> Self {
        Self {
            life,
            health,
            pools: Vec::new(),
            heard: Heard::default(),
            peers: FxHashMap::default(),
            counters: Counters::default(),
            output: Output::default(),
            untold: true,
        }
    }

    /// Another configuration: what is known of what stays, stays.
    pub(super) fn change(
        &mut self,
        views: Vec<PoolView>,
        gate: impl Fn(UplinkId) -> Option<Arc<Gate>>,
        now_us: u64,
    ) {
        let mut before = std::mem::take(&mut self.pools);
        for view in views {
            let at = before.iter().position(|pool| pool.name == view.name);
            let old = at.map(|at| before.swap_remove(at));
            self.pools.push(Pool::new(view, old, &gate, now_us));
        }
        for own in before.iter().flat_map(|pool| &pool.own) {
            own.gate.hold(false);
        }
        let pools = &self.pools;
        self.heard.retain(|place| pools.iter().any(|pool| pool.knows(place)));
        let is_known = |peer| pools.iter().any(|pool| pool.has_peer(peer));
        self.peers.retain(|peer, _| is_known(*peer));
        for own in self.pools.iter().flat_map(|pool| &pool.own) {
            if own.next_hop_was != NextHopState::Silent {
                self.health.clear(own.id, Cause::NextHopSilent);
            }
            if own.held_until_us.is_none() {
                self.health.clear(own.id, Cause::Loop);
            }
        }
        self.untold = true;
        self.elect(now_us);
    }

    /// The port of `uplink` has a link, or has none.
    pub(crate) fn carrier(&mut self, uplink: UplinkId, carrier: bool, now_us: u64) {
        if carrier {
            self.health.clear(uplink, Cause::NoCarrier);
        } else {
            self.health.set(uplink, Cause::NoCarrier);
        }
        let Some(own) = self.own_mut(uplink) else { return };
        if own.carrier != Some(carrier) {
            own.carrier = Some(carrier);
            own.since_us = now_us;
            self.untold = true;
        }
        self.elect(now_us);
    }

    /// Something with a probe's ethertype came in.
    pub(crate) fn probe(&mut self, at: UplinkId, vlan: Option<u16>, frame: &[u8], now_us: u64) {
        let Some(received) = Received::parse(frame) else {
            self.counters.unreadable += 1;
            return;
        };
        let from = received.probe.uplink;
        let Some(pool) = self.pools.iter().find(|pool| pool.own.iter().any(|own| own.id == at))
        else {
            return;
        };
        let Some(gateway) = pool.gateway_of(from) else {
            self.counters.foreign += 1;
            return;
        };
        if !pool.keys.believe(gateway, &received) {
            self.counters.unauthentic += 1;
            return;
        }
        let least_life = self.least_life(from);
        if received.probe.life < least_life {
            self.counters.replayed += 1;
        } else if from == at {
            self.hear_own(at, received.probe.number, now_us);
        } else if received.probe.vlan != vlan {
            self.counters.crossed += 1;
        } else {
            self.hear_other(Place { at, vlan, from }, &received, now_us);
        }
        self.elect(now_us);
    }

    fn hear_other(&mut self, place: Place, received: &Received<'_>, now_us: u64) {
        let window_us = self.window_us(place.at);
        match self.heard.hear(place, &received.probe, window_us, now_us) {
            Hearing::New => self.counters.heard += 1,
            Hearing::Again => self.counters.twice += 1,
            Hearing::Old => self.counters.replayed += 1,
            Hearing::Full => self.counters.full += 1,
        }
        let newest = self.heard.get(&place).is_some_and(|entry| entry.heard_us == now_us);
        if let Some(other) = self.other_mut(place.from).filter(|_| newest) {
            other.alive(received.probe.state, now_us);
        }
    }

    /// An uplink heard its own probe: a loop, if it was sent just now. The frame has passed the
    /// seal, so it is ours; somebody who has recorded it can play it again, but only a fresh one counts.
    fn hear_own(&mut self, at: UplinkId, number: u64, now_us: u64) {
        let Some(own) = self.own_mut(at) else { return };
        if !own.sent_lately(number, now_us) {
            self.counters.replayed += 1;
            return;
        }
        let news = own.looped(now_us);
        let uplink = own.name.clone();
        self.counters.own += 1;
        self.health.set(at, Cause::Loop);
        if news {
            self.output.lines.push(Line::Loop { uplink, held: true });
            self.untold = true;
        }
    }

    /// A frame to the uplink's own address came in.
    pub(crate) fn answer(&mut self, at: UplinkId, vlan: Option<u16>, frame: &[u8], now_us: u64) {
        let Some(own) = self.own_mut(at) else { return };
        let hop = own.next_hop.as_mut().filter(|(_, on)| *on == vlan);
        if hop.is_some_and(|(hop, _)| hop.hear(frame, now_us)) {
            self.judge_next_hop(at);
        }
    }

    /// A gateway told how its uplinks are. It speaks for its own only.
    pub(crate) fn news(&mut self, peer: PeerId, payload: &[u8], now_us: u64) {
        let Some(news) = News::parse(payload) else { return };
        if !self.pools.iter().any(|pool| pool.has_peer(peer)) {
            return;
        }
        let known = self.peers.entry(peer).or_default();
        (known.speaks, known.up) = (true, true);
        known.one_way = (now_us, news.one_way);
        // The session proves that this life is the present one, even if its clock went back.
        if std::mem::replace(&mut known.life, news.life) != news.life {
            let others = self.pools.iter().flat_map(|pool| &pool.others);
            let its: Vec<_> = others.filter(|it| it.peer == Some(peer)).map(|it| it.id).collect();
            self.heard.forget_later(&its, news.life);
        }
        for (uplink, state) in news.uplinks {
            if let Some(other) = self.other_mut(uplink).filter(|other| other.peer == Some(peer)) {
                other.alive(state, now_us);
            }
        }
        self.elect(now_us);
    }

    /// The session with a peer is up, or is not.
    pub(crate) fn session(&mut self, peer: PeerId, up: bool, now_us: u64) {
        if self.pools.iter().any(|pool| pool.has_peer(peer)) {
            let known = self.peers.entry(peer).or_default();
            // Who comes back may be another version.
            (known.up, known.speaks) = (up, up && known.up && known.speaks);
            self.untold |= up;
            self.elect(now_us);
        }
    }

    /// An uplink's bond as it is now; `None` if it is none.
    pub(crate) fn bond(&mut self, uplink: UplinkId, mut bond: Option<Bond>) {
        let Some(own) = self.own_mut(uplink) else { return };
        if let (Some(now), Some(before)) = (&mut bond, &own.bond) {
            now.remember(before);
        }
        let part = |bond: &Option<Bond>| bond.as_ref().map_or(Part::WHOLE, Bond::part);
        let (before, now) = (part(&own.bond), part(&bond));
        let live = |bond: &Bond| bond.members.iter().filter(|member| member.carrier).count();
        let counts = bond.as_ref().map(|bond| (live(bond), bond.members.len()));
        let changed = counts != own.bond.as_ref().map(|bond| (live(bond), bond.members.len()));
        own.bond = bond;
        let name = own.name.clone();
        if let Some((live, all)) = counts.filter(|_| changed) {
            self.output.lines.push(Line::Bond { uplink: name, live, all });
        }
        if before != now {
            self.output.parts.push((uplink, now));
        }
    }

    /// This gateway's uplinks with their interfaces.
    pub(crate) fn interfaces(&self) -> Vec<(UplinkId, String)> {
        let own = self.pools.iter().flat_map(|pool| &pool.own);
        own.map(|own| (own.id, own.interface.clone())).collect()
    }

    /// What is to be done since the last call.
    pub(crate) fn take_output(&mut self) -> Output {
        std::mem::take(&mut self.output)
    }

    pub(super) fn judge_next_hop(&mut self, uplink: UplinkId) {
        let Some(own) = self.own_mut(uplink) else { return };
        let Some((hop, _)) = &own.next_hop else { return };
        let (state, address, name) = (hop.state(), hop.address(), own.name.clone());
        if std::mem::replace(&mut own.next_hop_was, state) == state {
            return;
        }
        if state == NextHopState::Silent {
            self.health.set(uplink, Cause::NextHopSilent);
        } else {
            self.health.clear(uplink, Cause::NextHopSilent);
        }
        self.untold = true;
        self.output.lines.push(Line::NextHop { uplink: name, address, state });
    }

    /// A probe of `from` that is of an earlier life than this was recorded.
    fn least_life(&self, from: UplinkId) -> u64 {
        if self.pools.iter().flat_map(|pool| &pool.own).any(|own| own.id == from) {
            return self.life;
        }
        let other = self.pools.iter().flat_map(|pool| &pool.others).find(|other| other.id == from);
        let peer = other.and_then(|other| self.peers.get(&other.peer?));
        peer.map_or(0, |peer| peer.life)
    }

    /// For how long the last probe at `uplink` counts as heard.
    fn window_us(&self, uplink: UplinkId) -> u64 {
        let has = |pool: &&Pool| pool.own.iter().any(|own| own.id == uplink);
        self.pools.iter().find(has).map_or(INTERVAL_US, Pool::window_us)
    }

    pub(super) fn own_mut(&mut self, uplink: UplinkId) -> Option<&mut Own> {
        self.pools.iter_mut().flat_map(|pool| &mut pool.own).find(|own| own.id == uplink)
    }

    fn other_mut(&mut self, uplink: UplinkId) -> Option<&mut Other> {
        self.pools.iter_mut().flat_map(|pool| &mut pool.others).find(|other| other.id == uplink)
    }
}

/// A next hop that is asked from now on.
pub(super) fn asked(
    own: &super::view::OwnView,
    gate: &Gate,
    now_us: u64,
) -> Option<(NextHop, Option<u16>)> {
    own.next_hop.map(|hop| (NextHop::new(hop.address, gate.mac(), now_us), hop.vlan))
}
