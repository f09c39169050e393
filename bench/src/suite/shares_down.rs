//! `shares downwards`: how much of what an uplink carries towards the VMs is used by TCP.
//!
//! ```text
//!   [far end: iperf3 sends] ─ TAP ══ gateway, 1 Gbit/s downwards ── fabric ── backend ══ TAP ─ [end: iperf3]
//! ```
//! The gateway queues in front of the wire: it sends less than the wire carries, and marks or drops what
//! would wait for long. What counts is what the receivers got, with the headers that it had on the wire.

use wireonce_qemu_tests::Result;

use super::Plan;
use crate::bench::Bench;
use crate::case::{Case, Contender, Fact, Figure, Goal, Rival, Sample, Times};
use crate::machine::Sides;
use crate::tap_bed::{Setup, TapBed};
use crate::tcp::{Load, Server, send};

const DOWN: &str = "1Gbit";
const DOWN_BPS: f64 = 1e9;
const FLOWS: u32 = 4;
/// IP and TCP headers with a time stamp, of each segment.
const HEADERS: f64 = 52.0;
/// Ethernet header, FCS, preamble and gap.
const FRAMING: f64 = 38.0;

/// The case.
pub(super) fn plan() -> Plan {
    Plan::new("shares downwards", case)
}

fn case(bench: &Bench) -> Result<Case> {
    let goals = [Goal::AtLeast(93.0)];
    let peer = Rival::absent("none", "no peer divides an uplink between servers", &goals);
    let sides = Sides::default();
    let setup = Setup { down: Some(DOWN), ..Setup::default() };
    let bed = TapBed::start(bench, "shdown", setup, sides)?;
    let server = Server::start(bed.far()?, None, bench.dir())?;
    let ours = Downwards { _server: server, bed };
    Ok(Case::new("", "", ours)
        .figures(vec![Figure::new("utilisation", "% of the uplink")])
        .against(peer))
}

#[derive(Debug)]
struct Downwards {
    // Before the namespace that it is in.
    _server: Server,
    bed: TapBed,
}

impl Contender for Downwards {
    fn round(&mut self, times: Times) -> Result<Sample> {
        let before = self.bed.drops()?;
        let load = Load { to: self.bed.far_address(), flows: FLOWS, reverse: true };
        let sent = send(self.bed.end(0), None, load, times);
        let seen = self.bed.explain(sent)?;
        let mut facts = vec![Fact::new("segments sent again", seen.retransmits, "")];
        facts.extend(self.bed.drops()?.since(&before));
        let mtu = f64::from(self.bed.cluster().plan().network_mtu);
        let share = share_of_wire(seen.bps, mtu);
        Ok(Sample { values: vec![share * 100.0], facts, ..Sample::default() })
    }
}

/// Which part of the wire payload at `bps` takes, in full-size segments.
fn share_of_wire(bps: f64, mtu: f64) -> f64 {
    bps * (mtu + FRAMING) / (mtu - HEADERS) / DOWN_BPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_wire_carries_less_payload_than_it_has_bits() {
        assert!((share_of_wire(1e9 * 1_448.0 / 1_538.0, 1_500.0) - 1.0).abs() < 1e-9);
    }
}
