//! The way of one vNIC's frames, station by station, and what holds them up.

mod stations;

use crate::{
    causes::{
        self, Verdict,
        reasons::{Family, grown},
    },
    look::{Flow, Look},
    view::View,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use wireonce_desired::{Uplink, Vnic};
use wireonce_ledger::{Amount, Stage, report::HostReports};

/// One vNIC in one interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The vNIC.
    pub vnic: String,
    /// Where its VM is.
    pub server: String,
    /// The uplink that it uses.
    pub home: Option<String>,
    /// The interval, on its server's clock, in microseconds; 0: there is none yet.
    pub interval_us: u64,
    /// From the guest, in order.
    pub out: Vec<Station>,
    /// To the guest, in order.
    pub back: Vec<Station>,
    /// What there is to say, the surest first.
    pub verdicts: Vec<Verdict>,
}

/// A place on the way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Station {
    /// What it is.
    pub name: String,
    /// On which host.
    pub host: String,
    /// What came in the interval; `None`: nobody says.
    pub came: Option<Amount>,
    /// What went on.
    pub went: Option<Amount>,
    /// What waits there now, in words.
    pub waits: Option<String>,
    /// Frames that were dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// What else is known.
    pub note: Option<String>,
}

/// All that causes look at.
#[derive(Debug)]
pub struct Case<'c> {
    /// The house and what is heard.
    pub view: View<'c>,
    /// The vNIC.
    pub vnic: &'c Vnic,
    /// The uplink that it uses.
    pub home: Option<&'c Uplink>,
    /// Its server in the interval, if that is heard.
    pub server: Option<Look<'c>>,
    /// The gateways of its pool in the interval, those that are heard.
    pub gateways: BTreeMap<&'c str, Look<'c>>,
    /// The other servers with vNICs of its network in the interval, those that are heard.
    pub others: BTreeMap<&'c str, Look<'c>>,
    /// And those that are not.
    pub unheard: BTreeSet<&'c str>,
}

/// Explains a vNIC: since `earlier`, what was heard then, or else between the two newest reports.
/// `None`: there is no such vNIC.
#[must_use]
pub fn explain(
    view: &View<'_>,
    earlier: Option<&BTreeMap<String, HostReports>>,
    name: &str,
) -> Option<Explanation> {
    let case = Case::new(view, earlier, name)?;
    Some(Explanation {
        vnic: case.vnic.name.clone(),
        server: case.vnic.host.clone(),
        home: case.home.map(|uplink| uplink.name.clone()),
        interval_us: case.server.as_ref().map_or(0, Look::elapsed_us),
        out: stations::out(&case),
        back: stations::back(&case),
        verdicts: causes::verdicts(&case),
    })
}

