//! What a desk does by itself: each second probes, verdicts and news; at each change the election.

use super::{
    desk::{Desk, Emission, INTERVAL_US, Line, SILENT_US},
    election::{Candidate, elect},
    frame::Probe,
    heard::Place,
    news::{News, OneWay},
    pool::{Other, Own, Pair, Pool},
    verdict::{Evidence, Verdict, judge},
};
use crate::health::{Cause, HealthState};
use std::collections::BTreeMap;
use wireonce_link::PeerId;
use wireonce_wire::UplinkId;

impl Desk {
    /// When [`Self::tick`] has something to do.
    pub(crate) fn next_due_us(&self) -> Option<u64> {
        if self.untold {
            return Some(0);
        }
        let pools = self.pools.iter().filter(|pool| pool.probes()).map(|pool| pool.next_us);
        let own = self.pools.iter().flat_map(|pool| &pool.own);
        let hops = own.filter_map(|own| own.next_hop.as_ref().map(|(hop, _)| hop.next_due_us()));
        pools.chain(hops).min()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now_us: u64) {
        self.ask_next_hops(now_us);
        for at in 0..self.pools.len() {
            let due =
                self.pools.get(at).is_some_and(|pool| pool.probes() && pool.next_us <= now_us);
            if due {
                self.turn(at, now_us);
            }
        }
        self.elect(now_us);
        if std::mem::take(&mut self.untold) {
            self.tell(now_us);
        }
    }

    /// An uplink's health was changed by somebody else.
    pub(crate) fn health_changed(&mut self, now_us: u64) {
        self.untold = true;
        self.elect(now_us);
    }

    fn ask_next_hops(&mut self, now_us: u64) {
        let mut asked = Vec::new();
        for own in self.pools.iter_mut().flat_map(|pool| &mut pool.own) {
            let Some((hop, vlan)) = &mut own.next_hop else { continue };
            if own.carrier != Some(true) {
                hop.unplugged(now_us);
            } else if let Some(frame) = hop.ask(now_us) {
                self.output.frames.push(Emission { uplink: own.id, vlan: *vlan, frame });
                asked.push(own.id);
            }
        }
        asked.into_iter().for_each(|uplink| self.judge_next_hop(uplink));
    }

    /// A second of one pool.
    fn turn(&mut self, at: usize, now_us: u64) {
        let Some(pool) = self.pools.get_mut(at) else { return };
        // Who was late does not hurry afterwards.
        pool.next_us = now_us.saturating_add(INTERVAL_US);
        for own in &mut pool.own {
            if own.look_again(now_us) {
                self.health.clear(own.id, Cause::Loop);
                self.output.lines.push(Line::Loop { uplink: own.name.clone(), held: false });
            }
        }
        self.send(at, now_us);
        self.judge_pairs(at, now_us);
        self.untold = true;
    }

    fn send(&mut self, at: usize, now_us: u64) {
        let Some(pool) = self.pools.get_mut(at) else { return };
        let window_us = pool.window_us();
        let vlans = pool.take_turn();
        let everybody: Vec<UplinkId> = ids(pool).collect();
        let Pool { own, keys, .. } = pool;
        for own in own.iter_mut().filter(|own| own.speaks()) {
            own.begin_turn(now_us);
            for vlan in &vlans {
                let hears = |from: &UplinkId| {
                    let place = Place { at: own.id, vlan: *vlan, from: *from };
                    self.heard
                        .get(&place)
                        .is_some_and(|it| now_us.saturating_sub(it.heard_us) <= window_us)
                };
                let probe = Probe {
                    uplink: own.id,
                    state: self.health.state(own.id),
                    vlan: *vlan,
                    life: self.life,
                    number: own.number,
                    heard: everybody.iter().copied().filter(hears).collect(),
                };
                own.number += 1;
                let frame = keys.emit(&probe, own.gate.mac());
                self.output.frames.push(Emission { uplink: own.id, vlan: *vlan, frame });
                self.counters.sent += 1;
            }
        }
    }

