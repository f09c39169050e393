//! What workers ask and tell, per uplink: who lets broadcast in, whether it is held back, and
//! where probes and the next hop's answers go. All workers of an uplink share one gate.
//!
//! ```text
//!   broadcast from outside ─▶ probe? ─▶ within the limit ─▶ probes thread
//!                               │ no
//!                               ▼
//!                    held (loop)? designated? ─▶ two loads, on broadcast only
//! ```

use crate::driver::Received;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    mpsc::SyncSender,
};
use wireonce_frame::{MacAddr, StormLimit, StormMeter};
use wireonce_ledger::DropReason;
use wireonce_link::PeerId;
use wireonce_wire::UplinkId;

/// Bytes of a frame that the probes thread looks at; the longest probe is shorter.
const FRAME_LEN_MAX: usize = 1_500;

/// What the probes thread hears of.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something with a probe's ethertype came in.
    Probe { at: UplinkId, vlan: Option<u16>, frame: Vec<u8> },
    /// A frame to the uplink's own MAC address came in.
    Answer { at: UplinkId, vlan: Option<u16>, frame: Vec<u8> },
    /// The port has a link, or has none.
    Carrier(UplinkId, bool),
    /// A gateway said something over the fabric.
    News(PeerId, Vec<u8>),
    /// The session with a peer is up, or is not.
    Session(PeerId, bool),
    /// An uplink's health, or the configuration, has changed.
    Changed,
    /// End.
    Stop,
}

/// The designated uplink of one pool, as this gateway sees it.
#[derive(Debug)]
pub(crate) struct Designated {
    pool: String,
    uplink: AtomicU32,
}

impl Designated {
    pub(crate) fn new(pool: &str, uplink: UplinkId) -> Self {
        Self { pool: pool.to_owned(), uplink: AtomicU32::new(uplink.0) }
    }

    pub(super) fn is_of(&self, pool: &str) -> bool {
        self.pool == pool
    }

