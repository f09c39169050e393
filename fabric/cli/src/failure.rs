//! How a verb ends: the exit status, and one line on standard error.

use std::process::ExitCode;
use wireonce_config::ConfigError;
use wireonce_control::client::ClientError;

/// What the exit statuses mean, for `--help`.
pub(crate) const EXIT_CODES: &str = "Exit status:
  0  all is well
  1  something failed while it ran
  2  the command line or the configuration is wrong; nothing was started";

/// Why a verb did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something failed while it ran.
    Runtime(String),
    /// The command line or the configuration is wrong; nothing was started.
    Input(String),
    /// All has been said; only the exit status is left.
    Silent,
}

impl Failure {
    /// What it says.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Runtime(text) | Self::Input(text) => text,
            Self::Silent => "",
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Input(error.to_string())
    }
}

impl From<ClientError> for Failure {
    /// The controller refused, and says why; or there is none.
    fn from(error: ClientError) -> Self {
        Self::Runtime(error.to_string())
    }
}

/// Prints the failure, if there is one, and turns it into the exit status.
pub(crate) fn report(done: Result<(), Failure>) -> ExitCode {
    let (text, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Runtime(text)) => (text, 1),
        Err(Failure::Input(text)) => (text, 2),
        Err(Failure::Silent) => return ExitCode::from(1),
    };
    // `eprintln!` would panic if standard error is closed.
    let _ =
        std::io::Write::write_all(&mut std::io::stderr(), format!("error: {text}\n").as_bytes());
    ExitCode::from(code)
}
