//! Two workers with a bad network between them: whatever it does, what the sender books as arrived
//! is what the receiver delivered.

use crate::node::{Node, PEER, PORTS, Places, Setup, both_up, drive, pair};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};
use wireonce_frame::ecn::Ecn;
use wireonce_ledger::DropReason;
use wireonce_link::{Fate, LinkCounters, evidence::FATES_MAX, manager::PathMtu};
use wireonce_qemu_tests::impair::{
    Class::{Control, Data},
    Counts, Direction,
    Direction::{AToB, BToA},
    Host, Impairment, Relay, free_ports,
};

pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// As many as one replay window can answer for.
const OPEN_MAX: u64 = 3_000;

/// Longer than a hello, shorter than a handshake.
pub(crate) const HELLO_LEN_MAX: usize = 60;

/// Two nodes, the network between them, and the test's own books.
pub(crate) struct Bed {
    setup: Setup,
    places: Places,
    pub(crate) relay: Relay,
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) next_id: u64,
    /// Frames that may be open before the sender waits for outcomes.
    pub(crate) open_max: u64,
    /// Frames of one flow stay in order.
    ordered: bool,
}

/// What became of every frame that was sent, as the two ends say.
#[derive(Debug)]
pub(crate) struct Books {
    fates: BTreeMap<u64, Fate>,
    delivered: BTreeSet<u64>,
}

impl Bed {
    pub(crate) fn new(setup: Setup, seed: u64) -> Self {
        let ip = setup.ip;
        let mut places = Places::direct(ip);
        places.front = [0, 1].map(|_| SocketAddr::new(ip, free_ports(ip, PORTS).unwrap()));
        let host = |at: usize| Host { real: places.real[at], front: places.front[at] };
        let relay = Relay::start(host(0), host(1), PORTS, seed).unwrap();
        let (a, b) = pair(&setup, &places);
        Self { setup, places, relay, a, b, next_id: 0, open_max: OPEN_MAX, ordered: true }
    }

    /// Datagrams with frames and evidence, both ways.
    fn impair(&self, impairment: Impairment) {
        self.relay.set(AToB, Data, impairment);
        self.relay.set(BToA, Data, impairment);
    }

    /// What b's worker says about the datagrams that came.
    fn received(&self) -> LinkCounters {
        self.b.fabric.snapshot().links[0].counters
    }

