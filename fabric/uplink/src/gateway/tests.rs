//! A gateway as a whole, between a server and the outside, each in a namespace.
//!
//! The server is the fabric half of a worker and an agent, driven by hand. Each test
//! is a story between the two, and what the gateway's books say of it.

mod bed;
mod change;
mod clear_text;
mod downwards;
mod inward;
mod pool;
mod probes;
mod server;

use super::*;
use crate::{
    sample::{STRANGER, frame, mac, tcp_segment, vni, vnic},
    testbed::tagged,
};
use bed::{Bed, Scene, dropped, row, wait_for};
use server::UPLINK;
use std::sync::mpsc;
use wireonce_frame::MacAddr;
use wireonce_ledger::{DropReason, Stage};

const PLAIN: [u8; 12] = [0; 12];

#[test]
fn frames_cross_a_gateway_both_ways_and_the_books_close() {
    let Some(bed) = Bed::new() else { return };
    let status = bed.play(|Scene { server, outside, .. }| {
        let out = frame(STRANGER, mac(1), 200);
        server.send(1, &out);
        assert_eq!(outside.next_of(&out[..12]), out);

        let back = frame(mac(1), STRANGER, 300);
        outside.write(&PLAIN, &on_vlan_20(&back));
        let arrival = server.receive();
        assert_eq!((arrival.source, arrival.destination), (UPLINK, Endpoint::Vnic(vnic(1))));
        assert_eq!(arrival.bytes, back);

        let broadcast = frame(MacAddr::BROADCAST, STRANGER, 100);
        outside.write(&PLAIN, &on_vlan_20(&broadcast));
        let arrival = server.receive();
        assert_eq!(arrival.destination, Endpoint::Network(vni(200)));
        assert_eq!(arrival.bytes, broadcast);
    });
    assert_eq!(row(&status, "a1", Stage::FabricRx).output, Amount::frame(200, 1));
    assert_eq!(row(&status, "a1", Stage::UplinkTx).output, Amount::frame(200, 1));
    assert_eq!(row(&status, "a1", Stage::UplinkRx).output, Amount::frame(300, 1));
    assert_eq!(row(&status, "a1", Stage::FabricTx).output, Amount::frame(300, 1));
    assert_eq!(row(&status, "up", Stage::UplinkRx).output, Amount::frame(100, 1));
    assert!(status.uplinks[0].carrier && status.uplinks[0].designated);
    assert_eq!(status.uplinks[0].inward, Amount { frames: 2, segments: 2, bytes: 400 });
}

#[test]
fn large_segments_cross_a_gateway_whole() {
    let Some(bed) = Bed::new() else { return };
    let status = bed.play(|Scene { server, outside, .. }| {
        let (vnet, inward) = tcp_segment(mac(1), STRANGER, 60_000);
        let mut vnet_tagged = vnet;
        vnet_tagged[2] += 4;
        vnet_tagged[6] += 4;
        outside.write(&vnet_tagged, &on_vlan_20(&inward));
        let arrival = server.receive();
        assert_eq!(arrival.bytes, inward);
        assert_eq!(arrival.offload.gso.unwrap().size, 1448);

        let (_, outward) = tcp_segment(STRANGER, mac(1), 60_000);
        server.send_with(1, UPLINK, &outward, arrival.offload).unwrap();
        assert_eq!(outside.next_of(&outward[..12]), outward);
    });
    let sent = row(&status, "a1", Stage::UplinkTx).output;
    assert_eq!(sent, Amount { frames: 1, segments: 42, bytes: 60_054 });
}

#[test]
fn a_carrier_that_returns_is_announced_again() {
    let Some(bed) = Bed::new() else { return };
    let gateway = bed.start_gateway();
    wait_for(&gateway, "a carrier", |status| status.uplinks[0].carrier);
    bed.outside.ip("link set out0 down");
    wait_for(&gateway, "no carrier", |status| !status.uplinks[0].carrier);
    let before = gateway.status().counters["uplink_announcements"];
    bed.outside.ip("link set out0 up");
    // What is left of the first three rounds is not repeated.
    let three_more = |status: &Status| status.counters["uplink_announcements"] == before + 3;
    wait_for(&gateway, "three more", three_more);
    gateway.stop();
}

#[test]
fn a_gateway_announces_the_vnics_that_it_is_home_for() {
    let Some(bed) = Bed::new() else { return };
    let outside = bed.listen_outside();
    let gateway = bed.start_gateway();
    let garp = outside.next_of(&[MacAddr::BROADCAST.0, mac(1).0].concat());
    assert_eq!(garp[12..14], [8, 6]);
    assert_eq!(garp[28..32], [192, 0, 2, 1]);
    gateway.stop();
}

#[test]
fn what_a_server_may_not_send_stays_inside_and_has_a_name() {
    let Some(bed) = Bed::new() else { return };
    let status = bed.play(|Scene { server, outside, .. }| {
        server.send(1, &frame(STRANGER, mac(9), 100));
        server.send(9, &frame(STRANGER, mac(9), 100));
        let good = frame(STRANGER, mac(1), 100);
        server.send(1, &good);
        assert_eq!(outside.next_of(&STRANGER.0), good, "what follows is not held up");
    });
    assert_eq!(dropped(&status, "a1", DropReason::SourceMac).frames, 1);
    assert_eq!(dropped(&status, "not owned", DropReason::SourceNotOwned).frames, 1);
}

#[test]
fn several_workers_share_an_uplink() {
    let Some(mut bed) = Bed::new() else { return };
    bed.workers = 3;
    bed.play(|Scene { server, outside, .. }| {
        for port in 0..32 {
            let mut out = frame(STRANGER, mac(1), 100);
            out[35] = port;
            server.send(1, &out);
            assert_eq!(outside.next_of(&STRANGER.0), out);
            let mut back = frame(mac(1), STRANGER, 100);
            back[37] = port;
            outside.write(&PLAIN, &on_vlan_20(&back));
            assert_eq!(server.receive().bytes, back, "each exactly once");
        }
    });
}

#[test]
fn a_host_without_uplinks_is_no_gateway() {
    let text = "[host]\nname = \"gateway\"\nprivate_key_file = \"/nowhere/key\"\n\
                [fabric]\naddress = \"10.0.0.1\"\n";
    let config = Arc::new(Config::parse(text, "gateway.toml").unwrap());
    let error = Gateway::start(&config, &mpsc::channel().0).unwrap_err().to_string();
    assert!(error.contains("gateway.toml") && error.contains("[[uplink]]"), "{error}");
}

fn on_vlan_20(frame: &[u8]) -> Vec<u8> {
    tagged(frame, [0x81, 0, 0, 20])
}
