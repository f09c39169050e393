//! DPDK's `dpdk-testpmd` as the two ends of a vhost-user socket: a front-end (`net_virtio_user`)
//! that no guest CPU limits, and a back-end (`net_vhost`) to compare with.
//!
//! Memory: a front-end must share its memory by file descriptors. `--no-huge
//! --single-file-segments` does so from ordinary pages and needs no set-up: right for tests.
//! Measurements want [`Memory::Huge`]: ten times the rate.
//!
//! testpmd sends SET_FEATURES first: it never shows what QEMU's order of messages does.

mod console;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::netns::Netns;
use crate::process::{Process, tail, wait_until};

pub use console::Console;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Packet buffers of a process, in megabytes and in number.
const MEMORY_MB: u32 = 128;
const BUFFERS: u32 = 16384;

/// Which end of the socket, at which path.
#[derive(Debug, Clone)]
pub enum End {
    /// The driver's side: connects to the socket.
    FrontEnd(PathBuf),
    /// The device's side: makes the socket.
    BackEnd(PathBuf),
    /// The device's side: connects to the socket.
    BackEndConnect(PathBuf),
}

/// What it does with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Sends as many as it can.
    TxOnly,
    /// Receives and drops.
    RxOnly,
    /// Sends back what comes, with its MAC addresses set.
    Mac,
    /// Sends back what comes.
    Io,
    /// Sends back what comes, with its checksums made and, if so told, its segmentation asked for.
    Csum,
    /// Sends back what comes to whom it came from: MACs, IP addresses and ports change places.
    FiveTupleSwap,
}

/// Where its packet buffers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// In ordinary pages.
    Plain,
    /// In 2 MB pages: see [`crate::hugepages`].
    Huge,
}

/// A testpmd to start.
#[derive(Debug, Clone)]
pub struct Testpmd {
    end: End,
    forward: Forward,
    /// Where its buffers are.
    pub memory: Memory,
    /// The processor that it runs on; it keeps it busy.
    pub cpu: u32,
    /// Receive and transmit queues: so many of each.
    pub queue_pairs: u16,
    /// Entries of each ring of a front-end.
    pub queue_size: u16,
    /// Offer VIRTIO_NET_F_MRG_RXBUF (a front-end).
    pub mergeable: bool,
    /// Offer VIRTIO_F_IN_ORDER (a front-end).
    pub in_order: bool,
    /// The front-end listens at its socket and the back-end connects.
    pub listens: bool,
    /// The MAC address of a front-end, as text.
    pub mac: Option<String>,
    /// The destination MAC of what it sends, as text.
    pub peer_mac: Option<String>,
    /// Source and destination IPv4 address of what `txonly` sends.
    pub addresses: Option<(String, String)>,
    /// Bytes of each frame that `txonly` sends, without FCS.
    pub frame_bytes: u16,
    /// A second port: this interface by a packet socket. [`Forward::Io`] then joins the two.
    pub interface: Option<String>,
    /// More ports, as DPDK's `--vdev` describes them, behind those above.
    pub more_devices: Vec<String>,
    /// More of testpmd's own options.
    pub more_options: Vec<String>,
}

impl Testpmd {
    /// One queue pair on processor 0, 64-byte frames, ordinary pages.
    #[must_use]
    pub fn new(end: End, forward: Forward) -> Self {
        Self {
            end,
            forward,
            memory: Memory::Plain,
            cpu: 0,
            queue_pairs: 1,
            queue_size: 1024,
            mergeable: true,
            in_order: true,
            listens: false,
            mac: None,
            peer_mac: None,
            addresses: None,
            frame_bytes: 64,
            interface: None,
            more_devices: Vec::new(),
            more_options: Vec::new(),
        }
    }

    /// Changes the socket's path.
    pub fn connect_to(&mut self, socket: &Path) {
        let (End::FrontEnd(path) | End::BackEnd(path) | End::BackEndConnect(path)) = &mut self.end;
        socket.clone_into(path);
    }

    /// Starts it here and waits until it forwards.
    ///
    /// # Errors
    /// It ends or does not get that far; the message has the end of its log.
    pub fn start(&self, name: &str, dir: &Path) -> Result<Running> {
        self.start_with(Command::new(TESTPMD), name, dir)
    }

