//! Hosts that are members of a controller: they join by one command, serve what it keeps, and need
//! it for changes only.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::time::Duration;

use wireonce_qemu_tests::cluster::{Cluster, Plan, Profile, Status, VmPlan, daemon_binary};
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

const LIMIT: Duration = Duration::from_secs(30);
/// Two servers, then the gateway.
const GATEWAY: usize = 2;

fn cluster(tag: &str) -> Result<Cluster> {
    let plan = Plan { controlled: true, ..Plan::new(tag, 2) }
        .vm(VmPlan::new("vm-a", 0, 11))
        .vm(VmPlan::new("vm-b", 1, 12));
    let mut cluster = Cluster::build(plan, &daemon_binary(Profile::Dev)?)?;
    cluster.start()?;
    Ok(cluster)
}

/// Waits until the daemon of one host says so.
fn wait_status(
    cluster: &Cluster,
    index: usize,
    what: &str,
    is_so: impl Fn(&Status) -> bool,
) -> Result<Status> {
    wait_until(what, LIMIT, || Ok(cluster.status(index).ok().filter(&is_so)))
        .map_err(|error| Error::Unexpected(format!("{error}\n{}", cluster.all_logs())))
}

fn links_up(status: &Status) -> usize {
    status.links.iter().filter(|link| link["state"] == "up").count()
}

#[test]
fn members_serve_what_the_controller_keeps_and_outlive_it() {
    let run = || -> Result<()> {
        let mut cluster = cluster("ctl")?;
        for index in 0..=GATEWAY {
            wait_status(&cluster, index, "links to the others", |it| links_up(it) == 2)?;
        }
        let status = cluster.status(0)?;
        assert_eq!(status.vnics.len(), 1, "a server serves its own vNICs");
        assert!(cluster.vnic_socket("vm-a").exists());

        // A change reaches those whom it concerns.
        cluster.verb(&["uplink", "set", "uplink-1", "up=200Mbit"])?;
        let shaped = |it: &Status| it.uplinks.iter().any(|uplink| uplink["up_bps"] == 200_000_000);
        wait_status(&cluster, GATEWAY, "the new capacity", shaped)?;

        // Without the controller all goes on, and a daemon starts with what it knew last.
        cluster.kill_controller();
        cluster.kill_daemon(GATEWAY)?;
        cluster.start_daemon(GATEWAY)?;
        let status = wait_status(&cluster, GATEWAY, "links again", |it| links_up(it) == 2)?;
        assert!(shaped(&status));
        wait_status(&cluster, 0, "links again", |it| links_up(it) == 2)?;

        // It comes back, and changes arrive again.
        cluster.start_controller()?;
        cluster.verb(&["uplink", "set", "uplink-1", "up=300Mbit"])?;
        let wider = |it: &Status| it.uplinks.iter().any(|uplink| uplink["up_bps"] == 300_000_000);
        wait_status(&cluster, GATEWAY, "the newer capacity", wider)?;
        Ok(())
    };
    run().unwrap();
}
