//! How the controller itself is, and its hosts as it hears them: what `/metrics` says.

use crate::{
    Controller,
    api::now_us,
    change::{Allowed, State},
};
use std::collections::BTreeMap;
use wireonce_desired::Kind;
use wireonce_ledger::{
    control::{CertificateEnd, ControlStatus, HostStanding},
    report::HostReports,
};
use wireonce_sight::{View, view::Text};

impl Controller {
    /// What there is to say about it now.
    ///
    /// # Errors
    /// The house was never read.
    pub fn status(&self) -> Allowed<ControlStatus> {
        let revision = self.wait(0, std::time::Duration::ZERO);
        Ok(ControlStatus { revision, ..status(&*self.state()?, &self.reports().all(), now_us()) })
    }
}

fn status(state: &State, reports: &BTreeMap<String, HostReports>, now_us: u64) -> ControlStatus {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let objects = Kind::ALL.map(|kind| (kind.word().to_owned(), count(state.house.count(kind))));
    ControlStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: now_us / 1_000_000,
        revision: state.revision,
        audit_lines: state.counters.audit.saturating_sub(1),
        requests_open: count(state.requests.values().filter(|it| it.is_open()).count()),
        timed_grants: count(state.timers.len()),
        objects: BTreeMap::from(objects),
        hosts: hosts(state, reports, now_us),
        certificates: certificates(state),
    }
}

fn hosts(state: &State, reports: &BTreeMap<String, HostReports>, now_us: u64) -> Vec<HostStanding> {
    let tags = BTreeMap::new();
    let view = View { house: &state.house, reports, tags: &tags, now_us };
    let of = |(kind, host): (Kind, &wireonce_desired::Host)| HostStanding {
        name: host.name.clone(),
        kind: kind.word().to_owned(),
        is_heard: view.fresh(&host.name).is_some(),
        silent_us: view.silent_us(&host.name),
        has_refused: view.text(&host.name).0 == Text::Refused,
    };
    state.house.hosts().map(of).collect()
}

/// Of those that still count: nobody has to care for the others.
fn certificates(state: &State) -> Vec<CertificateEnd> {
    let counts = |kind: Option<Kind>, name: &str| {
        kind.is_none_or(|kind| state.house.get(kind, name).is_some())
    };
    let known = state.members.values();
    let known = known.filter(|it| it.revoked.is_none() && counts(it.holder.kind(), &it.name));
    known
        .filter_map(|it| {
            Some(CertificateEnd {
                holder: it.holder.word().to_owned(),
                name: it.name.clone(),
                until_s: it.until()?.0,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Caller, Role,
        pki::{Credentials, Holder, Issued, Lasting},
    };
    use std::sync::Arc;
    use wireonce_desired::{Moment, read};
    use wireonce_ledger::report::{Arrival, HostReport};

    const HOUSE: &str = include_str!("../../../docs/examples/control/house.toml");

    fn state() -> State {
        let mut state = State::default();
        read::toml(HOUSE).unwrap().into_iter().for_each(|object| {
            state.house.put(object);
        });
        state
    }

    fn credentials(holder: Holder, name: &str, until: &[u64]) -> Credentials {
        let issued = |until: &u64| Issued { serial: "1".to_owned(), until: Moment(*until) };
        Credentials {
            holder,
            name: name.to_owned(),
            role: None,
            joined: Moment(1),
            by: Caller::new("root", Role::Admin),
            certificates: until.iter().map(issued).collect(),
            lasting: Lasting::All,
            revoked: None,
        }
    }

    #[test]
    fn hosts_are_heard_silent_or_refuse_their_text() {
        let state = state();
        let report = |refused: Option<&str>, at_us| HostReports {
            newest: Arrival {
                at_us,
                next_in_s: 1,
                report: Arc::new(HostReport {
                    refused: refused.map(str::to_owned),
                    ..HostReport::default()
                }),
            },
            before: None,
        };
        let reports = BTreeMap::from([
            ("server-a".to_owned(), report(None, 9_000_000)),
            ("server-b".to_owned(), report(Some("no such interface"), 2_000_000)),
        ]);
        let status = status(&state, &reports, 10_000_000);
        let host = |name: &str| {
            let it = status.hosts.iter().find(|it| it.name == name).unwrap();
            (it.kind.as_str(), it.is_heard, it.silent_us, it.has_refused)
        };
        assert_eq!(host("server-a"), ("server", true, Some(1_000_000), false));
        assert_eq!(host("server-b"), ("server", false, Some(8_000_000), true));
        assert_eq!(host("gateway-a"), ("gateway", false, None, false));
        assert_eq!((status.objects["server"], status.objects["grant"]), (2, 2));
        assert_eq!(status.uptime_s, 10);
    }

    #[test]
    fn only_certificates_that_count_have_an_end_and_it_is_that_of_the_newest() {
        let mut state = state();
        let revoked = Credentials {
            revoked: Some(Moment(5)),
            ..credentials(Holder::Server, "server-b", &[90])
        };
        for known in [
            credentials(Holder::Server, "server-a", &[70, 80]),
            credentials(Holder::Server, "removed", &[70]),
            credentials(Holder::User, "nina", &[60]),
            revoked,
        ] {
            state.members.insert(known.identity(), known);
        }
        let ends = status(&state, &BTreeMap::new(), 0).certificates;
        let ends: Vec<_> = ends.iter().map(|it| (it.name.as_str(), it.until_s)).collect();
        assert_eq!(ends, [("server-a", 80), ("nina", 60)]);
    }
}
