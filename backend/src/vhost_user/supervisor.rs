//! One thread for all sockets of all vNICs, on rust-vmm's `event-manager`.
//!
//! It accepts, connects and retries, and starts a protocol thread for each
//! session; it never reads a message, so a VMM that stalls in the middle of one
//! stalls itself only. A vNIC has one session at a time: while it has one, the
//! next VMM waits in the listener's queue, and the log says so.
//!
//! It waits because QEMU copes with that best. Seen with 7.2, with or without
//! `reconnect`: closed during its start, it connects again at once, 200 times a
//! second, and complains each time. Waiting, it starts as soon as the first has
//! gone, which is what a VM that is started anew needs.
//!
//! ```text
//!                  accept / connect                     eventfd "ended"
//!   waiting ------------------------> session thread -------------------> waiting
//!      ^  timer (100 ms): connect again, or accept again after an error
//!      +--+
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use event_manager::{
    EventManager, EventOps, Events, MutEventSubscriber, RemoteEndpoint, SubscriberId,
};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

use super::config::{DeviceConfig, DeviceError, SocketMode};
use super::events::PortEvents;
use super::session;
use super::socket;
use super::socket_file::{SocketFile, bind, io_error};
use super::status::{Board, DeviceStatus};

/// What the supervisor thread runs. Other parts of the process may add their
/// own (signals, timers) through [`Supervisor::endpoint`].
pub type Subscriber = Box<dyn MutEventSubscriber + Send>;

/// Between two attempts to connect, or to accept after an error.
const RETRY: Duration = Duration::from_millis(100);
/// Before the first attempt after a session was lost: the VMM often restarts
/// its listener at once.
const RETRY_SOON: Duration = Duration::from_millis(10);
/// The pump's deepest call needs about 20 KB.
const SESSION_STACK: usize = 256 * 1024;

const LISTENER: u32 = 0;
const TIMER: u32 = 1;
const ENDED: u32 = 2;

/// The vhost-user sockets of one backend process.
pub struct Supervisor {
    endpoint: RemoteEndpoint<Subscriber>,
    ports: Mutex<BTreeMap<String, PortHandle>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The socket of a vNIC that is not served yet.
#[derive(Debug)]
pub struct Prepared {
    config: DeviceConfig,
    listener: Option<UnixListener>,
    file: Option<SocketFile>,
}

struct PortHandle {
    id: SubscriberId,
    board: Arc<Board>,
    session: SessionSlot,
    file: Option<SocketFile>,
}

type SessionSlot = Arc<Mutex<Option<Session>>>;

/// A session that runs, and the way to end it.
struct Session {
    vmm: UnixStream,
    thread: JoinHandle<()>,
}

impl Supervisor {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system said about epoll, eventfd or the thread.
    pub fn spawn() -> io::Result<Self> {
        let failed = |error: event_manager::Error| io::Error::other(error.to_string());
        let mut manager = EventManager::<Subscriber>::new().map_err(failed)?;
        let endpoint = manager.remote_endpoint();
        let stop = Arc::new(AtomicBool::new(false));
        let seen_stop = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("vhost-user".to_owned())
            .stack_size(SESSION_STACK)
            .spawn(move || {
                while !seen_stop.load(Ordering::Acquire) {
                    if let Err(error) = manager.run() {
                        tracing::error!(%error, "the vhost-user supervisor cannot wait");
                        thread::sleep(RETRY);
                    }
                }
            })?;
        Ok(Self { endpoint, ports: Mutex::default(), stop, thread: Some(thread) })
    }

    /// Runs code on the supervisor thread or adds a subscriber to it. What runs
    /// there must not block, nor call this supervisor.
    #[must_use]
    pub fn endpoint(&self) -> RemoteEndpoint<Subscriber> {
        self.endpoint.clone()
    }

    /// Makes the socket of a vNIC. A VMM that connects waits until [`Self::start`].
    /// Dropping it takes the socket away again.
    ///
    /// # Errors
    /// [`DeviceError`]: the configuration or the socket path.
    pub fn prepare(config: DeviceConfig) -> Result<Prepared, DeviceError> {
        config.check()?;
        let (listener, file) = match config.mode {
            SocketMode::Listen => {
                bind(&config).map(|(listener, file)| (Some(listener), Some(file)))?
            }
            SocketMode::Connect => (None, None),
        };
        Ok(Prepared { config, listener, file })
    }

