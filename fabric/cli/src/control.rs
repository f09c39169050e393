//! `wireonce control`: keep the desired state, and serve it.

use crate::{
    failure::Failure,
    logging, output,
    sys::{Signal, Signals},
};
use clap::Parser;
use sd_notify::NotifyState;
use std::{fs, path::PathBuf, sync::Arc};
use tracing::{info, warn};
use wireonce_control::{
    Controller, Settings, api,
    store::{RedbStore, restore},
};

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
    running.stop();
    let signal = signal
        .map_err(|error| Failure::Runtime(format!("signals cannot be waited for: {error}")))?;
    info!(signal, "stopped");
    Ok(())
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
    let done = restore(&open(settings)?, &text);
    let keys = done.map_err(|error| {
        // What was made for it is empty, and would be in the way of the next try.
        let _ = fs::remove_file(path);
        Failure::Input(error.to_string())
    })?;
    output::print(&format!("{}: restored, {keys} keys\n", path.display()))
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager cannot be told");
    }
}
