//! What is going on in a house now, and why.
//!
//! ```text
//!  desired house ─┐        ┌─▶ Now: tables of servers, uplinks, vNICs, pools        `wireonce top`
//!  reports ───────┼─ View ─┼─▶ Sight: demand and liveness ─▶ placement ─▶ advice     `wireonce advise`
//!  tags of texts ─┘        └─▶ the way of one vNIC's frames ─▶ causes ─▶ verdicts    `wireonce explain`
//! ```
//! Both teams read the same: nothing here knows who asks. Pure: reports and the clock are
//! arguments. Rates are differences of two statuses of one life of a daemon over that daemon's own
//! clock; what is older than three report intervals is marked old, and gives no rates.
//!
//! | module | idea |
//! |---|---|
//! | [`look`] | two statuses of one daemon, and what happened between them |
//! | [`view`] | the house with what is heard of its hosts |
//! | [`now`](mod@now) | the tables |
//! | [`sight`](mod@sight) | what placement looks at: demand, and what is dead or silent |
//! | [`numbered`] | the house by number, as placement reads it |
//! | [`advice`](mod@advice) | what is out of balance, and the command |
//! | [`explain`](mod@explain) | stations and verdicts of one vNIC |
//! | [`causes`] | one function for each cause |
//! | [`notes`] | what no command mends, and what is not known |
//!
//! Why: `docs/decisions/0019-evidence.md`.
#![forbid(unsafe_code)]

pub mod advice;
pub mod causes;
pub mod explain;
mod faults;
pub mod look;
pub mod notes;
pub mod now;
pub mod numbered;
#[cfg(test)]
mod sample;
pub mod sight;
pub mod text;
pub mod view;

pub use advice::{AdviceLine, advice};
pub use explain::{Explanation, explain};
pub use look::Look;
pub use notes::Note;
pub use now::{Now, now};
pub use numbered::Numbered;
pub use sight::Sight;
pub use view::View;
pub use wireonce_placement::Command;