    /// Adds a vNIC: its socket is bound, or connected to, from now on.
    ///
    /// # Errors
    /// [`DeviceError`]: the configuration, the name or the socket path.
    pub fn add(
        &self,
        config: DeviceConfig,
        events: Arc<dyn PortEvents>,
    ) -> Result<(), DeviceError> {
        if self.ports().contains_key(&config.name) {
            return Err(DeviceError::Exists(config.name));
        }
        self.start(Self::prepare(config)?, events)
    }

    /// Adds a vNIC whose socket is there.
    ///
    /// # Errors
    /// [`DeviceError`]: the name, or the system refuses a descriptor.
    pub fn start(
        &self,
        prepared: Prepared,
        events: Arc<dyn PortEvents>,
    ) -> Result<(), DeviceError> {
        let Prepared { config, listener, file } = prepared;
        let name = config.name.clone();
        let mut ports = self.ports();
        if ports.contains_key(&name) {
            return Err(DeviceError::Exists(name));
        }
        let board = Arc::new(Board::new(&name, config.rings()));
        let session = SessionSlot::default();
        let port = Port {
            timer: TimerFd::new().map_err(|error| io_error(&name, "make a timer", error.into()))?,
            ended: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
                .map_err(|error| io_error(&name, "make an eventfd", error))?,
            config,
            events,
            board: Arc::clone(&board),
            listener,
            session: Arc::clone(&session),
        };
        let id = self.call(move |ops| ops.add_subscriber(Box::new(port)))?;
        ports.insert(name, PortHandle { id, board, session, file });
        Ok(())
    }

    /// Removes a vNIC: ends its session, waits for its threads, and removes its
    /// socket file. Its [`PortEvents`] hears nothing more after this returns.
    /// Not to be called from a [`PortEvents`] method: it would wait for itself. Returns
    /// how it ended.
    ///
    /// # Errors
    /// [`DeviceError::Unknown`] if there is none of this name.
    pub fn remove(&self, name: &str) -> Result<DeviceStatus, DeviceError> {
        let removed = self.ports().remove(name);
        let port = removed.ok_or_else(|| DeviceError::Unknown(name.to_owned()))?;
        let board = Arc::clone(&port.board);
        self.end(port);
        Ok(board.snapshot())
    }

    /// Whether there is a vNIC of this name.
    #[must_use]
    pub fn serves(&self, name: &str) -> bool {
        self.ports().contains_key(name)
    }

    /// All vNICs, by name.
    #[must_use]
    pub fn status(&self) -> Vec<DeviceStatus> {
        self.ports().values().map(|port| port.board.snapshot()).collect()
    }

    /// Removes every vNIC and ends the thread.
    pub fn stop(mut self) {
        self.halt();
    }

    fn halt(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let ports = std::mem::take(&mut *self.ports());
        for port in ports.into_values() {
            self.end(port);
        }
        self.stop.store(true, Ordering::Release);
        if self.endpoint.kick().is_ok() {
            let _ = thread.join();
        }
    }

    fn end(&self, port: PortHandle) {
        let id = port.id;
        // After this the supervisor starts no session for it.
        let removed = self.call(move |ops| ops.remove_subscriber(id).ok());
        drop(removed);
        let session = lock(&port.session).take();
        if let Some(session) = session {
            let _ = session.vmm.shutdown(Shutdown::Both);
            let _ = session.thread.join();
        }
        drop(port.file);
    }

    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn event_manager::SubscriberOps<Subscriber = Subscriber>) -> T
        + Send
        + 'static,
    ) -> Result<T, DeviceError> {
        self.endpoint
            .call_blocking(move |ops| Ok::<T, Gone>(work(ops)))
            .map_err(|Gone| DeviceError::Stopped)
    }

    fn ports(&self) -> MutexGuard<'_, BTreeMap<String, PortHandle>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.halt();
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Supervisor").finish_non_exhaustive()
    }
}

/// The supervisor thread does not answer.
struct Gone;

