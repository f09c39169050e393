//! Desks of gateways that share an outside, with the clock in hand: each second every desk has its
//! turn, and what it sends reaches whom the outside joins.

mod bed;

use super::{
    desk::{HOLD_US, Line},
    verdict::Verdict,
};
use crate::health::{Cause, HealthState};
use bed::{Bed, SECOND_US, UP_A, UP_B};
use wireonce_link::PeerId;

#[test]
fn uplinks_that_hear_each_other_are_joined_on_every_vlan() {
    let mut bed = Bed::new();
    bed.seconds(3);
    for gateway in [0, 1] {
        assert_eq!(bed.verdicts(gateway), [Verdict::Joined; 2]);
        assert_eq!(bed.designated(gateway), UP_A);
    }
    assert!(bed.lines(0).iter().all(|line| matches!(
        line,
        Line::Pair { verdict: Verdict::Joined, vlans, .. } if vlans.len() == 2
    )));
}

#[test]
fn a_vlan_that_a_port_lacks_is_named_and_the_other_is_joined() {
    let mut bed = Bed::new();
    bed.seconds(3);
    bed.cut = |_, _, vlan| vlan == Some(20);
    bed.seconds(5);
    for gateway in [0, 1] {
        assert_eq!(bed.verdicts(gateway), [Verdict::Joined, Verdict::VlanMissing]);
        let lines = bed.lines(gateway);
        let named = lines.iter().any(|line| {
            matches!(line, Line::Pair { verdict: Verdict::VlanMissing, vlans, .. } if *vlans == [Some(20)])
        });
        assert!(named, "{lines:?}");
    }
    bed.cut = |_, _, _| false;
    bed.seconds(3);
    assert_eq!(bed.verdicts(0), [Verdict::Joined; 2]);
}

#[test]
fn each_change_is_one_line() {
    let mut bed = Bed::new();
    bed.seconds(20);
    bed.cut = |_, _, _| true;
    bed.seconds(20);
    let lines = bed.lines(0);
    let verdicts: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Pair { verdict, .. } => Some(*verdict),
            _ => None,
        })
        .collect();
    assert_eq!(verdicts, [Verdict::Joined, Verdict::Apart]);
}

#[test]
fn what_passes_one_way_only_is_seen_by_both() {
    let mut bed = Bed::new();
    bed.seconds(3);
    bed.cut = |from, _, _| from == 0;
    bed.seconds(10);
    assert_eq!(bed.verdicts(0), [Verdict::OneWay; 2], "it hears, and is not heard");
    assert_eq!(bed.verdicts(1), [Verdict::OneWay; 2], "it was told over the fabric");
    assert_eq!([bed.designated(0), bed.designated(1)], [UP_A, UP_A]);
}

#[test]
fn a_pool_in_two_parts_is_named_and_keeps_one_designated_uplink_while_the_fabric_is_there() {
    let mut bed = Bed::new();
    bed.seconds(3);
    bed.cut = |_, _, _| true;
    bed.seconds(10);
    for gateway in [0, 1] {
        assert_eq!(bed.verdicts(gateway), [Verdict::Apart; 2]);
        assert_eq!(bed.designated(gateway), UP_A);
    }
}

#[test]
fn two_that_hear_each_other_neither_way_are_both_designated() {
    let mut bed = Bed::new();
    bed.seconds(3);
    (bed.cut, bed.fabric) = (|_, _, _| true, false);
    bed.seconds(2);
    assert_eq!([bed.designated(0), bed.designated(1)], [UP_A, UP_A], "a stall makes no two");
    bed.seconds(8);
    assert_eq!([bed.designated(0), bed.designated(1)], [UP_A, UP_B]);
    assert_eq!(bed.verdicts(0), [Verdict::Unknown; 2], "nobody can say whether it has a link");
    bed.fabric = true;
    bed.seconds(2);
    assert_eq!([bed.designated(0), bed.designated(1)], [UP_A, UP_A], "the configured one again");
}

