//! Traffic of a VM to the outside that runs beside the story: `iperf3` in the guest.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::time::Duration;

use serde_json::Value;
use wireonce_qemu_tests::capture::Seen;
use wireonce_qemu_tests::cluster::Cluster;
use wireonce_qemu_tests::guest::Guest;
use wireonce_qemu_tests::iperf;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

use super::LIMIT;

/// So many bytes a datagram at so many bits a second are one each millisecond.
const DATAGRAM_LEN: u32 = 125;
const DATAGRAM_RATE: &str = "1M";
/// Ethernet, IPv4 and UDP.
const HEADERS: u32 = 42;

/// What a guest sends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Load {
    /// TCP as fast as it may.
    Tcp,
    /// TCP of so many megabits a second.
    Paced(u32),
    /// A numbered datagram each millisecond, for so many seconds.
    Numbered(u32),
}

/// An `iperf3` in a guest.
#[derive(Debug)]
pub(super) struct Flow {
    port: u16,
    load: Load,
}

impl Flow {
    /// Starts to send to a server at a port of the outside; the port is used once.
    pub(super) fn start(
        cluster: &Cluster,
        guest: &mut Guest,
        port: u16,
        load: Load,
    ) -> Result<Self> {
        iperf::serve(&mut cluster.outside(), port)?;
        let how = match load {
            Load::Tcp => "-C cubic -t 120".to_owned(),
            Load::Paced(mbit) => format!("-C cubic -t 120 -b {mbit}M"),
            Load::Numbered(seconds) => {
                format!("-u -l {DATAGRAM_LEN} -b {DATAGRAM_RATE} -t {seconds}")
            }
        };
        let to = cluster.outside_address();
        let flow = Self { port, load };
        let (said, pid) = (flow.file("json"), flow.file("pid"));
        let send = format!("iperf3 -J -c {to} -p {port} {how} >{said} 2>&1 </dev/null");
        guest.run(&format!("{send} & echo $! >{pid}"), LIMIT)?;
        wait_until("a connection of iperf3", LIMIT, || {
            let is_open = !flow.connections(guest)?.is_empty();
            Ok(is_open.then_some(()))
        })
        .map_err(|error| flow.failed(guest, &error))?;
        Ok(flow)
    }

    /// The guest's ports of its TCP connections to the server: the same ports, the same connections.
    pub(super) fn connections(&self, guest: &mut Guest) -> Result<BTreeSet<String>> {
        let table = guest.run("cat /proc/net/tcp", LIMIT)?;
        Ok(connections_to(&table, self.port))
    }

    /// Ends it at once.
    pub(super) fn stop(self, guest: &mut Guest) -> Result<()> {
        guest.run(&format!("kill -9 $(cat {})", self.file("pid")), LIMIT).map(drop)
    }

    /// Waits for its end and returns how many datagrams it sent.
    pub(super) fn sent(&self, guest: &mut Guest) -> Result<u64> {
        let Load::Numbered(seconds) = self.load else {
            return Err(Error::Unexpected("only datagrams are counted".to_owned()));
        };
        let limit = LIMIT + Duration::from_secs(seconds.into());
        let line = format!("cat {}", self.file("json"));
        let said = wait_until("the end of iperf3", limit, || {
            let said: Option<Value> = serde_json::from_str(&guest.run(&line, LIMIT)?).ok();
            Ok(said)
        })
        .map_err(|error| self.failed(guest, &error))?;
        let sent = said.pointer("/end/sum/packets").and_then(Value::as_u64);
        sent.filter(|sent| *sent > 0).ok_or_else(|| {
            let error = said.get("error").and_then(Value::as_str).unwrap_or("no report");
            Error::Unexpected(format!("iperf3 in the guest: {error}"))
        })
    }

    fn file(&self, kind: &str) -> String {
        format!("/tmp/flow-{}.{kind}", self.port)
    }

    fn failed(&self, guest: &mut Guest, error: &Error) -> Error {
        let said = guest.run(&format!("cat {}", self.file("json")), LIMIT).unwrap_or_default();
        Error::Unexpected(format!("{error}; iperf3 in the guest said: {said}"))
    }
}

/// The local ports of connections to `port` in `/proc/net/tcp`, in hexadecimal.
fn connections_to(table: &str, port: u16) -> BTreeSet<String> {
    /// The state of a connection that is open.
    const ESTABLISHED: &str = "01";
    let wanted = format!(":{port:04X}");
    let local = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = remote.ends_with(&wanted) && state == ESTABLISHED;
        local.rsplit_once(':').filter(|_| is_it).map(|(_, port)| port.to_owned())
    };
    table.lines().filter_map(local).collect()
}