impl<'c> Case<'c> {
    /// What is known of the vNIC with this name.
    #[must_use]
    pub fn new(
        view: &View<'c>,
        earlier: Option<&'c BTreeMap<String, HostReports>>,
        name: &str,
    ) -> Option<Self> {
        let vnic = view.house.vnic(name)?;
        let pool = view.pool_of(vnic);
        let uplinks = view.house.uplinks().filter(|it| Some(it.pool.as_str()) == pool);
        let look = |host: &'c str| look_since(view, earlier, host);
        let gateways = uplinks.filter_map(|it| Some((it.host.as_str(), look(&it.host)?))).collect();
        let server = look(&vnic.host);
        // The uplink that its frames use, if its server says so, or else the one that they should.
        let status = server.as_ref().and_then(|look: &Look<'c>| look.vnic(&vnic.name));
        let now = status.and_then(|(now, _)| now.home.as_ref()?.now.as_deref());
        let home = now.or(vnic.home.as_deref()).and_then(|home| view.house.uplink(home));
        let neighbours = view.house.vnics().filter(|it| it.network == vnic.network);
        let hosts: BTreeSet<&str> = neighbours.map(|it| it.host.as_str()).collect();
        let (mut others, mut unheard) = (BTreeMap::new(), BTreeSet::new());
        for host in hosts.into_iter().filter(|host| *host != vnic.host) {
            match look(host).filter(|look| look.elapsed_us() > 0) {
                Some(look) => {
                    others.insert(host, look);
                }
                None => {
                    unheard.insert(host);
                }
            }
        }
        Some(Self { view: *view, vnic, home, server, gateways, others, unheard })
    }

    /// Frames of the vNIC that other vNICs on its own server got: they cross no link.
    pub(crate) fn passed_here(&self) -> u64 {
        let frames = |stage, of: fn(&Flow<'_>) -> u64| self.at_server(stage).map_or(0, of);
        let sent = frames(Stage::GuestTx, |flow| flow.output.frames);
        sent.saturating_sub(frames(Stage::FabricTx, |flow| flow.input.frames))
    }

    /// What came of the vNIC to the other servers.
    pub(crate) fn at_others(&self) -> impl Iterator<Item = (&'c str, &Flow<'c>)> {
        self.others
            .iter()
            .filter_map(|(name, look)| Some((*name, look.flow(&self.vnic.name, Stage::FabricRx)?)))
    }

    /// Whether the link to a gateway is such that its server leaves homes there.
    pub(crate) fn leaves_homes_at(&self, gateway: &str) -> bool {
        let link = self.server.as_ref().and_then(|look| look.link(gateway));
        link.and_then(|(now, _)| now.gray.as_ref()).is_some_and(|gray| gray.leaves_homes)
    }

    /// What happened at a stage of the vNIC at its server.
    pub(crate) fn at_server(&self, stage: Stage) -> Option<&Flow<'c>> {
        self.server.as_ref()?.flow(&self.vnic.name, stage)
    }

    /// What happened at a stage of the vNIC at gateways.
    pub(crate) fn at_gateways(&self, stage: Stage) -> impl Iterator<Item = (&'c str, &Flow<'c>)> {
        self.gateways
            .iter()
            .map(move |(name, look)| (*name, look.flow(&self.vnic.name, stage)))
            .filter_map(|(name, flow)| Some((name, flow?)))
    }

    /// Frames of the vNIC that its server dropped at a stage for one of these kinds of reasons.
    pub(crate) fn dropped(&self, stage: Stage, families: &[Family]) -> Vec<(&'static str, Amount)> {
        self.at_server(stage).map(|flow| grown(flow, families)).unwrap_or_default()
    }

    /// The gateway of its home, if that is heard.
    pub(crate) fn gateway(&self) -> Option<&Look<'c>> {
        self.gateways.get(self.home?.host.as_str())
    }
}

