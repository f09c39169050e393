//! SIGHUP: the file is read again, and the daemon takes what is different in it.
//!
//! ```text
//! SIGHUP ─> RELOADING ─> file ─> key ─> Daemon::apply ─┬─> log, status ─> READY
//!                          └─ wrong ──────┴─ refused ──┘   the one before goes on
//! ```

use crate::status_server::StatusServer;
use sd_notify::NotifyState;
use std::{path::PathBuf, sync::Arc};
use tracing::{error, info, warn};
use wireonce_config::Config;
use wireonce_host::{Applied, Daemon};
use wireonce_link::StaticKey;

/// Lines of a change that the log and the status have; the rest is counted.
const LINES_MAX: usize = 20;

/// Where a daemon's configuration comes from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file.
    pub(crate) path: PathBuf,
    /// The public key that this host started with.
    pub(crate) public_key: [u8; 32],
}

/// Reads the file again and serves it, or says why not.
pub(crate) fn reload<D: Daemon + 'static>(source: &Source, server: &StatusServer<D>) {
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
        }
        Err(reason) => {
            server.note_refusal(&reason);
            error!(reason, "configuration refused; the one before goes on");
        }
    }
}

fn take<D: Daemon + 'static>(source: &Source, server: &StatusServer<D>) -> Result<Applied, String> {
    let config = Config::load(&source.path).map_err(|error| error.to_string())?;
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
