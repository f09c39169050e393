//! What came from outside and waits for its vNIC's share of the uplink: one worker's part.
//!
//! ```text
//!   offer ─▶ nothing waits, and there is credit ─▶ pass
//!        └─▶ hold: the vNIC's queue ─▶ ready: tickets due? late? marked? ─▶ send
//! ```
//! A worker draws its tickets for as many bits as its flows are worth, so that flows of one vNIC
//! have about the same, whichever worker the kernel gives them to. With a limit in packets it stands in
//! two lines at once, and goes when both tickets are due.

use crate::down::{Down, VNIC_BYTES_MAX, VnicDown, WaitsFor};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use wireonce_frame::segment::WireCost;
use wireonce_queue::{Credit, Held, MARK_US, Queue, Ticket, mark};
use wireonce_wire::VnicId;

/// A ticket is for what the rate earns in this time, for each flow that waits.
const TICKET_US: u64 = 100;
/// But not for more flows than this.
const TICKET_FLOWS_MAX: u64 = 8;
/// And for a full frame at least, in bits.
const TICKET_BITS_MIN: u64 = 12_304;
/// Or for a packet.
const TICKET_PACKETS_MIN: u64 = 1;
/// Shortest and longest time between two looks while frames wait.
const LOOK_MIN_US: u64 = 100;
const LOOK_MAX_US: u64 = 2_000;

/// The frames that wait at one uplink.
#[derive(Debug, Default)]
pub(super) struct Downward {
    down: Option<Arc<Down>>,
    waiting: Vec<Waiting>,
    /// Where each is among them.
    places: FxHashMap<VnicId, usize>,
    /// Who has the first turn.
    turn: usize,
    /// Why the last frame could not pass.
    waits_for: WaitsFor,
}

/// The frames of one vNIC. It is there while any wait.
#[derive(Debug)]
struct Waiting {
    vnic: VnicId,
    /// `None`: nothing is shaped any more.
    share: Option<Arc<VnicDown>>,
    queue: Queue,
    bits: Purse,
    /// If there is a limit in packets.
    packets: Purse,
    waits_for: WaitsFor,
    /// The frame in front has been judged.
    front_is_ready: bool,
}

/// What is paid for of a credit.
#[derive(Debug, Default)]
struct Purse {
    ticket: Option<Ticket>,
    /// What is left of earlier tickets.
    left: u64,
}

/// What is to be done with a frame that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It may go.
    Send,
    /// It waited too long.
    Drop,
}

/// What became of a frame that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// It is sent.
    Sent,
    /// It went nowhere.
    Dropped,
    /// It stays: the fabric is busy.
    Stays,
}

impl Downward {
    pub(super) fn new(down: Option<Arc<Down>>) -> Self {
        Self { down, ..Self::default() }
    }

    /// Other shares. What waits stays; if the uplink is not shaped any more, it may go at once.
    pub(super) fn change(&mut self, down: Option<Arc<Down>>) {
        for waiting in &mut self.waiting {
            let share = down.as_ref().and_then(|down| down.vnics.get(&waiting.vnic)).cloned();
            let same = |(a, b): (&Arc<VnicDown>, &Arc<VnicDown>)| Arc::ptr_eq(a, b);
            if waiting.share.as_ref().zip(share.as_ref()).is_some_and(same) {
                continue;
            }
            // Others count what waits from now on, or nobody.
            let bytes = waiting.queue.bytes();
            waiting.give_back();
            if let Some(before) = std::mem::replace(&mut waiting.share, share) {
                before.give_room(bytes);
            }
            if let Some(share) = &waiting.share {
                share.force_room(bytes);
            }
        }
        self.down = down;
    }

