//! An uplink that is emptied while both VMs send.

use std::thread::sleep;
use std::time::{Duration, Instant};

use wireonce_qemu_tests::capture::now_us;
use wireonce_qemu_tests::{Error, Result};

use super::fault::{mac_of_a, watch};
use super::flow::{Arrivals, Flow, Load};
use super::{Story, typed, wait_home};
use crate::result::DemoResult;

const PORT_A: u16 = 5321;
const PORT_B: u16 = 5322;
/// How long datagrams are sent, and for how long before the drain.
const SEND_S: u32 = 8;
const BEFORE: Duration = Duration::from_millis(1_000);
/// What vm-b sends beside them, in megabits a second.
const B_SENDS: u32 = 100;
const LOOK_AT: &str = "`wireonce uplink drain UPLINK --wait` (with --keep) says for whom it waits; \
                       docs/control.md";

impl Story<'_> {
    /// Drains the uplink that vm-a uses; no datagram may be lost.
    pub(super) fn drain(&mut self, seen: &mut DemoResult) -> Result<()> {
        let Self { vm_a, vm_b, cluster, report, .. } = self;
        let home = wait_home(cluster, 0, "vm-a", |_| true)?;
        let words = ["uplink", "drain", &home, "--wait", "--timeout", "15s", "--as", "network"];
        Self::step(report, "a planned drain loses nothing", LOOK_AT, || {
            let capture = watch(cluster, PORT_A)?;
            let other = Flow::start(cluster, vm_b, PORT_B, Load::Paced(B_SENDS))?;
            let flow = Flow::start(cluster, vm_a, PORT_A, Load::Numbered(SEND_S))?;
            let connections = other.connections(vm_b)?;
            sleep(BEFORE);
            let (typed_us, began) = (now_us(), Instant::now());
            cluster.verb(&[&words[..], &["--reason", "new optics"]].concat())?;
            let took = began.elapsed().as_secs_f64();
            let mut homes = Vec::new();
            for (server, vnic) in ["vm-a", "vm-b"].iter().enumerate() {
                homes.push(wait_home(cluster, server, vnic, |now| now != home)?);
            }
            let kept = other.connections(vm_b)? == connections;
            let sent = flow.sent(vm_a)?;
            other.stop(vm_b)?;
            let told = Arrivals::of(&capture.stop()?, mac_of_a(cluster), sent, typed_us);
            seen.drain_lost = Some(told.lost);
            let Arrivals { lost, twice, silence_after_ms, .. } = told;
            if lost + twice > 0 || !kept {
                let connection = if kept { "lives" } else { "did not survive" };
                return Err(Error::Unexpected(format!(
                    "{lost} of {sent} datagrams lost, {twice} came out twice; vm-b's TCP {connection}"
                )));
            }
            let shown = format!(
                "{home} empty after {took:.1} s, VMs at {}: 0 of {sent} datagrams lost, none twice, \
                 longest gap {silence_after_ms:.1} ms",
                homes.join(" and ")
            );
            Ok(((), shown))
        })?;
        report.note(&typed(&words));
        Ok(())
    }
}
