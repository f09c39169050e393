//! Two workers' halves on loopback, with sessions made by hand and the clock in the test's.

mod borrowed;
mod torn;

use super::{
    Fabric, FabricConfig, Inbound, Outbound, PeerAddress, SessionEvent, receive::Receiver,
    rx::Buffers,
};
use crate::{
    Fate, KeyLimits, PeerId, Session,
    session::tests::pair,
    socket::{RECEIVE_LAYOUT, UDP_GRO},
};
use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};
use wireonce_frame::{Offload, SliceSource, ecn::Ecn};
use wireonce_ledger::{Amount, DropReason};
use wireonce_qemu_tests::impair::free_ports;
use wireonce_ring::{BufferId, Ring, Wait};
use wireonce_wire::{
    Endpoint, Geometry, HELD_DATAGRAMS_MAX, Packer, PathIndex, TAG_LEN, TrainPool, VnicId,
};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PEER: PeerId = PeerId(0);

fn config(port: u16, peer_port: u16) -> FabricConfig {
    let peer = PeerAddress { name: "peer".into(), address: LOCALHOST, port: peer_port };
    FabricConfig {
        address: LOCALHOST,
        port,
        worker: 0,
        paths: 1,
        receive_buffers: 16,
        token_kind: 8,
        key_limits: KeyLimits::default(),
        peers: vec![peer],
    }
}

/// Both ends of a session with two workers and one path each.
fn sessions() -> [Arc<Session>; 2] {
    let (mut a, mut b) = pair([7; 32], 5);
    (a.paths, b.paths) = (1, 1);
    [a, b].map(Arc::new)
}

fn outbound(account: u64, len: usize) -> Outbound {
    Outbound {
        source: Endpoint::Vnic(VnicId::new(1).unwrap()),
        destination: Endpoint::Vnic(VnicId::new(2).unwrap()),
        offload: Offload::default(),
        flow_hash: 0,
        ecn: Ecn::NotEct,
        account,
        amount: Amount::frame(len, 1),
    }
}

struct End {
    ring: Ring,
    fabric: Fabric,
    received: Vec<Vec<u8>>,
    fates: Vec<(u64, Fate)>,
}

impl End {
    /// Turns once; returns how many completions there were.
    fn turn(&mut self, now_us: u64, wait: Wait) -> usize {
        let Self { ring, fabric, received, fates } = self;
        let mut completions = Vec::new();
        ring.enter(wait, &mut completions).unwrap();
        let mut sink = |inbound: Inbound<'_>| received.push(inbound.frame.parts().concat());
        for completion in &completions {
            fabric.handle(ring, completion, now_us, &mut sink).unwrap();
        }
        fabric.tick(now_us, &mut sink);
        fabric.flush(ring, now_us).unwrap();
        fates.extend(fabric.outcomes().map(|outcome| (outcome.account, outcome.fate)));
        completions.len()
    }

    fn send(&mut self, id: u64, now_us: u64) -> Result<(), DropReason> {
        let frame = [id.to_le_bytes(); 100].concat();
        let block = outbound(id, frame.len());
        self.fabric.send(PEER, &block, &mut SliceSource::new(&frame), now_us)
    }
}

fn ends() -> [End; 2] {
    let ports = [(); 2].map(|()| free_ports(LOCALHOST, 9).unwrap());
    let sessions = sessions();
    [0, 1].map(|me| {
        let mut ring = Ring::new().unwrap();
        let mut fabric = Fabric::new(&mut ring, &config(ports[me], ports[1 - me])).unwrap();
        fabric.apply(SessionEvent::Open(Arc::clone(&sessions[me])));
        fabric.apply(SessionEvent::Up(Arc::clone(&sessions[me])));
        End { ring, fabric, received: Vec::new(), fates: Vec::new() }
    })
}

