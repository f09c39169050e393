//! `measure` as people run it: what it refuses, and what it leaves. Simulations only, so it needs
//! neither root nor a quiet machine.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io};

use wireonce_bench::result::Results;
use wireonce_qemu_tests::watchdog::TempDir;

/// The smallest case there is, into FILE.
fn measure(json: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_measure"));
    command.args(["sim", "--quick", "--case", "SIM 100 SERVERS", "--json"]).arg(json);
    command
}

fn refusal(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    assert!(!output.status.success(), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_reader_that_is_gone_loses_no_results() {
    let dir = TempDir::new("measure").unwrap();
    let json = dir.path().join("r.json");
    let mut child = measure(&json).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    let results = Results::read(&json).unwrap();
    assert!(results.whole && results.quick && !results.build.version.is_empty(), "{results:?}");
    assert!(results.cases.iter().all(|case| case.met.is_none() && case.ours.is_some()));
}

#[test]
fn a_case_that_there_is_not_leaves_earlier_results_alone() {
    let dir = TempDir::new("measure").unwrap();
    let json = dir.path().join("r.json");
    fs::write(&json, "good").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_measure"));
    command.args(["sim", "--case", "no such case", "--json"]).arg(&json);
    let said = refusal(&mut command).unwrap();
    assert!(said.contains("no such case") && said.contains("sim 100 servers"), "{said}");
    assert_eq!(fs::read_to_string(&json).unwrap(), "good");
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_anything_runs() {
    let dir = TempDir::new("measure").unwrap();
    let table = dir.path().join("r.md");
    let said = refusal(measure(dir.path()).arg("--table").arg(&table)).unwrap();
    assert!(said.contains(&format!("cannot write {}", dir.path().display())), "{said}");
    assert!(!table.exists(), "it ran");
}
