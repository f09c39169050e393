//! What the shell around a backend or gateway asks of it.

use crate::HostError;
use std::sync::Arc;
use wireonce_config::{Config, ConfigError};
use wireonce_ledger::Status;

/// A running backend or gateway, as the shell around it sees it.
pub trait Daemon: Send {
    /// What is so now. Called from the status server's threads, one at a time; a
    /// snapshot that takes long delays stopping by as much.
    fn status(&self) -> Status;

    /// Serves `config` from now on, and touches only what is different there. Either all
    /// of it is taken or, with an error, nothing.
    ///
    /// # Errors
    /// [`ApplyError`]: the configuration before goes on, and no frame has noticed.
    fn apply(&mut self, config: &Arc<Config>) -> Result<Applied, ApplyError>;

    /// Stops all threads, gives up all sockets and returns when nothing runs any more.
    fn stop(self);
}

/// What a new configuration has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// One line for each thing that is different; none if the configuration is the same.
    pub changes: Vec<String>,
    /// What failed when there was no way back any more: one thing each, the rest is done.
    pub troubles: Vec<String>,
}

/// Why a new configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It asks for what a running process cannot change, or the machine does not have
    /// what it asks for.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A peer.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A socket or an uplink of it cannot be opened.
    #[error("{0}")]
    Refused(String),
}
