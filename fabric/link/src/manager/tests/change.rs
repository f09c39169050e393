//! Peers that come and go under way.

use super::super::{ConfigError, PEER_NUMBERS_MAX, PeerConfig, PeerState};
use super::sim::{MS, S, Sim};
use crate::key::StaticKey;
use crate::session::PeerId;

/// A pair that is up.
fn pair() -> Sim {
    let mut sim = Sim::pair(1);
    sim.want(0);
    sim.run_for(2 * S);
    assert!(sim.joined());
    sim
}

/// What host 0 knows of host 1.
fn other(sim: &Sim) -> PeerConfig {
    let host = &sim.hosts[1];
    PeerConfig { name: "host-1".to_owned(), key: host.key.public(), address: host.address }
}

fn add(sim: &mut Sim, peer: PeerConfig) -> PeerId {
    let now_us = sim.now_us;
    sim.hosts[0].manager.add_peer(now_us, peer).unwrap()
}

fn remove(sim: &mut Sim, peer: PeerId) {
    let now_us = sim.now_us;
    sim.hosts[0].manager.remove_peer(now_us, peer);
    // Hands on what it said.
    sim.run_for(0);
    sim.want(1);
}

/// Host 0 sends on a session of the peer numbered `id` that host 1 sends on, too.
fn joined_as(sim: &Sim, id: PeerId) -> bool {
    let (here, there) = (sim.hosts[0].up.get(&id), sim.hosts[1].up.get(&PeerId(0)));
    here.zip(there).is_some_and(|(here, there)| here.local_index == there.remote_index)
}

#[test]
fn a_peer_that_is_removed_hears_it_and_finds_nobody() {
    let mut sim = pair();
    remove(&mut sim, PeerId(0));
    sim.run_for(10 * MS);
    assert_eq!(sim.status(0, 0).state, PeerState::Gone);
    assert!(sim.hosts[0].up.is_empty() && sim.hosts[0].open.is_empty());
    assert_eq!((sim.hosts[1].downs, sim.hosts[1].up.len()), (1, 0), "it need not wait for silence");
    let said = sim.log.iter().filter(|(from, ..)| *from == 0).count();
    sim.run_for(30 * S);
    assert!(sim.hosts[0].manager.counters().unknown_key > 5, "it calls");
    assert_eq!(sim.log.iter().filter(|(from, ..)| *from == 0).count(), said, "no answer");
    assert_eq!(sim.hosts[0].manager.next_timer_us(), None);
    // Nobody can have it called again under its old number.
    sim.hosts[0].manager.want(sim.now_us, PeerId(0));
    assert_eq!(sim.hosts[0].manager.next_timer_us(), None);
}

#[test]
fn a_peer_that_comes_back_has_another_number() {
    let mut sim = pair();
    remove(&mut sim, PeerId(0));
    sim.run_for(S);
    let peer = other(&sim);
    let id = add(&mut sim, peer);
    assert_eq!(id, PeerId(1));
    sim.want(0);
    assert!(sim.run_until(sim.now_us + 3 * S, |sim| joined_as(sim, id)));
    sim.run_for(30 * S);
    assert!(joined_as(&sim, id));
    assert_eq!(sim.status(0, 0).state, PeerState::Gone);
    assert_eq!(sim.hosts[0].downs + sim.hosts[1].downs, 2, "only the one on purpose, each");
}

#[test]
fn a_peer_with_a_new_address_is_up_under_the_new_number_before_the_old_one_goes() {
    let mut sim = pair();
    let peer = other(&sim);
    let id = add(&mut sim, peer);
    let now_us = sim.now_us;
    sim.hosts[0].manager.want(now_us, id);
    assert!(sim.run_until(sim.now_us + 3 * S, |sim| joined_as(sim, id)));
    remove(&mut sim, PeerId(0));
    sim.run_for(30 * S);
    assert!(joined_as(&sim, id));
    assert_eq!(sim.hosts[1].downs, 0, "the other end never had none");
}

#[test]
fn a_call_that_was_recorded_before_a_peer_came_back_is_a_replay() {
    let mut sim = pair();
    sim.run_for(130 * S); // a rekey, whoever began it
    let from_other = |(from, _, bytes): &&(usize, usize, Vec<u8>)| *from == 1 && bytes.len() == 198;
    let calls: Vec<_> = sim.log.iter().filter(from_other).map(|it| it.2.clone()).collect();
    remove(&mut sim, PeerId(0));
    let peer = other(&sim);
    add(&mut sim, peer);
    let from = sim.hosts[1].address;
    for call in &calls {
        sim.inject(0, from, call);
    }
    let counters = sim.status(0, 1).counters;
    assert_eq!(counters.initiations_answered, 0, "of {} calls", calls.len());
}

#[test]
fn numbers_run_out_instead_of_being_given_twice() {
    let mut sim = pair();
    let key = StaticKey::generate().unwrap().public();
    for number in 1..PEER_NUMBERS_MAX {
        let peer = PeerConfig { key, ..other(&sim) };
        let id = add(&mut sim, peer);
        assert_eq!(id, PeerId(number));
        sim.hosts[0].manager.remove_peer(0, id);
    }
    let peer = PeerConfig { key, ..other(&sim) };
    let error = sim.hosts[0].manager.add_peer(0, peer).unwrap_err();
    assert_eq!(error, ConfigError::Peers);
    let own = PeerConfig { key: sim.hosts[0].key.public(), ..other(&sim) };
    let error = sim.hosts[0].manager.add_peer(0, own).unwrap_err();
    assert!(matches!(error, ConfigError::Key(_)), "our own key comes first");
}
