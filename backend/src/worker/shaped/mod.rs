//! A vNIC's way to its home, at the rate that it has: queue, bucket, back-pressure. Pure.
//!
//! ```text
//!   frame for the home ─▶ nothing waits, and the buckets have credit ────────▶ link
//!                     ├─▶ room in the queue ─▶ queue, by flow ─▶ buckets ────▶ link
//!                     └─▶ no room: stays in the guest's ring ── nothing else of the vNIC moves
//!                         or takes the place of the longest flow's (`shaped`)  ── else
//! ```
//! **A throttled guest loses nothing**: its ring fills, and its own queueing works. But the ring
//! is one line, and who stands behind in it may be for a VM next door. So a vNIC that has
//! sent anything to others than its home in the last ten seconds is not stopped; its queue drops
//! then, as CoDel (`wireonce_queue`) says and when it is full.
//!
//! There is a bucket of wire bits, and one of packets if the vNIC has a limit in packets: a frame
//! goes when neither is empty, and takes its segments from the second.
//!
//! If the server's fabric port is divided, the vNIC has a part of that, too (`port`): a third bucket, of which
//! frames for VMs of other servers take as well. When that is empty the ring waits, whoever the next frame
//! is for: all that crosses the fabric waits for the same.
//!
//! A frame that waited for over a millisecond is marked, if it can be (ECN), whoever drops.

mod port;

use self::port::PortGate;
use crate::shares::{Toward, VnicShare, VnicUse, WaitsFor, Waker};
use std::sync::Arc;
use wireonce_frame::segment::WireCost;
use wireonce_queue::{Held, MARK_US, Queue, burst_bits, burst_packets, mark};
use wireonce_shares::Bucket;

/// Bytes that may wait for one vNIC's share.
const BYTES_MAX: usize = 256 << 10;
/// Beyond that, for copies of broadcasts, which are few and small.
const COPIES_MAX: usize = 16 << 10;
/// So long after a frame to somebody else than the home the guest's ring is not stopped.
const OTHERS_US: u64 = 10_000_000;
/// Shortest and longest time between two looks while frames wait: not one wake-up for each
/// frame, and a raised rate is seen soon.
const LOOK_MIN_US: u64 = 200;
const LOOK_MAX_US: u64 = 2_000;

/// What to do with a frame for the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// Send it, and say so ([`Shaped::sent`]).
    Send,
    /// Queue it ([`Shaped::hold`]).
    Hold,
    /// Leave it in the ring.
    Wait,
}

/// The shaper of one vNIC.
#[derive(Debug)]
pub(super) struct Shaped {
    share: Arc<VnicShare>,
    waker: Arc<Waker>,
    bucket: Bucket,
    port: PortGate,
    /// If there is a limit in packets.
    packets: Option<Bucket>,
    /// What a frame had to wait for last.
    waits_for: WaitsFor,
    queue: Queue,
    /// When a frame last went to others than the home.
    others_us: Option<u64>,
    /// The next frame in the queue has its mark, or needs none.
    front_is_ready: bool,
}

impl Shaped {
    pub(super) fn new(share: Arc<VnicShare>, waker: Arc<Waker>, now_us: u64) -> Self {
        let rate_bps = share.allowed_bps(now_us);
        Self {
            share,
            waker,
            bucket: Bucket::new(rate_bps, burst_bits(rate_bps), now_us),
            port: PortGate::default(),
            packets: None,
            waits_for: WaitsFor::Bits,
            queue: Queue::new(BYTES_MAX),
            others_us: None,
            front_is_ready: false,
        }
    }

    /// A frame of `len` bytes for the home stands in front of the ring.
    #[inline]
    pub(super) fn offer(&mut self, len: usize, now_us: u64) -> Offer {
        if self.queue.is_empty() && self.has_credit(now_us) {
            return Offer::Send;
        }
        self.share.hold(self.waits_for, self.queue.bytes());
        self.waker.wake();
        if self.waits_for == WaitsFor::Port {
            // Whatever stands behind it waits for the port as well.
            return Offer::Wait;
        }
        if self.queue.has_room(len) || !self.may_stop(now_us) { Offer::Hold } else { Offer::Wait }
    }

