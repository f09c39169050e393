//! VMs reach the outside and each other, as fast as this machine carries it: nobody has said yet
//! what uplinks carry, so nothing is shaped.

use std::time::Duration;

use wireonce_qemu_tests::iperf::{self, Load};
use wireonce_qemu_tests::netns::{median, parse_ping};
use wireonce_qemu_tests::{Error, Result};

use super::Story;
use crate::result::DemoResult;

/// How long each throughput test sends.
const LOAD_S: u32 = 3;
const PINGS: usize = 20;
const LOOK_AT: &str = "the daemons' logs below; `--keep` leaves it all running";

impl Story<'_> {
    /// Ping, and throughput three ways.
    pub(super) fn basics(&mut self, seen: &mut DemoResult) -> Result<()> {
        let Self { vm_a, vm_b, cluster, report, .. } = self;
        let outside = cluster.outside_address();
        let (to_a, to_b) = (cluster.vm_address("vm-a")?, cluster.vm_address("vm-b")?);
        let ping = Self::step(report, "ping vm-a -> outside", LOOK_AT, || {
            cluster.wait_answer(vm_a, outside)?;
            let line = format!("ping -c {PINGS} -i 0.1 -W 2 {outside}");
            let times = parse_ping(&vm_a.try_run(&line, Duration::from_secs(60))?.output);
            let middle = median(&times)
                .filter(|_| times.len() == PINGS)
                .ok_or_else(|| Error::Unexpected(format!("{} of {PINGS} answered", times.len())))?;
            let shown = format!("{} of {PINGS} answered, median {middle:.3} ms", times.len());
            Ok((middle, shown))
        })?;
        seen.ping_ms_median = Some(ping);

        let load = |name: &str, run: &mut dyn FnMut() -> Result<iperf::Throughput>| {
            Self::step(report, name, LOOK_AT, || {
                let seen = run()?;
                let rate = seen.received_mbps;
                Ok((rate, format!("{rate:.0} Mb/s, {} re-sent", seen.retransmits)))
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
        Ok(())
    }
}
