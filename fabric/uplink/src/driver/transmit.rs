//! The sending half of a port: frames into the ring, their fate out of it.
//!
//! ```text
//!   queue(frame) ─▶ waiting ─ submit(ring) ─▶ kernel ─ finish(completion) ─▶ Sent
//!                   └──────── bounded in frames and bytes ────────┘
//! ```
//!
//! A frame is copied once, behind its virtio-net header, into a buffer that the
//! ring owns until the kernel has read it. Queueing needs no ring, so that frames
//! can be queued while a fabric completion is being taken apart. Behind the bound
//! the port is busy, and the caller drops.
//!
//! A small frame that goes on where a waiting one of its flow ends is appended to it, and
//! booked with it (`super::coalesce`).
//!
//! A large frame that nothing waits in front of is written at once, from where it
//! lies: what a batch saves is little against its copy.

use super::{
    coalesce::{Arrival, Coalescer, JoinCounters, Waiting},
    vlan::{self, MACS_LEN},
};
use crate::{books::Owner, sys::VNET_LEN};
use rustix::{
    io::Errno,
    net::{self, SendAncillaryBuffer, SendFlags},
};
use std::{
    io::IoSlice,
    os::fd::{AsRawFd, OwnedFd},
};
use wireonce_frame::{
    FRAME_LEN_MAX, FrameRef, VNET_HEADER_LEN,
    coalesce::{Flow, JoinKind},
};
use wireonce_ledger::Amount;
use wireonce_ring::{Completion, Ring, RingError, Token};

/// Frames from this length on are large: a copy costs more than a system call.
const LARGE_LEN: usize = 8192;
/// Parts of a frame that one system call takes: those of the fabric and the header.
const PARTS_MAX: usize = wireonce_wire::GATHER_PARTS_MAX + 1;

/// Frames that may wait or be with the kernel: what three full receive buffers of the
/// fabric hold if all frames are small.
const FRAMES_MAX: usize = 2048;
/// Bytes that may wait or be with the kernel.
const BYTES_MAX: usize = 8 << 20;
/// Buffers up to this size are kept apart from those for large segments.
const SMALL_LEN: usize = 2048;
/// Room for any frame.
const LARGE_ROOM: usize = VNET_LEN + vlan::TAG_LEN as usize + FRAME_LEN_MAX;
/// Spare buffers that are kept of each size.
const SPARE_SMALL: usize = 512;
const SPARE_LARGE: usize = 64;

/// In whose book a sent frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Booking {
    /// Who sent it.
    pub owner: Owner,
    /// How much it is.
    pub amount: Amount,
}

/// What became of a frame.
#[derive(Debug)]
pub struct Sent {
    /// Its booking.
    pub booking: Booking,
    /// Its fate.
    pub outcome: SentOutcome,
    /// It was several frames.
    pub joined: Option<JoinKind>,
}

/// The fate of a frame that was handed to the kernel.
#[derive(Debug)]
pub enum SentOutcome {
    /// The kernel has it.
    Done,
    /// The kernel's queue was full.
    Busy,
    /// The kernel refused a large segment or an open checksum. The bytes are the
    /// virtio-net header (10 bytes) and the frame, tag included.
    OffloadRefused(Vec<u8>),
    /// The kernel refused the frame: this errno.
    Failed(i32),
}

/// The port takes no more frames now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// How bytes get to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    /// `send` on a socket.
    Send,
    /// `write` on a character device.
    Write,
}

/// The sending half of a port.
#[derive(Debug)]
pub struct Transmit {
    fd: OwnedFd,
    means: Means,
    token: Token,
    slots: Vec<Option<Slot>>,
    free: Vec<u16>,
    waiting: Vec<Waiting>,
    coalescer: Coalescer,
    bytes_in_flight: usize,
    spare_small: Vec<Vec<u8>>,
    spare_large: Vec<Vec<u8>>,
}

/// What is known of a frame that waits or is with the kernel.
#[derive(Debug, Clone, Copy)]
struct Slot {
    booking: Booking,
    joined: Option<JoinKind>,
}

impl Transmit {
    pub(super) fn new(fd: OwnedFd, means: Means, token: Token) -> Self {
        Self {
            fd,
            means,
            token,
            slots: Vec::new(),
            free: Vec::new(),
            waiting: Vec::new(),
            coalescer: Coalescer::default(),
            bytes_in_flight: 0,
            spare_small: Vec::new(),
            spare_large: Vec::new(),
        }
    }

    /// Sends go through `fd` from now on. Those in flight still report.
    pub(super) fn replace(&mut self, fd: OwnedFd) {
        self.fd = fd;
    }

