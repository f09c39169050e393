//! Backups: every key as a line of JSON, between a line that says what this is and one
//! with the count and checksum, so that a backup that was cut short is never taken for
//! a whole one.

use super::{Compare, Op, Outcome, Range, Revision, Store, StoreError};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// What the first line says.
const FORMAT: &str = "wireonce backup 1";

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    revision: Revision,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    value: String,
}

#[derive(Serialize, Deserialize)]
struct Foot {
    keys: usize,
    sha256: String,
}

/// A restored store goes on so many revisions after that of its backup: what was changed after the backup
/// had some of these, and whoever remembers one must not meet something else by that number.
const GAP: Revision = 1_000_000;

/// Keys that are not worth keeping: who is there now is found out anew.
const PASSING: &[&str] = &["status/"];

/// All that the store holds, as of one revision.
///
/// # Errors
/// The store cannot be read.
pub fn backup(store: &dyn Store) -> Result<String, StoreError> {
    let (revision, ranges) = store.ranges(&[Range::all("")])?;
    // Each entry is let go of when its line is written: a house is in memory once, not twice.
    let mut text = line(&Head { format: FORMAT.to_owned(), revision });
    let mut keys = 0;
    for entry in ranges.into_iter().flatten() {
        if PASSING.iter().any(|prefix| entry.key.starts_with(prefix)) {
            continue;
        }
        keys += 1;
        let value = String::from_utf8_lossy(&entry.value).into_owned();
        text.push_str(&line(&Line { key: entry.key, value }));
    }
    let foot = Foot { keys, sha256: checksum(&text) };
    text.push_str(&line(&foot));
    Ok(text)
}

/// What came from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// So many keys.
    pub keys: usize,
    /// The revision of the store that it was made of.
    pub revision: Revision,
}

/// Fills an empty store from a backup.
///
/// # Errors
/// The backup is no backup, or not all of one; or the store is not empty, or cannot be
/// written. Nothing was changed.
pub fn restore(store: &dyn Store, text: &str) -> Result<Restored, StoreError> {
    let no =
        |problem: &str, remedy| Err(StoreError::Backup { problem: problem.to_owned(), remedy });
    let whole = "take a backup that is whole: its last line has the count and checksum";
    let Some((head, rest)) = text.split_once('\n') else {
        return no("it is empty or cut short", whole);
    };
    let read = serde_json::from_str::<Head>(head).ok().filter(|head| head.format == FORMAT);
    let Some(Head { revision, .. }) = read else {
        return no("this is no backup", "give a file that `wireonce backup` made");
    };
    let (body, foot) = match rest.trim_end_matches('\n').rsplit_once('\n') {
        Some((body, foot)) => (body, foot),
        None => ("", rest.trim_end_matches('\n')),
    };
    let Ok(foot) = serde_json::from_str::<Foot>(foot) else {
        return no("it was cut short", whole);
    };
    let summed = text.len().min(head.len() + 1 + body.len() + usize::from(!body.is_empty()));
    if checksum(text.get(..summed).unwrap_or_default()) != foot.sha256 {
        return no("its checksum does not fit", whole);
    }
    let mut ops = Vec::with_capacity(foot.keys);
    for row in body.lines() {
        match serde_json::from_str::<Line>(row) {
            Ok(Line { key, value }) => ops.push(Op::put(key, value.into_bytes())),
            Err(_) => return no("a line of it cannot be read", whole),
        }
    }
    if ops.len() != foot.keys {
        return no("lines of it are missing", whole);
    }
    let (_, found) = store.ranges(&[Range { prefix: "", after: None, limit: 1 }])?;
    if found.iter().any(|entries| !entries.is_empty()) {
        return no("the store is not empty", "move its file away first");
    }
    store.begin_after(revision.saturating_add(GAP))?;
    match store.txn(&[Compare { key: "house".to_owned(), version: 0 }], &ops)? {
        Outcome::Done(_) => Ok(Restored { keys: ops.len(), revision }),
        Outcome::Conflict => no("the store is not empty any more", "stop what writes to it"),
    }
}

fn line<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

fn checksum(text: &str) -> String {
    let mut context = Context::new(&SHA256);
    context.update(text.as_bytes());
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
