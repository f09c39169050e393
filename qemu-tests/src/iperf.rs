//! TCP throughput by `iperf3`, between any two of: a namespace, a guest.
//!
//! Always with `-C cubic`: a host whose default is BBR paces itself and hides what is measured.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::netns::Netns;
use crate::process::wait_until;

/// Time for a connection and the exchange of results, beside the test itself.
const GRACE: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_secs(20);

/// A place where shell commands run.
pub trait Place {
    /// Runs a shell command line and returns what it wrote.
    ///
    /// # Errors
    /// It fails or takes longer than `limit`.
    fn shell(&mut self, line: &str, limit: Duration) -> Result<String>;
}

impl Place for Guest {
    fn shell(&mut self, line: &str, limit: Duration) -> Result<String> {
        self.run(line, limit)
    }
}

impl Place for &Netns {
    fn shell(&mut self, line: &str, limit: Duration) -> Result<String> {
        self.sh(line, limit)
    }
}

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The server's address.
    pub to: IpAddr,
    /// The server's port.
    pub port: u16,
    /// How long, in seconds.
    pub seconds: u32,
    /// TCP connections side by side.
    pub streams: u32,
}

impl Load {
    /// One stream for `seconds` to iperf3's own port.
    #[must_use]
    pub fn tcp(to: IpAddr, seconds: u32) -> Self {
        Self { to, port: 5201, seconds, streams: 1 }
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// What the receiver got, in megabits (10^6) per second.
    pub received_mbps: f64,
    /// Segments that the sender sent again.
    pub retransmits: u64,
}

/// Starts a server for one test at `place` and waits until it listens.
///
/// # Errors
/// It does not start.
pub fn serve(place: &mut impl Place, port: u16) -> Result<()> {
    place.shell(&format!("iperf3 -s -1 -p {port} >/dev/null 2>&1 </dev/null &"), LIMIT)?;
    wait_served(place, port)
}

/// Waits until something at `place` listens at the TCP port.
///
/// # Errors
/// Nothing does within 20 s.
pub fn wait_served(place: &mut impl Place, port: u16) -> Result<()> {
    // The kernel's table of sockets shows the listener without spending the one test.
    let wanted = format!(":{port:04X} ");
    wait_until("iperf3's server", LIMIT, || {
        let table = place.shell("cat /proc/self/net/tcp /proc/self/net/tcp6", LIMIT)?;
        Ok(table.lines().any(|line| is_listener(line, &wanted)).then_some(()))
    })
}

/// Sends from `client` to a server that [`serve`] started.
///
/// # Errors
/// iperf3 fails or takes much longer than the test.
pub fn send(client: &mut impl Place, load: Load) -> Result<Throughput> {
    let Load { to, port, seconds, streams } = load;
    let line = format!("iperf3 -J -C cubic -c {to} -p {port} -t {seconds} -P {streams}");
    let text = client.shell(&line, Duration::from_secs(seconds.into()) + GRACE)?;
    parse(&text)
}

/// Both: a server at `server`, then a test from `client`.
///
/// # Errors
/// As [`serve`] and [`send`].
pub fn measure(client: &mut impl Place, server: &mut impl Place, load: Load) -> Result<Throughput> {
    serve(server, load.port)?;
    send(client, load)
}

/// Is this line of `/proc/net/tcp` a listener (state 0A) on the port?
fn is_listener(line: &str, port: &str) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let local = fields.next().is_some_and(|local| local.ends_with(port.trim_end()));
    local && fields.nth(1) == Some("0A")
}

fn parse(text: &str) -> Result<Throughput> {
    let bad = |why: &str| Error::Unexpected(format!("iperf3: {why}"));
    let json: Value = serde_json::from_str(text).map_err(|e| bad(&format!("{e}: {text}")))?;
    if let Some(error) = json.get("error").and_then(Value::as_str) {
        return Err(bad(error));
    }
    let bits = json.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    let bits = bits.ok_or_else(|| bad("no sum_received in its report"))?;
    let retransmits = json.pointer("/end/sum_sent/retransmits").and_then(Value::as_u64);
    Ok(Throughput { received_mbps: bits / 1e6, retransmits: retransmits.unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receivers_rate_counts() {
        let text = r#"{"end": {"sum_sent": {"bits_per_second": 9e9, "retransmits": 7},
            "sum_received": {"bits_per_second": 2.5e9}}}"#;
        let seen = parse(text).unwrap();
        assert_eq!(seen, Throughput { received_mbps: 2500.0, retransmits: 7 });
    }

    #[test]
    fn iperfs_own_error_is_passed_on() {
        let error = parse(r#"{"error": "unable to connect"}"#).unwrap_err().to_string();
        assert!(error.contains("unable to connect"), "{error}");
    }

    #[test]
    fn a_listener_is_told_from_a_connection() {
        let listen = "   0: 00000000:1451 00000000:0000 0A 00000000:00000000 00:00000000";
        let open = "   1: 0100007F:1451 0100007F:9C40 01 00000000:00000000 00:00000000";
        assert!(is_listener(listen, ":1451 "));
        assert!(!is_listener(open, ":1451 "));
        assert!(!is_listener(listen, ":1452 "));
    }
}
