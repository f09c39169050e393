//! System calls that `std` has no name for, each behind a safe function.
//!
//! This is the only module of the crate with `unsafe`. Each function owns what the
//! kernel reads or writes for as long as the call takes; nothing is kept.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// Length of the virtio-net header in front of each frame on packet sockets and
/// TAPs (`struct virtio_net_hdr`, without `num_buffers`).
pub(crate) const VNET_LEN: usize = 10;

/// What a packet socket says beside a frame (`PACKET_AUXDATA`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AuxData {
    pub(crate) status: u32,
    pub(crate) vlan_tci: u16,
    pub(crate) vlan_tpid: u16,
}

impl AuxData {
    /// From the data of a control message: `struct tpacket_auxdata`.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let word = |at| data.get(at..).and_then(|d| d.first_chunk().copied());
        let half = |at| data.get(at..).and_then(|d| d.first_chunk().copied());
        Some(Self {
            status: u32::from_ne_bytes(word(0)?),
            vlan_tci: u16::from_ne_bytes(half(16)?),
            vlan_tpid: u16::from_ne_bytes(half(18)?),
        })
    }
}

/// Counters of a packet socket (`PACKET_STATISTICS`); reading clears them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PacketStatistics {
    pub(crate) packets: u32,
    pub(crate) drops: u32,
}

/// An option's value that is plain bytes without padding.
pub(crate) trait Plain: Copy {}
impl Plain for i32 {}
impl Plain for libc::packet_mreq {}

/// A packet socket that does not receive yet: its protocol is set by [`bind_packet`].
pub(crate) fn packet_socket(nonblocking: bool) -> io::Result<OwnedFd> {
    let flags = if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    // SAFETY: no memory is passed.
    owned(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags, 0) })
}

/// Ties a packet socket to one interface. With `receive` it gets all frames from
/// now on, otherwise none.
pub(crate) fn bind_packet(socket: &OwnedFd, interface: u32, receive: bool) -> io::Result<()> {
    const ETH_P_ALL: u16 = 3;
    let index = i32::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: all zeroes is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
    address.sll_protocol = if receive { ETH_P_ALL.to_be() } else { 0 };
    address.sll_ifindex = index;
    let len = len_of::<libc::sockaddr_ll>();
    // SAFETY: the address is readable for `len` bytes.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })
}

/// Sets a socket option.
pub(crate) fn set_option<T: Plain>(
    socket: &OwnedFd,
    level: i32,
    name: i32,
    value: T,
) -> io::Result<()> {
    let len = len_of::<T>();
    // SAFETY: the value is readable for `len` bytes and has no padding (`Plain`).
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len)
    })
}

/// How long a read of a socket may wait.
#[cfg(test)]
pub(crate) fn set_receive_timeout(
    socket: &OwnedFd,
    timeout: std::time::Duration,
) -> io::Result<()> {
    let time = libc::timeval { tv_sec: timeout.as_secs().cast_signed(), tv_usec: 0 };
    let len = len_of::<libc::timeval>();
    let value = (&raw const time).cast();
    // SAFETY: the value is readable for `len` bytes.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, value, len)
    })
}

/// Reads one frame of a packet socket, and what the kernel says beside it.
#[cfg(test)]
pub(crate) fn receive_with_aux(
    socket: &File,
    buffer: &mut [u8],
    flags: i32,
) -> io::Result<(usize, Option<AuxData>)> {
    /// `struct cmsghdr` on a 64-bit machine; there is no other control message.
    const HEADER_LEN: usize = 16;
    let mut control = [0_u64; 8];
    let base = buffer.as_mut_ptr().cast();
    let mut part = libc::iovec { iov_base: base, iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: buffer and control data are writable for the lengths given.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let control: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let control = control.get(..message.msg_controllen).unwrap_or_default();
    Ok((len, control.get(HEADER_LEN..).and_then(AuxData::parse)))
}

/// Reads an integer socket option.
pub(crate) fn int_option(socket: &OwnedFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut len = len_of::<i32>();
    let out = (&raw mut value).cast();
    // SAFETY: the value is writable for `len` bytes.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, out, &raw mut len) })?;
    Ok(value)
}

/// Reads and clears a packet socket's counters.
pub(crate) fn packet_statistics(socket: &OwnedFd) -> io::Result<PacketStatistics> {
    let mut counts = [0_u32; 2];
    let mut len = len_of::<[u32; 2]>();
    let out = (&raw mut counts).cast();
    // SAFETY: `struct tpacket_stats` is two u32, and that many bytes are writable.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            out,
            &raw mut len,
        )
    })?;
    Ok(PacketStatistics { packets: counts[0], drops: counts[1] })
}

/// How a group shares frames. It has its own say on outgoing ones;
/// `PACKET_IGNORE_OUTGOING` does not count.
const FANOUT_MODE: u32 = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;

/// Shares what an interface receives among the sockets of a new group, flow by flow.
/// Returns the group's number, which the kernel chooses.
pub(crate) fn new_fanout(socket: &OwnedFd) -> io::Result<u16> {
    let argument = (FANOUT_MODE | libc::PACKET_FANOUT_FLAG_UNIQUEID) << 16;
    set_option(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, argument.cast_signed())?;
    let group = int_option(socket, libc::SOL_PACKET, libc::PACKET_FANOUT)?;
    u16::try_from(group & 0xffff).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Joins a group of [`new_fanout`].
pub(crate) fn join_fanout(socket: &OwnedFd, group: u16) -> io::Result<()> {
    let argument = u32::from(group) | FANOUT_MODE << 16;
    set_option(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, argument.cast_signed())
}

/// Makes the kernel skip frames that are addressed to the host's own MAC address:
/// no vNIC has it, and on a NIC that also carries the fabric they are all our trains.
pub(crate) fn skip_frames_to_host(socket: &OwnedFd) -> io::Result<()> {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let code = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let packet_type = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
    let mut program = [
        code(LOAD_BYTE, 0, 0, packet_type),
        code(JUMP_EQUAL, 0, 1, u32::from(libc::PACKET_HOST)),
        code(RETURN, 0, 0, 0),
        code(RETURN, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    let len = len_of::<libc::sock_fprog>();
    // SAFETY: the program outlives the call, in which the kernel copies it.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            len,
        )
    })
}

