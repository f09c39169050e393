//! Which uplink a vNIC is attached to, agreed between its server and the gateways.
//!
//! ```text
//!   server                                       gateway
//!   Server: chooses by what it hears  ── claims ──▶ Gateway: takes the newest epoch,
//!           swaps, moves, holds still ◀─ answers ──         fences by what is echoed
//!                                     ◀─ states ───         tells how its uplinks are
//! ```
//!
//! **The home is a lease that hellos renew.** A gateway passes frames of a server's vNICs for
//! [`Timing::lease_us`] after it *sent* the last hello that the server has echoed. The server leaves a
//! gateway that it has not *heard* for [`Timing::silence_us`], which is longer. What the
//! gateway counts from happened before what the server counts from, so the gateway has stopped
//! before the server goes elsewhere. Both count on clocks of their own.
//!
//! **A lease that ran out does not come back by an echo.** The gateway then begins another *term* for
//! that server, and every claim has to name the term: so a server that went elsewhere meanwhile has to
//! come back on purpose, and what it said before is void, however late it arrives.
//!
//! **Epochs order the claims of one vNIC** over all of its uplinks, and over the lives of its server's
//! process, which persists them ([`Epochs`]) before it uses them.
//!
//! Everything here is pure: the clock is an argument, messages are values. Decision 16 has the reasons.
#![forbid(unsafe_code)]

mod epochs;
mod gateway;
mod message;
mod server;
#[cfg(test)]
mod tests;
mod timing;

pub use epochs::{EPOCH_MAX, EPOCHS_RESERVED, Epochs};
pub use gateway::{Gateway, GatewayOutput, Tabled, Word};
pub use message::{
    Answer, Answers, CLAIMS_MAX, Claim, Claims, Phase, STATES_MAX, State, StateReport, States,
    Verdict,
};
pub use server::{Held, Server, ServerOutput, Standing, Way, Why, Wish};
pub use timing::Timing;

/// The channel of claims and their answers between two hosts.
pub const ATTACHMENT_CHANNEL: u8 = 2;
/// The channel on which gateways tell how their uplinks are.
pub const UPLINK_STATE_CHANNEL: u8 = 3;
