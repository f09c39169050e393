//! One pool as the desk knows it: this gateway's uplinks of it, and the others'.

use super::{
    desk::{HOLD_US, INTERVAL_US, VLANS_PER_TURN, asked},
    gate::{Designated, Gate},
    heard::Place,
    keys::Keys,
    verdict::Verdict,
    view::{OtherView, OwnView, PoolView},
};
use crate::{
    bond::Bond,
    health::HealthState,
    next_hop::{NextHop, NextHopState},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use wireonce_link::{PeerId, PublicKey};
use wireonce_wire::UplinkId;

/// Own probes that are remembered: those of the last window.
const SENT_MAX: usize = 64;

/// One of this gateway's uplinks on one VLAN, and another uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    pub(super) own: UplinkId,
    pub(super) other: UplinkId,
    pub(super) vlan: Option<u16>,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) configured: UplinkId,
    pub(super) vlans: Vec<Option<u16>>,
    /// Whose turn it is, if they take turns.
    pub(super) turn: usize,
    pub(super) keys: Keys,
    pub(super) own: Vec<Own>,
    pub(super) others: Vec<Other>,
    pub(super) verdicts: BTreeMap<Pair, Verdict>,
    pub(super) next_us: u64,
}

/// An uplink of this gateway.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) id: UplinkId,
    pub(super) name: String,
    pub(super) interface: String,
    pub(super) probes: bool,
    pub(super) gate: Arc<Gate>,
    /// `None` until a worker has looked.
    pub(super) carrier: Option<bool>,
    /// Since when its link, or its silence, is as it is.
    pub(super) since_us: u64,
    /// Of the next probe.
    pub(super) number: u64,
    /// When the last turns began, and with which number.
    sent: VecDeque<(u64, u64)>,
    /// A loop was seen: until when broadcast is held back, whatever is seen until then.
    pub(super) held_until_us: Option<u64>,
    /// The time of holding back is over, and probes go out to see whether they come back.
    pub(super) looking: bool,
    /// With the VLAN that it is on.
    pub(super) next_hop: Option<(NextHop, Option<u16>)>,
    /// What was made known of it.
    pub(super) next_hop_was: NextHopState,
    pub(super) bond: Option<Bond>,
}

/// An uplink of another gateway.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) id: UplinkId,
    pub(super) name: String,
    pub(super) probes: bool,
    pub(super) gateway: PublicKey,
    pub(super) peer: Option<PeerId>,
    /// How it is, as it said last.
    pub(super) state: HealthState,
    /// When it was last heard of, outside or over the fabric.
    pub(super) alive_us: u64,
    /// Since when it is as it is.
    pub(super) since_us: u64,
}

impl Pool {
    /// The pool in another configuration. An uplink that is new counts as heard just now, so
    /// that nobody takes over from one who had no time to speak.
    pub(super) fn new(
        view: PoolView,
        before: Option<Self>,
        gate: impl Fn(UplinkId) -> Option<Arc<Gate>>,
        now_us: u64,
    ) -> Self {
        let PoolView { name, configured, vlans, own, others, keys } = view;
        let old =
            before.map(|pool| (pool.own, pool.others, pool.verdicts, pool.turn, pool.next_us));
        let (mut old_own, mut old_others, verdicts, turn, next_us) =
            old.unwrap_or((Vec::new(), Vec::new(), BTreeMap::new(), 0, now_us));
        let own = own.into_iter().filter_map(|view| {
            let at = old_own.iter().position(|own| own.id == view.id);
            let old = at.map(|at| old_own.swap_remove(at));
            Some(Own::new(&view, old, gate(view.id)?, now_us))
        });
        let others = others.into_iter().map(|view| {
            let at = old_others.iter().position(|other| other.id == view.id);
            Other::new(view, at.map(|at| old_others.swap_remove(at)), now_us)
        });
        let (own, others): (Vec<Own>, Vec<Other>) = (own.collect(), others.collect());
        let own_probes = |id| own.iter().any(|own| own.id == id && own.probes);
        let other_probes = |id| own_probes(id) || others.iter().any(|it| it.id == id && it.probes);
        let mut verdicts = verdicts;
        verdicts.retain(|pair, _| {
            own_probes(pair.own) && other_probes(pair.other) && vlans.contains(&pair.vlan)
        });
        Self { name, configured, vlans, turn, keys, own, others, verdicts, next_us }
    }

    /// Whether anything is sent and listened for.
    pub(super) fn probes(&self) -> bool {
        self.own.iter().any(|own| own.probes)
    }

    /// Between two probes on one VLAN.
    pub(super) fn interval_us(&self) -> u64 {
        let turns = self.vlans.len().div_ceil(VLANS_PER_TURN).max(1);
        INTERVAL_US.saturating_mul(u64::try_from(turns).unwrap_or(u64::MAX))
    }

    /// For how long the last probe on a VLAN counts as heard: three and a half intervals.
    pub(super) fn window_us(&self) -> u64 {
        self.interval_us().saturating_mul(7) / 2
    }

    /// The VLANs whose turn it is now.
    pub(super) fn take_turn(&mut self) -> Vec<Option<u16>> {
        let turns = self.vlans.chunks(VLANS_PER_TURN).count().max(1);
        self.turn = (self.turn + 1) % turns;
        let now = self.vlans.chunks(VLANS_PER_TURN).nth(self.turn);
        now.unwrap_or_default().to_vec()
    }