    /// A frame for a VM of another server: may it cross the port now? One that cannot stay in the ring
    /// (a broadcast's copy) goes a little in advance.
    #[inline]
    pub(super) fn may_pass_by(&mut self, may_wait: bool, now_us: u64) -> bool {
        if self.port.is_ready(&self.share, now_us) {
            return true;
        }
        self.share.port.hold(Toward::Others);
        self.waker.wake();
        if may_wait {
            self.port.wait(Toward::Others);
        }
        !may_wait && self.port.may_advance(now_us)
    }

    /// A frame of `len` bytes went to a VM of another server.
    #[inline]
    pub(super) fn passed_port(&mut self, len: usize, now_us: u64) {
        if self.port.is_divided() {
            self.port.charge(&self.share, Toward::Others, len, now_us);
            self.waker.wake();
        }
    }

    /// A frame of `len` bytes went to the home.
    #[inline]
    pub(super) fn sent(&mut self, len: usize, cost: WireCost, now_us: u64) {
        self.port.charge(&self.share, Toward::Home, len, now_us);
        self.bucket.take(cost.bits(), now_us);
        if let Some(packets) = &mut self.packets {
            packets.take(cost.segments.into(), now_us);
        }
        self.share.served(cost);
        self.waker.wake();
    }

    /// A frame went to somebody else, or there was one to go.
    #[inline]
    pub(super) fn passed_by(&mut self, now_us: u64) {
        self.others_us = Some(now_us);
    }

    /// Queues a frame. Those that have to make room for it go to `dropped`; or itself, if it
    /// is a broadcast's copy, which cannot wait in the ring of a guest that is stopped and is to
    /// lose nothing of what is queued.
    pub(super) fn hold(&mut self, frame: Held, dropped: &mut impl FnMut(&Held)) {
        if self.may_stop(frame.since_us)
            && !self.queue.has_room_beyond(frame.bytes.len(), COPIES_MAX)
        {
            dropped(&frame);
            return;
        }
        while !self.may_stop(frame.since_us)
            && !self.queue.has_room(frame.bytes.len())
            && let Some(evicted) = self.queue.evict()
        {
            self.front_is_ready = false;
            dropped(&evicted);
        }
        self.queue.push(frame);
        self.share.hold(self.waits_for, self.queue.bytes());
    }

    /// The frame to send next, if it may go now, marked if it is to be. Those that are late, and
    /// whose sender does not slow down, go to `dropped`.
    pub(super) fn next(&mut self, now_us: u64, dropped: &mut impl FnMut(&Held)) -> Option<&Held> {
        if self.queue.is_empty() {
            return None;
        }
        if !self.has_credit(now_us) {
            self.share.hold(self.waits_for, self.queue.bytes());
            // The thread may have fallen asleep just when the frame came.
            self.waker.wake();
            return None;
        }
        // What the link could not take at the last call is not judged twice.
        if !self.front_is_ready {
            self.queue.front()?;
            while !self.may_stop(now_us) && self.queue.front_is_late(now_us) {
                if let Some(late) = self.queue.pop() {
                    dropped(&late);
                }
                self.queue.front()?;
            }
            self.front_is_ready = true;
        }
        let front = self.queue.front()?;
        if now_us.saturating_sub(front.since_us) > MARK_US {
            mark(front);
        }
        Some(front)
    }

    /// The frame that [`Self::next`] showed is gone; it was sent if it has a cost.
    pub(super) fn done(&mut self, cost: Option<WireCost>, now_us: u64) {
        let len = self.queue.pop().map_or(0, |held| held.bytes.len());
        self.front_is_ready = false;
        if let Some(cost) = cost {
            self.sent(len, cost, now_us);
        }
        if self.queue.is_empty() {
            self.share.relieve();
        } else {
            self.share.hold(self.waits_for, self.queue.bytes());
        }
    }

