use super::{super::found, *};
use crate::sample::{Bed, Daemon, MBIT};
use wireonce_desired::{Rate, Terms};
use wireonce_ledger::{
    DropReason,
    status::{LinkGrayStatus, LinkState},
};

/// vm-a sends what its share lets it, and is held back; its policy's limit is 800 Mbit/s.
fn held_at(rate_mbit: u64) -> Bed {
    let mut bed = Bed::new();
    bed.server_a(|it| it.sends(rate_mbit * MBIT).held(rate_mbit * MBIT, 64_000));
    bed
}

/// east-1 has leased so much to server-a and carries so much.
fn gateway(it: Daemon, lease_mbit: u64, carries_mbit: u64) -> Daemon {
    it.lease("east-1", "server-a", lease_mbit * MBIT, lease_mbit * MBIT)
        .carries("vm-a", carries_mbit * MBIT)
}

fn limited(bed: &mut Bed, mbit: u64) {
    bed.grant("east/server-a", |grant| {
        let limit = Some(Rate::from_bps(mbit * MBIT));
        grant.up = Some(Terms { limit, ..Terms::default() });
    });
}

#[test]
fn the_limit_of_its_own_policy_is_found_with_the_command() {
    let it = found(&held_at(800), "vm-a", own_limit).unwrap();
    assert_eq!(it.what, "held back 90 % of the time by the limit of its policy \"gold\", 800Mbit");
    assert_eq!(it.command.as_deref(), Some("wireonce policy set gold up.limit=1600Mbit"));
}

#[test]
fn who_sends_less_than_its_limit_is_not_held_back_by_it() {
    assert_eq!(found(&held_at(300), "vm-a", own_limit), None);
    let mut bed = Bed::new();
    bed.server_a(|it| {
        it.sends(800 * MBIT).shared(VnicShareStatus { rate_bps: 800 * MBIT, ..Default::default() })
    });
    assert_eq!(found(&bed, "vm-a", own_limit), None, "it is not held back");
}

#[test]
fn the_limit_in_packets_of_its_own_policy_is_proved_with_the_command_and_nothing_else_is() {
    let mut bed = Bed::new();
    bed.server_a(|it| it.sends(12 * MBIT).at_packet_limit(1_000, 12 * MBIT));
    bed.gateway_a(|it| gateway(it, 12, 12));
    let it = found(&bed, "vm-a", packet_limit).unwrap();
    assert_eq!(
        it.what,
        "held back 90 % of the time by the limit of its policy \"gold\" in packets per second, 1000: \
         it sent 1000 packets per second; more bandwidth would not help"
    );
    assert_eq!(it.sure, crate::causes::Sure::Proved);
    let command = "wireonce policy set gold up.limit_packets_per_s=2000";
    assert_eq!(it.command.as_deref(), Some(command));
    for other in [own_limit, grant_limit, uplink_full, server_lease] {
        assert_eq!(found(&bed, "vm-a", other), None);
    }
}

#[test]
fn who_waits_for_bits_below_a_limit_in_packets_is_not_held_back_by_that() {
    let mut bed = Bed::new();
    bed.server_a(|it| {
        it.sends(800 * MBIT).shared(VnicShareStatus {
            rate_bps: 800 * MBIT,
            held: true,
            held_us: 900_000,
            served_bits: 800 * MBIT,
            limit_packets_per_s: Some(1_000_000),
            packets_held_us: 100_000,
            ..VnicShareStatus::default()
        })
    });
    assert_eq!(found(&bed, "vm-a", packet_limit), None);
    assert!(found(&bed, "vm-a", own_limit).is_some());
}

#[test]
fn frames_over_the_limit_in_packets_are_found_at_the_gateway() {
    let mut bed = held_at(300);
    bed.gateway_a(|it| it.flow("vm-a", Stage::UplinkTx, 50, &[(DropReason::OverPacketLimit, 9)]));
    let it = found(&bed, "vm-a", over_packet_limit).unwrap();
    assert!(it.what.starts_with("9 frames were over the limit of its policy in packets"));
    assert_eq!(found(&bed, "vm-a", over_lease), None);
}

#[test]
fn who_keeps_to_its_limit_in_packets_is_not_over_it() {
    let mut bed = held_at(300);
    bed.gateway_a(|it| it.flow("vm-a", Stage::UplinkTx, 50, &[(DropReason::OverLease, 9)]));
    assert_eq!(found(&bed, "vm-a", over_packet_limit), None);
}

