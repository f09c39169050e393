//! Peers whose sessions were given up because nobody needed them, and frames that wait for
//! a session.
//!
//! The first frame for such a peer asks the agent for a handshake, which takes about a
//! round trip. Meanwhile frames are refused as if a socket were full, so that a guest's wait
//! in its ring; but not for long, because others may wait behind them.

use crate::{AgentHandle, PeerId};
use wireonce_ledger::DropReason;

/// A frame waits so long for the session that it asked for.
const PATIENCE_US: u64 = 50_000;

/// A peer that sleeps.
#[derive(Debug)]
pub(super) struct Asleep {
    agent: AgentHandle,
    called_us: Option<u64>,
}

impl Asleep {
    pub(super) fn new(agent: AgentHandle) -> Self {
        Self { agent, called_us: None }
    }
}

/// Peers for which frames wait until there is another session.
#[derive(Debug, Default)]
pub(super) struct Waits(Vec<(PeerId, Option<u64>)>);

impl Waits {
    /// Frames for `peer` wait for its next session, because a key is used up.
    pub(super) fn for_key(&mut self, peer: PeerId) {
        self.add(peer, None);
    }

    /// A frame has come for `peer`, which has no session: calls it if it sleeps. Says what
    /// the frame is to be told.
    pub(super) fn call(
        &mut self,
        peer: PeerId,
        asleep: &mut Option<Asleep>,
        now_us: u64,
    ) -> DropReason {
        let Some(Asleep { agent, called_us }) = asleep else { return DropReason::NoSession };
        let since_us = *called_us.get_or_insert_with(|| {
            agent.want(peer);
            now_us
        });
        let until_us = since_us.saturating_add(PATIENCE_US);
        if now_us >= until_us {
            return DropReason::NoSession;
        }
        self.add(peer, Some(until_us));
        DropReason::FabricBusy
    }

    /// Nobody waits for `peer` any more.
    pub(super) fn end(&mut self, peer: PeerId) {
        self.0.retain(|(waited_for, _)| *waited_for != peer);
    }

    /// Ends waits that have taken too long.
    pub(super) fn pass_time(&mut self, now_us: u64) {
        self.0.retain(|(_, until_us)| until_us.is_none_or(|us| us > now_us));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When [`Self::pass_time`] has something to do.
    pub(super) fn next_deadline_us(&self) -> Option<u64> {
        self.0.iter().filter_map(|(_, until_us)| *until_us).min()
    }

    fn add(&mut self, peer: PeerId, until_us: Option<u64>) {
        if self.0.iter().all(|(waited_for, _)| *waited_for != peer) {
            self.0.push((peer, until_us));
        }
    }
}
