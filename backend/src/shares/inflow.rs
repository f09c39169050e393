//! What comes in through this server's fabric port: counted by workers, read by the shares thread.

use super::port_share::fabric_bits;
use rustc_hash::FxHashMap;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use wireonce_frame::{WIRE_FRAME_LEN_MIN, WIRE_OVERHEAD_LEN};
use wireonce_host::Waker;
use wireonce_wire::{Endpoint, UplinkId};

/// Headers of a segment that a frame is cut into, about: Ethernet, IPv4, TCP with timestamps.
const SEGMENT_HEADERS: u64 = 66;

/// Frames from one uplink, or from all others.
#[derive(Debug, Default)]
pub(crate) struct Inflow {
    fabric_bits: AtomicU64,
    wire_bits: AtomicU64,
}

/// All that comes in.
#[derive(Debug, Default)]
pub(crate) struct Inflows {
    /// Other servers' VMs, and uplinks that nobody divides.
    others: Arc<Inflow>,
    uplinks: FxHashMap<UplinkId, usize>,
    flows: Vec<Arc<Inflow>>,
    waker: Arc<Waker>,
}

impl Inflow {
    fn count(&self, len: usize, segments: u64) {
        self.fabric_bits.fetch_add(fabric_bits(len), Relaxed);
        let headers = segments.saturating_sub(1) * SEGMENT_HEADERS;
        let bytes = len.max(WIRE_FRAME_LEN_MIN) as u64 + headers;
        self.wire_bits.fetch_add((bytes + segments * WIRE_OVERHEAD_LEN as u64) * 8, Relaxed);
    }

    /// Bits on the fabric's wire and, about, on an uplink's. Both wrap.
    pub(super) fn read(&self) -> (u64, u64) {
        (self.fabric_bits.load(Relaxed), self.wire_bits.load(Relaxed))
    }
}

impl Inflows {
    /// Those of `uplinks` apart from all others; what was counted `before` goes on.
    pub(super) fn new(
        uplinks: impl Iterator<Item = UplinkId>,
        before: Option<&Self>,
        waker: &Arc<Waker>,
    ) -> Self {
        let others = before.map(|it| Arc::clone(&it.others)).unwrap_or_default();
        let mut inflows = Self { others, waker: Arc::clone(waker), ..Self::default() };
        for uplink in uplinks {
            let known = before.and_then(|it| it.uplink(uplink)).cloned();
            inflows.uplinks.insert(uplink, inflows.flows.len());
            inflows.flows.push(known.unwrap_or_default());
        }
        inflows
    }

    /// Where frames from `source` are counted; `None`: among all others.
    pub(crate) fn place(&self, source: Endpoint) -> Option<usize> {
        match source {
            Endpoint::Uplink(id) => self.uplinks.get(&id).copied(),
            _ => None,
        }
    }

    /// A frame came.
    #[inline]
    pub(crate) fn count(&self, place: Option<usize>, len: usize, segments: u64) {
        let flow = place.and_then(|place| self.flows.get(place)).unwrap_or(&self.others);
        flow.count(len, segments);
        self.waker.wake();
    }

    pub(super) fn uplink(&self, uplink: UplinkId) -> Option<&Arc<Inflow>> {
        self.flows.get(*self.uplinks.get(&uplink)?)
    }

    pub(super) fn others(&self) -> &Arc<Inflow> {
        &self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_wire::VnicId;

    #[test]
    fn uplinks_are_counted_apart_and_go_on_in_another_configuration() {
        let [one, two] = [1, 2].map(UplinkId);
        let inflows = Inflows::new([one].into_iter(), None, &Arc::default());
        inflows.count(inflows.place(Endpoint::Uplink(one)), 1_514, 1);
        inflows.count(inflows.place(Endpoint::Uplink(two)), 100, 1);
        inflows.count(inflows.place(Endpoint::Vnic(VnicId::new(7).unwrap())), 100, 1);
        let after = Inflows::new([two, one].into_iter(), Some(&inflows), &Arc::default());
        let read = |uplink| after.uplink(uplink).unwrap().read();
        assert_eq!(read(one), (fabric_bits(1_514), 1_538 * 8));
        assert_eq!(read(two), (0, 0));
        assert_eq!(after.others().read().0, 2 * fabric_bits(100));
    }
}
