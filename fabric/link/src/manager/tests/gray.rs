//! Links that are up and not fit: what is said of them, by which end, and what is left alone.

use super::sim::{Impairment, MS, S, Sim};
use crate::random::{Random, Seeded};
use crate::session::PeerId;

/// A pair with hellos as often as homes need them.
fn urged(seed: u64) -> Sim {
    let mut sim = Sim::pair(seed);
    sim.want(0);
    sim.run_for(S);
    sim.hosts[0].manager.urge(sim.now_us, PeerId(0), Some(5 * MS));
    sim.run_for(2 * S);
    assert!(sim.joined() && said(&sim, 0).is_empty() && said(&sim, 1).is_empty());
    sim
}

/// All that a host says of its link, with when it began to, in milliseconds after `from_us`.
fn said_since(sim: &Sim, host: usize, from_us: u64) -> Vec<(u64, Vec<&'static str>)> {
    let said = sim.hosts[host].troubles.iter();
    said.map(|(at_us, it)| (at_us.saturating_sub(from_us) / MS, it.names().collect())).collect()
}

fn said(sim: &Sim, host: usize) -> Vec<(u64, Vec<&'static str>)> {
    said_since(sim, host, 0)
}

fn names(sim: &Sim, host: usize) -> Vec<&'static str> {
    sim.status(host, 0).trouble.names().collect()
}

/// Loses three in ten of what goes from `from`, long or short.
fn lossy(sim: &mut Sim, from: usize, seed: u64) {
    let mut random = Seeded(seed);
    sim.filter = Box::new(move |at, _, _| at != from || random.below(10) >= 3);
}

#[test]
fn three_in_ten_lost_in_one_direction_are_named_at_both_ends_within_a_second() {
    for seed in 0..20 {
        for from in 0..2 {
            let mut sim = urged(seed);
            // Wherever in a window it begins.
            sim.run_for(seed * 17 * MS);
            let began_us = sim.now_us;
            lossy(&mut sim, from, seed);
            sim.run_for(S);
            assert_eq!(names(&sim, from), ["lossy-to-peer"], "seed {seed}");
            assert_eq!(names(&sim, 1 - from), ["lossy-from-peer"], "seed {seed}");
            let share = sim.status(1 - from, 0).trouble.lossy_from_peer.unwrap();
            assert!((15..=45).contains(&share), "{share} %");
            let first = said_since(&sim, from, began_us);
            assert!(first[0].0 < 1_000, "{first:?}");
            assert!(sim.hosts.iter().all(|host| host.downs == 0), "the session stays");
        }
    }
}

#[test]
fn a_link_is_well_again_after_clean_seconds_and_not_before() {
    let mut sim = urged(1);
    lossy(&mut sim, 0, 1);
    sim.run_for(2 * S);
    sim.filter = Box::new(|_, _, _| true);
    sim.run_for(4 * S);
    assert_eq!(names(&sim, 0), ["lossy-to-peer"]);
    sim.run_for(6 * S);
    for host in 0..2 {
        assert!(names(&sim, host).is_empty());
        assert_eq!(said(&sim, host).len(), 2, "once found, once well");
    }
}

#[test]
fn a_cut_in_one_direction_is_named_by_the_end_that_still_hears() {
    for deaf in 0..2 {
        let mut sim = urged(1);
        let began_us = sim.now_us;
        sim.filter = Box::new(move |_, to, _| to != deaf);
        sim.run_for(3 * S);
        assert_eq!(names(&sim, 1 - deaf), ["one-way"], "deaf {deaf}");
        assert!(said_since(&sim, 1 - deaf, began_us)[0].0 < 500);
        assert!(names(&sim, deaf).is_empty(), "who hears nothing knows nothing");
        sim.filter = Box::new(|_, _, _| true);
        sim.run_for(3 * S);
        assert!(sim.joined() && names(&sim, 1 - deaf).is_empty());
    }
}

#[test]
fn full_size_datagrams_that_are_lost_are_named_and_sized_down_within_a_second_and_nothing_else() {
    for is_urged in [false, true] {
        for phase in 0..10 {
            let mut sim = urged(phase);
            if !is_urged {
                sim.hosts[0].manager.urge(sim.now_us, PeerId(0), None);
                sim.run_for(2 * S);
            }
            sim.run_for(phase * 23 * MS);
            let began_us = sim.now_us;
            sim.impairment.len_max = 1_480;
            let sized = |sim: &Sim| sim.hosts.iter().all(|host| host.mtu[&PeerId(0)] == 1_472);
            assert!(sim.run_until(began_us + S, sized), "phase {phase} urged {is_urged}");
            sim.run_for(S);
            for host in 0..2 {
                assert_eq!(names(&sim, host), ["full-size-lost"]);
                let trouble = sim.status(host, 0).trouble;
                assert_eq!((trouble.full_size_lost, trouble.is_gray()), (Some(8_972), false));
                assert_eq!(sim.hosts[host].downs, 0);
            }
            if phase > 0 {
                continue;
            }
            sim.impairment.len_max = usize::MAX;
            sim.run_for(70 * S);
            assert!((0..2).all(|host| names(&sim, host).is_empty()), "found again");
        }
    }
}

#[test]
fn stalls_and_short_bursts_are_no_trouble() {
    for seed in 0..10 {
        let mut sim = urged(seed);
        let mut random = Seeded(seed);
        for _ in 0..40 {
            let until_us = sim.now_us + random.below(20) * MS;
            if random.below(2) == 0 {
                sim.filter = Box::new(|_, _, _| false);
            } else {
                // A host that sleeps: all comes late, and nothing is lost.
                sim.impairment = Impairment { delay_us: 20 * MS, ..Impairment::NONE };
            }
            sim.run_until(until_us, |_| false);
            sim.filter = Box::new(|_, _, _| true);
            sim.impairment = Impairment::NONE;
            sim.run_for(random.below(1_000) * MS + 400 * MS);
        }
        assert!((0..2).all(|host| said(&sim, host).is_empty()), "seed {seed}");
    }
}

#[test]
fn probes_of_sizes_that_no_way_carries_are_no_loss() {
    let mut sim = Sim::pair(1);
    sim.impairment.len_max = 1_300;
    sim.want(0);
    sim.hosts[0].manager.urge(0, PeerId(0), Some(5 * MS));
    sim.run_for(130 * S);
    assert!((0..2).all(|host| said(&sim, host).is_empty()));
}

#[test]
fn a_peer_that_says_nonsense_of_the_link_is_heard_with_care() {
    let mut sim = urged(1);
    for payload in [&[][..], &[7], &[255, 255], &[1, 0, 3, 4]] {
        sim.hosts[0].manager.send_message(PeerId(0), 0, payload);
        sim.run_for(MS);
    }
    assert!(sim.status(1, 0).trouble.lossy_from_peer.is_none_or(|share| share <= 100));
    assert!(sim.hosts[1].messages.is_empty(), "it is not for those above");
    sim.run_for(4 * S);
    assert!(names(&sim, 1).is_empty(), "and forgotten");
}

#[test]
fn a_peer_that_says_this_and_that_makes_one_line_a_second() {
    let mut sim = urged(1);
    let id = PeerId(0);
    for n in 0..10_000 {
        let told: [u8; 2] = if n % 2 == 0 { [50, 0] } else { [0, 1] };
        sim.hosts[1].manager.send_message(id, 0, &told);
        if n % 1_000 == 0 {
            sim.run_for(300 * MS);
        }
    }
    sim.run_for(S);
    assert!((1..=5).contains(&said(&sim, 0).len()), "{:?}", said(&sim, 0));
}
