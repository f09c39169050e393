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
        promised: Rates::default(),
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
fn where_limits_divide_the_pool_a_move_is_told_that_leaves_the_giver_what_it_wants() {
    let house = machines(2, 10 * GBIT);
    let grants = [
        grant("server-a", GBIT, GBIT, 8 * GBIT),
        grant("server-b", 4 * GBIT, 4 * GBIT, 205 * MBIT),
    ];
    let command = "wireonce grant move --pool east --from server-b --to server-a 3790Mbit";
    let told = |grants: &[GrantUse]| all(&house, grants)[0].command.clone();
    assert_eq!(told(&grants).as_deref(), Some(command));

    let [a, b] = grants;
    let down = |it: GrantUse| {
        let turn = |rates: Rates| Rates { up_bps: rates.down_bps, down_bps: rates.up_bps };
        let (wants, reservation) = (turn(it.wants), turn(it.reservation));
        GrantUse { wants, reservation, limit: turn(it.limit), ..it }
    };
    let told_down = told(&[down(a.clone()), down(b.clone())]).unwrap();
    assert_eq!(told_down, format!("{command} --direction down"));

    // What its own vNICs were promised, it cannot give.
    let promised = Rates { up_bps: 4 * GBIT, down_bps: 0 };
    let raise = "wireonce grant set east/server-a up.limit=4790Mbit";
    assert_eq!(told(&[a.clone(), GrantUse { promised, ..b.clone() }]).as_deref(), Some(raise));

    // Limits that are more than there is divide nothing.
    let limit = Rates::both(5 * GBIT);
    assert_eq!(told(&[a, GrantUse { limit, ..b }]).as_deref(), Some(raise));
}

#[test]
fn what_one_can_spare_is_moved_to_one() {
    let grants = [
        grant("a", GBIT, GBIT, 3 * GBIT),
        grant("b", GBIT, GBIT, 2 * GBIT),
        grant("c", 3 * GBIT, 3 * GBIT, 0),
    ];
    let advice = all(&machines(2, 10 * GBIT), &grants);
    let commands: Vec<_> = advice.into_iter().filter_map(|it| it.command).collect();
    assert_eq!(
        commands,
        [
            "wireonce grant move --pool east --from c --to a 2Gbit",
            "wireonce grant set east/b up.limit=2Gbit"
        ]
    );
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
