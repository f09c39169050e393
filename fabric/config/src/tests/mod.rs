//! Whole files in, configurations or one error out.

mod change;
mod control;
mod errors;
mod examples;
mod host;
mod mutation;
mod reference;
mod valid;

use crate::Config;

/// A file with one of everything.
const GOLDEN: &str = include_str!("golden.toml");

/// The golden file after replacing the first `from` by `to`, for each edit.
fn edited(edits: &[(&str, &str)]) -> String {
    let mut text = GOLDEN.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "the golden file has no {from:?}");
        text = text.replacen(from, to, 1);
    }
    text
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, "server-a.toml").map_err(|error| error.to_string())
}
