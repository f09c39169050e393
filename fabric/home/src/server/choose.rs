//! Whether a vNIC stays where it is, and where else it goes.

use super::{
    Held, START_SILENCES, Server, Vnic, Way, Why,
    say::{Going, Leaving},
    view::GatewayView,
};
use crate::State;
use wireonce_wire::VnicId;

/// A vNIC leaves a home for its link's sake once in this time: switches that see a MAC address move too
/// often hold on to where it was (RFC 7432, section 15.1: five times in 180 s).
const GRAY_PAUSE_US: u64 = 60_000_000;
/// If its other ways are as bad, it bears with so many silences.
const GRAY_PATIENCE: u64 = 10;

impl Server {
    pub(super) fn look_if_needed(&mut self, now_us: u64) {
        let touched = std::mem::take(&mut self.touched);
        if std::mem::take(&mut self.dirty) {
            self.looked_us = now_us;
            let ids: Vec<VnicId> = self.vnics.keys().copied().collect();
            ids.into_iter().for_each(|id| self.look(now_us, id));
            self.say(now_us);
        } else if !touched.is_empty() {
            touched.iter().for_each(|id| self.look(now_us, *id));
            self.say_of(now_us, &touched);
        }
    }

    fn look(&mut self, now_us: u64, id: VnicId) {
        self.give_up_lost_target(now_us, id);
        if self.may_be_elsewhere(id) {
            return;
        }
        self.come_back_here(id);
        let Some(vnic) = self.vnics.get_mut(&id) else { return };
        vnic.held = None;
        if vnic.going.is_some() {
            return;
        }
        if vnic.at.is_some() {
            return self.look_elsewhere(now_us, id);
        }
        let next = self.vnics.get(&id).and_then(|vnic| self.first(now_us, vnic));
        if let Some(way) = next {
            self.begin(now_us, id, way, false, Why::Start);
            if let Some(vnic) = self.vnics.get_mut(&id) {
                // Nothing was wrong with its home but that it was not there yet.
                vnic.go_home = way != vnic.wish.home;
            }
        }
    }

    /// A target that was lost on the way is left alone.
    fn give_up_lost_target(&mut self, now_us: u64, id: VnicId) {
        let Some(vnic) = self.vnics.get(&id) else { return };
        let Some(going) = &vnic.going else { return };
        if self.rank(now_us, vnic, going.way).is_some() {
            return;
        }
        let left = Leaving::given_up(going, now_us);
        if let Some(vnic) = self.vnics.get_mut(&id) {
            vnic.going = None;
            vnic.leaving.retain(|it| it.way != left.way);
            vnic.leaving.push(left);
        }
    }

    /// A target that was given up may let frames in, and hears us, for all we know: nobody else may
    /// before it has answered, has begun another term, or was silent for so long that it has.
    fn may_be_elsewhere(&self, id: VnicId) -> bool {
        let heard = |way: Way| self.gateways.get(&way.peer).is_some_and(|view| view.heard);
        let leaving = self.vnics.get(&id).into_iter().flat_map(|vnic| &vnic.leaving);
        leaving.into_iter().any(|it| it.may_be_there() && heard(it.way))
    }

    /// The gateway has begun another term, and hears us: say again that the vNIC is there.
    fn come_back_here(&mut self, id: VnicId) {
        let Some(vnic) = self.vnics.get(&id) else { return };
        let Some(at) = &vnic.at else { return };
        let view = self.gateways.get(&at.way.peer);
        let fit = view.is_some_and(|it| it.both() && it.state(at.way.uplink) != State::Gone);
        if at.is_void() && fit && vnic.going.is_none() {
            if let Some(at) = self.vnics.get_mut(&id).and_then(|vnic| vnic.at.as_mut()) {
                at.say_again();
            }
            self.unanswered = true;
        }
    }

    /// Is there a reason to leave, and a better place?
    fn look_elsewhere(&mut self, now_us: u64, id: VnicId) {
        let Some(vnic) = self.vnics.get(&id) else { return };
        let Some(at) = &vnic.at else { return };
        let heard = self.gateways.get(&at.way.peer).is_some_and(|view| view.heard);
        let fenced = at.is_void() || (!heard && at.is_leased());
        if fenced {
            let why = if heard { Why::Unheard } else { Why::Silent };
            if let Some(way) = self.best(now_us, vnic, Some(at.way))
                && !self.is_no_better(now_us, at.way, way)
            {
                self.begin(now_us, id, way, false, why);
            }
            return;
        }
        if !heard {
            return;
        }
        let state = self.gateways.get(&at.way.peer).map(|view| view.state(at.way.uplink));
        let rank = self.rank(now_us, vnic, at.way);
        let here = rank.unwrap_or(State::Gone);
        let home = vnic.wish.home;
        let home_rank = self.rank(now_us, vnic, home).filter(|rank| *rank <= here);
        if vnic.go_home && home_rank.is_some() {
            return self.begin(now_us, id, home, true, Why::Desired);
        }
        let better = self
            .best(now_us, vnic, Some(at.way))
            .filter(|way| self.rank(now_us, vnic, *way).is_some_and(|rank| rank < here));
        if let Some(way) = better {
            let view = self.gateways.get(&at.way.peer);
            let gray = view.is_some_and(|view| view.gray);
            let deaf = view.is_some_and(|view| !view.hears);
            let why = match state {
                Some(State::Sick) => Why::Sick,
                Some(State::Gone) => Why::Gone,
                _ if deaf => Why::Deaf,
                _ if gray => Why::Gray,
                Some(State::Draining) => Why::Draining,
                _ => Why::Desired,
            };
            let rests = vnic.gray_us.is_some_and(|us| now_us.saturating_sub(us) < GRAY_PAUSE_US);
            let bears = why == Why::Deaf && self.is_no_better(now_us, at.way, way);
            if !bears && rank.is_none() {
                // Nothing passes here, or soon will not.
                return self.begin(now_us, id, way, true, why);
            }
            if !bears && (why != Why::Gray || !rests) {
                return self.begin_in_turn(now_us, id, way, why);
            }
        }
        let fit_since_us =
            self.gateways.get(&home.peer).and_then(|view| view.fit_since_us(home.uplink));
        let long_fit = vnic.wish.fail_back_us.zip(fit_since_us);
        if at.way != home
            && home_rank == Some(State::Alive)
            && long_fit.is_some_and(|(long_us, us)| now_us.saturating_sub(us) >= long_us)
        {
            self.begin_in_turn(now_us, id, home, Why::FailBack);
        }
    }

