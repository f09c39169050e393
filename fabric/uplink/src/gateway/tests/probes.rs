//! Two uplinks of one pool that hear each other through a switch, and somebody in between.

use super::{
    bed::{Bed, Scene, must_close, row},
    server::UPLINK,
};
use crate::{
    gateway::Gateway,
    sample::{STRANGER, frame, mac, vni},
    testbed::Raw,
};
use std::{thread, time::Duration};
use wireonce_frame::MacAddr;
use wireonce_host::Daemon;
use wireonce_ledger::{DropReason, Stage, Status};
use wireonce_wire::Endpoint;

const PLAIN: [u8; 12] = [0; 12];

/// How the two uplinks are joined, as each hears it.
fn states(status: &Status) -> Vec<(&str, &str)> {
    let pair = |it: &'_ wireonce_ledger::status::OutsidePairStatus| it.uplink != it.other;
    let pairs = status.outside.iter().filter(|it| pair(it));
    pairs.map(|pair| (pair.uplink.as_str(), pair.state.as_str())).collect()
}

fn count(status: &Status, counter: &str) -> u64 {
    status.counters.get(counter).copied().unwrap_or(0)
}

/// Probes go once a second, and silences take some of them: longer than other things.
fn wait_for(gateway: &Gateway, what: &str, so: impl Fn(&Status) -> bool) {
    for _ in 0..3_000 {
        if so(&gateway.status()) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("never: {what}: {:#?}", gateway.status());
}

/// The next probe that the stranger hears, with the tag in it.
fn next_probe(outside: &Raw) -> Vec<u8> {
    for _ in 0..100 {
        let (tag, bytes) = outside.next_with_tag(&MacAddr::BROADCAST.0);
        if bytes[12..14] == [0x88, 0xb5] {
            return match tag {
                Some(tag) => crate::testbed::tagged(&bytes, tag),
                None => bytes,
            };
        }
    }
    panic!("a hundred broadcasts, and no probe");
}

#[test]
fn uplinks_hear_each_other_and_nothing_of_it_enters_the_fabric() {
    let Some(bed) = Bed::pool() else { return };
    let status = bed.play(|Scene { server, outside, gateway }| {
        let joined = |status: &Status| states(status) == [("up", "joined"), ("up-b", "joined")];
        wait_for(gateway, "the uplinks are joined", joined);
        assert_eq!(next_probe(outside)[12..16], [0x81, 0, 0, 20], "on the network's VLAN");
        // What a stranger sends with that ethertype to all does not enter either.
        let mut foreign = frame(MacAddr::BROADCAST, STRANGER, 100);
        foreign[12..14].copy_from_slice(&[0x88, 0xb5]);
        outside.write(&PLAIN, &super::on_vlan_20(&foreign));
        let broadcast = frame(MacAddr::BROADCAST, STRANGER, 150);
        outside.write(&PLAIN, &super::on_vlan_20(&broadcast));
        let arrival = server.receive();
        assert_eq!((arrival.destination, arrival.source), (Endpoint::Network(vni(200)), UPLINK));
        assert_eq!(arrival.bytes, broadcast, "the first that enters");
        wait_for(gateway, "it is counted", |status| count(status, "probe_unreadable") == 2);
    });
    assert_eq!(row(&status, "up", Stage::UplinkRx).output.frames, 1);
    assert!(count(&status, "probe_heard") >= 2);
    let sent = row(&status, "up", Stage::UplinkTx);
    assert!(sent.output.frames >= 1, "probes are in the books of their uplink: {sent:?}");
}

#[test]
fn a_forged_probe_and_a_recorded_one_change_nothing_and_are_counted() {
    let Some(bed) = Bed::pool() else { return };
    bed.play(|Scene { outside, gateway, .. }| {
        let recorded = next_probe(outside);
        let joined = |status: &Status| states(status) == [("up", "joined"), ("up-b", "joined")];
        wait_for(gateway, "the uplinks are joined", joined);
        // Newer ones have to have come before the recorded one is old, and its sender's memory of
        // having sent it has to have faded.
        let heard = |status: &Status| count(status, "probe_sent") >= 12;
        wait_for(gateway, "time passes", heard);
        let mut forged = recorded.clone();
        forged[18 + 16] ^= 0x40; // behind the tag: a later number
        outside.write(&PLAIN, &forged);
        // Both uplinks hear it, and neither believes it.
        wait_for(gateway, "it is counted", |it| count(it, "probe_unauthentic") == 2);
        outside.write(&PLAIN, &recorded);
        wait_for(gateway, "it is counted", |it| count(it, "probe_replayed") == 2);
        let status = gateway.status();
        assert_eq!(count(&status, "probe_own_heard"), 0);
        assert!(joined(&status), "{:?}", status.outside);
    });
}

#[test]
fn a_port_that_reflects_is_a_loop_and_its_broadcast_is_held_back() {
    let Some(bed) = Bed::pool() else { return };
    let status = bed.play(|Scene { server, outside, gateway }| {
        wait_for(gateway, "a carrier", |it| it.uplinks.iter().all(|uplink| uplink.carrier));
        bed.outside.ip("link set dev out0 type bridge_slave hairpin on");
        let looped = |status: &Status| {
            status.outside.iter().any(|it| it.state == "loop" && it.uplink == "up")
        };
        wait_for(gateway, "the loop is found", looped);
        let handed_over =
            |status: &Status| !status.uplinks[0].designated && status.uplinks[1].designated;
        wait_for(gateway, "the other lets broadcast in", handed_over);
        server.send(1, &frame(MacAddr::BROADCAST, mac(1), 1400));
        // Unicast goes on.
        let out = frame(STRANGER, mac(1), 200);
        server.send(1, &out);
        assert_eq!(outside.next_of(&out[..12]), out);
        bed.outside.ip("link set dev out0 type bridge_slave hairpin off");
    });
    let held =
        row(&status, "a1", Stage::UplinkTx).drops.get(DropReason::OutsideLoop.name()).copied();
    assert_eq!(held.map(|held| held.bytes), Some(1400));
    must_close(&status);
}

#[test]
fn the_next_hop_is_asked_and_its_silence_is_said() {
    let Some(mut bed) = Bed::new() else { return };
    // Untagged, where the pool has no network: it need not have one.
    bed.uplink_keys = "next_hop = \"192.0.2.77\"\n";
    bed.outside.ip("addr add 192.0.2.77/24 dev out0");
    bed.play(|Scene { gateway, .. }| {
        let state = |wanted: &'static str| {
            move |status: &Status| {
                status.uplinks[0].next_hop.as_ref().is_some_and(|hop| hop.state == wanted)
            }
        };
        wait_for(gateway, "it answers", state("answers"));
        bed.outside.ip("addr del 192.0.2.77/24 dev out0");
        wait_for(gateway, "it is silent", state("silent"));
        bed.outside.ip("addr add 192.0.2.77/24 dev out0");
        wait_for(gateway, "it answers again", state("answers"));
    });
}

#[test]
fn an_uplink_whose_port_loses_its_link_hands_over_at_once() {
    let Some(bed) = Bed::pool() else { return };
    bed.play(|Scene { gateway, .. }| {
        let designated = |at: usize| {
            move |status: &Status| {
                let now: Vec<bool> = status.uplinks.iter().map(|it| it.designated).collect();
                now.iter().position(|it| *it) == Some(at)
                    && now.iter().filter(|it| **it).count() == 1
            }
        };
        wait_for(gateway, "both have a link", |it| it.uplinks.iter().all(|uplink| uplink.carrier));
        assert!(designated(0)(&gateway.status()));
        bed.outside.ip("link set out0 down");
        wait_for(gateway, "the other is designated", designated(1));
        bed.outside.ip("link set out0 up");
        wait_for(gateway, "the configured one is again", designated(0));
    });
}
