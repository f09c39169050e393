//! Bandwidth: who gets how much of an uplink, and the leases that make it safe.
//!
//! Pure: no I/O, no clock, no threads. Time and demand are arguments, rates are whole bits a
//! second, and all arithmetic is on integers, so that nothing drifts and a seed repeats a run.
//!
//! ```text
//!              demand                                   rate, epoch, expiry
//!   server ───────────────▶ Tree::allocate ─▶ Lessor ───────────────────────▶ Lessee at the server
//!   server ───────────────▶   who gets what     what may be promised now        what may be sent now
//! ```
//!
//! | module | idea |
//! |---|---|
//! | [`message`] | reports and leases between hosts |
//! | [`rate`] | rates as people write them |
//! | [`terms`] | reservation, shares, limit: what a grant or a vNIC is given |
//! | [`fill`](mod@fill) | one level: divide a capacity among claims |
//! | [`tree`] | uplink, grants, vNICs: level by level |
//! | [`lease`] | promises that expire, and never add up to more than there is |
//! | [`bucket`] | how much may be sent now, at a rate that may change |
//!
//! Why it is done this way: `docs/decisions/0010-shares-and-leases.md`.
#![forbid(unsafe_code)]

pub mod bucket;
pub mod fill;
pub mod lease;
pub mod message;
pub mod rate;
pub mod terms;
pub mod tree;

pub use bucket::Bucket;
pub use fill::{Claim, Filler, fill};
pub use lease::{Lease, LeaseTiming, Lessee, Lessor, Report, ServerIndex};
pub use message::{LeaseMessage, Message, ReceiveMessage, ReportMessage};
pub use rate::{Rate, RateError};
pub use terms::{Demand, Terms, TermsError};
pub use tree::{Divider, GrantNode, Tree, VnicNode, share_out};
