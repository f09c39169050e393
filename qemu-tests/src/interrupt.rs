//! Ctrl-C.

use std::io::Write as _;

use crate::error::{Error, Result};
use crate::watchdog;

/// What a shell expects of a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// From now on SIGINT, SIGTERM and SIGHUP end this process only when all that it set up is undone.
///
/// # Errors
/// The system refuses a handler, or there is one already.
pub fn clean_up_first() -> Result<()> {
    clean_up_first_saying(String::new)
}

/// The same, and tells what `more` says then, such as what is kept.
///
/// # Errors
/// As [`clean_up_first`].
pub fn clean_up_first_saying(more: impl Fn() -> String + Send + 'static) -> Result<()> {
    ctrlc::set_handler(move || {
        let text = format!("\ninterrupted; cleaning up{}", more());
        let _nobody_reads = writeln!(std::io::stderr(), "{text}");
        let _last_word = watchdog::undo_all();
        std::process::exit(INTERRUPTED);
    })
    .map_err(|error| Error::Unexpected(format!("cannot handle Ctrl-C: {error}")))
}
