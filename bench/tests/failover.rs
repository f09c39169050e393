//! Homes that are lost and homes that move, with real daemons: one server, two gateways, one outside.
//!
//! A VM's end sends a numbered datagram each millisecond; the outside sends each back. Who has
//! received which number tells what was lost and what came twice. No time is judged: gaps are printed.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use wireonce_bench::inside;
use wireonce_bench::suite::wait_links;
use wireonce_bench::tapend::TapEnd;
use wireonce_bench::vm_end::vm_end;
use wireonce_qemu_tests::cluster::{Cluster, Plan, Profile, Status, VmPlan, daemon_binary};
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 5_400;
/// One server, then the gateways.
const SERVER: usize = 0;
const GATEWAYS: [usize; 2] = [1, 2];

/// What an end has received: number and when.
type Received = Vec<(u64, Instant)>;

/// A thread of a [`Flow`].
type End = JoinHandle<Result<Received>>;

/// The server with its VM's end.
struct Bed {
    // Before what they use.
    end: TapEnd,
    netns: Netns,
    cluster: Cluster,
}

impl Bed {
    fn start(tag: &str, failover: &'static str) -> Result<Self> {
        let vm = VmPlan { standbys: vec![1], ..VmPlan::new("vm-a", 0, 11) };
        let plan = Plan { gateways: 2, failover, ..Plan::new(tag, 1) }.vm(vm);
        let mut cluster = Cluster::build(plan, &daemon_binary(Profile::Dev)?)?;
        cluster.start()?;
        let (end, netns) = vm_end(&cluster, &cluster.plan().vms[0], None)?;
        wait_links(&cluster, SERVER)?;
        let bed = Self { end, netns, cluster };
        bed.wait_home("uplink-1")?;
        Ok(bed)
    }

    /// Waits until the vNIC is attached there and the gateway has said so.
    fn wait_home(&self, uplink: &str) -> Result<()> {
        wait_until(&format!("vm-a at {uplink}"), LIMIT, || {
            let home = home(&self.cluster.status(SERVER)?);
            let there = home["now"] == uplink && home["confirmed"] == true;
            Ok((there && home["going"].is_null()).then_some(()))
        })
        .map_err(|error| Error::Unexpected(format!("{error}\n{}", self.cluster.all_logs())))
    }

    fn swaps(&self) -> Result<u64> {
        Ok(home(&self.cluster.status(SERVER)?)["swaps"].as_u64().unwrap_or(0))
    }

    /// Moves the VM's home by another configuration, the daemons in this order.
    fn move_home(&mut self, to: usize, order: &[usize]) -> Result<()> {
        self.cluster.change(order, |plan| {
            plan.vms[0].home = to;
            plan.vms[0].standbys = vec![1 - to];
        })
    }
}

fn io_error(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::Unexpected(format!("{what}: {error}"))
}

fn home(status: &Status) -> serde_json::Value {
    status.vnics.first().map(|vnic| vnic["home"].clone()).unwrap_or_default()
}

/// A numbered datagram each millisecond, there and back.
struct Flow {
    stop: Arc<AtomicBool>,
    sent: JoinHandle<Result<u64>>,
    vm: Arc<UdpSocket>,
    outside: Arc<UdpSocket>,
    ends: [Option<End>; 2],
}

/// What became of a flow.
struct Outcome {
    sent: u64,
    /// Outside, and back at the VM.
    out: Received,
    back: Received,
}

impl Flow {
    fn start(bed: &Bed) -> Result<Self> {
        let socket = |netns: &Netns, address: String| -> Result<Arc<UdpSocket>> {
            let (thread, _) = inside::start(netns, "socket", None, move |ready| {
                let socket = UdpSocket::bind(&address).map_err(io_error("cannot bind"))?;
                let wait = Some(Duration::from_millis(20));
                socket.set_read_timeout(wait).map_err(io_error("no timeout"))?;
                ready.tell();
                Ok(socket)
            })?;
            thread.join().map_err(|_| Error::Unexpected("no socket".into()))?.map(Arc::new)
        };
        let to = format!("{}:{PORT}", bed.cluster.outside_address());
        let vm = socket(&bed.netns, format!("{}:{PORT}", bed.cluster.plan().vms[0].address()))?;
        let outside = socket(bed.cluster.outside(), to.clone())?;
        let stop = Arc::new(AtomicBool::new(false));
        let ends = [(&outside, true), (&vm, false)].map(|(socket, echoes)| {
            let (socket, stop) = (Arc::clone(socket), Arc::clone(&stop));
            Some(std::thread::spawn(move || receive(&socket, echoes, &stop)))
        });
        let (sender, stopped) = (Arc::clone(&vm), Arc::clone(&stop));
        let sent = std::thread::spawn(move || send(&sender, &to, &stopped));
        Ok(Self { stop, sent, vm, outside, ends })
    }

