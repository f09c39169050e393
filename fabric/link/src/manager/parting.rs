//! How sessions end on purpose: nobody needs them, or a process stops.
//!
//! ```text
//!   no frame for 10 minutes ── goodbye(idle) ──────> the other end gives them up, too
//!   process stops ──────────── goodbye(stopping) ──> the peer is down, at once
//! ```
//!
//! A goodbye ends the session that it comes on and those before it. One that was overtaken
//! by a handshake does not end what that made.

use super::goodbye::{COPIES, Goodbye};
use super::{Manager, Output};
use crate::random::Random;
use crate::session::PeerId;

impl<R: Random> Manager<R> {
    /// The process is about to end: tells all peers, so that none sends into the void.
    pub fn stop(&mut self) {
        for id in 0..self.peers.len() {
            self.say_goodbye(PeerId(id), Goodbye::Stopping);
        }
    }

    /// Gives up the sessions with a peer that nobody needs.
    pub(super) fn let_go(&mut self, id: PeerId) {
        self.say_goodbye(id, Goodbye::Idle);
        self.drop_handshake(id);
        self.fall_asleep(id, u64::MAX);
    }

    /// The peer gives up its session `generation`, and those before it.
    pub(super) fn goodbye(&mut self, now_us: u64, id: PeerId, generation: u64, why: Goodbye) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        peer.counters.goodbyes_heard += 1;
        let ends_current = peer.current.is_some_and(|current| current <= generation);
        if ends_current && why == Goodbye::Idle {
            self.fall_asleep(id, generation);
        } else {
            // Retiring the current one takes the peer down, and calls it.
            self.retire_up_to(now_us, id, generation);
        }
        self.reschedule(id);
    }

    /// Retires the sessions up to `generation`. The peer may be called at any time.
    fn fall_asleep(&mut self, id: PeerId, generation: u64) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        tracing::info!(peer = %peer.name, "nothing to send for long; session given up");
        peer.rest();
        self.outputs.push_back(Output::PeerIdle { peer: id });
        self.publish_mtu(id);
        self.forget_trouble(id);
        // None is current any more, so this takes nobody down.
        self.retire_up_to(0, id, generation);
    }

    pub(super) fn retire_up_to(&mut self, now_us: u64, id: PeerId, generation: u64) {
        let Some(peer) = self.peers.get(id.0) else { return };
        let all = peer.sessions.iter().map(|live| live.session.generation);
        let ended: Vec<_> = all.filter(|at| *at <= generation).collect();
        for generation in ended {
            self.retire(now_us, id, generation);
        }
    }

    pub(super) fn say_goodbye(&mut self, id: PeerId, goodbye: Goodbye) {
        let Some(peer) = self.peers.get_mut(id.0) else { return };
        let to = peer.address;
        let Some(live) = peer.current() else { return };
        let copies: Vec<_> = (0..COPIES).filter_map(|_| live.goodbye(goodbye)).collect();
        peer.counters.goodbyes_sent += 1;
        self.outputs.extend(copies.into_iter().map(|bytes| Output::Send { to, bytes }));
    }
}
