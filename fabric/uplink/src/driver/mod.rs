//! How a gateway reaches an uplink's wire.
//!
//! ```text
//!            receive()                              transmit()
//!   wire ──▶ packet: multishot recvmsg, auxdata     packet: ring send   ──▶ wire
//!   wire ──▶ tap:    multishot poll + read          tap:    ring write  ──▶ wire
//!                │                                    ▲
//!                ▼                                    │
//!        Received { vnet, vlan, frame }       vnet + vlan + gather list
//! ```
//!
//! Both drivers carry a virtio-net header in front of each frame, so a 64 KB TCP
//! segment crosses the kernel's border whole, with its checksum open, in both
//! directions; the NIC (or the kernel, if the NIC cannot) cuts it.
//!
//! Small frames of one flow that wait together are joined into one such segment
//! (`coalesce`): a frame costs the kernel more than its bytes do.
//!
//! The VLAN is beside the frame on the inside: a tag is taken off when a frame
//! comes in and put in when it goes out, whether the kernel keeps it in the frame
//! (TAP) or beside it (packet sockets).

mod coalesce;
mod packet;
mod tap;
#[cfg(test)]
mod tests;
mod transmit;
mod vlan;

pub use packet::{FanoutGroup, PacketDriver};
pub use tap::TapDriver;
pub use transmit::{Booking, Sent, SentOutcome, Transmit};
pub use vlan::FOREIGN_TAG;

use crate::sys;
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};
use wireonce_frame::VNET_HEADER_LEN;
use wireonce_ring::{Completion, Ring, RingError, Token};

/// One frame from outside, in the driver's receive buffer.
#[derive(Debug, Clone, Copy)]
pub struct Received<'b> {
    /// The kernel's virtio-net header; `num_buffers` is zero.
    pub vnet: [u8; VNET_HEADER_LEN],
    /// The VLAN that the frame came on; `None` is untagged or priority-tagged,
    /// [`FOREIGN_TAG`] a tag that is not an 802.1Q one.
    pub vlan: Option<u16>,
    /// The frame, without the tag that `vlan` stands for.
    pub frame: &'b [u8],
}

/// What a driver counts beside the ledger. All of these only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DriverCounters {
    /// Frames that the kernel dropped because we were late.
    pub kernel_drops: u64,
    /// Frames that did not fit in a buffer or came without a whole header.
    pub unreadable: u64,
    /// Times that receiving ended with an error and was started again.
    pub receive_errors: u64,
    /// Times that the interface was gone and came back.
    pub reopened: u64,
    /// Small frames that were appended to an earlier one of their flow.
    pub frames_joined: u64,
    /// Frames that they were appended to: what went to the kernel in their stead.
    pub super_frames: u64,
    /// Bytes of the appended frames' headers, which the kernel did not get.
    pub joined_header_bytes: u64,
    /// Times that the kernel refused one, after which that kind (TCP or UDP) is not made.
    pub joining_refused: u64,
}

/// An interface cannot be used as an uplink.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The kernel refused a step of opening.
    #[error("cannot use interface `{interface}` as an uplink: {what}: {source}; {remedy}")]
    Open {
        /// The interface.
        interface: String,
        /// What failed.
        what: &'static str,
        /// Why.
        source: io::Error,
        /// What would be right.
        remedy: &'static str,
    },
    /// The ring refused an operation.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// The kind of access to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// An AF_PACKET socket on an existing interface.
    Packet,
    /// A TAP device.
    Tap,
}

/// Which port a driver opens, and under which tokens it works.
#[derive(Debug, Clone)]
pub struct Port {
    /// The kind of access.
    pub access: Access,
    /// The network interface.
    pub interface: String,
    /// Several workers receive from it, flow by flow. `None`: this one has it alone.
    pub group: Option<Arc<FanoutGroup>>,
    /// The token of the receive operation; its `generation` is replaced.
    pub receive: Token,
    /// The token of sends; its low 16 `index` bits are replaced.
    pub transmit: Token,
}

/// An open port, one way or the other.
#[derive(Debug)]
pub enum Driver {
    /// An AF_PACKET socket on an existing interface.
    Packet(PacketDriver),
    /// A TAP device.
    Tap(TapDriver),
}

impl Driver {
    /// Opens the port and starts to receive. Each driver reserves about 4 MB of
    /// receive buffers (packet) or 64 KB (TAP).
    ///
    /// # Errors
    /// [`DriverError`], with what to do about it.
    pub fn open(port: Port, ring: &mut Ring) -> Result<Self, DriverError> {
        match port.access {
            Access::Packet => PacketDriver::open(port, ring).map(Self::Packet),
            Access::Tap => TapDriver::open(port, ring).map(Self::Tap),
        }
    }

