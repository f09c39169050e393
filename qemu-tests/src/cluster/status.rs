//! What `wireonce status --json` says, as far as a test bed looks at it.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// One daemon's answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// `backend` or `gateway`.
    pub role: String,
    /// When it was sampled: monotonic microseconds since the daemon started.
    #[serde(default)]
    pub sampled_at_us: u64,
    /// Its books.
    #[serde(default)]
    pub ledger: Vec<Ledger>,
    /// Everything else that it counts, by name.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// Its vNICs, as they come.
    #[serde(default)]
    pub vnics: Vec<Value>,
    /// Which configuration it serves.
    #[serde(default)]
    pub configuration: Configuration,
    /// Its links, as they come.
    #[serde(default)]
    pub links: Vec<Value>,
    /// Who has how much of which uplink, as it comes.
    #[serde(default)]
    pub shares: Vec<Value>,
    /// Its fabric port, as it comes; nothing if that is not divided.
    #[serde(default)]
    pub fabric_port: Value,
    /// What vNICs get from the outside, as it comes.
    #[serde(default)]
    pub down: Vec<Value>,
    /// Its uplinks, as they come.
    #[serde(default)]
    pub uplinks: Vec<Value>,
    /// How its uplinks are joined with others outside, as it comes.
    #[serde(default)]
    pub outside: Vec<Value>,
}

/// Which configuration a daemon serves, and what became of the newest one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Configuration {
    /// How many it has taken.
    pub number: u64,
    /// What the last one changed.
    pub changed: Vec<String>,
    /// What of it could not be done.
    pub troubles: Vec<String>,
    /// Why the newest one is not served.
    pub refused: Option<String>,
}

/// An amount in the three units of the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Amount {
    /// Frames as the guest or uplink handed them over.
    pub frames: u64,
    /// Frames that a wire carries.
    pub segments: u64,
    /// Bytes, layer-2 header included.
    pub bytes: u64,
}

/// The books of one vNIC or uplink at one stage.
#[derive(Debug, Clone, Deserialize)]
pub struct Ledger {
    /// The vNIC or uplink.
    pub name: String,
    /// Where on a frame's way.
    pub stage: String,
    /// What came.
    pub input: Amount,
    /// What replication added.
    #[serde(default)]
    pub copies: Amount,
    /// What left.
    pub output: Amount,
    /// What was dropped, by reason.
    #[serde(default)]
    pub drops: BTreeMap<String, Amount>,
    /// What the daemon itself says is neither out nor dropped.
    #[serde(default)]
    pub open_frames: i64,
}

impl Status {
    /// Reads an answer.
    pub(super) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|error| Error::Unexpected(format!("`wireonce status` said {text}: {error}")))
    }

    /// The books of one vNIC or uplink at one stage, if there are any.
    #[must_use]
    pub fn account(&self, name: &str, stage: &str) -> Option<&Ledger> {
        self.ledger.iter().find(|entry| entry.name == name && entry.stage == stage)
    }

    /// Frames that were dropped of one vNIC or uplink, by reason.
    #[must_use]
    pub fn drops_of(&self, name: &str) -> Vec<(String, u64)> {
        let rows = self.ledger.iter().filter(|row| row.name == name);
        rows.flat_map(|row| &row.drops).map(|(why, amount)| (why.clone(), amount.frames)).collect()
    }

    /// The entries that do not close, in words. Empty is good.
    #[must_use]
    pub fn holes(&self) -> Vec<String> {
        let open = self.ledger.iter().filter(|entry| !entry.closes());
        open.map(Ledger::in_words).collect()
    }
}

impl Ledger {
    /// Is everything that came out or dropped? Reckoned here from the amounts: the daemon's own
    /// verdict is only compared.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.reckoned_open() == 0 && self.open_frames == 0
    }

    fn reckoned_open(&self) -> i128 {
        let sum = |amounts: &[u64]| amounts.iter().map(|n| i128::from(*n)).sum::<i128>();
        let dropped: i128 = self.drops.values().map(|amount| i128::from(amount.frames)).sum();
        sum(&[self.input.frames, self.copies.frames]) - i128::from(self.output.frames) - dropped
    }

    fn in_words(&self) -> String {
        let drops: Vec<_> =
            self.drops.iter().map(|(why, amount)| format!("{why} {}", amount.frames)).collect();
        format!(
            "{} at {}: in {} + copies {}, out {}, dropped [{}]: {} open (the daemon says {})",
            self.name,
            self.stage,
            self.input.frames,
            self.copies.frames,
            self.output.frames,
            drops.join(", "),
            self.reckoned_open(),
            self.open_frames,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(output: u64) -> Status {
        Status::parse(&format!(
            r#"{{"role": "backend", "ledger": [{{"name": "vm-a", "stage": "guest-tx",
                "input": {{"frames": 10, "segments": 12, "bytes": 900}},
                "copies": {{"frames": 1, "segments": 1, "bytes": 60}},
                "output": {{"frames": {output}, "segments": 11, "bytes": 860}},
                "drops": {{"source-mac": {{"frames": 2, "segments": 2, "bytes": 100}}}},
                "open_frames": 0}}]}}"#
        ))
        .unwrap()
    }

    #[test]
    fn a_ledger_that_adds_up_has_no_holes() {
        assert!(status(9).holes().is_empty());
    }

    #[test]
    fn a_missing_frame_is_a_hole_even_if_the_daemon_denies_it() {
        let holes = status(8).holes();
        assert!(holes.len() == 1 && holes[0].contains("1 open"), "{holes:?}");
    }
}
