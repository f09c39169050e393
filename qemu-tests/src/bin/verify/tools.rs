//! Cargo subcommands that are no part of a Rust installation.

use wireonce_qemu_tests::{Error, Result, cargo};

/// A cargo subcommand with the version that is installed if there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// The subcommand.
    pub(crate) subcommand: &'static str,
    /// The package.
    pub(crate) package: &'static str,
    /// The package's version: pinned, so that a new release changes no verdict.
    pub(crate) version: &'static str,
}

/// Runs tests, each in its own process.
pub(crate) const NEXTEST: Tool =
    Tool { subcommand: "nextest", package: "cargo-nextest", version: "0.9.143" };
/// Checks dependencies.
pub(crate) const DENY: Tool = Tool { subcommand: "deny", package: "cargo-deny", version: "0.20.2" };

/// Makes sure that the tool is there. One that is there already is used, whatever its version.
pub(crate) fn ensure(tool: Tool, may_install: bool, mut tell: impl FnMut(&str)) -> Result<()> {
    if present(tool) {
        return Ok(());
    }
    let args = ["install", "--locked", "--version", tool.version, tool.package];
    let line = format!("cargo {}", args.join(" "));
    if !may_install {
        return Err(Error::Unexpected(format!("missing: install it with `{line}`")));
    }
    tell(&line);
    let status = cargo::command().args(args).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::Unexpected(format!("`{line}` ended with {status}"))),
        Err(source) => Err(Error::Io { what: format!("cannot start `{line}`"), source }),
    }
}

fn present(tool: Tool) -> bool {
    let output = cargo::command().args([tool.subcommand, "--version"]).output();
    output.is_ok_and(|output| output.status.success())
}
