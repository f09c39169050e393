//! Coming up, and silence to everyone else.

use super::super::{Config, ConfigError, Manager, PeerConfig, PeerState};
use super::sim::{MS, S, Sim, address, config};
use crate::handshake::INITIATION_LEN;
use crate::key::StaticKey;
use crate::random::Seeded;
use crate::session::PeerId;
use std::collections::HashSet;
use std::net::SocketAddr;

fn first_of_len(sim: &Sim, len: usize) -> Vec<u8> {
    sim.log.iter().find(|(_, _, bytes)| bytes.len() == len).unwrap().2.clone()
}

#[test]
fn two_hosts_come_up_within_two_round_trips() {
    let mut sim = Sim::pair(1);
    sim.want(0);
    assert!(sim.run_until(MS, Sim::joined));
    let session = &sim.hosts[0].up[&PeerId(0)];
    assert_eq!((session.local_workers, session.remote_workers, session.paths), (2, 2, 2));
    assert_eq!(session.datagram_len_max, 1_252);
    sim.run_for(S);
    assert_eq!((sim.hosts[0].downs, sim.hosts[1].downs, sim.data_refused), (0, 0, 0));
    for host in &sim.hosts {
        let status = &host.manager.status(sim.now_us)[0];
        assert_eq!((status.state, status.rtt_us), (PeerState::Up, Some(100)));
    }
}

#[test]
fn the_responder_sends_nothing_on_a_session_before_it_hears_of_it() {
    let mut sim = Sim::pair(1);
    // Only the initiation and the response pass.
    sim.filter = Box::new(|_, _, bytes| bytes.len() > 100 && bytes.len() < 200);
    sim.want(0);
    sim.run_for(50 * MS);
    assert_eq!((sim.hosts[0].up.len(), sim.hosts[1].up.len()), (1, 0));
    assert_eq!(sim.hosts[1].open.len(), 1);
    assert_eq!(sim.data_refused, 0);
}

#[test]
fn simultaneous_calls_make_exactly_one_session() {
    for seed in 0..20 {
        let mut sim = Sim::pair(seed);
        sim.want(0);
        sim.want(1);
        assert!(sim.run_until(10 * MS, Sim::joined));
        sim.run_for(S);
        assert!(sim.joined());
        assert_eq!((sim.hosts[0].open.len(), sim.hosts[1].open.len()), (1, 1));
        assert_eq!(sim.status(0, 0).counters.initiations_crossed, 1);
        assert_eq!(sim.data_refused, 0);
    }
}

#[test]
fn simultaneous_calls_survive_any_order_of_arrival() {
    for seed in 0..60 {
        let mut sim = Sim::pair(seed);
        sim.impairment.jitter_us = 150 * MS;
        sim.want(0);
        sim.run_for(seed % 7 * 10 * MS);
        sim.want(1);
        sim.run_for(5 * S);
        assert!(sim.hosts.iter().all(|host| host.up.len() == 1), "seed {seed}");
        assert_eq!(sim.data_refused, 0, "seed {seed}");
        sim.run_for(60 * S);
        assert_eq!(sim.data_refused, 0, "seed {seed}");
    }
}

#[test]
fn a_stranger_is_met_with_silence() {
    let stranger = StaticKey::generate().unwrap();
    let mut sim = Sim::pair(1);
    let victim =
        PeerConfig { name: "victim".into(), key: sim.hosts[1].key.public(), address: address(1) };
    let mut manager = Manager::new(0, config(&stranger), vec![victim], Seeded(1)).unwrap();
    manager.want_all(0);
    manager.timer(0);
    let Some(super::super::Output::Send { bytes, .. }) = manager.poll_output() else { panic!() };
    assert_eq!(sim.inject(1, address(7), &bytes), 0);
    let counters = sim.hosts[1].manager.counters();
    assert_eq!(counters.unknown_key, 1);
    assert_eq!(sim.hosts[1].manager.next_timer_us(), None, "nothing lasts");
}

#[test]
fn a_caller_with_the_wrong_key_of_ours_is_met_with_silence() {
    let mut sim = Sim::pair(1);
    let wrong = PeerConfig {
        name: "wrong".into(),
        key: StaticKey::generate().unwrap().public(),
        address: address(1),
    };
    let mut manager = Manager::new(0, config(&sim.hosts[0].key), vec![wrong], Seeded(1)).unwrap();
    manager.want_all(0);
    manager.timer(0);
    let Some(super::super::Output::Send { bytes, .. }) = manager.poll_output() else { panic!() };
    assert_eq!(sim.inject(1, address(0), &bytes), 0);
    assert_eq!(sim.hosts[1].manager.counters().bad_mac, 1);
}

