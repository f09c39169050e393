//! Threads of this process inside a namespace: no helper program, and they end with us.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::{Error, Result};

use crate::io_error;
use crate::machine::pin_this_thread;

/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";

/// Tells [`start`] that the thread's work has begun.
#[derive(Debug)]
pub struct Ready(SyncSender<i32>);

impl Ready {
    /// From now on the thread is at work.
    pub fn tell(self) {
        // Nobody waits if the starter gave up.
        let _told = self.0.send(rustix::thread::gettid().as_raw_nonzero().get());
    }
}

/// Starts a thread in `netns` on processor `cpu` (`None`: anywhere) and waits until it says that it is ready. Returns
/// it and its id.
///
/// # Errors
/// The namespace cannot be entered, or `work` ended before it was ready: then its error.
pub fn start<T: Send + 'static>(
    netns: &Netns,
    name: &str,
    cpu: Option<u32>,
    work: impl FnOnce(Ready) -> Result<T> + Send + 'static,
) -> Result<(JoinHandle<Result<T>>, i32)> {
    let path = path(netns);
    let (ready, is_ready) = sync_channel(1);
    let body = move || {
        enter(&path)?;
        if let Some(cpu) = cpu
            && !pin_this_thread(cpu)
        {
            return Err(Error::Unexpected(format!("no thread can be put on processor {cpu}")));
        }
        work(Ready(ready))
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
    let thread = thread.map_err(io_error("cannot start a thread"))?;
    match is_ready.recv() {
        Ok(id) => Ok((thread, id)),
        Err(_) => match thread.join() {
            Ok(Err(error)) => Err(error),
            _ => Err(Error::Unexpected(format!("the thread {name} ended before it was ready"))),
        },
    }
}

/// Where the namespace can be opened.
pub(crate) fn path(netns: &Netns) -> PathBuf {
    Path::new(NAMES).join(netns.name())
}

/// Moves the calling thread into the namespace at `path`, for good.
pub(crate) fn enter(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(io_error(&format!("cannot open {}", path.display())))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| io_error(&format!("cannot enter {}", path.display()))(error.into()))
}
