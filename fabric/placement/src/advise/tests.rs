use super::*;
use crate::sample::{GBIT, MBIT, housed, machines};

fn grant(server: &str, reservation: u64, limit: u64, wants: u64) -> GrantUse {
    let up = |up_bps| Rates { up_bps, down_bps: 0 };
    GrantUse {
        pool: "east".to_owned(),
        pool_usable: Rates::both(5 * GBIT),
        server: server.to_owned(),
        reservation: up(reservation),
        limit: Rates { up_bps: limit, down_bps: u64::MAX },
        wants: up(wants),
    }
}

fn all(house: &House, grants: &[GrantUse]) -> Vec<Advice> {
    advise(house, grants, &Limits::default())
}

#[test]
fn a_limit_that_starves_beside_a_reservation_that_idles_is_told_with_the_command() {
    let house = machines(2, 10 * GBIT);
    let grants = [
        grant("server-a", GBIT, GBIT, 3 * GBIT),
        grant("server-b", 4 * GBIT, u64::MAX, 200 * MBIT),
    ];
    let advice = all(&house, &grants);
    assert_eq!(advice.len(), 1);
    assert_eq!(
        advice[0].evidence,
        "server-a wants 3Gbit up of pool east and may use 1Gbit; the pool has 3800Mbit to spare: \
         server-b reserves 4Gbit and wants 200Mbit"
    );
    let command = "wireonce grant set east/server-a up.limit=3Gbit";
    assert_eq!(advice[0].command.as_deref(), Some(command));
}

#[test]
fn limits_downwards_are_told_as_such() {
    let turned = |it: GrantUse| GrantUse {
        limit: Rates { up_bps: u64::MAX, down_bps: it.limit.up_bps },
        wants: Rates { up_bps: 0, down_bps: it.wants.up_bps },
        ..it
    };
    let advice = all(&machines(2, 10 * GBIT), &[turned(grant("a", 0, GBIT, 2 * GBIT))]);
    let command = "wireonce grant set east/a down.limit=2Gbit";
    assert_eq!(advice[0].command.as_deref(), Some(command));
}

#[test]
fn what_a_pool_has_to_spare_is_given_once() {
    let house = machines(2, 10 * GBIT);
    let grants = [
        grant("a", GBIT, GBIT, 3 * GBIT),
        grant("b", GBIT, GBIT, 4 * GBIT),
        grant("c", 0, GBIT, 0),
    ];
    let commands: Vec<_> = all(&house, &grants).into_iter().filter_map(|it| it.command).collect();
    assert_eq!(commands, ["wireonce grant set east/b up.limit=4Gbit"]);
}

#[test]
fn nobody_is_given_what_others_use() {
    let house = machines(2, 10 * GBIT);
    let busy = [grant("a", GBIT, GBIT, 3 * GBIT), grant("b", 0, u64::MAX, 4 * GBIT)];
    assert_eq!(all(&house, &busy), []);
    let content = [grant("a", GBIT, GBIT, GBIT), grant("b", 0, u64::MAX, 0)];
    assert_eq!(all(&house, &content), []);
}

#[test]
fn a_home_that_is_full_is_told_with_the_command_and_the_price() {
    let mut house = machines(2, 10 * GBIT);
    house.vnics = vec![housed("vm-a", 0, 8 * GBIT, 0, 1), housed("vm-b", 0, 8 * GBIT, 0, 1)];
    let advice = all(&house, &[]);
    assert_eq!(advice[0].command.as_deref(), Some("wireonce vnic move vm-a --to uplink-1"));
    let evidence = &advice[0].evidence;
    assert!(evidence.contains("would have 3Gbit both ways more"), "{evidence}");
    assert!(evidence.contains("1.92 cores, and it depends on gateway-1"), "{evidence}");
}

#[test]
fn a_full_server_port_is_told_without_a_command() {
    let mut house = machines(2, 10 * GBIT);
    house.vnics = vec![housed("vm-a", 0, 8 * GBIT, 0, 1), housed("vm-b", 0, 8 * GBIT, 0, 1)];
    house.servers[0].port = Rates::both(MBIT);
    let advice = all(&house, &[]);
    assert_eq!(advice.len(), 2);
    for it in advice {
        assert_eq!(it.command, None);
        assert!(it.evidence.contains("borrowing cannot help"), "{}", it.evidence);
    }
}

#[test]
fn rates_are_written_as_commands_take_them() {
    for (bps, text) in [
        (2 * GBIT, "2Gbit"),
        (2_400 * MBIT, "2400Mbit"),
        (200 * MBIT, "200Mbit"),
        (1_500_000, "1Mbit"),
        (64_000, "64kbit"),
    ] {
        assert_eq!(rate(bps), text);
    }
}
