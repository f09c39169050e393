//! Cargo, started from a program that cargo itself runs.

use std::ffi::OsString;
use std::process::Command;

/// This program's name and arguments. The aliases of this workspace end with `--`; who
/// writes another one, as in `cargo measure -- all --json FILE`, means the same.
pub fn arguments() -> impl Iterator<Item = OsString> {
    without_separator(std::env::args_os())
}

fn without_separator(words: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    words.enumerate().filter(|(at, word)| *at != 1 || word != "--").map(|(_, word)| word)
}

/// The cargo that runs us. What it told us of our own package, it does not tell the new
/// one: build scripts that look at it would build again each time another asks.
#[must_use]
pub fn command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|start| text.starts_with(start))
        {
            command.env_remove(&name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_is_left_out_and_no_other() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let left = |text| without_separator(words(text).into_iter()).collect::<Vec<_>>();
        assert_eq!(left("measure -- all --json r.json"), words("measure all --json r.json"));
        assert_eq!(left("measure all --json r.json"), words("measure all --json r.json"));
        assert_eq!(left("demo -- -- --"), words("demo -- --"));
        assert_eq!(left("demo"), words("demo"));
    }
}