    /// Stops sending, and waits for what is under way.
    fn end(mut self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sent.join().map_err(|_| Error::Unexpected("the sender".into()))??;
        let mut join = |at: usize| {
            let thread = self.ends.get_mut(at).and_then(Option::take);
            let joined = thread.and_then(|thread| thread.join().ok());
            joined.ok_or_else(|| Error::Unexpected("a receiver".into()))?
        };
        let (out, back) = (join(0)?, join(1)?);
        drop((self.vm, self.outside));
        Ok(Outcome { sent, out, back })
    }
}

fn send(socket: &UdpSocket, to: &str, stop: &AtomicBool) -> Result<u64> {
    let started = Instant::now();
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) && number < 60_000 {
        let sent = socket.send_to(&number.to_le_bytes(), to);
        sent.map_err(io_error("cannot send"))?;
        number += 1;
        sleep((started + Duration::from_millis(number)).saturating_duration_since(Instant::now()));
    }
    Ok(number)
}

fn receive(socket: &UdpSocket, echoes: bool, stop: &AtomicBool) -> Result<Received> {
    let mut received = Vec::new();
    let mut bytes = [0; 8];
    let mut quiet = 0;
    // What is still under way when the sender stops comes within these looks.
    while quiet < 25 {
        match socket.recv_from(&mut bytes) {
            Ok((_, from)) => {
                received.push((u64::from_le_bytes(bytes), Instant::now()));
                if echoes {
                    socket.send_to(&bytes, from).map_err(io_error("cannot send back"))?;
                }
                quiet = 0;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                quiet += usize::from(stop.load(Ordering::Relaxed));
            }
            Err(error) => return Err(io_error("cannot receive")(error)),
        }
    }
    Ok(received)
}

/// The longest time without any, in milliseconds.
fn gap_ms(received: &Received) -> u128 {
    let pairs = received.windows(2);
    pairs.map(|pair| (pair[1].1 - pair[0].1).as_millis()).max().unwrap_or(0)
}

/// How many are missing of those sent. None may be there twice.
fn missing(sent: u64, received: &Received) -> u64 {
    let once: HashSet<u64> = received.iter().map(|(number, _)| *number).collect();
    assert_eq!(once.len(), received.len(), "some came twice");
    sent - once.len() as u64
}

/// All of a VM's frames that a host dropped, by reason.
fn drops(status: &Status) -> Vec<(String, u64)> {
    let rows = status.ledger.iter().filter(|row| row.name == "vm-a").flat_map(|row| &row.drops);
    rows.map(|(why, amount)| (why.clone(), amount.frames)).collect()
}

#[test]
fn a_gateway_that_is_killed_is_left_for_the_standby_and_nothing_comes_twice() {
    let run = || -> Result<()> {
        let mut bed = Bed::start("fkil", "fast")?;
        let flow = Flow::start(&bed)?;
        sleep(Duration::from_millis(500));
        bed.cluster.kill_daemon(GATEWAYS[0])?;
        bed.wait_home("uplink-2")?;
        sleep(Duration::from_millis(500));
        let Outcome { sent, out, back } = flow.end()?;
        let last = sent - 1;
        println!("gap out {} ms, back {} ms", gap_ms(&out), gap_ms(&back));
        println!("missing {} out, {} back of {sent}", missing(sent, &out), missing(sent, &back));
        assert!(out.iter().any(|(number, _)| *number == last), "the last one leaves");
        assert!(back.iter().any(|(number, _)| *number == last), "and comes back");
        for host in [SERVER, GATEWAYS[1]] {
            wait_until("closed books", LIMIT, || {
                let status = bed.cluster.status(host)?;
                Ok(status.holes().is_empty().then_some(()))
            })?;
        }
        bed.end.must_run()
    };
    run().unwrap();
}

