//! The kernel, io_uring, and the virtual machine monitor.

use super::Finding;
use io_uring::{IoUring, opcode};
use std::{fs, io::ErrorKind, path::Path, process::Command};

/// The oldest kernel that is supported: Debian 12's.
const FLOOR: (u32, u32) = (6, 1);
/// Where QEMU usually is, by package.
const QEMU: [&str; 3] = ["qemu-system-x86_64", "qemu-kvm", "/usr/libexec/qemu-kvm"];

/// The kernel's version against the floor.
pub(super) fn version() -> Finding {
    const CHECK: &str = "kernel";
    let advice = "boot a kernel of 6.1 or later, such as Debian 12's";
    match fs::read_to_string("/proc/sys/kernel/osrelease") {
        Ok(release) => match parse_version(&release) {
            Some(version) if version >= FLOOR => Finding::ok(CHECK, release.trim()),
            _ => Finding::fail(CHECK, format!("{}, older than 6.1", release.trim()), advice),
        },
        Err(error) => Finding::fail(CHECK, format!("unknown: {error}"), "mount /proc"),
    }
}

/// Major and minor version of a release such as `6.1.0-18-amd64`.
fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A ring with the flags that workers use, and one operation through it.
pub(super) fn io_uring() -> Finding {
    const CHECK: &str = "io_uring";
    let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8);
    let error = match ring.and_then(try_no_op) {
        Ok(()) => return Finding::ok(CHECK, "a ring with SINGLE_ISSUER and DEFER_TASKRUN works"),
        Err(error) => error,
    };
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let (found, advice) = match (error.kind(), disabled.trim()) {
        (ErrorKind::PermissionDenied, "1" | "2") => (
            format!("forbidden: kernel.io_uring_disabled = {}", disabled.trim()),
            "sysctl -w kernel.io_uring_disabled=0",
        ),
        (ErrorKind::PermissionDenied, _) => (
            format!("forbidden: {error}"),
            "allow io_uring_setup and io_uring_enter in the seccomp profile of the container or unit",
        ),
        (ErrorKind::InvalidInput, _) => {
            (format!("too old: {error}"), "boot a kernel of 6.1 or later")
        }
        (ErrorKind::OutOfMemory, _) => {
            (format!("no memory for a ring: {error}"), "raise RLIMIT_MEMLOCK: LimitMEMLOCK=64M")
        }
        (ErrorKind::Unsupported, _) => {
            (format!("not in this kernel: {error}"), "boot a kernel with CONFIG_IO_URING=y")
        }
        _ => (format!("refused: {error}"), "see `dmesg` and the seccomp profile"),
    };
    Finding::fail(CHECK, found, advice)
}

#[expect(unsafe_code, reason = "io_uring entries are handed over by an unsafe call")]
fn try_no_op(mut ring: IoUring) -> std::io::Result<()> {
    let entry = opcode::Nop::new().build();
    // SAFETY: a no-op refers to no memory.
    let pushed = unsafe { ring.submission().push(&entry) };
    pushed.map_err(std::io::Error::other)?;
    ring.submit_and_wait(1)?;
    match ring.completion().next() {
        Some(done) if done.result() >= 0 => Ok(()),
        Some(done) => Err(std::io::Error::from_raw_os_error(done.result().saturating_neg())),
        None => Err(std::io::Error::other("a no-op did not complete")),
    }
}

/// Hardware virtualisation, for the guests; wireonce itself does not need it.
pub(super) fn kvm() -> Finding {
    const CHECK: &str = "kvm";
    let open = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    match open {
        Ok(_) => Finding::ok(CHECK, "/dev/kvm opens (whether guests boot is not tried)"),
        Err(error) if error.kind() == ErrorKind::NotFound => Finding::warn(
            CHECK,
            "no /dev/kvm: guests are emulated, and slow",
            "switch virtualisation on in the firmware, then modprobe kvm_intel or kvm_amd",
        ),
        Err(error) => Finding::warn(
            CHECK,
            format!("/dev/kvm: {error}"),
            "add the user that runs guests to group kvm: usermod -aG kvm USER",
        ),
    }
}

/// QEMU, if there is one.
pub(super) fn qemu() -> Finding {
    const CHECK: &str = "qemu";
    let version = QEMU.iter().find_map(|program| {
        let output = Command::new(program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().next().map(str::to_owned)
    });
    match version {
        Some(version) => Finding::ok(CHECK, version),
        None if Path::new("/usr/bin/cloud-hypervisor").exists() => {
            Finding::ok(CHECK, "none, but cloud-hypervisor is here")
        }
        None => Finding::warn(
            CHECK,
            "not found: needed only where guests run",
            "apt install qemu-system-x86",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        assert_eq!(parse_version("6.1.0-18-amd64\n"), Some((6, 1)));
        assert_eq!(parse_version("6.18-rc3"), Some((6, 18)));
        assert_eq!(parse_version("5.14.0-503.el9.x86_64"), Some((5, 14)));
        assert_eq!(parse_version("unknown"), None);
    }

    #[test]
    fn older_kernels_are_below_the_floor() {
        assert!(parse_version("5.19.1").unwrap() < FLOOR);
        assert!(parse_version("6.0.9").unwrap() < FLOOR);
        assert!(parse_version("10.0.0").unwrap() > FLOOR);
    }
}
