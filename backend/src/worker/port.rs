//! One vNIC at its worker: its rings, its rights, its books.

use super::{cost, shaped::Shaped, waiting::Waiting};
use crate::{
    homes::HomeCell,
    net::{AddressSet, PortPolicy},
    vhost_user::RingStart,
    virtqueue::{GuestMemory, MappedMemory, RingConfig, RingError, RxRing, TxRing},
};
use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::{Arc, Weak},
};
use virtio_bindings::virtio_net as feature;
use wireonce_config::Vnic;
use wireonce_directory::{Directory, Route};
use wireonce_frame::{OffloadFeatures, StormLimit, StormMeter};
use wireonce_ledger::{Account, Amount, DropReason};

/// The counters of one vNIC at its worker.
#[derive(Debug, Default, Clone)]
pub(super) struct Books {
    pub(super) guest_tx: Account,
    pub(super) fabric_tx: Account,
    pub(super) guest_rx: Account,
}

impl Books {
    /// A frame left the guest and went no further.
    pub(super) fn guest_tx_drop(&mut self, reason: DropReason, amount: Amount) {
        self.guest_tx.input += amount;
        self.guest_tx.drop(reason, amount);
    }
}

/// A ring that carries frames out of the guest.
#[derive(Debug)]
pub(super) struct TxQueue {
    pub(super) ring: TxRing,
    pub(super) common: QueueCommon,
    /// The guest may have put frames there.
    pub(super) ready: bool,
    /// Its next frame waits for room in the fabric.
    pub(super) blocked: bool,
    /// Its next frame waits for the vNIC's share of its home.
    pub(super) held: bool,
}

impl TxQueue {
    /// It may have frames, and they may go.
    pub(super) fn may_go(&self) -> bool {
        self.ready && !self.blocked && !self.held
    }
}

/// A ring that carries frames into the guest.
#[derive(Debug)]
pub(super) struct RxQueue {
    pub(super) ring: RxRing,
    pub(super) common: QueueCommon,
    /// Frames were delivered that the guest has not been shown yet.
    pub(super) dirty: bool,
    /// Frames for which it had no buffers.
    pub(super) waiting: Option<Box<Waiting>>,
    /// The guest has posted no buffer for so long that nothing waits for one.
    pub(super) stalled: bool,
}

impl RxQueue {
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.is_empty())
    }
}

/// What both kinds of ring have.
#[derive(Debug)]
pub(super) struct QueueCommon {
    pub(super) config: RingConfig,
    kick: OwnedFd,
    call: Option<OwnedFd>,
    err: Option<OwnedFd>,
    pub(super) enabled: bool,
    /// The guest is to be interrupted.
    wants_interrupt: bool,
    /// An interrupt is on its way; one at a time, because the VMM may hold it up.
    interrupting: bool,
    /// Names this life of the ring in completions.
    pub(super) generation: u16,
}

impl QueueCommon {
    /// The descriptor that the guest kicks.
    pub(super) fn kick_fd(&self) -> i32 {
        self.kick.as_raw_fd()
    }

    /// Interrupts the guest before the worker sleeps.
    pub(super) fn interrupt(&mut self) {
        self.wants_interrupt = true;
    }

    /// The descriptor to signal now, if the guest is to be interrupted. The worker says
    /// [`Self::interrupted`] when that is done.
    pub(super) fn take_interrupt(&mut self) -> Option<RawFd> {
        if !self.wants_interrupt || self.interrupting {
            return None;
        }
        self.wants_interrupt = false;
        self.interrupting = self.call.is_some();
        self.call.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The interrupt on its way has arrived.
    pub(super) fn interrupted(&mut self) {
        self.interrupting = false;
    }

    pub(super) fn set_call(&mut self, call: Option<OwnedFd>) {
        self.call = call;
        // What was published before the VMM sent the descriptor was never announced.
        self.interrupt();
    }

    /// The descriptor by which the VMM hears that the ring is broken.
    pub(super) fn err_fd(&self) -> Option<RawFd> {
        self.err.as_ref().map(AsRawFd::as_raw_fd)
    }
}

fn policy(vnic: &Vnic) -> PortPolicy {
    let addresses = if vnic.addresses.is_empty() {
        AddressSet::any()
    } else {
        vnic.addresses.iter().copied().collect()
    };
    PortPolicy {
        mac: vnic.mac,
        addresses,
        trunk: vnic.trunk,
        allow_dhcp_server: vnic.allow.dhcp_server,
        allow_router_advertisement: vnic.allow.router_advertisement,
        mtu: vnic.network.mtu,
    }
}

/// A second's worth of frames may come at once.
fn storm_meter(frames_per_s: u32) -> StormMeter {
    let limit = StormLimit::per_second(frames_per_s);
    StormMeter::new(limit, limit, 0)
}

/// One vNIC at its worker.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) vnic: Arc<Vnic>,
    pub(super) policy: PortPolicy,
    pub(super) storm: StormMeter,
    pub(super) connected: bool,
    /// Virtio features that the driver acknowledged.
    pub(super) features: u64,
    /// What the guest may ask of us, and we of the guest.
    pub(super) from_guest: OffloadFeatures,
    pub(super) to_guest: OffloadFeatures,
    /// By queue pair.
    pub(super) tx: Vec<Option<TxQueue>>,
    pub(super) rx: Vec<Option<RxQueue>>,
    pub(super) books: Books,
    /// Its way to its home; `None` if that is not shaped.
    pub(super) shaped: Option<Box<Shaped>>,
    /// Where its frames for the outside go; `None`: where the directory says.
    pub(super) home: Option<Arc<HomeCell>>,
    /// CPU time that it may still use in this round, in nanoseconds.
    pub(super) credit_ns: i64,
    /// The same for frames to the guest, of which only unusual work is charged.
    pub(super) rx_credit_ns: i64,
    /// The queue pair whose turn is first.
    pub(super) next_pair: usize,
    pub(super) broken_rings: u64,
    next_generation: u16,
    /// The memory of the rings that run.
    mapped: Weak<MappedMemory>,
}

