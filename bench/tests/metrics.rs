//! What the dashboard and the alert rules ask for is there: each metric, each label, and each value that
//! is written out, in scrapes of a backend, two gateways and a controller that run.
//!
//! The scene has something of everything: shaped uplinks, limits in packets, a standby, a router behind an
//! uplink, a bond, probes outside, a link that loses some, and frames that the guard drops.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use wireonce_bench::inside;
use wireonce_bench::suite::wait_links;
use wireonce_bench::tapend::TapEnd;
use wireonce_bench::vm_end::{VM_TAP, vm_end};
use wireonce_qemu_tests::cluster::{Cluster, Plan, Profile, VmPlan, daemon_binary};
use wireonce_qemu_tests::netns::{Fabric, Netns};
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

const LIMIT: Duration = Duration::from_secs(20);
/// Reports, renewals, probes and evidence take some seconds each.
const SCENE_LIMIT: Duration = Duration::from_secs(60);
const PORT: u16 = 5_400;
const SERVER: usize = 0;
const GATEWAYS: [usize; 2] = [1, 2];

/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["instance", "job"];
/// Labels of which only the present value has a sample, so that a scene cannot show all of them.
const ONE_OF: [(&str, &str); 1] = [("wireonce_outside_pair_state", "state")];

/// What only a bond has.
const MEMBERS: &str = "wireonce_uplink_member_carrier";

/// The samples of a metric that were ever seen, by their labels.
type Samples = BTreeMap<String, BTreeSet<BTreeMap<String, String>>>;

struct Bed {
    load: Load,
    // Before what they use.
    _end: TapEnd,
    netns: Netns,
    cluster: Cluster,
    has_bond: bool,
}

impl Bed {
    fn start(tag: &str) -> Result<Self> {
        let vm = VmPlan {
            standbys: vec![1],
            packet_limit: Some(20_000),
            down_packet_limit: Some(20_000),
            ..VmPlan::new("vm-a", SERVER, 11)
        };
        let plan = Plan {
            gateways: 2,
            controlled: true,
            metrics: true,
            up: Some("100Mbit"),
            down: Some("100Mbit"),
            ..Plan::new(tag, 1)
        };
        let mut cluster = Cluster::build(plan.vm(vm), &daemon_binary(Profile::Dev)?)?;
        let has_bond = make_bond(&cluster.host(GATEWAYS[1])?.netns)?;
        cluster.start()?;
        let (end, netns) = vm_end(&cluster, &cluster.plan().vms[0], None)?;
        // From this one the guard lets nothing out.
        netns.ip(&format!("address add 198.51.100.7/24 dev {VM_TAP}"))?;
        wait_links(&cluster, SERVER)?;
        let load = Load::start(&netns, cluster.outside_address())?;
        let bed = Self { load, _end: end, netns, cluster, has_bond };
        let next_hop = format!("next_hop={}", bed.cluster.outside_address());
        bed.cluster.verb(&["uplink", "set", "uplink-1", &next_hop])?;
        if bed.has_bond {
            let keys = "id=9 host=gateway-b pool=outside driver=packet interface=bond0";
            let words = ["uplink", "set", "bonded"].into_iter().chain(keys.split(' '));
            bed.cluster.verb(&words.collect::<Vec<_>>())?;
        }
        bed.lose_some()?;
        Ok(bed)
    }

    /// Three of ten datagrams to the standby's gateway are lost.
    fn lose_some(&self) -> Result<()> {
        let (port, to) = (Fabric::port(SERVER), self.cluster.host(GATEWAYS[1])?.address);
        let rules = format!(
            "add table netdev gray; \
             add chain netdev gray in {{ type filter hook ingress device {port} priority 0; }}; \
             add rule netdev gray in ip daddr {to} numgen random mod 10 < 3 counter drop"
        );
        self.cluster.fabric().netns().sh(&format!("nft '{rules}'"), LIMIT).map(drop)
    }

    /// Some frames that go out and come back, and one that the guard drops.
    fn send(&self) -> Result<()> {
        if self.load.is_over() {
            return Err(Error::Unexpected("nobody sends any more".into()));
        }
        self.netns.ping(self.cluster.outside_address(), 5)?;
        self.netns.try_sh("busybox ping -c 1 -W 1 198.51.100.8", LIMIT).map(drop)
    }

    fn scrape(&self, samples: &mut Samples) -> Result<()> {
        for host in [SERVER, GATEWAYS[0], GATEWAYS[1]] {
            take(&self.cluster.scrape(host)?, samples);
        }
        take(&self.cluster.scrape_controller()?, samples);
        Ok(())
    }
}

/// Some 60 Mbit/s to the outside, until it is dropped: only who sends much has a lease.
struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    fn start(netns: &Netns, to: IpAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (thread, _) = inside::start(netns, "load", None, move |ready| {
            let failed = |error| Error::Unexpected(format!("the load: {error}"));
            let socket = UdpSocket::bind("0.0.0.0:0").map_err(failed)?;
            ready.tell();
            for _ in 0..120_000 {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                for _ in 0..5 {
                    socket.send_to(&[0; 1_400], (to, PORT)).map_err(failed)?;
                }
                sleep(Duration::from_millis(1));
            }
            Ok(())
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What went wrong there was told while it was needed.
            let _ = thread.join();
        }
    }
}

