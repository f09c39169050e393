//! How often hellos go, and how soon a silence is noticed.

use super::sim::{Impairment, MS, S, Sim};

const HELLOS_MAX_LEN: usize = 100;

/// Two hosts that are up and had nothing to send for a while.
fn quiet_pair(seed: u64) -> Sim {
    let mut sim = Sim::pair(seed);
    sim.hosts.iter_mut().for_each(|host| host.quiet = true);
    sim.want(0);
    sim.run_for(10 * S);
    assert!(sim.joined());
    sim
}

/// Small hellos that host `from` sends in `time_us`.
fn hellos(sim: &mut Sim, from: usize, time_us: u64) -> usize {
    let before = sim.log.len();
    sim.run_for(time_us);
    let new = sim.log[before..].iter();
    new.filter(|(at, _, bytes)| *at == from && bytes.len() < HELLOS_MAX_LEN).count()
}

fn no_downs(sim: &Sim) -> bool {
    sim.hosts.iter().all(|host| host.downs == 0)
}

#[test]
fn a_link_without_frames_has_a_hello_a_second() {
    let mut sim = quiet_pair(1);
    for host in 0..2 {
        assert!((9..=11).contains(&hellos(&mut sim, host, 10 * S)));
    }
    assert!(no_downs(&sim));
}

#[test]
fn frames_of_one_end_keep_both_ends_hellos_frequent() {
    for talker in 0..2 {
        let mut sim = quiet_pair(1);
        sim.hosts[talker].quiet = false;
        sim.run_for(MS * 10);
        for host in 0..2 {
            assert!((98..=102).contains(&hellos(&mut sim, host, 10 * S)), "{talker} {host}");
        }
        sim.hosts[talker].quiet = true;
        sim.run_for(5 * S);
        assert!(hellos(&mut sim, talker, 10 * S) <= 11);
    }
}

#[test]
fn a_peer_that_died_unnoticed_is_down_soon_after_the_next_frame() {
    for dead in 0..2 {
        let mut sim = quiet_pair(1);
        sim.hosts[dead].alive = false;
        sim.run_for(2 * S);
        assert!(no_downs(&sim), "nobody needs it");
        sim.hosts[1 - dead].quiet = false;
        let end = sim.now_us + 506 * MS;
        assert!(sim.run_until(end, |sim| sim.hosts[1 - dead].downs == 1), "{dead}");
    }
}

#[test]
fn a_peer_that_nobody_needs_is_down_after_five_seconds() {
    let mut sim = quiet_pair(1);
    sim.hosts[1].alive = false;
    assert!(sim.run_until(sim.now_us + 5 * S + MS, |sim| sim.hosts[0].downs == 1));
}

#[test]
fn no_single_lost_hello_takes_a_link_down_whatever_it_announced() {
    for lost in 0..120 {
        let mut sim = Sim::pair(1);
        sim.hosts.iter_mut().for_each(|host| host.quiet = true);
        let mut seen = 0;
        sim.filter = Box::new(move |_, _, bytes| {
            seen += usize::from(bytes.len() < HELLOS_MAX_LEN);
            bytes.len() >= HELLOS_MAX_LEN || seen != lost
        });
        sim.want(0);
        sim.run_for(8 * S);
        sim.hosts[lost % 2].quiet = false;
        sim.run_for(2 * S);
        sim.hosts[lost % 2].quiet = true;
        sim.run_for(8 * S);
        assert!(sim.joined() && no_downs(&sim), "hello {lost}");
    }
}

#[test]
fn loss_and_reordering_do_not_take_a_quiet_link_down() {
    for seed in 0..20 {
        let mut sim = quiet_pair(seed);
        let some = Impairment { lost_percent: 3, doubled_percent: 10, ..Impairment::NONE };
        sim.impairment = Impairment { jitter_us: 150 * MS, ..some };
        for round in 0..10 {
            sim.run_for(7 * S);
            sim.hosts[round % 2].quiet = false;
            sim.run_for(500 * MS);
            sim.hosts[round % 2].quiet = true;
        }
        assert!(sim.joined() && no_downs(&sim), "seed {seed}");
    }
}

#[test]
fn a_rekey_of_a_quiet_link_goes_unnoticed() {
    let mut sim = quiet_pair(1);
    sim.run_for(300 * S);
    assert!(sim.hosts.iter().all(|host| host.ups >= 2), "there was one");
    assert!(sim.joined() && no_downs(&sim) && sim.data_refused == 0);
}

/// Host 1 wants to know of a silence within 25 ms; for host 0 half a second will do.
fn uneven_pair() -> Sim {
    let mut sim = Sim::new(2, 1, |at, config| {
        if at == 1 {
            (config.timing.hello_every_us, config.timing.down_after_us) = (5 * MS, 25 * MS);
        }
    });
    sim.want(0);
    sim.run_for(S);
    sim
}

#[test]
fn the_end_that_needs_to_know_sooner_sets_the_pace_of_the_link() {
    let mut sim = uneven_pair();
    assert!((195..=205).contains(&hellos(&mut sim, 0, S)));
    sim.hosts[0].alive = false;
    assert!(sim.run_until(sim.now_us + 26 * MS, |sim| sim.hosts[1].downs == 1));
}

#[test]
fn an_end_that_needs_to_know_sooner_makes_the_other_no_less_patient() {
    let mut sim = uneven_pair();
    sim.hosts[1].alive = false;
    sim.run_for(490 * MS);
    assert_eq!(sim.hosts[0].downs, 0);
    assert!(sim.run_until(sim.now_us + 16 * MS, |sim| sim.hosts[0].downs == 1));
}
