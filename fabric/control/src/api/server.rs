//! The socket, the runtime and the clock's tick: everything that starts and stops.

use super::{
    Shared, WATCHERS_MAX, now, router,
    who::{Door, Peer},
};
use crate::{Controller, settings::Settings};
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    net::UnixListener,
    runtime::{Builder, Runtime},
    sync::{Semaphore, oneshot, watch},
    time,
};

/// How often it is looked whether a timed change ends.
const TICK: Duration = Duration::from_secs(1);
/// How long a thread waits for the next revision before it looks whether it should end.
const LOOK: Duration = Duration::from_millis(200);
/// How long a stop waits for answers that are on their way.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Threads that serve; those that wait for the disk come on top.
const THREADS: usize = 2;
/// Most threads that wait for the disk.
const DISK_THREADS_MAX: usize = 32;

/// A controller that serves.
#[derive(Debug)]
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
    socket: PathBuf,
}

/// Serves the API on the socket of `settings`.
///
/// # Errors
/// The socket is in use or cannot be made, or no thread can be started.
pub fn start(controller: Controller, settings: Settings) -> io::Result<Running> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(DISK_THREADS_MAX)
        .enable_all()
        .thread_name("control")
        .build()?;
    let socket = settings.control.socket.clone();
    let listener = {
        let _inside = runtime.enter();
        listen(&socket)?
    };
    let (stop, stopped) = oneshot::channel();
    let served = thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || serve(runtime, controller, settings, listener, stopped))?;
    Ok(Running { stop: Some(stop), served: Some(served), socket })
}

impl Running {
    /// Stops serving; answers on their way are given a moment.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(served) = self.served.take() {
            let _ = served.join();
            let _ = fs::remove_file(&self.socket);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The listening socket. Everybody may connect: the kernel says who it is, and those
/// without a role are refused. A socket that nobody serves is taken over.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Ok(found) = fs::symlink_metadata(path)
        && found.file_type().is_socket()
        && std::os::unix::net::UnixStream::connect(path).is_err()
    {
        fs::remove_file(path)?;
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

fn serve(
    runtime: Runtime,
    controller: Controller,
    settings: Settings,
    listener: UnixListener,
    stopped: oneshot::Receiver<()>,
) {
    let (revisions, revision) = watch::channel(controller.wait(0, Duration::ZERO));
    let settings = Arc::new(settings);
    let door = Door { listener, settings: Arc::clone(&settings) };
    let shared = Shared {
        controller: controller.clone(),
        settings,
        revision,
        watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
    };
    let service = router(shared).into_make_service_with_connect_info::<Peer>();
    runtime.block_on(async move {
        let ticking = controller.clone();
        tokio::spawn(async move { tick(ticking).await });
        tokio::spawn(async move { follow(controller, revisions).await });
        tokio::select! {
            done = axum::serve(door, service) => {
                if let Err(error) = done {
                    tracing::error!(%error, "the API has ended");
                }
            }
            _ = stopped => {}
        }
    });
    runtime.shutdown_timeout(STOP_PATIENCE);
}

/// Ends what is to end.
async fn tick(controller: Controller) {
    let mut ticks = time::interval(TICK);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let controller = controller.clone();
        let done = tokio::task::spawn_blocking(move || controller.tick(now())).await;
        if let Ok(Err(refusal)) = done {
            tracing::error!(%refusal, "timed changes could not be ended; they are tried again");
        }
    }
}

/// Tells watchers which revision there is.
async fn follow(controller: Controller, revisions: watch::Sender<u64>) {
    loop {
        let (controller, known) = (controller.clone(), *revisions.borrow());
        let waited = move || controller.wait(known, LOOK);
        let Ok(revision) = tokio::task::spawn_blocking(waited).await else { return };
        revisions.send_if_modified(|known| {
            let is_new = revision > *known;
            *known = revision.max(*known);
            is_new
        });
    }
}
