//! What holds back what comes from outside: the gateway is the one that shapes it.
//!
//! As upwards, one limit binds, and the causes exclude each other: the policy's, in bits or in packets,
//! the grant's of its server, or else its share of what its home brings in. They are found where frames
//! wait, and not only where some are dropped: a sender that takes marks (ECN), or whose window just
//! fits, loses none.

use super::{
    Found, Who,
    bandwidth::{elsewhere, grant_limit_of, home_load, is_home_full, raising},
    reasons::{Family, frames, grown},
};
use crate::{
    explain::Case,
    notes::{Limit, down_limit, is_at},
    sight::Downward,
    text::rate,
};
use wireonce_desired::Direction;
use wireonce_ledger::Stage;
use wireonce_placement::Way;

/// The limit of its policy.
pub(super) fn own_limit(case: &Case<'_>) -> Option<Found> {
    let waits = Waits::of(case)?;
    let limit @ Limit::Bits(_, limit_bps) = waits.limit(case)? else { return None };
    let policy = case.vnic.policy.as_deref()?;
    let what = format!(
        "{}: more came than the limit of its policy {policy:?} downwards, {}",
        waits.said(),
        rate(limit_bps)
    );
    let found = Found::proved(waits.place(), what, Who::Virtualisation);
    Some(raising(case, Direction::Down, found, &limit.doubled(policy)))
}

/// The limit of its policy in packets.
pub(super) fn packet_limit(case: &Case<'_>) -> Option<Found> {
    let waits = Waits::of(case)?;
    let limit @ Limit::Packets(_, per_s) = waits.limit(case)? else { return None };
    let what = format!(
        "{}: more came than the limit of its policy downwards in packets per second, {per_s}",
        waits.said()
    );
    let found = Found::proved(waits.place(), what, Who::Virtualisation);
    Some(match case.vnic.policy.as_deref() {
        Some(policy) => raising(case, Direction::Down, found, &limit.doubled(policy)),
        None => found,
    })
}

/// The limit of its server's grant.
pub(super) fn grant_limit(case: &Case<'_>) -> Option<Found> {
    let waits = Waits::of(case).filter(|waits| waits.limit(case).is_none())?;
    let (pool, server) = (case.view.pool_of(case.vnic)?, case.vnic.host.as_str());
    let limit_bps = at_grant_limit(case)?;
    let what = format!(
        "{}: more came for {server} than the limit of its grant in pool {pool} downwards, {}",
        waits.said(),
        rate(limit_bps)
    );
    let found = Found::proved(waits.place(), what, Who::Virtualisation);
    let command = grant_limit_of(pool, server, Way::Down, limit_bps);
    Some(raising(case, Direction::Down, found, &command))
}

/// Its server's own fabric port: gateways were told what that receives.
pub(super) fn port(case: &Case<'_>) -> Option<Found> {
    let waits = Waits::of(case).filter(|waits| waits.limit(case).is_none())?;
    let told_bps = at_port(case).filter(|_| at_grant_limit(case).is_none())?;
    let server = &case.vnic.host;
    let what = format!(
        "{}: more came for {server} than its own fabric port receives, of which {} has {}: borrowing \
         another uplink cannot help",
        waits.said(),
        case.home?.name,
        rate(told_bps)
    );
    Some(Found::proved(waits.place(), what, Who::Virtualisation))
}

/// Its share of what its home brings in.
pub(super) fn share(case: &Case<'_>) -> Option<Found> {
    let waits = Waits::of(case).filter(|waits| waits.limit(case).is_none())?;
    if at_grant_limit(case).is_some() || at_port(case).is_some() {
        return None;
    }
    let mut what = format!("{}: more came than its share downwards", waits.said());
    if let Some(down) = waits.down {
        what += &format!(", {}", rate(down.rate_bps));
    }
    let mut spare_bps = u64::MAX;
    if let (true, Some(home)) = (is_home_full(case, Direction::Down), case.home)
        && let Some((brings_bps, usable_bps)) = home_load(case, Direction::Down)
    {
        let (brings, usable) = (rate(brings_bps), rate(usable_bps));
        what += &format!("; {} is full: it brings {brings} of {usable}", home.name);
        spare_bps = usable_bps.saturating_sub(brings_bps);
    }
    if let Some(limit) = case.view.limit(case.vnic, Direction::Down) {
        what += &format!("; the limit of its policy is {}", rate(limit));
    }
    let found = Found::proved(waits.place(), what, Who::Virtualisation);
    Some(found.command(&elsewhere(case, Direction::Down, spare_bps)))
}

/// Whether something from outside has to wait for longer than a burst does.
pub(super) fn is_held(case: &Case<'_>) -> bool {
    Waits::of(case).is_some()
}

