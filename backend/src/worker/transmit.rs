//! From a guest's ring to the fabric: one turn of one queue.
//!
//! ```text
//!   ring ─▶ header and first bytes copied once ─▶ headers ─▶ port guard ─▶ offload checked
//!        ─▶ route ─▶ train of the peer's path            (one copy of the rest)
//!                 ─▶ arena, for a port of this process
//! ```
//!
//! Every frame that leaves the ring is booked exactly once: as output, or as a drop
//! with its reason. A frame for which the fabric has no room now stays in the ring.

use super::{
    cost,
    local::Arena,
    port::{Books, Port, TxQueue, way_outside},
    shape::{self, Shapeable},
    shaped::Shaped,
};
use crate::{
    homes::HomeCell,
    net::{self, Neighbours, PortPolicy},
    virtqueue::{Next, RingError, TxFrame},
};
use std::sync::Arc;
use wireonce_config::Vnic;
use wireonce_directory::{Directory, Route};
use wireonce_frame::{
    FrameSource, HEAD_LEN, Headers, MacAddr, Offload, OffloadFeatures, SliceSource, StormMeter,
    build::rarp_announce,
    ecn::{self, Ecn},
    flow::flow_hash,
    segment::{segment_count, wire_cost},
};
use wireonce_ledger::{Amount, DropReason};
use wireonce_link::{Fabric, Outbound, PeerId};
use wireonce_wire::{Endpoint, VnicId};

/// Frames of one turn at most; the credit usually ends it before.
const TURN_FRAMES_MAX: usize = 64;

/// What a turn works with, besides the port.
pub(super) struct Outward<'a> {
    pub(super) fabric: &'a mut Fabric,
    pub(super) directory: &'a Directory,
    pub(super) neighbours: &'a Neighbours,
    pub(super) arena: &'a mut Arena,
    pub(super) frame: &'a mut TxFrame,
    pub(super) scratch: &'a mut Vec<u8>,
    /// Where the frame before went.
    pub(super) last_way: &'a mut Option<Way>,
    pub(super) now_us: u64,
}

impl Outward<'_> {
    /// Where frames of `from` to `destination` go, looked up only when they are others
    /// than the frame before.
    fn route(&mut self, from: &Vnic, destination: MacAddr) -> Route {
        if let Some(way) = self.last_way
            && way.destination == destination
            && way.from == from.id
        {
            return way.route;
        }
        let route = self.directory.route(from, destination);
        *self.last_way = Some(Way { from: from.id, destination, route });
        route
    }
}

/// What the directory says of frames of one vNIC for one destination.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    from: VnicId,
    destination: MacAddr,
    route: Route,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Chains taken from the ring.
    pub(super) chains: usize,
    /// The ring was found empty.
    pub(super) empty: bool,
    /// The next frame waits for room in the fabric.
    pub(super) blocked: bool,
    /// It waits for the vNIC's share of its home.
    pub(super) held: bool,
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It went this way.
    Sent,
    /// It waits in memory of ours for the vNIC's share of its home.
    Held,
    /// It waits for that in the ring.
    Wait,
    /// It did not.
    Drop(DropReason),
    /// Not now.
    Busy,
}