    pub(crate) fn get(&self) -> UplinkId {
        UplinkId(self.uplink.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, uplink: UplinkId) {
        self.uplink.store(uplink.0, Ordering::Relaxed);
    }
}

/// What was not handed on.
#[derive(Debug, Default)]
pub(crate) struct Unheard {
    /// More probes than the limit, or than the thread takes.
    pub(crate) limited: AtomicU64,
}

/// Whom a gate tells.
#[derive(Debug)]
struct Ear {
    events: SyncSender<Event>,
    unheard: Arc<Unheard>,
    /// Probes a second, and what is left of them.
    limit: Mutex<(u32, StormMeter)>,
}

impl Ear {
    fn admits(&self, now_us: u64) -> bool {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = limit.1.admits(MacAddr::BROADCAST, 1, now_us);
        drop(limit);
        if !admitted {
            self.unheard.limited.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    fn tell(&self, frame: &[u8], event: impl FnOnce(Vec<u8>) -> Event) {
        let frame = frame.get(..FRAME_LEN_MAX).unwrap_or(frame);
        if self.events.try_send(event(frame.to_vec())).is_err() {
            self.unheard.limited.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn meter(per_s: u32) -> (u32, StormMeter) {
    let limit = StormLimit::per_second(per_s);
    (per_s, StormMeter::new(limit, limit, 0))
}

/// One uplink's gate.
#[derive(Debug)]
pub(crate) struct Gate {
    uplink: UplinkId,
    designated: Arc<Designated>,
    /// No broadcast goes either way.
    held: AtomicBool,
    /// The address that our own frames on the uplink have.
    mac: MacAddr,
    ear: Option<Ear>,
}

impl Gate {
    /// A gate that hands on at most `probes_per_s` probes a second.
    pub(super) fn new(
        uplink: UplinkId,
        designated: Arc<Designated>,
        mac: MacAddr,
        events: SyncSender<Event>,
        unheard: Arc<Unheard>,
        probes_per_s: u32,
    ) -> Self {
        let limit = Mutex::new(meter(probes_per_s));
        let ear = Some(Ear { events, unheard, limit });
        Self { uplink, designated, held: AtomicBool::new(false), mac, ear }
    }

    /// The gate of an uplink of a pool of which `designated` is the designated one; nobody
    /// listens behind it.
    #[cfg(test)]
    pub(crate) fn deaf(uplink: UplinkId, designated: UplinkId) -> Self {
        let designated = Arc::new(Designated::new("outside", designated));
        Self {
            uplink,
            designated,
            held: AtomicBool::new(false),
            mac: MacAddr::default(),
            ear: None,
        }
    }

    /// Whose gate it is.
    pub(crate) fn uplink(&self) -> UplinkId {
        self.uplink
    }

    /// The address that our own frames have.
    pub(super) fn mac(&self) -> MacAddr {
        self.mac
    }

    /// The pool's designated uplink.
    pub(crate) fn designated(&self) -> &Arc<Designated> {
        &self.designated
    }

    /// Whether broadcast and multicast from outside may come in here.
    pub(crate) fn lets_groups_in(&self) -> Result<(), DropReason> {
        if self.designated.get() != self.uplink {
            return Err(DropReason::NotDesignated);
        }
        if self.is_held() { Err(DropReason::OutsideLoop) } else { Ok(()) }
    }

    /// Whether broadcast and multicast are held back, both ways.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    /// A probe came in: it goes no further than to the thread that waits for it.
    pub(crate) fn probe(&self, received: &Received<'_>, now_us: u64) {
        let Some(ear) = &self.ear else { return };
        if ear.admits(now_us) {
            let event = |frame| Event::Probe { at: self.uplink, vlan: received.vlan, frame };
            ear.tell(received.frame, event);
        }
    }

    /// A frame that is for nobody came in. True if it is for the uplink itself, and is dealt with.
    pub(crate) fn answer(&self, received: &Received<'_>, now_us: u64) -> bool {
        let ours = MacAddr::from_slice(received.frame) == Some(self.mac);
        let Some(ear) = self.ear.as_ref().filter(|_| ours) else { return false };
        if ear.admits(now_us) {
            let event = |frame| Event::Answer { at: self.uplink, vlan: received.vlan, frame };
            ear.tell(received.frame, event);
        }
        true
    }

    /// The pool has another number of uplinks.
    pub(super) fn limit_to(&self, probes_per_s: u32) {
        let Some(ear) = &self.ear else { return };
        let mut limit = ear.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if limit.0 != probes_per_s {
            *limit = meter(probes_per_s);
        }
    }

    /// How the port's link is; said again each second.
    pub(crate) fn carrier(&self, carrier: bool) {
        if let Some(ear) = &self.ear {
            // If there is no room, the next second will do.
            let _ = ear.events.try_send(Event::Carrier(self.uplink, carrier));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use wireonce_frame::VNET_HEADER_LEN;

    const UP: UplinkId = UplinkId(7);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

    #[test]
    fn groups_come_in_at_the_designated_uplink_unless_it_is_held() {
        let gate = Gate::deaf(UP, UP);
        assert_eq!(gate.lets_groups_in(), Ok(()));
        gate.hold(true);
        assert_eq!(gate.lets_groups_in(), Err(DropReason::OutsideLoop));
        gate.hold(false);
        gate.designated().set(UplinkId(8));
        assert_eq!(gate.lets_groups_in(), Err(DropReason::NotDesignated));
    }

    #[test]
    fn a_flood_of_probes_costs_so_many_a_second_and_is_counted() {
        let (events, inbox) = mpsc::sync_channel(1_000);
        let unheard = Arc::new(Unheard::default());
        let designated = Arc::new(Designated::new("outside", UP));
        let gate = Gate::new(UP, designated, MAC, events, Arc::clone(&unheard), 100);
        let frame = [[0xff; 6].as_slice(), &MAC.0, &[0x88, 0xb5], &[0; 5_000]].concat();
        let received = Received { vnet: [0; VNET_HEADER_LEN], vlan: Some(20), frame: &frame };
        for _ in 0..1_000 {
            gate.probe(&received, 0);
        }
        let heard: Vec<usize> = inbox
            .try_iter()
            .map(|event| match event {
                Event::Probe { at: UP, vlan: Some(20), frame } => frame.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(heard, [FRAME_LEN_MAX; 100], "cut to what is looked at");
        assert_eq!(unheard.limited.load(Ordering::Relaxed), 900);
    }

    #[test]
    fn only_frames_to_the_uplink_itself_are_answers() {
        let (events, inbox) = mpsc::sync_channel(10);
        let designated = Arc::new(Designated::new("outside", UP));
        let gate = Gate::new(UP, designated, MAC, events, Arc::default(), 100);
        let frame =
            |to: MacAddr| [to.0.as_slice(), &[2, 0, 0, 0, 0, 1], &[8, 6], &[0; 46]].concat();
        let takes = |to| {
            let frame = frame(to);
            gate.answer(&Received { vnet: [0; VNET_HEADER_LEN], vlan: None, frame: &frame }, 0)
        };
        assert!(takes(MAC));
        assert!(!takes(MacAddr([2, 0, 0, 0, 0, 8])));
        assert!(!takes(MacAddr::BROADCAST));
        assert_eq!(inbox.try_iter().count(), 1);
    }
}
