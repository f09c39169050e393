//! A gateway as a whole, between a server and the outside, each in a namespace.
//!
//! The server is the fabric half of a worker and an agent, driven by hand.

use super::*;
use crate::{
    sample::{STRANGER, frame, mac, tcp_segment, vni, vnic},
    testbed::{Namespace, Raw},
};
use std::sync::mpsc;
use wireonce_frame::{MacAddr, Offload, SliceSource, ecn::Ecn};
use wireonce_host::SessionListener;
use wireonce_ledger::{DropReason, Stage};
use wireonce_link::{Fabric, Inbound, Outbound, PeerId, SessionEvent, StaticKey};
use wireonce_ring::{Ring, Wait};
use wireonce_wire::UplinkId;

const PLAIN: [u8; 12] = [0; 12];
const UPLINK: Endpoint = Endpoint::Uplink(UplinkId(7));
const GATEWAY: PeerId = PeerId(0);

/// One network on VLAN 20, with one vNIC at the server.
const COMMON: &str = r#"
[[network]]
name = "green"
vni = 200
pool = "outside"
vlan = 20

[[uplink]]
id = 7
name = "up"
host = "gateway"
pool = "outside"
@PORT@

[[vnic]]
id = 1
name = "a1"
host = "server"
network = "green"
mac = "52:54:00:00:00:01"
addresses = ["192.0.2.1"]
home = "up"
@SOCKET@
"#;

#[test]
fn frames_cross_a_gateway_both_ways_and_the_books_close() {
    let Some(bed) = Bed::new() else { return };
    let gateway = bed.gateway(1);
    bed.server.run(|| {
        let mut server = Server::start(&bed);
        server.wait_until_up();
        let outside = bed.outside.run(|| Raw::open("out0"));

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
        // Until the gateway has heard that all of it arrived.
        for _ in 0..1_000 {
            let open = |row: &LedgerRow| row.stage == Stage::FabricTx && row.open_frames != 0;
            if !gateway.status().ledger.iter().any(open) {
                break;
            }
            server.turn();
        }
    });
    let status = gateway.status();
    let row = |name: &str, stage| {
        let found = status.ledger.iter().find(|row| row.name == name && row.stage == stage);
        found.unwrap_or_else(|| panic!("no row {name} {stage:?}: {:#?}", status.ledger))
    };
    assert_eq!(row("a1", Stage::FabricRx).output, Amount::frame(200, 1));
    assert_eq!(row("a1", Stage::UplinkTx).output, Amount::frame(200, 1));
    assert_eq!(row("a1", Stage::UplinkRx).output, Amount::frame(300, 1));
    assert_eq!(row("a1", Stage::FabricTx).output, Amount::frame(300, 1));
    assert_eq!(row("up", Stage::UplinkRx).output, Amount::frame(100, 1));
    for row in &status.ledger {
        assert_eq!(row.open_frames, 0, "{row:?}");
    }
    assert!(status.uplinks[0].carrier && status.uplinks[0].designated);
    assert_eq!(status.uplinks[0].inward, Amount { frames: 2, segments: 2, bytes: 400 });
    gateway.stop();
}

#[test]
fn large_segments_cross_a_gateway_whole() {
    let Some(bed) = Bed::new() else { return };
    let gateway = bed.gateway(1);
    bed.server.run(|| {
        let mut server = Server::start(&bed);
        server.wait_until_up();
        let outside = bed.outside.run(|| Raw::open("out0"));
        let (vnet, inward) = tcp_segment(mac(1), STRANGER, 60_000);
        let mut vnet_tagged = vnet;
        vnet_tagged[2] += 4;
        vnet_tagged[6] += 4;
        outside.write(&vnet_tagged, &on_vlan_20(&inward));
        let arrival = server.receive();
        assert_eq!(arrival.bytes, inward);
        assert_eq!(arrival.offload.gso.unwrap().size, 1448);

        let (_, outward) = tcp_segment(STRANGER, mac(1), 60_000);
        server.send_with(1, &outward, arrival.offload);
        assert_eq!(outside.next_of(&outward[..12]), outward);
    });
    let status = gateway.status();
    let row = status.ledger.iter().find(|row| row.stage == Stage::UplinkTx && row.name == "a1");
    assert_eq!(row.unwrap().output, Amount { frames: 1, segments: 42, bytes: 60_054 });
    gateway.stop();
}

