//! The loop: what happens in which order, and why.
//!
//! 1. `enter` submits what the last turn left and takes what has happened. What the
//!    fabric received is only queued.
//! 2. The fabric has its turn first: what has arrived waits in few buffers, what guests
//!    send waits in their own rings. It is bounded, so that the guests have theirs.
//! 3. Mail ([`super::mail`]): here no ring is in use, so it can be stopped.
//! 4. Rounds over the guests ([`super::turns`]), which fill trains.
//! 5. Trains that are still open are sent, unless they are held ([`super::hold`]).
//!    Queues that waited for room in a socket may then try again.
//! 6. Guests are shown what they got, all of a turn at once. Rings that turned out to be
//!    broken are stopped; the others' interrupts go out with the next `enter`.

use super::{
    Command, FABRIC_TOKEN_KIND, Snapshot, Worker,
    cost::{FABRIC_TURN_NS, frame_ns},
    deliver,
    tokens::{BROKEN, INTERRUPT, KICK, MAIL, ring_of, ring_token},
};
use std::time::Instant;
use tracing::warn;
use wireonce_host::workers::{Side, Work};
use wireonce_ring::{Completion, RingError, Token, Wait};
use wireonce_wire::VnicId;

/// How often a worker that has nothing else to do looks for buffers for waiting frames.
const RETRY_US: u64 = 500;

impl Work for Worker {
    type Command = Command;
    type Snapshot = Snapshot;

    fn run(&mut self) -> Result<(), RingError> {
        let mut completions = Vec::new();
        let mut wait = Wait::Poll;
        loop {
            self.ring.enter(wait, &mut completions)?;
            let now_us = self.now_us();
            self.turn_us = now_us;
            self.refill_credits();
            let mut mail = self.more_mail;
            for completion in completions.drain(..) {
                mail |= completion.token.kind == MAIL;
                self.handle(completion)?;
            }
            let mut worked = self.serve_fabric(now_us)?.then_some(Side::Fabric);
            if mail && !self.read_mail()? {
                return Ok(());
            }
            self.tick(now_us);
            let waited = if self.shapes { self.serve_shaped(now_us) } else { 0 };
            let sent = waited + self.serve_guests(now_us);
            if sent > 0 {
                worked = Some(Side::Ports);
            }
            if self.hold.is_over(sent, now_us) {
                self.fabric.flush(&mut self.ring, now_us)?;
            }
            self.unblock();
            self.publish();
            self.book_outcomes();
            self.stop_broken()?;
            self.interrupt()?;
            self.spin.looked(now_us, worked);
            wait = self.next_wait(now_us);
        }
    }
}

impl Worker {
    pub(super) fn now_us(&self) -> u64 {
        micros(self.started)
    }

    fn handle(&mut self, completion: Completion) -> Result<(), RingError> {
        match completion.token.kind {
            MAIL => {
                if !completion.more {
                    self.ring.poll_multi(self.inbox.bell_fd(), completion.token)?;
                }
                Ok(())
            }
            KICK => self.kicked(&completion),
            INTERRUPT => {
                self.interrupted(completion.token);
                Ok(())
            }
            BROKEN => Ok(()),
            _ => {
                self.arrived.push_back(completion);
                Ok(())
            }
        }
    }

    /// Takes in what the fabric received, until the guests must have their turn: a
    /// buffer is up to a thousand small frames. Returns whether there was anything.
    fn serve_fabric(&mut self, now_us: u64) -> Result<bool, RingError> {
        let mut spent_ns = 0;
        self.owed_ns = 0;
        let mut worked = false;
        while spent_ns < FABRIC_TURN_NS
            && let Some(completion) = self.arrived.pop_front()
        {
            let (fabric, ring, mut inward) = self.split();
            fabric.handle(ring, &completion, now_us, &mut |inbound| inward.take(&inbound))?;
            // Opening costs about twice a copy, whoever sent the datagrams.
            let len = usize::try_from(completion.result).unwrap_or(0);
            spent_ns += inward.cost_ns + 2 * frame_ns(len);
            let owed_ns = inward.owed_ns;
            self.owed_ns += owed_ns;
            self.room |= completion.token.kind != FABRIC_TOKEN_KIND;
            // A ring of 256 buffers is full after one of ours.
            self.publish();
            worked = true;
        }
        Ok(worked)
    }

    /// A guest has put frames into a ring.
    fn kicked(&mut self, completion: &Completion) -> Result<(), RingError> {
        let (port, ring) = ring_of(completion.token);
        let queue = self
            .ports
            .get_mut(port)
            .and_then(|port| port.tx.get_mut(usize::from(ring / 2))?.as_mut())
            .filter(|queue| queue.common.generation == completion.token.generation);
        // A kick of a ring that was stopped since is nobody's.
        let Some(queue) = queue else { return Ok(()) };
        self.signals.kicks += 1;
        queue.ready = true;
        queue.ring.ring_mut().disable_kicks();
        // We cancel only polls of rings that are gone, so this one ended by itself.
        if !completion.more {
            self.ring.poll_multi(queue.common.kick_fd(), completion.token)?;
        }
        Ok(())
    }

