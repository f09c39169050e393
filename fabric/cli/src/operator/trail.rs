//! `wireonce audit` and `wireonce watch`: what was changed, and what is changing.

use super::ask::{Ask, cell, query};
use crate::{
    failure::Failure,
    output::{self, Table},
};
use clap::Parser;
use serde_json::Value;
use wireonce_control::change::{Action, AuditEntry};
use wireonce_desired::FieldDifference;

/// Fields of a line that are shown; `--json` has all.
const FIELDS_SHOWN: usize = 4;
/// Characters of a value that are shown.
const VALUE_LEN_MAX: usize = 40;

/// The command line of `audit`.
#[derive(Debug, Parser)]
pub(crate) struct AuditArgs {
    /// Lines after this number; left out, the last ones
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// At most so many lines
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Only what is about this: KIND/NAME such as grant/east/server-a or request/3, or a name of any
    /// kind
    #[arg(long, value_name = "OBJECT")]
    object: Option<String>,
    /// Only what this person did
    #[arg(long, value_name = "USER")]
    by: Option<String>,
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
    let how = [
        ("after", after.as_deref()),
        ("limit", Some(limit.as_str())),
        ("object", args.object.as_deref()),
        ("by", args.by.as_deref()),
    ];
    let lines: Vec<AuditEntry> = args.ask.client().get(&query("/v1/audit", &how))?;
    let is_narrow = args.after.is_some() || args.object.is_some() || args.by.is_some();
    args.ask.show(&lines, || match lines.is_empty() {
        true if is_narrow => "no such lines\n".to_owned(),
        true => "nothing was changed yet\n".to_owned(),
        false => table(&lines),
    })
}

fn table(lines: &[AuditEntry]) -> String {
    let mut table =
        Table::new(["NUMBER", "AT", "BY", "DID", "WHAT", "CHANGE", "REQUEST", "REASON"]);
    for line in lines {
        let did = serde_json::to_value(line.action).unwrap_or_default();
        table.row([
            line.number.to_string(),
            line.at.to_string(),
            line.by.to_string(),
            cell(&did),
            line.subject().replacen('/', " ", 1),
            change(line),
            line.request.map_or("-".to_owned(), |request| request.to_string()),
            line.reason.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table.render()
}

/// "up.reservation 400Mbit -> 600Mbit, until 2026-03-01T18:00:00Z"
fn change(line: &AuditEntry) -> String {
    // What is gone is named, and what it was is in `--json`.
    if line.action == Action::Removed {
        return "-".to_owned();
    }
    let fields = FieldDifference::between(line.before.as_ref(), line.after.as_ref());
    let shown = fields.iter().take(FIELDS_SHOWN).map(field);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match fields.len() {
        0 => "-".to_owned(),
        1..=FIELDS_SHOWN => shown,
        more => format!("{shown} and {} more", more - FIELDS_SHOWN),
    }
}

fn field(it: &FieldDifference) -> String {
    let short = |value: &Value| {
        let text = cell(value);
        match text.char_indices().nth(VALUE_LEN_MAX) {
            Some((end, _)) => format!("{}..", text.get(..end).unwrap_or_default()),
            None => text,
        }
    };
    match (&it.before, &it.after) {
        (Some(before), Some(after)) => {
            format!("{} {} -> {}", it.field, short(before), short(after))
        }
        (None, Some(after)) => format!("{} {}", it.field, short(after)),
        (_, None) => format!("{} left out", it.field),
    }
}

/// Shows changes as they happen, until interrupted.
pub(crate) fn watch(args: &WatchArgs) -> Result<(), Failure> {
    let after = args.after.map(|after| after.to_string());
    let path = query("/v1/watch", &[("after", after.as_deref())]);
    let (mut done, mut last) = (Ok(()), args.after);
    let each = |event: &str, data: &str| {
        let change: Value = serde_json::from_str(data).unwrap_or_default();
        last = change["revision"].as_u64().or(last);
        done = match event {
            "change" if args.ask.json => output::print(&format!("{data}\n")),
            "change" => output::print(&text_of(&change)),
            _ => Err(Failure::Runtime(data.to_owned())),
        };
        done.is_ok()
    };
    let ended = args.ask.client().watch(&path, each);
    done?;
    ended.map_err(|error| match (error.into(), last) {
        (Failure::Unreachable(text), Some(last)) => Failure::Unreachable(format!(
            "{text}; `wireonce watch --after {last}` goes on from there"
        )),
        (failure, _) => failure,
    })
}

fn text_of(change: &Value) -> String {
    let key = cell(&change["key"]).replacen("object/", "", 1).replacen('/', " ", 1);
    let value = if change["value"].is_null() { "gone".to_owned() } else { cell(&change["value"]) };
    let line = format!("{}  {key}  {value}", change["revision"]);
    output::one_line(&line) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wireonce_control::{Caller, Role};
    use wireonce_desired::{Kind, Moment};

    fn entry(action: Action, kind: Option<Kind>, name: &str) -> AuditEntry {
        AuditEntry {
            number: 7,
            at: Moment(1_772_388_000),
            by: Caller::new("nina", Role::Network),
            action,
            kind,
            name: name.to_owned(),
            before: None,
            after: None,
            reason: None,
            request: None,
        }
    }

    #[test]
    fn a_line_says_what_was_before_and_what_is_after_in_short() {
        let before = json!({"pool": "east", "up": {"reservation": "400Mbit", "limit": "1Gbit"}});
        let after =
            json!({"pool": "east", "up": {"reservation": "600Mbit"}, "reason": "x".repeat(50)});
        let line = AuditEntry {
            before: Some(before),
            after: Some(after),
            ..entry(Action::Changed, Some(Kind::Grant), "east/server-a")
        };
        let long = "x".repeat(40);
        assert_eq!(
            change(&line),
            format!("reason {long}.., up.limit left out, up.reservation 400Mbit -> 600Mbit")
        );
        let new = json!({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5});
        let added =
            AuditEntry { after: Some(new), ..entry(Action::Added, Some(Kind::Vnic), "vm-a") };
        assert_eq!(change(&added), "a 1, b 2, c 3, d 4 and 1 more");
        assert_eq!(change(&AuditEntry { action: Action::Removed, ..line }), "-");
    }

    #[test]
    fn what_a_line_is_about_is_named_with_its_kind_and_a_reason_is_one_line() {
        let user = AuditEntry {
            reason: Some("left\n8  forged \x1b[2J".to_owned()),
            ..entry(Action::Revoked, None, "user/olga")
        };
        let lines = [entry(Action::Denied, None, "3"), user];
        let text = table(&lines);
        assert!(text.contains("  denied   request 3  "), "{text}");
        assert!(text.contains("  revoked  user olga  "), "{text}");
        assert!(text.ends_with("left 8  forged  [2J\n"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}