#[test]
fn a_home_that_moves_under_load_loses_nothing_and_doubles_nothing() {
    let run = || -> Result<()> {
        let mut bed = Bed::start("fmov", "default")?;
        let flow = Flow::start(&bed)?;
        sleep(Duration::from_millis(300));
        for (to, order) in [(1, [1, 2, 0]), (0, [0, 2, 1]), (1, [2, 0, 1])] {
            bed.move_home(to, &order)?;
            bed.wait_home(&format!("uplink-{}", to + 1))?;
            sleep(Duration::from_millis(300));
        }
        let swaps = bed.swaps()?;
        let Outcome { sent, out, back } = flow.end()?;
        println!("gap out {} ms, back {} ms, {swaps} swaps", gap_ms(&out), gap_ms(&back));
        let lost = (missing(sent, &out), missing(sent, &back));
        let all = [SERVER, GATEWAYS[0], GATEWAYS[1]].map(|host| bed.cluster.status(host));
        let all: Vec<_> = all.into_iter().map(|status| status.map(|it| drops(&it))).collect();
        assert_eq!(lost, (0, 0), "{all:?}\n{}", bed.cluster.all_logs());
        assert!(swaps >= 3);
        bed.cluster.must_close()?;
        Ok(())
    };
    run().unwrap();
}

#[test]
fn a_gateway_that_ends_sends_its_vnics_away_first_and_loses_nothing() {
    let run = || -> Result<()> {
        let mut bed = Bed::start("fend", "default")?;
        let flow = Flow::start(&bed)?;
        sleep(Duration::from_millis(300));
        assert!(bed.cluster.stop_daemon(GATEWAYS[0])?);
        bed.wait_home("uplink-2")?;
        sleep(Duration::from_millis(300));
        let Outcome { sent, out, back } = flow.end()?;
        println!("gap out {} ms, back {} ms", gap_ms(&out), gap_ms(&back));
        assert_eq!(
            (missing(sent, &out), missing(sent, &back)),
            (0, 0),
            "{}",
            bed.cluster.all_logs()
        );
        Ok(())
    };
    run().unwrap();
}

#[test]
fn a_server_that_is_cut_off_from_everybody_swaps_nothing() {
    let run = || -> Result<()> {
        let bed = Bed::start("fcut", "fast")?;
        // Its own stalls may have moved it before.
        let before = home(&bed.cluster.status(SERVER)?);
        bed.cluster.fabric().set_link(SERVER, false)?;
        sleep(Duration::from_millis(1_500));
        let after = home(&bed.cluster.status(SERVER)?);
        assert_eq!((&after["now"], &after["swaps"]), (&before["now"], &before["swaps"]));
        bed.cluster.fabric().set_link(SERVER, true)?;
        wait_until("vm-a attached again", LIMIT, || {
            Ok((home(&bed.cluster.status(SERVER)?)["confirmed"] == true).then_some(()))
        })?;
        Ok(())
    };
    run().unwrap();
}

/// Prints the gaps of many kills: `cargo nextest run -p wireonce-bench --test failover --run-ignored only
/// --no-capture`. `WIREONCE_FAILOVER_KILLS` says how many.
#[test]
#[ignore = "takes a minute and judges nothing"]
fn gaps_of_many_kills() {
    let run = || -> Result<()> {
        let kills = std::env::var("WIREONCE_FAILOVER_KILLS").ok().and_then(|it| it.parse().ok());
        let mut bed = Bed::start("fgap", "fast")?;
        let (mut gaps, mut home) = (Vec::new(), 0);
        for _ in 0..kills.unwrap_or(20) {
            let flow = Flow::start(&bed)?;
            sleep(Duration::from_millis(300));
            bed.cluster.kill_daemon(GATEWAYS[home])?;
            bed.wait_home(&format!("uplink-{}", 2 - home))?;
            sleep(Duration::from_millis(200));
            let Outcome { sent, out, back } = flow.end()?;
            println!(
                "out {} ms, back {} ms, missing {}",
                gap_ms(&out),
                gap_ms(&back),
                missing(sent, &out)
            );
            gaps.push(gap_ms(&out));
            bed.cluster.start_daemon(GATEWAYS[home])?;
            wait_links(&bed.cluster, SERVER)?;
            home = 1 - home;
        }
        gaps.sort_unstable();
        println!("gaps out, sorted, in ms: {gaps:?}");
        Ok(())
    };
    run().unwrap();
}
