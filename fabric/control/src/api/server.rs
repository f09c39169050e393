//! The socket, the runtime and the clock's tick: everything that starts and stops.

use super::{
    RENDERS_MAX, Shared, WAITERS_MAX, WATCHERS_MAX,
    members::Gatehouse,
    now,
    routes::router,
    tls::{Tls, TlsDoor},
    who::{Door, Peer},
};
use crate::{Controller, pki::Authority, settings::Settings};
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::{Builder, Runtime},
    sync::{Semaphore, oneshot, watch},
    time,
};
use wireonce_member::tls::Clock;

/// How often it is looked whether a timed change ends.
const TICK: Duration = Duration::from_secs(1);
/// How often pools that are rebalanced by the controller are looked at.
const ROUND: Duration = Duration::from_secs(10);
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
    https: Option<SocketAddr>,
}

/// Where the API is served.
struct Doors {
    unix: UnixListener,
    tls: Option<TlsDoor>,
    gatehouse: Option<Arc<Gatehouse>>,
}

/// Serves the API on the socket of `settings`, and over TLS if they say where.
///
/// # Errors
/// The socket or address is in use or cannot be used, or no thread can be started.
pub fn start(controller: Controller, settings: Settings) -> io::Result<Running> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(DISK_THREADS_MAX)
        .enable_all()
        .thread_name("control")
        .build()?;
    let socket = settings.control.socket.clone();
    let doors = {
        let _inside = runtime.enter();
        open(&controller, &settings)?
    };
    let https = doors.tls.as_ref().map(TlsDoor::address);
    let (stop, stopped) = oneshot::channel();
    let served = thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || serve(runtime, controller, settings, doors, stopped))?;
    Ok(Running { stop: Some(stop), served: Some(served), socket, https })
}

impl Running {
    /// Where it is served over TLS.
    #[must_use]
    pub fn https(&self) -> Option<SocketAddr> {
        self.https
    }

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

/// Makes the doors. Has to be called inside the runtime.
fn open(controller: &Controller, settings: &Settings) -> io::Result<Doors> {
    let unix = listen(&settings.control.socket)?;
    let Some(address) = settings.control.https else {
        return Ok(Doors { unix, tls: None, gatehouse: None });
    };
    let at = |error: io::Error| {
        let text = "change `[control] https`, or end who listens there";
        io::Error::new(error.kind(), format!("https {address}: {error}; {text}"))
    };
    let listener = std::net::TcpListener::bind(address).map_err(at)?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let authority = Authority::open(&**controller.store(), now()).map_err(io::Error::other)?;
    let authority = Arc::new(authority);
    let addresses = settings.control.addresses_for_hosts(listener.local_addr()?);
    let places = addresses.iter().filter_map(|it| it.rsplit_once(':')).map(|(host, _)| host);
    let places = places.map(|host| host.trim_matches(['[', ']']).to_owned()).collect();
    let tls = Tls::new(Arc::clone(&authority), places, Clock::of_the_machine());
    let tls = TlsDoor::open(listener, tls.map_err(io::Error::other)?)?;
    let gatehouse = Some(Arc::new(Gatehouse { authority, addresses }));
    Ok(Doors { unix, tls: Some(tls), gatehouse })
}

fn serve(
    runtime: Runtime,
    controller: Controller,
    settings: Settings,
    doors: Doors,
    stopped: oneshot::Receiver<()>,
) {
    let (revisions, revision) = watch::channel(controller.wait(0, Duration::ZERO));
    let settings = Arc::new(settings);
    let Doors { unix, tls, gatehouse } = doors;
    let door = Door { listener: unix, settings: Arc::clone(&settings) };
    let shared = Shared {
        controller: controller.clone(),
        settings,
        revision,
        watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
        waiters: Arc::new(Semaphore::new(WAITERS_MAX)),
        renders: Arc::new(Semaphore::new(RENDERS_MAX)),
        gatehouse,
        tags: super::sight::Tags::default(),
    };
    let service = router(shared).into_make_service_with_connect_info::<Peer>();
    let over_tls = service.clone();
    runtime.block_on(async move {
        let ticking = controller.clone();
        tokio::spawn(async move { tick(ticking).await });
        let balancing = controller.clone();
        tokio::spawn(async move { rebalance(balancing).await });
        tokio::spawn(async move { follow(controller, revisions).await });
        if let Some(tls) = tls {
            tokio::spawn(async move {
                if let Err(error) = axum::serve(tls, over_tls).await {
                    tracing::error!(%error, "the API over TLS has ended");
                }
            });
        }
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

/// Moves vNICs in those pools that the controller rebalances by itself.
async fn rebalance(controller: Controller) {
    let mut rounds = time::interval(ROUND);
    rounds.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let controller = controller.clone();
        let done = tokio::task::spawn_blocking(move || controller.rebalance(now())).await;
        match done {
            Ok(Ok(answers)) => {
                answers.iter().for_each(|answer| tracing::info!(?answer, "rebalanced"));
            }
            Ok(Err(refusal)) => tracing::warn!(%refusal, "a pool was not rebalanced"),
            Err(_) => return,
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