#[test]
fn a_host_without_memory_is_tried_again_after_a_while_and_in_order() {
    for errno in [libc::ENOBUFS, libc::ENOMEM] {
        let [mut a, mut b] = ends();
        a.turn(0, Wait::Poll);
        a.fabric.sockets[0].refusal = Some(errno);
        let mut now_us = 1_000;
        let mut sent = 0;
        while a.send(sent, now_us).is_ok() {
            sent += 1;
        }
        assert_eq!(a.send(sent, now_us), Err(DropReason::FabricBusy));
        let tries = a.fabric.sockets[0].refused.get();
        for _ in 0..100 {
            assert_eq!(a.turn(now_us, Wait::Poll), 0, "nothing that wakes the worker");
        }
        assert!(a.fabric.is_full());
        assert!(tries <= 1 && a.fabric.sockets[0].refused.get() == 1);
        assert_eq!(a.fabric.next_deadline_us(), Some(now_us + 1_000));
        now_us += 999;
        a.turn(now_us, Wait::Poll);
        assert_eq!(a.fabric.sockets[0].refused.get(), 1);
        now_us += 1;
        a.turn(now_us, Wait::Poll);
        assert_eq!(a.fabric.sockets[0].refused.get(), 2);
        a.fabric.sockets[0].refusal = None;
        for _ in 0..1_000 {
            now_us += 1_000;
            a.turn(now_us, Wait::Poll);
            b.turn(now_us, Wait::AtMostUs(1_000));
            if a.fates.len() as u64 == sent {
                break;
            }
        }
        assert!(!a.fabric.is_full());
        let ids = b.received.iter().map(|frame| u64::from_le_bytes(*frame.first_chunk().unwrap()));
        assert!(ids.eq(0..sent));
        assert!(a.fates.iter().copied().eq((0..sent).map(|id| (id, Fate::Arrived))));
        assert_eq!(a.fabric.snapshot().links[0].counters.send_starved, 2);
    }
}

/// A buffer as the kernel fills it: datagrams of one length, the last may be shorter.
fn buffer(datagrams: &[Vec<u8>], traffic_class: u8) -> Vec<u8> {
    let payload = datagrams.concat();
    let mut control = Vec::new();
    let mut push = |level: i32, kind: i32, data: &[u8]| {
        control.extend_from_slice(&(16 + data.len()).to_ne_bytes());
        control.extend_from_slice(&level.to_ne_bytes());
        control.extend_from_slice(&kind.to_ne_bytes());
        control.extend_from_slice(data);
        control.resize(control.len().next_multiple_of(8), 0);
    };
    let len = i32::try_from(datagrams[0].len()).unwrap();
    push(libc::IPPROTO_UDP, UDP_GRO, &len.to_ne_bytes());
    push(libc::IPPROTO_IP, libc::IP_TOS, &[traffic_class]);
    let mut bytes = Vec::new();
    for field in [0, control.len(), payload.len(), 0] {
        bytes.extend_from_slice(&u32::try_from(field).unwrap().to_ne_bytes());
    }
    bytes.resize(16 + 32, 0);
    bytes.extend_from_slice(&control);
    bytes.resize(RECEIVE_LAYOUT.payload_offset(), 0);
    bytes.extend_from_slice(&payload);
    bytes
}

/// Packs and seals frames on one path, by hand.
struct Sender {
    packer: Packer,
    key: crate::SealingKey,
    pool: TrainPool,
}

impl Sender {
    fn new(session: &Session, worker: u8, path: u8) -> Self {
        let index = PathIndex::new(session.remote_index, worker, path).unwrap();
        let geometry = Geometry::new(1_000, TAG_LEN).unwrap();
        Self {
            packer: Packer::new(index, session.epoch, geometry, 1),
            key: session.sealing_key(worker, 0, path).unwrap(),
            pool: TrainPool::new(4),
        }
    }

    /// The datagrams of one train with these frames.
    fn datagrams(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.datagrams_with(frames, Offload::default())
    }

    fn datagrams_with(&mut self, frames: &[Vec<u8>], offload: Offload) -> Vec<Vec<u8>> {
        let mut trains = VecDeque::new();
        for frame in frames {
            let Outbound { source, destination, .. } = outbound(0, frame.len());
            let mut frame = SliceSource::new(frame);
            self.packer.put(destination, source, offload, &mut frame, &mut self.pool, &mut trains);
        }
        trains.extend(self.packer.close());
        let mut datagrams = Vec::new();
        for train in &mut trains {
            for datagram in train.datagrams() {
                let tag = datagram.tag.first_chunk_mut().unwrap();
                self.key
                    .seal(datagram.packet_number, datagram.header, datagram.payload, tag)
                    .unwrap();
                datagrams.push([&datagram.header[..], datagram.payload, datagram.tag].concat());
            }
        }
        datagrams
    }
}

