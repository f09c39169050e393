//! Authenticated links between workers: handshake, keys, trains, replay window, loss evidence.

pub mod aead;
pub mod agent;
pub mod evidence;
pub mod fabric;
pub mod handshake;
pub mod key;
pub mod manager;
pub mod random;
pub mod replay;
pub mod session;
pub mod shared;
mod socket;

pub use aead::{KeyLimits, OpenError, OpeningKey, SealError, SealingKey};
pub use agent::{Agent, AgentHandle, ControlSocket, SessionEvents};
pub use evidence::{Evidence, Fate, Fates};
pub use fabric::{
    Fabric, FabricConfig, FabricError, FabricSnapshot, Inbound, LinkCounters, Outbound, Outcome,
    PeerAddress, SessionEvent,
};
pub use key::{KeyError, PublicKey, StaticKey};
pub use replay::{Position, ReplayWindow};
pub use session::{PeerId, Session};
pub use shared::{SEAL_LEN, SharedKey};
