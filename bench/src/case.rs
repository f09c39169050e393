//! A case: what is measured, of whom, and what is aimed at.

use std::fmt::{Debug, Display};
use std::time::Duration;

use wireonce_qemu_tests::Result;

use crate::bench::Bench;
use crate::stats::percentile;

/// Somebody who is measured: ours or a peer. It is set up before the first round and costs no
/// processor time between its rounds.
pub trait Contender: Debug {
    /// One round: start the load, let it settle for `times.warm_up`, measure for `times.window`,
    /// stop the load.
    ///
    /// # Errors
    /// What went wrong; the case ends with it.
    fn round(&mut self, times: Times) -> Result<Sample>;
}

/// How long the parts of a round take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Load before the measurement.
    pub warm_up: Duration,
    /// The measurement.
    pub window: Duration,
}

/// What one round gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// One value for each figure of the case, in its unit. Those of figures [of events](Figure::of) are
    /// not looked at.
    pub values: Vec<f64>,
    /// CPU time of the device side for each frame, in microseconds.
    pub cpu_us_per_frame: Option<f64>,
    /// What stands beside the figures.
    pub facts: Vec<Fact>,
    /// What was seen several times within the round: a list for each kind of thing.
    pub events: Vec<Vec<f64>>,
}

/// A number that stands beside the figures: its median gets into the note.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

impl Fact {
    /// A number with its name and unit.
    #[must_use]
    pub fn new(name: &str, value: f64, unit: &str) -> Self {
        Self { name: name.to_owned(), value, unit: unit.to_owned() }
    }
}

/// One of the figures of a case.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Behind the case's name; may be empty.
    pub name: String,
    /// The unit of its values.
    pub unit: String,
    /// It is taken from the events of all rounds together; else it is the median of the rounds'
    /// values.
    pub of: Option<OfEvents>,
}

/// A percentile of events that each round has several of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OfEvents {
    /// Which list of [`Sample::events`].
    pub list: usize,
    /// 0.5 is the median, 1 the greatest.
    pub share: f64,
}

impl Figure {
    /// A figure with its unit.
    #[must_use]
    pub fn new(name: &str, unit: &str) -> Self {
        Self { name: name.to_owned(), unit: unit.to_owned(), of: None }
    }

    /// A figure of list `list` of the events: the value below which `share` of them lie.
    #[must_use]
    pub fn of(name: &str, unit: &str, list: usize, share: f64) -> Self {
        Self { of: Some(OfEvents { list, share }), ..Self::new(name, unit) }
    }

    /// What it is in one round; `index` is its own in the case.
    #[must_use]
    pub fn value(&self, index: usize, sample: &Sample) -> Option<f64> {
        match self.of {
            None => sample.values.get(index).copied(),
            Some(of) => percentile(sample.events.get(of.list)?, of.share),
        }
    }
}

/// What is aimed at, for one figure beside one peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// Ours by the peer's is at least this.
    RatioAtLeast(f64),
    /// Ours by the peer's is at most this.
    RatioAtMost(f64),
    /// Ours, in the figure's unit, is at most this.
    AtMost(f64),
    /// Ours, in the figure's unit, is at least this.
    AtLeast(f64),
}

impl Goal {
    /// In words, with the figure's unit.
    #[must_use]
    pub fn in_words(self, unit: &str) -> String {
        match self {
            Self::RatioAtLeast(limit) => format!(">= {limit} x"),
            Self::RatioAtMost(limit) => format!("<= {limit} x"),
            Self::AtMost(limit) => format!("<= {limit} {unit}"),
            Self::AtLeast(limit) => format!(">= {limit} {unit}"),
        }
    }

    /// Is it met? `None` if the figure that decides is missing.
    #[must_use]
    pub fn met(self, ours: Option<f64>, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::RatioAtLeast(limit) => ratio.map(|ratio| ratio >= limit),
            Self::RatioAtMost(limit) => ratio.map(|ratio| ratio <= limit),
            Self::AtMost(limit) => ours.map(|ours| ours <= limit),
            Self::AtLeast(limit) => ours.map(|ours| ours >= limit),
        }
    }
}

/// Whom we are compared with.
#[derive(Debug)]
pub struct Rival {
    /// Its name, with its version where that is known.
    pub name: String,
    /// Ready to run; or why it cannot run here.
    pub side: Result<Box<dyn Contender>, String>,
    /// For each figure of the case; missing ones have no goal.
    pub goals: Vec<Option<Goal>>,
    /// It is ours in another state: unlike a peer, it has no excuse for failing.
    pub is_ours: bool,
}

