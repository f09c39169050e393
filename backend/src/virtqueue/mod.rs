//! The ring hot path: the only place that touches guest memory.
//!
//! # Theory of operation
//!
//! A split virtqueue is three areas in guest memory. The driver describes chains
//! of buffers in the descriptor table and offers their heads in the available
//! ring; we return them in the used ring. Ours completes strictly in order, so
//! position `i` of the one ring is answered at position `i` of the other, and
//! all indices are points on one circle of 2^16:
//!
//! ```text
//!    published_used     next_used       next_avail        seen_avail
//!          │                │                │                 │
//!  ────────┼────────────────┼────────────────┼─────────────────┼────────▶
//!   driver │     staged     │   in flight    │    may be       │  driver's
//!   owns   │  (completed)   │   (popped)     │    popped       │  next
//!          │                │                │                 │
//!          └─ publish() ─▶  └─ complete() ─▶ └─ pop() ─▶       └─ available() ─▶
//!                                            ◀─ undo_pop() ─┘
//!
//!          |◀──────────────── at most `size` entries ─────────▶|
//! ```
//!
//! A batch is: [`SplitRing::available`] once (one Acquire load of the driver's
//! index), `pop` and `complete` per chain, [`SplitRing::publish`] once (one
//! Release store of ours), [`SplitRing::needs_notification`] once. The lines that
//! both sides write are touched once per batch and not once per frame.
//!
//! # What a hostile guest can and cannot do
//!
//! * Every shared field is loaded once into a private value and judged there.
//!   Pointers to the areas are resolved and checked once at the start; the size
//!   cannot change while the ring runs, and indices are masked at each access.
//! * A malformed *chain* ([`ChainFault`]) is returned with length 0, in its turn,
//!   exactly once. A malformed *ring* ([`RingError`]) ends the ring: an index that
//!   jumps, a head that does not exist or is in flight.
//! * Work is bounded: 1,024 descriptors a chain, `size` chains a batch.
//! * Frames are copied with raw pointers. No reference to guest bytes exists, so
//!   a guest that writes while we read can only garble its own frame.
//! * A VMM that takes the memory away costs its own session ([`sigbus`]).
//!
//! # Files
//!
//! | file | what it does |
//! |---|---|
//! | `memory.rs` | guest addresses to host pointers |
//! | `sigbus.rs` | survives a truncated memory file |
//! | `shared.rs` | atomics in guest memory, read once |
//! | `areas.rs` | where the parts of a ring lie |
//! | `ahead.rs` | entries loaded before they are popped |
//! | `split.rs` | the indices: pop, complete, publish |
//! | `take.rs` | chains that are only read: popped and completed in one step |
//! | `walk.rs` | descriptors to segments; checks on chains |
//! | `chain.rs` | segments, copies in and out |
//! | `notify.rs` | interrupts and kicks |
//! | `tx.rs`, `rx.rs` | frames on top of chains |
//!
//! Dirty-page logging for live migration is not done: [`GuestMemory`] carries no
//! bitmap, so `VHOST_F_LOG_ALL` must not be offered.

mod ahead;
mod areas;
mod chain;
mod config;
mod memory;
mod notify;
mod rx;
mod shared;
pub mod sigbus;
mod split;
mod take;
mod tx;
mod walk;

#[cfg(test)]
pub(crate) mod tests;

pub use chain::{CHAIN_SEGMENTS_MAX, Chain, ChainFault, ChainReader, ChainWriter};
pub use config::{GuestMemory, RingConfig};
pub use memory::{HostSegment, MappedMemory, MemoryError, RegionHint, Translation, Unmapped};
pub use rx::{Delivered, RxRing};
pub use split::{Pop, RING_SIZE_MAX, RingArea, RingError, SplitRing};
pub use tx::{Next, TxFrame, TxRing};
