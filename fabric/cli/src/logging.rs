//! Log lines on standard error, for a person or for the journal.

use std::{env, io, io::IsTerminal};
use tracing_subscriber::EnvFilter;

/// The environment variable with the filter, such as `info,wireonce_link=debug`.
const FILTER: &str = "WIREONCE_LOG";

/// Starts logging. Under systemd the journal adds the time itself.
pub(crate) fn start() {
    let filter = || {
        EnvFilter::builder()
            .with_env_var(FILTER)
            .with_default_directive(tracing::Level::INFO.into())
            .from_env_lossy()
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_ansi(io::stderr().is_terminal())
        // A line that cannot be written (a full disk, a reader that went away) is lost. To
        // report that on the same standard error would end the process.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    // Fails only if logging has been started before, which is as good.
    let _ = if env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().try_init()
    } else {
        lines.try_init()
    };
}
