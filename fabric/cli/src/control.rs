//! `wireonce control`: keep the desired state, and serve it.

use crate::{
    daemon::serve_metrics as serve,
    failure::Failure,
    logging, output,
    sys::{Signal, Signals},
};
use clap::Parser;
use sd_notify::NotifyState;
use std::{
    fs::{self, Metadata},
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tracing::{info, warn};
use wireonce_control::{
    Caller, Controller, Role, Settings, api,
    store::{RedbStore, Restored, restore},
};
use wireonce_desired::Moment;
use wireonce_metrics::{Server, render_control};

/// The command line.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// The controller's file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Fill a store that does not exist yet from a backup, and end
    #[arg(long, value_name = "BACKUP")]
    restore: Option<PathBuf>,
}

/// Runs until it is told to stop.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let settings = Settings::load(&args.config).map_err(Failure::Input)?;
    if let Some(backup) = &args.restore {
        return fill(&settings, backup);
    }
    let signals = Signals::block()
        .map_err(|error| Failure::Runtime(format!("signals cannot be blocked: {error}")))?;
    logging::start();
    let store = open(&settings)?;
    let controller = Controller::new(Arc::new(store))
        .map_err(|refusal| Failure::Runtime(refusal.to_string()))?;
    let socket = settings.control.socket.clone();
    let metrics = metrics(&settings, &controller)?;
    let running = api::start(controller, settings)
        .map_err(|error| Failure::Runtime(format!("socket {}: {error}", socket.display())))?;
    notify(&[NotifyState::Ready, NotifyState::Status("control is serving")]);
    match running.https() {
        Some(https) => info!(socket = %socket.display(), %https, "ready"),
        None => info!(socket = %socket.display(), "ready"),
    }
    let signal = loop {
        match signals.wait() {
            Ok(Signal::Reload) => warn!("the controller's file is read when it starts; restart it"),
            Ok(Signal::Stop(signal)) => break Ok(signal),
            Err(error) => break Err(error),
        }
    };
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    drop(metrics);
    running.stop();
    let signal = signal
        .map_err(|error| Failure::Runtime(format!("signals cannot be waited for: {error}")))?;
    info!(signal, "stopped");
    Ok(())
}

/// Where Prometheus asks, if somebody wants it to.
fn metrics(settings: &Settings, controller: &Controller) -> Result<Option<Server>, Failure> {
    let Some(address) = settings.control.metrics_address else { return Ok(None) };
    let controller = controller.clone();
    let page = move || controller.status().ok().map(|status| render_control(&status));
    serve(address, page).map(Some)
}

fn open(settings: &Settings) -> Result<RedbStore, Failure> {
    let path = &settings.control.store;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|error| {
            Failure::Runtime(format!("directory {}: {error}", directory.display()))
        })?;
    }
    RedbStore::open(path).map_err(|error| Failure::Runtime(error.to_string()))
}

/// Makes a store from a backup.
fn fill(settings: &Settings, backup: &PathBuf) -> Result<(), Failure> {
    let path = &settings.control.store;
    if path.exists() {
        let path = path.display();
        return Err(Failure::Input(format!(
            "store {path}: exists already and is not overwritten; move it away first"
        )));
    }
    let text = fs::read_to_string(backup).map_err(|error| {
        let backup = backup.display();
        Failure::Input(format!("{backup}: cannot be read: {error}; give a backup's file"))
    })?;
    let restored = restore_into(settings, &text).inspect_err(|_| {
        // What was made for it is of no use, and would be in the way of the next try.
        let _ = fs::remove_file(path);
    })?;
    output::print(&format!("{}: restored, {} keys\n", path.display(), restored.keys))
}

/// Makes the store, and has the audit trail say so. Root restores, and another user runs the controller.
fn restore_into(settings: &Settings, text: &str) -> Result<Restored, Failure> {
    let store = Arc::new(open(settings)?);
    let restored = restore(&*store, text).map_err(|error| Failure::Input(error.to_string()))?;
    let own = belong_to_directory(&settings.control.store)?;
    let by = settings.caller(own.uid(), own.gid());
    let by = by.unwrap_or_else(|| Caller::new(format!("user {}", own.uid()), Role::Admin));
    let controller = Controller::new(store);
    let noted = controller.and_then(|it| it.note_restored(&by, restored, now()));
    noted.map_err(|refusal| Failure::Runtime(refusal.to_string()))?;
    Ok(restored)
}

/// Gives a file that root made to who owns its directory, and says whose it was.
fn belong_to_directory(path: &Path) -> Result<Metadata, Failure> {
    let failed = |error| Failure::Runtime(format!("store {}: {error}", path.display()));
    let made = fs::metadata(path).map_err(failed)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let owner = fs::metadata(directory).map_err(failed)?;
    if made.uid() == 0 && owner.uid() != 0 {
        chown(path, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
    }
    Ok(made)
}

fn now() -> Moment {
    Moment(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager cannot be told");
    }
}
