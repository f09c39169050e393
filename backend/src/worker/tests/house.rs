//! A worker with guests that do as they are told, and a peer that never answers.

use super::super::*;
use crate::{
    shares::Shares,
    vhost_user::RingStart,
    virtqueue::tests::driver::{Driver, EVENT_IDX, INDIRECT_DESC, LOW, MRG_RXBUF, WRITE},
};
use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};
use wireonce_config::Config;
use wireonce_directory::Directory;
use wireonce_frame::MacAddr;
use wireonce_host::{FabricHost, workers::mailbox};

/// Entries of every ring.
pub(super) const RING: u16 = 256;
/// Where frames lie in a transmitting guest's memory: one place each, big enough for any.
const TX_PLACES: u16 = 16;
const TX_PLACE_LEN: u64 = 0x1_1000;
/// Length of a receive buffer.
pub(super) const RX_LEN: u32 = 2048;

/// Four guests here, three in network 100 and one in 200, and one on a peer.
const FILE: &str = r#"
[host]
name = "here"
private_key_file = "/nowhere/key"

[fabric]
address = "ADDRESS"
mtu = 1500
paths = 1

[[peer]]
name = "there"
address = "127.0.0.9"
public_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="

[[network]]
name = "blue"
vni = 100

[[network]]
name = "red"
vni = 200

[[vnic]]
id = 1
name = "one"
host = "here"
network = "blue"
mac = "52:54:00:00:00:01"
addresses = ["192.0.2.1"]
socket = "/nowhere/1.sock"
queue_pairs = 4
storm_frames_per_s = 10

[[vnic]]
id = 2
name = "two"
host = "here"
network = "blue"
mac = "52:54:00:00:00:02"
addresses = ["192.0.2.2"]
socket = "/nowhere/2.sock"

[[vnic]]
id = 3
name = "three"
host = "here"
network = "blue"
mac = "52:54:00:00:00:03"
socket = "/nowhere/3.sock"

[[vnic]]
id = 4
name = "four"
host = "here"
network = "red"
mac = "52:54:00:00:00:04"
socket = "/nowhere/4.sock"

[[vnic]]
id = 5
name = "five"
host = "there"
network = "blue"
mac = "52:54:00:00:00:05"
"#;

pub(super) fn vnic(id: u64) -> VnicId {
    VnicId::new(id).unwrap()
}

pub(super) fn mac(id: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, id])
}

/// A worker alone in its process. Every one has a loopback address of its own, so
/// that tests do not meet.
pub(super) fn worker() -> Worker {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [high, low, ..] = std::process::id().to_le_bytes();
    let address = format!("127.{}.{low}.{}", high | 1, NEXT.fetch_add(1, Ordering::Relaxed));
    let config = Config::parse(&FILE.replace("ADDRESS", &address), "here.toml").unwrap();
    let settings = WorkerConfig {
        fabric: FabricHost::worker_config(&config, 0, FABRIC_TOKEN_KIND),
        tables: tables_of(&config),
        clock: Instant::now(),
    };
    let (mailbox, inbox) = mailbox().unwrap();
    Worker::new(&settings, Seat { number: 0, inbox, colleagues: vec![mailbox] }).unwrap()
}

/// The tables of the only worker.
fn tables_of(config: &Config) -> NewTables {
    let directory = Arc::new(Directory::new(config));
    NewTables::for_workers(&directory, &Shares::default(), &Arc::default(), 1).remove(0)
}

impl Worker {
    /// The configuration changes: each first text gives way to the second.
    pub(super) fn test_change(&mut self, edits: &[(&str, &str)]) {
        let mut text = FILE.replace("ADDRESS", "127.0.0.1");
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        let config = Config::parse(&text, "here.toml").unwrap();
        self.take_tables(tables_of(&config)).unwrap();
    }

    /// What [`Worker::run`] does for guests in one turn of its loop.
    pub(super) fn test_turn(&mut self, now_us: u64) {
        self.turn_us = now_us;
        self.serve_guests(now_us);
        self.fabric.flush(&mut self.ring, now_us).unwrap();
        self.publish();
        self.book_outcomes();
        self.stop_broken().unwrap();
        self.interrupt().unwrap();
    }

    /// One turn of one port.
    pub(super) fn test_serve(&mut self, id: u64) {
        let index = self.by_vnic[&vnic(id)];
        self.serve_port(index, 0);
    }

