//! `wireonce gateway`: offer the uplinks of this host.

use crate::{
    daemon::{self, Args, Role},
    failure::Failure,
};
use wireonce_uplink::Gateway;

/// Runs until it is told to stop.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    daemon::run(Role::Gateway, args, |config, failed| {
        Gateway::start(config, &failed).map_err(|error| error.to_string())
    })
}
