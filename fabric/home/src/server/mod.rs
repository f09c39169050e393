//! A vNIC's attachment at its server.
//!
//! ```text
//!               home silent, or its term over: a standby is heard
//!    at home ───────────────────────────────────────────────────▶ going (attach) ─ answered ─▶ at standby
//!       ▲      home sick, gone, draining; another one is wanted       ▲                            │
//!       │ ──────────────────────────────────────────────────▶ going (prepare) ─ answered: frames go  │
//!       │                                                      there, attach; the old one: leave,     │
//!       │                                                      then detach                            │
//!       └── operator, or a home that was fit for long (`fail_back_us`) ───────────────────────────────┘
//!    nobody is heard: holds still
//! ```
//! A home is sick, too, if the link to it loses too much ([`Server::gray`]): then a way that does not is
//! better, and the vNIC goes there make before break, once a minute at most. Where all ways lose,
//! none is better, and a short silence is no reason to leave.
//!
//! What is not answered is said again each hello interval, less often where hundreds wait. A look at the clock that comes late begins
//! all waiting anew: a stall of our own is not a silence of theirs.

mod choose;
mod pace;
mod say;
mod view;

use crate::{
    Answers, Claims, Epochs, Phase, States, Timing, Verdict,
    message::{Answer, Claim},
};
use pace::Pace;
use say::{At, Going, Leaving};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use view::GatewayView;
use wireonce_wire::{UplinkId, VnicId};

/// An uplink that does not know a vNIC is asked again after this time.
const UNKNOWN_US: u64 = 1_000_000;
/// All vNICs are looked at once in this time, whether or not anything has happened.
const LOOK_US: u64 = 1_000_000;
/// A gateway that is heard is waited for so many silences at the start, for its term.
const START_SILENCES: u64 = 4;

/// An uplink and its gateway, by the number that this process has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Way {
    /// The gateway.
    pub peer: usize,
    /// The uplink.
    pub uplink: UplinkId,
}

/// What the tables want for a vNIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Where it should be.
    pub home: Way,
    /// Where it may go if that is lost, in order.
    pub standbys: Vec<Way>,
    /// It goes back home by itself when the home was fit for so long.
    pub fail_back_us: Option<u64>,
}

/// Why a vNIC is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The process started.
    Start,
    /// The gateway before was not heard.
    Silent,
    /// The gateway before did not hear us.
    Unheard,
    /// The same, before it has said so: it goes on until somebody else is ready.
    Deaf,
    /// The uplink before was sick.
    Sick,
    /// The uplink before was gone.
    Gone,
    /// The link to the gateway before loses too much.
    Gray,
    /// The uplink before is to be empty.
    Draining,
    /// The tables want it here.
    Desired,
    /// It is its home, which is fit again.
    FailBack,
}

impl Why {
    /// As it stands in the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Silent => "home-silent",
            Self::Unheard | Self::Deaf => "home-unheard",
            Self::Sick => "home-sick",
            Self::Gone => "home-gone",
            Self::Gray => "home-gray",
            Self::Draining => "home-draining",
            Self::Desired => "desired",
            Self::FailBack => "fail-back",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerOutput {
    /// Send this to a gateway.
    Send(usize, Claims),
    /// The vNIC's frames go this way from now on.
    Use(VnicId, Way, Why),
    /// Write that the epochs of this life end here, and say [`Server::persisted`].
    Persist(u64),
    /// A vNIC cannot go anywhere, since there is no epoch left; said once.
    OutOfEpochs(VnicId),
}

/// A move that waits, since the vNIC has moved often enough lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Where it would go.
    pub way: Way,
    /// Why it would.
    pub why: Why,
    /// Until then, if nothing changes.
    pub until_us: u64,
}

/// Where a vNIC is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Where its frames go; `None`: nowhere yet but where the tables say.
    pub at: Option<Way>,
    /// The gateway has taken the newest claim.
    pub confirmed: bool,
    /// Where it is about to go.
    pub going: Option<Way>,
    /// The newest epoch.
    pub epoch: u64,
    /// When it came where it is, and why.
    pub moved_us: u64,
    /// Why it came where it is.
    pub why: Why,
    /// How often it went elsewhere.
    pub swaps: u64,
    /// What it waits for, since it has moved too often lately.
    pub held: Option<Held>,
}

#[derive(Debug)]
struct Vnic {
    wish: Wish,
    at: Option<At>,
    going: Option<Going>,
    leaving: Vec<Leaving>,
    /// The tables want it at its home, and it is to go there as soon as it can.
    go_home: bool,
    /// Ways that do not know it, and until when they are not asked.
    unknown: BTreeMap<Way, u64>,
    why: Why,
    moved_us: u64,
    /// When it left a home for its link's sake last.
    gray_us: Option<u64>,
    swaps: u64,
    pace: Pace,
    held: Option<Held>,
}