impl From<event_manager::Error> for Gone {
    fn from(_: event_manager::Error) -> Self {
        Self
    }
}

/// One vNIC on the supervisor thread.
struct Port {
    config: DeviceConfig,
    events: Arc<dyn PortEvents>,
    board: Arc<Board>,
    listener: Option<UnixListener>,
    timer: TimerFd,
    ended: EventFd,
    session: SessionSlot,
}

impl MutEventSubscriber for Port {
    fn init(&mut self, ops: &mut EventOps) {
        self.watch(ops, Events::with_data(&self.ended, ENDED, EventSet::IN));
        self.watch(ops, Events::with_data(&self.timer, TIMER, EventSet::IN));
        self.wait_for_vmm(ops, Duration::from_nanos(1));
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            LISTENER => self.accept(ops),
            TIMER => {
                let _ = self.timer.wait();
                self.retry(ops);
            }
            _ => {
                let _ = self.ended.read();
                if let Some(session) = lock(&self.session).take() {
                    // It raised the event as its last deed.
                    let _ = session.thread.join();
                }
                self.forget_listener(ops);
                self.wait_for_vmm(ops, RETRY_SOON);
            }
        }
    }
}

impl Port {
    fn wait_for_vmm(&mut self, ops: &mut EventOps, delay: Duration) {
        match &self.listener {
            Some(listener) => {
                self.watch(ops, Events::with_data(listener, LISTENER, EventSet::IN));
            }
            None => self.arm(delay),
        }
    }

    fn accept(&mut self, ops: &mut EventOps) {
        let Some(listener) = &self.listener else { return };
        if lock(&self.session).is_some() {
            return self.board.another_came();
        }
        let accepted = listener.accept();
        if matches!(&accepted, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            return;
        }
        let started = accepted.and_then(|(vmm, _)| self.start(vmm));
        // Reported again and again, an error (too many descriptors) or a VMM that
        // waits would keep this thread busy.
        self.forget_listener(ops);
        if let Err(error) = started {
            self.board.trouble(&format!("cannot accept a VMM: {error}"));
            return self.arm(RETRY);
        }
        // One at a time. Edge-triggered: each VMM that comes now is reported once, and
        // whoever is in the queue already, once together.
        if let Some(listener) = &self.listener {
            let each_once = EventSet::IN | EventSet::EDGE_TRIGGERED;
            self.watch(ops, Events::with_data(listener, LISTENER, each_once));
        }
    }

    fn forget_listener(&self, ops: &mut EventOps) {
        if let Some(listener) = &self.listener {
            let _ = ops.remove(Events::empty(listener));
        }
    }

    fn retry(&mut self, ops: &mut EventOps) {
        if self.listener.is_some() {
            return self.wait_for_vmm(ops, RETRY);
        }
        let connected = socket::connect_to(&self.config.socket).and_then(|vmm| self.start(vmm));
        if let Err(error) = connected {
            let path = self.config.socket.display();
            self.board.waiting(format!("cannot connect to {path}: {error}"));
            self.arm(RETRY);
        }
    }

    /// Starts the session's thread.
    fn start(&self, vmm: UnixStream) -> io::Result<()> {
        let handle = vmm.try_clone()?;
        let ended = self.ended.try_clone()?;
        let (config, events) = (self.config.clone(), Arc::clone(&self.events));
        let board = Arc::clone(&self.board);
        board.attach(true);
        let thread = thread::Builder::new()
            .name(format!("vu {}", config.name))
            .stack_size(SESSION_STACK)
            .spawn(move || {
                session::serve(&vmm, &config, &events, &board);
                drop((vmm, events));
                let _ = ended.write(1);
            })?;
        *lock(&self.session) = Some(Session { vmm: handle, thread });
        Ok(())
    }

    fn watch(&self, ops: &mut EventOps, events: Events) {
        if let Err(error) = ops.add(events) {
            self.board.trouble(&format!("the supervisor cannot watch a descriptor: {error}"));
        }
    }

    fn arm(&mut self, delay: Duration) {
        if let Err(error) = self.timer.reset(delay, None) {
            self.board.trouble(&format!("cannot set a timer: {error}"));
        }
    }
}

fn lock(slot: &SessionSlot) -> MutexGuard<'_, Option<Session>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
