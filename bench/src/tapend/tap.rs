//! A TAP with virtio-net headers of 12 bytes.
#![expect(unsafe_code, reason = "the TAP's settings are ioctls, which `std` has no name for")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::netns::Netns;

use crate::io_error;

/// Before each frame: `struct virtio_net_hdr_mrg_rxbuf`.
pub(super) const HEADER_LEN: usize = 12;
/// Frames that wait in a TAP before it drops: some hundred super-frames.
const QUEUE_FRAMES: u32 = 4096;

/// Makes the TAP `interface` in `netns` and sets it up.
///
/// # Errors
/// `ip` refuses it.
pub fn make_tap(netns: &Netns, interface: &str, mtu: u32) -> Result<()> {
    netns.ip(&format!("tuntap add {interface} mode tap vnet_hdr"))?;
    netns.ip(&format!(
        "link set {interface} mtu {mtu} txqueuelen {QUEUE_FRAMES} addrgenmode none up"
    ))?;
    Ok(())
}

/// An open TAP; reads and writes never wait.
#[derive(Debug)]
pub(super) struct Tap {
    /// Each read or write is one frame, behind its header.
    pub(super) file: File,
}

impl Tap {
    /// Attaches to the TAP `interface` of this thread's namespace, with checksums and TCP
    /// segmentation left to us.
    ///
    /// # Errors
    /// It is in use, or we may not.
    pub(super) fn open(interface: &str) -> Result<Self> {
        attach(interface)
            .map(|file| Self { file })
            .map_err(io_error(&format!("cannot attach the TAP {interface}")))
    }
}

fn attach(interface: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open("/dev/net/tun")?;
    let mut request = [0_u8; size_of::<libc::ifreq>()];
    let (name, data) = request.split_at_mut(libc::IFNAMSIZ);
    if interface.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    name.iter_mut().zip(interface.bytes()).for_each(|(to, from)| *to = from);
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let flags = u16::try_from(flags).unwrap_or_default().to_ne_bytes();
    data.iter_mut().zip(flags).for_each(|(to, from)| *to = from);
    // SAFETY: the kernel reads and writes one `struct ifreq`, which the array is as long as.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) })?;
    let len = i32::try_from(HEADER_LEN).unwrap_or_default();
    // SAFETY: the kernel reads one int.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) })?;
    let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let offloads = libc::c_ulong::from(offloads);
    // SAFETY: the argument is a number, not an address.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) })?;
    Ok(file)
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
