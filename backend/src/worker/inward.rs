//! From the fabric to the ports: may the peer send this, and to whom does it go?

use super::{
    Command, Worker,
    command::HANDOVER_MAX,
    cost,
    deliver::{deliver, redeliver},
    local::{Arena, LocalFrame},
    port::Port,
    tables::Retired,
};
use crate::{shares::Inflows, virtqueue::RingError};
use rustc_hash::FxHashMap;
use wireonce_directory::Directory;
use wireonce_frame::{Ethernet, FrameRef, HEAD_LEN, Headers, MacAddr, segment::segment_count};
use wireonce_host::workers::Mailbox;
use wireonce_ledger::{Account, Amount, DropReason};
use wireonce_link::{Inbound, PeerId};
use wireonce_wire::{Endpoint, Vni, VnicId};

/// The account of frames whose source is not the peer's: no endpoint has these bits.
pub(super) const NOBODY: u64 = 0;

/// What an arriving frame is dealt with.
pub(super) struct Inward<'a> {
    pub(super) directory: &'a Directory,
    /// Where what crosses the fabric port is counted, if that is divided.
    pub(super) inflows: Option<&'a Inflows>,
    pub(super) ports: &'a mut [Port],
    pub(super) by_vnic: &'a FxHashMap<VnicId, usize>,
    pub(super) retired: &'a mut FxHashMap<VnicId, Retired>,
    pub(super) sources: &'a mut FxHashMap<u64, Account>,
    pub(super) colleagues: &'a [Mailbox<Worker>],
    pub(super) scratch: &'a mut Vec<u8>,
    /// The way of the frame before.
    pub(super) last_pass: &'a mut Option<Pass>,
    /// Rings that turned out to be broken: port, ring index, why.
    pub(super) broken: &'a mut Vec<(usize, u16, RingError)>,
    /// CPU time that floods from peers may still use in this turn, in nanoseconds.
    pub(super) flood_credit_ns: &'a mut i64,
    /// Where frames wait for a guest's buffers: port, queue pair.
    pub(super) waiting: &'a mut Vec<(usize, usize)>,
    pub(super) now_us: u64,
    /// CPU time that deliveries used so far, in nanoseconds.
    pub(super) cost_ns: i64,
    /// What they will use for frames that wait.
    pub(super) later_ns: i64,
    /// What it takes to send as many frames of the same length.
    pub(super) owed_ns: i64,
}