    /// The longest datagram that a's agent lets its workers send.
    fn datagram_len(&self) -> usize {
        self.a.agent.handle().status().peers[0].datagram_len_max
    }

    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !done(self) {
            assert!(Instant::now() < end, "no {what} in time");
            self.turns(5);
        }
    }

    /// Cuts the control messages until both ends have given the other up. Returns how often a was
    /// up before.
    fn silence(&mut self) -> u64 {
        self.relay.set(AToB, Control, Impairment::CUT);
        self.relay.set(BToA, Control, Impairment::CUT);
        self.until("silence", |bed| !bed.a.fabric.is_up(PEER) && !bed.b.fabric.is_up(PEER));
        self.a.ups
    }

    /// Lets hellos pass, which are short, but no handshake.
    fn back_on_the_same_session(&mut self, ups: u64) {
        let hellos = Impairment { len_max: HELLO_LEN_MAX, ..Impairment::NONE };
        self.relay.set(AToB, Control, hellos);
        self.relay.set(BToA, Control, hellos);
        self.until("return", |bed| both_up(&bed.a, &bed.b));
        assert_eq!(self.a.ups, ups + 1);
    }

    /// Ends b's worker and agent, and makes new ones at the same place.
    fn restart_b(mut self) -> Self {
        let Node { received, fabric, agent, ring, .. } = self.b;
        drop((fabric, agent, ring));
        self.b = Node::new(&self.setup, &self.places, 1);
        self.b.received = received;
        self.until("new session", |bed| bed.a.ups == 2 && both_up(&bed.a, &bed.b));
        self
    }

    fn counts(&self, direction: Direction) -> Counts {
        self.relay.counts(direction, Data)
    }

    pub(crate) fn turn(&mut self) {
        self.a.turn();
        self.b.turn();
    }

    fn turns(&mut self, count: usize) {
        (0..count).for_each(|_| self.turn());
    }

    /// Offers the next frame to a's fabric, in small bursts between turns.
    fn send(&mut self) {
        let id = self.next_id;
        let frame = frame_of(id);
        loop {
            let flow = u32::try_from(id % 7).unwrap();
            match self.a.send_for(id, &frame, flow, ecn_of(flow)) {
                Ok(()) => break,
                Err(DropReason::FabricBusy) => self.turn(),
                Err(reason) => panic!("frame {id}: {reason:?}"),
            }
        }
        self.next_id += 1;
        while self.next_id - u64::try_from(self.a.outcomes.len()).unwrap() > self.open_max {
            self.turn();
        }
        if id.is_multiple_of(11) {
            self.turn();
        }
    }

    pub(crate) fn send_many(&mut self, count: u64) {
        (0..count).for_each(|_| self.send());
    }

    /// Lets everything come to its end, and compares both ends' books.
    fn close(&mut self) -> Books {
        let sent = self.next_id;
        drive(&mut self.a, &mut self.b, |a, _| u64::try_from(a.outcomes.len()).unwrap() >= sent);
        // What is delivered too late for its report would come now.
        self.turns(20);
        let mut fates = BTreeMap::new();
        for outcome in &self.a.outcomes {
            assert_eq!(outcome.amount.frames, 1);
            let twice = fates.insert(outcome.account, outcome.fate);
            assert_eq!(twice, None, "frame {} has two fates", outcome.account);
        }
        assert!(fates.keys().copied().eq(0..sent), "every frame has a fate");
        let mut delivered = BTreeSet::new();
        let mut last_of_flow = [None; 7];
        for frame in &self.b.received {
            let id = id_of(frame);
            assert!(id < sent && *frame == frame_of(id), "frame {id} was changed");
            assert!(delivered.insert(id), "frame {id} came twice");
            let last = &mut last_of_flow[usize::try_from(id % 7).unwrap()];
            assert!(!self.ordered || *last < Some(id), "frame {id} came after {last:?}");
            *last = Some(id);
        }
        for (id, fate) in &fates {
            match fate {
                Fate::Arrived => assert!(delivered.contains(id), "frame {id} never arrived"),
                Fate::Lost => assert!(!delivered.contains(id), "frame {id} was not lost"),
                Fate::Unknown => {}
            }
        }
        Books { fates, delivered }
    }

    /// As [`Self::close`], and nobody is in doubt about any frame.
    pub(crate) fn close_exactly(&mut self) -> Books {
        let books = self.close();
        assert_eq!(
            books.count(Fate::Unknown),
            0,
            "{:?} {:?}",
            self.counts(AToB),
            self.counts(BToA)
        );
        books
    }
}

impl Books {
    pub(crate) fn count(&self, fate: Fate) -> usize {
        self.fates.values().filter(|of| **of == fate).count()
    }
}

/// Frame number `id`: its number, then bytes that follow from it. Mostly short, some of
/// several datagrams, few of a whole train.
fn frame_of(id: u64) -> Vec<u8> {
    let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let len = match mixed % 16 {
        0 => 9_000 + usize::try_from(mixed % 50_000).unwrap(),
        1..=5 => 1_514,
        _ => 60 + usize::try_from(mixed % 400).unwrap(),
    };
    let mut frame = id.to_le_bytes().to_vec();
    frame.extend(id.to_le_bytes().iter().map(|byte| byte ^ 0x5a).cycle().take(len - 8));
    frame
}

fn id_of(frame: &[u8]) -> u64 {
    u64::from_le_bytes(*frame.first_chunk().unwrap())
}

fn ecn_of(flow: u32) -> Ecn {
    if flow == 3 { Ecn::Ect0 } else { Ecn::NotEct }
}

#[test]
fn random_loss_is_booked_frame_by_frame() {
    for (seed, loss) in (0..).zip([0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3]) {
        let mut bed = Bed::new(Setup::new(LOCALHOST), seed);
        bed.impair(Impairment::loss(loss));
        bed.send_many(3_000);
        let books = bed.close_exactly();
        assert_eq!(bed.counts(AToB).lost == 0, books.count(Fate::Lost) == 0);
    }
}

#[test]
fn doubled_and_replayed_datagrams_change_nothing() {
    let mut bed = Bed::new(Setup::new(LOCALHOST), 1);
    bed.impair(Impairment { duplicate: 0.3, replay: 0.2, ..Impairment::NONE });
    bed.send_many(3_000);
    let books = bed.close_exactly();
    assert_eq!(books.count(Fate::Lost), 0);
    let (relay, seen) = (bed.counts(AToB), bed.received());
    assert!(relay.duplicated > 100 && relay.replayed > 100, "{relay:?}");
    assert_eq!(seen.duplicates, relay.duplicated + relay.replayed);
}