/// Takes frames from queue `pair` of `port` while it has credit.
pub(super) fn turn(port: &mut Port, pair: usize, out: &mut Outward<'_>) -> Result<Turn, RingError> {
    let mut turn = Turn { chains: 0, empty: false, blocked: false, held: false };
    let (mut sender, queues, credit_ns) = Sender::of(port);
    let Some(queue) = queues.get_mut(pair).and_then(Option::as_mut) else { return Ok(turn) };
    while turn.chains < TURN_FRAMES_MAX && *credit_ns > 0 && out.arena.has_room() {
        let reason = match queue.ring.next(out.frame)? {
            Next::Empty => {
                turn.empty = true;
                break;
            }
            Next::Frame if !queue.common.enabled => Some(DropReason::PortDown),
            Next::Frame => match sender.forward(out) {
                Some(()) => None,
                None => {
                    queue.ring.put_back();
                    turn.held = sender.waits;
                    turn.blocked = !turn.held;
                    break;
                }
            },
            Next::Short => Some(DropReason::FrameShort),
            Next::Long => Some(DropReason::FrameLong),
            Next::Bad => Some(DropReason::BadChain),
        };
        if let Some(reason) = reason {
            sender.books.guest_tx_drop(reason, Amount::frame(out.frame.frame_len(), 1));
        }
        turn.chains += 1;
        *credit_ns -= cost::frame_ns(out.frame.frame_len());
        *credit_ns -= std::mem::take(&mut sender.copies_ns);
        *credit_ns -= cost::descriptors_ns(queue.ring.ring_mut().take_walked());
    }
    out.frame.clear();
    if queue.ring.publish_and_notify() {
        queue.common.interrupt();
    }
    Ok(turn)
}

/// Says in the guest's name where its MAC address is now, to all whom a broadcast of it
/// reaches: a reverse ARP request, which the VMM asks for when the guest does not do it
/// itself. Booked and limited like a broadcast of the guest.
pub(super) fn announce(port: &mut Port, out: &mut Outward<'_>) {
    let frame = rarp_announce(port.vnic.mac);
    let Ok(headers) = Headers::parse(&frame, frame.len()) else { return };
    let (mut sender, _, credit_ns) = Sender::of(port);
    let amount = Amount::frame(frame.len(), 1);
    if sender.may_flood(&headers, amount, out.now_us) {
        out.scratch.clear();
        out.scratch.extend_from_slice(&frame);
        sender.replicate(out, &headers, Offload::default(), amount);
    }
    *credit_ns -= cost::frame_ns(frame.len()) + sender.copies_ns;
}

/// The sending side of a port, apart from its rings.
struct Sender<'p> {
    vnic: &'p Arc<Vnic>,
    policy: &'p PortPolicy,
    storm: &'p mut StormMeter,
    books: &'p mut Books,
    from_guest: OffloadFeatures,
    shaped: Option<&'p mut Shaped>,
    home: Option<&'p Arc<HomeCell>>,
    /// The frame in the ring waits for the vNIC's share.
    waits: bool,
    /// CPU time that copies for peers took.
    copies_ns: i64,
}

impl<'p> Sender<'p> {
    /// The sending side of a port, its rings, and the CPU time that it may still use.
    fn of(port: &'p mut Port) -> (Self, &'p mut [Option<TxQueue>], &'p mut i64) {
        let sender = Self {
            vnic: &port.vnic,
            policy: &port.policy,
            storm: &mut port.storm,
            books: &mut port.books,
            from_guest: port.from_guest,
            shaped: port.shaped.as_deref_mut(),
            home: port.home.as_ref(),
            waits: false,
            copies_ns: 0,
        };
        (sender, &mut port.tx, &mut port.credit_ns)
    }

