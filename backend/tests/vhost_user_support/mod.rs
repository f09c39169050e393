//! A front-end that says what the test wants, byte by byte, and a worker that
//! writes down what it is told.
#![expect(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;
use wireonce_backend::vhost_user::{
    DeviceConfig, DeviceStatus, PortEvents, RingStart, SocketMode, Supervisor,
};
use wireonce_backend::virtqueue::{GuestMemory, RingConfig};

/// Far above what anything here needs; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const MAC: [u8; 6] = [0x02, 0x10, 0x20, 0x30, 0x40, 0x50];

pub(crate) const GET_FEATURES: u32 = 1;
pub(crate) const SET_FEATURES: u32 = 2;
pub(crate) const SET_OWNER: u32 = 3;
pub(crate) const RESET_OWNER: u32 = 4;
pub(crate) const SET_MEM_TABLE: u32 = 5;
pub(crate) const SET_LOG_BASE: u32 = 6;
pub(crate) const SET_VRING_NUM: u32 = 8;
pub(crate) const SET_VRING_ADDR: u32 = 9;
pub(crate) const SET_VRING_BASE: u32 = 10;
pub(crate) const GET_VRING_BASE: u32 = 11;
pub(crate) const SET_VRING_KICK: u32 = 12;
pub(crate) const SET_VRING_CALL: u32 = 13;
pub(crate) const SET_VRING_ERR: u32 = 14;
pub(crate) const GET_PROTOCOL_FEATURES: u32 = 15;
pub(crate) const SET_PROTOCOL_FEATURES: u32 = 16;
pub(crate) const GET_QUEUE_NUM: u32 = 17;
pub(crate) const SET_VRING_ENABLE: u32 = 18;
pub(crate) const SEND_RARP: u32 = 19;
pub(crate) const NET_SET_MTU: u32 = 20;
pub(crate) const GET_CONFIG: u32 = 24;
pub(crate) const SET_CONFIG: u32 = 25;
pub(crate) const GET_INFLIGHT_FD: u32 = 31;
pub(crate) const SET_INFLIGHT_FD: u32 = 32;
pub(crate) const GET_MAX_MEM_SLOTS: u32 = 36;
pub(crate) const ADD_MEM_REG: u32 = 37;
pub(crate) const REM_MEM_REG: u32 = 38;

pub(crate) const PLAIN: u32 = 1;
pub(crate) const NEED_REPLY: u32 = 9;

/// VERSION_1, PROTOCOL_FEATURES, EVENT_IDX, MRG_RXBUF: what drivers take at least.
pub(crate) const DRIVER_FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 29 | 1 << 15;
/// Where the VMM has the guest's memory.
pub(crate) const VMM_BASE: u64 = 0x7f00_0000_0000;
pub(crate) const MEMORY_SIZE: u64 = 0x10_0000;

/// A worker that serves nothing.
#[derive(Default)]
pub(crate) struct Worker {
    state: Mutex<WorkerState>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct WorkerState {
    /// Everything that was told, one line each.
    pub(crate) lines: Vec<String>,
    pub(crate) rings: BTreeMap<u16, ServedRing>,
    /// What `ring_stopped` answers.
    pub(crate) next_avail: u16,
    pub(crate) connected: bool,
    /// How long the worker takes to let go.
    pub(crate) slowness: Duration,
    /// Set while a blocking call is under way, to see calls that overlap.
    busy: bool,
}

pub(crate) struct ServedRing {
    pub(crate) config: RingConfig,
    pub(crate) memory: Arc<GuestMemory>,
    pub(crate) kick: Option<OwnedFd>,
    pub(crate) call: Option<OwnedFd>,
    pub(crate) err: Option<OwnedFd>,
    pub(crate) enabled: bool,
}

impl Worker {
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut WorkerState) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub(crate) fn take_lines(&self) -> Vec<String> {
        self.look(|state| std::mem::take(&mut state.lines))
    }