    fn interrupted(&mut self, token: Token) {
        let (port, ring) = ring_of(token);
        let common = self.ports.get_mut(port).and_then(|port| port.common_mut(ring));
        if let Some(common) = common.filter(|common| common.generation == token.generation) {
            common.interrupted();
        }
    }

    fn tick(&mut self, now_us: u64) {
        let (fabric, _, mut inward) = self.split();
        fabric.tick(now_us, &mut |inbound| inward.take(&inbound));
    }

    /// If a socket had room again, and what waited for it went out: blocked queues may
    /// try, whatever the other sockets do.
    fn unblock(&mut self) {
        if !std::mem::take(&mut self.room) {
            return;
        }
        for queue in self.ports.iter_mut().flat_map(|port| port.tx.iter_mut().flatten()) {
            queue.blocked = false;
        }
    }

    /// Shows guests what they got. Those that had no buffers may have some again.
    pub(super) fn publish(&mut self) {
        if !self.waiting.is_empty() {
            self.split().2.redeliver();
        }
        for port in &mut self.ports {
            deliver::publish(port);
        }
    }

    /// Books what peers say about frames that were sent earlier.
    pub(super) fn book_outcomes(&mut self) {
        for outcome in self.fabric.outcomes() {
            let Some(id) = VnicId::new(outcome.account) else { continue };
            let port = self.by_vnic.get(&id).and_then(|index| self.ports.get_mut(*index));
            let books = match port {
                Some(port) => &mut port.books,
                None => &mut self.retired.entry(id).or_default().books,
            };
            outcome.fate.book(&mut books.fabric_tx, outcome.amount);
        }
    }

    /// Stops rings that broke, and only those.
    pub(super) fn stop_broken(&mut self) -> Result<(), RingError> {
        for (index, ring, error) in std::mem::take(&mut self.broken) {
            let Some(port) = self.ports.get_mut(index) else { continue };
            port.broken_rings += 1;
            // A guest can break its ring as often as it can reset its device.
            if port.broken_rings.is_power_of_two() {
                let count = port.broken_rings;
                warn!(vnic = port.vnic.name, ring, count, %error, "stopped a broken ring");
            }
            if let Some(common) = port.common_mut(ring) {
                let generation = common.generation;
                if let Some(fd) = common.err_fd() {
                    self.ring.signal(fd, ring_token(BROKEN, index, ring, 0))?;
                }
                self.forget_ring(index, ring, generation)?;
            }
            self.ports[index].stop_ring(ring);
        }
        Ok(())
    }

    /// Signals every guest that has something new to see.
    pub(super) fn interrupt(&mut self) -> Result<(), RingError> {
        for (index, port) in self.ports.iter_mut().enumerate() {
            for ring in 0..port.ring_count() {
                let Some(common) = port.common_mut(ring) else { continue };
                let Some(fd) = common.take_interrupt() else { continue };
                let token = ring_token(INTERRUPT, index, ring, common.generation);
                self.ring.signal(fd, token)?;
                self.signals.calls += 1;
            }
        }
        Ok(())
    }

    /// When frames that wait for their vNIC's share are to be looked at again.
    fn next_shaped_us(&self, now_us: u64) -> Option<u64> {
        let shaped = self.ports.iter().filter_map(|port| port.shaped.as_ref());
        shaped.filter_map(|shaped| shaped.next_us(now_us)).min()
    }

    /// Looks again at once while there is work, else arms kicks and sleeps.
    fn next_wait(&mut self, now_us: u64) -> Wait {
        let full = self.fabric.is_full();
        let hot = self.spin.is_hot(now_us);
        // While trains wait for more frames, the worker looks for them.
        let looks_on = hot || self.hold.is_on();
        let mut ready = false;
        for queue in self.ports.iter_mut().flat_map(|port| port.tx.iter_mut().flatten()) {
            // A blocked queue is tried again when a socket has room.
            queue.blocked &= full;
            if queue.blocked || queue.held {
                continue;
            }
            if !queue.ready && looks_on {
                queue.ready = queue.ring.ring_mut().available().is_ok_and(|n| n > 0);
            }
            ready |= queue.ready;
        }
        let waiting = self.more_mail || !self.arrived.is_empty();
        if ready || waiting || self.hold.is_on() {
            return Wait::Poll;
        }
        if hot {
            self.spin.give_way(|| micros(self.started));
            return Wait::Poll;
        }
        for queue in self.ports.iter_mut().flat_map(|port| port.tx.iter_mut().flatten()) {
            if !queue.blocked && !queue.held {
                queue.ready = queue.ring.ring_mut().enable_kicks();
                ready |= queue.ready;
            }
        }
        // Guests do not kick when they post buffers.
        let retry_us = (!self.waiting.is_empty()).then_some(now_us + RETRY_US);
        let shaped_us = if self.shapes { self.next_shaped_us(now_us) } else { None };
        match self.fabric.next_deadline_us().into_iter().chain(retry_us).chain(shaped_us).min() {
            _ if ready => Wait::Poll,
            Some(at) => Wait::AtMostUs(at.saturating_sub(now_us).max(1)),
            None => Wait::Forever,
        }
    }
}

/// Microseconds since `started`.
fn micros(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}
