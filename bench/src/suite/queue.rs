//! `queue`: how fast a device takes frames out of a guest's ring.
//!
//! ```text
//!   ours:  testpmd (virtio-user, txonly) ══ wireonce backend: guard, lookup, drop "no-route"
//!   peer:  testpmd (virtio-user, txonly) ══ testpmd (vhost PMD, rxonly)
//! ```
//! One core each. Frames go to a MAC that nobody has, in a network without an uplink. The rate is
//! what the front-end's driver got rid of, by its own count, for both.

use wireonce_qemu_tests::cluster::{Cluster, Plan as ClusterPlan, Status, VmPlan};
use wireonce_qemu_tests::testpmd::Testpmd;
use wireonce_qemu_tests::{Error, Result};

use super::{Plan, Suite, ledger};
use crate::bench::{Bench, pin_process};
use crate::case::{Case, Contender, Fact, Goal, Rival, Sample, Times};
use crate::load::{Load, Place, txonly};
use crate::peer::dpdk_vhost::{self, DpdkVhost};

/// This suite.
pub const SUITE: Suite =
    Suite { name: "queue", about: "out of a guest's ring, then dropped", cases };

const VM: &str = "vm-a";
/// Nobody has it.
const NOBODY: (&str, &str) = ("52:54:00:77:00:fe", "192.0.2.254");
/// What a frame for nobody is dropped for.
const REASON: &str = "no-route";

fn cases(_bench: &Bench) -> Vec<Plan> {
    let sizes = [(64, ""), (1500, "the peer copies each frame, we copy its headers only")];
    let plan = |(bytes, note): (u16, &'static str)| {
        Plan::new(&format!("queue {bytes} B"), move |bench| case(bench, bytes, note))
    };
    sizes.into_iter().map(plan).collect()
}

fn case(bench: &Bench, bytes: u16, note: &str) -> Result<Case> {
    let cores = bench.cores();
    let vm = VmPlan::new(VM, 0, 11);
    let front = txonly(&vm, &nobody()?, cores.load, bytes);
    let peer = Rival::start(bench, dpdk_vhost::NAME, &[Goal::RatioAtLeast(1.0)], || {
        DpdkVhost::start(&front, cores, bench.dir(), &format!("queue-{bytes}"))
    });
    let ours = Ours::start(bench, vm, front.clone())?;
    let case = Case::new("", "Mpps", ours).against(peer);
    Ok(if note.is_empty() { case } else { case.note(note) })
}

/// Where frames go that are to be dropped.
pub(super) fn nobody() -> Result<Place> {
    let address = NOBODY.1.parse().map_err(|_| Error::Unexpected("an address".to_owned()))?;
    Ok(Place { mac: NOBODY.0.to_owned(), address })
}

#[derive(Debug)]
struct Ours {
    // The front-end ends before the backend.
    front: Load,
    cluster: Cluster,
    pid: u32,
}

impl Ours {
    fn start(bench: &Bench, vm: VmPlan, mut front: Testpmd) -> Result<Self> {
        let plan = ClusterPlan { gateways: 0, ..ClusterPlan::new("queue", 1) };
        let mut cluster = Cluster::build(plan.vm(vm), &bench.binary)?;
        cluster.start()?;
        let pid = cluster.daemon_pid(0).unwrap_or_default();
        pin_process(pid, bench.cores().device)?;
        front.connect_to(&cluster.vnic_socket(VM));
        let front = Load::start(&front, "front", cluster.dir())?;
        Ok(Self { front, cluster, pid })
    }
}

impl Contender for Ours {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let mut looks: Vec<Status> = Vec::new();
        let cluster = &self.cluster;
        let seen = self.front.measure(times, &[self.pid], |_| {
            looks.push(cluster.status(0)?);
            Ok(())
        })?;
        let pps = seen.port(0).tx_pps;
        let [before, after] = looks.as_slice() else {
            return Err(Error::Unexpected("the backend did not answer twice".to_owned()));
        };
        let looks = [before, after];
        let dropped = ledger::drop_rate(looks, VM, "guest-tx", REASON)?
            / ledger::rate(looks, VM, "guest-tx", ledger::Side::Input)?.max(1.0);
        Ok(Sample {
            values: vec![pps / 1e6],
            cpu_us_per_frame: seen.cpu_us_per_frame(pps),
            facts: vec![Fact::new("dropped for the expected reason", dropped * 100.0, "%")],
            events: Vec::new(),
        })
    }
}
