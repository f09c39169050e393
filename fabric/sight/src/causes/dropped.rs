//! Drops that no other cause tells of: each is told by its reason, with who acts and how sure that is.

use super::{
    Found, Sure, Who,
    reasons::{Family, frames, list, meaning},
};
use crate::{explain::Case, look::Flow};
use wireonce_ledger::{Amount, DropReason, Stage};

/// What belongs to the vNIC at its own server.
const AT_SERVER: [Stage; 4] = [Stage::GuestTx, Stage::FabricTx, Stage::FabricRx, Stage::GuestRx];
/// And at gateways.
const AT_GATEWAY: [Stage; 4] = [Stage::FabricRx, Stage::UplinkTx, Stage::UplinkRx, Stage::FabricTx];

/// Where something is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the vNIC's server.
    Server,
    /// At the gateway of its home.
    Home,
    /// At another gateway of its pool.
    Gateway,
    /// At a server of others.
    Other,
}

/// What no cause tells of, by place and reason.
pub(super) fn untold(case: &Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    let server = AT_SERVER.into_iter().filter_map(|stage| Some((stage, case.at_server(stage)?)));
    for (stage, flow) in server {
        all.extend(told(At::Server, &case.vnic.host, stage, flow));
    }
    for stage in AT_GATEWAY {
        for (gateway, flow) in case.at_gateways(stage) {
            let is_home = case.home.is_some_and(|home| home.host == gateway);
            let at = if is_home { At::Home } else { At::Gateway };
            all.extend(told(at, gateway, stage, flow));
        }
    }
    for (server, flow) in case.at_others() {
        all.extend(told(At::Other, server, Stage::FabricRx, flow));
    }
    all
}

/// Whether anything of the vNIC was dropped anywhere.
pub(super) fn is_any(case: &Case<'_>) -> bool {
    let server = AT_SERVER.into_iter().filter_map(|stage| case.at_server(stage));
    let gateways = AT_GATEWAY.into_iter().flat_map(|stage| case.at_gateways(stage));
    let mut flows =
        server.chain(gateways.map(|(_, flow)| flow)).chain(case.at_others().map(|(_, flow)| flow));
    flows.any(|flow| flow.drops.keys().any(|name| !is_answered(name)))
}

fn is_answered(name: &str) -> bool {
    reason(name).is_some_and(|reason| meaning(reason).family == Family::Answered)
}

/// The reason with this name; `None`: it is of a version that we do not know.
fn reason(name: &str) -> Option<DropReason> {
    DropReason::ALL.iter().copied().find(|reason| reason.name() == name)
}

/// A verdict for each drop of a flow that no cause tells of.
fn told(at: At, host: &str, stage: Stage, flow: &Flow<'_>) -> Vec<Found> {
    let drops = flow.drops.iter();
    drops.filter_map(|(name, amount)| one(at, host, stage, name, *amount)).collect()
}

fn one(at: At, host: &str, stage: Stage, name: &str, amount: Amount) -> Option<Found> {
    let place = format!("{} at {host}", stage.name());
    // Of a large frame a part may be dropped, and the rest go on.
    let count = match amount.frames {
        0 => format!("{} segments", amount.segments),
        frames => format!("{frames} frames"),
    };
    let Some(reason) = reason(name) else {
        let what = format!("{count} were dropped for {name}, which is of a newer version");
        return Some(Found::unknown(
            place,
            what,
            Who::Virtualisation,
            "docs/drop-reasons.md there",
        ));
    };
    let meaning = meaning(reason);
    if meaning.family == Family::Answered || has_cause(at, stage, meaning.family) {
        return None;
    }
    let what = format!("{count} were dropped for {name}. {}", reason.explanation());
    let found = Found::new(meaning.sure, place, what, meaning.who);
    Some(Found { test: Some(meaning.act.to_owned()), ..found })
}

/// Whether a cause of its own tells of such drops there. What is not right here, is found by the test
/// that tries every reason at every place.
fn has_cause(at: At, stage: Stage, family: Family) -> bool {
    use Family as F;
    match (at, stage) {
        (At::Server, Stage::GuestTx) => {
            matches!(family, F::Session | F::Shaper | F::Rule | F::Storm | F::Mtu)
        }
        (At::Server, Stage::GuestRx) => family == F::RxRing,
        (At::Server | At::Home | At::Gateway, Stage::FabricTx) => family == F::Link,
        (At::Home, Stage::UplinkTx) if family == F::Uplink => true,
        (At::Home | At::Gateway, Stage::UplinkTx) => {
            matches!(family, F::OverLease | F::OverPackets | F::Egress | F::Home)
        }
        (At::Home | At::Gateway, Stage::UplinkRx) => matches!(family, F::Shaper | F::Home),
        (At::Home | At::Gateway, Stage::FabricRx) => family == F::Home,
        _ => false,
    }
}

