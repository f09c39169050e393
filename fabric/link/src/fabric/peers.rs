//! The sending side: which session, which path.

use super::{
    ECT_PATH_BIT, Fabric, FabricConfig, Outbound, Outcome, PATH_NUMBERS, PeerAddress, data_port,
    paths,
    receive::News,
    tx::{TxPath, TxPathName},
    wake::Asleep,
};
use crate::{PeerId, Session, socket::Destination};
use std::{net::SocketAddr, sync::Arc};
use wireonce_frame::ecn::Ecn;
use wireonce_wire::{Endpoint, Geometry, TAG_LEN, TrainPool};

/// Everything that goes to one peer.
#[derive(Debug)]
pub(super) struct PeerLinks {
    pub(super) address: PeerAddress,
    /// The session that frames are sent with.
    pub(super) sending: Option<Sending>,
    /// The session of a peer that fell silent. If it comes back on it, its paths go on
    /// with their numbers: to begin again would use nonces twice.
    paused: Option<Sending>,
    /// Nobody needed it for long: whom to ask for a session.
    pub(super) asleep: Option<Asleep>,
    /// Sessions of which evidence is still expected.
    pub(super) older: Vec<Sending>,
}

/// A session, sending.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) session: Arc<Session>,
    address: PeerAddress,
    datagram_len: usize,
    /// By [`tx_slot`]; made when first used.
    pub(super) paths: Vec<Option<Box<TxPath>>>,
    /// Paths on which nobody answers, a bit each, by the peer's worker.
    pub(super) dead: Vec<u8>,
}

/// Position of a path among those of a session.
pub(super) fn tx_slot(remote_worker: u8, path: u8) -> usize {
    usize::from(remote_worker) * PATH_NUMBERS + usize::from(path)
}

impl PeerLinks {
    pub(super) fn new(address: &PeerAddress) -> Self {
        Self {
            address: address.clone(),
            sending: None,
            paused: None,
            asleep: None,
            older: Vec::new(),
        }
    }

    pub(super) fn path_mut(&mut self, slot: usize) -> Option<&mut TxPath> {
        self.sending.as_mut()?.paths.get_mut(slot)?.as_deref_mut()
    }

    pub(super) fn set_datagram_len(&mut self, datagram_len: usize) {
        if let Some(sending) = &mut self.sending {
            sending.set_datagram_len(datagram_len);
        }
    }

    pub(super) fn next_deadline_us(&self) -> Option<u64> {
        let sendings = self.sending.iter().chain(&self.older);
        let paths = sendings.flat_map(|sending| sending.paths.iter().flatten());
        paths.filter_map(|path| path.probe_at_us()).min()
    }
}

impl Sending {
    fn new(session: Arc<Session>, address: PeerAddress) -> Self {
        let slots = usize::from(session.remote_workers) * PATH_NUMBERS;
        let paths = std::iter::repeat_with(|| None).take(slots).collect();
        let dead = vec![0; session.remote_workers.into()];
        Self { datagram_len: session.datagram_len_max, session, address, paths, dead }
    }

    fn set_datagram_len(&mut self, datagram_len: usize) {
        self.datagram_len = datagram_len;
        let Some(geometry) = self.geometry() else { return };
        for path in self.paths.iter_mut().flatten() {
            path.set_geometry(geometry);
        }
    }

    fn geometry(&self) -> Option<Geometry> {
        let tag_len = if self.session.sealed { TAG_LEN } else { 0 };
        Geometry::new(self.datagram_len, tag_len).ok()
    }

    /// The path that a block takes: the worker that has the destination, the path by
    /// flow, the class by ECN capability.
    pub(super) fn slot_for(&self, block: &Outbound) -> usize {
        let key = match block.destination {
            Endpoint::Vnic(id) => id.get(),
            Endpoint::Uplink(_) => u64::from(block.flow_hash >> 16),
            Endpoint::Network(vni) => u64::from(vni.get()),
            Endpoint::Link => 0,
        };
        let worker = one_of(self.session.remote_workers, key);
        let path = self.living(worker, one_of(self.session.paths, block.flow_hash.into()));
        let class = if block.ecn == Ecn::NotEct { 0 } else { ECT_PATH_BIT };
        tx_slot(worker, path | class)
    }

    /// The path in `slot`, made if this is its first use.
    pub(super) fn path(&mut self, slot: usize, config: &FabricConfig) -> Option<&mut TxPath> {
        if self.paths.get(slot)?.is_none() {
            let path = self.new_path(slot, config)?;
            self.paths[slot] = Some(Box::new(path));
        }
        self.paths.get_mut(slot)?.as_deref_mut()
    }

    fn new_path(&self, slot: usize, config: &FabricConfig) -> Option<TxPath> {
        let remote_worker = u8::try_from(slot / PATH_NUMBERS).ok()?;
        let path = u8::try_from(slot % PATH_NUMBERS).ok()?;
        let number = path & !ECT_PATH_BIT;
        let port = data_port(self.address.port, remote_worker, number)?;
        TxPath::new(
            &self.session,
            TxPathName { local_worker: config.worker, remote_worker, path },
            config.key_limits,
            self.geometry()?,
            Destination::new(SocketAddr::new(self.address.address, port)),
            usize::from(number % config.paths.max(1)),
        )
    }

    fn abandon(&mut self, pool: &mut TrainPool, outcomes: &mut Vec<Outcome>) {
        for path in self.paths.iter_mut().flatten() {
            path.abandon(pool, &mut |account, amount, fate| {
                outcomes.push(Outcome { account, amount, fate });
            });
        }
    }
}

