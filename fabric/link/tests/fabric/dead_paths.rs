//! A pair of ports that is dead, while hellos and the other paths are well.

use crate::impaired::{Bed, LOCALHOST};
use crate::node::{PEER, Setup};
use std::collections::BTreeSet;
use wireonce_frame::ecn::Ecn;
use wireonce_link::{Fate, manager::Trouble};
use wireonce_qemu_tests::impair::Direction::{AToB, BToA};

/// Flows that take one path each.
const FLOWS: u32 = 4;

fn bed(paths: u8, seed: u64) -> Bed {
    Bed::new(Setup { paths, ..Setup::new(LOCALHOST) }, seed)
}

fn dead(bed: &Bed) -> Vec<(u8, u8)> {
    bed.a.fabric.snapshot().links[0].dead_paths.clone()
}

fn trouble(bed: &Bed) -> Trouble {
    bed.a.agent.handle().status().peers[0].trouble
}

/// One frame of each flow, and some turns.
fn send_each(bed: &mut Bed, number: u64) {
    for flow in 0..FLOWS {
        let account = number * u64::from(FLOWS) + u64::from(flow);
        bed.a.send_for(account, &[0; 100], flow, Ecn::NotEct).unwrap();
    }
    (0..3).for_each(|_| bed.turn());
}

/// Sends until `done`, then some more; returns the flows of those that arrived last.
fn send_until(bed: &mut Bed, from: u64, done: impl Fn(&Bed) -> bool) -> BTreeSet<u64> {
    let mut number = from;
    while !done(bed) {
        assert!(number < from + 20_000, "{:?} {:?}", dead(bed), trouble(bed));
        send_each(bed, number);
        number += 1;
    }
    let later = number * u64::from(FLOWS);
    (number..number + 50).for_each(|number| send_each(bed, number));
    (0..200).for_each(|_| bed.turn());
    let outcomes = bed.a.outcomes.iter();
    let arrived = outcomes.filter(|it| it.fate == Fate::Arrived && it.account >= later);
    arrived.map(|it| it.account % u64::from(FLOWS)).collect()
}

#[test]
fn flows_of_a_dead_path_take_another_and_come_back_when_it_is_answered_again() {
    for (seed, path) in [(1, 2_u8), (2, 0)] {
        let mut bed = bed(4, seed);
        let flows = send_until(&mut bed, 0, |_| true);
        assert_eq!((flows.len(), dead(&bed)), (4, vec![]));
        bed.relay.set_dead(AToB, 1 + u16::from(path), true);
        let flows = send_until(&mut bed, 1_000_000, |bed| !dead(bed).is_empty());
        assert_eq!((flows.len(), dead(&bed)), (4, vec![(0, path)]), "all flows arrive");
        bed.until("word of it", |bed| trouble(bed).names().eq(["path-dead"]));
        assert!(!trouble(&bed).is_gray() && bed.a.downs == 0, "nobody has to go elsewhere");
        bed.relay.set_dead(AToB, 1 + u16::from(path), false);
        let flows = send_until(&mut bed, 2_000_000, |bed| dead(bed).is_empty());
        assert_eq!(flows.len(), 4);
        bed.until("word of it", |bed| trouble(bed) == Trouble::default());
    }
}

#[test]
fn evidence_finds_another_way_back_if_its_own_path_is_dead() {
    let mut bed = bed(4, 3);
    bed.relay.set_dead(BToA, 1, true);
    send_until(&mut bed, 0, |bed| bed.a.fate(Fate::Arrived) > 1_000);
    assert_eq!(dead(&bed), [], "what a sends arrives on all of them");
}

#[test]
fn a_link_without_a_path_that_lives_is_gray_at_both_ends_until_it_is_answered() {
    let mut bed = bed(1, 4);
    send_until(&mut bed, 0, |_| true);
    bed.relay.set_dead(AToB, 1, true);
    send_until(&mut bed, 1_000_000, |bed| !dead(bed).is_empty());
    bed.until("word of it", |bed| trouble(bed).names().eq(["no-path", "path-dead"]));
    let there = |bed: &Bed| bed.b.agent.handle().status().peers[0].trouble;
    bed.until("word of it there", |bed| there(bed).is_gray());
    assert!(trouble(&bed).is_gray() && bed.a.fabric.is_up(PEER));
    bed.relay.set_dead(AToB, 1, false);
    send_until(&mut bed, 2_000_000, |bed| dead(bed).is_empty());
    bed.until("word of it", |bed| trouble(bed) == Trouble::default());
    bed.until("word of it there", |bed| there(bed) == Trouble::default());
}

#[test]
fn a_peer_that_is_gone_altogether_has_no_dead_paths() {
    let mut bed = bed(4, 5);
    send_until(&mut bed, 0, |_| true);
    bed.relay.set_all(wireonce_qemu_tests::impair::Impairment::CUT);
    for number in 0..10 {
        send_each(&mut bed, 1_000_000 + number);
    }
    bed.until("silence", |bed| !bed.a.fabric.is_up(PEER));
    assert_eq!(dead(&bed), []);
}