/// A host since `earlier`, if it reported since, or else between its two newest reports.
fn look_since<'c>(
    view: &View<'c>,
    earlier: Option<&'c BTreeMap<String, HostReports>>,
    host: &str,
) -> Option<Look<'c>> {
    let newest = view.look(host)?;
    let Some(then) = earlier.and_then(|earlier| earlier.get(host)) else { return Some(newest) };
    let now = view.reports(host)?;
    let (old, new) = (&then.newest.report.status, &now.newest.report.status);
    let passed_us = now.newest.at_us.saturating_sub(then.newest.at_us);
    Some(match old.precedes(new, passed_us) {
        true => Look::new(new, Some(old)),
        false => newest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        causes::Sure,
        sample::{Bed, MBIT},
    };
    use wireonce_ledger::DropReason;

    #[test]
    fn each_station_says_what_came_went_on_waits_and_was_dropped() {
        let mut bed = Bed::new();
        bed.server_a(|it| {
            it.flow(
                "vm-a",
                Stage::GuestTx,
                1_000,
                &[(DropReason::SourceIp, 10), (DropReason::Shaped, 40)],
            )
            .flow("vm-a", Stage::FabricTx, 950, &[(DropReason::LostInFabric, 5)])
            .held(50 * MBIT, 64_000)
        });
        bed.gateway_a(|it| {
            it.flow("vm-a", Stage::FabricRx, 945, &[]).flow(
                "vm-a",
                Stage::UplinkTx,
                945,
                &[(DropReason::OverLease, 3), (DropReason::UplinkBusy, 2)],
            )
        });
        let explanation = explain(&bed.view(), None, "vm-a").unwrap();
        let shown: Vec<_> = (explanation.out.iter())
            .map(|it| {
                let frames = |amount: Option<Amount>| amount.map_or(0, |amount| amount.frames);
                (it.name.as_str(), frames(it.came), frames(it.went), it.drops.values().sum::<u64>())
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("guest ring", 1_000, 1_000, 0),
                ("guard", 1_000, 990, 10),
                ("shaper", 990, 950, 40),
                ("route", 950, 950, 0),
                ("link", 950, 945, 5),
                ("police", 945, 942, 3),
                ("egress", 942, 940, 2),
                ("uplink east-1", 940, 940, 0),
            ]
        );
        let shaper = &explanation.out[2];
        assert_eq!(shaper.waits.as_deref(), Some("64000 bytes"));
        assert_eq!(shaper.note.as_deref(), Some("may send 50Mbit, held back 90 % of the time"));
        assert_eq!(explanation.interval_us, 1_000_000);
    }

    #[test]
    fn what_comes_back_is_followed_to_the_guest() {
        let mut bed = Bed::new();
        bed.gateway_a(|it| {
            it.flow("vm-a", Stage::UplinkRx, 500, &[]).flow("vm-a", Stage::FabricTx, 500, &[])
        });
        bed.server_a(|it| it.flow("vm-a", Stage::GuestRx, 500, &[(DropReason::NoRxBuffers, 100)]));
        let explanation = explain(&bed.view(), None, "vm-a").unwrap();
        let shown: Vec<_> =
            explanation.back.iter().map(|it| (it.name.as_str(), it.went.unwrap().frames)).collect();
        assert_eq!(shown, [("uplink east-1", 500), ("link", 500), ("guest ring", 400)]);
    }

    #[test]
    fn frames_for_neighbours_are_followed_to_their_servers() {
        let mut bed = Bed::new();
        bed.server_a(|it| {
            it.flow("vm-a", Stage::GuestTx, 1_000, &[]).flow("vm-a", Stage::FabricTx, 900, &[])
        });
        let drops = [(DropReason::HandoverFull, 5)];
        bed.server_b(|it| it.flow("vm-a", Stage::FabricRx, 900, &drops));
        let explanation = explain(&bed.view(), None, "vm-a").unwrap();
        let there = explanation.out.iter().filter(|it| it.name == "other vNICs");
        let shown: Vec<_> = there
            .map(|it| (it.host.as_str(), it.came.unwrap().frames, it.went.unwrap().frames))
            .collect();
        assert_eq!(shown, [("server-a", 100, 100), ("server-b", 900, 895)]);
    }

    #[test]
    fn the_interval_begins_where_it_was_asked_to_begin() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.flow("vm-a", Stage::GuestTx, 1_000, &[]));
        let earlier = bed.reports.clone();
        // Nothing came since: the two newest reports are all there is.
        let same = explain(&bed.view(), Some(&earlier), "vm-a").unwrap();
        assert_eq!(same.out[0].came.unwrap().frames, 1_000);
        let mut first = earlier.clone();
        let reports = first.get_mut("server-a").unwrap();
        reports.newest = reports.before.take().unwrap();
        let since = explain(&bed.view(), Some(&first), "vm-a").unwrap();
        assert_eq!((since.interval_us, since.out[0].came.unwrap().frames), (1_000_000, 1_000));
    }

    #[test]
    fn without_reports_everything_is_unknown_and_a_stranger_is_nobody() {
        let bed = Bed::new();
        let explanation = explain(&bed.view(), None, "vm-a").unwrap();
        assert_eq!(explanation.interval_us, 0);
        assert!(explanation.verdicts.iter().all(|it| it.sure == Sure::Unknown));
        assert!(!explanation.verdicts.is_empty());
        assert_eq!(explain(&bed.view(), None, "vm-x"), None);
    }
}
