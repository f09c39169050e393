//! Every suite runs, and its results are whole. No figure is judged: one short round of a build
//! for tests, on a machine that may be busy.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use wireonce_bench::bench::{Bench, Extent};
use wireonce_bench::result::Results;
use wireonce_bench::{plot, suite, table};
use wireonce_qemu_tests::cluster::{Profile, daemon_binary};
use wireonce_qemu_tests::report::Report;
use wireonce_qemu_tests::{Result, packages};

/// Runs a suite and checks that each case has our figure, and a peer's or the reason why not.
fn run(name: &str) -> Result<()> {
    packages::ensure(packages::BENCH, true, |text| println!("{text}"))?;
    let mut bench = Bench::new(daemon_binary(Profile::Dev)?, Extent::Quick)?;
    bench.reserve_pages()?;
    let selection = suite::select(name, None, &bench)?;
    let results = suite::run(selection, &bench, &Report::new(), |_| {});

    assert!(!results.cases.is_empty() && results.whole && results.quick);
    for case in &results.cases {
        assert!(case.name.starts_with(name), "{case:?}");
        assert!(case.ours.is_some_and(f64::is_finite), "{case:?}");
        assert!(case.peer.is_some() || case.note.is_some(), "no reason: {case:?}");
        assert_eq!(case.ratio.is_some(), case.peer.is_some_and(|peer| peer > 0.0), "{case:?}");
        assert_eq!((case.rounds, case.met), (1, None), "a quick round judges no goal: {case:?}");
    }
    let path = bench.dir().join("results.json");
    results.write(&path)?;
    let read = Results::read(&path)?;
    let names = |results: &Results| -> Vec<_> {
        results.cases.iter().map(|case| (case.name.clone(), case.peer_name.clone())).collect()
    };
    assert_eq!(names(&read), names(&results));
    assert!(table::render(&results).lines().filter(|line| line.starts_with('|')).count() > 2);
    assert!(plot::render(&results).ends_with("</svg>\n"));
    Ok(())
}

#[test]
fn queue() {
    run("queue").unwrap();
}

#[test]
fn encap() {
    run("encap").unwrap();
}

#[test]
fn vm_vm() {
    run("vm-vm").unwrap();
}

#[test]
fn sealed() {
    run("sealed").unwrap();
}

#[test]
fn uplink() {
    run("uplink").unwrap();
}

#[test]
fn idle() {
    run("idle").unwrap();
}

#[test]
fn victim() {
    run("victim").unwrap();
}

#[test]
fn scaling() {
    run("scaling").unwrap();
}

#[test]
fn bulk() {
    run("bulk").unwrap();
}

#[test]
fn guest() {
    run("guest").unwrap();
}

#[test]
fn latency() {
    run("latency").unwrap();
}

#[test]
fn lossy() {
    run("lossy").unwrap();
}

#[test]
fn shares() {
    run("shares").unwrap();
}

#[test]
fn failover() {
    run("failover").unwrap();
}

#[test]
fn moves() {
    run("move").unwrap();
}
