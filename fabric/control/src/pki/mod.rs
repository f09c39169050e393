//! Who may speak to the controller over the network: its certificate authority, the tokens that
//! let hosts in, the certificates that it gave, and which of them still count.
//!
//! ```text
//! token make ─> Invitation (hash of the secret) ─┐
//!                          join, with the secret ┴─> Credentials ─> certificate, 30 days
//!                                                        ▲  ▲
//!                                     renew, after 20 ───┘  └── revoke: none of it counts any more
//! each request: certificate ─> Identity, number ─> State::admit ─> Caller
//! ```
//! Everything is in the store: what is written here passes by the key `house` as changes do, so a
//! token is used once, whoever asks at the same time. A backup has it all, the authority's
//! private key too.

mod authority;
mod credentials;
mod identity;
mod plans;

#[cfg(test)]
mod tests;

pub use authority::{Authority, ControllerKey};
pub use credentials::{Credentials, Invitation, Issued, Lasting};
pub use identity::{Holder, Identity};
pub use plans::{
    Given, Invite, plan_forget, plan_invite, plan_join, plan_person, plan_renew, plan_revoke,
};
