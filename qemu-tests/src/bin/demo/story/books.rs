//! The ledgers close, the outside's ports have counted the same, and guests dropped nothing.

use std::time::Duration;

use serde_json::Value;
use wireonce_qemu_tests::cluster::{Books, Cluster};
use wireonce_qemu_tests::guest::Guest;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

use super::{LIMIT, SERVERS, Story};
use crate::result::DemoResult;

const LOOK_AT: &str = "`wireonce status` of the host (with --keep): LEDGER and DROPPED; docs/gateway.md, \
                       docs/drop-reasons.md";
/// Between two looks at a port, to see that nothing is on its way.
const REST: Duration = Duration::from_millis(50);

/// Packets and bytes out, then in.
type Counts = [u64; 4];

/// What the outside's ports and the gateways' books had counted when both began to be compared.
#[derive(Debug)]
pub(super) struct Ports {
    /// For each gateway.
    since: Vec<Pair>,
}

/// One wire, as its two ends counted: the kernel's port outside, and the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    port: Counts,
    booked: Counts,
}

impl Ports {
    /// From now on.
    pub(super) fn new(cluster: &Cluster) -> Result<Self> {
        let gateways = cluster.hosts().len() - SERVERS;
        let since: Result<_> = (0..gateways).map(|gateway| quiet(cluster, gateway)).collect();
        Ok(Self { since: since? })
    }

    /// A gateway's books began again: its daemon is another one.
    pub(super) fn begin_again(&mut self, cluster: &Cluster, host: usize) -> Result<()> {
        let gateway = host - SERVERS;
        if let Some(since) = self.since.get_mut(gateway) {
            *since = quiet(cluster, gateway)?;
        }
        Ok(())
    }

    /// Packets that both ends counted, which must be as many at both.
    fn agree(&self, cluster: &Cluster) -> Result<u64> {
        let mut packets = 0;
        for (gateway, since) in self.since.iter().enumerate() {
            let now = quiet(cluster, gateway)?;
            let wire = grown(since.port, now.port);
            let books = grown(since.booked, now.booked);
            if wire != books {
                let name = &cluster.host(SERVERS + gateway)?.name;
                return Err(Error::Unexpected(format!(
                    "the outside's port of {name} counted {wire:?}, its ledger {books:?} (packets and \
                     bytes out, then in)"
                )));
            }
            let [out, _, inward, _] = wire;
            packets += out + inward;
        }
        Ok(packets)
    }
}

impl Story<'_> {
    /// Before a gateway is killed, with all that it has booked.
    pub(super) fn check_ports(&self) -> Result<()> {
        Self::step(self.report, "ledgers agree with the ports", LOOK_AT, || {
            let packets = self.ports.agree(&self.cluster)?;
            Ok(((), format!("{packets} packets by the outside's ports, to the byte")))
        })
    }

    /// At the end.
    pub(super) fn close_books(&mut self, seen: &mut DemoResult) -> Result<()> {
        let Self { vm_a, vm_b, cluster, ports, report, .. } = self;
        Self::step(report, "no VM dropped a frame itself", LOOK_AT, || {
            let drops = qdisc_drops(vm_a)? + qdisc_drops(vm_b)?;
            seen.guest_qdisc_drops = Some(drops);
            Ok(((), format!("{drops} by `tc -s qdisc show dev eth0` in both")))
        })?;
        Self::step(report, "ledgers close", LOOK_AT, || {
            let Books { accounts, frames } = cluster.must_close()?;
            let shown = format!("{accounts} accounts, {frames} frames, none unaccounted for");
            Ok(((), shown))
        })?;
        Self::step(report, "and agree with the ports", LOOK_AT, || {
            let packets = ports.agree(cluster)?;
            Ok(((), format!("{packets} packets by the outside's ports since the last kill")))
        })?;
        seen.ledger_closed = true;
        Ok(())
    }
}

/// Both ends of a gateway's wire at a moment at which nothing is on its way.
fn quiet(cluster: &Cluster, gateway: usize) -> Result<Pair> {
    let mut last = None;
    wait_until("quiet on the uplink", LIMIT, || {
        let now = Pair { port: port(cluster, gateway)?, booked: booked(cluster, gateway)? };
        let quiet = last == Some(now);
        last = Some(now);
        std::thread::sleep(REST);
        Ok(quiet.then_some(now))
    })
}

/// By the kernel, at the port of the outside's bridge to that gateway.
fn port(cluster: &Cluster, gateway: usize) -> Result<Counts> {
    let text = cluster.outside().ip(&format!("-s -j link show to-gw{gateway}"))?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|error| Error::Unexpected(format!("ip -s -j: {error}: {text}")))?;
    let field = |field| json.pointer(&format!("/0/stats64/{field}")).and_then(Value::as_u64);
    let fields = ["rx/packets", "rx/bytes", "tx/packets", "tx/bytes"];
    Ok(fields.map(|name| field(name).unwrap_or(0)))
}

/// By the gateway's ledger: what left its uplink, less what it joined before the port, and what came.
fn booked(cluster: &Cluster, gateway: usize) -> Result<Counts> {
    let status = cluster.status(SERVERS + gateway)?;
    let rows = |stage: &'static str| status.ledger.iter().filter(move |row| row.stage == stage);
    let out = rows("uplink-tx").map(|row| (row.output.frames, row.output.bytes));
    let inward = rows("uplink-rx").map(|row| (row.input.frames, row.input.bytes));
    let sum = |(a, b): (u64, u64), (c, d): (u64, u64)| (a + c, b + d);
    let (out, inward) = (out.fold((0, 0), sum), inward.fold((0, 0), sum));
    let counter = |name: &str| status.counters.get(name).copied().unwrap_or(0);
    let (joined, headers) =
        (counter("uplink_frames_joined"), counter("uplink_joined_header_bytes"));
    Ok([out.0 - joined, out.1 - headers, inward.0, inward.1])
}

fn grown(before: Counts, after: Counts) -> Counts {
    std::array::from_fn(|at| {
        let (before, after) = (before.get(at), after.get(at));
        after.copied().unwrap_or(0).saturating_sub(before.copied().unwrap_or(0))
    })
}

/// What the guest's kernel dropped before its NIC.
fn qdisc_drops(guest: &mut Guest) -> Result<u64> {
    let text = guest.run("tc -s qdisc show dev eth0", LIMIT)?;
    parse_drops(&text)
        .ok_or_else(|| Error::Unexpected(format!("tc in the guest named no drops: {text}")))
}

/// The sum over all `(dropped N,` of `tc -s qdisc`; `None` without any.
fn parse_drops(text: &str) -> Option<u64> {
    let drops = text.split("(dropped ").skip(1);
    let drops: Option<Vec<u64>> = drops.map(|rest| rest.split(',').next()?.parse().ok()).collect();
    drops.filter(|drops| !drops.is_empty()).map(|drops| drops.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_all_queues_are_added() {
        let text = "qdisc mq 0: root\n Sent 1 bytes 1 pkt (dropped 3, overlimits 0 requeues 0)\n\
            qdisc pfifo_fast 0: parent :1\n Sent 1 bytes 1 pkt (dropped 4, overlimits 0)\n";
        assert_eq!(parse_drops(text), Some(7));
        assert_eq!(parse_drops("qdisc noqueue 0: root"), None);
    }

    #[test]
    fn growth_is_by_column() {
        assert_eq!(grown([1, 2, 3, 4], [1, 4, 6, 8]), [0, 2, 3, 4]);
    }
}
