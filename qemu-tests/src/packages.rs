//! Debian packages that a command needs: which are missing, and their installation.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::process::{describe, output};

/// What the demo needs: a VMM, the guest's tools, a load generator, namespaces, eyes outside.
pub const DEMO: &[&str] =
    &["busybox-static", "ethtool", "iperf3", "iproute2", "qemu-system-x86", "tcpdump"];

/// What the tests need beyond the demo: DPDK's front-end, systemd's judgement of the units, and a
/// linker for the build.
pub const VERIFY: &[&str] = &[
    "build-essential",
    "busybox-static",
    "dpdk",
    "ethtool",
    "iperf3",
    "iproute2",
    "qemu-system-x86",
    "systemd",
    "tcpdump",
];

/// What the bench needs beyond the demo: DPDK, and Open vSwitch with DPDK as a peer.
pub const BENCH: &[&str] = &[
    "busybox-static",
    "dpdk",
    "dpdk-dev",
    "ethtool",
    "iperf3",
    "iproute2",
    "nftables",
    "openvswitch-switch-dpdk",
    "qemu-system-x86",
    "tcpdump",
];

/// Those of `wanted` that are not installed, in the given order.
///
/// # Errors
/// There is no `dpkg-query`: this is not Debian.
pub fn missing(wanted: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new("dpkg-query");
    command.args(["-W", "-f", "${Package} ${db:Status-Status}\n"]).args(wanted);
    // It ends with 1 as soon as one package is unknown: the output says which are there.
    let installed = output(&mut command, Duration::from_secs(30))?.stdout;
    Ok(not_installed(wanted, &installed))
}

/// Makes sure that all of `wanted` are installed, with as little as possible.
///
/// # Errors
/// Some are missing and `may_install` is false, or `apt-get` fails.
pub fn ensure(wanted: &[&str], may_install: bool, mut tell: impl FnMut(&str)) -> Result<()> {
    let missing = missing(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !may_install {
        return Err(Error::MissingPackages(list));
    }
    tell(&format!("installing: {list}"));
    if !have_candidates(&missing) {
        apt(&["update", "-q"])?;
    }
    let mut args = vec!["install", "-q", "-y", "--no-install-recommends"];
    args.extend(missing.iter().map(String::as_str));
    apt(&args)
}

/// Are we root?
#[must_use]
pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    uids.split_whitespace().nth(1) == Some("0")
}

/// Does the package index know all of them? A fresh container has no index.
fn have_candidates(packages: &[String]) -> bool {
    let mut command = Command::new("apt-cache");
    command.arg("show").args(packages);
    output(&mut command, Duration::from_secs(60)).is_ok_and(|output| output.status.success())
}

/// Runs `apt-get` with its output shown, through sudo if we are not root.
fn apt(args: &[&str]) -> Result<()> {
    let mut command = if is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    };
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    let what = describe(&command);
    let status = command.status().context(|| format!("cannot start `{what}`"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Command {
        command: what,
        status: status.to_string(),
        stderr: "see above".to_owned(),
    })
}

fn not_installed(wanted: &[&str], installed: &str) -> Vec<String> {
    let is_installed = |name: &str| {
        installed.lines().any(|line| line.split_once(' ') == Some((name, "installed")))
    };
    wanted.iter().filter(|name| !is_installed(name)).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_and_unknown_packages_are_missing() {
        let seen = "kmod installed\nethtool config-files\n";
        assert_eq!(not_installed(&["ethtool", "iperf3"], seen), ["ethtool", "iperf3"]);
    }

    #[test]
    fn refusing_to_install_names_what_is_missing() {
        let result = ensure(&["wireonce-no-such-package"], false, |_| {});
        let error = result.unwrap_err().to_string();
        assert!(error.contains("apt-get install --no-install-recommends wireonce-no"), "{error}");
    }
}
