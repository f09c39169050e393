//! The loop between TAP and rings: it looks at both until neither has anything, then sleeps.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::{ReadVolatile, VolatileMemoryError, WriteVolatile};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;
use wireonce_qemu_tests::Result;

use super::front::Front;
use super::queue::BUFFER_LEN;
use super::tap::{HEADER_LEN, Tap};
use crate::io_error;

/// Frames of one direction before the other has its turn.
const BATCH: usize = 32;

/// What an event is about.
const TAP: u64 = 0;
const OTHER: u64 = 1;

/// The state of one thread.
pub(super) struct Relay {
    tap: Tap,
    front: Front,
    stop: Arc<AtomicBool>,
    events: Epoll,
    /// The TAP may have a frame.
    tap_ready: bool,
}

impl Relay {
    pub(super) fn new(
        tap: Tap,
        front: Front,
        stop: Arc<AtomicBool>,
        bell: &EventFd,
    ) -> Result<Self> {
        let events = Epoll::new().map_err(io_error("cannot make an epoll"))?;
        let fds = [
            (tap.file.as_raw_fd(), TAP),
            (front.receive.call.as_raw_fd(), OTHER),
            (front.transmit.call.as_raw_fd(), OTHER),
            (bell.as_raw_fd(), OTHER),
        ];
        for (fd, what) in fds {
            // Changes only: a TAP is read until it is empty, and counters need no reading.
            let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, what);
            events
                .ctl(ControlOperation::Add, fd, event)
                .map_err(io_error("cannot wait for a descriptor"))?;
        }
        Ok(Self { tap, front, stop, events, tap_ready: true })
    }

    pub(super) fn run(&mut self) -> Result<()> {
        while !self.stop.load(Ordering::Acquire) {
            let outward = self.outward()?;
            let inward = self.inward()?;
            if !outward && !inward {
                if !self.has_news()? {
                    self.sleep()?;
                }
                self.disable_calls()?;
            }
        }
        Ok(())
    }

    /// From the TAP to the device. Returns whether there was anything.
    fn outward(&mut self) -> Result<bool> {
        let Front { memory, transmit, .. } = &mut self.front;
        while let Some((id, _)) = transmit.next_used(memory)? {
            transmit.put_free(id);
        }
        let mut any = false;
        for _ in 0..BATCH {
            if !self.tap_ready {
                break;
            }
            let Some(id) = transmit.take_free() else { break };
            let mut buffer = transmit.buffer(memory, id, BUFFER_LEN)?;
            match self.tap.file.read_volatile(&mut buffer) {
                Ok(len) => transmit.post(memory, id, len)?,
                Err(_) => {
                    transmit.put_free(id);
                    self.tap_ready = false;
                    break;
                }
            }
            any = true;
        }
        transmit.publish(memory)?;
        Ok(any)
    }

    /// From the device to the TAP. Returns whether there was anything.
    fn inward(&mut self) -> Result<bool> {
        let Front { memory, receive, .. } = &mut self.front;
        let mut any = false;
        for _ in 0..BATCH {
            let Some((id, len)) = receive.next_used(memory)? else { break };
            let frame = receive.buffer(memory, id, len)?;
            // A TAP that has no room for a frame, or that the kernel finds no sense in, drops it.
            let _dropped: std::result::Result<usize, VolatileMemoryError> =
                if len > HEADER_LEN { self.tap.file.write_volatile(&frame) } else { Ok(0) };
            receive.post(memory, id, BUFFER_LEN)?;
            any = true;
        }
        receive.publish(memory)?;
        Ok(any)
    }

    /// Asks for interrupts. True if something has come meanwhile.
    fn has_news(&mut self) -> Result<bool> {
        let Front { memory, receive, transmit, .. } = &self.front;
        let received = receive.enable_calls(memory)?;
        let room = transmit.is_full() && transmit.enable_calls(memory)?;
        Ok(received || room || (self.tap_ready && !transmit.is_full()))
    }

    fn sleep(&mut self) -> Result<()> {
        let mut events = [EpollEvent::default(); 4];
        let count = match self.events.wait(-1, &mut events) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(io_error("cannot wait for frames")(error)),
        };
        self.tap_ready |= events.iter().take(count).any(|event| event.data() == TAP);
        Ok(())
    }

    fn disable_calls(&self) -> Result<()> {
        let Front { memory, receive, transmit, .. } = &self.front;
        receive.disable_calls(memory)?;
        transmit.disable_calls(memory)
    }
}
