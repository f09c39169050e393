//! Two namespaces joined by one veth pair, for peers: what [`Plan::direct`] is for ours.
//!
//! [`Plan::direct`]: wireonce_qemu_tests::cluster::Plan::direct

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use wireonce_qemu_tests::netns::{End, FABRIC_INTERFACE, Netns, Offloads, join};
use wireonce_qemu_tests::{Error, Result};

const LIMIT: Duration = Duration::from_secs(10);
const MTU: u32 = 1500;

/// A near and a far host.
#[derive(Debug)]
pub struct Wire {
    /// Where the device is.
    pub near: Netns,
    /// Where its datagrams go.
    pub far: Netns,
}

impl Wire {
    /// Makes both, joined by an interface of the same name, without addresses.
    ///
    /// # Errors
    /// No right to do so.
    pub fn new(tag: &str, offloads: &Offloads) -> Result<Self> {
        let wire = Self { near: Netns::new(tag, "near")?, far: Netns::new(tag, "far")? };
        let ends = [&wire.near, &wire.far].map(|netns| End { netns, interface: FABRIC_INTERFACE });
        join(ends[0], ends[1], MTU)?;
        wire.near.set_offloads(FABRIC_INTERFACE, offloads)?;
        wire.far.set_offloads(FABRIC_INTERFACE, offloads)?;
        Ok(wire)
    }

    /// The near host's address.
    #[must_use]
    pub fn near_address() -> IpAddr {
        Ipv4Addr::new(10, 78, 0, 1).into()
    }

    /// The far host's address.
    #[must_use]
    pub fn far_address() -> IpAddr {
        Ipv4Addr::new(10, 78, 0, 2).into()
    }
}

/// An interface's counter at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The count.
    pub count: u64,
    /// When it was read.
    pub at: Instant,
}

impl Reading {
    /// Reads a counter of `interface`, such as `rx_packets`.
    ///
    /// # Errors
    /// There is no such interface or counter.
    pub fn take(netns: &Netns, interface: &str, counter: &str) -> Result<Self> {
        let path = format!("/sys/class/net/{interface}/statistics/{counter}");
        let text = netns.sh(&format!("cat {path}"), LIMIT)?;
        let count = text.trim().parse();
        let count = count.map_err(|_| Error::Unexpected(format!("{path} has `{text}`")))?;
        Ok(Self { count, at: Instant::now() })
    }

    /// Counts per second since `before`.
    #[must_use]
    pub fn per_s_since(self, before: Self) -> f64 {
        rate(before.count, self.count, self.at.saturating_duration_since(before.at).as_secs_f64())
    }
}

/// Counts per second between two counts.
#[must_use]
pub fn rate(before: u64, after: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { after.saturating_sub(before) as f64 / seconds } else { 0.0 }
}
