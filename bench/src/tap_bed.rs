//! Our path between TAPs that the kernel's own stack drives: backend, fabric, gateway.
//!
//! ```text
//!   [end 1] ─ TAP ══ TAP end ─┐
//!   [end 2] ─ TAP ══ TAP end ─┴═ backend ── fabric ── gateway ══ TAP ─ [far end: the gateway's own namespace]
//!   └─────────── near side ────────────┘             └────── far side ──────┘
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::cluster::{
    Cluster, Plan as ClusterPlan, Status, UPLINK_INTERFACE, UplinkDriver, VmPlan,
};
use wireonce_qemu_tests::netns::{Netns, Offloads};

use crate::bench::{Bench, pin_process};
use crate::case::Fact;
use crate::cpu::{processes_us, softirq_threads_us, thread_us};
use crate::machine::Sides;
use crate::suite::wait_links;
use crate::tapend::TapEnd;
use crate::vm_end::vm_end;

/// How the path is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// How many vNICs.
    pub ends: u8,
    /// Trains are cut before the wire and joined behind it.
    pub wire: bool,
    /// AES-256-GCM between the hosts.
    pub sealed: bool,
    /// One veth pair between the hosts; otherwise a bridge, in which something can be done to what passes.
    pub direct: bool,
    /// What the uplink carries towards the VMs; `None`: all that comes.
    pub down: Option<&'static str>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { ends: 1, wire: false, sealed: false, direct: true, down: None }
    }
}

impl Setup {
    /// The fabric's.
    #[must_use]
    pub fn offloads(self) -> Offloads {
        if self.wire { Offloads::WIRE } else { Offloads::default() }
    }
}

/// The hosts of the cluster.
const BACKEND: usize = 0;
const GATEWAY: usize = 1;

/// The path at work.
#[derive(Debug)]
pub struct TapBed {
    // TAP ends before the backend.
    ends: Vec<(TapEnd, Netns)>,
    cluster: Cluster,
    backend: u32,
    gateway: u32,
}

impl TapBed {
    /// Starts the daemons and the TAP ends.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(bench: &Bench, tag: &str, setup: Setup, sides: Sides) -> Result<Self> {
        let mut plan = ClusterPlan {
            driver: UplinkDriver::Tap,
            encrypted: setup.sealed,
            fabric_offloads: setup.offloads(),
            direct: setup.direct,
            down: setup.down,
            ..ClusterPlan::new(tag, 1)
        };
        plan.vms = (1..=setup.ends).map(|n| VmPlan::new(&format!("vm-{n}"), 0, 10 + n)).collect();
        let mut cluster = Cluster::build(plan, &bench.binary)?;
        let gateway = &cluster.host(GATEWAY)?.netns;
        // The uplink's TAP is an end itself here, not the port of a bridge.
        gateway.ip(&format!("link set {UPLINK_INTERFACE} nomaster txqueuelen 4096"))?;
        gateway.add_address(UPLINK_INTERFACE, cluster.outside_address(), 24)?;
        cluster.start()?;

