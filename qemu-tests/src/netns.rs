//! Hosts as network namespaces: made, joined by veth pairs, removed.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::process::{Output, describe, output, run};
use crate::watchdog;

/// Setting up one thing takes milliseconds; on a loaded machine, more.
const LIMIT: Duration = Duration::from_secs(20);

/// The name of a host's interface on the fabric.
pub const FABRIC_INTERFACE: &str = "fabric0";

/// One network namespace, `wo-TAG-PID-NAME`; dropping it kills what runs in it and removes it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes the namespace with its loopback up.
    ///
    /// # Errors
    /// No right to do so, or `ip` is missing.
    pub fn new(tag: &str, name: &str) -> Result<Self> {
        let full = format!("wo-{tag}-{}-{name}", std::process::id());
        watchdog::watch_netns(&full)?;
        ip(&["netns", "add", &full])?;
        let netns = Self { name: full };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The name under which `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in this namespace, with a `/sys` that shows its interfaces. Its
    /// process id is the command's own: nothing stays between.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a shell command line in this namespace and returns its standard output.
    ///
    /// # Errors
    /// It fails or takes longer than `limit`.
    pub fn sh(&self, line: &str, limit: Duration) -> Result<String> {
        run(self.command("sh").args(["-c", line]), limit)
    }

    /// Runs a shell command line in this namespace, whatever its exit status.
    ///
    /// # Errors
    /// It cannot start or takes longer than `limit`.
    pub fn try_sh(&self, line: &str, limit: Duration) -> Result<Output> {
        output(self.command("sh").args(["-c", line]), limit)
    }

    /// Runs `ip ARGS` in this namespace; arguments are separated by blanks.
    ///
    /// # Errors
    /// It fails.
    pub fn ip(&self, args: &str) -> Result<String> {
        let mut words = vec!["-n", &self.name];
        words.extend(args.split_whitespace());
        ip(&words)
    }

    /// Adds an address with its prefix length to an interface. IPv6 addresses skip duplicate address
    /// detection: they are usable at once.
    ///
    /// # Errors
    /// `ip` refuses it.
    pub fn add_address(&self, interface: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        self.ip(&format!("addr add {address}/{prefix} dev {interface}{nodad}")).map(drop)
    }

    /// Sets an interface's offloads.
    ///
    /// # Errors
    /// `ethtool` refuses it.
    pub fn set_offloads(&self, interface: &str, offloads: &Offloads) -> Result<()> {
        if offloads.is_default() {
            return Ok(());
        }
        let mut command = self.command("ethtool");
        command.args(["-K", interface]);
        for (name, on) in offloads.settings() {
            command.args([name, if on { "on" } else { "off" }]);
        }
        run(&mut command, LIMIT).map(drop)
    }

    /// The time that a ping from here took, for `count` of them, in milliseconds; unanswered ones
    /// are left out.
    ///
    /// # Errors
    /// `ping` cannot run.
    pub fn ping(&self, to: IpAddr, count: u32) -> Result<Vec<f64>> {
        let line = format!("busybox ping -c {count} -i 0.05 -W 2 {to}");
        let limit = Duration::from_secs(u64::from(count) * 3);
        Ok(parse_ping(&self.try_sh(&line, limit)?.stdout))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // What still runs in it would keep it alive without its name.
        if let Ok(pids) = ip(&["netns", "pids", &self.name]) {
            for pid in pids.split_whitespace() {
                let _gone = run(Command::new("kill").args(["-KILL", pid]), LIMIT);
            }
        }
        if ip(&["netns", "del", &self.name]).is_ok() {
            watchdog::forget_netns(&self.name);
        }
    }
}

/// Offloads of a veth end: `None` leaves one as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offloads {
    /// Send a train whole. Off: the kernel cuts it, as it does before a wire.
    pub udp_segmentation: Option<bool>,
    /// Join received packets (needs NAPI, which this turns on for a veth).
    pub gro: Option<bool>,
    /// Keep UDP datagrams joined even when the socket did not ask for it.
    pub udp_gro_forwarding: Option<bool>,
    /// TCP segmentation by the device.
    pub tcp_segmentation: Option<bool>,
    /// Checksums by the device, both directions.
    pub checksums: Option<bool>,
}

impl Offloads {
    /// As on a real wire: trains are cut before it and joined behind it.
    pub const WIRE: Self = Self {
        udp_segmentation: Some(false),
        gro: Some(true),
        udp_gro_forwarding: Some(true),
        tcp_segmentation: None,
        checksums: None,
    };

    /// Trains cross whole, and nothing is joined: the least work for the kernel.
    pub const WHOLE: Self = Self {
        udp_segmentation: Some(true),
        gro: Some(false),
        udp_gro_forwarding: Some(false),
        tcp_segmentation: None,
        checksums: None,
    };

    fn settings(&self) -> impl Iterator<Item = (&'static str, bool)> {
        [
            ("tx-udp-segmentation", self.udp_segmentation),
            ("gro", self.gro),
            ("rx-udp-gro-forwarding", self.udp_gro_forwarding),
            ("tso", self.tcp_segmentation),
            ("tx", self.checksums),
            ("rx", self.checksums),
        ]
        .into_iter()
        .filter_map(|(name, on)| on.map(|on| (name, on)))
    }

    fn is_default(&self) -> bool {
        self.settings().next().is_none()
    }
}

/// One end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The namespace that it lives in.
    pub netns: &'a Netns,
    /// Its name there, at most 15 characters.
    pub interface: &'a str,
}

/// Joins two namespaces by a veth pair, both ends up, with `mtu` in bytes.
///
/// # Errors
/// `ip` refuses it: a name is in use or too long.
pub fn join(a: End<'_>, b: End<'_>, mtu: u32) -> Result<()> {
    a.netns.ip(&format!(
        "link add {} mtu {mtu} type veth peer name {} mtu {mtu} netns {}",
        a.interface, b.interface, b.netns.name
    ))?;
    for end in [a, b] {
        // No link-local addresses: they would send frames that no test asked for.
        end.netns.ip(&format!("link set {} addrgenmode none up", end.interface))?;
    }
    Ok(())
}

/// The network between the hosts: a bridge in a namespace of its own.
#[derive(Debug)]
pub struct Fabric {
    netns: Netns,
    mtu: u32,
    offloads: Offloads,
}

impl Fabric {
    /// Makes the bridge. `mtu` (bytes) and `offloads` are for every host's interface.
    ///
    /// # Errors
    /// No right to do so.
    pub fn new(tag: &str, mtu: u32, offloads: Offloads) -> Result<Self> {
        let netns = Netns::new(tag, "fabric")?;
        netns.ip("link add br0 type bridge mcast_snooping 0")?;
        netns.ip("link set br0 addrgenmode none up")?;
        Ok(Self { netns, mtu, offloads })
    }

    /// Gives `host` an interface [`FABRIC_INTERFACE`] with `addresses` (/24 or /64), joined to the
    /// bridge by the port that [`Self::port`] names.
    ///
    /// # Errors
    /// `ip` or `ethtool` refuses it.
    pub fn attach(&self, host: &Netns, number: usize, addresses: &[IpAddr]) -> Result<()> {
        let port = Self::port(number);
        join(
            End { netns: host, interface: FABRIC_INTERFACE },
            End { netns: &self.netns, interface: &port },
            self.mtu,
        )?;
        self.netns.ip(&format!("link set {port} master br0"))?;
        self.set_offloads(host, number)?;
        for &address in addresses {
            let prefix = if address.is_ipv4() { 24 } else { 64 };
            host.add_address(FABRIC_INTERFACE, address, prefix)?;
        }
        Ok(())
    }

    /// Changes the MTU (bytes) and the offloads of all wires; `hosts` in the order of their
    /// numbers.
    ///
    /// # Errors
    /// `ip` or `ethtool` refuses it.
    pub fn refit<'a>(
        &mut self,
        hosts: impl Iterator<Item = &'a Netns>,
        mtu: u32,
        offloads: Offloads,
    ) -> Result<()> {
        (self.mtu, self.offloads) = (mtu, offloads);
        for (number, host) in hosts.enumerate() {
            host.ip(&format!("link set {FABRIC_INTERFACE} mtu {mtu}"))?;
            self.netns.ip(&format!("link set {} mtu {mtu}", Self::port(number)))?;
            self.set_offloads(host, number)?;
        }
        Ok(())
    }

    fn set_offloads(&self, host: &Netns, number: usize) -> Result<()> {
        host.set_offloads(FABRIC_INTERFACE, &self.offloads)?;
        self.netns.set_offloads(&Self::port(number), &self.offloads)
    }

    /// The name of the bridge's port of host `number`.
    #[must_use]
    pub fn port(number: usize) -> String {
        format!("port{number}")
    }

    /// Cuts host `number` off the fabric, or joins it again.
    ///
    /// # Errors
    /// There is no such host.
    pub fn set_link(&self, number: usize, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.netns.ip(&format!("link set {} {state}", Self::port(number))).map(drop)
    }

    /// The bridge's namespace, to watch the wire in.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }
}

/// The `time=` of each answer in the output of any common `ping`, in milliseconds.
#[must_use]
pub fn parse_ping(output: &str) -> Vec<f64> {
    output
        .lines()
        .filter_map(|line| line.split_once("time=")?.1.split_whitespace().next()?.parse().ok())
        .collect()
}

/// The middle value (the lower one of two); `None` of nothing.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

fn ip(args: &[&str]) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(args);
    run(&mut command, LIMIT).map_err(|error| match error {
        Error::Io { source, .. } => Error::Unexpected(format!(
            "`{}` cannot run: {source}; package iproute2 and the rights of root are needed",
            describe(&command)
        )),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_times_are_read_from_busybox_and_iputils() {
        let text = "PING 192.0.2.1 (192.0.2.1): 56 data bytes\n\
            64 bytes from 192.0.2.1: seq=0 ttl=64 time=1.250 ms\n\
            64 bytes from 192.0.2.1: icmp_seq=2 ttl=64 time=0.05 ms\n\
            round-trip min/avg/max = 0.050/0.650/1.250 ms\n";
        assert_eq!(parse_ping(text), [1.25, 0.05]);
    }

    #[test]
    fn median_is_a_value_that_was_seen() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(1.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn default_offloads_touch_nothing() {
        assert!(Offloads::default().is_default());
        assert!(!Offloads::WIRE.is_default());
    }
}
