//! What a server knows of one gateway.

use crate::State;
use std::collections::BTreeMap;
use wireonce_wire::UplinkId;

#[derive(Debug, Default)]
pub(super) struct GatewayView {
    /// When a hello was read last.
    heard_us: Option<u64>,
    /// When the newest of our hellos that it has heard was sent.
    echoed_us: Option<u64>,
    /// Waiting began anew then.
    waits_from_us: u64,
    /// Heard within the silence, at the last look.
    pub(super) heard: bool,
    /// And it heard us.
    pub(super) hears: bool,
    /// The link to it loses too much: a way without that is better.
    pub(super) gray: bool,
    /// Since when both, without a break.
    both_since_us: Option<u64>,
    /// The term that holds there.
    pub(super) term: Option<u64>,
    /// The next term that is heard may be lower: the process may be another one.
    pub(super) any_term: bool,
    /// The life of ours that it has heard of: what earlier ones attached there is void.
    pub(super) known_life: Option<u64>,
    /// When it was asked last.
    pub(super) asked_us: Option<u64>,
    states: BTreeMap<UplinkId, (State, u64)>,
}

impl GatewayView {
    pub(super) fn hello(&mut self, now_us: u64, echoed_us: Option<u64>) {
        self.heard_us = Some(now_us);
        self.echoed_us = self.echoed_us.max(echoed_us);
    }

    /// A stall of our own: what we did not read in it says nothing.
    pub(super) fn wait_anew(&mut self, now_us: u64) {
        self.waits_from_us = now_us;
    }

    /// Says how it stands now; true if that has changed.
    pub(super) fn judge(&mut self, now_us: u64, silence_us: u64) -> bool {
        let fresh = |at_us: Option<u64>| {
            at_us.is_some_and(|us| now_us.saturating_sub(us.max(self.waits_from_us)) <= silence_us)
        };
        let before = (self.heard, self.hears);
        (self.heard, self.hears) = (fresh(self.heard_us), fresh(self.echoed_us));
        if !self.both() || self.gray {
            self.both_since_us = None;
        } else if self.both_since_us.is_none() {
            self.both_since_us = Some(now_us);
        }
        before != (self.heard, self.hears)
    }

    /// The link is fit, or is not any more; true if that is news.
    pub(super) fn note_gray(&mut self, gray: bool) -> bool {
        let news = self.gray != gray;
        self.gray = gray;
        if news {
            // Being fit begins anew.
            self.both_since_us = None;
        }
        news
    }

    /// How long one direction or the other has been silent.
    pub(super) fn silent_us(&self, now_us: u64) -> u64 {
        let of =
            |at_us: Option<u64>| now_us.saturating_sub(at_us.unwrap_or(0).max(self.waits_from_us));
        of(self.heard_us).max(of(self.echoed_us))
    }

    /// Up means both directions.
    pub(super) fn both(&self) -> bool {
        self.heard && self.hears
    }

    /// True if it is another term than the one that is known.
    pub(super) fn learn_term(&mut self, term: u64) -> bool {
        let newer = self.term.is_none_or(|known| term > known || (self.any_term && term != known));
        if newer {
            self.term = Some(term);
        }
        self.any_term = false;
        newer
    }

    /// True if it is news.
    pub(super) fn note_state(&mut self, now_us: u64, uplink: UplinkId, state: State) -> bool {
        let known = self.states.get(&uplink).map(|(state, _)| *state);
        if known == Some(state) {
            return false;
        }
        self.states.insert(uplink, (state, now_us));
        known.unwrap_or(State::Alive) != state
    }

    pub(super) fn state(&self, uplink: UplinkId) -> State {
        self.states.get(&uplink).map_or(State::Alive, |(state, _)| *state)
    }

    /// Since when the uplink has been fit, without a break that we know of.
    pub(super) fn fit_since_us(&self, uplink: UplinkId) -> Option<u64> {
        let both_us = self.both_since_us?;
        match self.states.get(&uplink) {
            Some((State::Alive, since_us)) => Some(both_us.max(*since_us)),
            Some(_) => None,
            None => Some(both_us),
        }
    }
}
