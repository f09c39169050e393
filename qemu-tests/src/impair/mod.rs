//! A bad network: a relay between two fabric hosts that loses, doubles, reorders, delays, damages
//! and replays datagrams.
//!
//! # Theory of operation
//!
//! The fabric authenticates by keys, not by addresses. So the relay needs no rights and no
//! namespace: each host is told the relay's address as its peer's, and the relay passes on, port
//! by port, what comes.
//!
//! ```text
//!   host a ── to "b" ──▶ front of b, port n ─┐ lane ┌─▶ port n of host b
//!   port n of host a ◀── lane ───────────────┘      └── front of a, port n ◀── to "a" ── host b
//! ```
//!
//! A host has a control port and, behind it, its data ports. One thread serves them all. Its
//! sockets have no UDP_GRO, so the kernel cuts every train into datagrams before they come here:
//! each is judged by itself. All chance comes from one seed; what a lane does with the *n*th
//! datagram of its direction depends on nothing else.

mod lane;

pub use lane::{Counts, Impairment};

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

use crate::error::{Context, Result};
use lane::{Datagram, Lane};

/// The longest wait for a datagram: how soon a wish to stop is seen.
const PATIENCE: Duration = Duration::from_millis(5);
/// Datagrams that one port may bring before the others have their turn.
const BATCH: usize = 256;
/// Some hundred trains, so that the kernel loses nothing that the relay does not count.
const RECEIVE_BUFFER_LEN: usize = 16 << 20;

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From host a to host b.
    AToB,
    /// From host b to host a.
    BToA,
}

/// What a datagram is for, told by its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Handshakes and hellos.
    Control,
    /// Frames, and the evidence about them.
    Data,
}

/// A host that the relay stands before.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Its control port; its data ports follow.
    pub real: SocketAddr,
    /// The relay's stand-in for that port, for the other host's configuration.
    pub front: SocketAddr,
}

/// A running relay; dropping it ends its thread.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// By [`lane_of`].
    lanes: Mutex<[Lane; 4]>,
    /// Ports from which nothing is passed on, by position.
    dead: Mutex<BTreeSet<usize>>,
    /// Ports of each front.
    count: usize,
    stop: AtomicBool,
}

/// One port of one front, and where what comes there goes on.
#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    lane: usize,
    to: SocketAddr,
    /// Index of the port that the receiver sees as the sender.
    from: usize,
}

impl Relay {
    /// Starts a relay between `a` and `b` that passes everything. `ports` counts the control port
    /// and those behind it.
    ///
    /// # Errors
    /// A port of a front is taken.
    pub fn start(a: Host, b: Host, ports: u16, seed: u64) -> Result<Self> {
        let mut all = Vec::new();
        let count = usize::from(ports);
        for (front, to, direction, base) in
            [(b.front, b.real, Direction::AToB, count), (a.front, a.real, Direction::BToA, 0)]
        {
            for (at, offset) in (0..ports).enumerate() {
                let class = if offset == 0 { Class::Control } else { Class::Data };
                all.push(Port {
                    socket: bind(behind(front, offset))?,
                    lane: lane_of(direction, class),
                    to: behind(to, offset),
                    from: base + at,
                });
            }
        }
        let lanes = [0, 1, 2, 3].map(|lane| Lane::new(seed.wrapping_add(lane)));
        let shared = Arc::new(Shared {
            lanes: Mutex::new(lanes),
            dead: Mutex::default(),
            count,
            stop: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("impair".to_owned())
            .spawn(move || for_thread.run(&all))
            .context(|| "the relay's thread".to_owned())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Treats datagrams of one direction and class like this from now on.
    pub fn set(&self, direction: Direction, class: Class, impairment: Impairment) {
        self.shared.lanes()[lane_of(direction, class)].impairment = impairment;
    }

    /// Treats everything like this from now on.
    pub fn set_all(&self, impairment: Impairment) {
        self.shared.lanes().iter_mut().for_each(|lane| lane.impairment = impairment);
    }

    /// From now on, nothing passes of one direction that comes to the port `offset` behind the
    /// control port; or all does again.
    pub fn set_dead(&self, direction: Direction, offset: u16, is_dead: bool) {
        // Those of the first direction stand first.
        let before = if direction == Direction::AToB { 0 } else { self.shared.count };
        let at = before + usize::from(offset);
        let mut dead = self.shared.dead.lock().unwrap_or_else(PoisonError::into_inner);
        if is_dead {
            dead.insert(at)
        } else {
            dead.remove(&at)
        };
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self, direction: Direction, class: Class) -> Counts {
        self.shared.lanes()[lane_of(direction, class)].counts
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, [Lane; 4]> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, ports: &[Port]) {
        let started = Instant::now();
        let mut buffer = vec![0; 65_536];
        let mut ready = vec![true; ports.len()];
        while !self.stop.load(Ordering::Relaxed) {
            for (at, port) in ports.iter().enumerate().filter(|(at, _)| ready[*at]) {
                for _ in 0..BATCH {
                    let Ok(len) = port.socket.recv(&mut buffer) else { break };
                    if self.dead.lock().unwrap_or_else(PoisonError::into_inner).contains(&at) {
                        continue;
                    }
                    let bytes = buffer.get(..len).unwrap_or_default().to_vec();
                    let lane = &mut self.lanes()[port.lane];
                    lane.take(Datagram { port: at, bytes }, started.elapsed());
                }
            }
            let due = self.send_due(ports, started.elapsed());
            wait(ports, due, &mut ready);
        }
    }

    /// Sends what is due; returns the time until the next is.
    fn send_due(&self, ports: &[Port], now: Duration) -> Duration {
        let mut lanes = self.lanes();
        for lane in lanes.iter_mut() {
            while let Some(datagram) = lane.next(now) {
                let Some(port) = ports.get(datagram.port) else { continue };
                let Some(from) = ports.get(port.from) else { continue };
                if let Err(error) = from.socket.send_to(&datagram.bytes, port.to) {
                    // A host that is down refuses: lost, like on any network. Asked again once,
                    // because the error may be an earlier datagram's.
                    if error.kind() != ErrorKind::ConnectionRefused
                        || from.socket.send_to(&datagram.bytes, port.to).is_err()
                    {
                        lane.counts.refused += 1;
                    }
                }
            }
        }
        let next = lanes.iter().filter_map(Lane::next_due).min();
        next.map_or(PATIENCE, |due| due.saturating_sub(now).min(PATIENCE))
    }
}

/// Sleeps until a port has something, for at most `limit`.
fn wait(ports: &[Port], limit: Duration, ready: &mut [bool]) {
    let mut fds: Vec<_> =
        ports.iter().map(|port| PollFd::new(&port.socket, PollFlags::IN)).collect();
    let limit = Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 1_000_000 });
    // An interrupted wait is a short one.
    let _count = poll(&mut fds, Some(&limit));
    for (ready, fd) in ready.iter_mut().zip(&fds) {
        *ready = !fd.revents().is_empty();
    }
}

fn bind(address: SocketAddr) -> Result<UdpSocket> {
    let what = || format!("the relay's port {address}");
    let socket = UdpSocket::bind(address).context(what)?;
    socket.set_nonblocking(true).context(what)?;
    // Without the right to take more than the system's limit, up to that.
    if set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_LEN).is_err() {
        set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_LEN)
            .map_err(std::io::Error::from)
            .context(what)?;
    }
    Ok(socket)
}