#[test]
fn a_carrier_that_returns_is_announced_again() {
    let Some(bed) = Bed::new() else { return };
    let gateway = bed.gateway(1);
    let wait_for = |what: &str, so: &dyn Fn(&Status) -> bool| {
        for _ in 0..500 {
            if so(&gateway.status()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("never: {what}");
    };
    wait_for("a carrier", &|status| status.uplinks[0].carrier);
    bed.outside.ip("link set out0 down");
    wait_for("no carrier", &|status| !status.uplinks[0].carrier);
    let before = gateway.status().counters["uplink_announcements"];
    bed.outside.ip("link set out0 up");
    // What is left of the first three rounds is not repeated.
    wait_for("three more", &|status| status.counters["uplink_announcements"] == before + 3);
    gateway.stop();
}

#[test]
fn a_gateway_announces_the_vnics_that_it_is_home_for() {
    let Some(bed) = Bed::new() else { return };
    let outside = bed.outside.run(|| Raw::open("out0"));
    let gateway = bed.gateway(1);
    let garp = outside.next_of(&[MacAddr::BROADCAST.0, mac(1).0].concat());
    assert_eq!(garp[12..14], [8, 6]);
    assert_eq!(garp[28..32], [192, 0, 2, 1]);
    gateway.stop();
}

#[test]
fn what_a_server_may_not_send_stays_inside_and_has_a_name() {
    let Some(bed) = Bed::new() else { return };
    let gateway = bed.gateway(1);
    bed.server.run(|| {
        let mut server = Server::start(&bed);
        server.wait_until_up();
        let outside = bed.outside.run(|| Raw::open("out0"));
        server.send(1, &frame(STRANGER, mac(9), 100));
        server.send(9, &frame(STRANGER, mac(9), 100));
        let good = frame(STRANGER, mac(1), 100);
        server.send(1, &good);
        assert_eq!(outside.next_of(&STRANGER.0), good, "what follows is not held up");
    });
    let status = gateway.status();
    let dropped = |name: &str, reason: DropReason| {
        let rows = status.ledger.iter().filter(|row| row.name == name);
        rows.filter_map(|row| row.drops.get(reason.name())).map(|amount| amount.frames).sum::<u64>()
    };
    assert_eq!(dropped("a1", DropReason::SourceMac), 1);
    assert_eq!(dropped("not owned", DropReason::SourceNotOwned), 1);
    gateway.stop();
}

#[test]
fn several_workers_share_an_uplink() {
    let Some(bed) = Bed::new() else { return };
    let gateway = bed.gateway(3);
    bed.server.run(|| {
        let mut server = Server::start(&bed);
        server.wait_until_up();
        let outside = bed.outside.run(|| Raw::open("out0"));
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
    gateway.stop();
}

#[test]
fn a_host_without_uplinks_is_no_gateway() {
    let text = head("gateway", "10.0.0.1", &[]).replace("@KEY@", "/nowhere/key");
    let text = text.replace("@WORKERS@", "1");
    let config = Arc::new(Config::parse(&text, "gateway.toml").unwrap());
    let error = Gateway::start(&config, &mpsc::channel().0).unwrap_err().to_string();
    assert!(error.contains("gateway.toml") && error.contains("[[uplink]]"), "{error}");
}

/// Three namespaces: outside -- gateway -- server.
struct Bed {
    outside: Namespace,
    gateway: Namespace,
    server: Namespace,
    keys: [StaticKey; 2],
    dir: tempfile::TempDir,
}

impl Bed {
    fn new() -> Option<Self> {
        let (outside, gateway) = (Namespace::new()?, Namespace::new()?);
        let server = Namespace::new()?;
        gateway.veth("up0", &outside, "out0");
        gateway.veth("fab0", &server, "fab0");
        gateway.ip("addr add 10.9.0.1/24 dev fab0");
        server.ip("addr add 10.9.0.2/24 dev fab0");
        let keys = [StaticKey::generate().unwrap(), StaticKey::generate().unwrap()];
        Some(Self { outside, gateway, server, keys, dir: tempfile::tempdir().unwrap() })
    }

    fn gateway(&self, workers: u16) -> Gateway {
        let port = "driver = \"packet\"\ninterface = \"up0\"";
        let config = self.config(0, workers, port, "");
        self.gateway.run(|| Gateway::start(&config, &mpsc::channel().0).unwrap())
    }

    fn config(&self, own: usize, workers: u16, port: &str, socket: &str) -> Arc<Config> {
        let hosts = [("gateway", "10.9.0.1"), ("server", "10.9.0.2")];
        let (name, address) = hosts[own];
        let (peer, peer_address) = hosts[1 - own];
        let key_file = self.dir.path().join(name);
        if !key_file.exists() {
            self.keys[own].write_new(&key_file).unwrap();
        }
        let peers = [(peer, peer_address, self.keys[1 - own].public().to_string())];
        let head = head(name, address, &peers)
            .replace("@KEY@", key_file.to_str().unwrap())
            .replace("@WORKERS@", &workers.to_string());
        let common = COMMON.replace("@PORT@", port).replace("@SOCKET@", socket);
        Arc::new(Config::parse(&(head + &common), name).unwrap())
    }
}

fn head(name: &str, address: &str, peers: &[(&str, &str, String)]) -> String {
    let mut text = format!(
        "[host]\nname = \"{name}\"\nprivate_key_file = \"@KEY@\"\nworkers = @WORKERS@\n\
         [fabric]\naddress = \"{address}\"\nmtu = 1500\n"
    );
    for (peer, address, key) in peers {
        text += &format!(
            "[[peer]]\nname = \"{peer}\"\naddress = \"{address}\"\npublic_key = \"{key}\"\n"
        );
    }
    text
}

fn on_vlan_20(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 20], &frame[12..]].concat()
}

/// A frame that the gateway sent.
struct Arrival {
    source: Endpoint,
    destination: Endpoint,
    offload: Offload,
    bytes: Vec<u8>,
}

/// The fabric half of a server.
struct Server {
    ring: Ring,
    fabric: Fabric,
    events: mpsc::Receiver<SessionEvent>,
    received: Vec<Arrival>,
    started: Instant,
    _host: FabricHost,
}

struct Tell(Sender<SessionEvent>);

impl SessionListener for Tell {
    fn session(&self, event: SessionEvent) {
        let _ = self.0.send(event);
    }
}

impl Server {
    fn start(bed: &Bed) -> Self {
        let config = bed.config(1, 1, "", "socket = \"/run/a1.sock\"");
        let mut ring = Ring::new().unwrap();
        let settings = FabricHost::worker_config(&config, 0, FABRIC_TOKEN_KIND);
        let fabric = Fabric::new(&mut ring, &settings).unwrap();
        let (tell, events) = mpsc::channel();
        let host = FabricHost::start(&config, Box::new(Tell(tell))).unwrap();
        let started = Instant::now();
        Self { ring, fabric, events, received: Vec::new(), started, _host: host }
    }

    fn turn(&mut self) {
        let mut completions = Vec::new();
        self.ring.enter(Wait::AtMostUs(5_000), &mut completions).unwrap();
        let now_us = u64::try_from(self.started.elapsed().as_micros()).unwrap();
        while let Ok(event) = self.events.try_recv() {
            self.fabric.apply(event);
        }
        let Self { ring, fabric, received, .. } = self;
        let mut sink = |inbound: Inbound<'_>| {
            let mut bytes = vec![0; inbound.frame.frame_len()];
            inbound.frame.copy_at(0, &mut bytes);
            let Inbound { source, destination, frame, .. } = inbound;
            received.push(Arrival { source, destination, offload: frame.offload, bytes });
        };
        for completion in &completions {
            fabric.handle(ring, completion, now_us, &mut sink).unwrap();
        }
        fabric.tick(now_us, &mut sink);
        fabric.flush(ring, now_us).unwrap();
        let _ = fabric.outcomes().count();
    }

    fn wait_until_up(&mut self) {
        for _ in 0..2_000 {
            if self.fabric.is_up(GATEWAY) {
                return;
            }
            self.turn();
        }
        panic!("no session with the gateway");
    }

    fn send(&mut self, from: u64, bytes: &[u8]) {
        self.send_with(from, bytes, Offload::default());
    }

    fn send_with(&mut self, from: u64, bytes: &[u8], offload: Offload) {
        let block = Outbound {
            source: Endpoint::Vnic(vnic(from)),
            destination: UPLINK,
            offload,
            flow_hash: u32::from(bytes[35]) * 0x0101_0101,
            ecn: Ecn::NotEct,
            account: from,
            amount: Amount::frame(bytes.len(), 1),
        };
        self.fabric.send(GATEWAY, &block, &mut SliceSource::new(bytes), 0).unwrap();
        self.turn();
    }

    fn receive(&mut self) -> Arrival {
        for _ in 0..2_000 {
            if !self.received.is_empty() {
                return self.received.remove(0);
            }
            self.turn();
        }
        panic!("nothing came from the gateway");
    }
}