#[test]
fn an_uplink_without_a_link_is_gone_at_once_and_the_other_is_designated() {
    let mut bed = Bed::new();
    bed.seconds(3);
    bed.carrier(0, false);
    // No second passes: only what is said over the fabric.
    bed.exchange();
    assert_eq!(bed.gateways[0].health.state(UP_A), HealthState::Gone);
    assert_eq!([bed.designated(0), bed.designated(1)], [UP_B, UP_B]);
    bed.seconds(6);
    assert_eq!(bed.verdicts(0), [Verdict::Down; 2]);
    assert_eq!(bed.verdicts(1), [Verdict::Down; 2]);
    bed.carrier(0, true);
    bed.seconds(3);
    assert_eq!([bed.designated(0), bed.designated(1)], [UP_A, UP_A]);
    assert_eq!(bed.verdicts(1), [Verdict::Joined; 2]);
}

#[test]
fn a_gateway_of_an_older_version_is_there_as_long_as_its_session_is() {
    let mut bed = Bed::new();
    let second = bed.gateways.remove(1);
    drop(second);
    bed.gateways[0].desk.session(PeerId(0), true, bed.now_us);
    bed.seconds(60);
    assert_eq!(bed.designated(0), UP_A);
    bed.gateways[0].desk.session(PeerId(0), false, bed.now_us);
    bed.seconds(1);
    assert_eq!(bed.verdicts(0), [Verdict::Unknown; 2]);
}

#[test]
fn a_loop_holds_broadcast_for_ten_seconds_and_until_a_look_finds_none() {
    let mut bed = Bed::new();
    bed.seconds(3);
    bed.reflects = true;
    bed.seconds(1);
    for (gateway, uplink) in [(0, UP_A), (1, UP_B)] {
        assert!(bed.gateways[gateway].gate.is_held());
        assert!(bed.gateways[gateway].health.causes(uplink).has(Cause::Loop));
    }
    bed.sent_since_last();
    bed.seconds(9);
    assert_eq!(bed.sent_since_last(), 0, "an uplink that hears itself is silent");
    bed.seconds(5);
    assert!(bed.gateways[0].gate.is_held(), "it looked again, and it is still there");
    bed.reflects = false;
    bed.seconds(2 + HOLD_US / SECOND_US + 3);
    for (gateway, uplink) in [(0, UP_A), (1, UP_B)] {
        assert!(!bed.gateways[gateway].gate.is_held());
        assert_eq!(bed.gateways[gateway].health.state(uplink), HealthState::Alive);
    }
    bed.seconds(4);
    assert_eq!(bed.verdicts(0), [Verdict::Joined; 2]);
    let loops = bed.lines(0);
    let loops: Vec<bool> = loops
        .iter()
        .filter_map(|line| match line {
            Line::Loop { held, .. } => Some(*held),
            _ => None,
        })
        .collect();
    assert_eq!(loops, [true, false], "one line for each change");
}

#[test]
fn where_probes_are_switched_off_nothing_is_held_and_the_configured_uplink_is_designated() {
    let mut bed = Bed::new();
    bed.seconds(3);
    bed.reflects = true;
    bed.seconds(1);
    assert!(bed.gateways[0].gate.is_held());
    bed.switch_off(0);
    assert!(!bed.gateways[0].gate.is_held(), "nobody would look again");
    assert_eq!(bed.gateways[0].health.state(UP_A), HealthState::Alive);
    bed.sent_since_last();
    bed.fabric = false;
    bed.seconds(20);
    assert_eq!(bed.designated(0), UP_A);
    assert_eq!(bed.verdicts(0), []);
}

#[test]
fn what_comes_twice_is_a_loop_and_unicast_and_broadcast_go_on() {
    let mut bed = Bed::new();
    bed.seconds(3);
    bed.copies = 2;
    bed.seconds(4);
    assert_eq!(bed.verdicts(0), [Verdict::Loop; 2]);
    assert!(!bed.gateways[0].gate.is_held(), "it may be anybody's joke, so nothing stops for it");
    bed.copies = 1;
    bed.seconds(5);
    assert_eq!(bed.verdicts(0), [Verdict::Joined; 2]);
}

