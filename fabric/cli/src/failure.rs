//! How a verb ends: the exit status, and one line on standard error.
//!
//! Whoever asked with `--json` gets that line as JSON, in one form for everything that can go
//! wrong: that of the API's errors, and the sentence that people would read.
//!
//! ```text
//! {"error":{"gate":"conflict","thing":..,"problem":..,"remedy":..},"text":"..","exit_status":1}
//! ```

use crate::output;
use serde::Serialize;
use std::{env, process::ExitCode};
use wireonce_config::ConfigError;
use wireonce_control::{Refusal, client::ClientError};

/// What the exit statuses mean, for `--help`.
pub(crate) const EXIT_CODES: &str = "Exit status:
  0  all is well
  1  something failed while it ran, or the controller refused it
  2  the command line or the configuration is wrong; nothing was started
`diff` has its own: 0 the same, 1 it differs, 2 it could not be found out.

With --json a failure is one line of JSON on standard error:
  {\"error\":{\"gate\":\"conflict\",\"thing\":..,\"problem\":..,\"remedy\":..},\"text\":\"..\",\"exit_status\":1}
`gate` is one of the API's, or `unreachable`, `input`, `failed`; `text` is the sentence for people.";

/// Why a verb did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something failed while it ran.
    Runtime(String),
    /// The command line or the configuration is wrong; nothing was started.
    Input(String),
    /// The controller says no.
    Refused(Box<Refusal>),
    /// There is no controller, or it does not answer as one.
    Unreachable(String),
    /// Another failure of a verb for which 1 has a meaning of its own.
    Trouble(Box<Self>),
    /// All has been said; only the exit status is left.
    Silent,
}

/// A failure as JSON.
#[derive(Debug, Serialize)]
struct ErrorLine<'f> {
    error: ErrorFields<'f>,
    text: &'f str,
    exit_status: u8,
}

#[derive(Debug, Serialize)]
struct ErrorFields<'f> {
    /// Where it was stopped, if that was not at one of the controller's gates.
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<&'static str>,
    /// What the controller said.
    #[serde(flatten)]
    refusal: Option<&'f Refusal>,
}

impl Failure {
    /// What it says.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Runtime(text) | Self::Input(text) | Self::Unreachable(text) => text.clone(),
            Self::Refused(refusal) => refusal.to_string(),
            Self::Trouble(failure) => failure.text(),
            Self::Silent => String::new(),
        }
    }

    fn exit_status(&self) -> u8 {
        match self {
            Self::Input(_) | Self::Trouble(_) => 2,
            Self::Runtime(_) | Self::Refused(_) | Self::Unreachable(_) | Self::Silent => 1,
        }
    }

    /// Where it was stopped, if not at one of the controller's gates, and what the controller said.
    fn origin(&self) -> (Option<&'static str>, Option<&Refusal>) {
        match self {
            Self::Refused(refusal) => (None, Some(refusal)),
            Self::Input(_) => (Some("input"), None),
            Self::Unreachable(_) => (Some("unreachable"), None),
            Self::Trouble(failure) => failure.origin(),
            Self::Runtime(_) | Self::Silent => (Some("failed"), None),
        }
    }

    /// The line for scripts.
    fn json(&self) -> String {
        let (gate, refusal) = self.origin();
        let (exit_status, text) = (self.exit_status(), self.text());
        let error = ErrorFields { gate, refusal };
        // Texts and numbers can always be written.
        serde_json::to_string(&ErrorLine { error, text: &text, exit_status }).unwrap_or_default()
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
        match error {
            ClientError::Refused(refusal) => Self::Refused(refusal),
            ClientError::Unreachable(text) => Self::Unreachable(text),
        }
    }
}

/// Prints the failure, if there is one, and turns it into the exit status.
pub(crate) fn report(done: Result<(), Failure>, json: bool) -> ExitCode {
    let Err(failure) = done else { return ExitCode::SUCCESS };
    if !matches!(failure, Failure::Silent) {
        let line = if json { failure.json() } else { format!("error: {}", failure.text()) };
        output::complain(&format!("{line}\n"));
    }
    ExitCode::from(failure.exit_status())
}

/// What is wrong with a command line, or the help that it asks for.
pub(crate) fn misread(error: &clap::Error) -> ExitCode {
    // What the line says cannot be asked of it: it could not be read.
    let wants_json = env::args_os().any(|word| word == "--json");
    if error.use_stderr() && wants_json {
        let text = error.render().to_string().trim_end().to_owned();
        return report(Err(Failure::Input(text)), true);
    }
    // A closed standard output is nobody's error.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use wireonce_control::Gate;

    fn line(failure: &Failure) -> Value {
        let line = failure.json();
        assert!(!line.contains('\n'), "{line}");
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn all_failures_have_one_form_and_a_refusal_keeps_what_the_controller_said() {
        let refusal = Refusal::new(Gate::Conflict, "[[vnic]] \"vm-a\"", "was changed", "try again");
        let text = refusal.to_string();
        let refused = Failure::Refused(Box::new(refusal));
        assert_eq!(
            line(&refused),
            json!({
                "error": {
                    "gate": "conflict", "thing": "[[vnic]] \"vm-a\"",
                    "problem": "was changed", "remedy": "try again",
                },
                "text": text, "exit_status": 1,
            })
        );
        for (failure, gate, status) in [
            (Failure::Runtime("a\nb".to_owned()), "failed", 1),
            (Failure::Unreachable("a\nb".to_owned()), "unreachable", 1),
            (Failure::Input("a\nb".to_owned()), "input", 2),
        ] {
            let form = |status: u8| json!({ "error": { "gate": gate }, "text": "a\nb", "exit_status": status });
            assert_eq!(line(&failure), form(status));
            let trouble = Failure::Trouble(Box::new(failure));
            assert_eq!(line(&trouble), form(2));
        }
    }
}
