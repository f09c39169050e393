//! The system calls that neither std nor rustix has: signals by waiting for them,
//! and a few socket options.
#![expect(unsafe_code, reason = "these calls have no safe wrapper among the dependencies")]

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

/// The signals that a daemon waits for.
const AWAITED: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// What somebody wants of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// It is to end: the signal's name.
    Stop(&'static str),
    /// It is to read its file again.
    Reload,
}

/// A set of signals.
#[derive(Clone, Copy)]
pub(crate) struct Signals(libc::sigset_t);

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

impl Signals {
    /// Keeps SIGINT, SIGTERM and SIGHUP from this thread and from all that it starts
    /// later: they stay pending until [`Self::wait`]. Call it before the first thread starts.
    pub(crate) fn block() -> io::Result<Self> {
        // SAFETY: a signal set is plain data, for which all zero is a value.
        let mut set: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: `set` is valid for writing.
        unsafe { libc::sigemptyset(&raw mut set) };
        for signal in AWAITED {
            // SAFETY: `set` is an initialised set, and the signal numbers exist.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        // SAFETY: `set` is valid for reading, and the old mask is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) } {
            0 => Ok(Self(set)),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Waits for one of the signals.
    pub(crate) fn wait(self) -> io::Result<Signal> {
        let mut signal = 0;
        // SAFETY: both pointers are to live values of the right type.
        match unsafe { libc::sigwait(&raw const self.0, &raw mut signal) } {
            0 if signal == libc::SIGHUP => Ok(Signal::Reload),
            0 if signal == libc::SIGINT => Ok(Signal::Stop("SIGINT")),
            0 => Ok(Signal::Stop("SIGTERM")),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Sends on `socket` are cut into datagrams of `len` bytes (UDP_SEGMENT).
pub(crate) fn set_udp_segment(socket: impl AsFd, len: libc::c_int) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, len)
}

/// Receives on `socket` may return several datagrams in one (UDP_GRO).
pub(crate) fn set_udp_gro(socket: impl AsFd) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Frames on a packet socket carry a virtio-net header (PACKET_VNET_HDR).
pub(crate) fn set_packet_vnet_header(socket: impl AsFd) -> io::Result<()> {
    set_option(socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)
}

fn set_option(
    socket: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed for the call, and the pointer is to `len`
    // readable bytes.
    match unsafe { libc::setsockopt(socket, level, option, (&raw const value).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
