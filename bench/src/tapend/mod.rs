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
//! [`TapPair`] is the same for a peer that is a TAP itself: a thread between two TAPs.
//!
//! | module | idea |
//! |---|---|
//! | `front` | the vhost-user front-end: features, memory, rings |
//! | `queue` | the driver's side of one split ring |
//! | `relay` | the loop between a TAP and rings |
//! | `pair` | the loop between two TAPs |
//! | `tap` | a TAP with virtio-net headers |

mod front;
mod pair;
mod queue;
mod relay;
mod tap;

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::{Error, Result};

use crate::inside::{self, Ready};
use crate::io_error;
use tap::Tap;

pub use tap::make_tap;

/// A vNIC's TAP end at work; dropping it ends its thread.
#[derive(Debug)]
pub struct TapEnd {
    mover: Mover,
}

impl TapEnd {
    /// Joins the TAP `interface` of `netns` (see [`make_tap`]) to the vhost-user backend that listens
    /// at `socket`. The thread runs on processor `cpu`.
    ///
    /// # Errors
    /// The TAP is not there, or the backend refuses something.
    pub fn start(netns: &Netns, interface: &str, socket: &Path, cpu: Option<u32>) -> Result<Self> {
        let (interface, socket) = (interface.to_owned(), socket.to_owned());
        let mover = Mover::start(netns, cpu, move |wake, ready| {
            let tap = Tap::open(&interface)?;
            let front = front::Front::connect(&socket)?;
            let mut relay = relay::Relay::new(tap, front, wake)?;
            ready.tell();
            relay.run()
        })?;
        Ok(Self { mover })
    }

    /// The id of its thread, for [`crate::cpu::thread_us`].
    #[must_use]
    pub fn thread_id(&self) -> i32 {
        self.mover.thread_id
    }

    /// An error if its thread has ended.
    ///
    /// # Errors
    /// It has ended: the backend broke the rules of the rings.
    pub fn must_run(&self) -> Result<()> {
        if self.mover.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        Err(Error::Unexpected("a TAP end has ended".to_owned()))
    }
}

/// A thread that copies between two TAPs; dropping it ends the thread.
#[derive(Debug)]
pub struct TapPair {
    _mover: Mover,
}

impl TapPair {
    /// Joins the TAPs called `interface` of two namespaces. The thread runs on processor `cpu`.
    ///
    /// # Errors
    /// A TAP is not there.
    pub fn start(a: &Netns, b: &Netns, interface: &str, cpu: Option<u32>) -> Result<Self> {
        let interface = interface.to_owned();
        let second = inside::path(b);
        let mover = Mover::start(a, cpu, move |wake, ready| {
            let near = Tap::open(&interface)?;
            inside::enter(&second)?;
            let mut pair = pair::Pair::new(near, Tap::open(&interface)?, wake)?;
            ready.tell();
            pair.run()
        })?;
        Ok(Self { _mover: mover })
    }
}

/// A thread that gives a TAP back what it gets, later; dropping it ends the thread.
#[derive(Debug)]
pub struct TapLate {
    _mover: Mover,
}

impl TapLate {
    /// Holds the frames of the TAP `interface` for at least `hold`. The thread runs on processor
    /// `cpu`.
    ///
    /// # Errors
    /// The TAP is not there.
    pub fn start(netns: &Netns, interface: &str, hold: Duration, cpu: Option<u32>) -> Result<Self> {
        let interface = interface.to_owned();
        let mover = Mover::start(netns, cpu, move |wake, ready| {
            let tap = Tap::open(&interface)?;
            wake.add(tap.file.as_raw_fd(), 0)?;
            ready.tell();
            let mut buffer = vec![0; queue::BUFFER_LEN];
            while !wake.is_over() {
                wake.sleep()?;
                thread::sleep(hold);
                while let Ok(len) = (&tap.file).read(&mut buffer) {
                    // A full bridge drops it.
                    let _dropped = (&tap.file).write(buffer.get(..len).unwrap_or_default());
                }
            }
            Ok(())
        })?;
        Ok(Self { _mover: mover })
    }
}

/// A thread that moves frames until this is dropped.
#[derive(Debug)]
struct Mover {
    thread: Option<JoinHandle<Result<()>>>,
    thread_id: i32,
    stop: Arc<AtomicBool>,
    bell: EventFd,
}

impl Mover {
    fn start(
        netns: &Netns,
        cpu: Option<u32>,
        work: impl FnOnce(Wake, Ready) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let bell = EventFd::new(libc::EFD_NONBLOCK).map_err(io_error("an event counter"))?;
        let wake = Wake::new(Arc::clone(&stop), &bell)?;
        let (thread, thread_id) =
            inside::start(netns, "tap-end", cpu, move |ready| work(wake, ready))?;
        Ok(Self { thread: Some(thread), thread_id, stop, bell })
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // It cannot overflow: nobody else counts up.
        let _rung = self.bell.write(1);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// What a mover sleeps in. Only changes wake it: descriptors are read until they are empty.
struct Wake {
    stop: Arc<AtomicBool>,
    events: Epoll,
}

/// Of the bell; others have smaller marks.
const BELL: usize = 63;

impl Wake {
    fn new(stop: Arc<AtomicBool>, bell: &EventFd) -> Result<Self> {
        let wake = Self { stop, events: Epoll::new().map_err(io_error("cannot make an epoll"))? };
        wake.add(bell.as_raw_fd(), BELL)?;
        Ok(wake)
    }

    /// Wakes up for `fd` from now on; `mark` is below 63.
    fn add(&self, fd: RawFd, mark: usize) -> Result<()> {
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, mark as u64);
        self.events
            .ctl(ControlOperation::Add, fd, event)
            .map_err(io_error("cannot wait for a descriptor"))
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Sleeps until something changes. Returns a bit for each mark.
    fn sleep(&self) -> Result<u64> {
        let mut events = [EpollEvent::default(); 4];
        match self.events.wait(-1, &mut events) {
            Ok(count) => {
                let bit = |bits, event: &EpollEvent| bits | 1_u64 << (event.data() & 63);
                Ok(events.iter().take(count).fold(0, bit))
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(io_error("cannot wait for frames")(error)),
        }
    }
}
