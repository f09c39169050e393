//! The commands that evidence prints. Each works as it is printed.
//!
//! All of them are made here, so that one test can have the command line itself read every form.

use std::fmt;

/// One direction of a grant or of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Towards the outside.
    Up,
    /// From the outside.
    Down,
}

impl Way {
    /// As keys and sentences have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A command that can be typed. Rates are written as commands take them, such as `800Mbit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// What a server may use of a pool at most.
    GrantLimit {
        /// The pool.
        pool: String,
        /// The server.
        server: String,
        /// Which way.
        way: Way,
        /// The new limit.
        limit: String,
    },
    /// A reservation and its limit, from one server to another.
    GrantMove {
        /// The pool.
        pool: String,
        /// The giver.
        from: String,
        /// The taker.
        to: String,
        /// Which way.
        way: Way,
        /// How much.
        amount: String,
    },
    /// What was agreed for a time ends now.
    GrantEnd {
        /// The pool.
        pool: String,
        /// The server.
        server: String,
    },
    /// Who has how much of each pool.
    GrantUse,
    /// What each vNIC of a policy may use at most.
    PolicyLimit {
        /// The policy.
        policy: String,
        /// Which way.
        way: Way,
        /// The new limit.
        limit: String,
    },
    /// The same in packets a second.
    PolicyPackets {
        /// The policy.
        policy: String,
        /// Which way.
        way: Way,
        /// The new limit.
        per_s: u32,
    },
    /// Another home.
    VnicMove {
        /// The vNIC.
        vnic: String,
        /// The uplink.
        to: String,
    },
    /// The way of another vNIC's frames.
    Explain {
        /// The vNIC.
        vnic: String,
    },
    /// What a daemon says of itself, on its own host.
    Status,
}

impl Command {
    /// One of each form.
    #[must_use]
    pub fn examples() -> Vec<Self> {
        let text = str::to_owned;
        let limit = || text("800Mbit");
        let mut all = vec![
            Self::GrantEnd { pool: text("east"), server: text("server-a") },
            Self::GrantUse,
            Self::VnicMove { vnic: text("vm-a"), to: text("east-2") },
            Self::Explain { vnic: text("vm-b") },
            Self::Status,
        ];
        for way in [Way::Up, Way::Down] {
            let (pool, server) = (text("east"), text("server-a"));
            all.push(Self::GrantLimit { pool, server, way, limit: limit() });
            let (pool, from, to) = (text("east"), text("server-b"), text("server-a"));
            all.push(Self::GrantMove { pool, from, to, way, amount: limit() });
            all.push(Self::PolicyLimit { policy: text("gold"), way, limit: limit() });
            all.push(Self::PolicyPackets { policy: text("gold"), way, per_s: 20_000 });
        }
        all
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GrantLimit { pool, server, way, limit } => {
                write!(f, "wireonce grant set {pool}/{server} {}.limit={limit}", way.word())
            }
            Self::GrantMove { pool, from, to, way, amount } => {
                write!(f, "wireonce grant move --pool {pool} --from {from} --to {to} {amount}")?;
                match way {
                    Way::Up => Ok(()),
                    Way::Down => f.write_str(" --direction down"),
                }
            }
            Self::GrantEnd { pool, server } => write!(f, "wireonce grant end {pool}/{server}"),
            Self::GrantUse => f.write_str("wireonce grant use"),
            Self::PolicyLimit { policy, way, limit } => {
                write!(f, "wireonce policy set {policy} {}.limit={limit}", way.word())
            }
            Self::PolicyPackets { policy, way, per_s } => {
                let way = way.word();
                write!(f, "wireonce policy set {policy} {way}.limit_packets_per_s={per_s}")
            }
            Self::VnicMove { vnic, to } => write!(f, "wireonce vnic move {vnic} --to {to}"),
            Self::Explain { vnic } => write!(f, "wireonce explain {vnic}"),
            Self::Status => f.write_str("wireonce status"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A new form does not compile here until it has a number, and then needs an example.
    fn form(of: &Command) -> usize {
        match of {
            Command::GrantLimit { .. } => 0,
            Command::GrantMove { .. } => 1,
            Command::GrantEnd { .. } => 2,
            Command::GrantUse => 3,
            Command::PolicyLimit { .. } => 4,
            Command::PolicyPackets { .. } => 5,
            Command::VnicMove { .. } => 6,
            Command::Explain { .. } => 7,
            Command::Status => 8,
        }
    }

    #[test]
    fn every_form_has_an_example() {
        let forms: BTreeSet<usize> = Command::examples().iter().map(form).collect();
        assert_eq!(forms, (0..9).collect());
    }

    #[test]
    fn commands_are_made_nowhere_else() {
        for (file, text) in [
            ("advise.rs", include_str!("advise.rs")),
            ("limits.rs", include_str!("advise/limits.rs")),
            ("rebalance.rs", include_str!("rebalance.rs")),
        ] {
            assert!(!text.contains("wireonce grant") && !text.contains("wireonce vnic"), "{file}");
        }
    }
}
