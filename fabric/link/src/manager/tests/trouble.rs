//! Restarts, silence, one-way paths, wrong clocks, paths that shrink.

use super::super::{PathMtu, PeerState};
use super::sim::{Impairment, MS, S, Sim};
use crate::session::PeerId;

const DAY: u64 = 86_400 * S;

fn up(seed: u64) -> Sim {
    let mut sim = Sim::pair(seed);
    sim.want(0);
    sim.run_for(S);
    assert!(sim.joined());
    sim
}

#[test]
fn a_restarted_host_that_calls_is_back_at_once() {
    for host in 0..2 {
        let mut sim = up(1);
        sim.restart(host, |_| {});
        sim.want(host);
        assert!(sim.run_until(sim.now_us + 5 * MS, Sim::joined));
        assert_eq!(sim.hosts[1 - host].downs, 0);
    }
}

#[test]
fn a_restarted_host_that_does_not_call_is_found_by_its_silence() {
    for host in 0..2 {
        let mut sim = up(1);
        sim.restart(host, |_| {});
        assert!(sim.run_until(sim.now_us + 700 * MS, Sim::joined));
        assert_eq!(sim.hosts[1 - host].downs, 1);
    }
}

#[test]
fn a_restart_with_a_clock_that_went_back_is_recovered_by_the_other_end() {
    for host in 0..2 {
        let mut sim = up(1);
        sim.restart(host, |config| config.wall_clock_us -= DAY);
        sim.want(host);
        // Its own calls are taken for replays; the other end notices the silence,
        // and is listened to at the latest when ours were in vain three times.
        assert!(sim.run_until(sim.now_us + 2 * S, Sim::joined), "host {host}");
        let replayed = sim.status(1 - host, 0).counters.initiations_replayed;
        // Host 1 had never called before, so host 0 has no timestamp of it.
        assert_eq!(replayed > 0, host == 0);
        sim.run_for(10 * S);
        assert!(sim.joined());
    }
}

#[test]
fn a_restart_with_the_same_clock_is_recovered() {
    for host in 0..2 {
        let mut sim = up(1);
        let passed = sim.now_us;
        sim.restart(host, |config| config.wall_clock_us -= passed);
        sim.want(host);
        assert!(sim.run_until(sim.now_us + 2 * S, Sim::joined), "host {host}");
    }
}

#[test]
fn a_silent_peer_is_down_within_the_bound_and_calls_are_repeated_with_care() {
    let mut sim = up(1);
    sim.hosts[1].alive = false;
    let end = sim.now_us + 501 * MS;
    assert!(sim.run_until(end, |sim| sim.hosts[0].downs == 1));
    assert_eq!(sim.status(0, 0).state, PeerState::Down);
    let before = sim.status(0, 0).counters.initiations_sent;
    sim.run_for(60 * S);
    let calls = sim.status(0, 0).counters.initiations_sent - before;
    assert!((45..70).contains(&calls), "{calls} calls in a minute");
    assert_eq!(sim.hosts[0].downs, 1);
}

#[test]
fn a_peer_that_comes_back_is_used_again_at_once() {
    let mut sim = up(1);
    sim.filter = Box::new(|_, _, _| false);
    sim.run_for(5 * S);
    assert!(sim.hosts.iter().all(|host| host.downs == 1 && host.up.is_empty()));
    sim.filter = Box::new(|_, _, _| true);
    let both = |sim: &Sim| sim.hosts.iter().all(|host| host.up.len() == 1);
    assert!(sim.run_until(sim.now_us + 250 * MS, both));
    sim.run_for(60 * S);
    assert_eq!(sim.data_refused, 0);
    assert!(sim.hosts.iter().all(|host| host.downs == 1));
}

#[test]
fn a_path_that_works_in_one_direction_only_is_down_at_both_ends() {
    for deaf in 0..2 {
        let mut sim = up(1);
        sim.filter = Box::new(move |_, to, _| to != deaf);
        sim.run_for(1_200 * MS);
        assert!(sim.hosts.iter().all(|host| host.up.is_empty()), "deaf {deaf}");
    }
}

