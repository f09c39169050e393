//! A guest's driver without a guest: one queue pair that does exactly what it is told, spoilt
//! descriptors included. testpmd can neither keep a pace nor misbehave.
//!
//! It negotiates little (no event index, no mergeable buffers, no offloads), polls its rings, and
//! kicks when the device asks for it. Slots of the transmit ring are offered in turn and are
//! expected back in that order, which is what our backend does.

mod ring;

use std::fs::File;
use std::path::Path;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use wireonce_qemu_tests::{Error, Result};

use ring::{BUFFER_LEN, Layout, Ring, SIZE, WRITE};

/// The virtio-net header before each frame, in bytes.
const HEADER_LEN: usize = 12;
const MEMORY_LEN: usize = 0x40_0000;
const TX: Layout = Layout::new(0, 0x10_0000);
const RX: Layout = Layout::new(0x8000, 0x20_0000);
/// Where the memory would be in the VMM: a name for addresses, no more.
const VMM_BASE: u64 = 0x7f00_0000_0000;
/// VERSION_1 and the vhost-user protocol features.
const FEATURES: u64 = 1 << 32 | 1 << 30;

/// A NIC with its driver, connected to a backend's socket.
pub struct Port {
    tx: Ring,
    rx: Ring,
    kicks: [EventFd; 2],
    _calls: [EventFd; 2],
    _frontend: Frontend,
    frame: Vec<u8>,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port").field("tx", &self.tx).field("rx", &self.rx).finish_non_exhaustive()
    }
}

impl Port {
    /// Longest frame, in bytes.
    pub const FRAME_MAX: usize = BUFFER_LEN as usize - HEADER_LEN;

    /// Connects and starts both rings, with all receive buffers offered.
    ///
    /// # Errors
    /// The backend refuses something.
    pub fn connect(socket: &Path) -> Result<Self> {
        let (memory, file) = shared_memory()?;
        let mut frontend = Frontend::connect(socket, 2).map_err(protocol)?;
        negotiate(&mut frontend, &file)?;
        let fds = || -> Result<_> { Ok([event_fd()?, event_fd()?]) };
        let (kicks, calls) = (fds()?, fds()?);
        let rx = Ring::new(memory.clone(), RX, WRITE)?;
        let tx = Ring::new(memory, TX, 0)?;
        for (index, layout) in [RX, TX].into_iter().enumerate() {
            start_ring(&mut frontend, index, layout, &kicks[index], &calls[index])?;
        }
        let mut port = Self {
            tx,
            rx,
            kicks,
            _calls: calls,
            _frontend: frontend,
            frame: vec![0; Self::FRAME_MAX + HEADER_LEN],
        };
        for slot in 0..SIZE {
            port.rx.offer(slot)?;
        }
        port.rx_kick()?;
        Ok(port)
    }

    /// How many frames the transmit ring takes now.
    ///
    /// # Errors
    /// The memory is gone.
    pub fn room(&mut self) -> Result<u16> {
        self.tx.take_all()?;
        Ok(self.tx.room())
    }

    /// Prepares every slot of the transmit ring for `frame`, to be sent by [`Self::send_prepared`].
    ///
    /// # Errors
    /// It is longer than [`Self::FRAME_MAX`].
    pub fn prepare(&mut self, frame: &[u8]) -> Result<()> {
        for slot in 0..SIZE {
            self.write_slot(slot, frame, frame.len())?;
        }
        Ok(())
    }

    /// Prepares every slot with a descriptor that leads out of the guest's memory.
    ///
    /// # Errors
    /// The memory is gone.
    pub fn prepare_bad(&mut self) -> Result<()> {
        for slot in 0..SIZE {
            self.tx.describe(slot, 0xffff_0000_0000, 64, 0)?;
        }
        Ok(())
    }

    /// Offers the next `count` slots as they are; no more than [`Self::room`].
    ///
    /// # Errors
    /// The memory is gone.
    pub fn send_prepared(&mut self, count: u16) -> Result<()> {
        for _ in 0..count {
            self.tx.offer(self.tx.next_slot())?;
        }
        self.tx_kick()
    }

    /// Sends one frame of `len` bytes that begins with `head`; what follows is left from before.
    /// There must be [`Self::room`].
    ///
    /// # Errors
    /// It is longer than [`Self::FRAME_MAX`].
    pub fn send(&mut self, head: &[u8], len: usize) -> Result<()> {
        let slot = self.tx.next_slot();
        self.write_slot(slot, head, len)?;
        self.tx.offer(slot)?;
        self.tx_kick()
    }

    /// Takes all frames that have come; `each` gets the first 64 bytes and the whole length.
    ///
    /// # Errors
    /// The device wrote nonsense into the ring.
    pub fn receive(&mut self, mut each: impl FnMut(&[u8], usize)) -> Result<()> {
        let mut taken = false;
        while let Some(used) = self.rx.take()? {
            let len = usize::try_from(used.len).unwrap_or(0).saturating_sub(HEADER_LEN);
            let seen = (len.min(LOOK_LEN) + HEADER_LEN).min(self.frame.len());
            if let Some(bytes) = self.frame.get_mut(..seen) {
                self.rx.look(used.slot, bytes)?;
                each(bytes.get(HEADER_LEN..).unwrap_or_default(), len);
            }
            self.rx.offer(used.slot)?;
            taken = true;
        }
        if taken { self.rx_kick() } else { Ok(()) }
    }