    /// Waits until `done`, or panics with what was told so far.
    pub(crate) fn wait_for(&self, what: &str, done: impl Fn(&WorkerState) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap();
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}: {:?}", state.lines);
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn tell(&self, line: String, change: impl FnOnce(&mut WorkerState)) {
        let mut state = self.state.lock().unwrap();
        assert!(!state.busy, "{line} came while another call was under way");
        if !state.slowness.is_zero() {
            state.busy = true;
            let slowness = state.slowness;
            drop(state);
            std::thread::sleep(slowness);
            state = self.state.lock().unwrap();
            state.busy = false;
        }
        state.lines.push(line);
        change(&mut state);
        self.changed.notify_all();
    }
}

impl PortEvents for Worker {
    fn connected(&self) {
        self.tell("connected".into(), |state| {
            assert!(!state.connected, "connected twice");
            state.connected = true;
        });
    }

    fn features_acked(&self, features: u64) {
        self.tell(format!("features {features:#x}"), |_| {});
    }

    fn ring_started(&self, start: RingStart) -> Result<(), String> {
        let RingStart { index, config, memory, kick, call, err, enabled } = start;
        let line = format!("start {index} size {} base {}", config.size, config.base);
        let ring = ServedRing { config, memory, kick, call, err, enabled };
        self.tell(line, |state| {
            assert!(state.connected);
            assert!(state.rings.insert(index, ring).is_none(), "ring {index} started twice");
        });
        Ok(())
    }

    fn ring_stopped(&self, index: u16) -> u16 {
        self.tell(format!("stop {index}"), |state| {
            assert!(state.rings.remove(&index).is_some(), "ring {index} did not run");
        });
        self.look(|state| state.next_avail)
    }

    fn ring_enabled(&self, index: u16, enabled: bool) {
        self.tell(format!("enable {index} {enabled}"), |state| {
            state.rings.get_mut(&index).unwrap().enabled = enabled;
        });
    }

    fn ring_call(&self, index: u16, call: Option<OwnedFd>) {
        self.tell(format!("call {index} {}", call.is_some()), |state| {
            state.rings.get_mut(&index).unwrap().call = call;
        });
    }

    fn memory_replaced(&self, memory: Arc<GuestMemory>) {
        self.tell("memory".into(), |state| {
            for ring in state.rings.values_mut() {
                ring.memory = Arc::clone(&memory);
            }
        });
    }

    fn announce(&self) {
        self.tell("announce".into(), |_| {});
    }

    fn disconnected(&self) {
        self.tell("disconnected".into(), |state| {
            assert!(state.connected, "disconnected twice");
            state.connected = false;
            state.rings.clear();
        });
    }
}

/// A supervisor with one listening device, and its worker.
pub(crate) struct Bed {
    pub(crate) supervisor: Supervisor,
    pub(crate) worker: Arc<Worker>,
    pub(crate) path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut DeviceConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vnic.sock");
        let mut config = DeviceConfig::new("vnic", &path, SocketMode::Listen, MAC);
        change(&mut config);
        let supervisor = Supervisor::spawn().unwrap();
        let worker = Arc::new(Worker::default());
        supervisor.add(config, Arc::clone(&worker) as _).unwrap();
        Self { supervisor, worker, path, _folder: folder }
    }

    pub(crate) fn vmm(&self) -> Vmm {
        Vmm::connect(&self.path)
    }

    /// With a VMM that has negotiated.
    pub(crate) fn negotiated() -> (Self, Vmm) {
        let bed = Self::new();
        let vmm = bed.vmm();
        vmm.negotiate();
        (bed, vmm)
    }

    /// With a VMM whose two rings run in this memory.
    pub(crate) fn started() -> (Self, Vmm, File, Vec<RingEvents>) {
        let bed = Self::new();
        let vmm = bed.vmm();
        let memory = memory();
        let events = vmm.start(&memory, 2);
        (bed, vmm, memory, events)
    }

    pub(crate) fn status(&self) -> DeviceStatus {
        self.supervisor.status().remove(0)
    }

    pub(crate) fn refusals(&self, name: &str) -> u64 {
        self.status().refusals.get(name).copied().unwrap_or(0)
    }

    /// The back-end has closed this session though the VMM has not, and is ready for another.
    #[track_caller]
    pub(crate) fn expect_closed(&self, vmm: &Vmm) {
        assert!(vmm.is_closed());
        self.wait_idle();
    }

    /// How many rings the worker serves.
    pub(crate) fn rings(&self) -> usize {
        self.worker.look(|state| state.rings.len())
    }

    /// Waits until no VMM is connected any more.
    pub(crate) fn wait_idle(&self) {
        self.worker.wait_for("the session's end", |state| !state.connected);
    }
}