    /// Where a vNIC of a new process goes. Nowhere before what the process's earlier life attached is
    /// over, and before the gateways that it hears have heard of this life;
    /// and for a while nowhere but home.
    fn first(&self, now_us: u64, vnic: &Vnic) -> Option<Way> {
        let passed_us = now_us.saturating_sub(self.started_us);
        // Who goes nowhere by itself was nowhere else.
        if vnic.is_leased() && passed_us < self.start_us() {
            return None;
        }
        let patient = passed_us < self.start_us() * START_SILENCES;
        let mut ways = vnic.wish.standbys.iter().chain([&vnic.wish.home]);
        let silent = |way: &Way| {
            let view = self.gateways.get(&way.peer);
            view.is_some_and(|view| view.heard && view.known_life != Some(self.life))
        };
        if patient && ways.any(silent) {
            return None;
        }
        self.best(now_us, vnic, None).filter(|way| !patient || *way == vnic.wish.home)
    }

    /// Both ways lose so much that silence says little, and none of them is to be preferred: a swap
    /// for each silence would be one each second. If it lasts, it is no loss.
    fn is_no_better(&self, now_us: u64, here: Way, there: Way) -> bool {
        let gray = |way: Way| self.gateways.get(&way.peer).filter(|view| view.gray);
        let patience_us = self.timing.silence_us.saturating_mul(GRAY_PATIENCE);
        let lasts = |view: &GatewayView| view.silent_us(now_us) > patience_us;
        gray(there).is_some() && gray(here).is_some_and(|view| !lasts(view))
    }

    /// How good a way is now: the state of the uplink, if its gateway hears us and we it. A link that
    /// loses too much makes it sick.
    fn rank(&self, now_us: u64, vnic: &Vnic, way: Way) -> Option<State> {
        if vnic.unknown.get(&way).is_some_and(|until_us| now_us < *until_us) {
            return None;
        }
        let view = self.gateways.get(&way.peer).filter(|view| view.both())?;
        let state = Some(view.state(way.uplink)).filter(|state| *state != State::Gone)?;
        Some(if view.gray { state.max(State::Sick) } else { state })
    }

    /// The best way but `except`, the home first and then the standbys in order.
    fn best(&self, now_us: u64, vnic: &Vnic, except: Option<Way>) -> Option<Way> {
        let ways = [vnic.wish.home].into_iter().chain(vnic.wish.standbys.iter().copied());
        let ranked = ways
            .filter(|way| Some(*way) != except)
            .filter_map(|way| Some((self.rank(now_us, vnic, way)?, way)));
        // The first of those that are equally good.
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, way)| way)
    }

    /// As [`Self::begin`], make before break, but not too often: what nobody has asked for, and what is no
    /// loss, waits until the last moves are long enough ago. Then the next look finds the reason again,
    /// if it is still there.
    fn begin_in_turn(&mut self, now_us: u64, id: VnicId, way: Way, why: Why) {
        let Some(vnic) = self.vnics.get_mut(&id) else { return };
        let rests_until_us = vnic.pace.rests_until_us(now_us, self.timing.pace_us);
        match rests_until_us {
            Some(until_us) => vnic.held = Some(Held { way, why, until_us }),
            None => self.begin(now_us, id, way, true, why),
        }
    }

    fn begin(&mut self, now_us: u64, id: VnicId, way: Way, planned: bool, why: Why) {
        let Some(epoch) = self.next_epoch(id) else { return };
        let Some(vnic) = self.vnics.get_mut(&id) else { return };
        // Whatever was to be left there is over: the newer epoch says so.
        vnic.leaving.retain(|it| it.way != way);
        vnic.unknown.retain(|_, until_us| now_us < *until_us);
        vnic.going = Some(Going { way, epoch, planned, why, said_us: None });
        self.unanswered = true;
    }
}
