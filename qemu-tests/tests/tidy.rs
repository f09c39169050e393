//! Rules about the sources that no compiler knows. Each is one test; exceptions are named here.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::fs;
use std::path::{Path, PathBuf};

use wireonce_ledger::DropReason;

/// The most lines of a source file.
const MAX_LINES: usize = 600;
/// Longer files, each with its reason.
const LONG_FILES: &[(&str, &str)] =
    &[("backend/src/net/guard/tests.rs", "every rule of the guard, allowed and refused")];
/// The most characters of a line, where the formatter leaves it alone (strings, comments).
/// Rows of tables in comments cannot be wrapped and may be longer.
const MAX_COLUMNS: usize = 150;
/// Files whose strings are longer on purpose.
const WIDE_FILES: &[(&str, &str)] =
    &[("fabric/config/src/tests/errors.rs", "whole error messages as users see them")];
/// Crates that touch memory or system calls; all others forbid `unsafe`.
const UNSAFE_CRATES: &[(&str, &str)] = &[
    ("backend", "guest memory and the vhost-user adapter"),
    ("bench", "the settings of the TAP devices that it drives"),
    ("fabric/cli", "signals and limits of the process"),
    ("fabric/link", "socket options and batched system calls"),
    ("fabric/ring", "io_uring"),
    ("fabric/uplink", "packet sockets and TAP devices"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of ours whose path ends in one of these ways, with its path below the root.
fn files(ends: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&root(), &root(), ends, &mut found);
    found.sort();
    found
}

fn collect(root: &Path, dir: &Path, ends: &[&str], found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "corpus" | "artifacts") && !name.starts_with('.')
            {
                collect(root, &path, ends, found);
            }
        } else if ends.iter().any(|end| path.to_string_lossy().ends_with(end)) {
            let below = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            let text = fs::read(&path).unwrap_or_default();
            found.push((below, String::from_utf8_lossy(&text).into_owned()));
        }
    }
}

fn is_named(list: &[(&str, &str)], path: &str) -> bool {
    list.iter().any(|(name, _)| *name == path)
}

#[test]
fn files_are_short_enough_to_read() {
    let sources = files(&[".rs", ".sh"]);
    assert!(sources.len() > 50, "the sources are not where this test looks");
    let long: Vec<_> = sources
        .into_iter()
        .map(|(path, text)| (text.lines().count(), path))
        .filter(|(lines, path)| *lines > MAX_LINES && !is_named(LONG_FILES, path))
        .collect();
    assert!(long.is_empty(), "over {MAX_LINES} lines; split them: {long:?}");
}

#[test]
fn lines_are_short_enough_to_read() {
    let mut wide = Vec::new();
    for (path, text) in files(&[".rs", ".sh"]) {
        for (number, line) in (1..).zip(text.lines()) {
            let is_row = line.trim_start().trim_start_matches(['/', '!']).starts_with(" |");
            let is_wide = line.chars().count() > MAX_COLUMNS && !is_row;
            if is_wide && !is_named(WIDE_FILES, &path) {
                wide.push(format!("{path}:{number}"));
            }
        }
    }
    assert!(wide.is_empty(), "over {MAX_COLUMNS} columns: {wide:?}");
}

#[test]
fn nothing_is_left_for_later() {
    // Written so that this file is not its own first finding.
    let words = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!"));
    let marks = ["FIX", "TO", "HA"].iter().zip(["ME", "DO", "CK"]).map(|(a, b)| format!("{a}{b}"));
    let banned: Vec<String> = words.into_iter().chain(marks).collect();
    let mut found = Vec::new();
    for (path, text) in files(&[".rs", ".sh", ".toml", ".md"]) {
        for (number, line) in (1..).zip(text.lines()) {
            let is_word = |word: &String| {
                line.match_indices(word.as_str()).any(|(at, _)| {
                    let before = line.get(..at).and_then(|head| head.chars().next_back());
                    let after = line.get(at + word.len()..).and_then(|tail| tail.chars().next());
                    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric());
                    !inside(before) && !inside(after)
                })
            };
            if let Some(word) = banned.iter().find(|word| is_word(word)) {
                found.push(format!("{path}:{number}: {word}"));
            }
        }
    }
    assert!(found.is_empty(), "do it, or open an issue: {found:#?}");
}

#[test]
fn every_crate_obeys_the_workspaces_lints() {
    let loose: Vec<_> = files(&["Cargo.toml"])
        .into_iter()
        .filter(|(path, text)| {
            path != "Cargo.toml"
                && !path.contains("fuzz")
                && !text.contains("[lints]\nworkspace = true")
        })
        .map(|(path, _)| path)
        .collect();
    assert!(loose.is_empty(), "add `[lints] workspace = true`: {loose:?}");
}

#[test]
fn unsafe_is_forbidden_but_at_the_edges() {
    let loose: Vec<_> = files(&["src/lib.rs", "src/main.rs"])
        .into_iter()
        .filter(|(path, text)| {
            let edge = UNSAFE_CRATES.iter().any(|(name, _)| path.starts_with(&format!("{name}/")));
            !edge && !text.contains("#![forbid(unsafe_code)]")
        })
        .map(|(path, _)| path)
        .collect();
    assert!(loose.is_empty(), "forbid it, or name the crate here with its reason: {loose:?}");
}

#[test]
fn every_drop_reason_is_explained_and_named_once() {
    let mut names = Vec::new();
    for reason in DropReason::ALL {
        let (name, text) = (reason.name(), reason.explanation());
        let kebab = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        assert!(kebab && !name.is_empty(), "`{name}` is not in kebab-case");
        assert!(text.ends_with('.') && text.len() > 10, "`{name}` is explained by `{text}`");
        names.push(name);
    }
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "two drop reasons have one name");
}

/// The document is made from the code, so that it never lags: `UPDATE_DOCS=1` writes it.
#[test]
fn the_document_of_drop_reasons_is_up_to_date() {
    let mut text = DROP_REASONS_HEAD.to_owned();
    for reason in DropReason::ALL {
        text += &format!("| `{}` | {} |\n", reason.name(), reason.explanation());
    }
    let path = root().join("docs/drop-reasons.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let remedy = "UPDATE_DOCS=1 cargo nextest run -p wireonce-qemu-tests --test tidy";
    assert!(written == text, "docs/drop-reasons.md lags behind the code; run: {remedy}");
}

const DROP_REASONS_HEAD: &str = "\
# Why a frame was dropped

Every frame that comes to a stage leaves it or is dropped for one of these reasons, counted in
frames, wire segments and bytes: `wireonce status` shows them by these names, in its tables and as JSON.
(Made from `fabric/ledger/src/reason.rs`; a test keeps it up to date.)

| reason | what happened |
|---|---|
";
