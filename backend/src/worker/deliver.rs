//! Into a guest's ring: the last hop.
//!
//! What the guest's driver cannot take is done here and only here: a large segment
//! is cut, an open checksum completed. The frame is then written over as many
//! receive buffers as it needs; the guest is shown all of a batch at once.

use super::{
    cost,
    port::{Port, RxQueue},
    waiting::Waiting,
};
use crate::{
    net::check_ingress,
    virtqueue::{Delivered, RingError},
};
use wireonce_frame::{
    FrameRef, HEAD_LEN, Headers, Offload, OffloadFeatures, Work,
    flow::flow_hash,
    segment::{finish_checksum, segment, segment_count},
};
use wireonce_ledger::{Amount, DropReason};

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// CPU time that it cost, in nanoseconds.
    pub(super) cost_ns: i64,
    /// The same for delivering it later, if it waits: the second copy.
    pub(super) later_ns: i64,
    /// The queue pair at which the frame waits for buffers.
    pub(super) waits: Option<usize>,
}

/// Waiting frames that are delivered in one go.
const REDELIVERED_MAX: usize = 512;

/// Delivers `frame`, whose first bytes are `head`, to the guest and books it, or keeps it
/// until the guest has buffers. A broken ring is returned as an error, with its pair.
///
/// A guest can make a delivery dear: by buffers of one byte, by malformed chains. What is
/// beyond the usual is taken from the port's own credit for this turn; without any,
/// frames for it are dropped at little cost.
pub(super) fn deliver(
    port: &mut Port,
    frame: &FrameRef<'_>,
    head: &[u8],
    scratch: &mut Vec<u8>,
    now_us: u64,
) -> Result<Placed, (usize, RingError)> {
    let cost_ns = cost::frame_ns(frame.frame_len());
    let done = Placed { cost_ns, later_ns: 0, waits: None };
    let amount = Amount::frame(frame.frame_len(), 1);
    if port.rx_credit_ns <= 0 {
        refuse(port, DropReason::NoRxBuffers, amount);
        return Ok(done);
    }
    let (pair, amount) = match choose(port, frame, head) {
        Ok(chosen) => chosen,
        Err((reason, amount)) => {
            refuse(port, reason, amount);
            return Ok(done);
        }
    };
    let Some(queue) = port.rx.get_mut(pair).and_then(Option::as_mut) else { return Ok(done) };
    if !queue.has_waiting() {
        match put(port, pair, frame, head, amount, scratch)? {
            Some(work_ns) => return Ok(Placed { cost_ns: cost_ns + work_ns, ..done }),
            None if port.rx[pair].as_ref().is_none_or(|queue| queue.stalled) => {
                refuse(port, DropReason::NoRxBuffers, amount);
                return Ok(done);
            }
            None => {}
        }
    }
    wait(port, pair, frame, head, amount, now_us);
    Ok(Placed { cost_ns, later_ns: cost_ns, waits: Some(pair) })
}

/// Gives the guest what waits for buffers of `pair`, as far as it has any now. Returns
/// whether there is more.
pub(super) fn redeliver(
    port: &mut Port,
    pair: usize,
    scratch: &mut Vec<u8>,
    now_us: u64,
) -> Result<bool, (usize, RingError)> {
    let Some(queue) = port.rx.get_mut(pair).and_then(Option::as_mut) else { return Ok(false) };
    let enabled = queue.common.enabled;
    let Some(mut waiting) = queue.waiting.take() else { return Ok(false) };
    let mut result = Ok(());
    for _ in 0..REDELIVERED_MAX {
        if port.rx_credit_ns <= 0 || !enabled {
            break;
        }
        let Some(next) = waiting.front() else { return Ok(false) };
        let parts = [next.bytes];
        let frame = FrameRef::new(&parts, next.offload);
        let head = next.bytes.get(..HEAD_LEN).unwrap_or(next.bytes);
        match put(port, pair, &frame, head, next.amount, scratch) {
            Ok(Some(_)) => waiting.pop(now_us),
            Ok(None) => break,
            Err(error) => {
                // It was booked as dropped.
                waiting.pop(now_us);
                result = Err(error);
                break;
            }
        }
    }
    let stalled = waiting.is_stalled(now_us);
    let Some(queue) = port.rx.get_mut(pair).and_then(Option::as_mut) else { return Ok(false) };
    queue.stalled = stalled;
    queue.waiting = Some(waiting);
    if stalled || !enabled {
        let reason = if enabled { DropReason::NoRxBuffers } else { DropReason::PortDown };
        port.drop_waiting(pair, reason);
        return result.map(|()| false);
    }
    // The sooner the guest sees what it has, the sooner it posts more.
    publish_queue(queue);
    result.map(|()| true)
}

