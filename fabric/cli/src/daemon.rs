//! The shell around a backend or gateway: what every daemon does that has nothing
//! to do with frames.
//!
//! ```text
//! configuration ─ host check ─ signals ─ log ─ control socket ─ start ─ READY
//!      │exit 2        │exit 2                                    │exit 1
//!      v              v                        SIGTERM, failure ─┴─> STOPPING ─ stop
//! ```
//! SIGHUP makes it read its file again ([`crate::reload`]).
//! Nothing is started, and no file is made, before the configuration has passed.

use crate::{
    beginning::{Beginning, Joined, begin},
    check,
    failure::Failure,
    logging,
    reload::{Source, reload},
    status_server::StatusServer,
    sys::{Signal, Signals},
};
use clap::Parser;
use sd_notify::NotifyState;
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread,
};
use tracing::{error, info, warn};
use wireonce_config::{Config, Encryption, Serves};
use wireonce_host::Daemon;
use wireonce_ledger::{HostReport, Status};
use wireonce_member::{Member, News, Start, Text, tls::Clock};

/// The command line of a daemon.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Which daemon it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Backend,
    Gateway,
}

impl Role {
    /// The name in status and logs, and the verb.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Gateway => "gateway",
        }
    }

    /// What of this host it serves.
    fn serves(self) -> Serves {
        match self {
            Self::Backend => Serves::Vnics,
            Self::Gateway => Serves::Uplinks,
        }
    }

    /// The capabilities that it works with: number, name, and what is lost without.
    fn capabilities(self) -> &'static [(u32, &'static str, &'static str)] {
        const BUFFERS: &str = "socket buffers stay within net.core.rmem_max and wmem_max";
        const BUFFERS_AND_TAPS: &str = "socket buffers stay within net.core.rmem_max and \
             wmem_max, and TAPs have to be there already, for this user and up";
        match self {
            Self::Backend => &[(12, "CAP_NET_ADMIN", BUFFERS)],
            Self::Gateway => &[
                (12, "CAP_NET_ADMIN", BUFFERS_AND_TAPS),
                (13, "CAP_NET_RAW", "uplinks with driver \"packet\" cannot be opened"),
            ],
        }
    }
}

/// What happens to a daemon.
#[derive(Debug)]
enum Event {
    Reload,
    /// The controller's newest text, and who wants to know what became of it.
    Text(Text, Sender<Result<(), String>>),
    Signal(&'static str),
    Failure(String),
}

/// Runs a daemon until a signal or a failure ends it. `start` gets the
/// configuration and a channel on which it may, at any later time, say that it
/// cannot go on.
pub(crate) fn run<D: Daemon + 'static>(
    role: Role,
    args: &Args,
    start: impl FnOnce(&Arc<Config>, Sender<String>) -> Result<D, String>,
) -> Result<(), Failure> {
    let Beginning { config, source, warnings } = begin(&args.config, role.serves())?;
    let signals = Signals::block()
        .map_err(|error| Failure::Runtime(format!("signals cannot be blocked: {error}")))?;
    logging::start();
    info!(
        role = role.name(),
        host = config.host.name,
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
    for warning in warnings {
        warn!("{warning}");
    }
    note_capabilities(role);
    note_encryption(&config);
    if let Some(unserved) = unserved(role, &config) {
        info!("{unserved}");
    }
    supervise(role, &config, &source, signals, start)
}

/// From the control socket to the end.
fn supervise<D: Daemon + 'static>(
    role: Role,
    config: &Arc<Config>,
    source: &Source,
    signals: Signals,
    start: impl FnOnce(&Arc<Config>, Sender<String>) -> Result<D, String>,
) -> Result<(), Failure> {
    let server = StatusServer::start(role, config).map_err(|error| {
        let socket = config.host.control_socket.display();
        Failure::Runtime(format!("control socket {socket}: {error}"))
    })?;
    let metrics = metrics(config, server.source())?;
    let (failures, failed) = mpsc::channel();
    let daemon = start(config, failures).map_err(Failure::Runtime)?;
    server.serve(daemon);

    let (events, happened) = mpsc::channel();
    let member = match &source.joined {
        Some(joined) => Some(ask_controller(config, joined, &server, events.clone())?),
        None => None,
    };
    let failure = events.clone();
    spawn("signals", move || {
        loop {
            let event = match signals.wait() {
                Ok(Signal::Reload) => Event::Reload,
                Ok(Signal::Stop(signal)) => Event::Signal(signal),
                Err(error) => Event::Failure(format!("signals cannot be waited for: {error}")),
            };
            let is_last = !matches!(event, Event::Reload | Event::Text(..));
            if events.send(event).is_err() || is_last {
                return;
            }
        }
    })?;
    spawn("failures", move || {
        // No sender left is no failure: the workers were told to end.
        if let Ok(reason) = failed.recv() {
            let _ = failure.send(Event::Failure(reason));
        }
    })?;

    let summary = format!("{} {} is serving", role.name(), config.host.name);
    notify(&[NotifyState::Ready, NotifyState::Status(&summary)]);
    info!(control_socket = %config.host.control_socket.display(), "ready");
    let end = loop {
        match happened.recv() {
            Ok(Event::Reload) => {
                // The reason is in the log and the status.
                let _ = reload(source, &server);
                notify(&[NotifyState::Ready, NotifyState::Status(&summary)]);
            }
            Ok(Event::Text(text, answer)) => {
                source.remember(text);
                // Who asked may be gone.
                let _ = answer.send(reload(source, &server));
                notify(&[NotifyState::Ready, NotifyState::Status(&summary)]);
            }
            Ok(end) => break end,
            Err(_) => break Event::Failure("no signal can arrive".to_owned()),
        }
    };
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    match &end {
        Event::Failure(reason) => error!(reason, "stopping"),
        Event::Signal(signal) => info!(signal, "stopping"),
        Event::Reload | Event::Text(..) => {}
    }
    drop(member);
    drop(metrics);
    if let Some(daemon) = server.stop() {
        daemon.stop();
    }
    info!("stopped");
    match end {
        Event::Failure(reason) => Err(Failure::Runtime(reason)),
        Event::Signal(_) | Event::Reload | Event::Text(..) => Ok(()),
    }
}

