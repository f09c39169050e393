//! Sessions that nobody needs, and processes that stop.

use super::super::{Config, PeerState};
use super::sim::{Impairment, MS, S, Sim};
use crate::session::PeerId;

const GOODBYE_LEN: usize = 40;

/// Two hosts that are up and have nothing to send.
fn quiet_pair(seed: u64) -> Sim {
    let mut sim = Sim::new(2, seed, |_, config| config.timing.idle_after_us = 5 * S);
    sim.hosts.iter_mut().for_each(|host| host.quiet = true);
    sim.want(0);
    sim.run_for(S);
    assert!(sim.joined());
    sim
}

fn asleep(sim: &Sim) -> bool {
    sim.hosts.iter().all(|host| host.up.is_empty() && host.open.is_empty())
}

#[test]
fn a_session_without_frames_is_given_up_by_both_ends() {
    let mut sim = quiet_pair(1);
    sim.run_for(3 * S);
    assert!(sim.joined());
    sim.run_for(2 * S);
    assert!(asleep(&sim));
    for host in 0..2 {
        assert_eq!(sim.status(host, 0).state, PeerState::Idle);
        assert_eq!((sim.hosts[host].idles, sim.hosts[host].downs), (1, 0));
        assert_eq!(sim.hosts[host].manager.next_timer_us(), None, "idle costs nothing");
    }
    let sent = sim.log.len();
    sim.run_for(3_600 * S);
    assert_eq!(sim.log.len(), sent, "and says nothing");
}

#[test]
fn frames_of_one_end_keep_the_session() {
    for talker in 0..2 {
        let mut sim = quiet_pair(1);
        sim.hosts[talker].quiet = false;
        sim.run_for(60 * S);
        assert!(sim.joined());
        assert!(sim.hosts.iter().all(|host| host.idles == 0 && host.downs == 0));
    }
}

#[test]
fn the_next_frame_of_either_end_brings_the_session_back() {
    for caller in 0..2 {
        let mut sim = quiet_pair(1);
        sim.run_for(6 * S);
        assert!(asleep(&sim));
        sim.want(caller);
        assert!(sim.run_until(sim.now_us + 5 * MS, Sim::joined));
        sim.run_for(2 * S);
        assert!(sim.joined());
        assert_eq!(sim.hosts[0].mtu[&PeerId(0)], 8_972, "the path was looked at anew");
        sim.run_for(5 * S);
        assert!(asleep(&sim));
    }
}

#[test]
fn lost_goodbyes_cost_a_handshake_and_no_data() {
    // Host 0 is the first to find the session idle.
    let idle_s = [5, 20];
    let change = |at: usize, config: &mut Config| config.timing.idle_after_us = idle_s[at] * S;
    let mut sim = Sim::new(2, 1, change);
    sim.filter = Box::new(|_, _, bytes| bytes.len() != GOODBYE_LEN);
    sim.want(0);
    sim.run_for(3 * S);
    sim.hosts.iter_mut().for_each(|host| host.quiet = true);
    // Its hellos were seldom, so the silence may be long.
    sim.run_for(11 * S);
    // Host 1 has found the silence, called, and was answered.
    assert!(sim.joined());
    assert_eq!((sim.hosts[0].idles, sim.hosts[1].downs), (1, 1));
    sim.filter = Box::new(|_, _, _| true);
    sim.run_for(5 * S);
    assert!(asleep(&sim));
    assert_eq!((sim.hosts[0].idles, sim.hosts[1].idles, sim.data_refused), (2, 1, 0));
}

#[test]
fn a_host_that_stops_is_down_for_its_peer_at_once() {
    let mut sim = Sim::pair(1);
    sim.want(0);
    sim.run_for(2 * S);
    sim.stop(1);
    sim.run_for(MS);
    let peer = &sim.hosts[0];
    assert!(peer.downs == 1 && peer.up.is_empty() && peer.open.is_empty());
    assert_eq!(sim.status(0, 0).state, PeerState::Down);
    // It comes back by its own call, as after a crash.
    sim.restart(1, |_| {});
    sim.want(1);
    assert!(sim.run_until(sim.now_us + 2 * S, Sim::joined));
}

#[test]
fn repeated_and_forged_goodbyes_end_nothing() {
    let mut sim = quiet_pair(1);
    // The goodbyes get lost, and an adversary has them.
    sim.filter = Box::new(|_, _, bytes| bytes.len() != GOODBYE_LEN);
    let old = sim.hosts[1].up[&PeerId(0)].generation;
    sim.hosts[1].quiet = false;
    sim.run_for(S);
    sim.stop(0);
    let goodbyes =
        sim.log.iter().filter(|(from, _, bytes)| *from == 0 && bytes.len() == GOODBYE_LEN);
    let goodbyes: Vec<_> = goodbyes.map(|(_, _, bytes)| bytes.clone()).collect();
    assert_eq!(goodbyes.len(), 3);
    let from = sim.hosts[0].address;
    for at in 0..GOODBYE_LEN {
        let mut forged = goodbyes[0].clone();
        forged[at] ^= 1;
        sim.inject(1, from, &forged);
    }
    assert_eq!(sim.status(1, 0).counters.goodbyes_heard, 0);
    assert_eq!(sim.hosts[1].downs, 0);
    // The peer is back on a new session before the old one's goodbye comes.
    sim.impairment = Impairment::NONE;
    sim.restart(0, |_| {});
    sim.want(0);
    assert!(sim.run_until(sim.now_us + 2 * S, Sim::joined));
    let new = sim.hosts[1].up[&PeerId(0)].generation;
    assert!(new > old);
    for goodbye in &goodbyes {
        sim.inject(1, from, goodbye);
    }
    assert_eq!(sim.status(1, 0).counters.goodbyes_heard, 1, "the session ends with the first");
    assert_eq!(sim.hosts[1].up[&PeerId(0)].generation, new);
    sim.run_for(2 * S);
    assert!(sim.joined());
}