    pub(super) fn test_port(&mut self, id: u64) -> &mut Port {
        self.port(vnic(id)).unwrap()
    }

    /// The books of every port are closed: what came in went out or was dropped.
    pub(super) fn assert_closed(&self) {
        let retired = self.retired.values().map(|retired| &retired.books);
        for books in self.ports.iter().map(|port| &port.books).chain(retired) {
            for account in [&books.guest_tx, &books.guest_rx] {
                assert_eq!(account.open_frames(), 0, "{account:?}");
            }
        }
        assert!(self.sources.values().all(|account| account.open_frames() == 0));
    }
}

/// One queue pair of one guest, with a memory for each of its rings.
pub(super) struct Guest {
    pub(super) id: u64,
    pub(super) pair: u16,
    pub(super) tx: Driver,
    pub(super) rx: Driver,
    next_tx: u16,
    next_rx: u16,
}

impl Guest {
    /// A guest of vNIC `id` that takes no large segments.
    pub(super) fn start(worker: &mut Worker, id: u64) -> Self {
        Self::start_pair(worker, id, 0, 0)
    }

    pub(super) fn start_pair(worker: &mut Worker, id: u64, pair: u16, features: u64) -> Self {
        let features = features | INDIRECT_DESC | EVENT_IDX | MRG_RXBUF;
        let tx = Driver::with_features(RING, features);
        let rx = Driver::with_features(RING, features);
        let guest = Self { id, pair, tx, rx, next_tx: 0, next_rx: 0 };
        worker.test_port(id).set_features(features);
        worker.test_port(id).connected = true;
        guest.start_ring(worker, pair * 2);
        guest.start_ring(worker, pair * 2 + 1);
        guest
    }

    pub(super) fn start_ring(&self, worker: &mut Worker, index: u16) {
        let event = || Some(event_fd());
        let driver = if index.is_multiple_of(2) { &self.rx } else { &self.tx };
        let start = RingStart {
            index,
            config: driver.config,
            memory: Arc::clone(&driver.memory),
            kick: event(),
            call: event(),
            err: event(),
            enabled: true,
        };
        worker.start_ring(vnic(self.id), start).unwrap().unwrap();
    }

    /// Offers receive buffers.
    pub(super) fn post(&mut self, buffers: u16) {
        for _ in 0..buffers {
            let head = self.next_rx % RING;
            let buffer = (LOW + u64::from(head) * u64::from(RX_LEN), RX_LEN, WRITE);
            self.rx.offer_chain(head, &[buffer]);
            self.next_rx = self.next_rx.wrapping_add(1);
        }
    }

    /// Offers `frame` with nothing left to do, and says so without a kick.
    pub(super) fn send(&mut self, worker: &mut Worker, frame: &[u8]) {
        self.send_with(worker, [0; 12], frame);
    }

    pub(super) fn send_with(&mut self, worker: &mut Worker, header: [u8; 12], frame: &[u8]) {
        let head = self.next_tx % RING;
        let at = LOW + u64::from(head % TX_PLACES) * TX_PLACE_LEN;
        let bytes = [&header[..], frame].concat();
        self.tx.write(at, &bytes);
        self.tx.offer_chain(head, &[(at, bytes.len().try_into().unwrap(), 0)]);
        self.next_tx = self.next_tx.wrapping_add(1);
        self.wake(worker);
    }

    /// What a kick does.
    pub(super) fn wake(&self, worker: &mut Worker) {
        let pair = usize::from(self.pair);
        if let Some(queue) = worker.test_port(self.id).tx[pair].as_mut() {
            queue.ready = true;
        }
    }

    /// The frames that came, each in one buffer.
    pub(super) fn received(&mut self) -> Vec<Vec<u8>> {
        let used = self.rx.take_used();
        let frame = |(head, len): (u32, u32)| {
            let at = LOW + u64::from(head) * u64::from(RX_LEN);
            self.rx.read(at, len as usize).split_off(12)
        };
        used.into_iter().filter(|(_, len)| *len > 0).map(frame).collect()
    }

    /// Heads that came back from the transmit ring since the last call.
    pub(super) fn returned(&mut self) -> usize {
        self.tx.take_used().len()
    }
}

/// In an eventfd's place: never readable, and a write to it comes back at once.
fn event_fd() -> OwnedFd {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()
}