    /// Sends the frame in `out` on and books it; `None` if there is no room now.
    fn forward(&mut self, out: &mut Outward<'_>) -> Option<()> {
        let len = out.frame.frame_len();
        let header = out.frame.header();
        let head = out.frame.head();
        let headers = match Headers::parse(head, len) {
            Ok(headers) => headers,
            Err(error) => return self.refuse(error.into(), len),
        };
        let offload = match net::admit(self.policy, &header, &headers, head, len, self.from_guest) {
            Ok(offload) => offload,
            Err(reason) => return self.refuse(reason, len),
        };
        let amount = Amount::frame(len, segment_count(len, &offload, &headers));
        if headers.ethernet.destination.is_group() {
            self.flood(out, &headers, offload, amount);
            return Some(());
        }
        let route = match out.route(self.vnic, headers.ethernet.destination) {
            // Asked for each frame: the home changes by itself.
            Route::Outside => way_outside(self.home, out.directory, self.vnic),
            route => route,
        };
        let verdict = match route {
            Route::LocalVnic(to) => {
                if let Some(shaped) = &mut self.shaped {
                    shaped.passed_by(out.now_us);
                }
                let (start, room) = out.arena.reserve(len);
                out.frame.read(room);
                out.arena.park(to, offload, start);
                Verdict::Sent
            }
            Route::Peer(peer, destination) => {
                let head = out.frame.head();
                let block = self.block(head, &headers, offload, destination, amount);
                match &mut self.shaped {
                    None => {
                        let books = &mut self.books.fabric_tx;
                        send(books, out.fabric, peer, &block, out.frame, out.now_us)
                    }
                    Some(shaped) => {
                        let cost = wire_cost(len, &offload, &headers);
                        let outbound = Shapeable { peer, block: &block, cost, may_wait: true };
                        let (fabric, now_us) = (&mut *out.fabric, out.now_us);
                        shape::send(shaped, self.books, fabric, &outbound, out.frame, now_us)
                    }
                }
            }
            // Uplinks belong to gateways, which are processes of their own.
            Route::LocalUplink(_) | Route::Outside => Verdict::Drop(DropReason::NoRoute),
            Route::Drop(reason) => Verdict::Drop(reason),
        };
        self.book(verdict, amount)
    }

    /// Books a frame that may not go on.
    fn refuse(&mut self, reason: DropReason, len: usize) -> Option<()> {
        self.books.guest_tx_drop(reason, Amount::frame(len, 1));
        Some(())
    }

    fn block(
        &self,
        head: &[u8],
        headers: &Headers,
        offload: Offload,
        destination: Endpoint,
        amount: Amount,
    ) -> Outbound {
        Outbound {
            source: Endpoint::Vnic(self.vnic.id),
            destination,
            offload,
            flow_hash: flow_hash(headers, head),
            ecn: ecn::read(headers, head).unwrap_or(Ecn::NotEct),
            account: self.vnic.id.get(),
            amount,
        }
    }

    fn book(&mut self, verdict: Verdict, amount: Amount) -> Option<()> {
        match verdict {
            Verdict::Busy => return None,
            Verdict::Wait => {
                self.waits = true;
                return None;
            }
            Verdict::Held => self.books.guest_tx.input += amount,
            Verdict::Sent => {
                self.books.guest_tx.input += amount;
                self.books.guest_tx.output += amount;
            }
            Verdict::Drop(reason) => self.books.guest_tx_drop(reason, amount),
        }
        Some(())
    }

    /// Broadcast and multicast: answered here if we know the answer, else one copy to
    /// every host of the network, every neighbour on this host, and the home.
    fn flood(
        &mut self,
        out: &mut Outward<'_>,
        headers: &Headers,
        offload: Offload,
        amount: Amount,
    ) {
        if !self.may_flood(headers, amount, out.now_us) {
            return;
        }
        let vni = self.vnic.network.vni;
        let head = out.frame.head();
        if out.neighbours.answer(vni, self.policy, head, headers, out.scratch) {
            let (start, room) = out.arena.reserve(out.scratch.len());
            room.copy_from_slice(out.scratch);
            out.arena.park(self.vnic.id, Offload::default(), start);
            self.books.guest_tx.drop(DropReason::AnsweredHere, amount);
            return;
        }
        out.scratch.resize(amount_len(amount), 0);
        out.frame.read(out.scratch);
        self.replicate(out, headers, offload, amount);
    }

    /// Books a broadcast or multicast, unless there are too many.
    fn may_flood(&mut self, headers: &Headers, amount: Amount, now_us: u64) -> bool {
        self.books.guest_tx.input += amount;
        let admits = self.storm.admits(headers.ethernet.destination, amount.segments, now_us);
        if !admits {
            self.books.guest_tx.drop(DropReason::Storm, amount);
        }
        admits
    }

