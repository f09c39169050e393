//! What a run found out, as it is written to a file.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wireonce_qemu_tests::{Error, Result};

use crate::machine::Machine;

/// What no figure of this bench says anything about. Every table opens with it.
pub const LIMITS: &str = "No physical NIC and no vhost-net: network namespaces, veth pairs and \
    software front-ends on one machine. Compare the columns of a row; do not take a figure for \
    what a network card or another machine would give.";

/// All results of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The suite, or `all`.
    pub suite: String,
    /// What the figures are not.
    pub limits: String,
    /// What it ran on.
    pub machine: Machine,
    /// What was measured.
    #[serde(default)]
    pub build: Build,
    /// One short round of few cases: no figure is worth anything, and no goal was judged.
    #[serde(default)]
    pub quick: bool,
    /// All cases that were asked for have run; else the run was broken off, or is still under way.
    #[serde(default)]
    pub whole: bool,
    /// One entry for each figure and peer.
    pub cases: Vec<CaseResult>,
}

impl Results {
    /// No results yet.
    #[must_use]
    pub fn new(suite: &str, machine: Machine) -> Self {
        let (suite, limits) = (suite.to_owned(), LIMITS.to_owned());
        let (build, cases) = (Build::default(), Vec::new());
        Self { suite, limits, machine, build, quick: false, whole: false, cases }
    }

    /// What must be known of all figures, for people.
    #[must_use]
    pub fn remarks(&self) -> Vec<&'static str> {
        let quick = "A quick run: it shows that the bench works. Its figures say nothing about \
            speed, and no goal is judged.";
        let broken_off = "Not all cases have run: it was broken off.";
        let remarks = [(self.quick, quick), (!self.whole, broken_off)];
        remarks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, remark)| remark).collect()
    }

    /// Writes them as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let io = |source| Error::Io { what: format!("cannot write {}", path.display()), source };
        let mut text = serde_json::to_string_pretty(self).map_err(|error| io(error.into()))?;
        text.push('\n');
        fs::write(path, text).map_err(io)
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// The file cannot be read, or has something else in it.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { what: format!("cannot read {}", path.display()), source };
        let text = fs::read_to_string(path).map_err(io)?;
        serde_json::from_str(&text).map_err(|error| io(error.into()))
    }
}

/// The program that was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// What it says of itself.
    pub version: String,
    /// How it was built: `release`, `debug`, or `given` by hand.
    pub profile: String,
}

impl Default for Build {
    /// This program's own, for what it simulates.
    fn default() -> Self {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        Self {
            version: format!("wireonce {}", env!("CARGO_PKG_VERSION")),
            profile: profile.to_owned(),
        }
    }
}

/// One figure of ours beside one peer's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// Suite, case and figure.
    pub name: String,
    /// Our median; `null` if we failed.
    pub ours: Option<f64>,
    /// The peer's median; `null` if it cannot run here, for the reason in `note`.
    pub peer: Option<f64>,
    /// Whom we are compared with.
    pub peer_name: String,
    /// Of both figures.
    pub unit: String,
    /// Ours by the peer's: the median over the rounds of each round's ratio.
    pub ratio: Option<f64>,
    /// What is aimed at, in words.
    pub goal: Option<String>,
    /// Whether that was met; `null` without a goal or a figure.
    pub met: Option<bool>,
    /// How many rounds count.
    pub rounds: usize,
    /// CPU time of the device side for each frame, in microseconds.
    pub cpu_us_per_frame: Pair<f64>,
    /// Least and greatest of the rounds.
    pub spread: Pair<[f64; 2]>,
    /// Round trip of a cache line between the two processors, least and greatest seen.
    pub distance_ns: Option<[f64; 2]>,
    /// Rounds that were thrown away: the machine was not idle, or its processors were moved.
    pub repeated: u32,
    /// Rounds that count although they were noisy: repeating did not help.
    pub noisy: u32,
    /// Of which size it is, for a figure that is drawn against that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub of_size: Option<OfSize>,
    /// What else there is to know.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// A figure that cases of several sizes give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfSize {
    /// The figure's name, the same in all of them.
    pub figure: String,
    /// How large this case is: vNICs, workers.
    pub size: u64,
}

/// The same of both sides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair<T> {
    /// Ours.
    pub ours: Option<T>,
    /// The peer's.
    pub peer: Option<T>,
}

impl CaseResult {
    /// Whether the goal was met, and whether that can be believed, for people.
    #[must_use]
    pub fn verdict(&self) -> String {
        let verdict = match self.met {
            _ if self.ours.is_none() => "FAILED",
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        match self.noisy {
            0 => verdict.to_owned(),
            noisy => format!("{verdict}, noisy {noisy}/{}", self.rounds),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Results {
        let machine =
            Machine { cpu: "X".to_owned(), cores: 2, kernel: "6.1".to_owned(), memory_mib: 1 };
        let mut results = Results::new("queue", machine);
        results.whole = true;
        results.cases.push(CaseResult {
            name: "queue 64 B".to_owned(),
            ours: Some(20.0),
            peer: Some(25.0),
            peer_name: "DPDK <vhost>".to_owned(),
            unit: "Mpps".to_owned(),
            ratio: Some(0.8),
            goal: Some(">= 1 x".to_owned()),
            met: Some(false),
            rounds: 5,
            cpu_us_per_frame: Pair { ours: Some(0.05), peer: Some(0.04) },
            spread: Pair { ours: Some([19.0, 21.0]), peer: None },
            distance_ns: Some([70.0, 75.0]),
            repeated: 1,
            noisy: 0,
            of_size: None,
            note: None,
        });
        results
    }

    #[test]
    fn a_noisy_row_has_a_mark_beside_its_verdict() {
        let mut case = example().cases.remove(0);
        assert_eq!(case.verdict(), "NO");
        case.noisy = 2;
        assert_eq!(case.verdict(), "NO, noisy 2/5");
        case.ours = None;
        assert!(case.verdict().starts_with("FAILED"));
    }

    #[test]
    fn results_have_the_agreed_keys_and_survive_the_file() {
        let text = serde_json::to_string(&example()).unwrap();
        let keys = [
            "suite",
            "machine",
            "build",
            "quick",
            "whole",
            "cases",
            "name",
            "ours",
            "peer",
            "peer_name",
            "unit",
            "ratio",
            "goal",
            "met",
            "rounds",
            "cpu_us_per_frame",
        ];
        for key in keys {
            assert!(text.contains(&format!("\"{key}\":")), "{key}: {text}");
        }
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), example());
    }
}