/// A receiver whose paths borrow no buffers.
fn receiver(session: &Arc<Session>) -> Receiver {
    let mut receiver = Receiver::new(&FabricConfig { receive_buffers: 0, ..config(1, 1) });
    receiver.open_session(Arc::clone(session));
    receiver
}

/// A receiver whose paths borrow from so many buffers.
fn lender(session: &Arc<Session>, receive_buffers: u16) -> Receiver {
    let mut receiver = Receiver::new(&FabricConfig { receive_buffers, ..config(1, 1) });
    receiver.open_session(Arc::clone(session));
    receiver
}

/// Receive buffers; those that are given back are gone.
#[derive(Default)]
struct Memory(Vec<Vec<u8>>);

impl Buffers for Memory {
    fn bytes(&self, buffer: BufferId) -> &[u8] {
        &self.0[usize::from(buffer)]
    }

    fn bytes_mut(&mut self, buffer: BufferId, len: usize) -> &mut [u8] {
        &mut self.0[usize::from(buffer)][..len]
    }
}

impl Memory {
    /// One receive: the frames that came out.
    fn receive(&mut self, receiver: &mut Receiver, datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let bytes = buffer(datagrams, 0);
        let filled = (BufferId::try_from(self.0.len()).unwrap(), bytes.len());
        self.0.push(bytes);
        let mut received = Vec::new();
        receiver.receive(self, filled, 0, &mut |inbound: Inbound<'_>| {
            received.push(inbound.frame.parts().concat());
        });
        self.take_back(receiver);
        received
    }

    fn take_back(&mut self, receiver: &mut Receiver) {
        for buffer in receiver.free() {
            let bytes = std::mem::take(&mut self.0[usize::from(buffer)]);
            assert!(!bytes.is_empty(), "buffer {buffer} is given back twice");
        }
    }

    /// Buffers that were not given back.
    fn borrowed(&self) -> usize {
        self.0.iter().filter(|bytes| !bytes.is_empty()).count()
    }
}

/// One receive in a buffer that nobody can borrow for longer.
fn receive(receiver: &mut Receiver, datagrams: &[Vec<u8>], now_us: u64) -> Vec<Vec<u8>> {
    receive_marked(receiver, &buffer(datagrams, 0), now_us, |inbound| {
        inbound.frame.parts().concat()
    })
}

fn receive_marked<T>(
    receiver: &mut Receiver,
    bytes: &[u8],
    now_us: u64,
    seen: impl Fn(Inbound<'_>) -> T,
) -> Vec<T> {
    let mut received = Vec::new();
    let mut memory = Memory(vec![bytes.to_vec()]);
    receiver.receive(&mut memory, (0, bytes.len()), now_us, &mut |inbound: Inbound<'_>| {
        received.push(seen(inbound));
    });
    memory.take_back(receiver);
    assert_eq!(memory.borrowed(), 0);
    received
}

fn frames(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|n| vec![n; 700 + usize::from(n)]).collect()
}

#[test]
fn datagrams_that_changed_places_in_one_buffer_are_put_in_order() {
    let [a, b] = sessions();
    for (seed, count) in [(1, 2), (2, 3), (3, 10), (4, 30)] {
        let mut sender = Sender::new(&pair_again(&a), 0, 0);
        let mut receiver = receiver(&b);
        let mut datagrams = sender.datagrams(&frames(count));
        // The kernel cuts a buffer into equal pieces, so the short one stays the last.
        let last = datagrams.len() - 1;
        shuffle(&mut datagrams[..last], seed);
        let received = receive(&mut receiver, &datagrams, 0);
        assert!(received == frames(count), "{} of {count}", received.len());
        let path = receiver.sessions[&b.local_index].paths[0].as_ref().unwrap();
        let counters = path.counters;
        assert_eq!(counters.datagrams, datagrams.len() as u64);
        assert_eq!((counters.late, counters.too_old, counters.duplicates), (0, 0, 0));
    }
}