    /// Sends the frame that lies in the scratch memory to all of its network.
    fn replicate(
        &mut self,
        out: &mut Outward<'_>,
        headers: &Headers,
        offload: Offload,
        amount: Amount,
    ) {
        let head = out.scratch.get(..HEAD_LEN).unwrap_or(out.scratch);
        let network = Endpoint::Network(self.vnic.network.vni);
        let block = self.block(head, headers, offload, network, amount);
        let targets = self.flood_targets(out.directory);
        if targets.is_empty() {
            self.books.guest_tx.drop(DropReason::NoRoute, amount);
            return;
        }
        // The neighbours share one copy in the arena.
        let mut parked = None;
        for (copy, target) in targets.into_iter().enumerate() {
            if copy > 0 {
                self.books.guest_tx.copies += amount;
            }
            let verdict = match target {
                Target::Port(to) => {
                    let start = *parked.get_or_insert_with(|| {
                        let (start, room) = out.arena.reserve(out.scratch.len());
                        room.copy_from_slice(out.scratch);
                        start
                    });
                    out.arena.park(to, offload, start);
                    Verdict::Sent
                }
                Target::Peer(peer, destination) => {
                    let block = Outbound { destination, ..block };
                    let mut copy = SliceSource::new(out.scratch);
                    self.copies_ns += cost::frame_ns(out.scratch.len());
                    match &mut self.shaped {
                        None => {
                            let books = &mut self.books.fabric_tx;
                            send(books, out.fabric, peer, &block, &mut copy, out.now_us)
                        }
                        Some(shaped) => {
                            let cost = wire_cost(out.scratch.len(), &offload, headers);
                            let outbound = Shapeable { peer, block: &block, cost, may_wait: false };
                            let (fabric, now_us) = (&mut *out.fabric, out.now_us);
                            shape::send(shaped, self.books, fabric, &outbound, &mut copy, now_us)
                        }
                    }
                }
            };
            match verdict {
                Verdict::Sent => self.books.guest_tx.output += amount,
                Verdict::Held => {}
                Verdict::Drop(reason) => self.books.guest_tx.drop(reason, amount),
                Verdict::Busy | Verdict::Wait => {
                    self.books.guest_tx.drop(DropReason::FabricBusy, amount);
                }
            }
        }
    }

    fn flood_targets(&self, directory: &Directory) -> Vec<Target> {
        let Some(network) = directory.network(self.vnic.network.vni) else { return Vec::new() };
        let all = Endpoint::Network(network.network.vni);
        let ports = network.local_members.iter().filter(|id| **id != self.vnic.id);
        let mut targets: Vec<Target> = ports.map(|id| Target::Port(*id)).collect();
        targets.extend(network.member_peers.iter().map(|peer| Target::Peer(*peer, all)));
        if let Route::Peer(peer, uplink) = way_outside(self.home, directory, self.vnic) {
            targets.push(Target::Peer(peer, uplink));
        }
        targets
    }
}

/// Where a copy of a flooded frame goes.
#[derive(Debug, Clone, Copy)]
enum Target {
    Port(VnicId),
    Peer(PeerId, Endpoint),
}

/// Puts a frame on a train and books it for the fabric.
pub(super) fn send<S: FrameSource>(
    books: &mut wireonce_ledger::Account,
    fabric: &mut Fabric,
    peer: PeerId,
    block: &Outbound,
    frame: &mut S,
    now_us: u64,
) -> Verdict {
    match fabric.send(peer, block, frame, now_us) {
        Ok(()) => {
            books.input += block.amount;
            Verdict::Sent
        }
        Err(DropReason::FabricBusy) => Verdict::Busy,
        Err(reason) => Verdict::Drop(reason),
    }
}

fn amount_len(amount: Amount) -> usize {
    usize::try_from(amount.bytes).unwrap_or(0)
}
