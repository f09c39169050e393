//! `scaling`: several workers, each with a guest of its own, against one.
//!
//! As `queue`, with one processor for each worker and one for each guest: on a machine with two
//! processors there is one worker, and nothing to compare.

use std::fs;
use std::thread;

use wireonce_qemu_tests::cluster::{Cluster, Plan as ClusterPlan, VmPlan};
use wireonce_qemu_tests::{Error, Result};

use super::{Plan, Suite, queue};
use crate::bench::{Bench, pin_process, pin_thread};
use crate::case::{Case, Contender, Goal, Rival, Sample, Times};
use crate::cpu::processes_us;
use crate::load::{Load, txonly};

/// This suite.
pub const SUITE: Suite =
    Suite { name: "scaling", about: "several workers with a guest each, against one", cases };

/// Of what so many workers could do at best.
const EFFICIENCY: f64 = 0.8;

fn cases(_bench: &Bench) -> Vec<Plan> {
    let processors = thread::available_parallelism().map_or(2, usize::from);
    let workers = [1u8, 2, 4, 8, 16, 32].into_iter();
    let possible = workers.filter(|workers| usize::from(*workers) * 2 <= processors);
    let plan = |workers: u8| {
        let name = format!("scaling {workers} workers 64 B");
        Plan::new(&name, move |bench| case(bench, workers, processors))
    };
    possible.map(plan).collect()
}

fn case(bench: &Bench, workers: u8, processors: usize) -> Result<Case> {
    let case = Case::new("", "Mpps", Ours::start(bench, workers)?).of_size(workers.into());
    if workers == 1 {
        let note = format!(
            "{processors} processors: enough for {} workers with a guest each",
            processors / 2
        );
        return Ok(case.note(&note));
    }
    let goal = Goal::RatioAtLeast(f64::from(workers) * EFFICIENCY);
    let rival = Rival::ours(bench, "ours, one worker", &[goal], || Ours::start(bench, 1))?;
    Ok(case.against(rival))
}

#[derive(Debug)]
struct Ours {
    // The guests end before the backend.
    guests: Vec<Load>,
    _cluster: Cluster,
    pid: u32,
}

impl Ours {
    fn start(bench: &Bench, workers: u8) -> Result<Self> {
        let vms: Vec<VmPlan> =
            (0..workers).map(|n| VmPlan::new(&format!("vm-{n}"), 0, 11 + n)).collect();
        let plan = ClusterPlan {
            gateways: 0,
            workers: workers.into(),
            vms: vms.clone(),
            ..ClusterPlan::new(&format!("scale{workers}"), 1)
        };
        let mut cluster = Cluster::build(plan, &bench.binary)?;
        cluster.start()?;
        let pid = cluster.daemon_pid(0).unwrap_or_default();
        pin_process(pid, 0)?;
        pin_workers(pid)?;
        let nobody = queue::nobody()?;
        let mut guests = Vec::new();
        for (cpu, vm) in (u32::from(workers)..).zip(&vms) {
            let mut front = txonly(vm, &nobody, cpu, 64);
            front.connect_to(&cluster.vnic_socket(&vm.name));
            guests.push(Load::start(&front, &format!("{}-guest", vm.name), cluster.dir())?);
        }
        Ok(Self { guests, _cluster: cluster, pid })
    }
}

impl Contender for Ours {
    fn round(&mut self, times: Times) -> Result<Sample> {
        self.guests.iter_mut().try_for_each(Load::begin)?;
        thread::sleep(times.warm_up);
        for guest in &mut self.guests {
            guest.rates()?;
        }
        let before_us = processes_us(&[self.pid]);
        thread::sleep(times.window);
        let cpu_us = processes_us(&[self.pid]) - before_us;
        let mut pps = 0.0;
        for guest in &mut self.guests {
            pps += guest.rates()?.first().map_or(0.0, |port| port.tx_pps);
        }
        self.guests.iter_mut().try_for_each(Load::end)?;
        let frames = pps * times.window.as_secs_f64();
        Ok(Sample {
            values: vec![pps / 1e6],
            cpu_us_per_frame: (frames > 0.0).then(|| cpu_us / frames),
            facts: Vec::new(),
            events: Vec::new(),
        })
    }
}

/// Worker `n` to processor `n`.
fn pin_workers(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&path)
        .map_err(|source| Error::Io { what: format!("cannot read {path}"), source })?;
    for task in tasks.flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let number = name.trim().strip_prefix("worker-").and_then(|number| number.parse().ok());
        let thread = task.file_name().to_str().and_then(|thread| thread.parse().ok());
        if let (Some(number), Some(thread)) = (number, thread) {
            pin_thread(thread, number)?;
        }
    }
    Ok(())
}
