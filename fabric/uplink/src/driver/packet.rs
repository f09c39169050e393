//! An existing interface as an uplink, through packet sockets.
//!
//! Two sockets: one that receives (blocking, as multishot receive wants it), one
//! that only sends (non-blocking: a full queue is an answer, not a wait that later
//! frames could overtake). Promiscuous, because vNICs' MACs are not the NIC's.

use super::{
    DriverCounters, DriverError, Port, Received, Transmit, enlarge_buffers, raw, transmit::Means,
    vlan,
};
use crate::sys::{self, AuxData, VNET_LEN};
use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::{debug, info, warn};
use wireonce_frame::{FRAME_LEN_MAX, VNET_HEADER_LEN};
use wireonce_ring::{BufferGroup, Completion, MsgLayout, ReceivedMsg, Ring, RingError, Token};

/// Receive buffers; each holds one frame of any length.
const BUFFERS: u16 = 64;
/// Room for the sender's `sockaddr_ll` (not used) and the auxiliary data (40 bytes).
const LAYOUT: MsgLayout = MsgLayout { name_len: 0, control_len: 64 };
/// What we ask the kernel to queue for us, in bytes: 10 ms at 6 Gb/s.
const SOCKET_BUFFER_LEN: i32 = 8 << 20;

/// `TP_STATUS_VLAN_VALID`: a tag was stripped.
const VLAN_VALID: u32 = 1 << 4;
/// `TP_STATUS_VLAN_TPID_VALID`: `vlan_tpid` says which kind.
const VLAN_TPID_VALID: u32 = 1 << 6;

