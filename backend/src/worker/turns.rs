//! The guests' turns: deficit round robin by CPU time.
//!
//! ```text
//!   round:  port 3 ─▶ port 0 ─▶ port 1 ─▶ port 2     each: credit += a quantum, then
//!   round:  port 0 ─▶ port 1 ─▶ port 2 ─▶ port 3     its queue pairs while credit > 0
//! ```
//! A turn may end in debt, by one frame or by what its frames cost at the last hop; the
//! next turns pay that off first. Rounds begin at another port each time, and a port's
//! turn at the queue pair that the credit did not reach. After some rounds the loop goes
//! on, so that guests that send do not keep others from receiving.
//!
//! Nor the other way round: guests have at least the time to send as much as came, one
//! frame out for each frame in. With less, of two hosts that send to each other
//! as fast as they can, the one that is behind stops sending and falls behind further,
//! because the other has nothing to take in and all of its time to send; what does not
//! fit in the socket is lost.

use super::{
    Worker,
    cost::{FLOOD_MAX_NS, QUANTUM_NS},
    port::{Port, TxQueue},
    shape,
    transmit::{self, Outward},
};
use wireonce_wire::VnicId;

/// Rounds over the ready ports before the fabric is looked at again, at least.
const ROUNDS_MIN: usize = 4;

impl Worker {
    /// What a turn may use of what is not charged by the round.
    pub(super) fn refill_credits(&mut self) {
        self.flood_credit_ns = (self.flood_credit_ns + QUANTUM_NS).min(FLOOD_MAX_NS);
        for port in &mut self.ports {
            port.rx_credit_ns = QUANTUM_NS;
        }
    }

    /// Rounds over the ports with frames to send. Returns how many chains they took.
    pub(super) fn serve_guests(&mut self, now_us: u64) -> usize {
        let mut chains = 0;
        let mut rounds = 0;
        self.guests_ns = 0;
        // Ends: every chain costs something.
        while rounds < ROUNDS_MIN || self.guests_ns < self.owed_ns {
            rounds += 1;
            let mut round = 0;
            for step in 0..self.ports.len() {
                let index = (self.next_port + step) % self.ports.len();
                round += self.serve_port(index, now_us);
            }
            self.next_port = self.next_port.wrapping_add(1);
            chains += round;
            if round == 0 {
                break;
            }
        }
        chains
    }

    /// Gives one port its turn. Returns how many chains it took.
    pub(super) fn serve_port(&mut self, index: usize, now_us: u64) -> usize {
        let pairs = {
            let port = &mut self.ports[index];
            let any_ready = port.tx.iter().flatten().any(TxQueue::may_go);
            if !any_ready {
                return 0;
            }
            // A debt from the last turn is paid off first.
            port.credit_ns = (port.credit_ns + QUANTUM_NS).min(QUANTUM_NS);
            port.tx.len()
        };
        let before_ns = self.ports[index].credit_ns;
        let mut chains = 0;
        let first = self.ports[index].next_pair;
        for pair in (first..pairs).chain(0..first) {
            // Whom the credit did not reach is first the next time.
            if self.ports[index].credit_ns <= 0 {
                break;
            }
            self.ports[index].next_pair = (pair + 1) % pairs;
            let ready = |port: &Port| port.tx[pair].as_ref().is_some_and(TxQueue::may_go);
            if !ready(&self.ports[index]) {
                continue;
            }
            let (ports, mut out) = self.outward(now_us);
            match transmit::turn(&mut ports[index], pair, &mut out) {
                Ok(turn) => {
                    chains += turn.chains;
                    if let Some(queue) = self.ports[index].tx[pair].as_mut() {
                        queue.blocked = turn.blocked;
                        queue.held = turn.held;
                        queue.ready = !turn.empty;
                    }
                }
                Err(error) => {
                    let ring = u16::try_from(pair * 2 + 1).unwrap_or(u16::MAX);
                    self.broken.push((index, ring, error));
                    if let Some(queue) = self.ports[index].tx[pair].as_mut() {
                        queue.ready = false;
                    }
                }
            }
            // The sender pays for the last hop, too.
            let cost_ns = self.deliver_local();
            self.ports[index].credit_ns -= cost_ns;
        }
        self.guests_ns += before_ns - self.ports[index].credit_ns;
        chains
    }

    /// Sends what waited for its vNIC's share of the home. Returns how many frames went.
    pub(super) fn serve_shaped(&mut self, now_us: u64) -> usize {
        let (mut frames, mut over) = (0, false);
        for port in self.ports.iter_mut().filter(|port| port.shaped.is_some()) {
            frames += shape::drain(port, &mut self.fabric, &self.tables.directory, now_us);
            over |= port.shaped.take_if(|shaped| shaped.is_over()).is_some();
        }
        if over {
            self.shapes = self.ports.iter().any(|port| port.shaped.is_some());
        }
        frames
    }

    /// Announces a vNIC in its guest's name.
    pub(super) fn announce(&mut self, vnic: VnicId, now_us: u64) {
        let Some(&index) = self.by_vnic.get(&vnic) else { return };
        let (ports, mut out) = self.outward(now_us);
        transmit::announce(&mut ports[index], &mut out);
        self.ports[index].credit_ns -= self.deliver_local();
    }

    /// The ports, and the parts that the way out needs, borrowed apart.
    fn outward(&mut self, now_us: u64) -> (&mut [Port], Outward<'_>) {
        let out = Outward {
            fabric: &mut self.fabric,
            directory: &self.tables.directory,
            neighbours: &self.tables.neighbours,
            arena: &mut self.arena,
            frame: &mut self.frame,
            scratch: &mut self.scratch,
            last_way: &mut self.tables.last_way,
            now_us,
        };
        (&mut self.ports, out)
    }

    /// Returns the CPU time that it took, in nanoseconds.
    fn deliver_local(&mut self) -> i64 {
        let mut arena = std::mem::take(&mut self.arena);
        let (_, _, mut inward) = self.split();
        inward.take_local(&mut arena);
        inward.redeliver();
        let cost_ns = inward.cost_ns + inward.later_ns;
        self.arena = arena;
        cost_ns
    }
}
