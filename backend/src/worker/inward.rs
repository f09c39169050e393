//! From the fabric to the ports: may the peer send this, and to whom does it go?

use super::{
    Command, Worker,
    command::HANDOVER_MAX,
    cost,
    deliver::deliver,
    local::{Arena, LocalFrame},
    port::Port,
};
use crate::virtqueue::RingError;
use rustc_hash::FxHashMap;
use wireonce_directory::Directory;
use wireonce_frame::{Ethernet, FrameRef, HEAD_LEN};
use wireonce_host::workers::Mailbox;
use wireonce_ledger::{Account, Amount, DropReason};
use wireonce_link::Inbound;
use wireonce_wire::{Endpoint, Vni, VnicId};

/// The account of frames whose source is not the peer's: no endpoint has these bits.
pub(super) const NOBODY: u64 = 0;

/// What an arriving frame is dealt with.
pub(super) struct Inward<'a> {
    pub(super) directory: &'a Directory,
    pub(super) ports: &'a mut [Port],
    pub(super) by_vnic: &'a FxHashMap<VnicId, usize>,
    pub(super) sources: &'a mut FxHashMap<u64, Account>,
    pub(super) colleagues: &'a [Mailbox<Worker>],
    pub(super) scratch: &'a mut Vec<u8>,
    /// Rings that turned out to be broken: port, ring index, why.
    pub(super) broken: &'a mut Vec<(usize, u16, RingError)>,
    /// CPU time that floods from peers may still use in this turn, in nanoseconds.
    pub(super) flood_credit_ns: &'a mut i64,
    /// CPU time that deliveries used so far, in nanoseconds.
    pub(super) cost_ns: i64,
}

impl Inward<'_> {
    /// Books a frame of a peer and delivers it.
    pub(super) fn take(&mut self, inbound: &Inbound<'_>) {
        let directory = self.directory;
        let amount = Amount::frame(inbound.frame.frame_len(), segments(&inbound.frame));
        let admitted = directory.admit(inbound.peer, inbound.source, inbound.destination);
        // What a peer invents gets no book of its own: there are 2^64 of them.
        let book = match admitted {
            Err(DropReason::SourceNotOwned) => NOBODY,
            _ => inbound.source.to_bits(),
        };
        let account = self.sources.entry(book).or_default();
        account.input += amount;
        self.cost_ns += cost::frame_ns(0);
        let targets = match admitted.and_then(|vni| targets(directory, vni, inbound)) {
            // A storm that a peer, or an outside network, did not stop itself.
            Ok(Targets::All(_)) if *self.flood_credit_ns <= 0 => {
                account.drop(DropReason::Storm, amount);
                return;
            }
            Ok(targets) => targets,
            Err(reason) => {
                account.drop(reason, amount);
                return;
            }
        };
        match targets {
            Targets::One(to) => self.hand_on(book, to, &inbound.frame, amount),
            Targets::All(members) => {
                let before_ns = self.cost_ns;
                for (copy, to) in members.iter().enumerate() {
                    if copy > 0 {
                        self.sources.entry(book).or_default().copies += amount;
                    }
                    self.hand_on(book, *to, &inbound.frame, amount);
                }
                *self.flood_credit_ns -= self.cost_ns - before_ns;
            }
        }
    }

    fn hand_on(&mut self, book: u64, to: VnicId, frame: &FrameRef<'_>, amount: Amount) {
        let handed_on = self.deliver_to(to, frame);
        let account = self.sources.entry(book).or_default();
        if handed_on {
            account.output += amount;
        } else {
            account.drop(DropReason::HandoverFull, amount);
        }
    }

    /// Delivers the frames that one port of this process sent to another.
    pub(super) fn take_local(&mut self, arena: &mut Arena) {
        arena.drain(|parked, bytes| {
            let parts = [bytes];
            let frame = FrameRef::new(&parts, parked.offload);
            if !self.deliver_to(parked.to, &frame) {
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
            self.deliver_at(*index, &FrameRef::new(&parts, frame.offload));
        }
    }

    /// Delivers to a port of this worker, or hands over to the one that has it.
    fn deliver_to(&mut self, to: VnicId, frame: &FrameRef<'_>) -> bool {
        if let Some(index) = self.by_vnic.get(&to) {
            self.deliver_at(*index, frame);
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

    fn deliver_at(&mut self, index: usize, frame: &FrameRef<'_>) {
        let Some(port) = self.ports.get_mut(index) else { return };
        match deliver(port, frame, self.scratch) {
            Ok(cost_ns) => self.cost_ns += cost_ns,
            Err((pair, error)) => {
                let ring = u16::try_from(pair * 2).unwrap_or(u16::MAX);
                // Every further frame of this turn meets the same ring.
                if !self.broken.iter().any(|(port, at, _)| (*port, *at) == (index, ring)) {
                    self.broken.push((index, ring, error));
                }
            }
        }
    }
}

/// The vNICs of this host that get a frame.
enum Targets<'d> {
    One(VnicId),
    All(&'d [VnicId]),
}

/// Who gets a frame that its peer may send to network `vni`, if its headers are in order.
fn targets<'d>(
    directory: &'d Directory,
    vni: Vni,
    inbound: &Inbound<'_>,
) -> Result<Targets<'d>, DropReason> {
    let network = directory.network(vni).ok_or(DropReason::NetworkMismatch)?;
    let mut head = [0; HEAD_LEN];
    let len = inbound.frame.copy_at(0, &mut head);
    let head = head.get(..len).unwrap_or_default();
    check_source(directory, vni, inbound.source, head)?;
    inbound
        .frame
        .offload
        .check(head, inbound.frame.frame_len(), network.network.mtu)
        .map_err(|_| DropReason::BadBlock)?;
    match inbound.destination {
        Endpoint::Vnic(id) => Ok(Targets::One(id)),
        _ if network.local_members.is_empty() => Err(DropReason::UnknownDestination),
        _ => Ok(Targets::All(&network.local_members)),
    }
}

/// A peer speaks for its own vNICs' MAC addresses only, and an uplink for none of ours:
/// a host that was broken into must not pass for another one's VM.
fn check_source(
    directory: &Directory,
    vni: Vni,
    source: Endpoint,
    head: &[u8],
) -> Result<(), DropReason> {
    let mac = Ethernet::parse(head).map_err(|_| DropReason::BadBlock)?.source;
    match source {
        Endpoint::Vnic(id) => match directory.vnic(id) {
            Some(entry) if entry.vnic.mac == mac => Ok(()),
            _ => Err(DropReason::SourceMac),
        },
        _ if directory.lookup(vni, mac).is_some() => Err(DropReason::Reflection),
        _ => Ok(()),
    }
}

/// The worker that serves a vNIC, of `workers`. Peers compute the same.
pub(crate) fn worker_of(vnic: VnicId, workers: usize) -> Option<usize> {
    let workers = u64::try_from(workers).ok().filter(|n| *n > 0)?;
    usize::try_from(vnic.get() % workers).ok()
}

/// Wire segments of a frame, from its offload alone.
fn segments(frame: &FrameRef<'_>) -> u32 {
    let mut head = [0; HEAD_LEN];
    if frame.offload.gso.is_none() {
        return 1;
    }
    let len = frame.copy_at(0, &mut head);
    wireonce_frame::Headers::parse(&head[..len], frame.frame_len()).map_or(1, |headers| {
        wireonce_frame::segment::segment_count(frame.frame_len(), &frame.offload, &headers)
    })
}
