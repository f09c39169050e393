//! Servers at a desk, with a clock of its own.

use super::*;
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
    let config = config(more);
    let numbers = PeerNumbers::in_order(&config);
    Desk::new(&config, &numbers, config.uplink(UplinkId(7)).unwrap(), 1, 0).unwrap()
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
    let config = config(GRANTS);
    let uplink = config.uplink(UplinkId(7)).unwrap();
    desk.change(&config, &PeerNumbers::in_order(&config), uplink);
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
    assert!(Desk::new(&config, &PeerNumbers::in_order(&config), &uplink, 1, 0).is_none());
}

/// The desk goes on with another configuration.
fn change(desk: &mut Desk, config: &Config) {
    desk.change(config, &PeerNumbers::in_order(config), config.uplink(UplinkId(7)).unwrap());
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
    let numbers = PeerNumbers::in_order(&alone);
    let mut desk = Desk::new(&both, &numbers, both.uplink(UplinkId(7)).unwrap(), 1, 0).unwrap();
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