/// A bond of one port, which is another uplink of a gateway; or not, where the kernel has no bonds.
fn make_bond(gateway: &Netns) -> Result<bool> {
    if !gateway.try_sh("ip link add bond0 type bond mode active-backup", LIMIT)?.status.success() {
        println!("this kernel has no bonds: {MEMBERS} is not looked for");
        return Ok(false);
    }
    gateway.ip("link add b0 type veth peer name b1")?;
    gateway.ip("link set b0 master bond0")?;
    for link in ["bond0", "b0", "b1"] {
        gateway.ip(&format!("link set {link} up"))?;
    }
    Ok(true)
}

/// Notes the samples of a page.
fn take(page: &str, samples: &mut Samples) {
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = match line.split_once('{') {
            Some((name, rest)) => (name, rest),
            None => (line.split(' ').next().unwrap_or_default(), ""),
        };
        let labels = matchers(rest).into_iter().map(|it| (it.label, it.value));
        samples.entry(name.to_owned()).or_default().insert(labels.collect());
    }
}

/// An expression with the labels that are made text of beside it.
#[derive(Debug)]
struct Asked {
    expression: String,
    shown: BTreeSet<String>,
}

/// A metric in an expression, with what is asked of its labels.
#[derive(Debug, PartialEq, Eq)]
struct Selector {
    metric: String,
    matchers: Vec<Matcher>,
}

#[derive(Debug, PartialEq, Eq)]
struct Matcher {
    label: String,
    operator: String,
    value: String,
}

impl Matcher {
    /// The values that are written out.
    fn values(&self) -> Vec<&str> {
        let plain =
            |value: &&str| value.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        match self.operator.as_str() {
            "=" => vec![self.value.as_str()],
            "=~" => self.value.split('|').filter(plain).collect(),
            _ => Vec::new(),
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// What stands in braces, up to their end: `label="value",label=~"value"}`.
fn matchers(mut rest: &str) -> Vec<Matcher> {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (label, after) = rest.split_at(end);
        let Some((operator, after)) = after.split_once('"') else { return found };
        let Some((value, after)) = after.split_once('"') else { return found };
        if label.is_empty() {
            return found;
        }
        let (label, operator) = (label.to_owned(), operator.trim().to_owned());
        found.push(Matcher { label, operator, value: value.to_owned() });
        rest = after;
    }
}

/// The metrics of ours in an expression.
fn selectors(expression: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("wireonce_") {
        let rest = &expression[at..];
        // Not in the middle of a word.
        if expression[..at].ends_with(is_name) {
            continue;
        }
        let (metric, rest) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        let matchers = rest.strip_prefix('{').map(matchers).unwrap_or_default();
        found.push(Selector { metric: metric.to_owned(), matchers });
    }
    found
}

/// The labels that an expression groups or joins by.
fn grouped(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for word in ["by (", "on ("] {
        for (at, _) in expression.match_indices(word) {
            let list = expression[at + word.len()..].split(')').next().unwrap_or_default();
            found.extend(list.split(',').map(|label| label.trim().to_owned()));
        }
    }
    found
}

/// The labels in `{{label}}` and `{{ $labels.label }}`.
fn shown(text: &str) -> BTreeSet<String> {
    let parts = text.split("{{").skip(1).filter_map(|part| part.split("}}").next());
    parts.map(|part| part.trim().trim_start_matches("$labels.").to_owned()).collect()
}

fn document(name: &str) -> Result<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(path).map_err(|error| Error::Unexpected(format!("{name}: {error}")))
}

fn dashboard() -> Result<Vec<Asked>> {
    let board: serde_json::Value = serde_json::from_str(&document("grafana/wireonce.json")?)
        .map_err(|error| Error::Unexpected(format!("the dashboard: {error}")))?;
    let panels = board["panels"].as_array().cloned().unwrap_or_default();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().cloned());
    let asked = targets.flatten().map(|target| Asked {
        expression: target["expr"].as_str().unwrap_or_default().to_owned(),
        shown: shown(target["legendFormat"].as_str().unwrap_or_default()),
    });
    Ok(asked.collect())
}

/// Rules, by the lines that they consist of: an expression stands on its line, or is folded below it.
fn alerts() -> Result<Vec<Asked>> {
    let text = document("prometheus/alerts.yaml")?;
    let rules = text.split("- alert:").skip(1);
    let asked = rules.map(|rule| {
        let after = rule.split("expr:").nth(1).unwrap_or_default();
        let end = ["\n        for:", "\n        labels:"];
        let end = end.iter().filter_map(|end| after.find(end)).min().unwrap_or(after.len());
        let lines = after[..end].lines().map(|line| line.trim().trim_start_matches(">-"));
        Asked { expression: lines.collect::<Vec<_>>().join(" "), shown: shown(&after[end..]) }
    });
    Ok(asked.collect())
}