    /// The key of the gateway that has `uplink`.
    pub(super) fn gateway_of(&self, uplink: UplinkId) -> Option<&PublicKey> {
        if self.own.iter().any(|own| own.id == uplink) {
            return Some(self.keys.own_key());
        }
        self.others.iter().find(|other| other.id == uplink).map(|other| &other.gateway)
    }

    pub(super) fn has_peer(&self, peer: PeerId) -> bool {
        self.others.iter().any(|other| other.peer == Some(peer))
    }

    pub(super) fn knows(&self, place: &Place) -> bool {
        let own = |id| self.own.iter().any(|own| own.id == id);
        let other = |id| self.others.iter().any(|other| other.id == id);
        own(place.at) && self.vlans.contains(&place.vlan) && (own(place.from) || other(place.from))
    }

    pub(super) fn name_of(&self, uplink: UplinkId) -> String {
        let own = self.own.iter().find(|own| own.id == uplink).map(|own| &own.name);
        let other = || self.others.iter().find(|it| it.id == uplink).map(|it| &it.name);
        own.or_else(other).cloned().unwrap_or_default()
    }

    /// The word in which this gateway keeps the pool's designated uplink.
    pub(super) fn designated(&self) -> Option<&Arc<Designated>> {
        self.own.first().map(|own| own.gate.designated())
    }
}

impl Own {
    fn new(view: &OwnView, old: Option<Self>, gate: Arc<Gate>, now_us: u64) -> Self {
        let next_hop = asked(view, &gate, now_us);
        let mut own = old.unwrap_or_else(|| Self {
            id: view.id,
            name: String::new(),
            interface: String::new(),
            probes: view.probes,
            gate: Arc::clone(&gate),
            carrier: None,
            since_us: now_us,
            number: 1,
            sent: VecDeque::new(),
            held_until_us: None,
            looking: false,
            next_hop: None,
            next_hop_was: NextHopState::Unknown,
            bond: None,
        });
        let same = |a: &Option<(NextHop, Option<u16>)>, b: &Option<(NextHop, Option<u16>)>| {
            let asked = |it: &(NextHop, Option<u16>)| (it.0.address(), it.1);
            a.as_ref().map(asked) == b.as_ref().map(asked)
        };
        if !same(&own.next_hop, &next_hop) {
            (own.next_hop, own.next_hop_was) = (next_hop, NextHopState::Unknown);
        }
        if own.probes != view.probes {
            own.since_us = now_us;
        }
        own.name.clone_from(&view.name);
        own.interface.clone_from(&view.interface);
        (own.probes, own.gate) = (view.probes, gate);
        if !own.probes {
            // Nobody would look whether the loop is still there.
            (own.held_until_us, own.looking) = (None, false);
        }
        own.gate.hold(own.held_until_us.is_some());
        own
    }

    /// It has a link and may speak.
    pub(super) fn speaks(&self) -> bool {
        let silent = self.held_until_us.is_some() && !self.looking;
        self.probes && self.carrier == Some(true) && !silent
    }

    /// After the time of holding back, looks again; a look without an echo ends it. True if it
    /// has ended now.
    pub(super) fn look_again(&mut self, now_us: u64) -> bool {
        let Some(until_us) = self.held_until_us.filter(|until_us| now_us >= *until_us) else {
            return false;
        };
        if self.probes && !self.looking {
            self.looking = true;
            self.held_until_us = Some(until_us.max(now_us).saturating_add(INTERVAL_US * 3 / 2));
            return false;
        }
        (self.held_until_us, self.looking, self.since_us) = (None, false, now_us);
        self.gate.hold(false);
        true
    }

    /// A turn of probes begins.
    pub(super) fn begin_turn(&mut self, now_us: u64) {
        self.sent.push_back((now_us, self.number));
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
    }

    /// Whether the probe with this number was sent within the last three and a half seconds.
    pub(super) fn sent_lately(&self, number: u64, now_us: u64) -> bool {
        let fresh = |at_us: u64| now_us.saturating_sub(at_us) <= INTERVAL_US * 7 / 2;
        let oldest = self.sent.iter().find(|(at_us, _)| fresh(*at_us));
        oldest.is_some_and(|(_, first)| (*first..self.number).contains(&number))
    }

    /// It heard itself. True if that is news.
    pub(super) fn looped(&mut self, now_us: u64) -> bool {
        self.gate.hold(true);
        self.looking = false;
        self.held_until_us.replace(now_us.saturating_add(HOLD_US)).is_none()
    }
}

impl Other {
    fn new(view: OtherView, old: Option<Self>, now_us: u64) -> Self {
        let OtherView { id, name, probes, gateway, peer } = view;
        let same = old.filter(|old| old.gateway == gateway && old.probes == probes);
        let (state, alive_us, since_us) = same.map_or((HealthState::Alive, now_us, now_us), |it| {
            (it.state, it.alive_us, it.since_us)
        });
        Self { id, name, probes, gateway, peer, state, alive_us, since_us }
    }

    /// It was heard of, and is `state`.
    pub(super) fn alive(&mut self, state: HealthState, now_us: u64) {
        let was_gone = self.state == HealthState::Gone
            || now_us.saturating_sub(self.alive_us) > super::desk::SILENT_US;
        if was_gone && state != HealthState::Gone {
            self.since_us = now_us;
        }
        (self.state, self.alive_us) = (state, now_us);
    }
}
