//! Which of a worker's sockets have room, and when to look at the others again.
//!
//! ```text
//!            EAGAIN: poll for room                     ENOBUFS, ENOMEM
//!   full <─────────────────────────── free ─────────────────────────────> starved
//!     └── the poll completes ──────────┘ └──────────────── 1 ms passes ──────┘
//! ```
//!
//! A socket whose buffer is full becomes writable when it has room. A host that is out of
//! memory refuses sends on sockets that are writable all the while: a poll would complete at
//! once, and the worker would try again and again. So it waits.

/// After this time a send is tried again that the host had no memory for.
const STARVED_US: u64 = 1_000;

/// Why a socket takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Its buffer is full.
    Socket,
    /// The host is out of memory.
    Memory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Free,
    Polled,
    Starved { until_us: u64 },
}

/// All sockets of a worker, by path number.
#[derive(Debug)]
pub(super) struct Rooms(Vec<Room>);

impl Rooms {
    pub(super) fn new(sockets: usize) -> Self {
        Self(vec![Room::Free; sockets])
    }

    /// True if a send may be tried.
    pub(super) fn is_free(&self, socket: usize) -> bool {
        self.0.get(socket) == Some(&Room::Free)
    }

    /// A send found no room. True if the socket is to be polled for it.
    #[must_use = "a socket that nobody polls stays full"]
    pub(super) fn refused(&mut self, socket: usize, full: Full, now_us: u64) -> bool {
        if let Some(room) = self.0.get_mut(socket) {
            *room = match full {
                Full::Socket => Room::Polled,
                Full::Memory => Room::Starved { until_us: now_us.saturating_add(STARVED_US) },
            };
        }
        full == Full::Socket
    }

    /// The poll for room completed.
    pub(super) fn writable(&mut self, socket: usize) {
        if let Some(room) = self.0.get_mut(socket) {
            *room = Room::Free;
        }
    }

    /// Starved sockets whose time is over may be tried again.
    pub(super) fn pass_time(&mut self, now_us: u64) {
        for room in &mut self.0 {
            if matches!(room, Room::Starved { until_us } if *until_us <= now_us) {
                *room = Room::Free;
            }
        }
    }

    pub(super) fn any_full(&self) -> bool {
        self.0.iter().any(|room| *room != Room::Free)
    }

    /// When [`Self::pass_time`] has something to do.
    pub(super) fn next_deadline_us(&self) -> Option<u64> {
        let starved = self.0.iter().filter_map(|room| match room {
            Room::Starved { until_us } => Some(*until_us),
            _ => None,
        });
        starved.min()
    }
}
