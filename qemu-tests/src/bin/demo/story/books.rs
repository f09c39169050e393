//! The ledgers close, the outside's ports have counted the same, and guests dropped nothing.

use std::ops::RangeInclusive;
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

/// Bytes of a gateway's probe of another uplink (docs/gateway.md): it is in no book, for it is nobody's.
const PROBE_LEN: RangeInclusive<u64> = 60..=200;

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
    /// Probes that came in: by the gateway's counters.
    probes: u64,
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

    /// What both ends counted, which must be the same at both.
    fn agree(&self, cluster: &Cluster) -> Result<Agreed> {
        let mut agreed = Agreed::default();
        for (gateway, since) in self.since.iter().enumerate() {
            let now = quiet(cluster, gateway)?;
            let add = compare(since, &now).map_err(|differ| {
                let host = cluster.host(SERVERS + gateway);
                let name = host.map(|host| host.name.clone()).unwrap_or_default();
                Error::Unexpected(format!("{name}: {differ}"))
            })?;
            agreed.packets += add.packets;
            agreed.bytes += add.bytes;
            agreed.probes += add.probes;
        }
        Ok(agreed)
    }
}

/// What both ends of the wires counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Agreed {
    packets: u64,
    bytes: u64,
    /// Beside them, which only the ports counted.
    probes: u64,
}

impl Agreed {
    fn shown(&self) -> String {
        let Self { packets, bytes, probes } = self;
        format!("{packets} packets, {bytes} bytes at both ends, and {probes} probes of gateways")
    }
}

/// Out, both ends counted the same; in, too, but for the probes.
fn compare(since: &Pair, now: &Pair) -> Result<Agreed, String> {
    let [out, out_bytes, inward, in_bytes] = grown(since.port, now.port);
    let books = grown(since.booked, now.booked);
    let probes = now.probes.saturating_sub(since.probes);
    let beside = in_bytes.saturating_sub(books[3]);
    let is_probes = (probes * PROBE_LEN.start()..=probes * PROBE_LEN.end()).contains(&beside);
    if books[..3] == [out, out_bytes, inward.saturating_sub(probes)] && is_probes {
        let (packets, bytes) = (books[0] + books[2], books[1] + books[3]);
        return Ok(Agreed { packets, bytes, probes });
    }
    let wire = [out, out_bytes, inward, in_bytes];
    Err(format!(
        "the outside's port counted {wire:?}, the ledger {books:?} and {probes} probes (packets and \
         bytes out, then in)"
    ))
}

impl Story<'_> {
    /// Before a gateway is killed, with all that it has booked.
    pub(super) fn check_ports(&self) -> Result<()> {
        Self::step(self.report, "ledgers agree with the ports", LOOK_AT, || {
            Ok(((), self.ports.agree(&self.cluster)?.shown()))
        })
    }

    /// At the end.
    pub(super) fn close_books(&mut self, seen: &mut DemoResult) -> Result<()> {
        let Self { vm_a, vm_b, cluster, ports, report, .. } = self;
        Self::step(report, "no VM dropped a frame itself", LOOK_AT, || {
            let drops = qdisc_drops(vm_a)? + qdisc_drops(vm_b)?;
            seen.guest_qdisc_drops = Some(drops);
            if drops > 0 {
                let text = format!("{drops} frames were dropped inside the VMs, before their NICs");
                return Err(Error::Unexpected(text));
            }
            Ok(((), format!("{drops} by `tc -s qdisc show dev eth0` in both")))
        })?;
        Self::step(report, "ledgers close", LOOK_AT, || {
            let Books { accounts, frames } = cluster.must_close()?;
            let shown = format!("{accounts} accounts, {frames} frames, none unaccounted for");
            Ok(((), shown))
        })?;
        Self::step(report, "and agree with the ports", LOOK_AT, || {
            Ok(((), ports.agree(cluster)?.shown()))
        })?;
        seen.ledger_closed = true;
        Ok(())
    }
}

/// Both ends of a gateway's wire at a moment at which nothing is on its way.
fn quiet(cluster: &Cluster, gateway: usize) -> Result<Pair> {
    let mut last = None;
    wait_until("quiet on the uplink", LIMIT, || {
        let port = port(cluster, gateway)?;
        let (booked, probes) = booked(cluster, gateway)?;
        let now = Pair { port, booked, probes };
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
/// And how many probes came.
fn booked(cluster: &Cluster, gateway: usize) -> Result<(Counts, u64)> {
    let status = cluster.status(SERVERS + gateway)?;
    let rows = |stage: &'static str| status.ledger.iter().filter(move |row| row.stage == stage);
    let out = rows("uplink-tx").map(|row| (row.output.frames, row.output.bytes));
    let inward = rows("uplink-rx").map(|row| (row.input.frames, row.input.bytes));
    let sum = |(a, b): (u64, u64), (c, d): (u64, u64)| (a + c, b + d);
    let (out, inward) = (out.fold((0, 0), sum), inward.fold((0, 0), sum));
    let counter = |name: &str| status.counters.get(name).copied().unwrap_or(0);
    let (joined, headers) =
        (counter("uplink_frames_joined"), counter("uplink_joined_header_bytes"));
    let is_received = |name: &str| name.starts_with("probe_") && name != "probe_sent";
    let probes =
        status.counters.iter().filter(|(name, _)| is_received(name)).map(|(_, count)| count);
    let booked = [out.0 - joined, out.1 - headers, inward.0, inward.1];
    Ok((booked, probes.sum()))
}

fn grown(before: Counts, after: Counts) -> Counts {
    std::array::from_fn(|at| after[at].saturating_sub(before[at]))
}

/// What the guest's kernel dropped before its NIC. By its path: busybox has a `tc` that counts nothing.
fn qdisc_drops(guest: &mut Guest) -> Result<u64> {
    let text = guest.run("/bin/tc -s qdisc show dev eth0", LIMIT)?;
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
    fn both_ends_must_count_the_same_but_for_probes() {
        let since = Pair { port: [1, 60, 5, 300], booked: [1, 60, 4, 240], probes: 1 };
        let now = Pair { port: [11, 1_060, 27, 1_384], booked: [11, 1_060, 24, 1_156], probes: 3 };
        let agreed = Agreed { packets: 30, bytes: 1_916, probes: 2 };
        assert_eq!(compare(&since, &now), Ok(agreed));
        let wrong = [
            Pair { port: [12, 1_060, 27, 1_384], ..now },
            Pair { port: [11, 1_061, 27, 1_384], ..now },
            Pair { port: [11, 1_060, 28, 1_384], ..now },
            Pair { port: [11, 1_060, 27, 1_984], ..now },
            Pair { probes: 2, ..now },
        ];
        for now in wrong {
            let error = compare(&since, &now).unwrap_err();
            assert!(error.contains("probes"), "{error}");
        }
    }
}
