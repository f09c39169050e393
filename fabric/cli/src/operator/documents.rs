//! `wireonce apply`, `diff`, `export`, `backup`: many objects at once.
//!
//! What `export --json` prints `apply` takes as well as tables.

use super::ask::{Ask, query};
use crate::{failure::Failure, output};
use clap::Parser;
use serde_json::Value;
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};
use wireonce_control::change::Answer;

/// The command line of `apply`.
#[derive(Debug, Parser)]
pub(crate) struct ApplyArgs {
    /// A file of tables or JSON, or `-` for standard input. What is not in it stays as it is
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// Only if no object changed since this revision: the one in the first line of an export
    #[arg(long, value_name = "REVISION")]
    based_on: Option<u64>,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

/// What `diff`'s exit statuses mean, for `--help`.
const DIFF_CODES: &str = "Exit status: 0 the same, 1 it differs, 2 it could not be found out";

/// The command line of `diff`.
#[derive(Debug, Parser)]
#[command(after_help = DIFF_CODES)]
pub(crate) struct DiffArgs {
    /// A file of tables or JSON, or `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    ask: Ask,
}

/// The command line of `export`.
#[derive(Debug, Parser)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    ask: Ask,
}

/// The command line of `backup`.
#[derive(Debug, Parser)]
#[command(after_help = "It is JSON, a document a line, with --json or without")]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    ask: Ask,
}

/// Puts all objects of a file, or none.
pub(crate) fn apply(args: &ApplyArgs) -> Result<(), Failure> {
    let how = [("dry_run", args.dry_run.then_some("true")), ("reason", args.reason.as_deref())];
    send(&args.ask, &args.file, args.based_on, &how).map(|_| ())
}

/// Says what `apply` would change. Exit status 1 if there is something, 2 if that is not known.
pub(crate) fn diff(args: &DiffArgs) -> Result<(), Failure> {
    match send(&args.ask, &args.file, None, &[("dry_run", Some("true"))]) {
        Ok(Answer::Unchanged { .. }) => Ok(()),
        Ok(_) => Err(Failure::Silent),
        Err(failure) => Err(Failure::Trouble(Box::new(failure))),
    }
}

/// Prints the whole house, as `apply` takes it.
pub(crate) fn export(args: &ExportArgs) -> Result<(), Failure> {
    let text = args.ask.client().text("/v1/export")?;
    if !args.ask.json {
        return output::print(&text);
    }
    let house: Value = toml::from_str(&text).map_err(|error| {
        Failure::Unreachable(format!("the controller answered what is no house: {error}"))
    })?;
    args.ask.show(&house, String::new)
}

/// Prints all that the controller keeps, for `wireonce control --restore`. It is JSON as it is.
pub(crate) fn backup(args: &BackupArgs) -> Result<(), Failure> {
    Ok(args.ask.client().copy("/v1/backup", &mut io::stdout().lock())?)
}

fn send(
    ask: &Ask,
    file: &Path,
    based_on: Option<u64>,
    how: &[(&str, Option<&str>)],
) -> Result<Answer, Failure> {
    let text = read(file)?;
    if text.trim().is_empty() {
        let file = file.display();
        return Err(Failure::Input(format!("{file}: is empty; give a file with tables")));
    }
    // No line of TOML begins so.
    let kind = if text.trim_start().starts_with('{') { "json" } else { "toml" };
    let kind = format!("application/{kind}");
    let revision = based_on.map(|revision| revision.to_string());
    let mut headers = vec![("content-type", kind.as_str())];
    headers.extend(revision.iter().map(|revision| ("if-match", revision.as_str())));
    ask.change("POST", &query("/v1/apply", how), &headers, text)
}

fn read(file: &Path) -> Result<String, Failure> {
    let done = if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    done.map_err(|error| {
        let file = file.display();
        Failure::Input(format!("{file}: cannot be read: {error}; give the path of a text file"))
    })
}