impl Inward<'_> {
    /// Books a frame of a peer and delivers it.
    pub(super) fn take(&mut self, inbound: &Inbound<'_>) {
        let mut room = [0; HEAD_LEN];
        let frame = &inbound.frame;
        let head = frame.head(&mut room);
        let amount = Amount::frame(frame.frame_len(), segments(frame, head));
        self.cost_ns += cost::frame_ns(0);
        let directory = self.directory;
        self.owed_ns += cost::frame_ns(frame.frame_len()) + cost::descriptors_ns(1);
        let pass = self.pass(inbound);
        let (book, inflow) = (pass.book, pass.inflow);
        let checked = match &pass.verdict {
            Ok(ticket) => ticket.check(directory, inbound, head).map(|()| ticket.to),
            Err(reason) => Err(*reason),
        };
        if let Some(inflows) = self.inflows {
            inflows.count(inflow, frame.frame_len(), amount.segments);
        }
        match checked {
            Ok(Target::Port(index)) => {
                self.deliver_at(index, frame, head);
                let account = self.sources.entry(book).or_default();
                account.input += amount;
                account.output += amount;
            }
            Ok(Target::One(to)) => {
                let handed_on = self.deliver_to(to, frame, head);
                let account = self.sources.entry(book).or_default();
                account.input += amount;
                if handed_on {
                    account.output += amount;
                } else {
                    account.drop(DropReason::HandoverFull, amount);
                }
            }
            Ok(Target::All(vni)) => self.replicate(book, vni, frame, head, amount),
            Err(reason) => self.book_drop(book, amount, reason),
        }
    }

    /// What the directory says of the two ends of `inbound`, looked up only when they are
    /// others than those of the frame before.
    fn pass(&mut self, inbound: &Inbound<'_>) -> &Pass {
        if !self.last_pass.as_ref().is_some_and(|pass| pass.is_for(inbound)) {
            *self.last_pass = None;
        }
        self.last_pass.get_or_insert_with(|| {
            let inflow = self.inflows.and_then(|inflows| inflows.place(inbound.source()));
            Pass { inflow, ..Pass::new(self.directory, self.by_vnic, inbound) }
        })
    }

    fn book_drop(&mut self, book: u64, amount: Amount, reason: DropReason) {
        let account = self.sources.entry(book).or_default();
        account.input += amount;
        account.drop(reason, amount);
    }

    /// Delivers a broadcast to every member of network `vni` on this host.
    fn replicate(
        &mut self,
        book: u64,
        vni: Vni,
        frame: &FrameRef<'_>,
        head: &[u8],
        amount: Amount,
    ) {
        let members = self.directory.network(vni).map_or(&[][..], |n| &n.local_members);
        if members.is_empty() {
            return self.book_drop(book, amount, DropReason::UnknownDestination);
        }
        // A storm that a peer, or an outside network, did not stop itself.
        if *self.flood_credit_ns <= 0 {
            return self.book_drop(book, amount, DropReason::Storm);
        }
        let before_ns = self.cost_ns;
        for (copy, to) in members.iter().enumerate() {
            let handed_on = self.deliver_to(*to, frame, head);
            let account = self.sources.entry(book).or_default();
            let counted = if copy == 0 { &mut account.input } else { &mut account.copies };
            *counted += amount;
            if handed_on {
                account.output += amount;
            } else {
                account.drop(DropReason::HandoverFull, amount);
            }
        }
        *self.flood_credit_ns -= self.cost_ns - before_ns;
    }

    /// Delivers the frames that one port of this process sent to another.
    pub(super) fn take_local(&mut self, arena: &mut Arena) {
        arena.drain(|parked, bytes| {
            let parts = [bytes];
            let frame = FrameRef::new(&parts, parked.offload);
            if !self.deliver_to(parked.to, &frame, head_of(bytes)) {
                // The sender has booked it as output already; the receiver's worker
                // never sees it, so its drop stands in the receiver's place here.
                let amount = Amount::frame(bytes.len(), 1);
                let account = self.sources.entry(parked.to.get()).or_default();
                account.input += amount;
                account.drop(DropReason::HandoverFull, amount);
            }
        });
    }

    /// Delivers a frame that another worker handed over.
    pub(super) fn take_handover(&mut self, frame: &LocalFrame) {
        let parts = [&frame.bytes[..]];
        if let Some(index) = self.by_vnic.get(&frame.to) {
            let head = head_of(&frame.bytes);
            self.deliver_at(*index, &FrameRef::new(&parts, frame.offload), head);
        } else {
            // Sent before the vNIC was gone, or before we have heard of it. The sender's
            // worker has booked it as handed on.
            self.retired.entry(frame.to).or_default().refuse(frame.bytes.len());
        }
    }

    /// Delivers to a port of this worker, or hands over to the one that has it.
    fn deliver_to(&mut self, to: VnicId, frame: &FrameRef<'_>, head: &[u8]) -> bool {
        if let Some(index) = self.by_vnic.get(&to) {
            self.deliver_at(*index, frame, head);
            return true;
        }
        let Some(colleague) =
            worker_of(to, self.colleagues.len()).and_then(|worker| self.colleagues.get(worker))
        else {
            return false;
        };
        self.cost_ns += cost::frame_ns(frame.frame_len());
        let mut bytes = vec![0; frame.frame_len()];
        frame.copy_at(0, &mut bytes);
        let frame = LocalFrame { to, offload: frame.offload, bytes };
        colleague.try_post(Command::Handover(Box::new(frame)), HANDOVER_MAX)
    }

    fn deliver_at(&mut self, index: usize, frame: &FrameRef<'_>, head: &[u8]) {
        let Some(port) = self.ports.get_mut(index) else { return };
        match deliver(port, frame, head, self.scratch, self.now_us) {
            Ok(placed) => {
                self.cost_ns += placed.cost_ns;
                self.later_ns += placed.later_ns;
                if let Some(pair) = placed.waits
                    && !self.waiting.contains(&(index, pair))
                {
                    self.waiting.push((index, pair));
                }
            }
            Err((pair, error)) => self.broke(index, pair, error),
        }
    }

    /// Gives guests what waits for their buffers, as far as they have any now.
    pub(super) fn redeliver(&mut self) {
        let mut waiting = std::mem::take(self.waiting);
        waiting.retain(|&(index, pair)| {
            let Some(port) = self.ports.get_mut(index) else { return false };
            redeliver(port, pair, self.scratch, self.now_us).unwrap_or_else(|(pair, error)| {
                self.broke(index, pair, error);
                false
            })
        });
        *self.waiting = waiting;
    }

    /// Notes that a receive ring is broken. Every further frame of this turn meets the same
    /// ring.
    fn broke(&mut self, index: usize, pair: usize, error: RingError) {
        let ring = u16::try_from(pair * 2).unwrap_or(u16::MAX);
        if !self.broken.iter().any(|(port, at, _)| (*port, *at) == (index, ring)) {
            self.broken.push((index, ring, error));
        }
    }
}