#[test]
fn reordered_datagrams_are_put_back_in_place_or_booked_as_lost() {
    for reorder_by in [1, 3, 20, 400] {
        let mut bed = Bed::new(Setup::new(LOCALHOST), 2);
        bed.impair(Impairment { reorder: 0.1, reorder_by, ..Impairment::NONE });
        bed.send_many(3_000);
        let books = bed.close_exactly();
        let (relay, seen) = (bed.counts(AToB), bed.received());
        assert!(relay.reordered > 100 && seen.reordered > 100, "{relay:?} {seen:?}");
        // 256 datagrams behind a hole end the wait for it.
        assert!(reorder_by < 256 || books.count(Fate::Lost) > 0);
    }
}

#[test]
fn damaged_datagrams_are_lost_and_nothing_else() {
    let mut bed = Bed::new(Setup::new(LOCALHOST), 3);
    bed.impair(Impairment { corrupt: 0.1, ..Impairment::NONE });
    bed.send_many(3_000);
    let books = bed.close_exactly();
    let (relay, seen) = (bed.counts(AToB), bed.received());
    let sockets = bed.b.fabric.snapshot().sockets;
    assert!(relay.corrupted > 100 && books.count(Fate::Lost) > 0, "{relay:?}");
    // A bit of the number may make it look long gone, or present already.
    let refused = seen.auth_failed + seen.duplicates + seen.late;
    let sorted_out = sockets.strangers + sockets.malformed + sockets.unknown_paths;
    let refused = refused + sorted_out + sockets.forged_paths + sockets.limited_paths;
    assert_eq!(refused, relay.corrupted, "{seen:?} {sockets:?}");
}

#[test]
fn a_long_way_costs_nothing() {
    let mut bed = Bed::new(Setup::new(LOCALHOST), 4);
    bed.impair(Impairment { delay: Duration::from_millis(60), ..Impairment::NONE });
    bed.send_many(3_000);
    assert_eq!(bed.close_exactly().count(Fate::Arrived), 3_000);
}

#[test]
fn everything_at_once_on_every_kind_of_link() {
    let bad = Impairment {
        loss: 0.05,
        duplicate: 0.05,
        reorder: 0.05,
        reorder_by: 5,
        replay: 0.02,
        delay: Duration::from_millis(2),
        ..Impairment::NONE
    };
    for seed in 10..16 {
        let sealed = seed % 2 == 0;
        let ip = if seed % 3 == 0 { Ipv6Addr::LOCALHOST.into() } else { LOCALHOST };
        let setup = Setup {
            sealed,
            paths: if seed < 13 { 1 } else { 4 },
            path_mtu: PathMtu::Fixed([1280, 1500, 9000][usize::try_from(seed % 3).unwrap()]),
            ..Setup::new(ip)
        };
        let mut bed = Bed::new(setup, seed);
        // In clear text a changed byte cannot be told.
        bed.impair(Impairment { corrupt: if sealed { 0.02 } else { 0.0 }, ..bad });
        bed.send_many(4_000);
        let books = bed.close_exactly();
        assert!(books.count(Fate::Lost) > 0 && books.delivered.len() > 1_000, "seed {seed}");
    }
}

#[test]
fn the_last_datagrams_before_a_pause_are_asked_for() {
    let mut bed = Bed::new(Setup::new(LOCALHOST), 5);
    bed.send_many(500);
    bed.close_exactly();
    bed.relay.set(AToB, Data, Impairment::CUT);
    bed.send_many(20);
    bed.turns(20);
    bed.impair(Impairment::NONE);
    let books = bed.close_exactly();
    assert_eq!((books.count(Fate::Arrived), books.count(Fate::Lost)), (500, 20));
}

#[test]
fn evidence_that_is_lost_is_given_again() {
    let mut bed = Bed::new(Setup::new(LOCALHOST), 6);
    bed.relay.set(BToA, Data, Impairment::CUT);
    bed.send_many(1_000);
    bed.turns(100);
    assert_eq!(bed.a.outcomes.len(), 0);
    bed.impair(Impairment::NONE);
    assert_eq!(bed.close_exactly().count(Fate::Lost), 0);
}

