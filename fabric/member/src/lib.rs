//! A host's membership in a controller: how it joins, how it asks for its text, and what
//! it keeps on disk so that it needs nobody to start.
//!
//! ```text
//!  token ──join──> Directory (CA, certificate, key, last text)
//!                      │
//!                      ▼                       take(text)
//!  controller <──TLS── Member ─ text thread ───────────────> daemon
//!                        └───── report thread <───report()──
//! ```
//! It knows nothing of daemons: whoever starts a [`Member`] gives it two closures. Nothing here
//! is ever in the way of a frame: if the controller is silent, the last text stands.
#![forbid(unsafe_code)]

pub mod ask;
pub mod backoff;
pub mod certificate;
pub mod directory;
pub mod join;
pub mod member;
pub mod messages;
pub mod text;
mod texts;
pub mod tls;
pub mod token;
pub mod transport;

pub use ask::{AskError, Https};
pub use directory::{Directory, DirectoryError, Membership};
pub use member::{Member, News, Start};
pub use text::Text;
pub use token::{HostKind, Token};