/// What was dropped at its home before it was known for whom it was: some of that may have been for it.
/// Much of what comes in from outside is for nobody here, and is not told.
pub(super) fn at_uplink(case: &Case<'_>) -> Option<Found> {
    let home = case.home?;
    let flow = case.gateway()?.flow(&home.name, Stage::UplinkRx)?;
    let is_usual = |family| matches!(family, Family::Outside | Family::Rule | Family::Answered);
    let mut drops: Vec<(&'static str, Amount)> = Vec::new();
    let mut worst: Option<(u64, DropReason)> = None;
    for reason in DropReason::ALL.iter().filter(|reason| !is_usual(meaning(**reason).family)) {
        let Some(amount) = flow.drops.get(reason.name()) else { continue };
        drops.push((reason.name(), *amount));
        if worst.is_none_or(|(count, _)| amount.frames > count) {
            worst = Some((amount.frames, *reason));
        }
    }
    let (_, worst) = worst?;
    let what = format!(
        "{} frames from outside were dropped at {} before it was known for whom they were: {}. {}",
        frames(&drops),
        home.name,
        list(&drops),
        worst.explanation()
    );
    let found =
        Found::new(Sure::Unknown, format!("{} at {}", home.name, home.host), what, Who::Network);
    Some(Found { test: Some(meaning(worst).act.to_owned()), ..found })
}

#[cfg(test)]
mod tests {
    use super::{super::found, *};
    use crate::{
        causes::Verdict,
        explain,
        sample::{Bed, Daemon, MBIT},
    };

    /// vm-a sends and gets frames, and seven are dropped somewhere.
    fn verdicts(drop: impl Fn(&str, Daemon) -> Daemon) -> Vec<Verdict> {
        let mut bed = Bed::new();
        bed.server_a(|it| drop("server-a", it.sends(12 * MBIT)));
        bed.server_b(|it| drop("server-b", it));
        bed.gateway_a(|it| drop("gateway-a", it.carries("vm-a", 12 * MBIT)));
        bed.gateway_b(|it| drop("gateway-b", it));
        explain(&bed.view(), None, "vm-a").unwrap().verdicts
    }

    #[test]
    fn every_reason_at_every_place_has_a_cause_or_is_told_by_its_name() {
        let places = [("server-a", &AT_SERVER[..]), ("server-b", &[Stage::FabricRx][..])];
        let gateways = ["gateway-a", "gateway-b"].map(|host| (host, &AT_GATEWAY[..]));
        let places = places.into_iter().chain(gateways);
        let places: Vec<(&str, Stage)> = places
            .flat_map(|(host, stages)| stages.iter().map(move |stage| (host, *stage)))
            .collect();
        for reason in DropReason::ALL {
            for (host, stage) in &places {
                let verdicts = verdicts(|at, it| match at == *host {
                    true => it.flow("vm-a", *stage, 7, &[(*reason, 7)]),
                    false => it,
                });
                let case = format!("{} at {host}, {}: {verdicts:#?}", reason.name(), stage.name());
                let nothing = verdicts.iter().any(|it| it.cause == "nothing-wrong-here");
                if *reason == DropReason::AnsweredHere {
                    assert!(nothing, "{case}");
                    continue;
                }
                assert!(!nothing, "{case}");
                let tells = |it: &Verdict| it.what.contains("7 ");
                let telling: Vec<_> = verdicts.iter().filter(|it| tells(it)).collect();
                assert_eq!(telling.len(), 1, "{case}");
                let it = telling[0];
                let by_name = it.what.contains(reason.name()) && it.test.is_some();
                assert!(it.cause != super::super::DROPPED || by_name, "{case}");
            }
        }
    }

    #[test]
    fn what_an_uplink_drops_before_it_is_known_for_whom_is_told_unless_it_is_usual() {
        for reason in DropReason::ALL {
            let mut bed = Bed::new();
            bed.gateway_a(|it| it.flow("east-1", Stage::UplinkRx, 9, &[(*reason, 9)]));
            let found = found(&bed, "vm-a", at_uplink);
            let family = meaning(*reason).family;
            let usual = [Family::Outside, Family::Rule, Family::Answered].contains(&family);
            assert_eq!(found.is_none(), usual, "{}: {found:?}", reason.name());
            if let Some(it) = found {
                assert!(it.what.contains(&format!(": 9 {}.", reason.name())), "{}", it.what);
                assert_eq!((it.sure, it.test.is_some()), (Sure::Unknown, true));
            }
        }
    }

    #[test]
    fn a_reason_of_a_newer_version_is_told_as_such() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.drops_for(Stage::GuestTx, "sun-spots", 7));
        let view = bed.view();
        let it = &untold(&Case::new(&view, None, "vm-a").unwrap())[0];
        assert_eq!(it.what, "7 frames were dropped for sun-spots, which is of a newer version");
    }
}