/// The vNICs of this host that get a frame.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// A port of this worker.
    Port(usize),
    /// A port of another one.
    One(VnicId),
    /// All members of the network.
    All(Vni),
}

/// What the directory says about frames of one sender for one destination. Frames that
/// come together mostly share it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    peer: PeerId,
    source: Endpoint,
    destination: Endpoint,
    /// The account that the frames are booked on.
    book: u64,
    /// Where they are counted among what crosses the fabric port.
    inflow: Option<usize>,
    verdict: Result<Ticket, DropReason>,
}

/// What frames that may pass are checked against, and where they go.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    vni: Vni,
    mtu: u16,
    /// Address of the vNIC that they come from; `None` for an uplink.
    mac: Option<MacAddr>,
    to: Target,
}

impl Pass {
    fn new(
        directory: &Directory,
        by_vnic: &FxHashMap<VnicId, usize>,
        inbound: &Inbound<'_>,
    ) -> Self {
        let (peer, source, destination) = (inbound.peer, inbound.source(), inbound.destination());
        let admitted = directory.admit(peer, source, destination);
        // What a peer invents gets no book of its own: there are 2^64 of them.
        let book = match admitted {
            Err(DropReason::SourceNotOwned) => NOBODY,
            _ => source.to_bits(),
        };
        let verdict =
            admitted.and_then(|vni| Ticket::new(directory, by_vnic, vni, source, destination));
        Self { peer, source, destination, book, inflow: None, verdict }
    }

    #[inline]
    fn is_for(&self, inbound: &Inbound<'_>) -> bool {
        self.source == inbound.source()
            && self.destination == inbound.destination()
            && self.peer == inbound.peer
    }
}

impl Ticket {
    fn new(
        directory: &Directory,
        by_vnic: &FxHashMap<VnicId, usize>,
        vni: Vni,
        source: Endpoint,
        destination: Endpoint,
    ) -> Result<Self, DropReason> {
        let network = directory.network(vni).ok_or(DropReason::NetworkMismatch)?;
        let mac = match source {
            Endpoint::Vnic(id) => {
                Some(directory.vnic(id).ok_or(DropReason::SourceNotOwned)?.vnic.mac)
            }
            _ => None,
        };
        let to = match destination {
            Endpoint::Vnic(id) => by_vnic.get(&id).map_or(Target::One(id), |at| Target::Port(*at)),
            _ => Target::All(vni),
        };
        Ok(Self { vni, mtu: network.network.mtu, mac, to })
    }

    /// May the frame go on, and are its headers in order? A peer speaks for its own vNICs' MAC addresses
    /// only, and an uplink for none of ours: a host that was broken into must not pass
    /// for another one's VM.
    fn check(
        &self,
        directory: &Directory,
        inbound: &Inbound<'_>,
        head: &[u8],
    ) -> Result<(), DropReason> {
        inbound.passable()?;
        let mac = Ethernet::parse(head).map_err(|_| DropReason::BadBlock)?.source;
        match self.mac {
            Some(own) if own != mac => return Err(DropReason::SourceMac),
            None if directory.lookup(self.vni, mac).is_some() => {
                return Err(DropReason::Reflection);
            }
            _ => {}
        }
        let frame = &inbound.frame;
        let checked = frame.offload.check(head, frame.frame_len(), self.mtu);
        checked.map_err(|_| DropReason::BadBlock)
    }
}

/// The first bytes of a frame that lies in one piece.
fn head_of(frame: &[u8]) -> &[u8] {
    frame.get(..HEAD_LEN).unwrap_or(frame)
}

/// The worker that serves a vNIC, of `workers`. Peers compute the same.
pub(crate) fn worker_of(vnic: VnicId, workers: usize) -> Option<usize> {
    let workers = u64::try_from(workers).ok().filter(|n| *n > 0)?;
    usize::try_from(vnic.get() % workers).ok()
}

/// Wire segments of a frame, from its offload alone.
fn segments(frame: &FrameRef<'_>, head: &[u8]) -> u32 {
    if frame.offload.gso.is_none() {
        return 1;
    }
    Headers::parse(head, frame.frame_len())
        .map_or(1, |headers| segment_count(frame.frame_len(), &frame.offload, &headers))
}
