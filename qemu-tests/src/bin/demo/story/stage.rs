//! The stage: hosts, controller, daemons, VMs.

use std::path::Path;
use std::time::{Duration, Instant};

use wireonce_qemu_tests::cluster::{Cluster, Plan, VmPlan};
use wireonce_qemu_tests::guest::{Accel, Guest, Image};
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::report::Report;
use wireonce_qemu_tests::{Error, Result};

use super::books::Ports;
use super::{LIMIT, SERVERS, Story, wait_home};
use crate::options::Options;
use crate::result::DemoResult;

/// How often the clock is looked at to see how calm the machine is, and how long it rests between.
const LOOKS: u32 = 400;
const REST: Duration = Duration::from_millis(1);
/// The profile `fast` leaves a home after 25 ms of silence: who is kept from the processor for half
/// as long while nothing runs yet, would leave homes that are well.
const CALM: Duration = Duration::from_millis(10);

impl<'a> Story<'a> {
    /// Namespaces, daemons, VMs.
    pub(crate) fn set_up(
        report: &'a Report,
        options: &'a Options,
        binary: &Path,
        seen: &mut DemoResult,
    ) -> Result<Self> {
        let image = report.step("guest image", || {
            let image = Image::ensure()?;
            let shown = image.kernel.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok::<_, Error>((image, shown))
        })?;
        let accel = report.step("accelerator", || {
            let accel = Accel::detect(&image)?;
            Ok::<_, Error>((accel, explain(accel).to_owned()))
        })?;
        seen.accel = Some(accel.name().to_owned());
        let failover = report.step("failover profile", || {
            let stall = longest_stall();
            let stall_ms = stall.as_secs_f64() * 1e3;
            let fits = if stall <= CALM { "fast" } else { "default" };
            let told = options.failover.as_deref();
            let shown = match told.unwrap_or(fits) {
                "fast" => "fast: a lost home is left after 25 ms of silence",
                _ => "default: a lost home is left after 250 ms of silence",
            };
            let why = if told.is_some() { ", as told" } else { "" };
            let shown = format!("{shown}{why} (longest stall here {stall_ms:.1} ms)");
            let profile = if told.unwrap_or(fits) == "fast" { "fast" } else { "default" };
            Ok::<_, Error>((profile, shown))
        })?;
        seen.failover_profile = Some(failover.to_owned());
        let mut cluster = report.step("hosts and fabric", || {
            let cluster = Cluster::build(plan(failover), binary)?;
            let names: Vec<_> = cluster.hosts().iter().map(|host| host.name.as_str()).collect();
            let shown = format!("{}, outside", names.join(", "));
            Ok::<_, Error>((cluster, shown))
        })?;
        report.step("controller and daemons", || {
            cluster.start()?;
            wait_links(&cluster)?;
            Ok::<_, Error>(((), "each host joined with a token: 2 backends, 2 gateways".to_owned()))
        })?;
        let ports = Ports::new(&cluster)?;
        let [vm_a, vm_b] = report.step("boot vm-a and vm-b", || boot(&cluster, &image, accel))?;
        Ok(Self { vm_a, vm_b, cluster, ports, report, options })
    }
}

/// Each VM has its home at one uplink and may go to the other.
fn plan(failover: &'static str) -> Plan {
    let vm = |name, server, number, home: usize| VmPlan {
        home,
        standbys: vec![1 - home],
        ..VmPlan::new(name, server, number)
    };
    Plan { gateways: 2, controlled: true, failover, ..Plan::new("demo", SERVERS) }
        .vm(vm("vm-a", 0, 11, 0))
        .vm(vm("vm-b", 1, 12, 1))
}

fn boot(cluster: &Cluster, image: &Image, accel: Accel) -> Result<([Guest; 2], String)> {
    let guests: [Guest; 2] = cluster
        .boot_guests(image, accel)?
        .try_into()
        .map_err(|_| Error::Unexpected("the plan has two VMs".to_owned()))?;
    for (server, name) in ["vm-a", "vm-b"].iter().enumerate() {
        wait_home(cluster, server, name, |_| true)?;
    }
    let [a, b] = guests.each_ref().map(|guest| guest.boot_time().as_secs_f64());
    Ok((guests, format!("{a:.1} s and {b:.1} s")))
}

/// Waits until every server has a link to every other host.
pub(super) fn wait_links(cluster: &Cluster) -> Result<()> {
    for (index, host) in cluster.hosts().iter().enumerate().take(SERVERS) {
        wait_until(&format!("links of {}", host.name), LIMIT, || {
            let links = cluster.status(index)?.links;
            let up = links.iter().filter(|link| link["state"] == "up").count();
            Ok((up == cluster.hosts().len() - 1).then_some(()))
        })?;
    }
    Ok(())
}

/// How late this process was at worst, of many short sleeps.
fn longest_stall() -> Duration {
    let late = |_| {
        let before = Instant::now();
        std::thread::sleep(REST);
        before.elapsed().saturating_sub(REST)
    };
    (0..LOOKS).map(late).max().unwrap_or_default()
}

fn explain(accel: Accel) -> &'static str {
    match accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg: no guest boots on KVM here, so QEMU translates (slow, but it works)",
    }
}