#[test]
fn every_changed_byte_of_an_initiation_is_met_with_silence() {
    let mut sim = Sim::pair(1);
    sim.filter = Box::new(|_, _, _| false);
    sim.want(0);
    sim.run_for(MS);
    let initiation = first_of_len(&sim, INITIATION_LEN);
    for at in 0..initiation.len() {
        let mut bytes = initiation.clone();
        bytes[at] ^= 0x40;
        assert_eq!(sim.inject(1, address(0), &bytes), 0, "byte {at}");
    }
    assert_eq!(sim.hosts[1].manager.next_timer_us(), None, "nothing lasts");
    assert!(sim.inject(1, address(0), &initiation) > 0);
}

#[test]
fn every_changed_byte_of_a_response_is_met_with_silence_and_spoils_nothing() {
    let mut sim = Sim::pair(1);
    sim.filter = Box::new(|from, _, _| from == 0);
    sim.want(0);
    sim.run_for(MS);
    let response = sim.log.iter().find(|(from, _, _)| *from == 1).unwrap().2.clone();
    for at in 0..response.len() {
        let mut bytes = response.clone();
        bytes[at] ^= 0x40;
        assert_eq!(sim.inject(0, address(1), &bytes), 0, "byte {at}");
    }
    assert!(sim.inject(0, address(1), &response) > 0);
    assert_eq!(sim.inject(0, address(1), &response), 0, "a second time");
    assert_eq!(sim.hosts[0].up.len(), 1);
}

#[test]
fn every_changed_byte_of_a_hello_is_met_with_silence() {
    let mut sim = Sim::pair(1);
    sim.want(0);
    sim.run_for(S);
    sim.filter = Box::new(|_, _, _| false);
    let sent = sim.log.len();
    sim.run_for(100 * MS);
    let (from, to, hello) = sim.log[sent].clone();
    let heard = sim.status(to, 0).counters.hellos_heard;
    for at in 0..hello.len() {
        let mut bytes = hello.clone();
        bytes[at] ^= 0x40;
        assert_eq!(sim.inject(to, address(from), &bytes), 0, "byte {at}");
    }
    assert_eq!(sim.status(to, 0).counters.hellos_heard, heard);
    sim.inject(to, address(from), &hello);
    sim.inject(to, address(from), &hello);
    assert_eq!(sim.status(to, 0).counters.hellos_heard, heard + 1);
    assert_eq!(sim.hosts[to].manager.counters().repeated, 1);
}

#[test]
fn a_replayed_initiation_is_ignored() {
    let mut sim = Sim::pair(1);
    sim.want(0);
    sim.run_for(S);
    let initiation = first_of_len(&sim, INITIATION_LEN);
    assert_eq!(sim.inject(1, address(0), &initiation), 0);
    assert_eq!(sim.status(1, 0).counters.initiations_replayed, 1);
    assert_eq!(sim.hosts[1].open.len(), 1);
}

#[test]
fn an_initiation_replayed_to_a_restarted_host_comes_to_nothing() {
    let mut sim = Sim::pair(1);
    sim.want(0);
    sim.run_for(S);
    let initiation = first_of_len(&sim, INITIATION_LEN);
    sim.hosts[0].alive = false;
    sim.restart(1, |_| {});
    // It is answered, to the real host only, and then forgotten.
    assert!(sim.inject(1, address(9), &initiation) > 0);
    assert_eq!(sim.log.last().unwrap().1, 0);
    sim.run_for(10 * S);
    assert_eq!((sim.hosts[1].up.len(), sim.hosts[1].open.len()), (0, 0));
}

#[test]
fn noise_from_the_network_leaves_no_trace() {
    let mut sim = Sim::pair(1);
    let mut random = Seeded(3);
    for round in 0..20_000u64 {
        let mut bytes = vec![0; usize::try_from(random.next() % 300).unwrap()];
        crate::random::Random::fill(&mut random, &mut bytes).unwrap();
        if let Some(first) = bytes.first_mut() {
            *first = 0x10 | *first & 3;
        }
        if round % 2 == 0 && bytes.len() >= 8 {
            bytes[2..4].fill(0xff);
            bytes[4] = 0;
            bytes[5] &= 0xf0;
        }
        let from = SocketAddr::from(([192, 0, 2, 1], 1));
        assert_eq!(sim.inject(1, from, &bytes), 0);
    }
    assert_eq!(sim.hosts[1].manager.next_timer_us(), None);
    let counters = sim.hosts[1].manager.counters();
    assert!(counters.malformed > 0 && counters.unknown_session > 0, "{counters:?}");
}

