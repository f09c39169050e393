//! Resource limits of this process, which those of a unit may differ from.

use super::Finding;
use std::fs;

/// Locked memory that the rings and their buffers may take, in bytes.
const MEMLOCK_WANTED: u64 = 64 << 20;
/// Descriptors that a host of many vNICs takes: some ten for each.
const NOFILE_WANTED: u64 = 4096;

/// All of them.
pub(super) fn all() -> Vec<Finding> {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let memlock = soft_limit(&limits, "Max locked memory");
    let nofile = soft_limit(&limits, "Max open files");
    vec![
        judge(
            "locked memory",
            memlock,
            MEMLOCK_WANTED,
            |n| format!("{} MiB", n >> 20),
            "LimitMEMLOCK=64M",
        ),
        judge("open files", nofile, NOFILE_WANTED, |n| n.to_string(), "LimitNOFILE=65536"),
    ]
}

/// A soft limit. Its absence means that /proc is not there to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Unlimited,
    At(u64),
}

fn judge(
    check: &str,
    limit: Option<Limit>,
    wanted: u64,
    shown: impl Fn(u64) -> String,
    unit: &str,
) -> Finding {
    let advice = format!("{unit} in the systemd unit, or `ulimit` in a shell");
    match limit {
        Some(Limit::Unlimited) => Finding::ok(check, "unlimited"),
        Some(Limit::At(limit)) if limit >= wanted => Finding::ok(check, shown(limit)),
        Some(Limit::At(limit)) => {
            Finding::warn(check, format!("{}, less than {}", shown(limit), shown(wanted)), advice)
        }
        None => Finding::warn(check, "unknown", "mount /proc"),
    }
}

/// The soft limit on the line that starts with `name`.
fn soft_limit(limits: &str, name: &str) -> Option<Limit> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(Limit::Unlimited),
        number => number.parse().ok().map(Limit::At),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     \n\
Max open files            1024                 524288               files     \n\
Max locked memory         unlimited            unlimited            bytes     \n";

    #[test]
    fn soft_limits_are_read() {
        assert_eq!(soft_limit(LIMITS, "Max open files"), Some(Limit::At(1024)));
        assert_eq!(soft_limit(LIMITS, "Max locked memory"), Some(Limit::Unlimited));
        assert_eq!(soft_limit(LIMITS, "Max nothing"), None);
    }

    #[test]
    fn a_low_limit_is_a_warning_with_the_line_for_the_unit() {
        let finding = judge(
            "open files",
            Some(Limit::At(1024)),
            4096,
            |n| n.to_string(),
            "LimitNOFILE=65536",
        );
        assert_eq!(finding.level, Level::Warn);
        assert_eq!(finding.found, "1024, less than 4096");
        assert!(finding.advice.starts_with("LimitNOFILE=65536"));
    }
}