/// What waits for the vNIC at a gateway.
struct Waits<'c> {
    gateway: &'c str,
    dropped: u64,
    down: Option<Downward>,
}

impl<'c> Waits<'c> {
    /// At the gateway that dropped some, or else where most of the time something waits.
    fn of(case: &Case<'c>) -> Option<Self> {
        let down = Downward::of(case.gateways.values(), case.vnic);
        let dropped = case.at_gateways(Stage::UplinkRx).find_map(|(gateway, flow)| {
            let count = frames(&grown(flow, &[Family::Shaper]));
            (count > 0).then_some((gateway, count))
        });
        if let Some((gateway, dropped)) = dropped {
            return Some(Self { gateway, dropped, down });
        }
        let down = down.filter(|down| down.short || down.packets_held)?;
        let held_us = |name: &str| {
            let downs = case.gateways.get(name).into_iter().flat_map(|it| it.down(&case.vnic.name));
            downs.map(|it| (it.now.held, it.now.held_us)).max()
        };
        let gateway = case.gateways.keys().copied().max_by_key(|name| held_us(name))?;
        Some(Self { gateway, dropped: 0, down: Some(down) })
    }

    fn place(&self) -> String {
        format!("queue at {}", self.gateway)
    }

    /// The limit of its policy that it waits for.
    fn limit(&self, case: &Case<'_>) -> Option<Limit> {
        down_limit(&case.view, &self.down?, case.vnic)
    }

    /// "8 frames from outside waited too long at gateway-a and were dropped"
    fn said(&self) -> String {
        let Self { gateway, dropped, down } = self;
        let down = down.unwrap_or_default();
        let mut said = match (dropped, down.held_percent) {
            (0, Some(percent)) => {
                format!("what comes from outside waits at {gateway} in {percent} % of the time")
            }
            (0, None) => format!("what comes from outside waits at {gateway}"),
            (dropped, _) => format!(
                "{dropped} frames from outside waited too long at {gateway} and were dropped"
            ),
        };
        if down.queued_bytes > 0 {
            said += &format!(", {} bytes wait now", down.queued_bytes);
        }
        if down.marked_frames > 0 {
            said += &format!(", {} frames were marked (ECN)", down.marked_frames);
        }
        said
    }
}

/// The limit of its server's grant downwards, if what its vNICs get is at it.
fn at_grant_limit(case: &Case<'_>) -> Option<u64> {
    let (pool, server) = (case.view.pool_of(case.vnic)?, case.vnic.host.as_str());
    let limit_bps = case.view.grant_limit(pool, server, Direction::Down)?;
    let downs = case.gateways.values().flat_map(|look| &look.now.down);
    let rates = downs.filter(|it| it.server == server).map(|it| it.rate_bps);
    is_at(rates.fold(0, u64::saturating_add), limit_bps).then_some(limit_bps)
}

/// What its home may send to its server, as that said, if what its vNICs get there is at it.
fn at_port(case: &Case<'_>) -> Option<u64> {
    let home = &case.home?.name;
    let told_bps = *case.server.as_ref()?.now.fabric_port.as_ref()?.told_bps.get(home)?;
    let downs = case.gateway()?.now.down.iter();
    let here = downs.filter(|it| it.server == case.vnic.host && it.uplink == *home);
    let rates = here.map(|it| it.rate_bps).fold(0, u64::saturating_add);
    is_at(rates, told_bps).then_some(told_bps)
}

#[cfg(test)]
mod tests {
    use super::{super::found, *};
    use crate::sample::{Bed, MBIT};
    use wireonce_desired::{Rate, Terms};
    use wireonce_ledger::DropReason;

    /// For vm-a comes what it may have, and waits for so many milliseconds of a second.
    fn waits(mbit: u64, held_ms: u64) -> Bed {
        let mut bed = Bed::new();
        bed.server_a(|it| it);
        bed.gateway_a(|it| it.comes("vm-a", mbit * MBIT, held_ms));
        bed
    }

    fn limited(bed: &mut Bed, mbit: u64) {
        bed.grant("east/server-a", |grant| {
            let limit = Some(Rate::from_bps(mbit * MBIT));
            grant.down = Some(Terms { limit, ..Terms::default() });
        });
    }

    #[test]
    fn the_limit_of_its_policy_is_found_though_nothing_is_dropped() {
        let it = found(&waits(800, 900), "vm-a", own_limit).unwrap();
        assert_eq!(it.place, "queue at gateway-a");
        assert_eq!(
            it.what,
            "what comes from outside waits at gateway-a in 90 % of the time, 200000 bytes wait now, 90 \
             frames were marked (ECN): more came than the limit of its policy \"gold\" downwards, \
             800Mbit"
        );
        let command = "wireonce policy set gold down.limit=1600Mbit";
        assert_eq!(it.command.as_deref(), Some(command));
        for other in [packet_limit, grant_limit, share] {
            assert_eq!(found(&waits(800, 900), "vm-a", other), None);
        }
    }

