//! SIGHUP, or a text from the controller: the file is read again, with the newest text below it if
//! there is one, and the daemon takes what is different.
//!
//! ```text
//! SIGHUP, text ─> RELOADING ─> file ─> key ─> Daemon::apply ─┬─> log, status ─> READY
//!                                └─ wrong ──────┴─ refused ──┘   the one before goes on
//! ```

use crate::{
    beginning::{Joined, TEXT_ORIGIN},
    status_server::StatusServer,
};
use sd_notify::NotifyState;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::{error, info, warn};
use wireonce_config::{Config, HostFile};
use wireonce_host::{Applied, Daemon};
use wireonce_link::StaticKey;
use wireonce_member::Text;

/// Lines of a change that the log and the status have; the rest is counted.
const LINES_MAX: usize = 20;

/// Where a daemon's configuration comes from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file.
    pub(crate) path: PathBuf,
    /// The public key that this host started with.
    pub(crate) public_key: [u8; 32],
    /// The newest text of the controller, whether it could be served or not.
    pub(crate) newest: Mutex<Option<Text>>,
    /// The membership in a controller, if it has one.
    pub(crate) joined: Option<Joined>,
}

impl Source {
    /// Remembers a text, which stands below the file from now on.
    pub(crate) fn remember(&self, text: Text) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// The configuration as it is to be now.
    fn read(&self) -> Result<Config, String> {
        let file = HostFile::load(&self.path).map_err(|error| error.to_string())?;
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match (file.control(), &*newest) {
            (Some(_), Some(text)) => {
                file.with(text.text(), TEXT_ORIGIN).map_err(|error| error.to_string())
            }
            _ => Ok(file.alone().clone()),
        }
    }
}

/// Reads the file again and serves it with the newest text, or says why not.
///
/// # Errors
/// Why not; the configuration before goes on.
pub(crate) fn reload<D: Daemon + 'static>(
    source: &Source,
    server: &StatusServer<D>,
) -> Result<(), String> {
    let mut states = vec![NotifyState::Reloading, NotifyState::Status("taking a configuration")];
    states.extend(NotifyState::monotonic_usec_now());
    super::daemon::notify(&states);
    match take(source, server) {
        Ok(applied) => {
            for trouble in &applied.troubles {
                warn!(trouble, "a part of the configuration could not be done");
            }
            match shown(&applied.changes).join("; ") {
                same if same.is_empty() => info!("the configuration is the same"),
                changes => info!(changes, "serving another configuration"),
            }
            Ok(())
        }
        Err(reason) => {
            server.note_refusal(&reason);
            error!(reason, "configuration refused; the one before goes on");
            Err(reason)
        }
    }
}

fn take<D: Daemon + 'static>(source: &Source, server: &StatusServer<D>) -> Result<Applied, String> {
    let config = source.read()?;
    let key = StaticKey::load(&config.host.private_key_file)
        .map_err(|error| format!("{}: {error}", config.key_file_place()))?;
    if *key.public().as_bytes() != source.public_key {
        return Err(format!(
            "{}: it has another key than when the daemon started; put it back, or restart the \
             daemon",
            config.key_file_place()
        ));
    }
    config.check_own_key(&source.public_key).map_err(|error| error.to_string())?;
    server.apply(&Arc::new(config)).map_err(|error| error.to_string())
}

/// The first lines, and how many more there are.
pub(crate) fn shown(lines: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = lines.iter().take(LINES_MAX).cloned().collect();
    if let Some(more) = lines.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
        shown.push(format!("and {more} more"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_change_is_counted_not_listed() {
        let lines: Vec<String> = (0..25).map(|n| n.to_string()).collect();
        assert_eq!(shown(&lines[..20]), lines[..20]);
        let shown = shown(&lines);
        assert_eq!((shown.len(), shown[20].as_str()), (21, "and 5 more"));
    }
}
