//! Sockets: segmentation and coalescing of UDP, packet sockets, buffers, TAP.

use super::Finding;
use crate::sys;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use std::{
    fs,
    io::{self, ErrorKind},
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

/// Bytes of one datagram of a probe's train.
const SEGMENT_LEN: usize = 100;
/// How long a datagram may take across loopback.
const PATIENCE: Duration = Duration::from_secs(1);
/// The receive buffer that a worker asks for, in bytes.
const BUFFER_LEN: usize = 8 << 20;

/// All of them.
pub(super) fn all() -> Vec<Finding> {
    vec![udp_segment(), udp_gro(), packet_socket(), tun(), buffers()]
}

/// How many datagrams one send may carry.
fn udp_segment() -> Finding {
    const CHECK: &str = "UDP_SEGMENT";
    match longest_train() {
        Ok(Some(limit @ 128..)) => {
            Finding::ok(CHECK, format!("one send carries {limit} datagrams"))
        }
        Ok(Some(limit @ 64..)) => {
            Finding::ok(CHECK, format!("one send carries {limit} datagrams; newer kernels, 128"))
        }
        Ok(limit) => Finding::fail(
            CHECK,
            format!("one send carries {} datagrams, not 64", limit.unwrap_or(0)),
            "boot a kernel of 6.1 or later",
        ),
        Err(error) => Finding::fail(
            CHECK,
            format!("does not work on loopback: {error}"),
            "ip link set lo up, and boot a kernel of 6.1 or later",
        ),
    }
}

/// The longest of a few trains that the kernel takes.
fn longest_train() -> io::Result<Option<usize>> {
    let (sender, receiver) = pair()?;
    sys::set_udp_segment(&sender, segment_len()?)?;
    for count in [128, 64, 2] {
        match sender.send(&vec![0; count * SEGMENT_LEN]) {
            Ok(_) => {
                // What was sent as one must arrive as many.
                let len = receiver.recv(&mut vec![0; count * SEGMENT_LEN])?;
                return Ok((len == SEGMENT_LEN).then_some(count));
            }
            Err(error) if error.kind() == ErrorKind::InvalidInput => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether one receive returns several datagrams.
fn udp_gro() -> Finding {
    const CHECK: &str = "UDP_GRO";
    let advice = "boot a kernel of 6.1 or later";
    let coalesced = || -> io::Result<bool> {
        let (sender, receiver) = pair()?;
        sys::set_udp_gro(&receiver)?;
        sys::set_udp_segment(&sender, segment_len()?)?;
        sender.send(&[0; 8 * SEGMENT_LEN])?;
        Ok(receiver.recv(&mut [0; 8 * SEGMENT_LEN])? > SEGMENT_LEN)
    };
    match coalesced() {
        Ok(true) => Finding::ok(CHECK, "one receive returns several datagrams"),
        Ok(false) => Finding::warn(CHECK, "accepted, but datagrams arrive one by one", advice),
        Err(error) => Finding::fail(CHECK, format!("does not work: {error}"), advice),
    }
}

/// A connected pair of UDP sockets on loopback.
fn pair() -> io::Result<(UdpSocket, UdpSocket)> {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    sender.connect(receiver.local_addr()?)?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    Ok((sender, receiver))
}

fn segment_len() -> io::Result<i32> {
    i32::try_from(SEGMENT_LEN).map_err(io::Error::other)
}

/// The socket behind uplinks of driver "packet". It is bound to nothing.
fn packet_socket() -> Finding {
    const CHECK: &str = "packet socket";
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None);
    let tried = socket.map_err(io::Error::from).and_then(sys::set_packet_vnet_header);
    match tried {
        Ok(()) => Finding::ok(CHECK, "AF_PACKET with PACKET_VNET_HDR works"),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::warn(
            CHECK,
            "not allowed: a gateway needs CAP_NET_RAW for driver \"packet\"",
            "run as root, or with AmbientCapabilities=CAP_NET_RAW as in wireonce-gateway.service",
        ),
        Err(error) => Finding::warn(
            CHECK,
            format!("does not work, so driver \"packet\" cannot: {error}"),
            "modprobe af_packet",
        ),
    }
}

/// The device behind uplinks of driver "tap".
fn tun() -> Finding {
    const CHECK: &str = "tap";
    match fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Finding::ok(CHECK, "/dev/net/tun opens"),
        Err(error) => Finding::warn(
            CHECK,
            format!("/dev/net/tun: {error}; driver \"tap\" cannot work"),
            "modprobe tun",
        ),
    }
}

/// Whether a worker gets the socket buffers that it asks for.
fn buffers() -> Finding {
    const CHECK: &str = "socket buffers";
    let sizes = || -> io::Result<(bool, usize, usize)> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let forced = sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_LEN).is_ok();
        if !forced {
            sockopt::set_socket_recv_buffer_size(&socket, BUFFER_LEN)?;
        }
        sockopt::set_socket_send_buffer_size(&socket, BUFFER_LEN)?;
        // The kernel doubles what it was asked for, to account for its own overhead.
        let received = sockopt::socket_recv_buffer_size(&socket)? / 2;
        Ok((forced, received, sockopt::socket_send_buffer_size(&socket)? / 2))
    };
    let limit = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap_or_default();
        format!("net.core.{name} = {}", text.trim())
    };
    match sizes() {
        Ok((true, ..)) => Finding::ok(CHECK, "SO_RCVBUFFORCE works: limits do not matter"),
        Ok((false, received, _)) if received >= BUFFER_LEN => {
            Finding::ok(CHECK, format!("{} is enough", limit("rmem_max")))
        }
        Ok((false, received, sent)) => Finding::warn(
            CHECK,
            format!(
                "{} KiB to receive, {} KiB to send: bursts may be lost ({}, {})",
                received >> 10,
                sent >> 10,
                limit("rmem_max"),
                limit("wmem_max"),
            ),
            format!(
                "sysctl -w net.core.rmem_max={BUFFER_LEN} net.core.wmem_max={BUFFER_LEN}, \
                 or give the unit CAP_NET_ADMIN"
            ),
        ),
        Err(error) => Finding::fail(CHECK, format!("no UDP socket: {error}"), "ip link set lo up"),
    }
}
