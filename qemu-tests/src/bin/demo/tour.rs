//! The demo's steps: set up, measure, look around.

use std::path::PathBuf;
use std::time::Duration;

use wireonce_qemu_tests::cluster::{Books, Cluster, Plan, VmPlan};
use wireonce_qemu_tests::guest::{Accel, Guest, Image};
use wireonce_qemu_tests::iperf::{self, Load};
use wireonce_qemu_tests::netns::{median, parse_ping};
use wireonce_qemu_tests::report::Report;
use wireonce_qemu_tests::{Error, Result};

use crate::options::Options;
use crate::result::DemoResult;

/// How long each throughput test sends.
const LOAD_S: u32 = 5;
const PINGS: usize = 20;

/// The demo under way. Fields end in this order: VMs before what carries them.
#[derive(Debug)]
pub(crate) struct Tour<'a> {
    vm_a: Option<Guest>,
    vm_b: Option<Guest>,
    cluster: Option<Cluster>,
    report: &'a Report,
    options: &'a Options,
    binary: PathBuf,
}

impl<'a> Tour<'a> {
    pub(crate) fn new(report: &'a Report, options: &'a Options, binary: PathBuf) -> Self {
        Self { vm_a: None, vm_b: None, cluster: None, report, options, binary }
    }

    /// Namespaces, daemons, VMs.
    pub(crate) fn set_up(&mut self, seen: &mut DemoResult) -> Result<()> {
        let report = self.report;
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

        let plan =
            Plan::new("demo", 2).vm(VmPlan::new("vm-a", 0, 11)).vm(VmPlan::new("vm-b", 1, 12));
        let cluster = report.step("hosts and fabric", || {
            let cluster = Cluster::build(plan, &self.binary)?;
            let names: Vec<_> = cluster.hosts().iter().map(|host| host.name.as_str()).collect();
            let shown = format!("{}, outside", names.join(", "));
            Ok::<_, Error>((cluster, shown))
        })?;
        let cluster = self.cluster.insert(cluster);
        report.step("wireonce daemons", || {
            cluster.start()?;
            Ok::<_, Error>(((), "2 x backend, 1 x gateway".to_owned()))
        })?;
        let (vm_a, vm_b) = report.step("boot vm-a and vm-b", || {
            let guests = cluster.boot_guests(&image, accel)?;
            let [a, b]: [Guest; 2] = guests
                .try_into()
                .map_err(|_| Error::Unexpected("the plan has two VMs".to_owned()))?;
            let shown = format!(
                "{:.1} s and {:.1} s",
                a.boot_time().as_secs_f64(),
                b.boot_time().as_secs_f64()
            );
            Ok::<_, Error>(((a, b), shown))
        })?;
        self.vm_a = Some(vm_a);
        self.vm_b = Some(vm_b);
        Ok(())
    }

    /// Ping, throughput three ways, ledgers.
    pub(crate) fn measure(&mut self, seen: &mut DemoResult) -> Result<()> {
        let report = self.report;
        let (Some(vm_a), Some(vm_b), Some(cluster)) =
            (self.vm_a.as_mut(), self.vm_b.as_mut(), self.cluster.as_mut())
        else {
            return Err(Error::Unexpected("the demo is not set up".to_owned()));
        };
        let outside = cluster.outside_address();
        let (to_a, to_b) = (cluster.vm_address("vm-a")?, cluster.vm_address("vm-b")?);

        let ping = report.step("ping vm-a -> outside", || {
            cluster.wait_answer(vm_a, outside)?;
            let line = format!("ping -c {PINGS} -i 0.1 -W 2 {outside}");
            let times = parse_ping(&vm_a.try_run(&line, Duration::from_secs(60))?.output);
            let middle = median(&times)
                .filter(|_| times.len() == PINGS)
                .ok_or_else(|| Error::Unexpected(format!("{} of {PINGS} answered", times.len())))?;
            let shown = format!("{} of {PINGS} answered, median {middle:.3} ms", times.len());
            Ok::<_, Error>((middle, shown))
        })?;
        seen.ping_ms_median = Some(ping);

        let load = |name: &str, run: &mut dyn FnMut() -> Result<iperf::Throughput>| {
            report.step(name, || {
                let seen = run()?;
                let rate = seen.received_mbps;
                Ok::<_, Error>((rate, format!("{rate:.0} Mb/s, {} re-sent", seen.retransmits)))
            })
        };
        seen.guest_to_outside_mbps = Some(load("TCP vm-a -> outside", &mut || {
            iperf::measure(vm_a, &mut cluster.outside(), Load::tcp(outside, LOAD_S))
        })?);
        seen.outside_to_guest_mbps = Some(load("TCP outside -> vm-a", &mut || {
            iperf::measure(&mut cluster.outside(), vm_a, Load::tcp(to_a, LOAD_S))
        })?);
        seen.vm_to_vm_mbps = Some(load("TCP vm-a -> vm-b", &mut || {
            iperf::measure(vm_a, vm_b, Load::tcp(to_b, LOAD_S))
        })?);

        let outcome = report.step("ledgers close", || {
            let Books { accounts, frames } = cluster.must_close()?;
            let shown = format!("{accounts} accounts, {frames} frames, none unaccounted for");
            Ok::<_, Error>(((), shown))
        });
        if self.options.verbose || outcome.is_err() {
            report.note(&cluster.all_logs());
        }
        outcome?;
        seen.ledger_closed = true;
        Ok(())
    }

    /// Tells how to look around and waits for Enter.
    pub(crate) fn keep(&mut self) -> Result<()> {
        let Some(cluster) = self.cluster.as_ref() else { return Ok(()) };
        let io = |source| Error::Io { what: "standard input".to_owned(), source };
        let this = std::env::current_exe().map_err(io)?;
        let outside = cluster.outside().name();
        self.report.title("Everything keeps running. In another terminal, as root:");
        println!("  a shell in a VM (Ctrl-] leaves):");
        for vm in &cluster.plan().vms {
            let console = cluster.console_socket(&vm.name);
            println!("    {} --console {}", this.display(), console.display());
        }
        println!("  the outside, then try `ping 192.0.2.11` or `iperf3 -s`:");
        println!("    ip netns exec {outside} sh");
        println!("  a host, its books and its configuration:");
        for host in cluster.hosts() {
            let (socket, config) = (cluster.control_socket(host), cluster.config_path(host));
            println!("    ip netns exec {} sh", host.netns.name());
            println!("    {} status --socket {}", self.binary.display(), socket.display());
            println!("    less {}", config.display());
        }
        println!("\nEnter or Ctrl-C ends the demo and removes everything.");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map_err(io)?;
        Ok(())
    }
}

fn explain(accel: Accel) -> &'static str {
    match accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg: no guest boots on KVM here, so QEMU translates (slow, but it works)",
    }
}
