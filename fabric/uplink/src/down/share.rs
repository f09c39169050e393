//! What the workers and the thread tell each other of a vNIC: atomics, no lock.
//!
//! ```text
//!   workers                                        thread
//!     ├── served bits, held back, what waits ──────▶  meter
//!     ◀── credit, at the rate of the last division ──┤
//!     ◀── credit of packets, at the policy's limit ──┤
//! ```
//! **Memory is bounded twice**: for a vNIC, and for the gateway. The more is in use, the less one
//! vNIC may have, and within it one worker, so that there is always some room for who comes
//! anew: *my frames <= factor x what is free* (the dynamic thresholds of Choudhury and Hahne).

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};
use wireonce_frame::segment::WireCost;
use wireonce_queue::Credit;

/// Bytes that may wait for one vNIC at one uplink, in all workers together.
pub(crate) const VNIC_BYTES_MAX: usize = 512 << 10;
/// Bytes that may wait at the gateway.
pub(crate) const GATEWAY_BYTES_MAX: usize = 64 << 20;
/// A vNIC may have a sixteenth of what is free at the gateway.
const GATEWAY_PART: usize = 16;
/// A worker may have eight times what is free for the vNIC.
const WORKER_FACTOR: usize = 8;

/// What waits at the gateway.
#[derive(Debug, Default)]
pub(crate) struct Store {
    bytes: AtomicUsize,
}

/// One vNIC that frames may come for through an uplink.
#[derive(Debug)]
pub(crate) struct VnicDown {
    pub(crate) credit: Credit,
    /// At no rate if there is no limit in packets.
    packets: Credit,
    store: Arc<Store>,
    queued_bytes: AtomicUsize,
    served_bits: AtomicU64,
    served_packets: AtomicU64,
    dropped_frames: AtomicU64,
    marked_frames: AtomicU64,
    /// For how long something had to wait, and for packets: written by the thread alone.
    held_us: AtomicU64,
    packets_held_us: AtomicU64,
    held: AtomicBool,
    /// The same for the limit in packets, whatever the rate.
    packets_held: AtomicBool,
    /// What waits now does so for the limit in packets.
    waits_for_packets: AtomicBool,
    demand_bps: AtomicU64,
}

/// What a frame waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum WaitsFor {
    /// The vNIC's rate.
    #[default]
    Bits,
    /// Its limit in packets: more bandwidth would be of no use.
    Packets,
}

/// What the workers have counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meter {
    pub(super) served_bits: u64,
    /// Something had to wait for the rate since the last look.
    pub(super) held: bool,
    /// Something had to wait, and be it for the limit in packets.
    pub(super) waited: bool,
}

/// A vNIC's bandwidth, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VnicUse {
    pub(super) rate_bps: u64,
    /// `u64::MAX`: more than it may have.
    pub(super) demand_bps: u64,
    pub(super) held: bool,
    pub(super) held_us: u64,
    pub(super) packets_held: bool,
    pub(super) packets_held_us: u64,
    pub(super) marked_frames: u64,
    pub(super) queued_bytes: u64,
    pub(super) served_bits: u64,
    pub(super) served_packets: u64,
    pub(super) limit_packets_per_s: Option<u32>,
    pub(super) dropped_frames: u64,
}

impl VnicDown {
    /// One that has a burst, and no rate yet.
    pub(crate) fn new(store: Arc<Store>, now_us: u64) -> Self {
        Self {
            credit: Credit::new(0, now_us),
            packets: Credit::of_packets(0, now_us),
            store,
            queued_bytes: AtomicUsize::new(0),
            served_bits: AtomicU64::new(0),
            served_packets: AtomicU64::new(0),
            dropped_frames: AtomicU64::new(0),
            marked_frames: AtomicU64::new(0),
            held_us: AtomicU64::new(0),
            packets_held_us: AtomicU64::new(0),
            held: AtomicBool::new(false),
            packets_held: AtomicBool::new(false),
            waits_for_packets: AtomicBool::new(false),
            demand_bps: AtomicU64::new(0),
        }
    }

    /// A frame went to its server.
    #[inline]
    pub(crate) fn served(&self, cost: WireCost) {
        self.served_bits.fetch_add(cost.bits(), Relaxed);
        if self.packets.rate() > 0 {
            self.served_packets.fetch_add(cost.segments.into(), Relaxed);
        }
    }

    /// A frame was dropped because too much waits.
    pub(crate) fn dropped(&self) {
        self.dropped_frames.fetch_add(1, Relaxed);
    }

