//! Attachments at a gateway: what it lets pass for whom, and the fence.
//!
//! ```text
//!              prepare            attach                leave                   detach, or 100 ms
//!   (nothing) ───────▶ egress ───────────▶ egress,  ─────────▶ egress, inward ─────────▶ (nothing)
//!        └────────────────────────────────▶ inward             until it is announced elsewhere
//!
//!   leased, and the last hello that its server echoed was sent over a lease ago:
//!   nothing passes, another term begins, and only a claim in that term brings it back
//! ```
//! A vNIC of which no claim was heard is where the tables say: at once if it goes nowhere by itself, else
//! when its server has been silent about attachments for a while, as one of an older version is.

mod records;

use crate::{
    Answer, Answers, Claim, Claims, Phase, StateReport, States, Timing, Verdict,
    message::STATES_MAX,
};
use records::{Record, Stand};
use std::collections::{BTreeMap, VecDeque};
use wireonce_wire::{UplinkId, VnicId};

/// The old home lets frames in for so long after it was left.
const LINGER_US: u64 = 100_000;
/// States are told again after this time.
const TELL_US: u64 = 1_000_000;
/// A server that has been connected for so long without a claim makes none.
const MUTE_US: u64 = 1_000_000;
/// A server's claims take the place of the tables' homes this long after its first.
const SETTLE_US: u64 = 100_000;
/// Terms are begun for a server that is not heard until so long after its lease ran out.
const TERMS_US: u64 = 1_000_000;
/// Leases that a server may ask for.
const LEASE_MIN_US: u64 = 5_000;
const LEASE_MAX_US: u64 = 1_000_000;

/// What workers have to know of one vNIC at one uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word {
    /// Its frames may leave.
    pub egress: bool,
    /// Frames for it are let in.
    pub inward: bool,
    /// Both only while its server's lease lasts.
    pub leased: bool,
    /// It has left: frames are let in until somebody else announces it.
    pub leaving: bool,
}

/// What the tables say of one vNIC that may be attached here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tabled {
    /// Its server.
    pub peer: usize,
    /// The uplinks of this gateway that are in its network's pool.
    pub uplinks: Vec<UplinkId>,
    /// Its home, if that is one of them.
    pub home: Option<UplinkId>,
    /// It has standbys.
    pub leased: bool,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayOutput {
    /// Workers treat the vNIC at the uplink like this from now on.
    Show(VnicId, UplinkId, Word),
    /// What is leased of a server's may pass until then.
    Fence(usize, u64),
    /// Send this to a server.
    Answer(usize, Answers),
    /// Send this to a server.
    Tell(usize, States),
    /// Tell those outside that the vNIC is behind the uplink.
    Announce(VnicId, UplinkId),
}

#[derive(Debug, Default)]
struct Peer {
    life: u64,
    /// A claim of any kind was heard first.
    spoke_us: Option<u64>,
    /// There is a session since then.
    up_us: Option<u64>,
    term: u64,
    lease_us: u64,
    /// When the newest of our hellos that it echoed was sent.
    echoed_us: Option<u64>,
    /// The lease has run out, and nothing was claimed since.
    lapsed_us: Option<u64>,
    /// When the present term began.
    term_us: u64,
    /// Its uplinks' states are due.
    tell: bool,
}

impl Peer {
    fn new(term: u64) -> Self {
        Self { term, lapsed_us: Some(0), ..Self::default() }
    }

    fn until_us(&self) -> u64 {
        self.echoed_us.map_or(0, |us| us.saturating_add(self.lease_us))
    }
}

/// The attachments of one gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Above all terms of earlier lives, as far as the clock went forward.
    first_term: u64,
    late_us: u64,
    peers: BTreeMap<usize, Peer>,
    tables: BTreeMap<VnicId, Tabled>,
    records: BTreeMap<VnicId, BTreeMap<UplinkId, Record>>,
    shown: BTreeMap<(VnicId, UplinkId), Word>,
    states: Vec<StateReport>,
    told_us: u64,
    /// The tables' homes may have to give way, or come in, at a certain time.
    settle_us: Option<u64>,
    outputs: VecDeque<GatewayOutput>,
}

impl Gateway {
    /// A gateway whose process begins now.
    #[must_use]
    pub fn new(wall_clock_us: u64) -> Self {
        Self {
            first_term: wall_clock_us.max(1),
            late_us: Timing::FAST.hello_us / 2,
            peers: BTreeMap::new(),
            tables: BTreeMap::new(),
            records: BTreeMap::new(),
            shown: BTreeMap::new(),
            states: Vec::new(),
            told_us: 0,
            settle_us: None,
            outputs: VecDeque::new(),
        }
    }

