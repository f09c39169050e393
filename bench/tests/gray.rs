//! Gray failures with real daemons: one server, two gateways, one outside, and a bridge that loses some.
//!
//! No time is judged: how long each took is printed.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::collections::HashSet;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;
use wireonce_bench::inside;
use wireonce_bench::suite::wait_links;
use wireonce_bench::tapend::TapEnd;
use wireonce_bench::vm_end::vm_end;
use wireonce_qemu_tests::cluster::{Cluster, Plan, Profile, VmPlan, daemon_binary};
use wireonce_qemu_tests::netns::{Fabric, Netns, Offloads};
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 5_400;
/// One server, then the gateways.
const SERVER: usize = 0;
const GATEWAYS: [usize; 2] = [1, 2];

/// The server with its VM's end, which sends long datagrams to the outside, one each millisecond.
struct Bed {
    flow: Option<Flow>,
    // Before what they use.
    end: TapEnd,
    netns: Netns,
    cluster: Cluster,
}

/// Datagrams to the outside, until it is dropped.
struct Flow {
    stop: Arc<AtomicBool>,
    /// How many have arrived.
    arrived: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Bed {
    fn start(tag: &str) -> Result<Self> {
        let vm = VmPlan { standbys: vec![1], ..VmPlan::new("vm-a", 0, 11) };
        // Each datagram by itself, as on a wire: a train would have one fate.
        let plan = Plan {
            gateways: 2,
            failover: "fast",
            fabric_offloads: Offloads::WIRE,
            ..Plan::new(tag, 1)
        };
        let mut cluster = Cluster::build(plan.vm(vm), &daemon_binary(Profile::Dev)?)?;
        cluster.start()?;
        for host in [SERVER, GATEWAYS[0], GATEWAYS[1]] {
            let port = Fabric::port(host);
            let line = format!("ethtool -K {port} gro off rx-udp-gro-forwarding off");
            cluster.fabric().netns().sh(&line, LIMIT)?;
        }
        let (end, netns) = vm_end(&cluster, &cluster.plan().vms[0], None)?;
        wait_links(&cluster, SERVER)?;
        let mut bed = Self { flow: None, end, netns, cluster };
        bed.wait("vm-a at home", |bed| Ok(bed.home()?["now"] == "uplink-1"))?;
        bed.flow = Some(Flow::start(&bed)?);
        bed.wait("frames outside", |bed| Ok(bed.arrived() > 50))?;
        assert_eq!(bed.gray(SERVER, "gateway-a")?, Value::Null);
        Ok(bed)
    }

    /// What a host says is wrong with its link to a peer.
    fn gray(&self, host: usize, peer: &str) -> Result<Value> {
        let links = self.cluster.status(host)?.links;
        let link = links.into_iter().find(|link| link["peer"] == peer).unwrap_or_default();
        Ok(link["gray"].clone())
    }

    /// The names of what is wrong.
    fn names(&self, host: usize, peer: &str) -> Result<HashSet<String>> {
        let gray = self.gray(host, peer)?;
        let names = gray["trouble"].as_array().cloned().unwrap_or_default();
        Ok(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    fn home(&self) -> Result<Value> {
        let vnics = self.cluster.status(SERVER)?.vnics;
        Ok(vnics.first().map(|vnic| vnic["home"].clone()).unwrap_or_default())
    }

    /// Datagrams that have come outside.
    fn arrived(&self) -> u64 {
        self.flow.as_ref().map_or(0, |flow| flow.arrived.load(Ordering::Relaxed))
    }

    /// All that goes to a host from now on, and comes in at a port of the bridge, is subject to a rule.
    fn trouble(&self, from: usize, to: usize, rule: &str) -> Result<Instant> {
        let port = Fabric::port(from);
        let to = self.cluster.host(to)?.address;
        let rules = format!(
            "add table netdev gray; \
             add chain netdev gray {port} {{ type filter hook ingress device {port} priority 0; }}; \
             add rule netdev gray {port} ip daddr {to} {rule}"
        );
        self.cluster.fabric().netns().sh(&format!("nft '{rules}'"), LIMIT)?;
        Ok(Instant::now())
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        wait_until(what, LIMIT, || Ok(is_so(self)?.then_some(())))
            .map_err(|error| Error::Unexpected(format!("{error}\n{}", self.cluster.all_logs())))
    }

    /// Waits until the vNIC has another home, and its frames come outside from there.
    fn wait_moved(&self, began: Instant) -> Result<String> {
        self.wait("vm-a at its standby", |bed| {
            let home = bed.home()?;
            Ok(home["now"] == "uplink-2" && home["confirmed"] == true)
        })?;
        println!("moved after {} ms, with the status's reading", began.elapsed().as_millis());
        let before = self.arrived();
        self.wait("frames through the standby", |bed| Ok(bed.arrived() > before + 100))?;
        Ok(self.home()?["why"].as_str().unwrap_or_default().to_owned())
    }
}

impl Flow {
    fn start(bed: &Bed) -> Result<Self> {
        let socket = |netns: &Netns, address: String| -> Result<UdpSocket> {
            let (thread, _) = inside::start(netns, "socket", None, move |ready| {
                let socket = UdpSocket::bind(&address).map_err(io_error("cannot bind"))?;
                let wait = Some(Duration::from_millis(20));
                socket.set_read_timeout(wait).map_err(io_error("no timeout"))?;
                ready.tell();
                Ok(socket)
            })?;
            thread.join().map_err(|_| Error::Unexpected("no socket".into()))?
        };
        let to = format!("{}:{PORT}", bed.cluster.outside_address());
        let vm = socket(&bed.netns, format!("{}:{PORT}", bed.cluster.plan().vms[0].address()))?;
        let outside = socket(bed.cluster.outside(), to.clone())?;
        let stop = Arc::new(AtomicBool::new(false));
        let arrived = Arc::new(AtomicU64::new(0));
        let (sender_stops, receiver_stops) = (Arc::clone(&stop), Arc::clone(&stop));
        let count = Arc::clone(&arrived);
        let threads = vec![
            std::thread::spawn(move || {
                let started = Instant::now();
                // Two of these do not fit into one datagram of the fabric, so some are full-size.
                for number in 1..60_000 {
                    if sender_stops.load(Ordering::Relaxed) {
                        break;
                    }
                    vm.send_to(&[0; 1_400], &to).map_err(io_error("cannot send"))?;
                    let next = started + Duration::from_millis(number);
                    sleep(next.saturating_duration_since(Instant::now()));
                }
                Ok(())
            }),
            std::thread::spawn(move || {
                let mut bytes = [0; 2_000];
                while !receiver_stops.load(Ordering::Relaxed) {
                    if outside.recv(&mut bytes).is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(())
            }),
        ];
        Ok(Self { stop, arrived, threads })
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What went wrong there was seen in what did not arrive.
            let _ = thread.join();
        }
    }
}

fn io_error(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::Unexpected(format!("{what}: {error}"))
}

#[test]
fn three_in_ten_lost_towards_the_home_are_named_at_both_ends_and_the_home_is_left() {
    let run = || -> Result<()> {
        let bed = Bed::start("gloss")?;
        let began = bed.trouble(SERVER, GATEWAYS[0], "numgen random mod 10 < 3 counter drop")?;
        bed.wait("the loss's name", |bed| {
            Ok(bed.names(SERVER, "gateway-a")?.contains("lossy-to-peer"))
        })?;
        println!(
            "named after {} ms: {}",
            began.elapsed().as_millis(),
            bed.gray(SERVER, "gateway-a")?
        );
        let why = bed.wait_moved(began)?;
        // A silence of 25 ms may have come first.
        let known = ["home-gray", "home-silent", "home-unheard"];
        assert!(known.contains(&why.as_str()), "{why}");
        bed.wait("word of it there", |bed| {
            Ok(bed.names(GATEWAYS[0], "server-a")?.contains("lossy-from-peer"))
        })?;
        let swaps = bed.home()?["swaps"].clone();
        sleep(Duration::from_secs(3));
        let after = bed.home()?;
        assert_eq!(
            (&after["now"], &after["swaps"]),
            (&"uplink-2".into(), &swaps),
            "it stays there"
        );
        println!("why: {why}, swaps: {swaps}");
        bed.end.must_run()
    };
    run().unwrap();
}

#[test]
fn full_size_datagrams_that_are_lost_are_sized_down_and_named_and_nobody_moves() {
    let run = || -> Result<()> {
        let bed = Bed::start("gsize")?;
        bed.wait("the full size", |bed| {
            let links = bed.cluster.status(SERVER)?.links;
            Ok(links.iter().all(|link| link["datagram_len"] == 1_472))
        })?;
        let swaps = bed.home()?["swaps"].clone();
        let began = bed.trouble(SERVER, GATEWAYS[0], "meta length > 1400 counter drop")?;
        bed.wait("the shorter size's name", |bed| {
            Ok(bed.names(SERVER, "gateway-a")?.contains("full-size-lost"))
        })?;
        println!(
            "named after {} ms: {}",
            began.elapsed().as_millis(),
            bed.gray(SERVER, "gateway-a")?
        );
        let before = bed.arrived();
        bed.wait("frames in shorter datagrams", |bed| Ok(bed.arrived() > before + 500))?;
        assert_eq!(bed.names(SERVER, "gateway-a")?, HashSet::from(["full-size-lost".to_owned()]));
        let links = bed.cluster.status(SERVER)?.links;
        let link = links.iter().find(|link| link["peer"] == "gateway-a");
        let link = link.ok_or_else(|| Error::Unexpected("no link".into()))?;
        assert_eq!(
            (&link["state"], &link["datagram_len"]),
            (&"up".into(), &1_372.into()),
            "{link}"
        );
        assert_eq!(bed.home()?["swaps"], swaps, "nothing else is torn down");
        bed.end.must_run()
    };
    run().unwrap();
}

#[test]
fn a_cut_towards_the_gateway_only_is_named_and_the_home_is_left() {
    let run = || -> Result<()> {
        let bed = Bed::start("gcut")?;
        let began = bed.trouble(SERVER, GATEWAYS[0], "counter drop")?;
        let why = bed.wait_moved(began)?;
        assert!(["home-unheard", "home-silent"].contains(&why.as_str()), "{why}");
        bed.wait("the cut's name", |bed| Ok(bed.names(SERVER, "gateway-a")?.contains("one-way")))?;
        println!("why: {why}; named: {}", bed.gray(SERVER, "gateway-a")?);
        bed.end.must_run()
    };
    run().unwrap();
}

#[test]
fn a_dead_data_port_beside_hellos_that_pass_is_named_and_the_home_is_left() {
    let run = || -> Result<()> {
        let bed = Bed::start("gport")?;
        let began = bed.trouble(SERVER, GATEWAYS[0], "udp dport 4791 counter drop")?;
        let why = bed.wait_moved(began)?;
        assert_eq!(why, "home-gray");
        let names = bed.names(SERVER, "gateway-a")?;
        assert!(names.contains("no-path") && names.contains("path-dead"), "{names:?}");
        println!("named: {}", bed.gray(SERVER, "gateway-a")?);
        bed.end.must_run()
    };
    run().unwrap();
}
