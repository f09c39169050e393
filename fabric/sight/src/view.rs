//! The house with what is heard of its hosts.

use crate::look::Look;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wireonce_desired::{Direction, Grant, House, Terms, Vnic};
use wireonce_ledger::report::{HostReport, HostReports};

/// So many report intervals make a report old.
const OLD_INTERVALS: u64 = 3;

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct View<'v> {
    /// What is wanted.
    pub house: &'v House,
    /// What hosts said, by name.
    pub reports: &'v BTreeMap<String, HostReports>,
    /// The tags of the texts that hosts should serve, as far as they are known.
    pub tags: &'v BTreeMap<String, String>,
    /// The clock of the reports' arrival, in microseconds.
    pub now_us: u64,
}

/// How a host stands to its desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Text {
    /// It has not said, or is not fed by the controller.
    #[default]
    Unknown,
    /// It serves what it should.
    UpToDate,
    /// It serves another text.
    Behind,
    /// It refused the newest one.
    Refused,
}

impl Text {
    /// As tables show it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "-",
            Self::UpToDate => "up to date",
            Self::Behind => "behind",
            Self::Refused => "REFUSED",
        }
    }
}

impl<'v> View<'v> {
    /// What a host said.
    #[must_use]
    pub fn reports(&self, host: &str) -> Option<&'v HostReports> {
        self.reports.get(host)
    }

    /// How long a host has been silent, in microseconds; `None`: it never said anything.
    #[must_use]
    pub fn silent_us(&self, host: &str) -> Option<u64> {
        self.reports(host).map(|reports| reports.age_us(self.now_us))
    }

    /// Whether what a host said is too old to be of now. Who never said anything is not old.
    #[must_use]
    pub fn is_old(&self, host: &str) -> bool {
        self.reports(host).is_some_and(|reports| {
            let interval_us = reports.newest.next_in_s.max(1).saturating_mul(1_000_000);
            reports.age_us(self.now_us) > interval_us.saturating_mul(OLD_INTERVALS)
        })
    }

    /// What a host said, if it is of now.
    #[must_use]
    pub fn fresh(&self, host: &str) -> Option<&'v HostReport> {
        let reports = self.reports(host).filter(|_| !self.is_old(host))?;
        Some(&reports.newest.report)
    }

    /// What happened at a host between its two newest reports, if that is of now.
    #[must_use]
    pub fn look(&self, host: &str) -> Option<Look<'v>> {
        let reports = self.reports(host).filter(|_| !self.is_old(host))?;
        Some(Look::new(&reports.newest.report.status, reports.status_before()))
    }

    /// How a host stands to its desired state, and why it refused it.
    #[must_use]
    pub fn text(&self, host: &str) -> (Text, Option<String>) {
        let Some(report) = self.reports(host).map(|reports| &reports.newest.report) else {
            return (Text::Unknown, None);
        };
        let refused = report.refused.as_ref().or(report.status.configuration.refused.as_ref());
        if let Some(why) = refused {
            return (Text::Refused, Some(why.clone()));
        }
        match (&report.tag, self.tags.get(host)) {
            (Some(has), Some(wanted)) if has == wanted => (Text::UpToDate, None),
            (Some(_), Some(_)) => (Text::Behind, None),
            _ => (Text::Unknown, None),
        }
    }

    /// The pool of a vNIC's network.
    #[must_use]
    pub fn pool_of(&self, vnic: &Vnic) -> Option<&'v str> {
        self.house.pool_of(vnic)
    }

    /// The limit of a vNIC's policy.
    #[must_use]
    pub fn limit(&self, vnic: &Vnic, direction: Direction) -> Option<u64> {
        limit(self.terms(vnic, direction))
    }

    /// The limit in packets a second of a vNIC's policy.
    #[must_use]
    pub fn packet_limit(&self, vnic: &Vnic, direction: Direction) -> Option<u32> {
        self.terms(vnic, direction)?.limit_packets_per_s
    }

    fn terms(&self, vnic: &Vnic, direction: Direction) -> Option<&'v Terms> {
        self.house.policy(vnic.policy.as_deref()?)?.terms(direction)
    }

    /// The limit of a server's grant in a pool.
    #[must_use]
    pub fn grant_limit(&self, pool: &str, server: &str, direction: Direction) -> Option<u64> {
        limit(self.house.grant(&Grant::name_of(pool, server))?.terms(direction))
    }

    /// Whether two hosts are on one machine, as far as somebody said so.
    #[must_use]
    pub fn on_one_machine(&self, one: &str, other: &str) -> bool {
        let machine = |name: &str| {
            let (_, host) = self.house.hosts().find(|(_, host)| host.name == name)?;
            host.machine.as_deref()
        };
        machine(one).is_some_and(|it| machine(other) == Some(it))
    }

    /// What a server's grant in a pool reserves.
    #[must_use]
    pub fn granted(&self, pool: &str, server: &str, direction: Direction) -> u64 {
        let grant = self.house.grant(&Grant::name_of(pool, server));
        grant.map_or(0, |grant| grant.reservation(direction).bps())
    }
}

pub(crate) fn limit(terms: Option<&Terms>) -> Option<u64> {
    terms?.limit.map(|rate| rate.bps())
}
