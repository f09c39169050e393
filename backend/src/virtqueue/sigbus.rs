//! Survives a VMM that takes guest memory away from under us.
//!
//! Guest memory is a file that the VMM shares with us. If the VMM truncates it,
//! the next load or store of ours raises SIGBUS, which would end the process
//! and every other VM's network with it. Checking the size first cannot help:
//! the file may shrink between the check and the access.
//!
//! ```text
//!   load ──▶ SIGBUS ──▶ handler ──▶ address in a registered mapping?
//!                                     │ yes                    │ no
//!                    put zero pages over the whole mapping     │
//!                    mark its owner poisoned                   ▼
//!                                     │                default action: die
//!                                     ▼
//!               load runs again, reads zeros; at the next batch the
//!               ring sees the mark and stops with `RingError::MemoryLost`
//! ```
//!
//! The whole mapping is replaced, not one page: one fault per mapping whatever
//! the VMM does, no growing list of small mappings, and huge pages need no
//! special case. The session is over anyway.
//!
//! A signal handler may take no lock and allocate nothing, so the mappings are
//! in a fixed table of atomics. Registering and removing take a lock among
//! themselves; the handler reads each slot under its version number (odd while
//! the slot is written) and skips what changes under it: the mapping it faulted
//! in cannot change, because whoever touches it keeps it registered.

use std::{
    io,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering, fence},
    },
};

/// Mappings that can be registered at once in this process: eight guests with
/// all 509 vhost-user memory slots, or hundreds with the usual two to four.
pub const MAPPINGS_MAX: usize = 4096;

/// Why guest memory could not be protected.
#[derive(Debug, thiserror::Error)]
pub enum SigbusError {
    /// The handler could not be installed.
    #[error("cannot install the SIGBUS handler that protects against lost guest memory")]
    Install(#[source] io::Error),
    /// The table is full.
    #[error(
        "all {MAPPINGS_MAX} places for guest memory mappings are taken; \
         serve fewer VMs per process or give them fewer memory regions"
    )]
    Full,
}

/// One mapping. All fields are written under the table's lock while `version`
/// is odd. A free slot has `len` 0.
struct Slot {
    version: AtomicUsize,
    start: AtomicUsize,
    len: AtomicUsize,
    /// The slot that keeps the poison mark for all mappings of one memory.
    owner: AtomicUsize,
    /// The owner slot's version while this memory is registered.
    owner_version: AtomicUsize,
    /// In an owner slot: the version that was poisoned. A mark that comes late,
    /// after the slot went to another memory, carries an old version.
    poisoned: AtomicUsize,
}

impl Slot {
    const fn new() -> Self {
        Self {
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            owner: AtomicUsize::new(0),
            owner_version: AtomicUsize::new(0),
            poisoned: AtomicUsize::new(0),
        }
    }

    /// The version that the slot has once [`Self::write`] is through.
    fn next_version(&self) -> usize {
        self.version.load(Ordering::Relaxed).wrapping_add(2)
    }

    /// Replaces the fields; the caller holds the table's lock.
    fn write(&self, start: usize, len: usize, owner: usize, owner_version: usize) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
        self.owner.store(owner, Ordering::Relaxed);
        self.owner_version.store(owner_version, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// A consistent copy, or `None` while somebody writes.
    fn read(&self) -> Option<Mapping> {
        let version = self.version.load(Ordering::Acquire);
        let mapping = Mapping {
            start: self.start.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
            owner: self.owner.load(Ordering::Relaxed),
            owner_version: self.owner_version.load(Ordering::Relaxed),
        };
        fence(Ordering::Acquire);
        let unchanged = self.version.load(Ordering::Relaxed) == version;
        (unchanged && version.is_multiple_of(2)).then_some(mapping)
    }
}

/// What one slot says.
#[derive(Clone, Copy)]
struct Mapping {
    start: usize,
    len: usize,
    owner: usize,
    owner_version: usize,
}

impl Mapping {
    fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.start) < self.len
    }
}

static TABLE: [Slot; MAPPINGS_MAX] = [const { Slot::new() }; MAPPINGS_MAX];
static WRITERS: Mutex<()> = Mutex::new(());