    /// Other tables. What is attached stays, if it may be there at all.
    pub fn tables(&mut self, now_us: u64, tables: BTreeMap<VnicId, Tabled>) {
        for tabled in tables.values() {
            self.peer(tabled.peer);
        }
        self.records.retain(|id, records| {
            let Some(tabled) = tables.get(id) else { return false };
            records.retain(|uplink, record| {
                record.peer == tabled.peer && tabled.uplinks.contains(uplink)
            });
            !records.is_empty()
        });
        let before = std::mem::replace(&mut self.tables, tables);
        let ids: Vec<VnicId> = before.keys().chain(self.tables.keys()).copied().collect();
        ids.into_iter().for_each(|id| self.show(now_us, id));
        self.settle_us = Some(now_us);
    }

    /// How the uplinks are now. Servers hear of it at once.
    pub fn states(&mut self, now_us: u64, states: Vec<StateReport>) {
        if self.states != states {
            self.states = states;
            self.tell_all(now_us);
        }
    }

    /// There is a session with a server.
    pub fn session(&mut self, now_us: u64, peer: usize) {
        let view = self.peer(peer);
        view.up_us.get_or_insert(now_us);
        view.tell = true;
        self.settle_us = Some(now_us);
        self.tell();
    }

    /// A server has echoed the hello that was sent at `sent_us`, and none newer.
    pub fn echo(&mut self, now_us: u64, peer: usize, sent_us: u64) {
        let Some(view) = self.peers.get(&peer) else { return };
        let mute = view.spoke_us.is_none() && view.up_us.is_some_and(|us| now_us >= us + MUTE_US);
        let lease_us = view.lease_us.max(LEASE_MIN_US);
        let broken = view.echoed_us.is_none_or(|us| now_us > us.saturating_add(lease_us));
        if view.lapsed_us.is_none() && now_us > view.until_us() {
            // Nothing passes any more, and nothing will by this echo.
            self.lapse(now_us, peer);
        } else if broken && !mute {
            // The server may have gone elsewhere meanwhile. What it claimed before is void, should it
            // still be under way.
            self.begin_term(now_us, peer);
        }
        let Some(view) = self.peers.get_mut(&peer) else { return };
        view.echoed_us = view.echoed_us.max(Some(sent_us));
        let until_us = view.until_us();
        self.outputs.push_back(GatewayOutput::Fence(peer, until_us));
    }

    /// A server claims.
    pub fn claims(&mut self, now_us: u64, peer: usize, claims: &Claims) {
        let Some(view) = self.peers.get_mut(&peer) else { return };
        if view.spoke_us.is_none() {
            view.spoke_us = Some(now_us);
            self.settle_us = Some(now_us);
        }
        if claims.life > view.life {
            view.life = claims.life;
            self.void(now_us, peer, |_| true);
        }
        let Some(view) = self.peers.get_mut(&peer) else { return };
        let lease_us = u64::from(claims.lease_us).clamp(LEASE_MIN_US, LEASE_MAX_US);
        if lease_us != view.lease_us {
            view.lease_us = lease_us;
            let until_us = view.until_us();
            self.outputs.push_back(GatewayOutput::Fence(peer, until_us));
        }
        let mut answers = Answers { life: view.life, term: view.term, records: Vec::new() };
        if claims.life == view.life && claims.term == view.term {
            for claim in &claims.records {
                let answer = self.claim(now_us, peer, claim);
                answers.records.push(answer);
            }
        }
        self.outputs.push_back(GatewayOutput::Answer(peer, answers));
    }

