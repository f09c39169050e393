//! What an operator sees of the links: the agent's view and the workers' counters.

use super::FabricHost;
use std::collections::BTreeMap;
use wireonce_ledger::status::{LinkGrayStatus, LinkState, LinkStatus};
use wireonce_link::{
    FabricSnapshot, LinkCounters,
    manager::{PeerState, PeerStatus, Trouble},
};

impl FabricHost {
    /// Every peer, with what all workers counted on the links to it.
    pub fn links(&self, workers: &[&FabricSnapshot]) -> Vec<LinkStatus> {
        let peers = self.agent.handle().status().peers;
        let link =
            |(index, peer): (usize, &PeerStatus)| {
                // The position is the number: those that are gone keep theirs.
                let mut counters = LinkCounters::default();
                let mut dead_paths = Vec::new();
                for (at, worker) in workers.iter().enumerate() {
                    if let Some(link) = worker.links.get(index) {
                        counters += link.counters;
                        dead_paths.extend(link.dead_paths.iter().map(|(to, path)| {
                            format!("path {path} of worker {at} to worker {to}")
                        }));
                    }
                }
                status(peer, &counters, dead_paths)
            };
        let there = peers.iter().enumerate().filter(|(_, peer)| peer.state != PeerState::Gone);
        there.map(link).collect()
    }

    /// What belongs to no link: strangers, forgeries, full sockets.
    pub fn counters(&self, workers: &[&FabricSnapshot]) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        let mut add = |name: &str, count: u64| {
            *all.entry(name.to_owned()).or_insert(0) += count;
        };
        for worker in workers {
            add("fabric_strangers", worker.sockets.strangers);
            add("fabric_malformed", worker.sockets.malformed);
            add("fabric_unknown_paths", worker.sockets.unknown_paths);
            add("fabric_forged_paths", worker.sockets.forged_paths);
            add("fabric_limited_paths", worker.sockets.limited_paths);
            add("fabric_congestion_drops", worker.sockets.congestion_drops);
            add("fabric_socket_drops", worker.sockets.kernel_drops);
            for link in &worker.links {
                add("fabric_send_busy", link.counters.send_busy);
                add("fabric_send_starved", link.counters.send_starved);
                add("fabric_send_failed_trains", link.counters.send_failed_trains);
                add("fabric_bad_blocks", link.counters.bad_blocks);
                add("fabric_lost_datagrams", link.counters.lost_datagrams);
                add("fabric_torn_frames", link.counters.torn_frames);
                add("fabric_salvaged_frames", link.counters.salvaged_frames);
                add("fabric_salvaged_segments", link.counters.salvaged_segments);
                add("fabric_lost_segments", link.counters.lost_segments);
            }
        }
        let agent = self.agent.handle().status();
        add("control_malformed", agent.counters.malformed);
        add("control_bad_mac", agent.counters.bad_mac);
        add("control_limited", agent.counters.limited);
        add("control_unreadable", agent.counters.unreadable);
        add("control_unknown_key", agent.counters.unknown_key);
        add("control_forged", agent.counters.forged);
        add("control_repeated", agent.counters.repeated);
        add("control_sends_failed", agent.sends_failed);
        for peer in &agent.peers {
            add("goodbyes_sent", peer.counters.goodbyes_sent);
            add("goodbyes_heard", peer.counters.goodbyes_heard);
            add("sessions", peer.counters.sessions);
            add("peer_downs", peer.counters.downs);
            add("version_mismatches", peer.counters.version_mismatch);
            add("encryption_mismatches", peer.counters.encryption_mismatch);
        }
        all
    }
}

fn gray(trouble: &Trouble, dead_paths: Vec<String>) -> Option<LinkGrayStatus> {
    let names: Vec<String> = trouble.names().map(str::to_owned).collect();
    (!names.is_empty()).then(|| LinkGrayStatus {
        trouble: names,
        leaves_homes: trouble.is_gray(),
        lost_to_percent: trouble.lossy_to_peer,
        lost_from_percent: trouble.lossy_from_peer,
        one_way: trouble.one_way,
        no_path: trouble.no_path,
        dead_paths,
        full_size_lost: trouble.full_size_lost.map(u32::from),
    })
}

fn status(peer: &PeerStatus, counters: &LinkCounters, dead_paths: Vec<String>) -> LinkStatus {
    LinkStatus {
        peer: peer.name.clone(),
        address: peer.address.to_string(),
        state: match peer.state {
            PeerState::Up => LinkState::Up,
            PeerState::Connecting => LinkState::Connecting,
            PeerState::Idle => LinkState::Idle,
            PeerState::Down | PeerState::Gone => LinkState::Down,
        },
        epoch: peer.epoch.map_or(0, u64::from),
        rtt_us: peer.rtt_us,
        datagram_len: u32::try_from(peer.datagram_len_max).unwrap_or(u32::MAX),
        sent_datagrams: counters.sent_datagrams,
        sent_bytes: counters.sent_bytes,
        received_datagrams: counters.received_datagrams,
        received_bytes: counters.received_bytes,
        gray: gray(&peer.trouble, dead_paths),
        lost: counters.lost_there,
        missed: counters.lost_datagrams,
        reordered: counters.reordered,
        late: counters.late,
        duplicate: counters.duplicates,
        auth_failed: counters.auth_failed,
        socket_drops: 0,
    }
}
