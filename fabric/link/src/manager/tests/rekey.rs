//! Replacing a session under traffic: nothing that is lost may interrupt it.

use super::super::Timing;
use super::sim::{Impairment, MS, S, Sim};
use crate::session::PeerId;
use std::sync::Arc;

/// Short intervals, so that a test sees many sessions.
fn brisk(timing: &mut Timing) {
    timing.rekey_after_us = 4 * S;
    timing.retire_after_us = S;
}

fn brisk_pair(seed: u64) -> Sim {
    let mut sim = Sim::new(2, seed, |_, config| brisk(&mut config.timing));
    sim.want(0);
    sim
}

#[test]
fn sessions_are_replaced_and_old_ones_retired_without_loss() {
    let mut sim = brisk_pair(1);
    sim.run_for(60 * S);
    assert!(sim.joined());
    for host in &sim.hosts {
        assert!(host.ups >= 12, "{}", host.ups);
        assert!(host.retired >= host.ups - 2, "{} of {}", host.retired, host.ups);
        assert!(host.open.len() <= 2);
        assert_eq!(host.downs, 0);
    }
    assert_eq!(sim.data_refused, 0);
}

#[test]
fn successive_sessions_have_different_epochs() {
    let mut sim = brisk_pair(1);
    let mut last = None;
    for _ in 0..10 {
        sim.run_for(4 * S + S / 2);
        let epoch = sim.hosts[0].up[&PeerId(0)].epoch;
        assert_ne!(Some(epoch), last);
        last = Some(epoch);
    }
}

#[test]
fn an_old_session_is_still_accepted_for_a_while() {
    let mut sim = Sim::pair(1);
    sim.want(0);
    sim.run_for(2 * S);
    sim.hosts[0].up[&PeerId(0)].ask_rekey();
    sim.run_for(9 * S);
    assert!(sim.hosts.iter().all(|host| host.open.len() == 2));
    sim.run_for(2 * S);
    assert!(sim.hosts.iter().all(|host| host.open.len() == 1 && host.retired == 1));
    assert_eq!(sim.data_refused, 0);
}

#[test]
fn a_session_that_workers_want_replaced_is_replaced_once() {
    let mut sim = Sim::pair(1);
    sim.want(0);
    sim.run_for(2 * S);
    let sessions = [0, 1].map(|host: usize| Arc::clone(&sim.hosts[host].up[&PeerId(0)]));
    for _ in 0..50 {
        sessions.iter().for_each(|session| session.ask_rekey());
        sim.run_for(10 * MS);
    }
    assert!(sim.hosts.iter().all(|host| host.ups == 2));
    assert_eq!(sim.data_refused, 0);
}

#[test]
fn a_worker_that_asks_too_early_is_heard_when_the_session_is_a_second_old() {
    let mut sim = Sim::pair(1);
    sim.want(0);
    sim.run_for(300 * MS);
    assert!(sim.joined());
    sim.hosts[0].up[&PeerId(0)].ask_rekey();
    sim.run_for(600 * MS);
    assert!(sim.hosts.iter().all(|host| host.ups == 1));
    sim.run_for(300 * MS);
    assert!(sim.hosts.iter().all(|host| host.ups == 2));
}

#[test]
fn a_worker_asks_once_even_if_the_handshake_fails_at_first() {
    let mut sim = Sim::pair(1);
    sim.want(0);
    sim.run_for(2 * S);
    sim.hosts[1].up[&PeerId(0)].ask_rekey();
    // No handshake passes.
    sim.filter = Box::new(|_, _, bytes| bytes.len() < 130 || bytes.len() > 190);
    sim.run_for(5 * S);
    assert!(sim.hosts.iter().all(|host| host.ups == 1 && host.downs == 0));
    sim.filter = Box::new(|_, _, _| true);
    sim.run_for(2 * S);
    assert!(sim.hosts.iter().all(|host| host.ups == 2 && host.downs == 0));
    assert_eq!(sim.data_refused, 0);
}

/// The messages around a rekey, dropped one at a time; each run is the same up to
/// the loss.
#[test]
fn every_single_message_of_a_rekey_may_be_lost() {
    let around = 3 * S..7 * S;
    let mut sim = brisk_pair(5);
    sim.run_until(around.start, |_| false);
    let first = sim.log.len();
    sim.run_until(around.end, |_| false);
    let last = sim.log.len();
    assert!(last - first > 40);
    for dropped in first..last {
        let mut sim = brisk_pair(5);
        let mut sent = sim.log.len();
        sim.filter = Box::new(move |_, _, _| {
            sent += 1;
            sent != dropped + 1
        });
        sim.run_until(12 * S, |_| false);
        assert_eq!(sim.data_refused, 0, "message {dropped}");
        assert!(sim.hosts.iter().all(|host| host.downs == 0), "message {dropped}");
        assert!(sim.hosts.iter().all(|host| host.ups >= 3), "message {dropped}");
    }
}

#[test]
fn loss_reordering_and_duplication_never_make_data_meet_a_closed_session() {
    for seed in 0..40 {
        let mut sim = brisk_pair(seed);
        sim.impairment = Impairment {
            lost_percent: 20,
            doubled_percent: 20,
            delay_us: 1_000,
            jitter_us: 30 * MS,
            ..Impairment::NONE
        };
        sim.run_for(60 * S);
        assert_eq!(sim.data_refused, 0, "seed {seed}");
        assert!(sim.hosts.iter().all(|host| host.ups >= 8), "seed {seed}");
        assert!(sim.data_sent > 20_000, "seed {seed}: {}", sim.data_sent);
    }
}

#[test]
fn both_ends_rekeying_at_once_never_interrupt_traffic() {
    for seed in 0..40 {
        let mut sim = Sim::new(2, seed, |_, config| brisk(&mut config.timing));
        sim.impairment.jitter_us = 40 * MS;
        sim.impairment.lost_percent = if seed % 2 == 0 { 10 } else { 0 };
        sim.want(0);
        for _ in 0..20 {
            sim.run_for(2 * S);
            for host in 0..2 {
                sim.hosts[host].up.get(&PeerId(0)).inspect(|session| session.ask_rekey());
                sim.run_for(seed % 5 * 10 * MS);
            }
        }
        assert_eq!(sim.data_refused, 0, "seed {seed}");
        if sim.impairment.lost_percent == 0 {
            // Crossing calls must not leave each end on a session of its own.
            assert!(sim.hosts.iter().all(|host| host.downs == 0), "seed {seed}");
        }
    }
}
