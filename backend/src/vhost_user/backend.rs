//! What the stock daemon asks of a back-end.

use std::io;
use std::sync::{Arc, Mutex};

use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::VhostUserBackend;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic};
use vmm_sys_util::epoll::EventSet;

use super::book::Book;
use super::config::{DeviceConfig, MAX_QUEUE_SIZE};
use super::features;
use super::vring::{BookedVring, lock};
use crate::virtqueue::GuestMemory;

/// A network device whose rings are served elsewhere.
pub(super) struct NetBackend {
    config: DeviceConfig,
    book: Arc<Mutex<Book>>,
}

impl NetBackend {
    pub(super) fn new(config: DeviceConfig, book: Arc<Mutex<Book>>) -> Self {
        Self { config, book }
    }
}

impl VhostUserBackend for NetBackend {
    /// No dirty tracking; live migration (LOG_ALL) will put its own type here.
    type Bitmap = ();
    type Vring = BookedVring;

    fn num_queues(&self) -> usize {
        usize::from(self.config.rings())
    }

    fn max_queue_size(&self) -> usize {
        usize::from(MAX_QUEUE_SIZE)
    }

    fn features(&self) -> u64 {
        features::offered(&self.config)
    }

    fn acked_features(&self, features: u64) {
        lock(&self.book).acknowledge(features);
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        features::daemon_protocol()
    }

    /// The worker reads this from the features of each ring.
    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        features::config_space(&self.config, offset, size).unwrap_or_default()
    }

    fn update_memory(&self, memory: GuestMemoryAtomic<GuestMemory>) -> io::Result<()> {
        let memory = memory.memory().into_inner();
        lock(&self.book).replace_memory(memory);
        Ok(())
    }

    /// None: no threads, no epoll, and nothing that could leak with them.
    fn queues_per_thread(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Never called, for there is no thread that could.
    fn handle_event(
        &self,
        _event: u16,
        _set: EventSet,
        _rings: &[BookedVring],
        _thread: usize,
    ) -> io::Result<()> {
        Ok(())
    }
}