/// What of an expression is in no scrape.
fn missing(asked: &Asked, samples: &Samples) -> Vec<String> {
    let mut missing = Vec::new();
    let mut known = BTreeSet::from(ADDED.map(str::to_owned));
    let none = BTreeSet::new();
    for selector in selectors(&asked.expression) {
        let metric = &selector.metric;
        let seen = samples.get(metric).unwrap_or(&none);
        if seen.is_empty() {
            missing.push(metric.clone());
            continue;
        }
        let labels: BTreeSet<String> = seen.iter().flat_map(|it| it.keys().cloned()).collect();
        for matcher in selector.matchers.iter().filter(|it| !ADDED.contains(&it.label.as_str())) {
            let label = &matcher.label;
            if !labels.contains(label) {
                missing.push(format!("{metric}{{{label}}}"));
            }
            let is_one_of = ONE_OF.contains(&(metric.as_str(), label.as_str()));
            let has =
                |value: &str| seen.iter().any(|it| it.get(label).is_some_and(|it| it == value));
            let absent = matcher.values().into_iter().filter(|value| !is_one_of && !has(value));
            missing.extend(absent.map(|value| format!("{metric}{{{label}={value:?}}}")));
        }
        for label in grouped(&asked.expression) {
            if !labels.contains(&label) && !ADDED.contains(&label.as_str()) {
                missing.push(format!("{metric}{{{label}}}, by which it is grouped"));
            }
        }
        known.extend(labels);
    }
    let grouped = grouped(&asked.expression);
    let left = if grouped.is_empty() { known } else { grouped };
    let gone = asked.shown.iter().filter(|label| {
        !left.contains(*label)
            && !ADDED.contains(&label.as_str())
            && !asked.expression.contains("up{")
    });
    missing.extend(gone.map(|label| format!("{{{{{label}}}}} of {}", asked.expression)));
    missing
}

#[test]
fn an_expression_is_taken_apart() {
    let text =
        "sum by (a, b) (rate(wireonce_x_total{c=\"d\",e=~\"f|g.*\"}[5m])) / on (a) wireonce_y > 1";
    let found = selectors(text);
    assert_eq!(
        found.iter().map(|it| it.metric.as_str()).collect::<Vec<_>>(),
        ["wireonce_x_total", "wireonce_y"]
    );
    let values: Vec<_> =
        found[0].matchers.iter().map(|it| (it.label.as_str(), it.values())).collect();
    assert_eq!(values, [("c", vec!["d"]), ("e", vec!["f"])]);
    assert_eq!(grouped(text), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    assert_eq!(shown("{{ $labels.x }} to {{y}}"), BTreeSet::from(["x".to_owned(), "y".to_owned()]));

    let mut samples = Samples::new();
    take(
        "# HELP x\nwireonce_x_total{a=\"1\",b=\"2\",c=\"d\",e=\"f\"} 7\nwireonce_y 1.0\n",
        &mut samples,
    );
    let of = |expression: &str, legend: &str| {
        missing(&Asked { expression: expression.to_owned(), shown: shown(legend) }, &samples)
    };
    assert_eq!(of("wireonce_x_total{c=\"d\"}", "{{a}}"), Vec::<String>::new());
    assert_eq!(of("wireonce_z", ""), ["wireonce_z"]);
    assert_eq!(of("wireonce_x_total{c=\"x\"}", ""), ["wireonce_x_total{c=\"x\"}"]);
    assert_eq!(of("wireonce_x_total{q=~\"x.*\"}", ""), ["wireonce_x_total{q}"]);
    assert_eq!(of("sum by (q) (wireonce_y)", ""), ["wireonce_y{q}, by which it is grouped"]);
    assert_eq!(of("wireonce_y", "{{q}}"), ["{{q}} of wireonce_y"]);
}

#[test]
fn every_metric_label_and_value_of_the_dashboard_and_the_alerts_is_in_live_scrapes() {
    let run = || -> Result<()> {
        let asked: Vec<Asked> = dashboard()?.into_iter().chain(alerts()?).collect();
        assert!(asked.len() > 40, "{asked:?}");
        let (mut samples, mut left) = (Samples::new(), Vec::new());
        let bed = Bed::start("metr")?;
        let done = wait_until("all that the documents name", SCENE_LIMIT, || {
            bed.send()?;
            bed.scrape(&mut samples)?;
            let asked = asked.iter();
            let asked = asked.filter(|it| bed.has_bond || !it.expression.contains(MEMBERS));
            left = asked.flat_map(|asked| missing(asked, &samples)).collect();
            Ok(left.is_empty().then_some(()))
        });
        done.map_err(|error| {
            let logs = bed.cluster.all_logs();
            Error::Unexpected(format!("{error}: in no scrape: {left:#?}\n{logs}"))
        })?;
        println!("{} expressions, {} metrics scraped", asked.len(), samples.len());
        Ok(())
    };
    run().unwrap();
}