    fn judge_pairs(&mut self, at: usize, now_us: u64) {
        let Some(pool) = self.pools.get(at) else { return };
        let mut verdicts = BTreeMap::new();
        for own in pool.own.iter().filter(|own| own.probes) {
            for other in ids(pool).filter(|other| *other != own.id) {
                let Some(partner) = self.partner(pool, other, now_us) else { continue };
                for vlan in &pool.vlans {
                    let pair = Pair { own: own.id, other, vlan: *vlan };
                    let evidence = self.evidence(pool, own, &partner, pair, now_us);
                    verdicts.insert(pair, judge(evidence));
                }
            }
        }
        let changed = changes(&pool.verdicts, &verdicts);
        let line = |((own, other, verdict), vlans)| Line::Pair {
            uplink: pool.name_of(own),
            other: pool.name_of(other),
            vlans,
            verdict,
        };
        self.output.lines.extend(changed.into_iter().map(line));
        if let Some(pool) = self.pools.get_mut(at) {
            pool.verdicts = verdicts;
        }
    }

    fn evidence(
        &self,
        pool: &Pool,
        own: &Own,
        partner: &Partner,
        pair: Pair,
        now_us: u64,
    ) -> Evidence {
        let window_us = pool.window_us();
        let recent = |at_us: u64| now_us.saturating_sub(at_us) <= window_us;
        let entry = |vlan| {
            let place = Place { at: pair.own, vlan, from: pair.other };
            self.heard.get(&place).filter(|entry| recent(entry.heard_us))
        };
        let told = |vlan| {
            let one_way = OneWay { heard: pair.own, by: pair.other, vlan };
            let peer = partner.peer.and_then(|peer| self.peers.get(&peer));
            peer.is_some_and(|it| recent(it.one_way.0) && it.one_way.1.contains(&one_way))
        };
        let here = entry(pair.vlan);
        let says_so = here.is_some_and(|entry| entry.hears.contains(&pair.own));
        let mut others = pool.vlans.iter().filter(|vlan| **vlan != pair.vlan);
        let since_us = own.since_us.max(partner.since_us).max(here.map_or(0, |it| it.since_us));
        Evidence {
            hears: here.is_some(),
            is_heard: says_so || told(pair.vlan),
            elsewhere: others.any(|vlan| entry(*vlan).is_some() || told(*vlan)),
            twice: here.and_then(|it| it.twice_us).is_some_and(recent),
            settled: now_us.saturating_sub(since_us) > window_us,
            own_up: own.carrier == Some(true) && own.held_until_us.is_none(),
            other_up: partner.up,
        }
    }

    /// What is known of the other uplink of a pair; `None` if it sends no probes.
    fn partner(&self, pool: &Pool, other: UplinkId, now_us: u64) -> Option<Partner> {
        if let Some(own) = pool.own.iter().find(|own| own.id == other) {
            let up = Some(own.carrier == Some(true) && own.held_until_us.is_none());
            return own.probes.then_some(Partner { up, since_us: own.since_us, peer: None });
        }
        let it = pool.others.iter().find(|it| it.id == other && it.probes)?;
        let up = match self.state_of(it, now_us) {
            HealthState::Gone if it.state != HealthState::Gone => None,
            HealthState::Gone => Some(false),
            _ => Some(true),
        };
        Some(Partner { up, since_us: it.since_us, peer: it.peer })
    }

    /// Tells the gateways of our pools how our uplinks are. One message has all that a gateway is
    /// told, since the newest replaces those before.
    fn tell(&mut self, now_us: u64) {
        let pools = || self.pools.iter().filter(|pool| pool.probes());
        let others = pools().flat_map(|pool| &pool.others);
        let mut peers: Vec<PeerId> = others.filter_map(|other| other.peer).collect();
        peers.sort_unstable_by_key(|peer| peer.0);
        peers.dedup();
        for peer in peers {
            let mut news = News { life: self.life, ..News::default() };
            for pool in pools().filter(|pool| pool.has_peer(peer)) {
                let own = pool.own.iter().map(|own| (own.id, self.health.state(own.id)));
                news.uplinks.extend(own);
                news.one_way.extend(self.heard_only(pool, peer, now_us));
            }
            self.output.messages.push((peer, news.emit()));
        }
    }

