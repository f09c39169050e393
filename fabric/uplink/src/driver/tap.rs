//! A TAP device as an uplink: whatever the kernel sends out of the TAP comes in here.
//!
//! Readiness comes by multishot poll, which reports only changes; so after an event
//! the device is read until it is empty, or until a bound, behind which
//! [`TapDriver::has_more`] remembers the rest. (Multishot read needs Linux 6.7.)

use super::{DriverCounters, DriverError, Port, Received, Transmit, raw, transmit::Means, vlan};
use crate::sys::{self, VNET_LEN};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    thread,
    time::Duration,
};
use tracing::{info, warn};
use wireonce_frame::{FRAME_LEN_MAX, VNET_HEADER_LEN};
use wireonce_ring::{Completion, Ring, RingError, Token};

/// Frames that are read before others get their turn.
const FRAMES_PER_TURN: usize = 64;
/// The same in bytes: large frames take as long as many small ones.
const BYTES_PER_TURN: usize = 256 << 10;
/// A TAP whose last user died within a ring is released a little later.
const ATTACH_TRIES: u32 = 20;
const ATTACH_PAUSE: Duration = Duration::from_millis(10);

const ATTACH_REMEDY: &str = "load the module `tun`, stop whoever else holds the TAP, and give the gateway \
     CAP_NET_ADMIN or make the TAP beforehand with `ip tuntap add ... mode tap user ...`";

/// A TAP device that we hold.
#[derive(Debug)]
pub struct TapDriver {
    interface: String,
    several_queues: bool,
    file: File,
    control: OwnedFd,
    token: Token,
    buffer: Box<[u8]>,
    has_more: bool,
    transmit: Transmit,
    counters: DriverCounters,
    closing: bool,
    /// The last completion of receiving has come.
    deaf: bool,
}

impl TapDriver {
    /// See [`super::Driver::open`].
    pub(super) fn open(port: Port, ring: &mut Ring) -> Result<Self, DriverError> {
        let fail = |what, remedy| {
            let interface = port.interface.clone();
            move |source| DriverError::Open { interface, what, source, remedy }
        };
        let file = open_tap(&port.interface, port.group.is_some())
            .map_err(fail("cannot attach the TAP", ATTACH_REMEDY))?;
        let control =
            sys::control_socket().map_err(fail("cannot open a socket", "raise RLIMIT_NOFILE"))?;
        if let Err(error) = sys::set_interface_up(&control, &port.interface) {
            warn!(interface = port.interface, %error, "cannot set the TAP up; do it from outside");
        }
        let sender = file
            .try_clone()
            .map_err(fail("cannot duplicate a descriptor", "raise RLIMIT_NOFILE"))?;
        ring.poll_multi(raw(&file), port.receive)?;
        Ok(Self {
            interface: port.interface,
            several_queues: port.group.is_some(),
            file,
            control,
            token: port.receive,
            buffer: vec![0; VNET_LEN + FRAME_LEN_MAX].into_boxed_slice(),
            has_more: false,
            transmit: Transmit::new(sender.into(), Means::Write, port.transmit),
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
        if completion.token != self.token {
            return Ok(());
        }
        if self.closing {
            self.deaf |= !completion.more;
            return Ok(());
        }
        self.receive_more(sink);
        if completion.more {
            return Ok(());
        }
        self.counters.receive_errors += 1;
        ring.poll_multi(raw(&self.file), self.token)
    }

    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    pub(super) fn receive_more(&mut self, sink: &mut impl FnMut(Received<'_>)) {
        self.has_more = true;
        let mut bytes = 0;
        for _ in 0..FRAMES_PER_TURN {
            if bytes >= BYTES_PER_TURN {
                return;
            }
            let len = match (&self.file).read(&mut self.buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Empty, or down: the next change is an event.
                Err(_) => {
                    self.has_more = false;
                    return;
                }
            };
            bytes += len;
            match self.buffer.get_mut(..len).and_then(parse) {
                Some(received) => sink(received),
                None => self.counters.unreadable += 1,
            }
        }
    }

    /// If the TAP was deleted, the file that held it is dead: makes the TAP again.
    pub(super) fn refresh(&mut self, ring: &mut Ring) -> Result<(), DriverError> {
        if sys::interface_index(&self.interface).is_ok() {
            return Ok(());
        }
        let fail = |source| DriverError::Open {
            interface: self.interface.clone(),
            what: "cannot make the TAP again",
            source,
            remedy: ATTACH_REMEDY,
        };
        let file = open_tap(&self.interface, self.several_queues).map_err(fail)?;
        let sender = file.try_clone().map_err(fail)?;
        sys::set_interface_up(&self.control, &self.interface).map_err(fail)?;
        ring.cancel(self.token)?;
        self.token.generation = self.token.generation.wrapping_add(1);
        ring.poll_multi(raw(&file), self.token)?;
        self.file = file;
        self.transmit.replace(sender.into());
        self.counters.reopened += 1;
        info!(interface = self.interface, "the TAP was deleted; made it again");
        Ok(())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.deaf && self.transmit.in_flight() == 0
    }

    pub(super) fn close(&mut self, ring: &mut Ring) -> Result<(), RingError> {
        self.closing = true;
        self.has_more = false;
        ring.cancel(self.token)
    }

    pub(super) fn transmit(&mut self) -> &mut Transmit {
        &mut self.transmit
    }

    pub(super) fn control(&self) -> &OwnedFd {
        &self.control
    }

    pub(super) fn interface(&self) -> &str {
        &self.interface
    }

    /// What this half counts, and the other half.
    pub(super) fn counters(&self) -> (DriverCounters, &Transmit) {
        (self.counters, &self.transmit)
    }
}

fn open_tap(interface: &str, several_queues: bool) -> io::Result<File> {
    let mut tries = 0;
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        match sys::attach_tap(&file, interface, several_queues) {
            Ok(()) => {
                sys::set_tap_offloads(&file)?;
                return Ok(file);
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < ATTACH_TRIES => {
                tries += 1;
                thread::sleep(ATTACH_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Takes apart what one read wrote; `None` if there is no whole header.
fn parse(bytes: &mut [u8]) -> Option<Received<'_>> {
    let (header, frame) = bytes.split_first_chunk_mut::<VNET_LEN>()?;
    let mut vnet = [0; VNET_HEADER_LEN];
    vnet[..VNET_LEN].copy_from_slice(header);
    let (vlan, start) = vlan::untag(frame);
    if start > 0 {
        vlan::shift_out(&mut vnet);
    }
    Some(Received { vnet, vlan, frame: frame.get(start..)? })
}