#[test]
fn calls_without_a_common_wire_version_are_refused_and_counted() {
    let mut sim =
        Sim::new(2, 1, |at, config| config.versions = if at == 0 { 1..=2 } else { 3..=4 });
    sim.want(0);
    sim.run_for(S);
    assert!(sim.status(1, 0).counters.version_mismatch >= 3);
    assert!(sim.hosts.iter().all(|host| host.open.is_empty()));
    assert!(sim.log.iter().all(|(from, _, _)| *from == 0), "no reply");
}

#[test]
fn the_highest_common_wire_version_is_spoken() {
    let mut sim =
        Sim::new(2, 1, |at, config| config.versions = if at == 0 { 1..=5 } else { 2..=3 });
    sim.want(0);
    sim.run_for(S);
    assert!(sim.joined());
    assert!(sim.hosts.iter().all(|host| host.up[&PeerId(0)].version == 3));
}

#[test]
fn hosts_that_disagree_on_encryption_are_refused_and_counted() {
    let mut sim = Sim::new(2, 1, |at, config| config.sealed = at == 0);
    sim.want(0);
    sim.run_for(S);
    assert!(sim.status(1, 0).counters.encryption_mismatch >= 3);
    assert!(sim.hosts.iter().all(|host| host.open.is_empty()));
}

#[test]
fn hosts_that_agree_on_clear_data_still_authenticate() {
    let mut sim = Sim::new(2, 1, |_, config| config.sealed = false);
    sim.want(0);
    sim.run_for(S);
    assert!(sim.joined());
    assert!(sim.hosts.iter().all(|host| !host.up[&PeerId(0)].sealed));
}

#[test]
fn a_restart_calls_all_peers_at_its_pace() {
    let mut sim = Sim::new(20, 1, |_, config| config.timing.pace_us = 2 * MS);
    sim.want(0);
    sim.run_for(10 * MS - 1);
    let called: HashSet<usize> = sim.log.iter().filter(|m| m.0 == 0).map(|m| m.1).collect();
    assert_eq!(called.len(), 5);
    sim.run_for(200 * MS);
    assert_eq!(sim.hosts[0].up.len(), 19);
}

#[test]
fn no_key_repeats_over_a_thousand_restarts_with_the_same_clock_and_random_source() {
    let keys = [StaticKey::generate().unwrap(), StaticKey::generate().unwrap()];
    let mut secrets = HashSet::new();
    for _ in 0..1_000 {
        let mut managers = [0, 1].map(|at: usize| {
            let peer = PeerConfig {
                name: "peer".into(),
                key: keys[1 - at].public(),
                address: address(1 - at),
            };
            Manager::new(0, config(&keys[at]), vec![peer], Seeded(7)).unwrap()
        });
        managers[0].want_all(0);
        managers[0].timer(0);
        let mut made = Vec::new();
        for round in 0..6 {
            let mut bytes = Vec::new();
            while let Some(output) = managers[round % 2].poll_output() {
                match output {
                    super::super::Output::Send { bytes: sent, .. } => bytes.push(sent),
                    super::super::Output::SessionUp(session) => made.push(session),
                    _ => {}
                }
            }
            for mut bytes in bytes {
                managers[1 - round % 2].datagram(0, address(round % 2), &mut bytes);
            }
        }
        assert_eq!(made.len(), 2);
        assert!(made[0].secret == made[1].secret);
        assert!(secrets.insert(made[0].secret.clone()), "a secret repeats");
    }
}

#[test]
fn configurations_out_of_bounds_are_refused() {
    let key = StaticKey::generate().unwrap();
    let check = |change: fn(&mut Config), peers: Vec<PeerConfig>| {
        let mut config = config(&key);
        change(&mut config);
        Manager::new(0, config, peers, Seeded(1)).map(|_| ()).unwrap_err()
    };
    assert_eq!(check(|c| c.versions = 0..=1, vec![]), ConfigError::Versions(0, 1));
    assert_eq!(check(|c| c.versions = 1..=16, vec![]), ConfigError::Versions(1, 16));
    assert_eq!(check(|c| c.workers = 0, vec![]), ConfigError::Workers);
    assert_eq!(check(|c| c.paths = 9, vec![]), ConfigError::Paths(9));
    assert_eq!(check(|c| c.datagram_len_max = 100, vec![]), ConfigError::DatagramLen(100));
    assert_eq!(check(|c| c.timing.hello_every_us = 0, vec![]), ConfigError::Timing);
    let own = PeerConfig { name: "me".into(), key: key.public(), address: address(0) };
    assert_eq!(check(|_| {}, vec![own]), ConfigError::Key("me".into()));
}