    /// Looks at the clock, and does what is due, after everything that has come was read. Returns when
    /// to call it again.
    pub fn tick(&mut self, now_us: u64) -> u64 {
        let mut next_us = self.told_us.saturating_add(TELL_US);
        let peers: Vec<usize> = self.peers.keys().copied().collect();
        for peer in peers {
            let Some(view) = self.peers.get_mut(&peer) else { continue };
            match view.lapsed_us {
                None if now_us > view.until_us() => self.lapse(now_us, peer),
                None => next_us = next_us.min(view.until_us() + self.late_us),
                Some(0) => {}
                Some(us) => {
                    self.call_back(now_us, peer, us);
                    next_us = next_us.min(now_us + LEASE_MIN_US);
                }
            }
        }
        next_us = next_us.min(self.expire(now_us));
        next_us = next_us.min(self.settle(now_us));
        if now_us >= self.told_us.saturating_add(TELL_US) {
            self.tell_all(now_us);
            next_us = next_us.min(now_us + TELL_US);
        }
        next_us
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<GatewayOutput> {
        self.outputs.pop_front()
    }

    /// How many vNICs are attached to an uplink, and how many of them can go elsewhere.
    #[must_use]
    pub fn attached(&self, uplink: UplinkId) -> (usize, usize) {
        let here = self.shown.iter().filter(|((_, at), word)| *at == uplink && word.egress);
        let here: Vec<&Word> = here.map(|(_, word)| word).filter(|word| !word.leaving).collect();
        (here.len(), here.iter().filter(|word| word.leased).count())
    }

    fn peer(&mut self, peer: usize) -> &mut Peer {
        let first_term = self.first_term;
        self.peers.entry(peer).or_insert_with(|| Peer::new(first_term))
    }

    /// The server's lease has run out.
    fn lapse(&mut self, now_us: u64, peer: usize) {
        if let Some(view) = self.peers.get_mut(&peer) {
            view.lapsed_us = Some(now_us.max(1));
        }
        self.void(now_us, peer, |record| record.leased);
        self.begin_term(now_us, peer);
    }

    fn begin_term(&mut self, now_us: u64, peer: usize) {
        if let Some(view) = self.peers.get_mut(&peer) {
            view.term += 1;
            view.term_us = now_us;
            view.tell = true;
        }
        self.tell();
    }

    /// A server's lease ran out at `lapsed_us`: tells it again and again, in other terms at first, so that
    /// claims that are still under way are void; until it has come back or has left.
    fn call_back(&mut self, now_us: u64, peer: usize, lapsed_us: u64) {
        let Some(view) = self.peers.get_mut(&peer) else { return };
        let new_terms = now_us < lapsed_us.saturating_add(TERMS_US);
        let every_us = if new_terms { view.lease_us } else { 5 * view.lease_us };
        if now_us < view.term_us.saturating_add(every_us) {
            return;
        }
        if new_terms {
            return self.begin_term(now_us, peer);
        }
        let mut records = self.records.values().flat_map(BTreeMap::values);
        if records.any(|record| record.peer == peer && record.is_void()) {
            (view.term_us, view.tell) = (now_us, true);
            self.tell();
        } else {
            view.lapsed_us = Some(0);
        }
    }

    /// Nothing passes of what a server has attached here, until it is claimed again.
    fn void(&mut self, now_us: u64, peer: usize, which: impl Fn(&Record) -> bool) {
        let mut ids = Vec::new();
        for (id, records) in &mut self.records {
            for record in records.values_mut().filter(|it| it.peer == peer && which(it)) {
                record.void();
                ids.push(*id);
            }
        }
        ids.into_iter().for_each(|id| self.show(now_us, id));
    }

    fn claim(&mut self, now_us: u64, peer: usize, claim: &Claim) -> Answer {
        let answer = |claim: Claim, verdict| Answer { claim, verdict };
        let tabled = self.tables.get(&claim.vnic);
        if !tabled.is_some_and(|it| it.peer == peer && it.uplinks.contains(&claim.uplink)) {
            return answer(*claim, Verdict::Unknown);
        }
        let comes = claim.phase <= Phase::Attach;
        let records = self.records.entry(claim.vnic).or_default();
        let newest = records.values().map(|record| record.epoch).max().unwrap_or(0);
        let record = records.get(&claim.uplink);
        let is_over = record.is_some_and(|it| it.epoch == claim.epoch && it.is_left());
        if comes && (claim.epoch < newest || is_over) {
            return answer(Claim { epoch: newest, ..*claim }, Verdict::Stale);
        }
        let until_us = self.peers.get(&peer).map_or(0, Peer::until_us);
        if comes && claim.leased && now_us > until_us {
            return answer(*claim, Verdict::Later);
        }
        if comes && let Some(view) = self.peers.get_mut(&peer).filter(|_| claim.leased) {
            view.lapsed_us = None;
        }
        let record =
            records.entry(claim.uplink).or_insert_with(|| Record::nothing(peer, claim.epoch));
        let announces = record.claim(now_us, claim, now_us.saturating_add(LINGER_US));
        if announces {
            // Whatever is still open for it at another uplink of this gateway.
            let others = records.iter_mut().filter(|(uplink, _)| **uplink != claim.uplink);
            others.for_each(|(_, other)| other.leave(now_us.saturating_add(LINGER_US)));
        }
        self.show(now_us, claim.vnic);
        if announces {
            self.outputs.push_back(GatewayOutput::Announce(claim.vnic, claim.uplink));
        }
        answer(*claim, Verdict::Taken)
    }

    /// Ends what lets frames in no longer. Returns when the next does.
    fn expire(&mut self, now_us: u64) -> u64 {
        let mut next_us = u64::MAX;
        let mut ids = Vec::new();
        for (id, records) in &mut self.records {
            for record in records.values_mut() {
                if let Some(until_us) = record.lingers_until_us() {
                    if now_us >= until_us {
                        record.end();
                        ids.push(*id);
                    } else {
                        next_us = next_us.min(until_us);
                    }
                }
            }
        }
        ids.into_iter().for_each(|id| self.show(now_us, id));
        next_us
    }

    /// Takes the tables' homes in or out, as their servers speak or do not.
    fn settle(&mut self, now_us: u64) -> u64 {
        if self.settle_us.is_none_or(|us| us > now_us) {
            return self.settle_us.unwrap_or(u64::MAX);
        }
        let changes = self.peers.values().flat_map(|view| {
            let settles = view.spoke_us.map(|us| us + SETTLE_US);
            let mute = view.up_us.filter(|_| view.spoke_us.is_none()).map(|us| us + MUTE_US);
            settles.into_iter().chain(mute)
        });
        self.settle_us = changes.filter(|us| *us > now_us).min();
        let ids: Vec<VnicId> = self.tables.keys().copied().collect();
        ids.into_iter().for_each(|id| self.show(now_us, id));
        self.settle_us.unwrap_or(u64::MAX)
    }

    /// Does the tables' home count, because there is nothing better?
    fn tables_count(&self, now_us: u64, tabled: &Tabled) -> bool {
        let Some(view) = self.peers.get(&tabled.peer) else { return !tabled.leased };
        match view.spoke_us {
            // Until it has said everything.
            Some(us) => !tabled.leased && now_us < us + SETTLE_US,
            None if tabled.leased => view.up_us.is_some_and(|us| now_us >= us + MUTE_US),
            None => true,
        }
    }

    fn word(&self, now_us: u64, id: VnicId, uplink: UplinkId) -> Word {
        let Some(tabled) = self.tables.get(&id).filter(|it| it.uplinks.contains(&uplink)) else {
            return Word::default();
        };
        match self.records.get(&id).filter(|records| !records.is_empty()) {
            Some(records) => records.get(&uplink).map(Record::word).unwrap_or_default(),
            None => {
                let here = tabled.home == Some(uplink) && self.tables_count(now_us, tabled);
                Word { egress: here, inward: here, leased: false, leaving: false }
            }
        }
    }

    /// Shows workers what has changed of a vNIC.
    fn show(&mut self, now_us: u64, id: VnicId) {
        let mut uplinks: Vec<UplinkId> =
            self.tables.get(&id).map(|it| it.uplinks.clone()).unwrap_or_default();
        let range = (id, UplinkId(0))..=(id, UplinkId(u32::MAX));
        uplinks.extend(self.shown.range(range).map(|((_, uplink), _)| *uplink));
        for uplink in uplinks {
            let word = self.word(now_us, id, uplink);
            let before = self.shown.get(&(id, uplink)).copied().unwrap_or_default();
            if word == before {
                continue;
            }
            if word == Word::default() {
                self.shown.remove(&(id, uplink));
            } else {
                self.shown.insert((id, uplink), word);
            }
            self.outputs.push_back(GatewayOutput::Show(id, uplink, word));
            // A claim announces for itself.
            let by_tables = word.inward && !before.inward && !self.records.contains_key(&id);
            if by_tables {
                self.outputs.push_back(GatewayOutput::Announce(id, uplink));
            }
        }
    }

    fn tell_all(&mut self, now_us: u64) {
        self.told_us = now_us;
        self.peers.values_mut().for_each(|view| view.tell = true);
        self.tell();
    }

    fn tell(&mut self) {
        for (peer, view) in &mut self.peers {
            if !std::mem::take(&mut view.tell) || view.up_us.is_none() {
                continue;
            }
            let term = view.term;
            let message = |records: &[StateReport]| {
                GatewayOutput::Tell(*peer, States { term, records: records.to_vec() })
            };
            if self.states.is_empty() {
                self.outputs.push_back(message(&[]));
            }
            self.outputs.extend(self.states.chunks(STATES_MAX).map(message));
        }
    }
}

impl Stand {
    /// Nothing more comes of it.
    fn is_left(self) -> bool {
        matches!(self, Self::Leaving | Self::Lingering | Self::Over)
    }
}