    /// Starts it in a namespace and waits until it forwards.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_in(&self, netns: &Netns, name: &str, dir: &Path) -> Result<Running> {
        self.start_with(netns.command(TESTPMD), name, dir)
    }

    fn start_with(&self, mut command: Command, name: &str, dir: &Path) -> Result<Running> {
        // Its own files go with the folder's.
        command.args(self.arguments(name)).env("RUNTIME_DIRECTORY", dir);
        let mut process = Process::start(name, dir, &mut command)?;
        let started = wait_until(&format!("{name} forwards"), START_LIMIT, || {
            process.must_be_alive()?;
            Ok(process.log().contains("start packet forwarding").then_some(()))
        });
        match started {
            Ok(()) => Ok(Running { process }),
            Err(error) => {
                let log = tail(&process.log(), 20);
                Err(Error::Unexpected(format!("{error}; its log ends with:\n{log}")))
            }
        }
    }

    fn arguments(&self, name: &str) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let mut push = |word: String| words.push(word);
        // The main thread and the one that forwards share a processor.
        push(format!("--lcores=0@{0},1@{0}", self.cpu));
        push("--no-pci".to_owned());
        push("--single-file-segments".to_owned());
        push(format!("-m{MEMORY_MB}"));
        push(format!("--file-prefix=wo-{}-{name}", std::process::id()));
        match self.memory {
            Memory::Plain => push("--no-huge".to_owned()),
            Memory::Huge => push("--in-memory".to_owned()),
        }
        push(self.device());
        if let Some(interface) = &self.interface {
            push(format!("--vdev=net_af_packet0,iface={interface}"));
        }
        self.more_devices.iter().for_each(|device| push(format!("--vdev={device}")));
        push("--".to_owned());
        push("--auto-start".to_owned());
        push("--stats-period=1".to_owned());
        push("--no-mlockall".to_owned());
        push(format!("--total-num-mbufs={BUFFERS}"));
        push(format!("--forward-mode={}", self.forward.name()));
        push(format!("--rxq={}", self.queue_pairs));
        push(format!("--txq={}", self.queue_pairs));
        push(format!("--txpkts={}", self.frame_bytes));
        if let Some(mac) = &self.peer_mac {
            push(format!("--eth-peer=0,{mac}"));
        }
        if let Some((source, destination)) = &self.addresses {
            push(format!("--tx-ip={source},{destination}"));
        }
        words.extend(self.more_options.iter().cloned());
        words
    }

    fn device(&self) -> String {
        match &self.end {
            End::BackEnd(path) => {
                format!("--vdev=net_vhost0,iface={},queues={}", path.display(), self.queue_pairs)
            }
            End::BackEndConnect(path) => {
                let path = path.display();
                format!("--vdev=net_vhost0,iface={path},queues={},client=1", self.queue_pairs)
            }
            End::FrontEnd(path) => {
                let mut device = format!(
                    "--vdev=net_virtio_user0,path={},queues={},queue_size={},mrg_rxbuf={},\
                     in_order={},packed_vq=0",
                    path.display(),
                    self.queue_pairs,
                    self.queue_size,
                    u8::from(self.mergeable),
                    u8::from(self.in_order),
                );
                if self.listens {
                    device += ",server=1";
                }
                if let Some(mac) = &self.mac {
                    device += &format!(",mac={mac}");
                }
                device
            }
        }
    }
}

const TESTPMD: &str = "dpdk-testpmd";

impl Forward {
    fn name(self) -> &'static str {
        match self {
            Self::TxOnly => "txonly",
            Self::RxOnly => "rxonly",
            Self::Mac => "mac",
            Self::Io => "io",
            Self::Csum => "csum",
            Self::FiveTupleSwap => "5tswap",
        }
    }
}

/// A testpmd at work; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    process: Process,
}

/// Packets by a testpmd's own count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    /// Received.
    pub rx_packets: u64,
    /// Handed to the driver and taken.
    pub tx_packets: u64,
    /// Received and dropped while forwarding.
    pub rx_dropped: u64,
    /// Not taken by the driver: its ring was full.
    pub tx_dropped: u64,
    /// Received per second, each second.
    pub rx_pps: Vec<u64>,
    /// Sent per second, each second.
    pub tx_pps: Vec<u64>,
}

impl Running {
    /// The counts up to the last second.
    #[must_use]
    pub fn counters(&self) -> Counters {
        parse(&self.process.log())
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it in order and returns its final counts.
    ///
    /// # Errors
    /// It does not end, or prints no counts.
    pub fn stop(mut self) -> Result<Counters> {
        // Its exit status says nothing: it ends by the signal that it was sent.
        self.process.terminate(STOP_LIMIT)?;
        let log = self.process.log();
        if !log.contains("Accumulated forward statistics") {
            let log = tail(&log, 20);
            return Err(Error::Unexpected(format!("testpmd printed no statistics:\n{log}")));
        }
        Ok(parse(&log))
    }
}

/// Reads testpmd's output: statistics each second, and the accumulated ones at the end. The last
/// value of a counter counts.
fn parse(log: &str) -> Counters {
    let mut seen = Counters::default();
    let words: Vec<&str> = log.split_whitespace().collect();
    for pair in words.windows(2) {
        let [name, value] = pair else { continue };
        let Ok(value) = value.parse() else { continue };
        match *name {
            "RX-packets:" => seen.rx_packets = value,
            "TX-packets:" => seen.tx_packets = value,
            "RX-dropped:" => seen.rx_dropped = value,
            "TX-dropped:" => seen.tx_dropped = value,
            "Rx-pps:" => seen.rx_pps.push(value),
            "Tx-pps:" => seen.tx_pps.push(value),
            _ => {}
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_counts_and_all_rates_are_read() {
        let log = "Port statistics ===\n  RX-packets: 5  RX-missed: 0  RX-bytes: 320\n\
            Rx-pps:  5  Rx-bps: 9\n Tx-pps:  0 Tx-bps: 0\n  Rx-pps: 7\n\
            +++ Accumulated forward statistics for all ports+++\n\
            RX-packets: 12    RX-dropped: 1    RX-total: 13\n\
            TX-packets: 3     TX-dropped: 2    TX-total: 5\n";
        let seen = parse(log);
        let all = (seen.rx_packets, seen.rx_dropped, seen.tx_packets, seen.tx_dropped);
        assert_eq!(all, (12, 1, 3, 2));
        assert_eq!((seen.rx_pps, seen.tx_pps), (vec![5, 7], vec![0]));
    }

    #[test]
    fn a_front_end_asks_for_what_it_was_told() {
        let mut pmd = Testpmd::new(End::FrontEnd("/s".into()), Forward::TxOnly);
        pmd.in_order = false;
        pmd.mac = Some("52:54:00:77:00:0b".to_owned());
        let device = pmd.device();
        assert!(device.contains("in_order=0,packed_vq=0,mac=52:54:00:77:00:0b"), "{device}");
    }
}