/// The pair for a frame and what is booked for it; or why the guest does not get it.
#[inline]
fn choose(
    port: &Port,
    frame: &FrameRef<'_>,
    head: &[u8],
) -> Result<(usize, Amount), (DropReason, Amount)> {
    let len = frame.frame_len();
    let Ok(headers) = Headers::parse(head, len) else {
        return Err((DropReason::BadHeaders, Amount::frame(len, 1)));
    };
    let amount = Amount::frame(len, segment_count(len, &frame.offload, &headers));
    check_ingress(&port.policy, head).map_err(|reason| (reason, amount))?;
    let pair = choose_pair(port, &headers, head).ok_or((DropReason::PortDown, amount))?;
    let queue = port.rx.get(pair).and_then(Option::as_ref).ok_or((DropReason::PortDown, amount))?;
    // More pieces than there can be buffers: the rest would be cut for nothing.
    if amount.segments > u64::from(queue.ring.ring().size())
        && frame.offload.work_for(port.to_guest) == Work::Segment
    {
        return Err((DropReason::NoRxBuffers, amount));
    }
    Ok((pair, amount))
}

/// Writes `frame` to the ring and books it. Returns the CPU time that it took beyond the
/// usual, in nanoseconds, or `None` if the ring has no room: nothing is booked then.
#[inline]
fn put(
    port: &mut Port,
    pair: usize,
    frame: &FrameRef<'_>,
    head: &[u8],
    amount: Amount,
    scratch: &mut Vec<u8>,
) -> Result<Option<i64>, (usize, RingError)> {
    let features = port.to_guest;
    let Some(queue) = port.rx.get_mut(pair).and_then(Option::as_mut) else { return Ok(None) };
    let mut pieces = 0;
    let done = match frame.offload.work_for(features) {
        Work::Nothing => write(queue, frame, head, features),
        Work::Checksum => write_finished(queue, frame, scratch, features),
        Work::Segment => {
            let buffers = queue.ring.ring_mut().available().map_err(|error| (pair, error))?;
            if u64::from(buffers) < amount.segments {
                return Ok(None);
            }
            pieces = u32::try_from(amount.segments).unwrap_or(u32::MAX);
            deliver_segments(port, pair, frame, scratch, amount)?;
            return Ok(Some(charge(port, pair, frame.frame_len(), pieces)));
        }
    };
    let books = &mut port.books.guest_rx;
    match done {
        Ok(Some(DropReason::NoRxBuffers)) => return Ok(None),
        Ok(None) => {
            queue.stalled = false;
            books.input += amount;
            books.output += amount;
        }
        Ok(Some(reason)) => {
            books.input += amount;
            books.drop(reason, amount);
        }
        Err(error) => {
            books.input += amount;
            books.drop(DropReason::PortDown, amount);
            return Err((pair, error));
        }
    }
    Ok(Some(charge(port, pair, frame.frame_len(), pieces)))
}

/// What a delivery took beyond the usual, in nanoseconds; much of it is the guest's to pay.
#[inline]
fn charge(port: &mut Port, pair: usize, len: usize, pieces: u32) -> i64 {
    let queue = port.rx.get_mut(pair).and_then(Option::as_mut);
    let descriptors = queue.map_or(0, |queue| queue.ring.ring_mut().take_walked());
    let work_ns = cost::descriptors_ns(descriptors) + i64::from(pieces) * cost::frame_ns(0);
    if !cost::is_usual(len, descriptors, pieces) {
        port.rx_credit_ns -= work_ns;
    }
    work_ns
}

/// Keeps a frame until the guest has buffers.
fn wait(
    port: &mut Port,
    pair: usize,
    frame: &FrameRef<'_>,
    head: &[u8],
    amount: Amount,
    now_us: u64,
) {
    let Some(queue) = port.rx.get_mut(pair).and_then(Option::as_mut) else { return };
    let books = &mut port.books.guest_rx;
    let waiting = queue.waiting.get_or_insert_with(|| Box::new(Waiting::new(now_us)));
    waiting.push(frame, head, amount, |lost| {
        books.input += lost;
        books.drop(DropReason::NoRxBuffers, lost);
    });
}

/// Shows the guest what was delivered since the last call.
pub(super) fn publish(port: &mut Port) {
    port.rx.iter_mut().flatten().for_each(publish_queue);
}

fn publish_queue(queue: &mut RxQueue) {
    if std::mem::take(&mut queue.dirty) && queue.ring.publish_and_notify() {
        queue.common.interrupt();
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

fn refuse(port: &mut Port, reason: DropReason, amount: Amount) {
    port.books.guest_rx.input += amount;
    port.books.guest_rx.drop(reason, amount);
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
