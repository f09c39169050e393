//! What reports say that placing looks at. Without any, it works with reservations alone.

use super::known::pool_of;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use wireonce_desired::{Direction, House, Kind, Vnic, bandwidth};
use wireonce_ledger::{Amount, Status, report::HostReports, status::VnicStatus};
use wireonce_placement::Rates;

/// A report is fresh for so many of its own intervals.
const FRESH_INTERVALS: u64 = 3;
/// What each segment costs on the wire beside its bytes: preamble, FCS, gap.
const SEGMENT_BYTES: u64 = 24;

/// What is seen of the house, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// Uplinks that their gateway says carry nothing now.
    pub dead: BTreeSet<String>,
    /// What vNICs would use, of those whose server is heard.
    pub wants: BTreeMap<String, Rates>,
    /// Servers from which there is no fresh report.
    pub silent: BTreeSet<String>,
}

impl Sight {
    /// What the reports of hosts say at `now_us`, on the clock of their arrivals.
    #[must_use]
    pub fn of(house: &House, reports: &BTreeMap<String, HostReports>, now_us: u64) -> Self {
        let fresh = |host: &str| {
            let reports = reports.get(host)?;
            let patience_us = reports.newest.next_in_s.saturating_mul(FRESH_INTERVALS * 1_000_000);
            (reports.age_us(now_us) <= patience_us).then_some(reports)
        };
        let mut sight = Self::default();
        let silent = house.names(Kind::Server).filter(|name| fresh(name).is_none());
        sight.silent.extend(silent.map(str::to_owned));
        for uplink in house.uplinks() {
            let seen = fresh(&uplink.host).map(|it| &it.newest.report.status.uplinks);
            let seen = seen.and_then(|all| all.iter().find(|it| it.name == uplink.name));
            if seen.is_some_and(|it| !it.carrier) {
                sight.dead.insert(uplink.name.clone());
            }
        }
        let largest = largest(house);
        let mut servers: HashMap<&str, Option<Server<'_>>> = HashMap::new();
        for vnic in house.vnics() {
            let server =
                servers.entry(&vnic.host).or_insert_with(|| fresh(&vnic.host).map(Server::of));
            let most = pool_of(house, vnic).and_then(|pool| largest.get(pool)).copied();
            let wants = server.as_ref().and_then(|it| it.wants(vnic, most.unwrap_or_default()));
            sight.wants.extend(wants.map(|wants| (vnic.name.clone(), wants)));
        }
        sight
    }
}

/// What the largest uplink of each pool carries: nobody can want more.
fn largest(house: &House) -> BTreeMap<&str, Rates> {
    let mut largest: BTreeMap<&str, Rates> = BTreeMap::new();
    for uplink in house.uplinks() {
        let of = |direction, percent| {
            uplink.capacity(direction).map_or(0, |rate| rate.percent(percent).bps())
        };
        let usable = Rates {
            up_bps: of(Direction::Up, bandwidth::USABLE_UP_PERCENT),
            down_bps: of(Direction::Down, bandwidth::USABLE_DOWN_PERCENT),
        };
        let most = largest.entry(&uplink.pool).or_default();
        *most = most.max(usable);
    }
    largest
}

/// What a server said of its vNICs, now and before.
struct Server<'r> {
    now: HashMap<&'r str, &'r VnicStatus>,
    before: HashMap<&'r str, &'r VnicStatus>,
    passed_us: u64,
}