/// What became of numbered datagrams, by those that were seen outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Arrivals {
    /// How many were sent.
    pub(super) sent: u64,
    /// Numbers that never arrived.
    pub(super) lost: u64,
    /// Numbers that arrived more than once.
    pub(super) twice: u64,
    /// The longest silence before and after the moment that counts, in milliseconds.
    pub(super) silence_before_ms: f64,
    pub(super) silence_after_ms: f64,
}

impl Arrivals {
    /// Of `sent` datagrams numbered from 1, with something that happened at `moment_us`. A silence
    /// counts as one after the moment if it lasted then.
    pub(super) fn of(seen: &[Seen], mac: [u8; 6], sent: u64, moment_us: u64) -> Self {
        let mine = |frame: &&Seen| frame.source_mac == mac;
        let mine: Vec<_> = seen.iter().filter(mine).filter_map(|it| carried(it, sent)).collect();
        let arrived: u64 = mine.iter().map(|(_, numbers)| numbers.end - numbers.start).sum();
        let numbers: HashSet<u64> = mine.iter().flat_map(|(_, numbers)| numbers.clone()).collect();
        let twice = arrived - numbers.len() as u64;
        let silences = mine.iter().zip(mine.iter().skip(1)).map(|((a, _), (b, _))| (*a, *b));
        let (mut before, mut after) = (0, 0);
        for (from_us, until_us) in silences {
            let longest = if until_us <= moment_us { &mut before } else { &mut after };
            *longest = until_us.saturating_sub(from_us).max(*longest);
        }
        Self {
            sent,
            lost: sent.saturating_sub(numbers.len() as u64),
            twice,
            silence_before_ms: before as f64 / 1e3,
            silence_after_ms: after as f64 / 1e3,
        }
    }
}

/// When a frame came, and the numbers of the datagrams in it: the gateway joins those that wait together,
/// one after the other, into one large frame for its port, whose first number is seen.
fn carried(frame: &Seen, sent: u64) -> Option<(u64, Range<u64>)> {
    let payload = frame.len.checked_sub(HEADERS)?;
    let count = payload / DATAGRAM_LEN;
    let first = u64::from(frame.iperf_number);
    let is_one = count > 0 && payload.is_multiple_of(DATAGRAM_LEN) && (1..=sent).contains(&first);
    is_one.then(|| (frame.at_us, first..first + u64::from(count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn seen(at_us: u64, iperf_number: u32) -> Seen {
        Seen { at_us, source_mac: MAC, len: HEADERS + DATAGRAM_LEN, number: 0, iperf_number }
    }

    #[test]
    fn silences_losses_and_copies_are_told_from_what_arrived() {
        let other = Seen { source_mac: [9; 6], ..seen(5_100, 6) };
        let greeting = Seen { len: HEADERS + 4, ..seen(0, 1) };
        let joined = Seen { len: HEADERS + 3 * DATAGRAM_LEN, ..seen(41_500, 8) };
        let all = [
            greeting,
            seen(1_000, 1),
            seen(2_000, 2),
            seen(5_000, 3),
            other,
            seen(40_000, 7),
            seen(41_000, 7),
            joined,
            // Not one of those that were sent.
            seen(99_000, 900),
        ];
        let told = Arrivals::of(&all, MAC, 10, 6_000);
        let (lost, twice) = (3, 1);
        let (silence_before_ms, silence_after_ms) = (3.0, 35.0);
        assert_eq!(told, Arrivals { sent: 10, lost, twice, silence_before_ms, silence_after_ms });
    }

    #[test]
    fn nothing_that_arrives_is_everything_lost() {
        let told = Arrivals::of(&[], MAC, 5, 0);
        assert_eq!((told.lost, told.twice), (5, 0));
    }

    #[test]
    fn only_open_connections_to_the_server_count() {
        let table = "  sl  local_address rem_address   st\n\
            0: 0B0200C0:D431 010200C0:14B5 01 00000000:00000000\n\
            1: 0B0200C0:D432 010200C0:14B5 06 00000000:00000000\n\
            2: 0B0200C0:D433 010200C0:14B6 01 00000000:00000000\n\
            3: 00000000:14B5 00000000:0000 0A 00000000:00000000\n";
        assert_eq!(connections_to(table, 5301), BTreeSet::from(["D431".to_owned()]));
    }
}
