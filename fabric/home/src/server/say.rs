//! What is to be said to the gateways, until they have answered it.

use super::{Server, ServerOutput, Vnic, Way, Why, view::GatewayView};
use crate::{CLAIMS_MAX, Claims, Phase, message::Claim};
use std::collections::BTreeMap;
use wireonce_wire::VnicId;

/// Messages to one gateway at one time; what is left is said at the next hello.
const MESSAGES_MAX: usize = 32;
/// Claims that may be said again in one hello interval, as a rule.
const AGAIN_MAX: u64 = 256;

/// Where a vNIC is.
#[derive(Debug)]
pub(super) struct At {
    pub(super) way: Way,
    pub(super) epoch: u64,
    /// The gateway has taken it, in its present term.
    confirmed: bool,
    /// It takes nothing of the vNIC until it is claimed again.
    void: bool,
    /// The gateway has taken it as one that it has to fence.
    leased: bool,
    said_us: Option<u64>,
}

impl At {
    pub(super) fn new(way: Way, epoch: u64, confirmed: bool, leased: bool) -> Self {
        Self { way, epoch, confirmed, void: false, leased, said_us: None }
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    pub(super) fn is_void(&self) -> bool {
        self.void
    }

    pub(super) fn is_leased(&self) -> bool {
        self.leased
    }

    /// The gateway has begun another term.
    pub(super) fn void(&mut self) {
        (self.confirmed, self.void, self.said_us) = (false, true, None);
    }

    pub(super) fn confirm(&mut self, leased: bool) {
        (self.confirmed, self.leased) = (true, leased);
    }

    /// Whether it is fenced is being changed: until that is confirmed it counts as not.
    pub(super) fn change_lease(&mut self) {
        self.leased = false;
        self.say_again();
    }

    /// Claims it anew with a higher epoch, at the next hello.
    pub(super) fn renumber(&mut self, epoch: u64, now_us: u64) {
        self.say_again();
        (self.epoch, self.said_us) = (epoch, Some(now_us));
    }

    /// Claims it again. From now on the gateway may take frames of it.
    pub(super) fn say_again(&mut self) {
        (self.confirmed, self.void, self.said_us) = (false, false, None);
    }
}

/// Where a vNIC is about to go.
#[derive(Debug)]
pub(super) struct Going {
    pub(super) way: Way,
    pub(super) epoch: u64,
    /// The place that it leaves still works.
    pub(super) planned: bool,
    pub(super) why: Why,
    pub(super) said_us: Option<u64>,
}

impl Going {
    pub(super) fn phase(&self) -> Phase {
        if self.planned { Phase::Prepare } else { Phase::Attach }
    }
}

/// Where a vNIC was.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) way: Way,
    epoch: u64,
    /// From when on no frame of it is to pass there.
    detach_us: u64,
    phase: Phase,
    /// The gateway has answered this phase.
    done: bool,
    /// It was a target that was given up, and may have taken the vNIC without our knowing: until it is
    /// known that it has not, or does not any more, the vNIC is nowhere else.
    may_be_there: bool,
    pub(super) said_us: Option<u64>,
}

impl Leaving {
    pub(super) fn new(way: Way, epoch: u64, detach_us: u64) -> Self {
        let phase = Phase::Leave;
        Self { way, epoch, detach_us, phase, done: false, may_be_there: false, said_us: None }
    }

    /// A target that is given up.
    pub(super) fn given_up(going: &Going, now_us: u64) -> Self {
        let may_be_there = !going.planned;
        Self { may_be_there, ..Self::new(going.way, going.epoch, now_us) }
    }

    pub(super) fn may_be_there(&self) -> bool {
        self.may_be_there
    }

    /// The gateway has begun another term: what it has taken is void.
    pub(super) fn void(&mut self) {
        (self.may_be_there, self.said_us) = (false, None);
    }

    pub(super) fn answered(&mut self, way: Way, phase: Phase) {
        self.done |= self.way == way && self.phase == phase;
        self.may_be_there &= self.way != way;
    }

    pub(super) fn is_done(&self) -> bool {
        self.done && self.phase == Phase::Detach
    }

    fn go_on(&mut self, now_us: u64) {
        if self.phase == Phase::Leave && now_us >= self.detach_us {
            (self.phase, self.done, self.said_us) = (Phase::Detach, false, None);
        }
    }
}

