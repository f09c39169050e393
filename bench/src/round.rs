//! Rounds: ours and the peers in turn, on a machine that is idle and stays as it is.
//!
//! ```text
//!   idle? probe  ours peer-1 peer-2  probe quiet?  --noisy--> again, at most 2 times
//!   idle? probe  peer-1 peer-2 ours  probe quiet?  --fine---> counts
//!   ...                                            --noisy still--> counts, and is told
//! ```
//! The order turns from round to round, so that nobody always comes first.

use std::time::{Duration, Instant};

use wireonce_qemu_tests::Result;

use crate::case::{Case, Contender, Fact, Figure, OfEvents, Rival, Sample, Times, one_line};
use crate::cpu::Strangers;
use crate::machine::{Cores, Distance, probe_distance, wait_idle};
use crate::result::{CaseResult, OfSize, Pair};
use crate::stats::{Summary, median, percentile};
use crate::table::number;

/// How rounds are run.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How many count.
    pub rounds: usize,
    /// How long each takes.
    pub times: Times,
    /// How often a noisy one is repeated before it counts all the same.
    pub repeats: u32,
    /// From then on none is repeated; `None`: always.
    pub repeat_until: Option<Instant>,
    /// How long to wait for an idle machine before a round.
    pub patience: Duration,
    /// Where the load runs.
    pub cores: Cores,
}

/// CPU time of strangers over a round, by the time of all processors, from which on it is noisy.
const STRANGERS_MAX: f64 = 0.04;

/// Somebody in a case: ours first, then the rivals in their order.
#[derive(Debug)]
struct Side {
    /// Or why it does not run, or no longer.
    contender: Result<Box<dyn Contender>, String>,
    /// Ours has no excuse: its failure is the case's.
    is_ours: bool,
}

/// The rounds of one case that count.
#[derive(Debug, Default)]
struct Rounds {
    /// One for each round, with a place for each side.
    samples: Vec<Vec<Option<Sample>>>,
    distances: Vec<Distance>,
    repeated: u32,
    noisy: u32,
}

/// Runs all rounds of `case`; `tell` hears of each.
///
/// # Errors
/// A contender's own.
pub fn run(case: Case, rules: &Rules, mut tell: impl FnMut(&str)) -> Result<Vec<CaseResult>> {
    let Case { name, figures, ours, mut rivals, size, note } = case;
    if rivals.is_empty() {
        rivals.push(Rival::none("there is no peer for this", Vec::new()));
    }
    let mut described = Vec::new();
    let mut sides = vec![Side { contender: Ok(ours), is_ours: true }];
    for Rival { name, side, goals, is_ours } in rivals {
        sides.push(Side { contender: side, is_ours });
        described.push((name, goals));
    }
    let mut rounds = Rounds::default();
    for number in 0..rules.rounds {
        round(number, &mut sides, rules, &mut rounds, &figures, &mut tell)?;
    }

    let mut results = Vec::new();
    let peers = sides.into_iter().enumerate().skip(1);
    for ((rival, goals), (column, side)) in described.into_iter().zip(peers) {
        let absent = side.contender.err();
        let column = absent.is_none().then_some(column);
        for (index, figure) in figures.iter().enumerate() {
            let mut result = rounds.result(figure, index, column);
            let goal = goals.get(index).copied().flatten();
            result.name = format!("{name} {}", figure.name).trim_end().to_owned();
            result.of_size = size.map(|size| OfSize { figure: figure.name.clone(), size });
            result.peer_name.clone_from(&rival);
            result.unit.clone_from(&figure.unit);
            result.goal = goal.map(|goal| goal.in_words(&figure.unit));
            result.met = goal.and_then(|goal| goal.met(result.ours, result.ratio));
            let zero = result
                .peer
                .is_some_and(|peer| peer <= 0.0)
                .then(|| "no ratio: the peer's is 0".to_owned());
            let parts = [note.clone(), absent.clone(), zero, rounds.facts_in_words(column)];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            result.note = (!parts.is_empty()).then(|| parts.join("; "));
            results.push(result);
        }
    }
    Ok(results)
}

/// One round that counts, repeated while it is noisy.
fn round(
    number: usize,
    sides: &mut [Side],
    rules: &Rules,
    rounds: &mut Rounds,
    figures: &[Figure],
    tell: &mut impl FnMut(&str),
) -> Result<()> {
    let mut attempt = 0;
    loop {
        let busy = !wait_idle(rules.patience);
        let before = probe_distance(rules.cores);
        let strangers = Strangers::watch();
        let samples = in_turn(number, sides, rules.times)?;
        let share = strangers.share();
        let after = probe_distance(rules.cores);
        let flipped = before.zip(after).is_some_and(|(before, after)| before.flipped(after));
        let noise = [
            busy.then(|| "the machine is not idle".to_owned()),
            too_much(share),
            flipped.then(|| "the processors were moved".to_owned()),
        ];
        let noise: Vec<String> = noise.into_iter().flatten().collect();
        let in_time = rules.repeat_until.is_none_or(|until| Instant::now() < until);
        let again = !noise.is_empty() && attempt < rules.repeats && in_time;
        tell(&round_in_words(number, &samples, figures, [before, after], &noise, again));
        if again {
            attempt += 1;
            rounds.repeated += 1;
            continue;
        }
        rounds.noisy += u32::from(!noise.is_empty());
        rounds.samples.push(samples);
        rounds.distances.extend([before, after].into_iter().flatten());
        return Ok(());
    }
}