#[test]
fn the_limit_of_its_servers_grant_is_found_with_the_command() {
    let mut bed = held_at(300);
    limited(&mut bed, 300);
    bed.gateway_a(|it| gateway(it, 300, 300));
    let it = found(&bed, "vm-a", grant_limit).unwrap();
    assert!(
        it.what.ends_with("by the limit of server-a's grant in pool east, 300Mbit"),
        "{}",
        it.what
    );
    assert_eq!(it.command.as_deref(), Some("wireonce grant set east/server-a up.limit=600Mbit"));
    assert_eq!(found(&bed, "vm-a", server_lease), None);
}

#[test]
fn a_lease_below_the_grants_limit_is_not_it() {
    let mut bed = held_at(200);
    limited(&mut bed, 300);
    bed.gateway_a(|it| gateway(it, 200, 200));
    assert_eq!(found(&bed, "vm-a", grant_limit), None);
}

#[test]
fn a_full_uplink_is_found_and_an_emptier_one_named() {
    let mut bed = held_at(300);
    bed.gateway_a(|it| gateway(it, 300, 300).carries("vm-x", 660 * MBIT));
    let it = found(&bed, "vm-a", uplink_full).unwrap();
    assert!(
        it.what.ends_with(
            "by a full uplink: east-1 carried 960Mbit of 990Mbit, of which server-a has a lease of 300Mbit"
        ),
        "{}",
        it.what
    );
    assert_eq!(it.command.as_deref(), Some("wireonce grant use"), "the other is not heard");
    bed.gateway_b(|it| it.carries("vm-b", 100 * MBIT));
    let it = found(&bed, "vm-a", uplink_full).unwrap();
    assert_eq!(it.command.as_deref(), Some("wireonce vnic move vm-a --to east-2"));
}

#[test]
fn an_uplink_with_room_is_not_full() {
    let mut bed = held_at(300);
    bed.gateway_a(|it| gateway(it, 300, 300));
    assert_eq!(found(&bed, "vm-a", uplink_full), None);
}

#[test]
fn a_lease_that_nothing_else_explains_is_found() {
    let mut bed = held_at(300);
    bed.gateway_a(|it| gateway(it, 300, 300));
    let it = found(&bed, "vm-a", server_lease).unwrap();
    assert!(it.what.ends_with("through east-1: its lease is 300Mbit"), "{}", it.what);
}

#[test]
fn who_is_not_held_back_has_no_lease_to_blame() {
    let mut bed = Bed::new();
    bed.server_a(|it| it.sends(300 * MBIT));
    bed.gateway_a(|it| gateway(it, 300, 300));
    assert_eq!(found(&bed, "vm-a", server_lease), None);
    let mut bed = held_at(800);
    bed.gateway_a(|it| gateway(it, 800, 300));
    assert_eq!(found(&bed, "vm-a", server_lease), None, "it is its own limit");
}

#[test]
fn a_full_fabric_port_is_likely_and_names_the_test() {
    let mut bed = Bed::new();
    // 10 Gbit/s of port; datagrams of 1,500 bytes on the wire.
    bed.server_a(|it| it.datagrams("gateway-a", 800_000, 0));
    let it = found(&bed, "vm-a", port_full).unwrap();
    assert!(
        it.what.starts_with("server-a sends 9600Mbit through its fabric port of 10Gbit"),
        "{}",
        it.what
    );
    assert!(it.test.is_some());
}

#[test]
fn a_server_that_divides_its_port_proves_that_it_holds_back() {
    let mut bed = Bed::new();
    bed.server_a(|it| it.sends(100 * MBIT).at_port(100 * MBIT));
    bed.gateway_a(|it| gateway(it, 800, 100));
    let it = found(&bed, "vm-a", port_full).unwrap();
    assert_eq!((it.sure, it.command), (super::super::Sure::Proved, None));
    assert_eq!(
        it.what,
        "held back 90 % of the time by server-a's own fabric port, through which it may send 100Mbit: \
         borrowing another uplink cannot help"
    );
    for other in [own_limit, packet_limit, grant_limit, uplink_full, server_lease] {
        assert_eq!(found(&bed, "vm-a", other), None);
    }
    assert!(is_held(&Case::new(&bed.view(), None, "vm-a").unwrap()));
}

#[test]
fn a_port_with_room_or_of_unknown_size_is_not_full() {
    let mut bed = Bed::new();
    bed.server_a(|it| it.datagrams("gateway-a", 80_000, 0));
    assert_eq!(found(&bed, "vm-a", port_full), None);
    bed.server_b(|it| it.link("gateway-b", LinkState::Up).datagrams("gateway-b", 800_000, 0));
    assert_eq!(found(&bed, "vm-b", port_full), None, "nobody said what it carries");
}

