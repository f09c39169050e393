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
    /// What a VM sent whose server was held back, in wire megabits a second at the outside's port, and
    /// what it sent when its server had been given more.
    pub(crate) starved_before_mbps: Option<f64>,
    pub(crate) starved_after_mbps: Option<f64>,
    /// From when the command was typed until the new rate was on the wire, steadily.
    pub(crate) realloc_ms: Option<f64>,
    /// The longest silence outside around the end of a gateway, of a datagram each millisecond.
    pub(crate) failover_gap_ms: Option<f64>,
    /// `fast` or `default`: how long a home may be silent.
    pub(crate) failover_profile: Option<String>,
    /// Datagrams that never arrived outside while their uplink was drained.
    pub(crate) drain_lost: Option<u64>,
    /// Frames that the VMs' own kernels dropped before their NICs, by `tc -s qdisc`.
    pub(crate) guest_qdisc_drops: Option<u64>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_its_key_and_none_is_made_up() {
        let value = serde_json::to_value(DemoResult::default()).unwrap();
        let keys = [
            "guest_to_outside_mbps",
            "outside_to_guest_mbps",
            "vm_to_vm_mbps",
            "ping_ms_median",
            "starved_before_mbps",
            "starved_after_mbps",
            "realloc_ms",
            "failover_gap_ms",
            "failover_profile",
            "drain_lost",
            "guest_qdisc_drops",
            "accel",
        ];
        for key in keys {
            assert_eq!(value.get(key), Some(&serde_json::Value::Null), "{key}");
        }
        assert_eq!(value["ok"], false);
        assert_eq!(value["ledger_closed"], false);
        assert!(value.get("error").is_none());
    }

    #[test]
    fn figures_survive_the_way_through_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("demo.json");
        let drain_lost = Some(0);
        let all = DemoResult { ok: true, realloc_ms: Some(41.5), drain_lost, ..Default::default() };
        all.write(&path).unwrap();
        let mut seen = DemoResult::default();
        seen.take_over(&path);
        assert_eq!((seen.ok, seen.realloc_ms, seen.drain_lost), (true, Some(41.5), Some(0)));
    }
}