fn behind(first: SocketAddr, offset: u16) -> SocketAddr {
    SocketAddr::new(first.ip(), first.port().saturating_add(offset))
}

fn lane_of(direction: Direction, class: Class) -> usize {
    match (direction, class) {
        (Direction::AToB, Class::Control) => 0,
        (Direction::AToB, Class::Data) => 1,
        (Direction::BToA, Class::Control) => 2,
        (Direction::BToA, Class::Data) => 3,
    }
}

/// The first of `count` UDP ports of `ip` that are free, one behind the other, below those that
/// the kernel gives to others by itself.
///
/// # Errors
/// There are none.
pub fn free_ports(ip: IpAddr, count: u16) -> Result<u16> {
    use std::sync::atomic::AtomicU32;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 10_000;
    const ROOM: u32 = 22_000;
    let count = count.max(1);
    let mut last = Ok(());
    for _ in 0..500 {
        // Tests run side by side, each in a process of its own, with neighbouring numbers.
        let turn = NEXT.fetch_add(u32::from(count), Ordering::Relaxed);
        let at = std::process::id().wrapping_mul(211).wrapping_add(turn) % ROOM;
        let base = u16::try_from(FIRST + at).unwrap_or(u16::MAX);
        let taken: std::io::Result<Vec<_>> =
            (base..base.saturating_add(count)).map(|port| UdpSocket::bind((ip, port))).collect();
        match taken {
            Ok(_) => return Ok(base),
            Err(error) => last = Err(error),
        }
    }
    last.context(|| format!("{count} free UDP ports of {ip}")).map(|()| 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn every_port_is_passed_on_both_ways_and_counted() {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let address = |port| SocketAddr::new(ip, port);
        let [a, b, front_a, front_b] = [0; 4].map(|_| free_ports(ip, 3).unwrap());
        let host = |real, front| Host { real: address(real), front: address(front) };
        let relay = Relay::start(host(a, front_a), host(b, front_b), 3, 1).unwrap();
        for offset in 0..3 {
            let ends = [a, b].map(|port| {
                let socket = UdpSocket::bind(address(port + offset)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                socket
            });
            let mut buffer = [0; 100];
            ends[0].send_to(b"to b", address(front_b + offset)).unwrap();
            let (len, from) = ends[1].recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (&b"to b"[..], address(front_a + offset)));
            ends[1].send_to(b"to a", from).unwrap();
            let (len, from) = ends[0].recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (&b"to a"[..], address(front_b + offset)));
        }
        assert_eq!(relay.counts(Direction::AToB, Class::Control).passed, 1);
        assert_eq!(relay.counts(Direction::BToA, Class::Data).passed, 2);
    }
}