    /// The vNIC is gone: what waits goes to `dropped`.
    pub(super) fn give_up(mut self, dropped: &mut impl FnMut(&Held)) {
        while let Some(frame) = self.queue.evict() {
            dropped(&frame);
        }
    }

    /// Its rate is what `share` says from now on. What waits stays.
    pub(super) fn use_share(&mut self, share: Arc<VnicShare>) {
        if !Arc::ptr_eq(&self.share, &share) {
            self.share.relieve();
            self.share = share;
            if !self.queue.is_empty() {
                self.share.hold(self.waits_for, self.queue.bytes());
            }
        }
    }

    /// True if it is not needed any more: the home is not shaped, and nothing waits.
    pub(super) fn is_over(&self) -> bool {
        self.queue.is_empty() && self.share.is_open()
    }

    /// True while frames wait.
    pub(super) fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// A ring that was stopped may go on.
    pub(super) fn may_go_on(&mut self, now_us: u64) -> bool {
        let waits = self.port.still_waits(&self.share, now_us);
        if waits {
            // As long as it does, the thread is to know.
            self.waker.wake();
        }
        !waits && self.queue.is_low()
    }

    /// When to look again; `None` if nothing waits.
    pub(super) fn next_us(&self, now_us: u64) -> Option<u64> {
        let bits_us = self.bucket.next_us().unwrap_or(u64::MAX);
        let packets_us = self.packets.as_ref().and_then(Bucket::next_us).unwrap_or(0);
        let port_us = self.port.next_us();
        let queue_us = bits_us.max(packets_us).max(port_us.unwrap_or(0));
        let queue_us = (!self.queue.is_empty()).then_some(queue_us);
        let ring_us = port_us.filter(|_| self.port.is_waited_for());
        let look = |us: u64| us.clamp(now_us + LOOK_MIN_US, now_us + LOOK_MAX_US);
        queue_us.into_iter().chain(ring_us).min().map(look)
    }

    /// For people.
    pub(super) fn in_use(&self, now_us: u64) -> VnicUse {
        self.share.in_use(now_us)
    }

    /// Takes the rates that hold now, and says whether a frame may go.
    fn has_credit(&mut self, now_us: u64) -> bool {
        if !self.port.is_ready(&self.share, now_us) {
            // Asked first: with a larger lease it would wait, too.
            self.waits_for = WaitsFor::Port;
            self.port.wait(Toward::Home);
            return false;
        }
        let rate_bps = self.share.allowed_bps(now_us);
        if rate_bps != self.bucket.rate() {
            self.bucket.set(rate_bps, burst_bits(rate_bps), now_us);
        }
        let limit = self.share.limit_packets();
        let is_over = match self.waits_for {
            WaitsFor::Bits => false,
            WaitsFor::Packets => limit == 0,
            WaitsFor::Port => !self.port.is_divided(),
        };
        if is_over {
            self.waits_for = WaitsFor::Bits;
        }
        if limit == 0 {
            self.packets = None;
        } else if !self.has_packets(limit.into(), now_us) {
            // Asked first: with more bandwidth it would wait, too.
            self.waits_for = WaitsFor::Packets;
            return false;
        }
        let is_ready = self.bucket.is_ready(now_us);
        if !is_ready {
            self.waits_for = WaitsFor::Bits;
        }
        is_ready
    }

    /// Takes the limit in packets that holds now, and says whether a frame may go.
    fn has_packets(&mut self, packets_per_s: u64, now_us: u64) -> bool {
        let burst = burst_packets(packets_per_s);
        let bucket = self.packets.get_or_insert_with(|| Bucket::new(packets_per_s, burst, now_us));
        if packets_per_s != bucket.rate() {
            bucket.set(packets_per_s, burst, now_us);
        }
        bucket.is_ready(now_us)
    }

    /// Nothing else of the vNIC would stand behind a frame that waits in the ring.
    fn may_stop(&self, now_us: u64) -> bool {
        self.others_us.is_none_or(|us| now_us.saturating_sub(us) >= OTHERS_US)
    }
}

#[cfg(test)]
mod tests;