/// Where frames of a vNIC for the outside go now.
pub(super) fn way_outside(
    home: Option<&Arc<HomeCell>>,
    directory: &Directory,
    vnic: &Vnic,
) -> Route {
    home.map_or_else(|| directory.route_outside(vnic), |cell| cell.route())
}

impl Port {
    pub(super) fn new(vnic: &Arc<Vnic>) -> Self {
        let pairs = usize::from(vnic.queue_pairs);
        Self {
            policy: policy(vnic),
            storm: storm_meter(vnic.storm_frames_per_s),
            vnic: Arc::clone(vnic),
            connected: false,
            features: 0,
            from_guest: OffloadFeatures::default(),
            to_guest: OffloadFeatures::default(),
            tx: std::iter::repeat_with(|| None).take(pairs).collect(),
            rx: std::iter::repeat_with(|| None).take(pairs).collect(),
            books: Books::default(),
            shaped: None,
            home: None,
            credit_ns: 0,
            rx_credit_ns: cost::QUANTUM_NS,
            next_pair: 0,
            broken_rings: 0,
            next_generation: 0,
            mapped: Weak::new(),
        }
    }

    /// The vNIC has other rights, or another network. Its rings run on.
    pub(super) fn change(&mut self, vnic: Arc<Vnic>) {
        if vnic.storm_frames_per_s != self.vnic.storm_frames_per_s {
            self.storm = storm_meter(vnic.storm_frames_per_s);
        }
        self.policy = policy(&vnic);
        let pairs = usize::from(vnic.queue_pairs);
        self.tx.resize_with(pairs, || None);
        self.rx.resize_with(pairs, || None);
        self.next_pair = 0;
        self.vnic = vnic;
    }

    /// The vNIC is gone, after its VMM. Returns its books and how many rings broke.
    pub(super) fn vacate(&mut self) -> (Books, u64) {
        self.tx.clear();
        self.rx.clear();
        self.next_pair = 0;
        self.give_up_shaped(DropReason::PortDown);
        (std::mem::take(&mut self.books), std::mem::take(&mut self.broken_rings))
    }

    /// Books what waits for the vNIC's share.
    pub(super) fn give_up_shaped(&mut self, reason: DropReason) {
        if let Some(shaped) = self.shaped.take() {
            let guest_tx = &mut self.books.guest_tx;
            shaped.give_up(&mut |frame| guest_tx.drop(reason, frame.amount));
        }
    }

    /// Takes the place of another port: what the kernel still says of that one's rings
    /// must not be taken for ours.
    pub(super) fn go_on_after(&mut self, before: &Self) {
        self.next_generation = before.next_generation;
    }

    /// Rings that the device has, started or not.
    pub(super) fn ring_count(&self) -> u16 {
        u16::try_from(self.tx.len() * 2).unwrap_or(0)
    }

    /// True once the guest's driver has rings for us.
    pub(super) fn is_running(&self) -> bool {
        self.tx.iter().any(Option::is_some) || self.rx.iter().any(Option::is_some)
    }

    pub(super) fn set_features(&mut self, features: u64) {
        let has = |bit: u32| features & 1 << bit != 0;
        self.features = features;
        self.from_guest = OffloadFeatures {
            csum: has(feature::VIRTIO_NET_F_CSUM),
            tso4: has(feature::VIRTIO_NET_F_HOST_TSO4),
            tso6: has(feature::VIRTIO_NET_F_HOST_TSO6),
            ecn: has(feature::VIRTIO_NET_F_HOST_ECN),
        };
        self.to_guest = OffloadFeatures {
            csum: has(feature::VIRTIO_NET_F_GUEST_CSUM),
            tso4: has(feature::VIRTIO_NET_F_GUEST_TSO4),
            tso6: has(feature::VIRTIO_NET_F_GUEST_TSO6),
            ecn: has(feature::VIRTIO_NET_F_GUEST_ECN),
        };
    }

