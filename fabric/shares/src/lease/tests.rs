//! Single steps.

mod sim;

use super::*;

const MBIT: u64 = 1_000_000;
const A: ServerIndex = ServerIndex(0);
const B: ServerIndex = ServerIndex(1);
const LIFE_US: u64 = 60_000;

fn lessor() -> Lessor {
    Lessor::new(1_000 * MBIT, &[10 * MBIT, 10 * MBIT], LeaseTiming::default(), 1, 0)
}

/// A report that says nothing new but that the server lives.
fn hear(lessor: &mut Lessor, server: ServerIndex, obeyed: u64, now_us: u64) {
    lessor.hear(server, Report { sent_us: now_us, obeyed }, now_us);
}

#[test]
fn a_new_gateway_promises_starters_until_older_promises_are_over() {
    let mut lessor = lessor();
    lessor.set_target(A, 900 * MBIT);
    hear(&mut lessor, A, 0, LIFE_US - 1);
    assert_eq!(lessor.lease(A, LIFE_US - 1).unwrap().rate_bps, 10 * MBIT);
    hear(&mut lessor, A, 0, LIFE_US);
    assert_eq!(lessor.lease(A, LIFE_US).unwrap().rate_bps, 900 * MBIT);
}

#[test]
fn a_raise_waits_for_the_cut_that_pays_for_it() {
    let mut lessor = lessor();
    let mut now_us = 100_000;
    lessor.set_target(A, 990 * MBIT);
    hear(&mut lessor, A, 0, now_us);
    hear(&mut lessor, B, 0, now_us);
    let first = lessor.lease(A, now_us).unwrap();
    assert_eq!(first.rate_bps, 990 * MBIT);

    // B is to have half of it.
    now_us += 5_000;
    lessor.set_target(A, 500 * MBIT);
    lessor.set_target(B, 500 * MBIT);
    hear(&mut lessor, A, first.epoch, now_us);
    hear(&mut lessor, B, 0, now_us);
    let cut = lessor.lease(A, now_us).unwrap();
    assert_eq!(cut.rate_bps, 500 * MBIT);
    assert_eq!(lessor.lease(B, now_us).unwrap().rate_bps, 10 * MBIT, "A may not have heard");
    hear(&mut lessor, A, cut.epoch, now_us + 100);
    assert_eq!(lessor.lease(B, now_us + 100).unwrap().rate_bps, 500 * MBIT);
    assert_eq!(lessor.committed_bps(now_us + 100), 1_000 * MBIT);
}

#[test]
fn equal_promises_are_one_which_lasts_as_long_as_the_last() {
    let mut lessor = lessor();
    lessor.set_target(A, 500 * MBIT);
    let mut epochs = Vec::new();
    for ms in 100..150 {
        hear(&mut lessor, A, 0, ms * 1_000);
        epochs.push(lessor.lease(A, ms * 1_000).unwrap().epoch);
    }
    assert!(epochs.is_sorted_by(|a, b| a < b), "each answer has an epoch of its own");
    assert_eq!(lessor.servers[0].promises.len(), 1);
    // An older epoch of the same rate is obeyed: the promise stands.
    hear(&mut lessor, A, epochs[3], 150_000);
    assert_eq!(lessor.promised_bps(A, 149_000 + LIFE_US - 1), 500 * MBIT);
    assert_eq!(lessor.promised_bps(A, 150_000 + LIFE_US), 10 * MBIT);
}

#[test]
fn a_silent_server_s_promise_is_free_when_it_has_expired_and_not_before() {
    let mut lessor = lessor();
    lessor.set_target(A, 990 * MBIT);
    hear(&mut lessor, A, 0, 100_000);
    lessor.lease(A, 100_000).unwrap();
    lessor.set_target(A, 0);
    lessor.set_target(B, 990 * MBIT);
    hear(&mut lessor, B, 0, 100_000 + LIFE_US - 1);
    assert_eq!(lessor.lease(B, 100_000 + LIFE_US - 1).unwrap().rate_bps, 10 * MBIT);
    hear(&mut lessor, B, 0, 100_000 + LIFE_US);
    assert_eq!(lessor.lease(B, 100_000 + LIFE_US).unwrap().rate_bps, 990 * MBIT);
    assert_eq!(lessor.lease(A, 100_000 + LIFE_US), None, "there is no report to answer");
}

#[test]
fn less_capacity_is_shared_out_when_the_cuts_are_acknowledged() {
    let mut lessor = lessor();
    for server in [A, B] {
        lessor.set_target(server, 500 * MBIT);
        hear(&mut lessor, server, 0, 100_000);
        lessor.lease(server, 100_000).unwrap();
    }
    lessor.set_usable(600 * MBIT);
    lessor.set_target(A, 300 * MBIT);
    lessor.set_target(B, 300 * MBIT);
    let cut = lessor.lease(A, 101_000).unwrap();
    assert!(cut.rate_bps <= 100 * MBIT, "B may still have its 500");
    hear(&mut lessor, A, cut.epoch, 102_000);
    let cut = lessor.lease(B, 102_000).unwrap();
    assert_eq!(cut.rate_bps, 300 * MBIT);
    hear(&mut lessor, B, cut.epoch, 103_000);
    assert_eq!(lessor.lease(A, 103_000).unwrap().rate_bps, 300 * MBIT);
}

