//! What is measured: one module for each suite.

use std::fmt;
use std::time::Duration;

use wireonce_qemu_tests::cluster::Cluster;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::report::Report;
use wireonce_qemu_tests::{Error, Result};

use crate::bench::Bench;
use crate::case::{Case, one_line};
use crate::machine::Machine;
use crate::result::{CaseResult, LIMITS, Pair, Results};
use crate::round;

pub mod bulk;
pub mod encap;
pub mod failover;
mod fan_out;
pub mod guest;
pub mod idle;
pub mod latency;
pub(crate) mod ledger;
pub mod lossy;
pub mod moves;
pub mod queue;
pub mod scaling;
pub mod sealed;
pub mod shares;
mod shares_down;
pub mod sim;
pub mod uplink;
pub mod victim;
pub mod vm_vm;

/// A handshake takes milliseconds; a lost first datagram, a second.
const LINK_LIMIT: Duration = Duration::from_secs(20);

/// Cases of each suite that a quick run takes: the others differ in numbers only.
const QUICK_CASES: usize = 2;

/// A suite: its name, what it is about, and its cases.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// On the command line and before each case.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Its cases. Nothing is set up yet.
    pub cases: fn(&Bench) -> Vec<Plan>,
}

/// All suites, in the order of `all`.
pub const SUITES: &[Suite] = &[
    queue::SUITE,
    encap::SUITE,
    vm_vm::SUITE,
    uplink::SUITE,
    sealed::SUITE,
    idle::SUITE,
    victim::SUITE,
    scaling::SUITE,
    sim::SUITE,
    shares::SUITE,
    failover::SUITE,
    moves::SUITE,
    bulk::SUITE,
    guest::SUITE,
    latency::SUITE,
    lossy::SUITE,
];

/// Behind the name of a case whose two sides have a processor each; in others, the scheduler
/// places all.
const PINNED: &str = ", a core each side";

/// A case that is not set up yet.
pub struct Plan {
    /// Its name, the suite's first.
    pub name: String,
    build: Build,
}

type Build = Box<dyn FnOnce(&Bench) -> Result<Case>>;

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Plan {
    /// A case that `build` sets up when its turn has come. The case gets this name.
    #[must_use]
    pub fn new(name: &str, build: impl FnOnce(&Bench) -> Result<Case> + 'static) -> Self {
        Self { name: name.to_owned(), build: Box::new(build) }
    }
}

/// The suites that `name` stands for: one, or all.
///
/// # Errors
/// There is no such suite.
pub fn find(name: &str) -> Result<Vec<&'static Suite>> {
    let found: Vec<_> = SUITES.iter().filter(|suite| name == "all" || suite.name == name).collect();
    if found.is_empty() {
        let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        let names = names.join(", ");
        return Err(Error::Unexpected(format!("no suite `{name}`; there are: {names}, all")));
    }
    Ok(found)
}