/// The interface's number in this network namespace.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a string that ends with a zero byte.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// The interface's `IFF_*` flags, asked through any socket.
pub(crate) fn interface_flags(socket: &OwnedFd, name: &str) -> io::Result<i32> {
    let mut request = Request::new(name)?;
    request.ioctl(socket, libc::SIOCGIFFLAGS)?;
    Ok(i32::from(u16::from_ne_bytes([request.0[NAME_LEN], request.0[NAME_LEN + 1]])))
}

/// Whether the interface has a carrier at this moment. The flags say so only when the kernel has dealt
/// with the change, for which it takes up to a second where a carrier comes and goes.
///
/// # Errors
/// There is no such interface, or its driver cannot tell.
pub(crate) fn has_link(socket: &OwnedFd, name: &str) -> io::Result<bool> {
    // `struct ethtool_value`: the command, then the answer.
    let mut value = [ETHTOOL_GLINK, 0];
    let mut request = Request::new(name)?;
    request.set_address(value.as_mut_ptr().expose_provenance());
    request.ioctl(socket, SIOCETHTOOL)?;
    Ok(value[1] != 0)
}

/// Sets the interface up if it is not; needs CAP_NET_ADMIN.
pub(crate) fn set_interface_up(socket: &OwnedFd, name: &str) -> io::Result<()> {
    let flags = interface_flags(socket, name)?;
    if flags & libc::IFF_UP != 0 {
        return Ok(());
    }
    let flags = u16::try_from(flags | libc::IFF_UP).unwrap_or(0);
    let mut request = Request::new(name)?;
    request.set_data(&flags.to_ne_bytes());
    request.ioctl(socket, libc::SIOCSIFFLAGS)
}

/// The interface's MTU: bytes of the largest IP packet.
pub(crate) fn interface_mtu(socket: &OwnedFd, name: &str) -> io::Result<u32> {
    let mut request = Request::new(name)?;
    request.ioctl(socket, libc::SIOCGIFMTU)?;
    Ok(u32::from_ne_bytes(*request.0[NAME_LEN..].first_chunk().ok_or(io::ErrorKind::Other)?))
}

/// Any socket, for questions about interfaces.
pub(crate) fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })
}

/// Makes `file`, an open `/dev/net/tun`, the TAP `name`, created if it is not there.
/// With `several_queues` others may attach to it too, each to a queue of its own.
pub(crate) fn attach_tap(file: &File, name: &str, several_queues: bool) -> io::Result<()> {
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if several_queues {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let mut request = Request::new(name)?;
    request.set_data(&u16::try_from(flags).unwrap_or(0).to_ne_bytes());
    request.ioctl(file, libc::TUNSETIFF)?;
    let len = i32::try_from(VNET_LEN).unwrap_or(0);
    // SAFETY: the kernel reads one int.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) })
}

/// Tells the kernel which offloads we take when we read from the TAP.
pub(crate) fn set_tap_offloads(file: &File) -> io::Result<()> {
    let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let offloads = libc::c_ulong::from(offloads);
    // SAFETY: the argument is a number, not an address.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) })
}

/// A netlink socket that becomes readable whenever an interface changes.
pub(crate) fn link_events() -> io::Result<File> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is passed.
    let fd = owned(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) })?;
    // SAFETY: all zeroes is a valid sockaddr_nl.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = u16::try_from(libc::AF_NETLINK).unwrap_or(0);
    address.nl_groups = libc::RTMGRP_LINK.cast_unsigned();
    let len = len_of::<libc::sockaddr_nl>();
    // SAFETY: the address is readable for `len` bytes.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(File::from(fd))
}

const NAME_LEN: usize = libc::IFNAMSIZ;
/// From linux/sockios.h and linux/ethtool.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GLINK: u32 = 10;

/// `struct ifreq`: the interface's name, then the data of the request.
struct Request([u8; NAME_LEN + 24]);

impl Request {
    fn new(name: &str) -> io::Result<Self> {
        let mut bytes = [0; NAME_LEN + 24];
        if name.is_empty() || name.len() >= NAME_LEN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self(bytes))
    }

    fn set_data(&mut self, data: &[u8; 2]) {
        self.0[NAME_LEN..NAME_LEN + 2].copy_from_slice(data);
    }

    /// Where the kernel reads and writes what does not fit here; the caller keeps it until then.
    fn set_address(&mut self, address: usize) {
        let bytes = address.to_ne_bytes();
        self.0[NAME_LEN..NAME_LEN + bytes.len()].copy_from_slice(&bytes);
    }

    fn ioctl(&mut self, fd: &impl AsRawFd, request: libc::Ioctl) -> io::Result<()> {
        // SAFETY: every request used here reads and writes one `struct ifreq`, which is 40
        // bytes long on 64-bit and 32 on 32-bit machines.
        check(unsafe { libc::ioctl(fd.as_raw_fd(), request, self.0.as_mut_ptr()) })
    }
}

fn len_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the descriptor is new and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