#[test]
fn forged_and_recorded_probes_change_nothing_and_are_counted() {
    let mut bed = Bed::new();
    bed.seconds(3);
    let recorded = bed.recorded.clone();
    let own = recorded.iter().find(|(from, _)| *from == 0).unwrap().1.clone();
    let other = recorded.iter().find(|(from, _)| *from == 1).unwrap().1.clone();
    bed.seconds(4);
    let before = bed.gateways[0].desk.counters;
    let now_us = bed.now_us;
    let desk = &mut bed.gateways[0].desk;
    for emission in [&own, &other] {
        desk.probe(UP_A, emission.vlan, &emission.frame, now_us);
    }
    let mut forged = other.frame.clone();
    forged[14 + 16] ^= 0x80; // a later number
    desk.probe(UP_A, other.vlan, &forged, now_us);
    desk.probe(UP_A, other.vlan, &other.frame[..30], now_us);
    let after = bed.gateways[0].desk.counters;
    assert_eq!(after.replayed, before.replayed + 2);
    assert_eq!(after.unauthentic, before.unauthentic + 1);
    assert_eq!(after.unreadable, before.unreadable + 1);
    assert_eq!((after.own, after.heard), (before.own, before.heard));
    assert!(!bed.gateways[0].gate.is_held());
    bed.seconds(1);
    assert_eq!(bed.verdicts(0), [Verdict::Joined; 2]);
}

#[test]
fn a_probe_on_another_vlan_than_it_says_is_counted_and_joins_nothing() {
    let mut bed = Bed::new();
    bed.cut = |_, _, vlan| vlan == Some(20);
    bed.seconds(3);
    let (_, untagged) =
        bed.recorded.iter().rev().find(|(from, it)| *from == 1 && it.vlan.is_none()).unwrap();
    let frame = untagged.frame.clone();
    let now_us = bed.now_us;
    bed.gateways[0].desk.probe(UP_A, Some(20), &frame, now_us);
    assert_eq!(bed.gateways[0].desk.counters.crossed, 1);
    bed.seconds(5);
    assert_eq!(bed.verdicts(0), [Verdict::Joined, Verdict::VlanMissing]);
}

#[test]
fn a_restarted_gateway_is_believed_even_if_its_clock_went_back() {
    let mut bed = Bed::new();
    bed.seconds(3);
    bed.restart(1, 5);
    bed.seconds(6);
    assert_eq!(bed.verdicts(0), [Verdict::Joined; 2]);
    let recorded: Vec<_> = bed.recorded.clone();
    let old = &recorded.iter().find(|(from, _)| *from == 1).unwrap().1;
    let before = bed.gateways[0].desk.counters.heard;
    bed.seconds(1);
    let heard_in_a_second = bed.gateways[0].desk.counters.heard - before;
    assert_eq!(heard_in_a_second, 2, "{old:?}");
}

#[test]
fn a_sick_next_hop_hands_the_pool_to_another_and_takes_it_back() {
    let mut bed = Bed::with_next_hop();
    bed.seconds(6);
    assert!(bed.gateways[0].health.causes(UP_A).has(Cause::NextHopSilent));
    assert_eq!([bed.designated(0), bed.designated(1)], [UP_B, UP_B]);
    bed.router = true;
    bed.seconds(6);
    assert_eq!(bed.gateways[0].health.state(UP_A), HealthState::Alive);
    assert_eq!([bed.designated(0), bed.designated(1)], [UP_A, UP_A]);
}

#[test]
fn many_vlans_take_turns_and_are_judged_by_longer_silences() {
    let mut bed = Bed::with_vlans(40);
    bed.seconds(2);
    bed.sent_since_last();
    bed.seconds(3);
    assert_eq!(bed.sent_since_last(), 2 * 40, "two uplinks, each VLAN once in three seconds");
    bed.seconds(10);
    let verdicts = bed.verdicts(0);
    assert_eq!(verdicts, vec![Verdict::Joined; 40]);
}

#[test]
fn another_configuration_keeps_what_is_known_and_forgets_who_is_gone() {
    let mut bed = Bed::new();
    bed.seconds(3);
    bed.reconfigure(0);
    assert_eq!(bed.verdicts(0), [Verdict::Joined; 2]);
    assert_eq!(bed.gateways[0].desk.heard.len(), 2);
    bed.without_others(0);
    assert_eq!(bed.gateways[0].desk.heard.len(), 0);
    bed.seconds(2);
    assert_eq!(bed.verdicts(0), []);
}
