//! `wireonce doctor`: can this machine run wireonce, and if not, what to do.
//!
//! Each probe tries the thing itself where it can: a kernel that has a feature may
//! still refuse it. Nothing is changed, and no packet leaves the machine.

mod interface;
mod kernel;
mod limits;
mod sockets;

use crate::{failure::Failure, output};
use clap::Parser;
use serde::Serialize;

/// The command line.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Also look at this network interface: an uplink, or the fabric's port
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,
    /// Print JSON, one line for each finding
    #[arg(long)]
    json: bool,
}

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: String,
    level: Level,
    found: String,
    /// What to do about it; empty when there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    advice: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Works, but slower or with less than it could.
    Warn,
    /// Does not work.
    Fail,
}

impl Finding {
    fn new(level: Level, check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.to_owned(), level, found: found.into(), advice: advice.into() }
    }

    fn ok(check: &str, found: impl Into<String>) -> Self {
        Self::new(Level::Ok, check, found, "")
    }

    fn warn(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Level::Warn, check, found, advice)
    }

    fn fail(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Level::Fail, check, found, advice)
    }
}

/// Probes all and prints all; fails if one thing does not work.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut findings = vec![kernel::version(), kernel::io_uring()];
    findings.extend(sockets::all());
    findings.extend(limits::all());
    findings.extend([kernel::kvm(), kernel::qemu()]);
    for name in &args.interface {
        findings.extend(interface::all(name));
    }
    output::print(&if args.json { json(&findings)? } else { text(&findings) })?;
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    if failed { Err(Failure::Silent) } else { Ok(()) }
}

fn json(findings: &[Finding]) -> Result<String, Failure> {
    findings
        .iter()
        .map(|finding| serde_json::to_string(finding).map(|line| line + "\n"))
        .collect::<Result<String, _>>()
        .map_err(|error| Failure::Runtime(format!("findings as JSON: {error}")))
}

/// `ok    kernel        6.18.5`, with what to do on the next line.
fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { check, level, found, advice } in findings {
        let level = match level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        text.push_str(&format!("{level:<4}  {check:<width$}  {found}\n"));
        if !advice.is_empty() {
            text.push_str(&format!("      {:width$}  -> {advice}\n", ""));
        }
    }
    let count = |wanted| findings.iter().filter(|finding| finding.level == wanted).count();
    let (warn, fail) = (count(Level::Warn), count(Level::Fail));
    text.push_str(&match (fail, warn) {
        (0, 0) => "\nThis machine can run wireonce.\n".to_owned(),
        (0, _) => format!("\nThis machine can run wireonce; {warn} to improve.\n"),
        _ => format!(
            "\nThis machine cannot run all of wireonce: {fail} to mend, {warn} to improve.\n"
        ),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stands_under_its_finding() {
        let findings =
            [Finding::ok("kernel", "6.18.5"), Finding::fail("tun", "missing", "modprobe tun")];
        assert_eq!(
            text(&findings),
            "ok    kernel  6.18.5\n\
             FAIL  tun     missing\n\
             \x20             -> modprobe tun\n\
             \n\
             This machine cannot run all of wireonce: 1 to mend, 0 to improve.\n"
        );
    }

    #[test]
    fn json_has_one_line_for_each_finding() {
        let findings = [Finding::ok("kernel", "6.18"), Finding::warn("qemu", "none", "install it")];
        assert_eq!(
            json(&findings).unwrap(),
            "{\"check\":\"kernel\",\"level\":\"ok\",\"found\":\"6.18\"}\n\
             {\"check\":\"qemu\",\"level\":\"warn\",\"found\":\"none\",\"advice\":\"install it\"}\n"
        );
    }
}
