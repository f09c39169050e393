//! A controller that is killed while it moves things, under traffic, with real daemons: no frame of the VM
//! and no change is lost, nothing comes twice, and what was under way is done or was never begun.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use wireonce_bench::home_bed::{HomeBed, uplink};
use wireonce_bench::numbered::Beat;
use wireonce_qemu_tests::cluster::{Cluster, Plan, Profile, daemon_binary};
use wireonce_qemu_tests::{Error, Result};

const VM: &str = "vm-a";
const GRANT: &str = "outside/server-a";
const ROUNDS: u32 = 8;
/// A home changes so often in three minutes.
const MOVES: u32 = 3;
/// It is killed so much later in each round, at once in the first: a change takes some ten milliseconds.
const KILL_STEP: Duration = Duration::from_millis(4);
/// Waiting for a verb whose controller is gone.
const LIMIT: Duration = Duration::from_secs(30);

/// What the controller keeps: the vNIC's home and what its server may send at most.
fn kept(cluster: &Cluster) -> Result<(String, String)> {
    let wrong = |error: serde_json::Error| Error::Unexpected(error.to_string());
    let vnic: Value =
        serde_json::from_str(&cluster.verb(&["vnic", "show", VM, "--json"])?).map_err(wrong)?;
    let grant: Value =
        serde_json::from_str(&cluster.verb(&["grant", "show", GRANT, "--json"])?).map_err(wrong)?;
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let kept = word(&vnic["object"]["home"]).zip(word(&grant["object"]["up"]["limit"]));
    kept.ok_or_else(|| Error::Unexpected(format!("{vnic} {grant}")))
}

/// A verb that nobody waits for yet.
fn begin(cluster: &Cluster, binary: &std::path::Path, words: &[&str]) -> Result<Child> {
    let mut command = Command::new(binary);
    command.args(words).arg("--socket").arg(cluster.house_socket());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| Error::Unexpected(error.to_string()))
}

/// True if it was answered that the change is made.
fn ended_well(mut verb: Child) -> Result<bool> {
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        match verb.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) => sleep(Duration::from_millis(5)),
            Err(error) => return Err(Error::Unexpected(error.to_string())),
        }
    }
    let _ = verb.kill();
    Err(Error::Unexpected("a verb without a controller did not end".to_owned()))
}

#[test]
fn a_controller_that_is_killed_during_a_reallocation_loses_no_frame_of_the_vm_and_no_change() {
    let test = || -> Result<()> {
        let binary = daemon_binary(Profile::Dev)?;
        let plan = Plan {
            gateways: 2,
            controlled: true,
            up: Some("400Mbit"),
            failover: "default",
            ..Plan::new("ckil", 1)
        };
        let mut bed = HomeBed::of(plan, &binary)?;
        bed.cluster.verb(&["grant", "set", GRANT, "up.limit=200Mbit"])?;
        let watch = bed.watch(Beat::LOAD)?;
        let mut interrupted = 0;
        for round in 0..ROUNDS {
            let before = kept(&bed.cluster)?;
            let home =
                if round < MOVES { uplink(1 - bed.home()?.min(1)) } else { before.0.clone() };
            let limit = if before.1 == "200Mbit" { "300Mbit" } else { "200Mbit" };
            let limit_key = format!("up.limit={limit}");
            let moving = begin(&bed.cluster, &binary, &["vnic", "move", VM, "--to", &home])?;
            let setting = begin(&bed.cluster, &binary, &["grant", "set", GRANT, &limit_key])?;
            sleep(KILL_STEP * round);
            bed.cluster.kill_controller();
            let (moved, set) = (ended_well(moving)?, ended_well(setting)?);
            bed.cluster.start_controller()?;
            let after = kept(&bed.cluster)?;
            // What was answered is kept; what was not is kept whole or not at all.
            assert!(after.0 == home || (!moved && after.0 == before.0), "{before:?} {after:?}");
            assert!(after.1 == limit || (!set && after.1 == before.1), "{before:?} {after:?}");
            interrupted += u32::from(!moved || !set);
            // The daemons follow what it keeps.
            bed.wait_all_at(usize::from(after.0 == uplink(1)))?;
        }
        let stories = watch.end()?;
        println!("{interrupted} of {ROUNDS} rounds were cut off; {} frames", stories.out.sent());
        assert!(interrupted > 0, "no change was cut off: kill it sooner");
        assert_eq!((stories.out.twice(), stories.inward.twice()), (0, 0));
        let lost = (stories.out.lost_us().len(), stories.inward.lost_us().len());
        assert_eq!(lost, (0, 0), "out, in; {}", bed.cluster.all_logs());
        Ok(())
    };
    test().unwrap();
}
