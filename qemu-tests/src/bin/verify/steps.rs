//! The steps of `cargo verify`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use wireonce_qemu_tests::guest::image::target_dir;
use wireonce_qemu_tests::{cargo, packages};

use crate::tools::{DENY, NEXTEST, Tool};

/// One step: a cargo command.
#[derive(Debug)]
pub(crate) struct Step {
    /// For `--only` and the summary.
    pub(crate) name: &'static str,
    args: &'static [&'static str],
    /// Environment for it.
    env: &'static [(&'static str, &'static str)],
    /// The subcommand that it needs installed.
    pub(crate) tool: Option<Tool>,
}

/// Cheap ones first: they fail soonest.
pub(crate) const STEPS: &[Step] = &[
    Step { name: "format", args: &["fmt", "--all", "--check"], env: &[], tool: None },
    Step {
        name: "deny",
        args: &["deny", "check", "licenses", "bans", "sources"],
        env: &[],
        tool: Some(DENY),
    },
    Step {
        name: "clippy",
        args: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
        env: &[],
        tool: None,
    },
    Step {
        name: "tests",
        args: &["nextest", "run", "--workspace", "--profile", "verify"],
        env: &[],
        tool: Some(NEXTEST),
    },
    Step { name: "examples", args: &["test", "--doc", "--workspace", "-q"], env: &[], tool: None },
    Step {
        name: "docs",
        args: &["doc", "--workspace", "--no-deps", "--document-private-items"],
        env: &[("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")],
        tool: None,
    },
];

/// How a step ended.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) detail: String,
}

impl Step {
    /// The command line.
    pub(crate) fn shown(&self) -> String {
        format!("cargo {}", self.args.join(" "))
    }

    /// Runs it with its output shown.
    pub(crate) fn run(&self) -> Outcome {
        let mut command = cargo::command();
        command.args(self.args).envs(self.env.iter().copied());
        // Where the sources are, whatever the caller's folder.
        if let Some(root) = Path::new(env!("CARGO_MANIFEST_DIR")).parent() {
            command.current_dir(root);
        }
        // The tests' own build of the daemon: another build would replace it by an equal one.
        command.env("WIREONCE_BINARY", target_dir().join("debug/wireonce"));
        if !packages::is_root() {
            // Namespaces need root: tests run through sudo, the build does not.
            command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo -E");
        }
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        match child.and_then(show) {
            Ok((success, summary)) => outcome(success, summary.as_deref()),
            Err(error) => Outcome { failed: 1, detail: error.to_string(), ..Outcome::default() },
        }
    }
}

/// Passes on what the child writes, and keeps the line in which nextest counts.
fn show(mut child: Child) -> std::io::Result<(bool, Option<String>)> {
    let mut summary = None;
    if let Some(stderr) = child.stderr.take() {
        pass_on(stderr, &mut summary);
    }
    Ok((child.wait()?.success(), summary))
}

fn pass_on(from: impl Read, summary: &mut Option<String>) {
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let _nobody_reads = writeln!(std::io::stderr(), "{line}");
        if line.trim_start().starts_with("Summary [") {
            *summary = Some(line.trim().to_owned());
        }
    }
}

/// Tests are counted one by one; any other step is one. A step that failed has at least one
/// failure, whatever it counted.
fn outcome(success: bool, summary: Option<&str>) -> Outcome {
    let Some(summary) = summary else {
        let passed = u64::from(success);
        return Outcome { passed, failed: 1 - passed, detail: String::new() };
    };
    let count = |word| count_before(summary, word);
    let failed = count("failed") + count("timed") + count("exec");
    let failed = if success { failed } else { failed.max(1) };
    let detail = summary.split_once("] ").map_or(summary, |(_, rest)| rest.trim());
    Outcome { passed: count("passed"), failed, detail: detail.to_owned() }
}

/// The number before `word` in a line such as `9 tests run: 7 passed (1 slow), 2 failed`.
fn count_before(line: &str, word: &str) -> u64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    let starts = |pair: &&[&str]| pair.last().is_some_and(|last| last.starts_with(word));
    let pair = words.windows(2).find(starts);
    pair.and_then(|pair| pair.first()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nextest_counts_its_tests() {
        let line =
            "Summary [  2.348s] 14 tests run: 9 passed (1 slow), 3 failed, 2 timed out, 1 skipped";
        let seen = outcome(false, Some(line));
        assert_eq!((seen.passed, seen.failed), (9, 5));
        assert!(seen.detail.starts_with("14 tests run"), "{}", seen.detail);
    }

    #[test]
    fn a_failed_step_never_counts_as_zero_failures() {
        assert_eq!(outcome(false, None).failed, 1);
        assert_eq!(outcome(false, Some("Summary [ 0.1s] 2 tests run: 2 passed")).failed, 1);
        assert_eq!(outcome(true, None).passed, 1);
    }
}