/// The sockets of several workers that share what one interface receives.
///
/// The kernel numbers the group, so that no other process can be in it by chance. A
/// group belongs to an interface; one that was made anew needs a new group.
#[derive(Debug, Default)]
pub struct FanoutGroup(Mutex<Option<Fanout>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fanout {
    interface: u32,
    number: u16,
}

impl FanoutGroup {
    fn join(&self, socket: &OwnedFd, interface: u32) -> io::Result<()> {
        let mut group = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = group.filter(|group| group.interface == interface) {
            return sys::join_fanout(socket, group.number);
        }
        let number = sys::new_fanout(socket)?;
        *group = Some(Fanout { interface, number });
        Ok(())
    }
}

/// An interface that exists without us.
#[derive(Debug)]
pub struct PacketDriver {
    interface: String,
    fanout: Option<Arc<FanoutGroup>>,
    index: u32,
    socket: OwnedFd,
    token: Token,
    group: BufferGroup,
    transmit: Transmit,
    counters: DriverCounters,
    closing: bool,
    /// The last completion of receiving has come.
    deaf: bool,
}

impl PacketDriver {
    /// See [`super::Driver::open`].
    pub(super) fn open(port: Port, ring: &mut Ring) -> Result<Self, DriverError> {
        let Sockets { index, receive, send } =
            Sockets::open(&port.interface, port.group.as_deref())?;
        let buffer_len = LAYOUT.payload_offset() + VNET_LEN + FRAME_LEN_MAX;
        let group = ring.add_buffer_group(BUFFERS, buffer_len.next_multiple_of(4096))?;
        ring.recv_msg_multi(raw(&receive), &group, LAYOUT, port.receive)?;
        Ok(Self {
            interface: port.interface,
            fanout: port.group,
            index,
            socket: receive,
            token: port.receive,
            group,
            transmit: Transmit::new(send, Means::Send, port.transmit),
            counters: DriverCounters::default(),
            closing: false,
            deaf: false,
        })
    }

    pub(super) fn receive(
        &mut self,
        ring: &mut Ring,
        completion: &Completion,
        sink: &mut impl FnMut(Received<'_>),
    ) -> Result<(), RingError> {
        if let Some(buffer) = completion.buffer {
            self.group.take(buffer);
            let len = usize::try_from(completion.result).unwrap_or(0);
            if let Some(bytes) = self.group.received(buffer, len) {
                match parse(bytes) {
                    Some(received) => sink(received),
                    None => self.counters.unreadable += 1,
                }
            }
            self.group.recycle(buffer);
        }
        // A completion of sockets that were closed meanwhile asks for nothing more.
        if completion.more || completion.token != self.token {
            return Ok(());
        }
        if self.closing {
            self.deaf = true;
            return Ok(());
        }
        if completion.result < 0 && completion.result != -libc::ENOBUFS {
            // Each error belongs to one event: the interface went down, or a frame came whose
            // offload no virtio-net header can express (SCTP, UDP segments on old kernels).
            self.counters.receive_errors += 1;
            let error = io::Error::from_raw_os_error(-completion.result);
            debug!(interface = self.interface, %error, "receiving starts again");
        }
        ring.recv_msg_multi(raw(&self.socket), &self.group, LAYOUT, self.token)
    }

    pub(super) fn refresh(&mut self, ring: &mut Ring) -> Result<(), DriverError> {
        if let Ok(statistics) = sys::packet_statistics(&self.socket) {
            self.counters.kernel_drops += u64::from(statistics.drops);
        }
        match sys::interface_index(&self.interface) {
            Ok(index) if index != self.index => self.reopen(ring),
            // Gone, or the same as ever.
            _ => Ok(()),
        }
    }

    /// The interface was deleted and made again: the old sockets are deaf.
    fn reopen(&mut self, ring: &mut Ring) -> Result<(), DriverError> {
        let Sockets { index, receive, send } =
            Sockets::open(&self.interface, self.fanout.as_deref())?;
        ring.cancel(self.token)?;
        self.token.generation = self.token.generation.wrapping_add(1);
        ring.recv_msg_multi(raw(&receive), &self.group, LAYOUT, self.token)?;
        self.index = index;
        self.socket = receive;
        self.transmit.replace(send);
        self.counters.reopened += 1;
        info!(interface = self.interface, "the interface was replaced; opened the new one");
        Ok(())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.deaf && self.transmit.in_flight() == 0
    }

    pub(super) fn release(self, ring: &mut Ring) {
        ring.give_back(self.group);
    }

    pub(super) fn close(&mut self, ring: &mut Ring) -> Result<(), RingError> {
        self.closing = true;
        ring.cancel(self.token)
    }

    pub(super) fn transmit(&mut self) -> &mut Transmit {
        &mut self.transmit
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn interface(&self) -> &str {
        &self.interface
    }

    /// What this half counts, and the other half.
    pub(super) fn counters(&self) -> (DriverCounters, &Transmit) {
        (self.counters, &self.transmit)
    }
}

struct Sockets {
    index: u32,
    receive: OwnedFd,
    send: OwnedFd,
}

impl Sockets {
    fn open(interface: &str, fanout: Option<&FanoutGroup>) -> Result<Self, DriverError> {
        let fail = |what, remedy| {
            let interface = interface.to_owned();
            move |source| DriverError::Open { interface, what, source, remedy }
        };
        let index = sys::interface_index(interface).map_err(fail(
            "there is no such interface",
            "name one that `ip link` shows in this network namespace",
        ))?;
        let raw_needed = "give the gateway CAP_NET_RAW";
        let receive =
            sys::packet_socket(false).map_err(fail("cannot open a packet socket", raw_needed))?;
        let send =
            sys::packet_socket(true).map_err(fail("cannot open a packet socket", raw_needed))?;
        let doctor = "Linux 6.1 or newer is needed (`wireonce doctor` says more)";
        for (socket, receives) in [(&receive, true), (&send, false)] {
            configure(socket, index, receives)
                .map_err(fail("cannot set up a packet socket", doctor))?;
            let granted = enlarge_buffers(socket, SOCKET_BUFFER_LEN)
                .map_err(fail("cannot size a socket buffer", doctor))?;
            if granted < SOCKET_BUFFER_LEN {
                warn!(
                    interface,
                    granted,
                    wanted = SOCKET_BUFFER_LEN,
                    "small socket buffer: bursts may be dropped; give the gateway CAP_NET_ADMIN \
                     or raise net.core.rmem_max and net.core.wmem_max"
                );
            }
            // Last, so that no frame arrives before everything above holds.
            sys::bind_packet(socket, index, receives)
                .map_err(fail("cannot bind a packet socket", doctor))?;
        }
        if let Some(group) = fanout {
            group.join(&receive, index).map_err(fail(
                "cannot share the interface among workers",
                "Linux 6.1 or newer is needed; or set `workers = 1`",
            ))?;
        }
        Ok(Self { index, receive, send })
    }
}

fn configure(socket: &OwnedFd, index: u32, receives: bool) -> io::Result<()> {
    let packet = |name| sys::set_option(socket, libc::SOL_PACKET, name, 1_i32);
    packet(libc::PACKET_VNET_HDR)?;
    if !receives {
        return Ok(());
    }
    packet(libc::PACKET_AUXDATA)?;
    packet(libc::PACKET_IGNORE_OUTGOING)?;
    sys::skip_frames_to_host(socket)?;
    let promiscuous = libc::packet_mreq {
        mr_ifindex: i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?,
        mr_type: u16::try_from(libc::PACKET_MR_PROMISC).unwrap_or(0),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    sys::set_option(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, promiscuous)
}

/// Takes apart what one receive wrote; `None` if the frame is not whole.
fn parse(bytes: &mut [u8]) -> Option<Received<'_>> {
    let msg = ReceivedMsg::parse(bytes, LAYOUT).filter(|msg| !msg.truncated)?;
    let aux = msg.control_data(libc::SOL_PACKET, libc::PACKET_AUXDATA).and_then(AuxData::parse);
    let vlan = aux.filter(|aux| aux.status & VLAN_VALID != 0).and_then(|aux| {
        let known = aux.status & VLAN_TPID_VALID != 0;
        vlan::vlan_of(if known { aux.vlan_tpid } else { 0x8100 }, aux.vlan_tci)
    });
    let (header, frame) = msg.payload.split_first_chunk::<VNET_LEN>()?;
    let mut vnet = [0; VNET_HEADER_LEN];
    vnet[..VNET_LEN].copy_from_slice(header);
    Some(Received { vnet, vlan, frame })
}