/// A VMM's end of the socket.
pub(crate) struct Vmm {
    pub(crate) stream: UnixStream,
}

impl Vmm {
    pub(crate) fn connect(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).unwrap())
    }

    pub(crate) fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }

    pub(crate) fn send(&self, request: u32, flags: u32, payload: &[u8], fds: &[RawFd]) {
        self.try_send(request, flags, payload, fds).unwrap();
    }

    pub(crate) fn try_send(
        &self,
        request: u32,
        flags: u32,
        payload: &[u8],
        fds: &[RawFd],
    ) -> Result<usize, vmm_sys_util::errno::Error> {
        let size = u32::try_from(payload.len()).unwrap();
        let bytes =
            [&request.to_ne_bytes(), &flags.to_ne_bytes(), &size.to_ne_bytes(), payload].concat();
        self.stream.send_with_fds(&[bytes.as_slice()], fds)
    }

    /// The reply's payload; `None` at the end of the connection.
    pub(crate) fn receive(&self, request: u32) -> Option<Vec<u8>> {
        let mut header = [0; 12];
        (&self.stream).read_exact(&mut header).ok()?;
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        assert_eq!(word(0), request, "reply to another request");
        assert_eq!(word(4), 5, "reply flags");
        let mut payload = vec![0; usize::try_from(word(8)).unwrap()];
        (&self.stream).read_exact(&mut payload).unwrap();
        Some(payload)
    }

    pub(crate) fn ask(&self, request: u32, payload: &[u8]) -> Vec<u8> {
        self.send(request, PLAIN, payload, &[]);
        self.receive(request).expect("a reply")
    }

    pub(crate) fn ask_number(&self, request: u32) -> u64 {
        u64::from_ne_bytes(self.ask(request, &[]).try_into().unwrap())
    }

    /// Sends with need_reply and returns the status.
    pub(crate) fn status_of(&self, request: u32, payload: &[u8], fds: &[RawFd]) -> u64 {
        self.send(request, NEED_REPLY, payload, fds);
        let status = self.receive(request).expect("a status");
        u64::from_ne_bytes(status.try_into().unwrap())
    }

    pub(crate) fn done(&self, request: u32, payload: &[u8], fds: &[RawFd]) {
        assert_eq!(self.status_of(request, payload, fds), 0, "request {request}");
    }

    /// True when the back-end closed the connection. Reads what is left before.
    pub(crate) fn is_closed(&self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match (&self.stream).read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    return error.kind() == std::io::ErrorKind::ConnectionReset;
                }
            }
        }
    }

    /// Features and protocol features, as every front-end begins.
    pub(crate) fn negotiate(&self) {
        self.send(SET_OWNER, PLAIN, &[], &[]);
        let features = self.ask_number(GET_FEATURES);
        assert_eq!(features & DRIVER_FEATURES, DRIVER_FEATURES);
        let protocol = self.ask_number(GET_PROTOCOL_FEATURES);
        self.send(SET_PROTOCOL_FEATURES, PLAIN, &protocol.to_ne_bytes(), &[]);
        self.done(SET_FEATURES, &DRIVER_FEATURES.to_ne_bytes(), &[]);
    }

    /// Starts `rings` rings of 256 in the order of cloud-hypervisor.
    pub(crate) fn start(&self, memory: &File, rings: u32) -> Vec<RingEvents> {
        self.negotiate();
        self.map(memory);
        let events: Vec<_> = (0..rings).map(|index| self.start_ring(index)).collect();
        for index in 0..rings {
            self.done(SET_VRING_ENABLE, &state(index, 1), &[]);
        }
        events
    }

    /// Makes all of `memory` the guest's.
    pub(crate) fn map(&self, memory: &File) {
        self.done(SET_MEM_TABLE, &table(&[whole()]), &[memory.as_raw_fd()]);
    }

    pub(crate) fn start_ring(&self, index: u32) -> RingEvents {
        let events = RingEvents::new();
        self.done(SET_VRING_NUM, &state(index, 256), &[]);
        self.done(SET_VRING_ADDR, &ring_addresses(index), &[]);
        self.done(SET_VRING_BASE, &state(index, 0), &[]);
        self.done(SET_VRING_CALL, &number(index), &[events.call.as_raw_fd()]);
        self.done(SET_VRING_KICK, &number(index), &[events.kick.as_raw_fd()]);
        events
    }

    pub(crate) fn get_base(&self, index: u32) -> u32 {
        let reply = self.ask(GET_VRING_BASE, &state(index, 0));
        assert_eq!(reply[..4], index.to_ne_bytes());
        u32::from_ne_bytes(reply[4..].try_into().unwrap())
    }

    pub(crate) fn write_raw(&self, bytes: &[u8]) {
        (&self.stream).write_all(bytes).unwrap();
    }
}

