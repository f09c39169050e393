//! Workers that see each other directly.

use crate::node::{Node, PEER, Places, Setup, drive, outbound, pair};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use wireonce_frame::{SliceSource, ecn::Ecn};
use wireonce_ledger::DropReason;
use wireonce_link::{Fabric, FabricConfig, Fate, KeyLimits, PeerAddress, manager::PathMtu};
use wireonce_qemu_tests::impair::free_ports;
use wireonce_ring::Ring;

fn direct(ip: IpAddr, sealed: bool, paths: u8, mtu: usize) -> (Places, Node, Node) {
    let setup = Setup { sealed, paths, path_mtu: PathMtu::Fixed(mtu), ..Setup::new(ip) };
    let places = Places::direct(ip);
    let (a, b) = pair(&setup, &places);
    (places, a, b)
}

fn send(node: &mut Node, frame: &[u8], flow_hash: u32, ecn: Ecn) -> Result<(), DropReason> {
    node.send_for(1, frame, flow_hash, ecn)
}

fn frames() -> Vec<Vec<u8>> {
    let lens = [14, 60, 1_500, 65_000, 64, 64, 9_000, 30_000, 65_535, 1];
    lens.iter().enumerate().map(|(n, len)| vec![u8::try_from(n + 1).unwrap(); *len]).collect()
}

fn all_arrive(ip: IpAddr, sealed: bool, paths: u8, mtu: usize) {
    let (_, mut a, mut b) = direct(ip, sealed, paths, mtu);
    let mut sent = Vec::new();
    for round in 0..30_u32 {
        for frame in frames() {
            while send(&mut a, &frame, round, Ecn::NotEct) == Err(DropReason::FabricBusy) {
                a.turn();
                b.turn();
            }
            sent.push(frame);
        }
        a.turn();
        b.turn();
    }
    let n = sent.len();
    drive(&mut a, &mut b, |a, b| b.received.len() >= n && a.fate(Fate::Arrived) >= n as u64);
    if paths == 1 {
        assert!(b.received == sent, "one path keeps the order");
    } else {
        b.received.sort();
        sent.sort();
        assert!(b.received == sent);
    }
    assert_eq!(a.fates.len(), 1, "{:?}", a.fates);
    let link = &b.fabric.snapshot().links[0];
    assert_eq!(link.counters.auth_failed + link.counters.duplicates, 0);
    a.agent.stop();
    b.agent.stop();
}

#[test]
fn sealed_frames_of_all_lengths_arrive_in_order() {
    all_arrive(Ipv4Addr::LOCALHOST.into(), true, 1, 1500);
}

#[test]
fn clear_frames_arrive_over_several_paths_and_jumbo_datagrams() {
    all_arrive(Ipv4Addr::LOCALHOST.into(), false, 4, 9000);
}

#[test]
fn the_smallest_ipv6_fabric_carries_the_longest_frames() {
    all_arrive(Ipv6Addr::LOCALHOST.into(), true, 2, 1280);
}

#[test]
fn ecn_capable_frames_take_paths_of_their_own() {
    let (_, mut a, mut b) = direct(Ipv4Addr::LOCALHOST.into(), true, 1, 1500);
    for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::NotEct, Ecn::Ect0] {
        send(&mut a, &[7; 100], 1, ecn).unwrap();
    }
    drive(&mut a, &mut b, |a, b| b.received.len() == 4 && a.fate(Fate::Arrived) == 4);
    let trains = a.fabric.snapshot().links[0].counters.sent_trains;
    assert!(trains >= 2, "a train has one outer ECN field");
    a.agent.stop();
    b.agent.stop();
}

#[test]
fn strangers_and_forgeries_leave_no_trace_but_a_count() {
    let (places, mut a, mut b) = direct(Ipv4Addr::LOCALHOST.into(), true, 1, 1500);
    send(&mut a, &[7; 100], 1, Ecn::NotEct).unwrap();
    drive(&mut a, &mut b, |_, b| b.received.len() == 1);
    let fd = b.fabric.socket_fds();
    assert_eq!(fd.len(), 1);
    let target = SocketAddr::new(places.real[1].ip(), places.real[1].port() + 1);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for first in 0..=255_u8 {
        let mut datagram = [first; 200];
        stranger.send_to(&datagram, target).unwrap();
        datagram[0] = 0x10; // version 1, data: gets as far as the session index
        stranger.send_to(&datagram, target).unwrap();
    }
    for _ in 0..50 {
        a.turn();
        b.turn();
    }
    let counters = b.fabric.snapshot().sockets;
    assert!(counters.strangers + counters.malformed >= 500, "{counters:?}");
    assert_eq!(b.received.len(), 1);
    a.agent.stop();
    b.agent.stop();
}

#[test]
fn without_a_session_frames_are_refused_by_name() {
    let mut ring = Ring::new().unwrap();
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let config = FabricConfig {
        address: ip,
        port: free_ports(ip, 2).unwrap(),
        worker: 0,
        paths: 1,
        receive_buffers: 2,
        token_kind: 8,
        key_limits: KeyLimits::default(),
        peers: vec![PeerAddress { name: "b".into(), address: ip, port: 1 }],
    };
    let mut fabric = Fabric::new(&mut ring, &config).unwrap();
    let block = outbound(1, &[0; 60], 0, Ecn::NotEct);
    let result = fabric.send(PEER, &block, &mut SliceSource::new(&[0; 60]), 0);
    assert_eq!(result, Err(DropReason::NoSession));
    assert_eq!(fabric.next_deadline_us(), None, "an idle worker needs no timer");
}
