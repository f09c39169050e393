//! Two workers on loopback: agents, sockets, rings, trains and evidence for real.
#![cfg(test)]

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
        sync::{Arc, mpsc},
        time::{Duration, Instant},
    };
    use wireonce_frame::{Offload, SliceSource, ecn::Ecn};
    use wireonce_ledger::{Amount, DropReason};
    use wireonce_link::{
        Agent, ControlSocket, Fabric, FabricConfig, Fate, Outbound, PeerAddress, PeerId, Session,
        SessionEvent, SessionEvents, StaticKey,
        manager::{Config, PathMtu, PeerConfig, Timing},
    };
    use wireonce_ring::{Ring, Wait};
    use wireonce_wire::{Endpoint, VnicId};

    const PEER: PeerId = PeerId(0);

    struct Channel(mpsc::Sender<SessionEvent>);

    impl SessionEvents for Channel {
        fn session_open(&self, session: Arc<Session>) {
            let _ = self.0.send(SessionEvent::Open(session));
        }
        fn session_up(&self, session: Arc<Session>) {
            let _ = self.0.send(SessionEvent::Up(session));
        }
        fn session_retired(&self, peer: PeerId, generation: u64) {
            let _ = self.0.send(SessionEvent::Retired { peer, generation });
        }
        fn peer_down(&self, peer: PeerId) {
            let _ = self.0.send(SessionEvent::Down(peer));
        }
        fn mtu_changed(&self, peer: PeerId, len: usize) {
            let _ = self.0.send(SessionEvent::Mtu(peer, len));
        }
    }

    struct Node {
        ring: Ring,
        fabric: Fabric,
        agent: Agent,
        events: mpsc::Receiver<SessionEvent>,
        start: Instant,
        received: Vec<Vec<u8>>,
        fates: HashMap<&'static str, u64>,
    }

    impl Node {
        fn now_us(&self) -> u64 {
            u64::try_from(self.start.elapsed().as_micros()).unwrap()
        }

        /// One turn of a worker's loop.
        fn turn(&mut self) {
            while let Ok(event) = self.events.try_recv() {
                self.fabric.apply(event);
            }
            let mut completions = Vec::new();
            self.ring.enter(Wait::AtMostUs(500), &mut completions).unwrap();
            let now_us = self.now_us();
            let received = &mut self.received;
            let mut sink = |inbound: wireonce_link::Inbound<'_>| {
                received.push(inbound.frame.parts().concat());
            };
            for completion in &completions {
                self.fabric.handle(&mut self.ring, completion, now_us, &mut sink).unwrap();
            }
            self.fabric.tick(now_us, &mut sink);
            self.fabric.flush(&mut self.ring, now_us).unwrap();
            for outcome in self.fabric.outcomes() {
                let name = match outcome.fate {
                    Fate::Arrived => "arrived",
                    Fate::Lost => "lost",
                    Fate::Unknown => "unknown",
                };
                *self.fates.entry(name).or_default() += outcome.amount.frames;
            }
        }

        fn send(&mut self, frame: &[u8], flow_hash: u32, ecn: Ecn) -> Result<(), DropReason> {
            let block = Outbound {
                source: Endpoint::Vnic(VnicId::new(1).unwrap()),
                destination: Endpoint::Vnic(VnicId::new(2).unwrap()),
                offload: Offload::default(),
                flow_hash,
                ecn,
                account: 1,
                amount: Amount::frame(frame.len(), 1),
            };
            let now_us = self.now_us();
            self.fabric.send(PEER, &block, &mut SliceSource::new(frame), now_us)
        }

        fn fate(&self, name: &str) -> u64 {
            self.fates.get(name).copied().unwrap_or(0)
        }
    }

    /// Ports for one host: the control socket's and those behind it.
    fn free_port(ip: IpAddr, at: u16) -> u16 {
        let base = 20_000 + u16::try_from(std::process::id() % 1_500).unwrap() * 20 + at;
        let probe = UdpSocket::bind(SocketAddr::new(ip, base)).unwrap();
        drop(probe);
        base
    }

    fn pair(ip: IpAddr, sealed: bool, paths: u8, mtu: usize) -> (Node, Node) {
        let keys = [StaticKey::generate().unwrap(), StaticKey::generate().unwrap()];
        let ports = [free_port(ip, 0), free_port(ip, 10)];
        let node = |me: usize| {
            let other = 1 - me;
            let (sender, events) = mpsc::channel();
            let config = Config {
                key: keys[me].clone(),
                versions: 1..=1,
                workers: 1,
                paths,
                datagram_len_max: 9_188,
                sealed,
                path_mtu: PathMtu::Fixed(mtu),
                timing: Timing::default(),
                wall_clock_us: 1_000_000,
            };
            let peer = PeerConfig {
                name: format!("node-{other}"),
                key: keys[other].public(),
                address: SocketAddr::new(ip, ports[other]),
            };
            let mut ring = Ring::new().unwrap();
            let fabric = FabricConfig {
                address: ip,
                port: ports[me],
                worker: 0,
                paths,
                receive_buffers: 16,
                token_kind: 8,
                peers: vec![PeerAddress {
                    name: peer.name.clone(),
                    address: ip,
                    port: ports[other],
                }],
            };
            let fabric = Fabric::new(&mut ring, &fabric).unwrap();
            let socket = ControlSocket::bind(SocketAddr::new(ip, ports[me])).unwrap();
            let agent =
                Agent::start(socket, config, vec![peer], Box::new(Channel(sender))).unwrap();
            agent.handle().want_all();
            Node {
                ring,
                fabric,
                agent,
                events,
                start: Instant::now(),
                received: Vec::new(),
                fates: HashMap::new(),
            }
        };
        let (mut a, mut b) = (node(0), node(1));
        drive(&mut a, &mut b, |a, b| a.fabric.is_up(PEER) && b.fabric.is_up(PEER));
        (a, b)
    }

    /// Turns both workers until `done`, within bounds.
    fn drive(a: &mut Node, b: &mut Node, done: impl Fn(&Node, &Node) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !done(a, b) {
            assert!(Instant::now() < end, "a: {:?} b: {:?}", a.fates, b.fates);
            a.turn();
            b.turn();
        }
    }

    fn frames() -> Vec<Vec<u8>> {
        let lens = [14, 60, 1_500, 65_000, 64, 64, 9_000, 30_000, 65_535, 1];
        lens.iter().enumerate().map(|(n, len)| vec![u8::try_from(n + 1).unwrap(); *len]).collect()
    }

    fn all_arrive(ip: IpAddr, sealed: bool, paths: u8, mtu: usize) {
        let (mut a, mut b) = pair(ip, sealed, paths, mtu);
        let mut sent = Vec::new();
        for round in 0..30_u32 {
            for frame in frames() {
                while a.send(&frame, round, Ecn::NotEct) == Err(DropReason::FabricBusy) {
                    a.turn();
                    b.turn();
                }
                sent.push(frame);
            }
            a.turn();
            b.turn();
        }
        let n = sent.len();
        drive(&mut a, &mut b, |a, b| b.received.len() >= n && a.fate("arrived") >= n as u64);
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
        let (mut a, mut b) = pair(Ipv4Addr::LOCALHOST.into(), true, 1, 1500);
        for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::NotEct, Ecn::Ect0] {
            a.send(&[7; 100], 1, ecn).unwrap();
        }
        drive(&mut a, &mut b, |a, b| b.received.len() == 4 && a.fate("arrived") == 4);
        let trains = a.fabric.snapshot().links[0].counters.sent_trains;
        assert!(trains >= 2, "a train has one outer ECN field");
        a.agent.stop();
        b.agent.stop();
    }

    #[test]
    fn strangers_and_forgeries_leave_no_trace_but_a_count() {
        let (mut a, mut b) = pair(Ipv4Addr::LOCALHOST.into(), true, 1, 1500);
        a.send(&[7; 100], 1, Ecn::NotEct).unwrap();
        drive(&mut a, &mut b, |_, b| b.received.len() == 1);
        let fd = b.fabric.socket_fds();
        assert_eq!(fd.len(), 1);
        let target = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port_of(&b));
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

    /// The UDP port of a node's first path.
    fn free_port_of(node: &Node) -> u16 {
        let snapshot = node.agent.handle().status();
        let peer = &snapshot.peers[0];
        // The other end's control port is 10 below ours or above; the data port follows.
        peer.address.port() + 10 + 1
    }

    #[test]
    fn without_a_session_frames_are_refused_by_name() {
        let mut ring = Ring::new().unwrap();
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let config = FabricConfig {
            address: ip,
            port: free_port(ip, 19),
            worker: 0,
            paths: 1,
            receive_buffers: 2,
            token_kind: 8,
            peers: vec![PeerAddress { name: "b".into(), address: ip, port: 1 }],
        };
        let mut fabric = Fabric::new(&mut ring, &config).unwrap();
        let block = Outbound {
            source: Endpoint::Vnic(VnicId::new(1).unwrap()),
            destination: Endpoint::Vnic(VnicId::new(2).unwrap()),
            offload: Offload::default(),
            flow_hash: 0,
            ecn: Ecn::NotEct,
            account: 1,
            amount: Amount::frame(60, 1),
        };
        let result = fabric.send(PEER, &block, &mut SliceSource::new(&[0; 60]), 0);
        assert_eq!(result, Err(DropReason::NoSession));
        assert_eq!(fabric.next_deadline_us(), None, "an idle worker needs no timer");
    }
}