    #[test]
    fn a_limit_that_nothing_waits_for_is_none() {
        assert_eq!(found(&waits(800, 0), "vm-a", own_limit), None);
        assert_eq!(found(&waits(800, 300), "vm-a", own_limit), None, "a burst");
        assert_eq!(found(&waits(300, 900), "vm-a", own_limit), None, "it is less");
    }

    #[test]
    fn frames_from_outside_beyond_a_limit_in_packets_name_it() {
        let mut bed = Bed::new();
        bed.gateway_a(|it| {
            it.flow("vm-a", Stage::UplinkRx, 50, &[(DropReason::Shaped, 8)]).down("vm-a", 20_000)
        });
        let it = found(&bed, "vm-a", packet_limit).unwrap();
        assert!(it.what.starts_with("8 frames from outside waited too long at gateway-a"));
        assert!(it.what.ends_with("downwards in packets per second, 20000"), "{}", it.what);
        let command = "wireonce policy set gold down.limit_packets_per_s=40000";
        assert_eq!(it.command.as_deref(), Some(command));
    }

    #[test]
    fn who_waits_for_bits_is_not_at_its_limit_in_packets() {
        assert_eq!(found(&waits(800, 900), "vm-a", packet_limit), None);
    }

    #[test]
    fn the_limit_of_its_servers_grant_is_found_with_the_command() {
        let mut bed = waits(300, 900);
        limited(&mut bed, 300);
        let it = found(&bed, "vm-a", grant_limit).unwrap();
        let said =
            "more came for server-a than the limit of its grant in pool east downwards, 300Mbit";
        assert!(it.what.ends_with(said), "{}", it.what);
        let command = "wireonce grant set east/server-a down.limit=600Mbit";
        assert_eq!(it.command.as_deref(), Some(command));
        assert_eq!(found(&bed, "vm-a", share), None);
    }

    #[test]
    fn less_than_the_grants_limit_is_not_it() {
        let mut bed = waits(200, 900);
        limited(&mut bed, 300);
        assert_eq!(found(&bed, "vm-a", grant_limit), None);
        assert!(found(&bed, "vm-a", share).is_some());
    }

    #[test]
    fn a_port_of_its_server_that_receives_no_more_is_found() {
        let mut bed = waits(300, 900);
        bed.server_a(|it| it.told("east-1", 300 * MBIT));
        let it = found(&bed, "vm-a", port).unwrap();
        assert!(it.what.contains("for server-a than its own fabric port receives"), "{}", it.what);
        assert_eq!(it.command, None);
        assert_eq!(found(&bed, "vm-a", share), None);
    }

    #[test]
    fn a_port_that_would_receive_more_is_not_it() {
        let mut bed = waits(300, 900);
        assert_eq!(found(&bed, "vm-a", port), None, "its port is not divided");
        bed.server_a(|it| it.told("east-1", 400 * MBIT));
        assert_eq!(found(&bed, "vm-a", port), None);
    }

    #[test]
    fn frames_from_outside_beyond_the_share_downwards_are_found() {
        let mut bed = Bed::new();
        bed.gateway_a(|it| it.flow("vm-a", Stage::UplinkRx, 50, &[(DropReason::Shaped, 8)]));
        let it = found(&bed, "vm-a", share).unwrap();
        assert!(
            it.what.starts_with("8 frames from outside waited too long at gateway-a"),
            "{}",
            it.what
        );
        assert!(it.what.ends_with("the limit of its policy is 800Mbit"), "{}", it.what);
    }

    #[test]
    fn a_home_that_brings_in_all_that_it_can_is_named_with_an_emptier_one() {
        let mut bed = waits(300, 900);
        bed.gateway_a(|it| it.comes("vm-a", 300 * MBIT, 900).brings(950 * MBIT));
        let it = found(&bed, "vm-a", share).unwrap();
        assert!(it.what.contains("; east-1 is full: it brings 949Mbit of 960Mbit"), "{}", it.what);
        assert_eq!(it.command.as_deref(), Some("wireonce grant use"), "the other is not heard");
        bed.gateway_b(|it| it.brings(100 * MBIT));
        let it = found(&bed, "vm-a", share).unwrap();
        assert_eq!(it.command.as_deref(), Some("wireonce vnic move vm-a --to east-2"));
    }

    #[test]
    fn frames_that_waited_on_the_way_out_are_not_those_from_outside() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.drops(Stage::GuestTx, DropReason::Shaped, 12));
        bed.gateway_a(|it| it.flow("vm-a", Stage::UplinkRx, 50, &[]));
        assert_eq!(found(&bed, "vm-a", share), None);
    }
}