    /// Queues one frame behind the header `vnet`, on `vlan`, or joins it to one that
    /// waits. `flow`: what is known of it; without, it stays behind and before all others.
    ///
    /// # Errors
    /// [`Busy`] at the bound: nothing was queued.
    pub fn queue(
        &mut self,
        vnet: [u8; VNET_HEADER_LEN],
        vlan: Option<u16>,
        flow: Option<Flow>,
        frame: &FrameRef<'_>,
        booking: Booking,
    ) -> Result<(), Busy> {
        if !self.has_room(frame.frame_len()) || frame.frame_len() > FRAME_LEN_MAX {
            return Err(Busy);
        }
        let arrival = Arrival { flow, owner: booking.owner, vlan, frame };
        if self.join(&arrival, booking.amount).is_some() {
            return Ok(());
        }
        let mut bytes = self.spare(waiting_len(frame.frame_len()));
        compose(&mut bytes, vnet, vlan, frame);
        self.bytes_in_flight += bytes.len();
        let slot = self.book(booking);
        self.waiting.push((slot, bytes));
        self.coalescer.open(&arrival, self.waiting.len() - 1, &mut self.waiting);
        Ok(())
    }

    /// Appends the frame to one that waits, if it may be.
    fn join(&mut self, arrival: &Arrival<'_>, amount: Amount) -> Option<()> {
        let seat = self.coalescer.join(arrival, &mut self.waiting)?;
        let payload_len = arrival.frame.frame_len() - seat.header_len;
        let (slot, bytes) = self.waiting.get_mut(seat.place)?;
        if bytes.len() + payload_len > bytes.capacity() {
            let large = self.spare_large.pop();
            let mut large = large.unwrap_or_else(|| Vec::with_capacity(LARGE_ROOM));
            large.clear();
            large.extend_from_slice(bytes);
            let small = std::mem::replace(bytes, large);
            if self.spare_small.len() < SPARE_SMALL {
                self.spare_small.push(small);
            }
        }
        arrival.frame.parts_from(seat.header_len).for_each(|part| bytes.extend_from_slice(part));
        self.bytes_in_flight += payload_len;
        let slot = self.slots.get_mut(usize::from(*slot))?.as_mut()?;
        slot.booking.amount += amount;
        slot.joined = arrival.flow.and_then(|flow| flow.piece).map(|piece| piece.kind());
        Some(())
    }

    /// Writes a large frame at once, if no frame is before it. `None`: queue it.
    pub fn send_at_once(
        &mut self,
        vnet: [u8; VNET_HEADER_LEN],
        vlan: Option<u16>,
        frame: &FrameRef<'_>,
        booking: Booking,
    ) -> Option<Sent> {
        if frame.frame_len() < LARGE_LEN || self.in_flight() > 0 {
            return None;
        }
        let front = Front::new(vnet, vlan, frame);
        let mut slices = [IoSlice::new(&[]); PARTS_MAX];
        let mut count = 0;
        for part in std::iter::once(front.bytes()).chain(frame.parts_from(front.taken)) {
            *slices.get_mut(count)? = IoSlice::new(part);
            count += 1;
        }
        let slices = slices.get(..count)?;
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let written = match self.means {
            Means::Send => {
                let mut control = SendAncillaryBuffer::default();
                net::sendmsg(&self.fd, slices, &mut control, SendFlags::DONTWAIT)
            }
            Means::Write => rustix::io::writev(&self.fd, slices),
        };
        let result =
            written.map_or_else(Errno::raw_os_error, |n| if n == len { 0 } else { libc::EIO });
        let outcome = match outcome(result, &vnet) {
            // The ring waits for room.
            SentOutcome::Busy => return None,
            SentOutcome::OffloadRefused(_) => {
                let mut bytes = Vec::new();
                compose(&mut bytes, vnet, vlan, frame);
                SentOutcome::OffloadRefused(bytes)
            }
            outcome => outcome,
        };
        Some(Sent { booking, outcome, joined: None })
    }

    /// Moves what is queued to `ring`, in order; it goes to the kernel with the
    /// ring's next `enter`.
    ///
    /// # Errors
    /// [`RingError`] if the ring takes no more operations.
    pub fn submit(&mut self, ring: &mut Ring) -> Result<(), RingError> {
        self.coalescer.close_all(&mut self.waiting);
        for (slot, bytes) in self.waiting.drain(..) {
            let token = Token { index: self.token.index | u32::from(slot), ..self.token };
            match self.means {
                Means::Send => ring.send(self.fd.as_raw_fd(), bytes, token),
                Means::Write => ring.write(self.fd.as_raw_fd(), bytes, token),
            }?;
        }
        Ok(())
    }

    /// Takes a completion of one of our sends: what became of which frame.
    pub fn finish(&mut self, completion: Completion) -> Option<Sent> {
        let slot = u16::try_from(completion.token.index & 0xffff).ok()?;
        let Slot { booking, joined } = self.slots.get_mut(usize::from(slot))?.take()?;
        self.free.push(slot);
        let bytes = completion.sent.unwrap_or_default();
        self.bytes_in_flight = self.bytes_in_flight.saturating_sub(bytes.len());
        let outcome = outcome(-completion.result, &bytes);
        if let SentOutcome::OffloadRefused(_) = outcome {
            joined.into_iter().for_each(|kind| self.coalescer.refuse(kind));
            return Some(Sent { booking, outcome: SentOutcome::OffloadRefused(bytes), joined });
        }
        self.keep(bytes);
        Some(Sent { booking, outcome, joined })
    }

