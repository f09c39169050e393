//! A gateway that is killed while a VM sends a datagram each millisecond.

use std::thread::sleep;
use std::time::Duration;

use wireonce_qemu_tests::capture::{Capture, now_us};
use wireonce_qemu_tests::cluster::Cluster;
use wireonce_qemu_tests::{Error, Result};

use super::flow::{Arrivals, Flow, Load};
use super::{OUTSIDE_INTERFACE, Story, gateway_of, wait_home};
use crate::result::DemoResult;

const PORT: u16 = 5311;
/// A gap that is longer was no failover, on however slow a machine.
const GAP_MAX_MS: f64 = 1_000.0;
/// How long datagrams are sent, and for how long before the kill.
const SEND_S: u32 = 4;
const BEFORE: Duration = Duration::from_millis(1_500);
const LOOK_AT: &str = "the log of server-a below (`home`), docs/faults.md";

impl Story<'_> {
    /// Kills the gateway that vm-a uses, and tells how long nothing of vm-a's arrived outside.
    pub(super) fn fault(&mut self, seen: &mut DemoResult) -> Result<()> {
        let Self { vm_a, cluster, ports, report, .. } = self;
        let gateway = Self::step(report, "kill -9 of vm-a's gateway", LOOK_AT, || {
            let capture = watch(cluster, PORT)?;
            let flow = Flow::start(cluster, vm_a, PORT, Load::Numbered(SEND_S))?;
            sleep(BEFORE);
            let home = wait_home(cluster, 0, "vm-a", |_| true)?;
            let gateway = gateway_of(&home)?;
            let killed_us = now_us();
            cluster.kill_daemon(gateway)?;
            let other = wait_home(cluster, 0, "vm-a", |now| now != home)?;
            let sent = flow.sent(vm_a)?;
            let told = Arrivals::of(&capture.stop()?, mac_of_a(cluster), sent, killed_us);
            seen.failover_gap_ms = Some(told.silence_after_ms);
            let Arrivals { lost, twice, silence_before_ms, silence_after_ms, .. } = told;
            if twice > 0 {
                return Err(Error::Unexpected(format!("{twice} datagrams came out twice")));
            }
            if silence_after_ms > GAP_MAX_MS {
                let text = format!("nothing of vm-a's came out for {silence_after_ms:.0} ms");
                return Err(Error::Unexpected(text));
            }
            let name = &cluster.host(gateway)?.name;
            let shown = format!(
                "{name} gone, vm-a at {other} after a gap of {silence_after_ms:.1} ms (longest before: \
                 {silence_before_ms:.1} ms), {lost} of {sent} datagrams lost"
            );
            Ok((gateway, shown))
        })?;
        Self::step(report, "the gateway comes back", LOOK_AT, || {
            cluster.start_daemon(gateway)?;
            super::stage::wait_links(cluster)?;
            ports.begin_again(cluster, gateway)?;
            Ok(((), "with what it knew last; nobody goes back by himself".to_owned()))
        })
    }
}

/// Sees numbered datagrams arrive outside.
pub(super) fn watch(cluster: &Cluster, port: u16) -> Result<Capture> {
    let filter = format!("udp and dst port {port}");
    Capture::start(cluster.dir(), cluster.outside(), OUTSIDE_INTERFACE, &filter)
}

/// The address that vm-a's frames come from.
pub(super) fn mac_of_a(cluster: &Cluster) -> [u8; 6] {
    cluster.plan().vms.first().map(|vm| vm.mac_bytes()).unwrap_or_default()
}
