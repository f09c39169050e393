//! Authenticated links between workers: handshake, keys, trains, replay window, loss evidence.

pub mod aead;

pub mod handshake;
pub mod key;
pub mod manager;
pub mod random;
pub mod replay;
pub mod session;

pub use aead::{OpenError, OpeningKey, SealError, SealingKey};

pub use key::{KeyError, PublicKey, StaticKey};
pub use replay::{Position, ReplayWindow};
pub use session::{PeerId, Session};