/// Asks the controller for texts, and has the main thread take them.
fn ask_controller<D: Daemon + 'static>(
    config: &Config,
    joined: &Joined,
    server: &StatusServer<D>,
    events: Sender<Event>,
) -> Result<Arc<Member>, Failure> {
    let take = move |text: &Text| {
        let ending = || "the daemon is stopping".to_owned();
        let (answer, answered) = mpsc::channel();
        events.send(Event::Text(text.clone(), answer)).map_err(|_| ending())?;
        answered.recv().unwrap_or_else(|_| Err(ending()))
    };
    let status = server.source();
    let report = move |news: &News| {
        Some(HostReport {
            tag: news.tag.clone(),
            refused: news.refused.clone(),
            certificate_until_s: Some(news.certificate_until_s),
            status: status()?,
        })
    };
    let member = Member::start(Start {
        directory: joined.directory.clone(),
        name: config.host.name.clone(),
        served: joined.served.clone(),
        refused: joined.refused.clone(),
        clock: Clock::of_the_machine(),
        take,
        report,
    });
    let member = member.map_err(|error| Failure::Runtime(error.to_string()))?;
    let member = Arc::new(member);
    server.note_member(Arc::clone(&member));
    Ok(member)
}

/// Where Prometheus asks, if somebody wants it to.
fn metrics(
    config: &Config,
    source: impl Fn() -> Option<Status> + Send + Sync + 'static,
) -> Result<Option<wireonce_metrics::Server>, Failure> {
    let Some(address) = config.host.metrics_address else { return Ok(None) };
    let page = move || source().map(|status| wireonce_metrics::render(&status));
    serve_metrics(address, page).map(Some)
}

/// Serves the pages that `page` makes.
pub(crate) fn serve_metrics(
    address: SocketAddr,
    page: impl Fn() -> Option<String> + Send + Sync + 'static,
) -> Result<wireonce_metrics::Server, Failure> {
    let server = wireonce_metrics::Server::start(address, page).map_err(|error| {
        let text = "change `metrics_address`, or end who listens there";
        Failure::Runtime(format!("metrics at {address}: {error}; {text}"))
    })?;
    info!(%address, "metrics are served");
    Ok(server)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    match thread::Builder::new().name(name.to_owned()).spawn(body) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Runtime(format!("no thread can be started: {error}"))),
    }
}

pub(crate) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager cannot be told");
    }
}

/// Says which capability is missing and what it costs; nothing here needs root.
fn note_capabilities(role: Role) {
    let Some(held) = effective_capabilities() else { return };
    for (number, name, loss) in role.capabilities() {
        if held & (1 << number) == 0 {
            warn!(capability = name, "missing: {loss}");
        }
    }
}