    /// A frame was marked because it waited.
    pub(crate) fn marked(&self) {
        self.marked_frames.fetch_add(1, Relaxed);
    }

    /// The credit of packets, if there is a limit.
    #[inline]
    pub(crate) fn packets(&self) -> Option<&Credit> {
        (self.packets.rate() > 0).then_some(&self.packets)
    }

    /// Packets a second that it may have; `None`: any number.
    pub(crate) fn limit_packets(&self, packets_per_s: Option<u32>, now_us: u64) {
        let rate = packets_per_s.map_or(0, u64::from);
        if rate != self.packets.rate() {
            self.packets.set_rate(rate, now_us);
        }
    }

    /// A frame may go at once: it is paid for.
    #[inline]
    pub(crate) fn take(&self, cost: WireCost, now_us: u64) -> Result<(), WaitsFor> {
        let Some(packets) = self.packets() else {
            return if self.credit.take(cost.bits(), now_us) {
                Ok(())
            } else {
                Err(WaitsFor::Bits)
            };
        };
        if !packets.take(cost.segments.into(), now_us) {
            return Err(WaitsFor::Packets);
        }
        if !self.credit.take(cost.bits(), now_us) {
            packets.give_back(cost.segments.into());
            return Err(WaitsFor::Bits);
        }
        Ok(())
    }

    /// A frame waits. True if it is for the rate, and nothing has waited for that since the thread
    /// looked last.
    pub(crate) fn hold(&self, waits_for: WaitsFor) -> bool {
        let for_packets = waits_for == WaitsFor::Packets;
        if self.waits_for_packets.load(Relaxed) != for_packets {
            self.waits_for_packets.store(for_packets, Relaxed);
        }
        match waits_for {
            WaitsFor::Bits => !self.held.swap(true, Relaxed),
            WaitsFor::Packets => {
                self.packets_held.store(true, Relaxed);
                false
            }
        }
    }

    /// Wire bits that went to its server; it wraps.
    pub(super) fn served_bits(&self) -> u64 {
        self.served_bits.load(Relaxed)
    }