#[test]
fn frames_that_waited_too_long_are_found() {
    let mut bed = Bed::new();
    bed.server_a(|it| it.drops(Stage::GuestTx, DropReason::Shaped, 12));
    assert!(found(&bed, "vm-a", shaper_drops).unwrap().what.starts_with("12 frames to its home"));
}

#[test]
fn who_only_waits_loses_nothing_at_the_shaper() {
    assert_eq!(found(&held_at(300), "vm-a", shaper_drops), None);
}

#[test]
fn frames_over_the_lease_are_found_at_the_gateway() {
    let mut bed = held_at(300);
    bed.gateway_a(|it| it.flow("vm-a", Stage::UplinkTx, 50, &[(DropReason::OverLease, 9)]));
    let it = found(&bed, "vm-a", over_lease).unwrap();
    assert_eq!(it.place, "police at gateway-a");
    assert!(it.what.starts_with("9 frames were over"), "{}", it.what);
}

#[test]
fn frames_of_others_over_their_lease_are_not_ours() {
    let mut bed = held_at(300);
    bed.gateway_a(|it| it.flow("vm-x", Stage::UplinkTx, 50, &[(DropReason::OverLease, 9)]));
    assert_eq!(found(&bed, "vm-a", over_lease), None);
}

#[test]
fn a_full_queue_at_the_gateway_is_found() {
    let mut bed = held_at(300);
    bed.gateway_a(|it| it.flow("vm-a", Stage::UplinkTx, 50, &[(DropReason::UplinkBusy, 8)]));
    let it = found(&bed, "vm-a", gateway_queue).unwrap();
    assert_eq!((it.place.as_str(), it.who), ("egress at gateway-a", Who::Network));
}

#[test]
fn a_queue_that_takes_everything_is_not_full() {
    let mut bed = held_at(300);
    bed.gateway_a(|it| it.carries("vm-a", 300 * MBIT));
    assert_eq!(found(&bed, "vm-a", gateway_queue), None);
}

#[test]
fn no_limit_is_told_to_be_raised_while_the_servers_own_port_is_full() {
    let full = |it: Daemon| it.datagrams("gateway-a", 800_000, 0);
    let mut bed = held_at(300);
    limited(&mut bed, 300);
    bed.server_a(|it| full(it.sends(300 * MBIT).held(300 * MBIT, 64_000)));
    bed.gateway_a(|it| gateway(it, 300, 300));
    let it = found(&bed, "vm-a", grant_limit).unwrap();
    assert_eq!(it.command, None);
    let said =
        "; server-a's own fabric port is full, too, 9600Mbit of 10Gbit: a higher limit cannot help";
    assert!(it.what.ends_with(said), "{}", it.what);
    bed.server_a(|it| full(it.sends(800 * MBIT).held(800 * MBIT, 64_000)));
    assert_eq!(found(&bed, "vm-a", own_limit).unwrap().command, None);
    // What does not cross the port, it does not hold back.
    bed.gateway_host("gateway-a", |host| host.machine = Some("rack1-1".to_owned()));
    assert!(found(&bed, "vm-a", own_limit).unwrap().command.is_some());
}

#[test]
fn an_uplink_that_drains_or_is_left_by_others_is_no_emptier_one() {
    let mut bed = held_at(300);
    bed.gateway_a(|it| gateway(it, 300, 300).carries("vm-x", 660 * MBIT));
    let command = |bed: &Bed| found(bed, "vm-a", uplink_full).unwrap().command.unwrap();
    bed.gateway_b(|it| it.health("alive", &[]));
    assert_eq!(command(&bed), "wireonce vnic move vm-a --to east-2");
    bed.gateway_b(|it| it.health("sick", &["next-hop-silent"]));
    assert_eq!(command(&bed), "wireonce grant use");
    bed.gateway_b(|it| it);
    bed.uplink("east-2", |uplink| uplink.draining = true);
    assert_eq!(command(&bed), "wireonce grant use");
    bed.uplink("east-2", |uplink| uplink.draining = false);
    let gray = LinkGrayStatus { leaves_homes: true, ..LinkGrayStatus::default() };
    bed.server_a(|it| it.sends(300 * MBIT).held(300 * MBIT, 64_000).gray("gateway-b", &gray));
    assert_eq!(command(&bed), "wireonce grant use");
}
