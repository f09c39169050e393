//! A server's half against a gateway that is only arithmetic, with a clock of its own.

use super::{super::vnic::WaitsFor, *};
use wireonce_config::{Config, UplinkPlace};
use wireonce_frame::segment::WireCost;
use wireonce_shares::{Lease, Lessor, ServerIndex};

const MBIT: u64 = 1_000_000;
const ONE: ServerIndex = ServerIndex(0);

/// The only uplink of a file.
fn uplink() -> Arc<Uplink> {
    let file = "
        host = { name = 'a', private_key_file = '/k' }
        fabric = { address = '127.0.0.1' }
        peer = [{ name = 'g', address = '127.0.0.2', public_key = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=' }]
        uplink = [{ id = 7, name = 'u', host = 'g', pool = 'p', up = '1Gbit' }]";
    let config = Config::parse(file, "a.toml").unwrap();
    assert!(matches!(config.uplinks[0].place, UplinkPlace::Peer(_)));
    Arc::clone(&config.uplinks[0])
}

fn tabled() -> Tabled {
    Tabled { uplink: uplink(), grant: None, starter_bps: 10 * MBIT, wanted: true }
}

/// A home with vNICs of these terms, and what their workers have of them.
fn home(terms: &[Terms]) -> (Home, Vec<Arc<VnicShare>>) {
    let shares: Vec<Arc<VnicShare>> = terms.iter().map(|_| Arc::default()).collect();
    let mut home = Home::new(PeerId(0), 99, tabled());
    for (id, (terms, share)) in (1..).zip(terms.iter().zip(&shares)) {
        home.join(vnic(id, *terms, share), 0);
    }
    (home, shares)
}

fn vnic(id: u64, terms: Terms, share: &Arc<VnicShare>) -> HomeVnic {
    HomeVnic::new(VnicId::new(id).unwrap(), terms, Arc::clone(share))
}

fn serve(share: &VnicShare, bytes: u64) {
    share.served(WireCost { segments: 1, bytes });
}

fn answer(report: &ReportMessage, epoch: u64, rate_bps: u64) -> LeaseMessage {
    let lease = Lease { epoch, rate_bps, answers_us: report.report.sent_us };
    LeaseMessage { uplink: 7, life: report.life, lease, starter_bps: 10 * MBIT }
}

#[test]
fn an_idle_server_reports_once_a_second_and_at_once_when_it_wakes() {
    let (mut home, shares) = home(&[Terms::default()]);
    let mut reports = Vec::new();
    for now_us in (0..3_000_000).step_by(5_000) {
        reports.extend(home.tick(now_us).map(|report| report.report.sent_us));
    }
    assert_eq!(reports, [0, 900_000, 1_800_000, 2_700_000]);
    serve(&shares[0], 1_000);
    let report = home.tick(3_000_100).expect("it wakes");
    assert_eq!((report.served_bits, report.packets), (8_000, 1));
    assert_eq!(home.next_us(), 3_005_100);
    let busy = (1..=20).filter(|tick| home.tick(3_000_100 + tick * 5_000).is_some()).count();
    assert_eq!(busy, 19, "until it has been idle for 100 ms");
    assert!(home.next_us() > 3_900_000);
}

#[test]
fn whoever_wakes_the_thread_between_ticks_changes_no_demand() {
    let demand = |wake_every_us: u64| {
        let (mut home, shares) = home(&[Terms::default()]);
        let mut last = None;
        for now_us in (0..200_000).step_by(250) {
            serve(&shares[0], 3_125);
            if now_us % wake_every_us == 0 {
                last = home.tick(now_us).map(|report| report.demand).or(last);
            }
        }
        last.expect("it reports")
    };
    // 100 Mbit/s, and a tenth.
    assert_eq!(demand(5_000), Demand::Bps(110_000_000));
    assert_eq!(demand(250), demand(5_000));
}

#[test]
fn demand_is_what_was_sent_and_a_tenth_more_or_unbounded_while_held_back() {
    let (mut home, shares) = home(&[Terms::default(), Terms::default()]);
    home.tick(1_000_000);
    serve(&shares[0], 62_500); // 0.5 Mbit in 5 ms
    let report = home.tick(1_005_000).unwrap();
    assert_eq!(report.demand, Demand::Bps(110 * MBIT));
    shares[1].hold(WaitsFor::Bits, 1);
    assert_eq!(home.tick(1_010_000).unwrap().demand, Demand::Unbounded);
    shares[1].relieve();
    home.tick(1_015_000);
    let Demand::Bps(later_bps) = home.tick(1_020_000).unwrap().demand else {
        panic!("nothing waits")
    };
    assert!(later_bps < 110 * MBIT && later_bps > 50 * MBIT, "a burst is remembered: {later_bps}");
}

#[test]
fn who_waits_for_packets_wants_what_it_sends_and_is_counted_apart() {
    let limited = Terms { limit_packets_per_s: Some(1_000), ..Terms::default() };
    let (mut home, shares) = home(&[limited]);
    assert_eq!(shares[0].limit_packets(), 1_000);
    for tick in 1..=4 {
        serve(&shares[0], 625);
        shares[0].hold(WaitsFor::Packets, 100);
        let report = home.tick(tick * 5_000).expect("it sends");
        assert_eq!(report.demand, Demand::Bps(1_100_000));
    }
    let in_use = shares[0].in_use(20_000);
    assert_eq!((in_use.held_us, in_use.packets_held_us), (20_000, 20_000));
    assert_eq!((in_use.served_packets, in_use.limit_packets_per_s), (4, Some(1_000)));
    home.change(tabled(), vec![vnic(1, Terms::default(), &shares[0])], 0);
    assert_eq!(shares[0].limit_packets(), 0, "another policy");
    assert_eq!(home.tick(25_000).unwrap().demand, Demand::Unbounded, "it waits for the rate now");
}

#[test]
fn who_is_held_back_by_its_own_limit_wants_no_more() {
    let limited = Terms { limit_bps: Some(20 * MBIT), ..Terms::default() };
    let (mut home, shares) = home(&[limited]);
    shares[0].hold(WaitsFor::Bits, 1);
    assert_eq!(home.tick(0).unwrap().demand, Demand::Bps(20 * MBIT));
}

#[test]
fn a_lease_is_split_by_shares_within_limits_and_falls_back_to_the_starter() {
    let terms = |shares, limit_bps| Terms { shares, limit_bps, ..Terms::default() };
    let (mut home, shares) =
        home(&[terms(300, None), terms(100, None), terms(100, Some(5 * MBIT))]);
    shares.iter().for_each(|share| share.hold(WaitsFor::Bits, 1));
    let report = home.tick(1_000).unwrap();
    let rates = |now_us| shares.iter().map(|s| s.allowed_bps(now_us) / 1_000).collect::<Vec<_>>();
    assert_eq!(rates(1_000), [6_000, 2_000, 2_000], "the starter");
    home.take(&answer(&report, 1, 85 * MBIT), 1_500);
    assert_eq!(rates(1_500), [60_000, 20_000, 5_000]);
    assert_eq!(rates(50_999), [60_000, 20_000, 5_000]);
    assert_eq!(rates(51_000), [6_000, 2_000, 2_000], "without a tick: the worker looks itself");
}

#[test]
fn a_cut_is_acknowledged_at_once() {
    let (mut home, shares) = home(&[Terms::default()]);
    shares[0].hold(WaitsFor::Bits, 1);
    let report = home.tick(1_000).unwrap();
    home.take(&answer(&report, 1, 100 * MBIT), 1_100);
    assert!(home.tick(1_100).is_none());
    home.take(&answer(&report, 2, 50 * MBIT), 1_200);
    assert_eq!(home.next_us(), 0);
    assert_eq!(home.tick(1_200).unwrap().report.obeyed, 2);
}

#[test]
fn a_lease_for_another_life_is_not_taken() {
    let (mut home, shares) = home(&[Terms::default()]);
    shares[0].hold(WaitsFor::Bits, 1);
    let report = home.tick(1_000).unwrap();
    let other = LeaseMessage { life: 98, ..answer(&report, 1, 85 * MBIT) };
    home.take(&other, 1_000);
    assert_eq!(shares[0].allowed_bps(1_000), 10 * MBIT);
}

#[test]
fn an_idle_vnic_has_headroom_while_nobody_else_needs_it() {
    let (mut home, shares) = home(&[Terms::default(), Terms::default()]);
    serve(&shares[0], 6_250);
    let report = home.tick(5_000).unwrap();
    home.take(&answer(&report, 1, 100 * MBIT), 5_000);
    assert_eq!(shares[1].allowed_bps(5_000), 50 * MBIT);
    shares[0].hold(WaitsFor::Bits, 1);
    home.tick(10_000);
    assert_eq!(shares[1].allowed_bps(10_000), 0);
    assert_eq!(shares[0].allowed_bps(10_000), 100 * MBIT);
}

#[test]
fn late_ticks_change_neither_what_is_counted_nor_what_is_allowed() {
    // Ticks 5 to 45 ms apart, as on a machine that stalls; the gateway answers each report.
    let (mut home, shares) = home(&[Terms::default()]);
    let mut lessor = Lessor::new(900 * MBIT, &[10 * MBIT], LeaseTiming::default(), 1, 0);
    lessor.set_target(ONE, 900 * MBIT);
    let (mut now_us, mut sent_bits) = (100_000, 0);
    for step in 0..1_000_u64 {
        let passed_us = 5_000 + step * 7_919 % 40_000;
        now_us += passed_us;
        serve(&shares[0], 1_000);
        sent_bits += 8_000;
        shares[0].hold(WaitsFor::Bits, 1);
        let report = home.tick(now_us).expect("it sends");
        assert_eq!(report.served_bits, sent_bits);
        lessor.hear(ONE, report.report, now_us);
        let lease = lessor.lease(ONE, now_us).unwrap();
        home.take(&LeaseMessage { lease, ..answer(&report, 0, 0) }, now_us);
        assert!(shares[0].allowed_bps(now_us) <= lessor.promised_bps(ONE, now_us));
        assert_eq!(shares[0].allowed_bps(now_us), 900 * MBIT);
    }
}
