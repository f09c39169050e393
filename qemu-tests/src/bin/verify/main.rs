//! `cargo verify`: everything that must hold before a change lands, in one command.

mod steps;
mod tools;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use steps::{Outcome, STEPS, Step};
use wireonce_qemu_tests::report::Report;
use wireonce_qemu_tests::{cargo, packages};

/// Checks form, lints, tests, documentation and dependencies; stops at the first failure.
#[derive(Debug, Parser)]
#[command(name = "cargo verify", bin_name = "cargo verify")]
struct Options {
    /// Go on after a failure: see all of them.
    #[arg(long)]
    keep_going: bool,
    /// Install nothing: stop and list what is missing.
    #[arg(long)]
    no_install: bool,
    /// Run only these steps (by name; may be given several times).
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    only: Vec<String>,
}

fn step_names() -> clap::builder::PossibleValuesParser {
    STEPS.iter().map(|step| step.name).collect::<Vec<_>>().into()
}

/// One step's end.
#[derive(Debug)]
struct Done {
    name: &'static str,
    time: Duration,
    outcome: Outcome,
}

fn main() -> ExitCode {
    let options = Options::parse_from(cargo::arguments());
    let report = Report::new();
    let chosen: Vec<&Step> = STEPS
        .iter()
        .filter(|step| options.only.is_empty() || options.only.iter().any(|name| name == step.name))
        .collect();
    if let Err(error) = prepare(&options, &chosen, &report) {
        eprintln!("verify: {error}");
        return ExitCode::FAILURE;
    }
    let mut done = Vec::new();
    for (number, step) in (1..).zip(&chosen) {
        report.title(&format!("{} ({number} of {}): {}", step.name, chosen.len(), step.shown()));
        let started = Instant::now();
        let outcome = step.run();
        let good = outcome.failed == 0;
        done.push(Done { name: step.name, time: started.elapsed(), outcome });
        if !good && !options.keep_going {
            break;
        }
    }
    summarize(&report, &chosen, &done)
}

fn prepare(
    options: &Options,
    chosen: &[&Step],
    report: &Report,
) -> wireonce_qemu_tests::Result<()> {
    packages::ensure(packages::VERIFY, !options.no_install, |text| report.note(text))?;
    for tool in chosen.iter().filter_map(|step| step.tool) {
        tools::ensure(tool, !options.no_install, |text| report.note(text))?;
    }
    Ok(())
}

/// A table of the steps, and the closing line `N passed, N failed`: tests count one by one, other
/// steps as one each.
fn summarize(report: &Report, chosen: &[&Step], done: &[Done]) -> ExitCode {
    report.title("Summary");
    for Done { name, time, outcome } in done {
        let verdict =
            report.verdict(outcome.failed == 0, if outcome.failed == 0 { "ok  " } else { "FAIL" });
        println!("  {verdict}  {name:<10} {:>7.1} s  {}", time.as_secs_f64(), outcome.detail);
    }
    for step in chosen.iter().skip(done.len()) {
        println!("  not run {:<10}", step.name);
    }
    let passed: u64 = done.iter().map(|step| step.outcome.passed).sum();
    let failed: u64 = done.iter().map(|step| step.outcome.failed).sum();
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
