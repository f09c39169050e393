//! The loop between two TAPs: what a VMM without virtqueues would do.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use wireonce_qemu_tests::Result;

use super::Wake;
use super::queue::BUFFER_LEN;
use super::tap::Tap;

/// Frames of one direction before the other has its turn.
const BATCH: usize = 32;

/// The state of one thread.
pub(super) struct Pair {
    taps: [Tap; 2],
    /// A TAP may have a frame.
    ready: [bool; 2],
    wake: Wake,
    buffer: Vec<u8>,
}

impl Pair {
    pub(super) fn new(a: Tap, b: Tap, wake: Wake) -> Result<Self> {
        wake.add(a.file.as_raw_fd(), 0)?;
        wake.add(b.file.as_raw_fd(), 1)?;
        Ok(Self { taps: [a, b], ready: [true; 2], wake, buffer: vec![0; BUFFER_LEN] })
    }

    pub(super) fn run(&mut self) -> Result<()> {
        while !self.wake.is_over() {
            self.copy(0);
            self.copy(1);
            if self.ready == [false; 2] {
                let woken = self.wake.sleep()?;
                self.ready = [woken & 1 != 0, woken & 2 != 0];
            }
        }
        Ok(())
    }

    fn copy(&mut self, from: usize) {
        let Self { taps, ready, buffer, .. } = self;
        let [mut from_file, mut to_file] = [from, 1 - from].map(|tap| &taps[tap].file);
        for _ in 0..BATCH {
            if !ready[from] {
                return;
            }
            let Ok(len) = from_file.read(buffer) else {
                ready[from] = false;
                return;
            };
            // A TAP that has no room for a frame drops it.
            let _dropped = to_file.write(buffer.get(..len).unwrap_or_default());
        }
    }
}
