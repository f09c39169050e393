//! The ledger: counters that close.
//!
//! Each vNIC has one [`Account`] per [`Stage`]. At every stage, after the
//! traffic has drained, `in + copies = out + drops`, in frames, wire segments
//! and bytes. A drop always has a [`DropReason`].
#![forbid(unsafe_code)]

mod account;
pub mod control;
mod reason;
pub mod report;
pub mod status;

pub use account::{Account, Amount, Stage};
pub use reason::DropReason;
pub use report::HostReport;
pub use status::Status;