#[test]
fn a_peer_that_never_answers_leaves_the_others_alone() {
    let mut sim = Sim::new(3, 1, |_, _| {});
    sim.hosts[2].alive = false;
    sim.want(0);
    sim.run_for(10 * S);
    assert!(sim.hosts[0].up.contains_key(&PeerId(0)));
    assert_eq!(sim.status(0, 1).state, PeerState::Connecting);
    assert_eq!(sim.data_refused, 0);
}

#[test]
fn the_longest_datagram_that_arrives_is_found_at_both_ends() {
    for (len_max, found) in [(1_260, 1_252), (1_472, 1_472), (1_480, 1_472), (9_000, 8_972)] {
        let mut sim = Sim::pair(1);
        sim.impairment.len_max = len_max;
        sim.want(0);
        sim.run_for(300 * MS);
        for host in &sim.hosts {
            assert_eq!(host.mtu[&PeerId(0)], found, "{len_max}");
        }
    }
}

#[test]
fn a_path_that_shrinks_under_a_session_is_noticed_in_seconds() {
    let mut sim = up(1);
    assert_eq!(sim.hosts[0].mtu[&PeerId(0)], 8_972);
    sim.impairment.len_max = 1_472;
    let shrunk = |sim: &Sim| sim.hosts.iter().all(|host| host.mtu[&PeerId(0)] == 1_472);
    assert!(sim.run_until(sim.now_us + 3 * S, shrunk));
    assert!(sim.hosts.iter().all(|host| host.downs == 0));
    sim.impairment.len_max = 9_000;
    let grown = |sim: &Sim| sim.hosts.iter().all(|host| host.mtu[&PeerId(0)] == 8_972);
    assert!(sim.run_until(sim.now_us + 70 * S, grown));
}

#[test]
fn a_rekey_keeps_the_length_that_was_found() {
    let mut sim = up(1);
    sim.run_for(2 * S);
    sim.hosts[0].up[&PeerId(0)].ask_rekey();
    sim.run_for(S);
    assert!(sim.hosts.iter().all(|host| host.ups == 2));
    assert!(sim.hosts.iter().all(|host| host.up[&PeerId(0)].datagram_len_max == 8_972));
}

#[test]
fn a_fixed_size_is_used_from_the_start_and_never_probed() {
    let mut sim = Sim::new(2, 1, |_, config| config.path_mtu = PathMtu::Fixed(1_500));
    sim.want(0);
    sim.run_for(5 * S);
    assert!(sim.hosts.iter().all(|host| host.mtu[&PeerId(0)] == 1_472));
    assert!(sim.log.iter().all(|(_, _, bytes)| bytes.len() < 200));
}

#[test]
fn the_smaller_receivers_limit_binds_the_sender() {
    let mut sim =
        Sim::new(2, 1, |at, config| config.datagram_len_max = if at == 0 { 1_400 } else { 8_972 });
    sim.want(0);
    sim.run_for(5 * S);
    assert_eq!(sim.hosts[0].mtu[&PeerId(0)], 8_972);
    assert_eq!(sim.hosts[1].mtu[&PeerId(0)], 1_372);
}

#[test]
fn heavy_loss_is_survived() {
    for seed in 0..20 {
        let mut sim = Sim::pair(seed);
        sim.impairment = Impairment { lost_percent: 60, jitter_us: 20 * MS, ..Impairment::NONE };
        sim.want(0);
        sim.want(1);
        sim.run_for(60 * S);
        assert_eq!(sim.data_refused, 0, "seed {seed}");
        sim.impairment = Impairment::NONE;
        sim.run_for(3 * S);
        assert!(sim.hosts.iter().all(|host| host.up.len() == 1), "seed {seed}");
    }
}
