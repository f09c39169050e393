//! One error for the whole harness: it names the thing and what went wrong with it.

use std::io;

/// What went wrong in the test bed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, socket or process could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path or name.
        what: String,
        /// The reason of the operating system.
        source: io::Error,
    },
    /// A command ended with an error.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The last lines that it wrote.
        stderr: String,
    },
    /// Something did not happen in its time.
    #[error("{what} did not happen within {limit_ms} ms{detail}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// The limit.
        limit_ms: u128,
        /// More, such as the end of a log; empty or starting with a separator.
        detail: String,
    },
    /// Something answered, but not what was expected.
    #[error("{0}")]
    Unexpected(String),
    /// Debian packages are missing and may not be installed.
    #[error(
        "missing packages: {0}\ninstall them with: apt-get install --no-install-recommends {0}"
    )]
    MissingPackages(String),
}

/// A result of the harness.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds what was being done to an error of the operating system.
pub(crate) trait Context<T> {
    /// Names what was being done.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}
