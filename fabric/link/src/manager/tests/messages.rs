//! Messages of those above, between hosts that have other things to say, too.

use super::sim::{Impairment, MS, S, Sim};

/// Two hosts that are up, and have sent each other `count` numbered messages, one each
/// millisecond.
fn talk(impairment: Impairment, count: u32) -> Sim {
    let mut sim = Sim::pair(1);
    sim.want(0);
    assert!(sim.run_until(S, Sim::joined));
    sim.impairment = impairment;
    for number in 0..count {
        sim.send_message(0, &number.to_le_bytes());
        sim.send_message(1, &number.to_le_bytes());
        sim.run_for(MS);
    }
    sim.run_for(S);
    sim
}

#[test]
fn every_message_arrives_once_and_in_order_on_a_good_network() {
    let sim = talk(Impairment::NONE, 500);
    for host in &sim.hosts {
        let all: Vec<_> = (0..500_u32).map(|number| number.to_le_bytes().to_vec()).collect();
        assert_eq!(host.messages, all);
    }
}

#[test]
fn a_message_is_handed_on_at_most_once_however_often_it_comes() {
    let doubling = Impairment { doubled_percent: 60, lost_percent: 10, ..Impairment::NONE };
    let sim = talk(doubling, 500);
    for host in &sim.hosts {
        let mut seen = host.messages.clone();
        assert!((300..500).contains(&seen.len()), "{}", seen.len());
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), host.messages.len());
    }
}

#[test]
fn many_messages_hide_no_hello() {
    let busy = talk(Impairment::NONE, 3_000);
    let status = busy.status(0, 0);
    assert!(status.rtt_us.is_some_and(|rtt_us| rtt_us < MS), "{:?}", status.rtt_us);
    // The search for the path's MTU, whose evidence is in the hellos, went on.
    assert_eq!(status.datagram_len_max, 8_972);
    assert!(busy.hosts.iter().all(|host| host.downs == 0));
}

#[test]
fn a_peer_that_floods_messages_is_cut_short() {
    let mut sim = Sim::pair(1);
    sim.want(0);
    assert!(sim.run_until(S, Sim::joined));
    (0..10_000).for_each(|_| sim.send_message(0, b"flood"));
    sim.run_for(MS);
    assert!((256..300).contains(&sim.hosts[1].messages.len()));
    let counters = sim.status(1, 0).counters;
    assert_eq!(counters.messages_heard + counters.messages_limited, 10_000);
}