#[test]
fn a_datagram_that_comes_when_its_hole_is_final_is_told_as_lost() {
    let [a, b] = sessions();
    let mut sender = Sender::new(&a, 0, 0);
    let mut receiver = receiver(&b);
    // Each frame fills one datagram.
    let len = 1_000 - 16 - TAG_LEN - 24;
    let count = HELD_DATAGRAMS_MAX + 4;
    let number = |frame: &Vec<u8>| usize::from(frame[0]) << 8 | usize::from(frame[1]);
    let frames: Vec<_> = (1..=count)
        .map(|number| {
            [&u16::try_from(number).unwrap().to_be_bytes()[..], &vec![7; len - 2]].concat()
        })
        .collect();
    let mut datagrams = sender.datagrams(&frames);
    assert_eq!(datagrams.len(), count);
    let missed = datagrams.remove(1);
    let mut received = receive(&mut receiver, &datagrams[..count - 8], 0);
    assert_eq!(received.len(), 1);
    // The hole becomes final in the middle of this buffer, at the end of which it is filled.
    datagrams.push(missed);
    received.extend(receive(&mut receiver, &datagrams[count - 8..], 0));
    assert!(received.iter().map(number).eq((1..=count).filter(|number| *number != 2)));
    let slots = &mut receiver.sessions.get_mut(&b.local_index).unwrap().paths;
    let path = slots[0].as_mut().unwrap();
    assert_eq!(path.counters.late, 1);
    let evidence = path.report(10_000).unwrap();
    let missing: Vec<u64> = evidence.missing().flatten().collect();
    assert_eq!((missing, evidence.to()), (vec![2], count as u64 + 1));
}

#[test]
fn frames_count_as_use_of_a_session_and_reports_do_not() {
    let [mut a, mut b] = ends();
    let session = |end: &End| Arc::clone(&end.fabric.peers[0].sending.as_ref().unwrap().session);
    let (at_a, at_b) = (session(&a), session(&b));
    assert!(!at_a.take_used() && !at_b.take_used());
    a.send(1, 0).unwrap();
    assert!(at_a.take_used());
    let mut now_us = 0;
    while a.fates.is_empty() {
        now_us += 1_000;
        assert!(now_us < 1_000_000);
        a.turn(now_us, Wait::Poll);
        b.turn(now_us, Wait::AtMostUs(1_000));
    }
    // The evidence has come from b to a.
    assert!(at_b.take_used() && !at_a.take_used());
}

/// The same keys once more: a session gives each away once.
fn pair_again(like: &Session) -> Session {
    let (mut a, _) = pair([7; 32], like.epoch);
    a.paths = like.paths;
    a
}

fn shuffle(datagrams: &mut [Vec<u8>], seed: u64) {
    use crate::random::{Random, Seeded};
    let mut random = Seeded(seed);
    for at in (1..datagrams.len()).rev() {
        let other = usize::try_from(random.below(at as u64 + 1)).unwrap();
        datagrams.swap(at, other);
    }
    if datagrams.len() > 1 {
        datagrams.swap(0, 1);
    }
}

#[test]
fn paths_that_a_session_does_not_have_cost_no_key() {
    let [a, b] = sessions();
    let mut receiver = receiver(&b);
    let mut bytes = Sender::new(&a, 0, 0).datagrams(&frames(1)).remove(0);
    // Sender's worker (two are there) and path (one, in two classes).
    for (worker, path) in [(2, 0), (255, 0), (0, 1), (0, 7), (0, 9), (1, 15)] {
        let index = PathIndex::new(b.local_index, worker, path).unwrap();
        bytes[4..8].copy_from_slice(&index.to_bits().to_le_bytes());
        assert!(receive(&mut receiver, std::slice::from_ref(&bytes), 0).is_empty());
    }
    assert_eq!((receiver.unknown_paths, receiver.forged_paths, receiver.strangers), (6, 0, 0));
}

