//! The io_uring loop: kick, ring, guard, link, and back.
//!
//! ```text
//!            ┌──────────────── one turn of the loop ────────────────┐
//!  kicks ──▶ │ enter ─▶ fabric in ─▶ mail ─▶ guests out ─▶ fabric out │ ──▶ trains
//!  datagrams │              │         │          │                    │ ──▶ interrupts
//!            │              ▼         ▼          ▼                    │
//!            │           deliver  start and   deficit round robin     │
//!            │                    stop rings  over the ready queues   │
//!            └───────────────────────────────────────────────────────┘
//! ```
//!
//! A worker shares nothing. What others want of it comes by mail: rings to serve,
//! sessions to use, counters to copy. Each port has a credit of CPU time per round,
//! charged for every chain, rejected ones included, so that a guest that floods
//! costs its neighbours their fair share and no more. While there is work the
//! worker does not sleep and guests need not kick; a little later it asks for kicks
//! and sleeps in its ring.
//!
//! | file | what it does |
//! |---|---|
//! | `run`, `hold` | the loop: what happens in which order; when open trains are sent |
//! | `turns`, `transmit`, `cost` | whose turn it is; a turn, from a guest to the fabric; what it costs |
//! | `inward`, `deliver`, `waiting` | from the fabric to the guests; what waits for their buffers |
//! | `shaped`, `shape` | what waits for its share of an uplink that is shaped; into it and out of it |
//! | `local` | between guests of this process |
//! | `mail`, `command`, `handle` | rings that start and stop, VMMs that come and go |
//! | `tables` | the forwarding tables, and how others take their place |
//! | `port`, `snapshot`, `tokens` | a vNIC's state, its copy for others, names in the ring |

mod command;
mod cost;
mod deliver;
mod handle;
mod hold;
mod inward;
mod local;
mod mail;
mod port;
mod run;
mod shape;
mod shaped;
mod snapshot;
mod tables;
#[cfg(test)]
mod tests;
mod tokens;
mod transmit;
mod turns;
mod waiting;

pub(crate) use command::Command;
pub(crate) use handle::PortHandle;
pub(crate) use inward::worker_of;
use snapshot::Signals;
pub(crate) use snapshot::{PortSnapshot, Snapshot};
pub(crate) use tables::NewTables;
pub(crate) use tokens::FABRIC_TOKEN_KIND;

use crate::virtqueue::{RingError, TxFrame};
use cost::FLOOD_MAX_NS;
use hold::Hold;
use inward::Inward;
use local::Arena;
use port::Port;
use rustc_hash::FxHashMap;
use std::{collections::VecDeque, time::Instant};
use tables::{Retired, Tables};
use wireonce_host::workers::{Inbox, Mailbox, Seat, Spin};
use wireonce_ledger::Account;
use wireonce_link::{Fabric, FabricConfig, FabricError};
use wireonce_ring::{Completion, Ring, Token};
use wireonce_wire::VnicId;

/// What a worker needs to start.
#[derive(Debug)]
pub(crate) struct WorkerConfig {
    pub(crate) fabric: FabricConfig,
    pub(crate) tables: NewTables,
    /// The clock of this process: microseconds since then.
    pub(crate) clock: Instant,
}

/// One worker.
pub(crate) struct Worker {
    ring: Ring,
    inbox: Inbox<Self>,
    fabric: Fabric,
    tables: Tables,
    /// A place is not given up: the ring has tokens that name it.
    ports: Vec<Port>,
    /// Places that have no vNIC now.
    vacant: Vec<usize>,
    by_vnic: FxHashMap<VnicId, usize>,
    /// vNICs that were served here.
    retired: FxHashMap<VnicId, Retired>,
    sources: FxHashMap<u64, Account>,
    colleagues: Vec<Mailbox<Self>>,
    arena: Arena,
    frame: TxFrame,
    scratch: Vec<u8>,
    broken: Vec<(usize, u16, RingError)>,
    /// Where frames wait for a guest's buffers: port, queue pair.
    waiting: Vec<(usize, usize)>,
    /// What the fabric received and has not had its turn.
    arrived: VecDeque<Completion>,
    flood_credit_ns: i64,
    /// CPU time that it takes to send as much as came in in this turn of the loop.
    owed_ns: i64,
    /// CPU time that the guests had in it.
    guests_ns: i64,
    /// When this turn of the loop began.
    turn_us: u64,
    /// A socket that was full has room.
    room: bool,
    /// There are more commands than one turn may read.
    more_mail: bool,
    /// Where the next round starts, so that no port is always first.
    next_port: usize,
    hold: Hold,
    spin: Spin,
    signals: Signals,
    /// Any port's home is shaped.
    shapes: bool,
    started: Instant,
}

impl Worker {
    /// The worker that sits at `seat`.
    pub(crate) fn new(config: &WorkerConfig, seat: Seat<Self>) -> Result<Self, FabricError> {
        let Seat { number: _, inbox, colleagues } = seat;
        let mut ring = Ring::new()?;
        let fabric = Fabric::new(&mut ring, &config.fabric)?;
        ring.poll_multi(inbox.bell_fd(), Token::new(tokens::MAIL, 0))?;
        let mut worker = Self {
            ring,
            inbox,
            fabric,
            tables: Tables::default(),
            ports: Vec::new(),
            vacant: Vec::new(),
            by_vnic: FxHashMap::default(),
            retired: FxHashMap::default(),
            sources: FxHashMap::default(),
            colleagues,
            arena: Arena::default(),
            frame: TxFrame::new(),
            scratch: Vec::new(),
            broken: Vec::new(),
            waiting: Vec::new(),
            owed_ns: 0,
            guests_ns: 0,
            turn_us: 0,
            arrived: VecDeque::new(),
            flood_credit_ns: FLOOD_MAX_NS,
            room: false,
            more_mail: false,
            next_port: 0,
            hold: Hold::default(),
            spin: Spin::default(),
            signals: Signals::default(),
            shapes: false,
            started: config.clock,
        };
        worker.take_tables(config.tables.clone())?;
        Ok(worker)
    }

    fn port(&mut self, vnic: VnicId) -> Option<&mut Port> {
        self.ports.get_mut(*self.by_vnic.get(&vnic)?)
    }

    /// The parts that the way in needs, borrowed apart.
    fn split(&mut self) -> (&mut Fabric, &mut Ring, Inward<'_>) {
        let inward = Inward {
            directory: &self.tables.directory,
            inflows: self.tables.inflows.as_deref(),
            ports: &mut self.ports,
            by_vnic: &self.by_vnic,
            retired: &mut self.retired,
            sources: &mut self.sources,
            colleagues: &self.colleagues,
            scratch: &mut self.scratch,
            last_pass: &mut self.tables.last_pass,
            broken: &mut self.broken,
            waiting: &mut self.waiting,
            now_us: self.turn_us,
            flood_credit_ns: &mut self.flood_credit_ns,
            cost_ns: 0,
            later_ns: 0,
            owed_ns: 0,
        };
        (&mut self.fabric, &mut self.ring, inward)
    }
}
