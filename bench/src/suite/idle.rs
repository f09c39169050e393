//! `idle`: what vNICs cost whose guests do nothing.
//!
//! Each vNIC has a front-end whose driver runs and neither sends nor receives; the backend has a
//! link to one other host and keeps it alive. CPU time is that of the whole daemon, as a share of
//! one processor; memory is what it shares with nobody, huge pages included, by the number of
//! vNICs.

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, thread};

use wireonce_qemu_tests::cluster::{Cluster, Plan as ClusterPlan, VmPlan};
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::testpmd::{End, Forward, Memory, Testpmd};
use wireonce_qemu_tests::{Error, Result};

use super::{Plan, Suite};
use crate::bench::{Bench, pin_process};
use crate::case::{Case, Contender, Fact, Figure, Goal, Rival, Sample, Times};
use crate::cpu::processes_us;
use crate::load::Load;
use crate::peer::ovs::Ovs;

/// This suite.
pub const SUITE: Suite =
    Suite { name: "idle", about: "CPU time and memory of vNICs that do nothing", cases };

/// Ports of one testpmd; Debian's takes up to 32.
const PORTS_MAX: usize = 25;
/// Rings are small: buffers for all of them have to fit.
const RING: u16 = 256;
const ATTACH_LIMIT: Duration = Duration::from_secs(60);
/// A few wake-ups per second need time to be seen.
const WINDOWS: u32 = 3;
const MIB: f64 = 1024.0 * 1024.0;

fn cases(bench: &Bench) -> Vec<Plan> {
    let counts: &[u8] = if bench.is_quick() { &[1, 10] } else { &[1, 10, 100] };
    let plan =
        |count: u8| Plan::new(&format!("idle {count} vNICs"), move |bench| case(bench, count));
    counts.iter().copied().map(plan).collect()
}

fn case(bench: &Bench, count: u8) -> Result<Case> {
    let cpu = Figure::new("CPU", "% of a core");
    let memory = Figure::new("memory", "MiB a vNIC");
    let goals = [Goal::AtMost(0.1), Goal::AtMost(4.0)];
    // A daemon's own memory is shared by few vNICs, or by many: the goal is for many.
    let goals = if count >= 100 { &goals[..] } else { &goals[..1] };
    let peer = Rival::start(bench, Ovs::NAME, goals, || Peer::start(bench, count));
    let case = Case::new("", "", Ours::start(bench, count)?);
    Ok(case.figures(vec![cpu, memory]).against(peer))
}

fn vms(count: u8) -> Vec<VmPlan> {
    (0..count).map(|n| VmPlan::new(&format!("vm-{n}"), 0, 11 + n)).collect()
}

/// Front-ends for all sockets, so many to a testpmd; they stay stopped.
fn attach(bench: &Bench, guests: &[(PathBuf, String)], name: &str) -> Result<Vec<Load>> {
    let start = |(number, guests): (usize, &[(PathBuf, String)])| {
        let Some(((first, mac), others)) = guests.split_first() else {
            return Err(Error::Unexpected("no guests".to_owned()));
        };
        let mut pmd = Testpmd::new(End::FrontEnd(first.clone()), Forward::RxOnly);
        pmd.memory = Memory::Huge;
        pmd.cpu = bench.cores().load;
        pmd.queue_size = RING;
        pmd.mac = Some(mac.clone());
        pmd.more_options = ["--rxd", "--txd"].map(|ring| format!("{ring}={RING}")).to_vec();
        pmd.more_devices = (1..)
            .zip(others)
            .map(|(port, (socket, mac))| {
                let socket = socket.display();
                format!("net_virtio_user{port},path={socket},queues=1,queue_size={RING},mac={mac}")
            })
            .collect();
        Load::start(&pmd, &format!("{name}-{number}"), bench.dir())
    };
    guests.chunks(PORTS_MAX).enumerate().map(start).collect()
}

