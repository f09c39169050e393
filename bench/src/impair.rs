//! Loss and reordering in the bridge between two hosts, by the kernel's packet filter.
//!
//! ```text
//!   host a ═▶ port0 ──┬── bridge ──▶ port1 ═▶ host b       and back alike
//!                     ├─▶ dropped          one in N, by chance
//!                     └─▶ late0 ─ thread ─▶ bridge         one in N, by chance, some 0.2 ms late
//! ```
//! A relay between sockets, one system call a datagram, would be what is measured. The filter costs
//! what a rule costs, treats everybody's datagrams alike, and only those that are to be late leave
//! the kernel.

use std::time::Duration;

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::netns::{Fabric, Netns};

use crate::tapend::{TapLate, make_tap};

const LIMIT: Duration = Duration::from_secs(20);
const LATE: &str = "late0";
/// How long those are held that are to come late, at least.
const HOLD: Duration = Duration::from_micros(200);

/// What happens to datagrams on their way, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// One in so many is lost.
    Loss {
        /// Of how many.
        one_in: u32,
    },
    /// One in so many comes late, behind those that were sent in the meantime.
    Reorder {
        /// Of how many.
        one_in: u32,
    },
}

/// Trouble that goes on until this is dropped or the bridge is gone.
#[derive(Debug)]
pub struct Troubled {
    _late: Option<TapLate>,
}

impl Trouble {
    /// Brings it to the two hosts of a fabric, whose ports pass datagrams one by one from now on.
    /// What is late passes a thread on processor `cpu`.
    ///
    /// # Errors
    /// There is no `nft`, or the kernel does not know what it asks for.
    pub fn bring(self, fabric: &Fabric, cpu: Option<u32>) -> Result<Troubled> {
        let netns = fabric.netns();
        let ports = [Fabric::port(0), Fabric::port(1)];
        for port in &ports {
            // Joined datagrams would share one fate.
            netns.sh(&format!("ethtool -K {port} gro off rx-udp-gro-forwarding off"), LIMIT)?;
        }
        let late = match self {
            Self::Reorder { .. } => Some(make_late(netns, cpu)?),
            Self::None | Self::Loss { .. } => None,
        };
        if let Some(rule) = self.rule() {
            netns.sh(&format!("nft '{}'", ruleset(&ports, &rule)), LIMIT)?;
        }
        Ok(Troubled { _late: late })
    }

    fn rule(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Loss { one_in } => Some(format!("numgen random mod {one_in} == 0 counter drop")),
            Self::Reorder { one_in } => {
                Some(format!("numgen random mod {one_in} == 0 counter fwd to {LATE}"))
            }
        }
    }
}

/// All UDP that comes in at one of the ports is subject to the rule.
fn ruleset(ports: &[String], rule: &str) -> String {
    let chain = |port: &String| {
        format!(
            "add chain netdev trouble {port} {{ type filter hook ingress device {port} priority 0; }}; \
             add rule netdev trouble {port} meta l4proto udp {rule};"
        )
    };
    let chains: String = ports.iter().map(chain).collect();
    format!("add table netdev trouble; {chains}")
}

/// A port of the bridge that gets nothing from it: only what the rule sends there.
fn make_late(netns: &Netns, cpu: Option<u32>) -> Result<TapLate> {
    make_tap(netns, LATE, 1500)?;
    netns.ip(&format!("link set {LATE} master br0"))?;
    netns.ip(&format!(
        "link set {LATE} type bridge_slave learning off flood off mcast_flood off bcast_flood off"
    ))?;
    TapLate::start(netns, LATE, HOLD, cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_the_rule() {
        let rule = Trouble::Loss { one_in: 10 }.rule().unwrap();
        let text = ruleset(&["p0".to_owned(), "p1".to_owned()], &rule);
        let seen = text.matches("meta l4proto udp numgen random mod 10 == 0 counter drop;");
        assert_eq!(seen.count(), 2, "{text}");
        assert_eq!(Trouble::None.rule(), None);
    }
}
