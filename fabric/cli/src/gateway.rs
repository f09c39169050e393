//! `wireonce gateway`: offer the uplinks of this host.

use crate::{
    daemon::{self, Args, Role},
    failure::Failure,
};
use std::sync::{Arc, mpsc::Sender};
use wireonce_config::Config;
use wireonce_ledger::{Daemon, Status};

/// Runs until it is told to stop.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    daemon::run(Role::Gateway, args, start)
}

/// The place where the uplink crate's entry point is called.
fn start(_config: &Arc<Config>, _failed: Sender<String>) -> Result<Unbuilt, String> {
    Err("this build has no gateway".to_owned())
}

/// A daemon that cannot exist.
enum Unbuilt {}

impl Daemon for Unbuilt {
    fn status(&self) -> Status {
        match *self {}
    }

    fn stop(self) {
        match self {}
    }
}
