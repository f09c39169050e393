//! What gateways, uplinks and the way to them are the cause of.

use super::{
    Found, Who,
    reasons::{Family, frames, grown, list},
};
use crate::{
    explain::Case,
    faults::{self, Fault},
    look::Look,
    notes,
};
use wireonce_ledger::{
    Stage,
    status::{LinkState, LinkStatus},
};

/// The port of its home carries nothing.
pub(super) fn uplink_down(case: &Case<'_>) -> Option<Found> {
    let home = case.home?;
    let look = case.gateway()?;
    let place = format!("{} at {}", home.name, home.host);
    if look.uplink(&home.name).is_some_and(|(now, _)| !now.carrier) {
        let what = format!("interface {} has no carrier", home.interface);
        return Some(Found::proved(place, what, Who::Network));
    }
    let sick = look.uplink(&home.name).map(|(now, _)| now);
    if let Some(now) = sick.filter(|now| matches!(now.health.as_str(), "sick" | "gone")) {
        let what = format!("it is {}: {}", now.health, now.causes.join(", "));
        return Some(Found::proved(place, what, Who::Network));
    }
    let flow = look.flow(&case.vnic.name, Stage::UplinkTx)?;
    let drops = grown(flow, &[Family::Uplink]);
    let what = format!("interface {} refused {} frames", home.interface, frames(&drops));
    (!drops.is_empty()).then(|| Found::proved(place, what, Who::Network))
}

/// It uses another uplink than it should: it failed over, or is on its way.
pub(super) fn moved(case: &Case<'_>) -> Option<Found> {
    let (now, _) = case.server.as_ref()?.vnic(&case.vnic.name)?;
    let status = now.home.as_ref()?;
    let (uses, should) = (status.now.as_deref()?, case.vnic.home.as_deref()?);
    if uses == should {
        return None;
    }
    let mut what = format!("it uses {uses} instead of {should}, because of {}", status.why);
    let gateway = case.view.house.uplink(should).map(|uplink| uplink.host.as_str());
    gateway.into_iter().flat_map(|host| between(case, host)).for_each(|fault| {
        what += &format!("; {}", fault.said());
    });
    let place = format!("{} on {}", case.vnic.name, case.vnic.host);
    Some(Found::proved(place, what, Who::Network))
}

/// Frames that came to a gateway at which the vNIC is not at home, or not any more.
pub(super) fn not_at_home(case: &Case<'_>) -> Option<Found> {
    let stages = [Stage::FabricRx, Stage::UplinkTx, Stage::UplinkRx];
    let (gateway, drops) = stages.into_iter().find_map(|stage| {
        let mut flows = case.at_gateways(stage);
        flows.find_map(|(gateway, flow)| {
            let drops = grown(flow, &[Family::Home]);
            (!drops.is_empty()).then_some((gateway, drops))
        })
    })?;
    let what = format!(
        "{} frames came to {gateway} while the vNIC was not at home there: {}; more than a few \
         are no swap but a link that comes and goes",
        frames(&drops),
        list(&drops)
    );
    Some(Found::proved(format!("fence at {gateway}"), what, Who::Network))
}

/// The gateway of its home does not answer its server.
pub(super) fn gateway_down(case: &Case<'_>) -> Option<Found> {
    let look = case.server.as_ref()?;
    let link = case.home.and_then(|home| look.link(&home.host));
    let drops = case.dropped(Stage::GuestTx, &[Family::Session]);
    let is_down =
        |link: &&LinkStatus| matches!(link.state, LinkState::Down | LinkState::Connecting);
    let down = link.map(|(now, _)| now).filter(is_down);
    if down.is_none() && drops.is_empty() {
        return None;
    }
    let server = &case.vnic.host;
    let (place, mut what) = match down {
        Some(LinkStatus { peer, .. }) => {
            (format!("link {server} to {peer}"), format!("{peer} does not answer {server}"))
        }
        None => (format!("links of {server}"), format!("{server} had no session with a host")),
    };
    if !drops.is_empty() {
        what += &format!(": {} frames were dropped for it", frames(&drops));
    }
    Some(Found::proved(place, what, Who::Network))
}