impl Vnic {
    fn new(wish: Wish) -> Self {
        Self {
            wish,
            at: None,
            going: None,
            leaving: Vec::new(),
            go_home: false,
            unknown: BTreeMap::new(),
            why: Why::Start,
            moved_us: 0,
            gray_us: None,
            swaps: 0,
            pace: Pace::default(),
            held: None,
        }
    }

    fn is_leased(&self) -> bool {
        !self.wish.standbys.is_empty()
    }
}

/// The attachments of all vNICs of one server.
#[derive(Debug)]
pub struct Server {
    timing: Timing,
    life: u64,
    epochs: Epochs,
    gateways: BTreeMap<usize, GatewayView>,
    vnics: BTreeMap<VnicId, Vnic>,
    outputs: VecDeque<ServerOutput>,
    started_us: u64,
    /// When the next look at the clock was to be.
    expected_us: u64,
    looked_us: u64,
    /// Something has happened since the last look at all vNICs.
    dirty: bool,
    /// What has happened since concerns these only: a look at all for each message would take longer than
    /// the messages of a failover are apart.
    touched: Vec<VnicId>,
    /// Some claim is not answered.
    unanswered: bool,
    /// So many vNICs had one when all were looked at last.
    waiting: u64,
    stalls: u64,
    /// Nobody could be given an epoch.
    out_of_epochs: bool,
}

impl Server {
    /// A server whose process begins now; `life` is larger than those of its lives before, as far as it
    /// knows.
    #[must_use]
    pub fn new(timing: Timing, life: u64, epochs: Epochs, now_us: u64) -> Self {
        Self {
            timing,
            life,
            epochs,
            gateways: BTreeMap::new(),
            vnics: BTreeMap::new(),
            outputs: VecDeque::new(),
            started_us: now_us,
            expected_us: now_us,
            looked_us: now_us,
            dirty: true,
            touched: Vec::new(),
            unanswered: false,
            waiting: 0,
            stalls: 0,
            out_of_epochs: false,
        }
    }

    /// What the tables want for a vNIC from now on. One whose home is another than before goes
    /// there, make before break.
    pub fn wish(&mut self, id: VnicId, wish: Wish) {
        self.dirty = true;
        for way in wish.standbys.iter().chain([&wish.home]) {
            self.gateways.entry(way.peer).or_default();
        }
        let Some(vnic) = self.vnics.get_mut(&id) else {
            self.vnics.insert(id, Vnic::new(wish));
            return;
        };
        let stays = |way: Way| way == wish.home || wish.standbys.contains(&way);
        let elsewhere = vnic.at.as_ref().is_some_and(|at| at.way != wish.home);
        let homeless = vnic.at.as_ref().is_some_and(|at| !stays(at.way));
        vnic.go_home = elsewhere && (vnic.go_home || wish.home != vnic.wish.home || homeless);
        let was_leased = vnic.is_leased();
        vnic.wish = wish;
        if vnic.is_leased() != was_leased
            && let Some(at) = &mut vnic.at
        {
            at.change_lease();
            self.unanswered = true;
        }
    }

    /// The operator wants all vNICs at their homes.
    pub fn go_home(&mut self) {
        self.dirty = true;
        for vnic in self.vnics.values_mut() {
            vnic.go_home = vnic.at.as_ref().is_some_and(|at| at.way != vnic.wish.home);
        }
    }

    /// The vNICs that there are; the others are gone.
    pub fn keep(&mut self, is_there: impl Fn(VnicId) -> bool) {
        self.vnics.retain(|id, _| is_there(*id));
    }

    /// The gateways that vNICs may be attached to by the tables, and those that they have not left yet:
    /// they have to be heard, or nobody could be moved away from them.
    #[must_use]
    pub fn needed(&self) -> BTreeSet<usize> {
        let of = |vnic: &Vnic| {
            let wished = vnic.wish.standbys.iter().chain([&vnic.wish.home]).copied();
            let at = vnic.at.as_ref().map(|at| at.way).into_iter();
            let going = vnic.going.as_ref().map(|going| going.way).into_iter();
            let leaving = vnic.leaving.iter().map(|leaving| leaving.way);
            let ways: Vec<Way> = wished.chain(at).chain(going).chain(leaving).collect();
            ways.into_iter().map(|way| way.peer)
        };
        self.vnics.values().flat_map(of).collect()
    }

    /// The gateway `peer` is not that any more.
    pub fn forget_gateway(&mut self, peer: usize) {
        self.dirty = true;
        self.gateways.remove(&peer);
    }