    /// Handles a completion of the receive token: hands each frame to `sink`.
    ///
    /// # Errors
    /// [`RingError`] if receiving cannot go on.
    pub fn receive(
        &mut self,
        ring: &mut Ring,
        completion: &Completion,
        sink: &mut impl FnMut(Received<'_>),
    ) -> Result<(), RingError> {
        match self {
            Self::Packet(driver) => driver.receive(ring, completion, sink),
            Self::Tap(driver) => driver.receive(ring, completion, sink),
        }
    }

    /// True if frames wait that no completion will tell of: call
    /// [`Self::receive_more`] before sleeping.
    #[must_use]
    pub fn has_more(&self) -> bool {
        match self {
            Self::Packet(_) => false,
            Self::Tap(driver) => driver.has_more(),
        }
    }

    /// Reads on where [`Self::receive`] stopped at its bound.
    pub fn receive_more(&mut self, sink: &mut impl FnMut(Received<'_>)) {
        match self {
            Self::Packet(_) => {}
            Self::Tap(driver) => driver.receive_more(sink),
        }
    }

    /// The sending half.
    pub fn transmit(&mut self) -> &mut Transmit {
        match self {
            Self::Packet(driver) => driver.transmit(),
            Self::Tap(driver) => driver.transmit(),
        }
    }

    /// Whether the port is up and has a carrier.
    #[must_use]
    pub fn has_carrier(&self) -> bool {
        match self {
            Self::Packet(driver) => carrier(driver.socket(), driver.interface()),
            Self::Tap(driver) => carrier(driver.control(), driver.interface()),
        }
    }

    /// Bytes of the largest IP packet that the interface sends; `None` while it is gone.
    #[must_use]
    pub fn mtu(&self) -> Option<u16> {
        let mtu = match self {
            Self::Packet(driver) => sys::interface_mtu(driver.socket(), driver.interface()),
            Self::Tap(driver) => sys::interface_mtu(driver.control(), driver.interface()),
        };
        // Loopback and TAPs allow more than an IP packet can have.
        mtu.ok().map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX))
    }

    /// Looks at what changes outside the ring: reads the kernel's drop count, and
    /// opens the port again if its interface was replaced. Call it now and then.
    ///
    /// # Errors
    /// [`DriverError`] if the new interface cannot be used; try again later.
    pub fn refresh(&mut self, ring: &mut Ring) -> Result<(), DriverError> {
        match self {
            Self::Packet(driver) => driver.refresh(ring),
            Self::Tap(driver) => driver.refresh(ring),
        }
    }

    /// The counters so far.
    #[must_use]
    pub fn counters(&self) -> DriverCounters {
        let (counters, transmit) = match self {
            Self::Packet(driver) => driver.counters(),
            Self::Tap(driver) => driver.counters(),
        };
        let joined = transmit.joined();
        DriverCounters {
            frames_joined: joined.frames,
            super_frames: joined.trains,
            joined_header_bytes: joined.header_bytes,
            joining_refused: joined.refused,
            ..counters
        }
    }

    /// Whether receiving has ended after [`Self::close`], and all that was sent is with
    /// the kernel.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Packet(driver) => driver.is_closed(),
            Self::Tap(driver) => driver.is_closed(),
        }
    }

    /// Gives back what a closed port had of the ring.
    pub fn release(self, ring: &mut Ring) {
        match self {
            Self::Packet(driver) => driver.release(ring),
            Self::Tap(_) => {}
        }
    }

    /// Stops receiving. The last completion still comes.
    ///
    /// # Errors
    /// [`RingError`] if the ring takes no more operations.
    pub fn close(&mut self, ring: &mut Ring) -> Result<(), RingError> {
        match self {
            Self::Packet(driver) => driver.close(ring),
            Self::Tap(driver) => driver.close(ring),
        }
    }
}

fn carrier(socket: &OwnedFd, interface: &str) -> bool {
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    let is_up = sys::interface_flags(socket, interface).is_ok_and(|flags| flags & up == up);
    // A driver that cannot tell has what the flags say.
    is_up && sys::has_link(socket, interface).unwrap_or(true)
}

/// The kernel's receive and send buffers: as large as we want if allowed to, else as
/// large as we may. Returns the lesser of both in bytes.
fn enlarge_buffers(socket: &OwnedFd, bytes: i32) -> io::Result<i32> {
    let one = |force, soft| {
        if sys::set_option(socket, libc::SOL_SOCKET, force, bytes).is_err() {
            sys::set_option(socket, libc::SOL_SOCKET, soft, bytes)?;
        }
        // The kernel doubles what it was asked for, to pay for its own overhead.
        sys::int_option(socket, libc::SOL_SOCKET, soft).map(|granted| granted / 2)
    };
    let receive = one(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF)?;
    let send = one(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)?;
    Ok(receive.min(send))
}

fn raw(fd: &impl AsRawFd) -> i32 {
    fd.as_raw_fd()
}
