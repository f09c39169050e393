//! The daemon's view of a ring: a `VringMutex` that tells the [`Book`].
//!
//! The stock daemon keeps a `Queue` in each ring and would serve it from its
//! own threads. Here it has no threads and its queues are never used: they
//! stay at index 0. So every question about indices is answered from the book.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vhost_user_backend::{VringMutex, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::Error as QueueError;
use vm_memory::GuestMemoryAtomic;

use super::book::{Addresses, Book};
use crate::virtqueue::GuestMemory;

type Memory = GuestMemoryAtomic<GuestMemory>;

thread_local! {
    /// The book and the next index for rings made on this thread. `VringT::new`
    /// is given neither, so whoever makes a daemon puts them here first.
    static NURSERY: RefCell<Option<(Arc<Mutex<Book>>, u16)>> = const { RefCell::new(None) };
}

/// Runs `make`, in which new rings belong to `book` and are numbered from 0.
pub(super) fn with_book<T>(book: &Arc<Mutex<Book>>, make: impl FnOnce() -> T) -> T {
    NURSERY.set(Some((Arc::clone(book), 0)));
    let made = make();
    NURSERY.set(None);
    made
}

/// Locks a book. A panic ends the process, so the lock is never poisoned.
pub(super) fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One ring of the daemon.
#[derive(Clone)]
pub(super) struct BookedVring {
    inner: VringMutex<Memory>,
    book: Arc<Mutex<Book>>,
    index: u16,
}

impl BookedVring {
    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

impl<'a> VringStateGuard<'a, Memory> for BookedVring {
    type G = <VringMutex<Memory> as VringStateGuard<'a, Memory>>::G;
}

impl<'a> VringStateMutGuard<'a, Memory> for BookedVring {
    type G = <VringMutex<Memory> as VringStateMutGuard<'a, Memory>>::G;
}

impl VringT<Memory> for BookedVring {
    fn new(memory: Memory, max_queue_size: u16) -> Result<Self, QueueError> {
        let inner = VringMutex::new(memory, max_queue_size)?;
        let slot = NURSERY.with_borrow_mut(|nursery| {
            let (book, next) = nursery.as_mut()?;
            let index = *next;
            *next = next.wrapping_add(1);
            Some((Arc::clone(book), index))
        });
        let (book, index) = slot.ok_or(QueueError::QueueNotReady)?;
        Ok(Self { inner, book, index })
    }

    fn get_ref(&self) -> <Self as VringStateGuard<'_, Memory>>::G {
        self.inner.get_ref()
    }

    fn get_mut(&self) -> <Self as VringStateMutGuard<'_, Memory>>::G {
        self.inner.get_mut()
    }

    fn set_queue_size(&self, size: u16) {
        self.inner.set_queue_size(size);
        self.book().set_size(self.index, size);
    }

    fn set_queue_info(
        &self,
        descriptors: u64,
        available: u64,
        used: u64,
    ) -> Result<(), QueueError> {
        self.inner.set_queue_info(descriptors, available, used)?;
        self.book().set_addresses(self.index, Addresses { descriptors, available, used });
        Ok(())
    }

    fn queue_next_avail(&self) -> u16 {
        self.book().base(self.index)
    }

    fn set_queue_next_avail(&self, base: u16) {
        self.book().set_base(self.index, base);
    }

    /// The worker finds the used index by itself when it maps the ring.
    fn set_queue_next_used(&self, _index: u16) {}

    /// Only asked to be passed to [`Self::set_queue_next_used`]. Answered
    /// without a look at guest memory, which this thread never touches.
    fn queue_used_idx(&self) -> Result<u16, QueueError> {
        Ok(0)
    }

    fn set_enabled(&self, enabled: bool) {
        self.inner.set_enabled(enabled);
        self.book().set_enabled(self.index, enabled);
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.inner.set_queue_event_idx(enabled);
    }

    fn set_queue_ready(&self, ready: bool) {
        self.inner.set_queue_ready(ready);
        self.book().set_ready(self.index, ready);
    }

    fn set_kick(&self, file: Option<File>) {
        // The daemon looks only at whether there is one.
        let ours = file.as_ref().and_then(|file| file.try_clone().ok()).map(OwnedFd::from);
        self.inner.set_kick(file);
        self.book().set_kick(self.index, ours);
    }

    fn set_call(&self, file: Option<File>) {
        self.book().set_call(self.index, file.map(OwnedFd::from));
    }

    fn set_err(&self, file: Option<File>) {
        self.book().set_err(self.index, file.map(OwnedFd::from));
    }

    // What follows is for back-ends whose rings the daemon's threads serve.

    fn add_used(&self, _head: u16, _len: u32) -> Result<(), QueueError> {
        Err(QueueError::QueueNotReady)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn enable_notification(&self) -> Result<bool, QueueError> {
        Err(QueueError::QueueNotReady)
    }

    fn disable_notification(&self) -> Result<(), QueueError> {
        Err(QueueError::QueueNotReady)
    }

    fn needs_notification(&self) -> Result<bool, QueueError> {
        Err(QueueError::QueueNotReady)
    }

    fn read_kick(&self) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