    /// A hello of a gateway was read. If it echoes a newer one of ours than before, that was sent
    /// at `echoed_us`.
    pub fn hello(&mut self, now_us: u64, peer: usize, echoed_us: Option<u64>) {
        if let Some(view) = self.gateways.get_mut(&peer) {
            view.hello(now_us, echoed_us);
        }
    }

    /// The link to a gateway loses too much, in either direction, or does not any more. A home there
    /// counts as sick.
    pub fn gray(&mut self, now_us: u64, peer: usize, gray: bool) {
        let Some(view) = self.gateways.get_mut(&peer) else { return };
        self.dirty |= view.note_gray(gray);
        self.look_if_needed(now_us);
    }

    /// There is a session with a gateway: its process may be another one.
    pub fn session(&mut self, peer: usize) {
        if let Some(view) = self.gateways.get_mut(&peer) {
            view.any_term = true;
            view.asked_us = None;
            view.known_life = None;
        }
    }

    /// A gateway tells how its uplinks are.
    pub fn states(&mut self, now_us: u64, peer: usize, states: &States) {
        let Some(view) = self.gateways.get_mut(&peer) else { return };
        for report in &states.records {
            self.dirty |= view.note_state(now_us, report.uplink, report.state);
        }
        self.learn_term(peer, states.term);
        self.look_if_needed(now_us);
    }

    /// A gateway answers.
    pub fn answers(&mut self, now_us: u64, peer: usize, answers: &Answers) {
        if answers.life > self.life {
            // A life before this one had a clock that was ahead.
            self.life = answers.life.saturating_add(1);
            // What was claimed with the number before is void where the new one is heard.
            for vnic in self.vnics.values_mut() {
                vnic.at.iter_mut().for_each(At::say_again);
                vnic.going.iter_mut().for_each(|going| going.said_us = None);
            }
            (self.dirty, self.unanswered) = (true, true);
        }
        if let Some(view) = self.gateways.get_mut(&peer).filter(|_| answers.life == self.life) {
            self.dirty |= view.known_life != Some(answers.life);
            view.known_life = Some(answers.life);
        }
        self.learn_term(peer, answers.term);
        if self.gateways.get(&peer).and_then(|view| view.term) == Some(answers.term) {
            for answer in &answers.records {
                self.answer(now_us, peer, answer);
            }
        }
        self.look_if_needed(now_us);
    }

    /// Looks at the clock, and does what is due. To be called after everything that has come was
    /// read. Returns when to call it again.
    pub fn tick(&mut self, now_us: u64) -> u64 {
        let late = now_us > self.expected_us.saturating_add(self.timing.late_us);
        if late && self.expected_us > self.started_us {
            self.stalls += 1;
            self.gateways.values_mut().for_each(|view| view.wait_anew(now_us));
        }
        for view in self.gateways.values_mut() {
            self.dirty |= view.judge(now_us, self.timing.silence_us);
            // Patience ends some time.
            self.dirty |= view.gray && !view.both();
        }
        // And once more when patience is over.
        let start_us = self.start_us() * (START_SILENCES + 1);
        let starting = now_us < self.started_us.saturating_add(start_us);
        let long_ago = now_us.saturating_sub(self.looked_us) >= LOOK_US;
        self.dirty |= starting || long_ago;
        self.look_if_needed(now_us);
        self.say(now_us);
        self.outputs.extend(self.epochs.due(now_us).map(ServerOutput::Persist));
        let every_us = if self.vnics.is_empty() { LOOK_US } else { self.timing.hello_us / 2 };
        self.expected_us = now_us.saturating_add(every_us);
        self.expected_us
    }

    /// What was to be persisted is on the disk, or could not be written.
    pub fn persisted(&mut self, now_us: u64, done: bool) {
        self.epochs.written(now_us, done);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ServerOutput> {
        self.outputs.pop_front()
    }

    /// Where a vNIC is.
    #[must_use]
    pub fn standing(&self, id: VnicId) -> Option<Standing> {
        let vnic = self.vnics.get(&id)?;
        let epochs = [vnic.at.as_ref().map(|at| at.epoch), vnic.going.as_ref().map(|it| it.epoch)];
        Some(Standing {
            at: vnic.at.as_ref().map(|at| at.way),
            confirmed: vnic.at.as_ref().is_some_and(At::is_confirmed),
            going: vnic.going.as_ref().map(|going| going.way),
            epoch: epochs.into_iter().flatten().max().unwrap_or(0),
            moved_us: vnic.moved_us,
            why: vnic.why,
            swaps: vnic.swaps,
            held: vnic.held,
        })
    }

    /// The gateways that vNICs may be attached to.
    pub fn gateways(&self) -> impl Iterator<Item = usize> {
        self.gateways.keys().copied()
    }

    /// How often a look at the clock came so late that all waiting began anew.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls
    }