impl Rival {
    /// A peer that `start` sets up, or cannot: then the error is its reason. Nobody is set up if
    /// the bench measures us alone.
    #[must_use]
    pub fn start<C: Contender + 'static>(
        bench: &Bench,
        name: &str,
        goals: &[Goal],
        start: impl FnOnce() -> Result<C>,
    ) -> Self {
        if bench.alone {
            return Self::absent(name, "left out on request", goals);
        }
        Self::new(name, start(), goals)
    }

    /// Ours in another state, to compare with.
    ///
    /// # Errors
    /// It could not be set up: unlike a peer, it has no excuse.
    pub fn ours<C: Contender + 'static>(
        bench: &Bench,
        name: &str,
        goals: &[Goal],
        start: impl FnOnce() -> Result<C>,
    ) -> Result<Self> {
        if bench.alone {
            return Ok(Self::absent(name, "left out on request", goals));
        }
        Ok(Self { is_ours: true, ..Self::new(name, Ok(start()?), goals) })
    }

    /// A peer that was set up, or could not be.
    #[must_use]
    pub fn new<C: Contender + 'static>(name: &str, side: Result<C>, goals: &[Goal]) -> Self {
        let side = side.map(|side| Box::new(side) as Box<dyn Contender>);
        let side = side.map_err(|error| format!("cannot run here: {}", one_line(&error)));
        let goals = goals.iter().copied().map(Some).collect();
        Self { name: name.to_owned(), side, goals, is_ours: false }
    }

    /// Nobody else does this: there are goals only, one for each figure that has one.
    #[must_use]
    pub fn none(why: &str, goals: Vec<Option<Goal>>) -> Self {
        Self { name: "none".to_owned(), side: Err(why.to_owned()), goals, is_ours: false }
    }

    /// A peer that is known not to run here.
    #[must_use]
    pub fn absent(name: &str, why: &str, goals: &[Goal]) -> Self {
        let goals = goals.iter().copied().map(Some).collect();
        Self { name: name.to_owned(), side: Err(why.to_owned()), goals, is_ours: false }
    }
}

/// An error as a note can show it: of a log of many lines the first and the last.
pub(crate) fn one_line(error: &impl Display) -> String {
    const CHARS_MAX: usize = 160;
    let text = error.to_string();
    let cut = |line: &str| match line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (first, last) = (lines.next().unwrap_or_default(), lines.next_back());
    last.map_or_else(|| cut(first), |last| format!("{} ... {}", cut(first), cut(last)))
}

/// One case: ours, its rivals, and the figures that all of them give.
#[derive(Debug)]
pub struct Case {
    /// What stands in the results before each figure's name.
    pub name: String,
    /// One or more.
    pub figures: Vec<Figure>,
    /// Ours.
    pub ours: Box<dyn Contender>,
    /// The peers; may be empty.
    pub rivals: Vec<Rival>,
    /// How large it is, if its figures are to be drawn against that.
    pub size: Option<u64>,
    /// What to know about it.
    pub note: Option<String>,
}

impl Case {
    /// A case with one figure and no rivals yet.
    #[must_use]
    pub fn new(name: &str, unit: &str, ours: impl Contender + 'static) -> Self {
        Self {
            name: name.to_owned(),
            figures: vec![Figure::new("", unit)],
            ours: Box::new(ours),
            rivals: Vec::new(),
            size: None,
            note: None,
        }
    }

    /// Replaces the figures.
    #[must_use]
    pub fn figures(mut self, figures: Vec<Figure>) -> Self {
        self.figures = figures;
        self
    }

    /// Adds a rival.
    #[must_use]
    pub fn against(mut self, rival: Rival) -> Self {
        self.rivals.push(rival);
        self
    }

    /// Its figures are drawn against this.
    #[must_use]
    pub fn of_size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Adds what there is to know about it.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        self.note = Some(note.to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_without_its_figure_is_neither_met_nor_missed() {
        assert_eq!(Goal::RatioAtLeast(1.0).met(Some(5.0), None), None);
        assert_eq!(Goal::RatioAtLeast(1.0).met(Some(5.0), Some(1.0)), Some(true));
        assert_eq!(Goal::RatioAtMost(1.5).met(Some(5.0), Some(1.6)), Some(false));
        assert_eq!(Goal::AtMost(4.0).met(Some(4.1), None), Some(false));
        assert_eq!(Goal::AtMost(4.0).in_words("MiB"), "<= 4 MiB");
        assert_eq!(Goal::AtLeast(98.0).met(Some(98.5), None), Some(true));
    }
}