#[test]
fn forgeries_on_an_unused_path_leave_it_to_the_peer() {
    let [a, b] = sessions();
    let mut receiver = receiver(&b);
    let genuine = Sender::new(&a, 1, 0).datagrams(&frames(1)).remove(0);
    let mut forged = genuine.clone();
    forged[20] ^= 1;
    for _ in 0..10_000 {
        assert!(receive(&mut receiver, std::slice::from_ref(&forged), 0).is_empty());
    }
    // One path: one key, however many forgeries.
    assert_eq!((receiver.forged_paths, receiver.limited_paths), (10_000, 0));
    assert!(receiver.sessions[&b.local_index].paths.iter().all(Option::is_none));
    assert_eq!(receive(&mut receiver, &[genuine], 0), frames(1));
    let link = receiver.sessions[&b.local_index].paths[super::PATH_NUMBERS].as_ref().unwrap();
    assert_eq!((link.counters.datagrams, link.counters.auth_failed), (1, 0));
}

#[test]
fn forgeries_on_many_unused_paths_are_limited_and_counted() {
    let mut receiver = Receiver::new(&config(1, 1));
    let mut indexes = Vec::new();
    for index in 1..=200 {
        let (_, mut b) = pair([7; 32], 5);
        (b.local_index, b.generation) = (index, index.into());
        receiver.open_session(Arc::new(b));
        indexes.push(PathIndex::new(index, 0, 0).unwrap());
    }
    let [a, _] = sessions();
    let mut forged = Sender::new(&a, 0, 0).datagrams(&frames(1)).remove(0);
    forged[20] ^= 1;
    let mut flood = |receiver: &mut Receiver, now_us| {
        for index in &indexes {
            forged[4..8].copy_from_slice(&index.to_bits().to_le_bytes());
            assert!(receive(receiver, std::slice::from_ref(&forged), now_us).is_empty());
        }
    };
    flood(&mut receiver, 0);
    assert_eq!((receiver.forged_paths, receiver.limited_paths), (64, 136));
    // In the next interval others have their turn.
    flood(&mut receiver, 10_000);
    assert_eq!(receiver.forged_paths + receiver.limited_paths, 400);
    assert!(receiver.forged_paths >= 128);
    assert!(receiver.sessions.values().all(|of| of.paths.iter().all(Option::is_none)));
}

/// An IPv4 packet in an Ethernet frame, with this ECN field.
fn ipv4(ecn: u8) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, ecn, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0; 10]);
    let sum: u32 = frame[14..34].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn a_congestion_mark_reaches_the_frame_or_its_account() {
    let [a, b] = sessions();
    let (marked, unmarked) = (3, 0);
    let sent = [ipv4(2), ipv4(0)];
    let mut sender = Sender::new(&a, 0, 0);
    let mut receiver = receiver(&b);
    let mut receive = |datagrams: &[Vec<u8>], class| {
        receive_marked(&mut receiver, &buffer(datagrams, class), 0, |inbound| {
            assert_eq!(inbound.source(), Endpoint::Vnic(VnicId::new(1).unwrap()));
            (inbound.frame.parts().concat(), inbound.refused)
        })
    };
    let without = receive(&sender.datagrams(&sent), unmarked);
    assert_eq!(without, [(ipv4(2), None), (ipv4(0), None)]);
    let with = receive(&sender.datagrams(&sent), marked);
    assert_eq!(with, [(ipv4(3), None), (ipv4(0), Some(DropReason::CongestionMark))]);
    assert_eq!(receiver.congestion_drops, 1);
}

#[test]
fn a_path_that_goes_on_after_a_silence_books_every_frame_once() {
    let [mut a, mut b] = ends();
    let session = Arc::clone(&a.fabric.peers[0].sending.as_ref().unwrap().session);
    let mut now_us = 0;
    let mut turns = |a: &mut End, b: &mut End, done: &dyn Fn(&End, &End) -> bool| {
        for _ in 0..1_000 {
            if done(a, b) {
                return;
            }
            now_us += 1_000;
            a.turn(now_us, Wait::Poll);
            b.turn(now_us, Wait::AtMostUs(1_000));
        }
        panic!("not in time: {:?}", a.fates);
    };
    (0..5).for_each(|id| a.send(id, 0).unwrap());
    turns(&mut a, &mut b, &|a, _| a.fates.len() == 5);
    (5..10).for_each(|id| a.send(id, 0).unwrap());
    a.fabric.flush(&mut a.ring, 0).unwrap();
    // Not sent, and never to be: they are booked before the silence ends.
    (10..15).for_each(|id| a.send(id, 0).unwrap());
    a.fabric.apply(SessionEvent::Down(PEER));
    assert_eq!(a.send(99, 0), Err(DropReason::NoSession));
    // What the peer says about the first five of them comes while it counts as silent.
    turns(&mut a, &mut b, &|a, b| b.received.len() == 10 && a.fates.len() == 15);
    a.fabric.apply(SessionEvent::Up(session));
    (15..20).for_each(|id| a.send(id, 0).unwrap());
    turns(&mut a, &mut b, &|a, _| a.fates.len() == 20);
    let expected = (0..20).map(|id| match id {
        5..15 => (id, Fate::Unknown),
        _ => (id, Fate::Arrived),
    });
    let mut fates = a.fates.clone();
    fates.sort_unstable();
    assert!(fates.into_iter().eq(expected), "{:?}", a.fates);
    let ids = b.received.iter().map(|frame| u64::from_le_bytes(*frame.first_chunk().unwrap()));
    assert!(ids.eq((0..10).chain(15..20)));
    let link = b.fabric.snapshot().links[0].counters;
    assert_eq!((link.duplicates, link.auth_failed), (0, 0));
}