impl Server {
    /// Says what is due to be said, for the first time or again.
    pub(super) fn say(&mut self, now_us: u64) {
        let again_us = self.again_us();
        let mut by_peer = ByPeer::new();
        if self.unanswered {
            self.waiting = 0;
            for (id, vnic) in &mut self.vnics {
                let waits = claims_of(*id, vnic, &self.gateways, [now_us, again_us], &mut by_peer);
                self.waiting += u64::from(waits);
            }
            self.unanswered = self.waiting > 0;
        }
        for (peer, view) in &mut self.gateways {
            let wants = view.known_life != Some(self.life) || view.term.is_none();
            if wants && is_due(view.asked_us, now_us, self.timing.hello_us) {
                view.asked_us = Some(now_us);
                by_peer.entry(*peer).or_default();
            }
        }
        self.send(by_peer);
    }

    /// The same of some vNICs only.
    pub(super) fn say_of(&mut self, now_us: u64, ids: &[VnicId]) {
        let times = [now_us, self.again_us()];
        let mut by_peer = ByPeer::new();
        for id in ids {
            if let Some(vnic) = self.vnics.get_mut(id) {
                claims_of(*id, vnic, &self.gateways, times, &mut by_peer);
            }
        }
        self.send(by_peer);
    }

    /// Time between two sendings of one claim. Where thousands wait, a gateway that is busy with them
    /// would otherwise have all of them again before it has answered.
    fn again_us(&self) -> u64 {
        self.timing.hello_us.saturating_mul(1 + self.waiting / AGAIN_MAX)
    }

    fn send(&mut self, by_peer: ByPeer) {
        for (peer, claims) in by_peer {
            let term = self.gateways.get(&peer).and_then(|view| view.term).unwrap_or(0);
            let lease_us = u32::try_from(self.timing.lease_us).unwrap_or(u32::MAX);
            let message = |records: &[Claim]| {
                let records = records.to_vec();
                ServerOutput::Send(peer, Claims { life: self.life, term, lease_us, records })
            };
            if claims.is_empty() {
                self.outputs.push_back(message(&[]));
            }
            self.outputs.extend(claims.chunks(CLAIMS_MAX).take(MESSAGES_MAX).map(message));
        }
    }
}

/// Claims for each gateway; none of them: it is asked for its term.
type ByPeer = BTreeMap<usize, Vec<Claim>>;

fn is_due(said_us: Option<u64>, now_us: u64, again_us: u64) -> bool {
    said_us.is_none_or(|us| now_us >= us.saturating_add(again_us))
}

/// Adds what is due to be said of a vNIC. True if something of it is not answered yet.
fn claims_of(
    id: VnicId,
    vnic: &mut Vnic,
    gateways: &BTreeMap<usize, GatewayView>,
    [now_us, again_us]: [u64; 2],
    by_peer: &mut ByPeer,
) -> bool {
    let leased = vnic.is_leased();
    let claimed = vnic.at.as_ref().is_none_or(|at| at.confirmed || at.void);
    let waits = vnic.going.is_some() || !vnic.leaving.is_empty() || !claimed;
    let mut claim = |way: Way, epoch, phase, said_us: &mut Option<u64>| {
        let view = gateways.get(&way.peer);
        // Whoever is silent is told when he is heard.
        if is_due(*said_us, now_us, again_us)
            && view.is_some_and(|it| it.term.is_some() && it.heard)
        {
            *said_us = Some(now_us);
            let claim = Claim { vnic: id, uplink: way.uplink, epoch, phase, leased };
            by_peer.entry(way.peer).or_default().push(claim);
        }
    };
    if let Some(going) = &mut vnic.going {
        claim(going.way, going.epoch, going.phase(), &mut going.said_us);
    }
    if let Some(at) = vnic.at.as_mut().filter(|at| !at.confirmed && !at.void) {
        claim(at.way, at.epoch, Phase::Attach, &mut at.said_us);
    }
    for leaving in &mut vnic.leaving {
        leaving.go_on(now_us);
        if !leaving.done {
            claim(leaving.way, leaving.epoch, leaving.phase, &mut leaving.said_us);
        }
    }
    waits
}
