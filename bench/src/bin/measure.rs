//! `cargo measure -- SUITE`: measures ours and its peers in one run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use wireonce_bench::bench::{Bench, Extent, GuestPlan};
use wireonce_bench::output::Outputs;
use wireonce_bench::result::Results;
use wireonce_bench::{suite, table};
use wireonce_qemu_tests::cluster::{Profile, daemon_binary};
use wireonce_qemu_tests::report::Report;
use wireonce_qemu_tests::{Error, Result, cargo, interrupt, packages};

/// `all` must end within half an hour, on a noisy machine, too: how long it repeats rounds.
const ALL_REPEATS: Duration = Duration::from_secs(15 * 60);

/// Measures wireonce and its peers on this machine, in one run and in turn.
#[derive(Debug, Parser)]
#[command(name = "cargo measure --", bin_name = "cargo measure --")]
struct Options {
    /// What to measure: a suite, or `all`; without it, the suites are listed.
    suite: Option<String>,
    #[command(flatten)]
    outputs: Outputs,
    /// Rounds of each case that count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// One short round of the first two cases of each suite (of those that `--case` leaves): shows
    /// that it works, says nothing about speed, and judges no goal. `--rounds` has no effect.
    #[arg(long)]
    quick: bool,
    /// Only cases whose name contains TEXT, in large or small letters.
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
    /// Measure ours without its peers, as for a profile.
    #[arg(long)]
    alone: bool,
    /// `guest`: VMs side by side.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    vms: u8,
    /// `guest`: queue pairs, processors and TCP connections of each VM.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    pairs: u16,
    /// `guest`: how long each load takes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: Option<u32>,
    /// Install no packages: stop and list what is missing.
    #[arg(long)]
    no_install: bool,
    /// Measure this wireonce instead of building it.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse_from(cargo::arguments());
    let Some(name) = &options.suite else {
        let list = suite::SUITES.iter().map(|suite| format!("{:<10} {}", suite.name, suite.about));
        Report::new().text(&list.collect::<Vec<_>>().join("\n"));
        return ExitCode::SUCCESS;
    };
    match run(name, &options) {
        // A missed goal is a result; a case of ours that gave no figure is a failure.
        Ok(results) if results.cases.iter().all(|case| case.ours.is_some()) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("measure: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, options: &Options) -> Result<Results> {
    // Nothing is built, installed or started before all that was asked for is known to be possible.
    let done = Arc::new(AtomicUsize::new(0));
    interrupt::clean_up_first_saying(last_words(&options.outputs, Arc::clone(&done)))?;
    let mut bench = bench(options)?;
    let selection = suite::select(name, options.case.as_deref(), &bench)?;
    options.outputs.check()?;
    let report = Report::new();
    if selection.needs_the_machine() {
        prepare(&mut bench, options, &report)?;
    }
    if selection.suites.len() > 1 {
        bench.rules.repeat_until = Instant::now().checked_add(ALL_REPEATS);
    }
    // Whatever ends the run, the cases before it are kept. If that fails, the last try tells.
    let keep = |results: &Results| {
        let _the_last_try_tells = options.outputs.write(results);
        done.store(results.cases.len(), Ordering::Relaxed);
    };
    let results = suite::run(selection, &bench, &report, keep);
    let written = options.outputs.write(&results);
    // The next one finds the machine as it was.
    drop(bench);
    report.title("Results");
    report.text(&table::render(&results));
    written.map(|()| results)
}

fn bench(options: &Options) -> Result<Bench> {
    let rounds = usize::from(options.rounds);
    let extent = if options.quick { Extent::Quick } else { Extent::Full { rounds } };
    let mut bench = Bench::new(options.binary.clone().unwrap_or_default(), extent)?;
    bench.alone = options.alone;
    let Options { vms, pairs, seconds, .. } = *options;
    bench.guests = GuestPlan { vms, pairs, seconds };
    Ok(bench)
}

/// The machine, packages, our program and huge pages. A program that was given must run before anything is
/// installed.
fn prepare(bench: &mut Bench, options: &Options, report: &Report) -> Result<()> {
    if !packages::is_root() {
        let why = "namespaces, huge pages and pinning need root: as root, or by \
            `sudo -E env \"PATH=$PATH\" cargo measure -- ...`";
        return Err(Error::Unexpected(why.to_owned()));
    }
    bench.take_the_machine()?;
    if options.binary.is_some() {
        bench.identify("given")?;
    }
    packages::ensure(packages::BENCH, !options.no_install, |text| report.note(text))?;
    if options.binary.is_none() {
        report.note("building wireonce; the first time this takes some minutes");
        bench.binary = report.step("build", || {
            daemon_binary(Profile::Release).map(|binary| (binary, String::new()))
        })?;
        bench.identify("release")?;
    }
    bench.reserve_pages()
}

/// What is said when the run is broken off.
fn last_words(outputs: &Outputs, done: Arc<AtomicUsize>) -> impl Fn() -> String + use<> {
    let files = outputs.names();
    move || match (done.load(Ordering::Relaxed), files.as_str()) {
        (0, _) => "; no case was finished, and no file is written".to_owned(),
        (_, "") => "; what was finished is lost, because no file was asked for".to_owned(),
        (rows, files) => format!("; the {rows} rows that were finished are in {files}"),
    }
}
