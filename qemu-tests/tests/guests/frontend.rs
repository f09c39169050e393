//! DPDK's front-end (`net_virtio_user`) in the place of a VM, at both ends: every ring size, merged
//! receive buffers or not, used buffers in order or not; small frames and full ones.
//!
//! testpmd sends so many bursts and counts what its ring took; the other one counts what came. The
//! difference must be in the books, by reason, to the last frame.

use wireonce_qemu_tests::cluster::{Plan, Status, VmPlan};
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::testpmd::{Console, End, Forward, Testpmd};
use wireonce_qemu_tests::{Error, Result};

use crate::bed::{Bed, LIMIT};

/// At least so many frames of each size.
const FRAMES: u64 = 1000;

/// Two servers, each with a testpmd in the place of its VM.
struct Pair {
    bed: Bed,
    sender: Console,
    receiver: Console,
    /// What the books said when both had just started.
    sent_before: u64,
    dropped_before: u64,
}

/// What a front-end offers.
#[derive(Debug, Clone, Copy)]
struct Shape {
    mergeable: bool,
    in_order: bool,
    queue_size: u16,
}

#[test]
fn every_frame_of_a_fast_front_end_is_in_the_books() {
    let mut bed = bed("pmd").unwrap();
    for mergeable in [true, false] {
        for in_order in [true, false] {
            for queue_size in [64, 256, 1024] {
                let shape = Shape { mergeable, in_order, queue_size };
                let mut pair = Pair::start(bed, shape).unwrap();
                for size in [64, 1500] {
                    pair.send(&format!("set txpkts {size}"), FRAMES).unwrap();
                    let received = pair.must_add_up(&format!("{shape:?}, {size} B")).unwrap();
                    assert!(received > 0, "nothing came: {shape:?}");
                }
                bed = pair.bed;
            }
        }
    }
    bed.must_close().unwrap();
}

#[test]
fn frames_of_a_fast_front_end_that_may_not_pass_are_counted_one_by_one() {
    let shape = Shape { mergeable: true, in_order: true, queue_size: 256 };
    let mut pair = Pair::start(bed("pmdbad").unwrap(), shape).unwrap();
    for (command, reason) in [
        ("set eth-peer 0 01:80:c2:00:00:0e", "link-control"),
        ("set eth-peer 0 52:54:00:77:00:0b", "reflected"),
    ] {
        let (sent, received) = pair.counts().unwrap();
        pair.send(command, FRAMES).unwrap();
        pair.must_add_up(command).unwrap();
        let now = pair.counts().unwrap();
        let books = pair.bed.account(0, "vm-a", "guest-tx").unwrap();
        let dropped = books.drops.get(reason).map_or(0, |amount| amount.frames);
        assert_eq!((dropped, now.1), (now.0 - sent, received), "{reason}");
    }
    pair.bed.must_close().unwrap();
}

#[test]
fn a_fast_front_end_is_killed_in_full_run_and_started_again() {
    let shape = Shape { mergeable: true, in_order: true, queue_size: 256 };
    let mut pair = Pair::start(bed("pmdkill").unwrap(), shape).unwrap();
    for sender_dies in [true, false] {
        for line in ["stop", "set fwd txonly", "start"] {
            pair.sender.command(line).unwrap();
        }
        let sent = books(&pair.bed.cluster.status(0).unwrap(), "guest-tx").0;
        wait_until("frames flow", LIMIT, || {
            Ok((books(&pair.bed.cluster.status(0)?, "guest-tx").0 > sent + 1000).then_some(()))
        })
        .unwrap();
        if sender_dies {
            pair.sender.process().kill();
        } else {
            pair.receiver.process().kill();
        }
        let Pair { bed, sender, receiver, .. } = pair;
        drop((sender, receiver));
        bed.must_close().unwrap();
        pair = Pair::start(bed, shape).unwrap();
        pair.send("set txpkts 64", FRAMES).unwrap();
        assert!(pair.must_add_up("after a kill").unwrap() > 0);
    }
    pair.bed.must_close().unwrap();
}

fn bed(tag: &str) -> Result<Bed> {
    let plan = Plan { gateways: 0, ..Plan::new(tag, 2) };
    Bed::new(plan.vm(VmPlan::new("vm-a", 0, 11)).vm(VmPlan::new("vm-b", 1, 12)))
}

