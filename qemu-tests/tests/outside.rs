//! Two gateways whose uplinks look at what is between them: the daemons, with a switch that can be
//! spoiled.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use serde_json::Value;
use std::time::Duration;
use wireonce_qemu_tests::cluster::{Cluster, Plan, Profile, Status, daemon_binary};
use wireonce_qemu_tests::process::wait_until;

/// Silences take three and a half seconds, a loop's end twelve; on a busy machine, more.
const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);
/// The bridge outside drops one VLAN at the second gateway's port, both ways.
const VLAN_OFF: &str = "nft add table bridge port && \
    nft add chain bridge port f '{ type filter hook forward priority 0; }' && \
    nft add rule bridge port f iifname to-gw1 vlan id 20 drop && \
    nft add rule bridge port f oifname to-gw1 vlan id 20 drop";

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// (state on the untagged VLAN, state on VLAN 20), as the gateway sees the other's uplink.
fn joined(status: &Status) -> (&str, &str) {
    let on = |vlan: Option<u64>| {
        let mut pairs = status.outside.iter();
        let pair = pairs.find(|it| {
            it.get("vlan").and_then(Value::as_u64) == vlan
                && text(it, "uplink") != text(it, "other")
        });
        pair.map_or("", |pair| text(pair, "state"))
    };
    (on(None), on(Some(20)))
}

fn designated(status: &Status) -> bool {
    status.uplinks.iter().any(|it| it.get("designated") == Some(&Value::Bool(true)))
}

/// Waits until both gateways say what they should.
fn both(cluster: &Cluster, what: &str, so: impl Fn(&Status) -> bool) {
    let seen = wait_until(what, LIMIT, || {
        let all = [cluster.status(0)?, cluster.status(1)?];
        Ok(all.iter().all(&so).then_some(()))
    });
    if let Err(error) = seen {
        let outside = [0, 1].map(|at| cluster.status(at).map(|it| (it.outside, it.counters)));
        panic!("{error}: {outside:#?}\n{}\n{}", cluster.log(0), cluster.log(1));
    }
}

/// Waits until exactly this gateway lets broadcast in.
fn must_be_designated(cluster: &Cluster, gateway: usize) {
    wait_until("another designated uplink", LIMIT, || {
        let now = [designated(&cluster.status(0)?), designated(&cluster.status(1)?)];
        Ok((now == [gateway == 0, gateway == 1]).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}\n{}", cluster.log(0), cluster.log(1)));
}

#[test]
fn two_gateways_find_out_how_the_outside_joins_them() {
    let plan = Plan { gateways: 2, vlans: vec![20], ..Plan::new("outside", 0) };
    let mut cluster = Cluster::build(plan, &daemon_binary(Profile::Dev).unwrap()).unwrap();
    cluster.start().unwrap();
    both(&cluster, "joined on both VLANs", |it| joined(it) == ("joined", "joined"));
    must_be_designated(&cluster, 0);

    cluster.outside().sh(VLAN_OFF, SOON).unwrap();
    both(&cluster, "the VLAN is missed", |it| joined(it) == ("joined", "vlan-missing"));
    let named = |log: &str| log.lines().any(|it| it.contains("vlan-missing") && it.contains("20"));
    assert!(named(&cluster.log(0)) && named(&cluster.log(1)), "{}", cluster.log(0));
    cluster.outside().sh("nft delete table bridge port", SOON).unwrap();
    both(&cluster, "joined again", |it| joined(it) == ("joined", "joined"));

    cluster.outside().ip("link set to-gw0 down").unwrap();
    must_be_designated(&cluster, 1);
    both(&cluster, "one has no link", |it| joined(it) == ("down", "down"));
    cluster.outside().ip("link set to-gw0 up").unwrap();
    must_be_designated(&cluster, 0);
    both(&cluster, "joined again", |it| joined(it) == ("joined", "joined"));

    cluster.outside().ip("link set dev to-gw0 type bridge_slave hairpin on").unwrap();
    wait_until("the loop is found", LIMIT, || {
        let status = cluster.status(0)?;
        Ok(status.outside.iter().any(|it| text(it, "state") == "loop").then_some(()))
    })
    .unwrap();
    must_be_designated(&cluster, 1);
    cluster.outside().ip("link set dev to-gw0 type bridge_slave hairpin off").unwrap();
    must_be_designated(&cluster, 0);
    both(&cluster, "joined again", |it| joined(it) == ("joined", "joined"));

    // A gateway that is killed is silent outside and on the fabric.
    cluster.kill_daemon(0).unwrap();
    wait_until("the other takes over", LIMIT, || Ok(designated(&cluster.status(1)?).then_some(())))
        .unwrap();
    cluster.start_daemon(0).unwrap();
    must_be_designated(&cluster, 0);
    both(&cluster, "joined again", |it| joined(it) == ("joined", "joined"));
    let unauthentic = |it: &Status| it.counters.get("probe_unauthentic").copied().unwrap_or(0);
    both(&cluster, "all were authentic", |it| unauthentic(it) == 0);
}
