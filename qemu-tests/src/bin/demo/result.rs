//! The demo's figures as a file.

use std::path::Path;

use serde::{Deserialize, Serialize};
use wireonce_qemu_tests::{Error, Result};

/// What the demo saw. A figure that it did not get to is `null`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct DemoResult {
    /// Did everything work?
    pub(crate) ok: bool,
    /// TCP from a VM to the outside, in megabits per second.
    pub(crate) guest_to_outside_mbps: Option<f64>,
    /// TCP from the outside to a VM.
    pub(crate) outside_to_guest_mbps: Option<f64>,
    /// TCP between VMs on different servers.
    pub(crate) vm_to_vm_mbps: Option<f64>,
    /// Round trip from a VM to the outside, median.
    pub(crate) ping_ms_median: Option<f64>,
    /// `kvm` or `tcg`.
    pub(crate) accel: Option<String>,
    /// Did every frame that came in go out or get dropped for a reason, on all hosts?
    pub(crate) ledger_closed: bool,
    /// How long it all took, the build included.
    pub(crate) seconds: f64,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) error: Option<String>,
}

impl DemoResult {
    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let io = |source| Error::Io { what: format!("cannot write {}", path.display()), source };
        let mut text = serde_json::to_string_pretty(self).map_err(|e| io(e.into()))?;
        text.push('\n');
        std::fs::write(path, text).map_err(io)
    }

    /// Takes over what the demo as root wrote; without a file only its success is known.
    pub(crate) fn take_over(&mut self, path: &Path) {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        *self =
            serde_json::from_str(&text).unwrap_or(Self { ledger_closed: true, ..Self::default() });
    }
}
