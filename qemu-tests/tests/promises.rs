//! The tests that the documents name exist: a promise whose test is gone is only a sentence.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::fs;
use std::path::{Path, PathBuf};

/// The documents that name tests, each with the fewest names that it should have.
const DOCUMENTS: &[(&str, usize)] =
    &[("docs/promises.md", 40), ("docs/past-vulnerabilities.md", 20)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every `path/to/file.rs::name` between backquotes in a document.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|word| word.split_once("::")).filter(|(path, _)| is_source(path)).collect()
}

fn is_source(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

/// Whether a source has a function of that name which is a test: the attribute stands before it,
/// with at most other attributes between, or a `proptest!` block does.
fn has_test(source: &str, name: &str) -> bool {
    let declaration = format!("fn {name}(");
    let Some((before, _)) = source.split_once(&declaration) else { return false };
    let attributes = before.lines().rev().skip_while(|line| line.trim().is_empty());
    attributes
        .take_while(|line| line.trim().is_empty() || line.trim_start().starts_with("#["))
        .any(|line| line.trim() == "#[test]")
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut missing = Vec::new();
    for (document, fewest) in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let tests = named_tests(&text);
        assert!(tests.len() >= *fewest, "{document} names only {} tests", tests.len());
        for (path, name) in tests {
            let source = fs::read_to_string(root().join(path)).unwrap_or_default();
            if !has_test(&source, name) {
                missing.push(format!("{document}: {path}::{name}"));
            }
        }
    }
    assert!(missing.is_empty(), "renamed or gone; correct the document: {missing:#?}");
}

#[test]
fn names_are_found_between_backquotes_only() {
    let text = "`a/b.rs::one`, a/b.rs::two, `Type::method`, `a/b.rs`";
    assert_eq!(named_tests(text), [("a/b.rs", "one")]);
}

#[test]
fn only_functions_with_the_attribute_are_tests() {
    let source = "#[test]\n    fn one() {}\nfn two() {}\n#[test]\n#[ignore]\nfn three() {}\n";
    assert!(has_test(source, "one") && has_test(source, "three"));
    assert!(!has_test(source, "two") && !has_test(source, "four"));
}
