//! The loop between TAP and rings: it looks at both until neither has anything, then sleeps.

use std::os::fd::AsRawFd;

use vm_memory::{ReadVolatile, VolatileMemoryError, WriteVolatile};
use wireonce_qemu_tests::Result;

use super::Wake;
use super::front::Front;
use super::queue::BUFFER_LEN;
use super::tap::{HEADER_LEN, Tap};

/// Frames of one direction before the other has its turn.
const BATCH: usize = 32;

/// The mark of the TAP, and of all else.
const TAP: usize = 0;
const OTHER: usize = 1;

/// The state of one thread.
pub(super) struct Relay {
    tap: Tap,
    front: Front,
    wake: Wake,
    /// The TAP may have a frame.
    tap_ready: bool,
}

impl Relay {
    pub(super) fn new(tap: Tap, front: Front, wake: Wake) -> Result<Self> {
        wake.add(tap.file.as_raw_fd(), TAP)?;
        wake.add(front.receive.call.as_raw_fd(), OTHER)?;
        wake.add(front.transmit.call.as_raw_fd(), OTHER)?;
        Ok(Self { tap, front, wake, tap_ready: true })
    }

    pub(super) fn run(&mut self) -> Result<()> {
        while !self.wake.is_over() {
            let outward = self.outward()?;
            let inward = self.inward()?;
            if !outward && !inward {
                if !self.has_news()? {
                    self.tap_ready |= self.wake.sleep()? & 1 << TAP != 0;
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

    fn disable_calls(&self) -> Result<()> {
        let Front { memory, receive, transmit, .. } = &self.front;
        receive.disable_calls(memory)?;
        transmit.disable_calls(memory)
    }
}
