//! Request and response, one at a time: how long each round trip takes.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, connect, ipproto, recv, send, socket,
};
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::{Error, Result};

use crate::case::Times;
use crate::stats::percentile;
use crate::{inside, io_error};

/// A request without an answer after this time is lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes behind the UDP or ICMP header: a frame of 64 bytes, without FCS.
const PAYLOAD_LEN: usize = 22;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoundTrips {
    /// Each round trip, in microseconds, in their order.
    pub us: Vec<f64>,
    /// Requests that had no answer.
    pub lost: u32,
}

impl RoundTrips {
    /// p50, p99 and p99.9 in microseconds.
    ///
    /// # Errors
    /// There was no answer at all.
    pub fn quantiles(&self) -> Result<[f64; 3]> {
        let all = [0.5, 0.99, 0.999].map(|share| percentile(&self.us, share));
        match all {
            [Some(p50), Some(p99), Some(p999)] => Ok([p50, p99, p999]),
            _ => Err(Error::Unexpected("no request was answered".to_owned())),
        }
    }

    /// Asks until the time is over; `ask` sends request `n` and says whether its answer came.
    fn collect(
        times: Times,
        gap: Duration,
        mut ask: impl FnMut(u16) -> io::Result<bool>,
    ) -> io::Result<Self> {
        let mut seen = Self::default();
        let counted_from = Instant::now() + times.warm_up;
        let end = counted_from + times.window;
        let mut number = 0;
        loop {
            let asked = Instant::now();
            if asked >= end {
                return Ok(seen);
            }
            let answered = ask(number)?;
            number = number.wrapping_add(1);
            if asked >= counted_from {
                if answered {
                    seen.us.push(asked.elapsed().as_secs_f64() * 1e6);
                } else {
                    seen.lost += 1;
                }
            }
            if !gap.is_zero() {
                std::thread::sleep(gap);
            }
        }
    }
}

/// From where, and in which rhythm.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The namespace of the one who asks.
    pub netns: &'a Netns,
    /// Its processor; `None`: any.
    pub cpu: Option<u32>,
    /// The pause between an answer and the next request.
    pub gap: Duration,
}

impl Asker<'_> {
    /// Asks an [`Echo`] at `to`.
    ///
    /// # Errors
    /// No socket, or nobody there.
    pub fn udp(self, to: SocketAddr, times: Times) -> Result<RoundTrips> {
        let gap = self.gap;
        self.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let mut buffer = [0; 2048];
            RoundTrips::collect(times, gap, |number| {
                let mut request = [0; PAYLOAD_LEN];
                request[..2].copy_from_slice(&number.to_be_bytes());
                socket.send(&request)?;
                answered(|| {
                    let len = socket.recv(&mut buffer)?;
                    Ok(buffer.get(..len).is_some_and(|answer| answer == request))
                })
            })
        })
    }

    /// Sends ICMP echo requests to `to`: its kernel answers.
    ///
    /// # Errors
    /// No socket, or nobody there.
    pub fn icmp(self, to: Ipv4Addr, times: Times) -> Result<RoundTrips> {
        let gap = self.gap;
        self.run(move || {
            let socket = icmp_socket(to)?;
            let mut buffer = [0; 2048];
            RoundTrips::collect(times, gap, |number| {
                let request = echo_request(number);
                send(&socket, &request, SendFlags::empty())?;
                answered(|| {
                    let (_, len) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
                    Ok(buffer.get(..len).is_some_and(|packet| is_echo_reply(packet, number)))
                })
            })
        })
    }

    fn run(
        self,
        work: impl FnOnce() -> io::Result<RoundTrips> + Send + 'static,
    ) -> Result<RoundTrips> {
        let (thread, _) = inside::start(self.netns, "asker", self.cpu, move |ready| {
            ready.tell();
            work().map_err(io_error("request and response"))
        })?;
        let gone = |_| Error::Unexpected("the asking thread panicked".to_owned());
        thread.join().map_err(gone)?
    }
}

/// Receives until the answer came (true) or the patience is over (false).
fn answered(mut receive: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match receive() {
            Ok(true) => return Ok(true),
            // An answer that comes late, or one to somebody else.
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// A socket that gets all ICMP that comes from `to`.
fn icmp_socket(to: Ipv4Addr) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))?;
    connect(&socket, &SocketAddrV4::new(to, 0))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(socket)
}

/// Tells our requests from others' (RFC 792, "identifier").
const IDENTIFIER: u16 = 0x776f;

/// An echo request (RFC 792): type 8.
fn echo_request(number: u16) -> [u8; 8 + PAYLOAD_LEN] {
    let mut request = [0; 8 + PAYLOAD_LEN];
    request[0] = 8;
    request[4..6].copy_from_slice(&IDENTIFIER.to_be_bytes());
    request[6..8].copy_from_slice(&number.to_be_bytes());
    // The checksum is zero while it is reckoned (RFC 1071).
    let sum: u32 = request.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0);
    request[2..4].copy_from_slice(&checksum.to_be_bytes());
    request
}

/// Is this IPv4 packet the answer (type 0) to request `number`?
fn is_echo_reply(packet: &[u8], number: u16) -> bool {
    let header_len = packet.first().map_or(0, |byte| usize::from(byte & 15) * 4);
    let Some(message) = packet.get(header_len..) else { return false };
    let expected = [IDENTIFIER.to_be_bytes(), number.to_be_bytes()].concat();
    message.first() == Some(&0) && message.get(4..8) == Some(&expected)
}

/// A thread that sends back every datagram; dropping it ends the thread.
#[derive(Debug)]
pub struct Echo {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Echo {
    /// Starts it at `ip` in `netns` on processor `cpu`.
    ///
    /// # Errors
    /// No socket.
    pub fn start(netns: &Netns, ip: IpAddr, cpu: Option<u32>) -> Result<Self> {
        /// The echo service's own (RFC 862).
        const PORT: u16 = 7;
        let address = SocketAddr::new(ip, PORT);
        let stop = Arc::new(AtomicBool::new(false));
        let stop_inside = Arc::clone(&stop);
        let (thread, _) = inside::start(netns, "echo", cpu, move |ready| {
            let socket = UdpSocket::bind(address).map_err(io_error("cannot open an echo"))?;
            socket.set_read_timeout(Some(PATIENCE / 5)).map_err(io_error("an echo's patience"))?;
            ready.tell();
            echo(&socket, &stop_inside);
            Ok(())
        })?;
        Ok(Self { address, stop, thread: Some(thread) })
    }
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Acquire) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            // One that does not get through is a lost one, which the asker counts.
            let _sent = socket.send_to(buffer.get(..len).unwrap_or_default(), from);
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_request_sums_up_to_nothing_and_its_reply_is_known() {
        let request = echo_request(0x1234);
        let sum: u32 =
            request.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);

        let mut packet = vec![0x45; 20];
        packet.extend(request);
        assert!(!is_echo_reply(&packet, 0x1234), "a request is no reply");
        packet[20] = 0;
        assert!(is_echo_reply(&packet, 0x1234));
        assert!(!is_echo_reply(&packet, 0x1235) && !is_echo_reply(&packet[..24], 0x1234));
    }

    #[test]
    fn lost_requests_are_counted_apart() {
        let ms = Duration::from_millis;
        let times = Times { warm_up: ms(0), window: ms(20) };
        let seen = RoundTrips::collect(times, ms(1), |number| Ok(number % 2 == 0)).unwrap();
        assert!(seen.lost > 0 && !seen.us.is_empty(), "{seen:?}");
        assert!(RoundTrips::default().quantiles().is_err());
    }
}