    /// Which uplinks of `peer` ours hear that do not hear ours.
    fn heard_only(&self, pool: &Pool, peer: PeerId, now_us: u64) -> impl Iterator<Item = OneWay> {
        let of_peer = move |id| pool.others.iter().any(|it| it.id == id && it.peer == Some(peer));
        let heard_only = move |pair: &&Pair| {
            let place = Place { at: pair.own, vlan: pair.vlan, from: pair.other };
            self.heard.get(&place).is_some_and(|entry| {
                now_us.saturating_sub(entry.heard_us) <= pool.window_us()
                    && !entry.hears.contains(&pair.own)
            })
        };
        let pairs = pool.verdicts.keys().filter(move |pair| of_peer(pair.other)).filter(heard_only);
        pairs.map(|pair| OneWay { heard: pair.other, by: pair.own, vlan: pair.vlan })
    }

    /// Chooses each pool's designated uplink by what is heard now.
    pub(super) fn elect(&mut self, now_us: u64) {
        for pool in &self.pools {
            let Some(designated) = pool.designated() else { continue };
            let chosen = match pool.probes() {
                true => elect(pool.configured, self.candidates(pool, now_us)),
                false => pool.configured,
            };
            let before = designated.get();
            if before != chosen {
                designated.set(chosen);
                self.output.lines.push(Line::Designated {
                    pool: pool.name.clone(),
                    before: pool.name_of(before),
                    now: pool.name_of(chosen),
                });
            }
        }
    }

    fn candidates(&self, pool: &Pool, now_us: u64) -> Vec<Candidate> {
        // Before a worker has looked at our own port, nothing is known against it.
        let own = pool.own.iter().map(|own| (own.id, self.health.state(own.id)));
        let others = pool.others.iter().map(|it| (it.id, self.state_of(it, now_us)));
        own.chain(others).map(|(uplink, state)| Candidate { uplink, state }).collect()
    }

    /// How another gateway's uplink is; one that is silent outside and on the fabric is gone.
    fn state_of(&self, other: &Other, now_us: u64) -> HealthState {
        let peer = other.peer.and_then(|peer| self.peers.get(&peer));
        // A gateway of an older version says nothing, and is there as long as its session is.
        let mute = peer.is_some_and(|peer| peer.up && !peer.speaks);
        let silent = now_us.saturating_sub(other.alive_us) > SILENT_US;
        if silent && !mute { HealthState::Gone } else { other.state }
    }
}

/// The other side of a pair.
struct Partner {
    up: Option<bool>,
    since_us: u64,
    peer: Option<PeerId>,
}

fn ids(pool: &Pool) -> impl Iterator<Item = UplinkId> {
    let own = pool.own.iter().map(|own| own.id);
    own.chain(pool.others.iter().map(|other| other.id))
}

type Change = ((UplinkId, UplinkId, Verdict), Vec<Option<u16>>);

/// What is otherwise than before, VLANs with the same news together. That nothing can be said
/// yet is no news.
fn changes(before: &BTreeMap<Pair, Verdict>, now: &BTreeMap<Pair, Verdict>) -> Vec<Change> {
    let mut changes: BTreeMap<(UplinkId, UplinkId, Verdict), Vec<Option<u16>>> = BTreeMap::new();
    for (pair, verdict) in now {
        if before.get(pair) != Some(verdict) && *verdict != Verdict::Waiting {
            changes.entry((pair.own, pair.other, *verdict)).or_default().push(pair.vlan);
        }
    }
    changes.into_iter().collect()
}
