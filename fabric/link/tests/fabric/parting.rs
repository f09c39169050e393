//! Sessions that nobody needs, and hosts that stop.

use crate::node::{Node, PEER, Places, Setup, both_up, drive, pair};
use std::net::{IpAddr, Ipv4Addr};
use wireonce_frame::ecn::Ecn;
use wireonce_ledger::DropReason;
use wireonce_link::Fate;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Offers frame `n` until it is taken.
fn send(a: &mut Node, b: &mut Node, n: u8) {
    while let Err(reason) = a.send_for(n.into(), &[n; 200], 0, Ecn::NotEct) {
        assert_eq!(reason, DropReason::FabricBusy);
        a.turn();
        b.turn();
    }
}

#[test]
fn an_idle_session_is_given_up_and_the_next_frame_brings_it_back() {
    let mut setup = Setup::new(LOCALHOST);
    setup.timing.idle_after_us = 500_000;
    let (mut a, mut b) = pair(&setup, &Places::direct(LOCALHOST));
    send(&mut a, &mut b, 1);
    drive(&mut a, &mut b, |a, b| !a.fabric.is_up(PEER) && !b.fabric.is_up(PEER));
    assert_eq!((a.downs, b.downs, a.fate(Fate::Arrived)), (0, 0, 1));
    assert_eq!(a.fabric.snapshot().links[0].counters, Default::default(), "paths are gone");
    send(&mut a, &mut b, 2);
    send(&mut a, &mut b, 3);
    drive(&mut a, &mut b, |a, b| a.fate(Fate::Arrived) == 3 && both_up(a, b));
    assert_eq!(b.received, [[1; 200], [2; 200], [3; 200]]);
    assert_eq!(a.fates.len(), 1, "{:?}", a.fates);
}

#[test]
fn a_host_that_stops_says_so() {
    let mut setup = Setup::new(LOCALHOST);
    // Its silence alone would be noticed long after this test has given up.
    setup.timing.down_after_us = 600_000_000;
    let (mut a, mut b) = pair(&setup, &Places::direct(LOCALHOST));
    send(&mut a, &mut b, 1);
    drive(&mut a, &mut b, |a, _| a.fate(Fate::Arrived) == 1);
    let Node { agent, .. } = b;
    agent.stop();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while a.downs == 0 {
        assert!(std::time::Instant::now() < end);
        a.turn();
    }
    assert_eq!(a.send_for(2, &[2; 200], 0, Ecn::NotEct), Err(DropReason::NoSession));
}
