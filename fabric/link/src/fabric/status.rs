//! What a worker's fabric half counted, link by link.

use super::{Fabric, peers::Sending, rx::RxPath, tx::TxPath};
use crate::{PeerId, socket::FabricSocket};
use std::ops::AddAssign;

/// Datagrams of one link, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounters {
    /// Datagrams that the kernel took.
    pub sent_datagrams: u64,
    /// Their bytes, UDP payload.
    pub sent_bytes: u64,
    /// Trains: system calls.
    pub sent_trains: u64,
    /// Sends that found the socket full and were repeated.
    pub send_busy: u64,
    /// Sends that the host had no memory for and that were repeated after a while.
    pub send_starved: u64,
    /// Trains that the kernel refused for good.
    pub send_failed_trains: u64,
    /// Datagrams that were authenticated and new.
    pub received_datagrams: u64,
    /// Their bytes, UDP payload.
    pub received_bytes: u64,
    /// Datagrams that did not open: forged or damaged.
    pub auth_failed: u64,
    /// Datagrams with a number that was there before.
    pub duplicates: u64,
    /// Datagrams that came after they had been given up, or long before the window.
    pub late: u64,
    /// Datagrams that never came: gaps that were given up.
    pub lost_datagrams: u64,
    /// Datagrams of ours that the peer says it never got.
    pub lost_there: u64,
    /// Datagrams that came out of order and were put back in place.
    pub reordered: u64,
    /// Blocks whose header made no sense.
    pub bad_blocks: u64,
    /// Large TCP segments of which a part was lost and the rest went on.
    pub torn_frames: u64,
    /// The frames that went on instead.
    pub salvaged_frames: u64,
    /// Wire segments in these.
    pub salvaged_segments: u64,
    /// Wire segments of torn frames that were lost.
    pub lost_segments: u64,
}

/// One peer's link with this worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSnapshot {
    /// The peer.
    pub peer: PeerId,
    /// Its name.
    pub name: String,
    /// There is a session to send with.
    pub up: bool,
    /// Key epoch of that session.
    pub epoch: Option<u8>,
    /// Paths on which nobody answers: the peer's worker and the path's number.
    pub dead_paths: Vec<(u8, u8)>,
    /// What was counted in the sessions that are alive.
    pub counters: LinkCounters,
}

/// What belongs to no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketCounters {
    /// Datagrams of no session that we know.
    pub strangers: u64,
    /// Datagrams whose header says nothing sensible.
    pub malformed: u64,
    /// Datagrams of a session that we know, on a path that it does not have.
    pub unknown_paths: u64,
    /// Datagrams on a path that nobody has used, which did not open: forged or damaged.
    pub forged_paths: u64,
    /// Datagrams on a path that nobody has used, which were not looked at, because too
    /// many before had not opened.
    pub limited_paths: u64,
    /// Frames that RFC 6040 wants dropped: congestion met, and no ECN inside.
    pub congestion_drops: u64,
    /// Datagrams that the kernel dropped because a socket's buffer was full.
    pub kernel_drops: u64,
}

/// A worker's fabric half at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FabricSnapshot {
    /// Every peer, in the order of [`PeerId`].
    pub links: Vec<LinkSnapshot>,
    /// What belongs to no link.
    pub sockets: SocketCounters,
}

impl Fabric {
    /// A copy of all counters.
    #[must_use]
    pub fn snapshot(&self) -> FabricSnapshot {
        FabricSnapshot { links: self.links(), sockets: self.socket_counters() }
    }

    fn links(&self) -> Vec<LinkSnapshot> {
        let snapshot = |(index, peer): (usize, &super::peers::PeerLinks)| {
            let id = PeerId(index);
            let mut counters = LinkCounters::default();
            for sending in peer.sending.iter().chain(&peer.older) {
                for path in sending.paths.iter().flatten() {
                    counters.add_sent(path);
                }
            }
            for receiving in self.receiver.sessions.values() {
                if receiving.session.peer == id {
                    for path in receiving.paths.iter().flatten() {
                        counters.add_received(path);
                    }
                }
            }
            LinkSnapshot {
                peer: id,
                name: peer.address.name.clone(),
                up: peer.sending.is_some(),
                epoch: peer.sending.as_ref().map(|sending| sending.session.epoch),
                dead_paths: peer.sending.iter().flat_map(Sending::dead_paths).collect(),
                counters,
            }
        };
        self.peers.iter().enumerate().map(snapshot).collect()
    }

    fn socket_counters(&self) -> SocketCounters {
        SocketCounters {
            strangers: self.receiver.strangers,
            malformed: self.receiver.malformed,
            unknown_paths: self.receiver.unknown_paths,
            forged_paths: self.receiver.forged_paths,
            limited_paths: self.receiver.limited_paths,
            congestion_drops: self.receiver.congestion_drops,
            kernel_drops: self.sockets.iter().map(FabricSocket::kernel_drops).sum(),
        }
    }
}

impl AddAssign for LinkCounters {
    fn add_assign(&mut self, other: Self) {
        self.sent_datagrams += other.sent_datagrams;
        self.sent_bytes += other.sent_bytes;
        self.sent_trains += other.sent_trains;
        self.send_busy += other.send_busy;
        self.send_starved += other.send_starved;
        self.send_failed_trains += other.send_failed_trains;
        self.received_datagrams += other.received_datagrams;
        self.received_bytes += other.received_bytes;
        self.auth_failed += other.auth_failed;
        self.duplicates += other.duplicates;
        self.late += other.late;
        self.lost_datagrams += other.lost_datagrams;
        self.lost_there += other.lost_there;
        self.reordered += other.reordered;
        self.bad_blocks += other.bad_blocks;
        self.torn_frames += other.torn_frames;
        self.salvaged_frames += other.salvaged_frames;
        self.salvaged_segments += other.salvaged_segments;
        self.lost_segments += other.lost_segments;
    }
}

impl LinkCounters {
    fn add_sent(&mut self, path: &TxPath) {
        let counters = &path.counters;
        self.sent_datagrams += counters.datagrams;
        self.sent_bytes += counters.bytes;
        self.sent_trains += counters.trains;
        self.send_busy += counters.busy;
        self.send_starved += counters.starved;
        self.send_failed_trains += counters.failed_trains;
        self.lost_there += counters.lost;
    }

    fn add_received(&mut self, path: &RxPath) {
        let counters = &path.counters;
        let unpacked = path.unpack_stats();
        self.received_datagrams += counters.datagrams;
        self.received_bytes += counters.bytes;
        self.auth_failed += counters.auth_failed;
        self.duplicates += counters.duplicates;
        self.late += counters.late + counters.too_old;
        self.lost_datagrams += unpacked.lost_datagrams;
        self.reordered += unpacked.held_datagrams;
        self.bad_blocks += unpacked.bad_blocks + unpacked.bad_offsets;
        self.torn_frames += unpacked.torn_frames;
        self.salvaged_frames += unpacked.salvaged_frames;
        self.salvaged_segments += unpacked.salvaged_segments;
        self.lost_segments += unpacked.lost_segments;
    }
}
