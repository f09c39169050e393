//! `wireonce backend`: serve the vNICs of this host.

use crate::{
    daemon::{self, Args, Role},
    failure::Failure,
};
use wireonce_backend::Backend;

/// Runs until it is told to stop.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    daemon::run(Role::Backend, args, |config, failed| {
        Backend::start(config, &failed).map_err(|error| error.to_string())
    })
}
