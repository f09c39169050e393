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

use crate::case::{Case, Contender, Fact, Figure, OfEvents, Rival, Sample, Times};
use crate::cpu::Strangers;
use crate::machine::{Cores, Distance, probe_distance, wait_idle};
use crate::result::{CaseResult, Pair};
use crate::stats::{Summary, median, percentile};

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

/// The rounds of one case that count.
#[derive(Debug, Default)]
struct Rounds {
    /// One for each round: ours first, then the rivals that run here, in their order.
    samples: Vec<Vec<Sample>>,
    distances: Vec<Distance>,
    repeated: u32,
    noisy: u32,
}

/// Runs all rounds of `case`; `tell` hears of each.
///
/// # Errors
/// A contender's own.
pub fn run(case: Case, rules: &Rules, mut tell: impl FnMut(&str)) -> Result<Vec<CaseResult>> {
    let Case { name, figures, mut ours, rivals, note } = case;
    let mut absent: Vec<Option<String>> = Vec::new();
    let mut described = Vec::new();
    let mut sides: Vec<Box<dyn Contender>> = Vec::new();
    for Rival { name, side, goals } in rivals {
        absent.push(side.as_ref().err().cloned());
        sides.extend(side);
        described.push((name, goals));
    }
    let mut contenders: Vec<&mut Box<dyn Contender>> = vec![&mut ours];
    contenders.extend(sides.iter_mut());
    let mut rounds = Rounds::default();
    for number in 0..rules.rounds {
        round(number, &mut contenders, rules, &mut rounds, &figures, &mut tell)?;
    }

    if described.is_empty() {
        described.push(("none".to_owned(), Vec::new()));
        absent.push(Some("there is no peer for this".to_owned()));
    }
    let mut results = Vec::new();
    let mut present = 1;
    for ((rival, goals), absent) in described.into_iter().zip(absent) {
        let column = absent.is_none().then_some(present);
        present += usize::from(absent.is_none());
        for (index, figure) in figures.iter().enumerate() {
            let mut result = rounds.result(figure, index, column);
            let goal = goals.get(index).copied().flatten();
            result.name = format!("{name} {}", figure.name).trim_end().to_owned();
            result.peer_name.clone_from(&rival);
            result.unit.clone_from(&figure.unit);
            result.goal = goal.map(|goal| goal.in_words(&figure.unit));
            result.met = goal.and_then(|goal| goal.met(result.ours, result.ratio));
            let parts = [note.clone(), absent.clone(), rounds.facts_in_words(column)];
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
    contenders: &mut [&mut Box<dyn Contender>],
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
        let started = Instant::now();
        let samples = in_turn(number, contenders, rules.times)?;
        let all_us = started.elapsed().as_secs_f64() * 1e6 * processors();
        let share = strangers.time_us() / all_us;
        let after = probe_distance(rules.cores);
        let flipped = before.zip(after).is_some_and(|(before, after)| before.flipped(after));
        let noise = [
            busy.then(|| "the machine is not idle".to_owned()),
            (share > STRANGERS_MAX).then(|| format!("others took {:.0} %", share * 100.0)),
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

/// Each contender once; round `number` begins with another one than the round before.
fn in_turn(
    number: usize,
    contenders: &mut [&mut Box<dyn Contender>],
    times: Times,
) -> Result<Vec<Sample>> {
    let count = contenders.len();
    let mut samples: Vec<Option<Sample>> = vec![None; count];
    for step in 0..count {
        let who = (number + step) % count;
        if let (Some(contender), Some(sample)) = (contenders.get_mut(who), samples.get_mut(who)) {
            *sample = Some(contender.round(times)?);
        }
    }
    Ok(samples.into_iter().flatten().collect())
}

fn processors() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64)
}

fn round_in_words(
    number: usize,
    samples: &[Sample],
    figures: &[Figure],
    distances: [Option<Distance>; 2],
    noise: &[String],
    again: bool,
) -> String {
    let values = |sample: &Sample| {
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
            note: None,
        }
    }

    fn column(&self, column: usize) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter_map(move |round| round.get(column))
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
            Some(format!("{} {value:.3} {}", fact.name, fact.unit).trim_end().to_owned())
        };
        first.facts.iter().filter_map(in_words).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Goal;

    /// Gives the next value of a list in each round.
    #[derive(Debug)]
    struct Script(Vec<f64>);

    impl Contender for Script {
        fn round(&mut self, _times: Times) -> Result<Sample> {
            let value = self.0.remove(0);
            let facts = vec![Fact::new("seen", value * 2.0, "x")];
            Ok(Sample {
                values: vec![value],
                cpu_us_per_frame: Some(1.0 / value),
                facts,
                events: Vec::new(),
            })
        }
    }

    fn rules(rounds: usize) -> Rules {
        let times = Times { warm_up: Duration::ZERO, window: Duration::ZERO };
        let cores = Cores::default();
        Rules { rounds, times, repeats: 0, repeat_until: None, patience: Duration::ZERO, cores }
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_own_ratios() {
        // The machine was twice as fast in the second round: the ratios do not notice.
        let case = Case::new("c", "Mpps", Script(vec![10.0, 20.0, 12.0])).against(Rival::new(
            "p",
            Ok(Script(vec![5.0, 10.0, 4.0])),
            &[Goal::RatioAtLeast(2.0)],
        ));
        let mut told = 0;
        let results = run(case, &rules(3), |_| told += 1).unwrap();
        let [result] = results.as_slice() else { panic!("{results:?}") };
        assert_eq!((result.ours, result.peer, result.ratio), (Some(12.0), Some(5.0), Some(2.0)));
        assert_eq!((result.met, result.rounds, told), (Some(true), 3, 3));
        assert_eq!(result.spread.ours, Some([10.0, 20.0]));
        assert!(result.note.as_ref().unwrap().contains("ours: seen 24.000 x; peer: seen 10"));
    }

    #[test]
    fn a_peer_that_cannot_run_is_null_with_its_reason_and_the_others_keep_their_columns() {
        let case = Case::new("c", "us", Script(vec![3.0]))
            .against(Rival::absent("gone", "no such program", &[Goal::RatioAtMost(1.0)]))
            .against(Rival::new("here", Ok(Script(vec![6.0])), &[Goal::RatioAtMost(0.4)]));
        let results = run(case, &rules(1), |_| {}).unwrap();
        assert_eq!((results[0].peer, results[0].met), (None, None));
        assert!(results[0].note.as_ref().unwrap().contains("no such program"));
        assert_eq!((results[1].peer, results[1].met), (Some(6.0), Some(false)));
        assert_eq!(results[1].cpu_us_per_frame.peer, Some(1.0 / 6.0));
    }

    #[test]
    fn a_figure_of_events_is_over_those_of_all_rounds() {
        /// The first round has most of the events, and the smaller ones.
        #[derive(Debug)]
        struct Events(Vec<Vec<f64>>);
        impl Contender for Events {
            fn round(&mut self, _times: Times) -> Result<Sample> {
                Ok(Sample { events: vec![self.0.remove(0)], ..Sample::default() })
            }
        }
        let ours = Events(vec![vec![1.0, 2.0, 3.0], vec![40.0]]);
        let figures = vec![Figure::of("p50", "ms", 0, 0.5), Figure::of("longest", "ms", 0, 1.0)];
        let goals = vec![None, Some(Goal::AtMost(35.0))];
        let case = Case::new("c", "", ours).figures(figures).against(Rival::none("nobody", goals));
        let results = run(case, &rules(2), |_| {}).unwrap();
        assert_eq!((results[0].ours, results[0].met), (Some(2.0), None));
        assert_eq!((results[1].ours, results[1].met), (Some(40.0), Some(false)));
        assert_eq!((results[0].spread.ours, results[0].rounds), (Some([1.0, 40.0]), 2));
    }

    #[test]
    fn without_a_peer_our_own_figure_still_meets_its_goal() {
        let mut case = Case::new("c", "MiB", Script(vec![3.0]));
        case.rivals.push(Rival::absent("none", "no peer does this", &[Goal::AtMost(4.0)]));
        let results = run(case, &rules(1), |_| {}).unwrap();
        assert_eq!((results[0].met, results[0].goal.as_deref()), (Some(true), Some("<= 4 MiB")));
    }
}
