//! One UDP socket of a worker: trains out with UDP_SEGMENT, and the layout of what
//! comes in with UDP_GRO.
//!
//! Sends are plain `sendmsg(MSG_DONTWAIT)`. They must stay in order and report a
//! full socket at once; an io_uring send that waits for room would be overtaken by
//! the next, and measured no faster (`docs/decisions/0004-plain-sends.md`).
//! Receives go through the worker's ring.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, RawFd},
    time::{Duration, Instant},
};
use wireonce_frame::ecn::Ecn;
use wireonce_ring::{MsgLayout, ReceivedMsg};

/// Receive buffer that is asked for: some hundred trains.
const RECEIVE_BUFFER_LEN: i32 = 8 << 20;
/// Send buffer that is asked for: it bounds what the host queues for one path.
const SEND_BUFFER_LEN: i32 = 4 << 20;

/// Room for the sender's address and two control messages (GRO size, traffic class).
pub(crate) const RECEIVE_LAYOUT: MsgLayout = MsgLayout { name_len: 32, control_len: 64 };

/// Longest payload of one receive: a whole UDP_GRO super-datagram.
pub(crate) const RECEIVE_PAYLOAD_LEN: usize = 65_536;

// Not in the libc crate for every target, and stable kernel ABI.
const UDP_SEGMENT: i32 = 103;
pub(crate) const UDP_GRO: i32 = 104;

/// How a send ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The kernel took the whole train.
    Yes,
    /// No room now: try the same train again when the socket is writable.
    Busy,
    /// The host has no memory for it now, and cannot say when it has: a poll for room may
    /// be answered at once. Try the same train again after a while.
    Starved,
    /// The kernel will not take this train: it is lost.
    Failed(i32),
}

/// How long a port may stay taken after the process that had it was killed: the kernel gives back
/// what an `io_uring` holds only some time after its process is gone (20-40 ms seen).
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(1);
/// How often a taken port is tried again.
const PREDECESSOR_POLL: Duration = Duration::from_millis(5);

/// Binds, and waits for a predecessor's port to become free: a killed daemon is restarted at once.
fn bind_patiently(local: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let deadline = Instant::now() + PREDECESSOR_LIMIT;
    loop {
        match std::net::UdpSocket::bind(local) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(PREDECESSOR_POLL);
            }
            bound => return bound,
        }
    }
}

/// A bound, unconnected UDP socket.
#[derive(Debug)]
pub(crate) struct FabricSocket {
    socket: std::net::UdpSocket,
    v6: bool,
    /// The kernel refuses every send with this error.
    #[cfg(test)]
    pub(crate) refusal: Option<i32>,
    /// Sends that were refused so.
    #[cfg(test)]
    pub(crate) refused: std::cell::Cell<u64>,
}

