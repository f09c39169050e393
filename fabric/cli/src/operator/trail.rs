//! `wireonce audit` and `wireonce watch`: what was changed, and what is changing.

use super::ask::{Ask, cell, query};
use crate::{
    failure::Failure,
    output::{self, Table},
};
use clap::Parser;
use serde_json::Value;
use wireonce_control::change::AuditEntry;

/// The command line of `audit`.
#[derive(Debug, Parser)]
pub(crate) struct AuditArgs {
    /// Lines after this number; left out, the last ones
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// At most so many lines
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    ask: Ask,
}

/// The command line of `watch`.
#[derive(Debug, Parser)]
pub(crate) struct WatchArgs {
    /// Changes after this revision; left out, those to come
    #[arg(long, value_name = "REVISION")]
    after: Option<u64>,
    #[command(flatten)]
    ask: Ask,
}

/// Shows the audit trail, the oldest line first.
pub(crate) fn audit(args: &AuditArgs) -> Result<(), Failure> {
    let (after, limit) = (args.after.map(|after| after.to_string()), args.limit.to_string());
    let path = query("/v1/audit", &[("after", after.as_deref()), ("limit", Some(&limit))]);
    let lines: Vec<AuditEntry> = args.ask.client().get(&path)?;
    args.ask.show(&lines, || {
        let mut table = Table::new(["NUMBER", "AT", "BY", "DID", "WHAT", "REQUEST", "REASON"]);
        for line in &lines {
            let did = serde_json::to_value(line.action).unwrap_or_default();
            table.row([
                line.number.to_string(),
                line.at.to_string(),
                line.by.to_string(),
                cell(&did),
                what(line),
                line.request.map_or("-".to_owned(), |request| request.to_string()),
                line.reason.clone().unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        if lines.is_empty() { "nothing was changed yet\n".to_owned() } else { table.render() }
    })
}

/// What a line is about: an object, a request, or somebody or something without a kind.
fn what(line: &AuditEntry) -> String {
    match (line.kind, line.request) {
        (Some(kind), _) => format!("{kind} {}", line.name),
        (None, Some(_)) => format!("request {}", line.name),
        (None, None) => line.name.replacen('/', " ", 1),
    }
}

/// Shows changes as they happen, until interrupted.
pub(crate) fn watch(args: &WatchArgs) -> Result<(), Failure> {
    let after = args.after.map(|after| after.to_string());
    let path = query("/v1/watch", &[("after", after.as_deref())]);
    let mut done = Ok(());
    let each = |event: &str, data: &str| {
        done = match event {
            "change" if args.ask.json => output::print(&format!("{data}\n")),
            "change" => output::print(&line(data)),
            _ => Err(Failure::Runtime(data.to_owned())),
        };
        done.is_ok()
    };
    args.ask.client().watch(&path, each)?;
    done
}

fn line(data: &str) -> String {
    let change: Value = serde_json::from_str(data).unwrap_or_default();
    let key = cell(&change["key"]).replacen("object/", "", 1).replacen('/', " ", 1);
    let value = if change["value"].is_null() { "gone".to_owned() } else { cell(&change["value"]) };
    format!("{}  {key}  {value}\n", change["revision"])
}