        let pids = [BACKEND, GATEWAY].map(|host| cluster.daemon_pid(host).unwrap_or_default());
        let [backend, gateway] = pids;
        for (pid, cpu) in [(backend, sides.near), (gateway, sides.far)] {
            cpu.map_or(Ok(()), |cpu| pin_process(pid, cpu))?;
        }
        let mut ends = Vec::new();
        for vm in &cluster.plan().vms {
            ends.push(vm_end(&cluster, vm, sides.near)?);
        }
        wait_links(&cluster, BACKEND)?;
        Ok(Self { ends, cluster, backend, gateway })
    }

    /// The namespace of a vNIC's end, from 0.
    ///
    /// # Panics
    /// There are not so many ends.
    #[must_use]
    pub fn end(&self, number: usize) -> &Netns {
        &self.ends[number].1
    }

    /// The namespace of the far end.
    ///
    /// # Errors
    /// None: the gateway is always there.
    pub fn far(&self) -> Result<&Netns> {
        self.cluster.host(GATEWAY).map(|host| &host.netns)
    }

    /// The far end's address.
    #[must_use]
    pub fn far_address(&self) -> IpAddr {
        self.cluster.outside_address()
    }

    /// The hosts and the wires between them.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Adds the daemons' last lines to an error.
    ///
    /// # Errors
    /// The one that is given, or that a TAP end has ended.
    pub fn explain<T>(&self, result: Result<T>) -> Result<T> {
        self.ends.iter().try_for_each(|(end, _)| end.must_run())?;
        result.map_err(|error| {
            let logs = self.cluster.all_logs();
            wireonce_qemu_tests::Error::Unexpected(format!("{error}\n{logs}"))
        })
    }

    /// What the daemons dropped until now.
    ///
    /// # Errors
    /// A daemon does not answer.
    pub fn drops(&self) -> Result<Drops> {
        let statuses: Result<Vec<_>> =
            [BACKEND, GATEWAY].into_iter().map(|host| self.cluster.status(host)).collect();
        statuses.map(|statuses| Drops::of(&statuses))
    }

    /// What each part used until now.
    #[must_use]
    pub fn costs(&self) -> Costs {
        Costs {
            backend_us: processes_us(&[self.backend]),
            gateway_us: processes_us(&[self.gateway]),
            ends_us: self.ends.iter().map(|(end, _)| thread_us(end.thread_id())).sum(),
            softirq_us: softirq_threads_us(),
        }
    }
}

/// Frames that the daemons dropped, by host and reason, and datagrams that the kernel dropped at
/// their sockets.
#[derive(Debug, Clone, Default)]
pub struct Drops(BTreeMap<String, u64>);

impl Drops {
    /// Of these hosts, until now.
    #[must_use]
    pub fn of(statuses: &[Status]) -> Self {
        let mut drops = BTreeMap::new();
        for status in statuses {
            for (reason, amount) in status.ledger.iter().flat_map(|row| &row.drops) {
                *drops.entry(format!("{}: {reason}", status.role)).or_default() += amount.frames;
            }
            // Whole trains, mostly: the ledger of the other host has their frames.
            let socket = status.counters.get("fabric_socket_drops").copied().unwrap_or(0);
            *drops.entry(format!("{}: socket full", status.role)).or_default() += socket;
        }
        Self(drops)
    }

    /// What was dropped since `before`: the sum, then each reason that there was.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<Fact> {
        let since = |(name, count): (&String, &u64)| {
            let count = count.saturating_sub(before.0.get(name).copied().unwrap_or(0));
            (name.clone(), count)
        };
        let each: Vec<_> = self.0.iter().map(since).collect();
        let sum = each.iter().map(|(_, count)| count).sum::<u64>();
        let mut facts = vec![Fact::new("dropped", sum as f64, "")];
        let any = each.iter().filter(|(_, count)| *count > 0);
        facts.extend(any.map(|(name, count)| Fact::new(name, *count as f64, "")));
        facts
    }
}

/// CPU time of the parts of a path, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Costs {
    /// The backend.
    pub backend_us: f64,
    /// The gateway.
    pub gateway_us: f64,
    /// The TAP ends, which stand for guests' drivers.
    pub ends_us: f64,
    /// The kernel's softirq threads.
    pub softirq_us: f64,
}

impl Costs {
    /// What was used in between.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            backend_us: self.backend_us - before.backend_us,
            gateway_us: self.gateway_us - before.gateway_us,
            ends_us: self.ends_us - before.ends_us,
            softirq_us: self.softirq_us - before.softirq_us,
        }
    }

    /// All parts together.
    #[must_use]
    pub fn sum_us(self) -> f64 {
        self.backend_us + self.gateway_us + self.ends_us + self.softirq_us
    }
}