#[test]
fn a_frame_for_a_sleeping_peer_calls_it_once_and_waits_for_a_while() {
    let [mut a, _] = ends();
    let session = Arc::clone(&a.fabric.peers[0].sending.as_ref().unwrap().session);
    let agent = crate::AgentHandle::for_test();
    let sleep = |a: &mut End| {
        a.fabric.apply(SessionEvent::Idle(PEER, agent.clone()));
        a.fabric.apply(SessionEvent::Retired { peer: PEER, generation: session.generation });
    };
    sleep(&mut a);
    assert!(!a.fabric.is_full() && a.fabric.next_deadline_us().is_none());
    assert_eq!(a.send(1, 1_000), Err(DropReason::FabricBusy));
    assert_eq!(agent.take_wanted(), [PEER]);
    assert!(a.fabric.is_full());
    assert_eq!(a.fabric.next_deadline_us(), Some(51_000));
    assert_eq!(a.send(1, 50_999), Err(DropReason::FabricBusy));
    assert_eq!(a.send(1, 51_000), Err(DropReason::NoSession));
    a.fabric.flush(&mut a.ring, 51_000).unwrap();
    assert!(!a.fabric.is_full());
    // The agent goes on calling; nobody has to ask again.
    assert_eq!(agent.take_wanted(), []);
    let (mut next, _) = pair([9; 32], 6);
    next.generation = 2;
    a.fabric.apply(SessionEvent::Up(Arc::new(next)));
    assert_eq!(a.send(1, 60_000), Ok(()));
    // A peer that is silent is called by the agent, and nobody waits for it.
    a.fabric.apply(SessionEvent::Down(PEER));
    assert_eq!(a.send(1, 60_000), Err(DropReason::NoSession));
    assert_eq!(agent.take_wanted(), []);
}

#[test]
fn frames_to_a_peer_that_is_removed_have_an_unknown_fate_and_its_number_is_nobody_s() {
    let [mut a, mut b] = ends();
    (0..5).for_each(|id| b.send(id, 0).unwrap());
    b.turn(0, Wait::Poll);
    (0..3).for_each(|id| a.send(id, 0).unwrap());
    a.fabric.apply(SessionEvent::Gone(PEER));
    a.turn(0, Wait::AtMostUs(100_000));
    assert_eq!(a.fates, [(0, Fate::Unknown), (1, Fate::Unknown), (2, Fate::Unknown)]);
    assert!(a.received.is_empty(), "its sessions are gone, too");
    assert!(a.fabric.snapshot().sockets.strangers > 0, "its datagrams came");
    assert_eq!(a.send(3, 0), Err(DropReason::NoSession));
    assert_eq!(a.fabric.next_deadline_us(), None);

    let address = PeerAddress { name: "next".into(), address: LOCALHOST, port: 1 };
    a.fabric.apply(SessionEvent::Added(PeerId(1), address));
    let links = a.fabric.snapshot().links;
    let names: Vec<_> = links.iter().map(|link| (link.peer, link.name.as_str(), link.up)).collect();
    assert_eq!(names, [(PEER, "peer", false), (PeerId(1), "next", false)]);
}