/// The set as the kernel prints it, one bit for each capability.
fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// Clear text on the fabric is said at every start, as a warning.
fn note_encryption(config: &Config) {
    if config.fabric.encryption == Encryption::Off {
        warn!(
            file = config.origin,
            "ENCRYPTION IS OFF: every frame crosses the fabric in clear text, and anyone on it \
             can read and forge frames of every network; remove `encryption = \"off\"` unless \
             the fabric is yours alone"
        );
    }
}

/// What the file places on this host and another daemon has to serve.
fn unserved(role: Role, config: &Config) -> Option<String> {
    let (number, thing, verb) = match role {
        Role::Backend => (config.local_uplinks().count(), "uplink", "gateway"),
        Role::Gateway => (config.local_vnics().count(), "vNIC", "backend"),
    };
    let need = if number == 1 { "needs" } else { "need" };
    (number > 0).then(|| {
        let what = check::count(number, thing);
        format!(
            "{what} of this host {need} `wireonce {verb}`, with a file, key and ports of its own"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    };
    use tempfile::TempDir;
    use wireonce_host::{Applied, ApplyError};

    struct Fake {
        stopped: Arc<AtomicBool>,
    }

    impl Daemon for Fake {
        fn status(&self) -> Status {
            Status::default()
        }

        fn apply(&mut self, _: &Arc<Config>) -> Result<Applied, ApplyError> {
            Ok(Applied::default())
        }

        fn stop(self) {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    fn nowhere() -> Source {
        let newest = Mutex::new(None);
        Source { path: "/nowhere".into(), public_key: [0; 32], newest, joined: None }
    }

    fn config(directory: &TempDir) -> Arc<Config> {
        let text = format!(
            "[host]\nname = \"server-a\"\nprivate_key_file = \"/k\"\ncontrol_socket = \"{}/c\"\n\
             [fabric]\naddress = \"127.0.0.1\"\n",
            directory.path().display()
        );
        Arc::new(Config::parse(&text, "test.toml").unwrap())
    }

    #[test]
    fn a_daemon_that_cannot_go_on_is_stopped_and_its_reason_is_the_failure() {
        let directory = TempDir::new().unwrap();
        let config = config(&directory);
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(false));
        let start = |config: &Arc<Config>, failed: Sender<String>| {
            *seen.lock().unwrap() = config.host.control_socket.exists();
            failed.send("the ring is gone".to_owned()).unwrap();
            Ok(Fake { stopped: Arc::clone(&stopped) })
        };
        let signals = Signals::block().unwrap();
        let done = supervise(Role::Backend, &config, &nowhere(), signals, start);
        assert!(matches!(done, Err(Failure::Runtime(reason)) if reason == "the ring is gone"));
        assert!(stopped.load(Ordering::Relaxed));
        assert!(*seen.lock().unwrap(), "the control socket exists before the daemon starts");
        assert!(!config.host.control_socket.exists());
    }

    #[test]
    fn a_daemon_that_does_not_start_leaves_no_socket() {
        let directory = TempDir::new().unwrap();
        let config = config(&directory);
        let start = |_: &Arc<Config>, _| Err::<Fake, _>("no memory".to_owned());
        let signals = Signals::block().unwrap();
        let done = supervise(Role::Gateway, &config, &nowhere(), signals, start);
        assert!(matches!(done, Err(Failure::Runtime(reason)) if reason == "no memory"));
        assert!(!config.host.control_socket.exists());
    }

    #[test]
    fn what_another_daemon_has_to_serve_is_said() {
        let config = |vnics: u32| {
            let mut text = "[host]\nname = \"a\"\nprivate_key_file = \"/k\"\n[fabric]\naddress = \
                 \"127.0.0.1\"\n[[network]]\nname = \"blue\"\nvni = 1\n"
                .to_owned();
            for id in 1..=vnics {
                text.push_str(&format!(
                    "[[vnic]]\nid = {id}\nname = \"v{id}\"\nhost = \"a\"\nnetwork = \"blue\"\n\
                     mac = \"52:54:00:00:00:0{id}\"\nsocket = \"/run/{id}.sock\"\n"
                ));
            }
            Config::parse(&text, "test.toml").unwrap()
        };
        assert_eq!(unserved(Role::Gateway, &config(0)), None);
        assert_eq!(unserved(Role::Backend, &config(2)), None);
        let said = unserved(Role::Gateway, &config(2)).unwrap();
        assert!(said.starts_with("2 vNICs of this host need `wireonce backend`"), "{said}");
    }

    #[test]
    fn this_process_has_a_readable_capability_set() {
        assert!(effective_capabilities().is_some());
    }
}