/// The link to its home's gateway is up, and not fit.
pub(super) fn gray_link(case: &Case<'_>) -> Option<Found> {
    let home = case.home?;
    let faults = between(case, &home.host);
    let said: Vec<String> = faults.iter().map(Fault::said).collect();
    let place = format!("link {} and {}", case.vnic.host, home.host);
    (!said.is_empty()).then(|| Found::proved(place, said.join("; "), Who::Network))
}

/// What its server and a gateway say of the way between them.
fn between(case: &Case<'_>, gateway: &str) -> Vec<Fault> {
    let server = case.server.as_ref().map(|look| look.now);
    let there = case.gateways.get(gateway).map(|look| look.now);
    faults::between(server, there, [&case.vnic.host, gateway])
}

/// What gateways' probes found wrong outside, where its frames leave or would after a failover.
pub(super) fn outside(case: &Case<'_>) -> Option<Found> {
    let vlan = case.view.house.network(&case.vnic.network)?.vlan;
    let uplinks: Vec<&str> = (case.home.iter().map(|home| home.name.as_str()))
        .chain(case.vnic.standbys.iter().map(String::as_str))
        .collect();
    let concerns = |it: &notes::Pair| {
        let is_ours = |name: &str| uplinks.contains(&name);
        it.vlans.contains(&vlan) && is_ours(&it.one) && is_ours(&it.other)
    };
    let pairs: Vec<notes::Pair> = notes::outside(&case.view).into_iter().filter(concerns).collect();
    let seen: Vec<String> = pairs.iter().map(notes::Pair::seen).collect();
    let test = &pairs.first()?.look;
    Some(Found::likely("network outside", seen.join("; "), Who::Network, test))
}

/// Datagrams are lost between the hosts.
pub(super) fn link_loss(case: &Case<'_>) -> Option<Found> {
    let server = case.vnic.host.as_str();
    let ends = case.gateways.iter().map(|(name, look)| (*name, look));
    let ends = case.server.iter().map(|look| (server, look)).chain(ends);
    let mut worst: Option<(u64, &str, String)> = None;
    for (host, look) in ends {
        let Some(flow) = look.flow(&case.vnic.name, Stage::FabricTx) else { continue };
        let drops = grown(flow, &[Family::Link]);
        let count = frames(&drops);
        if count > worst.as_ref().map_or(0, |(count, ..)| *count) {
            let of = flow.input.frames;
            let what = format!(
                "{count} of {of} frames that {host} sent did not arrive, say the receivers: {}{}",
                list(&drops),
                lossy_links(look)
            );
            worst = Some((count, host, what));
        }
    }
    let (_, host, what) = worst?;
    Some(Found::proved(format!("fabric from {host}"), what, Who::Network))
}

/// "; 30 of 1000 datagrams to gateway-a were lost"
fn lossy_links(look: &Look<'_>) -> String {
    let links = look.now.links.iter().filter_map(|link| {
        let (now, before) = look.link(&link.peer)?;
        let lost = now.lost.saturating_sub(before?.lost);
        let sent = now.sent_datagrams.saturating_sub(before?.sent_datagrams);
        (lost > 0).then(|| format!("; {lost} of {sent} datagrams to {} were lost", link.peer))
    });
    links.collect()
}

#[cfg(test)]
mod tests {
    use super::{super::found, *};
    use crate::sample::{Bed, MBIT};
    use wireonce_ledger::{DropReason, status::LinkGrayStatus};