    /// Starts a ring. Returns the pair and, for a ring out of the guest, the
    /// generation under which its kicks are to be polled.
    pub(super) fn start_ring(&mut self, start: RingStart) -> Result<(usize, Option<u16>), String> {
        let pair = usize::from(start.index / 2);
        if pair >= self.tx.len() {
            return Err(format!("ring {} of a vNIC with {} pairs", start.index, self.tx.len()));
        }
        let kick = start.kick.ok_or("a ring needs a kick descriptor")?;
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let common = QueueCommon {
            config: start.config,
            kick,
            call: start.call,
            err: start.err,
            enabled: start.enabled,
            wants_interrupt: false,
            interrupting: false,
            generation,
        };
        let text = |error: RingError| error.to_string();
        let memory = self.mapped(start.memory)?;
        if start.index % 2 == 1 {
            let ring = TxRing::new(memory, &start.config).map_err(text)?;
            self.tx[pair] =
                Some(TxQueue { ring, common, ready: true, blocked: false, held: false });
            Ok((pair, Some(generation)))
        } else {
            let mut ring = RxRing::new(memory, &start.config).map_err(text)?;
            // We look for buffers when we have a frame; nobody needs to tell us.
            ring.ring_mut().disable_kicks();
            self.rx[pair] =
                Some(RxQueue { ring, common, dirty: false, waiting: None, stalled: false });
            Ok((pair, None))
        }
    }

    /// Lets go of a ring and its memory. Returns where it stood.
    pub(super) fn stop_ring(&mut self, index: u16) -> Option<u16> {
        let pair = usize::from(index / 2);
        if index % 2 == 1 {
            self.tx.get_mut(pair)?.take().map(|mut queue| queue.ring.stop())
        } else {
            self.drop_waiting(pair, DropReason::PortDown);
            self.rx.get_mut(pair)?.take().map(|mut queue| queue.ring.stop())
        }
    }

    /// Drops the frames that wait for buffers of `pair`.
    pub(super) fn drop_waiting(&mut self, pair: usize, reason: DropReason) {
        let queue = self.rx.get_mut(pair).and_then(Option::as_mut);
        let Some(waiting) = queue.and_then(|queue| queue.waiting.take()) else { return };
        self.books.guest_rx.input += waiting.amount();
        self.books.guest_rx.drop(reason, waiting.amount());
    }

    pub(super) fn common_mut(&mut self, index: u16) -> Option<&mut QueueCommon> {
        let pair = usize::from(index / 2);
        if index % 2 == 1 {
            Some(&mut self.tx.get_mut(pair)?.as_mut()?.common)
        } else {
            Some(&mut self.rx.get_mut(pair)?.as_mut()?.common)
        }
    }

    /// Moves a ring to another memory table, where it stands. False if its areas are
    /// not there; it must then be stopped. A ring that is not there is moved easily.
    pub(super) fn move_ring(&mut self, index: u16, memory: &Arc<MappedMemory>) -> bool {
        let pair = usize::from(index / 2);
        if index % 2 == 1 {
            let Some(queue) = self.tx.get_mut(pair).and_then(Option::as_mut) else { return true };
            queue.common.config.base = queue.ring.stop();
            let Ok(ring) = TxRing::new(Arc::clone(memory), &queue.common.config) else {
                return false;
            };
            queue.ring = ring;
            queue.ready = true;
        } else {
            let Some(queue) = self.rx.get_mut(pair).and_then(Option::as_mut) else { return true };
            queue.common.config.base = queue.ring.stop();
            let Ok(mut ring) = RxRing::new(Arc::clone(memory), &queue.common.config) else {
                return false;
            };
            ring.ring_mut().disable_kicks();
            queue.ring = ring;
        }
        self.mapped = Arc::downgrade(memory);
        true
    }

    /// `memory` as the rings use it: one mapping of it for all of them, because the
    /// places that protect mappings are few and shared by all guests.
    fn mapped(&mut self, memory: Arc<GuestMemory>) -> Result<Arc<MappedMemory>, String> {
        if let Some(mapped) = self.mapped.upgrade().filter(|mapped| mapped.is_of(&memory)) {
            return Ok(mapped);
        }
        let mapped = Arc::new(MappedMemory::new(memory).map_err(|error| error.to_string())?);
        self.mapped = Arc::downgrade(&mapped);
        Ok(mapped)
    }

    /// The VMM is gone, and with it everything that it gave us.
    pub(super) fn disconnect(&mut self) {
        self.connected = false;
        self.set_features(0);
        (0..self.rx.len()).for_each(|pair| self.drop_waiting(pair, DropReason::PortDown));
        self.tx.fill_with(|| None);
        self.rx.fill_with(|| None);
    }
}