#[test]
fn a_server_obeys_the_newest_lease_until_it_expires() {
    let mut lessee = Lessee::new(5, LeaseTiming::default());
    let at = lessee.report(1_000).sent_us;
    let lease = |epoch, rate_bps, answers_us| Lease { epoch, rate_bps, answers_us };
    lessee.take(lease(2, 200, at));
    lessee.take(lease(1, 100, at));
    assert_eq!(lessee.rate_bps(1_000), 200);
    assert_eq!(lessee.rate_bps(50_999), 200);
    assert_eq!(lessee.rate_bps(51_000), 5);
    lessee.take(lease(3, 300, 60_000));
    assert_eq!(lessee.report(52_000).obeyed, 2, "it answers a report that was not sent");
}

#[test]
fn a_lease_for_an_earlier_life_is_not_obeyed() {
    let mut lessee = Lessee::new(5, LeaseTiming::default());
    lessee.report(20_000);
    lessee.take(Lease { epoch: 9, rate_bps: 900, answers_us: 19_999 });
    assert_eq!(lessee.rate_bps(20_001), 5);
}

#[test]
fn an_epoch_of_another_life_acknowledges_nothing() {
    let mut lessor = lessor();
    lessor.set_target(A, 990 * MBIT);
    hear(&mut lessor, A, 0, 100_000);
    lessor.lease(A, 100_000).unwrap();
    hear(&mut lessor, A, u64::MAX, 100_001);
    assert_eq!(lessor.committed_bps(100_001), 1_000 * MBIT);
}

#[test]
fn a_gateway_whose_epochs_fell_behind_catches_up_with_what_servers_obey() {
    let timing = LeaseTiming::default();
    let mut server = Lessee::new(10, timing);
    server.report(0);
    server.take(Lease { epoch: 5_000, rate_bps: 50, answers_us: 0 });
    // A new life whose epochs begin too low.
    let mut gateway = Lessor::new(1_000, &[10], timing, 7, 0);
    gateway.set_target(ServerIndex(0), 600);
    for now_us in [100_000, 105_000] {
        gateway.hear(ServerIndex(0), server.report(now_us), now_us);
        server.take(gateway.lease(ServerIndex(0), now_us).unwrap());
        assert_eq!(server.rate_bps(now_us), 600);
    }
    gateway.hear(ServerIndex(0), Report { sent_us: 110_000, obeyed: u64::MAX }, 110_000);
    let lease = gateway.lease(ServerIndex(0), 110_000).unwrap();
    assert!(lease.epoch < 6_000, "one server cannot use up all epochs");
}

#[test]
fn a_server_that_forges_an_epoch_spoils_only_its_own() {
    let timing = LeaseTiming::default();
    let (honest, forger) = (ServerIndex(0), ServerIndex(1));
    let mut before = Lessor::new(1_000, &[10, 10], timing, 1, 0);
    let mut server = Lessee::new(10, timing);
    before.set_target(honest, 600);
    before.hear(forger, Report { sent_us: 100_000, obeyed: (1 << 62) - 1 }, 100_000);
    before.hear(honest, server.report(100_000), 100_000);
    server.take(before.lease(honest, 100_000).unwrap());
    // The gateway starts anew, with epochs above those that it has really given.
    let mut after = Lessor::new(1_000, &[10, 10], timing, 1_000, 200_000);
    after.set_target(honest, 500);
    after.hear(honest, server.report(300_000), 300_000);
    assert!(server.take(after.lease(honest, 300_000).unwrap()));
    assert_eq!(server.rate_bps(300_000), 500);
}

#[test]
fn a_server_is_policed_to_the_largest_promise_that_it_may_obey() {
    let timing = LeaseTiming::default();
    let mut gateway = Lessor::new(1_000, &[10, 10], timing, 1, 0);
    let one = ServerIndex(0);
    assert_eq!(gateway.promised_bps(one, 0), 1_000, "an earlier life may have promised all");
    assert_eq!(gateway.promised_bps(one, 60_000), 10);
    gateway.set_target(one, 600);
    gateway.hear(one, Report { sent_us: 0, obeyed: 0 }, 60_000);
    let raised = gateway.lease(one, 60_000).unwrap();
    gateway.set_target(one, 100);
    let cut = gateway.lease(one, 61_000).unwrap();
    assert_eq!((raised.rate_bps, cut.rate_bps), (600, 100));
    assert_eq!(gateway.promised_bps(one, 62_000), 600, "it may not have heard of the cut");
    gateway.hear(one, Report { sent_us: 5_000, obeyed: cut.epoch }, 65_000);
    assert_eq!(gateway.promised_bps(one, 65_000), 100);
    assert_eq!(gateway.promised_bps(one, 200_000), 10, "promises expire");
}
