//! Into a guest's ring: the last hop.
//!
//! What the guest's driver cannot take is done here and only here: a large segment
//! is cut, an open checksum completed. The frame is then written over as many
//! receive buffers as it needs; the guest is shown all of a batch at once.

use super::{
    cost,
    port::{Port, RxQueue},
};
use crate::{
    net::check_ingress,
    virtqueue::{Delivered, RingError},
};
use wireonce_frame::{
    FrameRef, Headers, Offload, OffloadFeatures, Work,
    flow::flow_hash,
    segment::{finish_checksum, segment, segment_count},
};
use wireonce_ledger::{Amount, DropReason};

/// Delivers `frame`, whose first bytes are `head`, to the guest and books it. Returns the CPU time that it cost, in
/// nanoseconds. A broken ring is returned as an error, with its pair.
///
/// A guest can make a delivery dear: by buffers of one byte, by malformed chains. What is
/// beyond the usual is taken from the port's own credit for this turn; without any,
/// frames for it are dropped at little cost.
pub(super) fn deliver(
    port: &mut Port,
    frame: &FrameRef<'_>,
    head: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<i64, (usize, RingError)> {
    let cost_ns = cost::frame_ns(frame.frame_len());
    if port.rx_credit_ns <= 0 {
        let amount = Amount::frame(frame.frame_len(), 1);
        return refuse(port, DropReason::NoRxBuffers, amount).map(|()| cost_ns);
    }
    let (pair, pieces) = place(port, frame, head, scratch)?;
    let queue = pair.and_then(|pair| port.rx.get_mut(pair)).and_then(Option::as_mut);
    let descriptors = queue.map_or(0, |queue| queue.ring.ring_mut().take_walked());
    let work_ns = cost::descriptors_ns(descriptors) + i64::from(pieces) * cost::frame_ns(0);
    if !cost::is_usual(frame.frame_len(), descriptors, pieces) {
        port.rx_credit_ns -= work_ns;
    }
    Ok(cost_ns + work_ns)
}

/// Chooses the ring and writes `frame` there. Returns the ring's pair and the number of
/// pieces, the first being part of every frame's cost.
fn place(
    port: &mut Port,
    frame: &FrameRef<'_>,
    head: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<(Option<usize>, u32), (usize, RingError)> {
    const REFUSED: (Option<usize>, u32) = (None, 0);
    let len = frame.frame_len();
    let Ok(headers) = Headers::parse(head, len) else {
        return refuse(port, DropReason::BadHeaders, Amount::frame(len, 1)).map(|()| REFUSED);
    };
    let amount = Amount::frame(len, segment_count(len, &frame.offload, &headers));
    if let Err(reason) = check_ingress(&port.policy, head) {
        return refuse(port, reason, amount).map(|()| REFUSED);
    }
    let Some(pair) = choose_pair(port, &headers, head) else {
        return refuse(port, DropReason::PortDown, amount).map(|()| REFUSED);
    };
    let features = port.to_guest;
    let Some(queue) = port.rx.get_mut(pair).and_then(Option::as_mut) else {
        return refuse(port, DropReason::PortDown, amount).map(|()| REFUSED);
    };
    let done = match frame.offload.work_for(features) {
        Work::Nothing => write(queue, frame, head, features),
        Work::Checksum => write_finished(queue, frame, scratch, features),
        // More pieces than there can be buffers: the rest would be cut for nothing.
        Work::Segment if amount.segments > u64::from(queue.ring.ring().size()) => {
            return refuse(port, DropReason::NoRxBuffers, amount).map(|()| REFUSED);
        }
        Work::Segment => {
            let pieces = u32::try_from(amount.segments).unwrap_or(u32::MAX);
            deliver_segments(port, pair, frame, scratch, amount)?;
            return Ok((Some(pair), pieces));
        }
    };
    port.books.guest_rx.input += amount;
    match done {
        Ok(None) => port.books.guest_rx.output += amount,
        Ok(Some(reason)) => port.books.guest_rx.drop(reason, amount),
        Err(error) => {
            port.books.guest_rx.drop(DropReason::PortDown, amount);
            return Err((pair, error));
        }
    }
    Ok((Some(pair), 0))
}

/// Shows the guest what was delivered since the last call.
pub(super) fn publish(port: &mut Port) {
    for queue in port.rx.iter_mut().flatten() {
        if std::mem::take(&mut queue.dirty) && queue.ring.publish_and_notify() {
            queue.common.interrupt();
        }
    }
}

/// The receive queue for a flow: all frames of a flow take the same one, and none is
/// chosen that the guest does not use.
fn choose_pair(port: &Port, headers: &Headers, head: &[u8]) -> Option<usize> {
    let usable = |queue: &&Option<RxQueue>| queue.as_ref().is_some_and(|q| q.common.enabled);
    let count = port.rx.iter().filter(usable).count();
    let wanted = match count {
        0 => return None,
        1 => 0,
        _ => flow_hash(headers, head) as usize % count,
    };
    port.rx.iter().enumerate().filter(|(_, queue)| usable(queue)).nth(wanted).map(|(pair, _)| pair)
}

fn refuse(port: &mut Port, reason: DropReason, amount: Amount) -> Result<(), (usize, RingError)> {
    port.books.guest_rx.input += amount;
    port.books.guest_rx.drop(reason, amount);
    Ok(())
}

fn write(
    queue: &mut RxQueue,
    frame: &FrameRef<'_>,
    head: &[u8],
    features: OffloadFeatures,
) -> Result<Option<DropReason>, RingError> {
    let header = frame.offload.to_vnet(head, features);
    let delivered = queue.ring.deliver(header, frame)?;
    // A refusal may have returned malformed chains: the guest is to see that, too.
    queue.dirty = true;
    Ok(match delivered {
        Delivered::Yes { .. } => None,
        Delivered::NoBuffers => Some(DropReason::NoRxBuffers),
        Delivered::BufferSmall => Some(DropReason::RxBufferSmall),
        Delivered::BadChain => Some(DropReason::BadChain),
    })
}

fn write_finished(
    queue: &mut RxQueue,
    frame: &FrameRef<'_>,
    scratch: &mut Vec<u8>,
    features: OffloadFeatures,
) -> Result<Option<DropReason>, RingError> {
    let Ok(finished) = finish_checksum(frame, scratch) else {
        return Ok(Some(DropReason::BadOffload));
    };
    let parts = [finished];
    write(queue, &FrameRef::new(&parts, Offload::default()), finished, features)
}

/// Cuts the frame for a guest that takes no large segments. Each piece may find a
/// buffer or not: the frame counts as delivered if one did, its pieces one by one.
fn deliver_segments(
    port: &mut Port,
    pair: usize,
    frame: &FrameRef<'_>,
    scratch: &mut Vec<u8>,
    amount: Amount,
) -> Result<(), (usize, RingError)> {
    let features = port.to_guest;
    let Some(queue) = port.rx.get_mut(pair).and_then(Option::as_mut) else { return Ok(()) };
    let mut delivered = 0_u64;
    let mut failure = None;
    let mut broken = None;
    let cut = segment(frame, scratch, &mut |piece| {
        let parts = [piece];
        let piece = FrameRef::new(&parts, Offload::default());
        match write(queue, &piece, parts[0], features) {
            Ok(None) => delivered += 1,
            Ok(Some(reason)) => failure = Some(reason),
            Err(error) => broken = Some(error),
        }
    });
    if cut.is_err() {
        failure = Some(DropReason::BadOffload);
    }
    let books = &mut port.books.guest_rx;
    books.input += amount;
    let delivered = delivered.min(amount.segments);
    let lost = Amount {
        frames: u64::from(delivered == 0),
        segments: amount.segments - delivered,
        bytes: amount.bytes * (amount.segments - delivered) / amount.segments.max(1),
    };
    if lost != Amount::ZERO {
        let reason = if broken.is_some() { DropReason::PortDown } else { DropReason::NoRxBuffers };
        books.drop(failure.unwrap_or(reason), lost);
    }
    books.output += Amount {
        frames: amount.frames - lost.frames,
        segments: delivered,
        bytes: amount.bytes - lost.bytes,
    };
    broken.map_or(Ok(()), |error| Err((pair, error)))
}