#[test]
fn a_path_that_is_cut_for_long_takes_bounded_memory() {
    let mut bed = Bed::new(Setup::new(LOCALHOST), 7);
    bed.relay.set(AToB, Data, Impairment::CUT);
    bed.open_max = u64::MAX;
    // Two kinds of frames, so two paths, each with a memory of its own.
    let bound = 2 * u64::try_from(FATES_MAX).unwrap();
    bed.send_many(bound + 10_000);
    bed.turn();
    assert!(bed.a.outcomes.len() >= 10_000, "{}", bed.a.outcomes.len());
    assert_eq!(bed.a.fates.len(), 1, "nobody can know: {:?}", bed.a.fates);
    bed.impair(Impairment::NONE);
    assert_eq!(bed.close().delivered.len(), 0);
    bed.send_many(500);
    assert_eq!(bed.close().delivered.len(), 500);
}

#[test]
fn sessions_that_change_under_traffic_lose_nothing_of_their_own() {
    for loss in [0.0, 0.1] {
        let mut setup = Setup::new(LOCALHOST);
        setup.timing.rekey_after_us = 300_000;
        let mut bed = Bed::new(setup, 8);
        // What a session carried must be settled well within its lifetime, three such times.
        bed.open_max = 300;
        bed.impair(Impairment::loss(loss));
        // Frames behind a hole of the old session are overtaken by the new one's, for 1 ms.
        bed.ordered = loss == 0.0;
        while bed.a.ups < 6 {
            bed.send_many(20);
        }
        let books = bed.close_exactly();
        assert!(books.delivered.len() > 100);
        assert_eq!(books.count(Fate::Lost) > 0, loss > 0.0);
    }
}

#[test]
fn a_restarted_receiver_leaves_in_doubt_only_what_was_open() {
    let mut setup = Setup::new(LOCALHOST);
    setup.timing.retire_after_us = 1_000_000;
    let mut bed = Bed::new(setup, 9);
    bed.impair(Impairment::loss(0.02));
    bed.send_many(1_000);
    let known = bed.a.outcomes.len();
    bed = bed.restart_b();
    bed.send_many(1_000);
    let books = bed.close();
    assert!(books.count(Fate::Unknown) <= 1_000 - known, "{known} were known");
    assert!(books.delivered.range(1_000..).count() > 500);
}

#[test]
fn a_peer_that_was_silent_goes_on_with_new_numbers() {
    let mut bed = Bed::new(Setup::new(LOCALHOST), 10);
    bed.send_many(500);
    bed.close_exactly();
    let ups = bed.silence();
    bed.back_on_the_same_session(ups);
    bed.send_many(500);
    assert_eq!(bed.close_exactly().count(Fate::Arrived), 1_000);
    // A number that is used twice would look like a replay, and so be lost.
    assert_eq!(bed.received().duplicates, 0);
}

#[test]
fn a_path_that_shrank_during_a_silence_is_not_believed_long() {
    let path_mtu = PathMtu::Probe(vec![9_000]);
    let mut bed = Bed::new(Setup { path_mtu, ..Setup::new(LOCALHOST) }, 11);
    bed.until("long datagrams", |bed| bed.datagram_len() > 8_000);
    bed.send_many(300);
    bed.close_exactly();
    let ups = bed.silence();
    bed.impair(Impairment { len_max: 1_300, ..Impairment::NONE });
    bed.back_on_the_same_session(ups);
    bed.send_many(300);
    assert_eq!(bed.close_exactly().count(Fate::Arrived), 600);
    assert_eq!(bed.counts(AToB).too_long, 0);
}

#[test]
fn a_path_that_shrinks_under_traffic_costs_what_was_too_long() {
    let path_mtu = PathMtu::Probe(vec![1_500, 9_000]);
    let mut bed = Bed::new(Setup { path_mtu, ..Setup::new(LOCALHOST) }, 12);
    bed.until("long datagrams", |bed| bed.datagram_len() > 8_000);
    bed.send_many(200);
    bed.relay.set_all(Impairment { len_max: 1_472, ..Impairment::NONE });
    while bed.datagram_len() != 1_472 {
        bed.send_many(5);
        bed.turns(5);
    }
    bed.turns(10);
    let first_short = bed.next_id;
    bed.send_many(500);
    let books = bed.close_exactly();
    assert!(bed.counts(AToB).too_long > 0);
    assert_eq!(books.delivered.range(first_short..).count(), 500);
}