/// The VMM's ends of a ring's events.
pub(crate) struct RingEvents {
    pub(crate) kick: EventFd,
    pub(crate) call: EventFd,
}

impl RingEvents {
    pub(crate) fn new() -> Self {
        Self {
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            call: EventFd::new(EFD_NONBLOCK).unwrap(),
        }
    }
}

pub(crate) fn state(index: u32, value: u32) -> Vec<u8> {
    [index.to_ne_bytes(), value.to_ne_bytes()].concat()
}

pub(crate) fn number(value: u32) -> Vec<u8> {
    u64::from(value).to_ne_bytes().to_vec()
}

pub(crate) fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// Guest address, size, VMM address, file offset.
pub(crate) fn region(guest: u64, size: u64, vmm: u64, offset: u64) -> Vec<u8> {
    words(&[guest, size, vmm, offset])
}

/// The region that all of [`memory`] makes.
pub(crate) fn whole() -> Vec<u8> {
    region(0, MEMORY_SIZE, VMM_BASE, 0)
}

pub(crate) fn table(regions: &[Vec<u8>]) -> Vec<u8> {
    let count = u32::try_from(regions.len()).unwrap();
    [count.to_ne_bytes().to_vec(), vec![0; 4], regions.concat()].concat()
}

/// Payload of ADD_MEM_REG and REM_MEM_REG.
pub(crate) fn slot(region: &[u8]) -> Vec<u8> {
    [&[0; 8], region].concat()
}

/// Each ring has 64 KiB of the guest's memory for its three parts.
pub(crate) fn ring_addresses(index: u32) -> Vec<u8> {
    ring_addresses_at(index, VMM_BASE + 0x1_0000 * u64::from(index), 0)
}

pub(crate) fn ring_addresses_at(index: u32, base: u64, flags: u32) -> Vec<u8> {
    let head = state(index, flags);
    [head, words(&[base, base + 0x8000, base + 0x4000, 0])].concat()
}

/// Guest memory: a file of [`MEMORY_SIZE`] bytes.
pub(crate) fn memory() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(MEMORY_SIZE).unwrap();
    file
}

/// Open descriptors of this process. Tests that count need a process of their
/// own, which cargo-nextest gives them.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Mappings of this process.
pub(crate) fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// Waits until the process has as many descriptors as `before`.
pub(crate) fn wait_descriptors(before: usize) {
    let deadline = Instant::now() + PATIENCE;
    while descriptors() != before {
        let now = descriptors();
        assert!(Instant::now() < deadline, "{before} descriptors before, {now} after");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `done`; only a hang lets it fail.
pub(crate) fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
