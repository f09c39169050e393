//! Servers at a desk, with a clock of its own.

use super::*;
use std::sync::Arc;
use wireonce_config::Peer;
use wireonce_wire::UplinkId;

const MBIT: u64 = 1_000_000;
const A: PeerId = PeerId(0);
const B: PeerId = PeerId(1);

/// An uplink of 200 Mbit/s, and two servers with shares of three to one.
fn config(more: &str) -> Config {
    let file = format!(
        "host = {{ name = 'g', private_key_file = '/k' }}
        fabric = {{ address = '127.0.0.1' }}
        peer = [
            {{ name = 'a', address = '127.0.0.2', public_key = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=' }},
            {{ name = 'b', address = '127.0.0.3', public_key = 'AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=' }},
        ]
        network = [{{ name = 'n', vni = 1, pool = 'p' }}]
        uplink = [{{ id = 7, name = 'u', host = 'g', pool = 'p', driver = 'tap', interface = 't', up = '200Mbit' }}]
        vnic = [
            {{ id = 1, name = 'v1', host = 'a', network = 'n', mac = '52:54:00:00:00:01', home = 'u' }},
            {{ id = 2, name = 'v2', host = 'b', network = 'n', mac = '52:54:00:00:00:02', home = 'u' }},
        ]
        {more}"
    );
    Config::parse(&file, "g.toml").unwrap()
}

const GRANTS: &str = "grant = [
    { pool = 'p', server = 'a', up = { shares = 300 } },
    { pool = 'p', server = 'b', up = { reservation = '20Mbit' } },
]";

/// A desk that has forgotten its earlier life.
fn desk(more: &str) -> Desk {
    desk_of(&config(more), &[1, 2])
}

/// The desk of the first uplink, on which these vNICs are.
fn desk_of(config: &Config, here: &[u64]) -> Desk {
    let numbers = PeerNumbers::in_order(config);
    let uplink = config.uplink(UplinkId(7)).unwrap();
    Desk::new(config, &numbers, uplink, &ids(here), 1, 0).unwrap()
}

fn id(id: u64) -> VnicId {
    VnicId::new(id).unwrap()
}

fn ids(vnics: &[u64]) -> BTreeSet<VnicId> {
    vnics.iter().copied().map(id).collect()
}

struct Tester {
    life: u64,
    obeyed: u64,
    rate_bps: u64,
}

impl Tester {
    fn new(life: u64) -> Self {
        Self { life, obeyed: 0, rate_bps: 0 }
    }

    fn report(&mut self, desk: &mut Desk, peer: PeerId, demand: Demand, now_us: u64) -> u64 {
        let report = Report { sent_us: now_us, obeyed: self.obeyed };
        let message = ReportMessage {
            uplink: 7,
            life: self.life,
            report,
            served_bits: 0,
            demand,
            packets: 0,
        };
        // Who was answered just now is only heard.
        let Some(answer) = desk.report(peer, &message, now_us) else { return self.rate_bps };
        assert_eq!(answer.life, self.life);
        (self.obeyed, self.rate_bps) = (answer.lease.epoch, answer.lease.rate_bps);
        self.rate_bps
    }
}

/// Both report each 5 ms for `ticks`; returns what they have at the end.
fn run(
    desk: &mut Desk,
    servers: &mut [Tester; 2],
    demands: [Option<Demand>; 2],
    now_us: &mut u64,
    ticks: usize,
) -> [u64; 2] {
    for _ in 0..ticks {
        *now_us += 5_000;
        for (at, peer) in [A, B].into_iter().enumerate() {
            if let Some(demand) = demands[at] {
                let before_bps = servers[at].rate_bps;
                if servers[at].report(desk, peer, demand, *now_us) < before_bps {
                    // A cut is acknowledged at once.
                    servers[at].report(desk, peer, demand, *now_us + 1);
                }
            }
        }
        let promised: u64 = desk.standings(*now_us).map(|s| s.promised_bps).sum();
        assert!(promised <= 198 * MBIT || *now_us < 60_000, "never more than there is: {promised}");
    }
    [servers[0].rate_bps, servers[1].rate_bps]
}

#[test]
fn two_servers_share_an_uplink_by_their_shares() {
    let (mut desk, mut servers) = (desk(GRANTS), [Tester::new(1), Tester::new(2)]);
    let both = [Some(Demand::Unbounded); 2];
    let mut now_us = 100_000;
    assert_eq!(run(&mut desk, &mut servers, both, &mut now_us, 4), [148_500_000, 49_500_000]);
}

#[test]
fn what_one_leaves_the_other_has_and_gets_back_within_two_ticks() {
    let (mut desk, mut servers) = (desk(GRANTS), [Tester::new(1), Tester::new(2)]);
    let mut now_us = 100_000;
    let little = [Some(Demand::Unbounded), Some(Demand::Bps(0))];
    let idle = run(&mut desk, &mut servers, little, &mut now_us, 4);
    assert_eq!(idle, [198 * MBIT - 4_950_000, 4_950_000], "all but the other's starter");
    let both = [Some(Demand::Unbounded); 2];
    run(&mut desk, &mut servers, both, &mut now_us, 2);
    assert_eq!(servers[1].rate_bps, 49_500_000);
}

#[test]
fn the_share_of_a_server_that_died_is_lent_to_the_other() {
    let (mut desk, mut servers) = (desk(GRANTS), [Tester::new(1), Tester::new(2)]);
    let mut now_us = 100_000;
    run(&mut desk, &mut servers, [Some(Demand::Unbounded); 2], &mut now_us, 4);
    let alone = [Some(Demand::Unbounded), None];
    let lent = run(&mut desk, &mut servers, alone, &mut now_us, 14);
    assert_eq!(lent[0], 198 * MBIT - 4_950_000, "70 ms later");
    // It starts anew, with a clock that begins again.
    servers[1] = Tester::new(3);
    let both = [Some(Demand::Unbounded); 2];
    assert_eq!(run(&mut desk, &mut servers, both, &mut now_us, 3), [148_500_000, 49_500_000]);
}

#[test]
fn a_server_that_wants_little_has_headroom_and_its_reservation_when_it_wants_it() {
    let (mut desk, mut servers) = (desk(GRANTS), [Tester::new(1), Tester::new(2)]);
    let mut now_us = 100_000;
    let calm = [Some(Demand::Bps(30 * MBIT)), Some(Demand::Bps(10 * MBIT))];
    let [a, b] = run(&mut desk, &mut servers, calm, &mut now_us, 4);
    assert!(a + b <= 198 * MBIT && a > 100 * MBIT && b > 40 * MBIT, "{a} {b}");
}

#[test]
fn what_is_promised_follows_the_part_that_is_there() {
    let (mut desk, mut servers) = (desk(GRANTS), [Tester::new(1), Tester::new(2)]);
    let both = [Some(Demand::Unbounded); 2];
    let mut now_us = 100_000;
    run(&mut desk, &mut servers, both, &mut now_us, 4);
    desk.set_part(Part { live: 1, all: 2 });
    assert_eq!(run(&mut desk, &mut servers, both, &mut now_us, 4), [74_250_000, 24_750_000]);
    // Another configuration does not bring the lost half back.
    change(&mut desk, &config(GRANTS));
    assert_eq!(run(&mut desk, &mut servers, both, &mut now_us, 4), [74_250_000, 24_750_000]);
    desk.set_part(Part::WHOLE);
    assert_eq!(run(&mut desk, &mut servers, both, &mut now_us, 4), [148_500_000, 49_500_000]);
}

#[test]
fn a_peer_that_uses_no_uplink_here_gets_no_answer() {
    let mut desk = desk("");
    let report = Report { sent_us: 0, obeyed: 0 };
    let demand = Demand::Unbounded;
    let message = ReportMessage { uplink: 7, life: 1, report, served_bits: 0, demand, packets: 0 };
    assert_eq!(desk.report(PeerId(9), &message, 0), None);
}

#[test]
fn an_uplink_without_a_capacity_has_no_desk() {
    let config = config("");
    let uplink = Uplink { up_bps: None, ..Uplink::clone(config.uplink(UplinkId(7)).unwrap()) };
    let (numbers, here) = (PeerNumbers::in_order(&config), ids(&[1]));
    assert!(Desk::new(&config, &numbers, &uplink, &here, 1, 0).is_none());
}

/// The desk goes on with another configuration; as far as that has them, both vNICs are where they were.
fn change(desk: &mut Desk, config: &Config) {
    let here = desk.known.values().flat_map(|known| &known.here).copied().collect();
    let numbers = PeerNumbers::in_order(config);
    desk.change(config, &numbers, config.uplink(UplinkId(7)).unwrap(), &here);
}

/// The same with the home of vNIC 1 at an uplink of another gateway, as large, and no standby.
fn moved_away(mut config: Config) -> Config {
    let uplink = Arc::clone(config.uplink(UplinkId(7)).unwrap());
    let other =
        Arc::new(Uplink { id: UplinkId(8), name: "w".to_owned(), ..Uplink::clone(&uplink) });
    let vnic = config.vnics.iter_mut().find(|vnic| vnic.id == id(1)).unwrap();
    Arc::make_mut(vnic).home = Some(other);
    config
}

#[test]
fn other_grants_move_shares_and_promises_never_add_up_to_more_than_there_is() {
    let (mut desk, mut servers) = (desk(GRANTS), [Tester::new(1), Tester::new(2)]);
    let mut now_us = 100_000;
    let full = [Some(Demand::Unbounded); 2];
    let [a, b] = run(&mut desk, &mut servers, full, &mut now_us, 6);
    assert!(a > 140 * MBIT && b < 55 * MBIT, "{a} {b}");
    change(&mut desk, &config(&GRANTS.replace("shares = 300", "shares = 100")));
    let [a, b] = run(&mut desk, &mut servers, full, &mut now_us, 6);
    assert!(a.abs_diff(b) < 2 * MBIT && a + b > 195 * MBIT, "{a} {b}");
}

#[test]
fn a_server_that_came_later_is_leased_to_and_one_that_left_is_not() {
    let alone = config("");
    let mut both = alone.clone();
    both.vnics.retain(|vnic| vnic.name == "v1");
    let mut desk = desk_of(&both, &[1, 2]);
    let mut servers = [Tester::new(1), Tester::new(2)];
    let mut now_us = 100_000;
    let [a, _] = run(&mut desk, &mut servers, [Some(Demand::Unbounded), None], &mut now_us, 6);
    assert!(a > 195 * MBIT, "{a}");
    change(&mut desk, &alone);
    let [a, b] = run(&mut desk, &mut servers, [Some(Demand::Unbounded); 2], &mut now_us, 6);
    assert!(a.abs_diff(b) < 2 * MBIT, "{a} {b}");
    let mut without = alone;
    without.vnics.retain(|vnic| vnic.name == "v2");
    change(&mut desk, &without);
    let [a, b] = run(&mut desk, &mut servers, [Some(Demand::Unbounded); 2], &mut now_us, 6);
    assert!(a == 0 && b > 195 * MBIT, "{a} {b}");
}

#[test]
fn who_reports_without_a_pause_is_answered_once_a_millisecond_and_heard_each_time() {
    let mut desk = desk(GRANTS);
    let mut now_us = 100_000;
    let mut flood = |desk: &mut Desk, obeyed| {
        let report = |now_us| Report { sent_us: now_us, obeyed };
        let message = |report| ReportMessage {
            uplink: 7,
            life: 1,
            report,
            served_bits: 0,
            demand: Demand::Unbounded,
            packets: 0,
        };
        let mut answers = Vec::new();
        for _ in 0..1_000 {
            now_us += 10;
            answers.extend(desk.report(A, &message(report(now_us)), now_us));
        }
        answers
    };
    let answers = flood(&mut desk, 0);
    assert_eq!(answers.len(), 10);
    let alone_bps = answers.last().unwrap().lease.rate_bps;
    // The other comes; the flood acknowledges its cut, so the other is raised.
    let mut other = Tester::new(2);
    other.report(&mut desk, B, Demand::Unbounded, 110_000);
    let cut = flood(&mut desk, 0).pop().unwrap().lease;
    assert!(cut.rate_bps < alone_bps);
    flood(&mut desk, cut.epoch);
    assert_eq!(other.report(&mut desk, B, Demand::Unbounded, 130_000), 49_500_000);
}

#[test]
fn a_server_that_left_is_forgotten_when_its_promise_has_run_out() {
    let mut desk = desk(GRANTS);
    let mut servers = [Tester::new(1), Tester::new(2)];
    let mut now_us = 100_000;
    run(&mut desk, &mut servers, [Some(Demand::Unbounded); 2], &mut now_us, 4);
    let mut without = config(GRANTS);
    without.vnics.retain(|vnic| vnic.name == "v2");
    change(&mut desk, &without);
    desk.sweep(now_us);
    assert_eq!(desk.standings(now_us).count(), 2, "it may be sending");
    desk.sweep(now_us + 60_000);
    let left: Vec<_> = desk.standings(now_us).map(|standing| standing.name.to_owned()).collect();
    assert_eq!(left, ["b"]);
    let b = [None, Some(Demand::Unbounded)];
    assert!(run(&mut desk, &mut servers, b, &mut now_us, 20)[1] > 195 * MBIT);
    change(&mut desk, &config(GRANTS));
    let both = [Some(Demand::Unbounded); 2];
    assert_eq!(run(&mut desk, &mut servers, both, &mut now_us, 6), [148_500_000, 49_500_000]);
}

const BOTH: [Option<Demand>; 2] = [Some(Demand::Unbounded); 2];

#[test]
fn a_server_keeps_what_it_has_until_its_last_vnic_has_left_whatever_the_tables_want() {
    let (mut desk, mut servers) = (desk(GRANTS), [Tester::new(1), Tester::new(2)]);
    let mut now_us = 100_000;
    let full = [148_500_000, 49_500_000];
    assert_eq!(run(&mut desk, &mut servers, BOTH, &mut now_us, 4), full);
    change(&mut desk, &moved_away(config(GRANTS)));
    assert_eq!(run(&mut desk, &mut servers, BOTH, &mut now_us, 40), full, "it is still here");
    assert!(desk.move_vnics([(id(1), false)].into_iter()).contains(&A));
    let [a, b] = run(&mut desk, &mut servers, BOTH, &mut now_us, 20);
    assert!(a == 0 && b > 195 * MBIT, "{a} {b}");
    desk.sweep(now_us + 60_000);
    assert_eq!(desk.standings(now_us).count(), 1, "and is forgotten");
    // It comes although the tables do not name it here: its host has newer ones.
    assert!(desk.move_vnics([(id(1), true)].into_iter()).contains(&A));
    assert!(desk.promised_bps(A, now_us) > 0, "its first frames pass before it has reported");
    assert_eq!(run(&mut desk, &mut servers, BOTH, &mut now_us, 6), full);
}

#[test]
fn a_server_has_of_its_grant_what_those_of_its_vnics_bring_that_are_here() {
    let grants = |limit| {
        format!(
            "grant = [{{ pool = 'p', server = 'a', up = {{ reservation = '1Mbit', limit = '{limit}Mbit' }} }}]"
        )
    };
    // Server A has two, whose homes are elsewhere; this uplink is a standby of one of them.
    let standby = |limit: u64| {
        let mut config = moved_away(config(&grants(limit)));
        let uplink = Arc::clone(config.uplink(UplinkId(7)).unwrap());
        let mut vnic = config.vnics[0].clone();
        Arc::make_mut(&mut config.vnics[0]).standbys = vec![uplink];
        Arc::make_mut(&mut vnic).id = id(3);
        config.vnics.push(vnic);
        config
    };
    let mut desk = desk_of(&standby(60), &[2]);
    let mut servers = [Tester::new(1), Tester::new(2)];
    let mut now_us = 100_000;
    let mut lease = |desk: &mut Desk, moves: &[(u64, bool)]| {
        desk.move_vnics(moves.iter().map(|(vnic, here)| (id(*vnic), *here)));
        let [a, _] = run(desk, &mut servers, BOTH, &mut now_us, 20);
        (a, desk.standings(now_us).next().unwrap().reservation_bps)
    };
    assert_eq!(lease(&mut desk, &[]), (4_950_000, 0), "nobody is here: the starter");
    assert_eq!(lease(&mut desk, &[(1, true)]), (30 * MBIT, MBIT / 2));
    assert_eq!(lease(&mut desk, &[(3, true)]), (60 * MBIT, MBIT), "and not ten times as much");
    assert_eq!(lease(&mut desk, &[(1, false)]), (30 * MBIT, MBIT / 2));
    let mut desk = desk_of(&standby(2), &[2]);
    assert_eq!(lease(&mut desk, &[(1, true)]), (MBIT, MBIT / 2), "less than a starter");
}

/// Server A and B, and 998 more with a vNIC each that send a little all the time.
fn thousand() -> Config {
    let mut config = config("");
    for at in 2..1_000_u16 {
        let mut peer = Peer::clone(&config.peers[0]);
        (peer.index, peer.name) = (usize::from(at), format!("s{at}"));
        let peer = Arc::new(peer);
        let mut vnic = config.vnics[0].clone();
        let changed = Arc::make_mut(&mut vnic);
        (changed.id, changed.place) = (id(at.into()), VnicPlace::Peer(Arc::clone(&peer)));
        changed.id = id(u64::from(at) + 1);
        config.peers.push(peer);
        config.vnics.push(vnic);
    }
    config
}

#[test]
fn a_thousand_servers_have_their_shares_within_two_ticks() {
    let mut desk = desk_of(&thousand(), &(1..=1_000).collect::<Vec<_>>());
    let mut servers: Vec<Tester> = (0..1_000).map(Tester::new).collect();
    let mut tick = |desk: &mut Desk, b: Demand, tick: u64| {
        for (at, server) in servers.iter_mut().enumerate() {
            let demand = match at {
                0 => Demand::Unbounded,
                1 => b,
                _ => Demand::Bps(1_000),
            };
            let now_us = 100_000 + tick * 5_000 + at as u64 * 5;
            let before_bps = server.rate_bps;
            if server.report(desk, PeerId(at), demand, now_us) < before_bps {
                server.report(desk, PeerId(at), demand, now_us + 1);
            }
            // It takes 100 us to share out among so many.
            desk.note_cost(now_us, now_us + 100);
        }
        [servers[0].rate_bps, servers[1].rate_bps]
    };
    let mut ticks = 0..;
    let [a, b] =
        ticks.by_ref().take(20).map(|at| tick(&mut desk, Demand::Bps(1_000), at)).last().unwrap();
    assert!(a > 150 * MBIT && b < MBIT, "{a} {b}");
    let [a, b] =
        ticks.by_ref().take(2).map(|at| tick(&mut desk, Demand::Unbounded, at)).last().unwrap();
    assert!(a.abs_diff(b) < MBIT && b > 80 * MBIT, "{a} {b}");
}

#[test]
fn a_desk_takes_a_twenty_fifth_of_its_thread_and_a_stall_is_soon_forgotten() {
    let mut desk = desk(GRANTS);
    let mut server = Tester::new(1);
    // Reports come each 100 us; what to share out takes `cost_us` of it.
    let mut computed = |desk: &mut Desk, from_us: u64, cost_us: u64| {
        let mut times = 0;
        for now_us in (from_us..from_us + 1_000_000).step_by(100) {
            server.report(desk, A, Demand::Unbounded, now_us);
            times += u64::from(desk.computed_us == Some(now_us));
            desk.note_cost(now_us, now_us + cost_us);
        }
        times
    };
    computed(&mut desk, 1_000_000, 500);
    let times = computed(&mut desk, 2_000_000, 500);
    assert!((70..=80).contains(&times), "{times} times 0.5 ms in a second");
    // A stall of 50 ms, and it goes on as before: not a second and more without shares.
    computed(&mut desk, 3_000_000, 100);
    let before_us = desk.computed_us.unwrap();
    desk.computed_us = Some(before_us + 100_000);
    desk.note_cost(before_us + 100_000, before_us + 150_000);
    assert!(desk.cost_us <= 200, "{}", desk.cost_us);
}

/// `cargo nextest run -p wireonce-uplink --run-ignored only --no-capture what_a_thousand`.
#[test]
#[ignore = "prints a time and judges nothing"]
fn what_a_thousand_servers_cost() {
    let mut desk = desk_of(&thousand(), &(1..=1_000).collect::<Vec<_>>());
    let mut servers: Vec<Tester> = (0..1_000).map(Tester::new).collect();
    let mut round = |desk: &mut Desk, now_us: u64, anew: bool| {
        let begun = std::time::Instant::now();
        for (at, server) in servers.iter_mut().enumerate() {
            // The next may only be computed after a pause, or must be.
            desk.computed_us = (!anew).then_some(now_us);
            desk.cost_us = 1_000;
            let demand = if at % 2 == 0 { Demand::Unbounded } else { Demand::Bps(100_000) };
            server.report(desk, PeerId(at), demand, now_us);
        }
        begun.elapsed().as_nanos() / 1_000
    };
    for rounds in 0..10_u64 {
        let now_us = 100_000 + rounds * 10_000;
        let (with, without) =
            (round(&mut desk, now_us, true), round(&mut desk, now_us + 5_000, false));
        println!("a report {without} ns, shares {} ns", with.saturating_sub(without));
    }
}