    /// True while the uplink is shaped, or frames wait.
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        self.down.is_some() || !self.waiting.is_empty()
    }

    /// True if nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// May a frame for the vNIC pass? If so it is paid for, else it is to be held.
    pub(super) fn passes(&mut self, vnic: VnicId, cost: WireCost, now_us: u64) -> bool {
        let share = self.down.as_ref().and_then(|down| Some((down, down.vnics.get(&vnic)?)));
        if self.place(vnic).is_some() {
            return false;
        }
        let Some((down, share)) = share else { return true };
        down.waker.wake();
        match share.take(cost, now_us) {
            Ok(()) => {
                share.served(cost);
                true
            }
            Err(waits_for) => {
                self.waits_for = waits_for;
                false
            }
        }
    }

    /// Queues a frame. Those that have to make room for it go to `dropped`, or itself.
    pub(super) fn hold(&mut self, vnic: VnicId, frame: Held, dropped: &mut impl FnMut(&Held)) {
        let at = match self.place(vnic) {
            Some(at) => at,
            None => {
                let share = self.down.as_ref().and_then(|down| down.vnics.get(&vnic)).cloned();
                self.waiting.push(Waiting::new(vnic, share, self.waits_for));
                self.places.insert(vnic, self.waiting.len() - 1);
                self.waiting.len() - 1
            }
        };
        let Some(waiting) = self.waiting.get_mut(at) else { return };
        if let (Some(share), Some(down)) = (&waiting.share, &self.down)
            && share.hold(waiting.waits_for)
        {
            // More may be free for it than it was given at the last tick.
            down.waker.unpark();
        }
        waiting.hold(frame, dropped);
        if waiting.queue.is_empty() {
            // It was the first one, and had no room.
            self.forget_empty();
        }
    }

    /// Shows `each` every frame that may go now, marked if it is to be, and those that are to be
    /// dropped.
    pub(super) fn release(
        &mut self,
        now_us: u64,
        each: &mut impl FnMut(VnicId, &Held, Turn) -> Shown,
    ) {
        let count = self.waiting.len();
        self.turn = self.turn.wrapping_add(1);
        for step in 0..count {
            let at = self.turn.wrapping_add(step) % count;
            let Some(waiting) = self.waiting.get_mut(at) else { continue };
            let vnic = waiting.vnic;
            loop {
                let mut drop = |late: &Held| {
                    each(vnic, late, Turn::Drop);
                };
                let Some(front) = waiting.next(now_us, &mut drop) else { break };
                let shown = each(vnic, front, Turn::Send);
                if shown == Shown::Stays {
                    break;
                }
                waiting.done(shown);
            }
        }
        self.forget_empty();
    }

    /// The worker ends, or the uplink does: what waits goes to `dropped`.
    pub(super) fn give_up(&mut self, dropped: &mut impl FnMut(VnicId, &Held)) {
        self.places.clear();
        for mut waiting in self.waiting.drain(..) {
            while let Some(frame) = waiting.evict() {
                dropped(waiting.vnic, &frame);
            }
            waiting.give_back();
        }
    }

    /// When to look again; `None` if nothing waits.
    pub(super) fn next_us(&self, now_us: u64) -> Option<u64> {
        let due_us = self.waiting.iter().map(Waiting::due_us).min()?;
        Some(due_us.clamp(now_us + LOOK_MIN_US, now_us + LOOK_MAX_US))
    }

    fn place(&self, vnic: VnicId) -> Option<usize> {
        if self.waiting.is_empty() { None } else { self.places.get(&vnic).copied() }
    }

    fn forget_empty(&mut self) {
        let Self { waiting, places, .. } = self;
        if waiting.iter().all(|waiting| !waiting.queue.is_empty()) {
            return;
        }
        let empty = waiting.extract_if(.., |waiting| waiting.queue.is_empty());
        empty.for_each(|mut gone| gone.give_back());
        places.clear();
        places.extend(waiting.iter().enumerate().map(|(at, waiting)| (waiting.vnic, at)));
    }
}

impl Waiting {
    fn new(vnic: VnicId, share: Option<Arc<VnicDown>>, waits_for: WaitsFor) -> Self {
        let queue = Queue::new(VNIC_BYTES_MAX);
        let (bits, packets) = (Purse::default(), Purse::default());
        Self { vnic, share, queue, bits, packets, waits_for, front_is_ready: false }
    }

    fn hold(&mut self, frame: Held, dropped: &mut impl FnMut(&Held)) {
        let room = frame.room();
        while !self.take_room(room) {
            match self.evict() {
                Some(evicted) => {
                    self.share.iter().for_each(|share| share.dropped());
                    dropped(&evicted);
                }
                None => {
                    self.share.iter().for_each(|share| share.dropped());
                    dropped(&frame);
                    return;
                }
            }
        }
        self.queue.push(frame);
    }

    fn take_room(&self, room: usize) -> bool {
        let mine = self.queue.bytes();
        match &self.share {
            Some(share) => share.take_room(mine, room),
            None => mine + room <= VNIC_BYTES_MAX,
        }
    }