/// CPU time and memory of process `pid` while nothing happens.
fn look(pid: u32, count: u8, times: Times) -> Result<Sample> {
    thread::sleep(times.warm_up);
    let (started, before_us) = (Instant::now(), processes_us(&[pid]));
    thread::sleep(times.window * WINDOWS);
    let share = (processes_us(&[pid]) - before_us) / (started.elapsed().as_secs_f64() * 1e6);
    let memory = own_memory(pid)? as f64 / MIB;
    Ok(Sample {
        values: vec![share * 100.0, memory / f64::from(count)],
        cpu_us_per_frame: None,
        facts: vec![Fact::new("in all", memory, "MiB")],
        events: Vec::new(),
    })
}

/// Memory of a process that it shares with nobody, in bytes: what guests share with it is theirs.
fn own_memory(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path)
        .map_err(|source| Error::Io { what: format!("cannot read {path}"), source })?;
    Ok(memory_of(&text))
}

fn memory_of(smaps: &str) -> u64 {
    let kib = |name: &str| {
        let line = smaps.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    (kib("Anonymous:") + kib("Private_Hugetlb:")) * 1024
}

#[derive(Debug)]
struct Ours {
    // The guests end before the backend.
    _guests: Vec<Load>,
    _cluster: Cluster,
    pid: u32,
    count: u8,
}

impl Ours {
    fn start(bench: &Bench, count: u8) -> Result<Self> {
        let plan = ClusterPlan { gateways: 0, vms: vms(count), ..ClusterPlan::new("idle", 2) };
        let mut cluster = Cluster::build(plan, &bench.binary)?;
        cluster.start()?;
        let pid = cluster.daemon_pid(0).unwrap_or_default();
        pin_process(pid, bench.cores().device)?;
        let sockets: Vec<_> =
            vms(count).iter().map(|vm| (cluster.vnic_socket(&vm.name), vm.mac())).collect();
        let guests = attach(bench, &sockets, "idle-ours")?;
        super::wait_links(&cluster, 0)?;
        wait_until("all drivers run", ATTACH_LIMIT, || {
            let vnics = cluster.status(0)?.vnics;
            let runs = |vnic: &&serde_json::Value| {
                vnic.get("state").is_some_and(|state| state == "running")
            };
            Ok((vnics.iter().filter(runs).count() == usize::from(count)).then_some(()))
        })?;
        Ok(Self { _guests: guests, _cluster: cluster, pid, count })
    }
}

impl Contender for Ours {
    fn round(&mut self, times: Times) -> Result<Sample> {
        look(self.pid, self.count, times)
    }
}

#[derive(Debug)]
struct Peer {
    _guests: Vec<Load>,
    ovs: Ovs,
    _host: Netns,
    count: u8,
}

impl Peer {
    fn start(bench: &Bench, count: u8) -> Result<Self> {
        let host = Netns::new("idleovs", "host")?;
        let ovs = Ovs::start(&host, bench.dir(), "ovs-idle", bench.cores().device)?;
        ovs.add_bridge("br-guest")?;
        let vms = vms(count);
        let sockets: Result<Vec<_>> =
            vms.iter().map(|vm| Ok((ovs.add_vhost("br-guest", &vm.name)?, vm.mac()))).collect();
        let guests = attach(bench, &sockets?, "idle-ovs")?;
        thread::sleep(Duration::from_secs(1));
        ovs.pause()?;
        Ok(Self { _guests: guests, ovs, _host: host, count })
    }
}

impl Contender for Peer {
    fn round(&mut self, times: Times) -> Result<Sample> {
        self.ovs.resume()?;
        let sample = look(self.ovs.pid(), self.count, times);
        self.ovs.pause()?;
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_anonymous_or_in_huge_pages_that_nobody_shares() {
        let smaps = "Rss: 900 kB\nAnonymous: 100 kB\nShared_Hugetlb: 4096 kB\n\
            Private_Hugetlb: 2048 kB\n";
        assert_eq!(memory_of(smaps), 2148 * 1024);
    }
}
