//! Into a vNIC's shaper and out of it: what [`super::shaped`] decides, done and booked.

use super::{
    port::{Books, Port, way_outside},
    shaped::{Offer, Shaped},
    transmit::{self, Verdict},
};
use wireonce_directory::{Directory, Route};
use wireonce_frame::{FrameSource, SliceSource, segment::WireCost};
use wireonce_ledger::DropReason;
use wireonce_link::{Fabric, Outbound, PeerId};
use wireonce_queue::Held;
use wireonce_wire::Endpoint;

/// A frame for a peer.
#[derive(Debug)]
pub(super) struct Shapeable<'a> {
    pub(super) peer: PeerId,
    pub(super) block: &'a Outbound,
    pub(super) cost: WireCost,
    /// It can stay in the ring.
    pub(super) may_wait: bool,
}

/// Sends a frame of a vNIC whose home is shaped, or whose server's port is divided: at its rate, if it is
/// for the home, and at its part of the port, whoever it is for.
pub(super) fn send<S: FrameSource>(
    shaped: &mut Shaped,
    books: &mut Books,
    fabric: &mut Fabric,
    outbound: &Shapeable<'_>,
    frame: &mut S,
    now_us: u64,
) -> Verdict {
    let Shapeable { peer, block, cost, may_wait } = *outbound;
    if !matches!(block.destination, Endpoint::Uplink(_)) {
        // A broadcast's copies are no traffic that would wait behind others.
        if may_wait {
            shaped.passed_by(now_us);
        }
        if !shaped.may_pass_by(may_wait, now_us) {
            return if may_wait { Verdict::Wait } else { Verdict::Drop(DropReason::Shaped) };
        }
        let verdict = transmit::send(&mut books.fabric_tx, fabric, peer, block, frame, now_us);
        if verdict == Verdict::Sent {
            shaped.passed_port(frame.frame_len(), now_us);
        }
        return verdict;
    }
    match shaped.offer(frame.frame_len(), now_us) {
        Offer::Send => {
            let verdict = transmit::send(&mut books.fabric_tx, fabric, peer, block, frame, now_us);
            if verdict == Verdict::Sent {
                shaped.sent(frame.frame_len(), cost, now_us);
            }
            verdict
        }
        Offer::Wait if may_wait => Verdict::Wait,
        Offer::Wait | Offer::Hold => {
            let mut bytes = vec![0; frame.frame_len()];
            frame.read(&mut bytes);
            let held = Held {
                bytes,
                offload: block.offload,
                flow_hash: block.flow_hash,
                ecn: block.ecn,
                amount: block.amount,
                cost,
                since_us: now_us,
            };
            let guest_tx = &mut books.guest_tx;
            shaped.hold(held, &mut |frame| guest_tx.drop(DropReason::Shaped, frame.amount));
            Verdict::Held
        }
    }
}

/// Sends what waited and may go now. Returns how many frames went.
pub(super) fn drain(
    port: &mut Port,
    fabric: &mut Fabric,
    directory: &Directory,
    now_us: u64,
) -> usize {
    let Some(shaped) = port.shaped.as_deref_mut() else { return 0 };
    let mut frames = 0;
    if shaped.has_waiting() {
        // Asked now: the home may be another than when the frames came.
        let way = way_outside(port.home.as_ref(), directory, &port.vnic);
        let Books { guest_tx, fabric_tx, .. } = &mut port.books;
        loop {
            let next =
                shaped.next(now_us, &mut |late| guest_tx.drop(DropReason::Shaped, late.amount));
            let Some(held) = next else { break };
            let (amount, cost) = (held.amount, held.cost);
            let verdict = match way {
                Route::Peer(peer, destination) => {
                    let block = Outbound {
                        source: Endpoint::Vnic(port.vnic.id),
                        destination,
                        offload: held.offload,
                        flow_hash: held.flow_hash,
                        ecn: held.ecn,
                        account: port.vnic.id.get(),
                        amount,
                    };
                    let mut source = SliceSource::new(&held.bytes);
                    transmit::send(fabric_tx, fabric, peer, &block, &mut source, now_us)
                }
                Route::Drop(reason) => Verdict::Drop(reason),
                Route::LocalVnic(_) | Route::LocalUplink(_) | Route::Outside => {
                    Verdict::Drop(DropReason::NoRoute)
                }
            };
            match verdict {
                Verdict::Sent => {
                    guest_tx.output += amount;
                    shaped.done(Some(cost), now_us);
                    frames += 1;
                }
                Verdict::Drop(reason) => {
                    guest_tx.drop(reason, amount);
                    shaped.done(None, now_us);
                }
                Verdict::Busy | Verdict::Wait | Verdict::Held => break,
            }
        }
    }
    if shaped.may_go_on(now_us) {
        for queue in port.tx.iter_mut().flatten() {
            queue.held = false;
        }
    }
    frames
}