/// What will be measured.
#[derive(Debug)]
pub struct Selection {
    /// What the results are called.
    pub name: String,
    /// Suites that have cases in it, with those.
    pub suites: Vec<(&'static Suite, Vec<Plan>)>,
}

/// The cases of the suites that `name` stands for, of which the name contains `only`, in large or
/// small letters. A quick bench takes the first two of these in each suite.
///
/// # Errors
/// There is no such suite, or no such case: then the error names those that there are.
pub fn select(name: &str, only: Option<&str>, bench: &Bench) -> Result<Selection> {
    let text = only.map(str::to_lowercase);
    let cases_max = if bench.is_quick() { QUICK_CASES } else { usize::MAX };
    let (mut suites, mut names) = (Vec::new(), Vec::new());
    for suite in find(name)? {
        let all = (suite.cases)(bench);
        names.extend(all.iter().map(|plan| format!("\n  {}", plan.name)));
        let wanted =
            |plan: &Plan| text.as_ref().is_none_or(|text| plan.name.to_lowercase().contains(text));
        let plans: Vec<_> = all.into_iter().filter(wanted).take(cases_max).collect();
        if !plans.is_empty() {
            suites.push((suite, plans));
        }
    }
    if suites.is_empty() {
        let (only, names) = (only.unwrap_or_default(), names.concat());
        return Err(Error::Unexpected(format!("no case of `{name}` contains `{only}`:{names}")));
    }
    Ok(Selection { name: name.to_owned(), suites })
}

impl Selection {
    /// Whether anything of it uses more than this process: root, packages, huge pages, daemons.
    #[must_use]
    pub fn needs_the_machine(&self) -> bool {
        self.suites.iter().any(|(suite, _)| suite.name != sim::SUITE.name)
    }
}

/// Runs all of `selection`. A case of ours that fails has no figure and its reason as note.
///
/// `finished` gets all results after each case.
#[must_use]
pub fn run(
    selection: Selection,
    bench: &Bench,
    report: &Report,
    mut finished: impl FnMut(&Results),
) -> Results {
    let mut results = Results::new(&selection.name, Machine::here());
    (results.build, results.quick) = (bench.build.clone(), bench.is_quick());
    report.note(LIMITS);
    for (suite, plans) in selection.suites {
        report.title(&format!("{}: {}", suite.name, suite.about));
        for plan in plans {
            results.cases.extend(run_case(plan, bench, report));
            finished(&results);
        }
    }
    results.whole = true;
    results
}

fn run_case(plan: Plan, bench: &Bench, report: &Report) -> Vec<CaseResult> {
    let Plan { name, build } = plan;
    let done = report.step(&name, || {
        let mut case = build(bench)?;
        case.name.clone_from(&name);
        let mut results = round::run(case, &bench.rules, |line| report.note(line))?;
        if bench.is_quick() {
            results.iter_mut().for_each(|result| result.met = None);
        }
        let shown = results.iter().map(in_words).collect::<Vec<_>>().join("; ");
        Ok::<_, Error>((results, shown))
    });
    done.unwrap_or_else(|error| vec![failed(&name, &error)])
}

fn in_words(result: &CaseResult) -> String {
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let ratio = result.ratio.map_or(String::new(), |ratio| format!(" = {ratio:.2} x"));
    format!("{} : {} {}{ratio}", figure(result.ours), figure(result.peer), result.unit)
}

fn failed(name: &str, error: &Error) -> CaseResult {
    CaseResult {
        name: name.to_owned(),
        ours: None,
        peer: None,
        peer_name: "none".to_owned(),
        unit: "-".to_owned(),
        ratio: None,
        goal: None,
        met: None,
        rounds: 0,
        cpu_us_per_frame: Pair::default(),
        spread: Pair::default(),
        distance_ns: None,
        repeated: 0,
        noisy: 0,
        of_size: None,
        note: Some(format!("FAILED: {}", one_line(error))),
    }
}

/// Waits until the links of host `index` carry frames.
///
/// # Errors
/// They do not come up in time.
pub fn wait_links(cluster: &Cluster, index: usize) -> Result<()> {
    wait_until("the links", LINK_LIMIT, || {
        let links = cluster.status(index)?.links;
        let up = links.iter().all(|link| link.get("state").is_some_and(|state| state == "up"));
        Ok((!links.is_empty() && up).then_some(()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Extent;

    fn selected(name: &str, only: Option<&str>, extent: Extent) -> Result<Vec<String>> {
        let bench = Bench::new("wireonce".into(), extent).unwrap();
        let selection = select(name, only, &bench)?;
        let plans = selection.suites.iter().flat_map(|(_, plans)| plans);
        Ok(plans.map(|plan| plan.name.clone()).collect())
    }

    #[test]
    fn a_text_that_no_case_has_is_an_error_with_the_names() {
        let error = selected("queue", Some("999 B"), Extent::Quick).unwrap_err().to_string();
        assert!(error.contains("999 B") && error.contains("queue 1500 B"), "{error}");
    }

    #[test]
    fn large_and_small_letters_are_the_same() {
        assert_eq!(selected("queue", Some("1500 b"), Extent::Quick).unwrap(), ["queue 1500 B"]);
    }

    #[test]
    fn a_quick_run_takes_the_first_of_those_that_are_wanted() {
        let wire = selected("encap", Some("WIRE"), Extent::Quick).unwrap();
        assert!(!wire.is_empty() && wire.iter().all(|name| name.contains("wire")), "{wire:?}");
        let all = selected("encap", None, Extent::Full { rounds: 1 }).unwrap();
        assert!(all.len() > QUICK_CASES, "{all:?}");
        assert_eq!(selected("encap", None, Extent::Quick).unwrap(), all[..QUICK_CASES]);
    }

    #[test]
    fn only_simulations_need_no_machine() {
        let bench = Bench::new("wireonce".into(), Extent::Quick).unwrap();
        assert!(!select("sim", None, &bench).unwrap().needs_the_machine());
        assert!(select("all", None, &bench).unwrap().needs_the_machine());
    }
}