/// Each side once; round `number` begins with another one than the round before. A peer that
/// fails is out from then on, and what it runs ends.
fn in_turn(number: usize, sides: &mut [Side], times: Times) -> Result<Vec<Option<Sample>>> {
    let count = sides.len();
    let mut samples: Vec<Option<Sample>> = vec![None; count];
    for step in 0..count {
        let who = (number + step) % count;
        let (Some(side), Some(sample)) = (sides.get_mut(who), samples.get_mut(who)) else {
            continue;
        };
        let Ok(contender) = &mut side.contender else { continue };
        match contender.round(times) {
            Ok(seen) => *sample = Some(seen),
            Err(error) if side.is_ours => return Err(error),
            Err(error) => {
                let why = format!("failed in round {}: {}", number + 1, one_line(&error));
                side.contender = Err(why);
            }
        }
    }
    Ok(samples)
}

/// What is said of strangers that had `share` of all processors, if that is too much.
fn too_much(share: f64) -> Option<String> {
    let percent = |share: f64| share * 100.0;
    (share > STRANGERS_MAX).then(|| {
        format!("others took {:.1} % (at most {:.0})", percent(share), percent(STRANGERS_MAX))
    })
}

fn round_in_words(
    number: usize,
    samples: &[Option<Sample>],
    figures: &[Figure],
    distances: [Option<Distance>; 2],
    noise: &[String],
    again: bool,
) -> String {
    let values = |sample: &Option<Sample>| {
        let Some(sample) = sample else { return "-".to_owned() };
        let value = |(index, figure): (usize, &Figure)| {
            Some(format!("{:.3} {}", figure.value(index, sample)?, figure.unit))
        };
        figures.iter().enumerate().filter_map(value).collect::<Vec<_>>().join(", ")
    };
    let all: Vec<String> = samples.iter().map(values).collect();
    let ns = |distance: Option<Distance>| {
        distance.map_or("?".to_owned(), |distance| format!("{:.0}", distance.round_trip_ns))
    };
    let [before, after] = distances.map(ns);
    let mut line =
        format!("round {}: {} (cache line {before}, {after} ns)", number + 1, all.join(" | "));
    if !noise.is_empty() {
        line += &format!("; {}: {}", noise.join(", "), if again { "again" } else { "counts" });
    }
    line
}

impl Rounds {
    /// Figure `index` of ours and of the rival in `column`; without names, units and goals.
    fn result(&self, figure: &Figure, index: usize, column: Option<usize>) -> CaseResult {
        let values = |column| -> Vec<f64> {
            self.column(column).filter_map(|sample| figure.value(index, sample)).collect()
        };
        let ours = values(0);
        let peer = column.map(values).unwrap_or_default();
        let ratios: Vec<f64> =
            ours.iter().zip(&peer).filter(|(_, peer)| **peer > 0.0).map(|(o, p)| o / p).collect();
        let summary = |column, values: &[f64]| match figure.of {
            None => Summary::of(values),
            Some(of) => self.over_all(column, of),
        };
        let summary = Pair {
            ours: summary(0, &ours),
            peer: column.and_then(|column| summary(column, &peer)),
        };
        let spread = |summary: Option<Summary>| summary.map(|summary| [summary.min, summary.max]);
        let trips: Vec<f64> = self.distances.iter().map(|d| d.round_trip_ns).collect();
        CaseResult {
            name: String::new(),
            ours: summary.ours.map(|summary| summary.median),
            peer: summary.peer.map(|summary| summary.median),
            peer_name: String::new(),
            unit: String::new(),
            ratio: median(&ratios),
            goal: None,
            met: None,
            rounds: ours.len(),
            cpu_us_per_frame: Pair {
                ours: self.cpu(0),
                peer: column.and_then(|column| self.cpu(column)),
            },
            spread: Pair { ours: spread(summary.ours), peer: spread(summary.peer) },
            distance_ns: Summary::of(&trips).map(|summary| [summary.min, summary.max]),
            repeated: self.repeated,
            noisy: self.noisy,
            of_size: None,
            note: None,
        }
    }

    fn column(&self, column: usize) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter_map(move |round| round.get(column)?.as_ref())
    }

    /// Of all rounds' events together: the percentile in the median's place, and the spread.
    fn over_all(&self, column: usize, of: OfEvents) -> Option<Summary> {
        let lists = self.column(column).filter_map(|sample| sample.events.get(of.list));
        let all: Vec<f64> = lists.flatten().copied().collect();
        Some(Summary { median: percentile(&all, of.share)?, ..Summary::of(&all)? })
    }

    fn cpu(&self, column: usize) -> Option<f64> {
        median(
            &self.column(column).filter_map(|sample| sample.cpu_us_per_frame).collect::<Vec<_>>(),
        )
    }

    /// The medians of the facts of ours and of the rival in `column`.
    fn facts_in_words(&self, column: Option<usize>) -> Option<String> {
        let sides = [("ours", Some(0)), ("peer", column)];
        let words = sides.into_iter().filter_map(|(who, column)| {
            let facts = self.facts(column?);
            (!facts.is_empty()).then(|| format!("{who}: {}", facts.join(", ")))
        });
        let words: Vec<String> = words.collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    fn facts(&self, column: usize) -> Vec<String> {
        let Some(first) = self.column(column).next() else { return Vec::new() };
        let values = |wanted: &Fact| {
            let all = self.column(column).flat_map(|sample| &sample.facts);
            let same = all.filter(|fact| fact.name == wanted.name).map(|fact| fact.value);
            median(&same.collect::<Vec<_>>())
        };
        let in_words = |fact: &Fact| {
            let value = values(fact)?;
            // A count is shown as one.
            let value = if value.fract() == 0.0 { format!("{value}") } else { number(value) };
            Some(format!("{} {value} {}", fact.name, fact.unit).trim_end().to_owned())
        };
        first.facts.iter().filter_map(in_words).collect()
    }
}

#[cfg(test)]
mod tests;