    /// Something waits for the rate, or had to since the last look.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Relaxed)
    }

    /// Makes room for `room` bytes of a worker that has `mine` waiting.
    pub(crate) fn take_room(&self, mine: usize, room: usize) -> bool {
        let stored = self.store.bytes.load(Relaxed);
        let most = VNIC_BYTES_MAX.min(GATEWAY_BYTES_MAX.saturating_sub(stored) / GATEWAY_PART);
        let queue = |queued: usize| {
            let free = most.checked_sub(queued.checked_add(room)?)?;
            (mine <= free.saturating_mul(WORKER_FACTOR)).then_some(queued + room)
        };
        if self.queued_bytes.fetch_update(Relaxed, Relaxed, queue).is_err() {
            return false;
        }
        let store = |stored: usize| (stored + room <= GATEWAY_BYTES_MAX).then_some(stored + room);
        let stored = self.store.bytes.fetch_update(Relaxed, Relaxed, store).is_ok();
        if !stored {
            self.queued_bytes.fetch_sub(room, Relaxed);
        }
        stored
    }

    /// So many bytes wait already, from before there was a bound for them.
    pub(crate) fn force_room(&self, room: usize) {
        self.queued_bytes.fetch_add(room, Relaxed);
        self.store.bytes.fetch_add(room, Relaxed);
    }

    /// So many bytes wait no more.
    pub(crate) fn give_room(&self, room: usize) {
        self.queued_bytes.fetch_sub(room, Relaxed);
        self.store.bytes.fetch_sub(room, Relaxed);
    }

    /// What was counted since the last call, `passed_us` ago, of which there is one at a time.
    pub(super) fn read(&self, passed_us: u64) -> Meter {
        let waits = self.queued_bytes.load(Relaxed) > 0;
        let for_packets = self.packets().is_some() && self.waits_for_packets.load(Relaxed);
        // Most do not wait, and a look costs less than a change.
        let was = |held: &AtomicBool, still: bool| {
            let was = still || held.load(Relaxed);
            if was {
                held.store(still, Relaxed);
            }
            was
        };
        let held = was(&self.held, waits && !for_packets);
        let packets_held = was(&self.packets_held, waits && for_packets);
        if held || packets_held {
            self.held_us.fetch_add(passed_us, Relaxed);
        }
        if packets_held {
            self.packets_held_us.fetch_add(passed_us, Relaxed);
        }
        Meter { served_bits: self.served_bits(), held, waited: held || packets_held }
    }

    /// Something had to wait since the last look, for the rate or for packets.
    pub(super) fn has_waited(&self) -> bool {
        self.is_held() || self.packets_held.load(Relaxed)
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.queued_bytes.load(Relaxed)
    }

    /// Wire bits that went to its server.
    #[cfg(test)]
    pub(crate) fn served_so_far(&self) -> u64 {
        self.served_bits()
    }

    /// Packets that went to its server.
    #[cfg(test)]
    pub(crate) fn packets_so_far(&self) -> u64 {
        self.served_packets.load(Relaxed)
    }

    /// Frames that were marked.
    #[cfg(test)]
    pub(crate) fn marked_so_far(&self) -> u64 {
        self.marked_frames.load(Relaxed)
    }

    /// Frames that were dropped.
    #[cfg(test)]
    pub(crate) fn dropped_so_far(&self) -> u64 {
        self.dropped_frames.load(Relaxed)
    }

    /// For people; `u64::MAX` for more than it may have.
    pub(super) fn wants(&self, demand_bps: u64) {
        self.demand_bps.store(demand_bps, Relaxed);
    }

    pub(super) fn in_use(&self) -> VnicUse {
        let limit = self.packets().map(Credit::rate);
        let packets_held = limit.is_some() && self.packets_held.load(Relaxed);
        VnicUse {
            rate_bps: self.credit.rate(),
            demand_bps: self.demand_bps.load(Relaxed),
            held: self.held.load(Relaxed) || packets_held,
            held_us: self.held_us.load(Relaxed),
            packets_held,
            packets_held_us: self.packets_held_us.load(Relaxed),
            marked_frames: self.marked_frames.load(Relaxed),
            queued_bytes: self.queued_bytes.load(Relaxed) as u64,
            served_bits: self.served_bits(),
            served_packets: self.served_packets.load(Relaxed),
            limit_packets_per_s: limit.and_then(|limit| u32::try_from(limit).ok()),
            dropped_frames: self.dropped_frames.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 1_642;

    fn vnic(store: &Arc<Store>) -> VnicDown {
        VnicDown::new(Arc::clone(store), 0)
    }

    /// Fills all that one worker gets. Returns how much that is.
    fn fill(vnic: &VnicDown) -> usize {
        let mut mine = 0;
        while vnic.take_room(mine, FRAME) {
            mine += FRAME;
        }
        mine
    }

    #[test]
    fn one_worker_has_most_of_a_vnic_s_room_and_another_always_some() {
        let vnic = vnic(&Arc::default());
        let first = fill(&vnic);
        assert!((VNIC_BYTES_MAX * 7 / 8..VNIC_BYTES_MAX).contains(&first), "{first}");
        let second = fill(&vnic);
        assert!(second > 16 * FRAME && first + second <= VNIC_BYTES_MAX, "{second}");
        vnic.give_room(first + second);
        assert_eq!(fill(&vnic), first);
    }

    #[test]
    fn a_gateway_full_of_vnics_has_room_for_one_more_and_never_too_much() {
        let store = Arc::<Store>::default();
        let vnics: Vec<_> = (0..1_000).map(|_| vnic(&store)).collect();
        let busy: usize = vnics.iter().take(150).map(fill).sum();
        assert!(fill(&vnics[150]) > 8 * FRAME, "{busy}");
        let sum = busy + vnics[150].queued() + vnics.iter().skip(151).map(fill).sum::<usize>();
        assert!(sum <= GATEWAY_BYTES_MAX && sum > GATEWAY_BYTES_MAX / 2, "{sum}");
        assert_eq!(store.bytes.load(Relaxed), sum);
    }

    #[test]
    fn a_vnic_is_held_back_for_as_long_as_anything_waits() {
        let vnic = vnic(&Arc::default());
        let read = || vnic.read(5_000);
        assert!(!read().held);
        let hold = || vnic.hold(WaitsFor::Bits);
        assert!(hold() && !hold(), "the first one wakes the thread");
        assert!(vnic.take_room(0, FRAME));
        assert!(read().held && read().held);
        vnic.give_room(FRAME);
        assert!(read().held, "it was, since the last look");
        assert!(!read().held);
        assert_eq!((vnic.in_use().held_us, vnic.in_use().packets_held_us), (15_000, 0));
    }
}
