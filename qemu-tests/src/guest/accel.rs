//! Which accelerator really runs a guest here. `/dev/kvm` alone proves nothing: in nested
//! virtualisation it may open and yet never run the guest.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::image::{Image, cache_dir, lock};
use super::vm::Vm;
use crate::error::{Context, Result};

/// How long a stock guest may take to its first command under KVM (it takes 1-2 s where it works).
const KVM_BOOT_LIMIT: Duration = Duration::from_secs(10);

/// How QEMU runs a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// By the processor.
    Kvm,
    /// By translation: slow, but it works everywhere.
    Tcg,
}

impl Accel {
    /// The name that QEMU and reports use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// KVM if a guest really boots on it, else TCG. The verdict is kept until the next boot;
    /// `WIREONCE_ACCEL=kvm` or `tcg` overrules it.
    ///
    /// # Errors
    /// The verdict cannot be kept.
    pub fn detect(image: &Image) -> Result<Self> {
        if let Ok(name) = std::env::var("WIREONCE_ACCEL") {
            return Ok(if name == "kvm" { Self::Kvm } else { Self::Tcg });
        }
        if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
            return Ok(Self::Tcg);
        }
        let path = cache_dir().join("accel");
        let _lock = lock(&cache_dir().join("accel.lock"))?;
        let boot = boot_id();
        if let Some(known) = read_verdict(&path, &boot) {
            return Ok(known);
        }
        let verdict = if boots_on_kvm(image) { Self::Kvm } else { Self::Tcg };
        fs::write(&path, format!("{boot} {}\n", verdict.name()))
            .context(|| format!("cannot write {}", path.display()))?;
        Ok(verdict)
    }
}

fn boots_on_kvm(image: &Image) -> bool {
    Vm::new("probe", image, Accel::Kvm).boot_limit(KVM_BOOT_LIMIT).boot().is_ok()
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn read_verdict(path: &Path, boot: &str) -> Option<Accel> {
    let text = fs::read_to_string(path).ok()?;
    match text.trim().strip_prefix(boot)?.trim() {
        "kvm" => Some(Accel::Kvm),
        "tcg" => Some(Accel::Tcg),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_for_its_boot_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accel");
        fs::write(&path, "boot-1 tcg\n").unwrap();
        assert_eq!(read_verdict(&path, "boot-1"), Some(Accel::Tcg));
        assert_eq!(read_verdict(&path, "boot-2"), None);
    }
}