    /// How long a new process waits before it attaches anything: what its earlier life was attached
    /// to has to be over.
    fn start_us(&self) -> u64 {
        self.timing.silence_us
    }

    fn learn_term(&mut self, peer: usize, term: u64) {
        let Some(view) = self.gateways.get_mut(&peer) else { return };
        if !view.learn_term(term) {
            return;
        }
        self.dirty = true;
        for vnic in self.vnics.values_mut() {
            if let Some(at) = &mut vnic.at
                && at.way.peer == peer
            {
                at.void();
            }
            vnic.going.iter_mut().filter(|it| it.way.peer == peer).for_each(|it| it.said_us = None);
            let leaving = vnic.leaving.iter_mut().filter(|it| it.way.peer == peer);
            leaving.for_each(Leaving::void);
        }
    }

    fn answer(&mut self, now_us: u64, peer: usize, answer: &Answer) {
        let Claim { vnic: id, uplink, epoch, phase, leased } = answer.claim;
        let way = Way { peer, uplink };
        let Some(vnic) = self.vnics.get_mut(&id) else { return };
        match answer.verdict {
            Verdict::Later => return,
            Verdict::Unknown => {
                vnic.unknown.insert(way, now_us.saturating_add(UNKNOWN_US));
                self.touched.push(id);
            }
            Verdict::Stale | Verdict::Taken => {}
        }
        if phase >= Phase::Leave {
            vnic.leaving.iter_mut().for_each(|it| it.answered(way, phase));
            vnic.leaving.retain(|it| !it.is_done());
            self.touched.push(id);
            return;
        }
        let stale = answer.verdict == Verdict::Stale;
        if let Some(going) = &mut vnic.going
            && going.way == way
            && phase == going.phase()
        {
            match answer.verdict {
                Verdict::Taken if going.epoch == epoch => self.arrived(now_us, id, leased),
                Verdict::Unknown => vnic.going = None,
                Verdict::Stale if epoch >= going.epoch => self.outdone(now_us, id, way, epoch),
                _ => {}
            }
        } else if let Some(at) = &mut vnic.at
            && at.way == way
            && phase == Phase::Attach
        {
            if answer.verdict == Verdict::Taken && at.epoch == epoch {
                at.confirm(leased);
            } else if stale && epoch >= at.epoch {
                self.outdone(now_us, id, way, epoch);
            }
        }
        self.touched.push(id);
    }

    /// A gateway knows a newer epoch of a vNIC than the one that it was claimed with there.
    fn outdone(&mut self, now_us: u64, id: VnicId, way: Way, epoch: u64) {
        let newer = if self.epochs.raise(epoch) { self.next_epoch(id) } else { None };
        let Some(vnic) = self.vnics.get_mut(&id) else { return };
        let going = vnic.going.as_mut().filter(|going| going.way == way);
        // What is claimed again is so at the next hello: he may say the same to that.
        match newer {
            Some(epoch) => {
                if let Some(going) = going {
                    (going.epoch, going.said_us) = (epoch, Some(now_us));
                } else if let Some(at) = &mut vnic.at {
                    at.renumber(epoch, now_us);
                }
                vnic.unknown.remove(&way);
            }
            None => {
                // Others may take it meanwhile. He is asked again: then the disk may have more.
                vnic.unknown.insert(way, now_us.saturating_add(UNKNOWN_US));
                if going.is_some() {
                    vnic.going = None;
                }
            }
        }
        self.unanswered = true;
    }

    fn next_epoch(&mut self, id: VnicId) -> Option<u64> {
        let epoch = self.epochs.take();
        let was_out = std::mem::replace(&mut self.out_of_epochs, epoch.is_none());
        if epoch.is_none() && !was_out {
            self.outputs.push_back(ServerOutput::OutOfEpochs(id));
        }
        epoch
    }

    /// The gateway that a vNIC goes to is ready: its frames go there.
    fn arrived(&mut self, now_us: u64, id: VnicId, leased: bool) {
        let Some(vnic) = self.vnics.get_mut(&id) else { return };
        let Some(going) = vnic.going.take() else { return };
        if let Some(before) = vnic.at.take() {
            vnic.swaps += 1;
            vnic.pace.moved(now_us);
            let detach_us = if going.planned { now_us + self.timing.drain_us } else { now_us };
            vnic.leaving.push(Leaving::new(before.way, before.epoch, detach_us));
        }
        vnic.at = Some(At::new(going.way, going.epoch, !going.planned, leased));
        (vnic.moved_us, vnic.why) = (now_us, going.why);
        if going.why == Why::Gray {
            vnic.gray_us = Some(now_us);
        }
        vnic.go_home &= going.way != vnic.wish.home;
        self.outputs.push_back(ServerOutput::Use(id, going.way, going.why));
        self.unanswered = true;
    }
}
