//! `cargo demo`: two servers, two gateways, a controller and an outside on this machine; two VMs that
//! talk to the outside and to each other through them. A server starves and is cured, a gateway is
//! killed, another is emptied; the figures, and the ledgers that close.

mod console;
mod options;
mod result;
mod story;

use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser as _;
use options::Options;
use result::DemoResult;
use story::Story;
use wireonce_qemu_tests::cluster::{Profile, daemon_binary};
use wireonce_qemu_tests::guest::image::target_dir;
use wireonce_qemu_tests::report::Report;
use wireonce_qemu_tests::{Error, Result, cargo, interrupt, packages};

/// The demo ends by itself after this time, whatever hangs.
const TOTAL_LIMIT: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    let options = Options::parse_from(cargo::arguments());
    if let Some(socket) = &options.console {
        return finish(console::attach(socket));
    }
    let report = Report::new();
    report.title("wireonce demo: two servers, two gateways, two VMs");
    let mut seen = DemoResult::default();
    // What cannot be written is found before the run that it would be the result of.
    if let Some(path) = &options.json
        && let Err(error) = seen.write(path)
    {
        return finish(Err(error));
    }
    let outcome = run(&options, &report, &mut seen);
    seen.seconds = report.elapsed().as_secs_f64();
    seen.ok = outcome.is_ok() && seen.ledger_closed;
    if let Err(error) = &outcome {
        seen.error = Some(error.to_string());
    }
    if let Some(path) = &options.json
        && let Err(error) = seen.write(path)
    {
        eprintln!("demo: {error}");
        return ExitCode::FAILURE;
    }
    let verdict = if seen.ok { "the demo passed" } else { "the demo failed" };
    println!("\n{} {}", report.stamp(), report.verdict(seen.ok, verdict));
    if seen.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(options: &Options, report: &Report, seen: &mut DemoResult) -> Result<()> {
    if let Some(binary) = options.binary.as_ref().filter(|binary| !binary.is_file()) {
        return Err(Error::Unexpected(format!("--binary {}: no such file", binary.display())));
    }
    interrupt::clean_up_first()?;
    report.step("packages", || {
        packages::ensure(packages::DEMO, !options.no_install, |text| report.note(text))?;
        Ok::<_, Error>(((), packages::DEMO.join(" ")))
    })?;
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => report.step("build wireonce", || {
            let binary = daemon_binary(Profile::Demo)?;
            let shown = binary.display().to_string();
            Ok::<_, Error>((binary, shown))
        })?,
    };
    if !packages::is_root() {
        return as_root(options, &binary, seen);
    }
    stop_after(TOTAL_LIMIT, options.keep);
    let mut story = Story::set_up(report, options, &binary, seen)?;
    let told = story.tell(seen);
    // What failed can be looked at, too.
    if options.keep {
        story.keep(&binary)?;
    }
    told
}

/// Namespaces need root: runs the rest of the demo through sudo and takes over its result.
fn as_root(options: &Options, binary: &std::path::Path, seen: &mut DemoResult) -> Result<()> {
    let io = |source| Error::Io { what: "cannot run the demo through sudo".to_owned(), source };
    let this = std::env::current_exe().map_err(io)?;
    let mut command = Command::new("sudo");
    // The guest's image stays in the caller's target folder.
    command.arg("env").arg(format!("CARGO_TARGET_DIR={}", target_dir().display()));
    command.arg(this).arg("--no-install").arg("--binary").arg(binary);
    let json = options.json.clone().unwrap_or_else(|| "/dev/null".into());
    command.arg("--json").arg(&json);
    if let Some(plot) = &options.plot {
        command.arg("--plot").arg(plot);
    }
    if let Some(failover) = &options.failover {
        command.arg("--failover").arg(failover);
    }
    for (given, name) in [(options.keep, "--keep"), (options.verbose, "--verbose")] {
        if given {
            command.arg(name);
        }
    }
    let status = command.status().map_err(io)?;
    if !status.success() {
        return Err(Error::Unexpected(format!("the demo as root ended with {status}")));
    }
    seen.take_over(&json);
    Ok(())
}

/// Ends this process after `limit`; the watchdog then cleans up. Not while it is kept on purpose.
fn stop_after(limit: Duration, keep: bool) {
    if keep {
        return;
    }
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("\ndemo: stopped, it took longer than {} s", limit.as_secs());
        std::process::exit(1);
    });
}

fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}
