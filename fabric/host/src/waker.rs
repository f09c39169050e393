//! How a worker wakes the thread that divides bandwidth.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::Thread,
};

/// Wakes a thread that sleeps because nobody sends anything.
#[derive(Debug, Default)]
pub struct Waker {
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Waker {
    /// Called by the thread once, before anybody wakes it.
    pub fn set_thread(&self, thread: Thread) {
        // Set once: there is one thread.
        let _ = self.thread.set(thread);
    }

    /// The thread is about to sleep for long. It looks once more after this.
    pub fn fall_asleep(&self) {
        self.asleep.store(true, Relaxed);
    }

    /// Wakes the thread if it sleeps for long.
    #[inline]
    pub fn wake(&self) {
        if self.asleep.load(Relaxed) {
            self.asleep.store(false, Relaxed);
            self.unpark();
        }
    }

    /// Wakes the thread, whatever it does.
    pub fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}