/// The mappings of one guest memory, protected until this is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    /// Indices into the table; the first is the owner. Empty for a memory
    /// without regions, which nothing can fault in.
    slots: Vec<usize>,
    version: usize,
}

impl Registration {
    /// Protects `mappings`, each a host address and a length in bytes.
    /// Installs the process's SIGBUS handler the first time.
    pub(super) fn new(mappings: &[(usize, usize)]) -> Result<Self, SigbusError> {
        install()?;
        let _writers = WRITERS.lock().unwrap_or_else(PoisonError::into_inner);
        let free = TABLE.iter().enumerate().filter(|(_, s)| s.len.load(Ordering::Relaxed) == 0);
        let slots: Vec<usize> = free.map(|(index, _)| index).take(mappings.len()).collect();
        if slots.len() < mappings.len() {
            return Err(SigbusError::Full);
        }
        let owner = slots.first().copied().unwrap_or(0);
        let version = TABLE.get(owner).map_or(0, Slot::next_version);
        for (index, (start, len)) in slots.iter().zip(mappings) {
            if let Some(slot) = TABLE.get(*index) {
                slot.write(*start, *len, owner, version);
            }
        }
        Ok(Self { slots, version })
    }

    /// True once an access to one of the mappings failed.
    #[inline]
    pub(super) fn is_poisoned(&self) -> bool {
        self.slots
            .first()
            .and_then(|owner| TABLE.get(*owner))
            .is_some_and(|slot| slot.poisoned.load(Ordering::Relaxed) == self.version)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _writers = WRITERS.lock().unwrap_or_else(PoisonError::into_inner);
        for index in &self.slots {
            if let Some(slot) = TABLE.get(*index) {
                slot.write(0, 0, 0, 0);
            }
        }
    }
}

/// Installs the handler once; later calls repeat the first one's result.
fn install() -> Result<(), SigbusError> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed =
        INSTALLED.get_or_init(|| set_handler().map_err(|e| e.raw_os_error().unwrap_or(0)));
    installed.map_err(|errno| SigbusError::Install(io::Error::from_raw_os_error(errno)))
}

fn set_handler() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    // SAFETY: all-zero is a valid `sigaction`: integers, an empty set, no restorer.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `action` outlives the call, its handler has the signature that
    // SA_SIGINFO asks for, and the old action is not wanted.
    let rc = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The handler: only atomics and system calls that are async-signal-safe.
extern "C" fn on_sigbus(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid `siginfo_t`.
    let info = unsafe { &*info };
    let is_fault = info.si_code > 0;
    if is_fault {
        // SAFETY: a SIGBUS that the kernel raised for an access carries an address.
        let address = unsafe { info.si_addr() }.addr();
        if replace_lost(address) {
            return;
        }
    }
    // Not ours. A fault happens again on return and then ends the process as
    // usual; a SIGBUS that somebody sent must be sent again.
    // SAFETY: SIG_DFL is a valid disposition for SIGBUS.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    if !is_fault {
        // SAFETY: raising a signal has no preconditions.
        unsafe { libc::raise(signal) };
    }
}

/// Puts zero pages over the mapping that holds `address` and poisons every
/// memory that it belongs to: two generations of a memory table share mappings.
/// False if the address is in none, or the kernel refuses.
fn replace_lost(address: usize) -> bool {
    let mut found = false;
    for mapping in TABLE.iter().filter_map(Slot::read).filter(|m| m.contains(address)) {
        if !found && !map_zeros(mapping) {
            return false;
        }
        found = true;
        if let Some(owner) = TABLE.get(mapping.owner) {
            owner.poisoned.fetch_max(mapping.owner_version, Ordering::Relaxed);
        }
    }
    found
}

fn map_zeros(mapping: Mapping) -> bool {
    let address = std::ptr::with_exposed_provenance_mut(mapping.start);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: the range is a live guest mapping, kept by whoever touched it. Only
    // raw pointers and atomics lead into it, and they stay valid: the new pages
    // are readable and writable like the old, just zero.
    let mapped = unsafe { libc::mmap(address, mapping.len, protection, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}