impl<'r> Server<'r> {
    fn of(reports: &'r HostReports) -> Self {
        let by_name = |status: &'r Status| -> HashMap<&'r str, &'r VnicStatus> {
            status.vnics.iter().map(|vnic| (vnic.name.as_str(), vnic)).collect()
        };
        let now = &reports.newest.report.status;
        let before = reports.status_before();
        let passed_us = before.map_or(0, |it| now.sampled_at_us.saturating_sub(it.sampled_at_us));
        Self { now: by_name(now), before: before.map(by_name).unwrap_or_default(), passed_us }
    }

    /// What it says that a vNIC would send; else what it used and a tenth more. Who is held back
    /// might want as much as there is.
    fn wants(&self, vnic: &Vnic, most: Rates) -> Option<Rates> {
        let now = self.now.get(vnic.name.as_str())?;
        let before = self.before.get(vnic.name.as_str());
        let used = |of: fn(&VnicStatus) -> Amount| {
            before.map_or(0, |before| self.rate_bps(of(before), of(now)) / 10 * 11)
        };
        let up_bps = match now.share {
            Some(share) => share.demand_bps.unwrap_or(most.up_bps.max(share.rate_bps)),
            None => used(|vnic| vnic.tx),
        };
        Some(Rates { up_bps, down_bps: used(|vnic| vnic.rx) })
    }

    /// Wire bits a second between two counts.
    fn rate_bps(&self, before: Amount, now: Amount) -> u64 {
        let wire = |amount: Amount| {
            u128::from(amount.bytes) + u128::from(amount.segments) * u128::from(SEGMENT_BYTES)
        };
        let bits = wire(now).saturating_sub(wire(before)) * 8_000_000;
        let rate = bits.checked_div(u128::from(self.passed_us)).unwrap_or(0);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wireonce_desired::read;
    use wireonce_ledger::{
        report::{Arrival, HostReport},
        status::{UplinkStatus, VnicShareStatus},
    };

    const HOUSE: &str = include_str!("../../../../docs/examples/control/house.toml");
    const SECOND_US: u64 = 1_000_000;

    fn arrival(at_s: u64, status: Status) -> Arrival {
        let status = Status { life: 1, sampled_at_us: at_s * SECOND_US, ..status };
        let report = Arc::new(HostReport { status, ..HostReport::default() });
        Arrival { at_us: at_s * SECOND_US, next_in_s: 1, report }
    }

    fn vnic(bytes: u64, share: Option<VnicShareStatus>) -> Status {
        let tx = Amount { bytes, ..Amount::default() };
        let vnic = VnicStatus { name: "vm-a".to_owned(), tx, share, ..VnicStatus::default() };
        Status { vnics: vec![vnic], ..Status::default() }
    }

    fn seen(reports: &[(&str, HostReports)], now_s: u64) -> Sight {
        let house: House = read::toml(HOUSE).unwrap().into_iter().collect();
        let reports = reports.iter().map(|(host, it)| ((*host).to_owned(), it.clone())).collect();
        Sight::of(&house, &reports, now_s * SECOND_US)
    }

    #[test]
    fn demand_is_what_is_said_or_what_is_used_and_a_tenth_more() {
        let used = HostReports {
            newest: arrival(2, vnic(2_250_000, None)),
            before: Some(arrival(1, vnic(1_000_000, None))),
        };
        assert_eq!(seen(&[("server-a", used)], 2).wants["vm-a"].up_bps, 11_000_000);
        let share = VnicShareStatus { demand_bps: Some(7), ..VnicShareStatus::default() };
        let said = HostReports { newest: arrival(2, vnic(0, Some(share))), before: None };
        assert_eq!(seen(&[("server-a", said)], 2).wants["vm-a"].up_bps, 7);
        let share = VnicShareStatus { demand_bps: None, ..VnicShareStatus::default() };
        let held = HostReports { newest: arrival(2, vnic(0, Some(share))), before: None };
        let sight = seen(&[("server-a", held)], 2);
        assert_eq!(
            sight.wants["vm-a"].up_bps, 990_000_000,
            "as much as the largest uplink carries"
        );
        assert_eq!(sight.silent.iter().collect::<Vec<_>>(), ["server-b"]);
    }

    #[test]
    fn what_is_old_is_not_of_now_and_a_port_without_carrier_is_dead() {
        let uplink = UplinkStatus { name: "east-1".to_owned(), ..UplinkStatus::default() };
        let status = Status { uplinks: vec![uplink], ..Status::default() };
        let gateway = HostReports { newest: arrival(2, status), before: None };
        let server = HostReports { newest: arrival(2, vnic(0, None)), before: None };
        let reports = [("gateway-a", gateway), ("server-a", server)];
        let sight = seen(&reports, 5);
        assert_eq!(sight.dead.iter().collect::<Vec<_>>(), ["east-1"]);
        assert!(!sight.silent.contains("server-a"));
        let sight = seen(&reports, 6);
        assert!(sight.dead.is_empty() && sight.wants.is_empty());
        assert!(sight.silent.contains("server-a"));
    }
}