    fn well() -> Bed {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(12 * MBIT));
        bed.gateway_a(|it| it.carries("vm-a", 12 * MBIT));
        bed
    }

    #[test]
    fn a_port_without_carrier_or_that_refuses_frames_is_found() {
        let mut bed = well();
        bed.gateway_a(|it| it.carrier(false));
        let it = found(&bed, "vm-a", uplink_down).unwrap();
        assert_eq!((it.place.as_str(), it.who), ("east-1 at gateway-a", Who::Network));
        assert_eq!(it.what, "interface eth1 has no carrier");
        bed.gateway_a(|it| it.health("sick", &["next-hop-silent"]));
        assert_eq!(found(&bed, "vm-a", uplink_down).unwrap().what, "it is sick: next-hop-silent");
        bed.gateway_a(|it| it.flow("vm-a", Stage::UplinkTx, 4, &[(DropReason::UplinkFailed, 4)]));
        assert_eq!(
            found(&bed, "vm-a", uplink_down).unwrap().what,
            "interface eth1 refused 4 frames"
        );
    }

    #[test]
    fn a_port_that_carries_is_not_down_and_neither_is_one_that_is_not_heard() {
        assert_eq!(found(&well(), "vm-a", uplink_down), None);
        assert_eq!(found(&Bed::new(), "vm-a", uplink_down), None);
    }

    #[test]
    fn a_vnic_that_uses_another_uplink_is_found_with_the_reason() {
        let mut bed = well();
        bed.server_a(|it| it.sends(12 * MBIT).at_home("east-2", "home-silent"));
        let it = found(&bed, "vm-a", moved).unwrap();
        assert_eq!(it.what, "it uses east-2 instead of east-1, because of home-silent");
    }

    #[test]
    fn a_vnic_at_its_home_has_not_moved() {
        let mut bed = well();
        assert_eq!(found(&bed, "vm-a", moved), None, "its server does not say");
        bed.server_a(|it| it.at_home("east-1", "start"));
        assert_eq!(found(&bed, "vm-a", moved), None);
    }

    #[test]
    fn frames_for_a_home_that_is_lost_are_found() {
        let mut bed = well();
        bed.gateway_a(|it| it.flow("vm-a", Stage::UplinkTx, 9, &[(DropReason::HomeLost, 9)]));
        let it = found(&bed, "vm-a", not_at_home).unwrap();
        assert_eq!(it.place, "fence at gateway-a");
        assert!(it.what.starts_with("9 frames came to gateway-a while"), "{}", it.what);
    }

    #[test]
    fn frames_that_a_gateway_drops_for_another_reason_are_at_home() {
        let mut bed = well();
        bed.gateway_a(|it| it.flow("vm-a", Stage::UplinkTx, 9, &[(DropReason::UplinkBusy, 9)]));
        assert_eq!(found(&bed, "vm-a", not_at_home), None);
    }

    #[test]
    fn a_gateway_that_does_not_answer_is_found() {
        let mut bed = well();
        bed.server_a(|it| {
            it.link("gateway-a", LinkState::Down).drops(Stage::GuestTx, DropReason::NoSession, 6)
        });
        let it = found(&bed, "vm-a", gateway_down).unwrap();
        assert_eq!(it.what, "gateway-a does not answer server-a: 6 frames were dropped for it");
    }

    #[test]
    fn a_gateway_that_answers_is_not_down_though_another_is() {
        let mut bed = well();
        assert_eq!(found(&bed, "vm-a", gateway_down), None);
        bed.server_a(|it| it.link("gateway-b", LinkState::Down));
        assert_eq!(found(&bed, "vm-a", gateway_down), None);
    }

    fn lossy(percent: u8) -> LinkGrayStatus {
        LinkGrayStatus {
            trouble: vec!["lossy-to-peer".to_owned()],
            lost_to_percent: Some(percent),
            ..LinkGrayStatus::default()
        }
    }

    #[test]
    fn a_gray_link_to_its_home_is_found_with_direction_and_share_whichever_end_says_so() {
        let mut bed = well();
        bed.server_a(|it| it.sends(12 * MBIT).gray("gateway-a", &lossy(31)));
        let it = found(&bed, "vm-a", gray_link).unwrap();
        assert_eq!((it.place.as_str(), it.who), ("link server-a and gateway-a", Who::Network));
        let said =
            "server-a to gateway-a: 31 % of the hellos are lost; look at the ports on this way";
        assert_eq!(it.what, said);
        let from =
            LinkGrayStatus { lost_to_percent: None, lost_from_percent: Some(30), ..lossy(0) };
        bed.gateway_a(|it| it.gray("server-a", &from));
        assert_eq!(found(&bed, "vm-a", gray_link).unwrap().what, said, "one thing, said once");
        bed.server_a(|it| it.sends(12 * MBIT));
        assert!(
            found(&bed, "vm-a", gray_link).unwrap().what.starts_with("server-a to gateway-a: 30 %")
        );
    }

    #[test]
    fn each_kind_of_gray_failure_says_where_to_look() {
        let mut bed = well();
        let gray = LinkGrayStatus {
            one_way: true,
            dead_paths: vec!["path 1 of worker 0 to worker 0".to_owned()],
            full_size_lost: Some(8_972),
            ..LinkGrayStatus::default()
        };
        bed.server_a(|it| it.sends(12 * MBIT).gray("gateway-a", &gray));
        let what = found(&bed, "vm-a", gray_link).unwrap().what;
        for part in ["though gateway-a is heard", "path 1 of worker 0", "8972 bytes are lost"] {
            assert!(what.contains(part), "{what}");
        }
    }

    #[test]
    fn a_gray_link_to_another_gateway_is_not_found_but_where_it_was_the_reason_to_leave() {
        let mut bed = well();
        bed.server_a(|it| it.sends(12 * MBIT).gray("gateway-b", &lossy(31)));
        assert_eq!(found(&bed, "vm-a", gray_link), None);
        bed.server_a(|it| {
            it.sends(12 * MBIT).at_home("east-2", "home-gray").gray("gateway-a", &lossy(31))
        });
        let it = found(&bed, "vm-a", moved).unwrap();
        assert!(
            it.what.contains("because of home-gray; server-a to gateway-a: 31 %"),
            "{}",
            it.what
        );
    }

    #[test]
    fn what_probes_find_between_its_home_and_its_standby_is_likely() {
        let mut bed = well();
        bed.gateway_a(|it| it.carries("vm-a", 12 * MBIT).outside("east-2", Some(100), "apart"));
        let it = found(&bed, "vm-a", outside).unwrap();
        assert_eq!((it.sure, it.who), (super::super::Sure::Likely, Who::Network));
        assert_eq!(it.what, "outside, east-1 and east-2 are apart on VLAN 100");
        assert_eq!(it.test.as_deref(), Some("look at the switch ports"));
    }

    #[test]
    fn what_is_wrong_on_another_vlan_or_between_others_is_not_its_own() {
        let mut bed = well();
        bed.gateway_a(|it| {
            let it = it.outside("east-2", Some(200), "vlan-missing");
            it.outside("east-3", Some(100), "apart").outside("east-2", Some(100), "joined")
        });
        assert_eq!(found(&bed, "vm-a", outside), None);
    }

    #[test]
    fn losses_between_the_hosts_are_found_with_the_link() {
        let mut bed = well();
        bed.server_a(|it| {
            it.flow("vm-a", Stage::FabricTx, 100, &[(DropReason::LostInFabric, 3)]).datagrams(
                "gateway-a",
                100,
                3,
            )
        });
        let it = found(&bed, "vm-a", link_loss).unwrap();
        assert_eq!(it.place, "fabric from server-a");
        assert_eq!(
            it.what,
            "3 of 100 frames that server-a sent did not arrive, say the receivers: 3 \
             lost-in-fabric; 3 of 100 datagrams to gateway-a were lost"
        );
    }

    #[test]
    fn a_link_that_loses_frames_of_others_only_is_not_found() {
        let mut bed = well();
        bed.server_a(|it| it.sends(12 * MBIT).datagrams("gateway-a", 100, 3));
        assert_eq!(found(&bed, "vm-a", link_loss), None);
    }
}