impl FabricSocket {
    /// Binds `local` with DF set, UDP_GRO on and as much buffer as we may have.
    pub(crate) fn bind(local: SocketAddr) -> io::Result<Self> {
        let socket = bind_patiently(local)?;
        socket.set_nonblocking(true)?;
        let fd = socket.as_raw_fd();
        let v6 = local.is_ipv6();
        if v6 {
            // PROBE sets DF and ignores ICMP: a stranger cannot shrink our packets.
            set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
            set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        } else {
            set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
            set_option(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        }
        set_option(fd, libc::IPPROTO_UDP, UDP_GRO, 1)?;
        force_buffer(fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BUFFER_LEN)?;
        force_buffer(fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER_LEN)?;
        Ok(Self {
            socket,
            v6,
            #[cfg(test)]
            refusal: None,
            #[cfg(test)]
            refused: std::cell::Cell::new(0),
        })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Sends `bytes` to `to` as datagrams of `datagram_len`, the last may be shorter.
    pub(crate) fn send(
        &self,
        to: &Destination,
        bytes: &[u8],
        datagram_len: usize,
        ecn: Ecn,
    ) -> Sent {
        let mut result = self.send_once(to, bytes, datagram_len, ecn);
        // An ICMP error from an earlier datagram is reported on this one, which then
        // was not sent.
        if result == Err(libc::ECONNREFUSED) {
            result = self.send_once(to, bytes, datagram_len, ecn);
        }
        match result {
            Ok(()) => Sent::Yes,
            Err(libc::EAGAIN) => Sent::Busy,
            Err(libc::ENOBUFS | libc::ENOMEM) => Sent::Starved,
            Err(errno) => Sent::Failed(errno),
        }
    }

    fn send_once(
        &self,
        to: &Destination,
        bytes: &[u8],
        datagram_len: usize,
        ecn: Ecn,
    ) -> Result<(), i32> {
        #[cfg(test)]
        if let Some(errno) = self.refusal {
            self.refused.set(self.refused.get() + 1);
            return Err(errno);
        }
        let mut control = Control::default();
        if bytes.len() > datagram_len {
            let segment = u16::try_from(datagram_len).map_err(|_| libc::EMSGSIZE)?;
            control.push(libc::IPPROTO_UDP, UDP_SEGMENT, &segment.to_ne_bytes());
        }
        if ecn != Ecn::NotEct {
            let class = i32::from(ecn.bits()).to_ne_bytes();
            if self.v6 {
                control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class);
            } else {
                control.push(libc::IPPROTO_IP, libc::IP_TOS, &class);
            }
        }
        let mut part =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: all zeroes is a valid msghdr.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = (&raw const to.bytes).cast_mut().cast();
        header.msg_namelen = to.len;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if control.len > 0 {
            header.msg_control = (&raw mut control.bytes).cast();
            header.msg_controllen = control.len;
        }
        // SAFETY: the header points to an address, one readable part and control bytes,
        // all of which live until the call returns; the kernel writes to none of them.
        let n = unsafe { libc::sendmsg(self.fd(), &raw const header, libc::MSG_DONTWAIT) };
        match usize::try_from(n) {
            Ok(n) if n == bytes.len() => Ok(()),
            Ok(_) => Err(libc::EMSGSIZE),
            Err(_) => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    /// Datagrams that the kernel dropped because this socket's buffer was full.
    pub(crate) fn kernel_drops(&self) -> u64 {
        const SK_MEMINFO_DROPS: usize = 8;
        let mut info = [0_u32; 9];
        let mut len = libc::socklen_t::try_from(size_of_val(&info)).unwrap_or(0);
        // SAFETY: `info` has room for `len` bytes.
        let result = unsafe {
            libc::getsockopt(
                self.fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                (&raw mut info).cast(),
                &raw mut len,
            )
        };
        if result == 0 { u64::from(info[SK_MEMINFO_DROPS]) } else { 0 }
    }
}

/// A peer's socket address in the kernel's form, made once.
#[derive(Clone)]
pub(crate) struct Destination {
    bytes: [u8; size_of::<libc::sockaddr_in6>()],
    len: libc::socklen_t,
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Destination").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Destination {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut bytes = [0; size_of::<libc::sockaddr_in6>()];
        let port = address.port().to_be_bytes();
        bytes[2..4].copy_from_slice(&port);
        let (family, len) = match address.ip() {
            IpAddr::V4(ip) => {
                bytes[4..8].copy_from_slice(&ip.octets());
                (libc::AF_INET, size_of::<libc::sockaddr_in>())
            }
            IpAddr::V6(ip) => {
                bytes[8..24].copy_from_slice(&ip.octets());
                (libc::AF_INET6, size_of::<libc::sockaddr_in6>())
            }
        };
        let family = libc::sa_family_t::try_from(family).unwrap_or(0).to_ne_bytes();
        bytes[..2].copy_from_slice(&family);
        Self { bytes, len: libc::socklen_t::try_from(len).unwrap_or(0) }
    }
}

/// What the control messages of a receive say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Length of each datagram in the buffer; the last may be shorter.
    pub(crate) datagram_len: usize,
    /// ECN bits of the outer header.
    pub(crate) ecn: Ecn,
}

impl Arrival {
    pub(crate) fn of(msg: &ReceivedMsg<'_>) -> Self {
        let int = |data: &[u8]| data.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
        let gro = msg.control_data(libc::IPPROTO_UDP, UDP_GRO).and_then(int);
        let datagram_len = gro.and_then(|len| usize::try_from(len).ok()).filter(|len| *len > 0);
        let class = msg
            .control_data(libc::IPPROTO_IP, libc::IP_TOS)
            .and_then(|data| data.first().copied())
            .or_else(|| {
                let data = msg.control_data(libc::IPPROTO_IPV6, libc::IPV6_TCLASS)?;
                int(data).map(|class| class.to_le_bytes()[0])
            });
        Self {
            datagram_len: datagram_len.unwrap_or(msg.payload.len()).max(1),
            ecn: class.map_or(Ecn::NotEct, Ecn::from_bits),
        }
    }
}

/// Control messages of one send.
#[repr(C, align(8))]
struct Control {
    bytes: [u8; 64],
    len: usize,
}

impl Default for Control {
    fn default() -> Self {
        Self { bytes: [0; 64], len: 0 }
    }
}

impl Control {
    const HEADER_LEN: usize = size_of::<libc::cmsghdr>();

    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let len = Self::HEADER_LEN + data.len();
        let Some(slot) = self.bytes.get_mut(self.len..self.len + len) else { return };
        let (header, rest) = slot.split_at_mut(Self::HEADER_LEN);
        header[..8].copy_from_slice(&len.to_ne_bytes());
        header[8..12].copy_from_slice(&level.to_ne_bytes());
        header[12..16].copy_from_slice(&kind.to_ne_bytes());
        rest.copy_from_slice(data);
        self.len += len.next_multiple_of(8);
    }
}

fn set_option(fd: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the option's value is one readable int.
    let result = unsafe {
        libc::setsockopt(
            fd,
            level,
            option,
            (&raw const value).cast(),
            libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets a buffer length past the system's limit where we may, up to it elsewhere.
fn force_buffer(fd: RawFd, force: i32, plain: i32, len: i32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, force, len)
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, plain, len))
}