    fn write_slot(&self, slot: u16, head: &[u8], len: usize) -> Result<()> {
        let whole = u32::try_from(len + HEADER_LEN).ok().filter(|len| *len <= BUFFER_LEN);
        let whole = whole
            .ok_or_else(|| Error::Unexpected(format!("a frame of {len} bytes is too long")))?;
        let mut bytes = [0; HEADER_LEN + LOOK_LEN];
        let copied = head.len().min(LOOK_LEN);
        if let (Some(to), Some(from)) =
            (bytes.get_mut(HEADER_LEN..HEADER_LEN + copied), head.get(..copied))
        {
            to.copy_from_slice(from);
        }
        self.tx.fill(slot, bytes.get(..HEADER_LEN + copied).unwrap_or_default())?;
        self.tx.describe(slot, TX.buffer(slot), whole, 0)
    }

    fn tx_kick(&self) -> Result<()> {
        if self.tx.publish()? { kick(&self.kicks[1]) } else { Ok(()) }
    }

    fn rx_kick(&self) -> Result<()> {
        if self.rx.publish()? { kick(&self.kicks[0]) } else { Ok(()) }
    }
}

/// Bytes of a frame that are written and read; the rest is zeros.
const LOOK_LEN: usize = 64;

/// Memory that can be passed to the backend, and its file.
fn shared_memory() -> Result<(GuestMemoryMmap, File)> {
    let io = |source: rustix::io::Errno| Error::Io {
        what: "cannot make a guest's memory".to_owned(),
        source: source.into(),
    };
    let file = memfd_create("wireonce-bench", MemfdFlags::CLOEXEC).map_err(io)?;
    ftruncate(&file, MEMORY_LEN as u64).map_err(io)?;
    let file = File::from(file);
    let copy = file
        .try_clone()
        .map_err(|source| Error::Io { what: "cannot share a guest's memory".to_owned(), source })?;
    let ranges = [(GuestAddress(0), MEMORY_LEN, Some(FileOffset::new(copy, 0)))];
    let memory = GuestMemoryMmap::from_ranges_with_files(ranges)
        .map_err(|error| Error::Unexpected(format!("cannot map a guest's memory: {error}")))?;
    Ok((memory, file))
}

/// Features and memory, in the order in which testpmd says them.
fn negotiate(frontend: &mut Frontend, memory: &File) -> Result<()> {
    use std::os::fd::AsRawFd;

    frontend.set_owner().map_err(protocol)?;
    let offered = frontend.get_features().map_err(protocol)?;
    if offered & FEATURES != FEATURES {
        return Err(Error::Unexpected(format!("the backend offers only {offered:#x}")));
    }
    frontend.set_features(FEATURES).map_err(protocol)?;
    frontend.get_protocol_features().map_err(protocol)?;
    frontend.set_protocol_features(VhostUserProtocolFeatures::empty()).map_err(protocol)?;
    let region = VhostUserMemoryRegionInfo {
        guest_phys_addr: 0,
        memory_size: MEMORY_LEN as u64,
        userspace_addr: VMM_BASE,
        mmap_offset: 0,
        mmap_handle: memory.as_raw_fd(),
    };
    frontend.set_mem_table(&[region]).map(drop).map_err(protocol)
}

fn start_ring(
    frontend: &mut Frontend,
    index: usize,
    layout: Layout,
    kick: &EventFd,
    call: &EventFd,
) -> Result<()> {
    frontend.set_vring_num(index, SIZE).map_err(protocol)?;
    frontend.set_vring_base(index, 0).map_err(protocol)?;
    let addresses = VringConfigData {
        queue_max_size: SIZE,
        queue_size: SIZE,
        flags: 0,
        desc_table_addr: VMM_BASE + layout.table,
        used_ring_addr: VMM_BASE + layout.used,
        avail_ring_addr: VMM_BASE + layout.avail,
        log_addr: None,
    };
    frontend.set_vring_addr(index, &addresses).map_err(protocol)?;
    frontend.set_vring_call(index, call).map_err(protocol)?;
    frontend.set_vring_kick(index, kick).map_err(protocol)?;
    frontend.set_vring_enable(index, true).map_err(protocol)
}

fn event_fd() -> Result<EventFd> {
    EventFd::new(EFD_NONBLOCK)
        .map_err(|source| Error::Io { what: "cannot make an eventfd".to_owned(), source })
}

fn kick(fd: &EventFd) -> Result<()> {
    fd.write(1).map_err(|source| Error::Io { what: "cannot kick".to_owned(), source })
}

fn protocol(error: impl std::fmt::Display) -> Error {
    Error::Unexpected(format!("vhost-user: {error}"))
}