impl Bed {
    /// Waits until both vNICs are in a state.
    fn must_be(&self, state: &str) -> Result<()> {
        for (host, name) in [(0, "vm-a"), (1, "vm-b")] {
            wait_until(&format!("{name} is {state}"), LIMIT, || {
                Ok((self.vnic_field(host, name, "state")? == state).then_some(()))
            })
            .map_err(|error| self.explain(&error))?;
        }
        Ok(())
    }
}

impl Pair {
    fn start(bed: Bed, shape: Shape) -> Result<Self> {
        // A predecessor may have been killed a moment ago.
        bed.must_be("down")?;
        let start = |index: usize| {
            let vm = &bed.cluster.plan().vms[index];
            let peer = &bed.cluster.plan().vms[1 - index];
            let socket = bed.cluster.vnic_socket(&vm.name);
            let mut pmd = Testpmd::new(End::FrontEnd(socket), Forward::RxOnly);
            pmd.cpu = if index == 0 { 0 } else { 1 };
            pmd.mergeable = shape.mergeable;
            pmd.in_order = shape.in_order;
            pmd.queue_size = shape.queue_size;
            pmd.mac = Some(vm.mac());
            pmd.peer_mac = Some(peer.mac());
            pmd.addresses = Some((vm.address().to_string(), peer.address().to_string()));
            let mut console = pmd.start_console(&format!("pmd-{}", vm.name), bed.cluster.dir())?;
            console.command("start")?;
            Ok::<_, Error>(console)
        };
        let (sender, receiver) = (start(0)?, start(1)?);
        bed.must_be("running")?;
        wait_until("the link is up", LIMIT, || {
            let links = bed.cluster.status(0)?.links;
            Ok(links.iter().any(|link| link["state"] == "up").then_some(()))
        })?;
        let (from, to) = (bed.cluster.status(0)?, bed.cluster.status(1)?);
        let sent_before = books(&from, "guest-tx").0;
        Ok(Self { bed, sender, receiver, sent_before, dropped_before: all_drops(&from, &to) })
    }

    /// Sends until the ring has taken at least `frames`.
    fn send(&mut self, command: &str, frames: u64) -> Result<()> {
        self.sender.command("stop")?;
        self.sender.command(command)?;
        let before = self.sender.counters()?.tx_packets;
        wait_until("enough frames", LIMIT, || {
            self.sender.transmit(frames)?;
            Ok((self.sender.counters()?.tx_packets >= before + frames).then_some(()))
        })
    }

    /// Frames that the sender's ring took, and that the receiver got, of this pair's life.
    fn counts(&mut self) -> Result<(u64, u64)> {
        Ok((self.sender.counters()?.tx_packets, self.receiver.counters()?.rx_packets))
    }

    /// Waits until sent = in the books = received + dropped; returns what was received.
    fn must_add_up(&mut self, what: &str) -> Result<u64> {
        let mut seen = String::new();
        let done = wait_until("the counts agree", LIMIT, || {
            let (sent, received) = self.counts()?;
            let (from, to) = (self.bed.cluster.status(0)?, self.bed.cluster.status(1)?);
            let booked = books(&from, "guest-tx").0 - self.sent_before;
            let dropped = all_drops(&from, &to) - self.dropped_before;
            seen = format!("sent {sent}, booked {booked}, received {received}, dropped {dropped}");
            Ok((sent == booked && sent == received + dropped).then_some(received))
        });
        if done.is_ok() {
            println!("{what}: {seen}");
        }
        done.map_err(|error| {
            self.bed.explain(&Error::Unexpected(format!("{what}: {error}: {seen}")))
        })
    }
}

/// Frames in and dropped at a stage, all vNICs of a host together.
fn books(status: &Status, stage: &str) -> (u64, u64) {
    let rows = status.ledger.iter().filter(|row| row.stage == stage);
    rows.fold((0, 0), |(input, dropped), row| {
        let drops: u64 = row.drops.values().map(|amount| amount.frames).sum();
        (input + row.input.frames, dropped + drops)
    })
}

/// Drops on the way from one host's guests to the other's.
fn all_drops(from: &Status, to: &Status) -> u64 {
    let out = ["guest-tx", "fabric-tx"].map(|stage| books(from, stage).1);
    let inward = ["fabric-rx", "guest-rx"].map(|stage| books(to, stage).1);
    out.into_iter().chain(inward).sum()
}