    /// As if the kernel had refused all that waits.
    #[cfg(test)]
    pub(crate) fn refuse_waiting(&mut self) -> Vec<Sent> {
        self.coalescer.close_all(&mut self.waiting);
        let waiting = std::mem::take(&mut self.waiting);
        let refuse = |(slot, bytes)| Completion {
            token: Token { index: self.token.index | u32::from(slot), ..self.token },
            result: -libc::EINVAL,
            more: false,
            buffer: None,
            sent: Some(bytes),
        };
        let refused: Vec<Completion> = waiting.into_iter().map(refuse).collect();
        refused.into_iter().filter_map(|completion| self.finish(completion)).collect()
    }

    /// What joining has done so far.
    pub(super) fn joined(&self) -> JoinCounters {
        self.coalescer.counters
    }

    /// Frames that wait or are with the kernel.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Frames that may still be queued.
    #[must_use]
    pub fn room(&self) -> usize {
        FRAMES_MAX.saturating_sub(self.in_flight())
    }

    /// True if a frame of `len` bytes can be queued.
    #[must_use]
    pub fn has_room(&self, len: usize) -> bool {
        self.in_flight() < FRAMES_MAX && self.bytes_in_flight + waiting_len(len) <= BYTES_MAX
    }

    fn book(&mut self, booking: Booking) -> u16 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u16::try_from(self.slots.len() - 1).unwrap_or(u16::MAX)
        });
        if let Some(place) = self.slots.get_mut(usize::from(slot)) {
            *place = Some(Slot { booking, joined: None });
        }
        slot
    }

    fn spare(&mut self, len: usize) -> Vec<u8> {
        let (spares, size) = if len <= SMALL_LEN {
            (&mut self.spare_small, SMALL_LEN)
        } else {
            (&mut self.spare_large, LARGE_ROOM)
        };
        let mut bytes = spares.pop().unwrap_or_else(|| Vec::with_capacity(size));
        bytes.clear();
        bytes
    }

    fn keep(&mut self, bytes: Vec<u8>) {
        let (spares, most) = if bytes.capacity() <= SMALL_LEN {
            (&mut self.spare_small, SPARE_SMALL)
        } else {
            (&mut self.spare_large, SPARE_LARGE)
        };
        if spares.len() < most && bytes.capacity() > 0 {
            spares.push(bytes);
        }
    }
}

/// Bytes that a frame of `len` bytes takes with what stands before it.
fn waiting_len(len: usize) -> usize {
    VNET_LEN + usize::from(vlan::TAG_LEN) + len
}

/// What a result says, 0 or an errno, of a frame behind the header `vnet`. The bytes of
/// a refused one are left to the caller.
fn outcome(errno: i32, vnet: &[u8]) -> SentOutcome {
    match errno {
        ..=0 => SentOutcome::Done,
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => SentOutcome::Busy,
        libc::EINVAL | libc::EIO | libc::EOPNOTSUPP if has_offload(vnet) => {
            SentOutcome::OffloadRefused(Vec::new())
        }
        errno => SentOutcome::Failed(errno),
    }
}

/// What stands before the first byte of a frame that is written as it is: the header,
/// and with a VLAN the addresses and the tag.
struct Front {
    bytes: [u8; VNET_LEN + MACS_LEN + vlan::TAG_LEN as usize],
    len: usize,
    /// Bytes of the frame that are in it.
    taken: usize,
}

impl Front {
    fn new(mut vnet: [u8; VNET_HEADER_LEN], vlan: Option<u16>, frame: &FrameRef<'_>) -> Self {
        let mut front = Self { bytes: [0; _], len: VNET_LEN, taken: 0 };
        if let Some(vlan) = vlan {
            vlan::shift_in(&mut vnet);
            let (addresses, tag) = front.bytes[VNET_LEN..].split_at_mut(MACS_LEN);
            front.taken = frame.copy_at(0, addresses);
            tag.copy_from_slice(&vlan::tag(vlan));
            front.len = front.bytes.len();
        }
        front.bytes[..VNET_LEN].copy_from_slice(&vnet[..VNET_LEN]);
        front
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Header, addresses, tag, rest.
fn compose(
    bytes: &mut Vec<u8>,
    vnet: [u8; VNET_HEADER_LEN],
    vlan: Option<u16>,
    frame: &FrameRef<'_>,
) {
    let front = Front::new(vnet, vlan, frame);
    bytes.extend_from_slice(front.bytes());
    frame.parts_from(front.taken).for_each(|part| bytes.extend_from_slice(part));
}

/// True if the virtio-net header in front asks for anything.
fn has_offload(bytes: &[u8]) -> bool {
    bytes.first_chunk::<2>().is_some_and(|&[flags, gso]| flags & 1 != 0 || gso != 0)
}

#[cfg(test)]
mod tests;
