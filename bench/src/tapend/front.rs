//! The vhost-user front-end: it shares memory, describes two rings, and starts them.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{FileOffset, MmapRegion};
use wireonce_qemu_tests::{Error, Result};

use super::queue::{QUEUE_LEN, Queue, Role, SIZE};

/// Where the guest would have this memory; any place will do.
const GUEST_ADDRESS: u64 = 1 << 30;
/// Where the front-end says that it has it; ring addresses are given in these terms.
const USER_ADDRESS: u64 = 1 << 40;

/// VERSION_1, MRG_RXBUF, and with CSUM, GUEST_CSUM, HOST_TSO4/6 and GUEST_TSO4/6 what a TAP does.
const FEATURE_BITS: [u32; 8] = [32, 15, 0, 1, 11, 12, 7, 8];

/// A device that runs.
pub(super) struct Front {
    pub(super) memory: MmapRegion,
    pub(super) receive: Queue,
    pub(super) transmit: Queue,
    /// While it is open the device runs.
    _socket: Frontend,
}

impl Front {
    /// Connects to a backend that listens at `socket` and starts both rings.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let len = 2 * QUEUE_LEN;
        let file = shared_file(len).map_err(crate::io_error("cannot make shared memory"))?;
        let fd = file.as_raw_fd();
        let memory = MmapRegion::from_file(FileOffset::new(file, 0), len)
            .map_err(|error| Error::Unexpected(format!("cannot map shared memory: {error}")))?;
        let receive = Queue::new(&memory, Role::Receive, 0, GUEST_ADDRESS)?;
        let transmit = Queue::new(&memory, Role::Transmit, QUEUE_LEN, GUEST_ADDRESS)?;
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST_ADDRESS,
            memory_size: len as u64,
            userspace_addr: USER_ADDRESS,
            mmap_offset: 0,
            mmap_handle: fd,
        };
        let socket = negotiate(socket, region, [&receive, &transmit]).map_err(|error| {
            Error::Unexpected(format!("the backend at {}: {error}", socket.display()))
        })?;
        Ok(Self { memory, receive, transmit, _socket: socket })
    }
}

fn shared_file(len: usize) -> std::io::Result<File> {
    let file = File::from(memfd_create("wireonce-tap-end", MemfdFlags::CLOEXEC)?);
    ftruncate(&file, len as u64)?;
    Ok(file)
}

/// The messages in the order that QEMU sends them.
fn negotiate(
    path: &Path,
    region: VhostUserMemoryRegionInfo,
    queues: [&Queue; 2],
) -> vhost::Result<Frontend> {
    let mut front = Frontend::connect(path, 2)?;
    let offered = front.get_features()?;
    let protocol = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
    let protocol = front.get_protocol_features()? & protocol;
    front.set_protocol_features(protocol)?;
    front.set_owner()?;
    let wanted = FEATURE_BITS.iter().fold(0, |bits, bit| bits | 1_u64 << bit);
    let wanted = wanted | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    front.set_features(offered & wanted)?;
    front.set_mem_table(&[region])?;
    for (index, queue) in queues.into_iter().enumerate() {
        let parts = queue.parts();
        let user = |guest: u64| guest - GUEST_ADDRESS + USER_ADDRESS;
        front.set_vring_num(index, SIZE)?;
        front.set_vring_base(index, 0)?;
        front.set_vring_addr(
            index,
            &VringConfigData {
                queue_max_size: SIZE,
                queue_size: SIZE,
                flags: 0,
                desc_table_addr: user(parts.descriptors),
                used_ring_addr: user(parts.used),
                avail_ring_addr: user(parts.available),
                log_addr: None,
            },
        )?;
        front.set_vring_call(index, &queue.call)?;
        front.set_vring_kick(index, &queue.kick)?;
        front.set_vring_enable(index, true)?;
    }
    Ok(front)
}
