//! TCP between two namespaces: iperf3 on chosen processors, with what it cost.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use wireonce_qemu_tests::cluster::Cluster;
use wireonce_qemu_tests::iperf::wait_served;
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::process::{Process, run};
use wireonce_qemu_tests::{Error, Result};

use crate::case::Times;

/// iperf3's own port.
const PORT: u16 = 5201;
/// Time for a connection and the exchange of results, beside the test itself.
const GRACE: Duration = Duration::from_secs(20);
/// Bytes of what CPU time is reckoned for: a super-frame.
pub const UNIT_BYTES: f64 = 65_536.0;

/// An iperf3 that waits for tests; it sleeps between them.
#[derive(Debug)]
pub struct Server {
    _process: Process,
}

impl Server {
    /// Starts it in `netns` on processor `cpu`, or anywhere; its log goes to `dir`.
    ///
    /// # Errors
    /// It does not listen in time.
    pub fn start(netns: &Netns, cpu: Option<u32>, dir: &Path) -> Result<Self> {
        let mut command = iperf3(netns, cpu);
        command.args(["-s", "-p", &PORT.to_string()]);
        let process = Process::start(&format!("iperf3-{}", netns.name()), dir, &mut command)?;
        wait_served(&mut &*netns, PORT)?;
        Ok(Self { _process: process })
    }
}

/// An iperf3 in a VM's place that exchanges frames with the outside until both processes are dropped, or for
/// a minute: `how` are the client's options. No other load of the cluster may have had this port: a server
/// takes the first frame that comes for its client's, and some of a load that ended may still wait.
///
/// # Errors
/// One of them does not start.
pub fn keep_sending(
    cluster: &Cluster,
    end: &Netns,
    port: u16,
    how: &[&str],
) -> Result<[Process; 2]> {
    let (dir, mut outside) = (cluster.dir(), cluster.outside());
    let mut server = outside.command("iperf3");
    server.args(["-s", "-p", &port.to_string()]);
    let server = Process::start(&format!("iperf-server-{port}"), dir, &mut server)?;
    wait_served(&mut outside, port)?;
    let mut client = end.command("iperf3");
    client.args(["-c", &cluster.outside_address().to_string(), "-p", &port.to_string()]);
    client.args(["-t", "60"]).args(how);
    let client = Process::start(&format!("iperf-client-{port}"), dir, &mut client)?;
    Ok([client, server])
}

/// A test.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The server.
    pub to: IpAddr,
    /// Connections side by side.
    pub flows: u32,
    /// The server sends, not the client.
    pub reverse: bool,
}

/// What a test gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// What the receiver got, in bits per second.
    pub bps: f64,
    /// What the receiver got, in bytes.
    pub bytes: f64,
    /// Segments that were sent again.
    pub retransmits: f64,
    /// CPU time of both iperf3, with what the kernel did on their account, in microseconds.
    pub iperf_us: f64,
}

impl Seen {
    /// `cpu_us` for each 64 KiB that arrived.
    #[must_use]
    pub fn per_unit(&self, cpu_us: f64) -> Option<f64> {
        (self.bytes > 0.0).then(|| cpu_us * UNIT_BYTES / self.bytes)
    }

    /// How many processors `cpu_us` are for each 10 Gb/s.
    #[must_use]
    pub fn cores_per_10_gbps(&self, cpu_us: f64) -> Option<f64> {
        (self.bytes > 0.0).then(|| cpu_us / 1e6 / (self.bytes * 8.0 / 10e9))
    }
}

/// Runs a test from `netns` on processor `cpu`, as long as a round's window (in whole seconds).
///
/// # Errors
/// iperf3 fails or takes much longer than the test.
pub fn send(netns: &Netns, cpu: Option<u32>, load: Load, times: Times) -> Result<Seen> {
    let seconds = seconds(times);
    let mut command = iperf3(netns, cpu);
    // Cubic: a host whose default is BBR paces itself and hides what is measured.
    command.args(["-J", "-C", "cubic", "-c", &load.to.to_string()]);
    command.args(["-p", &PORT.to_string(), "-t", &seconds.to_string()]);
    command.args(["-P", &load.flows.to_string()]);
    if load.reverse {
        command.arg("-R");
    }
    parse(&run(&mut command, Duration::from_secs(seconds) + GRACE)?)
}

/// The window in whole seconds, at least one.
#[must_use]
pub fn seconds(times: Times) -> u64 {
    (times.window.as_millis().div_ceil(1000)).try_into().unwrap_or(1).max(1)
}

fn iperf3(netns: &Netns, cpu: Option<u32>) -> Command {
    let Some(cpu) = cpu else { return netns.command("iperf3") };
    let mut command = netns.command("taskset");
    command.args(["-c", &cpu.to_string(), "iperf3"]);
    command
}

fn parse(text: &str) -> Result<Seen> {
    let bad = |why: &str| Error::Unexpected(format!("iperf3: {why}"));
    let json: Value = serde_json::from_str(text).map_err(|e| bad(&format!("{e}: {text}")))?;
    if let Some(error) = json.get("error").and_then(Value::as_str) {
        return Err(bad(error));
    }
    let number = |path: &str| json.pointer(path).and_then(Value::as_f64);
    let needed = |path: &str| number(path).ok_or_else(|| bad(&format!("no {path} in its report")));
    let seconds = needed("/end/sum_received/seconds")?;
    let percent = number("/end/cpu_utilization_percent/host_total").unwrap_or(0.0)
        + number("/end/cpu_utilization_percent/remote_total").unwrap_or(0.0);
    Ok(Seen {
        bps: needed("/end/sum_received/bits_per_second")?,
        bytes: needed("/end/sum_received/bytes")?,
        retransmits: number("/end/sum_sent/retransmits").unwrap_or(0.0),
        iperf_us: percent / 100.0 * seconds * 1e6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_reckoned_for_what_arrived() {
        let text = r#"{"end": {"sum_sent": {"bits_per_second": 9e9, "retransmits": 7},
            "sum_received": {"bits_per_second": 8e9, "bytes": 2e9, "seconds": 2.0},
            "cpu_utilization_percent": {"host_total": 30.0, "remote_total": 20.0}}}"#;
        let seen = parse(text).unwrap();
        assert_eq!((seen.bps, seen.retransmits, seen.iperf_us), (8e9, 7.0, 1e6));
        assert_eq!(seen.per_unit(1e6), Some(32.768));
        assert_eq!(seen.cores_per_10_gbps(1e6), Some(0.625));
    }

    #[test]
    fn iperfs_own_error_is_passed_on() {
        let error = parse(r#"{"error": "unable to connect"}"#).unwrap_err().to_string();
        assert!(error.contains("unable to connect"), "{error}");
    }

    #[test]
    fn a_test_lasts_whole_seconds() {
        let times = |ms| Times { warm_up: Duration::ZERO, window: Duration::from_millis(ms) };
        assert_eq!([200, 1000, 1500].map(|ms| seconds(times(ms))), [1, 1, 2]);
    }
}
