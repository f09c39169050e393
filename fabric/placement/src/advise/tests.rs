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
        until: None,
        wants: up(wants),
        wants_here: Rates::default(),
        port_left: Rates::UNLIMITED,
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
fn a_limit_before_a_full_port_is_not_raised() {
    let house = machines(2, 10 * GBIT);
    let port =
        |bps| GrantUse { port_left: Rates::both(bps), ..grant("server-a", GBIT, GBIT, 3 * GBIT) };
    let advice = all(&house, &[port(GBIT)]);
    assert_eq!(advice.len(), 1);
    assert_eq!(
        advice[0].evidence,
        "server-a wants 3Gbit up of pool east and may use 1Gbit; its own fabric port carries 1Gbit of \
         that and is full: borrowing cannot help; give server-a a faster port, or move a VM to another \
         server"
    );
    assert_eq!(advice[0].command, None);

    // What the port still carries can be borrowed, and no more.
    let advice = all(&house, &[port(2 * GBIT)]);
    assert_eq!(advice.len(), 1);
    assert!(advice[0].evidence.ends_with("; its own fabric port carries 2Gbit of that"));
    let command = "wireonce grant set east/server-a up.limit=2Gbit";
    assert_eq!(advice[0].command.as_deref(), Some(command));

    // What stays on the machine does not cross the port.
    let here = GrantUse { wants_here: Rates::both(2 * GBIT), ..port(GBIT) };
    let command = "wireonce grant set east/server-a up.limit=3Gbit";
    assert_eq!(all(&house, &[here])[0].command.as_deref(), Some(command));
}

#[test]
fn a_port_that_holds_back_a_server_without_a_limit_is_told_once() {
    let mut house = machines(2, 10 * GBIT);
    house.vnics = vec![housed("vm-a", 0, 8 * GBIT, 0, 1), housed("vm-b", 0, 8 * GBIT, 0, 1)];
    house.servers[0].port = Rates::both(MBIT);
    let unlimited = GrantUse {
        port_left: Rates { up_bps: MBIT, down_bps: u64::MAX },
        ..grant("server-0", 0, u64::MAX, 16 * GBIT)
    };
    let advice = all(&house, &[unlimited]);
    assert_eq!(advice.len(), 1, "{advice:?}");
    assert!(
        advice[0].evidence.starts_with("server-0 wants 16Gbit up of pool east; its own fabric")
    );
}

#[test]
fn a_limit_that_was_agreed_for_a_time_is_told_and_not_raised() {
    let until = Some("2026-11-23T18:00:00Z".to_owned());
    let grants = [
        GrantUse { until: until.clone(), ..grant("a", GBIT, GBIT, 3 * GBIT) },
        GrantUse { until, ..grant("b", 4 * GBIT, 4 * GBIT, 200 * MBIT) },
    ];
    let advice = all(&machines(2, 10 * GBIT), &grants);
    assert_eq!(advice.len(), 1);
    assert_eq!(advice[0].command, None);
    let said = "; that was agreed until 2026-11-23T18:00:00Z and cannot be changed before; \
                `wireonce grant end east/a` ends it now, and what was before comes back";
    assert!(advice[0].evidence.ends_with(said), "{}", advice[0].evidence);
    // Nor can its giver's be.
    let [_, b] = grants;
    let divided = [grant("a", GBIT, GBIT, 8 * GBIT), b];
    let command = "wireonce grant set east/a up.limit=4800Mbit";
    assert_eq!(all(&machines(2, 10 * GBIT), &divided)[0].command.as_deref(), Some(command));
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