/// `key` modulo `count`; 0 where there is only one, for a division costs as much as ten
/// other instructions.
fn one_of(count: u8, key: u64) -> u8 {
    if count < 2 { 0 } else { u8::try_from(key % u64::from(count)).unwrap_or(0) }
}

impl Fabric {
    /// Frames go with `session` from now on; evidence for the one before may still come.
    pub(super) fn use_session(&mut self, session: Arc<Session>) {
        let index = session.peer;
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        peer.asleep = None;
        let is_this = |other: &Sending| other.session.generation == session.generation;
        if peer.sending.as_ref().is_some_and(is_this) {
            return;
        }
        let mut next = match peer.paused.take() {
            Some(mut paused) if is_this(&paused) => {
                // What the path carried before the silence says nothing: the agent begins
                // again with the session's length, and tells of every change from there.
                paused.set_datagram_len(session.datagram_len_max);
                paused
            }
            _ => Sending::new(session, peer.address.clone()),
        };
        if let Some(before) = &peer.sending {
            next.inherit(before, &self.config);
        }
        if let Some(mut before) = peer.sending.replace(next) {
            for path in before.paths.iter_mut().flatten() {
                if let Some(socket) = self.sockets.get(path.socket) {
                    // A full socket here costs what waits; evidence books it as lost.
                    let _ = path.flush(socket, &mut self.pool);
                }
            }
            peer.older.push(before);
        }
        self.dirty.retain(|(peer, _)| *peer != index.0);
        let paths = peer.sending.iter().flat_map(|sending| sending.paths.iter().enumerate());
        let waiting = paths.filter(|(_, path)| path.as_ref().is_some_and(|p| p.has_work()));
        self.dirty.extend(waiting.map(|(slot, _)| (index.0, slot)));
    }

    pub(super) fn retire(&mut self, index: PeerId, generation: u64) {
        self.receiver.retire(index, generation);
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let is_this = |other: &Sending| other.session.generation == generation;
        let outcomes = &mut self.outcomes;
        for mut gone in peer.older.extract_if(.., |sending| is_this(sending)) {
            gone.abandon(&mut self.pool, outcomes);
        }
        peer.paused.take_if(|paused| is_this(paused));
        if let Some(mut gone) = peer.sending.take_if(|sending| is_this(sending)) {
            gone.abandon(&mut self.pool, outcomes);
            self.dirty.retain(|(peer, _)| *peer != index.0);
        }
    }

    /// The peer is silent: nothing is sent until it comes back.
    pub(super) fn down(&mut self, index: PeerId) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        for sending in peer.sending.iter_mut().chain(&mut peer.older) {
            sending.abandon(&mut self.pool, &mut self.outcomes);
        }
        if let Some(mut sending) = peer.sending.take() {
            sending.forget_dead();
            peer.paused = Some(sending);
        }
        peer.older.clear();
        self.dirty.retain(|(peer, _)| *peer != index.0);
    }

    /// One more peer. They come in the order of their numbers.
    pub(super) fn add_peer(&mut self, id: PeerId, address: &PeerAddress) {
        if id.0 == self.peers.len() {
            self.peers.push(PeerLinks::new(address));
        }
    }

    /// The peer is gone: nobody is left to say what became of what was sent to it. Its
    /// number stays taken.
    pub(super) fn forget_peer(&mut self, id: PeerId) {
        self.down(id);
        self.receiver.forget_peer(id);
        if let Some(peer) = self.peers.get_mut(id.0) {
            let address = peer.address.clone();
            *peer = PeerLinks::new(&address);
        }
    }

    /// Books what a peer says about frames that we sent it.
    pub(super) fn book_evidence(&mut self, news: &News, now_us: u64) {
        let Some(peer) = self.peers.get_mut(news.peer.0) else { return };
        let outcomes = &mut self.outcomes;
        let sendings = peer.sending.iter_mut().chain(&mut peer.older);
        for sending in sendings.filter(|s| s.session.remote_index == news.remote_index) {
            let slot = tx_slot(news.remote_worker, news.path);
            if let Some(path) = sending.paths.get_mut(slot).and_then(Option::as_deref_mut) {
                path.resolve(&news.evidence, now_us, &mut |account, amount, fate| {
                    outcomes.push(Outcome { account, amount, fate });
                });
            }
        }
    }

    /// Asks the receivers of paths that have been without news for too long. The last
    /// datagrams of a session that was replaced may be lost, too.
    pub(super) fn send_probes(&mut self, now_us: u64) {
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            for path in peer.older.iter_mut().flat_map(|older| older.paths.iter_mut().flatten()) {
                if path.probe_due(now_us)
                    && path.has_room_for_link()
                    && let Some(socket) = self.sockets.get(path.socket)
                {
                    path.put_link(&super::receive::PROBE, &mut self.pool);
                    // If the socket is full, the next question sends it.
                    let _ = path.flush(socket, &mut self.pool);
                }
            }
            let Some(sending) = &mut peer.sending else { continue };
            let mut is_suspect = sending.has_dead();
            for (slot, path) in sending.paths.iter_mut().enumerate() {
                let Some(path) = path.as_deref_mut() else { continue };
                if path.probe_due(now_us) && path.has_room_for_link() {
                    if !path.has_work() {
                        self.dirty.push((index, slot));
                    }
                    path.put_link(&super::receive::PROBE, &mut self.pool);
                }
                is_suspect |= paths::is_suspect(path);
            }
            if is_suspect {
                sending.judge_paths(now_us, &self.config, &mut self.pool, &mut self.outcomes);
            }
        }
    }
}