    /// The frame in front, if it may go now. Late ones go to `dropped`.
    fn next(&mut self, now_us: u64, dropped: &mut impl FnMut(&Held)) -> Option<&Held> {
        // What the fabric could not take at the last call is not judged twice.
        while !self.front_is_ready {
            if !self.is_paid(now_us) {
                return None;
            }
            // What nothing holds back any more is not late.
            self.front_is_ready = self.share.is_none() || !self.queue.front_is_late(now_us);
            if !self.front_is_ready {
                self.drop_front(dropped);
            }
        }
        let front = self.queue.front()?;
        if now_us.saturating_sub(front.since_us) > MARK_US
            && mark(front)
            && let Some(share) = &self.share
        {
            share.marked();
        }
        Some(front)
    }

    /// Is there credit for the frame in front? If not, there are tickets for it.
    fn is_paid(&mut self, now_us: u64) -> bool {
        let Some(cost) = self.queue.front().map(|front| front.cost) else { return false };
        let Some(share) = &self.share else { return true };
        let flows = || (self.queue.active_flows() as u64).clamp(1, TICKET_FLOWS_MAX);
        let bits = self.bits.holds(&share.credit, cost.bits(), TICKET_BITS_MIN, flows, now_us);
        let Some(credit) = share.packets() else {
            self.waits_for = WaitsFor::Bits;
            return bits;
        };
        let segments = u64::from(cost.segments);
        let packets = self.packets.holds(credit, segments, TICKET_PACKETS_MIN, flows, now_us);
        if bits && packets {
            return true;
        }
        // With more bandwidth it would wait for packets, too.
        self.waits_for = if packets { WaitsFor::Bits } else { WaitsFor::Packets };
        share.hold(self.waits_for);
        false
    }

    /// The frame in front was shown.
    fn done(&mut self, shown: Shown) {
        let Some(frame) = self.queue.pop() else { return };
        self.front_is_ready = false;
        let Some(share) = &self.share else { return };
        share.give_room(frame.room());
        if shown == Shown::Sent {
            self.bits.left = self.bits.left.saturating_sub(frame.cost.bits());
            self.packets.left = self.packets.left.saturating_sub(frame.cost.segments.into());
            share.served(frame.cost);
        }
    }

    fn drop_front(&mut self, dropped: &mut impl FnMut(&Held)) {
        if let Some(late) = self.queue.pop() {
            if let Some(share) = &self.share {
                share.give_room(late.room());
                share.dropped();
            }
            dropped(&late);
        }
    }

    /// Takes the first frame of the longest flow, to make room.
    fn evict(&mut self) -> Option<Held> {
        let frame = self.queue.evict()?;
        self.front_is_ready = false;
        self.share.iter().for_each(|share| share.give_room(frame.room()));
        Some(frame)
    }

    /// What is not used is for others.
    fn give_back(&mut self) {
        if let Some(share) = &self.share {
            self.bits.give_back(&share.credit);
            match share.packets() {
                Some(credit) => self.packets.give_back(credit),
                None => self.packets = Purse::default(),
            }
        }
    }

    fn due_us(&self) -> u64 {
        let Some(share) = &self.share else { return 0 };
        let packets_us = share.packets().map_or(0, |credit| self.packets.due_us(credit));
        self.bits.due_us(&share.credit).max(packets_us)
    }
}

impl Purse {
    /// Is there so much in it? If not, there is a ticket, for so many flows as wait.
    fn holds(
        &mut self,
        credit: &Credit,
        amount: u64,
        ticket_min: u64,
        flows: impl Fn() -> u64,
        now_us: u64,
    ) -> bool {
        loop {
            if self.left >= amount {
                return true;
            }
            match self.ticket.take_if(|ticket| credit.is_due(ticket, now_us)) {
                Some(due) => self.left += due.amount,
                None if self.ticket.is_some() => return false,
                None => {
                    let earned = credit.rate().saturating_mul(TICKET_US) / 1_000_000;
                    let worth = flows().saturating_mul(earned.max(ticket_min));
                    let missing = amount - self.left;
                    self.ticket = Some(credit.draw(worth.max(missing), now_us));
                }
            }
        }
    }

    /// What is not used is for others.
    fn give_back(&mut self, credit: &Credit) {
        let Self { ticket, left } = std::mem::take(self);
        credit.give_back(left + ticket.map_or(0, |ticket| ticket.amount));
    }

    fn due_us(&self, credit: &Credit) -> u64 {
        self.ticket.as_ref().map_or(0, |ticket| credit.due_us(ticket).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
#[path = "downward_tests.rs"]
mod tests;
