//! A vNIC that the kernel's own TCP drives: a TAP whose frames go through virtqueues.
//!
//! # Theory of operation
//!
//! A guest limits what is measured long before the path does. So the guest is left out: its
//! kernel is this one's, in a namespace, and its virtio driver is this module, a thread that moves
//! frames between a TAP and shared memory. What is behind the socket cannot tell the difference.
//!
//! ```text
//!   iperf3 ── TCP ── TAP ══ this thread ══ rings in a memfd ══ wireonce backend ── fabric ...
//!   [namespace of the end]                 vhost-user socket
//! ```
//! It costs less than a guest: a frame is read from the TAP straight into a transmit buffer and written
//! to it straight out of a receive buffer, header included, without a copy of ours. It is no
//! model of one in two ways: a buffer holds a whole super-frame, where Linux has chains of pages; and
//! neither EVENT_IDX nor indirect descriptors are taken.
//!
//! | module | idea |
//! |---|---|
//! | `front` | the vhost-user front-end: features, memory, rings |
//! | `queue` | the driver's side of one split ring |
//! | `relay` | the thread's loop |
//! | `tap` | a TAP with virtio-net headers |

mod front;
mod queue;
mod relay;
mod tap;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use vmm_sys_util::eventfd::EventFd;
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::{Error, Result};

use crate::inside;
use crate::io_error;

pub use tap::{Tap, make_tap};

/// A TAP end at work; dropping it ends its thread.
#[derive(Debug)]
pub struct TapEnd {
    thread: Option<JoinHandle<Result<()>>>,
    thread_id: i32,
    stop: Arc<AtomicBool>,
    bell: EventFd,
}

impl TapEnd {
    /// Joins the TAP `interface` of `netns` (see [`make_tap`]) to the vhost-user backend that listens
    /// at `socket`. The thread runs on processor `cpu`.
    ///
    /// # Errors
    /// The TAP is not there, or the backend refuses something.
    pub fn start(netns: &Netns, interface: &str, socket: &Path, cpu: u32) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let bell = EventFd::new(libc::EFD_NONBLOCK).map_err(io_error("an event counter"))?;
        let bell_inside = bell.try_clone().map_err(io_error("an event counter"))?;
        let (interface, socket) = (interface.to_owned(), socket.to_owned());
        let stop_inside = Arc::clone(&stop);
        let (thread, thread_id) =
            inside::start(netns, "tap-end", cpu, move |ready: inside::Ready| {
                let tap = Tap::open(&interface)?;
                let front = front::Front::connect(&socket)?;
                let mut relay = relay::Relay::new(tap, front, stop_inside, &bell_inside)?;
                ready.tell();
                relay.run()
            })?;
        Ok(Self { thread: Some(thread), thread_id, stop, bell })
    }

    /// The id of its thread, for [`crate::cpu::thread_us`].
    #[must_use]
    pub fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// An error if its thread has ended.
    ///
    /// # Errors
    /// It has ended: the backend closed the socket's rings, or the TAP is gone.
    pub fn must_run(&self) -> Result<()> {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        Err(Error::Unexpected("the TAP end has ended".to_owned()))
    }
}

impl Drop for TapEnd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // It cannot overflow: nobody else counts up.
        let _rung = self.bell.write(1);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
